//! Usage from rows in the embedded store, as `usage::evaluate` computes it; without the wait for the fold and without JSON.

mod workload;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;
use tollgate::event::parse::Parser;
use tollgate::log::{Position, record};
use tollgate::materializer::working_set::WorkingSet;
use tollgate::store::embedded::EmbeddedStore;
use tollgate::store::row::DAY_S;
use tollgate::store::{Commit, Grain, Progress, Row, RowKey, Snapshot, Store};
use tollgate::usage::{Answer, Buckets, Draft, Field, Interval, Limits, MeterType, Query, TimeRange, Zone, evaluate};
use workload::{ACCOUNT, DIMENSION_SETS, METER, RECEIVED, Workload, encode};

/// Customers with events on the last day.
const CUSTOMERS: u64 = 10_000;
/// One in so many of them has events on every day.
const REGULARS: usize = 4;
const DAYS: u32 = 30;

/// A store with rows of a month. A snapshot lives no longer than its store.
fn filled_store() -> (TempDir, EmbeddedStore) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).expect("opens");
    let last_day = rows_of_one_day(&*store.snapshot().expect("a snapshot"));
    let mut rows = last_day.clone();
    let days_before = last_day.iter().filter_map(|(key, row)| {
        let key = RowKey::read(key).filter(|key| key.grain == Grain::Day && is_regular(key.customer))?;
        Some((key, row))
    });
    for (key, row) in days_before {
        for bucket in key.bucket - (DAYS - 1)..key.bucket {
            let mut bytes = Vec::new();
            RowKey { bucket, ..key }.write(&mut bytes);
            rows.push((bytes, row.clone()));
        }
    }
    rows.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    let expected = store.snapshot().and_then(|snapshot| snapshot.progress(0)).expect("progress");
    let reached = Progress { next: Position(1), log_time: RECEIVED };
    store.commit(&Commit { partition: 0, expected, reached, rows, conflicts: Vec::new() }).expect("commits");
    (dir, store)
}

fn is_regular(customer: &str) -> bool {
    let digits = customer.trim_start_matches("customer-");
    digits.parse::<usize>().is_ok_and(|number| number % REGULARS == 0)
}

fn rows_of_one_day(nothing: &dyn Snapshot) -> Vec<(Vec<u8>, Row)> {
    let body = Workload::new(CUSTOMERS).body(CUSTOMERS * DIMENSION_SETS);
    let block = encode(&body, Parser::default().parse(&body, usize::MAX));
    let mut working = WorkingSet::new(0, 10_000, tollgate::materializer::Shares::default());
    for record in record::records(block.payload(), block.count(), block.received()) {
        working.add(nothing, &record.expect("decodes")).expect("the store answers");
    }
    working.begin_commit()
}

/// Usage by day of the last `days` days.
fn query(days: u32, customer: Option<&str>, group_by: Vec<Field>) -> Query {
    let end_s = (RECEIVED.seconds() / DAY_S + 1) * DAY_S;
    let range = TimeRange::new(end_s - i64::from(days) * DAY_S, end_s).expect("a range");
    let draft = Draft {
        account: ACCOUNT,
        meter: METER.into(),
        aggregation: None,
        buckets: Buckets::new(range, Interval::Day, Zone::default()).expect("few buckets"),
        filters: customer.map(|customer| (Field::Customer, vec![customer.to_owned()])).into_iter().collect(),
        group_by,
        take: None,
    };
    Query::check(draft).expect("a good query")
}

fn usage(criterion: &mut Criterion) {
    let (_dir, store) = filled_store();
    let rows = store.snapshot().expect("a snapshot");
    let answer = |query: &Query| -> Answer { evaluate(query, MeterType::default(), &*rows, Limits::default()).expect("an answer") };
    let mut group = criterion.benchmark_group("query");

    let month = query(DAYS, Some("customer-00400"), Vec::new());
    assert_eq!(answer(&month).groups[0].buckets.len(), DAYS as usize);
    group.throughput(Throughput::Elements(u64::from(DAYS) * DIMENSION_SETS));
    group.bench_function("one_customer_a_month_by_day", |bencher| bencher.iter(|| answer(&month)));

    let day = query(1, None, vec![Field::Customer]);
    assert_eq!(answer(&day).groups.len() as u64, CUSTOMERS);
    group.throughput(Throughput::Elements(CUSTOMERS * DIMENSION_SETS));
    group.bench_function("all_customers_a_day_by_customer", |bencher| bencher.iter(|| answer(&day)));
}

criterion_group!(benches, usage);
criterion_main!(benches);
