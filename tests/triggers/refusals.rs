//! Texts that are refused, and the words of the refusals.

use std::time::Duration;

use callboard::TriggerText;

use super::*;

#[track_caller]
fn refused(expression: &str, words: &[&str]) {
    let error = Trigger::cron(expression, Zone::UTC).expect_err(expression).to_string();
    for word in words {
        assert!(error.contains(word), "{expression}: {error}\nlacks {word:?}");
    }
}

#[test]
fn the_field_what_was_given_what_is_allowed_and_what_may_have_been_meant() {
    refused("0 9 * * 8", &["weekday field", "8 is not between 0 and 7", "0 and 7 are Sunday", "6 is Saturday"]);
    refused("60 9 * * *", &["minute field", "60 is not between 0 and 59", "five fields"]);
    refused("0 24 * * *", &["hour field", "24 is not between 0 and 23", "midnight is 0"]);
    refused("0 9 0 * *", &["day of month field", "0 is not between 1 and 31", "L (last day)"]);
    refused("0 9 * 13 *", &["month field", "13 is not between 1 and 12", "JAN-DEC"]);
    refused("0 9 * * TUES", &["weekday field", "\"TUES\" is not understood", "three letters: TUE"]);
    refused("30 45 9 * * FOO", &["weekday field", "six fields", "seconds first"]);
    refused("0 30 2 * * 1-5 1969", &["year field", "1969 is not between 1970 and 2100", "seven fields"]);
    refused("0 9-5 * * *", &["hour field", "runs backwards", "write 9-23,0-5"]);
    refused("*/90 * * * *", &["minute field", "step \"90\" is not between 1 and 60", "@every 90m"]);
    refused("*/0 * * * *", &["step \"0\" is not between 1 and 60"]);
    refused("5/15 * * * *", &["5/15 has a step but no range", "write 5-59/15"]);
    refused("1,,2 * * * *", &["minute field", "a value is missing"]);
    refused("0 9 * * L", &["weekday field", "L needs the weekday", "5L"]);
    refused("0 9 * * 5#6", &["\"6\" after # is not between 1 and 5"]);
    refused("0 9 32W * *", &["day of month field", "32 is not between 1 and 31"]);
    refused("0 9 * * 1-5 /bin/true", &["six fields", "seconds first"]);
    refused("0 ? * * *", &["hour field", "\"?\" is not understood"]);
}

#[test]
fn the_line_as_a_whole() {
    refused("", &["it has 0 fields", "five are minute, hour"]);
    refused("0 9 * *", &["it has 4 fields"]);
    refused("0 9 * * 1 root /bin/true now", &["it has 8 fields", "leave out user names and commands"]);
    refused("@dayly", &["no such nickname", "did you mean @daily?"]);
    refused("@reboot", &["push a task when the program starts"]);
    refused("@every", &["interval", "it is empty"]);
    refused("@every 5 minutes", &["interval", "the units are w, d, h, m (minutes)"]);
    refused(&"1,".repeat(600), &["bytes long"]);
}

#[test]
fn a_zone_in_front_and_letters_that_look_alike() {
    for line in
        ["CRON_TZ=Europe/Berlin 0 9 * * *", "TZ=Europe/Berlin 0 9 * * *", "cron_tz=\"Europe/Berlin\"  0 9 * * *"]
    {
        refused(line, &["a time zone stands in front", "\"Europe/Berlin\".parse::<Zone>()", "`zone` in JSON"]);
    }
    refused("CRON_TZ=Europe/Berlin @daily", &["a time zone stands in front"]);
    for (line, words) in [
        ("0\u{a0}9 * * *", &["no-break space (U+00A0)", "write plain spaces"]),
        ("0 9 * * *\u{202f}1", &["no-break space (U+202F)", "write plain spaces"]),
        ("0\u{3000}9 * * *", &["unusual space (U+3000)", "write plain spaces"]),
        ("0 9\u{2003}* * *", &["unusual space (U+2003)", "write plain spaces"]),
        ("\u{feff}0 9 * * *", &["invisible letter (U+FEFF)", "remove it"]),
        ("0 9 * * 1\u{200b}-5", &["invisible letter (U+200B)", "remove it"]),
        ("0 9 * * 1\u{2013}5", &["a dash (U+2013)", "hyphen-minus"]),
        ("0 9，17 * * *", &["a wide comma (U+FF0C)", "plain comma"]),
        ("０ 9 * * *", &["a wide digit (U+FF10)", "plain digits"]),
        ("0 9 ＊ * *", &["another asterisk (U+FF0A)", "plain *"]),
        ("@every 90\u{a0}s", &["no-break space (U+00A0)", "the units are"]),
    ] {
        refused(line, words);
    }
    let text = |kind: &str, expr: &str| TriggerText { kind: kind.into(), expr: expr.into(), zone: "UTC".into() };
    for (kind, expr) in [
        ("interval", "every 90s\u{a0}from 2026-03-06T14:00:00Z"),
        ("calendar", "every 2\u{a0}weeks at 09:00 from 2026-03-06"),
        ("date", "2026-03-06T14:00\u{a0}Z"),
        ("any_of", "[{\"kind\":\"cron\",\"expr\":\"0\u{a0}9 * * *\"}]"),
    ] {
        let error = Trigger::from_text(&text(kind, expr)).expect_err(expr).to_string();
        assert!(error.contains("no-break space (U+00A0)"), "{error}");
    }
    // At the ends of a line these spaces do no harm.
    assert!(Trigger::cron("\u{a0}0 9 * * *\u{a0}", Zone::UTC).is_ok());
}

#[test]
fn days_before_the_last() {
    refused("0 9 L-0 * *", &["day of month field", "\"0\" after L- is not between 1 and 30", "the last day is L"]);
    refused("0 9 L-31 * *", &["\"31\" after L- is not between 1 and 30", "third day before the last"]);
    refused("0 9 L-x * *", &["\"x\" after L-"]);
    refused("0 9 L-3W * *", &["\"3W\" after L-"]);
    refused("0 9 L-3-L * *", &["\"3-L\" after L-"]);
    refused("0 9 L-30 2 *", &["never fires", "at most 29 days"]);
    refused("0 9 1-L * *", &["day of month field", "\"L\" is not understood"]);
    refused("0 9 15W-20 * *", &["day of month field"]);
    refused("0 9 L/2 * *", &["day of month field", "\"L\" is not understood"]);
    refused("0 9 * L-1 *", &["month field", "\"L\" is not understood"]);
    // A field is accepted exactly when the message allows it.
    refused(
        "0 9 0 * *",
        &[
            "allowed: 1-31, *, ranges and steps of these, L (last day), L-3 (third day before it), 15W",
            "and lists of all that",
        ],
    );
    for line in ["0 9 *,1,3-5,*/2,1-9/3,L,L-3,15W,LW,? * *", "0 9 * * 1,MON-WED,0-6/2,*/3,5#2,5L,?"] {
        assert!(Trigger::cron(line, Zone::UTC).is_ok(), "{line}");
    }
}

#[test]
fn what_never_fires() {
    for expression in ["30 2 31 2 *", "0 0 31 4,6,9,11 *", "0 0 30W 2 *", "0 0 0 29 2 * 2023"] {
        refused(expression, &["never fires"]);
    }
    refused("30 2 31 2 *", &["at most 29 days"]);
    let (nine, ten) = (cron("0 9 * * *", "UTC"), cron("0 10 * * *", "UTC"));
    assert!(Trigger::all_of(vec![nine.clone(), ten]).unwrap_err().to_string().contains("never fires"));
    let bounded = nine.start_at(moment("2026-03-06T10:00Z")).unwrap().end_at(moment("2026-03-07T08:00Z"));
    assert!(bounded.unwrap_err().to_string().contains("no time from 2026-03-06T10:00:00.000000Z to 2026-03-07"));
    let past = Trigger::at(moment("2026-03-06")).unwrap().start_at(moment("2026-03-07"));
    assert!(past.unwrap_err().to_string().contains("never fires"));
}

#[test]
fn ranges_are_bounded_before_they_are_expanded() {
    for expression in [
        "0-4294967295/1 * * * *",
        "0-4294967296 * * * *",
        "4294967295 * * * *",
        "*/4294967295 * * * *",
        "99999999999999999999 * * * *",
        "0 0 1-999999999 * *",
        "0 0 * * 1#4294967297",
        "0 0 0 1 1 * 1970-4294967295",
    ] {
        let begin = std::time::Instant::now();
        refused(expression, &["field"]);
        assert!(begin.elapsed() < Duration::from_millis(100), "{expression}");
    }
}

#[test]
fn parts_that_do_not_fit() {
    let (hourly, every) = (cron("@hourly", "UTC"), Trigger::interval("90s").unwrap());
    let any = Trigger::any_of(vec![hourly.clone()]).unwrap();
    for (parts, words) in [
        (vec![], "it has 0 parts"),
        (vec![hourly.clone(); 33], "it has 33 parts"),
        (vec![every.clone()], "neither cron nor calendar"),
        (vec![any.clone()], "neither cron nor calendar"),
        (vec![hourly.clone(), cron("@hourly", "Asia/Tokyo")], "another zone"),
        (vec![hourly.clone().jitter(Duration::from_secs(1)).unwrap()], "bounds or a jitter"),
    ] {
        let error = Trigger::all_of(parts).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    assert!(Trigger::any_of(vec![any]).unwrap_err().to_string().contains("any_of itself"));
    assert!(hourly.clone().anchored_at(moment("2026-03-06")).is_err());
    assert!(hourly.clone().short_months(callboard::ShortMonth::LastDay).is_err());
    assert!(hourly.jitter(Duration::from_secs(1 << 40)).is_err());
    assert!(every.start_at(Timestamp::from_micros(i64::MAX)).is_err());
    assert!(Trigger::every(Duration::from_nanos(1_500_000_001)).is_err());
    assert!(Trigger::every(Duration::ZERO).is_err());
    assert!(Trigger::every(Duration::MAX).is_err());
    assert!(Trigger::at(Timestamp::from_micros(i64::MIN)).is_err());
}

#[test]
fn stored_nonsense_is_an_error() {
    for (kind, expr, zone) in [
        ("", "", ""),
        ("cron", "0 9 * * *", ""),
        ("cron", "0 9 * * *", "Mars/Olympus"),
        ("cron", "", "UTC"),
        ("corn", "0 9 * * *", "UTC"),
        ("cron", "0 9 * * *; jitter", "UTC"),
        ("cron", "0 9 * * *; jitter 5", "UTC"),
        ("cron", "0 9 * * *; jitter 5s; jitter 6s", "UTC"),
        ("cron", "0 9 * * *; end_at tomorrow", "UTC"),
        ("cron", "0 9 * * *; end_at 2026-01-01T00:00:00Z; start_at 2026-02-01T00:00:00Z", "UTC"),
        ("interval", "every now and then", "UTC"),
        ("interval", "every 90s from then", "UTC"),
        ("interval", "ever\u{20ac} 90s", "UTC"),
        ("calendar", "every 2 weeks", "UTC"),
        ("date", "2026-02-30T00:00:00Z", "UTC"),
        ("date", "99999-01-01T00:00:00Z", "UTC"),
        ("any_of", "[]", "UTC"),
        ("any_of", "[{}]", "UTC"),
        ("any_of", "[[[[", "UTC"),
        ("any_of", r#"[{"kind":"any_of","expr":"[]"}]"#, "UTC"),
        ("all_of", r#"[{"kind":"date","expr":"2026-03-06T14:00:00Z"}]"#, "UTC"),
        (
            "all_of",
            r#"[{"kind":"cron","expr":"0 9 * * *","zone":"Asia/Tokyo"},{"kind":"cron","expr":"0 9 * * *"}]"#,
            "UTC",
        ),
    ] {
        let text = TriggerText { kind: kind.into(), expr: expr.into(), zone: zone.into() };
        assert!(Trigger::from_text(&text).is_err(), "{text:?}");
    }
}
