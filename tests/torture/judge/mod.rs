//! Compares the ledgers with the stored tasks.

mod pauses;
mod runs;
mod schedules;
mod tasks;
mod unique;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use callboard::backend::{Backend, ScheduleFilter, TaskFilter, TaskOrder};
use callboard::{Execution, ExecutionStatus, Firing, NodeId, ScheduleRecord, TaskId, TaskRecord, TaskState};

use crate::faults::{Fault, Window};
use crate::ledger::Ledger;
use crate::limits::Seen;
use crate::nodes::LEASE;
use crate::nodes::note::RunId;

/// At most this many messages are printed for each rule.
const SHOWN: usize = 10;

/// All data for the judgement, gathered at the end.
pub(crate) struct Evidence {
    pub(crate) ledger: Ledger,
    pub(crate) tasks: HashMap<TaskId, (TaskRecord, Vec<Execution>)>,
    pub(crate) schedules: Vec<(ScheduleRecord, Vec<Firing>)>,
    /// Spans in which nodes may have lost their leases.
    pub(crate) windows: Vec<Window>,
    /// The accepted runs, with the status in their stored execution.
    pub(crate) accepted: HashMap<(NodeId, RunId), ExecutionStatus>,
}

impl Evidence {
    pub(crate) fn gather(folder: &Path, backend: &dyn Backend, mut windows: Vec<Window>) -> Self {
        let (ledger, tasks) = (Ledger::read(folder), tasks(backend));
        let schedules = backend.list_schedules(&ScheduleFilter::default(), None, 10_000).unwrap();
        let firings = |record: &ScheduleRecord| backend.firings(record.schedule_id, None, 100_000).unwrap();
        let schedules = schedules.into_iter().map(|record| (record.clone(), firings(&record))).collect();
        // A lease ends some time after the node's last heartbeat.
        let lease = micros(LEASE);
        windows.extend(ledger.unwell.iter().map(|(node, begin, end)| Window {
            node: Some(*node),
            begin: begin - lease,
            end: end + lease,
        }));
        let executions = tasks.values().flat_map(|(_, executions)| executions);
        let accepted = executions
            .filter(|run| !matches!(run.status, ExecutionStatus::Lost | ExecutionStatus::Running))
            .map(|run| ((run.node, RunId { task: run.task_id, started: run.started_at.as_micros() }), run.status))
            .collect();
        Self { ledger, tasks, schedules, windows, accepted }
    }

    pub(crate) fn count(&self, state: TaskState) -> usize {
        self.tasks.values().filter(|(task, _)| task.state == state).count()
    }

    pub(crate) fn executions(&self, status: ExecutionStatus) -> impl Iterator<Item = &Execution> {
        self.tasks.values().flat_map(|(_, runs)| runs).filter(move |run| run.status == status)
    }
}

pub(crate) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn tasks(backend: &dyn Backend) -> HashMap<TaskId, (TaskRecord, Vec<Execution>)> {
    let (mut tasks, mut after) = (HashMap::new(), None);
    loop {
        let page = backend.list(&TaskFilter::default(), TaskOrder::OldestFirst, after, 5_000).unwrap();
        for task in page.tasks {
            let runs = backend.executions(task.task_id).unwrap();
            let twice = tasks.insert(task.task_id, (task, runs));
            assert!(twice.is_none(), "listed twice: {twice:?}");
        }
        after = page.next;
        if after.is_none() {
            return tasks;
        }
    }
}

/// Prints a summary of the run, and fails with a list of all broken rules.
pub(crate) fn judge(
    name: &str,
    seed: u64,
    lasted: Duration,
    met: &BTreeMap<Fault, usize>,
    evidence: &Evidence,
    limits: Option<&Seen>,
) {
    let intervals = runs::intervals(evidence);
    let rules: [(&str, Vec<String>); 7] = [
        ("tasks", tasks::faults(evidence)),
        ("runs", runs::faults(evidence, &intervals)),
        ("limits", limits.map_or_else(Vec::new, Seen::faults)),
        ("limits of runs", runs::narrow(evidence, &intervals)),
        ("unique keys", unique::faults(evidence, &intervals)),
        ("schedules", schedules::faults(evidence, &intervals)),
        ("pauses", pauses::faults(evidence)),
    ];
    let Evidence { ledger, schedules, .. } = evidence;
    let lost = evidence.executions(ExecutionStatus::Lost).count();
    println!(
        "{name}, seed {seed}, {:.0} s: {met:?}; {} pushes acknowledged, {} open, {} refused, {} rolled back; {} tasks: {} \
         completed, {} dead, {} cancelled; {} runs begun, {} accepted, {lost} lost, {} rescued, {} fenced; {} firings of {} \
         schedules; {} pauses; {limits:?}",
        lasted.as_secs_f64(),
        ledger.acknowledged.iter().map(|push| push.ids.len()).sum::<usize>(),
        ledger.open,
        ledger.refused.len(),
        ledger.rolled_back.len(),
        evidence.tasks.len(),
        evidence.count(TaskState::Completed),
        evidence.count(TaskState::Dead),
        evidence.count(TaskState::Cancelled),
        ledger.runs.len(),
        evidence.accepted.len(),
        ledger.rescued,
        ledger.fenced,
        schedules.iter().map(|(_, firings)| firings.len()).sum::<usize>(),
        schedules.len(),
        ledger.pauses.len(),
    );
    let mut wrong = 0;
    for (rule, faults) in &rules {
        wrong += faults.len();
        for fault in faults.iter().take(SHOWN) {
            println!("WRONG, {rule}: {fault}");
        }
        if faults.len() > SHOWN {
            println!("WRONG, {rule}: {} more", faults.len() - SHOWN);
        }
    }
    assert!(wrong == 0, "{wrong} promises were broken; they are listed above");
    assert!(met.values().all(|times| *times > 0), "some fault never happened: {met:?}");
    let enough = ledger.acknowledged.len() > 100
        && ledger.runs.len() > 100
        && ledger.rolled_back.len() + ledger.refused.len() > 0;
    assert!(enough, "the faults met no load");
}
