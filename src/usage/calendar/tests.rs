//! Buckets against a walk over all hours with another library's calendar.

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;

use super::*;
use crate::usage::TIME_S_MAX;

/// The local date of each hour from `from_s` on: the latest one that local clocks have shown until the hour is over. An hour in which a day
/// begins has the date of that day.
pub(in crate::usage) fn dates(zone: &str, from_s: i64, to_s: i64, samples_s: &[i64]) -> Vec<(i64, Date)> {
    let zone = TimeZoneDatabase::bundled().get(zone).expect("a zone");
    let date = |time_s: i64| Timestamp::from_second(time_s).expect("a time that jiff knows").to_zoned(zone.clone()).date();
    let mut latest = Date::MIN;
    let hours = (from_s..to_s).step_by(HOUR_S as usize);
    hours
        .map(|hour| {
            latest = samples_s.iter().map(|sample| date(hour + sample)).fold(latest, Date::max);
            (hour, latest)
        })
        .collect()
}

/// What a date's bucket is called.
pub(in crate::usage) fn bucket_of(date: Date, interval: Interval) -> Date {
    match interval {
        Interval::Hour | Interval::Day => date,
        Interval::Week => date.checked_sub(i64::from(date.weekday().to_monday_zero_offset()).days()).expect("a date"),
        Interval::Month => date.first_of_month(),
    }
}

/// Begins of the buckets that hold the hours from `start_s` to `end_s`, by walking from long before on.
pub(in crate::usage) fn walked_starts(zone: &str, interval: Interval, start_s: i64, end_s: i64, samples_s: &[i64]) -> Vec<i64> {
    if interval == Interval::Hour {
        return (start_s..end_s).step_by(HOUR_S as usize).collect();
    }
    let mut starts = Vec::new();
    let mut last = None;
    for (hour, date) in dates(zone, start_s - 34 * DAY_S, end_s, samples_s) {
        let bucket = bucket_of(date, interval);
        if last.replace(bucket) != Some(bucket) {
            starts.push(hour);
        }
    }
    let before = starts.partition_point(|start| *start <= start_s);
    starts.split_off(before - 1)
}

pub(in crate::usage) fn intervals() -> impl Strategy<Value = Interval> {
    prop_oneof![Just(Interval::Hour), Just(Interval::Day), Just(Interval::Week), Just(Interval::Month)]
}

/// Any zone of the database, those with peculiar rules more often.
pub(in crate::usage) fn zones() -> impl Strategy<Value = String> {
    let all: Vec<String> = TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect();
    let peculiar = [
        "UTC",
        "Europe/Berlin",
        "Europe/London",
        "America/New_York",
        "America/Havana",
        "America/Sao_Paulo",
        "America/St_Johns",
        "America/Scoresbysund",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Asia/Pyongyang",
        "Asia/Gaza",
        "Africa/Monrovia",
        "Africa/Cairo",
        "Africa/Casablanca",
        "Atlantic/Azores",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Chatham",
        "Pacific/Kwajalein",
    ];
    prop_oneof![prop::sample::select(all), prop::sample::select(peculiar.map(str::to_owned).to_vec())]
}

/// A zone and a moment, often shortly before its clocks are moved.
fn zones_and_times() -> impl Strategy<Value = (String, i64)> {
    (zones(), 40 * DAY_S..4_000_000_000, any::<bool>(), -3 * DAY_S..40 * DAY_S).prop_map(|(name, time_s, near_a_move, before_s)| {
        let zone = TimeZoneDatabase::bundled().get(&name).expect("a zone");
        let after = Timestamp::from_second(time_s).expect("a time");
        let moved = zone.following(after).next().map(|moved| moved.timestamp().as_second());
        (name, moved.filter(|_| near_a_move).map_or(time_s, |moved| (moved - before_s).max(0)))
    })
}

fn buckets(start_s: i64, end_s: i64, interval: Interval, zone: &str) -> Buckets {
    let range = TimeRange::new(start_s, end_s).expect("a range");
    Buckets::new(range, interval, Zone::find(zone).expect("a zone")).expect("few enough")
}

/// End of the bucket that begins at a moment.
fn end_of(start_s: i64, interval: Interval, zone: &str) -> i64 {
    let starts = buckets(start_s.max(0), start_s + 40 * DAY_S, interval, zone).starts();
    *starts.iter().find(|next| **next > start_s).expect("buckets are shorter")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn buckets_of_any_zone_are_those_of_a_walk_over_all_hours(
        (zone, start_s) in zones_and_times(), days in 1_i64..70, odd_s in prop_oneof![Just(0), 0..DAY_S], interval in intervals(),
    ) {
        let buckets = buckets(start_s, start_s + days * DAY_S + odd_s, interval, &zone);
        let (from_s, to_s) = buckets.answered_s();
        let walked = walked_starts(&zone, interval, from_s, to_s, &[0, 900, 1_800, 2_700, 3_599]);
        prop_assert_eq!(buckets.starts(), walked, "{}", zone);
    }

    #[test]
    fn buckets_cut_the_answered_range_into_parts((zone, start_s) in zones_and_times(), length_s in 1_i64..200_000_000, interval in intervals()) {
        let buckets = buckets(start_s, start_s + length_s, interval, &zone);
        let (from_s, to_s) = buckets.answered_s();
        let starts = buckets.starts();
        prop_assert!(starts[0] <= from_s && starts.get(1).is_none_or(|second| from_s < *second));
        prop_assert!(*starts.last().expect("one") < to_s);
        prop_assert!(starts.windows(2).all(|pair| pair[0] < pair[1]), "none is empty");
        prop_assert!(starts.iter().all(|start| start % HOUR_S == 0));
        prop_assert_eq!(from_s, start_s / HOUR_S * HOUR_S);
        prop_assert!((to_s - start_s - length_s).abs() < HOUR_S && to_s > from_s);
        prop_assert!(starts.len() <= BUCKETS_MAX);
    }

    #[test]
    fn a_range_asked_for_in_two_has_the_buckets_of_the_whole((zone, start_s) in zones_and_times(), days in 2_i64..70, interval in intervals()) {
        let whole = buckets(start_s, start_s + days * DAY_S, interval, &zone);
        let starts = whole.starts();
        let Some(middle) = starts.get(starts.len() / 2).filter(|middle| **middle > whole.answered_s().0) else { return Ok(()) };
        let (one, other) = (buckets(start_s, *middle, interval, &zone), buckets(*middle, start_s + days * DAY_S, interval, &zone));
        prop_assert_eq!([one.starts(), other.starts()].concat(), starts);
        prop_assert_eq!(one.answered_s().1, other.answered_s().0);
    }

    #[test]
    fn days_in_utc_are_those_of_jiff_until_the_end_of_time(start_s in 0..TIME_S_MAX - 80 * DAY_S, days in 1_i64..70, interval in intervals()) {
        let buckets = buckets(start_s, start_s + days * DAY_S, interval, "UTC");
        let date = |time_s: i64| Timestamp::from_second(time_s).expect("a time").to_zoned(TimeZone::UTC).date();
        for start in buckets.starts() {
            prop_assert!(interval == Interval::Hour || start % DAY_S == 0 && bucket_of(date(start), interval) == date(start));
        }
        prop_assert_eq!(buckets.moved(), (start_s % HOUR_S != 0).then_some(buckets.answered_s()));
        prop_assert!(!buckets.are_moved(&buckets.starts()));
    }

    #[test]
    fn times_are_written_as_jiff_writes_them((zone, time_s) in zones_and_times()) {
        let written = time_in_zone(time_s, &Zone::find(&zone).expect("a zone"));
        let time = Timestamp::from_second(time_s).expect("a time");
        prop_assert_eq!(written.parse::<Timestamp>().expect("RFC 3339"), time);
        let offset = TimeZoneDatabase::bundled().get(&zone).expect("a zone").to_offset(time);
        if zone != "UTC" && offset.seconds() % 60 == 0 {
            prop_assert_eq!(written, time.display_with_offset(offset).to_string());
        }
    }
}

fn shown(start: &str, end: &str, interval: Interval, zone: &str) -> Vec<String> {
    let seconds = |time: &str| time.parse::<Timestamp>().expect("a time").as_second();
    let buckets = buckets(seconds(start), seconds(end), interval, zone);
    let (from_s, to_s) = buckets.answered_s();
    let starts = buckets.starts();
    let end = [to_s.max(end_of(starts[starts.len() - 1], interval, zone))];
    let hours: Vec<i64> = starts.iter().zip(starts[1..].iter().chain(&end)).map(|(start, end)| (end - start) / HOUR_S).collect();
    let shown = starts.iter().zip(hours).map(|(start, hours)| format!("{} {hours} h", time_in_zone(*start, buckets.zone())));
    assert!(starts[0] <= from_s);
    shown.collect()
}

#[test]
fn local_days_begin_when_local_clocks_say_so() {
    let days = |start, end, zone| shown(start, end, Interval::Day, zone);
    assert_eq!(
        days("2026-03-28T23:00:00Z", "2026-03-30T22:00:00Z", "Europe/Berlin"),
        ["2026-03-29T00:00:00+01:00 23 h", "2026-03-30T00:00:00+02:00 24 h"]
    );
    assert_eq!(days("2026-10-25T12:00:00Z", "2026-10-25T12:00:01Z", "europe/BERLIN"), ["2026-10-25T00:00:00+02:00 25 h"]);
    // Clocks went from 24:00 to 01:00.
    assert_eq!(days("2018-11-04T12:00:00Z", "2018-11-04T13:00:00Z", "America/Sao_Paulo"), ["2018-11-04T01:00:00-02:00 23 h"]);
    // Clocks go from 01:00 back to 00:00: midnight comes twice.
    assert_eq!(days("2026-11-01T12:00:00Z", "2026-11-01T13:00:00Z", "America/Havana"), ["2026-11-01T00:00:00-04:00 25 h"]);
    // There was no 30th of December.
    assert_eq!(
        days("2011-12-29T12:00:00Z", "2011-12-30T12:00:00Z", "Pacific/Apia"),
        ["2011-12-29T00:00:00-10:00 24 h", "2011-12-31T00:00:00+14:00 24 h"]
    );
}

#[test]
fn a_day_whose_midnight_was_left_out_begins_when_clocks_were_moved() {
    // From 23:30 to 00:30; of later years the database has no such move.
    let moved = "1919-03-31T04:30:00Z".parse::<Timestamp>().expect("a time").as_second();
    assert_eq!(Zone::find("America/Toronto").expect("a zone").begin_of_day(moved.div_euclid(DAY_S)), moved);
}

#[test]
fn where_local_midnight_cuts_an_hour_the_hour_is_the_next_days() {
    // The whole of January as a client in India asks for it.
    let january = shown("2025-12-31T18:30:00Z", "2026-01-31T18:30:00Z", Interval::Day, "Asia/Kolkata");
    assert_eq!(january.len(), 31, "the range ends where the buckets do");
    assert_eq!(january[0], "2025-12-31T23:30:00+05:30 24 h");
    assert_eq!(january[30], "2026-01-30T23:30:00+05:30 24 h");
    assert_eq!(
        shown("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", Interval::Month, "Asia/Kathmandu"),
        ["2025-12-31T23:45:00+05:45 744 h"]
    );
    // Back by an hour at one minute past midnight: the day had begun.
    assert_eq!(
        shown("2010-11-07T12:00:00Z", "2010-11-07T13:00:00Z", Interval::Day, "America/St_Johns"),
        ["2010-11-06T23:30:00-02:30 25 h"]
    );
    let moved = |zone: &str| {
        let buckets = buckets(1_767_225_600, 1_767_312_000, Interval::Hour, zone);
        buckets.are_moved(&buckets.starts())
    };
    assert_eq!([moved("Asia/Kolkata"), moved("Europe/Berlin"), moved("Etc/UTC"), moved("UTC")], [true, false, false, false]);
}

#[test]
fn a_range_is_moved_to_whole_hours_and_says_so() {
    let answered = |start_s, end_s, zone: &str| buckets(start_s, end_s, Interval::Day, zone).moved();
    for (start, end, whole) in [
        (0, HOUR_S, None),
        (1, HOUR_S, Some((0, HOUR_S))),
        (0, HOUR_S + 1, Some((0, 2 * HOUR_S))),
        (HOUR_S - 1, HOUR_S + 1, Some((0, 2 * HOUR_S))),
        (HOUR_S, 3 * HOUR_S, None),
    ] {
        assert_eq!(answered(start, end, "UTC"), whole, "{start} to {end}");
        assert_eq!(answered(start, end, "Europe/Berlin"), whole, "{start} to {end}");
    }
    let half = 1_767_225_600 + HOUR_S / 2;
    let (down, up) = (half - HOUR_S / 2, half + HOUR_S / 2);
    assert_eq!(answered(half, half + DAY_S, "Asia/Kolkata"), Some((down, down + DAY_S)), "local full hours");
    assert_eq!(answered(half, half + DAY_S, "UTC"), Some((down, up + DAY_S)));
    assert_eq!(answered(half + 1, half + DAY_S + 1, "Asia/Kolkata"), Some((down, up + DAY_S)));
    assert_eq!(answered(half - 600, half, "Asia/Kolkata"), Some((down, up)), "something is left of it");
    let now = TimeRange::until_now(half, crate::clock::UnixMillis((half + DAY_S - 1) * 1_000)).expect("a range");
    let until_now = Buckets::new(now, Interval::Day, Zone::find("Asia/Kolkata").expect("a zone")).expect("few");
    assert_eq!(until_now.answered_s(), (down, up + DAY_S), "what was acked just now is in it");
}

#[test]
fn the_first_week_and_the_last_month_have_their_days() {
    let starts = |start_s, end_s, interval, zone: &str| buckets(start_s, end_s, interval, zone).starts();
    assert_eq!(starts(0, 1, Interval::Week, "UTC"), [-3 * DAY_S]);
    // It was 13:20 on the day before, ten hours and forty minutes behind UTC: the day had begun at 10:40.
    assert_eq!(starts(0, 1, Interval::Day, "Pacific/Kiritimati"), [-14 * HOUR_S]);
    for zone in ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"] {
        // As 400 years before, when the calendar was the same, and the rules were those that hold for good.
        let cycle_s = 146_097 * DAY_S;
        let last = starts(TIME_S_MAX - 70 * DAY_S, TIME_S_MAX, Interval::Month, zone);
        let before = starts(TIME_S_MAX - cycle_s - 70 * DAY_S, TIME_S_MAX - cycle_s, Interval::Month, zone);
        assert_eq!(last, before.iter().map(|start| start + cycle_s).collect::<Vec<_>>(), "{zone}");
    }
    // 2024 was a leap year, 1900 and 2100 are none, 2000 was.
    for (year, days) in [(1900, 28), (2000, 29), (2023, 28), (2024, 29), (2100, 28)] {
        assert_eq!(first_day(year, 3) - first_day(year, 2), days, "{year}");
    }
    assert_eq!(month_around(1_767_225_600 + 5 * DAY_S), 1_767_225_600..1_767_225_600 + 31 * DAY_S);
}

#[test]
fn too_many_buckets_are_refused() {
    let count = |start_s, end_s, interval, zone: &str| {
        let buckets = Buckets::new(TimeRange::new(start_s, end_s).expect("a range"), interval, Zone::find(zone).expect("a zone"));
        buckets.map(|buckets| buckets.starts().len())
    };
    assert_eq!(count(0, 100_000 * HOUR_S, Interval::Hour, "UTC"), Ok(BUCKETS_MAX));
    assert_eq!(count(0, 100_000 * HOUR_S + 1, Interval::Hour, "UTC"), Err(QueryError::TooManyBuckets));
    assert_eq!(count(1, 100_000 * DAY_S + 1, Interval::Day, "UTC"), Err(QueryError::TooManyBuckets), "100,001 days are touched");
    assert_eq!(count(0, TIME_S_MAX, Interval::Month, "UTC"), Ok(8_030 * 12));
    assert_eq!(count(0, TIME_S_MAX, Interval::Month, "Europe/Berlin"), Err(QueryError::TooManyZonedBuckets));
    assert_eq!(count(0, 10_000 * 7 * DAY_S - 4 * DAY_S, Interval::Week, "Asia/Tokyo"), Ok(ZONED_BUCKETS_MAX));
    assert_eq!(count(0, 10_000 * 7 * DAY_S - 3 * DAY_S, Interval::Week, "Asia/Tokyo"), Err(QueryError::TooManyZonedBuckets));
}

#[test]
fn only_names_of_the_database_are_zones() {
    for name in ["UTC", "utc", "Etc/UTC", "Europe/Berlin", "asia/kolkata", "America/Argentina/Buenos_Aires"] {
        assert!(Zone::find(name).is_ok(), "{name}");
    }
    for name in ["", "Mars/Olympus", "+02:00", "CET-1CEST,M3.5.0,M10.5.0/3", "Etc/Unknown", "../etc/passwd", "Europe/Berlin ", "local"] {
        assert_eq!(Zone::find(name), Err(QueryError::ZoneUnknown), "{name}");
    }
}
