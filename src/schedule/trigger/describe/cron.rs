//! The description of a cron expression.

use super::super::cron::{Field, Item};
use super::super::error::CronField;
use super::{Run, Unit, Voice};

/// Up to this many times of a day are listed individually.
const MOST_TIMES: usize = 8;

pub(super) fn say(voice: &dyn Voice, fields: &[Field]) -> String {
    let [second, minute, hour, day, month, weekday, year] = fields else { return String::new() };
    let days = say_days(voice, day, weekday);
    let (months, years) = (values(month), values(year));
    let months = if is_any(month) { String::new() } else { voice.months(&months) };
    let years = if is_any(year) { String::new() } else { voice.years(&years) };
    let daily = days.is_empty() && months.is_empty() && years.is_empty();
    voice.sentence(&say_time(voice, second, minute, hour, daily), &days, &months, &years)
}

/// True if every value is allowed.
fn is_any(field: &Field) -> bool {
    field.items.contains(&Item::All { step: 1 })
}

fn say_time(voice: &dyn Voice, second: &Field, minute: &Field, hour: &Field, daily: bool) -> String {
    if let Some(times) = times(second, minute, hour) {
        return voice.at(&times, daily);
    }
    let mut parts = Vec::new();
    // How often it fires, by the finest field with more than a single value.
    let often = [(second, Unit::Second, 60), (minute, Unit::Minute, 60), (hour, Unit::Hour, 24)];
    let finest = often.iter().position(|(field, ..)| single(field).is_none());
    for (place, (field, unit, size)) in often.into_iter().enumerate() {
        let plain = || voice.during(unit, &runs(field));
        match (single(field), field.items.as_slice()) {
            // Second 0 need not be mentioned; minute 0 must be.
            (Some(0), _) if unit == Unit::Second => {}
            (Some(_), _) => parts.push(plain()),
            (None, [Item::All { step }]) if Some(place) == finest && size % step == 0 => {
                parts.insert(0, voice.every(*step, unit));
            }
            (None, [Item::All { step: 1 }]) => {}
            (None, _) => parts.push(plain()),
        }
    }
    voice.pieces(&parts)
}

/// The times of a day, if they are few and each of them is given explicitly.
fn times(second: &Field, minute: &Field, hour: &Field) -> Option<Vec<String>> {
    let each = |field: &Field| -> Option<Vec<u32>> {
        let value = |item: &Item| match item {
            Item::Span { from, to, .. } if from == to => Some(*from),
            _ => None,
        };
        field.items.iter().map(value).collect()
    };
    let (seconds, minutes, mut hours) = (each(second)?, each(minute)?, each(hour)?);
    hours.sort_unstable();
    let mut times = Vec::new();
    for (hour, minute, second) in
        hours.iter().flat_map(|h| minutes.iter().flat_map(|m| seconds.iter().map(|s| (*h, *m, *s))))
    {
        let seconds = if second == 0 { String::new() } else { format!(":{second:02}") };
        times.push(format!("{hour:02}:{minute:02}{seconds}"));
    }
    times.sort();
    times.dedup();
    (times.len() <= MOST_TIMES).then_some(times)
}

fn single(field: &Field) -> Option<u32> {
    match field.items.as_slice() {
        [Item::Span { from, to, .. }] if from == to => Some(*from),
        _ => None,
    }
}

fn say_days(voice: &dyn Voice, day: &Field, weekday: &Field) -> String {
    let days = if is_any(day) { Vec::new() } else { day_phrases(voice, day) };
    let weekdays = if is_any(weekday) { Vec::new() } else { weekday_phrases(voice, weekday) };
    match (days.is_empty(), weekdays.is_empty()) {
        // `*` inside a list makes the field match always, also when it is not the first item.
        _ if !day.star && !weekday.star && (is_any(day) || is_any(weekday)) => String::new(),
        (true, true) => String::new(),
        (false, true) => voice.either(&days),
        (true, false) => voice.either(&weekdays),
        _ if day.star || weekday.star => voice.both(&voice.either(&weekdays), &voice.either(&days)),
        _ => voice.either(&[days, weekdays].concat()),
    }
}

fn day_phrases(voice: &dyn Voice, field: &Field) -> Vec<String> {
    let runs = runs(field);
    let plain = (!runs.is_empty()).then(|| voice.days(&runs));
    let special = field.items.iter().filter_map(|item| match item {
        Item::LastDay => Some(voice.last_day()),
        Item::BeforeLast { days } => Some(voice.before_last(*days)),
        Item::LastWorkday => Some(voice.last_workday()),
        Item::Near { day } => Some(voice.near(*day)),
        _ => None,
    });
    plain.into_iter().chain(special).collect()
}

fn weekday_phrases(voice: &dyn Voice, field: &Field) -> Vec<String> {
    let runs = values(field);
    let plain = (!runs.is_empty()).then(|| voice.weekdays(&runs));
    let special = field.items.iter().filter_map(|item| match item {
        Item::Nth { weekday, nth } => Some(voice.nth(*weekday, Some(*nth))),
        Item::LastOf { weekday } => Some(voice.nth(*weekday, None)),
        _ => None,
    });
    plain.into_iter().chain(special).collect()
}

/// The plain items as they were written.
fn runs(field: &Field) -> Vec<Run> {
    let (least, most) = field.kind.bounds();
    let run = |item: &Item| match *item {
        Item::All { step } => Some(Run { from: least, to: most, step }),
        Item::Span { from, to, step } if step > to - from => Some(Run { from, to: from, step: 1 }),
        Item::Span { from, to, step } => Some(Run { from, to, step }),
        _ => None,
    };
    field.items.iter().filter_map(run).collect()
}

/// The plain values as runs without steps, so that every value with a name is named. A week begins with Monday here.
fn values(field: &Field) -> Vec<Run> {
    let plain = runs(field).into_iter().flat_map(|run| (run.from..=run.to).step_by(run.step as usize));
    let mut values: Vec<u32> = match field.kind {
        CronField::Weekday => plain.map(|day| if day == 0 { 7 } else { day }).collect(),
        _ => plain.collect(),
    };
    values.sort_unstable();
    values.dedup();
    let mut runs: Vec<Run> = Vec::new();
    for value in values {
        match runs.last_mut() {
            Some(run) if run.to + 1 == value => run.to = value,
            _ => runs.push(Run { from: value, to: value, step: 1 }),
        }
    }
    runs
}
