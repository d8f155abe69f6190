//! Records that make no sense. They have a position and a verdict like every other one, and count nowhere.
//!
//! On a topic anybody may write anything. What was no event there stands in a block as
//!
//! ```text
//! u32 length of what follows
//! …   24 zeros and a byte 0xff: hashes and flags that no record has
//! u8  why, see Why
//! u8  1: what follows is only the begin
//! …   the bytes that were found, at most 64 KiB
//! ```
//!
//! so that whoever reads the block finds a record that cannot be decoded, and what was there. Nothing of it is ever written to a log.

/// Bytes that are kept of what was found.
const BYTES_MAX: usize = 64 << 10;

/// Zeros where an event's record has its hashes, and flags that no record has.
const MARK: [u8; 25] = {
    let mut bytes = [0; 25];
    bytes[24] = 0xff;
    bytes
};

/// The bytes of one record do not make sense, although their checksum is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record cannot be decoded: {}", why.reason())]
pub struct Undecodable<'b> {
    /// What is wrong.
    pub why: Why,
    /// What was found. Of a block whose lengths make no sense, the first such record has all that is left, the others have nothing.
    pub bytes: &'b [u8],
    /// Whether that is only its begin.
    pub is_cut: bool,
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The bytes of a block are no record.
    NoRecord,
    /// A message without the header that says what the gateway decided.
    NoHeader,
    /// The header is not one that a gateway writes.
    Header,
    /// A message without a key.
    NoKey,
    /// The key is not one that a gateway writes.
    Key,
    /// A message without a value, or with an empty one.
    NoValue,
    /// The value is not one that a gateway writes, or not what key and header are about.
    Value,
}

impl Why {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [Self::NoRecord, Self::NoHeader, Self::Header, Self::NoKey, Self::Key, Self::NoValue, Self::Value];

    /// For people.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoRecord => "the bytes are no record",
            Self::NoHeader => "the message has no header tollgate-record: it did not come through a gateway",
            Self::Header => "the header tollgate-record is not one that a gateway writes",
            Self::NoKey => "the message has no key",
            Self::Key => "the key is not one that a gateway writes",
            Self::NoValue => "the message has no value",
            Self::Value => "the value is not one that a gateway writes, or not the one that its key and header are about",
        }
    }
}

impl<'b> Undecodable<'b> {
    /// Of the bytes of a record, without their length.
    pub(super) fn of(record: &'b [u8]) -> Self {
        Self::found(record).unwrap_or_else(|| Self {
            why: Why::NoRecord,
            bytes: &record[..record.len().min(BYTES_MAX)],
            is_cut: record.len() > BYTES_MAX,
        })
    }

    fn found(record: &'b [u8]) -> Option<Self> {
        let (&[why, is_cut], bytes) = record.strip_prefix(&MARK)?.split_first_chunk()?;
        Some(Self { why: *Why::ALL.get(usize::from(why))?, bytes, is_cut: is_cut != 0 })
    }

    /// Appends a record that cannot be decoded.
    pub fn write(why: Why, found: &[u8], to: &mut Vec<u8>) {
        let bytes = &found[..found.len().min(BYTES_MAX)];
        to.extend_from_slice(&((MARK.len() + 2 + bytes.len()) as u32).to_le_bytes());
        to.extend_from_slice(&MARK);
        to.extend_from_slice(&[why as u8, u8::from(bytes.len() < found.len())]);
        to.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::log::record::records;
    use proptest::prelude::*;

    fn read(record: &[u8]) -> Undecodable<'_> {
        records(record, 1, UnixMillis(0)).next().expect("one record").expect_err("it is none")
    }

    proptest! {
        #[test]
        fn what_was_found_comes_back_with_what_is_wrong(why in 0..Why::ALL.len(), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut record = Vec::new();
            Undecodable::write(Why::ALL[why], &bytes, &mut record);
            prop_assert_eq!(read(&record), Undecodable { why: Why::ALL[why], bytes: &bytes, is_cut: false });
        }
    }

    #[test]
    fn of_much_only_the_begin_is_kept_and_that_is_said() {
        for (bytes, is_cut) in [(BYTES_MAX, false), (BYTES_MAX + 1, true), (20 * BYTES_MAX, true)] {
            let mut record = Vec::new();
            Undecodable::write(Why::Value, &vec![b'x'; bytes], &mut record);
            let found = read(&record);
            assert_eq!((found.bytes.len(), found.is_cut), (BYTES_MAX, is_cut));
        }
    }

    #[test]
    fn bytes_of_a_block_that_make_no_sense_are_given_out_once() {
        let mut block = 5_u32.to_le_bytes().to_vec();
        block.extend_from_slice(b"short");
        block.extend_from_slice(&[0xff; 7]);
        let found: Vec<_> = records(&block, 3, UnixMillis(0)).map(|record| record.expect_err("it is none").bytes).collect();
        assert_eq!(found, [b"short".as_slice(), &[0xff; 7], b""]);
    }

    #[test]
    fn each_reason_has_a_number_of_its_own() {
        assert_eq!(Why::ALL.map(|why| why as usize), [0, 1, 2, 3, 4, 5, 6]);
    }
}
