//! Where the partitions of a topic end: one question for all of them, with the answer that Kafka gives for each.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tollgate::log::Position;
use tollgate::log::kafka::{Ends, Settings};

use crate::harness::DEADLINE;
use crate::harness::kafka::{broker, topic};
use crate::kafka_log::{KafkaLog, settings};

fn producer(properties: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker().address());
    for (name, value) in properties {
        config.set(*name, *value);
    }
    config.create().expect("a producer")
}

/// Writes this many records.
fn fill(log: &KafkaLog, producer: &BaseProducer, partition: i32, records: u32) {
    for _ in 0..records {
        let record = BaseRecord { partition: Some(partition), ..BaseRecord::to(&log.topic).payload("{}").key("k") };
        producer.send(record).map_err(|(error, _)| error).expect("queued");
    }
    producer.flush(DEADLINE).expect("written");
}

fn ends(log: &KafkaLog) -> Ends {
    Ends::new(&log.settings, &log.topic, log.partitions).expect("a client")
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_of_empty_fresh_trimmed_and_emptied_partitions_are_those_that_kafka_has() {
    let log = KafkaLog::make(broker(), &topic("ends"), 4);
    let ends = ends(&log);
    let newest = || ends.newest().expect("an answer");
    assert_eq!(newest(), [0, 0, 0, 0].map(Position), "nothing was ever written");
    let producer = producer(&[]);
    for (partition, records) in [(1, 3), (2, 7), (3, 5)] {
        fill(&log, &producer, partition, records);
    }
    assert_eq!(newest(), [0, 3, 7, 5].map(Position), "what was acked is before the end");
    // As retention does: of one partition the older ones go, of the other all.
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker().address()).create().expect("a client");
    let mut until = TopicPartitionList::new();
    for (partition, offset) in [(2, 4), (3, 5)] {
        until.add_partition_offset(&log.topic, partition, Offset::Offset(offset)).expect("added");
    }
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE)).request_timeout(Some(DEADLINE));
    admin.delete_records(&until, &options).await.expect("deleted");
    assert_eq!(log.reader(3).watermarks().expect("known").start, Position(5), "it has no records any more");
    assert_eq!(newest(), [0, 3, 7, 5].map(Position));
    fill(&log, &producer, 3, 1);
    assert_eq!(newest(), [0, 3, 7, 6].map(Position));
}

#[test]
fn an_end_is_behind_what_a_transaction_that_is_still_open_keeps_readers_from() {
    let log = KafkaLog::make(broker(), &topic("open"), 1);
    let ends = ends(&log);
    let open = producer(&[("transactional.id", &log.topic)]);
    open.init_transactions(DEADLINE).expect("ready");
    open.begin_transaction().expect("begun");
    fill(&log, &open, 0, 1);
    // Acked, and nobody can read it yet.
    fill(&log, &producer(&[]), 0, 1);
    assert_eq!(log.end(0), Position(0), "readers come no further");
    assert_eq!(ends.newest().expect("an answer"), [Position(2)]);
    open.abort_transaction(DEADLINE).expect("aborted");
    // The mark of its end takes a position too, a moment later.
    let began = Instant::now();
    while ends.newest().expect("an answer") != [Position(3)] {
        assert!(began.elapsed() < DEADLINE);
    }
    assert_eq!(log.end(0), Position(3));
}

#[test]
fn a_kafka_that_is_not_there_is_an_error_in_time() {
    let settings = Settings { timeout: Duration::from_millis(300), ..settings("127.0.0.1:1") };
    let ends = Ends::new(&settings, "t", 2).expect("a client");
    let error = ends.newest().expect_err("nobody answers").to_string();
    assert!(error.contains("topic t"), "{error}");
    let log = KafkaLog::make(broker(), &topic("fewer"), 1);
    let settings = Settings { timeout: Duration::from_millis(300), ..log.settings.clone() };
    let ends = Ends::new(&settings, &log.topic, 2).expect("a client");
    assert!(ends.newest().is_err(), "a partition that is not there has no end");
}
