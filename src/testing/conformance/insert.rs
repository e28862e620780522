//! Pushes: which data is stored, and that it is stored unchanged.

use std::time::Duration;

use serde_json::json;

use super::Harness;
use crate::backend::{Commit, Inserted, Insertion, TaskFilter, TaskOrder};
use crate::clock::Timestamp;
use crate::task::{NewTask, Retry, TaskId, TaskState, Unique, UniqueMode};
use crate::testing::factory::{World, at, task};

/// Every field of a pushed task is read back unchanged.
pub fn record_is_complete(h: &dyn Harness) {
    let w = World::new(h);
    let new = NewTask::new("download_audio", &json!({"url": "https://example.org/a.wav"}))
        .queue("downloads")
        .priority(-5)
        .run_at(at(40))
        .max_attempts(3)
        .timeout(Duration::from_micros(1_500_001))
        .retry(Retry::exponential(Duration::from_secs(2)).cap(Duration::from_secs(60)).jitter(0.25))
        .unique(Unique::key("song:1"))
        .tag("music")
        .tag("night")
        .meta(json!({"by": ["a", 1, null]}))
        .expires_at(at(400));
    let insertion = w.insertion(new);
    let spec = insertion.spec.clone();
    w.commit(&Commit { insert: vec![super::group([insertion])], ..w.blank() });
    let record = w.record(spec.task_id);
    assert_eq!((&record.kind, &record.queue), (&spec.kind, &spec.queue));
    assert_eq!(record.params, *spec.params);
    assert_eq!((record.state, record.priority, record.run_at), (TaskState::Scheduled, -5, at(40)));
    assert_eq!((record.max_attempts, record.timeout, record.retry), (3, spec.timeout, spec.retry));
    assert_eq!(record.unique_key.as_deref(), Some("song:1"));
    assert_eq!(record.tags, ["music", "night"]);
    assert_eq!(record.meta, Some(json!({"by": ["a", 1, null]})));
    assert_eq!((record.expires_at, record.created_at, record.updated_at), (Some(at(400)), at(0), at(0)));
    assert_eq!((record.attempt, record.crash_count, record.parent_id), (0, 0, None));
    assert_eq!((record.progress, record.result, record.last_error), (None, None, None));
    assert_eq!((record.node, record.cancel_requested), (None, false));
    assert_eq!((record.started_at, record.finished_at), (None, None));
    w.go_to(40);
    w.sweep();
    let claimed = w.claim_from("downloads", None, 1).remove(0);
    assert_eq!((claimed.spec.kind.clone(), claimed.spec.params.clone()), (spec.kind.clone(), spec.params.clone()));
    assert_eq!((claimed.spec.timeout, claimed.spec.retry, claimed.spec.max_attempts), (spec.timeout, spec.retry, 3));
    assert_eq!((claimed.spec.extras(), claimed.spec.created_at), (spec.extras(), at(0)));
}

/// A task with only a type and params.
pub fn plain_record(h: &dyn Harness) {
    let w = World::new(h);
    let id = w.push(NewTask::new("plain", &()));
    let record = w.record(id);
    assert_eq!((record.params.as_str(), record.meta, record.unique_key), ("null", None, None));
    assert_eq!((record.tags.len(), record.timeout, record.expires_at), (0, None, None));
    assert_eq!(record.retry, Retry::default());
    assert_eq!(w.backend.get(TaskId::new(at(0))).expect("get"), None);
}

/// Titles with characters from all over the world survive in every text field.
pub fn full_unicode(h: &dyn Harness) {
    let w = World::new(h);
    let texts = [
        "【洛天依】千年食谱颂_(Official_MV)「高清」.m4a",
        "ヨルシカ - ただ君に晴れ (MUSIC VIDEO)＿～！？.wav",
        "e\u{301} é \u{202e}rtl\u{202c} a\u{200d}b 👩‍👩‍👧‍👦 🏳️‍🌈 𐍈",
        "' '' \" \\ \\' ; -- /* */ %s %_ $1 ?1 :a @b `x` {} [] <&>",
        "\u{1}\u{8}\u{1b}[31m\u{7f}\u{85}\u{2028}\u{feff}\u{fffd}\u{10ffff}",
        "line 1\nline 2\r\n\ttab",
        " leading and trailing ",
    ];
    for text in texts {
        let new = NewTask::new(String::from("träum_任务"), &json!({ text: [text] }))
            .queue(String::from("очередь_🎵"))
            .unique(Unique::key(text))
            .tag(text)
            .meta(json!({ text: text }));
        let id = w.push(new);
        let record = w.record(id);
        let params: serde_json::Value = serde_json::from_str(&record.params).expect("params are JSON");
        assert_eq!(params, json!({ text: [text] }));
        assert_eq!((&*record.kind, &*record.queue), ("träum_任务", "очередь_🎵"));
        assert_eq!((record.unique_key.as_deref(), record.tags), (Some(text), vec![text.to_string()]));
        assert_eq!(record.meta, Some(json!({ text: text })));
        let claimed = w.claim_from("очередь_🎵", Some(&["träum_任务"]), 1).remove(0);
        w.end(&claimed, TaskState::Dead, Some(text));
        assert_eq!(w.record(id).last_error.as_deref(), Some(text));
        let filter = TaskFilter { tag: Some(text.into()), ..TaskFilter::default() };
        let page = w.backend.list(&filter, TaskOrder::NewestFirst, None, 10).expect("list");
        assert_eq!(page.tasks.len(), 1, "found by its tag {text:?}");
    }
}

/// Params keep their text: order of keys, spaces and the digits of numbers.
pub fn params_keep_their_text(h: &dyn Harness) {
    let w = World::new(h);
    let text = r#"{"z": 1,  "a":1.0, "big":123456789012345678901234567890, "e":1E+2}"#;
    let raw = serde_json::value::RawValue::from_string(text.into()).expect("JSON");
    let id = w.push(NewTask::new("raw", &raw));
    assert_eq!(w.record(id).params, text);
    assert_eq!(*w.claim_one().spec.params, *text);
}

/// The ends of the ranges of times and numbers.
pub fn extremes(h: &dyn Harness) {
    let w = World::new(h);
    let (first, last) = (Timestamp::from_micros(i64::MIN), Timestamp::from_micros(i64::MAX));
    let old = w.push(task(0).run_at(first).priority(i32::MAX).max_attempts(u32::MAX));
    let never = w.push(task(1).run_at(last).priority(i32::MIN).timeout(Duration::from_micros(1)));
    let record = w.record(old);
    assert_eq!((record.run_at, record.priority, record.max_attempts), (first, i32::MAX, u32::MAX));
    let record = w.record(never);
    assert_eq!((record.run_at, record.priority), (last, i32::MIN));
    w.go_to(1_000_000_000);
    let report = w.sweep();
    assert_eq!((report.next_due, report.more), (Some(last), false));
    assert_eq!(w.claim_ids(10), [old]);
}

/// Any UUID can be an id.
pub fn any_uuid_is_an_id(h: &dyn Harness) {
    let w = World::new(h);
    let some = [0_u128, 1, u128::MAX, 1 << 127, 0x0123_4567_89ab_4cde_8f01_2345_6789_abcd, 1 << 64, 1 << 63];
    for uuid in some {
        let id = TaskId::from(uuid::Uuid::from_u128(uuid));
        assert_eq!(w.push(task(0).task_id(id)), id);
    }
    for uuid in some {
        let id = TaskId::from(uuid::Uuid::from_u128(uuid));
        assert_eq!(w.record(id).task_id, id);
        assert!(matches!(w.offer(task(1).task_id(id)), Inserted::Duplicate { .. }));
    }
    assert_eq!(w.claim_ids(10).len(), some.len());
}

/// `seq` grows from commit to commit and within a commit, in push order.
pub fn seq_is_push_order(h: &dyn Harness) {
    let w = World::new(h);
    let ids: Vec<TaskId> = (0..3).flat_map(|_| w.push_all((0..3).map(task))).collect();
    let seqs: Vec<i64> = ids.iter().map(|id| w.record(*id).seq).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
}

/// A known id is a duplicate in every state and changes nothing. So a push can be repeated.
pub fn known_id_is_a_duplicate(h: &dyn Harness) {
    let w = World::new(h);
    for state in super::REACHABLE {
        let id = w.push_in(state, task(0));
        let before = w.record(id);
        let again = w.offer(task(1).task_id(id).priority(9));
        assert_eq!(again, Inserted::Duplicate { task_id: id, state });
        assert_eq!(w.record(id), before);
    }
}

/// A duplicate is not claimed, even if the push asks for a claim.
pub fn duplicate_is_not_claimed(h: &dyn Harness) {
    let w = World::new(h);
    let id = w.push(task(0));
    let insertion = Insertion { claim: true, ..w.insertion(task(0).task_id(id)) };
    let receipt = w.commit(&Commit { insert: vec![super::group([insertion])], ..w.blank() });
    assert_eq!(receipt.inserted, [Inserted::Duplicate { task_id: id, state: TaskState::Pending }]);
    assert_eq!(w.state(id), TaskState::Pending);
}

/// The same id twice in a commit, both within a group and in two groups.
pub fn twice_in_one_commit(h: &dyn Harness) {
    let w = World::new(h);
    let id = TaskId::new(at(0));
    let one = || w.insertion(task(0).task_id(id));
    let insert = vec![super::group([one(), one()]), super::group([one()])];
    let receipt = w.commit(&Commit { insert, ..w.blank() });
    let duplicate = Inserted::Duplicate { task_id: id, state: TaskState::Pending };
    assert!(matches!(receipt.inserted[0], Inserted::New { .. }));
    assert_eq!(receipt.inserted[1..], [duplicate.clone(), duplicate]);
    assert_eq!(w.count(TaskState::Pending), 1);
}

/// With `claim`, a task is stored as running under the token of the commit, without being read back.
pub fn claimed_as_pushed(h: &dyn Harness) {
    let w = World::new(h);
    let claimed = w.push_claimed(task(0));
    let record = w.record(claimed.spec.task_id);
    assert_eq!((record.state, record.node, record.seq), (TaskState::Running, Some(w.node), claimed.seq));
    assert_eq!((record.crash_count, record.started_at), (1, Some(at(0))));
    assert_eq!(w.claim_ids(10), []);
    w.complete(&claimed);
    assert_eq!(w.state(claimed.spec.task_id), TaskState::Completed);
}

/// If a task of a group is refused, no task of the group is stored. The other groups of the commit are stored.
pub fn group_is_all_or_nothing(h: &dyn Harness) {
    let w = World::new(h);
    let reject = |key: &str| Unique::key(key).mode(UniqueMode::Reject);
    let holder = w.push(task(0).unique(reject("held")));
    let replaced = w.push(task(1).unique(Unique::key("open").mode(UniqueMode::Replace)));
    let before = w.record(replaced);
    let group = [
        task(2),
        task(3).unique(Unique::key("open").mode(UniqueMode::Replace)).priority(77),
        task(4).unique(reject("held")),
        task(5).task_id(holder),
    ];
    let insert = vec![
        super::group([w.insertion(task(6))]),
        super::group(group.map(|new| w.insertion(new))),
        super::group([w.insertion(task(7))]),
    ];
    let receipt = w.commit(&Commit { insert, ..w.blank() });
    assert!(matches!(receipt.inserted[0], Inserted::New { .. }));
    let refused = Inserted::Refused { existing: holder };
    let expected = [Inserted::GroupRefused, Inserted::GroupRefused, refused, Inserted::GroupRefused];
    assert_eq!(receipt.inserted[1..5], expected);
    assert!(matches!(receipt.inserted[5], Inserted::New { .. }));
    assert_eq!(w.record(replaced), before, "nothing of the group happened");
    assert_eq!(w.count(TaskState::Pending), 4);
}

/// Two tasks of a group with the same key: the second is refused, and so the whole group.
pub fn group_refuses_its_own_key(h: &dyn Harness) {
    let w = World::new(h);
    let new = || task(0).unique(Unique::key("k").mode(UniqueMode::Reject));
    let answers = w.offer_group(vec![new(), new()]);
    assert_eq!(answers[0], Inserted::GroupRefused);
    assert!(matches!(answers[1], Inserted::Refused { .. }));
    assert_eq!(w.backend.counts().expect("counts"), []);
    w.push(new());
}

/// Acknowledged data, claims included, is still there after the backend was closed and opened again.
pub fn durable_data_survives(h: &dyn Harness) {
    let w = World::new(h);
    if !w.backend.capabilities().durable {
        assert!(h.reopen().is_none(), "a backend that can be opened again is durable, and should say so");
        return;
    }
    let ids = super::REACHABLE.map(|state| w.push_in(state, task(0).tag("kept")));
    let before = ids.map(|id| (w.record(id), w.backend.executions(id).expect("executions")));
    let counts = w.backend.counts().expect("counts");
    drop(w);
    let backend = h.reopen().expect("a durable backend opens again");
    let after = ids
        .map(|id| (backend.get(id).expect("get").expect("still there"), backend.executions(id).expect("executions")));
    assert_eq!(before, after);
    assert_eq!(backend.counts().expect("counts"), counts);
    let w = World::on(backend);
    assert!(w.record(w.push(task(1))).seq > before[0].0.seq, "push order goes on");
}

/// A second handle on the same storage sees committed data.
pub fn shared_handles_agree(h: &dyn Harness) {
    let w = World::new(h);
    if !w.backend.capabilities().shared {
        return;
    }
    let other = World::on(h.second().expect("a shared backend has a second handle"));
    let id = w.push(task(0));
    assert_eq!(other.record(id), w.record(id));
    let claimed = other.claim_one();
    assert_eq!(w.record(id).node, Some(other.node));
    other.complete(&claimed);
    assert_eq!(w.state(id), TaskState::Completed);
    assert_eq!(w.backend.nodes().expect("nodes").len(), 2);
}
