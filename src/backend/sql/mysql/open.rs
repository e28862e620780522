//! From a URL to a MySQL or MariaDB server that is ready.

use super::connect::Target;
use super::{Mysql, Server, migrate};
use crate::backend::sql::Sql;
use crate::backend::sql::poll::Poll;
use crate::backend::sql::pool::Connections;
use crate::backend::{BackendError, OpenOptions};

impl Mysql {
    /// Opens `mysql://USER:PASSWORD@HOST:PORT/DATABASE`, and brings the tables to what this program knows.
    ///
    /// Options after `?`: `ssl-mode`, `ssl-ca`, `ssl-cert`, `ssl-key`, `unix_socket`.
    ///
    /// # Errors
    /// [`BackendError::BadUrl`], [`BackendError::SchemaTooNew`], and what the first connection can meet.
    pub fn open(url: &str, options: &OpenOptions) -> Result<Self, BackendError> {
        let target = Target::new(url)?;
        migrate::run(&target)?;
        let writers = options.writers();
        // Two more: the heartbeat must not wait behind commits and lists.
        let connections = Connections::new(target, writers + options.readers() + 2);
        Ok(Sql(Server { connections, writers, poll: Poll::new() }))
    }

    /// The SQL of all migrations, to be run by hand in an empty database where the program may not. Names and keys are
    /// compared byte by byte: `collation` is `utf8mb4_0900_bin` on MySQL, and `utf8mb4_nopad_bin` on MariaDB.
    pub fn migration_sql(collation: &str) -> String {
        migrate::script(collation)
    }
}
