//! Programs that start at the same time, that died during a migration, or that are older than the tables in the
//! database.

use callboard::backend::{BackendError, OpenOptions, open};
use diesel::connection::SimpleConnection;
use serde_json::{Value, json};

use crate::node::Node;
use crate::own::Own;
use crate::place::{Place, on_both};
use crate::servers::{Database, Schema};
use crate::waiting::until;

const PROCESSES: usize = 20;

on_both!(twenty_processes_migrate_at_once, a_newer_schema_is_refused);

const RECORDED: &str = "SELECT version AS text FROM callboard_migration ORDER BY version";

async fn twenty_processes_migrate_at_once<P: Place>() {
    // The shared server has no room for their connections beside those of other tests.
    let server = Own::new::<P>();
    let place = P::at(&server.url());
    let plan = json!({"url": place.url(), "wait_for_go": true, "queues": [["default", 1]], "tell": true,
        "check_ms": 5_000});
    let (mut nodes, took) = Node::opened_at_once(&plan, PROCESSES);
    println!("{PROCESSES} processes migrated one place in {took:.1?}");
    let backend = open(&place.url(), &OpenOptions::default()).unwrap();
    assert_eq!(backend.nodes().unwrap().len(), PROCESSES);
    let known = place.texts(RECORDED);
    let mut once = known.clone();
    once.dedup();
    assert!(!known.is_empty() && known == once, "run more than once: {known:?}");
    let task_id = nodes[0].push(&json!({"type": "plain"}));
    let ended = |line: &Value| line["event"] == "completed" && line["task_id"] == json!(task_id);
    until("one of them runs it", || {
        let runs: usize = nodes.iter().map(|node| node.count(ended)).sum();
        assert!(runs <= 1, "run {runs} times");
        (runs == 1).then_some(())
    });
}

async fn a_newer_schema_is_refused<P: Place>() {
    let place = P::new();
    drop(open(&place.url(), &OpenOptions::default()).unwrap());
    let known = place.texts(RECORDED);
    place.execute("INSERT INTO callboard_migration (version, name) VALUES ('99991231000000', 'of tomorrow')");
    match open(&place.url(), &OpenOptions::default()).map(drop) {
        Err(BackendError::SchemaTooNew { found, known: newest }) => {
            assert_eq!((found.as_str(), Some(&newest)), ("99991231000000", known.last()));
        }
        other => panic!("opened, or another error: {other:?}"),
    }
    let mut node = Node::start(&json!({"url": place.url()}));
    assert!(!node.end().success());
    let said = until("its words", || Some(node.errors()).filter(|said| !said.is_empty()));
    assert!(said.contains("99991231000000 is newer than this program"), "{said}");
    assert_eq!(place.texts(RECORDED).last().map(String::as_str), Some("99991231000000"));
}

/// Pushes a task and waits until it has run, which needs everything that a migration creates.
fn works(url: &str) {
    let mut node = Node::ready(&json!({"url": url, "tell": true}));
    let task_id = node.push(&json!({"type": "plain"}));
    node.hear_event("completed", task_id);
}

/// On MySQL DDL ends a transaction. So the work of a program that died half-way remains, and the next program completes
/// it.
#[test]
fn mysql_completes_what_a_dead_program_left_half_done() {
    let place = Database::new();
    drop(open(&place.url(), &OpenOptions::default()).unwrap());
    let whole = place.texts(TABLES);
    for half in [
        "DELETE FROM callboard_migration",
        "DELETE FROM callboard_migration; DROP VIEW node_view; DROP TABLE node; DROP TABLE queue",
        "DELETE FROM callboard_migration; DROP VIEW task_queue_view; DROP TABLE task_queue; DELETE FROM change_mark",
        "DROP TABLE task_execution; DELETE FROM callboard_migration",
    ] {
        place.execute(half);
        works(&place.url());
        assert_eq!(place.texts(TABLES), whole, "{half}");
        assert_eq!(place.texts(RECORDED).len(), 1, "{half}");
        assert_eq!(place.text("SELECT CAST(count(*) AS CHAR) AS text FROM change_mark"), "1", "{half}");
    }
}

const TABLES: &str = "SELECT table_name AS text FROM information_schema.tables WHERE table_schema = DATABASE()
    ORDER BY table_name";

/// On PostgreSQL a migration is a single transaction. So the work of a program that died half-way is gone.
#[test]
fn postgres_keeps_nothing_of_what_a_dead_program_left_half_done() {
    let place = Schema::new();
    let (url, name) = (place.url(), place.name().to_owned());
    let mut holder = place.by_hand();
    // The program creates all tables, and then a lock keeps it from recording the migration.
    holder
        .batch_execute(&format!(
            "CREATE SCHEMA {name}; CREATE TABLE {name}.callboard_migration (version TEXT PRIMARY KEY NOT NULL,
                name TEXT NOT NULL, run_at TIMESTAMPTZ NOT NULL DEFAULT now())"
        ))
        .unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE callboard_migration IN SHARE MODE").unwrap();
    let opening = std::thread::spawn(move || open(&url, &OpenOptions::default()).map(drop));
    let waiting = format!(
        "SELECT l.pid::text AS text FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
        JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = '{name}' AND c.relname = 'callboard_migration' AND NOT l.granted"
    );
    let pid = until("it has made the tables", || place.texts(&waiting).into_iter().next());
    place.execute(&format!("SELECT pg_terminate_backend({pid})"));
    match opening.join().unwrap() {
        Err(error) => assert!(error.is_transient(), "{error}"),
        Ok(()) => panic!("it opened without its tables"),
    }
    let tables = format!("SELECT tablename::text AS text FROM pg_tables WHERE schemaname = '{name}'");
    assert_eq!(place.texts(&tables), ["callboard_migration"]);
    holder.batch_execute("ROLLBACK").unwrap();
    works(&place.url());
    assert_eq!(place.texts(RECORDED).len(), 1);
}

/// The steps of a migration can be repeated, so they would mistake existing tables for their own.
#[test]
fn mysql_leaves_tables_of_others_alone() {
    let place = Database::new();
    place.execute(
        "CREATE TABLE node (id INT); CREATE TABLE songs (id INT); CREATE VIEW task_queue_view AS SELECT 1 AS one",
    );
    let before = place.texts(TABLES);
    let error = open(&place.url(), &OpenOptions::default()).map(drop).expect_err("they are another program's");
    assert!(!error.is_transient(), "{error}");
    assert!(error.to_string().contains("node, task_queue_view; give callboard a database of its own"), "{error}");
    assert_eq!(place.texts(TABLES), before);
    assert_eq!(place.text("SELECT CAST(one AS CHAR) AS text FROM task_queue_view"), "1");
    place.execute("DROP TABLE node; DROP VIEW task_queue_view");
    works(&place.url());
}

/// An index cannot join two columns with different collations. The table of migrations is excluded, because it is never
/// joined.
#[cfg(feature = "postgres")]
#[test]
fn every_text_in_an_index_on_postgres_compares_by_bytes() {
    let schema = Schema::new();
    open(&schema.url(), &OpenOptions::default()).unwrap();
    let others = schema.texts(&format!(
        "SELECT i.indexrelid::regclass || ' ' || a.attname AS text FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_attribute AS a ON a.attrelid = i.indexrelid
        JOIN pg_collation AS o ON o.oid = a.attcollation
        WHERE c.relnamespace = '{}'::regnamespace AND o.collname <> 'C' AND c.relname <> 'callboard_migration_pkey'",
        schema.name()
    ));
    assert_eq!(others, Vec::<String>::new());
}
