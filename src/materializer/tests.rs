//! The materializer against a slow, obvious one: maps over all records from the begin.

mod copied;
mod far;
mod partitions;
mod power_loss;
mod sketched;
mod taken;
mod undecodable;
mod wishes;

use std::collections::{BTreeSet, HashMap};

use super::*;
use crate::clock::UnixMicros;
use crate::event::{Amount, Draft, HashKey, IdentityMode, Mapping, Measurement, MeterEvent, OwnDimension, Sum, TimeWindow};
use crate::log::disk::RealDisk;
use crate::log::embedded::EmbeddedLog;
use crate::log::embedded::{EmbeddedAppender, LogIdentity, Settings};
use crate::log::meta::FoldSettings;
use crate::log::{Append, Appender, Block};
use crate::sketch::{Sketches, ValueHash};
use crate::store::embedded::EmbeddedStore;
use crate::store::row::{DAY_S, HOUR_S};
use crate::store::{DimensionSet, Grain, Row, RowKey, RowSelection};
use proptest::prelude::*;

/// Begins a commit of a working set and copies all of it.
fn begun(working: &mut WorkingSet) -> EncodedRows {
    working.begin_commit();
    working.copy_commit(usize::MAX).expect("all")
}

const HORIZON_MS: i64 = 50;
const SETS_MAX: u32 = 3;
const KEY: HashKey = HashKey::from_bytes([9; 16]);
const ACCOUNT: record::Account = record::Account { number: 1, identity: IdentityMode::UniqueId };
const META: LogMeta = LogMeta {
    log_id: [5; 16],
    hash_key: KEY,
    fold: FoldSettings { dedup_horizon_ms: Some(HORIZON_MS), dimension_sets_max: SETS_MAX, partitions: 1 },
};

/// What a producer sends, small enough that everything repeats.
#[derive(Debug, Clone)]
struct Sent {
    id: u8,
    customer: u8,
    hour: u8,
    value: i8,
    dimension: u8,
    filtered: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    (0_u8..30, 0_u8..3, 0_u8..50, any::<i8>(), 0_u8..7, prop::bool::weighted(0.1))
        .prop_map(|(id, customer, hour, value, dimension, filtered)| Sent { id, customer, hour, value, dimension, filtered })
}

impl Sent {
    fn time(&self) -> UnixMicros {
        UnixMicros((20_000 * DAY_S + i64::from(self.hour) * HOUR_S) * 1_000_000 + 1)
    }

    fn push(&self, block: &mut Block) {
        let (id, customer, dimension) = (format!("u-{}", self.id), format!("c-{}", self.customer), self.dimension.to_string());
        let value = Amount::from_int(i64::from(self.value));
        let draft = Draft {
            namespace: "",
            unique_id: &id,
            unique_id_generated: false,
            customer_id: &customer,
            time: Some(self.time()),
            measurements: &mut [Measurement { meter: "m", value }, Measurement { meter: "n", value: Amount::ONE }],
            dimensions: &mut [("d", &dimension)],
        };
        let event = MeterEvent::check(draft, block.received(), TimeWindow::default()).expect("a good event");
        // Whether it is the event's dimension or each measurement's own makes no difference.
        let own = [0, 1].map(|measurement| OwnDimension { measurement, key: "d", value: &dimension });
        let (said, measurements) = (event.whole(), event.measurements());
        let mapping = Mapping { said, measurements, dimensions: &[("d", "of the event")], own: &own, unreadable: 0 };
        let event = if self.hour.is_multiple_of(2) { event.mapped(mapping).expect("a good event") } else { event };
        block.push(|to| {
            _ = record::write(to, &KEY, ACCOUNT, &event, record::Decisions { filtered: if self.filtered { u64::MAX } else { 0 } })
        });
    }
}

/// Rows: how many events, their sum, and what the sketch of their dimension is, of an overflow row.
type Found = HashMap<(String, Grain, u32, String, String), (u64, Sum, Option<Sketches>)>;

/// The rule, obviously.
#[derive(Default)]
struct Model {
    log_time: i64,
    firsts: Vec<(u8, i64)>,
    sets: HashMap<(u8, u32), BTreeSet<u8>>,
    rows: Found,
}

impl Model {
    fn record(&mut self, sent: &Sent, received: i64) {
        self.log_time = self.log_time.max(received);
        if self.firsts.iter().any(|(id, time)| *id == sent.id && self.log_time - time < HORIZON_MS) {
            return;
        }
        self.firsts.push((sent.id, self.log_time));
        if sent.filtered {
            return;
        }
        let hour = u32::try_from(20_000 * DAY_S / HOUR_S).expect("fits") + u32::from(sent.hour);
        let sets = self.sets.entry((sent.customer, hour / 24)).or_default();
        let fits = sets.contains(&sent.dimension) || sets.len() < SETS_MAX as usize;
        let dimension = if fits { sent.dimension.to_string() } else { "overflow".into() };
        if fits {
            sets.insert(sent.dimension);
        }
        for (meter, value) in [("m", Amount::from_int(i64::from(sent.value))), ("n", Amount::ONE)] {
            for (grain, bucket) in [(Grain::Hour, hour), (Grain::Day, hour / 24)] {
                let key = (meter.to_owned(), grain, bucket, format!("c-{}", sent.customer), dimension.clone());
                let row = self.rows.entry(key).or_default();
                row.0 += 1;
                row.1.add_amount(value);
                if !fits {
                    row.2.get_or_insert_default().add("d", ValueHash::of(&sent.dimension.to_string()));
                }
            }
        }
    }
}

struct Tollgate {
    log: Arc<EmbeddedLog>,
    appender: EmbeddedAppender,
    materializer: Materializer,
    running: Running,
}

fn start(dir: &std::path::Path) -> Tollgate {
    start_on(Arc::new(RealDisk), dir)
}

fn start_on(disk: Arc<dyn Disk>, dir: &std::path::Path) -> Tollgate {
    let identity = LogIdentity { log_id: META.log_id, name: "events" };
    let settings = Settings { segment_bytes: 2_000, retention_age_ms: None, retention_bytes: None, disk_reserve_bytes: 0 };
    let (log, appender, _) = EmbeddedLog::open(disk.clone(), &dir.join("log"), identity, settings).expect("opens");
    let store = Arc::new(EmbeddedStore::open_on(&*disk, &dir.join("store.redb"), None).expect("opens"));
    let parts = Parts {
        log: log.clone(),
        meta: META,
        store,
        disk,
        index_dir: dir.join("index"),
        clock: Clock::start(),
        commit_interval: COMMIT_INTERVAL,
        bases: None,
        undecodable: None,
    };
    let (materializer, running) = Materializer::start(parts).expect("starts");
    Tollgate { log, appender, materializer, running }
}

impl Tollgate {
    fn append(&mut self, batch: &[Sent], received: i64) {
        self.try_append(batch, received).expect("is durable");
    }

    fn try_append(&mut self, batch: &[Sent], received: i64) -> Result<(), log::Error> {
        let mut block = Block::new(crate::clock::UnixMillis(received), 0);
        batch.iter().for_each(|sent| sent.push(&mut block));
        let answers = self.appender.append_and_wait(vec![Append::unattended(block.seal())]);
        answers.into_iter().try_for_each(|answer| answer.result.map(drop))
    }

    /// Every row, as a query that waits sees it.
    fn rows(&self, runtime: &tokio::runtime::Runtime) -> Found {
        let wanted = Wanted { account: 1, meter: None, customers: None, from_day: 0, to_day: u32::MAX };
        let view = runtime.block_on(self.materializer.view(vec![wanted], Duration::from_secs(20))).expect("a view");
        assert!(view.complete);
        let mut found = Found::new();
        for meter in store::meters(&*view.rows, 1).expect("meters") {
            for grain in [Grain::Hour, Grain::Day] {
                let selection = RowSelection { account: 1, meter: meter.clone(), grain, from: 0, to: u32::MAX, customers: None };
                let mut last = Vec::new();
                let mut visit = |key: RowKey<'_>, row: &Row| {
                    let mut bytes = Vec::new();
                    key.write(&mut bytes);
                    assert!(last < bytes, "each row once, in the order of their keys");
                    last = bytes;
                    let dimension =
                        if key.dimensions == DimensionSet::OVERFLOW { "overflow" } else { key.dimensions.get("d").unwrap_or("") };
                    let place = (key.meter.to_owned(), key.grain, key.bucket, key.customer.to_owned(), dimension.to_owned());
                    assert!(found.insert(place, (row.count, row.sum, row.sketches.as_deref().cloned())).is_none());
                    Ok(())
                };
                view.rows.scan(&selection, &mut visit).expect("scans");
            }
        }
        found
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_are_those_of_the_rule_at_any_moment_and_after_any_restart(
        steps in proptest::collection::vec((proptest::collection::vec(sent(), 1..12), -20_i64..60, 0_u8..6), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let mut tollgate = start(dir.path());
        let mut model = Model::default();
        let mut received = 1_000_000;
        for (batch, passed, action) in steps {
            // The receive times of a real clock step back now and then.
            received += passed;
            tollgate.append(&batch, received);
            batch.iter().for_each(|sent| model.record(sent, received));
            match action {
                0 | 3 => {
                    let stop = if action == 0 { Running::stop } else { Running::let_go };
                    stop(tollgate.running).expect("stops");
                    drop((tollgate.appender, tollgate.materializer));
                    if received % 2 == 0 {
                        std::fs::remove_dir_all(dir.path().join("index")).expect("removes");
                    }
                    tollgate = start(dir.path());
                }
                1 | 2 => prop_assert_eq!(&tollgate.rows(&runtime), &model.rows),
                _ => {}
            }
        }
        prop_assert_eq!(&tollgate.rows(&runtime), &model.rows);
        tollgate.running.stop().expect("stops");
    }
}

#[test]
fn rows_ahead_of_the_log_stop_the_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut tollgate = start(dir.path());
    tollgate.append(&[Sent { id: 1, customer: 1, hour: 1, value: 1, dimension: 1, filtered: false }], 1_000);
    tollgate.running.stop().expect("stops");
    drop((tollgate.appender, tollgate.materializer));
    std::fs::remove_dir_all(dir.path().join("log")).expect("removes");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let settings = Settings { segment_bytes: 2_000, retention_age_ms: None, retention_bytes: None, disk_reserve_bytes: 0 };
    let identity = LogIdentity { log_id: META.log_id, name: "events" };
    let (log, ..) = EmbeddedLog::open(disk.clone(), &dir.path().join("log"), identity, settings).expect("opens");
    let store = Arc::new(EmbeddedStore::open(&dir.path().join("store.redb")).expect("opens"));
    let started = Materializer::start(Parts {
        log,
        meta: META,
        store,
        disk,
        index_dir: dir.path().join("index"),
        clock: Clock::start(),
        commit_interval: COMMIT_INTERVAL,
        bases: None,
        undecodable: None,
    });
    assert!(matches!(started, Err(Error::RowsAheadOfLog { rows: Position(1), log: Position(0) })));
}

#[test]
fn an_index_that_catches_up_covers_no_more_than_it_has_looked_up() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let batch = |ids: std::ops::Range<u8>| -> Vec<Sent> {
        ids.map(|id| Sent { id, customer: 1, hour: 1, value: 1, dimension: 1, filtered: false }).collect()
    };
    let mut model = Model::default();
    let mut send = |tollgate: &mut Tollgate, ids| {
        let batch = batch(ids);
        tollgate.append(&batch, 1_000);
        batch.iter().for_each(|sent| model.record(sent, 1_000));
        model.rows.clone()
    };
    let mut tollgate = start(dir.path());
    send(&mut tollgate, 0..16);
    tollgate.running.stop().expect("stops");
    // A crash of the rest: in the log, in the same segment, and not in the rows. The index has to catch up from the begin.
    send(&mut Tollgate { running: start(&dir.path().join("other")).running, ..tollgate }, 16..20);
    let mut tollgate = start(dir.path());
    let mut next = 20;
    while !dir.path().join("index/manifest.json").exists() {
        assert!(next < 200, "the full table was to be written");
        let rows = send(&mut tollgate, next..next + 1);
        assert_eq!(tollgate.rows(&runtime), rows);
        std::thread::yield_now();
        next += 1;
    }
    tollgate.running.stop().expect("stops");
    drop((tollgate.appender, tollgate.materializer));
    let mut tollgate = start(dir.path());
    let rows = send(&mut tollgate, 0..next);
    assert_eq!(tollgate.rows(&runtime), rows, "copies of what the index covers");
    tollgate.running.stop().expect("stops");
}
