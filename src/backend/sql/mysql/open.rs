//! Opens a MySQL or MariaDB server by its URL.

use super::connect::Target;
use super::{Mysql, Server, migrate};
use crate::backend::sql::Sql;
use crate::backend::sql::poll::Poll;
use crate::backend::sql::pool::Connections;
use crate::backend::{BackendError, OpenOptions};

impl Mysql {
    /// Opens `mysql://USER:PASSWORD@HOST:PORT/DATABASE`, and migrates the tables to the version of this program.
    ///
    /// Options after `?`: `ssl-mode`, `ssl-ca`, `ssl-cert`, `ssl-key`, `unix_socket`.
    ///
    /// # Errors
    /// [`BackendError::BadUrl`], [`BackendError::SchemaTooNew`], and any error of the first connection.
    pub fn open(url: &str, options: &OpenOptions) -> Result<Self, BackendError> {
        let target = Target::new(url)?;
        migrate::run(&target)?;
        let writers = options.writers();
        // Two extra connections, because the heartbeat must not wait for commits and lists.
        let connections = Connections::new(target, writers + options.readers() + 2);
        Ok(Sql(Server { connections, writers, poll: Poll::new() }))
    }

    /// The SQL of all migrations, to run by hand in an empty database where the program has no right to. Names and keys
    /// are compared byte by byte: `collation` is `utf8mb4_0900_bin` on MySQL, and `utf8mb4_nopad_bin` on MariaDB.
    pub fn migration_sql(collation: &str) -> String {
        migrate::script(collation)
    }
}
