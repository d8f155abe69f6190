//! Tables of all indexes of a process, in the room that one has by itself: where a node folds sixteen partitions, each has a sixteenth.
//!
//! Nothing is taken away at once: a table that is too large since another index was opened is full at the next look at it, and the one
//! in its place is smaller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::table::ENTRIES_MAX;

/// Smallest share. Runs of fewer entries would be merged too often.
const ENTRIES_MIN: usize = if cfg!(test) { 4 } else { 32 << 10 };

/// The room that some indexes share. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct TableShares(Arc<AtomicUsize>);

/// One index's part, until it is dropped.
pub(super) struct TableShare(TableShares);

impl TableShares {
    /// Makes the parts of all others smaller.
    pub(super) fn join(&self) -> TableShare {
        self.0.fetch_add(1, Ordering::Relaxed);
        TableShare(self.clone())
    }
}

impl TableShare {
    /// Entries of a table.
    pub(super) fn entries_max(&self) -> usize {
        let among = self.0.0.load(Ordering::Relaxed).max(1);
        (ENTRIES_MAX / among).max(ENTRIES_MIN)
    }
}

impl Drop for TableShare {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_all_the_room_and_many_have_it_in_parts() {
        let shares = TableShares::default();
        let first = shares.join();
        assert_eq!(first.entries_max(), ENTRIES_MAX);
        let second = shares.join();
        assert_eq!((first.entries_max(), second.entries_max()), (ENTRIES_MAX / 2, ENTRIES_MAX / 2));
        let more: Vec<_> = (0..100).map(|_| shares.join()).collect();
        assert_eq!(first.entries_max(), ENTRIES_MIN);
        drop((second, more));
        assert_eq!(first.entries_max(), ENTRIES_MAX);
        assert_eq!(TableShares::default().join().entries_max(), ENTRIES_MAX, "others have their own");
    }
}
