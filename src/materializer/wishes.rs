//! Commits that somebody waits for: another node that is to show what was acked before it was asked.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::log::Position;

/// What is wished of a partition: shared by the handles, which wish, and the thread that owns the partition.
pub(super) struct Wishes {
    furthest: AtomicU64,
    wake: Sender<()>,
    woken: Receiver<()>,
}

impl Default for Wishes {
    fn default() -> Self {
        let (wake, woken) = bounded(1);
        Self { furthest: AtomicU64::new(0), wake, woken }
    }
}

impl Wishes {
    /// Everything before this position is to be committed soon.
    pub(super) fn add(&self, at_least: Position) {
        if self.furthest.fetch_max(at_least.0, Ordering::AcqRel) < at_least.0 {
            // If one is waiting already, it does for this too.
            let (Ok(()) | Err(_)) = self.wake.try_send(());
        }
    }

    /// The furthest wish of all.
    pub(super) fn furthest(&self) -> Position {
        Position(self.furthest.load(Ordering::Acquire))
    }

    /// Something comes when there may be a new wish. Never ends.
    pub(super) fn woken(&self) -> &Receiver<()> {
        &self.woken
    }
}
