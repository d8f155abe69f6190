//! The threads that write and merge runs, so that the fold waits neither for a sort nor for a sync: a table is written while
//! runs are merged.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::buckets::Buckets;
use super::entry::Entry;
use super::manifest::Manifest;
use super::merge::merge;
use super::run::{Run, Writer};
use super::table::Table;
use super::{IndexError, Placed, Reach};
use crate::clock::UnixMillis;
use crate::fault;
use crate::log::disk::Disk;
use crate::materializer::background::{Background, Gone};

/// A table that takes no more entries and is being written.
pub(super) struct Frozen {
    pub(super) table: Table,
    /// Every first before this is in this table or in a run.
    pub(super) end: Reach,
}

/// Gives each file a name of its own.
pub(super) struct Names(AtomicU64);

impl Names {
    pub(super) fn after(last: u64) -> Self {
        Self(AtomicU64::new(last))
    }

    fn next(&self) -> String {
        run_name(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(super) fn last(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The name of the run with this number.
pub(super) fn run_name(number: u64) -> String {
    format!("{number:012}.run")
}

/// For the thread that writes.
pub(super) enum WriteJob {
    /// Write a frozen table as runs of level 0, one a bucket.
    Table(Arc<Frozen>),
    /// Replace the manifest; then nothing refers any more to the runs that are `gone`.
    Manifest { manifest: Manifest, covered: Reach, gone: Vec<Arc<Run>> },
}

/// What it has done.
pub(super) enum Written {
    Table { runs: Vec<Placed>, frozen: Arc<Frozen> },
    Manifest { covered: Reach },
}

/// For the thread that merges: runs of one bucket, into one of `level`.
pub(super) struct MergeJob {
    pub(super) bucket: i64,
    pub(super) level: u32,
    pub(super) runs: Vec<Arc<Run>>,
}

/// What it has done.
pub(super) struct Merged {
    pub(super) run: Placed,
    pub(super) merged: Vec<Arc<Run>>,
}

/// A table and a manifest.
const WRITE_JOBS_MAX: usize = 2;

/// Entries fetched from a table at once.
const FETCHED: usize = 64;

/// What both threads need.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) names: Arc<Names>,
    pub(super) buckets: Buckets,
    /// The owner has gone.
    pub(super) is_closing: Arc<AtomicBool>,
}

pub(super) struct Threads {
    pub(super) writer: Background<WriteJob, Result<Written, IndexError>>,
    pub(super) merger: Background<MergeJob, Result<Merged, IndexError>>,
}

impl Threads {
    pub(super) fn start(place: &Place) -> std::io::Result<Self> {
        let (writing, merging) = (place.clone(), place.clone());
        Ok(Self {
            writer: Background::start("index-write", WRITE_JOBS_MAX, move |job| writing.write(job))?,
            merger: Background::start("index-merge", 1, move |job| merging.merge(job))?,
        })
    }
}

impl From<Gone> for IndexError {
    fn from(_: Gone) -> Self {
        Self::Io("a thread that writes runs has ended".into())
    }
}

impl Place {
    fn write(&self, job: WriteJob) -> Result<Written, IndexError> {
        match job {
            WriteJob::Table(frozen) => {
                fault::point("index-write");
                let runs = self.write_table(&frozen.table)?;
                fault::point("index-written");
                Ok(Written::Table { runs, frozen })
            }
            WriteJob::Manifest { manifest, covered, gone } => {
                fault::point("index-manifest");
                manifest.write(&*self.disk, &self.dir)?;
                fault::point("index-manifested");
                gone.iter().try_for_each(|run| self.disk.remove(&self.dir.join(run.name())))?;
                Ok(Written::Manifest { covered })
            }
        }
    }

    fn write_table(&self, table: &Table) -> Result<Vec<Placed>, IndexError> {
        let bucket_of = |entry: &Entry| self.buckets.of(UnixMillis(entry.log_time));
        let mut placed = Vec::new();
        // Log time never goes back, so each bucket is one piece.
        for entries in table.entries().chunk_by(|a, b| bucket_of(a) == bucket_of(b)) {
            // By identity, then position: as their numbers go. Sorting these moves half of what the entries would.
            let mut order: Vec<(u64, u64, u32)> = entries.iter().zip(0..).map(|(entry, at)| (entry.upper, entry.lower, at)).collect();
            order.sort_unstable();
            let mut writer = Writer::create(&*self.disk, &self.dir, self.names.next(), entries.len() as u64)?;
            // Fetched a few at a time, so that the waits for memory overlap.
            let mut fetched = Vec::with_capacity(FETCHED);
            for some in order.chunks(FETCHED) {
                fetched.clear();
                fetched.extend(some.iter().map(|(_, _, at)| entries[*at as usize]));
                fetched.iter().try_for_each(|entry| writer.push(entry))?;
            }
            let run = Arc::new(writer.finish(&*self.disk, &self.dir)?);
            placed.push(Placed { bucket: bucket_of(&entries[0]), level: 0, run });
        }
        Ok(placed)
    }

    fn merge(&self, job: MergeJob) -> Result<Merged, IndexError> {
        fault::point("index-merge");
        let run = merge(&*self.disk, &self.dir, self.names.next(), &job.runs, &self.is_closing)?;
        fault::point("index-merged");
        Ok(Merged { run: Placed { bucket: job.bucket, level: job.level, run: Arc::new(run) }, merged: job.runs })
    }
}

/// Makes a copy of a run in another directory, by a link if the file system can.
pub(super) fn link_or_copy(disk: &dyn Disk, from: &Path, to: &Path, run: &Run) -> Result<(), IndexError> {
    if disk.link(&from.join(run.name()), &to.join(run.name())).is_ok() {
        return Ok(());
    }
    let copy = disk.create(&to.join(run.name()))?;
    let (mut at, mut bytes) = (0, vec![0; 1 << 20]);
    loop {
        let read = run.file().read_at(at, &mut bytes)?;
        if read == 0 {
            return Ok(copy.sync()?);
        }
        copy.write_at(at, &bytes[..read])?;
        at += read as u64;
    }
}
