//! Memory that all partitions of a process share: where a node folds sixteen, each has a sixteenth of what one has by itself.
//!
//! Nothing is taken away at once: what is larger than its part since another partition was taken is full at the next look at it, and what comes
//! in its place is smaller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Entries of working sets in a process that has recent ids and pages of a store in memory, too: with those, an index of 100 million ids and a commit
/// under way, 1 GiB.
const ENTRIES_MAX: usize = if cfg!(test) { 12 } else { 440_000 };
/// The same in one that has neither.
const ENTRIES_ALONE_MAX: usize = 600_000;

/// Counts the partitions that share, and knows what they share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shares {
    partitions: Arc<AtomicUsize>,
    entries_max: usize,
}

impl Default for Shares {
    fn default() -> Self {
        Self { partitions: Arc::default(), entries_max: ENTRIES_MAX }
    }
}

/// One partition's part, until it is dropped.
pub(super) struct Share(Shares);

impl Shares {
    /// Of a process that does nothing but fold into a store that is somewhere else.
    pub fn alone() -> Self {
        Self { entries_max: ENTRIES_ALONE_MAX, ..Self::default() }
    }

    /// Entries of all working sets together.
    pub(super) fn entries_max(&self) -> usize {
        self.entries_max
    }

    /// Makes the parts of all others smaller.
    pub(super) fn join(&self) -> Share {
        self.partitions.fetch_add(1, Ordering::Relaxed);
        Share(self.clone())
    }

    /// A partition's part of what one has by itself, but never less than `min`.
    pub(super) fn part_of(&self, alone: usize, min: usize) -> usize {
        let among = self.partitions.load(Ordering::Relaxed).max(1);
        (alone / among).max(min.min(alone))
    }
}

impl Share {
    /// As [`Shares::part_of`].
    pub(super) fn part_of(&self, alone: usize, min: usize) -> usize {
        self.0.part_of(alone, min)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.partitions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_all_the_room_and_many_have_it_in_parts() {
        let shares = Shares::default();
        assert_eq!(shares.part_of(1_000, 10), 1_000, "nobody has joined yet");
        let first = shares.join();
        assert_eq!(first.part_of(1_000, 10), 1_000);
        let second = shares.join();
        assert_eq!((first.part_of(1_000, 10), second.part_of(1_000, 10)), (500, 500));
        let more: Vec<_> = (0..1_000).map(|_| shares.join()).collect();
        assert_eq!(first.part_of(1_000, 10), 10, "the smallest part");
        assert_eq!(first.part_of(4, 10), 4, "never more than one has by itself");
        drop((second, more));
        assert_eq!(first.part_of(1_000, 10), 1_000);
        assert_eq!(Shares::default().join().part_of(1_000, 10), 1_000, "others have their own");
    }
}
