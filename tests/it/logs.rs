//! What every log promises, shown on each: the embedded one, and Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate::clock::UnixMillis;
use tollgate::event::identity::partition;
use tollgate::event::{Amount, Draft, HashKey, IdentityMode, Measurement, MeterEvent, TimeWindow};
use tollgate::log::disk::RealDisk;
use tollgate::log::embedded::{EmbeddedLog, LogIdentity, Settings};
use tollgate::log::{Answer, Append, Appender, Block, Error, LogReader, Partition, Place, Position, record};

use crate::harness::kafka::{broker, topic};
use crate::kafka_log::KafkaLog;

pub(crate) const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);

/// A log with everything that is asked of one.
struct Log<P> {
    appender: Box<dyn Appender>,
    partitions: Vec<Arc<P>>,
}

/// A block of events with these numbers, received at a time.
pub(crate) fn block(numbers: impl IntoIterator<Item = u64>, received: UnixMillis) -> Block {
    let mut block = Block::new(received, 0);
    for number in numbers {
        let id = format!("u-{number}");
        let draft = Draft {
            namespace: "",
            unique_id: &id,
            unique_id_generated: false,
            customer_id: "c",
            time: Some(RECEIVED.micros()),
            measurements: &mut [Measurement { meter: "m", value: Amount::from_int(number as i64) }],
            dimensions: &mut [("d", "v")],
        };
        let event = MeterEvent::check(draft, received, TimeWindow::default()).expect("a good event");
        let account = record::Account { number: 1, identity: IdentityMode::UniqueId };
        block.push(|to| _ = record::write(to, &HashKey::from_bytes([7; 16]), account, &event, record::Decisions::default()));
    }
    block.seal()
}

/// The places of an append that is durable.
pub(crate) fn places(answer: &Answer) -> Vec<Place> {
    answer.result.as_ref().expect("durable").iter().collect()
}

/// Records by place, with their receive times, as a reader gives them from `from` up to `end`; checks what holds for any reader.
pub(crate) fn read_back(
    reader: &mut dyn LogReader,
    from: Position,
    end: Position,
    bytes_max: usize,
) -> Result<BTreeMap<Position, (UnixMillis, Vec<u8>)>, Error> {
    let (mut next, mut found) = (from, BTreeMap::new());
    let mut log_time = None;
    while next < end {
        let chunk = reader.read(next, bytes_max)?;
        let Some(after) = chunk.end() else { continue };
        let before = *log_time.get_or_insert(chunk.log_time_before());
        assert_eq!(chunk.log_time_before(), before, "the log time goes on where it was");
        for block in chunk.blocks() {
            let records: Vec<_> = record::parts(block.payload).collect();
            assert_eq!(records.len(), block.count as usize);
            for (position, record) in (block.first.0..).zip(records) {
                if position >= next.0 {
                    found.insert(Position(position), (block.received, record.to_vec()));
                }
            }
            log_time = log_time.max(Some(block.received));
        }
        assert!(after > next, "a read goes on");
        next = after;
    }
    assert_eq!(next, end);
    Ok(found)
}

/// Appends groups of blocks and holds what is read, from several begins and in several sizes, against them.
fn what_is_appended_is_read_back<P: Partition>(mut log: Log<P>) {
    let (mut sent, mut number) = (BTreeMap::<Place, (UnixMillis, Vec<u8>)>::new(), 0);
    // Times that step back: the log keeps what it is given.
    for (time, sizes) in [(5, vec![1, 40]), (3, vec![7]), (9, vec![1, 1, 1, 200]), (9, vec![3])] {
        let received = UnixMillis(RECEIVED.0 + time);
        let blocks: Vec<Block> = sizes
            .iter()
            .map(|size| {
                number += size;
                block(number - size..number, received)
            })
            .collect();
        let contents: Vec<Vec<Vec<u8>>> = blocks.iter().map(|block| record::parts(block.payload()).map(<[u8]>::to_vec).collect()).collect();
        let (group, mut outcomes): (Vec<_>, Vec<_>) = blocks.into_iter().map(|block| Append::new(block, None)).unzip();
        let answers = log.appender.append_and_wait(group);
        assert_eq!(answers.len(), sizes.len(), "each is answered once");
        for answer in answers {
            answer.to.tell(answer.result);
        }
        for (outcome, records) in outcomes.iter_mut().zip(contents) {
            let positions = outcome.try_recv().expect("answered").expect("durable");
            let places: Vec<_> = positions.iter().collect();
            assert_eq!(places.len(), records.len());
            for (place, record) in places.into_iter().zip(records) {
                let before = sent.insert(place, (received, record));
                assert_eq!(before, None, "no two records have one place");
            }
        }
    }
    let mut seen = 0;
    for (number_here, partition) in (0..).zip(&log.partitions) {
        assert_eq!((partition.number(), partition.start()), (number_here, Position(0)));
        let end = partition.newest_end().expect("known");
        assert_eq!(partition.end(), end, "it is known from then on");
        let of_partition: BTreeMap<Position, _> = sent
            .iter()
            .filter(|(place, _)| place.partition == number_here)
            .map(|(place, record)| (place.position.expect("it was told"), record.clone()))
            .collect();
        let numbers = of_partition.values().map(|(_, bytes)| number_of(bytes)).collect::<Vec<_>>();
        assert!(numbers.is_sorted(), "in the order of the appends");
        seen += of_partition.len();
        let mut reader = Partition::reader(partition.clone());
        for from in [0, 1, end.0 / 2, end.0.saturating_sub(1)] {
            for bytes_max in [1, 1_000, 1 << 20] {
                let found = read_back(&mut *reader, Position(from), end, bytes_max).expect("reads");
                let expected: BTreeMap<_, _> = of_partition.range(Position(from)..).map(|(at, record)| (*at, record.clone())).collect();
                assert_eq!(found, expected, "partition {number_here}, from {from}");
                assert!(reader.read(end, bytes_max).expect("reads").is_empty(), "nothing is behind the end");
            }
        }
        let beyond = Partition::reader(partition.clone()).read(Position(end.0 + 1), 1);
        assert!(matches!(beyond, Err(Error::OutOfRange { end: at, .. }) if at == end), "{beyond:?}");
    }
    assert_eq!(seen, number as usize);
    log.appender.close().expect("closes");
}

fn number_of(bytes: &[u8]) -> u64 {
    let record = record::records(bytes, 1, RECEIVED).next().expect("one").expect("decodes");
    record.unique_id.strip_prefix("u-").and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn what_is_appended_to_the_embedded_log_is_read_back_from_anywhere() {
    let dir = tempfile::tempdir().expect("a directory");
    let identity = LogIdentity { log_id: [3; 16], name: "events" };
    let settings = Settings { segment_bytes: 4_000, retention_age_ms: None, retention_bytes: None, disk_reserve_bytes: 0 };
    let (log, appender, _) = EmbeddedLog::open(Arc::new(RealDisk), dir.path(), identity, settings).expect("opens");
    what_is_appended_is_read_back(Log { appender: Box::new(appender), partitions: vec![log] });
}

#[test]
fn what_is_appended_to_kafka_is_read_back_from_anywhere() {
    for partitions in [1, 3] {
        let log = KafkaLog::make(broker(), &topic("read-back"), partitions);
        let appender = Box::new(log.appender());
        what_is_appended_is_read_back(Log { appender, partitions: log.partitions() });
    }
}

#[test]
fn an_event_goes_to_the_partition_that_follows_from_what_it_is_called() {
    let log = KafkaLog::make(broker(), &topic("partitions"), 5);
    let answers = log.appender().append_and_wait(vec![Append::unattended(block(0..100, RECEIVED))]);
    let found: Vec<_> = places(&answers[0]).iter().map(|place| place.partition).collect();
    let expected: Vec<_> = (0..100).map(|number| partition(1, "", &format!("u-{number}"), 5)).collect();
    assert_eq!(found, expected);
    assert!((0..5).all(|partition| found.contains(&partition)));
}
