//! The music library as a program that is killed repeatedly, interrupted and started again.
//!
//! A demo server in the test sees every request. No test waits for time to pass. A test kills a program at the N-th
//! event of the server or the N-th line of output, and then waits until the program ends.

#![cfg(all(unix, feature = "sqlite"))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the test uses a part of the example")]
#[path = "../examples/music_library/demo/mod.rs"]
mod demo;
#[allow(dead_code, reason = "the test uses a part of the example")]
#[path = "../examples/music_library/list.rs"]
mod list;
#[cfg(any(feature = "postgres", feature = "mysql"))]
#[path = "support/servers.rs"]
mod servers;
mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use demo::{Behaviour, Demo, Sent};
use tempfile::TempDir;

/// A song that the demo server does not have.
const GONE: &str = "The Lost Tape (never found) - Nobody";

/// An event that the test has seen.
#[derive(Clone, Debug, PartialEq)]
enum Fact {
    Cookie,
    Head {
        song: String,
        status: u16,
    },
    Chunk {
        song: String,
        start: usize,
    },
    Printed(String),
    /// The file of this song was complete on the disk after the program had ended.
    Whole(String),
}

/// The moment and the signal that stop a program.
struct Plan {
    /// Number of matching facts still to come. The last one triggers the signal.
    countdown: usize,
    counts: fn(&Fact) -> bool,
    signal: &'static str,
}

/// State that the server, the readers and the test share.
#[derive(Default)]
struct Scene {
    facts: Vec<Fact>,
    plan: Option<Plan>,
    process: Option<u32>,
}

impl Scene {
    fn saw(&mut self, fact: Fact) {
        let due = self.plan.as_mut().filter(|plan| (plan.counts)(&fact)).is_some_and(|plan| {
            plan.countdown -= 1;
            plan.countdown == 0
        });
        self.facts.push(fact);
        if due && let (Some(plan), Some(process)) = (self.plan.take(), self.process) {
            let sent = Command::new("kill").args([plan.signal, &process.to_string()]).status();
            assert!(sent.expect("kill starts").success(), "{} {process}", plan.signal);
        }
    }
}

/// A demo server, a library, and the facts about both, in order.
struct World {
    scene: Arc<Mutex<Scene>>,
    folder: TempDir,
    songs: Vec<String>,
    /// URL of the storage for tasks. With `None` it is a file in the library's folder.
    database: Option<String>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl World {
    fn new() -> Self {
        let scene: Arc<Mutex<Scene>> = Arc::default();
        let (watched, (ready, started)) = (Arc::clone(&scene), std::sync::mpsc::channel());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = std::thread::spawn(move || {
            let watch = move |sent: Sent<'_>| {
                let fact = match sent {
                    Sent::Cookie => Fact::Cookie,
                    Sent::Head { name, status } => Fact::Head { song: name.into(), status },
                    Sent::Chunk { name, start, .. } => Fact::Chunk { song: name.into(), start },
                };
                watched.lock().unwrap().saw(fact);
            };
            let (session, pause) = (Duration::from_secs(1), Duration::from_millis(2));
            actix_rt::System::new().block_on(async {
                let demo = Demo::start(Behaviour { session, pause, watch: Arc::new(watch) }).await.unwrap();
                let entries = Demo::list().into_iter().map(|entry| (demo.resolve(&entry.url), entry.name));
                ready.send(entries.collect::<Vec<_>>()).unwrap();
                drop(stopped.await);
                demo.stop().await;
            });
        });
        let folder = TempDir::new().unwrap();
        let entries = started.recv().unwrap();
        let list: Vec<_> = entries.iter().map(|(url, name)| format!("{url}\t{name}")).collect();
        std::fs::write(folder.path().join("list.tsv"), list.join("\n")).unwrap();
        let songs = entries.into_iter().map(|(_, name)| name.trim_end_matches(".wav").to_owned()).collect();
        Self { scene, folder, songs, database: None, stop: Some(stop), server: Some(server) }
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("library")
    }

    /// Runs the program until it ends, by itself or as planned, and returns its exit status.
    fn run(&self, plan: Option<Plan>) -> ExitStatus {
        let mut scene = self.scene.lock().unwrap();
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        let mut program = Command::new(PROGRAM.get_or_init(|| support::example("music_library")));
        program.arg("--urls").arg(self.folder.path().join("list.tsv")).arg("--library").arg(self.library());
        if let Some(url) = &self.database {
            program.args(["--database-url", url]);
        }
        let mut program = program.args(["--concurrency", "3"]).stdout(Stdio::piped()).spawn().unwrap();
        (scene.plan, scene.process) = (plan, Some(program.id()));
        drop(scene);
        self.read(&mut program);
        let status = program.wait().unwrap();
        let mut scene = self.scene.lock().unwrap();
        (scene.plan, scene.process) = (None, None);
        for song in whole_songs(&self.library(), &self.songs) {
            scene.facts.push(Fact::Whole(song));
        }
        status
    }

    /// Reads the output of the program to its end.
    fn read(&self, program: &mut Child) {
        for line in BufReader::new(program.stdout.take().unwrap()).lines() {
            self.scene.lock().unwrap().saw(Fact::Printed(line.unwrap()));
        }
    }

    fn facts(&self) -> Vec<Fact> {
        self.scene.lock().unwrap().facts.clone()
    }

    /// Checks that the library contains each song once, with the right content, and no other file.
    fn assert_complete(&self) {
        let files = files_below(&self.library());
        let mut songs: Vec<_> = self.songs.iter().filter(|song| *song != GONE).map(|song| demo::song(song)).collect();
        let mut contents: Vec<_> = files
            .iter()
            .filter(|path| !path.starts_with(self.library().join(".callboard")))
            .map(|path| std::fs::read(path).unwrap())
            .collect();
        songs.sort();
        contents.sort();
        let sizes: Vec<_> = files.iter().map(|path| (path, path.metadata().unwrap().len())).collect();
        assert!(songs == contents, "{sizes:#?}\n{:#?}", self.facts());
        assert!(self.library().join("Au_Ra/Ghost (The Him Remix).wav").exists());
        let left = files_below(&self.library().join(".callboard/incoming"));
        assert!(left.is_empty(), "{left:#?}");
    }

    /// Checks that no byte of a song was requested after the song was complete on the disk or reported as downloaded.
    fn assert_nothing_twice(&self) {
        let mut done: HashMap<String, usize> = HashMap::new();
        for (at, fact) in self.facts().into_iter().enumerate() {
            match fact {
                Fact::Whole(song) => {
                    done.entry(song).or_insert(at);
                }
                Fact::Printed(line) => {
                    if let Some(song) =
                        self.songs.iter().find(|song| line.starts_with(&format!("downloaded   {song}")))
                    {
                        done.entry(song.clone()).or_insert(at);
                    }
                }
                Fact::Head { song, .. } | Fact::Chunk { song, .. } => {
                    assert!(!done.contains_key(&song), "{song} was done at {} and asked for at {at}", done[&song]);
                }
                Fact::Cookie => {}
            }
        }
    }

    fn printed(&self, text: &str) -> bool {
        self.facts().iter().any(|fact| matches!(fact, Fact::Printed(line) if line.contains(text)))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.server.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || ended.is_some_and(|end| end.is_ok()), "the demo server panicked");
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries.flat_map(|entry| below(entry.unwrap().path())).collect()
}

/// The songs with a complete file on the disk, in its place or not yet.
fn whole_songs(library: &Path, songs: &[String]) -> Vec<String> {
    let is_song = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "wav");
    let files: Vec<_> =
        files_below(library).into_iter().filter(is_song).map(|path| std::fs::read(path).unwrap()).collect();
    songs.iter().filter(|song| files.contains(&demo::song(song))).cloned().collect()
}

fn chunk(fact: &Fact) -> bool {
    matches!(fact, Fact::Chunk { .. })
}

#[test]
fn killed_again_and_again_it_loses_nothing_and_downloads_nothing_twice() {
    let world = World::new();
    let cookie: fn(&Fact) -> bool = |fact| *fact == Fact::Cookie;
    let head: fn(&Fact) -> bool = |fact| matches!(fact, Fact::Head { status: 200 | 206, .. });
    let downloaded: fn(&Fact) -> bool = |fact| matches!(fact, Fact::Printed(line) if line.starts_with("downloaded"));
    let placed: fn(&Fact) -> bool = |fact| matches!(fact, Fact::Printed(line) if line.starts_with("in library"));
    // The counts are small enough to leave a song for the last moment: there are 18 songs of 20 chunks each.
    let moments = [
        (cookie, 1),
        (chunk, 25),
        (downloaded, 2),
        (head, 4),
        (placed, 2),
        (chunk, 50),
        (downloaded, 1),
        (placed, 1),
    ];
    for (number, (counts, countdown)) in moments.into_iter().enumerate() {
        let end = world.run(Some(Plan { countdown, counts, signal: "-KILL" }));
        assert_eq!(end.code(), None, "run {number} ended by itself: {:#?}", world.facts());
    }
    let end = world.run(None);
    assert_eq!(end.code(), Some(0));
    world.assert_complete();
    world.assert_nothing_twice();
    assert!(world.printed("the server answered 404 Not Found"));
    assert!(world.facts().iter().any(|fact| matches!(fact, Fact::Head { status: 206, .. })), "nothing was resumed");
}

#[test]
fn interrupted_it_stops_gently_and_the_next_start_goes_on() {
    let world = World::new();
    let end = world.run(Some(Plan { countdown: 40, counts: chunk, signal: "-INT" }));
    assert_eq!(end.code(), Some(130));
    assert!(world.printed("stopping") && world.printed(" left"));
    let end = world.run(None);
    assert_eq!(end.code(), Some(0));
    world.assert_complete();
    world.assert_nothing_twice();
    // A third start finds no work and sends no request, not even for the song that was given up.
    let before = world.facts().len();
    assert_eq!(world.run(None).code(), Some(0));
    let after = &world.facts()[before..];
    assert!(!after.iter().any(|fact| matches!(fact, Fact::Head { .. } | Fact::Cookie)), "{after:#?}");
    assert!(world.printed("18 were there before"));
}

/// Moves the end of all completed tasks a year into the past.
fn let_a_year_pass(database: &Path) {
    let back = "finished_at = finished_at - 365 * 86400000000";
    by_hand(database, &format!("UPDATE task_queue SET {back} WHERE state = 'completed'"));
}

fn by_hand(database: &Path, sql: &str) {
    use diesel::{Connection, connection::SimpleConnection};
    let mut conn = diesel::SqliteConnection::establish(&database.display().to_string()).unwrap();
    conn.batch_execute(sql).unwrap();
}

#[test]
fn interrupted_a_year_later_it_still_knows_what_it_has() {
    let world = World::new();
    let list = world.folder.path().join("list.tsv");
    let whole = std::fs::read_to_string(&list).unwrap();
    let (new, old) = whole.split_once('\n').unwrap();
    std::fs::write(&list, old).unwrap();
    assert_eq!(world.run(None).code(), Some(0));
    let_a_year_pass(&world.library().join(".callboard/library.db"));
    let before = world.facts().len();
    std::fs::write(&list, &whole).unwrap();
    // SIGTERM is the signal of a service manager.
    assert_eq!(world.run(Some(Plan { countdown: 1, counts: chunk, signal: "-TERM" })).code(), Some(130));
    assert_eq!(world.run(None).code(), Some(0));
    world.assert_complete();
    for fact in &world.facts()[before..] {
        assert!(
            !matches!(fact, Fact::Head { song, .. } if !new.contains(song.as_str())),
            "downloaded again: {fact:?}"
        );
    }
}

#[test]
fn bad_lines_are_reported_and_the_rest_is_done() {
    let world = World::new();
    let list = world.folder.path().join("list.tsv");
    let good = std::fs::read_to_string(&list).unwrap();
    let first = good.lines().next().unwrap();
    std::fs::write(&list, format!("no tab here\n{first}\nftp://example.org/a\tname\n")).unwrap();
    assert_eq!(world.run(None).code(), Some(0));
    assert!(world.printed("line 1: no tab") && world.printed("line 3: ftp: cannot be downloaded"));
    assert!(world.printed("1 done (0 of them retried), 0 given up, 0 left"));
}

/// The stored schedules of the program: name, id, and how often each has fired.
fn schedules(database: &Path) -> Vec<(String, String, i64)> {
    use diesel::sql_types::{BigInt, Text};
    use diesel::{Connection, QueryableByName, RunQueryDsl};
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        schedule_id: String,
        #[diesel(sql_type = BigInt)]
        run_count: i64,
    }
    let mut conn = diesel::SqliteConnection::establish(&database.display().to_string()).unwrap();
    let query = "SELECT name, schedule_id, run_count FROM scheduler_task ORDER BY name";
    let rows: Vec<Row> = diesel::sql_query(query).load(&mut conn).unwrap();
    rows.into_iter().map(|row| (row.name, row.schedule_id, row.run_count)).collect()
}

/// Moves the nightly rescan two days into the past, as if the program had not run for two days.
fn let_two_days_pass(database: &Path) {
    let back = "cursor_at = cursor_at - 2 * 86400000000, next_run_at = NULL";
    by_hand(database, &format!("UPDATE scheduler_task SET {back} WHERE name = 'nightly rescan'"));
}

#[test]
fn its_schedules_survive_restarts_and_what_was_missed_meanwhile_is_made_up() {
    let world = World::new();
    assert_eq!(world.run(None).code(), Some(0));
    let (database, catalogue) =
        (world.library().join(".callboard/library.db"), world.library().join(".callboard/catalogue.tsv"));
    let before = schedules(&database);
    let names: Vec<_> = before.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["nightly rescan", "weekly cleanup"]);
    assert!(!catalogue.exists() || before[0].2 > 0, "a rescan that no schedule asked for");
    std::fs::remove_file(&catalogue).ok();
    let_two_days_pass(&database);
    // A start with little other work may stop before the rescan has begun. The next start then goes on with it.
    for _ in 0..10 {
        assert_eq!(world.run(None).code(), Some(0));
        if catalogue.exists() {
            break;
        }
    }
    let after = schedules(&database);
    assert_eq!(after[0], (before[0].0.clone(), before[0].1.clone(), before[0].2 + 1), "the latest of two nights");
    assert_eq!((&after[1].0, &after[1].1), (&before[1].0, &before[1].1));
    let listed = std::fs::read_to_string(&catalogue).unwrap();
    let (song, _) = listed.lines().next().unwrap().split_once('\t').unwrap();
    assert!(world.library().join(song).exists() && listed.lines().count() == world.songs.len() - 1, "{listed}");
}

/// Kills the program in the middle of its work, with its tasks on a server. Only the URL differs.
#[cfg(any(feature = "postgres", feature = "mysql"))]
fn killed_with_its_tasks_on(url: String) {
    let mut world = World::new();
    world.database = Some(url);
    for countdown in [30, 60] {
        let end = world.run(Some(Plan { countdown, counts: chunk, signal: "-KILL" }));
        assert_eq!(end.code(), None, "it ended by itself: {:#?}", world.facts());
    }
    let end = world.run(None);
    assert_eq!(end.code(), Some(0));
    world.assert_complete();
    world.assert_nothing_twice();
    assert!(world.printed("the server answered 404 Not Found"));
}

#[test]
#[cfg(feature = "postgres")]
fn on_postgres_it_is_the_same() {
    let schema = servers::Schema::new();
    killed_with_its_tasks_on(schema.url());
}

#[test]
#[cfg(feature = "mysql")]
fn on_mysql_it_is_the_same() {
    let database = servers::Database::new();
    killed_with_its_tasks_on(database.url());
}
