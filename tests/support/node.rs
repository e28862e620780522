//! A `chaos_node` process in the hands of a test.
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

/// The process, and what it has told. Killed when dropped.
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

    /// Starts so many processes that open their storage at the same moment, and waits until all boards run; their plan has
    /// `wait_for_go`. Also says how long that took.
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

    /// Waits for a line that `look` likes. A process that ends first fails the test.
    pub(crate) fn hear<T>(&mut self, what: &str, look: impl Fn(&Value) -> Option<T>) -> T {
        until(what, || {
            // Asked before the lines are looked at: what it told before its end then counts.
            let ended = self.child.try_wait().unwrap();
            let heard = self.told.lock().unwrap().iter().find_map(&look);
            // Its last lines may be on their way still; a reader that is gone has read them all.
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

    /// How many lines `like` likes by now.
    pub(crate) fn count(&self, like: impl Fn(&Value) -> bool) -> usize {
        self.told.lock().unwrap().iter().filter(|line| like(line)).count()
    }

    /// Gives an order.
    pub(crate) fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("its input is open");
        writeln!(orders, "{order}").expect("the node reads");
    }

    /// Lets it push a task.
    pub(crate) fn push(&mut self, task: &Value) -> TaskId {
        let pushed = |line: &Value| line.get("pushed").cloned();
        let before = self.count(|line| pushed(line).is_some());
        self.order(&format!("push {task}"));
        let id = until("the push", || self.told.lock().unwrap().iter().filter_map(pushed).nth(before));
        serde_json::from_value(id).expect("a task id")
    }

    /// Its incarnation.
    pub(crate) fn id(&mut self) -> NodeId {
        let id = self.hear("ready", |line| line.get("ready").cloned());
        serde_json::from_value(id).expect("a node id")
    }

    /// Asks how its board is.
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

    /// Stops it, at a moment at which it does not hold the lock of its SQLite file: until it went on nobody could write.
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

    /// True when all of its threads have stopped. One that was in a system call, or waited for a core in it, goes on to the
    /// end of that first: it could take a lock after somebody has looked whether it has it.
    fn stands_still(&self) -> bool {
        // Where there is no such folder nobody can tell.
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        threads.into_iter().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // Behind the name, which may have anything in it. A thread that is gone has no state.
            stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 'Z', 'X']))
        })
    }

    /// Kills it as the kernel does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// True while it runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        until("the end of the node", || self.child.try_wait().unwrap())
    }

    /// Waits for its end, for as long as a file of its own keeps growing.
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

    /// The time that processors have spent on it.
    pub(crate) fn busy(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Behind the name, which may have blanks in it, the 12th and 13th: in the program and in the kernel, in hundredths.
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap());
        Duration::from_millis(ticks.sum::<u64>() * 10)
    }

    /// What it said on standard error.
    pub(crate) fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
