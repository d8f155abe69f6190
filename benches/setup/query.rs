//! A store with the rows of a month, and queries of them.

use std::path::Path;

use tollgate::log::{Position, record};
use tollgate::materializer::working_set::WorkingSet;
use tollgate::store::embedded::EmbeddedStore;
use tollgate::store::row::DAY_S;
use tollgate::store::{Commit, Grain, Progress, Row, RowKey, Snapshot, Store};
use tollgate::usage::{Answer, Buckets, Draft, Field, Interval, Limits, MeterType, Query, TimeRange, Zone, evaluate};

use super::workload::{ACCOUNT, DIMENSION_SETS, METER, RECEIVED, Workload};

/// One in so many customers has events on every day.
const REGULARS: usize = 4;
pub(crate) const DAYS: u32 = 30;

/// A store with rows of a month, of so many customers with events on the last day.
pub(crate) fn filled_store(dir: &Path, customers: u64) -> EmbeddedStore {
    let store = EmbeddedStore::open(&dir.join("store.redb")).expect("opens");
    let last_day = rows_of_one_day(&*store.snapshot().expect("a snapshot"), customers);
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
    let expected = store.snapshot().and_then(|snapshot| snapshot.progress(0)).expect("progress");
    let reached = Progress { next: Position(1), log_time: RECEIVED };
    store.commit(&Commit { partition: 0, expected, reached, rows: rows.into_iter().collect(), conflicts: Vec::new() }).expect("commits");
    store
}

fn is_regular(customer: &str) -> bool {
    let digits = customer.trim_start_matches("customer-");
    digits.parse::<usize>().is_ok_and(|number| number % REGULARS == 0)
}

fn rows_of_one_day(nothing: &dyn Snapshot, customers: u64) -> Vec<(Vec<u8>, Row)> {
    let block = Workload::new(customers).block(customers * DIMENSION_SETS);
    let mut working = WorkingSet::new(0, 10_000, tollgate::materializer::Shares::default());
    for record in record::records(block.payload(), block.count(), block.received()) {
        working.add(nothing, &record.expect("decodes")).expect("the store answers");
    }
    working.begin_commit();
    working.copy_commit(usize::MAX).expect("all").decoded().expect("rows")
}

/// Usage by day of the last `days` days.
pub(crate) fn query(days: u32, customer: Option<&str>, group_by: Vec<Field>) -> Query {
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

/// What the rows say.
pub(crate) fn answer(query: &Query, rows: &dyn Snapshot) -> Answer {
    evaluate(query, MeterType::default(), rows, Limits::default()).expect("an answer")
}
