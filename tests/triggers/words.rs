//! Descriptions of triggers in three languages.

use std::time::Duration;

use callboard::{CalendarUnit, Language, ShortMonth};
use proptest::prelude::*;

use super::*;
use crate::storage::any_trigger;

#[track_caller]
fn say(trigger: &Trigger, english: &str, chinese: &str, russian: &str) {
    let said = [Language::English, Language::Chinese, Language::Russian].map(|language| trigger.describe(language));
    assert_eq!(said, [english, chinese, russian]);
}

#[track_caller]
fn say_cron(expression: &str, english: &str, chinese: &str, russian: &str) {
    let said = |text: &str, zone: &str| format!("{text}{zone}");
    let (chinese, russian) = (said(chinese, "（UTC 时间）"), said(russian, ", время UTC"));
    say(&cron(expression, "UTC"), &said(english, ", UTC"), &chinese, &russian);
}

#[test]
fn times_of_a_day() {
    say_cron("0 9 * * *", "every day at 09:00", "每天 09:00", "каждый день в 09:00");
    say_cron("@midnight", "every day at 00:00", "每天 00:00", "каждый день в 00:00");
    say_cron(
        "30,0 17,9 * * *",
        "every day at 09:00, 09:30, 17:00 and 17:30",
        "每天 09:00、09:30、17:00、17:30",
        "каждый день в 09:00, 09:30, 17:00 и 17:30",
    );
    say_cron("15 30 9 * * *", "every day at 09:30:15", "每天 09:30:15", "каждый день в 09:30:15");
    say_cron("*/15 * * * *", "every 15 minutes", "每 15 分钟", "каждые 15 минут");
    say_cron("* * * * *", "every minute", "每分钟", "каждую минуту");
    say_cron("*/2 * * * * *", "every 2 seconds", "每 2 秒", "каждые 2 секунды");
    say_cron("@hourly", "every hour, in minute 0", "每小时，在第 0 分", "каждый час, минуты: 0");
    say_cron("0 */2 * * *", "every 2 hours, in minute 0", "每 2 小时，在第 0 分", "каждые 2 часа, минуты: 0");
    say_cron(
        "*/20 9-17 * * *",
        "every 20 minutes, in hours 9–17",
        "每 20 分钟，在第 9 时至第 17 时",
        "каждые 20 минут, часы: 9–17",
    );
    say_cron("*/7 * * * *", "in minutes 0–59 in steps of 7", "在第 0 分至第 59 分每隔 7", "минуты: 0–59 с шагом 7");
}

#[test]
fn days_before_the_last() {
    say_cron(
        "0 9 L-1 * *",
        "at 09:00 on the day before the last day of the month",
        "每月最后一天之前第 1 天，09:00",
        "в 09:00 за 1 день до последнего дня месяца",
    );
    say_cron(
        "0 9 L-3,L * *",
        "at 09:00 on the day 3 days before the last day of the month or on the last day of the month",
        "每月最后一天之前第 3 天或每月最后一天，09:00",
        "в 09:00 за 3 дня до последнего дня месяца или в последний день месяца",
    );
}

#[test]
fn days() {
    say_cron(
        "0 9 * * 1-5",
        "at 09:00 on Monday to Friday",
        "每周一至周五，09:00",
        "в 09:00 с понедельника по пятницу",
    );
    say_cron("0 2 * * 0", "at 02:00 on Sunday", "每周日，02:00", "в 02:00 по воскресеньям");
    say_cron(
        "0 2 * * 6,0",
        "at 02:00 on Saturday and Sunday",
        "每周六至周日，02:00",
        "в 02:00 по субботам и воскресеньям",
    );
    say_cron("0 0 1 * *", "at 00:00 on day 1 of the month", "每月 1 日，00:00", "в 00:00 1-го числа");
    say_cron(
        "0 0 1,15 jan,7-9 *",
        "at 00:00 on days 1 and 15 of the month in January and July to September",
        "1 月、7 月至 9 月，每月 1 日、15 日，00:00",
        "в 00:00 1 и 15 числа в январе и с июля по сентябрь",
    );
    say_cron(
        "0 0 L * *",
        "at 00:00 on the last day of the month",
        "每月最后一天，00:00",
        "в 00:00 в последний день месяца",
    );
    say_cron(
        "0 0 15W,LW * *",
        "at 00:00 on the working day nearest to day 15 of the month or on the last working day of the month",
        "每月离 15 日最近的工作日或每月最后一个工作日，00:00",
        "в 00:00 в ближайший к 15-му числу рабочий день или в последний рабочий день месяца",
    );
    say_cron(
        "0 0 * * 5#2",
        "at 00:00 on the second Friday of the month",
        "每月第二个周五，00:00",
        "в 00:00 во вторую пятницу месяца",
    );
    say_cron(
        "0 0 * * 7L",
        "at 00:00 on the last Sunday of the month",
        "每月最后一个周日，00:00",
        "в 00:00 в последнее воскресенье месяца",
    );
    say_cron(
        "0 0 13 * 5",
        "at 00:00 on day 13 of the month or on Friday",
        "每月 13 日或每周五，00:00",
        "в 00:00 13-го числа или по пятницам",
    );
    say_cron(
        "0 0 */2 * 5",
        "at 00:00 on Friday when it is also on days 1–31 in steps of 2 of the month",
        "每周五且须为每月 1 日至 31 日每隔 2，00:00",
        "в 00:00 по пятницам, если это также по числам месяца: 1–31 с шагом 2",
    );
    say_cron(
        "0 0 0 1 1 * 2027",
        "at 00:00 on day 1 of the month in January in 2027",
        "2027 年，1 月，每月 1 日，00:00",
        "в 00:00 1-го числа в январе в 2027 году",
    );
}

#[test]
fn other_kinds() {
    say(
        &Trigger::interval("90s").unwrap(),
        "every 1 minute 30 seconds",
        "每 1 分钟 30 秒",
        "каждые 1 минуту 30 секунд",
    );
    say(&Trigger::interval("1d").unwrap(), "every day", "每天", "каждый день");
    say(
        &Trigger::interval("every 21m from 2026-03-06T14:00:00Z").unwrap(),
        "every 21 minutes, counted from 2026-03-06 14:00:00 UTC",
        "每 21 分钟，自 2026-03-06 14:00:00 UTC 起算",
        "каждую 21 минуту, считая от 2026-03-06 14:00:00 UTC",
    );
    let (first, time) = ("2026-01-31".parse().unwrap(), "09:00:00".parse().unwrap());
    let monthly = Trigger::calendar(1, CalendarUnit::Month, first, time, zone("Asia/Tokyo")).unwrap();
    say(
        &monthly.clone().short_months(ShortMonth::LastDay).unwrap(),
        "every month on day 31 of the month at 09:00 (the last day of months that are shorter), from 2026-01-31 on, \
         Asia/Tokyo time",
        "每个月，31 日，09:00（没有该日的月份取最后一天），从 2026-01-31 开始（Asia/Tokyo 时间）",
        "каждый месяц 31-го числа в 09:00 (в более коротких месяцах — в последний день), начиная с 2026-01-31, время \
         Asia/Tokyo",
    );
    say(
        &Trigger::calendar(2, CalendarUnit::Week, first, time, zone("Asia/Tokyo")).unwrap(),
        "every 2 weeks on Saturday at 09:00, from 2026-01-31 on, Asia/Tokyo time",
        "每 2 周，周六，09:00，从 2026-01-31 开始（Asia/Tokyo 时间）",
        "каждые 2 недели по субботам в 09:00, начиная с 2026-01-31, время Asia/Tokyo",
    );
    say(
        &Trigger::at_local("2026-03-06T09:00:00".parse().unwrap(), zone("Europe/Moscow")).unwrap(),
        "once at 2026-03-06 09:00:00, Europe/Moscow time",
        "仅一次：2026-03-06 09:00:00（Europe/Moscow 时间）",
        "один раз: 2026-03-06 09:00:00, время Europe/Moscow",
    );
    let both = vec![cron("0 9 * * *", "UTC"), Trigger::interval("2h").unwrap()];
    say(
        &Trigger::any_of(both)
            .unwrap()
            .end_at(moment("2026-03-06"))
            .unwrap()
            .jitter(Duration::from_secs(30))
            .unwrap(),
        "every day at 09:00, UTC; or every 2 hours, until 2026-03-06 00:00:00 UTC, each up to 30 seconds later at random",
        "每天 09:00（UTC 时间）；或每 2 小时，到 2026-03-06 00:00:00 UTC 为止，每次随机推迟至多 30 秒",
        "каждый день в 09:00, время UTC; или каждые 2 часа, до 2026-03-06 00:00:00 UTC, каждый раз со случайной \
         задержкой до 30 секунд",
    );
}

proptest! {
    #[test]
    fn there_are_always_words(trigger in any_trigger()) {
        for language in [Language::English, Language::Chinese, Language::Russian] {
            let words = trigger.describe(language);
            prop_assert!(!words.is_empty() && !words.contains("  "), "{words:?}");
        }
    }
}
