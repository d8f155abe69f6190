//! Promise 10: what comes in has limits; past them requests wait for a while and are refused then, with nothing stored.

use crate::harness::{Client, Gateway, Setup, event, wait_for, wide_event, wire};

/// Room for one request of 100,000 bytes and no more.
fn cramped(room_wait: &str) -> Gateway {
    let limits = "body_bytes_max = 100_000\ninflated_bytes_max = 100_000\nin_flight_bytes_max = 100_000";
    Setup::with(&format!("[ingest]\n{limits}\nroom_wait = '{room_wait}'")).start()
}

/// A request that holds all the room until its last byte comes. Returns the rest of it.
fn take_all_room(gateway: &Gateway, wire: &mut wire::Wire) -> String {
    let body = format!("{}{}", event("large").json(), " ".repeat(100_000 - event("large").json().len()));
    wire.write([wire::head(&[("Content-Length", "100000")]).as_slice(), &body.as_bytes()[..50_000]].concat());
    wait_for("the room to be taken", || (gateway.metrics().total("tollgate_in_flight_bytes", &[]) == 100_000.0).then_some(()));
    body[50_000..].to_owned()
}

#[test]
fn without_room_a_request_is_refused_after_a_while_and_nothing_is_stored() {
    let gateway = cramped("100ms");
    let mut large = gateway.connect();
    let rest = take_all_room(&gateway, &mut large);
    let refused = gateway.send(&[event("u-1")]).refused(503);
    let retry_after_s: u32 = refused.header("retry-after").expect("503 says when").parse().expect("seconds");
    assert!((1..=5).contains(&retry_after_s));
    insta::assert_snapshot!(refused.shown());
    assert_eq!(gateway.get("/readyz").status, 200, "it is busy, not ill");

    large.write(rest);
    large.answer().logged(1);
    assert_eq!(gateway.usage("m").count(), 1);
    gateway.send(&[event("u-1")]).logged(1);
    assert_eq!(gateway.usage("m").count(), 2);
    assert_eq!(gateway.settled_metrics().copies(), 0);
}

#[test]
fn a_request_waits_for_room_and_is_served_when_there_is_some() {
    let gateway = cramped("50s");
    let mut large = gateway.connect();
    let rest = take_all_room(&gateway, &mut large);
    std::thread::scope(|threads| {
        let waiting: Vec<_> = (0..10)
            .map(|at| {
                let client = Client::clone(&gateway);
                threads.spawn(move || client.send(&[event(&format!("u-{at}"))]).logged(1))
            })
            .collect();
        wait_for("ten more connections", || (gateway.metrics().total("tollgate_http_connections", &[]) >= 12.0).then_some(()));
        assert!(waiting.iter().all(|waiting| !waiting.is_finished()));
        large.write(rest);
        large.answer().logged(1);
    });
    assert_eq!(gateway.usage("m").count(), 11);
    wait_for("all room to be given back", || (gateway.metrics().total("tollgate_in_flight_bytes", &[]) == 0.0).then_some(()));
}

#[test]
fn a_client_that_hangs_up_gives_its_room_back() {
    let gateway = cramped("50s");
    for _ in 0..3 {
        let mut large = gateway.connect();
        take_all_room(&gateway, &mut large);
        drop(large);
        gateway.send(&[event("u-1")]).logged(1);
    }
    assert_eq!(gateway.usage("m").count(), 1);
}

#[test]
fn past_the_limit_connections_are_closed_at_once_and_the_others_are_served() {
    let gateway = Setup::with("[http]\nconnections_max = 3").start();
    // One is the harness's own.
    gateway.send(&[event("u-0")]).logged(1);
    let mut open = [gateway.connect(), gateway.connect()];
    for (at, wire) in open.iter_mut().enumerate() {
        wire.write(wire::ingest(&[], event(&format!("u-{}", at + 1)).json()));
        wire.answer().logged(1);
    }
    for _ in 0..5 {
        let mut one_too_many = gateway.connect();
        one_too_many.write(wire::ingest(&[], event("not taken").json()));
        one_too_many.expect_end();
    }
    for wire in &mut open {
        wire.write(wire::ingest(&[], event("u-3").json()));
        wire.answer().logged(1);
    }
    assert_eq!(gateway.usage("m").count(), 4);

    drop(open);
    wait_for("a free place", || {
        let mut next = gateway.connect();
        next.write(wire::ingest(&[], event("u-4").json()));
        next.next_answer().map(|answer| answer.logged(1))
    });
}

#[test]
fn of_too_many_dead_letters_the_oldest_go() {
    let gateway = Setup::with("[log]\nsegment_bytes = 1_048_576\ndead_letter_bytes = 2_097_152").start();
    for round in 0..20 {
        let bad = vec![wide_event(&format!("bad-{round}")).at(0); 5];
        gateway.send(&[bad.as_slice(), &[event("u-1")]].concat()).logged(1).rejected(5);
    }
    // About 6 MB were written; a segment goes when the next one is begun.
    let bytes = gateway.metrics().total("tollgate_log_bytes", &[("log", "dead_letters")]);
    assert!((1e6..=4e6).contains(&bytes), "{bytes} bytes are kept");
    let letters = gateway.dead_letters();
    let (newest, oldest) = (&letters[0]["position"], &letters[letters.len() - 1]["position"]);
    assert_eq!(newest.as_u64(), Some(99));
    assert!(oldest.as_u64().is_some_and(|oldest| oldest > 0), "{oldest}");
    assert!(letters[0]["raw"].as_str().is_some_and(|raw| raw.contains("bad-19")));
}

#[test]
fn settings_that_could_never_be_met_stop_the_start() {
    let mut gateway = Gateway::start();
    gateway.stop();
    for (settings, words) in [
        ("[ingest]\nin_flight_bytes_max = 1000", ["ingest.inflated_bytes_max", "ingest.in_flight_bytes_max"]),
        ("[ingest]\nbody_bytes_max = 40_000_000", ["ingest.body_bytes_max", "ingest.inflated_bytes_max"]),
        ("[http]\nconnection_max = 3", ["unknown field `connection_max`", "tollgate.toml"]),
        ("[http]\nheader_timeout = 5", ["header_timeout", "tollgate.toml"]),
        ("[log]\nsegment_bytes = 1000", ["log.segment_bytes", "1 MiB"]),
    ] {
        gateway.change_settings(settings);
        gateway.start_in_vain().because(&words);
    }
}
