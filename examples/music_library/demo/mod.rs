//! A demo server on loopback: songs that need a session, with faults that real servers show.

mod melody;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::body::SizedStream;
use actix_web::dev::ServerHandle;
use actix_web::http::{StatusCode, header};
use actix_web::web::{Bytes, Data, Path};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use futures_util::Stream;

use crate::list::Entry;

/// URLs with this scheme belong to this server. They do not contain its port, which changes with each start.
pub(crate) const SCHEME: &str = "demo:";

/// Bytes sent at a time.
const CHUNK: usize = 8 * 1024;

/// The songs, some of them with a fault.
const SONGS: [(&str, Fault); 19] = [
    ("玉盘 - 葫芦童声", Fault::None),
    ("Libertus - Chen-U_EG", Fault::None),
    ("Silent Street (Type A) - Hyunmin Cho _ seibin _ Youngkyoung Choi _ SHIFT UP", Fault::None),
    ("病名为爱 (国语) - 祖娅纳惜", Fault::Busy),
    ("どうして… (为什么) - 凋叶棕", Fault::None),
    ("BLUE DRAGON ('07 ver_) - 澤野弘之", Fault::Cut),
    ("像鱼 (伴奏) - 王贰浪", Fault::None),
    ("Let Her Go (DOAN Remix) - Doan", Fault::None),
    ("The Lost Tape (never found) - Nobody", Fault::Gone),
    ("The Edge (Original Mix) - Grant _ Nevve", Fault::None),
    ("LEVEL5-judgelight- (instrumental) - fripSide", Fault::None),
    ("Ghost (The Him Remix) - Au_Ra _ Alan Walker", Fault::None),
    ("夢燈籠 (R7CKY 你的名字 Mix) - R7CKY", Fault::None),
    ("病名为爱-古风版 (改编版原唱_ Neru) - 杨可爱", Fault::None),
    ("RISE（中文版）登峰造极境（语言版） - 祈Inory", Fault::None),
    ("My Dearest (Instrumental_TV Edit) - supercell", Fault::None),
    ("All Alone With You (Inst_) - EGOIST", Fault::None),
    ("答案 (女声吉他弹唱) - 李瑨瑶", Fault::None),
    ("勾指起誓 (甜味小少年ver) - 洛少爷", Fault::None),
];

/// The fault of a song.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// 503 at the first two requests.
    Busy,
    /// The first response closes the connection half-way, although its `Content-Length` is that of the whole file.
    Cut,
    /// 404, always.
    Gone,
}

/// The settings of the server.
#[derive(Clone)]
pub(crate) struct Behaviour {
    /// How long a session cookie is valid.
    pub(crate) session: Duration,
    /// The wait between chunks: slow enough to be watched.
    pub(crate) pause: Duration,
    /// Called with everything that is sent, before it is sent.
    pub(crate) watch: Arc<dyn Fn(Sent<'_>) + Send + Sync>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self { session: Duration::from_secs(4), pause: Duration::from_millis(60), watch: Arc::new(|_| ()) }
    }
}

/// A message that the server is about to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent<'a> {
    /// A session cookie.
    Cookie,
    /// The head of an answer about a song.
    Head { name: &'a str, status: u16 },
    /// The next bytes of a song; the last bytes when `end` is the song's length.
    Chunk { name: &'a str, start: usize, end: usize },
}

/// The running server.
pub(crate) struct Demo {
    address: SocketAddr,
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests stop it"))]
    handle: ServerHandle,
}

impl Demo {
    /// Starts the server on a free port of the loopback interface. Faults of "the first request" happen once per start.
    pub(crate) async fn start(behaviour: Behaviour) -> io::Result<Self> {
        let songs = SONGS.iter().map(|&(name, fault)| Song {
            name,
            fault,
            file: Bytes::from(melody::wav(name)),
            requests: AtomicU32::new(0),
        });
        let state = Data::new(State { behaviour, songs: songs.collect(), sessions: Mutex::default() });
        let app = move || {
            App::new()
                .app_data(state.clone())
                .route("/session", web::get().to(new_session))
                .route("/audio/{number}", web::get().to(serve))
        };
        let server = HttpServer::new(app).workers(1).disable_signals().bind(("127.0.0.1", 0))?;
        let address = *server.addrs().first().ok_or_else(|| io::Error::other("bound to no address"))?;
        let server = server.run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Ok(Self { address, handle })
    }

    /// The list of its songs, with URLs that stay valid after a restart.
    pub(crate) fn list() -> Vec<Entry> {
        let entry = |(number, (name, _)): (usize, &(&str, Fault))| Entry {
            url: format!("{SCHEME}/audio/{number}"),
            name: format!("{name}.wav"),
        };
        SONGS.iter().enumerate().map(entry).collect()
    }

    /// The URL in this start for a URL of the list.
    pub(crate) fn resolve(&self, url: &str) -> String {
        format!("http://{}{}", self.address, url.strip_prefix(SCHEME).unwrap_or(url))
    }

    /// Closes all connections. The program itself does not call it: its connections end with the process.
    #[cfg(test)]
    pub(crate) async fn stop(&self) {
        self.handle.stop(false).await;
    }
}

struct State {
    behaviour: Behaviour,
    songs: Vec<Song>,
    /// Session -> end of its validity.
    sessions: Mutex<HashMap<String, Instant>>,
}

struct Song {
    name: &'static str,
    fault: Fault,
    file: Bytes,
    requests: AtomicU32,
}

async fn new_session(state: Data<State>) -> HttpResponse {
    (state.behaviour.watch)(Sent::Cookie);
    let session = format!("{:032x}", rand::random::<u128>());
    let ends = Instant::now() + state.behaviour.session;
    state.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(session.clone(), ends);
    let age = state.behaviour.session.as_secs();
    HttpResponse::NoContent()
        .insert_header((header::SET_COOKIE, format!("session={session}; Max-Age={age}; Path=/; HttpOnly")))
        .finish()
}

async fn serve(request: HttpRequest, number: Path<usize>, state: Data<State>) -> HttpResponse {
    let Some(song) = state.songs.get(*number) else { return HttpResponse::NotFound().finish() };
    let answer = match admit(&request, &state) {
        Err(status) => HttpResponse::new(status),
        Ok(()) => match (song.fault, song.requests.fetch_add(1, Ordering::Relaxed)) {
            (Fault::Gone, _) => HttpResponse::NotFound().finish(),
            (Fault::Busy, 0 | 1) => {
                HttpResponse::ServiceUnavailable().insert_header((header::RETRY_AFTER, "1")).finish()
            }
            (Fault::Cut, 0) => send(&request, &state, *number, song.file.len() / 2),
            _ => send(&request, &state, *number, song.file.len()),
        },
    };
    (state.behaviour.watch)(Sent::Head { name: song.name, status: answer.status().as_u16() });
    answer
}

/// Rejects requests without a valid session.
fn admit(request: &HttpRequest, state: &State) -> Result<(), StatusCode> {
    let cookies = request.headers().get(header::COOKIE).and_then(|cookies| cookies.to_str().ok()).unwrap_or("");
    let session = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("session="));
    let session = session.ok_or(StatusCode::UNAUTHORIZED)?;
    let sessions = state.sessions.lock().unwrap_or_else(PoisonError::into_inner);
    match sessions.get(session) {
        Some(&ends) if Instant::now() < ends => Ok(()),
        _ => Err(StatusCode::FORBIDDEN),
    }
}

/// Answers with the song, or with the requested range of it. The connection breaks at `breaks_at`.
fn send(request: &HttpRequest, state: &Data<State>, number: usize, breaks_at: usize) -> HttpResponse {
    let file = &state.songs[number].file;
    let tag = format!("\"{:016x}\"", melody::hash(file));
    let asked = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let unchanged = asked(header::IF_RANGE).is_none_or(|given| given == tag);
    let range = asked(header::RANGE).filter(|_| unchanged).and_then(read_range);
    let (mut answer, start, end) = match range {
        None => (HttpResponse::Ok(), 0, file.len()),
        Some((start, _)) if start >= file.len() => {
            let range = format!("bytes */{}", file.len());
            return HttpResponse::RangeNotSatisfiable().insert_header((header::CONTENT_RANGE, range)).finish();
        }
        Some((start, last)) => {
            let end = last.map_or(file.len(), |last| file.len().min(last + 1));
            let mut answer = HttpResponse::PartialContent();
            let range = format!("bytes {start}-{}/{}", end - 1, file.len());
            answer.insert_header((header::CONTENT_RANGE, range));
            (answer, start, end)
        }
    };
    answer
        .insert_header((header::ETAG, tag))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::CONTENT_TYPE, "audio/wav"))
        .body(SizedStream::new((end - start) as u64, chunks(state.clone(), number, start..end, breaks_at)))
}

/// `bytes=N-` or `bytes=N-M`; any other range is ignored, as RFC 9110 allows.
fn read_range(header: &str) -> Option<(usize, Option<usize>)> {
    let (start, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let start = start.parse().ok()?;
    let last = if last.is_empty() { None } else { Some(last.parse().ok()?) };
    last.is_none_or(|last| start <= last).then_some((start, last))
}

fn chunks(
    state: Data<State>,
    number: usize,
    range: std::ops::Range<usize>,
    breaks_at: usize,
) -> impl Stream<Item = io::Result<Bytes>> {
    futures_util::stream::try_unfold(range.start, move |start| {
        let (state, last) = (state.clone(), range.end);
        async move {
            // The pause also gives the connection time to send its buffer before it breaks.
            actix_rt::time::sleep(state.behaviour.pause).await;
            if start == last {
                return Ok(None);
            }
            if start >= breaks_at {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let end = last.min(breaks_at).min(start + CHUNK);
            let song = &state.songs[number];
            (state.behaviour.watch)(Sent::Chunk { name: song.name, start, end });
            Ok(Some((song.file.slice(start..end), end)))
        }
    })
}

/// The file that is served under this name.
#[cfg(test)]
pub(crate) fn song(name: &str) -> Vec<u8> {
    melody::wav(name)
}
