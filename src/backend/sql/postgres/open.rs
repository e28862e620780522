//! From a URL to a PostgreSQL server that is ready.

use std::sync::Arc;

use super::connect::Target;
use super::visit::Place;
use super::wake::Wake;
use super::{Postgres, Server, migrate};
use crate::backend::sql::Sql;
use crate::backend::sql::pool::{Connections, Setup};
use crate::backend::{BackendError, OpenOptions};

impl Postgres {
    /// Opens `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, and brings the schema to what this program knows.
    ///
    /// Options after `?`: `schema` (`callboard` when nothing is said), `pooler` (`transaction`, `session`, `none`, or
    /// `auto`, which finds out), and those of libpq, such as `sslmode`.
    ///
    /// # Errors
    /// [`BackendError::BadUrl`], [`BackendError::SchemaTooNew`], and what the first connection can meet.
    pub fn open(url: &str, options: &OpenOptions) -> Result<Self, BackendError> {
        let target = Target::new(url)?;
        // Says at once, and in its own words, what a pool would try again for a while.
        drop(target.connect()?);
        let writers = options.writers();
        // Two more: the heartbeat must not wait behind commits and lists.
        let connections = Arc::new(Connections::new(target, writers + options.readers() + 2));
        migrate::run(&connections)?;
        let wake = Wake::new(&connections)?;
        let place = Place::of(&connections)?;
        Ok(Sql(Server { connections, writers, wake, place }))
    }

    /// The SQL of all migrations, to be run by hand where the program may not: in a client, or in Supabase's SQL editor.
    pub fn migration_sql(schema: &str) -> String {
        migrate::script(schema)
    }
}
