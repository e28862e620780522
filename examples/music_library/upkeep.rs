//! The library's own schedules, kept in storage over restarts: a nightly scan of its shelves, and a weekly cleanup.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use callboard::{Context, NewTask, Schedule, Task, TaskError, TaskResult, Trigger, TriggerError, Zone};
use serde::{Deserialize, Serialize};

use crate::library::Library;
use crate::tasks::Cleanup;

/// A time during a longer absence is made up once, when the program runs again.
const GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Scans the files on the shelves, and writes them to `.callboard/catalogue.tsv`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rescan {}

impl Task for Rescan {
    const TYPE: &'static str = "rescan";
    type Output = usize;
}

impl Rescan {
    /// Blocks on the disk, so it is registered with [`blocking`](callboard::BoardBuilder::blocking).
    pub(crate) fn look(self, cx: &Context) -> TaskResult<usize> {
        let library =
            cx.data::<Library>().ok_or_else(|| TaskError::fatal("the program gave its tasks no library"))?;
        let mut songs = BTreeMap::new();
        shelves(library.root(), library.root(), &mut songs)?;
        let fresh = library.own("catalogue.new");
        let mut file = std::fs::File::create(&fresh)?;
        for (path, bytes) in &songs {
            writeln!(file, "{path}\t{bytes}")?;
        }
        file.sync_all()?;
        std::fs::rename(fresh, library.own("catalogue.tsv"))?;
        slog::info!(cx.log(), "looked at the shelves"; "songs" => songs.len());
        Ok(songs.len())
    }
}

/// The files below `folder` with their sizes, relative to `root`; without the program's own folder and hidden entries.
fn shelves(root: &Path, folder: &Path, songs: &mut BTreeMap<String, u64>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() {
            shelves(root, &path, songs)?;
        } else if kind.is_file() {
            let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            songs.insert(shown, entry.metadata()?.len());
        }
    }
    Ok(())
}

/// Both schedules.
pub(crate) fn schedules() -> Result<[Schedule; 2], TriggerError> {
    let rescan = Schedule::new("nightly rescan", Trigger::cron("0 3 * * *", Zone::UTC)?, NewTask::of(&Rescan {}));
    // No unique key of the type: that key is for the cleanup at the end of each run, and this schedule has its own
    // rules.
    let cleanup = NewTask::new(Cleanup::TYPE, &Cleanup {});
    let cleanup = Schedule::new("weekly cleanup", Trigger::cron("30 3 * * 0", Zone::UTC)?, cleanup);
    Ok([rescan, cleanup].map(|schedule| schedule.misfire_grace(GRACE).pause_after(10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shelves_are_seen_and_hidden_folders_are_not() {
        let root = tempfile::tempdir().unwrap();
        for (folder, song) in [("葫芦童声", "玉盘.mp3"), (".callboard/incoming", "half.mp3"), ("A", "B (live).flac")]
        {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
            std::fs::write(root.path().join(folder).join(song), "four").unwrap();
        }
        let mut songs = BTreeMap::new();
        shelves(root.path(), root.path(), &mut songs).unwrap();
        assert_eq!(songs, BTreeMap::from([("A/B (live).flac".into(), 4), ("葫芦童声/玉盘.mp3".into(), 4)]));
    }

    #[test]
    fn the_schedules_are_what_a_board_takes() {
        actix_rt::System::new().block_on(async {
            let [rescan, cleanup] = schedules().unwrap();
            let board = callboard::Board::builder().schedule(rescan).schedule(cleanup).start().await.unwrap();
            let kept = board.schedules().list(callboard::ScheduleFilter::default(), None, 10).await.unwrap();
            assert_eq!(kept.iter().map(|kept| &*kept.name).collect::<Vec<_>>(), ["nightly rescan", "weekly cleanup"]);
            board.stop().await;
        });
    }
}
