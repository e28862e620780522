//! The locks that claims take, the locks that claims wait for, and the wake-ups that tell other nodes of claimable
//! tasks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use callboard::backend::{BackendError, Commit, InsertGroup, Insertion, OpenOptions, Opened, open};
use callboard::testing::World;
use callboard::testing::at;
use callboard::{Board, Limit, NewTask, Outcome, TaskState, Unique, UniqueMode};
use diesel::connection::SimpleConnection;
use serde_json::json;

use crate::place::{Place, on_both};
use crate::waiting::{soon, until};

on_both!(
    a_claim_locks_what_it_takes,
    a_node_gives_back_what_it_has_beside_locked_tasks_of_others,
    an_end_passes_by_tasks_that_wait_for_others,
    a_task_that_moves_down_the_line_meanwhile_is_claimed_once,
    a_sweep_is_told_to_others,
    conflicts_are_counted,
);

fn task() -> NewTask {
    NewTask::new("work", &json!({}))
}

fn opened<P: Place>(place: &P) -> Opened {
    open(&place.url(), &OpenOptions::default()).unwrap()
}

/// Blocks each statement that makes a task `running`, until the returned connection is dropped.
fn stop_claims<P: Place>(place: &P) -> P::Conn {
    let mut holder = place.by_hand();
    let name = place.name();
    if P::IS_POSTGRES {
        holder.batch_execute(&format!("SELECT pg_advisory_lock(hashtext('{name}'))")).unwrap();
        place.execute(&format!(
            "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock(hashtext(''{name}'')); RETURN NEW; END';
            CREATE TRIGGER stop BEFORE UPDATE ON task_queue FOR EACH ROW WHEN (NEW.state = 'running')
            EXECUTE FUNCTION stop()"
        ));
    } else {
        holder.batch_execute(&format!("SELECT GET_LOCK('{name}', 0)")).unwrap();
        place.execute(&format!(
            "CREATE TRIGGER stop BEFORE UPDATE ON task_queue FOR EACH ROW
            SET @stop = IF(NEW.state = 'running', GET_LOCK('{name}', 20) + RELEASE_LOCK('{name}'), 0)"
        ));
    }
    holder
}

/// Number of sessions that `stop_claims` blocks, as text.
fn stopped<P: Place>(place: &P) -> String {
    let name = place.name();
    if P::IS_POSTGRES {
        return place.text(&format!(
            "SELECT count(*)::text AS text FROM pg_locks
            WHERE locktype = 'advisory' AND NOT granted AND objid = hashtext('{name}')::bigint & 4294967295"
        ));
    }
    place.text(
        "SELECT CAST(count(*) AS CHAR) AS text FROM information_schema.processlist
        WHERE state = 'User lock' AND db = DATABASE()",
    )
}

/// If a claim locked one extra row, other nodes would skip that row until the commit.
async fn a_claim_locks_what_it_takes<P: Place>() {
    let place = P::new();
    let world = World::on(opened(&place));
    let all = world.push_all((0..3).map(|_| task()));
    let holder = stop_claims(&place);
    // On a busy machine the claim may wait longer than the lock timeout of a session. It then fails, and the thread
    // claims again.
    let claiming = std::thread::spawn(move || {
        let claim = || catch_unwind(AssertUnwindSafe(|| world.claim_ids(2)));
        std::iter::repeat_with(claim).find_map(Result::ok).unwrap()
    });
    until("the claim has its rows", || (stopped(&place) == "1").then_some(()));
    let free = "SELECT task_id AS text FROM task_queue WHERE state = 'pending' ORDER BY seq FOR UPDATE SKIP LOCKED";
    assert_eq!(place.texts(free), [all[2].to_string()]);
    drop(holder);
    assert_eq!(claiming.join().unwrap(), all[..2]);
}

/// Otherwise a frozen process would keep all other processes from starting.
async fn a_node_gives_back_what_it_has_beside_locked_tasks_of_others<P: Place>() {
    let place = P::new();
    let world = World::on(opened(&place));
    let other = world.other_node();
    let all = world.push_all((0..3).map(|_| task()));
    assert_eq!(other.claim_ids(1), all[..1]);
    assert_eq!(world.claim_ids(1), all[1..2]);
    assert_eq!(other.claim_ids(1), all[2..]);
    let mut frozen = place.by_hand();
    let (first, last) = (all[0], all[2]);
    frozen
        .batch_execute(&format!(
            "BEGIN; SELECT seq FROM task_queue WHERE task_id IN ('{first}', '{last}') FOR UPDATE"
        ))
        .unwrap();
    let asked = Instant::now();
    assert_eq!(world.release(&[], false), 1);
    // Waiting for the locks would take longer than this.
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert_eq!(world.state(all[1]), TaskState::Pending);
    drop(frozen);
    assert_eq!(world.state(first), TaskState::Running);
}

/// The end of a run releases the tasks that wait for it. It does not look at tasks that wait for other runs.
async fn an_end_passes_by_tasks_that_wait_for_others<P: Place>() {
    let place = P::new();
    let world = World::on(opened(&place));
    let keyed = || task().unique(Unique::key("k").mode(UniqueMode::KeepLatest));
    let first = world.push(keyed());
    assert_eq!(world.claim_ids(1), [first]);
    let waiting = world.push(keyed());
    assert_eq!(world.state(waiting), TaskState::Waiting);
    world.push(task());
    let claimed = world.claim_one();
    let mut frozen = place.by_hand();
    frozen
        .batch_execute(&format!("BEGIN; SELECT seq FROM task_queue WHERE task_id = '{waiting}' FOR UPDATE"))
        .unwrap();
    let asked = Instant::now();
    world.complete(&claimed);
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
}

/// A claim under limits reads the pending tasks in order and without locks. So it meets a task that moves meanwhile at
/// both of its places.
async fn a_task_that_moves_down_the_line_meanwhile_is_claimed_once<P: Place>() {
    let place = P::new();
    let world = World::on(opened(&place));
    world.set_limit(&Limit::of_key("narrow").running(1));
    let narrow = || task().limit_key("narrow");
    let running = world.push(narrow());
    assert_eq!(world.claim_ids(1), [running]);
    let moved = world.push(task());
    // These tasks fill the first page and may not start, so the claim reads the next page.
    world.push_all([narrow(), narrow()]);
    let mut holder = place.by_hand();
    let own = if P::IS_POSTGRES { "SELECT pg_backend_pid()::text AS text" } else { "SELECT '' AS text" };
    let pid = P::rows(&mut holder, own).unwrap().remove(0);
    holder.batch_execute("BEGIN").unwrap();
    P::rows(&mut holder, "SELECT name AS text FROM task_limit FOR UPDATE").unwrap();
    let claiming = std::thread::spawn(move || world.claim_ids(2));
    let waits = if P::IS_POSTGRES {
        format!("SELECT count(*)::text AS text FROM pg_stat_activity WHERE {pid} = ANY (pg_blocking_pids(pid))")
    } else {
        // This reads the process list, because InnoDB does not refresh its list of transactions while that list is read
        // more than ten times a second.
        "SELECT CAST(count(*) AS CHAR) AS text FROM information_schema.processlist
        WHERE db = DATABASE() AND id <> CONNECTION_ID() AND info LIKE '%task_limit%FOR UPDATE%'"
            .into()
    };
    until("the claim has read the line", || (place.text(&waits) == "1").then_some(()));
    place.execute(&format!("UPDATE task_queue SET priority = 5 WHERE task_id = '{moved}'"));
    holder.batch_execute("COMMIT").unwrap();
    assert_eq!(claiming.join().unwrap(), [moved]);
}

async fn a_sweep_is_told_to_others<P: Place>() {
    let place = P::new();
    let (world, other) = (World::on(opened(&place)), opened(&place));
    let task_id = world.push(task().run_at(at(10)));
    // Consume the wake-ups of the push.
    while other.watch(Duration::from_millis(200)).unwrap() {}
    world.go_to(11);
    assert_eq!(world.sweep().promoted.len(), 1);
    let asked = Instant::now();
    assert!(other.watch(Duration::from_secs(4)).unwrap(), "nobody was told");
    println!("told after {:?}", asked.elapsed());
    assert_eq!(world.state(task_id), TaskState::Pending);
}

/// A trigger reports a deadlock to the very first push.
async fn conflicts_are_counted<P: Place>() {
    let place = P::new();
    let board = Board::builder().url(place.url()).handler("work", |_, _| async { Ok(Outcome::done()) });
    let board = board.start().await.unwrap();
    assert_eq!(board.health().await.storage_conflicts, 0);
    let name = place.name();
    // Rolling back the transaction does not reset the counter (a sequence or `AUTO_INCREMENT`).
    place.execute(&if P::IS_POSTGRES {
        format!(
            "CREATE SEQUENCE once; CREATE FUNCTION once() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN IF nextval(''{name}.once'') = 1 THEN RAISE EXCEPTION ''deadlock detected'' USING ERRCODE = ''40P01'';
            END IF; RETURN NEW; END';
            CREATE TRIGGER once BEFORE INSERT ON task_queue FOR EACH ROW EXECUTE FUNCTION once()"
        )
    } else {
        "CREATE TABLE once (n INT AUTO_INCREMENT PRIMARY KEY);
        CREATE TRIGGER once BEFORE INSERT ON task_queue FOR EACH ROW BEGIN
            INSERT INTO once VALUES (NULL);
            IF LAST_INSERT_ID() = 1 THEN
                SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock found when trying to get lock';
            END IF;
        END"
        .into()
    });
    let task_id = board.push(task()).await.unwrap().task_id;
    assert_eq!(soon("its end", board.wait(task_id)).await.unwrap().state, TaskState::Completed);
    let health = board.health().await;
    assert_eq!((health.storage_conflicts, health.storage_retries), (1, 0));
    soon("the stop", board.stop()).await;
}

/// A push in a statement of its own may be stored although a later statement fails. If it were reported as refused, the
/// task would count as running on this node, and no worker would run it.
#[test]
fn a_push_whose_place_is_not_read_is_of_unknown_outcome_on_mysql() {
    let place = crate::servers::Database::new();
    let world = World::on(opened(&place));
    // The next statement reads the place of the row. After this trigger the session returns no rows any more.
    place.execute("CREATE TRIGGER mute AFTER INSERT ON task_queue FOR EACH ROW SET SESSION sql_select_limit = 0");
    let insertion = Insertion { claim: true, ..world.insertion(task()) };
    let task_id = insertion.spec.task_id;
    let insert = vec![InsertGroup { tasks: vec![insertion] }];
    let outcome = world.backend.commit(&Commit { insert, ..world.blank() });
    assert!(matches!(outcome, Err(BackendError::Unknown { .. })), "{outcome:?}");
    place.execute("DROP TRIGGER mute");
    assert_eq!(world.state(task_id), TaskState::Running);
}
