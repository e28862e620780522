//! Russian.

use super::super::{ShortMonth, Zone};
use super::{Run, Unit, Voice};

pub(super) struct Russian;

/// The forms of a weekday: accusative, genitive, dative plural, and its gender.
struct Weekday {
    accusative: &'static str,
    genitive: &'static str,
    dative_plural: &'static str,
    gender: Gender,
}

#[derive(Clone, Copy)]
enum Gender {
    Masculine,
    Feminine,
    Neuter,
}

const fn day(
    accusative: &'static str,
    genitive: &'static str,
    dative_plural: &'static str,
    gender: Gender,
) -> Weekday {
    Weekday { accusative, genitive, dative_plural, gender }
}

const WEEKDAYS: [Weekday; 8] = [
    day("воскресенье", "воскресенья", "воскресеньям", Gender::Neuter),
    day("понедельник", "понедельника", "понедельникам", Gender::Masculine),
    day("вторник", "вторника", "вторникам", Gender::Masculine),
    day("среду", "среды", "средам", Gender::Feminine),
    day("четверг", "четверга", "четвергам", Gender::Masculine),
    day("пятницу", "пятницы", "пятницам", Gender::Feminine),
    day("субботу", "субботы", "субботам", Gender::Feminine),
    day("воскресенье", "воскресенья", "воскресеньям", Gender::Neuter),
];

/// The forms of a month: genitive, prepositional, and the plain form (nominative and accusative).
const MONTHS: [(&str, &str, &str); 12] = [
    ("января", "январе", "январь"),
    ("февраля", "феврале", "февраль"),
    ("марта", "марте", "март"),
    ("апреля", "апреле", "апрель"),
    ("мая", "мае", "май"),
    ("июня", "июне", "июнь"),
    ("июля", "июле", "июль"),
    ("августа", "августе", "август"),
    ("сентября", "сентябре", "сентябрь"),
    ("октября", "октябре", "октябрь"),
    ("ноября", "ноябре", "ноябрь"),
    ("декабря", "декабре", "декабрь"),
];

/// The forms of a unit after 1 (accusative), after 2 and after 5, and the gender for "each".
const fn unit(unit: Unit) -> (&'static str, &'static str, &'static str, Gender) {
    match unit {
        Unit::Microsecond => ("микросекунду", "микросекунды", "микросекунд", Gender::Feminine),
        Unit::Millisecond => ("миллисекунду", "миллисекунды", "миллисекунд", Gender::Feminine),
        Unit::Second => ("секунду", "секунды", "секунд", Gender::Feminine),
        Unit::Minute => ("минуту", "минуты", "минут", Gender::Feminine),
        Unit::Hour => ("час", "часа", "часов", Gender::Masculine),
        Unit::Day => ("день", "дня", "дней", Gender::Masculine),
        Unit::Week => ("неделю", "недели", "недель", Gender::Feminine),
        Unit::Month => ("месяц", "месяца", "месяцев", Gender::Masculine),
    }
}

/// 1, 21, 31 take the singular, but 11 does not.
const fn is_one(n: u32) -> bool {
    n % 10 == 1 && n % 100 != 11
}

fn counted(n: u32, of: Unit) -> &'static str {
    let (one, two, five, _) = unit(of);
    match n % 10 {
        _ if is_one(n) => one,
        2..=4 if !(12..=14).contains(&(n % 100)) => two,
        _ => five,
    }
}

fn which(nth: Option<u32>, gender: Gender) -> &'static str {
    let (masculine, feminine, neuter) = match nth {
        Some(1) => ("в первый", "в первую", "в первое"),
        Some(2) => ("во второй", "во вторую", "во второе"),
        Some(3) => ("в третий", "в третью", "в третье"),
        Some(4) => ("в четвёртый", "в четвёртую", "в четвёртое"),
        Some(_) => ("в пятый", "в пятую", "в пятое"),
        None => ("в последний", "в последнюю", "в последнее"),
    };
    match gender {
        Gender::Masculine => masculine,
        Gender::Feminine => feminine,
        Gender::Neuter => neuter,
    }
}

fn numbers(voice: &Russian, runs: &[Run]) -> String {
    voice.list(&runs.iter().map(|run| voice.run(*run)).collect::<Vec<_>>())
}

/// Single values share a preposition at the front; each range has its own.
fn named(
    voice: &Russian,
    runs: &[Run],
    preposition: &str,
    single: impl Fn(u32) -> String,
    range: impl Fn(&Run) -> String,
) -> String {
    let (ranges, singles): (Vec<&Run>, Vec<&Run>) = runs.iter().partition(|run| run.to > run.from + 1);
    let singles: Vec<_> = singles.iter().flat_map(|run| (run.from..=run.to).map(&single)).collect();
    let singles = (!singles.is_empty()).then(|| format!("{preposition} {}", voice.list(&singles)));
    voice.list(&singles.into_iter().chain(ranges.into_iter().map(range)).collect::<Vec<_>>())
}

impl Voice for Russian {
    fn list(&self, parts: &[String]) -> String {
        match parts {
            [first @ .., last] if !first.is_empty() => format!("{} и {last}", first.join(", ")),
            parts => parts.concat(),
        }
    }

    fn run(&self, Run { from, to, step }: Run) -> String {
        match step {
            _ if from == to => from.to_string(),
            1 => format!("{from}–{to}"),
            _ => format!("{from}–{to} с шагом {step}"),
        }
    }

    fn at(&self, times: &[String], daily: bool) -> String {
        format!("{}в {}", if daily { "каждый день " } else { "" }, self.list(times))
    }

    fn every(&self, n: u32, of: Unit) -> String {
        let each = match unit(of).3 {
            _ if !is_one(n) => "каждые",
            Gender::Feminine => "каждую",
            Gender::Masculine | Gender::Neuter => "каждый",
        };
        if n == 1 { format!("{each} {}", counted(n, of)) } else { format!("{each} {n} {}", counted(n, of)) }
    }

    fn during(&self, of: Unit, runs: &[Run]) -> String {
        let of = match of {
            Unit::Second => "секунды",
            Unit::Minute => "минуты",
            _ => "часы",
        };
        format!("{of}: {}", numbers(self, runs))
    }

    fn days(&self, runs: &[Run]) -> String {
        match runs {
            [Run { from, to, .. }] if from == to => format!("{from}-го числа"),
            [Run { from, to, step: 1 }] => format!("с {from}-го по {to}-е число"),
            runs if runs.iter().all(|run| run.step == 1) => format!("{} числа", numbers(self, runs)),
            runs => format!("по числам месяца: {}", numbers(self, runs)),
        }
    }

    fn last_day(&self) -> String {
        "в последний день месяца".to_owned()
    }

    fn before_last(&self, days: u32) -> String {
        format!("за {days} {} до последнего дня месяца", counted(days, Unit::Day))
    }

    fn last_workday(&self) -> String {
        "в последний рабочий день месяца".to_owned()
    }

    fn near(&self, day: u32) -> String {
        format!("в ближайший к {day}-му числу рабочий день")
    }

    fn weekdays(&self, runs: &[Run]) -> String {
        let name = |day: u32| &WEEKDAYS[day as usize % 8];
        let range = |run: &Run| format!("с {} по {}", name(run.from).genitive, name(run.to).accusative);
        named(self, runs, "по", |day| name(day).dative_plural.to_owned(), range)
    }

    fn nth(&self, weekday: u32, nth: Option<u32>) -> String {
        let weekday = &WEEKDAYS[weekday as usize % 8];
        format!("{} {} месяца", which(nth, weekday.gender), weekday.accusative)
    }

    fn either(&self, parts: &[String]) -> String {
        parts.join(" или ")
    }

    fn both(&self, one: &str, other: &str) -> String {
        format!("{one}, если это также {other}")
    }

    fn months(&self, runs: &[Run]) -> String {
        let name = |month: u32| MONTHS[(month as usize - 1) % 12];
        let range = |run: &Run| format!("с {} по {}", name(run.from).0, name(run.to).2);
        named(self, runs, "в", |month| name(month).1.to_owned(), range)
    }

    fn years(&self, runs: &[Run]) -> String {
        match runs {
            [Run { from, to, .. }] if from == to => format!("в {from} году"),
            runs => format!("в {} годах", numbers(self, runs)),
        }
    }

    fn sentence(&self, time: &str, days: &str, months: &str, years: &str) -> String {
        let parts = [time, days, months, years];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn in_zone(&self, text: &str, zone: Zone) -> String {
        format!("{text}, время {zone}")
    }

    fn span(&self, parts: &[(u32, Unit)]) -> String {
        parts.iter().map(|(n, of)| format!("{n} {}", counted(*n, *of))).collect::<Vec<_>>().join(" ")
    }

    fn every_span(&self, span: &str) -> String {
        format!("каждые {span}")
    }

    fn counted_from(&self, anchor: &str) -> String {
        format!(", считая от {anchor}")
    }

    fn once(&self, time: &str) -> String {
        format!("один раз: {time}")
    }

    fn short_month(&self, rule: ShortMonth) -> String {
        match rule {
            ShortMonth::Skip => " (более короткие месяцы пропускаются)".to_owned(),
            ShortMonth::LastDay => " (в более коротких месяцах — в последний день)".to_owned(),
        }
    }

    fn any_of(&self, parts: &[String]) -> String {
        parts.join("; или ")
    }

    fn all_of(&self, parts: &[String]) -> String {
        format!("когда совпадает всё: {}", parts.join("; и "))
    }

    fn from(&self, start: &str) -> String {
        format!(", начиная с {start}")
    }

    fn until(&self, end: &str) -> String {
        format!(", до {end}")
    }

    fn spread(&self, span: &str) -> String {
        format!(", каждый раз со случайной задержкой до {span}")
    }
}
