//! The expressions that the first users bring, and the values that each field may hold.

use super::*;

#[test]
fn the_expressions_of_the_seeds() {
    let from = "2026-03-06";
    let table: [(&str, &[&str]); 6] = [
        ("0 */2 * * *", &["2026-03-06T02:00Z", "2026-03-06T04:00Z", "2026-03-06T06:00Z"]),
        ("0 9 * * *", &["2026-03-06T09:00Z", "2026-03-07T09:00Z", "2026-03-08T09:00Z"]),
        ("0 9 * * 1-5", &["2026-03-06T09:00Z", "2026-03-09T09:00Z", "2026-03-10T09:00Z"]),
        ("*/15 * * * *", &["2026-03-06T00:15Z", "2026-03-06T00:30Z", "2026-03-06T00:45Z", "2026-03-06T01:00Z"]),
        ("0 2 * * 0", &["2026-03-08T02:00Z", "2026-03-15T02:00Z"]),
        ("0 0 1 * *", &["2026-04-01T00:00Z", "2026-05-01T00:00Z"]),
    ];
    for (expression, times) in table {
        expect(&cron(expression, "UTC"), from, times);
    }
}

#[test]
fn working_days_in_new_york() {
    expect(
        &cron("0 9 * * 1-5", "America/New_York"),
        "2026-03-06",
        // Clocks are set ahead on Sunday the 8th.
        &["2026-03-06T14:00Z", "2026-03-09T13:00Z", "2026-03-10T13:00Z", "2026-03-11T13:00Z", "2026-03-12T13:00Z"],
    );
}

#[test]
fn nicknames() {
    for (nickname, expression) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@ANNUALLY", "0 0 1 1 *"),
    ] {
        let from = moment("2026-03-06T10:20Z");
        assert_eq!(cron(nickname, "UTC").preview(from, 20), cron(expression, "UTC").preview(from, 20), "{nickname}");
    }
    expect(&cron("@every 90s", "Europe/Berlin"), "2026-03-06", &["2026-03-06T00:01:30Z", "2026-03-06T00:03Z"]);
    expect(&cron("@every 2h30m", "UTC"), "1970-01-01", &["1970-01-01T02:30Z", "1970-01-01T05:00Z"]);
}

#[test]
fn weekdays_are_numbered_as_in_cron() {
    // 2026-03-01 is a Sunday.
    let days = |weekday: &str| -> Vec<u32> {
        let times = cron(&format!("0 0 * * {weekday}"), "UTC").preview(moment("2026-02-28"), 40);
        let march = times.iter().map(|time| time.to_datetime().date_naive());
        march
            .take_while(|date| *date < "2026-03-15".parse().unwrap())
            .map(|date| chrono::Datelike::day(&date))
            .collect()
    };
    for (weekday, expected) in [
        ("0", vec![1, 8]),
        ("7", vec![1, 8]),
        ("sun", vec![1, 8]),
        ("1", vec![2, 9]),
        ("6", vec![7, 14]),
        ("5-7", vec![1, 6, 7, 8, 13, 14]),
        ("FRI-SUN", vec![1, 6, 7, 8, 13, 14]),
        ("0-2", vec![1, 2, 3, 8, 9, 10]),
        ("SUN-TUE", vec![1, 2, 3, 8, 9, 10]),
        ("0-7", (1..=14).collect()),
        ("1-7/2", vec![1, 2, 4, 6, 8, 9, 11, 13]),
        ("0-7/7", vec![1, 8]),
        ("7-7", vec![1, 8]),
        ("1-7/4", vec![2, 6, 9, 13]),
        ("Mon-5", vec![2, 3, 4, 5, 6, 9, 10, 11, 12, 13]),
        ("mon,WED,5", vec![2, 4, 6, 9, 11, 13]),
        ("*/7", vec![1, 8]),
        ("*/3", vec![1, 4, 7, 8, 11, 14]),
    ] {
        assert_eq!(days(weekday), expected, "{weekday}");
    }
}

#[test]
fn two_day_fields() {
    // Both fields are restricted: a match of either field is enough.
    expect(
        &cron("0 0 13 * 5", "UTC"),
        "2026-03-01",
        &["2026-03-06T00:00Z", "2026-03-13T00:00Z", "2026-03-20T00:00Z", "2026-03-27T00:00Z", "2026-04-03T00:00Z"],
    );
    // A field begins with `*`: both fields must match.
    expect(&cron("0 0 */2 * 5", "UTC"), "2026-03-01", &["2026-03-13T00:00Z", "2026-03-27T00:00Z"]);
    expect(&cron("0 0 13 * */5", "UTC"), "2026-03-01", &["2026-03-13T00:00Z", "2026-09-13T00:00Z"]);
    expect(&cron("0 0 *,13 * 5", "UTC"), "2026-03-01", &["2026-03-06T00:00Z", "2026-03-13T00:00Z"]);
    expect(&cron("0 0 ? * 5", "UTC"), "2026-03-01", &["2026-03-06T00:00Z", "2026-03-13T00:00Z"]);
    // A list whose `*` is not its first item is restricted.
    expect(&cron("0 0 13,* * 5", "UTC"), "2026-03-01", &["2026-03-02T00:00Z", "2026-03-03T00:00Z"]);
}

#[test]
fn lists_ranges_steps_and_names() {
    expect(
        &cron("5,50-52,10-20/5 3 * * *", "UTC"),
        "2026-03-06",
        &[
            "2026-03-06T03:05Z",
            "2026-03-06T03:10Z",
            "2026-03-06T03:15Z",
            "2026-03-06T03:20Z",
            "2026-03-06T03:50Z",
            "2026-03-06T03:51Z",
            "2026-03-06T03:52Z",
            "2026-03-07T03:05Z",
        ],
    );
    expect(
        &cron("0 0 1 jan,JUL-sep *", "UTC"),
        "2026-03-06",
        &["2026-07-01T00:00Z", "2026-08-01T00:00Z", "2026-09-01T00:00Z", "2027-01-01T00:00Z"],
    );
    // If a step goes beyond the end of the field or range, only the first value remains.
    expect(&cron("*/60 */24 * * *", "UTC"), "2026-03-06", &["2026-03-07T00:00Z", "2026-03-08T00:00Z"]);
    expect(&cron("10-20/30 0 1 * *", "UTC"), "2026-03-06", &["2026-04-01T00:10Z", "2026-05-01T00:10Z"]);
}

#[test]
fn six_and_seven_fields() {
    expect(&cron("30 0 9 * * *", "UTC"), "2026-03-06", &["2026-03-06T09:00:30Z", "2026-03-07T09:00:30Z"]);
    expect(
        &cron("*/20 59 23 * * *", "UTC"),
        "2026-03-06",
        &["2026-03-06T23:59Z", "2026-03-06T23:59:20Z", "2026-03-06T23:59:40Z", "2026-03-07T23:59Z"],
    );
    // This is the form of other programs that put the seconds first.
    expect(
        &cron("0 40/10 9 * * ?", "UTC"),
        "2026-03-06",
        &["2026-03-06T09:40Z", "2026-03-06T09:50Z", "2026-03-07T09:40Z"],
    );
    expect(
        &cron("0 0 9 1 1 * 2027,2030-2031", "UTC"),
        "1066-10-14",
        &["2027-01-01T09:00Z", "2030-01-01T09:00Z", "2031-01-01T09:00Z"],
    );
    assert_eq!(cron("0 0 9 1 1 * 2027", "UTC").next_after(moment("2027-01-01T09:00Z")), None);
}

#[test]
fn last_days_working_days_and_counted_weekdays() {
    expect(&cron("0 0 L * *", "UTC"), "2028-01-01", &["2028-01-31T00:00Z", "2028-02-29T00:00Z", "2028-03-31T00:00Z"]);
    expect(&cron("0 0 1,L 2 *", "UTC"), "2027-01-01", &["2027-02-01T00:00Z", "2027-02-28T00:00Z"]);
    expect(&cron("0 0 * * 5#2", "UTC"), "2026-03-06", &["2026-03-13T00:00Z", "2026-04-10T00:00Z"]);
    expect(&cron("0 0 * * MON#5", "UTC"), "2026-03-06", &["2026-03-30T00:00Z", "2026-06-29T00:00Z"]);
    expect(&cron("0 0 * * 7#1,5#3", "UTC"), "2026-03-02", &["2026-03-20T00:00Z", "2026-04-05T00:00Z"]);
    expect(
        &cron("0 0 * * 5L", "UTC"),
        "2026-03-06",
        &["2026-03-27T00:00Z", "2026-04-24T00:00Z", "2026-05-29T00:00Z"],
    );
    expect(&cron("0 0 * * sunL", "UTC"), "2026-03-06", &["2026-03-29T00:00Z"]);
    // 2026-08-15 is a Saturday, 2026-11-15 a Sunday, 2026-02-01 a Sunday, 2026-08-01 a Saturday.
    expect(&cron("0 0 15W 8,11 *", "UTC"), "2026-03-06", &["2026-08-14T00:00Z", "2026-11-16T00:00Z"]);
    expect(&cron("0 0 1W 2,8 *", "UTC"), "2026-01-06", &["2026-02-02T00:00Z", "2026-08-03T00:00Z"]);
    // Only months with 31 days match. 2026-05-31 is a Sunday, 2026-10-31 a Saturday.
    expect(&cron("0 0 31W 4,5,10 *", "UTC"), "2026-03-06", &["2026-05-29T00:00Z", "2026-10-30T00:00Z"]);
    expect(
        &cron("0 0 LW * *", "UTC"),
        "2026-01-01",
        &["2026-01-30T00:00Z", "2026-02-27T00:00Z", "2026-03-31T00:00Z"],
    );
    expect(
        &cron("0 0 lw * mon#1", "UTC"),
        "2026-03-01",
        &["2026-03-02T00:00Z", "2026-03-31T00:00Z", "2026-04-06T00:00Z"],
    );
}

#[test]
fn leap_days() {
    expect(&cron("0 0 29 2 *", "UTC"), "2096-03-01", &["2104-02-29T00:00Z", "2108-02-29T00:00Z"]);
    // The 29th of February must be a Sunday.
    expect(
        &cron("0 0 29 2 */7", "UTC"),
        "2026-01-01",
        &["2032-02-29T00:00Z", "2060-02-29T00:00Z", "2088-02-29T00:00Z"],
    );
}
