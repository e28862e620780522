//! The error texts of MySQL and MariaDB.

use crate::backend::sql::errors::Messages;

pub(super) const MESSAGES: Messages = Messages {
    broken: &[
        "Lost connection",
        "server has gone away",
        "Connection was killed",
        "Can't connect",
        "Server has gone away",
        "Server shutdown in progress",
        "Got an error reading communication packets",
        "disconnected by the server because of inactivity",
        "Got timeout reading communication packets",
    ],
    conflict: &["Deadlock found", "Lock wait timeout", "Record has changed since last read"],
    waited: &["Lock wait timeout", "NOWAIT is set"],
    passing: &[
        "Query execution was interrupted",
        "Too many connections",
        "read-only",
        "table is full",
        "Error writing file",
        "No space left",
    ],
    advice: &[
        (
            &["command denied", "' to database '"],
            "let a user that may create tables run the migrations first, and give this one its rights, see \
            docs/operations.md",
        ),
        (&["max_allowed_packet"], "raise max_allowed_packet on the server, or make the task smaller"),
    ],
};
