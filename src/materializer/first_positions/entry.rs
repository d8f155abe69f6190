//! What the index knows of one first.

use std::cmp::Ordering;

use crate::event::IdentityHash;

/// Bytes of an entry on disk, and in memory.
pub(super) const ENTRY_BYTES: usize = 40;

/// A first position. The identity stands in halves, or the compiler would align it to 48 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    /// Sorts the entries and places them in filters.
    pub(super) upper: u64,
    pub(super) lower: u64,
    pub(super) position: u64,
    /// Milliseconds.
    pub(super) log_time: i64,
    pub(super) content: u64,
}

impl Entry {
    pub(super) fn is_of(&self, identity: IdentityHash) -> bool {
        (self.upper, self.lower) == halves(identity)
    }

    pub(super) fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.upper.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.lower.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.position.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.log_time.to_le_bytes());
        bytes[32..].copy_from_slice(&self.content.to_le_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8; ENTRY_BYTES]) -> Self {
        Self {
            upper: u64_at(bytes, 0),
            lower: u64_at(bytes, 8),
            position: u64_at(bytes, 16),
            log_time: u64_at(bytes, 24).cast_signed(),
            content: u64_at(bytes, 32),
        }
    }
}

/// By identity, then position. Two entries with the same position are one and the same.
impl Ord for Entry {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        // The upper halves differ as good as always: one branch that is predicted.
        if self.upper != other.upper {
            self.upper.cmp(&other.upper)
        } else {
            (self.lower, self.position, self.log_time, self.content).cmp(&(other.lower, other.position, other.log_time, other.content))
        }
    }
}

impl PartialOrd for Entry {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Upper and lower half.
pub(super) fn halves(identity: IdentityHash) -> (u64, u64) {
    ((identity.0 >> 64) as u64, identity.0 as u64)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}
