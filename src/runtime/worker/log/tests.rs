//! The promises of task logs, each with a test.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record, debug, info, o, trace, warn};
use tempfile::TempDir;

use super::{LogForm, TaskLogOptions, TaskLogs};
use crate::clock::{Clock, Timestamp};
use crate::logging::guarded::Guarded;
use crate::logging::keys;
use crate::task::TaskId;

/// A program's logger that remembers its records.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<String>>>);

impl Drain for Memory {
    type Ok = ();
    type Err = Never;
    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let mut keys = Keys::default();
        record.kv().serialize(record, &mut keys).ok();
        values.serialize(record, &mut keys).ok();
        self.0.lock().push(format!("{} {} {}", record.level(), record.msg(), keys.0.join(",")));
        Ok(())
    }
}

impl std::panic::RefUnwindSafe for Memory {}
impl std::panic::UnwindSafe for Memory {}

#[derive(Default)]
struct Keys(Vec<&'static str>);

impl slog::Serializer for Keys {
    fn emit_arguments(&mut self, key: slog::Key, _: &fmt::Arguments<'_>) -> slog::Result {
        self.0.push(key);
        Ok(())
    }
}

struct World {
    place: TempDir,
    clock: Clock,
    program: Guarded,
    told: Memory,
    logs: TaskLogs,
    task_id: TaskId,
}

impl World {
    fn new() -> Self {
        Self::with(TaskLogOptions::default())
    }

    fn with(options: TaskLogOptions) -> Self {
        let place = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_micros(1_767_225_600_000_001));
        let told = Memory::default();
        let program = Guarded::new(Logger::root(told.clone(), o!(keys::NODE => "alpha")));
        let logs = TaskLogs::guarded(place.path().join("tasks"), options, clock.clone(), program.clone());
        let task_id = TaskId::new(clock.now());
        Self { place, clock, program, told, logs, task_id }
    }

    fn logger(&self, attempt: u32) -> Logger {
        let log = self.logs.attempt(self.task_id, attempt);
        log.logger(&self.program, o!(keys::ATTEMPT => attempt))
    }

    fn directory(&self) -> PathBuf {
        self.place.path().join("tasks").join(self.task_id.to_string())
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.directory().join(name)).unwrap()
    }

    fn json(&self) -> Vec<Value> {
        self.file("attempt-1.jsonl").lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }
}

#[test]
fn each_attempt_has_a_readable_file_and_one_of_json_lines() {
    let world = World::new();
    info!(world.logger(1), "downloading"; "url" => "https://example.org/a b", "bytes" => 1_000_000);
    info!(world.logger(2), "again");
    assert_eq!(
        world.file("attempt-1.log"),
        "2026-01-01T00:00:00.000001Z INFO     downloading url=\"https://example.org/a b\" bytes=1000000 \
         node=alpha attempt=1\n"
    );
    assert_eq!(
        world.file("attempt-1.jsonl"),
        "{\"ts\":\"2026-01-01T00:00:00.000001Z\",\"level\":\"INFO\",\"msg\":\"downloading\",\
         \"url\":\"https://example.org/a b\",\"bytes\":1000000,\"node\":\"alpha\",\"attempt\":1}\n"
    );
    assert!(world.file("attempt-2.log").contains("again"));
}

#[cfg(unix)]
#[test]
fn logs_are_read_by_their_owner_and_group_alone() {
    use std::os::unix::fs::PermissionsExt;

    let world = World::new();
    info!(world.logger(1), "hello");
    for name in ["attempt-1.log", "attempt-1.jsonl"] {
        let mode = fs::metadata(world.directory().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o640, 0, "{name}: {mode:o}");
        assert_eq!(mode & 0o600, 0o600, "{name}: {mode:o}");
    }
}

#[test]
fn a_task_that_logs_nothing_has_no_files() {
    let world = World::new();
    let log = world.logger(1);
    trace!(log, "below the level");
    drop(log);
    assert!(!world.place.path().join("tasks").exists());
}

#[test]
fn levels_down_to_the_configured_one_are_kept() {
    let world = World::with(TaskLogOptions { level: Level::Warning, ..TaskLogOptions::default() });
    let log = world.logger(1);
    info!(log, "no");
    warn!(log, "yes");
    assert_eq!(world.json().len(), 1);
    let world = World::new();
    debug!(world.logger(1), "kept by default");
    assert_eq!(world.json()[0]["level"], "DEBUG");
}

#[test]
fn a_repeated_attempt_is_appended() {
    let world = World::new();
    info!(world.logger(1), "first run");
    info!(world.logger(1), "second run");
    assert_eq!(world.json().len(), 2);
    assert_eq!(world.file("attempt-1.log").lines().count(), 2);
}

#[test]
fn a_record_after_the_end_of_the_attempt_is_kept_too() {
    let world = World::new();
    let attempt = world.logs.attempt(world.task_id, 1);
    let log = attempt.logger(&world.program, o!());
    info!(log, "one");
    attempt.close();
    info!(log, "late");
    assert_eq!(world.json().len(), 2);
}

#[test]
fn a_line_is_in_the_file_before_the_call_returns() {
    let world = World::new();
    let log = world.logger(1);
    for count in 1..4 {
        info!(log, "line");
        assert_eq!(world.json().len(), count);
    }
}

#[test]
fn the_program_hears_every_record_with_all_its_values() {
    let world = World::new();
    let log = world.logger(1);
    info!(log, "shared"; "url" => "x");
    trace!(log, "even what the file leaves out");
    assert_eq!(
        *world.told.0.lock(),
        ["INFO shared url,attempt,node", "TRCE even what the file leaves out attempt,node"]
    );
}

#[test]
fn values_keep_their_types_and_children_add_theirs() {
    let world = World::new();
    let log = world.logger(1).new(o!("step" => "one", "of" => 2));
    info!(log, "types"; "float" => 0.1_f32, "nan" => f64::NAN, "flag" => true, "none" => None::<u8>, "char" => 'x',
        "debug" => ?Some("a b"), "error" => #fmt::Error);
    let line = &world.json()[0];
    for (key, value) in [
        ("float", json!(0.1)),
        ("nan", json!("NaN")),
        ("flag", json!(true)),
        ("none", json!(null)),
        ("char", json!("x")),
        ("debug", json!("Some(\"a b\")")),
        ("step", json!("one")),
        ("of", json!(2)),
        ("attempt", json!(1)),
        ("node", json!("alpha")),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    assert!(line["error"].as_str().unwrap().contains("error"));
    assert!(world.file("attempt-1.log").ends_with(" node=alpha attempt=1 step=one of=2\n"));
}

#[test]
fn a_key_given_twice_loses_neither_value() {
    let world = World::new();
    let log = world.logger(1).new(o!("step" => "outer")).new(o!("step" => "inner"));
    info!(log, "text"; "step" => "own", "msg" => "not the message", "cut" => true);
    let line = &world.json()[0];
    assert_eq!((&line["step"], &line["step#2"], &line["step#3"]), (&json!("own"), &json!("inner"), &json!("outer")));
    assert_eq!(
        (&line["msg"], &line["msg#2"], &line["cut#2"]),
        (&json!("text"), &json!("not the message"), &json!(true))
    );
}

#[test]
fn nothing_breaks_a_readable_line_and_all_other_unicode_stays() {
    let world = World::new();
    let nasty = "größe 日本語 \u{1b}[31m\nforged\u{2028}\u{202e}";
    info!(world.logger(1).new(o!("nested" => "a\nb")), "{}", nasty; "k\n=y" => nasty);
    let text = world.file("attempt-1.log");
    assert_eq!(text.lines().count(), 1);
    assert!(!text.contains(['\u{1b}', '\u{2028}', '\u{202e}']));
    let escaped = r"größe 日本語 \u{1b}[31m\nforged\u{2028}\u{202e}";
    for part in [format!(" {escaped} "), format!("\"k\\n=y\"=\"{escaped}\""), r"nested=".into(), r"a\nb".into()] {
        assert!(text.contains(&part), "{part} is missing in {text}");
    }
    assert_eq!(world.json()[0]["msg"], nasty, "the JSON form has it as it was");
}

struct Refuses;

impl fmt::Display for Refuses {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Err(fmt::Error)
    }
}

#[test]
fn a_value_that_refuses_to_be_shown_harms_nobody() {
    let world = World::new();
    let program = Guarded::new(Logger::root(slog::Discard, o!()));
    let log = world.logs.attempt(world.task_id, 1).logger(&program, o!());
    info!(log, "text"; "bad" => %Refuses, "good" => 1);
    assert_eq!(world.json()[0]["bad"], "<cannot be shown>");
    assert_eq!(world.json()[0]["good"], 1);
}

#[test]
fn a_value_that_logs_when_it_is_shown_does_not_block() {
    struct Chatty(Logger);
    impl fmt::Display for Chatty {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            info!(self.0, "being shown");
            f.write_str("shown")
        }
    }
    let world = World::new();
    let log = world.logs.attempt(world.task_id, 1).logger(&Guarded::new(Logger::root(slog::Discard, o!())), o!());
    let chatty = Chatty(log.clone());
    info!(log, "text"; "chatty" => %chatty);
    assert_eq!(world.json().len(), 2);
}

fn small() -> World {
    World::with(TaskLogOptions { max_bytes: 2_000, ..TaskLogOptions::default() })
}

fn marks(world: &World) -> (usize, usize) {
    let readable = world.file("attempt-1.log").lines().filter(|line| line.starts_with("--- ")).count();
    let json = world.json().iter().filter(|line| line["cut"] == json!(true)).count();
    (readable, json)
}

#[test]
fn a_file_is_cut_at_its_size_with_one_clear_line() {
    let world = small();
    let log = world.logger(1);
    (0..100).for_each(|n| info!(log, "line"; "n" => n));
    for name in ["attempt-1.log", "attempt-1.jsonl"] {
        let text = world.file(name);
        assert!(text.len() <= 2_000 && text.len() > 1_600, "{name} has {} bytes", text.len());
        assert!(text.lines().next_back().unwrap().contains("the log is cut here: it has reached 2000 bytes"));
    }
    assert_eq!(marks(&world), (1, 1));
}

/// Logs as much as a run may log, and more.
fn fill(log: &Logger) {
    (0..100).for_each(|n| info!(log, "line"; "n" => n));
}

/// The names of the files of both forms, in order.
fn names(world: &World) -> Vec<String> {
    let files = fs::read_dir(world.directory()).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_run_loses_no_line_to_the_cut_of_an_earlier_run_with_its_number() {
    let world = small();
    fill(&world.logger(1));
    let before = (world.file("attempt-1.log"), world.file("attempt-1.jsonl"));
    info!(world.logger(1), "second run");
    info!(world.logger(1), "third run");
    assert_eq!((world.file("attempt-1.log"), world.file("attempt-1.jsonl")), before);
    for name in ["attempt-1.2.log", "attempt-1.2.jsonl"] {
        let text = world.file(name);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains("second run") && lines[1].contains("third run"), "{text}");
    }
    assert_eq!(world.logs.attempts(world.task_id).unwrap(), [1]);
}

#[test]
fn a_run_finds_at_least_half_a_file_whatever_an_earlier_run_with_its_number_has_logged() {
    let world = small();
    let log = world.logger(1);
    while world.logs.read(world.task_id, 1, LogForm::Json, 0..1).unwrap().is_none_or(|log| log.total <= 1_000) {
        info!(log, "first run");
    }
    info!(log, "first run goes on where it was");
    info!(world.logger(1), "second run");
    assert_eq!(names(&world), ["attempt-1.2.jsonl", "attempt-1.2.log", "attempt-1.jsonl", "attempt-1.log"]);
    assert!(world.file("attempt-1.log").contains("first run goes on where it was"));
    assert_eq!(marks(&world), (0, 0));
}

#[test]
fn a_run_that_fills_its_files_begins_no_more_of_them() {
    let world = small();
    let attempt = world.logs.attempt(world.task_id, 1);
    let log = attempt.logger(&world.program, o!());
    fill(&log);
    attempt.close();
    fill(&log);
    assert_eq!(names(&world), ["attempt-1.jsonl", "attempt-1.log"]);
    assert_eq!(marks(&world), (1, 1));
}

#[test]
fn an_attempt_has_so_many_files_and_the_last_ones_have_the_newest_run() {
    let world = small();
    for run in 1..=9 {
        let log = world.logger(1);
        info!(log, "run {}", run);
        fill(&log);
    }
    assert_eq!(names(&world).len(), 10, "{:?}", names(&world));
    assert!(world.file("attempt-1.log").contains("run 1"), "the first run is kept");
    for name in ["attempt-1.5.log", "attempt-1.5.jsonl"] {
        let text = world.file(name);
        let (head, rest) = text.split_once('\n').unwrap();
        assert!(head.contains("what they had logged here is removed"), "{text}");
        assert!(rest.contains("run 9") && !rest.contains("run 8"), "{text}");
        assert!(text.len() <= 2_000 && text.lines().next_back().unwrap().contains("the log is cut here"), "{text}");
    }
    let text = world.file("attempt-1.5.jsonl");
    assert_eq!(serde_json::from_str::<Value>(text.lines().next().unwrap()).unwrap()["cut"], "before");
}

#[test]
fn files_of_one_attempt_are_read_as_one_log() {
    let world = small();
    fill(&world.logger(1));
    // The state that the death of a process leaves: the next file's first line must not be joined to the half line.
    let path = world.directory().join("attempt-1.log");
    fs::write(&path, world.file("attempt-1.log") + "half a li").unwrap();
    info!(world.logger(1), "second run");
    let whole = world.file("attempt-1.log") + &world.file("attempt-1.2.log");
    let read = |range| world.logs.read(world.task_id, 1, LogForm::Readable, range).unwrap().unwrap();
    assert_eq!(read(0..u64::MAX).text, whole);
    assert_eq!(read(0..u64::MAX).total, whole.len() as u64);
    let (mut text, mut at) = (String::new(), 0);
    while at < whole.len() as u64 {
        let piece = read(at..at + 300);
        (text, at) = (text + &piece.text, piece.range.end);
    }
    assert_eq!(text, whole);
    assert!(whole.lines().any(|line| line == "half a li"), "{whole}");
}

#[test]
fn one_enormous_record_is_cut_too() {
    let world = small();
    let log = world.logger(1);
    info!(log, "small");
    info!(log, "{}", "x".repeat(1_000_000));
    info!(log, "small again");
    assert_eq!(marks(&world), (1, 1));
    assert!(world.file("attempt-1.log").len() <= 2_000);
}

#[test]
fn a_line_that_looks_like_a_mark_cuts_nothing() {
    let world = small();
    info!(world.logger(1), "--- the log is cut here"; "cut" => true, "x" => "\",\"cut\":true}");
    info!(world.logger(1), "next");
    assert_eq!(world.json().len(), 2);
    assert_eq!(marks(&world), (0, 0));
}

#[test]
fn a_line_torn_by_a_crash_is_mended_at_the_next_run() {
    let world = World::new();
    fs::create_dir_all(world.directory()).unwrap();
    fs::write(world.directory().join("attempt-1.log"), "whole\nhalf a li").unwrap();
    fs::write(world.directory().join("attempt-1.jsonl"), "{\"msg\":\"whole\"}\n{\"msg\":\"ha").unwrap();
    info!(world.logger(1), "after");
    assert_eq!(world.json().iter().map(|line| line["msg"].clone()).collect::<Vec<_>>(), ["whole", "after"]);
    assert_eq!(world.file("attempt-1.log").lines().count(), 3);
    fs::write(world.directory().join("attempt-1.jsonl"), "x".repeat(200_000)).unwrap();
    info!(world.logger(1), "after");
    assert_eq!(world.json().len(), 1);
}

#[test]
fn threads_that_share_an_attempt_write_whole_lines() {
    let world = World::new();
    let log = world.logger(1);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = log.clone();
            scope.spawn(move || (0..250).for_each(|n| info!(log, "line"; "thread" => thread, "n" => n)));
        }
    });
    assert_eq!(world.json().len(), 1_000);
}

#[test]
fn a_directory_that_cannot_be_written_is_counted_told_once_and_harms_no_task() {
    let world = World::new();
    fs::write(world.place.path().join("tasks"), "a file where the directory should be").unwrap();
    let log = world.logger(1);
    (0..3).for_each(|_| info!(log, "lost"));
    info!(world.logger(2), "lost");
    assert_eq!(world.logs.failures(), 4);
    let told = world.told.0.lock();
    let faults: Vec<_> = told.iter().filter(|line| line.starts_with("ERRO")).collect();
    assert_eq!(faults, ["ERRO a task's log cannot be written; tasks go on, this is said once error,path,node"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_harms_no_task_and_lines_come_back_when_there_is_space() {
    let world = World::new();
    fs::create_dir_all(world.directory()).unwrap();
    let path = world.directory().join("attempt-1.jsonl");
    let mut file = super::file::CappedFile::new("/dev/full".into(), LogForm::Json, 1_000);
    assert!(file.append("{}\n", world.clock.now()).is_err(), "the device that is always full");
    // A directory takes the place of the file; then the place is free again.
    fs::create_dir(&path).unwrap();
    let log = world.logger(1);
    info!(log, "lost");
    fs::remove_dir(&path).unwrap();
    info!(log, "kept");
    assert_eq!(world.logs.failures(), 1);
    assert_eq!(world.json().len(), 1);
    assert_eq!(world.file("attempt-1.log").lines().count(), 2, "one bad file does not spoil the other");
}

#[test]
fn logs_are_removed_with_their_tasks() {
    let world = World::new();
    info!(world.logger(1), "x");
    info!(world.logger(2), "x");
    let other = TaskId::new(world.clock.now());
    info!(world.logs.attempt(other, 1).logger(&world.program, o!()), "x");
    let unknown = TaskId::new(world.clock.now());
    assert_eq!(world.logs.remove(&[world.task_id, unknown]), 1);
    assert!(!world.directory().exists());
    assert_eq!(world.logs.attempts(other).unwrap(), [1]);
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) {
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(to, at).unwrap();
}

#[cfg(unix)]
#[test]
fn links_are_removed_but_never_followed() {
    let world = World::new();
    let treasure = world.place.path().join("treasure");
    fs::create_dir(&treasure).unwrap();
    fs::write(treasure.join("gold"), "x").unwrap();
    link(&treasure, &world.directory());
    assert_eq!(world.logs.remove(&[world.task_id]), 1);
    assert!(!world.directory().exists() && treasure.join("gold").exists());
    link(&treasure, &world.directory().join("inside"));
    assert_eq!(world.logs.remove(&[world.task_id]), 1);
    assert!(treasure.join("gold").exists());
}

#[cfg(unix)]
#[test]
fn links_are_neither_read_nor_written_through() {
    let world = World::new();
    let secret = world.place.path().join("secret");
    fs::write(&secret, "x\n").unwrap();
    link(&secret, &world.directory().join("attempt-1.log"));
    info!(world.logger(1), "x");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "x\n");
    assert_eq!(world.logs.failures(), 1);
    assert!(world.logs.read(world.task_id, 1, LogForm::Readable, 0..100).is_err());
}

#[test]
fn attempts_that_logged_are_listed_in_order() {
    let world = World::new();
    assert!(world.logs.attempts(world.task_id).unwrap().is_empty());
    for attempt in [10, 2, 1] {
        info!(world.logger(attempt), "x");
    }
    fs::write(world.directory().join("attempt-x.log"), "").unwrap();
    assert_eq!(world.logs.attempts(world.task_id).unwrap(), [1, 2, 10]);
}

#[test]
fn reading_gives_whole_lines_and_where_to_go_on() {
    let world = World::new();
    fs::create_dir_all(world.directory()).unwrap();
    fs::write(world.directory().join("attempt-1.log"), "one\ntwö\nthree\n").unwrap();
    let read = |range| {
        let slice = world.logs.read(world.task_id, 1, LogForm::Readable, range).unwrap().unwrap();
        assert_eq!(slice.total, 15);
        (slice.text, slice.range)
    };
    assert_eq!(read(0..1_000), ("one\ntwö\nthree\n".into(), 0..15));
    assert_eq!(read(0..6), ("one\n".into(), 0..4));
    assert_eq!(read(4..10), ("twö\n".into(), 4..9));
    assert_eq!(read(2..14), ("twö\n".into(), 4..9));
    assert_eq!(read(9..11), ("th".into(), 9..11), "a line longer than the range comes in pieces");
    assert_eq!(read(15..20), (String::new(), 15..15));
    assert_eq!(read(50..60), (String::new(), 15..15));
    assert!(world.logs.read(world.task_id, 2, LogForm::Json, 0..10).unwrap().is_none());
}

#[test]
fn reading_on_from_the_end_of_each_piece_gives_the_whole_file() {
    let world = World::new();
    let log = world.logger(1);
    (0..50).for_each(|n| info!(log, "line {}", "ä".repeat(n)));
    let (mut whole, mut at) = (String::new(), 0);
    loop {
        let slice = world.logs.read(world.task_id, 1, LogForm::Readable, at..at + 300).unwrap().unwrap();
        whole.push_str(&slice.text);
        at = slice.range.end;
        if at == slice.total {
            break;
        }
    }
    assert_eq!(whole, world.file("attempt-1.log"));
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_log_is_neither_read_nor_written() {
    let w = World::new();
    let path = w.logs.path(w.task_id, 1, 1, LogForm::Readable);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (logs, task_id) = (w.logs.clone(), w.task_id);
    let (tell, told) = std::sync::mpsc::channel();
    // On a separate thread, because opening a pipe blocks for ever.
    std::thread::spawn(move || {
        let log = logs.attempt(task_id, 1);
        info!(log.logger(&Guarded::new(Logger::root(slog::Discard, o!())), o!()), "said into the pipe");
        tell.send(logs.read(task_id, 1, LogForm::Readable, 0..100)).unwrap_or(());
    });
    let read = told.recv_timeout(std::time::Duration::from_secs(60)).expect("it must not hang");
    assert!(read.unwrap_err().to_string().contains("no plain file"));
}
