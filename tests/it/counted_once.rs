//! Promise 2: what a producer sends as one event counts once, however often it is sent.

use std::sync::Barrier;

use crate::harness::{Client, DAY_0_MS, Decimal, Event, Gateway, NO_RECENT_IDS, Random, Setup, event, event_without_id, wire};

/// Copies are recognised at the door or in the fold: what is true of them has to be true of both.
fn at_the_door_and_in_the_fold(test: impl Fn(Gateway)) {
    test(Gateway::start());
    test(Setup::with(NO_RECENT_IDS).start());
}

/// Ten events and what they add up to.
fn ten() -> (Vec<Event>, String) {
    let values: Vec<_> = (1..=10).map(|at| Decimal::new(at, 1)).collect();
    let events = values.iter().enumerate().map(|(at, value)| event(&format!("u-{at}")).value(value));
    (events.collect(), values.iter().copied().sum::<Decimal>().to_string())
}

#[test]
fn copies_in_one_batch_count_once() {
    at_the_door_and_in_the_fold(|gateway| {
        gateway.send(&[event("u-1"), event("u-1"), event("u-2"), event("u-1")]).logged(4);
        assert_eq!(gateway.usage("m").count(), 2);
        assert_eq!(gateway.settled_metrics().copies(), 2);
    });
}

#[test]
fn copies_in_several_requests_count_once() {
    at_the_door_and_in_the_fold(|gateway| {
        let (events, sum) = ten();
        for _ in 0..4 {
            gateway.send(&events).logged(10);
            assert_eq!((gateway.usage("m").count(), gateway.usage("m").sum()), (10, sum.clone()));
        }
        assert_eq!(gateway.settled_metrics().copies(), 30);
    });
}

#[test]
fn copies_on_many_connections_at_once_count_once() {
    const CONNECTIONS: usize = 16;
    at_the_door_and_in_the_fold(|gateway| {
        let mut random = Random::seeded();
        let (events, sum) = ten();
        let together = Barrier::new(CONNECTIONS);
        std::thread::scope(|threads| {
            for _ in 0..CONNECTIONS {
                let (client, together) = (Client::clone(&gateway), &together);
                let mut events = events.clone();
                random.shuffle(&mut events);
                threads.spawn(move || {
                    together.wait();
                    for pair in events.chunks(2) {
                        client.send(pair).logged(2);
                    }
                });
            }
        });
        assert_eq!((gateway.usage("m").count(), gateway.usage("m").sum()), (10, sum));
        assert_eq!(gateway.settled_metrics().copies(), 10 * (CONNECTIONS as u64 - 1));
    });
}

#[test]
fn one_id_on_64_connections_at_once_counts_once() {
    const CONNECTIONS: usize = 64;
    at_the_door_and_in_the_fold(|gateway| {
        for round in 1..=5 {
            let request = wire::ingest(&[], event(&format!("u-{round}")).json());
            let (last, all_but_the_last) = request.split_last().expect("bytes");
            let mut wires: Vec<_> = (0..CONNECTIONS).map(|_| gateway.connect()).collect();
            wires.iter_mut().for_each(|wire| wire.write(all_but_the_last));
            // Each needs one byte more: they come together.
            wires.iter_mut().for_each(|wire| wire.write([*last]));
            wires.iter_mut().for_each(|wire| drop(wire.answer().logged(1)));
            assert_eq!(gateway.usage("m").count(), round);
            assert_eq!(gateway.settled_metrics().copies(), (round * (CONNECTIONS - 1)) as u64);
        }
    });
}

#[test]
fn copies_before_and_after_a_restart_count_once() {
    at_the_door_and_in_the_fold(|mut gateway| {
        let (events, sum) = ten();
        gateway.send(&events).logged(10);
        gateway.stop_and_restart();
        gateway.send(&events).logged(10);
        assert_eq!((gateway.usage("m").count(), gateway.usage("m").sum()), (10, sum.clone()));
        assert_eq!(gateway.settled_metrics().copies(), 10);
        gateway.stop_and_restart();
        assert_eq!((gateway.usage("m").count(), gateway.usage("m").sum()), (10, sum));
    });
}

#[test]
fn copies_before_and_after_a_kill_count_once() {
    at_the_door_and_in_the_fold(|mut gateway| {
        let (events, sum) = ten();
        for _ in 0..4 {
            gateway.send(&events).logged(10);
            gateway.kill_and_restart();
            gateway.send(&events).logged(10);
            assert_eq!((gateway.usage("m").count(), gateway.usage("m").sum()), (10, sum.clone()));
        }
    });
}

#[test]
fn of_two_contents_under_one_id_the_first_counts_and_the_other_is_a_conflict() {
    at_the_door_and_in_the_fold(|mut gateway| {
        gateway.send(&[event("u-1").value("5")]).logged(1);
        let others = [
            event("u-1").value("6"),
            event("u-1").value("5").customer("other"),
            event("u-1").value("5").meter("other"),
            event("u-1").value("5").at(DAY_0_MS + 1),
            event("u-1").value("5").dimension("region", "eu"),
            event("u-1").values(&[("m", "5"), ("n", "1")]),
        ];
        gateway.send(&others).logged(6);
        assert_eq!((gateway.usage("m").count(), gateway.usage("m").sum()), (1, "5".into()));
        assert_eq!((gateway.usage("other").count(), gateway.usage("n").count()), (0, 0));
        let metrics = gateway.settled_metrics();
        assert_eq!((metrics.verdict("counted"), metrics.verdict("conflict"), metrics.copies()), (1, 6, 0));

        // A conflict takes nobody's place: the first content is still the one that is known.
        gateway.stop_and_restart();
        gateway.send(&[event("u-1").value("6"), event("u-1").value("5")]).logged(2);
        assert_eq!(gateway.usage("m").sum(), "5");
        let metrics = gateway.settled_metrics();
        assert_eq!((metrics.verdict("conflict"), metrics.copies()), (1, 1));
    });
}

#[test]
fn of_two_contents_in_one_batch_the_first_counts() {
    at_the_door_and_in_the_fold(|gateway| {
        gateway.send(&[event("u-1").value("5"), event("u-1").value("6"), event("u-1").value("5")]).logged(3);
        assert_eq!(gateway.usage("m").sum(), "5");
        let metrics = gateway.settled_metrics();
        assert_eq!((metrics.verdict("counted"), metrics.verdict("conflict"), metrics.copies()), (1, 1, 1));
    });
}

#[test]
fn the_same_content_in_another_spelling_is_no_conflict() {
    at_the_door_and_in_the_fold(|gateway| {
        let plain = event("u-1").value("10").dimension("a", "1").dimension("b", "é");
        let spellings = [
            plain.clone(),
            plain.clone().value("10.0"),
            plain.clone().value("1e1"),
            plain.clone().value("10.0000000000000001"),
            plain.clone().raw("meterTimeInMillis", &format!("{DAY_0_MS}.0")),
            plain.clone().raw("unknown", "[1, 2]"),
            plain.clone().raw("values", "null"),
            event("u-1").value("10").raw("dimensions", "{\"b\": \"\\u00e9\", \"none\": null, \"\\u0061\": \"1\"}"),
        ];
        for spelling in &spellings {
            gateway.send(std::slice::from_ref(spelling)).logged(1);
        }
        assert_eq!(gateway.usage("m").count(), 1);
        let metrics = gateway.settled_metrics();
        assert_eq!((metrics.verdict("conflict"), metrics.copies()), (0, spellings.len() as u64 - 1));
    });
}

#[test]
fn an_event_of_several_meters_counts_once_in_each() {
    at_the_door_and_in_the_fold(|gateway| {
        let several = event("u-1").values(&[("in", "100"), ("out", "7.5"), ("calls", "1")]);
        gateway.send(&[several.clone(), several.clone()]).logged(2);
        gateway.send(&[several]).logged(1);
        for (meter, sum) in [("in", "100"), ("out", "7.5"), ("calls", "1")] {
            assert_eq!((gateway.usage(meter).count(), gateway.usage(meter).sum().as_str()), (1, sum));
        }
        let metrics = gateway.settled_metrics();
        assert_eq!((metrics.verdict("counted"), metrics.copies()), (1, 2), "it is one record, not three");
    });
}

#[test]
fn events_without_an_id_all_count() {
    at_the_door_and_in_the_fold(|gateway| {
        gateway.send(&[event_without_id(), event_without_id()]).logged(2);
        gateway.send(&[event_without_id()]).logged(1);
        gateway.send(&[event_without_id().raw("uniqueId", "null")]).logged(1);
        assert_eq!(gateway.usage("m").count(), 4);
        assert_eq!(gateway.settled_metrics().copies(), 0);
    });
}

#[test]
fn ids_are_compared_byte_for_byte() {
    let gateway = Gateway::start();
    let ids = ["u-1", "U-1", "u-1 ", " u-1", "u\u{2011}1", "é", "e\u{301}"];
    gateway.send(&ids.map(event)).logged(ids.len());
    gateway.send(&ids.map(event)).logged(ids.len());
    assert_eq!(gateway.usage("m").count(), ids.len());
}

#[test]
fn an_event_that_was_refused_counts_when_it_is_sent_again() {
    let gateway = Gateway::start();
    let good = event("u-1");
    let bad = event("u-2").without("customerId");
    gateway.send_with(&[("prefer", "handling=strict")], &[good.clone(), bad]).refused(400);
    gateway.send(&[good, event("u-2")]).logged(2);
    assert_eq!(gateway.usage("m").count(), 2);
    assert_eq!(gateway.settled_metrics().copies(), 0);
}
