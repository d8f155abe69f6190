//! The thread that writes and merges runs, so that the fold never waits for a sort.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use super::run::{self, Entry, Run};
use super::{Frozen, IndexError, entry};
use crate::log::disk::Disk;

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

/// A handle; the thread ends when it is dropped, after the job at hand.
pub(super) struct Worker {
    jobs: Option<Sender<Job>>,
    results: Receiver<Result<Done, IndexError>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes runs of the dedup index panicked");
        }
    }
}

impl Worker {
    pub(super) fn start(disk: Arc<dyn Disk>, dir: PathBuf) -> std::io::Result<Self> {
        // One write and one merge at a time: two jobs at most wait.
        let (jobs, waiting) = bounded::<Job>(2);
        let (finished, results) = bounded(2);
        let thread = std::thread::Builder::new().name("index-runs".into()).spawn(move || {
            for job in waiting {
                if finished.send(work(&*disk, &dir, job)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { jobs: Some(jobs), results, thread: Some(thread) })
    }

    pub(super) fn begin(&self, job: Job) -> Result<(), IndexError> {
        self.jobs.as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(gone)
    }

    /// The next result, if there is one.
    pub(super) fn finished(&self) -> Option<Result<Done, IndexError>> {
        match self.results.try_recv() {
            Ok(done) => Some(done),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(gone())),
        }
    }

    /// Waits for the next result.
    pub(super) fn wait(&self) -> Result<Done, IndexError> {
        self.results.recv().map_err(|_| gone())?
    }
}

fn gone() -> IndexError {
    IndexError::Io("the thread that writes runs has ended".into())
}

fn work(disk: &dyn Disk, dir: &std::path::Path, job: Job) -> Result<Done, IndexError> {
    match job {
        Job::Write { name, frozen } => {
            let mut entries: Vec<Entry> = frozen.table.iter().map(|(identity, first)| entry(*identity, *first)).collect();
            entries.extend_from_slice(&frozen.superseded);
            entries.sort_unstable();
            let run = run::write(disk, dir, &name, entries.len(), entries.into_iter().map(Ok))?;
            Ok(Done::Written { run, frozen })
        }
        Job::Merge { name, level, runs, expired_before } => {
            let expected = runs.iter().map(|run| run.len() as usize).sum();
            let fresh = |entry: &Result<Entry, IndexError>| match (entry, expired_before) {
                (Ok(entry), Some(before)) => entry.log_time > before,
                _ => true,
            };
            let run = run::write(disk, dir, &name, expected, merge(&runs)?.filter(fresh))?;
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
