//! Look-ups of single records in a Kafka: here and there, by readers that are used again for other partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use tollgate::clock::UnixMillis;
use tollgate::log::kafka::KafkaPartition;
use tollgate::log::{Append, Appender, Error, Partition, Position, read_some, record};

use crate::harness::Random;
use crate::harness::kafka::{broker, topic};
use crate::kafka_log::KafkaLog;
use crate::logs::{RECEIVED, block, places};

const PARTITIONS: u32 = 3;

/// What stands at a position: the receive time and the record.
fn look_up(partition: &Arc<KafkaPartition>, position: Position) -> Option<(UnixMillis, Vec<u8>)> {
    let mut reader = partition.clone().look_ups();
    let (chunk, _) = read_some(&mut *reader, position, 1 << 10).expect("reads");
    let block = chunk.blocks().next()?;
    assert_eq!(block.first, position);
    record::parts(block.payload).next().map(|record| (block.received, record.to_vec()))
}

#[test]
fn a_look_up_finds_what_stands_there_whoever_used_its_reader_before() {
    let log = KafkaLog::make(broker(), &topic("look-ups"), PARTITIONS);
    // Each with a time of its own, so that none can be taken for another one.
    let appends = (0..600).map(|number| Append::unattended(block([number], UnixMillis(RECEIVED.0 + number as i64)))).collect();
    let answers = log.appender().append_and_wait(appends);
    let mut there: BTreeMap<(u32, Position), Vec<u64>> = BTreeMap::new();
    for (number, place) in (0..).zip(answers.iter().flat_map(places)) {
        there.entry((place.partition, place.position.expect("Kafka says where"))).or_default().push(number);
    }
    assert_eq!(there.len(), 600);
    let partitions = log.partitions();
    let all: Vec<_> = there.keys().copied().collect();
    std::thread::scope(|scope| {
        let mut random = Random::seeded();
        for mut random in (0..3).map(|_| random.fork()) {
            let (all, partitions) = (&all, &partitions);
            scope.spawn(move || {
                for _ in 0..60 {
                    let (partition, position) = all[random.below(all.len())];
                    let (received, record) = look_up(&partitions[partition as usize], position).expect("a record");
                    let number = (received.0 - RECEIVED.0) as u64;
                    let expected = block([number], received);
                    assert_eq!(record, record::parts(expected.payload()).next().expect("one"), "{partition} {position}");
                    let place = tollgate::event::identity::partition(1, "", &format!("u-{number}"), PARTITIONS);
                    assert_eq!(place, partition);
                }
            });
        }
    });
    // Where there is nothing, it says so, and the reader is of use afterwards.
    let end = partitions[0].newest_end().expect("an end");
    let beyond = read_some(&mut *partitions[0].clone().look_ups(), Position(end.0 + 1), 1 << 10);
    assert!(matches!(beyond, Err(Error::OutOfRange { .. })), "{beyond:?}");
    assert!(look_up(&partitions[0], Position(0)).is_some());
}
