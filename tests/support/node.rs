//! A `chaos_node` process that a test controls.
#![allow(dead_code, reason = "each test program uses a part")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callboard::{NodeId, TaskId};
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::waiting::until;

/// The process and the lines that it has printed. It is killed when dropped.
pub(crate) struct Node {
    child: Child,
    orders: Option<ChildStdin>,
    told: Arc<Mutex<Vec<Value>>>,
    errors: Arc<Mutex<String>>,
}

impl Node {
    /// Starts a process with this plan.
    pub(crate) fn start(plan: &Value) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_chaos_node"))
            .arg(plan.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("chaos_node starts");
        let (told, errors) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<Mutex<String>>::default());
        let (lines, sink) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&told));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                // The last line of a killed process may be cut.
                let line = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "cut": line }));
                sink.lock().unwrap().push(line);
            }
        });
        let (lines, sink) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&errors));
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let mut errors = sink.lock().unwrap();
                errors.push_str(&line);
                errors.push('\n');
            }
        });
        let orders = child.stdin.take();
        Self { child, orders, told, errors }
    }

    /// Starts a process and waits until its board runs.
    pub(crate) fn ready(plan: &Value) -> Self {
        let mut node = Self::start(plan);
        node.hear("ready", |line| line.get("ready").cloned());
        node
    }

    /// Starts `processes` processes that open their storage at the same moment, and waits until all boards run. Their
    /// plan must have `wait_for_go`. Also returns the time that this took.
    pub(crate) fn opened_at_once(plan: &Value, processes: usize) -> (Vec<Self>, Duration) {
        let mut nodes: Vec<Self> = (0..processes).map(|_| Self::start(plan)).collect();
        for node in &mut nodes {
            node.hear("opening", |line| line.get("opening").cloned());
        }
        let started = Instant::now();
        nodes.iter_mut().for_each(|node| node.order("go"));
        for node in &mut nodes {
            node.hear("ready", |line| line.get("ready").cloned());
        }
        (nodes, started.elapsed())
    }

    /// Waits for a line for which `look` returns a value. If the process ends first, the test fails.
    pub(crate) fn hear<T>(&mut self, what: &str, look: impl Fn(&Value) -> Option<T>) -> T {
        until(what, || {
            // Check for the end before reading the lines, so that lines printed before the end still count.
            let ended = self.child.try_wait().unwrap();
            let heard = self.told.lock().unwrap().iter().find_map(&look);
            // The last lines may not have been read yet. A strong count of 1 means that the reader has read all lines
            // and ended.
            if let (None, Some(status), 1) = (&heard, ended, Arc::strong_count(&self.told)) {
                panic!("the node ended ({status}) before {what}: {}", self.errors.lock().unwrap());
            }
            heard
        })
    }

    /// Waits for an event of a task.
    pub(crate) fn hear_event(&mut self, event: &str, task_id: impl ToString) -> Value {
        let task_id = task_id.to_string();
        self.hear(&format!("{event} {task_id}"), |line| {
            (line["event"] == event && line["task_id"] == task_id).then(|| line.clone())
        })
    }

    /// The number of lines so far that `like` accepts.
    pub(crate) fn count(&self, like: impl Fn(&Value) -> bool) -> usize {
        self.told.lock().unwrap().iter().filter(|line| like(line)).count()
    }

    /// Sends a command to the process.
    pub(crate) fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("its input is open");
        writeln!(orders, "{order}").expect("the node reads");
    }

    /// Makes the process push a task.
    pub(crate) fn push(&mut self, task: &Value) -> TaskId {
        let pushed = |line: &Value| line.get("pushed").cloned();
        let before = self.count(|line| pushed(line).is_some());
        self.order(&format!("push {task}"));
        let id = until("the push", || self.told.lock().unwrap().iter().filter_map(pushed).nth(before));
        serde_json::from_value(id).expect("a task id")
    }

    /// The node id: the incarnation of the process.
    pub(crate) fn id(&mut self) -> NodeId {
        let id = self.hear("ready", |line| line.get("ready").cloned());
        serde_json::from_value(id).expect("a node id")
    }

    /// Asks for the health of its board.
    pub(crate) fn health(&mut self) -> Value {
        let before = self.count(|line| line.get("health").is_some());
        self.order("health");
        until("an answer about health", || {
            let told = self.told.lock().unwrap();
            told.iter().filter_map(|line| line.get("health")).nth(before).cloned()
        })
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill(Pid::from_raw(pid), signal).expect("the process is there");
    }

    /// Stops the process at a moment when it does not hold the lock of its SQLite file. Otherwise no process could
    /// write until it continues.
    pub(crate) fn freeze(&self, url: &str) {
        let Some(file) = url.strip_prefix("sqlite:") else { return self.signal(Signal::SIGSTOP) };
        until("a moment without the lock", || {
            self.signal(Signal::SIGSTOP);
            until("it stands still", || self.stands_still().then_some(()));
            let mut conn = SqliteConnection::establish(file).unwrap();
            let free = conn.batch_execute("PRAGMA busy_timeout = 3000; BEGIN IMMEDIATE; ROLLBACK").is_ok();
            if !free {
                self.signal(Signal::SIGCONT);
            }
            free.then_some(())
        });
    }

    /// True when all threads of the process have stopped. A thread in a system call, or waiting in it for a core, first
    /// continues to the end of that call. So it could still take a lock after the test has checked for the lock.
    fn stands_still(&self) -> bool {
        // Without this folder the threads cannot be checked, so the result is true.
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        threads.into_iter().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state follows the name, which may contain any character. A thread that has ended has no state.
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z', 'X']))
        })
    }

    /// Kills the process with SIGKILL, and waits until it has ended.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// True while the process runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end of the process.
    pub(crate) fn end(&mut self) -> ExitStatus {
        until("the end of the node", || self.child.try_wait().unwrap())
    }

    /// Waits for the end of the process, for as long as its file keeps growing.
    pub(crate) fn end_while_growing(&mut self, file: &Path) -> ExitStatus {
        let length = || std::fs::metadata(file).map_or(0, |file| file.len());
        let mut last = length();
        loop {
            let moved_on = until("the end of the node, or more of its work", || {
                let (status, now) = (self.child.try_wait().unwrap(), length());
                (status.is_some() || now > last).then_some((status, now))
            });
            match moved_on {
                (Some(status), _) => return status,
                (None, now) => last = now,
            }
        }
    }

    /// The processor time that the process has used.
    pub(crate) fn busy(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name may contain blanks, so count the fields after it. The 12th and 13th are the time in the program and
        // in the kernel, in hundredths of a second.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// The text that the process wrote to standard error.
    pub(crate) fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The process may have ended by itself, so errors are ignored.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
