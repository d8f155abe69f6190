//! Promise 8, in sum: every event has one verdict at the door and, if it was logged, one in the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::harness::{Client, Event, Gateway, Metrics, NO_RECENT_IDS, Random, Setup, event, wait_for, wide_event, wire};

const STRICT: (&str, &str) = ("prefer", "handling=strict");
const SENDERS: usize = 4;
const REQUESTS: usize = 60;

/// What the tests know to have happened.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Books {
    requests: u64,
    received: u64,
    taken: u64,
    rejected: u64,
    letters: u64,
    /// By the metric's label `reason`.
    reasons: BTreeMap<&'static str, u64>,
}

impl Books {
    fn reject(&mut self, reason: &'static str, events: u64) {
        self.rejected += events;
        *self.reasons.entry(reason).or_default() += events;
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.received += other.received;
        self.taken += other.taken;
        self.rejected += other.rejected;
        self.letters += other.letters;
        for (reason, events) in &other.reasons {
            *self.reasons.entry(reason).or_default() += events;
        }
    }

    /// Holds the gateway's books against these.
    #[track_caller]
    fn expect(&self, metrics: &Metrics) {
        assert_eq!(metrics.count("tollgate_events_total", &[]), self.received, "every event has an outcome");
        assert_eq!(metrics.outcome("logged") + metrics.outcome("known"), self.taken);
        assert_eq!(metrics.outcome("rejected"), self.rejected);
        assert_eq!(metrics.count("tollgate_events_rejected_total", &[]), self.rejected, "every rejection has a reason");
        for (reason, events) in &self.reasons {
            assert_eq!(metrics.count("tollgate_events_rejected_total", &[("reason", reason)]), *events, "{reason}");
        }
        assert_eq!(metrics.count("tollgate_verdicts_total", &[]), metrics.outcome("logged"), "every record has a verdict");
        assert_eq!(metrics.count("tollgate_http_requests_total", &[("route", "/ingest")]), self.requests);
    }
}

fn bad(random: &mut Random) -> (Event, &'static str) {
    match random.below(5) {
        0 => (event("bad").without("customerId"), "missing_field"),
        1 => (event("bad").value("\"1\""), "wrong_type"),
        2 => (event("bad").at(0), "wrong_value"),
        3 => (event("bad").value("1e20"), "out_of_range"),
        _ => (event(&"x".repeat(256)), "too_large"),
    }
}

/// A good event: often a copy of one that was sent before, sometimes with another content.
fn good(random: &mut Random) -> Event {
    event(&format!("u-{}", random.below(400))).value(if random.once_in(5) { "2" } else { "1" })
}

/// Sends one request of some kind and writes down what must come of it.
fn send_one(client: &Client, random: &mut Random, books: &mut Books) {
    books.requests += 1;
    let size = 1 + random.below(20);
    let mut events: Vec<_> = (0..size).map(|_| good(random)).collect();
    let is_strict = random.once_in(4);
    let headers = if is_strict { vec![STRICT] } else { Vec::new() };
    let mut reasons = Vec::new();
    for _ in 0..random.below(4) {
        let (bad, reason) = bad(random);
        let at = random.below(events.len() + 1);
        events.insert(at, bad);
        reasons.push(reason);
    }
    match random.below(10) {
        // Nothing can be told from the rest in these: no event was received.
        0 => drop(client.post("/ingest", &headers, "[{").refused(400)),
        1 => drop(client.post("/ingest", &[("content-encoding", "br")], "[]").refused(415)),
        2 => drop(client.send(&[]).logged(0)),
        3 => {
            let (bad, reason) = bad(random);
            client.post("/ingest", &headers, bad.json()).refused(400);
            books.received += 1;
            books.reject(reason, 1);
        }
        _ => {
            books.received += events.len() as u64;
            reasons.iter().for_each(|reason| books.reject(reason, 1));
            let answer = client.send_with(&headers, &events);
            if is_strict && !reasons.is_empty() {
                answer.refused(400);
                books.reject("strict", size as u64);
            } else {
                answer.logged(size).rejected(reasons.len());
                books.taken += size as u64;
                books.letters += reasons.len() as u64;
            }
        }
    }
}

#[test]
fn every_event_has_one_outcome_and_every_record_one_verdict() {
    let mut random = Random::seeded();
    let gateway = Gateway::start();
    let mut books = Books::default();
    std::thread::scope(|threads| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (client, mut random) = (Client::clone(&gateway), random.fork());
                threads.spawn(move || {
                    let mut books = Books::default();
                    (0..REQUESTS).for_each(|_| send_one(&client, &mut random, &mut books));
                    books
                })
            })
            .collect();
        senders.into_iter().for_each(|sender| books.add(&sender.join().expect("the sender is done")));
    });
    let metrics = gateway.settled_metrics();
    books.expect(&metrics);
    assert_eq!(gateway.usage("m").count() as u64, metrics.verdict("counted"), "what counts is in the rows");
    assert_eq!(gateway.dead_letters().len() as u64, books.letters);
    assert_eq!(metrics.total("tollgate_in_flight_bytes", &[]), 0.0, "all room was given back");
}

#[test]
fn at_any_moment_the_books_differ_by_no_more_than_what_is_under_way() {
    let mut random = Random::seeded();
    let gateway = Gateway::start();
    // Events of requests that were begun, and of requests that were answered.
    let (begun, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|threads| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                let (client, mut random, begun, answered) = (Client::clone(&gateway), random.fork(), &begun, &answered);
                threads.spawn(move || {
                    for _ in 0..REQUESTS {
                        let events: Vec<_> = (0..1 + random.below(50)).map(|_| good(&mut random)).collect();
                        begun.fetch_add(events.len() as u64, Ordering::SeqCst);
                        client.send(&events).logged(events.len());
                        answered.fetch_add(events.len() as u64, Ordering::SeqCst);
                    }
                })
            })
            .collect();
        let mut looks = 0;
        while !senders.iter().all(|sender| sender.is_finished()) {
            let before = answered.load(Ordering::SeqCst);
            let metrics = gateway.metrics();
            let after = begun.load(Ordering::SeqCst);
            let at_the_door = metrics.count("tollgate_events_total", &[]);
            assert!((before..=after).contains(&at_the_door), "{at_the_door} have an outcome, {before} to {after} were answered");
            let in_the_log = metrics.count("tollgate_verdicts_total", &[]);
            assert!(in_the_log <= after, "{in_the_log} have a verdict, {after} were sent");
            assert!(metrics.verdict("counted") <= 800, "a copy has counted");
            looks += 1;
        }
        assert!(looks > 5, "the load was there to be looked at");
    });
    let metrics = gateway.settled_metrics();
    let sent = begun.into_inner();
    assert_eq!((metrics.count("tollgate_events_total", &[]), metrics.outcome("logged") + metrics.outcome("known")), (sent, sent));
    assert_eq!(metrics.count("tollgate_verdicts_total", &[]), metrics.outcome("logged"));
    assert_eq!(gateway.usage("m").count() as u64, metrics.verdict("counted"));
}

#[test]
fn a_book_of_known_events_balances_to_the_last_one() {
    let gateway = Gateway::start();
    gateway.send(&[event("u-1"), event("u-2"), event("u-1")]).logged(3);
    gateway.send(&[event("u-1"), event("u-2").value("2"), event("bad").at(0)]).logged(2).rejected(1);
    gateway.send_with(&[STRICT], &[event("u-3"), event("bad").at(0)]).refused(400);
    let metrics = gateway.settled_metrics();
    let mut books = Books { requests: 3, received: 8, taken: 5, letters: 1, ..Books::default() };
    books.reject("wrong_value", 2);
    books.reject("strict", 1);
    books.expect(&metrics);
    assert_eq!((metrics.verdict("counted"), metrics.copies(), metrics.verdict("conflict")), (2, 2, 1));
}

#[test]
fn an_event_whose_sender_hung_up_is_in_the_books() {
    let gateway = Gateway::start();
    std::thread::scope(|threads| {
        // Keeps the log busy, so that there is time to hang up between the append and its answer.
        let client = Client::clone(&gateway);
        let busy = threads.spawn(move || (0..10).for_each(|_| drop(client.send(&vec![wide_event("busy"); 5]).logged(5))));
        let mut at = 0;
        while !busy.is_finished() {
            let mut wire = gateway.connect();
            wire.write(wire::ingest(&[], event(&format!("u-{at}")).json()));
            drop(wire);
            gateway.get("/healthz");
            at += 1;
        }
    });
    // Connections are accepted in their order: behind this answer there are none that the process does not know of.
    let mut last = gateway.connect();
    last.write(wire::ingest(&[], event("last").json()));
    last.answer().logged(1);
    wait_for("the other connections to end", || (gateway.metrics().total("tollgate_http_connections", &[]) <= 3.0).then_some(()));
    // Every record was an event at the door, though nobody was there any more to be told.
    wait_for("the books to balance", || {
        let metrics = gateway.settled_metrics();
        (metrics.count("tollgate_verdicts_total", &[]) == metrics.outcome("logged")).then_some(())
    });
}

#[test]
fn neighbours_of_a_failed_write_are_in_the_books() {
    let gateway = Setup::with(NO_RECENT_IDS).file_bytes_max(4 << 20).start();
    let mut events = vec![wide_event("u-1"); 10];
    events.push(event("bad").at(0));
    let mut received = 0;
    loop {
        let answer = gateway.send(&events);
        received += events.len() as u64;
        if answer.status != 200 {
            answer.refused(503);
            break;
        }
        assert!(received < 2_000, "the disk was to fail");
    }
    assert_eq!(gateway.settled_metrics().count("tollgate_events_total", &[]), received, "every event has an outcome");
}
