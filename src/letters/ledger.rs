//! Which letters are marked, and how many there are: what follows from the letters' log, kept in memory.
//!
//! An entry for each marked letter that the log still has (about 40 bytes): marks go with their letters, so the limit of the
//! log's size is theirs, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::State;
use super::undecodable::Seen;
use crate::event::Code;
use crate::gateway::letters::{Became, Entry, Said, UNDECODABLE, entries};
use crate::log::{Error, Partition, Position, read_some};
use crate::telemetry::{self, LetterChange};

/// Read at once.
const READ_BYTES: usize = 1 << 20;
/// Of a code that this binary does not know.
const OTHER: &str = "other";
/// Of what was gone before it was read.
const UNREAD: &str = "unread";

/// What is known of the letters. Behind the log until it has caught up.
pub struct Ledger {
    log: Arc<dyn Partition>,
    /// What stood there before was counted by another process.
    counted_from: Position,
    known: Mutex<Known>,
}

/// What a letter is marked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marked {
    /// What it is now.
    pub(super) state: State,
    /// Where the mark stands.
    pub(super) at: Position,
}

#[derive(Default)]
struct Known {
    /// Everything before is in here.
    next: Position,
    /// By the letter's position.
    marks: BTreeMap<u64, Marked>,
    /// Records of the log of events that letters are about.
    seen: Seen,
    /// Letters about a record that an earlier one is about.
    repeated: BTreeSet<u64>,
    /// By the first position of a segment: the log forgets by segments.
    segments: BTreeMap<u64, Tally>,
    /// Whether the metrics were set, be it to nothing.
    is_reported: bool,
}

/// Letters and their bytes, by code.
type Tally = BTreeMap<&'static str, Kept>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Kept {
    letters: u64,
    bytes: u64,
}

impl Ledger {
    /// Over a log that was just opened. Nothing is read yet.
    pub fn new(log: Arc<dyn Partition>) -> Self {
        Self { counted_from: log.end(), log, known: Mutex::default() }
    }

    /// The letters.
    pub(super) fn log(&self) -> &Arc<dyn Partition> {
        &self.log
    }

    /// Reads what the log has got, and forgets what it has lost, since the last time. Blocks.
    ///
    /// # Errors
    /// The log cannot be read. What was read before stays.
    pub fn catch_up(&self) -> Result<(), Error> {
        let mut known = self.lock();
        let end = self.log.newest_end()?;
        let is_new = known.next < end;
        let mut reader = is_new.then(|| self.log.clone().look_ups());
        while let Some(reader) = reader.as_deref_mut().filter(|_| known.next < end) {
            let from = known.next.max(self.log.start());
            known.skip_to(from, self.counted_from);
            if from >= end {
                break;
            }
            let chunk = match read_some(reader, from, READ_BYTES) {
                Ok(chunk) => chunk,
                // Retention was faster.
                Err(_) if from < self.log.start() => continue,
                Err(error) => return Err(error),
            };
            // All of a chunk goes at once.
            let segment = self.log.part_of(from);
            for entry in chunk.blocks().flat_map(|block| entries(&block)).filter(|entry| entry.position >= from) {
                known.note(entry, segment, self.counted_from);
            }
            known.next = chunk.end().unwrap_or(from.max(end));
        }
        let has_lost = known.forget(self.log.start());
        if is_new || has_lost || !known.is_reported {
            known.report();
            known.is_reported = true;
        }
        Ok(())
    }

    /// What a letter is marked with.
    pub(super) fn marked(&self, letter: Position) -> Option<Marked> {
        self.lock().marks.get(&letter.0).copied()
    }

    /// Whether an earlier letter is about the same record of the log.
    pub(super) fn is_repeated(&self, letter: Position) -> bool {
        self.lock().repeated.contains(&letter.0)
    }

    /// Marks, and letters that are kept.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> (u64, u64) {
        let known = self.lock();
        (known.marks.len() as u64, known.segments.values().flat_map(|tally| tally.values()).map(|kept| kept.letters).sum())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Whatever broke off inside left every record either noted or to be read again.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// In a flood, retention may take records before they were read: how many it were is known, but not why they were there.
    fn skip_to(&mut self, from: Position, counted_from: Position) {
        let unread = from.0.saturating_sub(self.next.max(counted_from).0);
        if unread > 0 {
            telemetry::count_letters(LetterChange::Written, UNREAD, unread);
            telemetry::count_letters(LetterChange::Expired, UNREAD, unread);
        }
        self.next = from;
    }

    fn note(&mut self, entry: Entry, segment: Position, counted_from: Position) {
        let is_new = entry.position >= counted_from;
        let (change, code) = match entry.said {
            Said::Letter(letter) => {
                if letter.record.is_some_and(|record| !self.seen.note(record)) {
                    self.repeated.insert(entry.position.0);
                    return;
                }
                let code = label(&letter.refusal.code);
                let kept = self.segments.entry(segment.0).or_default().entry(code).or_default();
                *kept = Kept { letters: kept.letters + 1, bytes: kept.bytes + entry.bytes };
                (LetterChange::Written, code)
            }
            Said::Mark(mark) => {
                let code = label(&mark.code);
                let (state, change) = match mark.became {
                    Became::Replayed { .. } => (State::Replayed, LetterChange::Replayed),
                    Became::Refused(_) => (State::Refused, LetterChange::Refused),
                    Became::Deleted => (State::Deleted, LetterChange::Deleted),
                };
                let before = self.marks.insert(mark.letter, Marked { state, at: entry.position });
                let was_deleted = before.is_some_and(|before| before.state == State::Deleted);
                if state == State::Deleted && !was_deleted {
                    self.take(mark.letter, code, mark.bytes);
                }
                (change, code)
            }
        };
        if is_new {
            telemetry::count_letters(change, code, 1);
        }
    }

    /// A deleted letter is not kept any more.
    fn take(&mut self, letter: u64, code: &'static str, bytes: u64) {
        let segment = self.segments.range_mut(..=letter).next_back();
        if let Some(kept) = segment.and_then(|(_, tally)| tally.get_mut(code)) {
            *kept = Kept { letters: kept.letters.saturating_sub(1), bytes: kept.bytes.saturating_sub(bytes) };
        }
    }

    /// Forgets what stands before the log's start; whether that was anything.
    fn forget(&mut self, start: Position) -> bool {
        // A mark may outlive its letter by some segments.
        if self.marks.first_key_value().is_some_and(|(first, _)| *first < start.0) {
            self.marks = self.marks.split_off(&start.0);
        }
        self.repeated = self.repeated.split_off(&start.0);
        if self.segments.first_key_value().is_none_or(|(first, _)| *first >= start.0) {
            return false;
        }
        let kept = self.segments.split_off(&start.0);
        let gone = std::mem::replace(&mut self.segments, kept);
        for (code, kept) in gone.values().flatten() {
            telemetry::count_letters(LetterChange::Expired, code, kept.letters);
        }
        true
    }

    fn report(&self) {
        for code in Code::ALL.into_iter().map(Code::label).chain([UNDECODABLE, OTHER]) {
            let of_code = self.segments.values().filter_map(|tally| tally.get(code));
            let (letters, bytes) = of_code.fold((0, 0), |(letters, bytes), kept| (letters + kept.letters, bytes + kept.bytes));
            telemetry::set_letters(code, letters, bytes);
        }
    }
}

/// A label is one of a closed set, whatever stands in a record.
fn label(code: &str) -> &'static str {
    match code {
        UNDECODABLE => UNDECODABLE,
        _ => Code::from_label(code).map_or(OTHER, Code::label),
    }
}
