//! A Kafka that dies, or says nothing any more: what was acked is there, the others hear in time, and it goes on by itself.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use tollgate::log::kafka::wire::Form;
use tollgate::log::kafka::{KafkaAppender, Settings};
use tollgate::log::{Append, Appender, Error, record};

use crate::harness::DEADLINE;
use crate::harness::kafka::Broker;
use crate::kafka_log::{KafkaLog, settings};
use crate::logs::{RECEIVED, block, read_back};

/// What senders were told, by number of the event.
#[derive(Default)]
struct Told {
    acked: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
    slowest: Duration,
}

/// Appends one event after the other until it is told to stop.
fn send(log: &KafkaLog, is_over: &AtomicBool, next: &AtomicU64, acked: &AtomicU64) -> Told {
    let mut appender = log.appender();
    let mut told = Told::default();
    while !is_over.load(Ordering::Acquire) {
        let first = next.fetch_add(10, Ordering::Relaxed);
        let group = (first..first + 10).map(|number| Append::new(block([number], RECEIVED), None)).collect::<Vec<_>>();
        let began = Instant::now();
        let (group, outcomes): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        for answer in appender.append_and_wait(group) {
            answer.to.tell(answer.result);
        }
        told.slowest = told.slowest.max(began.elapsed());
        for (number, mut outcome) in (first..).zip(outcomes) {
            match outcome.try_recv().expect("each is answered") {
                Ok(_) => _ = (told.acked.insert(number), acked.fetch_add(1, Ordering::Release)),
                Err(error) if error.is_refusal() => _ = told.refused.insert(number),
                Err(Error::Unconfirmed(_)) => _ = told.unknown.insert(number),
                Err(other) => panic!("neither refused nor unknown: {other}"),
            }
        }
    }
    appender.close().expect("closes");
    told
}

/// Sends while `happens` does; what it is given waits until so many more are acked.
fn under_load(log: &KafkaLog, happens: impl FnOnce(&dyn Fn(u64))) -> Told {
    let (is_over, next, acked) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(log, &is_over, &next, &acked));
        let more = |events: u64| {
            let (from, deadline) = (acked.load(Ordering::Acquire), Instant::now() + 2 * DEADLINE);
            while acked.load(Ordering::Acquire) < from + events {
                assert!(Instant::now() < deadline && !sender.is_finished(), "nothing is acked any more");
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        happens(&more);
        is_over.store(true, Ordering::Release);
        sender.join().expect("no panic")
    })
}

/// Holds what stands in the topic against what was told.
fn check(log: &KafkaLog, told: &Told) {
    let mut found = BTreeSet::new();
    for partition in 0..log.partitions {
        for (_, bytes) in read_back(&mut log.reader(partition), Default::default(), log.end(partition), 1 << 20).expect("reads").values() {
            let record = record::records(bytes, 1, RECEIVED).next().expect("one").expect("decodes");
            found.insert(record.unique_id.strip_prefix("u-").and_then(|number| number.parse().ok()).expect("a number"));
        }
    }
    let lost: Vec<_> = told.acked.difference(&found).collect();
    assert!(lost.is_empty(), "acked, and not there: {lost:?}");
    let written: Vec<_> = told.refused.intersection(&found).collect();
    assert!(written.is_empty(), "refused, and there all the same: {written:?}");
    assert!(found.iter().all(|number| told.acked.contains(number) || told.unknown.contains(number)));
}

#[test]
fn what_was_acked_before_kafka_was_killed_is_there_and_it_goes_on_by_itself() {
    let broker = Broker::start(&[]);
    let log = KafkaLog::make(&broker, "killed", 4);
    let told = under_load(&log, |more| {
        for _ in 0..2 {
            more(200);
            broker.kill();
            broker.start_again();
        }
        more(200);
    });
    check(&log, &told);
}

#[test]
fn while_kafka_says_nothing_requests_are_held_then_refused_in_time_and_it_goes_on_by_itself() {
    let broker = Broker::start(&[]);
    let mut log = KafkaLog::make(&broker, "frozen", 4);
    let patience = Duration::from_secs(3);
    log.settings = Settings { patience, ..log.settings };
    let told = under_load(&log, |more| {
        more(200);
        broker.freeze();
        std::thread::sleep(3 * patience);
        broker.thaw();
        more(200);
    });
    // Those at the begin of the silence may have been written; then one at a time looks whether it is over.
    assert!(!told.refused.is_empty() && !told.unknown.is_empty(), "{} refused, {} unknown", told.refused.len(), told.unknown.len());
    assert!(told.slowest < patience + DEADLINE / 3, "{:?}", told.slowest);
    log.settings.patience = DEADLINE;
    check(&log, &told);
}

/// No broker of Kafka's can be made to say this; librdkafka has one of its own that can.
#[test]
fn a_producer_that_fails_for_good_is_replaced_and_nobody_hears_of_a_success_that_was_none() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("t", 1, 1).expect("a topic");
    let settings = Settings { patience: Duration::from_secs(5), ..settings(&cluster.bootstrap_servers()) };
    let mut appender = KafkaAppender::start(&settings, "t", Form::Events, 1).expect("starts");
    let mut append = |number| appender.append_and_wait(vec![Append::unattended(block([number], RECEIVED))]).remove(0).result;
    append(0).expect("durable");
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER; 5]);
    let failed = append(1);
    assert!(matches!(failed, Err(Error::Unconfirmed(_))), "{failed:?}");
    cluster.clear_request_errors(RDKafkaApiKey::Produce);
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = append(2) {
        assert!(Instant::now() < deadline, "it does not go on: {error}");
    }
}
