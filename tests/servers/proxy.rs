//! A network between a board and its server, which breaks when it is told to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;

/// Where a connection is cut, seen from the next commit that comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server never hears of it.
    Before,
    /// The server takes it, and its answer is lost.
    After,
    /// The same, but the server gets it only when its sender has given up long ago, as from a network that was away.
    Late,
}

const LATE: Duration = Duration::from_millis(500);

/// A connection: both of its halves hold it, and it is closed when the last of them ends.
struct Link {
    client: TcpStream,
    server: TcpStream,
    /// The answer to a commit is lost on it.
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

/// The way to the server at `target`; it ends when dropped.
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

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Cuts the connection on which the next commit comes by.
    pub(crate) fn cut_at_commit(&self, cut: Cut) {
        *self.state.trap.lock() = Some(cut);
    }

    /// How often that has happened.
    pub(crate) fn cuts(&self) -> usize {
        self.state.cuts.load(Ordering::Acquire)
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        for link in self.state.links.lock().drain(..).filter_map(|link| link.upgrade()) {
            // Whoever has closed first need not be told.
            link.client.shutdown(Shutdown::Both).ok();
            link.server.shutdown(Shutdown::Both).ok();
        }
    }

    /// Everything takes so much longer.
    pub(crate) fn delay(&self, delay: Duration) {
        *self.state.delay.lock() = delay;
    }

    /// Nobody gets through, and nobody is told.
    pub(crate) fn swallow(&self, on: bool) {
        self.state.swallows.store(on, Ordering::Release);
    }

    /// Nobody listens here.
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

/// Takes connections until the end. Looks now and then whether it may, for `accept` cannot be called off.
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

/// Both servers' clients send the end of a transaction as plain text. A new connection asks for an isolation level, whose
/// name begins in the same way.
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
                    // Closed for writing only: the server reads it all, and finds nobody to answer.
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

/// Reads until the end, or until `write` has enough.
fn pump(mut from: &TcpStream, state: &State, mut write: impl FnMut(&[u8]) -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        // Looked at first: who sleeps must not keep the lock, or all connections would wait for each other.
        let delay = *state.delay.lock();
        std::thread::sleep(delay);
        if !state.swallows.load(Ordering::Acquire) && !write(&buffer[..read]) {
            return;
        }
    }
}
