//! Cron expressions.
//!
//! Five fields have the meaning of Debian's cron(8). Six fields put seconds first, and seven add a year at the end.
//!
//! The `cron` package reads and expands the plain parts: lists, ranges and steps. Our code checks their bounds as
//! well. The rest is our own code, because the package
//! - wants six or seven fields, counts Sunday as 1, and knows no weekday 0: our layer numbers weekdays as cron(8)
//!   does;
//! - wants both day fields to match where cron(8) accepts either, unless a field begins with `*`;
//! - has no `L`, `L-3`, `W` and `#`;
//! - refuses `MON-5` and `*/60`, which cron(8) accepts, and accepts `5/15` in any line, which cron(8) does not;
//! - shows at most the place where a line is wrong, not the field and its allowed values;
//! - leaves out 02:30 on the day when clocks are set ahead. When clocks are set back, it loses runs or finds times in
//!   the past. So its search is not used at all: see [`wall`](super::wall).

mod field;
mod plain;

use super::days::{CronDays, most_days};
use super::error::{CronField, TriggerError, cut, look_alike, nearest};
use super::wall::{Face, next_wall};
use super::zone::Zone;
pub(super) use field::{Field, Item};

/// Length limit of an expression in bytes. A list of every second, minute and day takes less.
const LONGEST: usize = 1_000;

const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// A cron expression with its zone, ready for a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    /// The expression as written, with single spaces.
    pub(super) source: Box<str>,
    pub(super) zone: Zone,
    pub(super) face: Face,
    pub(super) days: CronDays,
}

impl Cron {
    pub(super) fn read(expression: &str, zone: Zone) -> Result<Self, TriggerError> {
        if expression.len() > LONGEST {
            let problem = format!("it is {} bytes long, at most {LONGEST} are read", expression.len());
            return Err(refuse(expression, problem, "write ranges and steps instead of long lists"));
        }
        if let Some((problem, hint)) = look_alike(expression) {
            return Err(refuse(expression, problem, hint));
        }
        if let Some(zone) = zone_in_front(expression) {
            let hint = format!(
                "give the zone beside it: Trigger::cron(expression, {zone:?}.parse::<Zone>()?), or `zone` in JSON and in storage"
            );
            return Err(refuse(expression, "a time zone stands in front of the fields", hint));
        }
        let source = expression.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        let (face, days) = plain::expand(&source, &fields(&source)?)?;
        // The search begins in 1970, where years begin. 400 years from there contain every possible date.
        if next_wall(&face, &days, 0).is_none() {
            let what = format!("cron expression {:?}", cut(&source));
            return Err(TriggerError::NeverFires { what, why: why_never(&days) });
        }
        Ok(Self { source: source.into(), zone, face, days })
    }

    /// Its fields, seconds to year. Fields that were not written are included.
    pub(super) fn fields(&self) -> Vec<Field> {
        fields(&self.source).unwrap_or_default()
    }
}

/// The zone in front of a line, as crontabs and some libraries write it: `CRON_TZ=Europe/Berlin 0 9 * * *`.
fn zone_in_front(expression: &str) -> Option<&str> {
    let first = expression.split_ascii_whitespace().next()?;
    let (name, zone) = first.split_once('=')?;
    (name.eq_ignore_ascii_case("CRON_TZ") || name.eq_ignore_ascii_case("TZ")).then(|| zone.trim_matches('"'))
}

/// Reads all seven fields of a line that may have fewer.
fn fields(source: &str) -> Result<Vec<Field>, TriggerError> {
    let line = if source.starts_with('@') { nickname(source)? } else { source };
    let given: Vec<&str> = line.split(' ').filter(|text| !text.is_empty()).collect();
    let texts = match *given.as_slice() {
        [minute, hour, day, month, weekday] => ["0", minute, hour, day, month, weekday, "*"],
        [second, minute, hour, day, month, weekday] => [second, minute, hour, day, month, weekday, "*"],
        [second, minute, hour, day, month, weekday, year] => [second, minute, hour, day, month, weekday, year],
        _ => return Err(wrong_count(source, given.len())),
    };
    let read = |(kind, text)| field::read(source, kind, text, given.len());
    CronField::ALL.into_iter().zip(texts).map(read).collect()
}

fn nickname(source: &str) -> Result<&'static str, TriggerError> {
    let known = NICKNAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(source));
    known.map(|(_, line)| *line).ok_or_else(|| {
        let names = NICKNAMES.map(|(name, _)| name);
        let hint = match nearest(source, names.iter().copied()) {
            _ if source.eq_ignore_ascii_case("@reboot") => "push a task when the program starts".to_owned(),
            Some(name) => format!("did you mean {name}?"),
            None => format!("there are {} and @every with a span, as in @every 90s", names.join(", ")),
        };
        refuse(source, "no such nickname", hint)
    })
}

fn wrong_count(source: &str, count: usize) -> TriggerError {
    let hint = "five are minute, hour, day of month, month, weekday; six put seconds first; seven add a year at the \
                end; leave out user names and commands";
    let fields = if count == 1 { "field" } else { "fields" };
    refuse(source, format!("it has {count} {fields}"), hint)
}

fn why_never(days: &CronDays) -> String {
    let longest = (1..=12).filter(|month| days.months & 1 << month != 0).map(most_days).max().unwrap_or(0);
    if days.days.trailing_zeros() >= longest && days.near.trailing_zeros() >= longest {
        return format!("the months that it names have at most {longest} days; L is the last day of each");
    }
    "no year has such a day; look at its days of the month, months, weekdays and years together".to_owned()
}

fn refuse(expression: &str, problem: impl Into<String>, hint: impl Into<String>) -> TriggerError {
    TriggerError::Expression { expression: cut(expression), problem: problem.into(), hint: hint.into() }
}
