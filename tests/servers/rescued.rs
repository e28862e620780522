//! A rescue takes tasks of dead nodes only, even if a row or a lease changes between its read and its lock.

use callboard::backend::{OpenOptions, Opened, open};
use callboard::testing::World;
use callboard::{NewTask, NodeId, TaskState};
use diesel::connection::SimpleConnection;
use serde_json::json;

use crate::place::Place;
use crate::servers::Schema;
use crate::waiting::until;

fn opened(place: &Schema) -> Opened {
    open(&place.url(), &OpenOptions::default()).unwrap()
}

/// Blocks each statement that reads the nodes of running tasks, after its snapshot is taken. It stays blocked until the
/// returned connection is dropped.
fn stop_looks(place: &Schema) -> diesel::PgConnection {
    let mut holder = place.by_hand();
    let name = place.name();
    holder.batch_execute(&format!("SELECT pg_advisory_lock(hashtext('{name}'))")).unwrap();
    place.execute(&format!(
        "ALTER TABLE node RENAME TO node_rows;
        CREATE FUNCTION nodes() RETURNS SETOF node_rows LANGUAGE plpgsql STABLE AS
        'BEGIN
            IF current_query() LIKE ''%running%'' AND current_query() NOT LIKE ''%orphan%'' THEN
                PERFORM pg_advisory_xact_lock_shared(hashtext(''{name}''));
            END IF;
            RETURN QUERY SELECT * FROM node_rows;
        END';
        CREATE VIEW node AS SELECT * FROM nodes();
        CREATE RULE forget AS ON DELETE TO node DO INSTEAD DELETE FROM node_rows WHERE node_id = OLD.node_id"
    ));
    holder
}

fn stopped(place: &Schema) -> bool {
    let waiting = place.text(&format!(
        "SELECT count(*)::text AS text FROM pg_locks
        WHERE locktype = 'advisory' AND NOT granted AND objid = hashtext('{}')::bigint & 4294967295",
        place.name()
    ));
    waiting == "1"
}

/// Rescues on a separate connection. `meanwhile` runs after the rescue has seen the task of a dead node, and before it
/// locks that task.
fn rescued_beside(meanwhile: impl FnOnce(&Schema, NodeId, NodeId)) {
    let place = Schema::new();
    let world = World::on(opened(&place));
    let mortal = world.mortal(0);
    let task_id = mortal.push_claimed(NewTask::new("work", &json!({}))).spec.task_id;
    world.go_to(1);
    let rescuer = world.other_node();
    let gate = stop_looks(&place);
    let rescue = std::thread::spawn(move || rescuer.rescue());
    until("the rescuer has looked", || stopped(&place).then_some(()));
    meanwhile(&place, mortal.node, world.node);
    drop(gate);
    assert_eq!(rescue.join().unwrap().rescued, [], "a claim of a living node was taken");
    let record = world.record(task_id);
    assert_eq!((record.state, record.crash_count), (TaskState::Running, 1));
    assert_eq!(place.text("SELECT claim_token::text AS text FROM task_queue"), "77");
}

#[test]
fn a_fresh_claim_is_not_taken() {
    rescued_beside(|place, _, living| {
        place.execute(&format!("UPDATE task_queue SET node = '{living}', claim_token = 77"));
    });
}

/// The node was dead when the rescuer read its lease. Since then it has renewed its lease and claimed the task.
#[test]
fn a_claim_of_a_node_that_lives_again_is_not_taken() {
    rescued_beside(|place, dead, _| {
        place.execute(&format!(
            "UPDATE node_rows SET lease_until = {} WHERE node_id = '{dead}'; UPDATE task_queue SET claim_token = 77",
            i64::MAX
        ));
    });
}
