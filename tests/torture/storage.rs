//! Storage that can be broken: a file on a small disk, or a server of the test's own.

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

/// Connections that a server takes: more than the processes need, and few enough to use them up.
pub(crate) const CONNECTIONS: usize = 80;
/// Longer than a transaction waits for a lock.
const LOCKED: Duration = Duration::from_secs(6);
/// How long a disk is full.
const FULL: Duration = Duration::from_secs(3);
/// Set in the process that may mount.
const INSIDE: &str = "CALLBOARD_TORTURE_MAY_MOUNT";
/// The size of the disk.
const DISK: &str = "size=400m";

/// Asks for rows of one text, `text`; nothing while storage is away.
pub(crate) type Rows = Box<dyn FnMut(&str) -> Option<Vec<String>> + Send>;

pub(crate) trait Storage {
    /// What can happen to it, apart from what happens to processes.
    fn faults(&self) -> Vec<Fault>;

    /// Where it is, by this way if there is one.
    fn url(&self, way: Option<&str>) -> String;

    /// The same for a Diesel connection of an application.
    fn app_url(&self, way: Option<&str>) -> String;

    /// Where a network leads to it.
    fn address(&self) -> Option<String>;

    /// What its tables' names begin with.
    fn prefix(&self) -> String;

    fn rows(&self) -> Rows;

    /// Somebody else locks all tasks, until every thread of a node waits.
    fn lock(&mut self);

    /// One of its own faults happens, and is over.
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

    /// Takes all space that is left, for a while; what the log of the file frees meanwhile as well.
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
            // The mount goes with the process in any case.
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

/// Runs a test once more, in a process with mounts of its own, and says whether it did: they go with it, and no rights
/// are needed where the kernel lets users have namespaces. Where none may be made the disk is never full.
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

/// A place on a server of the test's own.
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

    /// An operator ends the queries or the sessions of others, whatever they are about.
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
                // It may be gone by now.
                conn.batch_execute(&end).ok();
            }
            std::thread::sleep(BETWEEN_ENDS);
        }
    }

    /// Takes every connection that the server gives, for a while.
    fn use_up(&self) {
        let url = self.server.url();
        let free = || P::Conn::establish(&url).ok();
        let mut held = Vec::new();
        while let Some(conn) = free() {
            held.push(conn);
            assert!(held.len() <= CONNECTIONS, "the server takes more than it should");
        }
        let begun = std::time::Instant::now();
        // What the processes let go is to be had by whoever comes first.
        while begun.elapsed() < crate::faults::OUTAGE {
            held.extend(free());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// How often an operator ends everything.
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
        // To Diesel the options of callboard are unknown.
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
