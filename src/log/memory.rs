//! A log in memory for tests, with what is hardest about Kafka: gaps between positions, ends that only who asks knows, reads that begin
//! behind what was asked for or bring nothing yet, and no log time before what was read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Chunk, Error, LogReader, Partition, Position};
use crate::clock::UnixMillis;

/// Records that a read gives out.
const RECORDS_MAX: usize = 4;

/// One partition, shared by all nodes of a test.
pub(crate) struct MemoryLog {
    number: u32,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    records: Vec<(Position, UnixMillis, Vec<u8>)>,
    start: Position,
    end: Position,
    readers: Vec<Sender<()>>,
}

/// The partition as one node sees it.
pub(crate) struct MemoryPartition {
    log: Arc<MemoryLog>,
    known: Arc<AtomicU64>,
}

struct MemoryReader {
    log: Arc<MemoryLog>,
    known: Arc<AtomicU64>,
    at: Option<(Position, UnixMillis)>,
    was_empty: bool,
    grown: Receiver<()>,
}

impl MemoryLog {
    pub(crate) fn new(number: u32) -> Arc<Self> {
        Arc::new(Self { number, kept: Mutex::default() })
    }

    /// As a node sees it that has just begun.
    pub(crate) fn seen(self: &Arc<Self>) -> Arc<MemoryPartition> {
        let known = Arc::new(AtomicU64::new(self.kept().end.0));
        Arc::new(MemoryPartition { log: self.clone(), known })
    }

    /// Appends one record as [`super::record::write`] wrote it; some positions behind every third one are nobody's.
    pub(crate) fn append(&self, received: UnixMillis, record: Vec<u8>) -> Position {
        let mut kept = self.kept();
        let position = kept.end;
        let gap = if position.0 % 3 == 2 { 2 } else { 0 };
        kept.records.push((position, received, record));
        kept.end = Position(position.0 + 1 + gap);
        kept.call();
        position
    }

    /// Says that there is more, which never comes.
    pub(crate) fn promise_more(&self) {
        self.kept().end.0 += 1_000;
    }

    /// Retention takes what stands before a position.
    pub(crate) fn drop_before(&self, start: Position) {
        let mut kept = self.kept();
        kept.records.retain(|(position, ..)| *position >= start);
        kept.start = start;
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no test panics with it")
    }
}

impl Kept {
    fn call(&mut self) {
        self.readers.retain(|reader| !matches!(reader.try_send(()), Err(crossbeam_channel::TrySendError::Disconnected(()))));
    }
}

impl Partition for MemoryPartition {
    fn number(&self) -> u32 {
        self.log.number
    }

    fn start(&self) -> Position {
        self.log.kept().start
    }

    fn end(&self) -> Position {
        Position(self.known.load(Ordering::SeqCst))
    }

    fn newest_end(&self) -> Result<Position, Error> {
        let end = self.log.kept().end;
        self.known.fetch_max(end.0, Ordering::SeqCst);
        Ok(end)
    }

    fn part_of(&self, position: Position) -> Position {
        position
    }

    fn reader(self: Arc<Self>) -> Box<dyn LogReader> {
        let (sender, grown) = bounded(1);
        self.log.kept().readers.push(sender);
        Box::new(MemoryReader { log: self.log.clone(), known: self.known.clone(), at: None, was_empty: false, grown })
    }
}

impl LogReader for MemoryReader {
    fn read(&mut self, from: Position, _: usize) -> Result<Chunk, Error> {
        let mut kept = self.log.kept();
        if from < kept.start || from > kept.end {
            return Err(Error::OutOfRange { wanted: from, start: kept.start, end: kept.end });
        }
        let log_time = match self.at {
            Some((next, _)) if next == from && !self.was_empty && from < kept.end => {
                // It has not come yet.
                self.was_empty = true;
                kept.call();
                return Ok(Chunk::default());
            }
            Some((next, log_time)) if next == from => log_time,
            _ => UnixMillis(i64::MIN),
        };
        let mut chunk = Chunk { log_time_before: log_time, ..Chunk::default() };
        let mut newest = log_time;
        for (position, received, record) in kept.records.iter().filter(|(position, ..)| *position >= from).take(RECORDS_MAX) {
            chunk.push(*position, *received, |to| to.extend_from_slice(record));
            newest = newest.max(*received);
        }
        let is_promised = kept.records.last().is_none_or(|(last, ..)| last.0 + 3 < kept.end.0);
        if chunk.is_empty() && from < kept.end && !is_promised {
            chunk.goes_on = Some(kept.end);
        }
        let next = chunk.end().unwrap_or(from);
        self.known.fetch_max(next.0, Ordering::SeqCst);
        (self.at, self.was_empty) = (Some((next, newest)), false);
        Ok(chunk)
    }

    fn grown(&self) -> Receiver<()> {
        self.grown.clone()
    }
}
