//! The state that all tasks share: paths and clients.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use callboard::store::StoreHandle;
use callboard::{Board, TaskError, TaskId};
use reqwest::Client;
use tokio::sync::{Mutex, OnceCell};
use uuid::Uuid;

use crate::demo::{self, Behaviour, Demo};
use crate::files::incoming_name;
use crate::list::Entry;
use crate::session;

/// The program's own folder, inside the library.
const OWN: &str = ".callboard";

/// A music library. Cloning is cheap; all clones are the same library.
#[derive(Clone)]
pub(crate) struct Library(Arc<Inner>);

struct Inner {
    root: PathBuf,
    client: Client,
    // One fetch at a time: if ten downloads are rejected together, a single fetch gets the session for all.
    fetching_session: Mutex<()>,
    demo: OnceCell<Demo>,
    board: OnceLock<Board>,
}

impl Library {
    /// Opens the library in `root`, and creates it if it does not exist.
    pub(crate) fn open(root: PathBuf, client: Client) -> io::Result<Self> {
        std::fs::create_dir_all(root.join(OWN))?;
        let (fetching_session, demo, board) = (Mutex::default(), OnceCell::new(), OnceLock::new());
        Ok(Self(Arc::new(Inner { root, client, fetching_session, demo, board })))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// The base of the paths in tasks. Tasks store paths relative to it, so that a library may be moved.
    pub(crate) fn root(&self) -> &Path {
        &self.0.root
    }

    /// A file in the program's own folder.
    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.0.root.join(OWN).join(name)
    }

    /// The folder of files without a final place: a folder for each download task, named by its id.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.own("incoming")
    }

    /// The board, for tasks that query other tasks; `None` until it has started.
    pub(crate) fn board(&self) -> Option<&Board> {
        self.0.board.get()
    }

    pub(crate) fn set_board(&self, board: Board) {
        // This program has a single board; a second call changes nothing.
        self.0.board.get_or_init(|| board);
    }

    /// The current address for a URL of the list. Starts the demo server at the first URL of the demo scheme.
    pub(crate) async fn resolve(&self, url: &str) -> io::Result<String> {
        if !url.starts_with(demo::SCHEME) {
            return Ok(url.to_owned());
        }
        let demo = self.0.demo.get_or_try_init(|| Demo::start(Behaviour::default())).await?;
        Ok(demo.resolve(url))
    }

    /// The cookie for the server of `url`, if a valid cookie is known.
    pub(crate) async fn session(&self, store: &StoreHandle, url: &str) -> Result<Option<String>, TaskError> {
        Ok(store.get(&session::key(url)).await?)
    }

    /// A new cookie for the server of `url`, in place of the cookie that it rejected.
    pub(crate) async fn renew_session(
        &self,
        store: &StoreHandle,
        url: &str,
        refused: Option<&str>,
    ) -> Result<String, TaskError> {
        let _turn = self.0.fetching_session.lock().await;
        // A concurrent download may have fetched a cookie while this download waited for the lock.
        if let Some(other) = self.session(store, url).await?.filter(|cookie| Some(cookie.as_str()) != refused) {
            return Ok(other);
        }
        let new = session::fetch(&self.0.client, url)
            .await
            .map_err(|error| if error.is_fatal() { TaskError::fatal(error) } else { TaskError::new(error) })?;
        store.set(&session::key(url), &new.cookie, Some(new.good_for)).await?;
        Ok(new.cookie)
    }
}

/// The id of the task that downloads an entry. It is the same at every push of the same line, which makes the push
/// idempotent.
pub(crate) fn download_id(entry: &Entry) -> TaskId {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{}\t{}", entry.url, entry.name).as_bytes()).into()
}

/// The id of the task that moves the file of a download to its place.
pub(crate) fn organise_id(download: TaskId) -> TaskId {
    Uuid::new_v5(download.as_uuid(), b"organise_audio").into()
}

/// The first path of an entry's file, relative to the library.
pub(crate) fn save_path(entry: &Entry) -> PathBuf {
    let folder = Path::new(OWN).join("incoming").join(download_id(entry).to_string());
    folder.join(incoming_name(&named_with_extension(entry)))
}

/// The entry's name. If it has no audio extension, the audio extension of the URL is added, if any.
fn named_with_extension(entry: &Entry) -> String {
    let (_, own) = crate::files::split_extension(&entry.name);
    let path = reqwest::Url::parse(&entry.url).map(|url| url.path().to_owned()).unwrap_or_default();
    match (own, crate::files::split_extension(&path).1) {
        (None, Some(extension)) => format!("{}.{extension}", entry.name),
        _ => entry.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(url: &str, name: &str) -> Entry {
        Entry { url: url.into(), name: name.into() }
    }

    #[test]
    fn the_same_line_is_the_same_task() {
        let song = entry("http://a/1.mp3", "玉盘 - 葫芦童声");
        assert_eq!(download_id(&song), download_id(&song.clone()));
        assert_ne!(download_id(&song), download_id(&entry("http://a/1.mp3", "Other - A")));
        assert_ne!(download_id(&song), organise_id(download_id(&song)));
    }

    #[test]
    fn a_file_is_saved_in_a_folder_of_its_task_under_its_name() {
        let song = entry("http://a/1.mp3?x=.wav", "Vol.2 / B - A");
        let path = save_path(&song);
        assert_eq!(path.file_name().unwrap(), "Vol.2 _ B - A.mp3");
        assert_eq!(path.parent().unwrap(), Path::new(".callboard/incoming").join(download_id(&song).to_string()));
        assert_eq!(save_path(&entry("http://a/1.mp3", "B - A.flac")).file_name().unwrap(), "B - A.flac");
        assert_eq!(save_path(&entry("http://a/1", "../..")).components().count(), 4);
    }
}
