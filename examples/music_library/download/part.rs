//! The received part of a file: `NAME.part`. `NAME.part.json` identifies the file that it is a part of.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::fs;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::DownloadError;
use crate::files::beside;
use crate::shelf::sync_folder;

/// Known facts about the file on the server.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Memo {
    /// Its `ETag` or `Last-Modified`. Without it a part cannot be trusted to belong to the file.
    pub(super) validator: Option<String>,
    /// Its length in bytes.
    pub(super) total: Option<u64>,
}

/// A file that is being received.
pub(super) struct Part {
    path: PathBuf,
    memo_path: PathBuf,
    file: fs::File,
    memo: Memo,
    have: u64,
}

impl Part {
    /// Opens the part of an earlier attempt, or an empty part.
    pub(super) async fn open(target: &Path) -> Result<Self, DownloadError> {
        let (path, memo_path) = (beside(target, ".part"), beside(target, ".part.json"));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).await.map_err(DownloadError::disk(folder))?;
        }
        let options = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).await;
        let mut file = options.map_err(DownloadError::disk(&path))?;
        let length = file.seek(SeekFrom::End(0)).await.map_err(DownloadError::disk(&path))?;
        let memo = read_memo(&memo_path).await;
        let mut part = Self { path, memo_path, file, memo, have: length };
        let too_long = part.memo.total.is_some_and(|total| length > total);
        if length > 0 && (too_long || part.memo.validator.is_none()) {
            part.restart(Memo::default()).await?;
        }
        Ok(part)
    }

    /// Bytes received so far.
    pub(super) const fn have(&self) -> u64 {
        self.have
    }

    /// Bytes of the whole file, if the server has announced them.
    pub(super) const fn total(&self) -> Option<u64> {
        self.memo.total
    }

    /// True when every byte is there and only the last rename is missing.
    pub(super) fn is_whole(&self) -> bool {
        self.have > 0 && self.memo.total == Some(self.have)
    }

    /// True when bytes are known to be missing.
    pub(super) fn is_short(&self) -> bool {
        self.memo.total.is_some_and(|total| self.have < total)
    }

    /// The `Range` and `If-Range` of the request, if there is a part to resume.
    pub(super) fn range(&self) -> Option<(String, &str)> {
        let validator = self.memo.validator.as_deref()?;
        (self.have > 0).then(|| (format!("bytes={}-", self.have), validator))
    }

    /// True unless the part came from a file of a different length.
    pub(super) fn may_have_total(&self, total: Option<u64>) -> bool {
        self.memo.total.is_none() || total.is_none() || self.memo.total == total
    }

    /// True if the part came from the version of the file that `validator` names.
    pub(super) fn is_from(&self, validator: &str) -> bool {
        self.memo.validator.as_deref() == Some(validator)
    }

    /// Deletes the received bytes and begins a part of the file that `memo` describes.
    ///
    /// The order matters. After a crash in the middle, an empty part may have an old memo, but an old part never has a
    /// new memo.
    pub(super) async fn restart(&mut self, memo: Memo) -> Result<(), DownloadError> {
        let emptied = async {
            self.file.set_len(0).await?;
            self.file.rewind().await
        };
        emptied.await.map_err(DownloadError::disk(&self.path))?;
        let text = serde_json::to_vec(&memo).map_err(io::Error::from);
        let written = async { fs::write(&self.memo_path, text?).await };
        written.await.map_err(DownloadError::disk(&self.memo_path))?;
        (self.memo, self.have) = (memo, 0);
        Ok(())
    }

    pub(super) async fn append(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        self.file.write_all(bytes).await.map_err(DownloadError::disk(&self.path))?;
        self.have += bytes.len() as u64;
        Ok(())
    }

    /// Waits until all appended bytes are in the file.
    pub(super) async fn flush(&mut self) -> Result<(), DownloadError> {
        self.file.flush().await.map_err(DownloadError::disk(&self.path))
    }

    /// Fails unless every byte is received, if the server has announced the length.
    pub(super) async fn check_length(&mut self) -> Result<(), DownloadError> {
        match self.memo.total {
            Some(total) if total != self.have => {
                let error = DownloadError::Length { have: self.have, total };
                if self.have > total {
                    self.restart(Memo::default()).await?;
                }
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Moves the file to its target: first every byte on the disk, then the name.
    pub(super) async fn finish(self, target: &Path) -> Result<(), DownloadError> {
        self.file.sync_all().await.map_err(DownloadError::disk(&self.path))?;
        fs::rename(&self.path, target).await.map_err(DownloadError::disk(target))?;
        let folder = target.to_owned();
        let synced = actix_rt::task::spawn_blocking(move || sync_folder(&folder)).await;
        synced.unwrap_or_else(|error| Err(error.into())).map_err(DownloadError::disk(target))?;
        fs::remove_file(&self.memo_path).await.map_err(DownloadError::disk(&self.memo_path))
    }
}

/// With a missing or torn memo the part starts from the beginning.
async fn read_memo(path: &Path) -> Memo {
    fs::read(path).await.ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}
