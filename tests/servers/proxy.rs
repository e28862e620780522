//! A network between a board and its server. It breaks connections on request.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

/// The moment at which a connection is cut, relative to the next commit that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The commit never reaches the server.
    Before,
    /// The server receives the commit, and its answer is lost.
    After,
    /// Like `After`, but the server receives the commit long after its sender has given up. This happens after an
    /// outage of the network.
    Late,
}

const LATE: Duration = Duration::from_millis(500);

/// A connection through the proxy. The threads of both directions hold it, and it is closed when the last of them ends.
struct Link {
    client: TcpStream,
    server: TcpStream,
    /// True after a cut at a commit: all answers on this connection are dropped.
    mute: AtomicBool,
}

#[derive(Default)]
struct State {
    links: Mutex<Vec<Weak<Link>>>,
    trap: Mutex<Option<Cut>>,
    cuts: AtomicUsize,
    delay: Mutex<Duration>,
    swallows: AtomicBool,
    refuses: AtomicBool,
    ended: AtomicBool,
}

/// A proxy for the server at `target`. Dropping it cuts all connections and ends it.
pub(crate) struct Proxy {
    address: String,
    state: Arc<State>,
}

impl Proxy {
    pub(crate) fn new(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::<State>::default();
        let (inner, own) = (Arc::clone(&state), address.clone());
        std::thread::spawn(move || accept(listener, &own, &target, &inner));
        Self { address, state }
    }

    /// The address where the proxy listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Cuts the connection that carries the next commit.
    pub(crate) fn cut_at_commit(&self, cut: Cut) {
        *self.state.trap.lock() = Some(cut);
    }

    /// Number of connections that were cut at a commit.
    pub(crate) fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::Acquire)
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        for link in self.state.links.lock().drain(..).filter_map(|link| link.upgrade()) {
            // An error means that this side is already closed, so it is ignored.
            link.client.shutdown(Shutdown::Both).ok();
            link.server.shutdown(Shutdown::Both).ok();
        }
    }

    /// Delays all data by this time, in both directions.
    pub(crate) fn delay(&self, delay: Duration) {
        *self.state.delay.lock() = delay;
    }

    /// Drops all data while `on` is true. No connection is closed, so neither side notices.
    pub(crate) fn swallow(&self, on: bool) {
        self.state.swallows.store(on, Ordering::Release);
    }

    /// Stops listening while `on` is true, so that new connections are refused.
    pub(crate) fn refuse(&self, on: bool) {
        self.state.refuses.store(on, Ordering::Release);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.ended.store(true, Ordering::Release);
        self.cut();
    }
}

/// Accepts connections until the proxy ends. It polls the state every millisecond, because a blocking `accept` cannot
/// be interrupted.
fn accept(listener: TcpListener, address: &str, target: &str, state: &Arc<State>) {
    let mut open = Some(listener);
    while !state.ended.load(Ordering::Acquire) {
        if state.refuses.load(Ordering::Acquire) {
            open = None;
        } else if open.is_none() {
            open = TcpListener::bind(address).ok();
        }
        if let Some(listener) = &open {
            listener.set_nonblocking(true).unwrap();
            if let Ok((client, _)) = listener.accept() {
                connect(client, target, state);
                continue;
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn connect(client: TcpStream, target: &str, state: &Arc<State>) {
    client.set_nonblocking(false).unwrap();
    let Ok(server) = TcpStream::connect(target) else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let link = Arc::new(Link { client, server, mute: AtomicBool::new(false) });
    {
        let mut links = state.links.lock();
        links.retain(|link| link.strong_count() > 0);
        links.push(Arc::downgrade(&link));
    }
    let (own, inner) = (Arc::clone(&link), Arc::clone(state));
    std::thread::spawn(move || requests(&own, &inner));
    let inner = Arc::clone(state);
    std::thread::spawn(move || answers(&link, &inner));
}

/// The clients of both servers send the end of a transaction as plain text. A new connection asks for the isolation
/// level `READ COMMITTED`, which contains the same word and is not a commit.
fn is_commit(bytes: &[u8]) -> bool {
    let ends = |(at, word): (usize, &[u8])| word == b"COMMIT" && !bytes[at + 6..].starts_with(b"TED");
    bytes.windows(6).enumerate().any(ends)
}

fn requests(link: &Link, state: &State) {
    let Link { client, server, mute } = link;
    let mut to = server;
    pump(client, state, |bytes| {
        let trap = if is_commit(bytes) { state.trap.lock().take() } else { None };
        match trap {
            None => to.write_all(bytes).is_ok(),
            Some(cut) => {
                mute.store(true, Ordering::Release);
                client.shutdown(Shutdown::Both).ok();
                if cut == Cut::Late {
                    std::thread::sleep(LATE);
                }
                if cut == Cut::Before {
                    server.shutdown(Shutdown::Both).ok();
                } else {
                    // Close for writing only: the server reads the whole commit, but its answer finds no recipient.
                    to.write_all(bytes).ok();
                    server.shutdown(Shutdown::Write).ok();
                }
                state.cuts.fetch_add(1, Ordering::AcqRel);
                false
            }
        }
    });
    client.shutdown(Shutdown::Both).ok();
    server.shutdown(Shutdown::Write).ok();
}

fn answers(link: &Link, state: &State) {
    let mut to = &link.client;
    pump(&link.server, state, |bytes| link.mute.load(Ordering::Acquire) || to.write_all(bytes).is_ok());
    link.client.shutdown(Shutdown::Both).ok();
}

/// Reads until the connection ends, or until `write` returns false.
fn pump(mut from: &TcpStream, state: &State, mut write: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        // Copy the delay first, so that the lock is not held during the sleep. Otherwise all connections would wait for
        // each other.
        let delay = *state.delay.lock();
        std::thread::sleep(delay);
        if !state.swallows.load(Ordering::Acquire) && !write(&buffer[..read]) {
            return;
        }
    }
}
