//! A generation of recent ids: a table that is filled once and forgotten as a whole.
//!
//! ```text
//! bucket: 8 tags of 8 bits in a word; 0: empty. Places are taken in their order and never given back
//! entry:  the two words of a fingerprint; 8 for each bucket, in a table of their own
//! ```
//!
//! The tags are a sixteenth of the entries and lie closely, so a look-up of an id that is not there, which nearly all are, costs one
//! read of memory that is likely to be near. A bucket that is full loses one of its ids to the next: only a shortcut is lost.
//! Looking through whole fingerprints was three times as slow: their misses, in the cache and in the page tables, cost more than all else.
//!
//! One writer at a time. Readers take no lock: a torn pair of words is nobody's fingerprint (see [`Fingerprint`]), and a tag only
//! says where to look.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use zerocopy::FromZeros;

use crate::event::Fingerprint;

/// Ids that are looked up or inserted at once: their tags are asked for before the first is waited for.
pub(super) const GROUP: usize = 32;
/// Places of a bucket.
const PLACES: usize = 8;
/// Bits of a tag.
const TAG_BITS: usize = 8;
/// The bits of the lowest tag.
const LANE: u64 = 0xff;
const LOWEST_BITS: u64 = 0x0101_0101_0101_0101;
const HIGHEST_BITS: u64 = LOWEST_BITS << (TAG_BITS - 1);
/// Ids after which a table is full, in parts of 100 of its places. Up to here, 2 in 100 are lost to later ones.
const FULL_PERCENT: usize = 60;

type Words = [AtomicU64; 2];
/// Bytes of a bucket with its entries.
const BUCKET_BYTES: usize = size_of::<AtomicU64>() + size_of::<Words>() * PLACES;

/// The tables of a generation.
struct Tables {
    tags: Box<[AtomicU64]>,
    entries: Box<[[Words; PLACES]]>,
}

/// Ids that were remembered at about the same time.
pub(super) struct Generation {
    /// Tells generations apart; later ones have higher numbers.
    pub(super) number: u64,
    buckets: usize,
    tables: OnceLock<Tables>,
    entries: AtomicUsize,
}

impl Generation {
    /// A generation of at most `bytes`. It takes its memory with [`Self::allocate`].
    pub(super) fn new(number: u64, bytes: usize) -> Self {
        Self { number, buckets: bytes / BUCKET_BYTES, tables: OnceLock::new(), entries: AtomicUsize::new(0) }
    }

    /// Takes its memory: that of a forgotten generation of the same size, if nobody looks at it any more, else fresh one. Until then,
    /// and when there is none, nothing is in it and nothing goes in.
    pub(super) fn allocate(&self, forgotten: Option<Arc<Self>>) {
        let same_size = forgotten.filter(|forgotten| forgotten.buckets == self.buckets);
        let tables = same_size.and_then(Arc::into_inner).and_then(|forgotten| forgotten.tables.into_inner());
        match tables.map(Tables::emptied).or_else(|| Tables::new(self.buckets)) {
            Some(tables) => _ = self.tables.set(tables),
            None => tracing::warn!(bytes = self.bytes(), "no memory for recent ids; copies go on to the log"),
        }
    }

    /// Bytes that it takes, or is going to.
    pub(super) fn bytes(&self) -> usize {
        self.buckets * BUCKET_BYTES
    }

    /// Ids in it.
    pub(super) fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// How many ids it is meant for.
    pub(super) fn entries_max(&self) -> usize {
        self.buckets * PLACES * FULL_PERCENT / 100
    }

    /// Bytes of a generation that is meant for so many ids.
    pub(super) fn bytes_for(entries: usize) -> usize {
        entries.saturating_mul(100 * BUCKET_BYTES) / (PLACES * FULL_PERCENT)
    }

    /// Which of at most [`GROUP`] ids are in it, a bit each.
    pub(super) fn find(&self, group: &[Fingerprint]) -> u32 {
        let Some(tables) = self.tables.get() else { return 0 };
        let homes = self.homes(tables, group);
        let mut likely = 0;
        for (bit, (id, home)) in group.iter().zip(homes).enumerate() {
            let equal = equal_lanes(tables.tags[home].load(Ordering::Relaxed), tag(*id));
            likely |= u32::from(equal != 0 && !id.is_none()) << bit;
        }
        if likely == 0 { 0 } else { tables.compare(group, &homes, likely) }
    }

    /// Puts at most [`GROUP`] ids in. Only one thread at a time may do so; ids of others could be lost otherwise.
    pub(super) fn insert(&self, group: &[Fingerprint]) {
        let Some(tables) = self.tables.get() else { return };
        let homes = self.homes(tables, group);
        let inserted = group.iter().zip(homes).filter(|(id, home)| !id.is_none() && tables.insert(*home, **id)).count();
        self.entries.store(self.entries() + inserted, Ordering::Relaxed);
    }

    /// The buckets of a group. Their tags are asked for here, all of them before the first is waited for.
    fn homes(&self, tables: &Tables, group: &[Fingerprint]) -> [usize; GROUP] {
        let mut homes = [0; GROUP];
        let mut read = 0;
        for (home, id) in homes.iter_mut().zip(group) {
            // The upper bits, scaled to the number of buckets; the tag is made of the lower ones.
            *home = ((u128::from(id.identity) * self.buckets as u128) >> 64) as usize;
            read ^= tables.tags[*home].load(Ordering::Relaxed);
        }
        // A read that nobody needs could be left out.
        black_box(read);
        homes
    }
}

impl Tables {
    /// Fresh ones, if there is memory. It is zeroed when it is first touched: at once, a large table would keep all answers waiting,
    /// for up to 100 ms on a busy machine.
    fn new(buckets: usize) -> Option<Self> {
        let tags = <[AtomicU64]>::new_box_zeroed_with_elems(buckets).ok()?;
        Some(Self { tags, entries: <[[Words; PLACES]]>::new_box_zeroed_with_elems(buckets).ok()? })
    }

    /// Nothing is found without its tag.
    fn emptied(mut self) -> Self {
        self.tags.iter_mut().for_each(|tags| *tags.get_mut() = 0);
        self
    }

    /// Which ids of those with a bit in `likely` are really there.
    fn compare(&self, group: &[Fingerprint], homes: &[usize; GROUP], likely: u32) -> u32 {
        let wanted = || group.iter().zip(homes).enumerate().filter(|(bit, _)| likely & (1 << bit) != 0);
        black_box(wanted().fold(0, |read, (_, (_, home))| read ^ self.entries[*home][0][0].load(Ordering::Relaxed)));
        wanted().fold(0, |found, (bit, (id, home))| found | u32::from(self.has(*home, *id)) << bit)
    }

    fn has(&self, home: usize, id: Fingerprint) -> bool {
        let equal = equal_lanes(self.tags[home].load(Ordering::Relaxed), tag(id));
        self.entries[home].iter().enumerate().any(|(place, [identity, rest])| {
            equal >> (place * TAG_BITS) & LANE != 0
                && identity.load(Ordering::Relaxed) == id.identity
                && rest.load(Ordering::Relaxed) == id.rest
        })
    }

    /// Whether there is one id more.
    fn insert(&self, home: usize, id: Fingerprint) -> bool {
        let tags = self.tags[home].load(Ordering::Relaxed);
        if equal_lanes(tags, tag(id)) != 0 && self.has(home, id) {
            return false;
        }
        let empty = lowest_lane(equal_lanes(tags, 0));
        self.put(home, empty.unwrap_or((id.rest % PLACES as u64) as usize), id);
        empty.is_some()
    }

    fn put(&self, home: usize, place: usize, id: Fingerprint) {
        let [identity, rest] = &self.entries[home][place];
        rest.store(id.rest, Ordering::Relaxed);
        identity.store(id.identity, Ordering::Relaxed);
        let (tags, shift) = (&self.tags[home], place * TAG_BITS);
        let others = tags.load(Ordering::Relaxed) & !(LANE << shift);
        tags.store(others | u64::from(tag(id)) << shift, Ordering::Relaxed);
    }
}

/// 1 to 255.
fn tag(id: Fingerprint) -> u8 {
    (id.identity as u8).max(1)
}

/// The highest bit of each tag that equals `tag`. Exact up to the lowest one that does; a lane above it may be taken for
/// equal although it is larger by one.
fn equal_lanes(lanes: u64, tag: u8) -> u64 {
    let differing = lanes ^ (u64::from(tag) * LOWEST_BITS);
    differing.wrapping_sub(LOWEST_BITS) & !differing & HIGHEST_BITS
}

/// The lowest lane with its highest bit set.
fn lowest_lane(lanes: u64) -> Option<usize> {
    (lanes != 0).then(|| lanes.trailing_zeros() as usize / TAG_BITS)
}
