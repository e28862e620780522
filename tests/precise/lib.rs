//! Public types as JSON, with `serde_json/arbitrary_precision` and `preserve_order` enabled.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::time::Duration;

use callboard::backend::{Cursor, ScheduleFilter};
use callboard::store::{StoreLimits, StoreValue};
use callboard::{
    BackfillOrder, CalendarUnit, ClaimToken, Limit, LimitScope, Name, NewTask, NodeId, Progress, QueueSettings, Rate,
    Resume, Retry, Schedule, ScheduleId, ShortMonth, TaskFilter, TaskId, TaskOrder, TaskState, Timestamp, Trigger,
    TriggerText, Unique, UniqueMode, UniqueScope, Zone,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Writes a value as JSON and reads it back, as text and as a `Value`.
fn there_and_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(given: T) {
    let text = serde_json::to_string(&given).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), given, "{text}");
    let value = serde_json::to_value(&given).unwrap();
    assert_eq!(serde_json::from_value::<T>(value).unwrap(), given, "{text}");
}

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[test]
fn every_public_type_is_read_from_its_own_json() {
    there_and_back(Retry::fixed(Duration::from_micros(u64::MAX)));
    there_and_back(Retry::exponential(Duration::from_secs(2)).cap(Duration::from_secs(60)).jitter(0.3));
    there_and_back(
        Unique::key("k").scope(UniqueScope::Period).mode(UniqueMode::Reject).period(Duration::from_secs(9)),
    );
    there_and_back(TaskState::ALL.to_vec());
    there_and_back(Progress { fraction: 0.1, message: "half".into() });
    there_and_back(QueueSettings { queue: Name::from("q"), paused: true, concurrency: Some(7) });
    there_and_back(Cursor::after(i64::MAX));
    there_and_back(TaskOrder::OldestFirst);
    there_and_back(ClaimToken::from_i64(i64::MAX));
    there_and_back(ID.parse::<TaskId>().unwrap());
    there_and_back(ID.parse::<NodeId>().unwrap());
    there_and_back(ID.parse::<ScheduleId>().unwrap());
    there_and_back(Timestamp::from_micros(1_772_805_600_000_001));
    there_and_back(Limit::of_queue("q").running(3).rate(5, Duration::from_secs(60)));
    there_and_back((LimitScope::Key, Rate { tasks: 5, period: Duration::from_secs(1) }));
    there_and_back(BackfillOrder::default());
    there_and_back(Resume::default());
    there_and_back((CalendarUnit::Month, ShortMonth::default()));
    there_and_back("Europe/Berlin".parse::<Zone>().unwrap());
    there_and_back(StoreLimits::default());
    let triggers = [
        Trigger::cron("*/5 9-17 * * 1-5", Zone::UTC).unwrap(),
        Trigger::every(Duration::from_millis(1_500)).unwrap(),
        Trigger::at(Timestamp::from_micros(1_772_805_600_000_000)).unwrap(),
    ];
    for trigger in triggers {
        there_and_back::<TriggerText>(trigger.to_text());
        there_and_back(trigger);
    }
}

#[test]
fn filters_are_read() {
    let filter: TaskFilter =
        serde_json::from_value(json!({"states": ["dead"], "created_from": "2026-03-01T00:00:00Z"})).unwrap();
    assert_eq!(filter.states, [TaskState::Dead]);
    let _: ScheduleFilter = serde_json::from_str("{}").unwrap();
}

#[test]
fn a_task_with_every_option_is_read() {
    let task = json!({
        "task_id": ID, "type": "work", "params": [18446744073709551615_u64], "queue": "q", "priority": -3,
        "delay_seconds": 1.5, "max_attempts": 4, "timeout_seconds": 30, "expires_in_seconds": 60,
        "retry": {"kind": "exponential", "base_us": 5, "cap_seconds": 2.5, "jitter": 0.1},
        "unique": {"key": "a", "period_seconds": 2.5}, "tags": ["t"], "meta": {"z": 1, "a": 2}, "limit_key": "l",
    });
    NewTask::from_json(task).unwrap();
    NewTask::from_json(json!({"type": "work", "retry": {"kind": "fixed", "delay_us": 7}})).unwrap();
    let refused = NewTask::from_json(json!({"type": "work", "delay_seconds": "30"})).unwrap_err().to_string();
    assert!(refused.contains(r#"delay_seconds: expected a number of seconds, got "30""#), "{refused}");
}

#[test]
fn numbers_keep_their_digits() {
    let text = r#"{"b":18446744073709551616,"a":1.10}"#;
    let value: Value = serde_json::from_str(text).unwrap();
    assert_eq!(StoreValue::encode(&value).unwrap().as_str(), text);
    drop(Schedule::new("s", Trigger::every(Duration::from_secs(1)).unwrap(), NewTask::new("work", &value)));
}
