//! The thread that writes and merges runs, so that the fold never waits for a sort.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::sync::Arc;

use super::run::{self, Entry, Run};
use super::{Frozen, IndexError, entry};
use crate::fault;
use crate::log::disk::Disk;
use crate::materializer::background::{Background, Gone};

/// What is to be done.
pub(super) enum Job {
    /// Write a frozen table as a run of level 0.
    Write { name: String, frozen: Arc<Frozen> },
    /// Merge runs into one of the next level, without entries older than `expired_before` (log time, ms).
    Merge { name: String, level: u32, runs: Vec<Arc<Run>>, expired_before: Option<i64> },
}

/// What was done.
pub(super) enum Done {
    Written { run: Run, frozen: Arc<Frozen> },
    Merged { run: Run, level: u32, merged: Vec<String> },
}

/// One write and one merge at a time.
const JOBS_MAX: usize = 2;

pub(super) type Worker = Background<Job, Result<Done, IndexError>>;

pub(super) fn start(disk: Arc<dyn Disk>, dir: PathBuf) -> std::io::Result<Worker> {
    Background::start("index-runs", JOBS_MAX, move |job| work(&*disk, &dir, job))
}

impl From<Gone> for IndexError {
    fn from(_: Gone) -> Self {
        Self::Io("the thread that writes runs has ended".into())
    }
}

fn work(disk: &dyn Disk, dir: &std::path::Path, job: Job) -> Result<Done, IndexError> {
    match job {
        Job::Write { name, frozen } => {
            let mut entries: Vec<Entry> = frozen.table.iter().map(|(identity, first)| entry(*identity, *first)).collect();
            entries.extend_from_slice(&frozen.superseded);
            entries.sort_unstable();
            fault::point("index-write");
            let run = run::write(disk, dir, &name, entries.len(), entries.into_iter().map(Ok))?;
            fault::point("index-written");
            Ok(Done::Written { run, frozen })
        }
        Job::Merge { name, level, runs, expired_before } => {
            let expected = runs.iter().map(|run| run.len() as usize).sum();
            let fresh = |entry: &Result<Entry, IndexError>| match (entry, expired_before) {
                (Ok(entry), Some(before)) => entry.log_time > before,
                _ => true,
            };
            fault::point("index-merge");
            let run = run::write(disk, dir, &name, expected, merge(&runs)?.filter(fresh))?;
            fault::point("index-merged");
            Ok(Done::Merged { run, level, merged: runs.iter().map(|run| run.name().to_owned()).collect() })
        }
    }
}

/// The entries of all runs in order.
fn merge(runs: &[Arc<Run>]) -> Result<impl Iterator<Item = Result<Entry, IndexError>>, IndexError> {
    let mut sources: Vec<_> = runs.iter().map(|run| run.entries()).collect();
    let mut heads = BinaryHeap::with_capacity(sources.len());
    for (at, source) in sources.iter_mut().enumerate() {
        if let Some(entry) = source.next().transpose()? {
            heads.push(Reverse((entry, at)));
        }
    }
    Ok(std::iter::from_fn(move || {
        let Reverse((entry, at)) = heads.pop()?;
        match sources[at].next() {
            Some(Ok(next)) => heads.push(Reverse((next, at))),
            Some(Err(error)) => return Some(Err(error)),
            None => {}
        }
        Some(Ok(entry))
    }))
}
