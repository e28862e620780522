//! One run of the program: pushes the list, waits until every song has ended, and reports the results.

use std::collections::{HashMap, HashSet};

use actix::Addr;
use callboard::{
    Board, BoardError, NewTask, PushError, Task, TaskFilter, TaskId, TaskOrder, TaskRecord, TaskState, Timestamp,
};

use crate::library::{Library, download_id, organise_id, save_path};
use crate::list::Entry;
use crate::report::{End, Report, Row};
use crate::screen::{Expect, Screen, song_name};
use crate::tasks::{Cleanup, DownloadAudio, OrganiseAudio};

/// Tasks per transaction of a push, and per page of a read.
const BATCH: usize = 500;

/// A run over a list.
pub(crate) struct Job {
    pub(crate) list: Vec<Entry>,
    pub(crate) started_at: Timestamp,
}

impl Job {
    /// Pushes new lines. A line that was pushed before changes nothing, in any state of its task.
    pub(crate) async fn push(&self, board: &Board) -> Result<(), PushError> {
        for entries in self.list.chunks(BATCH) {
            let tasks = entries.iter().map(|entry| {
                let task = DownloadAudio { url: entry.url.clone(), save_path: save_path(entry) };
                NewTask::of(&task).task_id(download_id(entry))
            });
            board.push_many(tasks).await?;
        }
        Ok(())
    }

    /// Sends the screen the names of the songs to do, including songs left by an earlier run.
    pub(crate) async fn announce(&self, board: &Board, screen: &Addr<Screen>) -> Result<(), BoardError> {
        let songs = self.songs(board).await?.into_iter().filter(|song| !self.is_old(song));
        let songs = songs.map(|song| (song.download.task_id, song.name())).collect();
        // If the screen is gone, nothing is shown, and the work goes on.
        screen.send(Expect(songs)).await.unwrap_or(());
        Ok(())
    }

    /// The result of each song.
    pub(crate) async fn report(&self, board: &Board, library: &Library) -> Result<Report, BoardError> {
        let listed: HashSet<_> = self.list.iter().map(download_id).collect();
        let mut report = Report::default();
        for song in self.songs(board).await? {
            let is_listed = listed.contains(&song.download.task_id);
            match song.row(library) {
                row if row.end == End::GivenUp && is_listed => report.rows.push(row),
                _ if self.is_old(&song) => report.before += usize::from(is_listed),
                row => report.rows.push(row),
            }
        }
        Ok(report)
    }

    /// True for a song that had ended before this run began.
    fn is_old(&self, song: &Song) -> bool {
        song.last().finished_at.is_some_and(|at| at < self.started_at)
    }

    async fn songs(&self, board: &Board) -> Result<Vec<Song>, BoardError> {
        let organised = all(board, OrganiseAudio::TYPE, &[]).await?;
        let mut organised: HashMap<_, _> = organised.into_iter().map(|task| (task.task_id, task)).collect();
        let downloads = all(board, DownloadAudio::TYPE, &[]).await?.into_iter();
        Ok(downloads
            .map(|download| Song { organised: organised.remove(&organise_id(download.task_id)), download })
            .collect())
    }
}

/// Resolves when every song has ended, also the songs of earlier lists, and the cleanup is done.
pub(crate) async fn finish(board: &Board) -> Result<(), BoardError> {
    let live =
        [TaskState::Waiting, TaskState::Scheduled, TaskState::Pending, TaskState::Running, TaskState::Retrying];
    // A download pushes its follow-up task before it ends. So after the downloads no new follow-up can appear.
    for kind in [DownloadAudio::TYPE, OrganiseAudio::TYPE] {
        for task in all(board, kind, &live).await? {
            board.wait(task.task_id).await?;
        }
    }
    match board.push(Cleanup {}).await {
        Ok(cleanup) => board.wait(cleanup.task_id).await.map(drop),
        Err(error) => Err(BoardError::Invalid(error.to_string())),
    }
}

/// Retries the tasks that were given up.
pub(crate) async fn retry(board: &Board) -> Result<(), BoardError> {
    for kind in [DownloadAudio::TYPE, OrganiseAudio::TYPE] {
        for task in all(board, kind, &[TaskState::Dead]).await? {
            board.retry(task.task_id).await?;
        }
    }
    Ok(())
}

/// All tasks of a type in some states, page by page, oldest first.
async fn all(board: &Board, kind: &str, states: &[TaskState]) -> Result<Vec<TaskRecord>, BoardError> {
    let filter = TaskFilter { types: vec![kind.into()], states: states.to_vec(), ..TaskFilter::default() };
    let (mut tasks, mut after) = (Vec::new(), None);
    loop {
        let page = board.list(filter.clone(), TaskOrder::OldestFirst, after, BATCH).await?;
        tasks.extend(page.tasks);
        after = page.next;
        if after.is_none() {
            return Ok(tasks);
        }
    }
}

/// A song as storage knows it: its download, and the follow-up task.
struct Song {
    download: TaskRecord,
    organised: Option<TaskRecord>,
}

impl Song {
    fn id(&self) -> TaskId {
        self.download.task_id
    }

    /// The task that decides how the song ended.
    fn last(&self) -> &TaskRecord {
        self.organised.as_ref().unwrap_or(&self.download)
    }

    fn name(&self) -> String {
        let params: Result<DownloadAudio, _> = serde_json::from_str(&self.download.params);
        params.map_or_else(|_| self.id().to_string(), |params| song_name(&params.save_path))
    }

    fn row(&self, library: &Library) -> Row {
        let last = self.last();
        let organised = self.organised.as_ref().filter(|task| task.state == TaskState::Completed);
        let path = organised.and_then(|task| task.result.as_ref()?.as_str());
        let trouble = || last.last_error.clone().or_else(|| self.download.last_error.clone()).unwrap_or_default();
        let attempts = self.download.attempt.max(last.attempt);
        let (end, remark) = match (path, last.state) {
            (Some(path), _) if attempts > 1 => (End::Retried, format!("{path} (at first: {})", trouble())),
            (Some(path), _) => (End::Done, path.to_owned()),
            (None, TaskState::Dead | TaskState::Cancelled) => (End::GivenUp, trouble()),
            (None, _) => (End::Left, trouble()),
        };
        let bytes = path.and_then(|path| std::fs::metadata(library.root().join(path)).ok()).map(|file| file.len());
        Row { end, song: self.name(), attempts, bytes, remark }
    }
}
