//! From the blocks of a log to the records that are to be folded.

use std::ops::Range;

use super::first_positions::Asked;
use crate::clock::UnixMillis;
use crate::log::{BlockView, Position, record};

/// A record that is to be looked at.
#[derive(Clone, Copy)]
pub(super) struct Due<'b> {
    pub(super) at: Position,
    /// The latest time of receipt up to here.
    pub(super) log_time: UnixMillis,
    pub(super) record: Result<record::Record<'b>, record::Undecodable<'b>>,
}

impl Due<'_> {
    /// What the index is asked, if the record can be decoded.
    pub(super) fn asked(&self) -> Option<Asked> {
        let record = self.record.as_ref().ok()?;
        Some(Asked { identity: record.identity, content: record.content, position: self.at, log_time: self.log_time })
    }
}

/// The records of these blocks at these positions. `log_time`: the one before them.
pub(super) fn due_records<'b>(
    blocks: impl Iterator<Item = BlockView<'b>>,
    due: Range<Position>,
    mut log_time: UnixMillis,
) -> impl Iterator<Item = Due<'b>> {
    let all = blocks.flat_map(move |block| {
        log_time = log_time.max(block.received);
        let records = record::records(block.payload, block.count, block.received);
        (block.first.0..).map(Position).zip(records).map(move |(at, record)| Due { at, log_time, record })
    });
    all.filter(move |record| due.contains(&record.at))
}
