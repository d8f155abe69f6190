//! Records that cannot be decoded: they count nowhere, and somebody has to see them before the rows pass them.
//!
//! What is found between two commits is kept ([`KeepUndecodable`]) by the thread that commits, durably, before it commits. If that fails, it
//! is tried again with growing pauses: the partition waits, and what comes behind it waits with it. So a record that the rows have
//! passed was kept, whatever died when. It may have been kept more than once: before a commit that was never made, or by two owners
//! at a time. Its position tells.
//!
//! How much is found between two commits is bounded ([`Found::is_full`]): a flood of such records is folded in so many commits.

use std::time::Duration;

use crossbeam_channel::{Receiver, TryRecvError};

use super::Error;
use crate::fault;
use crate::log::record::{Undecodable, Why};
use crate::log::{self, Position};

/// Found between two commits: so many, or so many bytes, and nothing further is folded before the next one.
const RECORDS_MAX: usize = if cfg!(test) { 4 } else { 4_096 };
const BYTES_MAX: usize = 4 << 20;
/// Between two attempts to keep what was found.
const PAUSE_MIN: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });
const PAUSE_MAX: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// A record that cannot be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UndecodableRecord {
    /// Where it is in its partition.
    pub position: Position,
    /// What is wrong with it.
    pub why: Why,
    /// What was found there.
    pub bytes: Vec<u8>,
    /// Whether that is only its begin.
    pub is_cut: bool,
}

/// Keeps such records for people.
pub trait KeepUndecodable: Send + Sync + 'static {
    /// Returns when all of them are durable. The same ones may come more than once. Blocks.
    ///
    /// # Errors
    /// [`log::Error`]: some of them may have been kept.
    fn keep(&self, partition: u32, records: &[UndecodableRecord]) -> Result<(), log::Error>;
}

/// Nobody wants to see them.
impl KeepUndecodable for () {
    fn keep(&self, _: u32, _: &[UndecodableRecord]) -> Result<(), log::Error> {
        Ok(())
    }
}

/// What was found since the last commit was begun.
#[derive(Default)]
pub(super) struct Found {
    /// `false`: nobody wants to see them.
    is_kept: bool,
    records: Vec<UndecodableRecord>,
    bytes: usize,
}

impl Found {
    pub(super) fn kept(is_kept: bool) -> Self {
        Self { is_kept, ..Self::default() }
    }

    pub(super) fn note(&mut self, position: Position, record: Undecodable<'_>) {
        if self.is_kept {
            let Undecodable { why, bytes, is_cut } = record;
            self.bytes += bytes.len();
            self.records.push(UndecodableRecord { position, why, bytes: bytes.to_vec(), is_cut });
        }
    }

    /// Whether a commit has to come before anything further is folded.
    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= RECORDS_MAX || self.bytes >= BYTES_MAX
    }

    pub(super) fn take(&mut self) -> Vec<UndecodableRecord> {
        self.bytes = 0;
        std::mem::take(&mut self.records)
    }
}

/// Keeps what was found, for as long as it takes; once `hurry` is disconnected, no longer than one more attempt.
pub(super) fn keep(keeper: &dyn KeepUndecodable, partition: u32, records: &[UndecodableRecord], hurry: &Receiver<()>) -> Result<(), Error> {
    let mut pause = PAUSE_MIN;
    while let Err(error) = keeper.keep(partition, records) {
        if hurry.try_recv() == Err(TryRecvError::Disconnected) {
            return Err(Error::Undecodable(error));
        }
        tracing::warn!(partition, %error, again_in = ?pause, "records that cannot be decoded cannot be kept, the rows of the partition wait");
        // Nothing ever comes: it is over when the time is, or when nobody waits any more.
        let _is_over = hurry.recv_timeout(pause);
        pause = (2 * pause).min(PAUSE_MAX);
    }
    let (first, why) = records.first().map_or((Position(0), ""), |record| (record.position, record.why.reason()));
    tracing::error!(partition, records = records.len(), %first, why, "records of the log cannot be decoded: they count nowhere, and are dead letters");
    fault::point("undecodable-kept");
    Ok(())
}
