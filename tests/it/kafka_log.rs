//! The log on a real Kafka: what stands in the topic, and what a reader makes of what others wrote there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, Timestamp};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use tollgate::clock::UnixMillis;
use tollgate::gateway::letters::{Became, Mark, marks};
use tollgate::log::kafka::wire::{Form, VERSION};
use tollgate::log::kafka::{KafkaAppender, KafkaPartition, KafkaReader, Settings, partitions, topics};
use tollgate::log::{Append, Appender, Error, LogReader, Partition, Position, record};

use tollgate::log::record::Why;

use crate::harness::DEADLINE;
use crate::harness::kafka::{Broker, broker, topic};
use crate::logs::{RECEIVED, block, places, read_back};

/// A topic of events.
#[derive(Clone)]
pub(crate) struct KafkaLog {
    pub(crate) settings: Settings,
    pub(crate) topic: String,
    pub(crate) partitions: u32,
}

impl KafkaLog {
    /// Makes the topic.
    pub(crate) fn make(broker: &Broker, topic: &str, partitions: u32) -> Self {
        let settings = settings(&broker.address());
        let found = topics::open(&settings, &wanted(topic, partitions)).expect("made");
        topics::check_settings(&found).expect("holds the promises");
        assert_eq!(found.watermarks.len(), partitions as usize);
        Self { settings, topic: topic.to_owned(), partitions }
    }

    pub(crate) fn appender(&self) -> KafkaAppender {
        KafkaAppender::start(&self.settings, &self.topic, Form::Events, self.partitions).expect("starts")
    }

    pub(crate) fn reader(&self, partition: u32) -> KafkaReader {
        KafkaReader::open(&self.settings, &self.topic, Form::Events, partition).expect("opens")
    }

    pub(crate) fn partitions(&self) -> Vec<Arc<KafkaPartition>> {
        let found = topics::open(&self.settings, &wanted(&self.topic, self.partitions)).expect("found");
        partitions(&self.settings, &found, Form::Events).expect("opens")
    }

    pub(crate) fn end(&self, partition: u32) -> Position {
        self.reader(partition).watermarks().expect("known").end
    }
}

/// For a node that may be slow to answer; an append that is not through within 10 s is not waited for.
pub(crate) fn settings(brokers: &str) -> Settings {
    Settings { brokers: brokers.to_owned(), timeout: DEADLINE, patience: DEADLINE, ..Settings::default() }
}

pub(crate) fn wanted(topic: &str, partitions: u32) -> topics::Wanted {
    topics::Wanted { name: topic.to_owned(), partitions, replication: 1, retention_ms: None, form: Form::Events }
}

fn producer(log: &KafkaLog, properties: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &log.settings.brokers);
    for (name, value) in properties {
        config.set(*name, *value);
    }
    config.create().expect("a producer")
}

/// Writes as somebody else might.
fn write(log: &KafkaLog, value: &str, headers: Option<OwnedHeaders>) {
    let producer = producer(log, &[]);
    send(&producer, log, value, headers);
    producer.flush(DEADLINE).expect("written");
}

fn send(producer: &BaseProducer, log: &KafkaLog, value: &str, headers: Option<OwnedHeaders>) {
    let record = BaseRecord { headers, partition: Some(0), ..BaseRecord::to(&log.topic).payload(value).key("k").timestamp(RECEIVED.0) };
    producer.send(record).map_err(|(error, _)| error).expect("queued");
}

fn append(log: &KafkaLog, numbers: std::ops::Range<u64>) {
    let answers = log.appender().append_and_wait(vec![Append::unattended(block(numbers, RECEIVED))]);
    answers.iter().for_each(|answer| drop(places(answer)));
}

#[test]
fn a_plain_consumer_reads_plain_json() {
    let log = KafkaLog::make(broker(), &topic("plain"), 1);
    append(&log, 7..9);
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &log.settings.brokers).set("group.id", "somebody").create().expect("a consumer");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&log.topic, 0, Offset::Beginning).expect("added");
    consumer.assign(&list).expect("assigned");
    for number in 7..9 {
        let message = consumer.poll(DEADLINE).expect("a message").expect("read");
        let json: serde_json::Value = serde_json::from_slice(message.payload().expect("a value")).expect("JSON");
        let expected = serde_json::json!({
            "uniqueId": format!("u-{number}"), "customerId": "c", "meterTimeInMillis": RECEIVED.0,
            "meterApiName": "m", "meterValue": number, "dimensions": {"d": "v"},
        });
        assert_eq!(json, expected);
        assert_eq!(message.key(), Some(format!("1/u-{number}").as_bytes()));
        assert_eq!(message.timestamp(), Timestamp::CreateTime(RECEIVED.0), "the time is that of receipt");
        let headers = message.headers().expect("headers");
        let header = headers.get(0);
        assert_eq!((headers.count(), header.key), (1, "tollgate-record"));
        assert!(header.value.expect("a value").starts_with(b"1 "));
    }
}

#[test]
fn what_others_wrote_stops_nothing_and_does_not_vanish() {
    let log = KafkaLog::make(broker(), &topic("foreign"), 1);
    append(&log, 0..2);
    write(&log, "no header", None);
    let unreadable = OwnedHeaders::new().insert(Header { key: "tollgate-record", value: Some("1 nonsense") });
    write(&log, "{}", Some(unreadable));
    append(&log, 2..4);
    let end = log.end(0);
    let found = read_back(&mut log.reader(0), Position(0), end, 1 << 20).expect("reads");
    assert_eq!(found.len(), 6);
    let records = || found.values().flat_map(|(received, bytes)| record::records(bytes, 1, *received));
    let undecodable: Vec<_> = records().filter_map(Result::err).map(|found| (found.why, found.bytes)).collect();
    assert_eq!(undecodable, [(Why::NoHeader, b"no header".as_slice()), (Why::Header, b"{}")]);
    assert_eq!(records().filter(Result::is_ok).count(), 4);
}

#[test]
fn a_record_of_a_newer_version_stops_its_partition_there() {
    let log = KafkaLog::make(broker(), &topic("newer"), 1);
    append(&log, 0..3);
    let header = format!("{} whatever comes", VERSION + 1);
    let newer = OwnedHeaders::new().insert(Header { key: "tollgate-record", value: Some(&header) });
    write(&log, "{}", Some(newer));
    append(&log, 3..5);
    let mut reader = log.reader(0);
    let found = read_back(&mut reader, Position(0), Position(3), 1 << 20).expect("what stands before it");
    assert_eq!(found.len(), 3);
    for _ in 0..2 {
        let stopped = reader.read(Position(3), 1 << 20);
        assert!(matches!(stopped, Err(Error::Newer { version, known: VERSION, offset: 3, .. }) if version == VERSION + 1), "{stopped:?}");
    }
    assert_eq!(read_back(&mut reader, Position(4), Position(6), 1 << 20).expect("what stands behind it").len(), 2);
}

#[test]
fn dead_letters_and_marks_come_back_from_a_topic_of_their_own() {
    let settings = settings(&broker().address());
    let wanted = topics::Wanted { form: Form::DeadLetters, ..wanted(&topic("letters"), 1) };
    topics::open(&settings, &wanted).expect("made");
    let mark = |letter| Mark { account: 1, letter, code: "x".into(), bytes: 7, became: Became::Deleted };
    let block = marks(vec![mark(1), mark(2)], RECEIVED);
    let expected: Vec<_> = record::parts(block.payload()).map(<[u8]>::to_vec).collect();
    let mut appender = KafkaAppender::start(&settings, &wanted.name, Form::DeadLetters, 1).expect("starts");
    let answers = appender.append_and_wait(vec![Append::unattended(block.seal())]);
    assert_eq!(places(&answers[0]).len(), 2);
    let mut reader = KafkaReader::open(&settings, &wanted.name, Form::DeadLetters, 0).expect("opens");
    let found = read_back(&mut reader, Position(0), Position(2), 1 << 20).expect("reads");
    assert_eq!(found.into_values().map(|(_, record)| record).collect::<Vec<_>>(), expected);
}

#[test]
fn positions_that_are_nobodys_are_passed() {
    let log = KafkaLog::make(broker(), &topic("gaps"), 1);
    append(&log, 0..2);
    // The end of a transaction takes a position, and is no record.
    let producer = producer(&log, &[("transactional.id", &topic("transaction"))]);
    producer.init_transactions(DEADLINE).expect("ready");
    for value in ["one", "two"] {
        producer.begin_transaction().expect("begun");
        send(&producer, &log, value, None);
        producer.commit_transaction(DEADLINE).expect("committed");
    }
    let mut reader = log.reader(0);
    let end = reader.watermarks().expect("known").end;
    assert_eq!(end, Position(6));
    let found = read_back(&mut reader, Position(0), end, 1 << 20).expect("reads");
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [0, 1, 2, 4].map(Position));
    append(&log, 2..3);
    let found = read_back(&mut reader, end, Position(7), 1 << 20).expect("reads on");
    assert_eq!(found.into_keys().collect::<Vec<_>>(), [Position(6)]);
}

#[test]
fn what_an_open_transaction_of_somebody_else_keeps_back_is_waited_for_and_never_passed() {
    for is_committed in [true, false] {
        let log = KafkaLog::make(broker(), &topic("open-transaction"), 1);
        append(&log, 0..2);
        let producer = producer(&log, &[("transactional.id", &log.topic)]);
        producer.init_transactions(DEADLINE).expect("ready");
        producer.begin_transaction().expect("begun");
        send(&producer, &log, "somebody else's", None);
        producer.flush(DEADLINE).expect("written");
        append(&log, 2..4);
        let partition = log.partitions().remove(0);
        let mut reader = partition.clone().reader();
        read_back(&mut *reader, Position(0), Position(2), 1 << 20).expect("what stands before it");
        // Far longer than a reader takes to find that something is a gap.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            assert_eq!(partition.newest_end().expect("known"), Position(2), "nobody can say what comes of what is behind it");
            let chunk = reader.read(Position(2), 1 << 20).expect("reads");
            assert_eq!((chunk.is_empty(), chunk.end()), (true, None), "it waits there");
        }
        if is_committed { producer.commit_transaction(DEADLINE) } else { producer.abort_transaction(DEADLINE) }.expect("ended");
        let found = read_back(&mut *reader, Position(2), Position(5), 1 << 20).expect("reads on");
        let expected: &[u64] = if is_committed { &[2, 3, 4] } else { &[3, 4] };
        assert_eq!(found.into_keys().map(|position| position.0).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn a_reader_that_follows_hears_of_what_comes_and_keeps_the_log_time_that_it_was_told() {
    let log = KafkaLog::make(broker(), &topic("follow"), 1);
    append(&log, 0..1);
    let mut reader = log.reader(0);
    let grown = reader.grown();
    let told = UnixMillis(RECEIVED.0 + 77);
    reader.begin(Position(0), told).expect("begins");
    let mut next = Position(0);
    for round in 1..4 {
        while next < Position(round) {
            let chunk = reader.read(next, 1 << 20).expect("reads");
            assert!(chunk.is_empty() || chunk.log_time_before() == told);
            match chunk.end() {
                Some(end) => next = end,
                None => grown.recv_timeout(DEADLINE).expect("it is told"),
            }
        }
        assert!(reader.read(next, 1 << 20).expect("reads").is_empty());
        append(&log, round..round + 1);
    }
}

#[test]
fn an_appender_without_a_kafka_refuses_in_time_and_says_that_nothing_was_written() {
    let settings = Settings { patience: Duration::from_millis(300), ..settings("127.0.0.1:1") };
    let mut appender = KafkaAppender::start(&settings, "t", Form::Events, 1).expect("starts");
    let group = (0..20).map(|number| Append::unattended(block(number..number + 1, RECEIVED))).collect();
    let answers = appender.append_and_wait(group);
    let refused = answers.iter().filter(|answer| answer.result.as_ref().is_err_and(Error::is_refusal)).count();
    assert_eq!(answers.len(), 20);
    // Until Kafka has confirmed anything, one at a time is handed over to see whether it is there.
    assert!(refused > 0, "{:?}", answers.iter().map(|answer| &answer.result).collect::<Vec<_>>());
    assert!(answers.iter().all(|answer| answer.result.is_err()));
}
