//! A Bloom filter whose probes of one entry all fall into one cache line, and of that into two words.
//!
//! The upper half of an identity places it, as it sorts the entries of a run: a run is written with its filter from begin to end, and
//! nothing waits for memory. The lower half says which bits. Asked for many identities at once, the lines are fetched side by side:
//! nothing in [`Filter::may_hold_all`] branches on what was read.

use crate::event::IdentityHash;

use super::entry::halves;

const WORDS: usize = 8;
const LINE_BYTES: usize = 64;
/// One in 620 of those that are not there is taken for one that may be; with 12 bits it is one in 190.
const BITS_AN_ENTRY: usize = 16;
/// Most identities that are asked for at once.
pub(super) const PROBES_MAX: usize = 64;

/// Aligned, so that it is one line of the cache.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line([u64; WORDS]);

/// What is looked for in every filter alike.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Probe {
    upper: u64,
    words: [u8; 2],
    masks: [u64; 2],
}

impl Probe {
    pub(super) fn new(identity: IdentityHash) -> Self {
        let (upper, lower) = halves(identity);
        let bit = |at: u32| 1_u64 << ((lower >> at) & 63);
        Self {
            upper,
            words: [(lower & 3) as u8, 4 + ((lower >> 2) & 3) as u8],
            masks: [bit(4) | bit(10) | bit(16), bit(22) | bit(28) | bit(34)],
        }
    }

    fn of(upper: u64, lower: u64) -> Self {
        Self::new(IdentityHash(u128::from(upper) << 64 | u128::from(lower)))
    }
}

#[derive(PartialEq, Eq)]
pub(super) struct Filter {
    lines: Vec<Line>,
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Line {}

impl Filter {
    pub(super) fn for_entries(entries: u64) -> Self {
        Self { lines: vec![Line([0; WORDS]); Self::lines_for(entries)] }
    }

    fn lines_for(entries: u64) -> usize {
        (entries as usize * BITS_AN_ENTRY).div_ceil(LINE_BYTES * 8).max(1)
    }

    /// Bytes of the filter of so many entries, in memory and on disk.
    pub(super) fn bytes_for(entries: u64) -> u64 {
        (Self::lines_for(entries) * LINE_BYTES) as u64
    }

    /// Reads what [`Filter::write`] wrote; `bytes` are whole lines, at least one.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let line = |bytes: &[u8; LINE_BYTES]| {
            let mut line = Line([0; WORDS]);
            let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
            line.0.iter_mut().zip(words).for_each(|(to, word)| *to = word);
            line
        };
        Self { lines: bytes.as_chunks::<LINE_BYTES>().0.iter().map(line).collect() }
    }

    pub(super) fn write(&self, to: &mut Vec<u8>) {
        self.lines.iter().flat_map(|line| line.0).for_each(|word| to.extend_from_slice(&word.to_le_bytes()));
    }

    pub(super) fn bytes(&self) -> u64 {
        (self.lines.len() * LINE_BYTES) as u64
    }

    #[inline]
    fn line(&self, upper: u64) -> usize {
        ((u128::from(upper) * self.lines.len() as u128) >> 64) as usize
    }

    pub(super) fn insert(&mut self, upper: u64, lower: u64) {
        let probe = Probe::of(upper, lower);
        let line = self.line(upper);
        for (word, mask) in probe.words.into_iter().zip(probe.masks) {
            self.lines[line].0[usize::from(word)] |= mask;
        }
    }

    #[inline]
    pub(super) fn may_hold(&self, probe: &Probe) -> bool {
        let line = &self.lines[self.line(probe.upper)].0;
        let [first, second] = probe.words.map(|word| line[usize::from(word) % WORDS]);
        // One comparison for both words, so that there is nothing to predict.
        ((!first & probe.masks[0]) | (!second & probe.masks[1])) == 0
    }

    /// The bits of those, of [`PROBES_MAX`] at most, that may be in the run.
    pub(super) fn may_hold_all(&self, probes: &[Probe]) -> u64 {
        probes.iter().enumerate().fold(0, |found, (at, probe)| found | u64::from(self.may_hold(probe)) << at)
    }
}
