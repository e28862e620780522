//! Real processes under real signals: the examples that serve until they are asked to end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

use callboard::{TaskId, TaskState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::examples::example;
use crate::place::{Place, on_each_storage};
use crate::waiting::until;

on_each_storage! {
    actix_web
    axum
}

fn actix_web(place: &Place) {
    ends_in_good_order("level2_actix_web", "/reports/", place);
}

fn axum(place: &Place) {
    ends_in_good_order("level2_axum", "/mails/", place);
}

/// Sends either signal once or twice, to a program at rest and to a program with a running task. The program must end
/// by itself and with success. The task must have ended normally, and the node must have released its lease.
fn ends_in_good_order(program: &str, path: &str, place: &Place) {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        for times in [1, 2] {
            for with_task in [false, true] {
                let case = format!("{program}: {times} x {signal}, with a task: {with_task}");
                let mut server = Server::start(program, place);
                let task = with_task.then(|| server.push_and_see_it_run(&format!("{path}{signal}-{times}")));
                (0..times).for_each(|_| server.signal(signal));
                server.ends(&case);
                let Some(task) = task.filter(|_| !matches!(place, Place::Memory)) else { continue };
                let stored = callboard::backend::open(&place.url(), &Default::default()).unwrap();
                let task = stored.get(task).unwrap().unwrap();
                assert_eq!((task.state, task.attempt), (TaskState::Completed, 1), "{case}: {task:?}");
                assert_eq!(stored.nodes().unwrap().len(), 0, "{case}: the lease is given back");
            }
        }
    }
}

/// A running server. It is killed if the test ends early.
struct Server {
    child: Child,
    said: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    fn start(program: &str, place: &Place) -> Self {
        let mut child = Command::new(example(program))
            .env("CALLBOARD_URL", place.url())
            .env("PORT", "0")
            .env("SECONDS", "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("an address").to_owned();
        Self { child, said, address }
    }

    fn push_and_see_it_run(&self, path: &str) -> TaskId {
        let pushed = self.request("POST", path);
        let task_id: TaskId = serde_json::from_value(pushed["task_id"].clone()).unwrap();
        // The state `running` may mean claimed but not begun; such a task is given back by a stop. So wait for
        // progress, which the handler reports.
        let task = || self.request("GET", &format!("/tasks/{task_id}"));
        until("the handler runs", || task()["progress"].is_object().then_some(()));
        task_id
    }

    fn request(&self, method: &str, path: &str) -> Value {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!("Host: {}\r\nContent-Length: 0\r\nConnection: close", self.address);
        write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|_| panic!("{method} {path}: {answer}"))
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        // The first signal may already have ended the program.
        kill(Pid::from_raw(id), signal).ok();
    }

    /// Asserts that the program ends with success and prints that the board has stopped.
    fn ends(&mut self, case: &str) {
        let status = until(case, || self.child.try_wait().unwrap());
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        assert!(status.success(), "{case}: {status}, {rest}");
        assert_eq!(rest.trim(), "the board has stopped", "{case}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
