//! What is compared to recognise a copy at the door.

use super::{ContentHash, IdentityHash};

/// Which event it is and what it says, in 128 bits.
///
/// The second word mixes both hashes. Two copies of one identity differ in it exactly if their contents do, and the words of
/// two different events put together are nobody's: a table of these may be read while it is written, and events with equal
/// contents are common. Both hashes are keyed, so nobody can choose events that meet here; by chance it is 2^-128 for two
/// whole ones and 2^-64 for a torn one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// The lower 64 bits of the identity hash; 0: none.
    pub identity: u64,
    /// Its upper 64 bits, XOR the content hash.
    pub rest: u64,
}

impl Fingerprint {
    /// Of an event of which no copy can be recognised.
    pub const NONE: Self = Self { identity: 0, rest: 0 };

    /// Of an event with these hashes.
    pub fn of(identity: IdentityHash, content: ContentHash) -> Self {
        Self { identity: identity.0 as u64, rest: (identity.0 >> 64) as u64 ^ content.0 }
    }

    /// Whether it stands for no event. One real event in 2^64 looks so, too: its copies are left to the log.
    pub fn is_none(self) -> bool {
        self.identity == 0
    }
}
