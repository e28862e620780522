//! Uses the `cron` package to expand lists, ranges and steps.

use std::fmt::Write as _;
use std::str::FromStr;

use cron::{Schedule, TimeUnitSpec};

use super::super::days::CronDays;
use super::super::error::{CronField, TriggerError};
use super::super::wall::Face;
use super::field::{Field, Item};

/// All fields as masks.
pub(super) fn expand(source: &str, fields: &[Field]) -> Result<(Face, CronDays), TriggerError> {
    let mut line = String::with_capacity(64);
    for field in fields {
        translate(field, &mut line);
        line.push(' ');
    }
    // Every bound was checked before, so the package should accept the line. If it does not, its message is passed
    // on.
    let schedule = Schedule::from_str(line.trim_end())
        .map_err(|error| super::refuse(source, error.to_string(), "write it in another way"))?;
    let mut days = specials(fields);
    let star = |kind| fields.iter().any(|field| field.kind == kind && field.star);
    let plain = |kind| fields.iter().any(|field| field.kind == kind && field.items.iter().any(is_plain));
    days.both = star(CronField::DayOfMonth) || star(CronField::Weekday);
    if plain(CronField::DayOfMonth) {
        days.days = narrow(mask(schedule.days_of_month()) >> 1);
    }
    if plain(CronField::Weekday) {
        // The package counts Sunday as 1.
        days.weekdays = narrow(mask(schedule.days_of_week()) >> 1);
    }
    days.months = narrow(mask(schedule.months()));
    let years = schedule.years();
    days.years = (!years.is_all()).then(|| years.iter().filter_map(|year| u16::try_from(year).ok()).collect());
    let face = Face {
        seconds: mask(schedule.seconds()),
        minutes: mask(schedule.minutes()),
        hours: mask(schedule.hours()),
        wildcard: star(CronField::Minute) || star(CronField::Hour),
    };
    Ok((face, days))
}

fn mask(field: &impl TimeUnitSpec) -> u64 {
    field.iter().fold(0, |mask, value| mask | 1 << (value % 64))
}

fn narrow<T: TryFrom<u64> + Default>(mask: u64) -> T {
    // The package keeps to the bounds of its fields, so the value fits.
    T::try_from(mask).unwrap_or_default()
}

fn is_plain(item: &Item) -> bool {
    matches!(item, Item::All { .. } | Item::Span { .. })
}

/// Writes the plain items of a field in the form that the package wants.
fn translate(field: &Field, line: &mut String) {
    let begin = line.len();
    for item in field.items.iter().filter(|item| is_plain(item)) {
        if line.len() > begin {
            line.push(',');
        }
        let (least, most) = field.kind.bounds();
        let most = if field.kind == CronField::Weekday { 6 } else { most };
        match *item {
            Item::All { step: 1 } => line.push('*'),
            Item::All { step } => span(field.kind, least, most, step, line),
            Item::Span { from, to, step } => span(field.kind, from, to, step, line),
            _ => {}
        }
    }
    if line.len() == begin {
        line.push('*');
    }
}

fn span(kind: CronField, from: u32, to: u32, step: u32, line: &mut String) {
    // In the package Sunday is 1, and the week ends with Saturday.
    let (shift, sunday) = match kind {
        CronField::Weekday => (1, to == 7 && (7 - from).is_multiple_of(step)),
        _ => (0, false),
    };
    let last = if kind == CronField::Weekday { to.min(6) } else { to };
    let mut write = |text: std::fmt::Arguments<'_>| line.write_fmt(text).unwrap_or_default();
    if from > last {
        write(format_args!("1"));
        return;
    }
    // The package refuses steps that lead beyond the field. Such a step leaves only the first value.
    if from == last || step > last - from {
        write(format_args!("{}", from + shift));
    } else {
        write(format_args!("{}-{}/{step}", from + shift, last + shift));
    }
    if sunday {
        write(format_args!(",1"));
    }
}

/// The items that the package does not know.
fn specials(fields: &[Field]) -> CronDays {
    let mut days = CronDays::default();
    for item in fields.iter().flat_map(|field| &field.items) {
        match *item {
            Item::LastDay => days.before_last |= 1,
            Item::BeforeLast { days: before } => days.before_last |= 1 << before,
            Item::LastWorkday => days.last_workday = true,
            Item::Near { day } => days.near |= 1 << (day - 1),
            Item::Nth { weekday, nth } => {
                for week in days.nth.iter_mut().skip(nth as usize - 1).take(1) {
                    *week |= 1 << weekday;
                }
            }
            Item::LastOf { weekday } => days.last_of |= 1 << weekday,
            Item::All { .. } | Item::Span { .. } => {}
        }
    }
    days
}
