//! Dead letters as they stand in their log: events that were not taken although their neighbours were, kept with the reason; records of
//! the log of events that cannot be decoded; and marks that say what was done with letters.
//!
//! A record of the dead letters' log, little-endian:
//!
//! ```text
//! u32 length of what follows
//! u8  form: 1
//! u32 length of the head
//! …   head, JSON: {"letter": {…}} or {"mark": {…}}
//! …   of a letter: the event's bytes as they were sent, at most 64 KiB
//! ```
//!
//! The log is only ever appended to, so a mark is a record of its own behind the letter that it is about: it is as durable as the
//! letter, is in every backup that has it, and never goes before it.

use serde::{Deserialize, Serialize};

use super::Rejected;
use super::form::Sent;
use crate::clock::UnixMillis;
use crate::event::Rejection;
use crate::log::{Block, BlockView, Position};

/// Bytes of an event that a letter keeps.
pub const RAW_BYTES_MAX: usize = 64 << 10;
/// The form of records that this binary writes.
const FORM: u8 = 1;
/// The account of letters that belong to none: there is no such account.
pub const NOBODY: u32 = 0;
/// The code of a letter about a record of the log that cannot be decoded. No event is refused with it.
pub const UNDECODABLE: &str = "undecodable";

/// One event that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Whose.
    pub account: u32,
    /// Its place in the request.
    pub index: u32,
    /// What was wrong with it when it came.
    pub refusal: Refusal,
    /// Whether `raw` is only its begin.
    pub is_cut: bool,
    /// The record of the log that it is about; `None`: an event that did not get into the log. Letters about the same record are one, of which the first counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordAt>,
    /// The form that it was sent in.
    #[serde(default, skip_serializing_if = "Sent::is_plain")]
    pub sent: Sent,
    /// The event's bytes as they were sent: of a row, without the end of its line.
    #[serde(skip)]
    pub raw: Vec<u8>,
}

/// A record of the log of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordAt {
    /// Its partition.
    pub partition: u32,
    /// Its position there.
    pub position: u64,
}

/// Why an event was not taken, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of mistake, see [`crate::event::Code`].
    pub code: String,
    /// The field, as a path inside the event; empty if the event as a whole is wrong.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
}

impl From<&Rejection> for Refusal {
    fn from(rejection: &Rejection) -> Self {
        Self { code: rejection.code.label().into(), field: rejection.field.clone(), reason: rejection.reason.clone() }
    }
}

/// What was done with the letter at a position.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Whose letter.
    pub account: u32,
    /// Where it is.
    pub letter: u64,
    /// Its code and the size of its record, so that books can be kept without reading it.
    pub code: String,
    /// See `code`.
    pub bytes: u64,
    /// What was done.
    pub became: Became,
}

/// What became of a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// Its event is durable in the log.
    Replayed {
        /// What the event is called.
        unique_id: String,
        /// The partition of `position`; not written where it is 0, and 0 where nothing is written.
        #[serde(default, skip_serializing_if = "is_zero")]
        partition: u32,
        /// Where it stands; `None`: it was known to be durable before.
        position: Option<u64>,
    },
    /// It was tried again, and was refused again.
    Refused(Refusal),
    /// Nobody wants it any more.
    Deleted,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it is.
    pub position: Position,
    /// When it came.
    pub received: UnixMillis,
    /// Its size in the log.
    pub bytes: u64,
    /// What it says.
    pub said: Said,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// An event was not taken.
    Letter(DeadLetter),
    /// Something was done with a letter.
    Mark(Mark),
}

/// The letters of one request.
pub(super) fn block(rejected: &[Rejected], sent: &Sent, account: u32, received: UnixMillis) -> Block {
    let mut block = Block::new(received, 0);
    for one in rejected {
        let raw = one.raw[..one.raw.len().min(RAW_BYTES_MAX)].to_vec();
        let is_cut = raw.len() < one.raw.len();
        let letter =
            DeadLetter { account, index: one.index, refusal: Refusal::from(&one.rejection), is_cut, record: None, sent: sent.clone(), raw };
        push(&mut block, Said::Letter(letter));
    }
    block
}

/// A block of these letters.
pub(crate) fn block_of(letters: Vec<DeadLetter>, received: UnixMillis) -> Block {
    let mut block = Block::new(received, 0);
    letters.into_iter().for_each(|letter| push(&mut block, Said::Letter(letter)));
    block
}

/// A block of marks.
pub fn marks(marks: Vec<Mark>, received: UnixMillis) -> Block {
    let mut block = Block::new(received, 0);
    marks.into_iter().for_each(|mark| push(&mut block, Said::Mark(mark)));
    block
}

fn push(block: &mut Block, said: Said) {
    // Strings, numbers and a bool always serialize; an empty head would only lose this record's text.
    let head = serde_json::to_vec(&said).unwrap_or_default();
    let raw = match said {
        Said::Letter(letter) => letter.raw,
        Said::Mark(_) => Vec::new(),
    };
    block.push(|to| {
        to.extend_from_slice(&((1 + 4 + head.len() + raw.len()) as u32).to_le_bytes());
        to.push(FORM);
        to.extend_from_slice(&(head.len() as u32).to_le_bytes());
        to.extend_from_slice(&head);
        to.extend_from_slice(&raw);
    });
}

/// The records of a block. What cannot be read is left out.
pub fn entries<'b>(block: &BlockView<'b>) -> impl Iterator<Item = Entry> + use<'b> {
    let (first, received, mut rest) = (block.first.0, block.received, block.payload);
    (first..first + u64::from(block.count)).filter_map(move |at| {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (record, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = after;
        Some(Entry { position: Position(at), received, bytes: 4 + record.len() as u64, said: read(record)? })
    })
}

fn read(record: &[u8]) -> Option<Said> {
    let rest = record.strip_prefix(&[FORM])?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (head, raw) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let mut said = serde_json::from_slice(head).ok()?;
    if let Said::Letter(letter) = &mut said {
        letter.raw = raw.to_vec();
    }
    Some(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Code;
    use crate::gateway::form::{Shape, Syntax};
    use proptest::prelude::*;

    const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);

    fn read_back(block: &Block) -> Vec<Entry> {
        let view = BlockView { first: Position(7), count: block.count(), received: RECEIVED, payload: block.payload() };
        entries(&view).collect()
    }

    fn rejected(raw: &[u8]) -> Rejected {
        Rejected { index: 3, rejection: Rejection::new(Code::WrongType, "meterValue", "must be a number"), raw: raw.into() }
    }

    proptest! {
        #[test]
        fn a_letter_has_the_bytes_that_were_sent(raw in proptest::collection::vec(any::<u8>(), 0..300)) {
            let sent = Sent::default();
            let found = read_back(&block(&[rejected(b"{}"), rejected(&raw)], &sent, 9, RECEIVED));
            prop_assert_eq!((found[1].position, found[1].received), (Position(8), RECEIVED));
            let Said::Letter(letter) = &found[1].said else { panic!("a letter") };
            prop_assert_eq!((letter.account, letter.index, letter.is_cut, &letter.raw), (9, 3, false, &raw));
            prop_assert_eq!(&letter.refusal.code, "wrong_type");
        }

        #[test]
        fn any_bytes_are_records_or_left_out(payload in proptest::collection::vec(any::<u8>(), 0..100), count in 0_u32..5) {
            let view = BlockView { first: Position(0), count, received: RECEIVED, payload: &payload };
            prop_assert!(entries(&view).count() <= count as usize);
        }
    }

    #[test]
    fn a_long_letter_is_cut_and_says_so() {
        let long = "é".repeat(RAW_BYTES_MAX / 2 + 1);
        let found = read_back(&block(&[rejected(&long.as_bytes()[1..])], &Sent::default(), 1, RECEIVED));
        let Said::Letter(letter) = &found[0].said else { panic!("a letter") };
        assert_eq!((letter.raw.len(), letter.is_cut), (RAW_BYTES_MAX, true));
    }

    #[test]
    fn a_letter_knows_the_form_that_it_was_sent_in_and_plain_ones_are_written_as_ever() {
        let csv = Sent { syntax: Syntax::Csv, shape: Shape::Custom, header: Some("a,\"b\"".into()) };
        for sent in [csv, Sent { syntax: Syntax::Ndjson, ..Sent::default() }, Sent::default()] {
            let written = block(&[rejected(b"1,2")], &sent, 1, RECEIVED);
            let Said::Letter(letter) = &read_back(&written)[0].said else { panic!("a letter") };
            assert_eq!((&letter.sent, letter.raw.as_slice()), (&sent, b"1,2".as_slice()));
            let says_form = memchr::memmem::find(written.payload(), b"\"sent\"").is_some();
            assert_eq!(says_form, !sent.is_plain());
        }
        // As it was written before there were forms.
        let old = br#"{"letter":{"account":1,"index":3,"refusal":{"code":"wrong_type","field":"meterValue","reason":"must be a number"},"is_cut":false}}"#;
        let plain = block(&[rejected(b"{}")], &Sent::default(), 1, RECEIVED);
        assert!(memchr::memmem::find(plain.payload(), old).is_some());
    }

    #[test]
    fn marks_come_back() {
        let mark = |letter, became| Mark { account: 1, letter, code: "too_old".into(), bytes: 100, became };
        let refusal = Refusal { code: "too_old".into(), field: "meterTimeInMillis".into(), reason: "is older".into() };
        let written = vec![
            mark(1, Became::Replayed { unique_id: "ü".into(), partition: u32::MAX, position: Some(u64::MAX) }),
            mark(2, Became::Replayed { unique_id: "u".into(), partition: 0, position: None }),
            mark(3, Became::Refused(refusal)),
            mark(u64::MAX, Became::Deleted),
        ];
        let found = read_back(&marks(written.clone(), RECEIVED));
        let found: Vec<_> = found.into_iter().map(|entry| entry.said).collect();
        assert_eq!(found, written.into_iter().map(Said::Mark).collect::<Vec<_>>());
    }
}
