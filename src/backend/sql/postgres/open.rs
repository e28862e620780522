//! Opens a PostgreSQL server by its URL.

use std::sync::Arc;

use super::connect::Target;
use super::visit::Place;
use super::wake::Wake;
use super::{Postgres, Server, migrate};
use crate::backend::sql::Sql;
use crate::backend::sql::pool::{Connections, Setup};
use crate::backend::{BackendError, OpenOptions};

impl Postgres {
    /// Opens `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, and migrates the schema to the version of this program.
    ///
    /// Options after `?`: `schema` (default `callboard`), `pooler` (`transaction`, `session`, `none`, or the default
    /// `auto`, which detects it), and the options of libpq, such as `sslmode`.
    ///
    /// # Errors
    /// [`BackendError::BadUrl`], [`BackendError::SchemaTooNew`], and any error of the first connection.
    pub fn open(url: &str, options: &OpenOptions) -> Result<Self, BackendError> {
        let target = Target::new(url)?;
        // Connect once without the pool, so that an error is returned at once and with its own text. The pool would
        // retry for a while.
        drop(target.connect()?);
        let writers = options.writers();
        // Two extra connections, because the heartbeat must not wait for commits and lists.
        let connections = Arc::new(Connections::new(target, writers + options.readers() + 2));
        migrate::run(&connections)?;
        let wake = Wake::new(&connections)?;
        let place = Place::of(&connections)?;
        Ok(Sql(Server { connections, writers, wake, place }))
    }

    /// The SQL of all migrations, to run by hand where the program has no right to: in a client, or in Supabase's SQL
    /// editor.
    pub fn migration_sql(schema: &str) -> String {
        migrate::script(schema)
    }
}
