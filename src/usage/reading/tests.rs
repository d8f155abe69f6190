//! What is read, counted: rows in the range, whatever they are made of.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::store::row::DAY_S;
use crate::store::{KeyRange, Visit};
use crate::usage::calendar::tests::{intervals, zones};
use crate::usage::memory::{ACCOUNT, Event, MemoryRows, event};
use crate::usage::{Draft, Field, Limits, MeterType, Query, TimeRange, Zone, evaluate};

/// 2026-01-01.
const DAY_0: i64 = 1_767_225_600;

/// Rows that count what is read of them.
struct Counted {
    rows: MemoryRows,
    read: AtomicUsize,
    looked_up: AtomicUsize,
}

impl Counted {
    fn of<'e>(events: impl IntoIterator<Item = &'e Event>) -> Self {
        Self { rows: MemoryRows::of(events), read: AtomicUsize::new(0), looked_up: AtomicUsize::new(0) }
    }

    /// Rows that an answer reads.
    fn read_by(&self, query: &Query) -> usize {
        let before = self.read.load(Ordering::Relaxed);
        let answer = evaluate(query, MeterType::default(), self, Limits::default()).expect("few cells");
        let read = self.read.load(Ordering::Relaxed) - before;
        assert_eq!(answer.rows_read, read as u64, "the answer says so itself");
        read
    }
}

impl Rows for Counted {
    fn scan(&self, selection: &RowSelection, visit: &mut Visit<'_>) -> Result<(), store::Error> {
        self.rows.scan(selection, &mut |key, row| {
            self.read.fetch_add(1, Ordering::Relaxed);
            visit(key, row)
        })
    }

    fn first_key(&self, ranges: &[KeyRange]) -> Result<Option<Vec<u8>>, store::Error> {
        self.looked_up.fetch_add(ranges.len(), Ordering::Relaxed);
        self.rows.first_key(ranges)
    }
}

fn query(from_s: i64, to_s: i64, interval: Interval, zone: &str, customer: Option<&str>) -> Query {
    let range = TimeRange::new(from_s, to_s).expect("a range");
    let zone = Zone::find(zone).expect("a zone");
    Query::check(Draft {
        account: ACCOUNT,
        meter: "tokens".into(),
        aggregation: None,
        buckets: Buckets::new(range, interval, zone).expect("few buckets"),
        filters: customer.map(|customer| (Field::Customer, vec![customer.to_owned()])).into_iter().collect(),
        group_by: vec![Field::Customer],
        take: None,
    })
    .expect("a query")
}

/// A year of two customers, `each` events every day at noon.
fn year(each: usize) -> Counted {
    let day = |day: i64| ["a", "b"].map(|customer| event(customer, DAY_0 + day * DAY_S + DAY_S / 2, "1"));
    let events: Vec<Event> = (0..365).flat_map(day).flat_map(|event| std::iter::repeat_n(event, each)).collect();
    Counted::of(&events)
}

#[test]
fn what_is_read_depends_on_the_rows_in_the_range_and_not_on_the_events() {
    let (few, many) = (year(1), year(25));
    for (days, interval, zone, customer, rows) in [
        (365, Interval::Day, "UTC", None, 730),
        (365, Interval::Month, "UTC", None, 730),
        (1, Interval::Day, "UTC", None, 2),
        (1, Interval::Hour, "UTC", None, 2),
        (7, Interval::Day, "UTC", Some("a"), 7),
        (365, Interval::Month, "UTC", Some("a"), 365),
        (7, Interval::Day, "UTC", Some("nobody"), 0),
        (28, Interval::Month, "Europe/Berlin", None, 56),
        (1, Interval::Day, "Asia/Kolkata", Some("b"), 1),
    ] {
        let query = query(DAY_0, DAY_0 + days * DAY_S, interval, zone, customer);
        assert_eq!(few.read_by(&query), rows, "{days} days, {interval:?}, {zone}, {customer:?}");
        assert_eq!(many.read_by(&query), rows, "as many for 25 times as many events");
    }
}

#[test]
fn a_row_of_a_thousand_events_is_read_once() {
    let events = vec![event("a", DAY_0, "0.001"); 1_000];
    let rows = Counted::of(&events);
    assert_eq!(rows.read_by(&query(DAY_0, DAY_0 + DAY_S, Interval::Day, "UTC", None)), 1);
}

#[test]
fn whole_days_come_from_day_rows_and_cut_edges_from_hour_rows() {
    let scans = |from: i64, to: i64, interval, zone: &str| {
        let query = query(from * HOUR_S, to * HOUR_S, interval, zone, None);
        plan(query.buckets(), &query.buckets().starts())
    };
    let (hour, day) = (Grain::Hour, Grain::Day);
    for interval in [Interval::Day, Interval::Week, Interval::Month] {
        let scans = |from, to| scans(from, to, interval, "UTC");
        assert_eq!(scans(48, 96), [(day, 2..4)]);
        assert_eq!(scans(47, 97), [(hour, 47..48), (day, 2..4), (hour, 96..97)]);
        assert_eq!(scans(49, 96), [(hour, 49..72), (day, 3..4)]);
        assert_eq!(scans(49, 71), [(hour, 49..71)]);
        assert_eq!(scans(49, 95), [(hour, 49..95)], "no whole day");
    }
    assert_eq!(scans(48, 96, Interval::Hour, "UTC"), [(hour, 48..96)]);
    // 2026-01-04T23:00Z, a Sunday: a week of Berlin, which begins on Monday; then the next one as well.
    let monday = (DAY_0 + 4 * DAY_S) / HOUR_S;
    let day_number = (DAY_0 / DAY_S) as u32 + 4;
    let first = monday as u32;
    assert_eq!(
        scans(monday - 1, monday - 1 + 7 * 24, Interval::Week, "Europe/Berlin"),
        [(hour, first - 1..first), (day, day_number..day_number + 6), (hour, first + 6 * 24..first + 7 * 24 - 1)]
    );
    assert_eq!(
        scans(monday - 1, monday - 1 + 14 * 24, Interval::Week, "Europe/Berlin"),
        [
            (hour, first - 1..first),
            (day, day_number..day_number + 6),
            (hour, first + 6 * 24..first + 7 * 24),
            (day, day_number + 7..day_number + 13),
            (hour, first + 13 * 24..first + 14 * 24 - 1)
        ]
    );
    assert_eq!(scans(monday, monday + 48, Interval::Day, "Europe/London"), [(day, day_number..day_number + 2)], "as in UTC");
    assert_eq!(scans(monday, monday + 48, Interval::Day, "Asia/Kolkata"), [(hour, first..first + 48)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_plan_has_each_hour_of_the_range_once_and_no_day_of_two_buckets(
        zone in zones(), start_s in 0_i64..4_000_000_000, length_s in 1_i64..100_000_000, interval in intervals(),
    ) {
        let query = query(start_s, start_s + length_s, interval, &zone, Some("a"));
        let starts = query.buckets().starts();
        let scans = plan(query.buckets(), &starts);
        let mut next = query.buckets().hours().start;
        for (grain, scan) in &scans {
            let width = if *grain == Grain::Day { 24 } else { 1 };
            prop_assert_eq!(scan.start * width, next);
            next = scan.end * width;
            if *grain == Grain::Day {
                let is_cut = |start: &i64| {
                    let hour = start / HOUR_S;
                    hour % 24 != 0 && scan.contains(&((hour / 24) as u32))
                };
                prop_assert!(!starts.iter().any(is_cut), "{:?}", scan);
            }
        }
        prop_assert_eq!(next, query.buckets().hours().end);
        let read: usize = scans.iter().map(|(_, scan)| scan.len()).sum();
        prop_assert!(read <= query.look_ups(), "{} of {}", read, query.look_ups());
    }
}

#[test]
fn meters_in_a_range_are_found_without_reading_rows() {
    let mut events: Vec<Event> =
        (0..50).flat_map(|day| ["b", "aa", "old"].map(|meter| event("a", DAY_0 + day * DAY_S, "1").meter(meter))).collect();
    events.retain(|event| event.meter != "old" || event.time_ms < (DAY_0 + DAY_S) * 1_000);
    events.push(Event { account: ACCOUNT + 1, ..event("a", DAY_0 + 20 * DAY_S, "1").meter("theirs") });
    let rows = Counted::of(&events);
    let hour = |day: i64| ((DAY_0 + day * DAY_S) / HOUR_S) as u32;
    let found = |days: std::ops::Range<i64>, customer: Option<&str>, max| {
        let customers = customer.map(|customer| vec![customer.to_owned()]);
        meters_in_range(&rows, ACCOUNT, hour(days.start)..hour(days.end) + 1, customers.as_deref(), max).expect("rows")
    };
    let names = |names: &[&str], cut| MetersInRange { names: names.iter().map(|&name| name.to_owned()).collect(), cut };
    assert_eq!(found(0..50, None, 9), names(&["b", "aa", "old"], false), "shorter names first");
    assert_eq!(found(10..50, None, 9), names(&["b", "aa"], false));
    assert_eq!(found(0..50, Some("a"), 9), names(&["b", "aa", "old"], false));
    assert_eq!(found(0..50, Some("nobody"), 9), names(&[], false));
    assert_eq!(found(0..50, None, 2), names(&["b", "aa"], true));
    assert_eq!(found(10..50, None, 2), names(&["b", "aa"], false), "there is no third one");
    assert_eq!(rows.read.load(Ordering::Relaxed), 0);
    let before = rows.looked_up.load(Ordering::Relaxed);
    found(0..50, None, 9);
    let looked_up = rows.looked_up.load(Ordering::Relaxed) - before;
    assert!(looked_up <= 4 * 4, "{looked_up} look-ups of three meters");
}
