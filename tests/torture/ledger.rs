//! The combined contents of the ledgers of all processes.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use callboard::{NodeId, TaskId};

use crate::nodes::note::{Edit, How, Line, Note, RunId, Wanted};

/// Reads the ledgers while they grow.
pub(crate) struct Follower {
    folder: PathBuf,
    read: HashMap<PathBuf, u64>,
    pushed: usize,
    begun: usize,
}

impl Follower {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.into(), read: HashMap::new(), pushed: 0, begun: 0 }
    }

    /// The number of acknowledged pushes and of begun runs.
    pub(crate) fn counts(&mut self) -> (usize, usize) {
        for path in paths(&self.folder) {
            let from = self.read.entry(path.clone()).or_default();
            let mut text = String::new();
            let mut file = File::open(&path).unwrap();
            file.seek(SeekFrom::Start(*from)).unwrap();
            file.read_to_string(&mut text).unwrap();
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            *from += whole as u64;
            self.pushed += text[..whole].matches("\"is\":\"pushed\"").count();
            self.begun += text[..whole].matches("\"is\":\"begin\"").count();
        }
        (self.pushed, self.begun)
    }
}

fn paths(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|ending| ending == "ledger")).collect()
}

/// A run as its handler saw it.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) node: NodeId,
    pub(crate) begin: i64,
    /// `None` if the run's process was killed.
    pub(crate) end: Option<(i64, How)>,
}

/// A push that was answered with tasks.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    /// The time of the request.
    pub(crate) asked: i64,
    /// The time of the answer; the tasks were stored by then.
    pub(crate) told: i64,
    pub(crate) ids: Vec<TaskId>,
    pub(crate) got: Vec<TaskId>,
}

/// A span in which a queue is paused: from the time at which this node learned of the pause until any node resumes the
/// queue.
#[derive(Debug)]
pub(crate) struct Pause {
    pub(crate) queue: String,
    pub(crate) node: NodeId,
    pub(crate) begin: i64,
    /// The time at which this node learned that no task of the queue runs here any more.
    pub(crate) drained: i64,
    pub(crate) end: i64,
}

/// The combined contents of all ledgers.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) wanted: HashMap<TaskId, Wanted>,
    /// Groups of tasks; each group is stored completely or not at all.
    pub(crate) groups: Vec<Vec<TaskId>>,
    pub(crate) acknowledged: Vec<Acknowledged>,
    pub(crate) refused: HashSet<TaskId>,
    pub(crate) rolled_back: HashSet<TaskId>,
    pub(crate) open: usize,
    pub(crate) runs: Vec<Run>,
    pub(crate) edited: HashMap<(Edit, TaskId), u64>,
    pub(crate) edited_all: HashMap<Edit, u64>,
    pub(crate) pauses: Vec<Pause>,
    pub(crate) rescued: usize,
    pub(crate) fenced: usize,
    /// Spans in which a node was not scheduled or had no lease: the node, the begin and the end.
    pub(crate) unwell: Vec<(NodeId, i64, i64)>,
    pub(crate) errors: BTreeSet<String>,
}

impl Ledger {
    pub(crate) fn read(folder: &Path) -> Self {
        let mut ledger = Self::default();
        let mut resumes = Vec::new();
        for path in paths(folder) {
            ledger.read_one(&path, &mut resumes);
        }
        resumes.sort();
        for pause in &mut ledger.pauses {
            let over = resumes.iter().find(|(at, queue)| *at >= pause.begin && *queue == pause.queue);
            pause.end = over.map_or(i64::MAX, |(at, _)| *at);
        }
        ledger.runs.sort_by_key(|run| run.begin);
        ledger
    }

    fn read_one(&mut self, path: &Path, resumes: &mut Vec<(i64, String)>) {
        let (mut node, mut asked) = (None, HashMap::new());
        let mut runs: HashMap<RunId, Run> = HashMap::new();
        for line in serde_json::Deserializer::from_reader(BufReader::new(File::open(path).unwrap())).into_iter() {
            let Line { at, note } = line.expect("whole lines only");
            // A run may begin before the board reports that it is ready. So the node of all runs is filled in below.
            match note {
                Note::Node { node: id } => node = Some(id),
                Note::Begin { run } => {
                    runs.insert(run, Run { id: run, node: NodeId::from(uuid::Uuid::nil()), begin: at, end: None });
                }
                Note::End { run, how } => {
                    runs.get_mut(&run).expect("it has begun").end = Some((at, how));
                }
                Note::Pushing { tasks } => {
                    let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
                    if ids.len() > 1 && tasks.iter().all(|task| task.key.is_none()) {
                        self.groups.push(ids.clone());
                    }
                    asked.extend(ids.iter().map(|id| (*id, at)));
                    self.wanted.extend(tasks.into_iter().map(|task| (task.id, task)));
                }
                Note::Pushed { ids, got } => {
                    let asked = ids.first().map_or(at, |id| asked[id]);
                    self.acknowledged.push(Acknowledged { asked, told: at, ids, got });
                }
                Note::Refused { id } => drop(self.refused.insert(id)),
                Note::RolledBack { id } => drop(self.rolled_back.insert(id)),
                Note::Open { .. } => self.open += 1,
                Note::Editing { edit, task } => *self.edited.entry((edit, task)).or_default() += 1,
                Note::EditingAll { edit } => *self.edited_all.entry(edit).or_default() += 1,
                Note::Paused { queue } => {
                    let node = node.expect("it is ready");
                    self.pauses.push(Pause { queue, node, begin: at, drained: i64::MAX, end: i64::MAX });
                }
                Note::Drained { .. } => self.pauses.last_mut().expect("it is paused first").drained = at,
                Note::Resuming { queue } => resumes.push((at, queue)),
                Note::Rescued { .. } => self.rescued += 1,
                Note::Fenced { .. } => self.fenced += 1,
                Note::Unwell { late_ms, .. } => {
                    let late = i64::try_from(late_ms).unwrap_or(0) * 1_000;
                    self.unwell.push((node.expect("it is ready"), at - late, at));
                }
                Note::Error { text } => drop(self.errors.insert(text)),
                Note::Stopped {} => {}
            }
        }
        // If the board was killed before it was ready, its node id is unknown, so the nil id is used. The judge then
        // knows the board only by its runs.
        let node = node.unwrap_or_else(|| uuid::Uuid::nil().into());
        self.runs.extend(runs.into_values().map(|run| Run { node, ..run }));
    }
}
