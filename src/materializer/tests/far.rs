//! A snapshot that is far away is asked a few times for many records, and the rows are the same.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::store::memory::MemoryStore;
use crate::store::{Item, KeyRange, Rows, Visit};

/// A snapshot that counts how it is asked.
struct Far {
    snapshot: Box<dyn Snapshot>,
    singly: AtomicU32,
    together: AtomicU32,
}

impl Rows for Far {
    fn scan(&self, selection: &RowSelection, visit: &mut Visit<'_>) -> Result<(), store::Error> {
        self.snapshot.scan(selection, visit)
    }

    fn first_key(&self, ranges: &[KeyRange]) -> Result<Option<Vec<u8>>, store::Error> {
        self.snapshot.first_key(ranges)
    }
}

impl Snapshot for Far {
    fn is_far(&self) -> bool {
        true
    }

    fn row(&self, key: &[u8]) -> Result<Option<Row>, store::Error> {
        self.singly.fetch_add(1, Ordering::Relaxed);
        self.snapshot.row(key)
    }

    fn rows(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Row>>, store::Error> {
        self.together.fetch_add(1, Ordering::Relaxed);
        self.snapshot.rows(keys)
    }

    fn count(&self, prefix: &[u8]) -> Result<u64, store::Error> {
        self.singly.fetch_add(1, Ordering::Relaxed);
        self.snapshot.count(prefix)
    }

    fn counts(&self, prefixes: &[Vec<u8>]) -> Result<Vec<u64>, store::Error> {
        self.together.fetch_add(1, Ordering::Relaxed);
        self.snapshot.counts(prefixes)
    }

    fn progress(&self, partition: u32) -> Result<Progress, store::Error> {
        self.snapshot.progress(partition)
    }

    fn conflicts(&self, account: u32, partition: u32, before: Position, limit: usize) -> Result<Vec<Conflict>, store::Error> {
        self.snapshot.conflicts(account, partition, before, limit)
    }

    fn visit(&self, visit: &mut dyn FnMut(Item<'_>) -> Result<(), store::Error>) -> Result<(), store::Error> {
        self.snapshot.visit(visit)
    }
}

/// A working set and the store that it commits into.
pub(super) struct Folding {
    pub(super) working: WorkingSet,
    store: MemoryStore,
    at: Progress,
}

impl Folding {
    pub(super) fn new(sets_max: u32) -> Self {
        let store = MemoryStore::default();
        let at = store.snapshot().and_then(|snapshot| snapshot.progress(0)).expect("progress");
        Self { working: WorkingSet::new(0, sets_max, Shares::default()), store, at }
    }

    /// Adds the records of a block; ahead of them all that they need is fetched if the snapshot is far. Says how often that was asked.
    pub(super) fn add(&mut self, block: &Block, is_far: bool) -> (u32, u32) {
        let snapshot = Far { snapshot: self.store.snapshot().expect("one"), singly: AtomicU32::new(0), together: AtomicU32::new(0) };
        let records: Vec<_> =
            record::records(block.payload(), block.count(), block.received()).map(|record| record.expect("decodes")).collect();
        for records in records.chunks(LOOK_AHEAD) {
            if is_far {
                self.working.fetch_ahead(&snapshot, records).expect("fetches");
            }
            records.iter().for_each(|record| self.working.add(&snapshot, record).expect("adds"));
        }
        (snapshot.singly.into_inner(), snapshot.together.into_inner())
    }

    pub(super) fn commit(&mut self) -> Vec<(Vec<u8>, Row)> {
        let rows = begun(&mut self.working);
        self.end_commit(rows)
    }

    /// Commits what a commit that was begun has copied.
    pub(super) fn end_commit(&mut self, mut rows: EncodedRows) -> Vec<(Vec<u8>, Row)> {
        rows.sort();
        let reached = Progress { next: Position(self.at.next.0 + 1), ..self.at };
        self.store.commit(&Commit { expected: self.at, reached, rows: rows.clone(), ..Commit::default() }).expect("commits");
        self.at = reached;
        self.working.end_commit();
        rows.decoded().expect("rows")
    }
}

pub(super) fn block_of(batch: &[Sent]) -> Block {
    let mut block = Block::new(crate::clock::UnixMillis(1_000), 0);
    batch.iter().for_each(|sent| sent.push(&mut block));
    block.seal()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn rows_are_the_same_whether_what_they_need_is_fetched_ahead_or_not(
        batches in proptest::collection::vec((proptest::collection::vec(sent(), 1..80), any::<bool>()), 1..12),
    ) {
        let (mut near, mut far) = (Folding::new(SETS_MAX), Folding::new(SETS_MAX));
        for (batch, commits) in batches {
            let block = block_of(&batch);
            near.add(&block, false);
            far.add(&block, true);
            if commits {
                prop_assert_eq!(far.commit(), near.commit());
            }
        }
        prop_assert_eq!(far.commit(), near.commit());
    }

    #[test]
    fn nothing_is_asked_for_singly_as_long_as_no_set_is_past_the_limit(
        batches in proptest::collection::vec(proptest::collection::vec(sent(), 1..=LOOK_AHEAD), 1..12),
    ) {
        let mut far = Folding::new(1_000);
        for batch in batches {
            let (singly, together) = far.add(&block_of(&batch), true);
            prop_assert_eq!(singly, 0);
            prop_assert!(together <= 2);
            far.commit();
        }
    }
}
