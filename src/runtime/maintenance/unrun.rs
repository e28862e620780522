//! Looks for tasks that no live node runs, because nothing else would ever report them.

use std::sync::Arc;
use std::time::Duration;

use slog::{info, warn};

use crate::backend::{BackendError, InLine, NodeRecord, QueueSettings};
use crate::clock::Timestamp;
use crate::logging::keys;
use crate::name::Name;
use crate::runtime::core::{CodeSchedule, Core, UnrunReason, UnrunTasks};
use crate::runtime::events::Event;
use crate::runtime::persistence::{ListNodes, ListQueues, ReadLine};

/// The most queues in a search; the next search goes on after them.
const MOST_QUEUES: usize = 100;
/// The most tasks of a queue that are counted. Tasks that no node runs come to the front of the queue in time.
const MOST_TASKS: usize = 500;
/// Tasks are reported once they have waited so long, because a node that is started anew takes a moment.
const GRACE: Duration = Duration::from_secs(10);

/// Searches once, and reports new findings. `after` is the queue where the last search ended. Returns the queue where
/// this search has ended; `None` when it has seen all queues.
pub(super) async fn look(core: &Arc<Core>, after: Option<Name>) -> Result<Option<Name>, BackendError> {
    let lines =
        core.persistence.ask(ReadLine { after: after.clone(), queues: MOST_QUEUES, most: MOST_TASKS }).await?;
    let seen = lines.chunk_by(|a, b| a.queue == b.queue).count();
    let last = lines.last().filter(|_| seen >= MOST_QUEUES).map(|line| line.queue.clone());
    let code = core.unrun.code.get().map_or(&[][..], Vec::as_slice);
    let mut found = Vec::new();
    if !lines.is_empty() || !code.is_empty() {
        let mut nodes = core.persistence.ask(ListNodes {}).await?;
        let settings = core.persistence.ask(ListQueues {}).await?;
        if let Some(own) = nodes.iter_mut().find(|node| node.node_id == core.node) {
            // Includes pulls that have begun since the last heartbeat.
            own.pulls = core.unrun.pulls.now(core.clock.elapsed());
        }
        let served = Served::new(nodes, settings, core.clock.now());
        found = unrun(&lines, &served, core.clock.now());
        look_at_schedules(core, code, &served);
    }
    let before = {
        let mut known = core.unrun.tasks.lock();
        let before = known.clone();
        // Queues that this search did not see keep the findings of the last search.
        let within = |queue: &Name| after.as_ref() < Some(queue) && last.as_ref().is_none_or(|last| queue <= last);
        known.retain(|tasks| !within(&tasks.queue));
        known.extend(found.iter().cloned());
        before
    };
    tell(core, &before, &found);
    Ok(last)
}

fn tell(core: &Core, before: &[UnrunTasks], found: &[UnrunTasks]) {
    let same = |a: &UnrunTasks, b: &UnrunTasks| (&a.queue, &a.kind, a.reason) == (&b.queue, &b.kind, b.reason);
    for tasks in found.iter().filter(|tasks| !before.iter().any(|known| same(known, tasks))) {
        warn!(core.log, "no live node runs these pending tasks; see the warnings of `health()` for what to do";
            keys::QUEUE => tasks.queue.as_str(), keys::TYPE => tasks.kind.as_str(), keys::COUNT => tasks.tasks);
        core.events.publish(|| Event::TasksUnrun(tasks.clone()));
    }
    let now = core.unrun.tasks.lock();
    for tasks in before.iter().filter(|known| !now.iter().any(|tasks| same(known, tasks))) {
        info!(core.log, "tasks that no node ran are run now, or are gone";
            keys::QUEUE => tasks.queue.as_str(), keys::TYPE => tasks.kind.as_str());
    }
}

/// Finds the schedules of code whose tasks no node runs, and reports the new findings.
fn look_at_schedules(core: &Core, code: &[CodeSchedule], served: &Served) {
    let found = code.iter().filter_map(|of| Some((of.clone(), served.missing(&of.queue, &of.kind)?)));
    let found: Vec<(CodeSchedule, UnrunReason)> = found.collect();
    let before = std::mem::replace(&mut *core.unrun.schedules.lock(), found.clone());
    for (of, _) in found.iter().filter(|one| !before.contains(one)) {
        warn!(core.log, "no live node runs the tasks of this schedule; see the warnings of `health()` for what to do";
            keys::SCHEDULE => of.schedule.as_str(), keys::QUEUE => of.queue.as_str(), keys::TYPE => of.kind.as_str());
    }
}

/// The queues and types that the live nodes run.
struct Served {
    live: Vec<NodeRecord>,
    settings: Vec<QueueSettings>,
}

impl Served {
    /// Keeps the nodes whose lease has not ended at `now`.
    fn new(mut nodes: Vec<NodeRecord>, settings: Vec<QueueSettings>, now: Timestamp) -> Self {
        nodes.retain(|node| node.lease_until > now);
        Self { live: nodes, settings }
    }

    /// Why no node runs tasks of this queue and type; `None` if a node runs them. A paused queue is left out, because
    /// its pause is intended and is reported elsewhere.
    fn missing(&self, queue: &Name, kind: &Name) -> Option<UnrunReason> {
        let set = self.settings.iter().find(|settings| settings.queue == *queue);
        if set.is_some_and(|settings| settings.paused) || self.live.iter().any(|node| node.pulls.contains(queue)) {
            return None;
        }
        let set = set.and_then(|settings| settings.concurrency);
        let serves = |node: &&NodeRecord| {
            let named = node.queues.iter().find(|(name, _)| name == queue);
            named.is_some_and(|(_, concurrency)| set.unwrap_or(*concurrency) > 0) && !node.types.is_empty()
        };
        match self.live.iter().filter(serves).map(|node| node.types.contains(kind)).max() {
            None => Some(UnrunReason::Queue),
            Some(false) => Some(UnrunReason::Type),
            Some(true) => None,
        }
    }
}

/// The pending tasks that have waited for a while and that no node runs.
fn unrun(lines: &[InLine], served: &Served, now: Timestamp) -> Vec<UnrunTasks> {
    let waiting = lines.iter().filter(|line| now.since(line.oldest) >= GRACE);
    let found = waiting.filter_map(|line| {
        Some(UnrunTasks {
            reason: served.missing(&line.queue, &line.kind)?,
            queue: line.queue.clone(),
            kind: line.kind.clone(),
            tasks: line.tasks,
            more: line.more,
            oldest: line.oldest,
        })
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::NodeId;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn node(lease_until: i64, queues: &[(&'static str, usize)], types: &[&'static str]) -> NodeRecord {
        NodeRecord {
            node_id: NodeId::new(at(0)),
            name: "node".into(),
            started_at: at(0),
            heartbeat_at: at(0),
            lease_until: at(lease_until),
            version: "1".into(),
            queues: queues.iter().map(|(queue, tasks)| (Name::from(*queue), *tasks)).collect(),
            types: types.iter().map(|kind| Name::from(*kind)).collect(),
            pulls: Vec::new(),
        }
    }

    fn line(queue: &'static str, kind: &'static str, oldest: i64) -> InLine {
        InLine { queue: queue.into(), kind: kind.into(), tasks: 3, oldest: at(oldest), more: false }
    }

    #[test]
    fn what_some_live_node_runs_is_not_told_of() {
        let (queue, kind) = (Some(UnrunReason::Queue), Some(UnrunReason::Type));
        let other = node(200, &[("a", 1)], &["y"]);
        let puller = NodeRecord { pulls: vec!["a".into()], ..node(200, &[], &[]) };
        let paused = QueueSettings { queue: "a".into(), paused: true, concurrency: None };
        let scaled = |tasks| QueueSettings { queue: "a".into(), paused: false, concurrency: Some(tasks) };
        for (nodes, settings, wanted) in [
            (vec![], vec![], queue),
            (vec![node(200, &[("a", 1)], &["x", "y"])], vec![], None),
            (vec![node(99, &[("a", 1)], &["x"])], vec![], queue),
            (vec![node(200, &[("b", 1)], &["x"])], vec![], queue),
            (vec![node(200, &[("a", 1)], &[])], vec![], queue),
            (vec![other.clone()], vec![], kind),
            // The first of two nodes has the queue, and the second has the type.
            (vec![other.clone(), node(200, &[("b", 1)], &["x"])], vec![], kind),
            (vec![other.clone(), node(200, &[("a", 1)], &["x"])], vec![], None),
            (vec![other, puller], vec![], None),
            (vec![node(200, &[("a", 0)], &["x"])], vec![], queue),
            (vec![node(200, &[("a", 0)], &["x"])], vec![scaled(2)], None),
            (vec![node(200, &[("a", 2)], &["x"])], vec![scaled(0)], queue),
            (vec![], vec![paused], None),
        ] {
            let served = Served::new(nodes.clone(), settings.clone(), at(100));
            let found = unrun(&[line("a", "x", 50)], &served, at(100));
            let reasons: Vec<UnrunReason> = found.iter().map(|tasks| tasks.reason).collect();
            assert_eq!(reasons, Vec::from_iter(wanted), "{nodes:?}, {settings:?}");
        }
    }

    #[test]
    fn a_task_is_given_a_moment() {
        let nobody = Served::new(vec![], vec![], at(100));
        let told = |oldest| unrun(&[line("a", "x", oldest)], &nobody, at(100)).len();
        assert_eq!((told(90), told(91)), (1, 0));
    }
}
