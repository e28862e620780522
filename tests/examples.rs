//! Checks that the examples print the output in their headers.
//!
//! Each `examples/level*.rs` begins with its lesson, its command and, in a `text` block, its expected output. The tests
//! use the command's arguments after `--` as well. `cargo test` builds the examples before it runs these tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Rungs of the ladder that the test must find, so that it notices a renamed rung.
const RUNGS: [&str; 11] = [
    "level1_delay_and_priority",
    "level1_pop_loop",
    "level1_push_and_handle",
    "level1_simple_timer",
    "level2_actix_web",
    "level2_axum",
    "level2_data_cleanup",
    "level2_own_actor",
    "level2_retries_and_dead_letters",
    "level3_distributed_coordinator",
    "level3_transactional_push",
];

/// Largest number of lines in a rung, header included.
const MOST_LINES: [(&str, usize); 3] = [("level1_", 39), ("level2_", 175), ("level3_", 100)];

#[test]
fn the_ladder_has_all_its_rungs() {
    let mut found: Vec<_> = sources().iter().map(|path| name(path)).collect();
    found.sort();
    for rung in RUNGS {
        assert!(found.iter().any(|name| name == rung), "{rung} is missing; there are {found:?}");
    }
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    for name in found {
        assert!(readme.contains(&name), "examples/README.md does not mention {name}");
    }
}

#[test]
fn each_header_gives_lesson_command_and_output() {
    for path in sources() {
        let header = Header::read(&path);
        let name = name(&path);
        assert!(header.text.starts_with("Lesson: "), "{name} does not begin with its lesson");
        assert!(header.text.contains(&format!("`cargo run --example {name}")), "{name} does not give its command");
        assert!(!header.expected.is_empty(), "{name} has no expected output");
        let (_, most) = MOST_LINES.iter().find(|(level, _)| name.starts_with(level)).copied().unwrap_or(("", 300));
        assert!(header.lines <= most, "{name} has {} lines, more than the {most} of its level", header.lines);
    }
}

#[test]
fn level_1_prints_what_it_says() {
    compare("level1_");
}

#[test]
fn level_2_prints_what_it_says() {
    compare("level2_");
}

#[test]
fn of_two_instances_one_makes_each_report() {
    let folder = tempfile::TempDir::new().unwrap();
    let database = folder.path().join("coordinator.db").display().to_string();
    let start = |instance: &str| {
        let mut command = Command::new(built("level3_distributed_coordinator"));
        command.args(["--instance-id", instance, "--database", &database]).stdout(Stdio::piped()).spawn().unwrap()
    };
    let both = ["node1", "node2"].map(start);
    let both = both.map(|child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap());
    println!("{both:?}");
    let count = |text: &str| both.iter().map(|said| said.matches(text).count()).sum::<usize>();
    let left = count("another instance is running the monthly report");
    let run = count("running the monthly report") - left;
    // The instances start and end a moment apart. So an instance may see a report before the second has started or
    // after it has ended.
    assert!((3..=5).contains(&run) && (1..=run).contains(&left), "{both:?}");
    assert_eq!(ran(&format!("sqlite:{database}")), run, "{both:?}");
}

/// The first command of the README, with a folder for the songs as the only argument.
#[cfg(feature = "sqlite")]
#[test]
fn the_music_library_serves_a_list_of_its_own() {
    let folder = tempfile::TempDir::new().unwrap();
    let library = folder.path().join("music");
    let output = Command::new(built("music_library")).arg("--library").arg(&library).output().unwrap();
    let (printed, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{complaint}\n{printed}");
    let end = printed.trim_end().lines().last().unwrap_or_default();
    assert!(end.starts_with("18 done (") && end.ends_with(" of them retried), 1 given up, 0 left"), "{printed}");
    let given_up = printed.lines().filter(|line| line.starts_with("given up  The Lost Tape"));
    assert_eq!(given_up.count(), 1, "{printed}");
    assert_eq!(songs_below(&library), 18, "{printed}");
}

fn songs_below(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let count = |path: PathBuf| {
        if path.is_dir() {
            songs_below(&path)
        } else {
            usize::from(path.extension().is_some_and(|kind| kind == "wav"))
        }
    };
    entries.map(count).sum()
}

/// Number of reports according to storage. Each nominal time must have been run once at most, by a single instance.
fn ran(url: &str) -> usize {
    actix_rt::System::new().block_on(async {
        let board = callboard::Board::builder().url(url).start().await.unwrap();
        let firings = board.schedules().firings("monthly_report", None, 100).await.unwrap();
        let mut ran = 0;
        for firing in &firings {
            let runs = board.executions(firing.task_id.unwrap()).await.unwrap();
            let nodes: Vec<_> = runs.iter().map(|run| run.node).collect();
            assert!(nodes.len() <= 1, "{} was run by {nodes:?}", firing.nominal_at);
            ran += nodes.len();
        }
        board.stop().await;
        ran
    })
}

/// The header of an example: its `//!` lines.
struct Header {
    text: String,
    arguments: Vec<String>,
    expected: String,
    lines: usize,
}

impl Header {
    fn read(path: &Path) -> Self {
        let source = std::fs::read_to_string(path).unwrap();
        let header = source.lines().map_while(|line| line.strip_prefix("//!"));
        let text: String = header.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect();
        let block = text.split_once("```text\n").and_then(|(_, rest)| rest.split_once("```"));
        let expected = block.map(|(block, _)| block.to_owned()).unwrap_or_default();
        // Finds `cargo run --example NAME -- ARGUMENTS` anywhere in the header. The last occurrence counts.
        let arguments = text.rsplit_once(" -- ").and_then(|(_, rest)| rest.split_once('`'));
        let arguments = match arguments {
            Some((list, _)) if !list.contains('\n') => list.split_whitespace().map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        Self { text, arguments, expected, lines: source.lines().count() }
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap().to_str().unwrap().to_owned()
}

fn sources() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut sources: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|kind| kind == "rs") && name(path).starts_with("level"))
        .collect();
    sources.sort();
    sources
}

/// The executable of an example. Cargo puts examples into a folder beside the folder of this test.
fn built(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let profile = here.parent().and_then(Path::parent).unwrap();
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is not built; `cargo build --examples` builds it", path.display());
    path
}

#[test]
fn level_3_prints_what_it_says() {
    compare("level3_");
}

fn compare(level: &str) {
    for path in sources().into_iter().filter(|path| name(path).starts_with(level)) {
        let (name, header) = (name(&path), Header::read(&path));
        let output = Command::new(built(&name)).args(&header.arguments).output().unwrap();
        let (printed, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name} failed: {}\n{complaint}\n{printed}", output.status);
        assert_eq!(printed, header.expected, "{name} prints something else than its header says; {complaint}");
    }
}

#[test]
fn next_runs_prints_utc_times() {
    let run = |arguments: &[&str]| Command::new(built("next_runs")).args(arguments).output().unwrap();
    let from = ["--from", "2026-03-06T00:00:00Z", "-n", "5"];
    let output = run(&[&["0 9 * * 1-5", "--tz", "America/New_York"], &from[..]].concat());
    let days = ["06T14", "09T13", "10T13", "11T13", "12T13"].map(|day| format!("\"2026-03-{day}:00:00Z\""));
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("[{}]\n", days.join(",")));
    let refused = run(&["30 2 31 2 *"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("never fires"));
    assert!(String::from_utf8_lossy(&run(&["@daily", "--tz", "Europe/Belin"]).stderr).contains("Europe/Berlin"));
}

#[cfg(all(feature = "postgres", feature = "mysql"))]
#[test]
fn migration_sql_prints_what_an_editor_takes() {
    let run = |arguments: &[&str]| Command::new(built("migration_sql")).args(arguments).output().unwrap();
    let begins = [(["postgres", "jobs"], "BEGIN;\n"), (["mysql", "utf8mb4_nopad_bin"], "CREATE TABLE")];
    for (arguments, begin) in begins {
        let output = run(&arguments);
        let sql = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && sql.starts_with(begin) && sql.contains("task_queue ("), "{sql}");
        assert!(sql.contains(arguments[1]));
    }
    assert_eq!(run(&["oracle"]).status.code(), Some(2));
}
