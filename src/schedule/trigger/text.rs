//! Triggers as text: the three columns of a schedule's row.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::calendar::Calendar;
use super::date::Date;
use super::error::{TriggerError, nearest};
use super::interval::{Span, read_span};
use super::zone::Zone;
use super::{Rule, Trigger};
use crate::clock::Timestamp;

/// All kinds, as they are spelled in storage.
const KINDS: [&str; 6] = ["cron", "interval", "calendar", "date", "any_of", "all_of"];

/// Length limit of an expression that is read, in bytes.
const LONGEST: usize = 64 * 1024;

/// A trigger as storage keeps it, in three columns of text.
///
/// | kind | expression |
/// |---|---|
/// | `cron` | `0 9 * * 1-5` |
/// | `interval` | `every 2h30m` or `every 90s from 2026-03-06T14:00:00.000000Z` |
/// | `calendar` | `every 2 weeks at 09:00:00 from 2026-03-06`; `every 1 month at 09:00:00 from 2026-01-31 or last day` |
/// | `date` | `2026-03-06T14:00:00.000000Z`, or local to the zone `2026-03-06T09:00:00.000000` |
/// | `any_of`, `all_of` | a JSON list of such objects; parts without a zone have the zone of the whole |
///
/// Bounds and jitter follow the expression: `0 9 * * *; start_at 2026-03-06T14:00:00.000000Z; jitter 30s`.
///
/// ```
/// use callboard::{Trigger, TriggerText, Zone};
/// let trigger = Trigger::cron("0 9 * * 1-5", "Europe/Berlin".parse::<Zone>()?)?;
/// let text = trigger.to_text();
/// assert_eq!((&*text.kind, &*text.expr, &*text.zone), ("cron", "0 9 * * 1-5", "Europe/Berlin"));
/// assert_eq!(Trigger::from_text(&text)?, trigger);
/// # Ok::<(), callboard::TriggerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerText {
    /// Column `trigger_kind`.
    pub kind: String,
    /// Column `trigger_expr`.
    pub expr: String,
    /// Column `timezone`; `UTC` for a trigger without a zone. Empty if no zone was given: the trigger then takes the
    /// zone of the board that makes a schedule of it. A stored row always has a zone.
    #[serde(default)]
    pub zone: String,
}

/// A part of a trigger, as it is written into the expression of the whole.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    kind: String,
    expr: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

impl Trigger {
    /// The trigger as storage keeps it; [`from_text`](Self::from_text) gives the same trigger again. A trigger that
    /// was given no zone has no zone here either. Only serde reads such a text.
    pub fn to_text(&self) -> TriggerText {
        TriggerText {
            kind: self.kind().to_owned(),
            expr: self.expr(),
            zone: if self.floats { String::new() } else { self.zone().unwrap_or(Zone::UTC).name().to_owned() },
        }
    }

    /// Reads a trigger from the text that storage keeps.
    ///
    /// # Errors
    /// When [`to_text`](Self::to_text) cannot write such a text, when it has no zone, or when the trigger would never
    /// fire.
    pub fn from_text(text: &TriggerText) -> Result<Self, TriggerError> {
        // A text without a zone would take the zone of its reader.
        text.zone.parse::<Zone>()?;
        Self::read(text)
    }

    fn read(text: &TriggerText) -> Result<Self, TriggerError> {
        if text.expr.len() > LONGEST {
            let problem = format!("it is {} bytes long, at most {LONGEST} are read", text.expr.len());
            return Err(TriggerError::invalid("trigger", &text.expr, problem, "write a shorter one"));
        }
        let (expr, options) = split_options(&text.expr);
        let mut trigger = rule(&text.kind, expr, &text.zone)?;
        for (name, value) in options {
            match name {
                "start_at" if trigger.start_at.is_none() => trigger.start_at = Some(read_moment("start_at", value)?),
                "end_at" if trigger.end_at.is_none() => trigger.end_at = Some(read_moment("end_at", value)?),
                "jitter" if trigger.jitter_us == 0 => {
                    trigger = trigger.jitter(Duration::from_micros(read_span("jitter", value)?.unsigned_abs()))?;
                }
                _ => {
                    return Err(TriggerError::invalid("trigger", &text.expr, "an option is there twice", "keep one"));
                }
            }
        }
        trigger.check()
    }

    /// The kind of the trigger, as column `trigger_kind` spells it.
    pub fn kind(&self) -> &'static str {
        match &self.rule {
            Rule::Cron(_) => KINDS[0],
            Rule::Interval(_) => KINDS[1],
            Rule::Calendar(_) => KINDS[2],
            Rule::Date(_) => KINDS[3],
            Rule::AnyOf(_) => KINDS[4],
            Rule::AllOf(_) => KINDS[5],
        }
    }

    fn expr(&self) -> String {
        let mut text = self.rule_expr();
        let moment = |name: &str, moment: Option<Timestamp>| moment.map(|moment| format!("; {name} {moment}"));
        text.extend(moment("start_at", self.start_at));
        text.extend(moment("end_at", self.end_at));
        if self.jitter_us > 0 {
            // Writing to a string cannot fail.
            write!(text, "; jitter {}", Span(self.jitter_us)).unwrap_or_default();
        }
        text
    }

    /// The expression without bounds and jitter.
    pub(super) fn rule_expr(&self) -> String {
        match &self.rule {
            Rule::Cron(cron) => cron.source.to_string(),
            Rule::Calendar(calendar) => calendar.expr(),
            Rule::Date(date) => date.expr(),
            Rule::Interval(interval) => {
                let anchor = interval.anchor.map(|anchor| format!(" from {anchor}")).unwrap_or_default();
                format!("every {}{anchor}", Span(interval.period_us))
            }
            Rule::AnyOf(any) => list(&any.0, self.zone().filter(|_| !self.floats)),
            Rule::AllOf(all) => list(&all.parts, self.zone().filter(|_| !self.floats)),
        }
    }
}

fn list(parts: &[Trigger], common: Option<Zone>) -> String {
    let part = |part: &Trigger| Part {
        kind: part.kind().to_owned(),
        expr: part.expr(),
        zone: part.zone().filter(|zone| !part.floats && common != Some(*zone)).map(String::from),
    };
    let parts: Vec<_> = parts.iter().map(part).collect();
    // Structs of strings always have a JSON text.
    serde_json::to_string(&parts).unwrap_or_default()
}

fn rule(kind: &str, expr: &str, zone: &str) -> Result<Trigger, TriggerError> {
    let given: Option<Zone> = if zone.is_empty() { None } else { Some(zone.parse()?) };
    let zone = given.unwrap_or(Zone::UTC);
    let of = |rule| {
        let trigger = Trigger::of(rule);
        Trigger { floats: given.is_none() && trigger.zone().is_some(), ..trigger }
    };
    match kind {
        "cron" => Trigger::cron(expr, given),
        "interval" => Trigger::interval(expr),
        "calendar" => Ok(of(Rule::Calendar(Calendar::read(expr, zone)?))),
        "date" => Ok(of(Rule::Date(Date::read(expr, zone)?))),
        "any_of" => Trigger::any_of(parts(expr, given)?),
        "all_of" => Trigger::all_of(parts(expr, given)?),
        _ => {
            let meant = nearest(kind, KINDS.into_iter()).map(|kind| format!("did you mean {kind}? "));
            let hint = format!("{}there are {}", meant.unwrap_or_default(), KINDS.join(", "));
            Err(TriggerError::invalid("trigger kind", kind, "no such kind", hint))
        }
    }
}

fn parts(expr: &str, zone: Option<Zone>) -> Result<Vec<Trigger>, TriggerError> {
    let parts: Vec<Part> = serde_json::from_str(expr).map_err(|error| {
        let hint = r#"write it as [{"kind":"cron","expr":"0 9 * * *"}, ...]"#;
        TriggerError::invalid("list of triggers", expr, error.to_string(), hint)
    })?;
    let part = |part: Part| {
        // A part must not be a list of lists. This also bounds the depth of the recursion.
        if part.kind == "any_of" {
            return Err(TriggerError::invalid("part", &part.expr, "is an any_of itself", "list its parts instead"));
        }
        let zone = part.zone.unwrap_or_else(|| zone.map_or("", Zone::name).to_owned());
        Trigger::read(&TriggerText { kind: part.kind, expr: part.expr, zone })
    };
    parts.into_iter().map(part).collect()
}

/// Takes every `; name value` off the end.
fn split_options(expr: &str) -> (&str, Vec<(&str, &str)>) {
    let (mut rest, mut options) = (expr.trim(), Vec::new());
    // A text that ends with a bracket is a list, and its semicolons belong to its parts.
    while let Some((before, option)) = rest.rsplit_once(';').filter(|_| !rest.ends_with(']')) {
        match option.trim().split_once(' ') {
            Some((name @ ("start_at" | "end_at" | "jitter"), value)) => options.push((name, value.trim())),
            _ => break,
        }
        rest = before.trim_end();
    }
    (rest, options)
}

pub(super) fn read_moment(what: &'static str, text: &str) -> Result<Timestamp, TriggerError> {
    let moment = DateTime::parse_from_rfc3339(text.trim()).map(|moment| moment.with_timezone(&Utc).into());
    moment.map_err(|error| TriggerError::invalid(what, text, error.to_string(), "write it as 2026-03-06T14:00:00Z"))
}

impl TryFrom<TriggerText> for Trigger {
    type Error = TriggerError;
    fn try_from(text: TriggerText) -> Result<Self, TriggerError> {
        Self::read(&text)
    }
}

impl From<Trigger> for TriggerText {
    fn from(trigger: Trigger) -> Self {
        trigger.to_text()
    }
}
