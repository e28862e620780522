//! Nodes, leases, releases, queue settings, and small cases.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Harness;
use crate::backend::{EditAction, NodeBeat, NodeRecord, QueueChange, QueueSettings};
use crate::task::{NodeId, TaskState};
use crate::testing::factory::{World, at, task};

fn beat(node_id: NodeId, name: &str, seconds: u64) -> NodeBeat {
    NodeBeat {
        node_id,
        name: name.into(),
        started_at: at(1),
        now: at(seconds),
        lease: Duration::from_secs(15),
        version: "0.1.0-β".into(),
        queues: vec![("default".into(), 4), ("очередь".into(), 1)],
        types: vec!["mail".into(), "почта \"1\"".into()],
        pulls: vec!["by hand".into()],
    }
}

/// The first heartbeat makes the node known. The next heartbeat renews its lease.
pub fn heartbeat_renews(h: &dyn Harness) {
    let backend = h.open();
    assert_eq!(backend.nodes().expect("nodes"), []);
    let first = beat(NodeId::new(at(0)), "größer-1", 10);
    backend.heartbeat(&first).expect("heartbeat");
    let expected = NodeRecord {
        node_id: first.node_id,
        name: first.name.clone(),
        started_at: at(1),
        heartbeat_at: at(10),
        lease_until: at(25),
        version: first.version.clone(),
        queues: first.queues.clone(),
        types: first.types.clone(),
        pulls: first.pulls.clone(),
    };
    assert_eq!(backend.nodes().expect("nodes"), std::slice::from_ref(&expected));
    let next = NodeBeat { now: at(20), queues: vec![], types: vec![], pulls: vec![], ..first };
    backend.heartbeat(&next).expect("heartbeat");
    let renewed = NodeRecord {
        heartbeat_at: at(20),
        lease_until: at(35),
        queues: vec![],
        types: vec![],
        pulls: vec![],
        ..expected
    };
    assert_eq!(backend.nodes().expect("nodes"), [renewed]);
}

/// Nodes are listed by name; two nodes may have the same name.
pub fn nodes_by_name(h: &dyn Harness) {
    let backend = h.open();
    for name in ["b", "c", "a", "b"] {
        backend.heartbeat(&beat(NodeId::new(at(0)), name, 10)).expect("heartbeat");
    }
    let nodes = backend.nodes().expect("nodes");
    assert_eq!(nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["a", "b", "b", "c"]);
}

/// A node that stops gives its tasks back at once: no attempt, no crash, no history.
pub fn release_gives_back(h: &dyn Harness) {
    let w = World::new(h);
    let other = w.other_node();
    let ids = w.push_all((0..3).map(task));
    w.claim(2);
    other.claim(1);
    w.go_to(5);
    assert_eq!(w.release(&[], true), 2);
    for id in &ids[..2] {
        let record = w.record(*id);
        assert_eq!((record.state, record.node), (TaskState::Pending, None));
        assert_eq!((record.attempt, record.crash_count), (0, 0));
        assert_eq!(w.backend.executions(*id).expect("executions"), []);
    }
    assert_eq!(w.state(ids[2]), TaskState::Running, "another node's");
    let nodes = w.backend.nodes().expect("nodes");
    assert_eq!(nodes.iter().map(|node| node.node_id).collect::<Vec<_>>(), [other.node]);
    assert_eq!(other.claim_ids(10), ids[..2]);
    assert_eq!(w.release(&[], true), 0, "nothing is left");
}

/// A claim in `keep` stays if its token matches. Under a different token it is released.
pub fn release_keeps_what_runs(h: &dyn Harness) {
    let w = World::new(h);
    let kept = w.push_claimed(task(0));
    let stale = w.push_claimed(task(1));
    let keep = [(kept.spec.task_id, kept.token), (stale.spec.task_id, kept.token)];
    assert_eq!(w.release(&keep, false), 1);
    assert_eq!(w.state(kept.spec.task_id), TaskState::Running);
    assert_eq!(w.state(stale.spec.task_id), TaskState::Pending);
    assert_eq!(w.backend.nodes().expect("nodes").len(), 1, "not retired");
    w.complete(&kept);
}

/// A released task with a cancel request is cancelled, because the request would not be made again.
pub fn released_with_cancel_is_cancelled(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    w.edit(&[claimed.spec.task_id], EditAction::Cancel("stop".into()));
    w.go_to(5);
    assert_eq!(w.release(&[], false), 1);
    let record = w.record(claimed.spec.task_id);
    assert_eq!((record.state, record.cancel_requested), (TaskState::Cancelled, false));
    assert_eq!(record.finished_at, Some(at(5)));
    assert_eq!(w.claim_ids(10), []);
}

/// Settings are stored by queue. A change keeps every setting that it does not name.
pub fn queue_settings(h: &dyn Harness) {
    let backend = h.open();
    assert_eq!(backend.queues().expect("queues"), []);
    let settings =
        |queue: &'static str, paused, concurrency| QueueSettings { queue: queue.into(), paused, concurrency };
    let change = |queue: &'static str, paused, concurrency| {
        backend.change_queue(&QueueChange { queue: queue.into(), paused, concurrency }).expect("change");
    };
    change("b", Some(true), None);
    change("a", None, Some(Some(3)));
    assert_eq!(backend.queues().expect("queues"), [settings("a", false, Some(3)), settings("b", true, None)]);
    change("b", None, Some(Some(0)));
    change("a", Some(true), None);
    assert_eq!(backend.queues().expect("queues"), [settings("a", true, Some(3)), settings("b", true, Some(0))]);
    change("a", None, Some(None));
    change("b", Some(false), None);
    change("b", None, None);
    assert_eq!(backend.queues().expect("queues"), [settings("a", true, None), settings("b", false, Some(0))]);
}

/// Two concurrent changes to different settings of the same queue are both kept.
pub fn queue_changes_side_by_side(h: &dyn Harness) {
    let backend = h.open();
    let other = h.second().unwrap_or_else(|| Arc::clone(&backend));
    for round in 1..=10 {
        let (pause, concurrency) = (
            QueueChange { paused: Some(round % 2 == 0), ..QueueChange::of("q") },
            QueueChange { concurrency: Some(Some(round)), ..QueueChange::of("q") },
        );
        std::thread::scope(|scope| {
            scope.spawn(|| backend.change_queue(&pause).expect("change"));
            scope.spawn(|| other.change_queue(&concurrency).expect("change"));
        });
        let stored = QueueSettings { queue: "q".into(), paused: round % 2 == 0, concurrency: Some(round) };
        assert_eq!(backend.queues().expect("queues"), [stored]);
    }
}

/// A watch returns within its time.
pub fn watch_comes_back(h: &dyn Harness) {
    let backend = h.open();
    let start = Instant::now();
    let changed = backend.watch(Duration::from_millis(30)).expect("watch");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(!changed || backend.capabilities().shared, "nobody else can have changed anything");
}

/// Reachable storage is healthy and reports its capabilities.
pub fn health_and_capabilities(h: &dyn Harness) {
    let backend = h.open();
    backend.health().expect("healthy");
    let capabilities = backend.capabilities();
    assert!(!capabilities.name.is_empty());
    assert!(capabilities.parallel_commits >= 1);
    if !capabilities.durable {
        assert!(h.reopen().is_none());
    }
    assert_eq!(h.second().is_some(), capabilities.shared);
}

/// Two opened backends know nothing of each other.
pub fn opened_apart(h: &dyn Harness) {
    let (a, b) = (World::new(h), World::new(h));
    a.push(task(0));
    assert_eq!(b.claim_ids(10), []);
    assert_eq!(b.backend.counts().expect("counts"), []);
}
