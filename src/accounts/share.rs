//! What a key holds of the room that all keys share. It lies beside the key, so that a request finds it without a look-up.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// One key's part of one kind of room. Only counts: who may take how much is decided by whoever gives out the room
/// ([`crate::gateway::budget`]).
#[derive(Debug)]
pub struct Share {
    id: u64,
    held: AtomicUsize,
}

impl Share {
    /// A share that holds nothing. No two of a process have the same id.
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), held: AtomicUsize::new(0) }
    }

    /// Whose it is, as a number.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Bytes that it holds.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }

    /// Adds to what it holds; returns what that was before.
    pub fn add(&self, bytes: usize) -> usize {
        self.held.fetch_add(bytes, Ordering::AcqRel)
    }

    /// Takes from what it holds.
    pub fn subtract(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Ordering::AcqRel);
        debug_assert!(before >= bytes, "a share gives back what it has taken");
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::new()
    }
}
