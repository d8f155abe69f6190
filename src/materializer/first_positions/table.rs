//! The firsts that are in no run yet.
//!
//! Entries stand in the order of their positions; a table of numbers of theirs finds them. So a look at what is not there touches a few bytes, adding
//! one writes at two places, and the order is there when buckets are told apart.
//!
//! The table is one of our own, of words in a row that are probed one after the other. A table that keeps its tags apart, as hashbrown's, has a look
//! wait for the tag's memory and the insertion for that of the slot, which nothing has looked at before and every write behind it waits for: a tenth of
//! all that the fold did. Here the look has fetched what the insertion writes.

use super::entry::{ENTRY_BYTES, Entry, halves};
use crate::event::IdentityHash;
use crate::fault;

/// Entries at which a table is full that has all the room. With those of [`BATCH_ROOM`] they take 7 in 16 of 2^21 slots: two looks find that one is not there.
pub(super) const ENTRIES_MAX: usize = if cfg!(test) { 16 } else { 900_000 };
/// The same of the smallest part. Runs of fewer entries would be merged too often.
pub(super) const ENTRIES_MIN: usize = if cfg!(test) { 4 } else { 32 << 10 };
/// So many entries of a batch may go beyond before the table has to grow.
const BATCH_ROOM: usize = if cfg!(test) { 48 } else { 17_504 };

/// Bits of an identity that keep strangers from being looked at, and below them the number of the entry, from 1 on. 0: free.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot(u64);

impl Slot {
    const FREE: Self = Self(0);

    fn of(upper: u64, at: usize) -> Self {
        Self(upper & CHECK | (at as u64 + 1))
    }

    /// The number of an entry that may be this one's.
    #[inline]
    fn may_be(self, upper: u64) -> Option<usize> {
        ((self.0 ^ upper) & CHECK == 0).then_some((self.0 & !CHECK) as usize - 1)
    }
}

/// Of the upper half of an identity, and of a slot.
const CHECK: u64 = u64::MAX << 32;

pub(super) struct Table {
    entries: Vec<Entry>,
    /// A power of two of them, of which less than half are taken.
    slots: Vec<Slot>,
    /// For how many it was made.
    entries_max: usize,
}

impl Table {
    pub(super) fn new(entries_max: usize) -> Self {
        let room = entries_max + BATCH_ROOM;
        Self { entries: Vec::with_capacity(room), slots: vec![Slot::FREE; slots_for(room)], entries_max }
    }

    /// For how many it was made.
    pub(super) fn entries_max(&self) -> usize {
        self.entries_max
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.slots.fill(Slot::FREE);
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
        (self.entries.capacity() * ENTRY_BYTES + self.slots.len() * size_of::<Slot>()) as u64
    }

    /// Takes note of a first, though there may be an older one of its identity, which has expired.
    #[inline]
    pub(super) fn insert(&mut self, entry: Entry) {
        if slots_for(self.entries.len() + 1) > self.slots.len() {
            self.grow();
        }
        let at = self.entries.len();
        self.entries.push(entry);
        self.take_slot(&entry, at);
    }

    fn take_slot(&mut self, entry: &Entry, at: usize) {
        let free = self.places(entry.lower).find(|place| self.slots[*place] == Slot::FREE);
        // There always is one: less than half are taken.
        if let Some(place) = free {
            self.slots[place] = Slot::of(entry.upper, at);
        }
    }

    #[cold]
    fn grow(&mut self) {
        self.slots = vec![Slot::FREE; 2 * self.slots.len()];
        for at in 0..self.entries.len() {
            let entry = self.entries[at];
            self.take_slot(&entry, at);
        }
    }

    /// All slots, beginning with the one for this half of an identity, which is uniform already: hashing once more would buy nothing.
    #[inline]
    fn places(&self, lower: u64) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        let first = lower as usize & mask;
        (first..first + mask + 1).map(move |place| place & mask)
    }

    /// The numbers of entries that may be of this identity.
    #[inline]
    fn suspects(&self, (upper, lower): (u64, u64)) -> impl Iterator<Item = usize> {
        let taken = self.places(lower).map(|place| self.slots[place]).take_while(|slot| *slot != Slot::FREE);
        taken.filter_map(move |slot| slot.may_be(upper))
    }

    /// Looks at what looking for these, and taking note of them, is going to need, so that the waits for memory overlap. Changes nothing.
    pub(super) fn look_ahead(&self, identities: impl Iterator<Item = IdentityHash>) {
        let touched = identities.map(|identity| self.suspects(halves(identity)).count());
        std::hint::black_box(touched.fold(0, std::ops::BitXor::bitxor));
    }

    #[inline]
    pub(super) fn find(&self, identity: IdentityHash, counts: impl Fn(&Entry) -> bool) -> Option<Entry> {
        let mut entries = self.suspects(halves(identity)).map(|at| self.entries[at]);
        entries.find(|entry| entry.is_of(identity) && counts(entry))
    }
}

/// Slots for so many entries.
fn slots_for(entries: usize) -> usize {
    (2 * entries).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry((upper, lower): (u64, u64), position: u64) -> Entry {
        Entry { upper, lower, position, log_time: 0, content: 0 }
    }

    fn identity((upper, lower): (u64, u64)) -> IdentityHash {
        IdentityHash(u128::from(upper) << 64 | u128::from(lower))
    }

    /// Few of each half, so that slots and checks are shared; some at the end of the table, from which is gone on at its begin.
    fn halves_of_some() -> impl Strategy<Value = (u64, u64)> {
        let lower = prop_oneof![0..6_u64, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()];
        ((0..3_u64, 0..3_u64).prop_map(|(check, rest)| check << 32 | rest), lower)
    }

    proptest! {
        #[test]
        fn each_is_found_that_was_noted_and_no_other(
            noted in proptest::collection::vec(halves_of_some(), 0..200),
            others in proptest::collection::vec(halves_of_some(), 0..50),
        ) {
            let mut table = Table::new(1);
            for round in 0..2 {
                for (position, halves) in noted.iter().enumerate() {
                    table.insert(entry(*halves, position as u64));
                }
                table.look_ahead(noted.iter().copied().map(identity));
                for halves in noted.iter().chain(&others) {
                    let found = table.find(identity(*halves), |_| true).map(|entry| entry.position as usize);
                    prop_assert_eq!(found, noted.iter().position(|noted| noted == halves), "the first of it, round {}", round);
                    let last = noted.iter().rposition(|noted| noted == halves);
                    let found = table.find(identity(*halves), |entry| Some(entry.position as usize) == last).map(|entry| entry.position as usize);
                    prop_assert_eq!(found, last, "of those that count");
                }
                prop_assert!(table.slots.len() >= 2 * table.entries().len());
                table.clear();
                prop_assert!(table.entries().is_empty() && noted.iter().all(|halves| table.find(identity(*halves), |_| true).is_none()));
            }
        }
    }
}
