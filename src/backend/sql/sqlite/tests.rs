//! Tests of behaviour that only SQLite has. The tests that every backend must pass are in the conformance suite.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, RunQueryDsl};

use super::*;
use crate::backend::{
    Backend, ClaimRequest, Commit, Edit, ExecutionEnd, InsertGroup, Inserted, Insertion, OpenOptions, Receipt,
    Settled, Settlement, Sweep, TaskFilter, TaskOrder,
};
use crate::task::{
    ClaimToken, ExecutionStatus, Extras, NodeId, Retry, TaskId, TaskSpec, TaskState, Unique, UniqueMode,
};

/// A directory that is deleted on drop, together with its database.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("callboard-sqlite-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn file(&self) -> String {
        self.0.join("tasks.db").display().to_string()
    }

    fn open(&self) -> Sqlite {
        Sqlite::open(&self.file(), &OpenOptions::default()).unwrap()
    }

    /// A connection such as an external program would open.
    fn by_hand(&self) -> SqliteConnection {
        SqliteConnection::establish(&self.file()).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // A folder that cannot be deleted does no harm, and a panic while unwinding would hide the failure.
        std::fs::remove_dir_all(&self.0).unwrap_or(());
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn spec(seconds: i64) -> TaskSpec {
    TaskSpec {
        task_id: TaskId::new(at(seconds)),
        kind: "k".into(),
        queue: "q".into(),
        params: "{}".into(),
        priority: 0,
        run_at: at(seconds),
        max_attempts: 5,
        timeout: None,
        retry: Retry::default(),
        created_at: at(seconds),
        extras: None,
    }
}

fn push(tasks: Vec<TaskSpec>, claim: bool) -> Commit {
    let now = tasks.first().map_or(at(0), |task| task.created_at);
    let insertion = |spec| Insertion { spec: Arc::new(spec), state: TaskState::Pending, claim };
    let insert = tasks.into_iter().map(|spec| InsertGroup { tasks: vec![insertion(spec)] }).collect();
    Commit { insert, ..Commit::new(NodeId::new(now), now) }
}

fn claim(limit: usize, now: Timestamp) -> Commit {
    let request = ClaimRequest { queue: "q".into(), types: None, limit };
    Commit { claim: vec![request], ..Commit::new(NodeId::new(now), now) }
}

fn done(seq: i64, task_id: TaskId, token: ClaimToken, now: Timestamp) -> Settlement {
    let end = ExecutionEnd {
        attempt: 1,
        status: ExecutionStatus::Success,
        started_at: now,
        finished_at: now,
        result: None,
        error: None,
    };
    let state = TaskState::Completed;
    Settlement { seq, task_id, token, state, run_at: now, attempt: 1, execution: Some(end) }
}

#[test]
fn a_path_is_read_in_every_spelling_and_memory_is_refused() {
    for (given, file) in
        [("rel.db", "rel.db"), ("//rel.db", "rel.db"), ("///abs/x.db", "/abs/x.db"), ("/a.db", "/a.db")]
    {
        assert_eq!(open::file_path(given).unwrap(), file);
    }
    for (given, advice) in [(":memory:", "use memory:"), ("//:memory:", "use memory:"), ("", "a path is missing")] {
        let error = Sqlite::open(given, &OpenOptions::default()).unwrap_err().to_string();
        assert!(error.contains(advice), "{error}");
    }
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_the_next_step() {
    let dir = Dir::new();
    let error = |path: String| Sqlite::open(&path, &OpenOptions::default()).unwrap_err().to_string();
    let missing = error(format!("{}/none/x.db", dir.0.display()));
    assert!(missing.contains("does not exist; make it first"), "{missing}");
    let directory = error(dir.0.display().to_string());
    assert!(directory.contains("is a directory"), "{directory}");
    std::fs::write(dir.file(), "this is a text of more than a hundred bytes ".repeat(5)).unwrap();
    let text = error(dir.file());
    assert!(text.contains("tasks.db") && text.contains("name a new one"), "{text}");
}

#[test]
fn a_schema_of_a_later_program_is_refused() {
    let dir = Dir::new();
    drop(dir.open());
    let later = "INSERT INTO callboard_migration (version, name) VALUES ('99990101000000', 'later')";
    dir.by_hand().batch_execute(later).unwrap();
    let error = Sqlite::open(&dir.file(), &OpenOptions::default()).unwrap_err();
    assert!(matches!(error, BackendError::SchemaTooNew { .. }), "{error}");
}

#[test]
fn many_open_a_fresh_file_at_once() {
    let dir = Dir::new();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| dir.open().health().unwrap());
        }
    });
}

#[test]
fn the_place_of_a_deleted_task_is_not_given_out_again() {
    let dir = Dir::new();
    let board = dir.open();
    let first = push(vec![spec(1)], true);
    let id = first.insert[0].tasks[0].spec.task_id;
    assert_eq!(board.commit(&first).unwrap().inserted, [Inserted::Claimed { seq: 1 }]);
    let settle = vec![done(1, id, first.token, at(2))];
    board.commit(&Commit { settle, ..Commit::new(NodeId::new(at(2)), at(2)) }).unwrap();
    let edit = Edit {
        selection: crate::backend::Selection::Ids(vec![id]),
        action: crate::backend::EditAction::Delete,
        now: at(2),
        limit: 1,
        after: None,
    };
    assert_eq!(board.edit(&edit).unwrap().changed, [id]);
    assert_eq!(board.commit(&push(vec![spec(3)], true)).unwrap().inserted, [Inserted::Claimed { seq: 2 }]);
}

#[test]
fn a_batch_with_a_surprise_is_done_row_by_row() {
    let dir = Dir::new();
    let board = dir.open();
    let known = spec(1);
    let first = push(vec![known.clone()], true);
    board.commit(&first).unwrap();
    let mut second = push(vec![spec(2), known.clone(), spec(2)], true);
    let settle = done(1, known.task_id, first.token, at(2));
    let stale = done(1, known.task_id, ClaimToken::from_i64(5), at(2));
    second.settle = vec![stale, settle.clone(), settle];
    let receipt = board.commit(&second).unwrap();
    assert_eq!(receipt.settled, [Settled::Fenced, Settled::Accepted, Settled::Fenced]);
    let duplicate = Inserted::Duplicate { task_id: known.task_id, state: TaskState::Completed };
    assert_eq!(receipt.inserted, [Inserted::Claimed { seq: 2 }, duplicate, Inserted::Claimed { seq: 3 }]);
    assert_eq!(board.executions(known.task_id).unwrap().len(), 1);
}

#[test]
fn an_unreadable_row_goes_to_dead_and_the_next_is_claimed() {
    for (damage, reason) in [
        ("params = 'no json'", "params are no JSON"),
        ("params = x'ff00'", "params are no JSON"),
        ("retry = 'nonsense'", r#"unreadable retry policy "nonsense""#),
        ("task_id = 'x'", "is no task id"),
    ] {
        let dir = Dir::new();
        let board = dir.open();
        board.commit(&push(vec![spec(1), spec(1)], false)).unwrap();
        dir.by_hand().batch_execute(&format!("UPDATE task_queue SET {damage} WHERE seq = 1")).unwrap();
        let claimed = board.commit(&claim(1, at(2))).unwrap().claimed.remove(0);
        assert_eq!(claimed.iter().map(|task| task.seq).collect::<Vec<_>>(), [2], "{damage}");
        let shown = board.list(&TaskFilter::default(), TaskOrder::OldestFirst, None, 10).unwrap().tasks;
        assert_eq!(shown[0].state, TaskState::Dead);
        assert!(shown[0].last_error.as_ref().unwrap().contains(reason), "{:?}", shown[0].last_error);
    }
}

#[test]
fn a_state_that_is_none_is_shown_as_dead() {
    let dir = Dir::new();
    let board = dir.open();
    board.commit(&push(vec![spec(1)], false)).unwrap();
    dir.by_hand().batch_execute("UPDATE task_queue SET state = 'asleep', retry = '', tags = '{'").unwrap();
    let page = board.list(&TaskFilter::default(), TaskOrder::NewestFirst, None, 10).unwrap();
    assert_eq!(page.tasks[0].state, TaskState::Dead);
    let tagged = TaskFilter { tag: Some("x".into()), ..TaskFilter::default() };
    assert!(board.list(&tagged, TaskOrder::NewestFirst, None, 10).unwrap().tasks.is_empty());
}

#[test]
fn one_task_at_a_time_is_claimed_on_its_last_chance() {
    let dir = Dir::new();
    let board = dir.open();
    board.commit(&push((0..5).map(|_| spec(1)).collect(), false)).unwrap();
    dir.by_hand().batch_execute("UPDATE task_queue SET crash_count = 2 WHERE seq <= 3").unwrap();
    let take = claim(3, at(2));
    let seqs = |receipt: Receipt| receipt.claimed[0].iter().map(|task| task.seq).collect::<Vec<_>>();
    assert_eq!(seqs(board.commit(&take).unwrap()), [1, 4, 5]);
    let again = Commit { token: ClaimToken::from_i64(7), ..take };
    assert_eq!(seqs(board.commit(&again).unwrap()), [0_i64; 0]);
    assert_eq!(seqs(board.commit(&claim(3, at(2))).unwrap()), [2], "another node");
}

#[test]
fn commits_and_sweeps_that_find_nothing_write_nothing() {
    let dir = Dir::new();
    let board = dir.open();
    let mut other = dir.by_hand();
    let mut version = || {
        #[derive(diesel::QueryableByName)]
        struct Version {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            data_version: i64,
        }
        diesel::sql_query("PRAGMA data_version").get_result::<Version>(&mut other).unwrap().data_version
    };
    let before = version();
    board.commit(&claim(5, at(1))).unwrap();
    let sweep =
        Sweep { now: at(1), node: NodeId::new(at(1)), rescue: true, crash_limit: 3, limit: 9, awaited: vec![] };
    board.sweep(&sweep).unwrap();
    assert_eq!(board.outdated(&[], at(1), 9).unwrap(), []);
    board.forget_schedules(at(1), None).unwrap();
    assert_eq!(version(), before);
    board.commit(&push(vec![spec(1)], false)).unwrap();
    assert_ne!(version(), before);
}

#[test]
fn watching_reports_the_writes_of_others_and_not_its_own() {
    let dir = Dir::new();
    let (board, other) = (dir.open(), dir.open());
    assert!(!board.watch(Duration::ZERO).unwrap());
    board.commit(&push(vec![spec(1)], false)).unwrap();
    assert!(!board.watch(Duration::ZERO).unwrap(), "its own");
    other.commit(&push(vec![spec(2)], false)).unwrap();
    assert!(board.watch(Duration::from_secs(5)).unwrap());
    assert!(!board.watch(Duration::ZERO).unwrap(), "once");
    other.commit(&push(vec![spec(3)], false)).unwrap();
    board.commit(&push(vec![spec(4)], false)).unwrap();
    assert!(board.watch(Duration::ZERO).unwrap(), "also when its own write came after");
}

#[test]
fn keep_latest_keeps_one_behind_the_running_one() {
    let dir = Dir::new();
    let board = dir.open();
    let keyed = |seconds, params: &str| {
        let unique = Some(Unique::key("a b").mode(UniqueMode::KeepLatest));
        TaskSpec {
            params: params.into(),
            extras: Some(Box::new(Extras { unique, ..Extras::default() })),
            ..spec(seconds)
        }
    };
    let first = keyed(1, "1");
    board.commit(&push(vec![first.clone()], false)).unwrap();
    let taken = claim(1, at(2));
    assert_eq!(*board.commit(&taken).unwrap().claimed[0][0].spec, first);
    let second = keyed(3, "2");
    let waits = [Inserted::New { state: TaskState::Waiting }];
    assert_eq!(board.commit(&push(vec![second.clone()], false)).unwrap().inserted, waits);
    let replaced = [Inserted::Replaced { task_id: second.task_id, state: TaskState::Waiting }];
    assert_eq!(board.commit(&push(vec![keyed(4, "3")], false)).unwrap().inserted, replaced);
    let waiting = board.get(second.task_id).unwrap().unwrap();
    assert_eq!((waiting.unique_key.as_deref(), &*waiting.params), (Some("a b"), "3"));
    assert_eq!(waiting.parent_id, Some(first.task_id));
    let settle = Commit { settle: vec![done(1, first.task_id, taken.token, at(5))], ..claim(1, at(5)) };
    let receipt = board.commit(&settle).unwrap();
    assert!(receipt.freed_waiting);
    assert_eq!(receipt.claimed[0][0].seq, 2);
    assert_eq!(board.get(first.task_id).unwrap().unwrap().unique_key, None);
}

#[test]
fn a_busy_database_is_transient_and_names_the_operation() {
    let dir = Dir::new();
    let options = OpenOptions { busy_timeout: Duration::from_millis(50), ..OpenOptions::default() };
    let board = Sqlite::open(&dir.file(), &options).unwrap();
    let mut other = dir.by_hand();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let error = board.commit(&push(vec![spec(1)], false)).unwrap_err();
    assert!(error.is_transient() && error.to_string().starts_with("commit: "), "{error}");
    other.batch_execute("ROLLBACK").unwrap();
    board.commit(&push(vec![spec(1)], false)).unwrap();
}

#[test]
fn a_connection_whose_thread_panicked_is_made_anew() {
    let dir = Dir::new();
    let board = dir.open();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        board.0.write("test", |conn| -> Result<(), Abort> {
            conn.batch_execute("INSERT INTO queue VALUES ('half', 0, NULL)").unwrap();
            panic!("on purpose")
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(board.queues().unwrap(), []);
    board.commit(&push(vec![spec(1)], false)).unwrap();
}

/// Other users must not be able to read the params of tasks.
#[cfg(unix)]
#[test]
fn only_its_owner_can_read_a_database() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new();
    let sqlite = dir.open();
    sqlite.health().unwrap();
    for end in ["", "-wal", "-shm", "-turn"] {
        let mode = std::fs::metadata(format!("{}{end}", dir.file())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{end}");
    }
}

/// Uses `/sys`, so that it also holds for root, which may write to any directory on a disk.
#[cfg(target_os = "linux")]
#[test]
fn a_new_file_that_cannot_be_made_says_why_and_what_next() {
    let error = Sqlite::open("/sys/tasks.db", &OpenOptions::default()).unwrap_err().to_string();
    assert!(
        error.contains("the file does not exist and cannot be made (") && error.contains("directory /sys"),
        "{error}"
    );
}

#[test]
fn options_are_refused_and_make_no_file() {
    let dir = Dir::new();
    let file = format!("{}?mode=ro", dir.file());
    let error = Sqlite::open(&file, &OpenOptions::default()).unwrap_err().to_string();
    assert!(error.contains("takes no options"), "{error}");
    assert!(!std::path::Path::new(&file).exists());
}
