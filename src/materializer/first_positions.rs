//! The dedup index of a partition: which identity stands first at which position (`design.md`, promise 5).
//!
//! A record at position p is a repetition exactly if a first position f < p exists whose log time lies less than the horizon
//! before p's. The index is derived from the log and may be deleted at any time; an index that is ahead of the
//! store, or that was read again from the log, gives the same verdicts: firsts are only ever added, and a question about p looks at those before p.
//!
//! New firsts gather in a table in memory. A full table is frozen and written, by a thread of its own, as an immutable sorted
//! `run`; runs of one level are merged into one of the next. The manifest names the runs and the position up to which they
//! cover the log; what the table held is read from the log again after a restart. Memory: two tables of 43 MiB at most, and
//! about 2.1 bytes for each entry on disk (filters and fences).

mod copies;
mod run;
mod worker;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::event::{ContentHash, IdentityHash};
use crate::log::Position;
use crate::log::disk::{Disk, read_file, replace_file};
pub use copies::{Checked, check};
use run::{Entry, Run};
use worker::{Done, Job, Worker};

/// Entries of the table in memory before it is frozen: what fills 2^20 slots.
const TABLE_ENTRIES_MAX: usize = if cfg!(test) { 16 } else { 917_504 };
/// Runs of one level that are merged into one of the next.
const MERGE_RUNS: usize = 8;
const MANIFEST: &str = "manifest.json";
const FORMAT: u32 = 1;

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

/// The identities are uniform already: hashing them once more would buy nothing.
#[derive(Default, Clone, Copy)]
struct Uniform(u64);

impl std::hash::Hasher for Uniform {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, identity: u128) {
        self.0 = identity as u64;
    }
}

type Table = HashMap<u128, First, std::hash::BuildHasherDefault<Uniform>>;

#[derive(Debug, Clone, Copy)]
struct First {
    position: u64,
    log_time: i64,
    content: u64,
}

/// A table that takes no more entries and is being written.
struct Frozen {
    table: Table,
    /// Firsts that a later first of the same identity took the place of.
    superseded: Vec<Entry>,
    /// Every first before this position is in this table or in a run.
    end: Position,
    /// Log time there.
    log_time: UnixMillis,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    log_id: String,
    covered: u64,
    /// Log time at `covered`, ms.
    log_time: i64,
    /// File names by level, newest last.
    levels: BTreeMap<u32, Vec<String>>,
    next_file: u64,
}

/// The dedup index of one partition, owned by its materializer's thread.
pub struct FirstPositions {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    log_id: String,
    horizon_ms: Option<i64>,
    table: Table,
    superseded: Vec<Entry>,
    frozen: Option<Arc<Frozen>>,
    runs: BTreeMap<u32, Vec<Arc<Run>>>,
    /// Every first before this position is in a run.
    covered: Position,
    covered_log_time: UnixMillis,
    next_file: u64,
    merging: Option<u32>,
    worker: Worker,
}

impl FirstPositions {
    /// Opens the index in `dir`. One that is missing, damaged or of another log is begun anew, covering nothing.
    ///
    /// # Errors
    /// [`IndexError::Io`].
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, log_id: [u8; 16], horizon_ms: Option<i64>) -> Result<Self, IndexError> {
        disk.create_dir(dir)?;
        let log_id: String = log_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut index = Self {
            dir: dir.to_owned(),
            disk: disk.clone(),
            log_id,
            horizon_ms,
            table: Table::with_capacity_and_hasher(0, std::hash::BuildHasherDefault::default()),
            superseded: Vec::new(),
            frozen: None,
            runs: BTreeMap::new(),
            covered: Position(0),
            covered_log_time: UnixMillis(i64::MIN),
            next_file: 0,
            merging: None,
            worker: worker::start(disk, dir.to_owned())?,
        };
        match index.load() {
            Ok(()) => {}
            Err(IndexError::Damaged(what)) => {
                tracing::warn!(dir = %dir.display(), %what, "the dedup index is made again from the log");
                index.runs.clear();
            }
            Err(error) => return Err(error),
        }
        index.remove_strangers()?;
        Ok(index)
    }

    fn load(&mut self) -> Result<(), IndexError> {
        let Some(bytes) = read_file(&*self.disk, &self.dir.join(MANIFEST))? else { return Ok(()) };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| IndexError::Damaged(format!("{MANIFEST}: {error}")))?;
        self.next_file = manifest.next_file;
        if manifest.format != FORMAT || manifest.log_id != self.log_id {
            return Err(IndexError::Damaged("it belongs to another log or to another version".into()));
        }
        for (level, names) in manifest.levels {
            for name in names {
                let run = Run::open(&*self.disk, &self.dir, &name)?;
                self.runs.entry(level).or_default().push(Arc::new(run));
            }
        }
        self.covered = Position(manifest.covered);
        self.covered_log_time = UnixMillis(manifest.log_time);
        Ok(())
    }

    /// Removes files that the manifest does not name: the work of a process that died.
    fn remove_strangers(&self) -> Result<(), IndexError> {
        let known: Vec<&str> = self.runs.values().flatten().map(|run| run.name()).collect();
        for name in self.disk.list(&self.dir)? {
            if name != MANIFEST && !known.contains(&name.as_str()) {
                self.disk.remove(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// Every first before this position is safe on disk; the rest has to be read from the log again.
    pub fn covered(&self) -> Position {
        self.covered
    }

    /// The log time at [`FirstPositions::covered`].
    pub fn covered_log_time(&self) -> UnixMillis {
        self.covered_log_time
    }

    /// Number of entries.
    pub fn len(&self) -> u64 {
        let frozen = self.frozen.as_ref().map_or(0, |frozen| frozen.table.len() + frozen.superseded.len());
        let runs: u64 = self.runs.values().flatten().map(|run| run.len()).sum();
        runs + (self.table.len() + self.superseded.len() + frozen) as u64
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks a record up, and takes note of it if it is a first. Records come in the order of their positions.
    ///
    /// # Errors
    /// [`IndexError`]; the record was not taken note of.
    pub fn stand(
        &mut self,
        identity: IdentityHash,
        content: ContentHash,
        position: Position,
        log_time: UnixMillis,
    ) -> Result<Standing, IndexError> {
        if let Some(found) = self.find(identity, position, log_time)? {
            return Ok(found);
        }
        if position >= self.covered {
            let first = First { position: position.0, log_time: log_time.0, content: content.0 };
            if let Some(old) = self.table.insert(identity.0, first) {
                self.superseded.push(entry(identity.0, old));
            }
        }
        Ok(Standing::First)
    }

    fn find(&self, identity: IdentityHash, position: Position, log_time: UnixMillis) -> Result<Option<Standing>, IndexError> {
        let counts = |first: &First| {
            let age = log_time.0.saturating_sub(first.log_time);
            first.position < position.0 && self.horizon_ms.is_none_or(|horizon| age < horizon)
        };
        let standing = |first: &First| Standing::Copy { of: Position(first.position), content: ContentHash(first.content) };
        let tables = std::iter::once(&self.table).chain(self.frozen.as_ref().map(|frozen| &frozen.table));
        for table in tables {
            if let Some(first) = table.get(&identity.0)
                && counts(first)
            {
                return Ok(Some(standing(first)));
            }
        }
        for run in self.runs.values().flatten() {
            let mut found = None;
            run.find(identity.0, &mut |entry| {
                let first = First { position: entry.position, log_time: entry.log_time, content: entry.content };
                if counts(&first) {
                    found = Some(standing(&first));
                }
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Freezes a full table, takes over what the worker has finished, begins merges. Called between batches, when everything
    /// before `next`, where the log time is `log_time`, was looked up. `committed` is the log time of the committed position:
    /// what expired before it may go.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn maintain(&mut self, next: Position, log_time: UnixMillis, committed: UnixMillis) -> Result<(), IndexError> {
        while let Some(done) = self.worker.finished() {
            self.take_over(done??)?;
        }
        if self.table.len() + self.superseded.len() >= TABLE_ENTRIES_MAX {
            while self.frozen.is_some() {
                let done = self.worker.wait()??;
                self.take_over(done)?;
            }
            self.freeze(next, log_time)?;
        }
        self.begin_merge(committed)
    }

    fn freeze(&mut self, end: Position, log_time: UnixMillis) -> Result<(), IndexError> {
        let table = std::mem::replace(
            &mut self.table,
            Table::with_capacity_and_hasher(TABLE_ENTRIES_MAX, std::hash::BuildHasherDefault::default()),
        );
        let frozen = Arc::new(Frozen { table, superseded: std::mem::take(&mut self.superseded), end, log_time });
        self.frozen = Some(frozen.clone());
        let name = self.new_name();
        Ok(self.worker.begin(Job::Write { name, frozen })?)
    }

    fn begin_merge(&mut self, committed: UnixMillis) -> Result<(), IndexError> {
        if self.merging.is_some() {
            return Ok(());
        }
        let Some((level, runs)) = self.runs.iter().find(|(_, runs)| runs.len() >= MERGE_RUNS) else { return Ok(()) };
        let (level, runs) = (*level, runs.clone());
        let expired_before = self.horizon_ms.map(|horizon| committed.0.saturating_sub(horizon));
        self.merging = Some(level);
        let name = self.new_name();
        Ok(self.worker.begin(Job::Merge { name, level, runs, expired_before })?)
    }

    fn new_name(&mut self) -> String {
        self.next_file += 1;
        format!("{:012}.run", self.next_file)
    }

    fn take_over(&mut self, done: Done) -> Result<(), IndexError> {
        let mut gone = Vec::new();
        match done {
            Done::Written { run, frozen } => {
                self.runs.entry(0).or_default().push(Arc::new(run));
                self.covered = frozen.end;
                self.covered_log_time = frozen.log_time;
                self.frozen = None;
            }
            Done::Merged { run, level, merged } => {
                let runs = self.runs.entry(level).or_default();
                runs.retain(|run| !merged.iter().any(|name| name == run.name()));
                self.runs.entry(level + 1).or_default().push(Arc::new(run));
                self.merging = None;
                gone = merged;
            }
        }
        self.write_manifest()?;
        // Only now does nothing refer to them any more.
        for name in gone {
            self.disk.remove(&self.dir.join(name))?;
        }
        Ok(())
    }

    fn write_manifest(&self) -> Result<(), IndexError> {
        Ok(replace_file(&*self.disk, &self.dir, MANIFEST, &self.manifest()?)?)
    }

    fn manifest(&self) -> Result<Vec<u8>, IndexError> {
        let names = |runs: &Vec<Arc<Run>>| runs.iter().map(|run| run.name().to_owned()).collect();
        let manifest = Manifest {
            format: FORMAT,
            log_id: self.log_id.clone(),
            covered: self.covered.0,
            log_time: self.covered_log_time.0,
            levels: self.runs.iter().map(|(level, runs)| (*level, names(runs))).collect(),
            next_file: self.next_file,
        };
        serde_json::to_vec_pretty(&manifest).map_err(|error| IndexError::Io(error.to_string()))
    }
}

fn entry(identity: u128, first: First) -> Entry {
    Entry { identity, position: first.position, log_time: first.log_time, content: first.content }
}

#[cfg(test)]
mod tests;
