//! The operating system's figures for this process and this machine.

use std::time::Duration;

use serde_json::{Value, json};

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Memory in use now, in MB.
pub(crate) fn rss_mb() -> f64 {
    status("VmRSS:") as f64 / 1000.0
}

/// The peak of memory in use, in MB.
pub(crate) fn peak_rss_mb() -> f64 {
    status("VmHWM:") as f64 / 1000.0
}

/// CPU time used so far by all threads.
pub(crate) fn cpu_time() -> Duration {
    let mut total = 0_u64;
    for entry in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let text = std::fs::read_to_string(entry.path().join("schedstat")).unwrap_or_default();
        total += text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Duration::from_nanos(total)
}

/// Cores, processor and versions.
pub(crate) fn describe() -> Value {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("")
        .trim_start_matches([' ', '\t', ':']);
    json!({
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "cpu": model,
        "callboard": env!("CARGO_PKG_VERSION"),
        "build": if cfg!(debug_assertions) { "debug" } else { "release" },
    })
}
