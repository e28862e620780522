//! Invalid settings, and boards with settings at the ends of their ranges.

use std::future::Future;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Board, BoardError, Outcome, PushError, StartError};

#[test]
fn the_password_of_the_url_is_not_shown() {
    let config = Config { url: "mysql://u:secret@h/d".into(), ..Config::default() };
    let shown = format!("{config:?}");
    assert!(shown.contains("mysql://***@h/d") && !shown.contains("secret"), "{shown}");
    let builder = format!("{:?}", crate::Board::builder().url("postgres://u:secret@h/d"));
    assert!(!builder.contains("secret"), "{builder}");
}

#[test]
fn a_node_name_fits_every_database() {
    let faults = |name: String| Config { node_name: name, ..Config::default() }.faults();
    assert_eq!(faults("n".repeat(200)), Vec::<String>::new());
    for name in ["n".repeat(201), "a\0b".into(), String::new()] {
        assert!(faults(name.clone()).iter().any(|fault| fault.contains("node_name")), "{name:?}");
    }
}

const SPANS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    DAY,
    Duration::from_micros(u64::MAX),
    Duration::from_secs(u64::MAX),
    Duration::MAX,
];
const NUMBERS: [usize; 6] = [0, 1, 7, u32::MAX as usize, usize::MAX / 2, usize::MAX];

/// Sets a setting that is a span or a number to the `end`-th end of its range. A new setting that is missing here does
/// not compile.
fn at_its_end(config: &mut Config, setting: usize, end: usize) {
    let Config {
        url: _,
        node_name: _,
        queues,
        worker_threads,
        blocking_threads,
        lease,
        check_interval,
        push_deadline,
        max_waiting_pushes,
        max_params_bytes,
        max_meta_bytes,
        max_result_bytes,
        max_memory_bytes,
        drain,
        cancel_grace,
        crash_limit,
        retention,
        keep_finished_schedules,
        default_zone: _,
        task_logs: _,
        task_log_bytes,
        task_log_level: _,
        synchronous: _,
        readers,
        writers,
        event_buffer,
        store_limits,
        clock: _,
    } = config;
    let (span, number) = (SPANS[end], NUMBERS[end]);
    let StoreLimits { max_entries, max_key_bytes, max_value_bytes, max_total_bytes, max_watches } = store_limits;
    match setting {
        0 => *lease = span,
        1 => *check_interval = span,
        2 => *push_deadline = span,
        3 => *drain = span,
        4 => *cancel_grace = span,
        5 => retention.iter_mut().for_each(|keep| keep.age = Some(span)),
        6 => *keep_finished_schedules = Some(span),
        7 => queues.iter_mut().for_each(|(_, concurrency)| *concurrency = number),
        8 => *worker_threads = number,
        9 => *blocking_threads = number,
        10 => *max_waiting_pushes = number,
        11 => *max_params_bytes = number,
        12 => *crash_limit = u32::try_from(number).unwrap_or(u32::MAX),
        13 => retention.iter_mut().for_each(|keep| keep.count = Some(number as u64)),
        14 => *task_log_bytes = number as u64,
        15 => *readers = number,
        16 => *writers = number,
        17 => *event_buffer = number,
        18 => *max_entries = number,
        19 => *max_key_bytes = number,
        20 => *max_value_bytes = number,
        21 => *max_total_bytes = number,
        22 => *max_watches = number,
        23 => *max_meta_bytes = number,
        24 => *max_result_bytes = number,
        _ => *max_memory_bytes = number,
    }
}

const SETTINGS: usize = 26;

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(90), work).await.expect("no answer in time")
}

/// A board with these settings is either rejected at its start, by the setting's name, or it does its work and stops.
async fn works_or_is_refused(config: Config) {
    let refused = !config.faults().is_empty();
    let served = config.queues.iter().any(|(_, concurrency)| *concurrency > 0);
    let push_waits = !config.push_deadline.is_zero();
    let board =
        Board::builder().config(config).handler("work", |_, _| async { Ok(Outcome::done()) }).on_event(|_| ());
    let board = match soon(board.start()).await {
        Ok(board) => board,
        Err(StartError::Config(_)) if refused => return,
        Err(error) => panic!("{error}"),
    };
    assert!(!refused);
    match soon(board.push(json!({"type": "work"}))).await {
        Ok(pushed) if served => match soon(board.wait(pushed.task_id)).await {
            Ok(ended) => assert!(ended.state.is_terminal()),
            // Finished tasks may be kept for no time at all.
            Err(BoardError::NoSuchTask(_)) => {}
            Err(error) => panic!("{error}"),
        },
        Ok(_) => {}
        Err(error) => {
            assert!(!push_waits || matches!(error, PushError::Invalid(_) | PushError::NoRoom(_)), "{error}")
        }
    }
    soon(board.stop()).await;
}

#[test]
fn each_setting_at_each_end_is_refused_by_name_or_works() {
    for setting in 0..SETTINGS {
        for end in 0..NUMBERS.len() {
            let mut config = Config::default();
            at_its_end(&mut config, setting, end);
            actix_rt::System::new().block_on(works_or_is_refused(config));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_of_them_together_are_refused_or_work(
        changes in prop::collection::vec((0..SETTINGS, 0..NUMBERS.len()), 2..12),
    ) {
        let mut config = Config::default();
        for (setting, end) in changes {
            let mut changed = config.clone();
            at_its_end(&mut changed, setting, end);
            // Skip settings that are rejected, because a single rejected setting would leave the rest untested.
            if changed.faults().is_empty() {
                config = changed;
            }
        }
        actix_rt::System::new().block_on(works_or_is_refused(config));
    }
}
