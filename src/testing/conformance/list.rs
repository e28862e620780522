//! Lists, filters, pages and counts.

use super::Harness;
use crate::backend::{Cursor, EditAction, StateCount, TaskFilter, TaskOrder};
use crate::task::{NewTask, TaskId, TaskState};
use crate::testing::factory::{World, at, task};

fn found(w: &World, filter: &TaskFilter) -> Vec<TaskId> {
    let page = w.backend.list(filter, TaskOrder::OldestFirst, None, 1_000).expect("list");
    assert_eq!(page.next, None);
    page.tasks.iter().map(|task| task.task_id).collect()
}

/// By state: a single state, several states, any state.
pub fn by_state(h: &dyn Harness) {
    let w = World::new(h);
    let all: Vec<TaskId> = super::REACHABLE.iter().map(|state| w.push_in(*state, task(0))).collect();
    for (state, id) in super::REACHABLE.iter().zip(&all) {
        assert_eq!(found(&w, &TaskFilter { states: vec![*state], ..TaskFilter::default() }), [*id]);
    }
    let two = TaskFilter { states: vec![TaskState::Dead, TaskState::Scheduled], ..TaskFilter::default() };
    assert_eq!(found(&w, &two), [all[0], all[5]]);
    assert_eq!(found(&w, &TaskFilter::default()), all);
    let none = TaskFilter { states: vec![TaskState::Waiting], ..TaskFilter::default() };
    assert_eq!(found(&w, &none), []);
}

/// By queue, by type, and by both.
pub fn by_queue_and_type(h: &dyn Harness) {
    let w = World::new(h);
    let mut ids = Vec::new();
    for queue in ["a", "b"] {
        for kind in ["x", "y"] {
            ids.push(w.push(NewTask::new(kind, &()).queue(queue)));
        }
    }
    let filter = |queues: &[&str], types: &[&str]| TaskFilter {
        queues: queues.iter().map(|queue| queue.to_string()).collect(),
        types: types.iter().map(|kind| kind.to_string()).collect(),
        ..TaskFilter::default()
    };
    assert_eq!(found(&w, &filter(&["a"], &[])), ids[..2]);
    assert_eq!(found(&w, &filter(&[], &["y"])), [ids[1], ids[3]]);
    assert_eq!(found(&w, &filter(&["b"], &["x"])), [ids[2]]);
    assert_eq!(found(&w, &filter(&["b", "a", "c"], &["x", "x"])), [ids[0], ids[2]]);
    assert_eq!(found(&w, &filter(&["A"], &[])), []);
}

/// By tag: the whole tag, not a part of it.
pub fn by_tag(h: &dyn Harness) {
    let w = World::new(h);
    let a = w.push(task(0).tag("rock").tag("live"));
    let b = w.push(task(1).tag("rock 'n' \"roll\" %"));
    w.push(task(2));
    let tagged = |tag: &str| found(&w, &TaskFilter { tag: Some(tag.into()), ..TaskFilter::default() });
    assert_eq!(tagged("rock"), [a]);
    assert_eq!(tagged("live"), [a]);
    assert_eq!(tagged("rock 'n' \"roll\" %"), [b]);
    assert_eq!(tagged("roc"), []);
    assert_eq!(tagged("%"), []);
    assert_eq!(tagged(""), []);
    w.edit_where(TaskFilter::default(), EditAction::Delete, 10, None);
    // Each tag looks like a different tag in a list, or contains pattern characters.
    let tags = [",", "x,", ",y", "\",\"", "[", "]", "a\\", "\\\"", "Rock", "A%_!", "\u{c4}.*", "(a|b)+\n", ", "];
    let ids = tags.map(|tag| w.push(task(3).tag("first").tag(tag).tag("last")));
    for (tag, id) in tags.iter().zip(ids) {
        assert_eq!(tagged(tag), [id], "{tag:?}");
    }
    for tag in ["\",\"first", "first\",\"x", "rock", "\u{e4}.*", "a", "y", "x", "aa", "\\"] {
        assert_eq!(tagged(tag), [], "{tag:?}");
    }
}

/// By time of the push: `from` is inclusive, `until` is exclusive.
pub fn by_time(h: &dyn Harness) {
    let w = World::new(h);
    let mut ids = Vec::new();
    for second in [10, 20, 30] {
        w.go_to(second);
        ids.push(w.push(task(0)));
    }
    let between = |from: Option<u64>, until: Option<u64>| {
        let (created_from, created_until) = (from.map(at), until.map(at));
        found(&w, &TaskFilter { created_from, created_until, ..TaskFilter::default() })
    };
    assert_eq!(between(Some(20), None), ids[1..]);
    assert_eq!(between(None, Some(20)), ids[..1]);
    assert_eq!(between(Some(20), Some(21)), ids[1..2]);
    assert_eq!(between(Some(20), Some(20)), []);
}

/// Text is found in params and last error, literally, except that the case of ASCII letters is ignored.
pub fn by_text(h: &dyn Harness) {
    let w = World::new(h);
    let text = |text: &str| found(&w, &TaskFilter { text: Some(text.into()), ..TaskFilter::default() });
    let a = w.push(NewTask::new("t", &"100% Sure_Thing \u{c4}rger 千年"));
    let b = w.push(NewTask::new("t", &"1000 surexthing [a-z] *?"));
    let claimed = w.push_claimed(NewTask::new("t", &"plain"));
    w.end(&claimed, TaskState::Dead, Some("Connection RESET by 10.0.0.1 \\ end"));
    let c = claimed.spec.task_id;
    assert_eq!(text("SURE"), [a, b]);
    assert_eq!(text("100%"), [a], "% is no wildcard");
    assert_eq!(text("sure_thing"), [a], "_ is no wildcard");
    assert_eq!(text("千年"), [a]);
    assert_eq!(text("\u{c4}RGER"), [a]);
    assert_eq!(text("\u{e4}rger"), [], "of other letters the case matters");
    assert_eq!(text("[A-Z]"), [b]);
    assert_eq!(text("*?"), [b]);
    assert_eq!(text("connection reset"), [c]);
    assert_eq!(text("\\ END"), [c], "a backslash is no escape");
    assert_eq!(text("%"), [a]);
    assert_eq!(text("nowhere"), []);
    assert_eq!(text("'; drop table task_queue; --"), []);
    assert_eq!(text(""), [a, b, c]);
}

/// The fields of a filter narrow the list together.
pub fn fields_narrow_together(h: &dyn Harness) {
    let w = World::new(h);
    let matching = |number: usize| NewTask::new("k", &number).queue("q").tag("t");
    w.push(matching(7).queue("other"));
    w.push(matching(8));
    let id = w.push(matching(7));
    w.push_claimed(matching(7));
    let filter = TaskFilter {
        states: vec![TaskState::Pending],
        queues: vec!["q".into()],
        types: vec!["k".into()],
        tag: Some("t".into()),
        created_from: Some(at(0)),
        created_until: Some(at(1)),
        text: Some("7".into()),
    };
    assert_eq!(found(&w, &filter), [id]);
}

/// Pages in both orders: every task appears once, and no cursor follows the last page.
pub fn pages_in_both_orders(h: &dyn Harness) {
    let w = World::new(h);
    let ids = w.push_all((0..7).map(task));
    for order in [TaskOrder::OldestFirst, TaskOrder::NewestFirst] {
        for limit in [1, 2, 3, 7, 8] {
            let mut seen = Vec::new();
            let mut after: Option<Cursor> = None;
            loop {
                let page = w.backend.list(&TaskFilter::default(), order, after, limit).expect("list");
                assert!(page.tasks.len() == limit || page.next.is_none());
                seen.extend(page.tasks.iter().map(|task| task.task_id));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            if order == TaskOrder::NewestFirst {
                seen.reverse();
            }
            assert_eq!(seen, ids, "{order:?} by {limit}");
        }
    }
}

/// A list keeps its place while tasks come and go, even if the task under the cursor goes.
pub fn cursor_is_stable(h: &dyn Harness) {
    let w = World::new(h);
    let ids = w.push_all((0..6).map(task));
    let everything = TaskFilter::default();
    let first = w.backend.list(&everything, TaskOrder::NewestFirst, None, 2).expect("list");
    w.push_all((6..9).map(task));
    w.edit(&[ids[4], ids[3]], EditAction::Delete);
    let rest = w.backend.list(&everything, TaskOrder::NewestFirst, first.next, 10).expect("list");
    let seen: Vec<TaskId> = rest.tasks.iter().map(|task| task.task_id).collect();
    assert_eq!(seen, [ids[2], ids[1], ids[0]]);
    let first = w.backend.list(&everything, TaskOrder::OldestFirst, None, 2).expect("list");
    w.edit(&[ids[1]], EditAction::Delete);
    let rest = w.backend.list(&everything, TaskOrder::OldestFirst, first.next, 10).expect("list");
    assert_eq!(rest.tasks.len(), 5);
    assert_eq!(rest.tasks[0].task_id, ids[2]);
}

/// Any cursor is answered. Beyond the ends the page is empty.
pub fn cursors_at_the_ends(h: &dyn Harness) {
    let w = World::new(h);
    w.push_all((0..3).map(task));
    let count = |order, seq| {
        let after = Some(Cursor::after(seq));
        w.backend.list(&TaskFilter::default(), order, after, 10).expect("list").tasks.len()
    };
    assert_eq!(count(TaskOrder::OldestFirst, i64::MIN), 3);
    assert_eq!(count(TaskOrder::OldestFirst, i64::MAX), 0);
    assert_eq!(count(TaskOrder::NewestFirst, i64::MAX), 3);
    assert_eq!(count(TaskOrder::NewestFirst, i64::MIN), 0);
}

/// A filtered list skips many tasks that do not match.
pub fn few_among_many(h: &dyn Harness) {
    let w = World::new(h);
    let mut rare = Vec::new();
    for round in 0..5 {
        w.push_all((0..300).map(task));
        rare.push(w.push_in(TaskState::Dead, task(round)));
    }
    let dead = TaskFilter { states: vec![TaskState::Dead], ..TaskFilter::default() };
    assert_eq!(found(&w, &dead), rare);
    let page = w.backend.list(&dead, TaskOrder::NewestFirst, None, 2).expect("list");
    assert_eq!(page.tasks.iter().map(|task| task.task_id).collect::<Vec<_>>(), [rare[4], rare[3]]);
    let page = w.backend.list(&dead, TaskOrder::NewestFirst, page.next, 2).expect("list");
    assert_eq!(page.tasks.iter().map(|task| task.task_id).collect::<Vec<_>>(), [rare[2], rare[1]]);
    let page = w.backend.list(&dead, TaskOrder::NewestFirst, page.next, 2).expect("list");
    assert_eq!((page.tasks[0].task_id, page.tasks.len(), page.next), (rare[0], 1, None));
}

/// A list shows the same records as `get`.
pub fn lists_show_whole_records(h: &dyn Harness) {
    let w = World::new(h);
    for state in super::REACHABLE {
        w.push_in(state, task(3).tag("x").unique(crate::task::Unique::key(state.as_str())));
    }
    let page = w.backend.list(&TaskFilter::default(), TaskOrder::OldestFirst, None, 10).expect("list");
    assert_eq!(page.tasks.len(), 7);
    for task in page.tasks {
        assert_eq!(w.record(task.task_id), task);
    }
}

/// Counts by queue and state; pairs without tasks are left out.
pub fn counts(h: &dyn Harness) {
    let w = World::new(h);
    assert_eq!(w.backend.counts().expect("counts"), []);
    w.push_all((0..3).map(|number| task(number).queue("b")));
    w.push_all((0..2).map(|number| task(number).queue("a")));
    let claimed = w.claim_from("b", None, 2);
    w.complete(&claimed[0]);
    let mut counts = w.backend.counts().expect("counts");
    counts.sort_by(|a, b| (&a.queue, a.state).cmp(&(&b.queue, b.state)));
    let count = |queue: &'static str, state, tasks| StateCount { queue: queue.into(), state, tasks };
    let expected = [
        count("a", TaskState::Pending, 2),
        count("b", TaskState::Pending, 1),
        count("b", TaskState::Running, 1),
        count("b", TaskState::Completed, 1),
    ];
    assert_eq!(counts, expected);
    w.edit_where(TaskFilter { queues: vec!["a".into()], ..TaskFilter::default() }, EditAction::Delete, 10, None);
    assert!(w.backend.counts().expect("counts").iter().all(|count| &*count.queue == "b"));
}

/// The front of the queues: queues by name, each with its types. It reads no more rows than asked for, and only
/// pending tasks.
pub fn first_in_line(h: &dyn Harness) {
    let w = World::new(h);
    assert_eq!(w.backend.in_line(None, 10, 10).expect("in line"), []);
    let new = |kind: &'static str, queue: &'static str| NewTask::new(kind, &()).queue(queue);
    for (kind, queue) in [("x", "b"), ("y", "b"), ("x", "b"), ("y", "a"), ("x", "c")] {
        w.push(new(kind, queue));
        w.advance(std::time::Duration::from_secs(1));
    }
    w.push(new("later", "a").delay(std::time::Duration::from_secs(3600)));
    let seen = |after: Option<&str>, queues, most| -> Vec<(String, String, u64, bool)> {
        let lines = w.backend.in_line(after, queues, most).expect("in line");
        let seen = lines.iter().map(|line| (line.queue.to_string(), line.kind.to_string(), line.tasks, line.more));
        seen.collect()
    };
    let line = |queue: &str, kind: &str, tasks, more| (queue.to_owned(), kind.to_owned(), tasks, more);
    let all =
        [line("a", "y", 1, false), line("b", "x", 2, false), line("b", "y", 1, false), line("c", "x", 1, false)];
    assert_eq!(seen(None, 10, 10), all);
    assert_eq!(seen(None, 2, 10), all[..3]);
    assert_eq!(seen(Some("b"), 10, 10), all[3..]);
    assert_eq!(seen(Some("a"), 1, 2), [line("b", "x", 1, true), line("b", "y", 1, true)]);
    let lines = w.backend.in_line(Some("a"), 1, 10).expect("in line");
    let first = |kind: &str| lines.iter().find(|line| *line.kind == *kind).map(|line| line.oldest);
    assert!(first("x") < first("y"), "{lines:?}");
    // The most urgent tasks come first.
    w.push(new("urgent", "b").priority(-1));
    assert_eq!(seen(Some("a"), 1, 1), [line("b", "urgent", 1, true)]);
}
