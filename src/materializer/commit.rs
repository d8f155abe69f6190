//! Commits of rows, on a thread of their own. What the rows pass without counting it is kept before ([`super::undecodable`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Error;
use super::background::{Background, Gone};
use super::undecodable::{self, KeepUndecodable, UndecodableRecord};
use super::working_set::WorkingSet;
use crate::store::{self, Commit, Progress, Store};
use crate::{fault, telemetry};

/// How often a commit whose outcome is unknown is looked at again before the process stops.
const COMMIT_ATTEMPTS: u32 = 5;
/// Before the second look; doubled before each further one.
const COMMIT_RETRY_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });
/// Entries that are copied for a commit at once: 1 to 2 ms. Folding and queries have their turn between.
pub(super) const COPIED_AT_ONCE: usize = if cfg!(test) { 2 } else { 4_096 };

/// The thread that commits, so that folding goes on meanwhile.
pub(super) struct Committer {
    thread: Background<Job, Result<Progress, Error>>,
    /// What was begun and is not handed over yet: its rows are being copied.
    begun: Option<Job>,
    pub(super) busy: bool,
    /// Until nobody waits any more.
    patience: Option<Sender<()>>,
}

/// A commit, and what is to be kept before it.
struct Job {
    commit: Commit,
    undecodable: Vec<UndecodableRecord>,
}

impl Committer {
    /// `keeper`: `None` where nothing of what cannot be decoded is handed over.
    pub(super) fn start(store: Arc<dyn Store>, keeper: Option<Arc<dyn KeepUndecodable>>) -> std::io::Result<Self> {
        let (patience, hurry) = bounded(0);
        let thread = Background::start("commit", 1, move |Job { mut commit, undecodable }| {
            if let Some(keeper) = keeper.as_deref().filter(|_| !undecodable.is_empty()) {
                undecodable::keep(keeper, commit.partition, &undecodable, &hurry)?;
            }
            commit.rows.sort();
            commit_once(&*store, &commit)
        })?;
        Ok(Self { thread, begun: None, busy: false, patience: Some(patience) })
    }

    /// From now on nothing is tried again and again: the partition is to be let go.
    pub(super) fn hurry(&mut self) {
        self.patience = None;
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Keeps what cannot be decoded, then commits, as soon as the rows are copied ([`Self::copy_some`]).
    pub(super) fn begin(&mut self, commit: Commit, undecodable: Vec<UndecodableRecord>, working: &mut WorkingSet) {
        working.begin_commit();
        self.busy = true;
        self.begun = Some(Job { commit, undecodable });
    }

    /// Copies rows of some entries for the commit that was begun, which goes on its way when it has all; `false`: there is nothing to copy.
    pub(super) fn copy_some(&mut self, working: &mut WorkingSet, entries_max: usize) -> Result<bool, Error> {
        let Some(Job { mut commit, undecodable }) = self.begun.take() else { return Ok(false) };
        match working.copy_commit(entries_max) {
            None => self.begun = Some(Job { commit, undecodable }),
            Some(rows) => {
                commit.rows = rows;
                self.thread.begin(Job { commit, undecodable }).map_err(|Gone| committer_gone())?;
            }
        }
        Ok(true)
    }

    /// Waits for the end of the commit under way.
    pub(super) fn wait(&mut self, working: &mut WorkingSet) -> Result<Progress, Error> {
        self.copy_some(working, usize::MAX)?;
        self.thread.wait().unwrap_or_else(|Gone| Err(committer_gone()))
    }

    /// For waiting for the end of a commit and for something else at a time.
    pub(super) fn results(&self) -> Receiver<Result<Progress, Error>> {
        self.thread.results()
    }

    pub(super) fn finished(&self) -> Option<Result<Progress, Error>> {
        self.thread.finished().map(|done| done.unwrap_or_else(|Gone| Err(committer_gone())))
    }
}

pub(super) fn committer_gone() -> Error {
    Error::Store(store::Error::Failed("the thread that commits has ended".into()))
}

/// Commits; where the answer is lost, the position that is stored tells what happened. Rows are absolute, so the same
/// commit can be tried again.
fn commit_once(store: &dyn Store, commit: &Commit) -> Result<Progress, Error> {
    fault::point("commit-begin");
    let started = Instant::now();
    let mut attempt = 1;
    loop {
        match store.commit(commit) {
            Ok(()) => break,
            Err(store::Error::Failed(what)) if attempt < COMMIT_ATTEMPTS => {
                tracing::warn!(%what, attempt, "a commit did not complete, looking where the store stands");
                std::thread::sleep(COMMIT_RETRY_PAUSE * (1 << (attempt - 1)));
                if store.snapshot().and_then(|snapshot| snapshot.progress(commit.partition)).is_ok_and(|found| found == commit.reached) {
                    break;
                }
                attempt += 1;
            }
            // It had been on its way all the time: whoever else had come exactly as far would have written the same rows.
            Err(store::Error::Fenced { found, .. }) if attempt > 1 && found == commit.reached.next => break,
            Err(error) => return Err(error.into()),
        }
    }
    telemetry::observe_commit(commit.rows.len() as u64, started.elapsed());
    Ok(commit.reached)
}

#[cfg(test)]
mod tests;
