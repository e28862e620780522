//! The settings of a board's sessions, and the recovery of a lost session.

use std::collections::HashMap;

use callboard::backend::{OpenOptions, open};
use callboard::testing::World;
use callboard::{Limit, NewTask};
use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use serde_json::json;

use crate::boards::{pushes_within, pushes_within_after};
use crate::own::Own;
use crate::place::Place;
use crate::servers::{Database, Schema};
use crate::waiting::until;

/// A default isolation level that an administrator may have set for a role or a database.
const REPEATABLE: &str = "&options=-c%20default_transaction_isolation%3Drepeatable%5C%20read";

/// Pushes a task, and returns the settings that a trigger noted in the session that stored it.
fn noted<P: Place>(place: &P, url: &str, trigger: &str) -> HashMap<String, String> {
    let world = World::on(open(url, &OpenOptions::default()).unwrap());
    place.execute(trigger);
    world.push(NewTask::new("work", &json!({})));
    let lines = place.texts("SELECT concat(name, '=', value) AS text FROM noted");
    lines.iter().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

fn check(noted: &HashMap<String, String>, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(noted.get(*name).map(String::as_str), Some(*value), "{name} in {noted:?}");
    }
}

#[test]
fn postgres_is_told_its_settings() {
    for pooler in ["none", "transaction"] {
        let place = Schema::new();
        let url = place.url().replace("pooler=none", &format!("pooler={pooler}")) + REPEATABLE;
        let noted = noted(
            &place,
            &url,
            "CREATE TABLE noted (name TEXT, value TEXT);
            CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO noted
                SELECT name, current_setting(name) FROM unnest(ARRAY[''statement_timeout'', ''lock_timeout'',
                ''idle_in_transaction_session_timeout'', ''transaction_isolation'']) AS name; RETURN NEW; END';
            CREATE TRIGGER note AFTER INSERT ON task_queue FOR EACH ROW EXECUTE FUNCTION note()",
        );
        let expected = [
            ("statement_timeout", "30s"),
            ("lock_timeout", "500ms"),
            ("idle_in_transaction_session_timeout", "15s"),
            ("transaction_isolation", "read committed"),
        ];
        check(&noted, &expected);
    }
}

#[test]
fn mysql_is_told_its_settings() {
    let place = Database::new();
    let mariadb = place.text("SELECT VERSION() AS text").contains("MariaDB");
    let own = if mariadb {
        [("tx_isolation", "READ-COMMITTED"), ("max_statement_time", "30.000000"), ("idle_transaction_timeout", "15")]
    } else {
        [("transaction_isolation", "READ-COMMITTED"), ("max_execution_time", "30000"), ("wait_timeout", "30")]
    };
    let both = [
        ("innodb_lock_wait_timeout", "1"),
        ("lock_wait_timeout", "5"),
        ("wait_timeout", "30"),
        ("lc_messages", "en_US"),
        ("time_zone", "+00:00"),
    ];
    let expected: Vec<_> = own.into_iter().chain(both).collect();
    let rows: Vec<_> =
        expected.iter().map(|(name, _)| format!("SELECT '{name}', CAST(@@SESSION.{name} AS CHAR)")).collect();
    let trigger = format!(
        "CREATE TABLE noted (name TEXT, value TEXT); CREATE TRIGGER note AFTER INSERT ON task_queue FOR EACH ROW
        INSERT INTO noted {}",
        rows.join(" UNION ALL ")
    );
    check(&noted(&place, &place.url(), &trigger), &expected);
}

/// A claim that waited for a limit counts the tasks that started during the wait.
#[test]
fn another_isolation_level_by_default_lets_nobody_exceed_a_limit() {
    let place = Schema::new();
    let world = World::on(open(&(place.url() + REPEATABLE), &OpenOptions::default()).unwrap());
    world.set_limit(&Limit::of_queue("default").running(1));
    let all = world.push_all((0..2).map(|_| NewTask::new("work", &json!({}))));
    let mut holder = place.by_hand();
    let own = diesel::dsl::sql::<diesel::sql_types::Integer>("pg_backend_pid()");
    let pid: i32 = diesel::select(own).get_result(&mut holder).unwrap();
    holder.batch_execute("BEGIN; SELECT name FROM task_limit FOR UPDATE").unwrap();
    let claiming = std::thread::spawn(move || world.claim_ids(1));
    let waiting =
        format!("SELECT count(*)::text AS text FROM pg_stat_activity WHERE {pid} = ANY (pg_blocking_pids(pid))");
    until("the claim waits", || (place.text(&waiting) == "1").then_some(()));
    let starts = format!(
        "UPDATE task_queue SET state = 'running', node = 'other', claim_token = 1, started_at = 1
        WHERE task_id = '{}'; COMMIT",
        all[1]
    );
    holder.batch_execute(&starts).unwrap();
    assert_eq!(claiming.join().unwrap(), []);
}

/// The board replaces the connection that listens, and wake-ups arrive as quickly as before.
#[actix_rt::test]
async fn a_listener_that_was_killed_listens_again() {
    let place = Schema::new();
    let quick = std::time::Duration::from_millis(250);
    pushes_within(&place.url(), quick).await;
    let listening = format!(
        "SELECT pid::text AS text FROM pg_stat_activity WHERE query = 'LISTEN \"callboard:{}\"' ORDER BY pid",
        place.name()
    );
    pushes_within_after(&place.url(), quick, async || {
        let before = until("both listen", || Some(place.texts(&listening)).filter(|pids| pids.len() == 2));
        for pid in &before {
            place.execute(&format!("SELECT pg_terminate_backend({pid})"));
        }
        crate::waiting::eventually("both listen again", async || {
            let now = place.texts(&listening);
            (now.len() == 2 && now.iter().all(|pid| !before.contains(pid))).then_some(())
        })
        .await;
    })
    .await;
}

/// With this option a server silently rolls back a part of a commit when a lock is not free in time.
#[test]
fn a_mysql_that_undoes_parts_of_a_commit_is_refused() {
    let server = Own::with::<Database>(|_| vec!["--innodb-rollback-on-timeout=1".into()]);
    let place = Database::at(server.url());
    let refused = open(&place.url(), &OpenOptions::default()).err().map(|error| error.to_string());
    assert!(refused.as_ref().is_some_and(|text| text.contains("innodb_rollback_on_timeout")), "{refused:?}");
}
