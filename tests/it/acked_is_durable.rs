//! Promise 1: a 2xx goes out only after the log holds the event durably.
//!
//! A killed process shows that nothing acked was still in its memory. That a sync came before the answer shows only where
//! the disk can fail: `src/log/embedded/tests.rs`, and below where it fails for good.

use crate::harness::{Client, Gateway, NO_RECENT_IDS, Random, Setup, event, wait_for, wide_event, wire};
use crate::load::Ledger;

#[test]
fn an_event_is_there_after_a_kill_right_behind_its_answer() {
    let mut gateway = Gateway::start();
    for round in 1..=6 {
        gateway.send(&[event(&format!("u-{round}"))]).logged(1);
        gateway.kill_and_restart();
        assert_eq!(gateway.usage("m").count(), round);
    }
}

#[test]
fn whatever_a_kill_leaves_unanswered_can_be_sent_again_and_counts_once() {
    let mut random = Random::seeded();
    let mut gateway = Gateway::start();
    let mut ledger = Ledger::default();
    for _ in 0..5 {
        let answers = 1 + random.below(80);
        ledger.load_until(&mut gateway, &mut random, answers, Gateway::kill);
        if random.once_in(2) {
            gateway.start_and_kill(&mut random);
        }
        gateway.restart();
        ledger.expect_what_was_acked(&gateway);
        ledger.send_again(&gateway, &mut random);
        ledger.expect_all(&gateway);
    }
    gateway.stop_and_restart();
    ledger.expect_all(&gateway);
}

#[test]
fn a_kill_behind_several_segments_loses_nothing() {
    let mut gateway = Setup::with("[log]\nsegment_bytes = 1_048_576").start();
    let events: Vec<_> = (0..60).map(|at| wide_event(&format!("u-{at}"))).collect();
    for (round, part) in events.chunks(20).enumerate() {
        part.chunks(4).for_each(|batch| drop(gateway.send(batch).logged(4)));
        gateway.kill_and_restart();
        assert_eq!(gateway.usage("m").count(), 20 * (round + 1));
    }
    events.chunks(10).for_each(|batch| drop(gateway.send(batch).logged(10)));
    assert_eq!(gateway.usage("m").count(), 60);
}

#[test]
fn a_stop_under_load_loses_nothing_that_was_acked_and_exits_with_0() {
    let mut random = Random::seeded();
    let mut gateway = Gateway::start();
    let mut ledger = Ledger::default();
    for _ in 0..3 {
        let answers = 1 + random.below(80);
        ledger.load_until(&mut gateway, &mut random, answers, Gateway::stop);
        gateway.restart();
        assert!(!gateway.stderr().contains("did not end in good order"), "a stop leaves nothing to recover: {}", gateway.stderr());
        ledger.expect_what_was_acked(&gateway);
        ledger.send_again(&gateway, &mut random);
        ledger.expect_all(&gateway);
    }
}

#[test]
fn a_request_under_way_is_answered_when_the_process_is_told_to_stop() {
    let mut gateway = Setup::default().ops_listener().start();
    let client = Client::clone(&gateway);
    let body = event("u-1").json();
    let mut wire = gateway.connect();
    wire.write(wire::head(&[("Expect", "100-continue"), ("Content-Length", &body.len().to_string())]));
    assert_eq!(wire.answer().status, 100, "the process has read the head and waits for the body");
    std::thread::scope(|threads| {
        threads.spawn(|| gateway.stop());
        wait_for("the end of readiness", || (client.get("/readyz").status == 503).then_some(()));
        wire.write(body);
        wire.answer().logged(1);
        wire.expect_end();
    });
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 1);
}

#[test]
fn a_stop_waits_only_so_long_for_a_request_that_does_not_come_to_its_end() {
    let mut gateway = Setup::with("[http]\ndrain_timeout = '300ms'").start();
    gateway.send(&[event("u-1")]).logged(1);
    let mut dawdler = gateway.connect();
    dawdler.write(wire::head(&[("Expect", "100-continue"), ("Content-Length", "100")]));
    assert_eq!(dawdler.answer().status, 100);
    gateway.stop();
    dawdler.expect_end();
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 1);
}

#[test]
fn a_request_whose_answer_is_lost_can_be_sent_again_and_counts_once() {
    let gateway = Gateway::start();
    for round in 1..=40 {
        let events = [event(&format!("u-{round}"))];
        let mut wire = gateway.connect();
        if round % 2 == 0 {
            // A reset instead of an orderly end.
            socket2::SockRef::from(wire.stream()).set_linger(Some(std::time::Duration::ZERO)).expect("a socket");
        }
        wire.write(wire::ingest(&[], events[0].json()));
        drop(wire);
        gateway.send(&events).logged(1);
        assert_eq!(gateway.usage("m").count(), round);
    }
}

#[test]
fn a_failed_write_is_unknown_and_the_log_takes_nothing_more_until_a_restart() {
    let mut gateway = Setup::with(NO_RECENT_IDS).file_bytes_max(4 << 20).start();
    // Copies of one event: the log grows, the rows do not.
    let copies = vec![wide_event("u-1"); 10];
    let mut acked = 0;
    let refused = loop {
        let answer = gateway.send(&copies);
        if answer.status != 200 {
            break answer.refused(503);
        }
        acked += copies.len() as u64;
        assert!(acked < 1_000, "the disk was to fail");
    };
    let retry_after_s: u32 = refused.header("retry-after").expect("503 says when").parse().expect("seconds");
    assert!((1..=5).contains(&retry_after_s));
    gateway.send(&[event("u-2")]).refused(503);
    let metrics = gateway.settled_metrics();
    assert_eq!(metrics.total("tollgate_log_closed", &[("log", "events")]), 1.0);
    assert_eq!(metrics.outcome("logged") + metrics.outcome("known"), acked);
    assert!(metrics.outcome("unknown") >= 10, "the request whose write failed");
    assert_eq!(metrics.outcome("unknown") + metrics.outcome("shed"), 11);
    assert_eq!(gateway.usage("m").count(), 1, "what was acked is still answered");

    gateway.kill();
    gateway.mend_disk();
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 1);
    gateway.send(&copies).logged(10);
    gateway.send(&[event("u-2")]).logged(1);
    assert_eq!(gateway.usage("m").count(), 2);
}
