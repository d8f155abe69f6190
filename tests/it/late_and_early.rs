//! Time and cardinality: how late or early an event may be, how long its id is known, and what becomes of too many dimension
//! sets. What the fold goes by is fixed with the log.

use std::collections::BTreeMap;

use tollgate::clock::Clock;

use crate::harness::{DAY_0_MS, DAY_0_S, DAY_S, Gateway, HOUR_S, Setup, event, wait_for};

const HOUR_MS: i64 = HOUR_S * 1_000;

fn now_ms() -> i64 {
    Clock::start().now().0
}

#[test]
fn by_default_no_event_is_too_late_or_too_early() {
    let gateway = Gateway::start();
    let last_ms = 253_402_300_799_999;
    gateway.send(&[event("first").at(1), event("last").at(last_ms), event("now").at(now_ms())]).logged(3);
    assert_eq!(gateway.usage("m").between(0, DAY_S).count(), 1);
    assert_eq!(gateway.usage("m").between(last_ms / 1_000 - HOUR_S, last_ms / 1_000 + 1).every("HOUR").count(), 1);
}

#[test]
fn an_event_outside_of_the_window_is_rejected_and_its_neighbours_are_not() {
    let gateway = Setup::with("[ingest]\nmax_event_age = '2h'\nmax_event_future = '1h'").start();
    let now = now_ms();
    let (old, late, early, new) = (now - 3 * HOUR_MS, now - HOUR_MS, now + HOUR_MS / 2, now + 2 * HOUR_MS);
    let events = [event("old").at(old), event("late").at(late), event("early").at(early), event("new").at(new)];
    gateway.send(&events).logged(2).rejected(2);
    let codes: Vec<_> = gateway.dead_letters().iter().map(|letter| letter["code"].as_str().expect("a text").to_owned()).collect();
    assert_eq!(codes, ["too_new", "too_old"]);
    gateway.send(&events[..1]).refused(400).details("[0].meterTimeInMillis is older than 7200000 ms, the limit here");
    gateway.send(&events[3..]).refused(400).details("[0].meterTimeInMillis lies more than 3600000 ms in the future, the limit here");
    assert_eq!(gateway.usage("m").between(now / 1_000 - DAY_S, now / 1_000 + DAY_S).count(), 2);
}

#[test]
fn the_window_may_change_from_start_to_start() {
    let mut gateway = Setup::with("[ingest]\nmax_event_age = '2h'").start();
    let late = event("late").at(now_ms() - 3 * HOUR_MS);
    gateway.send(std::slice::from_ref(&late)).refused(400);
    gateway.change_settings("[ingest]\nmax_event_age = '4h'");
    gateway.stop_and_restart();
    gateway.send(&[late]).logged(1);
}

#[test]
fn a_late_event_is_added_to_its_hour_and_day() {
    let mut gateway = Gateway::start();
    let at = |day: i64, hour: i64| DAY_0_MS + (day * 24 + hour) * HOUR_MS;
    gateway.send(&[event("u-1").at(at(0, 1)), event("u-2").at(at(5, 1))]).logged(2);
    gateway.stop_and_restart();
    gateway.send(&[event("late-1").at(at(0, 1)), event("late-2").at(at(0, 2))]).logged(2);
    gateway.kill_and_restart();
    gateway.send(&[event("late-3").at(at(0, 1)), event("earlier").at(at(-40, 0))]).logged(2);
    let days = gateway.usage("m").wait_s(30).ask("SUM").buckets();
    assert_eq!(days, BTreeMap::from([(DAY_0_S, "4".into()), (DAY_0_S + 5 * DAY_S, "1".into())]));
    let hours = gateway.usage("m").between(DAY_0_S, DAY_0_S + DAY_S).every("HOUR").wait_s(30).ask("SUM").buckets();
    assert_eq!(hours, BTreeMap::from([(DAY_0_S + HOUR_S, "3".into()), (DAY_0_S + 2 * HOUR_S, "1".into())]));
    assert_eq!(gateway.usage("m").between(DAY_0_S - 60 * DAY_S, DAY_0_S).count(), 1);
}

#[test]
fn what_the_fold_goes_by_is_fixed_with_the_log() {
    let settings = |horizon: &str, sets: u32| format!("[log]\ndedup_horizon = '{horizon}'\ndimension_sets_max = {sets}");
    let mut gateway = Setup::with(&settings("37d", 100)).start();
    gateway.send(&[event("u-1")]).logged(1);
    gateway.stop();

    gateway.change_settings(&settings("38d", 100));
    let said =
        gateway.start_in_vain().because(&["log.dedup_horizon = 3196800000 ms", "3283200000 ms", "start with a new log and new rows"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    gateway.change_settings("[log]\ndimension_sets_max = 100");
    gateway.start_in_vain().because(&["log.dedup_horizon = 3196800000 ms", "unlimited"]);
    gateway.change_settings(&settings("37d", 101));
    gateway.start_in_vain().because(&["log.dimension_sets_max = 100", "101"]);

    gateway.change_settings(&settings("37d", 100));
    gateway.restart();
    gateway.send(&[event("u-1")]).logged(1);
    assert_eq!(gateway.usage("m").count(), 1, "a start that was refused has changed nothing");
}

#[test]
fn a_horizon_that_lets_a_late_retry_count_twice_is_refused() {
    let mut gateway = Gateway::start();
    gateway.stop();
    gateway.change_settings("[log]\ndedup_horizon = '3h'\n[ingest]\nmax_event_age = '2h'\nmax_event_future = '1h'");
    gateway.start_in_vain().because(&["log.dedup_horizon must be longer", "could count twice"]);
}

#[test]
fn behind_the_horizon_an_id_is_free_again_and_copies_before_do_not_put_it_off() {
    let gateway = Setup::with("[log]\ndedup_horizon = '2s'").start();
    let sent_before = now_ms();
    gateway.send(&[event("u-1"), event("u-1")]).logged(2);
    // Copies all along: none of them makes the entry any younger.
    let counted = wait_for("the horizon to pass", || {
        gateway.send(&[event("u-1")]).logged(1);
        let count = gateway.usage("m").count();
        (count > 1).then_some(count)
    });
    assert!(now_ms() - sent_before >= 2_000, "not before the horizon");
    assert_eq!(counted, 2);
}

#[test]
fn past_the_limit_of_dimension_sets_totals_stay_exact_and_the_answer_says_so() {
    let mut gateway = Setup::with("[log]\ndimension_sets_max = 3").start();
    let in_region = |id: usize, region: &str| event(&format!("u-{id}")).value(format!("0.{id}")).dimension("region", region);
    let regions = ["a", "b", "c", "d", "e", "a", "d", "f", "c"];
    let events: Vec<_> = regions.iter().enumerate().map(|(id, region)| in_region(id + 1, region)).collect();
    for event in &events {
        gateway.send(std::slice::from_ref(event)).logged(1);
    }
    // 0.1 to 0.9 are 4.5; a: 0.1 + 0.6, b: 0.2, c: 0.3 + 0.9, and d, e, d, f together.
    let by_region = [("(overflow)", "2.4"), ("a", "0.7"), ("b", "0.2"), ("c", "1.2")];
    let by_region = BTreeMap::from(by_region.map(|(region, sum)| (region.to_owned(), sum.to_owned())));
    let expect = |gateway: &Gateway| {
        let whole = gateway.usage("m").wait_s(30).ask("SUM");
        assert_eq!((whole.total().as_str(), whole.answer.header("tollgate-overflow")), ("4.5", None));
        assert_eq!(gateway.usage("m").count(), 9);
        let grouped = gateway.usage("m").by("region").wait_s(30).ask("SUM");
        assert_eq!((grouped.groups(), grouped.answer.header("tollgate-overflow")), (by_region.clone(), Some("true")));
        let filtered = gateway.usage("m").only("region", "d").wait_s(30).ask("SUM");
        assert_eq!((filtered.total().as_str(), filtered.answer.header("tollgate-overflow")), ("0", Some("true")));
        let by_customer = gateway.usage("m").by("customerId").wait_s(30).ask("SUM");
        assert_eq!((by_customer.total().as_str(), by_customer.answer.header("tollgate-overflow")), ("4.5", None));
    };
    expect(&gateway);
    gateway.stop_and_restart();
    expect(&gateway);
    gateway.send(&events).logged(9);
    gateway.kill_and_restart();
    expect(&gateway);

    // Each customer, meter and day has room of its own.
    let others = [in_region(11, "d").customer("other"), in_region(12, "d").meter("other"), in_region(13, "d").at(DAY_0_MS + DAY_S * 1_000)];
    gateway.send(&others).logged(3);
    let next_day = gateway.usage("m").between(DAY_0_S + DAY_S, DAY_0_S + 2 * DAY_S).by("region").wait_s(30).ask("SUM");
    assert_eq!((next_day.groups(), next_day.answer.header("tollgate-overflow")), (BTreeMap::from([("d".into(), "0.13".into())]), None));
    let other = gateway.usage("m").customer("other").by("region").wait_s(30).ask("SUM");
    assert_eq!((other.total().as_str(), other.answer.header("tollgate-overflow")), ("0.11", None));
    let other = gateway.usage("other").by("region").wait_s(30).ask("SUM");
    assert_eq!((other.total().as_str(), other.answer.header("tollgate-overflow")), ("0.12", None));
}
