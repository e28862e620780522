//! Work on a connection of the application, in its transaction.

use diesel::pg::PgConnection;
use diesel::sql_types::{Nullable, Text};

use super::connect::Target;
use super::wake::channel;
use crate::backend::BackendError;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::errors::Abort;
use crate::backend::sql::pool::Connections;
use crate::backend::sql::statement::{Value, statements};

statements! {
    DatabaseName -> (Text,): "SELECT current_database()::text";
    /// Sets the search path until the end of the transaction, and returns the previous path. A path that was set for
    /// the whole session stays unchanged.
    Enter -> (Text, Nullable<Text>, Text, Text): "WITH found AS MATERIALIZED (
            SELECT current_setting('search_path') AS path, to_regclass(?2)::text AS tables,
                current_database()::text AS name
        ) SELECT path, tables, name, set_config('search_path', ?1, true) FROM found";
    /// Restores the search path. When and if the transaction commits, all nodes are notified, including this node.
    Leave -> (Text, Text): "SELECT set_config('search_path', ?1, true), pg_notify(?2, 'transaction')::text";
}

/// The database and schema with the tables.
pub(super) struct Place {
    schema: String,
    database: String,
    channel: String,
}

impl Place {
    pub(super) fn of(connections: &Connections<Target>) -> Result<Self, BackendError> {
        let schema = connections.setup().schema.clone();
        let name = connections.read("open", |conn| conn.first::<DatabaseName, (String,)>(&[]))?;
        Ok(Self { channel: channel(&schema), database: name.map(|(name,)| name).unwrap_or_default(), schema })
    }
}

/// Runs `work` with the search path of the tables, and restores the path afterwards.
///
/// The prepared statements of `work` stay on the connection. That is safe even if other boards push on it, because the
/// server prepares a statement again when the search path has changed.
pub(super) fn visit<T>(
    place: &Place,
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> Result<T, Abort>,
) -> Result<T, Abort> {
    let Place { schema, database, channel } = place;
    // `pg_temp` is listed last. Otherwise it would be searched first, and a temporary table of the application with the
    // same name would hide the table of callboard.
    let (path, table) = (format!("\"{schema}\", pg_temp"), format!("\"{schema}\".task_queue"));
    let found =
        conn.first::<Enter, (String, Option<String>, String, String)>(&[Value::Text(&path), Value::Text(&table)]);
    let (before, tables, name, _) = found?.ok_or(diesel::result::Error::NotFound)?;
    if tables.is_none() || name != *database {
        let text =
            format!("it leads to the database {name}; tasks are in the schema {schema} of the database {database}");
        return Err(BackendError::Connection(text).into());
    }
    let done = work(conn)?;
    conn.first::<Leave, (String, String)>(&[Value::Text(&before), Value::Text(channel)])?;
    Ok(done)
}
