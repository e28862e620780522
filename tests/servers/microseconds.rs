//! Times are read back to the microsecond, by the library and by other clients.

use std::sync::Arc;
use std::time::Duration;

use callboard::backend::{ExecutionEnd, InsertGroup, OpenOptions, Settled, Settlement, open};
use callboard::testing::World;
use callboard::{ExecutionStatus, NewTask, TaskId, TaskState, Timestamp};
use serde_json::json;

use crate::place::{Place, on_both};

on_both!(times_are_kept_to_the_microsecond, no_time_makes_a_view_unreadable);

const YEAR_9999: i64 = 253_402_300_799_999_999;

/// Odd microseconds: in the present, at the edges of a second, before 1970, and in a future where a `double` cannot
/// tell neighbouring microseconds apart.
const MOMENTS: [i64; 10] = [
    1_763_818_800_123_457,
    1_763_818_800_000_001,
    1_763_818_800_999_999,
    1,
    999_999,
    -1,
    -86_400_000_001,
    9_007_199_254_740_993,
    60_000_000_000_000_001,
    YEAR_9999,
];

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

/// Stores a task. All its times are `moment` or close to it.
fn store(world: &World, state: TaskState, moment: i64) -> TaskId {
    let mut insertion = world.insertion(NewTask::new("work", &json!({})).run_at(at(moment)));
    let spec = Arc::make_mut(&mut insertion.spec);
    (spec.run_at, spec.created_at) = (at(moment), at(moment));
    spec.extras.get_or_insert_default().expires_at = Some(at(moment).max(at(i64::MIN + 9)));
    let task_id = spec.task_id;
    (insertion.state, insertion.claim) = (state, state == TaskState::Pending);
    let mut commit = world.blank();
    commit.now = at(moment);
    commit.insert = vec![InsertGroup { tasks: vec![insertion] }];
    world.commit(&commit);
    task_id
}

/// Ends the run of a task a microsecond after `moment`.
fn finish(world: &World, task_id: TaskId, moment: i64) {
    let record = world.record(task_id);
    let token = world.backend.executions(task_id).unwrap()[0].execution_id;
    let mut commit = world.blank();
    commit.now = at(moment + 1);
    let end = ExecutionEnd {
        attempt: 1,
        status: ExecutionStatus::Success,
        started_at: at(moment),
        finished_at: at(moment + 1),
        result: None,
        error: None,
    };
    commit.settle = vec![Settlement {
        seq: record.seq,
        task_id,
        token: callboard::ClaimToken::from_i64(token),
        state: TaskState::Completed,
        run_at: record.run_at,
        attempt: 1,
        execution: Some(end),
    }];
    assert_eq!(world.commit(&commit).settled, [Settled::Accepted]);
}

async fn times_are_kept_to_the_microsecond<P: Place>() {
    let place = P::new();
    let world = World::on(open(&place.url(), &OpenOptions::default()).unwrap());
    let text = if P::IS_POSTGRES { "text" } else { "char(40)" };
    for moment in MOMENTS {
        let later = store(&world, TaskState::Scheduled, moment);
        let record = world.record(later);
        assert_eq!(record.expires_at, Some(at(moment)));
        assert_eq!((record.run_at, record.created_at, record.updated_at), (at(moment), at(moment), at(moment)));
        let ran = store(&world, TaskState::Pending, moment);
        assert_eq!(world.record(ran).started_at, Some(at(moment)));
        finish(&world, ran, moment);
        let record = world.record(ran);
        assert_eq!((record.created_at, record.run_at), (at(moment), at(moment)));
        assert_eq!((record.finished_at, record.updated_at), (Some(at(moment + 1)), at(moment + 1)));
        let execution = &world.backend.executions(ran).unwrap()[0];
        assert_eq!((execution.started_at, execution.finished_at), (at(moment), Some(at(moment + 1))));
        assert_eq!(execution.duration(), Some(Duration::from_micros(1)));
        // The same times, as a different client sees them.
        for (table, column, expected) in [
            ("task_queue", "run_at", moment),
            ("task_queue", "created_at", moment),
            ("task_queue", "expires_at", moment),
            ("task_queue", "finished_at", moment + 1),
            ("task_queue", "updated_at", moment + 1),
            ("task_execution", "started_at", moment),
            ("task_execution", "finished_at", moment + 1),
        ] {
            let stored = |table: &str| {
                let id = format!("WHERE task_id = '{ran}'");
                place.text(&format!("SELECT cast({column} AS {text}) AS text FROM {table} {id}"))
            };
            assert_eq!(stored(table), expected.to_string(), "{table}.{column}");
            if expected <= YEAR_9999 {
                assert_eq!(stored(&format!("{table}_view")), at(expected).to_string(), "{table}_view.{column}");
            }
        }
    }
}

/// A time outside the server's calendar must not hide the other rows of a view.
async fn no_time_makes_a_view_unreadable<P: Place>() {
    let place = P::new();
    let world = World::on(open(&place.url(), &OpenOptions::default()).unwrap());
    let moments = [i64::MIN, i64::MIN / 2, -62_135_596_800_000_001, YEAR_9999 + 1, i64::MAX / 2, i64::MAX];
    for moment in moments {
        let task_id = store(&world, TaskState::Scheduled, moment);
        assert_eq!(world.record(task_id).run_at, at(moment));
    }
    let rows = place.texts("SELECT coalesce(run_at, 'out of range') AS text FROM task_queue_view ORDER BY seq");
    println!("{rows:?}");
    // MySQL itself has a year 0, and MariaDB does not.
    assert!(rows.len() == 6 && rows.iter().all(|row| row == "out of range" || row.starts_with("0000-")), "{rows:?}");
}
