//! Promises 3 and 5: rows and dedup index are functions of the log. Without them a start makes them again, the same.

use std::collections::BTreeMap;
use std::fs;

use crate::harness::{DAY_0_MS, Event, Gateway, HOUR_S, Random, Setup, event};

/// Good events, copies and conflicts, over customers, hours and regions.
fn events(random: &mut Random) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    for at in 0..600 {
        let made = event(&format!("u-{at}"))
            .customer(&format!("customer-{}", random.below(5)))
            .value(format!("{}.{:06}", random.below(1_000), random.below(1_000_000)))
            .at(DAY_0_MS + random.below(100) as i64 * HOUR_S * 1_000)
            .dimension("region", &format!("region-{}", random.below(6)));
        if let (true, false) = (random.once_in(5), events.is_empty()) {
            let copy = events[random.below(events.len())].clone();
            events.push(if random.once_in(3) { copy.value("-1") } else { copy });
        }
        events.push(made);
    }
    events
}

/// All that queries can tell, byte for byte.
fn answers(gateway: &Gateway) -> BTreeMap<String, String> {
    let mut answers = BTreeMap::new();
    for aggregation in ["SUM", "COUNT", "MIN", "MAX"] {
        for interval in ["HOUR", "DAY", "MONTH"] {
            for fields in [&[][..], &["customerId"], &["customerId", "region"]] {
                let question = fields.iter().fold(gateway.usage("m").every(interval).wait_s(30), |question, field| question.by(field));
                let usage = question.ask(aggregation);
                assert!(usage.is_complete());
                answers.insert(format!("{aggregation} {interval} {fields:?}"), usage.answer.text().to_owned());
            }
        }
    }
    answers
}

fn send_in_parts(gateway: &Gateway, events: &[Event]) {
    for part in events.chunks(37) {
        gateway.send(part).logged(part.len());
    }
}

#[test]
fn rows_and_index_are_made_again_from_the_log_and_are_the_same() {
    let mut random = Random::seeded();
    let mut gateway = Setup::with("[log]\ndimension_sets_max = 4").start();
    let events = events(&mut random);
    let (first, second) = events.split_at(events.len() / 2);
    send_in_parts(&gateway, first);
    gateway.kill_and_restart();
    send_in_parts(&gateway, second);
    let before = answers(&gateway);
    for derived in [&["store.redb", "index"][..], &["index"], &["store.redb"]] {
        gateway.stop();
        for name in derived {
            let path = gateway.data_dir().join(name);
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
        }
        gateway.restart();
        assert_eq!(answers(&gateway), before, "without {derived:?}");
        // And what was known is known again.
        send_in_parts(&gateway, &events);
        assert_eq!(answers(&gateway), before, "without {derived:?}, everything sent again");
    }
}

#[test]
fn where_a_process_was_killed_does_not_show_in_the_rows() {
    let mut random = Random::seeded();
    let events = events(&mut random);
    let mut calm = Setup::with("[log]\ndimension_sets_max = 4").start();
    send_in_parts(&calm, &events);
    calm.stop_and_restart();
    let mut troubled = Setup::with("[log]\ndimension_sets_max = 4").start();
    for part in events.chunks(37) {
        troubled.send(part).logged(part.len());
        if random.once_in(5) {
            troubled.kill_and_restart();
        }
    }
    assert_eq!(answers(&troubled), answers(&calm));
}
