//! The three columns of a trigger, and arbitrary text in them.

use std::time::Duration;

use callboard::{CalendarUnit, ShortMonth, TriggerText};
use chrono::{NaiveDate, NaiveTime};
use proptest::prelude::*;

use super::*;

/// Triggers of all kinds, with bounds and jitter.
pub(crate) fn any_trigger() -> impl Strategy<Value = Trigger> {
    let simple = prop_oneof![any_cron(), any_interval(), any_calendar(), any_date()];
    let bounded =
        (simple.clone(), prop::option::of(0..2_000_000_000_000_000_i64)).prop_map(|(trigger, end)| match end {
            Some(end) => trigger.clone().end_at(Timestamp::from_micros(end)).unwrap_or(trigger),
            None => trigger,
        });
    let any_of = prop::collection::vec(bounded, 1..4).prop_map(|parts| Trigger::any_of(parts).unwrap());
    let all_of = (any_cron(), any_cron())
        .prop_filter_map("never meet or differ in zone", |(one, other)| Trigger::all_of(vec![one, other]).ok());
    let bounds = (prop::option::of(0..1_500_000_000_000_000_i64), 0..100_000_000_u64);
    (prop_oneof![3 => simple, 1 => any_of, 1 => all_of], bounds).prop_map(|(trigger, (start, jitter))| {
        let trigger = match start {
            Some(start) => trigger.clone().start_at(Timestamp::from_micros(start)).unwrap_or(trigger),
            None => trigger,
        };
        trigger.jitter(Duration::from_micros(jitter)).unwrap()
    })
}

fn any_zone() -> impl Strategy<Value = Zone> {
    prop::sample::select(vec![Zone::UTC, zone("Europe/Berlin"), zone("America/New_York"), zone("Pacific/Apia")])
}

fn any_cron() -> BoxedStrategy<Trigger> {
    let field = |most: &'static str| {
        prop_oneof![Just("*".to_owned()), Just("*/3".to_owned()), Just(most.to_owned()), Just(format!("1-{most}/2"))]
    };
    (field("59"), field("23"), field("28"), field("12"), field("5"), any_zone())
        .prop_map(|(minute, hour, day, month, weekday, zone)| {
            Trigger::cron(&format!("{minute}  {hour} {day} {month} {weekday}"), zone).unwrap()
        })
        .boxed()
}

fn any_interval() -> BoxedStrategy<Trigger> {
    (1_000..10_000_000_000_000_u64, prop::option::of(-9_000_000_000_000_000..9_000_000_000_000_000_i64))
        .prop_map(|(period, anchor)| {
            let trigger = Trigger::every(Duration::from_micros(period)).unwrap();
            match anchor {
                Some(anchor) => trigger.anchored_at(Timestamp::from_micros(anchor)).unwrap(),
                None => trigger,
            }
        })
        .boxed()
}

fn any_calendar() -> BoxedStrategy<Trigger> {
    use CalendarUnit::{Day, Month, Week};
    let rule = prop::sample::select(vec![ShortMonth::Skip, ShortMonth::LastDay]);
    (1..40_u32, prop::sample::select(vec![Day, Week, Month]), 1..900_000_i32, 0..86_400_u32, any_zone(), rule)
        .prop_map(|(every, unit, first, time, zone, rule)| {
            let first = NaiveDate::from_num_days_from_ce_opt(first).unwrap();
            let time = NaiveTime::from_num_seconds_from_midnight_opt(time, 0).unwrap();
            Trigger::calendar(every, unit, first, time, zone).unwrap().short_months(rule).unwrap()
        })
        .boxed()
}

fn any_date() -> BoxedStrategy<Trigger> {
    (0..4_000_000_000_000_000_i64, any_zone(), any::<bool>())
        .prop_map(|(micros, zone, local)| {
            let moment = Timestamp::from_micros(micros);
            if local { Trigger::at_local(moment.to_datetime().naive_utc(), zone) } else { Trigger::at(moment) }
                .unwrap()
        })
        .boxed()
}

/// Text that resembles a trigger.
fn near_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9*,/#LW?a-z -]{0,40}",
        "((\\*|[0-9]{1,2}|[0-9]-[0-9]{1,2}|\\*/[0-9]{1,3}|[0-9]L|[0-9]#[0-9]|[0-9]{1,2}W|L|LW|\\?|MON|jan)(,[0-9]{1,2})? ){4,7}\\*",
        "@?every [0-9]{1,20}(ms|us|s|m|h|d|w)[ 0-9mh]{0,6}( from .{0,30})?",
        "every [0-9]{1,6} (day|weeks|months) at [0-9]{2}:[0-9]{2} from [0-9]{4}-[0-9]{2}-[0-9]{2}( or last day)?",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?(; (jitter|start_at|end_at).{0,20})?",
        r#"\[\{"kind":"(cron|any_of|all_of)","expr":"[0-9*\[\]", ]{0,20}"\}\]"#,
    ]
}

proptest! {
    #[test]
    fn a_trigger_is_read_as_it_was_written(trigger in any_trigger()) {
        let text = trigger.to_text();
        let read = Trigger::from_text(&text);
        prop_assert_eq!(read.as_ref(), Ok(&trigger), "{:?}", text);
        prop_assert_eq!(read.unwrap().to_text(), text);
        let json = serde_json::to_string(&trigger).unwrap();
        prop_assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger);
    }

    #[test]
    fn next_is_always_later(trigger in any_trigger(), after in prop_oneof![any::<i64>(), 0..5_000_000_000_000_000_i64]) {
        let after = Timestamp::from_micros(after);
        let times = trigger.preview(after, 5);
        prop_assert!(times.first().is_none_or(|first| *first > after));
        prop_assert!(times.is_sorted_by(|one, next| one < next), "{times:?}");
        prop_assert!(trigger.next_after(Timestamp::from_micros(i64::MIN)).is_some(), "a trigger fires at least once");
    }

    #[test]
    fn nothing_is_between_a_moment_and_the_next(trigger in any_trigger(), after in 0..2_000_000_000_000_000_i64, part in 0.0..1.0_f64) {
        let after = Timestamp::from_micros(after);
        if let Some(next) = trigger.next_after(after) {
            let between = after + next.since(after).mul_f64(part).min(next.since(after) - Duration::from_micros(1));
            prop_assert_eq!(trigger.next_after(between), Some(next));
        }
    }

    #[test]
    fn no_text_makes_it_panic(kind in prop_oneof![Just("cron"), Just("interval"), Just("calendar"), Just("date"), Just("any_of"), Just("all_of"), Just("?")], expr in near_text(), zone in prop_oneof![3 => Just("Europe/Berlin".to_owned()), 1 => any::<String>()]) {
        let text = TriggerText { kind: kind.into(), expr, zone };
        match Trigger::from_text(&text) {
            Ok(trigger) => {
                let _ = trigger.preview(Timestamp::default(), 3);
                prop_assert_eq!(Trigger::from_text(&trigger.to_text()), Ok(trigger));
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
