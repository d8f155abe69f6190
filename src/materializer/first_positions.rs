//! The dedup index of a partition: which identity stands first at which position (`design.md`, promise 5).
//!
//! A record at position p is a repetition exactly if a first position f < p exists whose log time lies less than the horizon
//! before p's. The index is derived from the log and may be deleted at any time; an index that is ahead of the
//! store, or that was read again from the log, gives the same verdicts: firsts are only ever added, and a question about p looks at those before p.
//!
//! New firsts gather in a table in memory. A full table is frozen and written, by a thread of its own, as an immutable sorted
//! `run`; another thread merges runs of one level into one of the next. The manifest names the runs and the position up to which
//! they cover the log; what the table held is read from the log again after a restart.
//!
//! # Buckets
//!
//! With a horizon, a run holds firsts of one bucket of log time, an eighth of the horizon (but a minute at least). Merges stay within
//! a bucket; one that log time has left becomes one run; its files go, unread, when everything in it has expired. What that means
//! is fixed by where records can be asked for again, which is from the rows' committed position on, and from the covered one: after a crash the
//! records between the covered position and the committed one are looked up again, and a copy among them whose first is gone would be taken for a first.
//!
//! # Memory
//!
//! Bytes at most, for n firsts that are kept ([`FirstPositions::memory_bytes`] says what it is now):
//!
//! - 2 × 44 MiB: the table, and the one that is written or kept for reuse; 21 MiB while one is sorted. Where a process has several indexes,
//!   all of them together ([`Shares`]);
//! - 2.16 n: filters (16 bits) and fences (4 bytes for each 25 entries); the same once more for those that are being merged;
//! - 192 KiB for each run that is being merged.

mod buckets;
pub mod check;
pub mod copy;
mod entry;
mod filter;
mod manifest;
mod merge;
mod open;
mod run;
mod table;
mod upkeep;
mod worker;

use std::cmp::Reverse;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::shares::{Share, Shares};
use crate::clock::UnixMillis;
use crate::event::{ContentHash, IdentityHash};
use crate::log::Position;
use crate::log::disk::Disk;
use buckets::Buckets;
use entry::{Entry, halves};
use filter::{PROBES_MAX, Probe};
use manifest::{Manifest, NamedRun};
pub use open::{begin_at, remove_index};
use open::{load, remove_strangers};
use run::Run;
use table::{ENTRIES_MAX, ENTRIES_MIN, Table};
use worker::{Frozen, Merged, Names, Place, Threads, WriteJob, Written};

/// A record, as the index sees it.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// Which event it is.
    pub identity: IdentityHash,
    /// What it says.
    pub content: ContentHash,
    /// Where it is.
    pub position: Position,
    /// The log time there: the latest time of receipt up to it.
    pub log_time: UnixMillis,
}

/// What the index says of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No copy of it came before, within the horizon.
    First,
    /// A copy came before.
    Copy {
        /// Where the first one is.
        of: Position,
        /// What the first one says.
        content: ContentHash,
    },
}

/// The first record of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct First {
    /// Where it is.
    pub position: Position,
    /// Log time there.
    pub log_time: UnixMillis,
    /// What it says.
    pub content: ContentHash,
}

impl From<Entry> for First {
    fn from(entry: Entry) -> Self {
        Self { position: Position(entry.position), log_time: UnixMillis(entry.log_time), content: ContentHash(entry.content) }
    }
}

/// Why the index could not answer. It can always be deleted and made again from the log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IndexError {
    /// Reading or writing failed.
    #[error("the dedup index failed: {0}")]
    Io(String),
    /// A file is not what was written.
    #[error("the dedup index is damaged: {0}")]
    Damaged(String),
}

impl From<std::io::Error> for IndexError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// A run, and where it belongs.
#[derive(Clone)]
struct Placed {
    bucket: i64,
    /// How often its entries were merged.
    level: u32,
    run: Arc<Run>,
}

/// Up to where, and the log time there.
#[derive(Debug, Clone, Copy)]
struct Reach {
    next: Position,
    log_time: UnixMillis,
}

/// The dedup index of one partition, owned by its materializer's thread.
pub struct FirstPositions {
    place: Place,
    log_id: String,
    horizon_ms: Option<i64>,
    /// Every record before this position was looked up, or is in a run.
    noted: Position,
    share: Share,
    table: Table,
    frozen: Option<Arc<Frozen>>,
    /// An empty table for the next change: its memory is there already.
    spare: Option<Table>,
    /// Those that are asked; newest bucket first.
    runs: Vec<Placed>,
    /// Every first before this is in `runs`.
    written: Reach,
    /// And before this, according to the manifest.
    covered: Reach,
    expired_by: UnixMillis,
    /// Not in `runs` any more, but in the manifest.
    gone: Vec<Arc<Run>>,
    is_manifest_due: bool,
    is_manifest_under_way: bool,
    /// The bucket whose runs are being merged, and how many bytes of memory the new one takes.
    merging: Option<(i64, u64)>,
    threads: Threads,
}

impl FirstPositions {
    /// Opens the index in `dir`. One that is missing, damaged or of another log is begun anew, covering nothing. So is one that has dropped
    /// what had not yet expired at `committed`, the log time of the rows' position: the rows were set back since.
    ///
    /// # Errors
    /// [`IndexError::Io`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        log_id: [u8; 16],
        horizon_ms: Option<i64>,
        committed: UnixMillis,
    ) -> Result<Self, IndexError> {
        Self::open_sharing(disk, dir, log_id, horizon_ms, committed, &Shares::default())
    }

    /// The same, of one of several indexes of this process.
    ///
    /// # Errors
    /// As [`FirstPositions::open`].
    pub fn open_sharing(
        disk: Arc<dyn Disk>,
        dir: &Path,
        log_id: [u8; 16],
        horizon_ms: Option<i64>,
        committed: UnixMillis,
        shares: &Shares,
    ) -> Result<Self, IndexError> {
        disk.create_dir(dir)?;
        let log_id = hex::encode(log_id);
        let (manifest, runs) = match load(&*disk, dir, &log_id, horizon_ms, committed) {
            Ok(Some((manifest, runs))) => (Some(manifest), runs),
            Ok(None) => (None, Vec::new()),
            Err(IndexError::Damaged(what)) => {
                tracing::warn!(dir = %dir.display(), %what, "the dedup index is made again from the log");
                (None, Vec::new())
            }
            Err(error) => return Err(error),
        };
        let is_new = manifest.is_none();
        remove_strangers(&*disk, dir, &runs, is_new)?;
        let manifest = manifest.unwrap_or_else(|| Manifest::empty(log_id.clone(), horizon_ms));
        let covered = Reach { next: Position(manifest.covered), log_time: UnixMillis(manifest.log_time) };
        let names = Arc::new(Names::after(manifest.last_file));
        let is_closing = Arc::new(AtomicBool::new(false));
        let place = Place { disk, dir: dir.to_owned(), names, buckets: Buckets::new(horizon_ms), is_closing };
        let share = shares.join();
        let mut index = Self {
            threads: Threads::start(&place)?,
            place,
            log_id,
            horizon_ms,
            noted: covered.next,
            table: Table::new(table_entries(&share)),
            share,
            frozen: None,
            spare: None,
            runs,
            written: covered,
            covered,
            expired_by: UnixMillis(manifest.expired_by),
            gone: Vec::new(),
            is_manifest_due: false,
            is_manifest_under_way: false,
            merging: None,
        };
        index.sort_runs();
        Ok(index)
    }

    /// Every first before this position is safe on disk; the rest has to be read from the log again.
    pub fn covered(&self) -> Position {
        self.covered.next
    }

    /// The log time at [`FirstPositions::covered`].
    pub fn covered_log_time(&self) -> UnixMillis {
        self.covered.log_time
    }

    /// Number of entries.
    pub fn entries(&self) -> u64 {
        let tables = self.tables().map(|table| table.entries().len() as u64);
        tables.chain(self.runs.iter().map(|placed| placed.run.len())).sum()
    }

    /// Bytes of memory that the index takes up: tables, filters and fences, also those of a run that is being made. What a sort and
    /// a merge need besides comes to 21 MiB and 192 KiB a run.
    pub fn memory_bytes(&self) -> u64 {
        let tables: u64 = self.tables().chain(&self.spare).map(Table::bytes).sum();
        let runs: u64 = self.runs.iter().map(|placed| placed.run.bytes()).sum();
        tables + runs + self.merging.map_or(0, |(_, bytes)| bytes)
    }

    fn tables(&self) -> impl Iterator<Item = &Table> {
        std::iter::once(&self.table).chain(self.frozen.as_ref().map(|frozen| &frozen.table))
    }

    /// Looks records up, pushes to `standings` where each stands, and takes note of the firsts. Records come in the order of their
    /// positions; one sees those before it in the same call. Those looked up before are answered again, and not noted twice.
    ///
    /// # Errors
    /// [`IndexError`]; `standings` has those before it, and they were taken note of.
    pub fn stand_all(&mut self, records: &[Asked], standings: &mut Vec<Standing>) -> Result<(), IndexError> {
        for records in records.chunks(PROBES_MAX) {
            // Log time only grows: what has expired at the first has at all.
            let earliest = records.first().map_or(UnixMillis(i64::MIN), |record| record.log_time);
            let mut probes = [Probe::default(); PROBES_MAX];
            probes.iter_mut().zip(records).for_each(|(probe, record)| *probe = Probe::new(record.identity));
            // All filters first, for all records at once, so that the waits for memory overlap.
            let may_hold = |placed: &Placed| match self.place.buckets.has_all_expired(placed.bucket, earliest) {
                true => 0,
                false => placed.run.may_hold_all(&probes[..records.len()]),
            };
            let held: Vec<u64> = self.runs.iter().map(may_hold).collect();
            self.tables().for_each(|table| table.look_ahead(records.iter().map(|record| record.identity)));
            let held_anywhere = held.iter().fold(0, |all, held| all | held);
            for (at, record) in records.iter().enumerate() {
                let is_held = |held: u64| held >> at & 1 == 1;
                let runs = if is_held(held_anywhere) { held.len() } else { 0 };
                let suspects = (0..runs).filter(|run| is_held(held[*run]));
                standings.push(match self.find(record.identity, Position(0)..record.position, record.log_time, suspects)? {
                    Some(first) => Standing::Copy { of: Position(first.position), content: ContentHash(first.content) },
                    None => Standing::First,
                });
                self.note(record, standings.last() == Some(&Standing::First));
            }
        }
        Ok(())
    }

    fn note(&mut self, record: &Asked, is_first: bool) {
        if record.position < self.noted {
            return;
        }
        self.noted = Position(record.position.0 + 1);
        if is_first {
            let (upper, lower) = halves(record.identity);
            let (position, content) = (record.position.0, record.content.0);
            self.table.insert(Entry { upper, lower, position, log_time: record.log_time.0, content });
        }
    }

    /// The first within these positions of which a record at their end, where the log time is `log_time`, is or would be a copy. Takes
    /// note of nothing. Firsts that had expired at the committed position may be missing.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn first(&self, identity: IdentityHash, within: Range<Position>, log_time: UnixMillis) -> Result<Option<First>, IndexError> {
        let probe = Probe::new(identity);
        let suspects = (0..self.runs.len()).filter(|run| self.runs[*run].run.may_hold(&probe));
        let found = self.find(identity, within, log_time, suspects)?;
        Ok(found.map(First::from))
    }

    /// There is at most one that counts: a later first of an identity comes when the one before it has expired, so it does not
    /// matter where is looked first.
    #[inline]
    fn find(
        &self,
        identity: IdentityHash,
        within: Range<Position>,
        log_time: UnixMillis,
        suspects: impl Iterator<Item = usize>,
    ) -> Result<Option<Entry>, IndexError> {
        let buckets = self.place.buckets;
        let within = within.start.0..within.end.0;
        let counts = |entry: &Entry| within.contains(&entry.position) && !buckets.has_expired(entry.log_time, log_time);
        if let Some(found) = self.tables().find_map(|table| table.find(identity, counts)) {
            return Ok(Some(found));
        }
        for at in suspects {
            let found = self.runs[at].run.find(identity, counts)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Freezes a table that is full or belongs to a bucket that log time has left, takes over what the threads have finished, drops
    /// what expired, begins merges. Called between batches, when everything before `next`, where the log time is `log_time`, was
    /// looked up. `committed` is the log time of the committed position.
    ///
    /// Waits only if a table is due while the one before is still being written: for the rest of that, which is a sort and a synced
    /// write of 39 MB.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn maintain(&mut self, next: Position, log_time: UnixMillis, committed: UnixMillis) -> Result<(), IndexError> {
        self.take_over_finished()?;
        let bucket = self.place.buckets.of(log_time);
        let has_left = |first: &Entry| self.place.buckets.of(UnixMillis(first.log_time)) != bucket;
        if self.table.is_full(table_entries(&self.share)) || self.table.entries().first().is_some_and(has_left) {
            self.freeze_at(next, log_time)?;
        }
        self.expire(committed);
        self.begin_merge(bucket)?;
        self.begin_manifest()
    }

    /// Freezes the table, so that the index will cover everything before `next`, where the log time is `log_time`: everything before it
    /// must have been looked up. It does once [`FirstPositions::covered`] says so: after some calls of [`FirstPositions::maintain`], or
    /// one of [`FirstPositions::wait`]. Waits if a table is still being written.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn freeze_at(&mut self, next: Position, log_time: UnixMillis) -> Result<(), IndexError> {
        while self.frozen.is_some() {
            let done = self.threads.writer.wait()??;
            self.take_over_written(done);
        }
        if next <= self.written.next {
            return Ok(());
        }
        debug_assert!(next >= self.noted, "what was looked up lies before {next}");
        self.noted = self.noted.max(next);
        let entries_max = table_entries(&self.share);
        let spare = self.spare.take().filter(|spare| spare.entries_max() == entries_max);
        let table = std::mem::replace(&mut self.table, spare.unwrap_or_else(|| Table::new(entries_max)));
        let frozen = Arc::new(Frozen { table, end: Reach { next, log_time } });
        self.frozen = Some(frozen.clone());
        Ok(self.threads.writer.begin(WriteJob::Table(frozen))?)
    }

    /// Waits until what was frozen is covered.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn wait(&mut self) -> Result<(), IndexError> {
        loop {
            self.begin_manifest()?;
            if self.frozen.is_none() && !self.is_manifest_under_way {
                return Ok(());
            }
            let done = self.threads.writer.wait()??;
            self.take_over_written(done);
        }
    }

    /// Makes a complete index of `dir`, which is empty or not there: all runs, linked if the file system can, and a manifest; synced. The copy
    /// covers at least what this index covers; its position is returned.
    ///
    /// # Errors
    /// [`IndexError`]; `dir` has no manifest then, and can be removed.
    pub fn link_into(&self, dir: &Path) -> Result<Position, IndexError> {
        let disk = &*self.place.disk;
        disk.create_dir(dir)?;
        // Files are removed only when they are not among the runs any more, so all of these are there.
        self.runs.iter().try_for_each(|placed| worker::link_or_copy(disk, &self.place.dir, dir, &placed.run))?;
        disk.sync_dir(dir)?;
        self.manifest().write(disk, dir)?;
        Ok(self.written.next)
    }

    fn take_over_finished(&mut self) -> Result<(), IndexError> {
        while let Some(done) = self.threads.writer.finished() {
            self.take_over_written(done??);
        }
        while let Some(done) = self.threads.merger.finished() {
            self.take_over_merged(done??);
        }
        Ok(())
    }

    fn take_over_written(&mut self, done: Written) {
        match done {
            Written::Table { runs, frozen } => {
                self.runs.extend(runs);
                self.sort_runs();
                self.written = frozen.end;
                self.is_manifest_due = true;
                self.frozen = None;
                // The other one who knew it was the thread.
                if let Some(Frozen { mut table, .. }) = Arc::into_inner(frozen) {
                    table.clear();
                    self.spare = Some(table).filter(|table| table.entries_max() == table_entries(&self.share));
                }
            }
            Written::Manifest { covered } => {
                self.covered = covered;
                self.is_manifest_under_way = false;
            }
        }
    }

    fn take_over_merged(&mut self, Merged { run, merged }: Merged) {
        self.runs.retain(|placed| !merged.iter().any(|run| Arc::ptr_eq(run, &placed.run)));
        self.gone.extend(merged);
        self.runs.push(run);
        self.sort_runs();
        self.is_manifest_due = true;
        self.merging = None;
    }

    fn sort_runs(&mut self) {
        self.runs.sort_by_key(|placed| (Reverse(placed.bucket), placed.level));
    }

    fn begin_manifest(&mut self) -> Result<(), IndexError> {
        if !self.is_manifest_due || self.is_manifest_under_way {
            return Ok(());
        }
        self.is_manifest_due = false;
        self.is_manifest_under_way = true;
        let (manifest, gone) = (self.manifest(), std::mem::take(&mut self.gone));
        Ok(self.threads.writer.begin(WriteJob::Manifest { manifest, covered: self.written, gone })?)
    }

    fn manifest(&self) -> Manifest {
        let named = |placed: &Placed| NamedRun { file: placed.run.name().to_owned(), bucket: placed.bucket, level: placed.level };
        Manifest {
            covered: self.written.next.0,
            log_time: self.written.log_time.0,
            expired_by: self.expired_by.0,
            last_file: self.place.names.last(),
            runs: self.runs.iter().map(named).collect(),
            ..Manifest::empty(self.log_id.clone(), self.horizon_ms)
        }
    }
}

/// Entries of a table that has this part of the room.
fn table_entries(share: &Share) -> usize {
    share.part_of(ENTRIES_MAX, ENTRIES_MIN)
}

impl Drop for FirstPositions {
    /// A merge may have seconds to go; nobody needs its outcome.
    fn drop(&mut self) {
        self.place.is_closing.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
