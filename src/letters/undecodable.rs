//! Letters about records of the log that cannot be decoded.
//!
//! Nobody knows whose they are: the account of a message on a topic stands in its key, which anybody can write. So they belong to
//! [`NOBODY`], and only operators get to see them. They have no replay: if the bytes are an event after all, whoever knows whose it is
//! sends it to `/ingest` with a key of that account.
//!
//! A letter may be written again for the same record: after a death before the commit that passes the record, or by two owners of its
//! partition. [`Seen`] tells them apart from first ones, here and in the ledger.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use crate::batch::{BatchError, Batcher};
use crate::clock::Clock;
use crate::gateway::form::Sent;
use crate::gateway::letters::{DeadLetter, NOBODY, RecordAt, Refusal, UNDECODABLE, block_of};
use crate::log;
use crate::materializer::{KeepUndecodable, UndecodableRecord};

/// Records whose letters are recognised when they come again: the latest ones. Far more than are written between two commits; a letter
/// about an older one would be listed twice, each with the same position.
const SEEN_MAX: usize = if cfg!(test) { 8 } else { 1 << 16 };

/// The records that letters were about lately.
#[derive(Default)]
pub(super) struct Seen {
    records: HashSet<RecordAt>,
    oldest_first: VecDeque<RecordAt>,
}

impl Seen {
    pub(super) fn has(&self, record: RecordAt) -> bool {
        self.records.contains(&record)
    }

    /// `false`: it was noted before.
    pub(super) fn note(&mut self, record: RecordAt) -> bool {
        if !self.records.insert(record) {
            return false;
        }
        self.oldest_first.push_back(record);
        if self.oldest_first.len() > SEEN_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.records.remove(&oldest);
        }
        true
    }
}

/// Writes such letters.
pub struct UndecodableLetters {
    /// The appender of the letters; `None` once it is closed.
    batcher: Mutex<Option<Batcher>>,
    runtime: Handle,
    clock: Clock,
    /// By this process, so that a fold that is started again and again does not write them again and again.
    written: Mutex<Seen>,
}

impl UndecodableLetters {
    /// `batcher`: the appender of the letters, which can end only when this is closed.
    pub fn new(batcher: Batcher, runtime: Handle, clock: Clock) -> Self {
        Self { batcher: Mutex::new(Some(batcher)), runtime, clock, written: Mutex::default() }
    }

    /// Nothing is kept from now on.
    pub fn close(&self) {
        drop(lock(&self.batcher).take());
    }
}

impl KeepUndecodable for UndecodableLetters {
    /// Not from within a runtime.
    fn keep(&self, partition: u32, records: &[UndecodableRecord]) -> Result<(), log::Error> {
        let new: Vec<_> = {
            let written = lock(&self.written);
            records.iter().filter(|record| !written.has(at(partition, record))).collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let Some(batcher) = lock(&self.batcher).clone() else { return Err(log::Error::Stopping) };
        let received = self.clock.receive_time().map_err(|error| log::Error::Unavailable(error.to_string()))?;
        let block = block_of(new.iter().map(|record| letter(partition, record)).collect(), received);
        match self.runtime.block_on(batcher.append(block.seal(), None)) {
            Ok(_) => {}
            Err(BatchError::Log(error)) => return Err(error),
            Err(error @ BatchError::Busy) => return Err(log::Error::Unavailable(error.to_string())),
        }
        let mut written = lock(&self.written);
        for record in new {
            written.note(at(partition, record));
        }
        Ok(())
    }
}

fn at(partition: u32, record: &UndecodableRecord) -> RecordAt {
    RecordAt { partition, position: record.position.0 }
}

fn letter(partition: u32, record: &UndecodableRecord) -> DeadLetter {
    DeadLetter {
        account: NOBODY,
        index: 0,
        refusal: Refusal { code: UNDECODABLE.into(), field: String::new(), reason: record.why.reason().into() },
        is_cut: record.is_cut,
        record: Some(at(partition, record)),
        sent: Sent::default(),
        raw: record.bytes.clone(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is changed in steps that leave it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(position: u64) -> RecordAt {
        RecordAt { partition: 3, position }
    }

    #[test]
    fn of_the_latest_records_it_is_known_that_they_were_seen() {
        let mut seen = Seen::default();
        for position in 0..20 {
            assert!(seen.note(record(position)));
            assert!(!seen.note(record(position)));
        }
        let known: Vec<_> = (0..20).filter(|position| seen.has(record(*position))).collect();
        assert_eq!(known, (12..20).collect::<Vec<_>>());
        assert!(seen.note(RecordAt { partition: 4, position: 19 }), "positions are those of a partition");
        assert_eq!((seen.records.len(), seen.oldest_first.len()), (SEEN_MAX, SEEN_MAX));
    }
}
