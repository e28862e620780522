//! Operations that a node performs by itself read only a few rows, independent of the number of tasks.

use std::time::Duration;

use callboard::backend::{Fired, OpenOptions, Opened, Retention, Saved, SkippedTime, Sweep, Turn, open};
use callboard::testing::{World, at, schedule};
use callboard::{FiringStatus, Limit, NewTask, ScheduleId, TaskState};
use diesel::Connection;
use diesel::connection::SimpleConnection;
use serde_json::json;

use crate::own::Own;
use crate::place::Place;
use crate::servers::{Database, Schema};
use crate::waiting::until;

/// Tasks in the table. A statement that scans a part of them reads tens of thousands of rows.
const TASKS: u32 = 200_000;
/// Schedules in the table.
const SCHEDULES: u32 = 20_000;
/// Most rows that an operation may read: its own rows and the rows read to open the storage.
const FEW: u64 = 500;

#[test]
fn on_postgres() {
    let place = Schema::new();
    one_schedule(&place.url());
    for sql in fill(|rows| format!("generate_series(1, {rows}) AS s(n)"), "gen_random_uuid()::text") {
        place.execute(&sql);
    }
    let name = place.name().to_owned();
    // A session reports its reads only when it ends.
    let url = format!("{}&application_name={name}", place.url());
    every_operation_reads_a_few(&url, FEW, || {
        let sessions =
            format!("SELECT count(*)::text AS text FROM pg_stat_activity WHERE application_name = '{name}'");
        until("the sessions have ended", || (place.text(&sessions) == "0").then_some(()));
        let read = place.text(&format!(
            "SELECT (coalesce((SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE schemaname = '{name}'), 0)
            + coalesce((SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = '{name}'), 0))::text AS text"
        ));
        read.parse().unwrap()
    });
}

/// Runs on a server of its own, because the server counts the reads of all its sessions together.
#[test]
fn on_mysql() {
    let own = Own::new::<Database>();
    let place = Database::at(own.url());
    one_schedule(&place.url());
    for sql in fill(|rows| format!("(SELECT seq AS n FROM seq_1_to_{rows}) AS s"), "uuid()") {
        place.execute(&sql);
    }
    every_operation_reads_a_few(&place.url(), FEW, || {
        let counters = "SELECT CAST(CAST(sum(variable_value) AS SIGNED) AS CHAR) AS text
            FROM information_schema.global_status WHERE variable_name LIKE 'HANDLER_READ%'";
        place.text(counters).parse().unwrap()
    });
}

/// SQLite does not count rows, so the test counts the bytes that this thread reads. Each operation begins without a
/// cache, so it reads its data from the file. The smallest of the indexes in question has more than 600 KB.
#[cfg(target_os = "linux")]
#[test]
fn on_sqlite() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("tasks.db");
    let url = format!("sqlite:{}", path.display());
    one_schedule(&url);
    let numbers = |rows| {
        format!(
            "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows}) SELECT n FROM s) AS s"
        )
    };
    let mut conn = diesel::SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    for sql in fill(numbers, "lower(hex(randomblob(16)))") {
        conn.batch_execute(&sql).unwrap();
    }
    conn.batch_execute("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(conn);
    every_operation_reads_a_few(&url, 512 << 10, || {
        let counters = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        let bytes = counters.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
        bytes.parse().unwrap()
    });
}

/// Stores the schedule from which `fill` makes copies.
fn one_schedule(url: &str) {
    let backend = open(url, &OpenOptions::default()).unwrap();
    backend.save_schedule(&schedule("first"), None).unwrap();
}

/// Half of the tasks are completed, and a quarter are scheduled for the future. The last quarter is pending in a queue
/// that no node serves, and expires in the future. The schedules are due one after the other.
fn fill(numbers: impl Fn(u32) -> String, id: &str) -> [String; 2] {
    let (past, ahead) = (at(0).as_micros() - 1_000_000, at(1_000_000).as_micros());
    let tasks = format!(
        "INSERT INTO task_queue (task_id, queue, type, params, state, priority, run_at, max_attempts, retry, created_at,
            updated_at, finished_at, expires_at)
        SELECT {id}, 'other', 'work', '{{}}',
            CASE WHEN n % 2 = 0 THEN 'completed' WHEN n % 4 = 1 THEN 'scheduled' ELSE 'pending' END,
            0, CASE WHEN n % 4 = 1 THEN {ahead} + n ELSE {past} END, 3, '{{}}', {past}, {past},
            CASE WHEN n % 2 = 0 THEN {past} + n END, CASE WHEN n % 4 = 3 THEN {ahead} + n END
        FROM {}",
        numbers(TASKS)
    );
    let same =
        "type, params, trigger_kind, trigger_expr, timezone, queue, priority, max_attempts, retry, options, coalesce,
        max_instances, overlap_policy, status, cursor_at, failures_from, created_at, updated_at, version";
    let schedules = format!(
        "INSERT INTO scheduler_task (schedule_id, name, next_run_at, {same})
        SELECT {id}, {id}, next_run_at + n, {same} FROM scheduler_task, {} WHERE name = 'first'",
        numbers(SCHEDULES)
    );
    [tasks, schedules]
}

/// Opens the storage for each operation, and closes it again.
fn every_operation_reads_a_few(url: &str, few: u64, read: impl Fn() -> u64) {
    let mut walked = Vec::new();
    for (name, times, operation) in operations() {
        let before = read();
        let opened: Opened = open(url, &OpenOptions::default()).unwrap();
        operation(&World::on(opened));
        let amount = read() - before;
        println!("{name}: {amount}");
        if amount > times * few {
            walked.push((name, amount));
        }
    }
    assert!(walked.is_empty(), "these read far more than they need: {walked:?}");
}

/// Saves a schedule again, and returns its id and its new turn.
fn changed(w: &World) -> (ScheduleId, i64) {
    let schedule_id = w.backend.schedule_named("first").unwrap().unwrap();
    let record = w.backend.schedules(&[schedule_id]).unwrap().pop().unwrap().record;
    match w.backend.save_schedule(&record, Some(record.turn)).unwrap() {
        Saved::Stored { turn } => (schedule_id, turn),
        other => panic!("{other:?}"),
    }
}

type Operation = fn(&World);

/// All operations that a node performs by itself. The number says how many times the usual bound an operation may read.
fn operations() -> Vec<(&'static str, u64, Operation)> {
    fn task() -> NewTask {
        NewTask::new("work", &json!({}))
    }
    vec![
        ("opening and a heartbeat", 1, |_| {}),
        ("a look that finds nothing", 1, |w| {
            let awaited = vec![callboard::TaskId::new(at(0)); 10];
            let report = w.sweep_with(&Sweep { rescue: true, awaited, ..w.upkeep() });
            assert_eq!(report.next_due, Some(at(1_000_000) + Duration::from_micros(1)));
        }),
        ("promotion", 1, |w| {
            w.push(task().run_at(at(10)));
            w.go_to(11);
            assert_eq!(w.sweep().promoted.len(), 1);
            w.complete(&w.claim_one());
        }),
        ("expiry", 1, |w| {
            let task_id = w.push(task().expires_in(Duration::from_secs(5)));
            w.go_to(6);
            assert_eq!(w.sweep().expired, [task_id]);
        }),
        ("rescue", 1, |w| {
            let dead = w.mortal(1);
            dead.push_claimed(task());
            w.go_to(2);
            assert_eq!(w.rescue().rescued.len(), 1);
            w.complete(&w.claim_one());
        }),
        ("a claim that finds nothing", 1, |w| assert_eq!(w.claim_ids(10), [])),
        ("a claim under a limit", 1, |w| {
            w.set_limit(&Limit::of_queue("default").running(1).rate(10, Duration::from_secs(1)));
            w.push(task());
            w.complete(&w.claim_one());
            w.backend.remove_limit(callboard::LimitScope::Queue, "default").unwrap();
        }),
        ("a push and its end", 1, |w| w.complete(&w.push_claimed(task()))),
        ("what is first in line", 1, |w| {
            let line = w.backend.in_line(None, 100, 100).unwrap();
            assert_eq!(line.iter().map(|line| (line.tasks, line.more)).collect::<Vec<_>>(), [(100, true)]);
        }),
        // Reads up to 1,000 schedules, in the index and in the table.
        ("schedules whose cursor lies ahead", 5, |w| {
            let now = at(0) - Duration::from_secs(1);
            assert_eq!(w.backend.schedules_ahead(now, 10).unwrap().len(), 10);
        }),
        ("a due schedule and its firing", 1, |w| {
            let (schedule_id, turn) = changed(w);
            let state = w.backend.schedules(&[schedule_id]).unwrap().pop().unwrap();
            let passed =
                SkippedTime { nominal_at: at(10), status: FiringStatus::Missed, times: 1, reason: "too late".into() };
            let fired = w.backend.fire(&[Turn {
                schedule_id,
                turn,
                now: w.now(),
                node: w.node,
                status: state.record.status,
                reason: None,
                paused_until: None,
                cursor: at(10),
                next_run_at: Some(at(20)),
                runs: Vec::new(),
                passed: vec![passed],
                cancel: Vec::new(),
                keep_firings: 10,
                keep_runs: 10,
            }]);
            assert_eq!(fired.unwrap(), [Fired::Done(Vec::new())]);
            assert_eq!(w.backend.firings(schedule_id, None, 10).unwrap().len(), 1);
        }),
        ("settings", 1, |w| {
            w.backend.queues().unwrap();
            w.backend.limits().unwrap();
            w.backend.nodes().unwrap();
            w.backend.health().unwrap();
            w.backend.time().unwrap();
        }),
        ("changes of schedules", 1, |w| {
            let version = w.backend.schedule_changes(1).unwrap().version;
            w.backend.schedule_changes(version).unwrap();
            w.backend.schedule_changes(version - 1).unwrap();
        }),
        ("schedules that are over", 1, |w| w.backend.forget_schedules(at(0), Some(at(0))).unwrap()),
        ("history that is too old", 1, |w| {
            let before = Some(at(0) - Duration::from_secs(10));
            let rule = |state| Retention { state, finished_before: before, keep: None };
            let rules: Vec<Retention> = TaskState::ALL.iter().map(|state| rule(*state)).collect();
            assert_eq!(w.backend.outdated(&rules, w.now(), 100).unwrap().len(), 0);
        }),
        ("pruning", 1, |w| {
            let rule = Retention { state: TaskState::Completed, finished_before: Some(at(0)), keep: None };
            let found = w.backend.outdated(&[rule], w.now(), 10).unwrap();
            assert_eq!(w.backend.prune(&found).unwrap().len(), 10);
        }),
        ("the watch", 1, |w| {
            w.backend.watch(Duration::from_millis(1)).unwrap();
        }),
        ("giving back", 1, |w| assert_eq!(w.release(&[], true), 0)),
    ]
}
