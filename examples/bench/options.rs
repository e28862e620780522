//! The scenario and its settings.

use serde_json::{Value, json};

pub(crate) struct Options {
    pub(crate) scenario: String,
    pub(crate) url: String,
    pub(crate) tasks: u64,
    pub(crate) producers: usize,
    pub(crate) concurrency: usize,
    pub(crate) payload: usize,
    pub(crate) waiting: u64,
    pub(crate) scheduled: u64,
    /// Schedules that fire at New Year, as a background.
    pub(crate) schedules: u64,
    pub(crate) seconds: u64,
    /// Tasks in a push; 1 means `push`, more `push_many`.
    pub(crate) group: usize,
    /// Concurrent commits, if the database supports them.
    pub(crate) writers: usize,
    /// Boards on the same database, and unique keys that they push.
    pub(crate) nodes: usize,
    pub(crate) keys: u64,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let scenario = args.next().ok_or(
            "which scenario? push, bulk, flow, drain, latency, load, claim, look, idle, disk, hotkeys, hops or schedules",
        )?;
        let alone = ["push", "bulk"].contains(&&*scenario);
        let mut options = Self {
            scenario,
            url: "memory:".into(),
            tasks: 100_000,
            producers: if alone { 1 } else { 64 },
            concurrency: 256,
            payload: 32,
            waiting: 0,
            scheduled: 0,
            schedules: 0,
            seconds: 10,
            group: 1,
            writers: 2,
            nodes: 1,
            keys: 40,
        };
        while let Some(name) = args.next() {
            let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"));
            let size = || number().and_then(|n| usize::try_from(n).map_err(|error| error.to_string()));
            match name.as_str() {
                "--url" => options.url = value,
                "--tasks" => options.tasks = number()?,
                "--producers" => options.producers = size()?,
                "--concurrency" => options.concurrency = size()?,
                "--payload" => options.payload = size()?,
                "--waiting" => options.waiting = number()?,
                "--scheduled" => options.scheduled = number()?,
                "--schedules" => options.schedules = number()?,
                "--seconds" => options.seconds = number()?,
                "--writers" => options.writers = size()?,
                "--nodes" => options.nodes = size()?,
                "--keys" => options.keys = number()?,
                "--group" => options.group = size()?,
                _ => return Err(format!("unknown option {name}")),
            }
        }
        Ok(options)
    }

    pub(crate) fn backend_name(&self) -> &str {
        self.url.split(':').next().unwrap_or("memory")
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "writers": self.writers, "tasks": self.tasks, "producers": self.producers, "concurrency": self.concurrency,
            "payload_bytes": self.payload, "waiting": self.waiting, "scheduled": self.scheduled,
            "schedules": self.schedules, "seconds": self.seconds, "group": self.group,
            "nodes": self.nodes, "keys": self.keys,
        })
    }
}
