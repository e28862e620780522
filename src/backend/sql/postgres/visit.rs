//! On a connection of the application, in its transaction.

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
    /// Sets the search path until the end of the transaction, and says what it was. A path that was set for the connection
    /// is not touched by that.
    Enter -> (Text, Nullable<Text>, Text, Text): "WITH found AS MATERIALIZED (
            SELECT current_setting('search_path') AS path, to_regclass(?2)::text AS tables,
                current_database()::text AS name
        ) SELECT path, tables, name, set_config('search_path', ?1, true) FROM found";
    /// Puts the search path back, and wakes all nodes, this one included, when and if the transaction commits.
    Leave -> (Text, Text): "SELECT set_config('search_path', ?1, true), pg_notify(?2, 'transaction')::text";
}

/// Where the tables are.
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

/// A statement that is prepared is prepared anew by the server when the search path is another one than it was, so it is
/// safe to leave statements behind on a connection that other boards push on.
pub(super) fn visit<T>(
    place: &Place,
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection) -> Result<T, Abort>,
) -> Result<T, Abort> {
    let Place { schema, database, channel } = place;
    // Not before what an application calls the same, in a temporary table.
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
