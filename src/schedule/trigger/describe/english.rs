//! English.

use super::super::{ShortMonth, Zone};
use super::{Run, Unit, Voice};

pub(super) struct English;

const WEEKDAYS: [&str; 8] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const ORDINALS: [&str; 5] = ["first", "second", "third", "fourth", "fifth"];

const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Microsecond => "microsecond",
        Unit::Millisecond => "millisecond",
        Unit::Second => "second",
        Unit::Minute => "minute",
        Unit::Hour => "hour",
        Unit::Day => "day",
        Unit::Week => "week",
        Unit::Month => "month",
    }
}

fn plural(many: bool) -> &'static str {
    if many { "s" } else { "" }
}

fn many(runs: &[Run]) -> bool {
    !matches!(runs, [Run { from, to, .. }] if from == to)
}

fn named(voice: &English, runs: &[Run], name: impl Fn(u32) -> &'static str) -> String {
    let run = |run: &Run| match run.to - run.from {
        0 => vec![name(run.from).to_owned()],
        1 => vec![name(run.from).to_owned(), name(run.to).to_owned()],
        _ => vec![format!("{} to {}", name(run.from), name(run.to))],
    };
    voice.list(&runs.iter().flat_map(run).collect::<Vec<_>>())
}

fn numbers(voice: &English, runs: &[Run]) -> String {
    voice.list(&runs.iter().map(|run| voice.run(*run)).collect::<Vec<_>>())
}

impl Voice for English {
    fn list(&self, parts: &[String]) -> String {
        match parts {
            [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
            parts => parts.concat(),
        }
    }

    fn run(&self, Run { from, to, step }: Run) -> String {
        match step {
            _ if from == to => from.to_string(),
            1 => format!("{from}–{to}"),
            _ => format!("{from}–{to} in steps of {step}"),
        }
    }

    fn at(&self, times: &[String], daily: bool) -> String {
        format!("{}at {}", if daily { "every day " } else { "" }, self.list(times))
    }

    fn every(&self, n: u32, of: Unit) -> String {
        if n == 1 { format!("every {}", unit(of)) } else { format!("every {n} {}s", unit(of)) }
    }

    fn during(&self, of: Unit, runs: &[Run]) -> String {
        format!("in {}{} {}", unit(of), plural(many(runs)), numbers(self, runs))
    }

    fn days(&self, runs: &[Run]) -> String {
        format!("on day{} {} of the month", plural(many(runs)), numbers(self, runs))
    }

    fn last_day(&self) -> String {
        "on the last day of the month".to_owned()
    }

    fn before_last(&self, days: u32) -> String {
        match days {
            1 => "on the day before the last day of the month".to_owned(),
            _ => format!("on the day {days} days before the last day of the month"),
        }
    }

    fn last_workday(&self) -> String {
        "on the last working day of the month".to_owned()
    }

    fn near(&self, day: u32) -> String {
        format!("on the working day nearest to day {day} of the month")
    }

    fn weekdays(&self, runs: &[Run]) -> String {
        format!("on {}", named(self, runs, |day| WEEKDAYS[day as usize % 8]))
    }

    fn nth(&self, weekday: u32, nth: Option<u32>) -> String {
        let which = nth.map_or("last", |nth| ORDINALS[(nth as usize - 1) % 5]);
        format!("on the {which} {} of the month", WEEKDAYS[weekday as usize % 8])
    }

    fn either(&self, parts: &[String]) -> String {
        parts.join(" or ")
    }

    fn both(&self, one: &str, other: &str) -> String {
        format!("{one} when it is also {other}")
    }

    fn months(&self, runs: &[Run]) -> String {
        format!("in {}", named(self, runs, |month| MONTHS[(month as usize - 1) % 12]))
    }

    fn years(&self, runs: &[Run]) -> String {
        format!("in {}", numbers(self, runs))
    }

    fn sentence(&self, time: &str, days: &str, months: &str, years: &str) -> String {
        let parts = [time, days, months, years];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn in_zone(&self, text: &str, zone: Zone) -> String {
        if zone == Zone::UTC { format!("{text}, UTC") } else { format!("{text}, {zone} time") }
    }

    fn span(&self, parts: &[(u32, Unit)]) -> String {
        let part = |(n, of): &(u32, Unit)| format!("{n} {}{}", unit(*of), plural(*n > 1));
        parts.iter().map(part).collect::<Vec<_>>().join(" ")
    }

    fn every_span(&self, span: &str) -> String {
        format!("every {span}")
    }

    fn counted_from(&self, anchor: &str) -> String {
        format!(", counted from {anchor}")
    }

    fn once(&self, time: &str) -> String {
        format!("once at {time}")
    }

    fn short_month(&self, rule: ShortMonth) -> String {
        match rule {
            ShortMonth::Skip => " (not in months that are shorter)".to_owned(),
            ShortMonth::LastDay => " (the last day of months that are shorter)".to_owned(),
        }
    }

    fn any_of(&self, parts: &[String]) -> String {
        parts.join("; or ")
    }

    fn all_of(&self, parts: &[String]) -> String {
        format!("when all of this matches: {}", parts.join("; and "))
    }

    fn from(&self, start: &str) -> String {
        format!(", from {start} on")
    }

    fn until(&self, end: &str) -> String {
        format!(", until {end}")
    }

    fn spread(&self, span: &str) -> String {
        format!(", each up to {span} later at random")
    }
}
