//! Where the next page of a list begins.
//!
//! With one partition, and for dead letters, it is a position: a plain number. With several it is a text that means something to us only:
//!
//! ```text
//! base64url, without padding, of
//! u8     version: 1
//! varint number of partitions
//! …      a varint for each: where the next page begins in it
//! u32    crc32c of what stands before, little-endian
//! ```
//!
//! A varint has 7 bits a byte, the lowest first, and the highest bit set where another byte follows.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::{Serialize, Serializer};

use crate::log::Position;

const VERSION: u8 = 1;
/// A `u64` in a varint.
const VARINT_BYTES_MAX: usize = 10;
/// A longer text is none of ours; 1,024 partitions have 14 kB.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// What stands before it in each partition was not given out yet. Of one list: what it means to another is not said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Vec<Position>);

impl From<Position> for Cursor {
    fn from(position: Position) -> Self {
        Self(vec![position])
    }
}

impl Cursor {
    /// Of these positions, one for each partition.
    pub(super) fn of(positions: Vec<Position>) -> Self {
        Self(positions)
    }

    /// Where it goes on in a partition.
    pub(super) fn at(&self, partition: u32) -> Position {
        self.0.get(partition as usize).copied().unwrap_or_default()
    }

    /// Reads what was given out for a log of so many partitions; `None`: it is none of ours.
    pub fn parse(text: &str, partitions: u32) -> Option<Self> {
        if partitions <= 1 {
            return text.parse().ok().map(Position).map(Self::from);
        }
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (said, sum) = bytes.split_last_chunk::<4>()?;
        let mut rest = said.strip_prefix(&[VERSION])?;
        if crc32c::crc32c(said) != u32::from_le_bytes(*sum) || read(&mut rest)? != u64::from(partitions) {
            return None;
        }
        let positions = (0..partitions).map(|_| read(&mut rest).map(Position)).collect::<Option<Vec<_>>>()?;
        rest.is_empty().then_some(Self(positions))
    }

    fn to_text(&self) -> String {
        let mut bytes = vec![VERSION];
        write(&mut bytes, self.0.len() as u64);
        self.0.iter().for_each(|position| write(&mut bytes, position.0));
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// As it stands in an answer.
impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [position] => serializer.serialize_u64(position.0),
            _ => serializer.serialize_str(&self.to_text()),
        }
    }
}

fn write(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// In its shortest form only: each cursor has one text.
fn read(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for at in 0..VARINT_BYTES_MAX {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        let bits = u64::from(byte & 0x7f);
        let placed = bits << (7 * at);
        if placed >> (7 * at) != bits || (*byte == 0 && at > 0) {
            return None;
        }
        number |= placed;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn positions() -> impl Strategy<Value = Vec<u64>> {
        proptest::collection::vec(prop_oneof![0_u64..300, any::<u64>()], 2..40)
    }

    fn shown(cursor: &Cursor) -> String {
        match serde_json::to_value(cursor).expect("serializes") {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        }
    }

    proptest! {
        #[test]
        fn a_cursor_comes_back_and_is_that_of_no_other_number_of_partitions(positions in positions()) {
            let cursor = Cursor::of(positions.into_iter().map(Position).collect());
            let (text, partitions) = (shown(&cursor), cursor.0.len() as u32);
            prop_assert_eq!(Cursor::parse(&text, partitions), Some(cursor.clone()));
            for other in [0, 1, partitions - 1, partitions + 1, u32::MAX] {
                prop_assert!(other == partitions || Cursor::parse(&text, other).is_none(), "{}", other);
            }
            for (partition, position) in (0..).zip(&cursor.0) {
                prop_assert_eq!(cursor.at(partition), *position);
            }
        }

        #[test]
        fn a_changed_cursor_is_none_of_ours(positions in positions(), at in any::<prop::sample::Index>(), to in "[A-Za-z0-9_-]") {
            let cursor = Cursor::of(positions.into_iter().map(Position).collect());
            let (text, partitions) = (shown(&cursor), cursor.0.len() as u32);
            let at = at.index(text.len());
            let changed = format!("{}{to}{}", &text[..at], &text[at + 1..]);
            prop_assert!(changed == text || Cursor::parse(&changed, partitions).is_none());
            prop_assert!(Cursor::parse(&text[..at], partitions).is_none());
        }

        #[test]
        fn any_text_is_a_cursor_or_none(text in "\\PC{0,60}", partitions in any::<u32>()) {
            if let Some(cursor) = Cursor::parse(&text, partitions) {
                prop_assert!(partitions <= 1 || shown(&cursor) == text);
            }
        }

        /// What a checksum cannot tell: whoever can compute one may say anything, and gets a cursor or nothing.
        #[test]
        fn bytes_with_a_right_checksum_are_a_cursor_with_one_text_or_none(
            bytes in proptest::collection::vec(prop_oneof![Just(0_u8), Just(0x80_u8), Just(0xff_u8), any::<u8>()], 0..30),
            partitions in 2_u32..5,
        ) {
            let mut said = vec![VERSION, partitions as u8];
            said.extend_from_slice(&bytes);
            let sum = crc32c::crc32c(&said);
            said.extend_from_slice(&sum.to_le_bytes());
            let text = BASE64_URL_SAFE_NO_PAD.encode(said);
            if let Some(cursor) = Cursor::parse(&text, partitions) {
                prop_assert_eq!(shown(&cursor), text);
            }
        }
    }

    #[test]
    fn with_one_partition_it_is_a_plain_number() {
        assert_eq!(shown(&Cursor::from(Position(7))), "7");
        assert_eq!(Cursor::parse("7", 1), Some(Cursor::from(Position(7))));
        assert_eq!(Cursor::parse("7", 2), None);
        assert_eq!(Cursor::parse("-1", 1), None);
    }

    #[test]
    fn one_of_as_many_partitions_as_there_can_be_fits_into_a_request() {
        let cursor = Cursor::of(vec![Position(u64::MAX); 1_024]);
        let text = shown(&cursor);
        assert!(text.len() <= TEXT_BYTES_MAX, "{}", text.len());
        assert_eq!(Cursor::parse(&text, 1_024), Some(cursor));
    }
}
