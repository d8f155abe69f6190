//! CPU of the way into Kafka and out again: appending through [`KafkaAppender`] beside librdkafka's own producer in the same run, and what a
//! message costs to make and to read.
//!
//! `KAFKA=host:port cargo bench --bench kafka` (the broker's own CPU is not counted); without an address, messages are made and read, none is sent.
//! User and system time of this process. A machine with other work to do gives upper bounds.

mod workload;

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tollgate::clock::UnixMillis;
use tollgate::log::kafka::wire::{Form, Incoming, Outgoing, decode, encode};
use tollgate::log::kafka::{KafkaAppender, KafkaReader, Settings, topics};
use tollgate::log::{Append, Appender, Block, LogReader, Position, record};
use workload::{RECEIVED, Workload};

const PARTITIONS: u32 = 16;
/// Requests that are under way at a time.
const IN_FLIGHT: usize = 64;

fn main() {
    // `cargo test` asks benches for nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let events = std::env::var("EVENTS").ok().and_then(|events| events.parse().ok()).unwrap_or(1_000_000);
    messages(events.min(1_000_000));
    if let Ok(brokers) = std::env::var("KAFKA") {
        for linger_ms in [0, 2, 5, 20] {
            sent(&brokers, events, linger_ms);
        }
    }
}

/// User and system time of this process.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<_> = text.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().expect("ticks")).sum();
    Duration::from_millis(ticks * 10)
}

/// Prints what something cost an event.
fn measured<T>(what: &str, events: u64, work: impl FnOnce() -> T) -> T {
    let (began, cpu_before) = (Instant::now(), cpu());
    let result = work();
    let (wall, used) = (began.elapsed(), cpu() - cpu_before);
    let nanos = |time: Duration| time.as_nanos() as u64 / events;
    println!("{what:50} {:6} ns CPU, {:6} ns wall an event", nanos(used), nanos(wall));
    result
}

fn blocks(events: u64, of: u64) -> Vec<Block> {
    let mut workload = Workload::new(1_000);
    (0..events / of).map(|_| workload.block(of).seal()).collect()
}

fn messages(events: u64) {
    let blocks = blocks(events, 1_000);
    let mut message = Outgoing::default();
    let records = || blocks.iter().flat_map(|block| record::parts(block.payload()));
    let bytes = measured("make a message", events, || {
        records()
            .map(|record| {
                encode(Form::Events, record, RECEIVED, PARTITIONS, &mut message).expect("a record");
                message.value.len()
            })
            .sum::<usize>()
    });
    println!("{:50} {:6} bytes of value", "", bytes as u64 / events);
    let mut to = Vec::new();
    measured("make and read a message", events, || {
        for record in records() {
            encode(Form::Events, record, RECEIVED, PARTITIONS, &mut message).expect("a record");
            let incoming =
                Incoming { key: Some(&message.key), value: Some(&message.value), header: Some(&message.header), received: RECEIVED };
            to.clear();
            decode(Form::Events, &incoming, &mut to).expect("known");
            assert_eq!(to, record);
        }
    });
}

fn sent(brokers: &str, events: u64, linger_ms: u32) {
    let settings = Settings { brokers: brokers.into(), linger_ms, ..Settings::default() };
    let name = format!("bench-{}-{linger_ms}", std::process::id());
    let wanted =
        topics::Wanted { name: name.clone(), partitions: PARTITIONS, replication: 1, retention_ms: Some(600_000), form: Form::Events };
    topics::open(&settings, &wanted).expect("a topic");
    for of in [1, 1_000] {
        let count = if of == 1 { events / 10 } else { events };
        let now = UnixMillis(clock_now());
        let blocks: Vec<Block> = blocks(count, of).into_iter().map(|block| stamped(&block, now)).collect();
        println!("linger {linger_ms} ms, requests of {of}");
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("linger.ms", linger_ms.to_string())
            .set("batch.size", settings.batch_bytes.to_string())
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "10000000")
            .create()
            .expect("a producer");
        measured("  librdkafka alone, no header, no key", count, || raw(&producer, &name, &blocks));
        let mut appender = KafkaAppender::start(&settings, &name, Form::Events, PARTITIONS).expect("starts");
        measured("  appender", count, || {
            for group in blocks.chunks(IN_FLIGHT) {
                let answers = appender.append_and_wait(group.iter().cloned().map(Append::unattended).collect());
                assert!(answers.iter().all(|answer| answer.result.is_ok()));
            }
        });
        appender.close().expect("closes");
    }
    read(&settings, &name);
}

/// The values that the appender sends, nothing else.
fn raw(producer: &BaseProducer, topic: &str, blocks: &[Block]) {
    let mut message = Outgoing::default();
    for group in blocks.chunks(IN_FLIGHT) {
        for record in group.iter().flat_map(|block| record::parts(block.payload())) {
            encode(Form::Events, record, RECEIVED, PARTITIONS, &mut message).expect("a record");
            let record: BaseRecord<'_, (), [u8]> =
                BaseRecord::to(topic).payload(message.value.as_slice()).partition(message.partition as i32);
            producer.send(record).map_err(|(error, _)| error).expect("queued");
        }
        while producer.in_flight_count() > 0 {
            producer.poll(Duration::ZERO);
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn read(settings: &Settings, topic: &str) {
    let mut readers: Vec<_> = (0..PARTITIONS)
        .map(|partition| {
            let mut reader = KafkaReader::open(settings, topic, Form::Events, partition).expect("opens");
            let end = reader.watermarks().expect("known").end;
            (reader, end)
        })
        .collect();
    let events = readers.iter().map(|(_, end)| end.0).sum();
    measured("  read", events, || {
        for (reader, end) in &mut readers {
            let mut next = Position(0);
            while next < *end {
                match reader.read(next, 512 << 10).expect("reads").end() {
                    Some(end) => next = end,
                    None => reader.grown().recv_timeout(Duration::from_secs(60)).expect("more comes"),
                }
            }
        }
    });
}

/// The same records, received now: a topic refuses what is far from its clock.
fn stamped(block: &Block, now: UnixMillis) -> Block {
    let mut stamped = Block::new(now, block.payload().len());
    record::parts(block.payload()).for_each(|record| stamped.push(|to| to.extend_from_slice(record)));
    stamped.seal()
}

fn clock_now() -> i64 {
    tollgate::clock::Clock::start().now().0
}
