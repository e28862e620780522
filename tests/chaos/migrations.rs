//! Many processes open a fresh file at once, and an old program opens the file of a newer version.

use callboard::backend::{BackendError, OpenOptions, open};
use serde_json::json;

use crate::support::node::Node;
use crate::support::{Place, sql};

const PROCESSES: usize = 20;

#[test]
fn twenty_processes_migrate_a_fresh_file_at_once() {
    let place = Place::new();
    let plan = json!({"url": place.url(), "wait_for_go": true, "queues": [["default", 1]], "tell": true});
    let (mut nodes, took) = Node::opened_at_once(&plan, PROCESSES);
    println!("{PROCESSES} processes opened a fresh file in {took:.1?}");
    // All processes use the same file.
    let backend = open(&place.url(), &OpenOptions::default()).unwrap();
    assert_eq!(backend.nodes().unwrap().len(), PROCESSES);
    let known = sql::migrations(&place.file());
    let mut once = known.clone();
    once.dedup();
    assert!(!known.is_empty() && known == once, "run more than once: {known:?}");
    let task_id = nodes[0].push(&json!({"type": "plain"}));
    let ended = |line: &serde_json::Value| line["event"] == "completed" && line["task_id"] == json!(task_id);
    crate::support::until("one of them runs it", || {
        let runs: usize = nodes.iter().map(|node| node.count(ended)).sum();
        assert!(runs <= 1, "run {runs} times");
        (runs == 1).then_some(())
    });
}

#[test]
fn a_newer_schema_is_refused_with_a_clear_error() {
    let place = Place::new();
    drop(open(&place.url(), &OpenOptions::default()).unwrap());
    let known = sql::migrations(&place.file());
    let newer = "INSERT INTO callboard_migration (version, name) VALUES ('99991231000000', 'of tomorrow')";
    sql::execute(&place.file(), newer);
    match open(&place.url(), &OpenOptions::default()).map(drop) {
        Err(BackendError::SchemaTooNew { found, known: newest }) => {
            assert_eq!((found.as_str(), Some(&newest)), ("99991231000000", known.last()));
        }
        other => panic!("opened, or another error: {other:?}"),
    }
    let mut node = Node::start(&json!({"url": place.url()}));
    let status = node.end();
    let said = crate::support::until("its words", || Some(node.errors()).filter(|said| !said.is_empty()));
    println!("{status}: {said}");
    assert!(!status.success());
    assert!(said.contains("99991231000000 is newer than this program") && said.contains("install"), "{said}");
    // The file is unchanged.
    assert_eq!(sql::migrations(&place.file()).last().map(String::as_str), Some("99991231000000"));
}
