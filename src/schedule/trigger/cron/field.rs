//! A single field of a cron expression: its items. Every bound is checked before any item is expanded.

use super::super::error::{CronField, TriggerError, cut};

/// A field of a cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Field {
    pub(in super::super) kind: CronField,
    /// The field begins with `*` (or is `?`). cron(8) calls such a field unrestricted, even `*/2`.
    pub(in super::super) star: bool,
    pub(in super::super) items: Vec<Item>,
}

/// An item of a field; commas separate items. Weekdays are numbered from Sunday, 0 or 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Item {
    /// `*` or `*/step`.
    All { step: u32 },
    /// `from`, `from-to` or `from-to/step`.
    Span { from: u32, to: u32, step: u32 },
    /// `L`
    LastDay,
    /// `L-3`
    BeforeLast { days: u32 },
    /// `LW`
    LastWorkday,
    /// `15W`
    Near { day: u32 },
    /// `5#2`
    Nth { weekday: u32, nth: u32 },
    /// `5L`
    LastOf { weekday: u32 },
}

/// Reads a field of a line that has `count` fields.
pub(super) fn read(expression: &str, kind: CronField, text: &str, count: usize) -> Result<Field, TriggerError> {
    let reader = Reader { expression, kind, count };
    let star = text.starts_with('*') || text == "?";
    let items = text.split(',').map(|item| reader.item(item)).collect::<Result<_, _>>()?;
    Ok(Field { kind, star, items })
}

struct Reader<'a> {
    expression: &'a str,
    kind: CronField,
    count: usize,
}

type Read<T> = Result<T, TriggerError>;

impl Reader<'_> {
    fn item(&self, text: &str) -> Read<Item> {
        if let Some(special) = self.special(text) {
            return special;
        }
        let (base, step) = match text.split_once('/') {
            Some((base, step)) => (base, Some(self.step(step)?)),
            None => (text, None),
        };
        if base == "*" {
            return Ok(Item::All { step: step.unwrap_or(1) });
        }
        if let Some((from, to)) = base.split_once('-') {
            return self.range(from, to, step.unwrap_or(1));
        }
        let from = self.value(base)?;
        match step {
            None => Ok(Item::Span { from, to: from, step: 1 }),
            Some(step) => self.open(text, from, step),
        }
    }

    /// Reads `5/15`. cron(8) does not have this form. Other programs with a seconds field read it as `5-59/15`.
    fn open(&self, text: &str, from: u32, step: u32) -> Read<Item> {
        let most = if self.kind == CronField::Weekday { 6 } else { self.kind.bounds().1 };
        if self.count == 5 {
            let hint = format!("write {from}-{most}/{step}, or */{step}");
            return Err(self.fault(format!("{} has a step but no range", cut(text)), Some(hint)));
        }
        Ok(Item::Span { from, to: from.max(most), step })
    }

    fn range(&self, from: &str, to: &str, step: u32) -> Read<Item> {
        let (from_value, mut to_value) = (self.value(from)?, self.value(to)?);
        if self.kind == CronField::Weekday && to_value == 0 && from_value > 0 {
            // Sunday at the end of a range is the end of the week.
            to_value = 7;
        }
        if from_value > to_value {
            let (least, most) = self.kind.bounds();
            let problem = format!("the range {from}-{to} runs backwards");
            let most = if self.kind == CronField::Weekday { 6 } else { most };
            return Err(self.fault(problem, Some(format!("for both ends write {from}-{most},{least}-{to}"))));
        }
        Ok(Item::Span { from: from_value, to: to_value, step })
    }

    fn step(&self, text: &str) -> Read<u32> {
        let (least, most) = self.kind.bounds();
        // Weekdays are numbered 0 to 7, but there are only seven.
        let size = if self.kind == CronField::Weekday { 7 } else { most - least + 1 };
        match number(text) {
            Some(step) if (1..=size).contains(&step) => Ok(step),
            step => {
                let hint = match self.kind {
                    _ if step.is_none() => self.hint_for(text),
                    CronField::Second | CronField::Minute | CronField::Hour if step != Some(0) => {
                        Some("for a longer span write @every, as in @every 90m".to_owned())
                    }
                    _ => None,
                };
                Err(self.fault(format!("the step {:?} is not between 1 and {size}", cut(text)), hint))
            }
        }
    }

    fn value(&self, text: &str) -> Read<u32> {
        let (least, most) = self.kind.bounds();
        if !text.is_empty() && text.bytes().all(|letter| letter.is_ascii_digit()) {
            let value = number(text).filter(|value| (least..=most).contains(value));
            let problem = || format!("{} is not between {least} and {most}", cut(text));
            return value.ok_or_else(|| self.fault(problem(), self.hint_for(text)));
        }
        let names = self.kind.names();
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        match named.and_then(|position| u32::try_from(position).ok()) {
            Some(position) => Ok(least + position),
            None if text.is_empty() => Err(self.fault("a value is missing".to_owned(), None)),
            None => Err(self.fault(format!("{:?} is not understood", cut(text)), self.hint_for(text))),
        }
    }

    /// Items with `L`, `W`, `#` and `?`, where they are allowed.
    fn special(&self, text: &str) -> Option<Read<Item>> {
        let upper = text.to_ascii_uppercase();
        match self.kind {
            CronField::DayOfMonth => match upper.as_str() {
                "L" => Some(Ok(Item::LastDay)),
                "LW" => Some(Ok(Item::LastWorkday)),
                "?" => Some(Ok(Item::All { step: 1 })),
                _ => upper
                    .strip_prefix("L-")
                    .map(|days| self.before_last(&text[text.len() - days.len()..]))
                    .or_else(|| upper.strip_suffix('W').map(|day| Ok(Item::Near { day: self.value(day)? }))),
            },
            CronField::Weekday => self.special_weekday(&upper),
            _ => None,
        }
    }

    /// Reads the number after `L-`. At least 1 day lies before the last day, and no month has more than 30 days
    /// before it.
    fn before_last(&self, days: &str) -> Read<Item> {
        match number(days) {
            Some(days @ 1..=30) => Ok(Item::BeforeLast { days }),
            Some(0) => {
                Err(self.fault("\"0\" after L- is not between 1 and 30".to_owned(), Some("the last day is L".into())))
            }
            _ => {
                let hint = "L-3 is the third day before the last one, and stands alone or in a list".to_owned();
                Err(self.fault(format!("{:?} after L- is not between 1 and 30", cut(days)), Some(hint)))
            }
        }
    }

    fn special_weekday(&self, upper: &str) -> Option<Read<Item>> {
        if upper == "?" {
            return Some(Ok(Item::All { step: 1 }));
        }
        if upper == "L" {
            let hint = "for the last Friday of the month write 5L, for Saturdays 6".to_owned();
            return Some(Err(self.fault("L needs the weekday in front".to_owned(), Some(hint))));
        }
        if let Some((weekday, nth)) = upper.split_once('#') {
            return Some(self.nth(weekday, nth));
        }
        let weekday = upper.strip_suffix('L')?;
        Some(self.value(weekday).map(|weekday| Item::LastOf { weekday: weekday % 7 }))
    }

    fn nth(&self, weekday: &str, nth: &str) -> Read<Item> {
        let weekday = self.value(weekday)? % 7;
        match number(nth) {
            Some(nth @ 1..=5) => Ok(Item::Nth { weekday, nth }),
            _ => {
                let hint = "for the last one in the month write L, as in 5L".to_owned();
                Err(self.fault(format!("{:?} after # is not between 1 and 5", cut(nth)), Some(hint)))
            }
        }
    }

    /// A hint at what was probably meant by `text`, which is not allowed here.
    fn hint_for(&self, text: &str) -> Option<String> {
        let own = match (self.kind, text) {
            (CronField::Weekday, _) if number(text).is_some() => Some("6 is Saturday, 0 and 7 are Sunday".to_owned()),
            (CronField::Weekday | CronField::Month, _) if named_long(self.kind, text) => {
                Some(format!("names have three letters: {}", text.chars().take(3).collect::<String>().to_uppercase()))
            }
            (CronField::Minute | CronField::Second, "60") => Some("the full one is 0".to_owned()),
            (CronField::Hour, "24") => Some("midnight is 0".to_owned()),
            (CronField::DayOfMonth, "0" | "32") => Some("the last day of the month is L".to_owned()),
            _ => None,
        };
        let order = match self.count {
            5 => {
                "the line has five fields, so it was read as minute, hour, day of month, month, weekday, without seconds"
            }
            6 => {
                "the line has six fields, so it was read with seconds first: second, minute, hour, day of month, \
                 month, weekday"
            }
            _ => {
                "the line has seven fields, so it was read as second, minute, hour, day of month, month, weekday, \
                 year"
            }
        };
        Some(own.map_or_else(|| order.to_owned(), |own| format!("{own}; {order}")))
    }

    fn fault(&self, problem: String, hint: Option<String>) -> TriggerError {
        TriggerError::Field { expression: cut(self.expression), field: self.kind, problem, hint }
    }
}

/// A number of at most nine digits. That is more than any field allows, and it does not overflow.
fn number(text: &str) -> Option<u32> {
    let digits = (1..=9).contains(&text.len()) && text.bytes().all(|letter| letter.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// True if `text` is a month or a weekday written in more than three letters.
fn named_long(kind: CronField, text: &str) -> bool {
    text.is_char_boundary(3)
        && text.len() > 3
        && text.is_ascii()
        && kind.names().iter().any(|name| name.eq_ignore_ascii_case(&text[..3]))
}
