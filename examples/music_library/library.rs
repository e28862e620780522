//! What all tasks share: where things are, and what they talk with.

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

/// The folder of the program's own, inside the library.
const OWN: &str = ".callboard";

/// A music library. Cloning is cheap; all clones are the same library.
#[derive(Clone)]
pub(crate) struct Library(Arc<Inner>);

struct Inner {
    root: PathBuf,
    client: Client,
    // One at a time: of ten downloads that are refused at once, one fetches a session for all.
    fetching_session: Mutex<()>,
    demo: OnceCell<Demo>,
    board: OnceLock<Board>,
}

impl Library {
    /// Opens the library in `root`, which is made when it is not there.
    pub(crate) fn open(root: PathBuf, client: Client) -> io::Result<Self> {
        std::fs::create_dir_all(root.join(OWN))?;
        let (fetching_session, demo, board) = (Mutex::default(), OnceCell::new(), OnceLock::new());
        Ok(Self(Arc::new(Inner { root, client, fetching_session, demo, board })))
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    /// Where paths of tasks begin. They are stored without it, so that a library may be moved.
    pub(crate) fn root(&self) -> &Path {
        &self.0.root
    }

    /// A file of the program's own.
    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.0.root.join(OWN).join(name)
    }

    /// Where files are until they have their place: one folder for each download task, named by its id.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.own("incoming")
    }

    /// The board, for the tasks that ask about other tasks; nothing before it has started.
    pub(crate) fn board(&self) -> Option<&Board> {
        self.0.board.get()
    }

    pub(crate) fn set_board(&self, board: Board) {
        // There is one board in this program; a second would change nothing.
        self.0.board.get_or_init(|| board);
    }

    /// Where a URL of the list leads today. Starts the demo server at the first URL that is its own.
    pub(crate) async fn resolve(&self, url: &str) -> io::Result<String> {
        if !url.starts_with(demo::SCHEME) {
            return Ok(url.to_owned());
        }
        let demo = self.0.demo.get_or_try_init(|| Demo::start(Behaviour::default())).await?;
        Ok(demo.resolve(url))
    }

    /// The cookie for the server of `url`, if one is known that is still good.
    pub(crate) async fn session(&self, store: &StoreHandle, url: &str) -> Result<Option<String>, TaskError> {
        Ok(store.get(&session::key(url)).await?)
    }

    /// A new cookie for the server of `url`, in place of the one that it refused.
    pub(crate) async fn renew_session(
        &self,
        store: &StoreHandle,
        url: &str,
        refused: Option<&str>,
    ) -> Result<String, TaskError> {
        let _turn = self.0.fetching_session.lock().await;
        // Another download may have fetched one while this one waited for its turn.
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

/// The id of the task that downloads an entry: the same whenever the same line is pushed, which makes pushing it
/// again harmless.
pub(crate) fn download_id(entry: &Entry) -> TaskId {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{}\t{}", entry.url, entry.name).as_bytes()).into()
}

/// The id of the task that puts the file of a download in its place.
pub(crate) fn organise_id(download: TaskId) -> TaskId {
    Uuid::new_v5(download.as_uuid(), b"organise_audio").into()
}

/// Where the file of an entry goes first, seen from the library.
pub(crate) fn save_path(entry: &Entry) -> PathBuf {
    let folder = Path::new(OWN).join("incoming").join(download_id(entry).to_string());
    folder.join(incoming_name(&named_with_extension(entry)))
}

/// The entry's name; when it has no extension of audio and the URL has one, with that of the URL.
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
