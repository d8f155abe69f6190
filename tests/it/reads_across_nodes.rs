//! Promise 9 on many nodes: a usage query sees every event that was acked before it was asked, whoever folds it.
//!
//! A real Kafka and a real PostgreSQL; the nodes are parts of them, in this process: an appender, owners, and one that is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tollgate::clock::Clock;
use tollgate::cluster::source::{ClusterSource, Parts, Wishes};
use tollgate::event::{Amount, HashKey, Sum};
use tollgate::log::disk::RealDisk;
use tollgate::log::kafka::{Ends, KafkaAppender, Settings as KafkaSettings};
use tollgate::log::meta::{FoldSettings, LogMeta};
use tollgate::log::{Append, Appender};
use tollgate::materializer::{self, Materializer, Running};
use tollgate::store::postgres::{PostgresStore, Settings, Timeouts};
use tollgate::store::{Grain, RowSelection};
use tollgate::usage::{UsageSource, View, ViewError};

use crate::harness::DEADLINE;
use crate::harness::kafka::{broker, topic};
use crate::kafka_log::{KafkaLog, settings};
use crate::logs::{RECEIVED, block};
use crate::postgres::Cluster;

/// Owners commit by themselves once a day: whatever is seen here was wished for.
const COMMIT_INTERVAL: Duration = Duration::from_secs(86_400);
const PARTITIONS: u32 = 4;

/// A log and a database of a test's own.
struct World {
    log: KafkaLog,
    url: String,
    appender: KafkaAppender,
    acked: u64,
}

fn store(url: &str) -> Arc<PostgresStore> {
    let timeouts = Timeouts { connect: DEADLINE, statement: DEADLINE, lock: DEADLINE, lease: DEADLINE, idle: DEADLINE };
    Arc::new(PostgresStore::open(&Settings { timeouts, ..Settings::new(url) }).expect("opens"))
}

impl World {
    fn new(what: &str) -> Self {
        let log = KafkaLog::make(broker(), &topic(what), PARTITIONS);
        let (url, appender) = (Cluster::shared().database(), log.appender());
        Self { log, url, appender, acked: 0 }
    }

    /// Appends events, and comes back when all are acked.
    fn ack(&mut self, events: u64) {
        let group = vec![Append::unattended(block(self.acked..self.acked + events, RECEIVED))];
        let answers = tokio::task::block_in_place(|| self.appender.append_and_wait(group));
        answers.iter().for_each(|answer| assert!(answer.result.is_ok(), "{:?}", answer.result));
        self.acked += events;
    }

    /// What all events that were acked come to: how many, and their sum.
    fn expected(&self) -> (u64, Sum) {
        let mut sum = Sum::default();
        (0..self.acked).for_each(|number| sum.add_amount(Amount::from_int(number as i64)));
        (self.acked, sum)
    }

    /// A node that can be asked.
    fn asked(&self) -> ClusterSource {
        self.asked_of(&self.log.settings, 4)
    }

    fn asked_of(&self, settings: &KafkaSettings, queries_max: usize) -> ClusterSource {
        let ends = Arc::new(Ends::new(settings, &self.log.topic, PARTITIONS).expect("a client"));
        ClusterSource::start(Parts { store: store(&self.url), ends, queries_max }).expect("starts")
    }

    /// A node that owns these partitions.
    fn owner(&self, partitions: impl IntoIterator<Item = u32>) -> Owner {
        let store = store(&self.url);
        let dir = tempfile::tempdir().expect("a directory");
        let all = self.log.partitions();
        let fold = FoldSettings { dedup_horizon_ms: None, dimension_sets_max: 100, partitions: PARTITIONS };
        let meta = LogMeta { log_id: [3; 16], hash_key: HashKey::from_bytes([7; 16]), fold };
        let start = |number: u32| {
            let log = all[number as usize].clone();
            let (disk, index_dir) = (Arc::new(RealDisk), dir.path().join(number.to_string()));
            let (store, clock, commit_interval) = (store.clone(), Clock::start(), COMMIT_INTERVAL);
            let parts = materializer::Parts { log, meta, store, disk, index_dir, clock, commit_interval, bases: None, undecodable: None };
            (number, Materializer::start(parts).expect("starts"))
        };
        let started: Vec<_> = partitions.into_iter().map(start).collect();
        let handles: Vec<_> = started.iter().map(|(number, (materializer, _))| (*number, materializer.clone())).collect();
        let wishes = Wishes::hear(&store, move |partition, position| {
            let owned = handles.iter().find(|(number, _)| *number == partition);
            owned.into_iter().for_each(|(_, materializer)| materializer.commit_from(position));
        });
        Owner { running: started.into_iter().map(|(_, (_, running))| running).collect(), _wishes: wishes, _dir: dir }
    }

    /// Ends the connections on which nodes listen.
    fn deafen(&self) {
        let listening = "datname = current_database() AND query LIKE 'LISTEN %'";
        let sql = format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {listening}");
        Cluster::shared().psql(&self.url, &sql);
    }
}

struct Owner {
    running: Vec<Running>,
    _wishes: Wishes,
    _dir: tempfile::TempDir,
}

impl Owner {
    fn stop(self) {
        self.running.into_iter().for_each(|running| running.stop().expect("stops"));
    }
}

/// Events of the day rows, and their sum.
async fn counted(view: View) -> (u64, Sum) {
    let counting = tokio::task::spawn_blocking(move || {
        let (mut count, mut sum) = (0, Sum::default());
        let selection = RowSelection { account: 1, meter: "m".into(), grain: Grain::Day, from: 0, to: u32::MAX, customers: None };
        let mut visit = |_: tollgate::store::RowKey<'_>, row: &tollgate::store::Row| {
            count += row.count;
            sum.add(row.sum);
            Ok(())
        };
        view.rows.scan(&selection, &mut visit).expect("scans");
        (count, sum)
    });
    counting.await.expect("no panic")
}

async fn complete(source: &ClusterSource) -> View {
    let view = source.view(Vec::new(), DEADLINE).await.expect("a view");
    assert!(view.complete, "everything that was acked is seen in time: {:?}", view.positions);
    view
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_is_seen_by_the_next_query_on_another_node_however_rarely_owners_commit() {
    let mut world = World::new("next-query");
    let asked = world.asked();
    let owner = world.owner(0..PARTITIONS);
    assert_eq!(counted(complete(&asked).await).await, world.expected(), "nothing at all");
    for round in 0..12 {
        world.ack(1 + round * 17);
        let view = complete(&asked).await;
        assert_eq!(view.positions.iter().map(|(_, next)| next).sum::<u64>(), world.acked);
        assert_eq!(counted(view).await, world.expected());
    }
    owner.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn any_number_of_queries_at_once_on_several_nodes_see_what_was_acked() {
    let mut world = World::new("many");
    let nodes = [world.asked(), world.asked()];
    let owners = [world.owner(0..2), world.owner(2..PARTITIONS)];
    for _ in 0..3 {
        world.ack(50);
        let queries = (0..60).flat_map(|_| &nodes).map(|node| async { counted(complete(node).await).await });
        for found in join_all(queries).await {
            assert_eq!(found, world.expected());
        }
    }
    owners.into_iter().for_each(Owner::stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_while_an_owner_does_not_come_along_is_incomplete_and_says_so() {
    let mut world = World::new("slow");
    let asked = world.asked();
    let fast = world.owner(1..PARTITIONS);
    world.ack(100);
    let view = asked.view(Vec::new(), Duration::from_millis(500)).await.expect("what there is");
    assert!(!view.complete, "{:?}", view.positions);
    assert_eq!(view.positions[0], (0, 0));
    let (count, _) = counted(view).await;
    assert!(count < world.acked);
    // The wish is waiting for whoever comes.
    let slow = world.owner([0]);
    assert_eq!(counted(complete(&asked).await).await, world.expected());
    [fast, slow].into_iter().for_each(Owner::stop);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_hear_nothing_for_a_while_show_everything_all_the_same() {
    let mut world = World::new("deaf");
    let asked = world.asked();
    let owner = world.owner(0..PARTITIONS);
    for _ in 0..4 {
        world.ack(30);
        world.deafen();
        assert_eq!(counted(complete(&asked).await).await, world.expected());
    }
    owner.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_at_the_end_that_are_nobodys_keep_no_query_waiting() {
    let mut world = World::new("nobodys");
    let asked = world.asked();
    let owner = world.owner(0..PARTITIONS);
    world.ack(5);
    complete(&asked).await;
    // The end of a transaction takes a position, and is no record.
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.log.settings.brokers)
        .set("transactional.id", &world.log.topic)
        .create()
        .expect("a producer");
    producer.init_transactions(DEADLINE).expect("ready");
    producer.begin_transaction().expect("begun");
    let record = BaseRecord { partition: Some(0), ..BaseRecord::to(&world.log.topic).payload("{}").key("k").timestamp(RECEIVED.0) };
    producer.send(record).map_err(|(error, _)| error).expect("queued");
    producer.flush(DEADLINE).expect("written");
    let held_back = asked.view(Vec::new(), Duration::from_millis(500)).await.expect("what there is");
    assert!(!held_back.complete, "what nobody can read yet was acked");
    let before = world.log.end(0).0;
    producer.commit_transaction(DEADLINE).expect("committed");
    let began = Instant::now();
    while world.log.end(0).0 < before + 2 {
        assert!(began.elapsed() < DEADLINE, "record and mark are there");
    }
    assert_eq!(counted(complete(&asked).await).await, world.expected());
    owner.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_wait_there_is_what_is_committed_and_it_is_not_called_complete() {
    let mut world = World::new("no-wait");
    let nowhere = world.asked_of(&settings("127.0.0.1:1"), 4);
    let view = nowhere.view(Vec::new(), Duration::ZERO).await.expect("what there is");
    assert!(!view.complete);
    assert_eq!(view.positions, (0..PARTITIONS).map(|partition| (partition, 0)).collect::<Vec<_>>());
    let (asked, owner) = (world.asked(), world.owner(0..PARTITIONS));
    world.ack(10);
    complete(&asked).await;
    let view = nowhere.view(Vec::new(), Duration::ZERO).await.expect("what there is");
    assert_eq!(view.positions.iter().map(|(_, next)| next).sum::<u64>(), world.acked);
    assert_eq!(counted(view).await, world.expected());
    owner.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_does_not_answer_makes_queries_incomplete_and_one_that_says_no_refuses_them() {
    let world = World::new("no-kafka");
    let silent = world.asked_of(&settings("127.0.0.1:1"), 4);
    let view = silent.view(Vec::new(), Duration::from_millis(200)).await.expect("what there is");
    assert!(!view.complete);
    let impatient = KafkaSettings { timeout: Duration::from_millis(200), ..settings("127.0.0.1:1") };
    let Err(ViewError::Unavailable(message)) = world.asked_of(&impatient, 4).view(Vec::new(), DEADLINE).await else {
        panic!("nobody knows where the log ends")
    };
    assert!(message.contains("the log does not say where it ends"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_down_refuses_queries_and_they_go_on_when_it_is_back() {
    let cluster = Cluster::start(&["fsync=off"]);
    let mut world = World { url: cluster.database(), ..World::new("no-database") };
    let short = Duration::from_secs(2);
    let timeouts = Timeouts { connect: short, statement: short, lock: short, lease: short, idle: short };
    let store = Arc::new(PostgresStore::open(&Settings { timeouts, ..Settings::new(&world.url) }).expect("opens"));
    let ends = Arc::new(Ends::new(&world.log.settings, &world.log.topic, PARTITIONS).expect("a client"));
    let asked = ClusterSource::start(Parts { store, ends, queries_max: 4 }).expect("starts");
    world.ack(5);
    cluster.crash();
    for wait in [Duration::ZERO, DEADLINE] {
        let Err(ViewError::Unavailable(message)) = asked.view(Vec::new(), wait).await else { panic!("there are no rows") };
        assert!(message.contains("the rows cannot be read now"), "{message}");
    }
    cluster.start_again();
    let owner = world.owner(0..PARTITIONS);
    let began = Instant::now();
    loop {
        match asked.view(Vec::new(), DEADLINE).await {
            Ok(view) if view.complete => break assert_eq!(counted(view).await, world.expected()),
            _ => assert!(began.elapsed() < DEADLINE, "it goes on"),
        }
    }
    owner.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_queries_read_at_a_time_than_may() {
    let world = World::new("turns");
    let asked = world.asked_of(&world.log.settings, 1);
    let first = asked.view(Vec::new(), Duration::ZERO).await.expect("a view");
    let second = asked.view(Vec::new(), Duration::ZERO);
    tokio::pin!(second);
    let both = tokio::time::timeout(Duration::from_millis(300), &mut second).await;
    assert!(both.is_err(), "it is not its turn");
    drop(first);
    assert!(second.await.is_ok());
}
