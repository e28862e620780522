//! Boards behind pgbouncer, which lends a connection for a single transaction.

use std::cell::RefCell;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Weak};

use callboard::backend::{OpenOptions, Opened, open};
use callboard::testing::Harness;
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::boards::{AT_ONCE, cancels_within, pauses_within, pushes_within};
use crate::load::Load;
use crate::own::{as_postgres, free_port, give_to_postgres};
use crate::place::{address, with_address};
use crate::servers::{Schema, postgres_url};
use crate::waiting::until;

/// The path of pgbouncer. Debian keeps it out of the `PATH` of most users.
fn program() -> &'static Path {
    let debian = Path::new("/usr/sbin/pgbouncer");
    if debian.exists() { debian } else { Path::new("pgbouncer") }
}

/// The pooler. It is killed on drop.
struct Bouncer {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Bouncer {
    /// Returns the pooler that all tests at this moment share. Starting a pooler per test would take longer than the
    /// tests.
    fn shared() -> Arc<Self> {
        static RUNNING: Mutex<Weak<Bouncer>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock();
        running.upgrade().unwrap_or_else(|| {
            let started = Arc::new(Self::start());
            *running = Arc::downgrade(&started);
            started
        })
    }

    fn start() -> Self {
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let server = address(&postgres_url());
        let (host, server_port) = server.split_once(':').unwrap_or((&server, "5432"));
        let users = folder.path().join("users");
        let config = format!(
            "[databases]\n* = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
            listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\npool_mode = transaction\n\
            default_pool_size = 8\nmax_client_conn = 500\nlogfile = {}\n",
            users.display(),
            folder.path().join("log").display(),
        );
        std::fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, config).unwrap();
        give_to_postgres(folder.path());
        let process = as_postgres(program())
            .arg("--quiet")
            .arg(&file)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("this test needs pgbouncer, such as of apt-get install pgbouncer: {error}")
            });
        let mut bouncer = Self { process, port, _folder: folder };
        until("pgbouncer answers", || {
            let ended = bouncer.process.try_wait().unwrap();
            assert!(ended.is_none(), "pgbouncer is missing or ended at once: {ended:?}");
            TcpStream::connect(("127.0.0.1", bouncer.port)).ok()
        });
        bouncer
    }

    /// A URL to the schema through the pooler. Callboard has to detect the pooler by itself, because the URL does not
    /// name it.
    fn url(&self, schema: &Schema) -> String {
        let url = with_address(&schema.url(), &format!("127.0.0.1:{}", self.port));
        url.replace("&pooler=none", "")
    }
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

struct Pooled {
    bouncer: Arc<Bouncer>,
    schemas: RefCell<Vec<Schema>>,
}

impl Pooled {
    fn new() -> Self {
        Self { bouncer: Bouncer::shared(), schemas: RefCell::default() }
    }

    fn latest(&self) -> Opened {
        let url = self.bouncer.url(self.schemas.borrow().last().expect("open comes first"));
        let opened = open(&url, &OpenOptions::default()).expect("open");
        assert!(!opened.capabilities().notifies, "the pooler was not found out");
        opened
    }
}

impl Harness for Pooled {
    fn open(&self) -> Opened {
        self.schemas.borrow_mut().push(Schema::new());
        self.latest()
    }

    fn reopen(&self) -> Option<Opened> {
        Some(self.latest())
    }

    fn second(&self) -> Option<Opened> {
        Some(self.latest())
    }

    /// Few sequences, because each commit waits for the disk.
    fn sequences(&self) -> u64 {
        5
    }
}

callboard::conformance!(pgbouncer, Pooled::new());

#[actix_rt::test]
async fn a_board_runs_its_load() {
    let (bouncer, schema) = (Bouncer::shared(), Schema::new());
    let load = Load::start(&bouncer.url(&schema)).await;
    for _ in 0..10 {
        load.goes_on().await;
    }
    load.end(&schema.url()).await;
}

#[actix_rt::test]
async fn boards_hear_of_each_other() {
    let (bouncer, schema) = (Bouncer::shared(), Schema::new());
    pushes_within(&bouncer.url(&schema), AT_ONCE).await;
}

#[actix_rt::test]
async fn cancels_and_pauses_reach_the_other_board() {
    let (bouncer, schema) = (Bouncer::shared(), Schema::new());
    cancels_within(&bouncer.url(&schema), AT_ONCE).await;
    pauses_within(&bouncer.url(&schema), AT_ONCE).await;
}

#[test]
fn it_is_found_out_while_others_use_it() {
    let (bouncer, schema) = (Bouncer::shared(), Schema::new());
    drop(open(&bouncer.url(&schema), &OpenOptions::default()).unwrap());
    // All threads open at once, so that the pooler has several connections to choose from.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let opened = open(&bouncer.url(&schema), &OpenOptions::default()).unwrap();
                    assert!(!opened.capabilities().notifies, "the pooler was not found out");
                }
            });
        }
    });
}
