//! Hashes of an event: which one it is, and what it says.
//!
//! Both are keyed with a secret that is made once for an installation and lives with its log, so that nobody who
//! sends events can craft two that meet (`design.md`, promise 5). SipHash-1-3: a keyed hash made for this.
//!
//! The content is hashed in a canonical form that never changes, as the hash of an event's first copy may be
//! years older than that of its second:
//!
//! ```text
//! customerId   u8 length, bytes
//! time sent    i64 µs; i64::MIN if the producer sent none
//! measurements u8 count; each: u8 length, meter; u8 length, value × 10^12 as the fewest bytes (two's complement)
//! dimensions   u8 count; each: u8 length, key; u16 length, value
//! ```
//!
//! Little-endian; measurements sorted by meter, dimensions by key.

use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use super::{Amount, MeterEvent};

/// The key of both hashes. Made at the log's creation, kept in its metadata, never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey([u8; 16]);

impl HashKey {
    /// The key as it stands in the log's metadata.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes to keep.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(hidden)")
    }
}

/// 128 bits of (account, namespace, uniqueId): what makes two records copies of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityHash(pub u128);

/// 64 bits of what the producer said: customer, time, measurements, dimensions; normalised, before any default
/// fills anything in (`design.md`, promise 2). Tells a `duplicate` from a `conflict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub u64);

impl HashKey {
    /// Which event it is.
    pub fn identity(&self, account: u32, namespace: &str, unique_id: &str) -> IdentityHash {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        // The namespace's length in front keeps ("a", "bc") and ("ab", "c") apart.
        let head = (u64::from(account) << 32) | namespace.len() as u64;
        hasher.write(&head.to_le_bytes());
        hasher.write(namespace.as_bytes());
        hasher.write(unique_id.as_bytes());
        IdentityHash(hasher.finish128().as_u128())
    }

    /// What it says, from the canonical form that [`write_content`] made.
    pub fn content(&self, canonical: &[u8]) -> ContentHash {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(canonical);
        ContentHash(hasher.finish128().h1)
    }
}

/// Appends the canonical form of an event's content.
pub fn write_content(event: &MeterEvent<'_, '_>, to: &mut Vec<u8>) {
    // A checked event: every length fits its prefix.
    let text = |to: &mut Vec<u8>, text: &str| {
        to.push(text.len() as u8);
        to.extend_from_slice(text.as_bytes());
    };
    text(to, event.customer_id());
    to.extend_from_slice(&event.time_sent().map_or(i64::MIN, |time| time.0).to_le_bytes());
    to.push(event.measurements().len() as u8);
    for measurement in event.measurements() {
        text(to, measurement.meter);
        write_amount(measurement.value, to);
    }
    to.push(event.dimensions().len() as u8);
    for (key, value) in event.dimensions() {
        text(to, key);
        to.extend_from_slice(&(value.len() as u16).to_le_bytes());
        to.extend_from_slice(value.as_bytes());
    }
}

fn write_amount(amount: Amount, to: &mut Vec<u8>) {
    let scaled = amount.scaled();
    let significant = if scaled < 0 { !scaled } else { scaled };
    let bits = 129 - significant.leading_zeros() as usize;
    let bytes = if scaled == 0 { 0 } else { bits.div_ceil(8) };
    to.push(bytes as u8);
    to.extend_from_slice(&scaled.to_le_bytes()[..bytes]);
}

/// Reads what [`write_content`] wrote for a value: the bytes after its length.
pub fn read_amount(bytes: &[u8]) -> Option<Amount> {
    let Some(last) = bytes.last() else { return Some(Amount::default()) };
    let mut wide = [if last & 0x80 == 0 { 0 } else { 0xff }; 16];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Amount::from_scaled(i128::from_le_bytes(wide)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn identities_keep_account_namespace_and_id_apart() {
        let key = HashKey::from_bytes([7; 16]);
        let all = [key.identity(1, "", "abc"), key.identity(2, "", "abc"), key.identity(1, "a", "bc"), key.identity(1, "ab", "c")];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one));
        }
        assert_ne!(HashKey::from_bytes([8; 16]).identity(1, "", "abc"), all[0]);
    }

    proptest! {
        #[test]
        fn amounts_survive_their_short_form(scaled in prop_oneof![-300_i128..300, -100_000_000_000_000_000_000_000_000_000_000_i128 + 1..100_000_000_000_000_000_000_000_000_000_000]) {
            let amount = Amount::from_scaled(scaled).expect("in range");
            let mut bytes = Vec::new();
            write_amount(amount, &mut bytes);
            prop_assert_eq!(bytes.len(), 1 + usize::from(bytes[0]));
            prop_assert_eq!(read_amount(&bytes[1..]), Some(amount));
        }
    }
}
