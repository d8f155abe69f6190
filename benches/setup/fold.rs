//! The dedup index and the working set as the materializer's thread uses them.

use std::path::Path;
use std::sync::Arc;

use tollgate::clock::UnixMillis;
use tollgate::event::{ContentHash, IdentityHash};
use tollgate::log::disk::RealDisk;
use tollgate::log::record::{self, Record};
use tollgate::log::{Block, Position};
use tollgate::materializer::first_positions::{Asked, FirstPositions, Standing};
use tollgate::materializer::working_set::{LOOK_AHEAD, WorkingSet};
use tollgate::store::Snapshot;
use tollgate::store::embedded::EmbeddedStore;

use super::workload::{DIMENSION_SETS, RECEIVED, Workload, scramble};

/// Events of a block.
pub(crate) const EVENTS: u64 = 1_000;

pub(crate) fn open_index(dir: &Path) -> FirstPositions {
    FirstPositions::open(Arc::new(RealDisk), dir, [3; 16], None, UnixMillis(0)).expect("opens")
}

pub(crate) fn identity(number: u64) -> IdentityHash {
    let upper = scramble(number);
    IdentityHash(u128::from(upper) << 64 | u128::from(scramble(upper)))
}

pub(crate) fn asked(number: u64, position: u64) -> Asked {
    Asked { identity: identity(number), content: ContentHash(number), position: Position(position), log_time: RECEIVED }
}

/// Asks as the fold does, some at a time.
pub(crate) fn stand_all(index: &mut FirstPositions, records: impl Iterator<Item = Asked>, mut check: impl FnMut(Standing)) {
    let records: Vec<Asked> = records.collect();
    let mut standings = Vec::with_capacity(LOOK_AHEAD);
    for some in records.chunks(LOOK_AHEAD) {
        standings.clear();
        index.stand_all(some, &mut standings).expect("the index answers");
        standings.iter().copied().for_each(&mut check);
    }
}

/// Takes note of identities that are all new, at positions of the same numbers.
pub(crate) fn note_all(index: &mut FirstPositions, numbers: std::ops::Range<u64>) {
    stand_all(index, numbers.map(|number| asked(number, number)), |standing| assert_eq!(standing, Standing::First));
}

pub(crate) fn maintain(index: &mut FirstPositions, next: u64) {
    index.maintain(Position(next), RECEIVED, UnixMillis(0)).expect("the index answers");
}

/// An index on disk that knows so many identities a run.
pub(crate) fn known(dir: &Path, runs: u64, identities: u64) {
    let mut index = open_index(dir);
    for run in 0..runs {
        let end = (run + 1) * identities;
        note_all(&mut index, run * identities..end);
        index.freeze_at(Position(end), RECEIVED).expect("the index answers");
        index.wait().expect("the index answers");
    }
}

pub(crate) fn records(block: &Block) -> impl Iterator<Item = Record<'_>> {
    record::records(block.payload(), block.count(), block.received()).map(|record| record.expect("decodes"))
}

pub(crate) fn open_store(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open(&dir.join("store.redb")).expect("opens")
}

/// A working set as the default settings make it.
pub(crate) fn working_set() -> WorkingSet {
    WorkingSet::new(0, 10_000, tollgate::materializer::Shares::default())
}

pub(crate) fn add(working: &mut WorkingSet, snapshot: &dyn Snapshot, block: &Block) {
    records(block).for_each(|record| working.add(snapshot, &record).expect("the store answers"));
}

/// Adds one event of each customer and dimension set.
pub(crate) fn add_everyone(working: &mut WorkingSet, snapshot: &dyn Snapshot, customers: u64) -> Workload {
    let mut workload = Workload::new(customers);
    for _ in 0..customers * DIMENSION_SETS / EVENTS {
        add(working, snapshot, &workload.block(EVENTS));
    }
    workload
}

/// A working set with rows of everyone, and the events that come next.
pub(crate) fn with_everyone(snapshot: &dyn Snapshot, customers: u64) -> (WorkingSet, Workload) {
    let mut working = working_set();
    let workload = add_everyone(&mut working, snapshot, customers);
    (working, workload)
}

/// What the materializer's thread does with a block, whose records come next: decoded, asked about, added.
pub(crate) fn fold(working: &mut WorkingSet, snapshot: &dyn Snapshot, index: &mut FirstPositions, next: &mut u64, block: &Block) {
    let records: Vec<_> = records(block).collect();
    for some in records.chunks(LOOK_AHEAD) {
        working.look_ahead(some.iter());
        let asked = |(record, at): (&Record<'_>, u64)| {
            let (identity, content, position) = (record.identity, record.content, Position(at));
            Asked { identity, content, position, log_time: RECEIVED }
        };
        stand_all(index, some.iter().zip(*next..).map(asked), |standing| assert_eq!(standing, Standing::First));
        some.iter().for_each(|record| working.add(snapshot, record).expect("the store answers"));
        *next += some.len() as u64;
    }
    maintain(index, *next);
}
