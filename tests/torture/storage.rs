//! Storage that can be broken: a file on a small disk, or a server that the test starts for itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, RunQueryDsl, SqliteConnection};
use nix::mount::{MsFlags, mount};

use crate::faults::Fault;
use crate::own::Own;
use crate::place::{Place, address};
use crate::waiting::until;

/// The most connections that a server accepts: more than the processes need, but few enough to use up.
pub(crate) const CONNECTIONS: usize = 80;
/// Longer than a transaction waits for a lock.
const LOCKED: Duration = Duration::from_secs(6);
/// The time for which a disk is full.
const FULL: Duration = Duration::from_secs(3);
/// The environment variable that marks the process with the right to mount.
const INSIDE: &str = "CALLBOARD_TORTURE_MAY_MOUNT";
/// The size of the small disk.
const DISK: &str = "size=400m";

/// Queries rows with a single text column, `text`. Returns `None` while storage is unavailable.
pub(crate) type Rows = Box<dyn FnMut(&str) -> Option<Vec<String>> + Send>;

pub(crate) trait Storage {
    /// The faults of this storage, without the faults of processes.
    fn faults(&self) -> Vec<Fault>;

    /// The URL of the storage, through the network path `way` if given.
    fn url(&self, way: Option<&str>) -> String;

    /// Like `url`, for a Diesel connection of an application.
    fn app_url(&self, way: Option<&str>) -> String;

    /// The network address of the storage, if it has one.
    fn address(&self) -> Option<String>;

    /// The prefix of its table names.
    fn prefix(&self) -> String;

    fn rows(&self) -> Rows;

    /// Locks all tasks from a foreign connection, long enough for every thread of a node to wait.
    fn lock(&mut self);

    /// Causes a fault of this storage, and returns when it is over.
    fn strike(&mut self, fault: Fault);
}

/// A SQLite file.
pub(crate) struct File {
    file: PathBuf,
    small: bool,
}

impl File {
    pub(crate) fn new(folder: &Path) -> Self {
        let disk = folder.join("disk");
        std::fs::create_dir(&disk).unwrap();
        let small = std::env::var_os(INSIDE).is_some();
        if small {
            mount(None::<&str>, &disk, Some("tmpfs"), MsFlags::empty(), Some(DISK)).expect("a small file system");
        }
        Self { file: disk.join("tasks.db"), small }
    }

    fn connect(&self) -> SqliteConnection {
        let mut conn = SqliteConnection::establish(&self.app_url(None)).unwrap();
        conn.batch_execute("PRAGMA busy_timeout = 30000").unwrap();
        conn
    }

    /// Fills all the space that is left for a while, including space that the file's log frees meanwhile.
    fn fill(&self) {
        use std::io::Write;
        let ballast = self.file.with_file_name("ballast");
        let mut file = std::fs::File::create(&ballast).unwrap();
        let begun = std::time::Instant::now();
        while begun.elapsed() < FULL {
            if file.write_all(&[0; 4096]).is_err() {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        std::fs::remove_file(&ballast).unwrap();
    }
}

impl Storage for File {
    fn faults(&self) -> Vec<Fault> {
        if self.small { vec![Fault::DiskFull] } else { Vec::new() }
    }

    fn url(&self, _: Option<&str>) -> String {
        format!("sqlite:{}", self.file.display())
    }

    fn app_url(&self, _: Option<&str>) -> String {
        self.file.display().to_string()
    }

    fn address(&self) -> Option<String> {
        None
    }

    fn prefix(&self) -> String {
        String::new()
    }

    fn rows(&self) -> Rows {
        let path = self.app_url(None);
        let mut conn = None;
        Box::new(move |sql| {
            conn = conn.take().or_else(|| SqliteConnection::establish(&path).ok());
            let rows = diesel::sql_query(sql).load::<crate::place::Row>(conn.as_mut()?).ok()?;
            Some(rows.into_iter().map(|row| row.text).collect())
        })
    }

    fn lock(&mut self) {
        let mut conn = self.connect();
        conn.batch_execute("BEGIN IMMEDIATE").unwrap();
        std::thread::sleep(LOCKED);
        conn.batch_execute("ROLLBACK").unwrap();
    }

    fn strike(&mut self, fault: Fault) {
        assert_eq!(fault, Fault::DiskFull, "a file has no other fault");
        self.fill();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.small {
            // The mount ends with the process in any case.
            let folder = self.file.parent().expect("it lies in a folder");
            if std::thread::panicking() {
                for name in ["tasks.db", "tasks.db-wal"] {
                    std::fs::copy(folder.join(name), folder.with_file_name(name)).ok();
                }
            }
            nix::mount::umount2(folder, nix::mount::MntFlags::MNT_DETACH).ok();
        }
    }
}

/// Runs a test again in a process with its own mounts, which end with the process. Returns whether it did so. No rights
/// are needed if the kernel allows user namespaces. Where no mount is allowed, the disk is never full.
pub(crate) fn again_where_it_may_mount(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let ways = [&["--map-root-user", "--mount"][..], &["--mount"]];
    let may = |way: &&[&str]| {
        Command::new("unshare").args(*way).arg("true").output().is_ok_and(|output| output.status.success())
    };
    let Some(way) = ways.into_iter().find(may) else {
        println!("no small disk may be mounted here: the disk is never full in this run");
        return false;
    };
    let mut again = Command::new("unshare");
    again.args(way).arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = again.output().unwrap();
    println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "nothing was tested");
    true
}

/// A database on a server that the test starts for itself.
pub(crate) struct OnServer<P: Place> {
    place: P,
    server: Own,
}

impl<P: Place> OnServer<P> {
    pub(crate) fn new(_: &Path) -> Self {
        let most = if P::IS_POSTGRES {
            vec!["-c".into(), format!("max_connections={CONNECTIONS}")]
        } else {
            vec![format!("--max-connections={CONNECTIONS}")]
        };
        let server = Own::with::<P>(|_| most);
        Self { place: P::at(&server.url()), server }
    }

    fn restart(&mut self, bring_down: fn(&mut Own)) {
        bring_down(&mut self.server);
        self.server.start_again();
    }

    /// Acts as an operator who ends all foreign queries or sessions, whatever they do.
    fn end_queries(&self, sessions: bool) {
        let mut conn = self.place.by_hand();
        let list = if P::IS_POSTGRES {
            "SELECT pid::text AS text FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        } else {
            "SELECT CAST(id AS CHAR) AS text FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND user = 'root'"
        };
        for _ in 0..ENDS {
            for session in P::rows(&mut conn, list).unwrap() {
                let end = match (P::IS_POSTGRES, sessions) {
                    (true, true) => format!("SELECT pg_terminate_backend({session})"),
                    (true, false) => format!("SELECT pg_cancel_backend({session})"),
                    (false, true) => format!("KILL CONNECTION {session}"),
                    (false, false) => format!("KILL QUERY {session}"),
                };
                // The session may have ended meanwhile, so errors are ignored.
                conn.batch_execute(&end).ok();
            }
            std::thread::sleep(BETWEEN_ENDS);
        }
    }

    /// Takes every connection that the server offers, for a while.
    fn use_up(&self) {
        let url = self.server.url();
        let free = || P::Conn::establish(&url).ok();
        let mut held = Vec::new();
        while let Some(conn) = free() {
            held.push(conn);
            assert!(held.len() <= CONNECTIONS, "the server takes more than it should");
        }
        let begun = std::time::Instant::now();
        // A connection released by a process goes to the first client that asks for it.
        while begun.elapsed() < crate::faults::OUTAGE {
            held.extend(free());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// How often the operator ends all queries or sessions.
const ENDS: usize = 20;
const BETWEEN_ENDS: Duration = Duration::from_millis(37);

impl<P: Place> Storage for OnServer<P> {
    fn faults(&self) -> Vec<Fault> {
        vec![Fault::ShutDown, Fault::Crashed, Fault::QueriesEnded, Fault::SessionsEnded, Fault::Crowded]
    }

    fn url(&self, way: Option<&str>) -> String {
        way.map_or_else(|| self.place.url(), |way| self.place.url_by(way))
    }

    fn app_url(&self, way: Option<&str>) -> String {
        let url = self.url(way);
        // Diesel does not know the options of callboard.
        if P::IS_POSTGRES { url.split('?').next().unwrap_or_default().to_owned() + "?sslmode=disable" } else { url }
    }

    fn address(&self) -> Option<String> {
        Some(address(&self.place.url()))
    }

    fn prefix(&self) -> String {
        format!("{}.", self.place.name())
    }

    fn rows(&self) -> Rows {
        let url = self.server.url();
        let mut conn = None;
        Box::new(move |sql| {
            conn = conn.take().or_else(|| P::Conn::establish(&url).ok());
            let rows = P::rows(conn.as_mut()?, sql).ok();
            if rows.is_none() {
                conn = None;
            }
            rows
        })
    }

    fn lock(&mut self) {
        let locked = self.place.lock();
        std::thread::sleep(LOCKED);
        drop(locked);
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::ShutDown => self.restart(Own::shut_down),
            Fault::Crashed => self.restart(Own::kill),
            Fault::QueriesEnded => self.end_queries(false),
            Fault::SessionsEnded => self.end_queries(true),
            Fault::Crowded => self.use_up(),
            other => panic!("{other:?} is no fault of a server"),
        }
        until("the server answers", || P::Conn::establish(&self.server.url()).ok().map(drop));
    }
}
