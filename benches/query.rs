//! Usage from rows in the embedded store, as `usage::evaluate` computes it; without the wait for the fold and without JSON.

#[path = "setup/query.rs"]
mod setup;
mod workload;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use setup::{DAYS, answer, filled_store, query};
use tollgate::store::Store as _;
use tollgate::usage::Field;
use workload::DIMENSION_SETS;

/// Customers with events on the last day.
const CUSTOMERS: u64 = 10_000;

fn usage(criterion: &mut Criterion) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    // A snapshot lives no longer than its store.
    let store = filled_store(dir.path(), CUSTOMERS);
    let rows = store.snapshot().expect("a snapshot");
    let mut group = criterion.benchmark_group("query");

    let month = query(DAYS, Some("customer-00400"), Vec::new());
    assert_eq!(answer(&month, &*rows).groups[0].buckets.len(), DAYS as usize);
    group.throughput(Throughput::Elements(u64::from(DAYS) * DIMENSION_SETS));
    group.bench_function("one_customer_a_month_by_day", |bencher| bencher.iter(|| answer(&month, &*rows)));

    let day = query(1, None, vec![Field::Customer]);
    assert_eq!(answer(&day, &*rows).groups.len() as u64, CUSTOMERS);
    group.throughput(Throughput::Elements(CUSTOMERS * DIMENSION_SETS));
    group.bench_function("all_customers_a_day_by_customer", |bencher| bencher.iter(|| answer(&day, &*rows)));
}

criterion_group!(benches, usage);
criterion_main!(benches);
