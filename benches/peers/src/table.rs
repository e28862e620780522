//! Medians of the rounds, as a table.

use std::collections::BTreeMap;
use std::io;

use serde_json::Value;

use crate::Result;

/// The figures that the table shows, in this order.
const SHOWN: [&str; 4] = ["tasks_per_s", "pushes_per_s", "p50_us", "p99_us"];

/// Reads the output lines of this program and of `examples/bench`; other lines are skipped.
pub(crate) fn print(lines: impl Iterator<Item = io::Result<String>>) -> Result<()> {
    let mut rounds: BTreeMap<(String, String, &str, String), Vec<f64>> = BTreeMap::new();
    for line in lines {
        let Ok(line) = serde_json::from_str::<Value>(&line?) else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let who = match line["peer"].as_str() {
            Some(peer) if line["plain"] == true => format!("{peer} {}, as it comes", text(&line["version"])),
            Some(peer) => format!("{peer} {}", text(&line["version"])),
            None => format!("callboard {}", text(&line["machine"]["callboard"])),
        };
        for figure in SHOWN {
            if let Some(value) = line["measured"][figure].as_f64() {
                let place = (text(&line["backend"]), text(&line["scenario"]), figure, who.clone());
                rounds.entry(place).or_default().push(value);
            }
        }
    }
    println!("| server | scenario | figure | queue | median | lowest | highest | rounds |");
    println!("|---|---|---|---|---|---|---|---|");
    for ((server, scenario, figure, who), values) in &mut rounds {
        values.sort_unstable_by(f64::total_cmp);
        let (low, high) = (values[0], values[values.len() - 1]);
        let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
        println!(
            "| {server} | {scenario} | {figure} | {who} | {median:.0} | {low:.0} | {high:.0} | {} |",
            values.len()
        );
    }
    Ok(())
}
