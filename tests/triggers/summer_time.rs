//! Triggers while clocks are set ahead and back.

use super::*;

#[test]
fn a_fixed_run_in_the_skipped_hour_runs_right_after_it() {
    let from = "2026-03-28T12:00Z";
    expect(&cron("30 2 * * *", "Europe/Berlin"), from, &["2026-03-29T01:00Z", "2026-03-30T00:30Z"]);
    expect(&cron("0 30 2 * * *", "Europe/Berlin"), from, &["2026-03-29T01:00Z", "2026-03-30T00:30Z"]);
    // Several skipped runs come together as a single run. They also join a run that is due at that moment anyway.
    expect(&cron("0,15,45 2 * * *", "Europe/Berlin"), from, &["2026-03-29T01:00Z", "2026-03-30T00:00Z"]);
    expect(&cron("30 2,3 * * *", "Europe/Berlin"), from, &["2026-03-29T01:00Z", "2026-03-29T01:30Z"]);
    expect(&cron("0 2,3 * * *", "Europe/Berlin"), from, &["2026-03-29T01:00Z", "2026-03-30T00:00Z"]);
    // In this zone the clock skips midnight.
    expect(&cron("@daily", "Africa/Cairo"), "2026-04-23T12:00Z", &["2026-04-23T22:00Z", "2026-04-24T21:00Z"]);
}

#[test]
fn a_fixed_run_in_the_repeated_hour_runs_once() {
    let from = "2026-10-24T12:00Z";
    expect(&cron("30 2 * * *", "Europe/Berlin"), from, &["2026-10-25T00:30Z", "2026-10-26T01:30Z"]);
    expect(
        &cron("0 1-4 * * *", "Europe/Berlin"),
        from,
        &["2026-10-24T23:00Z", "2026-10-25T00:00Z", "2026-10-25T02:00Z", "2026-10-25T03:00Z"],
    );
    // The question lies within the repeated hour.
    expect(&cron("30 2 * * *", "Europe/Berlin"), "2026-10-25T00:30Z", &["2026-10-26T01:30Z"]);
    expect(&cron("30 2 * * *", "Europe/Berlin"), "2026-10-25T01:10Z", &["2026-10-26T01:30Z"]);
}

#[test]
fn the_wildcard_kind_keeps_real_time() {
    let quarters = ["2026-03-29T00:30Z", "2026-03-29T00:45Z", "2026-03-29T01:00Z", "2026-03-29T01:15Z"];
    expect(&cron("*/15 * * * *", "Europe/Berlin"), "2026-03-29T00:15Z", &quarters);
    let halves = ["2026-10-25T00:30Z", "2026-10-25T01:00Z", "2026-10-25T01:30Z", "2026-10-25T02:00Z"];
    expect(&cron("*/30 * * * *", "Europe/Berlin"), "2026-10-25T00:00Z", &halves);
    // A `*` in either the minute or the hour is enough.
    expect(&cron("*/30 2 * * *", "Europe/Berlin"), "2026-03-28T12:00Z", &["2026-03-30T00:00Z"]);
    expect(
        &cron("*/30 2 * * *", "Europe/Berlin"),
        "2026-10-24T12:00Z",
        &["2026-10-25T00:00Z", "2026-10-25T00:30Z", "2026-10-25T01:00Z", "2026-10-25T01:30Z", "2026-10-26T01:00Z"],
    );
    expect(&cron("30 */2 * * *", "Europe/Berlin"), "2026-03-28T23:30Z", &["2026-03-29T02:30Z"]);
    expect(&cron("30 */2 * * *", "Europe/Berlin"), "2026-10-24T23:00Z", &["2026-10-25T00:30Z", "2026-10-25T01:30Z"]);
}

#[test]
fn half_an_hour_is_a_change_as_well() {
    // Clocks on Lord Howe are set from 02:00 to 02:30 in October, and from 02:00 back to 01:30 in April.
    expect(
        &cron("15 2 * * *", "Australia/Lord_Howe"),
        "2026-10-03T00:00Z",
        &["2026-10-03T15:30Z", "2026-10-04T15:15Z"],
    );
    expect(
        &cron("45 1 * * *", "Australia/Lord_Howe"),
        "2026-04-04T00:00Z",
        &["2026-04-04T14:45Z", "2026-04-05T15:15Z"],
    );
    expect(
        &cron("45 * * * *", "Australia/Lord_Howe"),
        "2026-04-04T14:00Z",
        &["2026-04-04T14:45Z", "2026-04-04T15:15Z"],
    );
}

#[test]
fn a_day_that_an_island_leaves_out_is_left_out() {
    // Samoa had no 30 December 2011.
    expect(&cron("0 9 * * *", "Pacific/Apia"), "2011-12-29T00:00Z", &["2011-12-29T19:00Z", "2011-12-30T19:00Z"]);
    expect(&cron("0 9 30 12 *", "Pacific/Apia"), "2011-12-01T00:00Z", &["2012-12-29T19:00Z"]);
}
