//! The firsts that are in no run yet.
//!
//! Entries stand in the order of their positions; a hash table of numbers of theirs finds them. So a look at what is not there touches a
//! few bytes, adding one writes at two places, and the order is there when buckets are told apart.

use hashbrown::HashTable;

use super::entry::{ENTRY_BYTES, Entry, halves};
use crate::event::IdentityHash;
use crate::fault;

/// Entries at which a table is full that has all the room. With those of [`BATCH_ROOM`] they are 7 in 8 of 2^20 slots, as many as may be taken.
pub(super) const ENTRIES_MAX: usize = if cfg!(test) { 16 } else { 900_000 };
/// The same of the smallest part. Runs of fewer entries would be merged too often.
pub(super) const ENTRIES_MIN: usize = if cfg!(test) { 4 } else { 32 << 10 };
/// So many entries of a batch may go beyond before the table has to grow.
const BATCH_ROOM: usize = if cfg!(test) { 48 } else { 17_504 };

/// The number of an entry, and bits of its identity that keep strangers from being looked at.
#[derive(Clone, Copy)]
struct Slot {
    check: u32,
    at: u32,
}

pub(super) struct Table {
    entries: Vec<Entry>,
    slots: HashTable<Slot>,
    /// For how many it was made.
    entries_max: usize,
}

impl Table {
    pub(super) fn new(entries_max: usize) -> Self {
        let room = entries_max + BATCH_ROOM;
        Self { entries: Vec::with_capacity(room), slots: HashTable::with_capacity(room), entries_max }
    }

    /// For how many it was made.
    pub(super) fn entries_max(&self) -> usize {
        self.entries_max
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.slots.clear();
    }

    /// In the order of their positions, and so of their log times.
    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether it has so many entries, or as many as it was made for.
    pub(super) fn is_full(&self, entries_max: usize) -> bool {
        self.entries.len() >= fault::limit("TOLLGATE_INDEX_TABLE_ENTRIES", entries_max.min(self.entries_max))
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
