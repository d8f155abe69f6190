//! Memory that all partitions of a process share: where a node folds sixteen, each has a sixteenth of what one has by itself.
//!
//! Nothing is taken away at once: what is larger than its part since another partition was taken is full at the next look at it, and what comes
//! in its place is smaller.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the partitions that share. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shares(Arc<AtomicUsize>);

/// One partition's part, until it is dropped.
pub(super) struct Share(Shares);

impl Shares {
    /// Makes the parts of all others smaller.
    pub(super) fn join(&self) -> Share {
        self.0.fetch_add(1, Ordering::Relaxed);
        Share(self.clone())
    }

    /// A partition's part of what one has by itself, but never less than `min`.
    pub(super) fn part_of(&self, alone: usize, min: usize) -> usize {
        let among = self.0.load(Ordering::Relaxed).max(1);
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
        self.0.0.fetch_sub(1, Ordering::Relaxed);
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
