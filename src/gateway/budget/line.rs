//! Who waits for room, and whose turn it is. Plain data under the budget's lock.
//!
//! The next one is the first request of the key that holds least. Among keys that hold the same, the one whose last turn is
//! longest ago. A request that does not fit yet is waited for, or a large one would never get in, unless it is its own key
//! that holds too much: then it is passed over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use crate::accounts::Share;

/// Requests that may wait.
pub(super) const WAITERS_MAX: usize = 16_384;
/// Of these, of one key.
pub(super) const WAITERS_OF_A_KEY_MAX: usize = WAITERS_MAX / 2;

/// Those who wait. `G` tells one of them that it has room.
pub(super) struct Line<G> {
    keys: HashMap<u64, Queue<G>>,
    /// Of every key in `keys`, in the order in which they are served.
    turns: BTreeSet<Turn>,
    len: usize,
    /// Counts whatever happens in an order: requests that join, and turns that were had.
    clock: u64,
}

/// The place of a request in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// The place of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// What it held when it was last looked at.
    held: usize,
    /// Its last turn, or when it joined.
    since: u64,
    key: u64,
}

/// The requests of one key, in their order; at least one.
struct Queue<G> {
    share: Arc<Share>,
    waiters: BTreeMap<Ticket, Waiter<G>>,
    turn: Turn,
}

struct Waiter<G> {
    bytes: usize,
    grant: G,
}

impl<G> Default for Line<G> {
    fn default() -> Self {
        Self { keys: HashMap::new(), turns: BTreeSet::new(), len: 0, clock: 0 }
    }
}

impl<G> Line<G> {
    /// Requests in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a request behind those of its key. `None` if too many wait.
    pub(super) fn join(&mut self, share: &Arc<Share>, bytes: usize, grant: G) -> Option<Ticket> {
        if self.len >= WAITERS_MAX {
            return None;
        }
        self.clock += 1;
        let (key, since) = (share.id(), self.clock);
        let queue = self.keys.entry(key).or_insert_with(|| {
            let turn = Turn { held: share.held(), since, key };
            self.turns.insert(turn);
            Queue { share: share.clone(), waiters: BTreeMap::new(), turn }
        });
        if queue.waiters.len() >= WAITERS_OF_A_KEY_MAX {
            return None;
        }
        let ticket = Ticket(since);
        queue.waiters.insert(ticket, Waiter { bytes, grant });
        self.len += 1;
        Some(ticket)
    }

    /// Takes a request out. `false` if it was served.
    pub(super) fn leave(&mut self, share: &Share, ticket: Ticket) -> bool {
        let Some(queue) = self.keys.get_mut(&share.id()) else { return false };
        if queue.waiters.remove(&ticket).is_none() {
            return false;
        }
        self.len -= 1;
        self.place_anew(share.id(), None);
        true
    }

    /// A key has come closer to its turn, or further from it.
    pub(super) fn holds_otherwise(&mut self, share: &Share) {
        self.place_anew(share.id(), None);
    }

    /// The next request that gets room, which `take` takes for it; the key holds it from here on. `None` if it is nobody's turn.
    /// `share_max` is what a key may hold, but for a single request of any size.
    pub(super) fn next(&mut self, share_max: usize, mut take: impl FnMut(usize) -> bool) -> Option<G> {
        let mut passed = None;
        loop {
            let behind = passed.map_or(Bound::Unbounded, Bound::Excluded);
            let turn = *self.turns.range((behind, Bound::Unbounded)).next()?;
            let queue = self.keys.get_mut(&turn.key)?;
            let held = queue.share.held();
            if held > turn.held {
                self.place_anew(turn.key, None);
                continue;
            }
            let first = queue.waiters.first_entry()?;
            let bytes = first.get().bytes;
            if held > 0 && held + bytes > share_max {
                passed = Some(turn);
                continue;
            }
            if !take(bytes) {
                return None;
            }
            let grant = first.remove().grant;
            queue.share.add(bytes);
            self.len -= 1;
            self.clock += 1;
            self.place_anew(turn.key, Some(self.clock));
            return Some(grant);
        }
    }

    /// Puts a key where it belongs now, or out if none of its requests waits. `since`: it has just had a turn.
    fn place_anew(&mut self, key: u64, since: Option<u64>) {
        let Some(queue) = self.keys.get_mut(&key) else { return };
        self.turns.remove(&queue.turn);
        if queue.waiters.is_empty() {
            self.keys.remove(&key);
        } else {
            queue.turn = Turn { held: queue.share.held(), since: since.unwrap_or(queue.turn.since), key };
            self.turns.insert(queue.turn);
        }
    }
}
