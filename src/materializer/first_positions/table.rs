//! The firsts that are in no run yet.
//!
//! Entries stand in the order of their positions; a hash table of numbers of theirs finds them. So a look at what is not there touches a
//! few bytes, adding one writes at two places, and the order is there when buckets are told apart.

use hashbrown::HashTable;

use super::entry::{ENTRY_BYTES, Entry, halves};
use crate::event::IdentityHash;
use crate::fault;

/// Slots of the hash table: a power of two, of which 7 in 8 may be taken.
const SLOTS: usize = 1 << 20;
/// Entries at which the table is full. A batch may go beyond: there is room for 17,504 more before it has to grow.
pub(super) const ENTRIES_MAX: usize = if cfg!(test) { 16 } else { 900_000 };
const ENTRIES_ROOM: usize = if cfg!(test) { 64 } else { SLOTS / 8 * 7 };

/// The number of an entry, and bits of its identity that keep strangers from being looked at.
#[derive(Clone, Copy)]
struct Slot {
    check: u32,
    at: u32,
}

pub(super) struct Table {
    entries: Vec<Entry>,
    slots: HashTable<Slot>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { entries: Vec::with_capacity(ENTRIES_ROOM), slots: HashTable::with_capacity(ENTRIES_ROOM) }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.slots.clear();
    }

    /// In the order of their positions, and so of their log times.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= fault::limit("TOLLGATE_INDEX_TABLE_ENTRIES", ENTRIES_MAX)
    }

    /// Bytes of memory that it takes up, used or not.
    pub(super) fn bytes(&self) -> u64 {
        (self.entries.capacity() * ENTRY_BYTES + self.slots.allocation_size()) as u64
    }

    /// Takes note of a first, though there may be an older one of its identity, which has expired.
    pub(super) fn insert(&mut self, entry: Entry) {
        let slot = Slot { check: (entry.upper >> 32) as u32, at: self.entries.len() as u32 };
        self.entries.push(entry);
        let entries = &self.entries;
        // Uniform already: hashing once more would buy nothing.
        self.slots.insert_unique(entry.lower, slot, |slot| entries[slot.at as usize].lower);
    }

    #[inline]
    pub(super) fn find(&self, identity: IdentityHash, counts: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let (upper, lower) = halves(identity);
        let check = (upper >> 32) as u32;
        let is_it = |slot: &Slot| {
            slot.check == check && {
                let entry = &self.entries[slot.at as usize];
                entry.is_of(identity) && counts(entry)
            }
        };
        self.slots.find(lower, is_it).map(|slot| self.entries[slot.at as usize])
    }
}
