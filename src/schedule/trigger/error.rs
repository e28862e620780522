//! Reasons why a trigger is refused.

use std::fmt;

/// The fields of a cron expression, in the order of a line of seven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CronField {
    /// 0 to 59; only in lines of six fields or more.
    Second,
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// 1 to 31.
    DayOfMonth,
    /// 1 to 12.
    Month,
    /// 0 to 7, where 0 and 7 are Sunday.
    Weekday,
    /// 1970 to 2100; only in lines of seven fields.
    Year,
}

impl CronField {
    pub(super) const ALL: [Self; 7] =
        [Self::Second, Self::Minute, Self::Hour, Self::DayOfMonth, Self::Month, Self::Weekday, Self::Year];

    /// The smallest and the largest allowed value.
    pub(super) const fn bounds(self) -> (u32, u32) {
        match self {
            Self::Second | Self::Minute => (0, 59),
            Self::Hour => (0, 23),
            Self::DayOfMonth => (1, 31),
            Self::Month => (1, 12),
            Self::Weekday => (0, 7),
            Self::Year => (1970, 2100),
        }
    }

    /// The names that stand for values. The first name stands for the smallest value.
    pub(super) const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
            Self::Weekday => &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
            _ => &[],
        }
    }

    /// The values allowed in the field, as text.
    pub(super) fn allowed(self) -> String {
        let (least, most) = self.bounds();
        let (names, special) = match self {
            Self::DayOfMonth => (
                "",
                ", L (last day), L-3 (third day before it), 15W (working day nearest to the 15th), LW (last working day), ?",
            ),
            Self::Month => (" or JAN-DEC", ""),
            Self::Weekday => (" (0 and 7 are Sunday) or SUN-SAT", ", 5#2 (second Friday), 5L (last Friday), ?"),
            Self::Second | Self::Minute | Self::Hour | Self::Year => ("", ""),
        };
        format!("{least}-{most}{names}, *, ranges and steps of these{special}, and lists of all that")
    }
}

impl fmt::Display for CronField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of month",
            Self::Month => "month",
            Self::Weekday => "weekday",
            Self::Year => "year",
        })
    }
}

/// The reason why a trigger cannot be made, or cannot be read from storage.
///
/// ```
/// use callboard::{Trigger, TriggerError, Zone};
/// let refused = Trigger::cron("0 9 * * 8", Zone::UTC).unwrap_err();
/// assert!(matches!(refused, TriggerError::Field { .. }));
/// assert!(refused.to_string().contains("weekday field: 8 is not between 0 and 7"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TriggerError {
    /// A field of a cron expression is wrong.
    #[error("cron expression {expression:?}, {field} field: {problem}; allowed: {}{}", .field.allowed(), also(.hint))]
    Field {
        /// The expression, cut when it is long.
        expression: String,
        /// The wrong field.
        field: CronField,
        /// The problem with the given value.
        problem: String,
        /// What was probably meant.
        hint: Option<String>,
    },
    /// A cron expression as a whole is wrong: its number of fields, its nickname, its length.
    #[error("cron expression {expression:?}: {problem}; {hint}")]
    Expression {
        /// The expression, cut when it is long.
        expression: String,
        /// The problem.
        problem: String,
        /// The text to write instead.
        hint: String,
    },
    /// The trigger would never fire.
    #[error("{what} never fires: {why}")]
    NeverFires {
        /// The trigger, as text.
        what: String,
        /// The reason that excludes all times.
        why: String,
    },
    /// No time zone has this name.
    #[error(
        "unknown time zone {given:?}{}; give an IANA name such as Europe/Berlin, or UTC",
        .nearest.map(|name| format!("; did you mean {name:?}?")).unwrap_or_default()
    )]
    UnknownZone {
        /// The given name, cut when it is long.
        given: String,
        /// The most similar name.
        nearest: Option<&'static str>,
    },
    /// Any other part of a trigger is wrong.
    #[error("{what} {given:?} is refused: {problem}; {hint}")]
    Invalid {
        /// The wrong part: an interval, a date, a kind.
        what: &'static str,
        /// The given text, cut when it is long.
        given: String,
        /// The problem with it.
        problem: String,
        /// The text to write instead.
        hint: String,
    },
}

fn also(hint: &Option<String>) -> String {
    hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default()
}

impl TriggerError {
    pub(super) fn invalid(
        what: &'static str,
        given: &str,
        problem: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let (problem, mut hint) = (problem.into(), hint.into());
        if let Some((odd, instead)) = look_alike(given) {
            hint = format!("{odd}, {instead}; {hint}");
        }
        Self::Invalid { what, given: cut(given), problem, hint }
    }
}

/// Finds a letter that only looks like a letter of an expression, and says what is wrong with it. Such letters come
/// with a text copied from a web page or an editor.
pub(super) fn look_alike(text: &str) -> Option<(String, &'static str)> {
    let (letter, what, hint) = text.chars().find_map(|letter| {
        Some(match letter {
            '\u{a0}' | '\u{202f}' => (letter, "a no-break space", "write plain spaces"),
            '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => (letter, "an invisible letter", "remove it"),
            letter if letter.is_whitespace() && !letter.is_ascii() => {
                (letter, "a wide or unusual space", "write plain spaces")
            }
            '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{ff0d}' => (letter, "a dash", "write the hyphen-minus -"),
            '\u{ff0c}' | '\u{3001}' => (letter, "a wide comma", "write the plain comma"),
            '\u{2217}' | '\u{ff0a}' => (letter, "another asterisk", "write the plain *"),
            '\u{ff10}'..='\u{ff19}' => (letter, "a wide digit", "write plain digits"),
            '\u{ff0f}' | '\u{2044}' | '\u{2215}' => (letter, "another slash", "write the plain /"),
            _ => return None,
        })
    })?;
    Some((format!("it has {what} (U+{:04X})", u32::from(letter)), hint))
}

/// The first 64 characters of a given text, because an error goes to logs and into a column.
pub(super) fn cut(given: &str) -> String {
    let mut text: String = given.chars().take(64).collect();
    if text.len() < given.len() {
        text.push_str("...");
    }
    text
}

/// The candidate that differs least from `given` in letters inserted, removed or changed. `None` when no candidate is
/// similar enough.
pub(crate) fn nearest<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given: Vec<char> = given.chars().take(64).map(fold).collect();
    let distance = |name: &str| {
        let whole: Vec<char> = name.chars().map(fold).collect();
        let city = city(&whole);
        if given != whole && city.len() > 3 && city == self::city(&given) {
            // People know the city and guess the continent.
            return 1;
        }
        edits(&given, &whole).min(edits(&given, city) + 1)
    };
    let (score, name) = candidates.map(|name| (distance(name), name)).min()?;
    (score <= given.len() / 2).then_some(name)
}

/// The part after the last slash.
fn city(name: &[char]) -> &[char] {
    name.rsplit(|letter| *letter == '/').next().unwrap_or(name)
}

fn fold(letter: char) -> char {
    if letter == ' ' || letter == '-' { '_' } else { letter.to_ascii_lowercase() }
}

fn edits(left: &[char], right: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, a) in left.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (column, b) in right.iter().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}
