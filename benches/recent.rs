//! Recent ids: what it costs to look up and to remember the ids of new events, beside those that are remembered already.
//! `known` is the look-up of copies.

#[path = "setup/recent.rs"]
mod setup;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use setup::{NOW, filled, id};
use tollgate::event::Fingerprint;

/// The one of the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ids of a request.
const BATCHES: [usize; 2] = [1, 1_000];

fn new_ids(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recent/new");
    for ids in [100_000, 1_000_000, 5_000_000] {
        for size in BATCHES {
            let recent = filled(ids);
            let mut next = ids;
            let mut batch = || -> Vec<_> {
                next += size as u64;
                (next - size as u64..next).map(id).collect()
            };
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::new(ids.to_string(), size), |bencher| {
                let take = |batch: Vec<Fingerprint>| {
                    assert!(recent.known(&batch, NOW).is_empty());
                    recent.remember(&batch);
                };
                bencher.iter_batched(&mut batch, take, BatchSize::NumIterations(1_000));
            });
        }
    }
}

fn known_ids(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recent/known");
    for ids in [100_000, 1_000_000, 5_000_000] {
        for size in BATCHES {
            let recent = filled(ids);
            // Of those that came last, as the copies of a client that tries again.
            let mut next = 0;
            let mut batch = || -> Vec<_> {
                next += size as u64;
                (next - size as u64..next).map(|back| id(ids - 1 - back % 50_000)).collect()
            };
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::new(ids.to_string(), size), |bencher| {
                bencher.iter_batched(&mut batch, |batch| recent.known(&batch, NOW).len(), BatchSize::NumIterations(1_000));
            });
        }
    }
}

criterion_group!(benches, new_ids, known_ids);
criterion_main!(benches);
