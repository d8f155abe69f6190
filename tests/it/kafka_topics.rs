//! Topics of a real Kafka: those that are missing are made, those that cannot hold the promises are refused.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use tollgate::log::kafka::recorded::Recorded;
use tollgate::log::kafka::topics::{self, Found, TopicError};
use tollgate::log::meta::FoldSettings;
use tollgate::log::{Append, Appender, Position};

use crate::harness::DEADLINE;
use crate::harness::kafka::{broker, topic};
use crate::kafka_log::{KafkaLog, settings, wanted};
use crate::logs::{RECEIVED, block};

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", broker().address()).create().expect("a client")
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(DEADLINE)).request_timeout(Some(DEADLINE))
}

/// Makes a topic as an operator might.
async fn make(name: &str, partitions: i32, config: &[(&str, &str)]) {
    let mut new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (setting, value) in config {
        new = new.set(setting, value);
    }
    admin().create_topics([&new], &options()).await.expect("asked")[0].as_ref().expect("made");
}

async fn open(name: &str) -> Result<Found, TopicError> {
    let (settings, wanted) = (settings(&broker().address()), wanted(name, 2));
    tokio::task::spawn_blocking(move || topics::open(&settings, &wanted)).await.expect("no panic")
}

fn recorded(found: &Found, dedup_horizon_ms: Option<i64>) -> Recorded {
    let fold = FoldSettings { dedup_horizon_ms, dimension_sets_max: 10, partitions: 2 };
    Recorded::new(&found.cluster, &found.name, fold).expect("made")
}

#[tokio::test]
async fn a_topic_that_is_missing_is_made_so_that_it_holds_the_promises_and_found_the_next_time() {
    let name = topic("made");
    let made = open(&name).await.expect("made");
    let found = open(&name).await.expect("found");
    assert_eq!(made, found);
    assert!(!made.cluster.is_empty());
    assert_eq!((made.watermarks.len(), made.replication, made.min_insync_replicas), (2, 1, 1));
    topics::check(&recorded(&made, None), &[Position(0); 2], &[], &found).expect("holds the promises");
    topics::check_replication(1, &found).expect("enough");
    topics::check_replication(3, &found).expect_err("too few");
}

#[tokio::test]
async fn topics_that_cannot_hold_the_promises_are_refused_by_the_setting_that_is_wrong() {
    let broken = [
        ("cleanup.policy", "compact"),
        ("retention.bytes", "1000000"),
        ("unclean.leader.election.enable", "true"),
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.after.max.ms", "9223372036854775807"),
        ("max.message.bytes", "1000"),
        ("min.insync.replicas", "2"),
        ("retention.ms", "1000"),
    ];
    for (setting, value) in broken {
        let name = topic("broken");
        // The default of a node is a week.
        let mut config = vec![("retention.ms", "-1"), (setting, value)];
        config.dedup_by(|new, old| {
            new.0 == old.0 && {
                *old = *new;
                true
            }
        });
        make(&name, 2, &config).await;
        let found = open(&name).await.expect("found");
        let refusal = topics::check(&recorded(&found, None), &[], &[], &found).expect_err(setting).to_string();
        assert!(refusal.contains(&format!("{setting} is {value}")), "{refusal}");
    }
    let name = topic("broken");
    make(&name, 3, &[("retention.ms", "-1")]).await;
    let found = open(&name).await.expect("found");
    let refusal = topics::check(&recorded(&found, None), &[], &[], &found).expect_err("three").to_string();
    assert!(refusal.contains("the number of partitions is 3"), "{refusal}");
}

#[tokio::test]
async fn a_topic_made_anew_under_the_same_name_is_not_taken_for_the_old_one() {
    let name = topic("anew");
    let before = open(&name).await.expect("made");
    let log = KafkaLog { settings: settings(&broker().address()), topic: name.clone(), partitions: 2 };
    let fill = |log: KafkaLog, numbers: std::ops::Range<u64>| async {
        let filled = tokio::task::spawn_blocking(move || {
            let answers = log.appender().append_and_wait(vec![Append::unattended(block(numbers, RECEIVED))]);
            assert!(answers[0].result.is_ok());
            let last = |partition| topics::mark(&mut log.reader(partition), Position(0)).expect("reads").expect("is there");
            ([log.end(0), log.end(1)], [last(0), last(1)])
        });
        filled.await.expect("no panic")
    };
    let (positions, marks) = fill(log.clone(), 0..20).await;
    let recorded = recorded(&before, None);
    admin().delete_topics(&[&name], &options()).await.expect("asked")[0].as_ref().expect("deleted");
    let empty = open_when_gone(&name).await;
    let refusal = topics::check(&recorded, &positions, &[], &empty).expect_err("it ends too early").to_string();
    assert!(refusal.contains("the rows stand at"), "{refusal}");

    let (_, now) = fill(log, 100..200).await;
    let full = open(&name).await.expect("found");
    topics::check(&recorded, &positions, &[], &full).expect("by its positions alone it cannot be told");
    let marks: Vec<_> = (0..).zip(marks).map(|(partition, mark)| (partition, mark, Some(now[partition as usize]))).collect();
    let refusal = topics::check(&recorded, &positions, &marks, &full).expect_err("other records").to_string();
    assert!(refusal.contains("another record at 0"), "{refusal}");
}

/// Opens a topic that is being deleted once that is through.
async fn open_when_gone(name: &str) -> Found {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match open(name).await {
            Ok(found) if found.watermarks.iter().all(|watermarks| watermarks.end == Position(0)) => return found,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
    }
}

#[tokio::test]
async fn more_replicas_than_brokers_and_a_wrong_address_are_refused_with_what_was_asked() {
    let refused = |settings, wanted| async move {
        let opened = tokio::task::spawn_blocking(move || topics::open(&settings, &wanted)).await.expect("no panic");
        opened.expect_err("refused").to_string()
    };
    let three = topics::Wanted { replication: 3, ..wanted(&topic("three"), 2) };
    let refusal = refused(settings(&broker().address()), three).await;
    assert!(refusal.contains("replication 3"), "{refusal}");
    let mut nowhere = settings("127.0.0.1:1");
    nowhere.timeout = Duration::from_millis(500);
    let refusal = refused(nowhere, wanted("t", 2)).await;
    assert!(refusal.contains("no answer from 127.0.0.1:1"), "{refusal}");
}
