//! Promise 9: a usage query sees every event that was acked before it was asked.

use crossbeam_channel::bounded;

use crate::harness::{Client, DAY_0_S, DEADLINE, Gateway, batch, event, wait_for, wire};

#[test]
fn an_event_is_seen_by_the_query_right_behind_its_answer() {
    const THREADS: usize = 4;
    let gateway = Gateway::start();
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let client = Client::clone(&gateway);
            threads.spawn(move || {
                let customer = format!("customer-{thread}");
                for round in 1..=200 / THREADS {
                    client.send(&[event(&format!("u-{thread}-{round}")).customer(&customer)]).logged(1);
                    // As a client asks that says nothing about waiting.
                    let usage = client.usage("m").customer(&customer).ask("COUNT");
                    assert_eq!((usage.total(), usage.is_complete()), (round.to_string(), true));
                }
            });
        }
    });
    assert_eq!(gateway.usage("m").count(), 200);
}

#[test]
fn an_event_is_seen_by_everyone_who_hears_of_its_answer() {
    let gateway = Gateway::start();
    let (acked, heard) = bounded(0);
    std::thread::scope(|threads| {
        let (writer, reader) = (Client::clone(&gateway), Client::clone(&gateway));
        threads.spawn(move || {
            for round in 1..=50_usize {
                writer.send(&[event(&format!("u-{round}"))]).logged(1);
                acked.send(round).expect("the reader listens");
            }
        });
        threads.spawn(move || {
            while let Ok(round) = heard.recv_timeout(DEADLINE) {
                assert!(reader.usage("m").count() >= round, "the writer may be one ahead, never behind");
                if round == 50 {
                    return;
                }
            }
        });
    });
}

#[test]
fn a_query_that_does_not_wait_says_how_far_it_goes_and_whether_that_is_all() {
    const BATCH: usize = 300;
    let gateway = Gateway::start();
    for round in 1..=20 {
        let events: Vec<_> = (0..BATCH).map(|at| event(&format!("u-{round}-{at}"))).collect();
        gateway.send(&events).logged(BATCH);
        let usage = gateway.usage("m").wait_s(0).ask("COUNT");
        let counted: u64 = usage.total().parse().expect("a number");
        assert_eq!(usage.position(), counted, "every position so far holds an event that counts");
        assert_eq!(usage.is_complete(), counted == (round * BATCH) as u64, "it never calls a part the whole");
    }
    let end = (20 * BATCH) as u64;
    wait_for("the rows to catch up", || (gateway.usage("m").wait_s(0).ask("COUNT").position() == end).then_some(()));
    assert!(gateway.usage("m").wait_s(0).ask("COUNT").is_complete());
}

#[test]
fn what_does_not_count_moves_the_position_too() {
    let gateway = Gateway::start();
    gateway.send(&[event("u-1"), event("u-1").value("2"), event("u-2"), event("bad").at(0)]).logged(3).rejected(1);
    let usage = gateway.usage("m").ask("COUNT");
    assert_eq!((usage.total().as_str(), usage.position()), ("2", 3));
}

#[test]
fn what_was_acked_before_a_kill_is_seen_as_soon_as_queries_are_answered() {
    let mut gateway = Gateway::start();
    let events: Vec<_> = (0..2_000).map(|at| event(&format!("u-{at}"))).collect();
    for (round, part) in events.chunks(500).enumerate() {
        gateway.send(part).logged(500);
        gateway.kill_and_restart();
        let usage = gateway.usage("m").ask("COUNT");
        assert_eq!((usage.total(), usage.is_complete()), ((500 * (round + 1)).to_string(), true));
    }
}

#[test]
fn the_parts_of_a_pipelined_conversation_see_each_other() {
    let gateway = Gateway::start();
    let question = serde_json::json!({
        "meterApiName": "m", "aggregation": "COUNT", "timeGroupingInterval": "DAY",
        "timeRange": {"startTimeInSeconds": DAY_0_S, "endTimeInSeconds": DAY_0_S + 1},
    });
    let mut wire = gateway.connect();
    for round in 1..=20_u64 {
        let sent = wire::ingest(&[], batch(&[event(&format!("u-{round}"))]));
        let asked = String::from_utf8(wire::ingest(&[], question.to_string())).expect("text");
        wire.write([sent, asked.replace("POST /ingest", "POST /usage").into_bytes()].concat());
        wire.answer().logged(1);
        let answer = wire.answer();
        assert_eq!(answer.json()["clientMeters"][0]["groupValue"], round, "{}", answer.shown());
    }
    wire.stream().shutdown(std::net::Shutdown::Write).expect("a socket");
    wire.expect_end();
}
