//! Each reason by examples, and what it costs to find it.

use std::cell::Cell;

use super::*;
use crate::store::row::DAY_S;
use crate::store::{KeyRange, RowSelection, Visit};
use crate::usage::memory::{ACCOUNT, Event, MemoryRows, event};

const DAY_0: i64 = 1_767_225_600;

/// Rows of which nothing may be read, and that count what is looked up.
struct LookedUp(MemoryRows, Cell<usize>);

impl Rows for LookedUp {
    fn scan(&self, _: &RowSelection, _: &mut Visit<'_>) -> Result<(), store::Error> {
        panic!("rows are read")
    }

    fn first_key(&self, ranges: &[KeyRange]) -> Result<Option<Vec<u8>>, store::Error> {
        self.1.set(self.1.get() + ranges.len());
        self.0.first_key(ranges)
    }
}

fn rows(events: &[Event]) -> LookedUp {
    LookedUp(MemoryRows::of(events), Cell::new(0))
}

fn ask(rows: &LookedUp, meter: Option<&str>, customers: Option<&[&str]>, is_defined: bool, look_ups_left: &mut usize) -> &'static str {
    let customers = customers.map(|customers| customers.iter().map(|&customer| customer.to_owned()).collect());
    let question = Unanswered { account: ACCOUNT, meter: meter.map(str::to_owned), customers };
    question.reason(is_defined, rows, look_ups_left).expect("rows in memory").label()
}

#[test]
fn each_reason_is_the_one_that_is_defined() {
    let known = rows(&[
        event("acme", DAY_0, "1"),
        event("zeta", DAY_0 + 200 * DAY_S, "1"),
        event("else", DAY_0, "1").meter("calls"),
        Event { account: ACCOUNT + 1, ..event("theirs", DAY_0, "1").meter("theirs") },
    ]);
    let why = |meter, customers, is_defined| ask(&known, meter, customers, is_defined, &mut 1_000);
    assert_eq!(why(Some("nothing"), None, false), "no-such-meter");
    assert_eq!(why(Some("nothing"), Some(&["acme"]), false), "no-such-meter");
    assert_eq!(why(Some("theirs"), Some(&["theirs"]), false), "no-such-meter", "of another account");
    assert_eq!(why(Some("nothing"), None, true), "outside-range", "nothing was ever sent for it");
    assert_eq!(why(Some("nothing"), Some(&["acme"]), true), "customer-never-seen");
    assert_eq!(why(Some("tokens"), None, false), "outside-range");
    assert_eq!(why(Some("tokens"), Some(&["zeta"]), false), "outside-range");
    assert_eq!(why(Some("tokens"), Some(&["nobody", "zeta"]), true), "outside-range");
    assert_eq!(why(Some("tokens"), Some(&["else", "nobody"]), false), "customer-never-seen", "known by another meter only");
    assert_eq!(why(Some("tokens"), Some(&[]), false), "filter-matched-nothing");
    assert_eq!(why(None, None, false), "outside-range");
    assert_eq!(why(None, Some(&["else"]), false), "outside-range");
    assert_eq!(why(None, Some(&["nobody"]), false), "customer-never-seen");
    assert_eq!(ask(&rows(&[]), None, Some(&["acme"]), false, &mut 1_000), "no-such-meter");
}

#[test]
fn a_reason_costs_a_bounded_number_of_look_ups_and_reads_no_row() {
    // Ten years, a day of each.
    let events: Vec<Event> = (0..3_650).map(|day| event("acme", DAY_0 - 2_000 * DAY_S + day * DAY_S, "1")).collect();
    let rows = rows(&events);
    let mut left = UNANSWERED_LOOK_UPS_MAX;
    assert_eq!(ask(&rows, Some("tokens"), Some(&["nobody"]), false, &mut left), "customer-never-seen");
    let looked_up = rows.1.replace(0);
    assert!(looked_up <= 3_650 * 11 / 10 + 200, "{looked_up} look-ups of 3,650 days");
    // With many customers it gives up, and says what is certain.
    let many: Vec<String> = (0..1_000).map(|number| format!("nobody-{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut left = UNANSWERED_LOOK_UPS_MAX;
    assert_eq!(ask(&rows, Some("tokens"), Some(&many), false, &mut left), "outside-range");
    assert!(rows.1.get() <= UNANSWERED_LOOK_UPS_MAX + 10, "{} look-ups", rows.1.get());
    assert_eq!(ask(&rows, Some("tokens"), Some(&["nobody"]), false, &mut left), "outside-range", "queries of a request share them");
}

#[test]
fn a_day_without_events_costs_nothing() {
    let rows = rows(&[event("acme", DAY_0 - 9_000 * DAY_S, "1"), event("acme", DAY_0, "1")]);
    assert_eq!(ask(&rows, Some("tokens"), Some(&["nobody"]), false, &mut 200), "customer-never-seen");
}
