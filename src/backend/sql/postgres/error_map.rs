//! The error texts of PostgreSQL.

use crate::backend::sql::errors::Messages;

pub(super) const MESSAGES: Messages = Messages {
    broken: &[
        "server closed the connection",
        // By an administrator, or because the server stops or a different server process crashed.
        "terminating connection",
        "could not receive data",
        "could not send data",
        "no connection to the server",
        "SSL connection has been closed",
        "SSL SYSCALL error",
        "SSL error",
    ],
    conflict: &["deadlock detected"],
    waited: &["canceling statement due to lock timeout"],
    passing: &[
        "could not serialize access",
        "canceling statement due to",
        "connection to server",
        "the database system is",
        "too many clients",
        "remaining connection slots",
        "query_wait_timeout",
        "No space left",
        "could not extend",
    ],
    advice: &[
        (
            &["permission denied for"],
            "let a role that owns the schema run the migrations first, and give this one its rights, see \
            docs/operations.md",
        ),
        (&["prepared statement"], "this looks like a pooler: add ?pooler=transaction to the URL"),
    ],
};
