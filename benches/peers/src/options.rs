//! The scenario and its settings.

use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerName {
    GraphileWorker,
    Apalis,
    Fang,
}

impl PeerName {
    const ALL: [Self; 3] = [Self::GraphileWorker, Self::Apalis, Self::Fang];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::GraphileWorker => "graphile_worker",
            Self::Apalis => "apalis",
            Self::Fang => "fang",
        }
    }

    /// The package whose version is reported.
    fn package(self) -> &'static str {
        match self {
            Self::Apalis => "apalis-postgres",
            other => other.as_str(),
        }
    }

    /// The version in use, read from the lock file.
    pub(crate) fn version(self) -> &'static str {
        let name = format!("name = \"{}\"", self.package());
        let mut lines = include_str!("../Cargo.lock").lines().skip_while(|line| *line != name).skip(1);
        lines.next().and_then(|line| line.split('"').nth(1)).unwrap_or("unknown")
    }
}

pub(crate) struct Options {
    pub(crate) scenario: String,
    pub(crate) peer: PeerName,
    pub(crate) url: String,
    pub(crate) tasks: u64,
    /// Concurrent handlers, of all workers together.
    pub(crate) concurrency: usize,
    /// Workers in this process; the meaning of a worker differs between queues.
    pub(crate) workers: usize,
    /// Tasks that a worker fetches at once; 0 if the queue fetches single tasks.
    pub(crate) batch: usize,
    /// Connections to the server, at most.
    pub(crate) connections: u32,
    /// Time between two polls of an idle worker.
    pub(crate) poll_ms: u64,
    /// The pause between two measurements of `latency`, so that the worker is idle again.
    pub(crate) pause_us: u64,
    pub(crate) payload: usize,
    /// The queue's default settings, without any of the settings above for its workers.
    pub(crate) plain: bool,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let scenario = arguments.next().ok_or("which scenario? drain, push, bulk or latency")?;
        let mut given = Vec::new();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            given.push((name, value));
        }
        let of = |wanted: &str| given.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        let wanted = of("--peer").ok_or("which queue? --peer graphile_worker, apalis or fang")?;
        let peer = PeerName::ALL
            .into_iter()
            .find(|peer| peer.as_str() == wanted)
            .ok_or_else(|| format!("--peer {wanted} is not one of graphile_worker, apalis, fang"))?;
        let url = of("--url").ok_or("which database? --url postgres://… or mysql://…")?;
        let mut options = Self::tuned(scenario, peer, url);
        for (name, value) in &given {
            let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"));
            let size = || number().and_then(|n| usize::try_from(n).map_err(|error| error.to_string()));
            match name.as_str() {
                "--peer" | "--url" => {}
                "--tasks" => options.tasks = number()?,
                "--concurrency" => options.concurrency = size()?,
                "--workers" => options.workers = size()?,
                "--batch" => options.batch = size()?,
                "--connections" => {
                    options.connections = number().and_then(|n| u32::try_from(n).map_err(|e| e.to_string()))?
                }
                "--poll-ms" => options.poll_ms = number()?,
                "--pause-us" => options.pause_us = number()?,
                "--payload" => options.payload = size()?,
                "--settings" => {
                    options.plain = match value.as_str() {
                        "plain" => true,
                        "tuned" => false,
                        other => return Err(format!("--settings {other} is not one of plain, tuned")),
                    }
                }
                _ => return Err(format!("unknown option {name}")),
            }
        }
        Ok(options)
    }

    /// The fastest settings within the recommendations of the queue's documentation; README.md says how they were
    /// found.
    fn tuned(scenario: String, peer: PeerName, url: String) -> Self {
        let idle = scenario == "latency";
        let (concurrency, workers, batch, connections, poll_ms) = match (peer, idle) {
            (PeerName::GraphileWorker, false) => (500, 4, 5_000, 20, 5),
            (PeerName::GraphileWorker, true) => (4, 1, 0, 20, 1_000),
            (PeerName::Apalis, false) => (1_024, 4, 1_000, 20, 100),
            (PeerName::Apalis, true) => (16, 1, 10, 20, 100),
            (PeerName::Fang, false) => (8, 1, 0, 10, 100),
            (PeerName::Fang, true) => (1, 1, 0, 10, 5),
        };
        let tasks = if peer == PeerName::Fang { 2_000 } else { 100_000 };
        Self {
            scenario,
            peer,
            url,
            tasks,
            concurrency,
            workers,
            batch,
            connections,
            poll_ms,
            pause_us: 5_000,
            payload: 32,
            plain: false,
        }
    }

    pub(crate) fn backend_name(&self) -> &str {
        self.url.split(':').next().unwrap_or_default()
    }

    pub(crate) fn to_json(&self) -> Value {
        if self.plain {
            return json!({"tasks": self.tasks, "payload_bytes": self.payload, "workers": "as the queue comes"});
        }
        json!({
            "tasks": self.tasks, "concurrency": self.concurrency, "payload_bytes": self.payload,
            "workers": self.workers, "batch": self.batch, "connections": self.connections, "poll_ms": self.poll_ms, "pause_us": self.pause_us,
        })
    }
}
