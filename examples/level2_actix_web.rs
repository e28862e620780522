//! Lesson: the board lives inside an actix-web application. It starts before the server, two routes push and show
//! tasks, and it stops after the server, so that no accepted task is lost.
//!
//! Command: `cargo run --example level2_actix_web` serves on port 8080 until Ctrl-C or SIGTERM:
//! `curl -X POST localhost:8080/reports/2026-03`, then `curl localhost:8080/tasks/ID` with the `task_id` it answers.
//! Variables in front of the command: `PORT=9000` for a different port, `CALLBOARD_URL=sqlite:reports.db` to keep tasks
//! over restarts, `SECONDS=5` as the duration of a report, to see how a stop waits for it.
//!
//! Self-check: `cargo run --example level2_actix_web -- --check` makes these requests to itself and ends.
//!
//! Expected output:
//! ```text
//! POST /reports/2026-03: 202 Accepted, duplicate: false
//! POST /reports/2026-03: 202 Accepted, duplicate: true
//! GET /tasks/(its id): 200 OK, completed, result: "report of 2026-03: 31 days"
//! GET /tasks/(unknown id): 404 Not Found
//! GET /tasks/nonsense: 400 Bad Request
//! POST /reports/2026-04: 202 Accepted, duplicate: false
//! the server has stopped
//! the board has stopped; the report of 2026-04 is completed
//! ```

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{App, HttpResponse, HttpServer, Responder, error, web};
use callboard::{Board, Context, PushError, Task, TaskError, TaskId, TaskResult, Unique};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

type Failure = Box<dyn std::error::Error>;

#[derive(Serialize, Deserialize)]
struct Report {
    month: String,
}

/// Permits to write a report. The self-check adds them itself; an ordinary run has plenty.
struct Ink(Arc<Semaphore>);

/// The time that a report takes.
struct Pen(Duration);

impl Task for Report {
    const TYPE: &'static str = "report";
    type Output = String;

    /// Two requests for the same month give a single report.
    fn unique(&self) -> Option<Unique> {
        Some(Unique::key(format!("report:{}", self.month)))
    }

    async fn run(self, cx: &Context) -> TaskResult<String> {
        let ink = cx.data::<Ink>().ok_or_else(|| TaskError::fatal("no ink was configured"))?;
        ink.0.acquire().await?.forget();
        cx.progress(0.1, "the ink is there");
        tokio::time::sleep(cx.data::<Pen>().map_or(Duration::ZERO, |pen| pen.0)).await;
        Ok(format!("report of {}: 31 days", self.month))
    }
}

async fn order(board: web::Data<Board>, month: web::Path<String>) -> actix_web::Result<impl Responder> {
    let pushed = board.push(Report { month: month.into_inner() }).await.map_err(|error| match error {
        PushError::Invalid(_) => error::ErrorBadRequest(error),
        // Stopping, or storage is away: the client may retry, because the unique key makes that safe.
        _ => error::ErrorServiceUnavailable(error),
    })?;
    Ok(HttpResponse::Accepted().json(pushed))
}

async fn show(board: web::Data<Board>, id: web::Path<String>) -> actix_web::Result<impl Responder> {
    let id: TaskId = id.parse().map_err(error::ErrorBadRequest)?;
    let task = board.get(id).await.map_err(error::ErrorServiceUnavailable)?;
    Ok(task.map_or_else(|| HttpResponse::NotFound().finish(), |task| HttpResponse::Ok().json(task)))
}

#[actix_rt::main]
async fn main() -> Result<(), Failure> {
    let check = std::env::args().any(|argument| argument == "--check");
    let ink = Arc::new(Semaphore::new(if check { 0 } else { Semaphore::MAX_PERMITS }));
    let pen = Pen(Duration::from_secs(number("SECONDS", 0)?));
    let board = Board::builder().task::<Report>().data(Ink(Arc::clone(&ink))).data(pen);
    // `memory:` unless the environment names a different storage.
    let board = if std::env::var_os("CALLBOARD_URL").is_some() { board.url_from_env()? } else { board };
    // Started before the server, so that its first request finds the board.
    let board = board.start().await?;
    let shared = web::Data::new(board.clone());
    let port = if check { 0 } else { number("PORT", 8080)? };
    let app = move || {
        App::new()
            .app_data(shared.clone())
            .route("/reports/{month}", web::post().to(order))
            .route("/tasks/{id}", web::get().to(show))
    };
    let server = HttpServer::new(app).workers(1).bind(("127.0.0.1", port))?;
    let address = server.addrs().first().copied().ok_or("no address")?;
    let server = server.run();
    if !check {
        // The server handles Ctrl-C and SIGTERM from its first poll on: only then is it announced.
        let serving = actix_rt::spawn(server);
        tokio::task::yield_now().await;
        println!("listening on http://{address}");
        serving.await??;
        // Stopped after the server, so that no request meets a stopped board. Running tasks may go on for the drain
        // time. actix-web stops the actix system after its own end; the board has its own threads, so this does not
        // affect it.
        board.stop().await;
        println!("the board has stopped");
        return Ok(());
    }
    let handle = server.handle();
    let serving = actix_rt::spawn(server);
    let last = self_check(&board, address, &ink).await?;
    handle.stop(true).await;
    serving.await??;
    println!("the server has stopped");
    // The last report still runs, and gets its ink only when the stop has begun.
    let ink = async { ink.add_permits(1) };
    let ((), (), last) = tokio::join!(board.stop(), ink, board.wait(last));
    println!("the board has stopped; the report of 2026-04 is {}", last?.state);
    Ok(())
}

/// A number from an environment variable, with a default.
fn number<N: FromStr<Err = ParseIntError>>(name: &str, otherwise: N) -> Result<N, ParseIntError> {
    std::env::var(name).ok().map_or(Ok(otherwise), |text| text.parse())
}

/// Makes the requests of the header, and returns the id of the last report, which is left without ink.
async fn self_check(board: &Board, server: SocketAddr, ink: &Semaphore) -> Result<TaskId, Failure> {
    let first = order_report(server, "/reports/2026-03").await?;
    order_report(server, "/reports/2026-03").await?;
    ink.add_permits(1);
    board.wait(first).await?;
    let (status, task) = request(server, "GET", format!("/tasks/{first}")).await?;
    println!("GET /tasks/(its id): {status}, {}, result: {}", task["state"].as_str().unwrap_or("?"), task["result"]);
    let unknown = TaskId::new(board.clock().now());
    let (status, _) = request(server, "GET", format!("/tasks/{unknown}")).await?;
    println!("GET /tasks/(unknown id): {status}");
    let (status, _) = request(server, "GET", "/tasks/nonsense".into()).await?;
    println!("GET /tasks/nonsense: {status}");
    order_report(server, "/reports/2026-04").await
}

async fn order_report(server: SocketAddr, path: &'static str) -> Result<TaskId, Failure> {
    let (status, pushed) = request(server, "POST", path.into()).await?;
    println!("POST {path}: {status}, duplicate: {}", pushed["duplicate"]);
    Ok(serde_json::from_value(pushed["task_id"].clone())?)
}

/// Sends a request without a client library. Returns its status and its body, which is null if it is not JSON.
async fn request(server: SocketAddr, method: &'static str, path: String) -> Result<(StatusCode, Value), Failure> {
    let answer = web::block(move || {
        let mut stream = TcpStream::connect(server)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {server}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    });
    let answer = answer.await??;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
    let status = head.split(' ').nth(1).ok_or("no status line")?;
    Ok((status.parse()?, serde_json::from_str(body).unwrap_or_default()))
}
