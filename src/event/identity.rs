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
//! …            what else the sender said, in a form of its dialect's own
//! ```
//!
//! What is hashed is what the sender said ([`Said`]), whatever definitions have made of it.
//!
//! The identity is hashed in another one, which begins as the record does:
//!
//! ```text
//! account      u32
//! namespace    u16 length, bytes
//! uniqueId     u8 length, bytes
//! in an account that compares all attributes, what stands above of the content, but for the measurements' values
//! ```
//!
//! Little-endian; measurements sorted by meter, dimensions by key.
//!
//! What an event is called, and that alone, also says in which partition it belongs ([`partition`]): that hash has no key, so that
//! whoever knows what an event is called knows where it is.

use std::hash::Hasher;

use serde::{Deserialize, Serialize};
use siphasher::sip;
use siphasher::sip128::{Hasher128, SipHasher13};

use super::{Amount, Said};
use crate::clock::UnixMicros;

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

/// What makes two events copies of one: fixed when an account is made, since it decides what counts (contract `amberflo.md`
/// section 2, deduplication).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityMode {
    /// Namespace and uniqueId.
    #[default]
    UniqueId,
    /// Also customer, meters, the time as sent, and dimensions: for senders that use an id again for another event.
    AllAttributes,
}

impl IdentityMode {
    /// As it is written in settings and answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::UniqueId => "unique_id",
            Self::AllAttributes => "all_attributes",
        }
    }
}

/// 128 bits of what makes two records copies of one event, see [`IdentityMode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityHash(pub u128);

/// 64 bits of what the producer said: customer, time, measurements, dimensions; normalised, before any default
/// fills anything in (`design.md`, promise 2). Tells a `duplicate` from a `conflict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub u64);

impl HashKey {
    /// Which event it is, from the canonical form that [`write_id`] (and [`write_attributes`]) made.
    pub fn identity(&self, canonical: &[u8]) -> IdentityHash {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(canonical);
        IdentityHash(hasher.finish128().as_u128())
    }

    /// Which event it is in an account that goes by [`IdentityMode::UniqueId`]; `None` for an id that no event can have.
    pub fn identity_of(&self, account: u32, namespace: &str, unique_id: &str) -> Option<IdentityHash> {
        let is_short = unique_id.len() <= usize::from(u8::MAX) && namespace.len() <= usize::from(u16::MAX);
        let mut canonical = Vec::with_capacity(64);
        is_short.then(|| {
            write_id(&mut canonical, account, namespace, unique_id);
            self.identity(&canonical)
        })
    }

    /// What it says, from the canonical form that [`write_content`] made.
    pub fn content(&self, canonical: &[u8]) -> ContentHash {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(canonical);
        ContentHash(hasher.finish128().h1)
    }
}

/// The partition of an event: SipHash-1-3 with a key of zeros, 64 bits, over the canonical form of what it is called
/// ([`write_id`]), modulo the number of partitions. It never changes: an event has to meet its copies.
pub fn partition(account: u32, namespace: &str, unique_id: &str, partitions: u32) -> u32 {
    let mut canonical = Vec::with_capacity(64);
    write_id(&mut canonical, account, namespace, unique_id);
    partition_of(&canonical, partitions)
}

/// The same, of the canonical form itself.
pub fn partition_of(canonical: &[u8], partitions: u32) -> u32 {
    let mut hasher = sip::SipHasher13::new_with_key(&[0; 16]);
    hasher.write(canonical);
    (hasher.finish() % u64::from(partitions.max(1))) as u32
}

// A checked event: in what follows, every length fits its prefix.

/// Appends the canonical form of what an event is called.
pub fn write_id(to: &mut Vec<u8>, account: u32, namespace: &str, unique_id: &str) {
    let mut head = [0; 6];
    head[..4].copy_from_slice(&account.to_le_bytes());
    head[4..].copy_from_slice(&(namespace.len() as u16).to_le_bytes());
    to.extend_from_slice(&head);
    to.extend_from_slice(namespace.as_bytes());
    write_text(to, unique_id);
}

/// Appends the canonical form of the further attributes that tell events apart in [`IdentityMode::AllAttributes`].
pub fn write_attributes(said: &Said<'_, '_>, time_sent: Option<UnixMicros>, to: &mut Vec<u8>) {
    write_head(said, time_sent, to);
    for measurement in said.measurements {
        write_text(to, measurement.meter);
    }
    write_rest(said, to);
}

/// Appends the canonical form of an event's content.
pub fn write_content(said: &Said<'_, '_>, time_sent: Option<UnixMicros>, to: &mut Vec<u8>) {
    write_head(said, time_sent, to);
    for measurement in said.measurements {
        write_text(to, measurement.meter);
        write_amount(measurement.value, to);
    }
    write_rest(said, to);
}

fn write_text(to: &mut Vec<u8>, text: &str) {
    to.push(text.len() as u8);
    to.extend_from_slice(text.as_bytes());
}

fn write_head(said: &Said<'_, '_>, time_sent: Option<UnixMicros>, to: &mut Vec<u8>) {
    write_text(to, said.customer_id);
    to.extend_from_slice(&time_sent.map_or(i64::MIN, |time| time.0).to_le_bytes());
    to.push(said.measurements.len() as u8);
}

fn write_rest(said: &Said<'_, '_>, to: &mut Vec<u8>) {
    to.push(said.dimensions.len() as u8);
    for (key, value) in said.dimensions {
        write_dimension(key, value, to);
    }
    to.extend_from_slice(said.further);
}

/// Appends the canonical form of a dimension.
pub fn write_dimension(key: &str, value: &str, to: &mut Vec<u8>) {
    write_text(to, key);
    to.extend_from_slice(&(value.len() as u16).to_le_bytes());
    to.extend_from_slice(value.as_bytes());
}

/// Appends the canonical form of a value: a length, and so many bytes.
pub fn write_amount(amount: Amount, to: &mut Vec<u8>) {
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
        let all = [(1, "", "abc"), (2, "", "abc"), (1, "a", "bc"), (1, "ab", "c")];
        let all = all.map(|(account, namespace, id)| key.identity_of(account, namespace, id).expect("a possible id"));
        for (at, one) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(one));
        }
        assert_ne!(HashKey::from_bytes([8; 16]).identity_of(1, "", "abc"), Some(all[0]));
        assert_eq!(key.identity_of(1, "", &"x".repeat(256)), None);
    }

    /// Events were put there, and have to be found there, for ever. Computed by another implementation of SipHash.
    #[test]
    fn partitions_never_change() {
        let vectors = [
            (1, "", "u-1"),
            (1, "", "u-2"),
            (2, "", "u-1"),
            (1, "svc", "u-1"),
            (u32::MAX, "", ""),
            (1, "", "0f5b7d1c-8a35-4a0e-9a7c-3a5f0c3a8f11"),
        ];
        let of = |partitions| vectors.map(|(account, namespace, id)| partition(account, namespace, id, partitions));
        assert_eq!(of(16), [7, 13, 9, 5, 0, 1]);
        assert_eq!(of(1_000_003), [666_772, 732_697, 735_429, 849_242, 327_857, 520_977]);
        assert_eq!(of(1), [0; 6]);
    }

    #[test]
    fn partitions_are_of_one_size() {
        let mut sizes = [0_u32; 16];
        for number in 0..160_000 {
            sizes[partition(1, "", &format!("event-{number}"), 16) as usize] += 1;
        }
        assert!(sizes.iter().all(|size| (9_600..10_400).contains(size)), "{sizes:?}");
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
