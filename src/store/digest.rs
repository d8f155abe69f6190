//! A digest of rows: SHA-256 over all of them, sorted by encoded key, each as `u32 length, key, u32 length, row` (little-endian).
//! Equal digests mean equal rows, bit for bit.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::Row;

/// What [`RowsDigest`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Takes rows in the order of their keys.
#[derive(Default)]
pub struct RowsDigest {
    hash: Sha256,
    rows: u64,
    encoded: Vec<u8>,
}

impl RowsDigest {
    /// Takes the next row.
    pub fn add(&mut self, key: &[u8], row: &Row) {
        self.encoded.clear();
        row.write(&mut self.encoded);
        for bytes in [key, &self.encoded] {
            self.hash.update((bytes.len() as u32).to_le_bytes());
            self.hash.update(bytes);
        }
        self.rows += 1;
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The digest of all rows.
    pub fn finish(self) -> Digest {
        Digest(self.hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMicros;
    use crate::event::Amount;

    fn digest(rows: &[(&[u8], i64)]) -> String {
        let mut digest = RowsDigest::default();
        rows.iter().for_each(|(key, value)| digest.add(key, &Row::first(Amount::from_int(*value), UnixMicros(5), "u-1")));
        digest.finish().to_string()
    }

    #[test]
    fn every_key_and_value_shows_in_the_digest() {
        let all = [&[][..], &[(&b"a"[..], 1)], &[(b"b", 1)], &[(b"a", 2)], &[(b"a", 1), (b"b", 1)], &[(b"b", 1), (b"a", 1)]].map(digest);
        let different: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len(), "{all:?}");
        assert_eq!(all[0], "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "of nothing");
    }
}
