//! Sketches: about how many different values there were, in a few kilobytes whatever their number.
//!
//! The overflow row has lost the dimensions of its events (`design.md`, aggregates). So that different values of a dimension can still
//! be counted, it keeps a sketch of each dimension's values: a HyperLogLog of 2^12 registers, whose estimate has a standard error
//! of 1.04 / √4096, 1.63 %. A register holds the largest rank (1 + leading zeros) of the hashes that fall to it. A maximum knows neither
//! order nor repetition, so a sketch is a function of the set of values alone: however events are ordered, repeated or split over rows and
//! partitions, the merged bytes are the same. Values are hashed by SipHash-1-3 under a fixed key: a key made at random would make two
//! logs of the same events differ, and the hash of a released version never changes.
//!
//! # Why not a crate
//! Bytes are compared and hashed by `tollgate verify` and live as long as rows do, so they must be the same for the same set, now and in
//! ten years. Crates that were looked at keep a history in the sketch (an estimator that depends on the order), serialise whatever fields
//! they have today, draw their keys at random, or bind a library in C++. What is needed is small.
//!
//! # Layout
//! ```text
//! sketches:  u8 whether names were left out (0, 1)   u8 names, each, ascending:   u8 length, name   sketch
//! sketch:    u16 registers that are not 0, if fewer than 1,024; each, ascending:   u16 register   u8 rank
//!            or u16 0xffff and all 4,096 ranks, 6 bits each, four of them in three bytes from the lowest bit on
//! ```
//! Little-endian. There is one form for each state: what has another one is not read.
//!
//! # Estimate
//! Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches" (2017), algorithm 6: no tables and no bias, from none to
//! far more than anybody counts. It uses nothing but additions, products, quotients and roots of `f64`, which are the same on every machine.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::event::{Amount, Sum};

/// Bits of a hash that choose the register.
const PRECISION: u32 = 12;
/// Registers of a sketch.
const REGISTERS: usize = 1 << PRECISION;
/// The largest rank: all bits behind the register's are 0.
const RANK_MAX: u8 = (64 - PRECISION + 1) as u8;
/// From so many registers that are not 0 on, all of them are kept: the list of them would be longer.
const DENSE_MIN: usize = 1_024;
/// Stands in the place of the number where all registers follow.
const DENSE: u16 = 0xffff;
/// Bytes of all ranks, packed.
const PACKED_BYTES: usize = REGISTERS / 4 * 3;
/// Names that have a sketch, a row: those that come first by their bytes.
pub const NAMES_MAX: usize = 16;

/// The standard error of an estimate, relative: 1.04 / √4096 = 0.01625, rounded up to four places.
pub fn standard_error() -> Sum {
    Amount::from_scaled(16_300_000_000).map(Sum::from).unwrap_or_default()
}

/// The hash of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ValueHash(u64);

impl ValueHash {
    /// Of a dimension's value. Never changes.
    pub fn of(value: &str) -> Self {
        let mut hasher = SipHasher13::new_with_key(b"tollgate-sketch1");
        hasher.write(value.as_bytes());
        Self(hasher.finish())
    }

    fn register(self) -> u16 {
        (self.0 >> (64 - PRECISION)) as u16
    }

    fn rank(self) -> u8 {
        // The bit behind the last one ends the zeros.
        ((self.0 << PRECISION) | (1 << (PRECISION - 1))).leading_zeros() as u8 + 1
    }
}

/// A set of values of which only about their number can be told.
#[derive(Clone, PartialEq, Eq)]
pub struct Sketch(Registers);

#[derive(Clone, PartialEq, Eq)]
enum Registers {
    /// Those that are not 0, ascending: register × 256 + rank.
    Sparse(Vec<u32>),
    /// All of them; at least [`DENSE_MIN`] are not 0.
    Dense(Box<[u8]>),
}

impl Default for Sketch {
    fn default() -> Self {
        Self(Registers::Sparse(Vec::new()))
    }
}

impl Sketch {
    /// Adds a value.
    pub fn add(&mut self, value: ValueHash) {
        self.raise(value.register(), value.rank());
    }

    /// Adds all values of another sketch.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (Registers::Dense(ranks), Registers::Dense(others)) => {
                ranks.iter_mut().zip(others).for_each(|(rank, other)| *rank = (*rank).max(*other));
            }
            (Registers::Sparse(_), Registers::Dense(_)) => {
                let fewer = std::mem::replace(self, other.clone());
                fewer.for_each_register(&mut |register, rank| self.raise(register, rank));
            }
            (_, Registers::Sparse(_)) => other.for_each_register(&mut |register, rank| self.raise(register, rank)),
        }
    }

    fn raise(&mut self, register: u16, rank: u8) {
        match &mut self.0 {
            Registers::Dense(ranks) => {
                if let Some(kept) = ranks.get_mut(usize::from(register)) {
                    *kept = (*kept).max(rank);
                }
            }
            Registers::Sparse(list) => {
                let entry = u32::from(register) << 8 | u32::from(rank);
                match list.binary_search_by_key(&register, |entry| (entry >> 8) as u16) {
                    Ok(at) => list[at] = list[at].max(entry),
                    Err(at) => list.insert(at, entry),
                }
                if list.len() >= DENSE_MIN {
                    self.0 = Registers::Dense(spread(list));
                }
            }
        }
    }

    /// Shows the registers that are not 0, ascending.
    fn for_each_register(&self, show: &mut dyn FnMut(u16, u8)) {
        match &self.0 {
            Registers::Sparse(list) => list.iter().for_each(|entry| show((entry >> 8) as u16, *entry as u8)),
            Registers::Dense(ranks) => (0..).zip(ranks).filter(|(_, rank)| **rank > 0).for_each(|(register, rank)| show(register, *rank)),
        }
    }

    /// About how many different values were added; [`standard_error`] says how near that is.
    pub fn estimate(&self) -> u64 {
        let mut registers_of = [0_u32; RANK_MAX as usize + 1];
        registers_of[0] = REGISTERS as u32;
        self.for_each_register(&mut |_, rank| {
            registers_of[0] -= 1;
            registers_of[usize::from(rank)] += 1;
        });
        let all = REGISTERS as f64;
        let share = |rank: usize| f64::from(registers_of[rank]) / all;
        let mut z = all * tau(1.0 - share(usize::from(RANK_MAX)));
        for rank in (1..usize::from(RANK_MAX)).rev() {
            z = 0.5 * (z + f64::from(registers_of[rank]));
        }
        z += all * sigma(share(0));
        (all * all / (2.0 * std::f64::consts::LN_2 * z)).round() as u64
    }

    /// Bytes of memory behind it.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Registers::Sparse(list) => list.capacity() * size_of::<u32>(),
            Registers::Dense(ranks) => ranks.len(),
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        match &self.0 {
            Registers::Sparse(list) => {
                to.extend_from_slice(&(list.len() as u16).to_le_bytes());
                self.for_each_register(&mut |register, rank| {
                    to.extend_from_slice(&register.to_le_bytes());
                    to.push(rank);
                });
            }
            Registers::Dense(ranks) => {
                to.extend_from_slice(&DENSE.to_le_bytes());
                for four in ranks.chunks_exact(4) {
                    let packed = (0..).zip(four).fold(0_u32, |packed, (at, rank)| packed | u32::from(*rank) << (6 * at));
                    to.extend_from_slice(&packed.to_le_bytes()[..3]);
                }
            }
        }
    }

    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let length = u16::from_le_bytes(*length);
        if length == DENSE { read_dense(rest) } else { read_sparse(usize::from(length), rest) }
    }
}

/// About how many there are: a sketch itself is of no use to people.
impl fmt::Debug for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sketch(about {})", self.estimate())
    }
}

fn spread(list: &[u32]) -> Box<[u8]> {
    let mut ranks = vec![0; REGISTERS];
    for entry in list {
        if let Some(rank) = ranks.get_mut((entry >> 8) as usize) {
            *rank = *entry as u8;
        }
    }
    ranks.into_boxed_slice()
}

fn read_sparse(length: usize, bytes: &[u8]) -> Option<(Sketch, &[u8])> {
    if length >= DENSE_MIN {
        return None;
    }
    let (bytes, rest) = bytes.split_at_checked(3 * length)?;
    let entry = |three: &[u8]| u32::from(three[1]) << 16 | u32::from(three[0]) << 8 | u32::from(three[2]);
    let list: Vec<u32> = bytes.chunks_exact(3).map(entry).collect();
    let is_possible = |entry: &u32| (entry >> 8) < REGISTERS as u32 && (1..=RANK_MAX).contains(&(*entry as u8));
    let is_ascending = list.windows(2).all(|two| two[0] >> 8 < two[1] >> 8);
    (is_ascending && list.iter().all(is_possible)).then_some((Sketch(Registers::Sparse(list)), rest))
}

fn read_dense(bytes: &[u8]) -> Option<(Sketch, &[u8])> {
    let (packed, rest) = bytes.split_at_checked(PACKED_BYTES)?;
    let mut ranks = Vec::with_capacity(REGISTERS);
    for three in packed.chunks_exact(3) {
        let packed = u32::from_le_bytes([three[0], three[1], three[2], 0]);
        ranks.extend((0..4).map(|at| (packed >> (6 * at)) as u8 & 0x3f));
    }
    let is_possible = ranks.iter().all(|rank| *rank <= RANK_MAX) && ranks.iter().filter(|rank| **rank > 0).count() >= DENSE_MIN;
    is_possible.then_some((Sketch(Registers::Dense(ranks.into_boxed_slice())), rest))
}

/// Ertl's σ: what registers that are 0 tell.
fn sigma(share: f64) -> f64 {
    if share >= 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (share, 1.0, share);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z <= before {
            return z;
        }
    }
}

/// Ertl's τ: what registers that are full tell.
fn tau(share: f64) -> f64 {
    if share <= 0.0 || share >= 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (share, 1.0, 1.0 - share);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z >= before {
            return z / 3.0;
        }
    }
}

/// The sketches of a row, by the dimension's name. Of more than [`NAMES_MAX`] names, those stay that come first by their bytes: each of these was
/// among the first from its first value on, in whatever order the events came, so its sketch has all its values.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sketches {
    /// Ascending.
    by_name: Vec<(Box<str>, Sketch)>,
    /// Whether there were more names.
    has_more: bool,
}

/// What sketches know of a dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known<'s> {
    /// All its values.
    All(&'s Sketch),
    /// There was no value of it.
    None,
    /// Nothing: its name is behind the [`NAMES_MAX`] that stayed.
    Nothing,
}

impl Sketches {
    /// Adds a value of a dimension.
    pub fn add(&mut self, name: &str, value: ValueHash) {
        if let Some(sketch) = self.of(name) {
            sketch.add(value);
        }
    }

    /// Adds those of another row.
    pub fn merge(&mut self, other: &Self) {
        self.has_more |= other.has_more;
        for (name, sketch) in &other.by_name {
            if let Some(own) = self.of(name) {
                own.merge(sketch);
            }
        }
    }

    /// The sketch of a name, made if it is not there; `None` if it does not stay.
    fn of(&mut self, name: &str) -> Option<&mut Sketch> {
        let at = match self.by_name.binary_search_by(|(own, _)| (**own).cmp(name)) {
            Ok(at) => at,
            Err(NAMES_MAX) => {
                self.has_more = true;
                return None;
            }
            Err(at) => {
                if self.by_name.len() == NAMES_MAX {
                    self.by_name.pop();
                    self.has_more = true;
                }
                self.by_name.insert(at, (name.into(), Sketch::default()));
                at
            }
        };
        self.by_name.get_mut(at).map(|(_, sketch)| sketch)
    }

    /// What is known of a dimension.
    pub fn get(&self, name: &str) -> Known<'_> {
        match self.by_name.binary_search_by(|(own, _)| (**own).cmp(name)) {
            Ok(at) => Known::All(&self.by_name[at].1),
            Err(at) if self.has_more && at == self.by_name.len() => Known::Nothing,
            Err(_) => Known::None,
        }
    }

    /// Names and about how many different values each has, by name.
    pub fn estimates(&self) -> impl Iterator<Item = (&str, u64)> {
        self.by_name.iter().map(|(name, sketch)| (&**name, sketch.estimate()))
    }

    /// Bytes of memory behind it.
    pub fn heap_bytes(&self) -> usize {
        let each = self.by_name.iter().map(|(name, sketch)| name.len() + sketch.heap_bytes());
        self.by_name.capacity() * size_of::<(Box<str>, Sketch)>() + each.sum::<usize>()
    }

    /// Appends the encoded sketches.
    pub fn write(&self, to: &mut Vec<u8>) {
        to.push(u8::from(self.has_more));
        to.push(self.by_name.len() as u8);
        for (name, sketch) in &self.by_name {
            // Checked where it came in: 128 bytes at most.
            to.push(name.len() as u8);
            to.extend_from_slice(name.as_bytes());
            sketch.write(to);
        }
    }

    /// Reads encoded sketches; `None` if these are none, or not in the one form that they have.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let ([has_more @ (0 | 1), names], mut rest) = bytes.split_first_chunk::<2>()? else { return None };
        let names = usize::from(*names);
        if names > NAMES_MAX || (*has_more == 1 && names < NAMES_MAX) {
            return None;
        }
        let mut by_name: Vec<(Box<str>, Sketch)> = Vec::with_capacity(names);
        for _ in 0..names {
            let (length, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(*length))?;
            let (sketch, after) = Sketch::read(after)?;
            by_name.push((std::str::from_utf8(name).ok()?.into(), sketch));
            rest = after;
        }
        let is_one_form = rest.is_empty() && by_name.windows(2).all(|two| two[0].0 < two[1].0);
        is_one_form.then_some(Self { by_name, has_more: *has_more == 1 })
    }
}

#[cfg(test)]
mod tests;
