//! The stages: what is prepared, what is measured. Each does what it measures once before, so that nothing is found that is done only once.

use std::hint::black_box;
use std::path::Path;

use tollgate::clock::UnixMillis;
use tollgate::event::Fingerprint;
use tollgate::event::parse::Parser;
use tollgate::log::disk::RealDisk;
use tollgate::log::kafka::wire::{self, Form, Incoming, Outgoing};
use tollgate::log::record;
use tollgate::log::{Append, Appender as _, Block, LogReader as _, Position};
use tollgate::materializer::first_positions::{Asked, Standing};
use tollgate::store::Store as _;
use tollgate::telemetry;

use crate::request::Connection;
use crate::workload::{DIMENSION_SETS, Workload, encode, scramble};
use crate::{dialects, fold, keys, log, query, recent};

/// The function in which instructions are counted, as callgrind knows it.
pub(crate) const MEASURED: &str = "*tollgate_guard*stages*measured*";

/// Events of a request, of a block, of a batch of ids.
const EVENTS: u64 = 1_000;
/// Blocks, bodies or batches that are measured.
const ROUNDS: u64 = 4;
/// Requests that are measured at most: each waits for the disk.
const REQUESTS_MAX: u64 = 500;
const CUSTOMERS: u64 = 500;
/// Identities in each of the runs on disk. Three are not merged yet.
const RUN_IDENTITIES: u64 = 20_000;
const RUNS: u64 = 3;
/// Of a topic.
const PARTITIONS: u32 = 16;
/// When Kafka got what is measured: 2026-01-01T00:00:00Z.
const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);

/// Something that is done for every event, or for many.
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    /// What is measured, and what counts as an event.
    pub(crate) what: &'static str,
    measure: fn(&Path, &mut Counter),
}

impl Stage {
    const fn new(name: &'static str, what: &'static str, measure: fn(&Path, &mut Counter)) -> Self {
        Self { name, what, measure }
    }

    /// Runs it, with its files in `dir`. Returns how many events were measured.
    pub(crate) fn run(&self, dir: &Path) -> u64 {
        // As in the binary; without it, metrics cost nothing.
        let _metrics = telemetry::install_metrics().expect("the first");
        let mut counter = Counter::default();
        (self.measure)(dir, &mut counter);
        counter.events
    }
}

pub(crate) static STAGES: [Stage; 22] = [
    Stage::new("request-1", "request of one event to its answer, over HTTP/1.1", |dir, counter| request(dir, counter, 1)),
    Stage::new("request-1000", "request of 1,000 events to its answer", |dir, counter| request(dir, counter, EVENTS)),
    Stage::new("parse-1", "body of one event to a record, Amberflo", |_, counter| parse(counter, 1)),
    Stage::new("parse-1000", "body of 1,000 events to records, Amberflo", |_, counter| parse(counter, EVENTS)),
    Stage::new("octane-1000", "the same, Octane", |_, counter| take_apart(counter, &dialects::measurements(), dialects::octane_records)),
    Stage::new("stigg-1000", "the same, Stigg", |_, counter| take_apart(counter, &dialects::stigg_events(), dialects::stigg_records)),
    Stage::new("cloudevents-1000", "the same, CloudEvents", |_, counter| cloud_events(counter, false)),
    Stage::new("cloudevents-meter-1000", "the same with a meter of OpenMeter", |_, counter| cloud_events(counter, true)),
    Stage::new("recent-new", "recent ids: looking up and remembering new ones", |_, counter| recent_new(counter)),
    Stage::new("recent-known", "recent ids: looking up known ones", |_, counter| recent_known(counter)),
    Stage::new("log-append", "blocks into the log", log_append),
    Stage::new("log-read", "blocks out of the log", log_read),
    Stage::new("kafka-message", "a record to a message of Kafka", |_, counter| kafka_messages(counter)),
    Stage::new("kafka-record", "and back", |_, counter| kafka_records(counter)),
    Stage::new("index-new", "dedup index: new ids, nothing on disk", |dir, counter| index_new(dir, counter, 0)),
    Stage::new("index-new-runs", "dedup index: new ids, three runs on disk", |dir, counter| index_new(dir, counter, RUNS)),
    Stage::new("index-copy", "dedup index: ids that are in a run on disk", index_copies),
    Stage::new("fold-records", "fold: decoding a record", |_, counter| fold_records(counter)),
    Stage::new("fold-rows", "fold: adding a record to rows in memory", fold_rows),
    Stage::new("fold", "fold: decoded, asked about, added", fold_whole),
    Stage::new("key", "request's key: looked up, allowed", find_key),
    Stage::new("usage", "usage of one customer, a month by day; a row", usage),
];

/// Counts events while [`measured`] lets instructions be counted.
#[derive(Default)]
struct Counter {
    events: u64,
}

impl Counter {
    /// Measures work on so many events.
    fn measure(&mut self, events: u64, mut work: impl FnMut()) {
        measured(&mut work);
        self.events += events;
    }
}

/// The only place where instructions are counted, of this thread: callgrind begins when it is called and ends when it returns.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
    // What is called last must return to here.
    black_box(());
}

fn request(dir: &Path, counter: &mut Counter, events: u64) {
    let mut connection = Connection::open(dir);
    let mut workload = Workload::new(CUSTOMERS);
    let mut requests = |count: u64| -> Vec<_> { (0..count).map(|_| connection.request(&workload.body(events))).collect() };
    let (first, measured) = (requests(4), requests(REQUESTS_MAX.min(ROUNDS * EVENTS / events)));
    first.iter().for_each(|request| connection.send(request));
    counter.measure(events * measured.len() as u64, || measured.iter().for_each(|request| connection.send(request)));
}

fn parse(counter: &mut Counter, events: u64) {
    let mut workload = Workload::new(EVENTS);
    let bodies: Vec<Vec<u8>> = (0..ROUNDS * EVENTS / events).map(|_| workload.body(events)).collect();
    take_apart(counter, &bodies, |parser, body| encode(body, parser.parse(body, events as usize)));
}

fn cloud_events(counter: &mut Counter, has_meter: bool) {
    let plans = has_meter.then(dialects::plans);
    take_apart(counter, &dialects::cloud_events(), |parser, body| dialects::cloud_records(parser, body, plans));
}

/// From bodies to records.
fn take_apart(counter: &mut Counter, bodies: &[Vec<u8>], mut records: impl FnMut(&mut Parser, &[u8]) -> Block) {
    let mut parser = Parser::default();
    let events: u64 = bodies.iter().map(|body| u64::from(records(&mut parser, body).count())).sum();
    counter.measure(events, || bodies.iter().for_each(|body| drop(black_box(records(&mut parser, body)))));
}

fn recent_new(counter: &mut Counter) {
    let known = 4 * EVENTS;
    let recent = recent::filled(known);
    let batch = |round: u64| -> Vec<Fingerprint> { (known + round * EVENTS..known + (round + 1) * EVENTS).map(recent::id).collect() };
    let batches: Vec<_> = (1..=ROUNDS).map(batch).collect();
    let take = |batch: &Vec<Fingerprint>| {
        assert!(recent.known(batch, recent::NOW).is_empty());
        recent.remember(batch);
    };
    take(&batch(0));
    counter.measure(ROUNDS * EVENTS, || batches.iter().for_each(take));
}

fn recent_known(counter: &mut Counter) {
    let recent = recent::filled(4 * EVENTS);
    let ids: Vec<_> = (0..EVENTS).map(|back| recent::id(4 * EVENTS - 1 - back)).collect();
    let take = || assert_eq!(recent.known(&ids, recent::NOW).len(), ids.len());
    take();
    counter.measure(ROUNDS * EVENTS, || (0..ROUNDS).for_each(|_| take()));
}

fn log_append(dir: &Path, counter: &mut Counter) {
    let (_log, mut appender) = log::open(RealDisk, dir);
    let mut workload = Workload::new(CUSTOMERS);
    let mut group = || -> Vec<Append> { (0..ROUNDS).map(|_| Append::unattended(workload.block(EVENTS).seal())).collect() };
    log::durable(appender.append_and_wait(group()));
    let mut group = group();
    counter.measure(ROUNDS * EVENTS, || log::durable(appender.append_and_wait(std::mem::take(&mut group))));
}

fn log_read(dir: &Path, counter: &mut Counter) {
    let (log, mut appender) = log::open(RealDisk, dir);
    let mut workload = Workload::new(CUSTOMERS);
    log::durable(appender.append_and_wait((0..ROUNDS).map(|_| Append::unattended(workload.block(EVENTS).seal())).collect()));
    let read = || {
        let (mut reader, mut next) = (log.reader(), Position(0));
        while let Some(end) = reader.read(next, log::READ_BYTES).expect("reads").end() {
            next = end;
        }
        assert_eq!(next, log.end());
    };
    read();
    counter.measure(ROUNDS * EVENTS, read);
}

fn index_new(dir: &Path, counter: &mut Counter, runs: u64) {
    fold::known(dir, runs, RUN_IDENTITIES);
    let mut index = fold::open_index(dir);
    let known = runs * RUN_IDENTITIES;
    fold::note_all(&mut index, known..known + EVENTS);
    let begin = known + EVENTS;
    let mut new: Vec<Asked> = (begin..begin + ROUNDS * EVENTS).map(|number| fold::asked(number, number)).collect();
    counter.measure(ROUNDS * EVENTS, || {
        fold::stand_all(&mut index, std::mem::take(&mut new).into_iter(), |standing| assert_eq!(standing, Standing::First));
    });
}

fn index_copies(dir: &Path, counter: &mut Counter) {
    fold::known(dir, RUNS, RUN_IDENTITIES);
    let mut index = fold::open_index(dir);
    let mut copies = |salt: u64| {
        let copies: Vec<Asked> =
            (0..EVENTS).map(|number| fold::asked(scramble(number + salt) % (RUNS * RUN_IDENTITIES), u64::MAX - 1)).collect();
        fold::stand_all(&mut index, copies.into_iter(), |standing| assert_ne!(standing, Standing::First));
    };
    copies(0);
    counter.measure(ROUNDS * EVENTS, || (1..=ROUNDS).for_each(|round| copies(round * EVENTS)));
}

/// The next blocks.
fn blocks(workload: &mut Workload) -> Vec<Block> {
    (0..ROUNDS).map(|_| workload.block(EVENTS)).collect()
}

/// Hands on each message of many records.
fn each_message(blocks: &[Block], mut take: impl FnMut(&[u8], &Outgoing)) {
    let mut message = Outgoing::default();
    for record in blocks.iter().flat_map(|block| record::parts(block.payload())) {
        wire::encode(Form::Events, record, RECEIVED, PARTITIONS, &mut message).expect("a record");
        take(record, &message);
    }
}

fn kafka_messages(counter: &mut Counter) {
    let blocks = blocks(&mut Workload::new(CUSTOMERS));
    let make = || each_message(&blocks, |_, message| assert!(!black_box(&message.value).is_empty()));
    make();
    counter.measure(ROUNDS * EVENTS, make);
}

fn kafka_records(counter: &mut Counter) {
    let mut messages = Vec::new();
    each_message(&blocks(&mut Workload::new(CUSTOMERS)), |record, Outgoing { key, value, header, .. }| {
        messages.push((key.clone(), value.clone(), header.clone(), record.to_vec()));
    });
    let mut to = Vec::new();
    let mut read = || {
        for (key, value, header, record) in &messages {
            to.clear();
            let message = Incoming { key: Some(key), value: Some(value), header: Some(header), received: RECEIVED };
            wire::decode(Form::Events, &message, &mut to).expect("known");
            assert_eq!(to, *record);
        }
    };
    read();
    counter.measure(ROUNDS * EVENTS, read);
}

fn fold_records(counter: &mut Counter) {
    let blocks = blocks(&mut Workload::new(CUSTOMERS));
    let parts = |block: &Block| -> usize {
        fold::records(block).map(|record| record.measurements().count() + record.dimension_bytes().len()).sum()
    };
    let read = || assert!(black_box(blocks.iter().map(parts).sum::<usize>()) > 0);
    read();
    counter.measure(ROUNDS * EVENTS, read);
}

fn fold_rows(dir: &Path, counter: &mut Counter) {
    let store = fold::open_store(dir);
    let nothing = store.snapshot().expect("a snapshot");
    let (mut working, mut workload) = fold::with_everyone(&*nothing, CUSTOMERS);
    let blocks = blocks(&mut workload);
    counter.measure(ROUNDS * EVENTS, || blocks.iter().for_each(|block| fold::add(&mut working, &*nothing, block)));
}

fn fold_whole(dir: &Path, counter: &mut Counter) {
    let store = fold::open_store(dir);
    let nothing = store.snapshot().expect("a snapshot");
    let (mut working, mut workload) = fold::with_everyone(&*nothing, CUSTOMERS);
    let mut index = fold::open_index(&dir.join("index"));
    let mut next = 0;
    let mut fold = |blocks: &[Block]| blocks.iter().for_each(|block| fold::fold(&mut working, &*nothing, &mut index, &mut next, block));
    fold(&blocks(&mut workload));
    let blocks = blocks(&mut workload);
    counter.measure(ROUNDS * EVENTS, || fold(&blocks));
}

fn find_key(dir: &Path, counter: &mut Counter) {
    let keys = keys::keys(dir);
    let find = || {
        for key in [&keys.plain, &keys.limited] {
            let caller = keys.ring.caller(black_box(key.as_bytes())).expect("is known");
            assert!(caller.take_request().is_ok() && caller.check().is_ok() && caller.take_events(black_box(1)).is_ok());
        }
    };
    find();
    counter.measure(EVENTS, || (0..EVENTS / 2).for_each(|_| find()));
}

fn usage(dir: &Path, counter: &mut Counter) {
    let store = query::filled_store(dir, CUSTOMERS);
    let rows = store.snapshot().expect("a snapshot");
    let month = query::query(query::DAYS, Some("customer-00100"), Vec::new());
    let answer = || assert_eq!(query::answer(&month, &*rows).groups[0].buckets.len(), query::DAYS as usize);
    answer();
    counter.measure(ROUNDS * u64::from(query::DAYS) * DIMENSION_SETS, || (0..ROUNDS).for_each(|_| answer()));
}
