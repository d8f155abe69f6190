//! Memory of rows is bounded, also that of many hours and of overflow rows with sketches; rows of an older version go on as they are.

use super::*;
use crate::materializer::shares::Shares;
use crate::materializer::working_set::WorkingSet;
use crate::store::memory::MemoryStore;
use crate::store::{Commit, Store};

/// An event with many dimensions, each of them with a value of its own.
fn block(id: u64, names: usize, hour: i64) -> Vec<u8> {
    let unique_id = format!("u-{id}");
    let dimensions: Vec<_> = (0..names).map(|name| (format!("d{name:02}"), format!("{id}/{name}"))).collect();
    let mut dimensions: Vec<_> = dimensions.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let draft = Draft {
        namespace: "",
        unique_id: &unique_id,
        unique_id_generated: false,
        customer_id: "c",
        time: Some(UnixMicros::of_seconds(20_000 * DAY_S + hour * HOUR_S)),
        measurements: &mut [Measurement { meter: "m", value: Amount::ONE }],
        dimensions: &mut dimensions,
    };
    let received = crate::clock::UnixMillis(20_000 * DAY_S * 1_000);
    let event = MeterEvent::check(draft, received, TimeWindow::default()).expect("a good event");
    let mut bytes = Vec::new();
    record::write(&mut bytes, &KEY, ACCOUNT, &event, record::Decisions::default());
    bytes
}

fn add(working: &mut WorkingSet, store: &MemoryStore, id: u64, names: usize) {
    add_at(working, store, id, names, 0);
}

/// Of an hour of the days from 20,000 on.
fn add_at(working: &mut WorkingSet, store: &MemoryStore, id: u64, names: usize, hour: i64) {
    let bytes = block(id, names, hour);
    let received = crate::clock::UnixMillis(20_000 * DAY_S * 1_000);
    let record = record::records(&bytes, 1, received).next().expect("one record").expect("decodes");
    working.add(&*store.snapshot().expect("a snapshot"), &record).expect("adds");
}

/// Adds until the working set is full; gives back how often.
fn filled(working: &mut WorkingSet, mut add: impl FnMut(&mut WorkingSet, u64)) -> u64 {
    let mut times = 0;
    while !working.is_full() {
        add(working, times);
        times += 1;
    }
    times
}

fn commit(working: &mut WorkingSet, store: &MemoryStore) {
    let rows = begun(working);
    let expected = store.snapshot().and_then(|snapshot| snapshot.progress(0)).expect("progress");
    let reached = Progress { next: Position(expected.next.0 + 1), ..expected };
    store.commit(&Commit { partition: 0, expected, reached, rows, conflicts: Vec::new() }).expect("commits");
    working.end_commit();
}

#[test]
fn what_sketches_hold_in_memory_makes_the_working_set_full_and_goes_with_a_commit() {
    let store = MemoryStore::default();
    let mut working = WorkingSet::new(0, 1, Shares::default());
    let id = filled(&mut working, |working, id| {
        assert!(id < 1_000, "16 sketches with hundreds of values take more than 12 entries");
        add(working, &store, id, 20);
    });
    assert_eq!(working.len(), 2, "the first set, and the overflow row");
    commit(&mut working, &store);
    assert!(!working.is_full() && working.is_empty());
    // It goes on where the stored row stands, and is full again soon.
    add(&mut working, &store, id, 20);
    assert!(working.is_full() && working.len() == 1);
}

#[test]
fn what_hours_hold_in_memory_makes_the_working_set_full_and_goes_with_a_commit() {
    let store = MemoryStore::default();
    let mut working = WorkingSet::new(0, 1, Shares::default());
    let hours = filled(&mut working, |working, hour| {
        assert!(hour < 48, "48 hours take more than 12 entries with one hour each");
        add_at(working, &store, 0, 0, hour as i64);
    });
    assert!(hours > 24, "those of one day do not");
    assert_eq!(working.len(), 2, "a day each");
    commit(&mut working, &store);
    assert!(!working.is_full() && working.is_empty());
}

#[test]
fn an_overflow_row_that_has_no_sketches_never_gets_any_and_the_next_hour_does() {
    let store = MemoryStore::default();
    let mut working = WorkingSet::new(0, 1, Shares::default());
    (0..3).for_each(|id| add(&mut working, &store, id, 1));
    // As an older version had left them.
    let written = begun(&mut working).decoded().expect("rows");
    let old: EncodedRows = written.into_iter().map(|(key, row)| (key, Row { sketches: None, ..row })).collect();
    assert_eq!(old.len(), 4);
    let expected = store.snapshot().and_then(|snapshot| snapshot.progress(0)).expect("progress");
    let reached = Progress { next: Position(3), ..expected };
    store.commit(&Commit { partition: 0, expected, reached, rows: old, conflicts: Vec::new() }).expect("commits");
    let mut working = WorkingSet::new(0, 1, Shares::default());
    add(&mut working, &store, 3, 1);
    let rows = begun(&mut working).decoded().expect("rows");
    let counts: Vec<_> = rows.iter().map(|(_, row)| (row.count, row.sketches.is_some())).collect();
    assert_eq!(counts, [(3, false), (3, false)], "hour and day of the overflow row");
}
