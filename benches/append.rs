//! Blocks into the embedded log and out again: `synced` is what a request waits for, on the disk of the target directory;
//! `written` is checksum and write without the sync; `hop` is the way to the appender's thread and back; `read` is what the
//! materializer reads, out of the page cache.

#[path = "setup/log.rs"]
mod setup;
mod workload;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use setup::{READ_BYTES, durable};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tollgate::batch::Batcher;
use tollgate::log::disk::{Disk, DiskFile, RealDisk};
use tollgate::log::embedded::{EmbeddedAppender, EmbeddedLog};
use tollgate::log::{Answer, Answers, Append, Appender, Block, Error, LogReader, Position, Positions};
use workload::Workload;

/// Requests that wait for their appends at the same time.
const IN_FLIGHT: u64 = 64;

/// An empty log in a directory of its own, on the disk that the checkout is on (`/tmp` may be memory).
fn open(disk: impl Disk + 'static) -> (TempDir, Arc<EmbeddedLog>, EmbeddedAppender) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let (log, appender) = setup::open(disk, dir.path());
    (dir, log, appender)
}

/// Appends groups of `blocks` blocks of `events` events each.
fn append(group: &mut BenchmarkGroup<'_, WallTime>, disk: impl Disk + 'static, blocks: u64, events: u64) {
    let (_dir, log, mut appender) = open(disk);
    let mut workload = Workload::new(1_000);
    let template: Vec<Block> = (0..blocks).map(|_| workload.block(events)).collect();
    let bytes = template.iter().map(|block| block.len() as u64).sum();
    group.throughput(Throughput::ElementsAndBytes { elements: blocks * events, bytes });
    group.bench_function(BenchmarkId::from_parameter(format!("{blocks}x{events}")), |bencher| {
        let append = |blocks: Vec<Block>| {
            let appends: Vec<Append> = blocks.into_iter().map(|block| Append::unattended(block.seal())).collect();
            durable(appender.append_and_wait(appends));
            log.keep_from(log.end());
        };
        bencher.iter_batched(|| template.clone(), append, BatchSize::LargeInput);
    });
}

fn synced(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append/synced");
    for (blocks, events) in [(1, 1), (1, 10), (1, 100), (1, 1_000), (64, 1), (8, 1_000)] {
        append(&mut group, RealDisk, blocks, events);
    }
}

fn written(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append/written");
    for (blocks, events) in [(1, 1), (1, 10), (1, 100), (1, 1_000), (64, 1), (8, 1_000)] {
        append(&mut group, Unsynced, blocks, events);
    }
}

/// The real disk, but for syncs: they do nothing.
struct Unsynced;

struct UnsyncedFile(Box<dyn DiskFile>);

impl Disk for Unsynced {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(UnsyncedFile(RealDisk.create(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path)
    }

    fn open_writable(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(UnsyncedFile(RealDisk.open_writable(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }
}

impl DiskFile for UnsyncedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.0.truncate(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
}

/// Answers without writing anything.
struct AckAtOnce;

impl Appender for AckAtOnce {
    fn append(&mut self, group: &mut Vec<Append>, answers: &Answers) {
        let answer = |append: Append| Answer {
            to: append.done,
            records: append.block.count(),
            fingerprints: Vec::new(),
            result: Ok(Positions::NONE),
        };
        answers.give(group.drain(..).map(answer).collect());
    }

    fn close(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// A request hands over one block, whatever its size: what is measured is a request, not an event.
fn hop(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (batcher, _thread) = Batcher::start("bench", AckAtOnce, runtime.handle(), 64, Arc::new(())).expect("a thread");
    let block = Workload::new(1).block(1);
    let requests = |count: u64| {
        let (batcher, block) = (batcher.clone(), block.clone());
        async move {
            for _ in 0..count {
                batcher.append(block.clone(), None).await.expect("is answered");
            }
        }
    };
    let mut group = criterion.benchmark_group("append/hop");
    group.throughput(Throughput::Elements(1));
    group.bench_function("alone", |bencher| {
        bencher.iter_custom(|count| timed(|| runtime.block_on(requests(count))));
    });
    group.bench_function(BenchmarkId::new("in_flight", IN_FLIGHT), |bencher| {
        bencher.iter_custom(|count| {
            let mut tasks = JoinSet::new();
            for task in 0..IN_FLIGHT {
                tasks.spawn_on(requests((count + task) / IN_FLIGHT), runtime.handle());
            }
            timed(|| drop(runtime.block_on(tasks.join_all())))
        });
    });
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append/read");
    for events in [1, 100, 1_000] {
        let (_dir, log, mut appender) = open(Unsynced);
        let mut workload = Workload::new(1_000);
        let blocks: Vec<Block> = (0..20_000 / events).map(|_| workload.block(events).seal()).collect();
        let bytes = blocks.iter().map(|block| block.len() as u64).sum();
        durable(appender.append_and_wait(blocks.into_iter().map(Append::unattended).collect()));
        group.throughput(Throughput::ElementsAndBytes { elements: log.end().0, bytes });
        group.bench_function(BenchmarkId::from_parameter(events), |bencher| {
            bencher.iter(|| {
                let (mut reader, mut next) = (log.reader(), Position(0));
                while let Some(end) = reader.read(next, READ_BYTES).expect("reads").end() {
                    next = end;
                }
                assert_eq!(next, log.end());
            });
        });
    }
}

criterion_group!(benches, synced, written, hop, read);
criterion_main!(benches);
