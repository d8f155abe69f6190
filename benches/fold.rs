//! From records to committed rows: `records` reads a block, `index` tells firsts from copies, `rows` adds to the working set,
//! `whole` is all three as the materializer's thread does them; `begin_commit` and `commit` are what each commit costs a row.

#[path = "setup/fold.rs"]
mod setup;
mod workload;

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use setup::{
    EVENTS, add, add_everyone, asked, fold, known, maintain, note_all, open_index, open_store, records, stand_all, with_everyone,
    working_set,
};
use tempfile::TempDir;
use tollgate::log::record::Record;
use tollgate::log::{Block, Position};
use tollgate::materializer::first_positions::Standing;
use tollgate::materializer::working_set::WorkingSet;
use tollgate::store::embedded::EmbeddedStore;
use tollgate::store::{Commit, EncodedRows, Progress, Store};
use workload::{ACCOUNT, DIMENSION_SETS, RECEIVED, Workload, scramble};

/// Two rows, a day and an hour, for each dimension set of a customer.
const ROWS_PER_CUSTOMER: u64 = 2 * DIMENSION_SETS;
/// Entries that the index takes into memory before it is begun anew: half of what it would hold.
const INDEX_GROWTH: u64 = 500_000;

fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn read(criterion: &mut Criterion) {
    let mut workload = Workload::new(1_000);
    let blocks: Vec<Block> = (0..4).map(|_| workload.block(EVENTS)).collect();
    let mut turns = blocks.iter().cycle();
    let mut group = criterion.benchmark_group("fold/records");
    group.throughput(Throughput::ElementsAndBytes { elements: EVENTS, bytes: blocks[0].len() as u64 });
    group.bench_function(BenchmarkId::from_parameter(EVENTS), |bencher| {
        let parts = |record: Record<'_>| record.measurements().count() + record.dimension_bytes().len();
        bencher.iter(|| turns.next().map(|block| records(block).map(parts).sum::<usize>()));
    });
}

fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold/index");
    group.throughput(Throughput::Elements(EVENTS));
    for runs in [0, 1, 7] {
        let dir = LazyCell::new(|| {
            let dir = directory();
            known(dir.path(), runs, 1_000_000);
            dir
        });
        let begin = runs * 1_000_000;
        let mut first = None;
        group.bench_function(BenchmarkId::new("first", begin), |bencher| {
            let (index, next) = first.get_or_insert_with(|| (open_index(dir.path()), begin));
            bencher.iter_custom(|count| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..count {
                    if *next >= begin + INDEX_GROWTH {
                        (*index, *next) = (open_index(dir.path()), begin);
                    }
                    let started = Instant::now();
                    note_all(index, *next..*next + EVENTS);
                    elapsed += started.elapsed();
                    *next += EVENTS;
                }
                elapsed
            });
        });
        if runs > 0 {
            let mut copies = None;
            group.bench_function(BenchmarkId::new("copy", begin), |bencher| {
                let (index, dice) = copies.get_or_insert_with(|| (open_index(dir.path()), 0));
                bencher.iter(|| {
                    let copies = (0..EVENTS).map(|_| {
                        *dice = scramble(*dice);
                        asked(*dice % begin, u64::MAX - 1)
                    });
                    stand_all(index, copies, |standing| assert_ne!(standing, Standing::First));
                });
            });
        }
    }
}

/// With the runs that are written and merged meanwhile, on the other core: a million events an iteration.
fn index_for_long(criterion: &mut Criterion) {
    let dir = directory();
    let (mut index, mut next) = (open_index(dir.path()), 0);
    let mut group = criterion.benchmark_group("fold/index");
    group.throughput(Throughput::Elements(1_000_000)).sample_size(10).sampling_mode(SamplingMode::Flat);
    group.bench_function("first_for_long", |bencher| {
        bencher.iter(|| {
            for _ in 0..1_000_000 / EVENTS {
                note_all(&mut index, next..next + EVENTS);
                next += EVENTS;
                maintain(&mut index, next);
            }
        });
    });
}

/// Begins a commit and copies all of it.
fn begun(working: &mut WorkingSet) -> EncodedRows {
    working.begin_commit();
    working.copy_commit(usize::MAX).expect("all")
}

/// A store with rows for everyone, and those rows.
fn filled_store(dir: &Path, customers: u64) -> (Committer, EncodedRows) {
    let store = open_store(dir);
    let snapshot = store.snapshot().expect("a snapshot");
    let mut working = working_set();
    add_everyone(&mut working, &*snapshot, customers);
    let mut rows = begun(&mut working);
    rows.sort();
    assert_eq!(rows.len() as u64, customers * ROWS_PER_CUSTOMER);
    let progress = snapshot.progress(0).expect("progress");
    drop(snapshot);
    let mut committer = Committer { store, progress };
    committer.commit(rows.clone());
    (committer, rows)
}

fn rows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold/rows");
    group.throughput(Throughput::Elements(EVENTS));
    let empty_dir = directory();
    let empty_store = open_store(empty_dir.path());
    let nothing = empty_store.snapshot().expect("a snapshot");
    for customers in [1_000, 100_000] {
        let mut everyone = None;
        group.bench_function(BenchmarkId::new("found", customers), |bencher| {
            let (working, workload) = everyone.get_or_insert_with(|| with_everyone(&*nothing, customers));
            let add = |block: Block| add(working, &*nothing, &block);
            bencher.iter_batched(|| workload.block(EVENTS), add, BatchSize::LargeInput);
        });
    }
    let mut workload = Workload::new(1_000_000);
    let mut working = working_set();
    group.bench_function("new", |bencher| {
        let add_new = |block: Block| {
            if working.is_full() {
                working = working_set();
            }
            add(&mut working, &*nothing, &block);
        };
        bencher.iter_batched(|| workload.block(EVENTS), add_new, BatchSize::LargeInput);
    });
    let dir = directory();
    let mut filled = None;
    group.bench_function(BenchmarkId::new("read", 100_000), |bencher| {
        let (committer, workload) = filled.get_or_insert_with(|| {
            let mut workload = Workload::new(100_000);
            workload.body(100_000 * DIMENSION_SETS);
            (filled_store(dir.path(), 100_000).0, workload)
        });
        let stored = committer.store.snapshot().expect("a snapshot");
        let forgotten = || (working_set(), workload.block(EVENTS));
        bencher.iter_batched_ref(forgotten, |(working, block)| add(working, &*stored, block), BatchSize::LargeInput);
    });
}

fn whole(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold/whole");
    group.throughput(Throughput::Elements(EVENTS));
    for customers in [1_000, 100_000] {
        let dir = directory();
        let store = open_store(dir.path());
        let snapshot = store.snapshot().expect("a snapshot");
        let mut everyone = None;
        let mut index = open_index(&dir.path().join("index"));
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter(customers), |bencher| {
            let (working, workload) = everyone.get_or_insert_with(|| with_everyone(&*snapshot, customers));
            let fold = |block: Block| fold(working, &*snapshot, &mut index, &mut next, &block);
            bencher.iter_batched(|| workload.block(EVENTS), fold, BatchSize::LargeInput);
        });
    }
}

/// What the materializer's thread does for a commit, and for a view between two commits.
fn begin_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold");
    group.sample_size(10);
    let dir = directory();
    let store = open_store(dir.path());
    let snapshot = store.snapshot().expect("a snapshot");
    for customers in [1_000, 50_000] {
        let rows = customers * ROWS_PER_CUSTOMER;
        group.throughput(Throughput::Elements(rows));
        let mut working = working_set();
        group.bench_function(BenchmarkId::new("begin_commit", rows), |bencher| {
            bencher.iter_custom(|count| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..count {
                    add_everyone(&mut working, &*snapshot, customers);
                    let started = Instant::now();
                    let begun = begun(&mut working);
                    elapsed += started.elapsed();
                    assert_eq!(begun.len() as u64, rows);
                    working.end_commit();
                }
                elapsed
            });
        });
        group.bench_function(BenchmarkId::new("uncommitted", rows), |bencher| {
            if !working.has_changes() {
                add_everyone(&mut working, &*snapshot, customers);
            }
            let customers = ["customer-00007".to_owned()];
            bencher.iter(|| {
                let mut rows = BTreeMap::new();
                working.uncommitted(Some((ACCOUNT, &customers)), &mut |key| key.customer == customers[0], &mut rows);
                rows
            });
        });
    }
}

/// Commits as the owner of a partition does.
struct Committer {
    store: EmbeddedStore,
    progress: Progress,
}

impl Committer {
    fn commit(&mut self, rows: EncodedRows) -> Duration {
        let reached = Progress { next: Position(self.progress.next.0 + 1), log_time: RECEIVED };
        let commit = Commit { partition: 0, expected: self.progress, reached, rows, conflicts: Vec::new() };
        let started = Instant::now();
        self.store.commit(&commit).expect("commits");
        self.progress = reached;
        started.elapsed()
    }
}

/// Rows that are stored already, written anew: one in `apart` of them.
fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fold/commit");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for (customers, apart) in [(1_000, 1), (100_000, 16), (100_000, 1)] {
        let dir = directory();
        let all = customers * ROWS_PER_CUSTOMER;
        let some = all / apart as u64;
        let mut filled = None;
        group.throughput(Throughput::Elements(some));
        group.bench_function(BenchmarkId::from_parameter(format!("{some}_of_{all}")), |bencher| {
            let (committer, rows) = filled.get_or_insert_with(|| filled_store(dir.path(), customers));
            let rows: Vec<_> = rows.decoded().expect("rows");
            bencher.iter_custom(|count| {
                (0..count as usize).map(|turn| committer.commit(rows.iter().skip(turn % apart).step_by(apart).cloned().collect())).sum()
            });
        });
    }
}

criterion_group!(benches, read, index, index_for_long, rows, whole, begin_commit, commit);
criterion_main!(benches);
