//! Lesson: the board lives inside an axum application, or any other application on plain tokio, without an actix system
//! around it.
//!
//! Command: `cargo run --example level2_axum` serves on port 8081 until Ctrl-C or SIGTERM:
//! `curl -X POST localhost:8081/mails/ann`, then `curl localhost:8081/tasks/ID` with the `task_id` it answers.
//! Variables in front of the command: `PORT=9000` for a different port, `CALLBOARD_URL=sqlite:mails.db` to keep tasks
//! over restarts, `SECONDS=5` as the duration of a mail, to see how a stop waits for it.
//!
//! Self-check: `cargo run --example level2_axum -- --check` makes these requests to itself and ends.
//!
//! Expected output:
//! ```text
//! POST /mails/ann: 202 Accepted
//! GET /tasks/(its id): 200 OK, completed, result: "sent to ann"
//! GET /tasks/nonsense: 400 Bad Request
//! the board has stopped
//! ```

#![allow(clippy::print_stdout, reason = "it shows what it does")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use callboard::{Board, Context, Task, TaskId, TaskResult};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Serialize, Deserialize)]
struct Mail {
    to: String,
}

/// The time that a mail takes.
struct Post(Duration);

impl Task for Mail {
    const TYPE: &'static str = "mail";
    type Output = String;

    async fn run(self, cx: &Context) -> TaskResult<String> {
        cx.progress(0.1, "stamped");
        tokio::time::sleep(cx.data::<Post>().map_or(Duration::ZERO, |post| post.0)).await;
        Ok(format!("sent to {}", self.to))
    }
}

async fn send(State(board): State<Board>, Path(to): Path<String>) -> Response {
    match board.push(Mail { to }).await {
        Ok(pushed) => (StatusCode::ACCEPTED, Json(pushed)).into_response(),
        // Stopping, or storage is away: the client may retry.
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn show(State(board): State<Board>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<TaskId>() else { return StatusCode::BAD_REQUEST.into_response() };
    match board.get(id).await {
        Ok(Some(task)) => Json(task).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let check = std::env::args().any(|argument| argument == "--check");
    let number = |name: &str, otherwise| std::env::var(name).ok().map_or(Ok(otherwise), |text| text.parse::<u16>());
    let board = Board::builder().task::<Mail>().data(Post(Duration::from_secs(number("SECONDS", 0)?.into())));
    // `memory:` unless the environment names a different storage.
    let board = if std::env::var_os("CALLBOARD_URL").is_some() { board.url_from_env()? } else { board };
    let board = board.start().await?;
    let app =
        Router::new().route("/mails/{to}", post(send)).route("/tasks/{id}", get(show)).with_state(board.clone());
    let port = if check { 0 } else { number("PORT", 8081)? };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = listener.local_addr()?;
    let (end, ended) = oneshot::channel::<()>();
    if check {
        let board = board.clone();
        // Dropping `end` ends the server.
        tokio::spawn(async move { self_check(&board, address).await.map(|()| drop(end)) });
        axum::serve(listener, app).with_graceful_shutdown(async { drop(ended.await) }).await?;
    } else {
        // Signal handlers are installed before the server is announced: otherwise an early signal would end the process
        // at once.
        let asked_to_end = asked_to_end()?;
        println!("listening on http://{address}");
        axum::serve(listener, app).with_graceful_shutdown(asked_to_end).await?;
    }
    // Stopped after the server, so that no request meets a stopped board. Running tasks may go on for the drain time.
    board.stop().await;
    println!("the board has stopped");
    Ok(())
}

/// Resolves at Ctrl-C, and when a service manager sends SIGTERM.
fn asked_to_end() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Makes the requests of the header.
async fn self_check(board: &Board, server: SocketAddr) -> Result<(), Failure> {
    let (status, pushed) = request(server, "POST", "/mails/ann".into()).await?;
    println!("POST /mails/ann: {status}");
    let id: TaskId = serde_json::from_value(pushed["task_id"].clone())?;
    board.wait(id).await?;
    let (status, task) = request(server, "GET", format!("/tasks/{id}")).await?;
    println!("GET /tasks/(its id): {status}, {}, result: {}", task["state"].as_str().unwrap_or("?"), task["result"]);
    let (status, _) = request(server, "GET", "/tasks/nonsense".into()).await?;
    println!("GET /tasks/nonsense: {status}");
    Ok(())
}

/// Sends a request without a client library. Returns its status and its body, which is null if it is not JSON.
async fn request(server: SocketAddr, method: &'static str, path: String) -> Result<(StatusCode, Value), Failure> {
    let answer = tokio::task::spawn_blocking(move || {
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
