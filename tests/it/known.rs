//! Promise 6: a copy of an event that is known to be durable is answered at the door. Only a shortcut: it changes no row.

use serde_json::{Value, json};
use tollgate::clock::Clock;

use crate::harness::{
    Answer, Client, DAY_0_MS, DAY_S, Event, Gateway, Metrics, NO_RECENT_IDS, Random, Setup, event, event_without_id, wait_for, wide_event,
    wire,
};

const RECEIPT: (&str, &str) = ("accept", "application/vnd.tollgate.receipt+json");
const STRICT: (&str, &str) = ("prefer", "handling=strict");

/// One past the last record that is folded, with everything that was acked.
fn log_end(gateway: &Client) -> u64 {
    gateway.usage("m").wait_s(30).ask("COUNT").position()
}

/// How many of these events are known; the others are logged.
#[track_caller]
fn known(gateway: &Client, events: &[Event]) -> usize {
    let answer = gateway.send_with(&[RECEIPT], events);
    assert_eq!(answer.status, 200, "{}", answer.shown());
    let receipt = answer.json();
    let count = |verdict| receipt["events"].as_array().expect("an array").iter().filter(|event| event["verdict"] == verdict).count();
    assert_eq!((&receipt["known"], &receipt["logged"]), (&json!(count("known")), &json!(count("logged"))), "{receipt}");
    assert_eq!(count("known") + count("logged"), events.len());
    count("known")
}

fn sizes(metrics: &Metrics) -> (f64, f64) {
    (metrics.total("tollgate_recent_ids_bytes", &[]), metrics.total("tollgate_recent_ids_entries", &[]))
}

fn evictions(metrics: &Metrics, cause: &str) -> u64 {
    metrics.count("tollgate_recent_ids_evictions_total", &[("cause", cause)])
}

#[test]
fn a_known_copy_goes_no_further_and_its_answer_is_that_of_the_first() {
    let gateway = Gateway::start();
    let events = [event("u-1"), event("u-2").dimension("region", "eu")];
    let first: Answer = gateway.send(&events).logged(2);
    let end = log_end(&gateway);
    for _ in 0..3 {
        assert_eq!(gateway.send(&events).logged(2).shown(), first.shown());
    }
    assert_eq!(log_end(&gateway), end, "nothing was appended");
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.outcome("logged"), metrics.outcome("known"), metrics.verdict("duplicate")), (2, 6, 0));
    assert_eq!(metrics.count("tollgate_events_total", &[]), 8);
    assert_eq!(gateway.usage("m").count(), 2);
}

#[test]
fn known_and_new_and_bad_events_of_one_batch_have_each_their_verdict() {
    let gateway = Gateway::start();
    gateway.send(&[event("a"), event("b"), event("c")]).logged(3);
    let batch = [event("new-1"), event("a"), event("bad").at(0), event("b"), event("new-2"), event_without_id(), event("c")];
    let answer = gateway.send_with(&[RECEIPT], &batch).rejected(1);
    let mut receipt = answer.json();
    let made = receipt["events"][5]["uniqueId"].take();
    assert_eq!(made.as_str().map(str::len), Some(32));
    let logged = |index: u32, unique_id: Value, position: u32| json!({"index": index, "verdict": "logged", "uniqueId": unique_id, "partition": 0, "position": position});
    let known = |index: u32, unique_id: &str| json!({"index": index, "verdict": "known", "uniqueId": unique_id});
    let rejected = json!({"index": 2, "verdict": "rejected", "code": "wrong_value", "field": "meterTimeInMillis", "reason": receipt["events"][2]["reason"]});
    assert_eq!(
        receipt,
        json!({"received": 7, "logged": 3, "known": 3, "rejected": 1, "events": [
            logged(0, json!("new-1"), 3), known(1, "a"), rejected, known(3, "b"), logged(4, json!("new-2"), 4), logged(5, Value::Null, 5), known(6, "c"),
        ]})
    );
    assert_eq!(log_end(&gateway), 6, "only what is new was appended, at the positions that the receipt says");
    gateway.send(&batch).logged(6).rejected(1);
    assert_eq!(gateway.usage("m").count(), 7, "three, two new ones, and two without an id");
    assert_eq!(gateway.dead_letters().len(), 2);
}

#[test]
fn a_batch_of_known_events_is_good_whatever_its_neighbours_are() {
    let gateway = Gateway::start();
    let (good, bad) = (event("u-1"), event("bad").at(0));
    gateway.send(std::slice::from_ref(&good)).logged(1);
    gateway.send(&[bad.clone(), good.clone()]).logged(1).rejected(1);
    assert_eq!(gateway.dead_letters().len(), 1, "it is there as soon as the answer is");
    gateway.send_with(&[STRICT], &[good.clone(), bad]).refused(400);
    gateway.send_with(&[STRICT], &[good]).logged(1);
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.outcome("logged"), metrics.outcome("known"), metrics.outcome("rejected")), (1, 2, 3));
    assert_eq!(gateway.usage("m").count(), 1);
}

#[test]
fn other_content_goes_to_the_log_and_is_a_conflict() {
    let gateway = Gateway::start();
    gateway.send(&[event("u-1").value("5")]).logged(1);
    assert_eq!(known(&gateway, &[event("u-1").value("6"), event("u-1").value("5").customer("other")]), 0);
    assert_eq!(known(&gateway, &[event("u-1").value("5")]), 1);
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.verdict("counted"), metrics.verdict("conflict"), metrics.outcome("known")), (1, 2, 1));
    assert_eq!(gateway.usage("m").sum(), "5");
}

#[test]
fn copies_that_are_under_way_together_go_to_the_log() {
    let gateway = Gateway::start();
    assert_eq!(known(&gateway, &[event("u-1"), event("u-1"), event("u-1")]), 0);
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.verdict("counted"), metrics.verdict("duplicate")), (1, 2));
}

#[test]
fn nothing_is_known_of_events_without_an_id() {
    let gateway = Gateway::start();
    for _ in 0..3 {
        assert_eq!(known(&gateway, &[event_without_id(), event_without_id()]), 0);
    }
    assert_eq!(sizes(&gateway.metrics()).1, 0.0);
}

#[test]
fn a_failed_write_leaves_nothing_known_and_what_was_acked_before_stays_so() {
    let gateway = Setup::default().file_bytes_max(4 << 20).start();
    let made = |round: usize| -> Vec<Event> { (0..10).map(|at| wide_event(&format!("u-{round}-{at}"))).collect() };
    let mut round = 0;
    while gateway.send(&made(round)).status == 200 {
        round += 1;
        assert!(round < 100, "the disk was to fail");
    }
    std::thread::scope(|threads| {
        for _ in 0..8 {
            let (client, failed) = (Client::clone(&gateway), made(round));
            threads.spawn(move || (0..5).for_each(|_| drop(client.send(&failed).refused(503))));
        }
    });
    gateway.send(&made(round - 1)).logged(10);
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.outcome("known"), metrics.outcome("logged")), (10, 10 * round as u64));
    assert_eq!(metrics.outcome("unknown") + metrics.outcome("shed"), 10 * 41);
}

#[test]
fn an_event_whose_sender_hung_up_is_known_if_it_is_durable_and_counts_once() {
    const ROUNDS: usize = 30;
    let gateway = Gateway::start();
    let open = |metrics: &Metrics| metrics.total("tollgate_http_connections", &[]);
    let mut durable = 0;
    for round in 0..ROUNDS {
        let before = gateway.metrics();
        let sent = [event(&format!("u-{round}"))];
        let mut wire = gateway.connect();
        wire.write(wire::ingest(&[], sent[0].json()));
        drop(wire);
        wait_for("the connection to end", || (open(&gateway.metrics()) <= open(&before)).then_some(()));
        // Behind this answer, everything that was under way to the log is settled.
        gateway.send(&[event(&format!("behind-{round}"))]).logged(1);
        let logged = || gateway.metrics().outcome("logged") - before.outcome("logged");
        let was_durable = logged() == 2;
        let is_known = known(&gateway, &sent) == 1;
        // It may have come in after the look at the counters, as a connection that is not accepted yet is not open either.
        assert!(is_known || !was_durable, "it was durable, and its copy went to the log");
        assert!(!is_known || logged() == 2, "it is known, and was not durable");
        durable += usize::from(is_known);
    }
    assert!(durable > 0, "some were read before the sender was gone");
    assert_eq!(gateway.usage("m").count(), 2 * ROUNDS);
}

#[test]
fn after_a_restart_copies_go_to_the_log_again() {
    let mut gateway = Gateway::start();
    gateway.send(&[event("u-1")]).logged(1);
    gateway.kill_and_restart();
    assert_eq!((known(&gateway, &[event("u-1")]), known(&gateway, &[event("u-1")])), (0, 1));
    assert_eq!(gateway.usage("m").count(), 1);
}

/// An event of few ids and contents, so that copies and conflicts are many.
fn any_event(random: &mut Random) -> Event {
    let sent = event(&format!("u-{}", random.below(300))).value(1 + random.below(2)).customer(&format!("c-{}", random.below(2)));
    if random.once_in(10) { sent.without("uniqueId") } else { sent.at(DAY_0_MS + random.below(2) as i64 * DAY_S * 1_000) }
}

#[test]
fn switching_it_off_or_making_it_small_changes_no_row() {
    let mut random = Random::seeded();
    let settings = ["", NO_RECENT_IDS, "[recent_ids]\nbytes_max = 65_536\nmax_age = '20ms'\n"];
    let mut gateways = settings.map(|settings| Setup::with(settings).start());
    for round in 0..120 {
        let events: Vec<_> = (0..1 + random.below(25)).map(|_| any_event(&mut random)).collect();
        let restarts = random.once_in(30);
        for gateway in &mut gateways {
            gateway.send(&events).logged(events.len());
            if restarts {
                gateway.stop_and_restart();
            }
        }
        if round % 20 == 19 {
            let rows = gateways.each_ref().map(|gateway| {
                let ask = |aggregation| gateway.usage("m").by("customerId").wait_s(30).ask(aggregation);
                (ask("COUNT").groups(), ask("SUM").groups(), gateway.usage("m").wait_s(30).ask("SUM").buckets())
            });
            assert!(rows.iter().all(|one| *one == rows[0]), "{rows:?}");
        }
    }
    gateways[0].send(&[event("last")]).logged(1);
    assert_eq!(gateways.each_ref().map(|gateway| known(gateway, &[event("last")])), [1, 0, 0]);
    assert_eq!((sizes(&gateways[1].metrics()), gateways[1].metrics().outcome("known")), ((0.0, 0.0), 0), "off is off");
}

#[test]
fn an_id_is_forgotten_with_age_also_when_nothing_comes_in_and_copies_are_duplicates_then() {
    let gateway = Setup::with("[recent_ids]\nmax_age = '1s'").start();
    let before = gateway.metrics();
    assert_eq!(sizes(&before), (0.0, 0.0));
    gateway.send(&[event("u-1"), event("u-2")]).logged(2);
    let (bytes, entries) = sizes(&gateway.metrics());
    assert!((bytes, entries) == (0.0, 0.0) || (bytes > 0.0 && entries == 2.0), "all of them, or forgotten already");
    wait_for("the ids to be forgotten", || (evictions(&gateway.metrics(), "age") > 0).then_some(()));
    assert_eq!(sizes(&gateway.metrics()), (0.0, 0.0), "and their memory is given back");
    assert_eq!(known(&gateway, &[event("u-1")]), 0);
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.verdict("counted"), metrics.verdict("duplicate")), (2, 1));
}

#[test]
fn past_its_memory_the_oldest_ids_are_forgotten_and_copies_are_duplicates() {
    const BYTES_MAX: f64 = 65_536.0;
    let gateway = Setup::with("[recent_ids]\nbytes_max = 65_536").start();
    let made = |round: usize| -> Vec<Event> { (0..500).map(|at| event(&format!("u-{round}-{at}"))).collect() };
    for round in 0..20 {
        gateway.send(&made(round)).logged(500);
        let (bytes, entries) = sizes(&gateway.metrics());
        assert!(bytes <= BYTES_MAX && entries * 16.0 <= bytes, "{entries} in {bytes}");
    }
    assert!(evictions(&gateway.metrics(), "size") > 0);
    assert!(known(&gateway, &made(19)) > 450, "few ids of a full table are lost");
    assert_eq!(known(&gateway, &made(0)), 0);
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.verdict("counted"), gateway.usage("m").count()), (10_000, 10_000));
    assert_eq!(metrics.copies(), 1_000);
}

#[test]
fn with_a_horizon_copies_are_known_until_they_are_too_old_and_never_count_again() {
    let gateway = Setup::with("[log]\ndedup_horizon = '2s'\n[ingest]\nmax_event_age = '1s'\nmax_event_future = '500ms'").start();
    let now_ms = || Clock::start().now().0;
    let sent_ms = now_ms();
    let sent = event("u-1").at(sent_ms);
    gateway.send(std::slice::from_ref(&sent)).logged(1);
    let count = || gateway.usage("m").between(sent_ms / 1_000 - DAY_S, sent_ms / 1_000 + DAY_S).count();
    wait_for("the horizon to pass", || {
        let is_behind = now_ms() > sent_ms + 2_100;
        let answer = gateway.send(std::slice::from_ref(&sent));
        assert!([200, 400].contains(&answer.status), "{}", answer.shown());
        assert_eq!(count(), 1);
        is_behind.then_some(())
    });
    let metrics = gateway.settled_metrics();
    assert!(metrics.outcome("known") > 0 && metrics.outcome("rejected") > 0, "known while young, refused when old");
    assert_eq!(metrics.outcome("logged"), 1);
    // Behind the horizon the id is free for another event.
    assert_eq!(known(&gateway, &[event("u-1").at(now_ms())]), 0);
    assert_eq!(count(), 2);
}
