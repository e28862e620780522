//! Notifies other nodes that there may be work, and receives their notifications.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::sql_types::Text;
use parking_lot::Mutex;

use super::connect::Target;
use super::error_map::MESSAGES;
use crate::backend::BackendError;
use crate::backend::sql::conn::Conn;
use crate::backend::sql::poll::Poll;
use crate::backend::sql::pool::Connections;
use crate::backend::sql::statement::{Value, statements};
use crate::clock::moment_after;

statements! {
    Notify -> (Text,): "SELECT pg_notify(?1, ?2)::text";
}

/// The shortest time between two notifications, no matter how many writes there are. A notification has no details, so
/// it covers all writes before it.
const BETWEEN: Duration = Duration::from_millis(20);
/// The interval between two polls of the socket. libpq has no call that waits for a notification, and Diesel gives no
/// access to the socket to wait on. A poll sends nothing to the server.
const LOOK: Duration = Duration::from_millis(20);

/// Notifications, or polling of the tables behind a pooler.
pub(super) enum Wake {
    Notified {
        /// Holds a single request to notify. Further requests are dropped while it is full, because the waiting request
        /// covers them.
        tell: SyncSender<()>,
        ear: Mutex<Option<PgConnection>>,
        own: String,
    },
    Polled(Poll),
}

impl Wake {
    pub(super) fn new(connections: &Arc<Connections<Target>>) -> Result<Self, BackendError> {
        let target = connections.setup();
        if target.pooled {
            return Ok(Self::Polled(Poll::new()));
        }
        let own = uuid::Uuid::now_v7().to_string();
        let (tell, told) = sync_channel(1);
        let (inner, name, channel) = (Arc::clone(connections), own.clone(), channel(&target.schema));
        let failed =
            |error: std::io::Error| BackendError::Transient { operation: "open", message: error.to_string() };
        std::thread::Builder::new()
            .name("callboard-notify".into())
            .spawn(move || notify(&inner, &channel, &name, &told))
            .map_err(failed)?;
        let ear = Mutex::new(Some(listen(target)?));
        Ok(Self::Notified { tell, ear, own })
    }

    pub(super) fn notifies(&self) -> bool {
        matches!(self, Self::Notified { .. })
    }

    /// Asks for a notification of the other nodes.
    pub(super) fn tell(&self) {
        if let Self::Notified { tell, .. } = self {
            // If the channel is full, the waiting request covers this request too.
            tell.try_send(()).ok();
        }
    }

    /// True if a different node may have written something.
    pub(super) fn watch(&self, connections: &Connections<Target>, timeout: Duration) -> Result<bool, BackendError> {
        let (ear, own) = match self {
            Self::Polled(poll) => {
                return poll.watch(timeout, |poll| connections.read("watch", |conn| poll.look(conn)));
            }
            Self::Notified { ear, own, .. } => (ear, own),
        };
        let deadline = moment_after(timeout);
        loop {
            if hear(ear, own, connections.setup())? {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(left.min(LOOK));
        }
    }
}

/// The prefix of the channel names of all schemas.
const CHANNEL: &str = "callboard:";

/// The maximum length of a schema name in bytes, because the name of a channel has 63 bytes at most.
pub(super) const LONGEST_SCHEMA: usize = 63 - CHANNEL.len();

/// The channel on which the nodes of a schema listen.
pub(super) fn channel(schema: &str) -> String {
    format!("{CHANNEL}{schema}")
}

fn listen(target: &Target) -> Result<PgConnection, BackendError> {
    let mut conn = target.listener()?;
    conn.batch_execute(&format!("LISTEN \"{}\"", channel(&target.schema)))
        .map_err(|error| MESSAGES.meaning("watch", &error, false))?;
    Ok(conn)
}

/// True if a different node has notified since the last call. Also true after a lost connection was opened again,
/// because notifications may have been missed meanwhile.
fn hear(ear: &Mutex<Option<PgConnection>>, own: &str, target: &Target) -> Result<bool, BackendError> {
    let mut ear = ear.lock();
    let Some(conn) = &mut *ear else {
        *ear = Some(listen(target)?);
        return Ok(true);
    };
    let heard: QueryResult<Vec<_>> = conn.notifications_iter().collect();
    match heard {
        Ok(heard) => Ok(heard.iter().any(|notification| notification.payload != own)),
        Err(error) => {
            *ear = None;
            Err(MESSAGES.meaning("watch", &error, false))
        }
    }
}

/// Sends the requested notifications. Ends when every sender of requests has been dropped.
fn notify(connections: &Connections<Target>, channel: &str, own: &str, told: &Receiver<()>) {
    let values = [Value::Text(channel), Value::Text(own)];
    while told.recv().is_ok() {
        // A notification is lost while the database is unreachable. Nodes check by themselves when they reach the
        // database again, and from time to time besides.
        connections.read("notify", |conn| conn.first::<Notify, (String,)>(&values)).ok();
        std::thread::sleep(BETWEEN);
    }
}
