//! Promise 7: sums are exact, from the digits that the producer sent, in any order.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::harness::{DAY_0_MS, DAY_0_S, DAY_S, Decimal, Event, Gateway, HOUR_S, event};

/// Sends one event for each of these numbers and asks for the sum.
fn sum_of(gateway: &Gateway, meter: &str, numbers: &[&str]) -> String {
    let events = numbers.iter().enumerate().map(|(at, digits)| event(&format!("{meter}-{at}")).meter(meter).value(digits));
    gateway.send(&events.collect::<Vec<_>>()).logged(numbers.len());
    gateway.usage(meter).sum()
}

#[test]
fn a_tenth_added_ten_times_is_one() {
    let gateway = Gateway::start();
    assert_eq!(sum_of(&gateway, "tenths", &["0.1"; 10]), "1");
    assert_eq!(sum_of(&gateway, "thirds", &["0.1", "0.2"]), "0.3");
}

#[test]
fn numbers_beyond_a_double_keep_every_digit() {
    let gateway = Gateway::start();
    assert_eq!(sum_of(&gateway, "one", &["9007199254740993"]), "9007199254740993");
    assert_eq!(sum_of(&gateway, "two", &["9007199254740993", "0.000000000001"]), "9007199254740993.000000000001");
    let largest = "99999999999999999999.999999999999";
    assert_eq!(sum_of(&gateway, "largest", &[largest; 10]), "999999999999999999999.99999999999");
    // A sum has no limit, other than the numbers that it is made of.
    let many: Vec<_> = (0..10_000).map(|at| event(&format!("many-{at}")).meter("many").value(largest)).collect();
    gateway.send(&many).logged(10_000);
    gateway.send(&[event("more").meter("many").value(largest)]).logged(1);
    assert_eq!(gateway.usage("many").sum(), "1000099999999999999999999.999999989999");
    assert_eq!(gateway.usage("many").max(), largest);
}

#[test]
fn negative_numbers_take_away() {
    let gateway = Gateway::start();
    assert_eq!(sum_of(&gateway, "nothing", &["0.1", "-0.1", "1e-12", "-0.000000000001"]), "0");
    assert_eq!(gateway.usage("nothing").count(), 4, "an event that takes away counts as one");
    assert_eq!(sum_of(&gateway, "less", &["-99999999999999999999.999999999999", "-1", "0.5"]), "-100000000000000000000.499999999999");
    assert_eq!((gateway.usage("less").min(), gateway.usage("less").max()), ("-99999999999999999999.999999999999".into(), "0.5".into()));
}

#[test]
fn every_spelling_of_a_number_is_the_number() {
    let gateway = Gateway::start();
    for (at, (digits, number)) in [
        ("1.500", "1.5"),
        ("15e-1", "1.5"),
        ("0.00015E+4", "1.5"),
        ("-0", "0"),
        ("-0.0e5", "0"),
        ("1e19", "10000000000000000000"),
        ("0e999999999999", "0"),
        ("1e-999999999999", "0"),
        // Beyond 12 places: rounded half to even, once.
        ("0.0000000000005", "0"),
        ("0.0000000000015", "0.000000000002"),
        ("0.00000000000050000000001", "0.000000000001"),
        ("-0.0000000000025", "-0.000000000002"),
        ("0.99999999999999999999999", "1"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(sum_of(&gateway, &format!("spelling-{at}"), &[digits]), number, "{digits}");
    }
}

#[test]
fn the_parts_of_a_range_add_up_to_the_whole_whatever_the_interval() {
    let gateway = Gateway::start();
    let events: Vec<_> = (0..100)
        .map(|at| event(&format!("u-{at}")).value(format!("0.{:03}", at * 7)).at(DAY_0_MS + at * 11 * HOUR_S * 1_000 / 2))
        .collect();
    gateway.send(&events).logged(100);
    let whole: Decimal = (0..100).map(|at| Decimal::new(at * 7, 3)).sum();
    for interval in ["HOUR", "DAY", "WEEK", "MONTH"] {
        let usage = gateway.usage("m").every(interval).wait_s(30).ask("SUM");
        assert_eq!(usage.total(), whole.to_string(), "{interval}");
        let parts: Decimal = usage.buckets().values().map(|number| parsed(number)).sum();
        assert_eq!(parts, whole, "{interval}");
    }
    // A cut through the middle: both sides together are the whole.
    let cut = DAY_0_S + 9 * DAY_S + 5 * HOUR_S;
    let sides = [(DAY_0_S, cut), (cut, DAY_0_S + 31 * DAY_S)].map(|(from, to)| parsed(&gateway.usage("m").between(from, to).sum()));
    assert_eq!(sides.into_iter().sum::<Decimal>(), whole);
}

/// Reads up to 12 places back.
fn parsed(number: &str) -> Decimal {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    Decimal::new(format!("{whole}{fraction}").parse().expect("digits"), fraction.len() as u32)
}

/// One event of a made-up case.
#[derive(Debug, Clone)]
struct Made {
    value: Decimal,
    customer: u8,
    hour: i64,
    /// Where it comes in another order.
    rank: u16,
}

fn made() -> impl Strategy<Value = Made> {
    let value = prop_oneof![
        4 => (-1_000_000_i128..1_000_000, 0_u32..=12),
        1 => (-99_999_999_999_999_999_999_999_999_999_999_i128..=99_999_999_999_999_999_999_999_999_999_999, Just(12)),
    ];
    let value = value.prop_map(|(mantissa, places)| Decimal::new(mantissa, places));
    (value, 0_u8..3, 0_i64..72, any::<u16>()).prop_map(|(value, customer, hour, rank)| Made { value, customer, hour, rank })
}

impl Made {
    fn event(&self, at: usize, meter: &str) -> Event {
        let made = event(&format!("{meter}-{at}")).meter(meter).value(self.value);
        made.customer(&format!("customer-{}", self.customer)).at(DAY_0_MS + self.hour * HOUR_S * 1_000)
    }
}

/// Sends the events in batches of these sizes, over and over.
fn send_in_batches(gateway: &Gateway, mut events: &[Event], sizes: &[usize]) {
    for size in sizes.iter().cycle() {
        let (batch, rest) = events.split_at(events.len().min(*size));
        if batch.is_empty() {
            return;
        }
        gateway.send(batch).logged(batch.len());
        events = rest;
    }
}

#[test]
fn neither_order_nor_batches_show_in_any_number() {
    let gateway = Gateway::start();
    let cases = AtomicUsize::new(0);
    let mut runner = TestRunner::new(Config { cases: 32, max_shrink_iters: 200, failure_persistence: None, ..Config::default() });
    let law = runner.run(&(vec(made(), 1..60), vec(1_usize..20, 1..5)), |(made, sizes)| {
        let case = cases.fetch_add(1, Ordering::Relaxed);
        let (as_made, reordered) = (format!("as-made-{case}"), format!("reordered-{case}"));
        let events: Vec<_> = made.iter().enumerate().map(|(at, made)| made.event(at, &as_made)).collect();
        send_in_batches(&gateway, &events, &[events.len()]);
        let mut order: Vec<_> = made.iter().enumerate().collect();
        order.sort_by_key(|(_, made)| made.rank);
        let events: Vec<_> = order.into_iter().map(|(at, made)| made.event(at, &reordered)).collect();
        send_in_batches(&gateway, &events, &sizes);

        for meter in [&as_made, &reordered] {
            for customer in 0..3 {
                let values: Vec<_> = made.iter().filter(|made| made.customer == customer).map(|made| made.value).collect();
                let (Some(min), Some(max)) = (values.iter().min(), values.iter().max()) else { continue };
                let ask = || gateway.usage(meter).customer(&format!("customer-{customer}"));
                prop_assert_eq!(ask().sum(), values.iter().copied().sum::<Decimal>().to_string());
                prop_assert_eq!((ask().min(), ask().max()), (min.to_string(), max.to_string()));
                prop_assert_eq!(ask().count(), values.len());
            }
        }
        Ok(())
    });
    law.unwrap_or_else(|failure| panic!("{failure}"));
}
