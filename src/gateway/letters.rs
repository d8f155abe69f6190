//! Dead letters: events that were not taken although their neighbours were, kept with the reason.
//!
//! A record of the dead letters' log is `u32 length` (little-endian) and JSON.

use serde::{Deserialize, Serialize};

use super::Rejected;
use crate::clock::UnixMillis;
use crate::log::{Block, BlockView, Position};

/// Bytes of an event that a letter keeps.
const RAW_BYTES_MAX: usize = 64 << 10;

/// One event that was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Whose.
    pub account: u32,
    /// Its place in the request.
    pub index: u32,
    /// The field, as a path inside the event; empty if the event as a whole is wrong.
    pub field: String,
    /// What is wrong with it.
    pub reason: String,
    /// What kind of mistake, see [`crate::event::Code`].
    pub code: String,
    /// The event as it was sent.
    pub raw: String,
    /// Whether `raw` is only its begin.
    pub is_cut: bool,
}

/// The letters of one request.
pub(super) fn block(rejected: &[Rejected], account: u32, received: UnixMillis) -> Block {
    let mut block = Block::new(received, 0);
    for one in rejected {
        let cut = &one.raw[..one.raw.len().min(RAW_BYTES_MAX)];
        let letter = DeadLetter {
            account,
            index: one.index,
            field: one.rejection.field.clone(),
            reason: one.rejection.reason.clone(),
            code: one.rejection.code.label().into(),
            raw: String::from_utf8_lossy(cut).into_owned(),
            is_cut: cut.len() < one.raw.len(),
        };
        block.push(|to| write(&letter, to));
    }
    block
}

fn write(letter: &DeadLetter, to: &mut Vec<u8>) {
    let start = to.len();
    to.extend_from_slice(&[0; 4]);
    // Strings, numbers and a bool always serialize; an empty record would only lose this letter's text.
    let _written = serde_json::to_writer(&mut *to, letter);
    let length = (to.len() - start - 4) as u32;
    to[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// The letters of a block, with their positions and the time of receipt. What cannot be read is left out.
pub fn letters<'b>(block: &BlockView<'b>) -> impl Iterator<Item = (Position, UnixMillis, DeadLetter)> + use<'b> {
    let (first, received, mut rest) = (block.first.0, block.received, block.payload);
    (first..first + u64::from(block.count)).filter_map(move |at| {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (json, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = after;
        Some((Position(at), received, serde_json::from_slice(json).ok()?))
    })
}
