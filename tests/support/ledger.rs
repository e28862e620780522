//! The ledger that nodes keep outside their database, and the comparison of the two.
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use callboard::backend::{OpenOptions, Opened, TaskFilter, TaskOrder, open};
use callboard::{ExecutionStatus, TaskId, TaskRecord, TaskState};

/// Reads the file while it grows.
pub(crate) struct Follower {
    path: PathBuf,
    file: Option<File>,
    /// The number of lines by their first word.
    counts: HashMap<String, usize>,
    rest: String,
}

impl Follower {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.into(), file: None, counts: HashMap::new(), rest: String::new() }
    }

    /// The number of lines so far: of the given kind, or of all kinds.
    pub(crate) fn lines(&mut self, kind: Option<&str>) -> usize {
        self.file = self.file.take().or_else(|| File::open(&self.path).ok());
        if let Some(file) = &mut self.file {
            file.read_to_string(&mut self.rest).unwrap();
        }
        let whole = self.rest.rfind('\n').map_or(0, |end| end + 1);
        let rest = self.rest.split_off(whole);
        for line in std::mem::replace(&mut self.rest, rest).lines() {
            let word = line.split(' ').next().unwrap_or_default();
            *self.counts.entry(word.into()).or_default() += 1;
        }
        match kind {
            Some(kind) => self.counts.get(kind).copied().unwrap_or(0),
            None => self.counts.values().sum(),
        }
    }
}

/// The contents of the whole ledger.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) tried: HashSet<TaskId>,
    pub(crate) acknowledged: HashSet<TaskId>,
    pub(crate) groups: Vec<Vec<TaskId>>,
    pub(crate) cancels: HashSet<TaskId>,
    pub(crate) runs: HashMap<TaskId, usize>,
    pub(crate) fenced: usize,
    pub(crate) rescued: usize,
    pub(crate) errors: Vec<String>,
}

impl Ledger {
    pub(crate) fn read(path: &Path) -> Self {
        let mut ledger = Self::default();
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let (what, rest) = line.split_once(' ').unwrap();
            if what == "error" {
                ledger.errors.push(rest.into());
                continue;
            }
            let ids: Vec<TaskId> = rest.split(' ').map(|id| id.parse().expect("whole lines only")).collect();
            match what {
                "try" => {
                    ledger.tried.extend(&ids);
                    if ids.len() > 1 {
                        ledger.groups.push(ids);
                    }
                }
                "ack" => ledger.acknowledged.extend(ids),
                "cancel" => ledger.cancels.extend(ids),
                "run" => ids.into_iter().for_each(|id| *ledger.runs.entry(id).or_default() += 1),
                "fenced" => ledger.fenced += 1,
                "rescued" => ledger.rescued += 1,
                other => panic!("an unknown line: {other}"),
            }
        }
        ledger
    }
}

/// All tasks in storage with the states of their runs.
pub(crate) struct Stored {
    pub(crate) tasks: HashMap<TaskId, (TaskRecord, Vec<ExecutionStatus>)>,
}

impl Stored {
    pub(crate) fn read(backend: &Opened) -> Self {
        let (mut tasks, mut after) = (HashMap::new(), None);
        loop {
            let page = backend.list(&TaskFilter::default(), TaskOrder::OldestFirst, after, 5_000).unwrap();
            for task in page.tasks {
                let runs = backend.executions(task.task_id).unwrap().iter().map(|run| run.status).collect();
                let twice = tasks.insert(task.task_id, (task, runs));
                assert!(twice.is_none(), "listed twice: {twice:?}");
            }
            after = page.next;
            if after.is_none() {
                return Self { tasks };
            }
        }
    }

    /// Like [`read`](Stored::read), for the storage at a URL.
    pub(crate) fn at(url: &str) -> Self {
        Self::read(&open(url, &OpenOptions::default()).unwrap())
    }

    pub(crate) fn count(&self, state: TaskState) -> usize {
        self.tasks.values().filter(|(task, _)| task.state == state).count()
    }

    pub(crate) fn runs(&self, status: ExecutionStatus) -> usize {
        self.tasks.values().flat_map(|(_, runs)| runs).filter(|run| **run == status).count()
    }

    /// Compares the ledger with the stored tasks. Returns the number of begun runs whose end is not stored: storage has
    /// only a lost execution of such a run, or none. These runs were cut short, or their end was not accepted.
    pub(crate) fn check(&self, ledger: &Ledger) -> usize {
        assert_eq!(ledger.errors, Vec::<String>::new(), "errors reached the user");
        for id in &ledger.acknowledged {
            assert!(self.tasks.contains_key(id), "acknowledged and lost: {id}");
        }
        for (id, (task, _)) in &self.tasks {
            // A task made by a schedule was not pushed by a node.
            assert!(task.firing.is_some() || ledger.tried.contains(id), "invented: {id}");
        }
        for group in &ledger.groups {
            let stored = group.iter().filter(|id| self.tasks.contains_key(id)).count();
            assert!(stored == 0 || stored == group.len(), "half a group: {stored} of {group:?}");
        }
        let mut extra = 0;
        for (task, runs) in self.tasks.values() {
            extra += self.check_task(task, runs, ledger);
        }
        for id in ledger.runs.keys() {
            assert!(self.tasks.contains_key(id), "ran, and is not stored: {id}");
        }
        extra
    }

    fn check_task(&self, task: &TaskRecord, runs: &[ExecutionStatus], ledger: &Ledger) -> usize {
        let id = task.task_id;
        let count = |status| runs.iter().filter(|run| **run == status).count();
        let told = || format!("{task:?}, runs {runs:?}");
        assert!(task.state.is_terminal(), "not at its end: {}", told());
        assert!(task.finished_at.is_some() && task.node.is_none(), "half ended: {}", told());
        let successes = usize::from(task.state == TaskState::Completed);
        assert_eq!(count(ExecutionStatus::Success), successes, "{}", told());
        assert_eq!(count(ExecutionStatus::Running), 0, "{}", told());
        match task.state {
            TaskState::Cancelled => assert!(ledger.cancels.contains(&id), "nobody cancelled {}", told()),
            TaskState::Dead => {
                let error = task.last_error.as_deref().unwrap_or_default();
                let by_crashes = error.starts_with("crash loop") && count(ExecutionStatus::Lost) >= 3;
                let used_up = error == "not yet" && count(ExecutionStatus::Failed) as u32 >= task.max_attempts;
                assert!(by_crashes || used_up || error == "never again", "dead for no reason: {}", told());
            }
            _ => {}
        }
        let taken = runs.iter().filter(|run| **run != ExecutionStatus::Lost).count();
        let begun = ledger.runs.get(&id).copied().unwrap_or(0);
        begun.checked_sub(taken).unwrap_or_else(|| panic!("{taken} runs are stored, {begun} were begun: {}", told()))
    }
}
