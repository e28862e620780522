//! Simplified Chinese.

use super::super::{ShortMonth, Zone};
use super::{Run, Unit, Voice};

pub(super) struct Chinese;

const WEEKDAYS: [&str; 8] = ["周日", "周一", "周二", "周三", "周四", "周五", "周六", "周日"];

const ORDINALS: [&str; 5] = ["第一个", "第二个", "第三个", "第四个", "第五个"];

/// The unit with its measure word.
const fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Microsecond => "微秒",
        Unit::Millisecond => "毫秒",
        Unit::Second => "秒",
        Unit::Minute => "分钟",
        Unit::Hour => "小时",
        Unit::Day => "天",
        Unit::Week => "周",
        Unit::Month => "个月",
    }
}

fn runs_of(runs: &[Run], name: impl Fn(u32) -> String) -> String {
    let run = |run: &Run| match run {
        Run { from, to, .. } if from == to => name(*from),
        Run { from, to, step } => {
            let to = name(*to);
            // A space goes between a Chinese character and a digit.
            let space = if to.starts_with(|first: char| first.is_ascii_digit()) { " " } else { "" };
            let step = if *step == 1 { String::new() } else { format!("每隔 {step}") };
            format!("{}至{space}{to}{step}", name(*from))
        }
    };
    runs.iter().map(run).collect::<Vec<_>>().join("、")
}

impl Voice for Chinese {
    fn list(&self, parts: &[String]) -> String {
        parts.join("、")
    }

    fn run(&self, run: Run) -> String {
        runs_of(&[run], |value| value.to_string())
    }

    fn at(&self, times: &[String], daily: bool) -> String {
        format!("{}{}", if daily { "每天 " } else { "" }, self.list(times))
    }

    fn every(&self, n: u32, of: Unit) -> String {
        if n == 1 { format!("每{}", unit(of)) } else { format!("每 {n} {}", unit(of)) }
    }

    fn during(&self, of: Unit, runs: &[Run]) -> String {
        let of = match of {
            Unit::Second => "秒",
            Unit::Minute => "分",
            _ => "时",
        };
        format!("在{}", runs_of(runs, |value| format!("第 {value} {of}")))
    }

    fn days(&self, runs: &[Run]) -> String {
        format!("每月 {}", runs_of(runs, |day| format!("{day} 日")))
    }

    fn last_day(&self) -> String {
        "每月最后一天".to_owned()
    }

    fn before_last(&self, days: u32) -> String {
        format!("每月最后一天之前第 {days} 天")
    }

    fn last_workday(&self) -> String {
        "每月最后一个工作日".to_owned()
    }

    fn near(&self, day: u32) -> String {
        format!("每月离 {day} 日最近的工作日")
    }

    fn weekdays(&self, runs: &[Run]) -> String {
        let name = |day: u32| WEEKDAYS[day as usize % 8].to_owned();
        format!("每{}", runs_of(runs, name))
    }

    fn nth(&self, weekday: u32, nth: Option<u32>) -> String {
        let which = nth.map_or("最后一个", |nth| ORDINALS[(nth as usize - 1) % 5]);
        format!("每月{which}{}", WEEKDAYS[weekday as usize % 8])
    }

    fn either(&self, parts: &[String]) -> String {
        parts.join("或")
    }

    fn both(&self, one: &str, other: &str) -> String {
        format!("{one}且须为{other}")
    }

    fn months(&self, runs: &[Run]) -> String {
        runs_of(runs, |month| format!("{month} 月"))
    }

    fn years(&self, runs: &[Run]) -> String {
        runs_of(runs, |year| format!("{year} 年"))
    }

    fn sentence(&self, time: &str, days: &str, months: &str, years: &str) -> String {
        let parts = [years, months, days, time];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("，")
    }

    fn pieces(&self, parts: &[String]) -> String {
        parts.join("，")
    }

    fn calendar(&self, every: &str, days: &str, time: &str) -> String {
        // "Every" must appear only once.
        let days = days.strip_prefix("每月 ").or_else(|| days.strip_prefix('每')).unwrap_or(days);
        self.sentence(time, days, every, "")
    }

    fn in_zone(&self, text: &str, zone: Zone) -> String {
        format!("{text}（{zone} 时间）")
    }

    fn span(&self, parts: &[(u32, Unit)]) -> String {
        parts.iter().map(|(n, of)| format!("{n} {}", unit(*of))).collect::<Vec<_>>().join(" ")
    }

    fn every_span(&self, span: &str) -> String {
        format!("每 {span}")
    }

    fn counted_from(&self, anchor: &str) -> String {
        format!("，自 {anchor} 起算")
    }

    fn once(&self, time: &str) -> String {
        format!("仅一次：{time}")
    }

    fn short_month(&self, rule: ShortMonth) -> String {
        match rule {
            ShortMonth::Skip => "（没有该日的月份跳过）".to_owned(),
            ShortMonth::LastDay => "（没有该日的月份取最后一天）".to_owned(),
        }
    }

    fn any_of(&self, parts: &[String]) -> String {
        parts.join("；或")
    }

    fn all_of(&self, parts: &[String]) -> String {
        format!("同时满足：{}", parts.join("；且"))
    }

    fn from(&self, start: &str) -> String {
        format!("，从 {start} 开始")
    }

    fn until(&self, end: &str) -> String {
        format!("，到 {end} 为止")
    }

    fn spread(&self, span: &str) -> String {
        format!("，每次随机推迟至多 {span}")
    }
}
