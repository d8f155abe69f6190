use std::path::Path;

use super::*;
use crate::clock::{Clock, UnixMillis};
use crate::event::{Amount, Draft, HashKey, IdentityMode, Measurement, MeterEvent, TimeWindow};
use crate::log::disk::RealDisk;
use crate::log::embedded::{EmbeddedLog, LogIdentity, Settings};
use crate::log::memory::MemoryLog;
use crate::log::meta::{FoldSettings, LogMeta};
use crate::log::{Append, Appender, Block, record};
use crate::store::embedded::EmbeddedStore;
use crate::store::memory::MemoryStore;
use crate::store::{Item, Store};

const KEY: HashKey = HashKey::from_bytes([9; 16]);
const META: LogMeta =
    LogMeta { log_id: [5; 16], hash_key: KEY, fold: FoldSettings { dedup_horizon_ms: None, dimension_sets_max: 3, partitions: 1 } };

/// Blocks of five records each; every fourth record is a copy of the first.
fn write_log(dir: &Path) -> Arc<EmbeddedLog> {
    let settings = Settings { segment_bytes: 900, retention_age_ms: None, retention_bytes: None, disk_reserve_bytes: 0 };
    let identity = LogIdentity { log_id: META.log_id, name: "events" };
    let (log, mut appender, _) = EmbeddedLog::open(Arc::new(RealDisk), dir, identity, settings).expect("opens");
    for first in (0..30).step_by(5) {
        let mut block = Block::new(UnixMillis(1_000 + first), 0);
        for at in first..first + 5 {
            let id = if at % 4 == 0 { "u-0".into() } else { format!("u-{at}") };
            push(&mut block, &id, &(at % 7).to_string());
        }
        for answer in appender.append_and_wait(vec![Append::unattended(block.seal())]) {
            answer.result.expect("is durable");
        }
    }
    log
}

fn push(block: &mut Block, unique_id: &str, dimension: &str) {
    let draft = Draft {
        namespace: "",
        unique_id,
        unique_id_generated: false,
        customer_id: "c",
        time: Some(UnixMillis(5).micros()),
        measurements: &mut [Measurement { meter: "m", value: Amount::ONE }],
        dimensions: &mut [("d", dimension)],
    };
    let event = MeterEvent::check(draft, block.received(), TimeWindow::default()).expect("a good event");
    let account = record::Account { number: 1, identity: IdentityMode::UniqueId };
    block.push(|to| _ = record::write(to, &KEY, account, &event, record::Decisions::default()));
}

/// Replays into what is in `dir`; gives back where it stands and how many events are in day rows.
fn replayed(dir: &Path, log: &Arc<EmbeddedLog>, until: u64) -> Result<(Progress, u64, Vec<String>), Error> {
    let store = Arc::new(EmbeddedStore::open(&dir.join("store.redb")).expect("opens"));
    let parts = Parts {
        log: log.clone(),
        meta: META,
        store: store.clone(),
        disk: Arc::new(RealDisk),
        index_dir: dir.join("index"),
        clock: Clock::start(),
        commit_interval: crate::materializer::COMMIT_INTERVAL,
        bases: None,
        undecodable: None,
    };
    let progress = replay(parts, Position(until), &mut |at| {
        assert!(at.0 <= until);
        Ok(())
    })?;
    let (mut count, mut items) = (0, Vec::new());
    let mut visit = |item: Item<'_>| {
        if let Item::Row(key, row) = item {
            let is_day = crate::store::RowKey::read(key).is_some_and(|key| key.grain == crate::store::Grain::Day);
            count += if is_day { row.count } else { 0 };
        }
        items.push(format!("{item:?}"));
        Ok(())
    };
    store.snapshot()?.visit(&mut visit)?;
    Ok((progress, count, items))
}

#[test]
fn a_replay_ends_at_exactly_any_position_and_goes_on_from_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = write_log(&dir.path().join("log"));
    let fresh = |name: String| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).expect("made");
        path
    };
    let (_, _, whole) = replayed(&fresh("whole".into()), &log, 30).expect("is folded");
    for until in 0..=30 {
        let part = fresh(format!("until-{until}"));
        let (progress, count, _) = replayed(&part, &log, until).expect("is folded");
        // The first record counts, and those that are no copies of it.
        let expected = (0..until).filter(|at| at % 4 != 0 || *at == 0).count() as u64;
        assert_eq!((progress.next, count), (Position(until), expected));
        if until > 0 {
            assert_eq!(progress.log_time, UnixMillis(1_000 + (until as i64 - 1) / 5 * 5), "that of the last record's block");
        }
        let (progress, _, items) = replayed(&part, &log, 30).expect("goes on");
        assert_eq!((progress.next, &items), (Position(30), &whole), "in two steps, the first up to {until}");
    }
}

/// What is read of Kafka is what has been fetched so far: at times nothing, far from the end.
#[test]
fn an_index_that_was_lost_is_made_of_a_log_that_comes_little_by_little() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = MemoryLog::new(0);
    let records: Vec<_> = record_bytes((0..30).map(|at| format!("u-{at}")));
    let append = |records: &[Vec<u8>]| records.iter().fold(Position(0), |_, record| log.append(UnixMillis(1_000), record.clone()));
    let before = append(&records).0 + 1;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let folded = |index: &str, until| {
        let parts = Parts {
            log: log.seen(),
            meta: META,
            store: store.clone(),
            disk: Arc::new(RealDisk),
            index_dir: dir.path().join(index),
            clock: Clock::start(),
            commit_interval: crate::materializer::COMMIT_INTERVAL,
            bases: None,
            undecodable: None,
        };
        replay(parts, Position(until), &mut |_| Ok(())).expect("is folded");
        let mut count = 0;
        let mut visit = |item: Item<'_>| {
            count += if let Item::Row(_, row) = item { row.count } else { 0 };
            Ok(())
        };
        store.snapshot().and_then(|snapshot| snapshot.visit(&mut visit)).expect("rows");
        // Each is in an hour and in a day.
        count / 2
    };
    assert_eq!(folded("index", before), 30);
    let end = append(&records).0 + 1;
    assert_eq!(folded("another index", end), 30, "copies are known again");
}

/// Records as they stand in a log.
fn record_bytes(ids: impl Iterator<Item = String>) -> Vec<Vec<u8>> {
    let mut block = Block::new(UnixMillis(1_000), 0);
    ids.for_each(|id| push(&mut block, &id, "0"));
    record::parts(block.seal().payload()).map(<[u8]>::to_vec).collect()
}

#[test]
fn a_replay_beyond_the_end_or_back_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = write_log(&dir.path().join("log"));
    assert!(matches!(replayed(dir.path(), &log, 31), Err(Error::LogTooShort { .. })));
    replayed(dir.path(), &log, 20).expect("is folded");
    assert!(matches!(replayed(dir.path(), &log, 10), Err(Error::LogTooShort { .. })));
}
