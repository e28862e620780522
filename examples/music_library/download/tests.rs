//! Tests against a server with scripted answers, and against the demo server.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::thread::JoinHandle;

use super::*;
use crate::demo::{Behaviour, Demo};

/// Answers connections in turn with the given texts, then closes; returns the requests.
struct Script {
    url: String,
    requests: JoinHandle<Vec<String>>,
}

impl Script {
    fn new(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/song", listener.local_addr().unwrap());
        let requests = std::thread::spawn(move || {
            let answer = |answer: &&str| {
                let mut stream = listener.accept().unwrap().0;
                let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
                let request: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                stream.write_all(answer.replace('\n', "\r\n").as_bytes()).unwrap();
                request.join("\n").to_lowercase()
            };
            answers.iter().map(answer).collect()
        });
        Self { url, requests }
    }

    fn requests(self) -> Vec<String> {
        self.requests.join().unwrap()
    }
}

/// A folder that contains the target of a download.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn target(&self) -> PathBuf {
        self.path("song.wav")
    }

    /// The part that an earlier attempt left.
    fn with_part(self, content: &str, memo: &str) -> Self {
        std::fs::write(self.path("song.wav.part"), content).unwrap();
        std::fs::write(self.path("song.wav.part.json"), memo).unwrap();
        self
    }

    fn part(&self) -> Option<String> {
        std::fs::read_to_string(self.path("song.wav.part")).ok()
    }

    fn content(&self) -> Option<String> {
        std::fs::read_to_string(self.target()).ok()
    }

    /// Names of all files, sorted.
    fn names(&self) -> Vec<String> {
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<_> = std::fs::read_dir(self.0.path()).unwrap().map(name).collect();
        names.sort();
        names
    }

    fn download(&self, url: &str) -> Result<Arrived, DownloadError> {
        self.download_with(url, None, std::future::pending())
    }

    fn download_with(
        &self,
        url: &str,
        cookie: Option<&str>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<Arrived, DownloadError> {
        actix_rt::System::new().block_on(async {
            let (client, target) = (client().unwrap(), self.target());
            let download = Download { client: &client, url, cookie, target: &target };
            download.run(cancelled, |_, _| ()).await
        })
    }
}

const MEMO: &str = r#"{"validator": "\"v1\"", "total": 10}"#;

#[test]
fn a_whole_file_arrives() {
    let (folder, server) = (Folder::new(), Script::new(&["HTTP/1.1 200 OK\nContent-Length: 10\n\n0123456789"]));
    assert_eq!(folder.download(&server.url).unwrap(), Arrived { bytes: 10, resumed_at: 0 });
    assert_eq!(folder.content().as_deref(), Some("0123456789"));
    assert_eq!(folder.names(), ["song.wav"]);
    assert!(!server.requests()[0].contains("range"));
}

#[test]
fn a_file_that_was_cut_short_is_resumed() {
    let folder = Folder::new();
    let server = Script::new(&[
        "HTTP/1.1 200 OK\nContent-Length: 10\nETag: \"v1\"\n\n0123",
        "HTTP/1.1 206 Partial Content\nContent-Length: 6\nContent-Range: bytes 4-9/10\nETag: \"v1\"\n\n456789",
    ]);
    let error = folder.download(&server.url).unwrap_err();
    assert!(matches!(error, DownloadError::Length { have: 4, total: 10 }) && !error.is_fatal(), "{error}");
    assert_eq!(folder.content(), None);
    assert_eq!(folder.download(&server.url).unwrap(), Arrived { bytes: 10, resumed_at: 4 });
    assert_eq!(folder.content().as_deref(), Some("0123456789"));
    let requests = server.requests();
    assert!(requests[1].contains("range: bytes=4-") && requests[1].contains("if-range: \"v1\""), "{}", requests[1]);
}

#[test]
fn a_file_that_has_changed_is_not_glued() {
    let folder = Folder::new().with_part("0123", MEMO);
    let server = Script::new(&["HTTP/1.1 200 OK\nContent-Length: 5\nETag: \"v2\"\n\nABCDE"]);
    assert_eq!(folder.download(&server.url).unwrap(), Arrived { bytes: 5, resumed_at: 0 });
    assert_eq!(folder.content().as_deref(), Some("ABCDE"));
}

#[test]
fn a_rest_of_another_file_is_refused_and_the_whole_is_asked_for() {
    for (name, wrong) in [
        ("tag", "HTTP/1.1 206 Partial Content\nContent-Length: 1\nContent-Range: bytes 4-4/10\nETag: \"v2\"\n\nX"),
        ("start", "HTTP/1.1 206 Partial Content\nContent-Length: 1\nContent-Range: bytes 3-3/10\n\nX"),
        ("total", "HTTP/1.1 206 Partial Content\nContent-Length: 1\nContent-Range: bytes 4-4/5\n\nX"),
        ("nothing", "HTTP/1.1 206 Partial Content\nContent-Length: 1\n\nX"),
        ("416", "HTTP/1.1 416 Range Not Satisfiable\nContent-Length: 0\nContent-Range: bytes */3\n\n"),
    ] {
        let answers = [wrong, "HTTP/1.1 200 OK\nContent-Length: 3\nETag: \"v2\"\n\nABC"];
        let folder = Folder::new().with_part("0123", MEMO);
        let server = Script::new(Box::leak(Box::new(answers)));
        assert_eq!(folder.download(&server.url).unwrap(), Arrived { bytes: 3, resumed_at: 0 }, "{name}");
        assert_eq!(folder.content().as_deref(), Some("ABC"), "{name}");
        assert!(!server.requests()[1].contains("range"), "{name}");
    }
}

#[test]
fn a_part_of_unknown_origin_is_not_trusted() {
    for (name, memo) in [("no-validator", r#"{"validator": null, "total": 10}"#), ("torn-memo", r#"{"valid"#)] {
        let folder = Folder::new().with_part("0123", memo);
        let server = Script::new(&["HTTP/1.1 200 OK\nContent-Length: 3\nETag: W/\"v1\"\n\nABC"]);
        assert_eq!(folder.download(&server.url).unwrap(), Arrived { bytes: 3, resumed_at: 0 }, "{name}");
        assert!(!server.requests()[0].contains("range"), "{name}");
    }
}

#[test]
fn a_part_that_is_whole_asks_for_nothing() {
    let folder = Folder::new().with_part("0123456789", MEMO);
    assert_eq!(folder.download("http://127.0.0.1:1/").unwrap(), Arrived { bytes: 10, resumed_at: 10 });
    assert_eq!(folder.names(), ["song.wav"]);
}

#[test]
fn without_a_length_the_last_chunk_ends_the_file() {
    let folder = Folder::new();
    let server = Script::new(&[
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nABC\n",
        "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nABC\n0\n\n",
    ]);
    assert!(matches!(folder.download(&server.url), Err(DownloadError::Network(_))));
    assert_eq!(folder.download(&server.url).unwrap().bytes, 3);
}

#[test]
fn errors_know_whether_trying_again_can_help() {
    let folder = Folder::new();
    let server = Script::new(&[
        "HTTP/1.1 404 Not Found\nContent-Length: 0\n\n",
        "HTTP/1.1 429 Too Many Requests\nRetry-After: 7\nContent-Length: 0\n\n",
        "HTTP/1.1 503 Service Unavailable\nContent-Length: 0\n\n",
        "HTTP/1.1 403 Forbidden\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\nContent-Type: text/html\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: 0\n\n",
    ]);
    let url = server.url.clone();
    let next = || folder.download(&url).unwrap_err();
    assert!(next().is_fatal());
    let busy = next();
    assert!(matches!(busy, DownloadError::Status { retry_after: Some(wait), .. } if wait.as_secs() == 7), "{busy}");
    assert!(!busy.is_fatal() && !next().is_fatal());
    assert!(matches!(next(), DownloadError::Refused(_)));
    assert!(matches!(next(), DownloadError::WebPage));
    assert!(matches!(next(), DownloadError::Compressed(_)));
    server.requests();
    assert!(matches!(folder.download(&url), Err(error @ DownloadError::Network(_)) if !error.is_fatal()));
}

#[test]
fn calling_it_off_keeps_what_came() {
    let folder = Folder::new();
    // The server sends until the end of the file; the download is cancelled at the first bytes.
    let arrived = actix_rt::System::new().block_on(async {
        let demo = Demo::start(Behaviour { pause: Duration::from_millis(1), ..Behaviour::default() }).await.unwrap();
        let (client, target) = (client().unwrap(), folder.target());
        let cookie = crate::session::fetch(&client, &demo.resolve("demo:/audio/0")).await.unwrap().cookie;
        let url = demo.resolve("demo:/audio/0");
        let download = Download { client: &client, url: &url, cookie: Some(&cookie), target: &target };
        let stop = tokio::sync::Notify::new();
        let first = download
            .run(stop.notified(), |have, _| {
                if have > 0 {
                    stop.notify_one()
                }
            })
            .await;
        assert!(matches!(first, Err(DownloadError::Cancelled)), "{first:?}");
        let second = download.run(std::future::pending(), |_, _| ()).await.unwrap();
        demo.stop().await;
        second
    });
    assert!(arrived.resumed_at > 0 && arrived.resumed_at < arrived.bytes, "{arrived:?}");
    assert_eq!(folder.part(), None);
}

#[test]
fn the_demo_server_breaks_a_connection_once_and_wants_a_session() {
    let folder = Folder::new();
    let number = Demo::list().iter().position(|entry| entry.name.starts_with("BLUE DRAGON")).unwrap();
    actix_rt::System::new().block_on(async {
        let demo = Demo::start(Behaviour { pause: Duration::from_millis(1), ..Behaviour::default() }).await.unwrap();
        let (client, target) = (client().unwrap(), folder.target());
        let url = demo.resolve(&format!("demo:/audio/{number}"));
        let mut download = Download { client: &client, url: &url, cookie: None, target: &target };
        let mut run = async |cookie| {
            download.cookie = cookie;
            download.run(std::future::pending(), |_, _| ()).await
        };
        assert!(matches!(run(None).await, Err(DownloadError::Refused(status)) if status == 401));
        assert!(matches!(run(Some("session=x")).await, Err(DownloadError::Refused(status)) if status == 403));
        let session = crate::session::fetch(&client, &url).await.unwrap();
        let short = run(Some(&session.cookie)).await.unwrap_err();
        let DownloadError::Length { have, total } = short else { panic!("{short}") };
        assert_eq!(have, total / 2);
        assert_eq!(run(Some(&session.cookie)).await.unwrap(), Arrived { bytes: total, resumed_at: have });
        demo.stop().await;
    });
    assert!(std::fs::read(folder.target()).unwrap() == crate::demo::song("BLUE DRAGON ('07 ver_) - 澤野弘之"));
}
