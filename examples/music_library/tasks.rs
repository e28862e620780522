//! The three tasks: `download_audio`, then `organise_audio`, and `cleanup` when all songs have ended.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use callboard::{
    CancelReason, Context, NewTask, Outcome, PushError, Retry, Task, TaskError, TaskId, TaskResult, TaskState, Unique,
};
use serde::{Deserialize, Serialize};

use crate::download::{Arrived, Download, DownloadError};
use crate::files::{shelf_path, sniff_extension, split_extension};
use crate::library::{Library, organise_id};
use crate::names::Song;
use crate::report::size;
use crate::shelf;

/// The queue whose concurrency the user chooses.
pub(crate) const DOWNLOADS: &str = "downloads";

/// The shortest time between two progress reports.
const BETWEEN_REPORTS: Duration = Duration::from_millis(100);

/// Unknown files stay in the incoming folder for at least this time.
const STRANGERS_STAY: Duration = Duration::from_secs(7 * 24 * 3600);

/// Fetches a file, resumes where an earlier attempt stopped, then pushes the task that moves it to its place.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DownloadAudio {
    pub(crate) url: String,
    /// Relative to the library.
    pub(crate) save_path: PathBuf,
}

impl Task for DownloadAudio {
    const TYPE: &'static str = "download_audio";
    type Output = Outcome;
    const QUEUE: &'static str = DOWNLOADS;
    const MAX_ATTEMPTS: u32 = 10;

    fn retry() -> Retry {
        Retry::exponential(Duration::from_secs(1)).cap(Duration::from_secs(300))
    }

    async fn run(self, cx: &Context) -> TaskResult {
        let library = library(cx)?;
        let target = library.root().join(&self.save_path);
        // An earlier run may have downloaded the file and died before its end was stored. The file may even have been
        // moved to its place since.
        let here = target.try_exists()? || shelf::was_placed(&target)?;
        let arrived = if here { None } else { Some(self.fetch(&library, &target, cx).await?) };
        let next = NewTask::of(&OrganiseAudio { path: self.save_path }).task_id(organise_id(cx.task_id()));
        match cx.push(next).await {
            Ok(_) => {}
            // The program is stopping. The file is complete; the next start continues from there.
            Err(PushError::Closed) => return Ok(Outcome::Release),
            Err(error) => return Err(error.into()),
        }
        Outcome::output(&arrived)
    }
}

impl DownloadAudio {
    async fn fetch(&self, library: &Library, target: &Path, cx: &Context) -> Result<Arrived, TaskError> {
        let url = library.resolve(&self.url).await?;
        let mut cookie = library.session(cx.store(), &url).await?;
        let mut renewed = false;
        loop {
            let download = Download { client: library.client(), url: &url, cookie: cookie.as_deref(), target };
            match download.run(cx.cancelled(), reporter(cx)).await {
                Ok(arrived) => return Ok(arrived),
                Err(DownloadError::Refused(status)) if !renewed => {
                    slog::info!(cx.log(), "a session is needed"; "status" => status.as_u16());
                    cookie = Some(library.renew_session(cx.store(), &url, cookie.as_deref()).await?);
                    renewed = true;
                }
                Err(error) => return Err(as_task_error(error)),
            }
        }
    }
}

/// Reports the progress of a download, at a limited rate.
fn reporter(cx: &Context) -> impl FnMut(u64, Option<u64>) {
    let mut last: Option<Instant> = None;
    move |have, total| {
        if last.is_some_and(|last| last.elapsed() < BETWEEN_REPORTS) && Some(have) != total {
            return;
        }
        last = Some(Instant::now());
        match total {
            Some(total) => cx.progress(have as f64 / total as f64, format!("{} of {}", size(have), size(total))),
            None => cx.progress(0.0, size(have)),
        }
    }
}

fn as_task_error(error: DownloadError) -> TaskError {
    match error {
        fatal if fatal.is_fatal() => TaskError::fatal(fatal),
        DownloadError::Status { retry_after: Some(wait), .. } => TaskError::new(error).retry_after(wait),
        other => TaskError::new(other),
    }
}

/// Moves a downloaded file to the shelf for its name.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OrganiseAudio {
    /// Relative to the library.
    pub(crate) path: PathBuf,
}

impl Task for OrganiseAudio {
    const TYPE: &'static str = "organise_audio";
    type Output = PathBuf;
}

impl OrganiseAudio {
    /// Blocks on the disk, so it is registered with [`blocking`](callboard::BoardBuilder::blocking).
    pub(crate) fn place(self, cx: &Context) -> TaskResult<PathBuf> {
        let library = library(cx)?;
        let source = library.root().join(&self.path);
        let name = self.path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| TaskError::fatal(format!("{} has no name", self.path.display())))?;
        let (stem, extension) = split_extension(name);
        let extension = match extension {
            Some(extension) => extension.to_owned(),
            None => sniff_file(&source).unwrap_or("bin").to_owned(),
        };
        let song = Song::parse(stem);
        let wanted = |number| library.root().join(shelf_path(&song, &extension, number));
        let path = shelf::place(&source, wanted).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => TaskError::fatal(error),
            _ => TaskError::new(error),
        })?;
        slog::info!(cx.log(), "placed"; "path" => %path.display(), "title" => &song.title,
            "version" => song.version.as_deref(), "artists" => song.artists.join(", "));
        Ok(path.strip_prefix(library.root()).unwrap_or(&path).to_owned())
    }
}

fn sniff_file(path: &Path) -> Option<&'static str> {
    let mut head = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, 16), &mut head).ok()?;
    sniff_extension(&head)
}

/// Removes the files of ended downloads.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Cleanup {}

impl Task for Cleanup {
    const TYPE: &'static str = "cleanup";
    type Output = usize;

    fn unique(&self) -> Option<Unique> {
        Some(Unique::key(Self::TYPE))
    }

    async fn run(self, cx: &Context) -> TaskResult<usize> {
        let library = library(cx)?;
        let mut removed = 0;
        let folders = match std::fs::read_dir(library.incoming()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(removed),
            folders => folders?,
        };
        for folder in folders {
            if cx.cancel_reason() == Some(CancelReason::Shutdown) {
                break;
            }
            let folder = folder?;
            let id = folder.file_name().to_str().and_then(|name| name.parse().ok());
            let over = match id {
                Some(id) => is_over(&library, id, &folder).await?,
                None => false,
            };
            if over {
                std::fs::remove_dir_all(folder.path())?;
                removed += 1;
            }
        }
        slog::info!(cx.log(), "cleaned up"; "folders" => removed);
        Ok(removed)
    }
}

/// True if neither the download nor its follow-up task needs the folder any more.
async fn is_over(library: &Library, download: TaskId, folder: &std::fs::DirEntry) -> Result<bool, TaskError> {
    let board = library.board().ok_or_else(|| TaskError::new("the board is still starting"))?;
    match board.get(download).await? {
        Some(task) if task.state == TaskState::Completed => {
            // A file that could not be moved to its place stays: it is complete.
            let organised = board.get(organise_id(download)).await?;
            Ok(organised.is_some_and(|task| task.state == TaskState::Completed))
        }
        Some(task) => Ok(task.state.is_terminal()),
        None => {
            let touched = folder.metadata()?.modified()?;
            // A time in the future counts as now.
            Ok(SystemTime::now().duration_since(touched).unwrap_or_default() > STRANGERS_STAY)
        }
    }
}

fn library(cx: &Context) -> Result<Library, TaskError> {
    cx.data::<Library>().cloned().ok_or_else(|| TaskError::fatal("the program gave its tasks no library"))
}
