//! Commits of rows, on a thread of their own. What the rows pass without counting it is kept before ([`super::undecodable`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Error;
use super::background::{Background, Gone};
use super::undecodable::{self, KeepUndecodable, UndecodableRecord};
use crate::store::{self, Commit, Progress, Store};
use crate::{fault, telemetry};

/// How often a commit whose outcome is unknown is looked at again before the process stops.
const COMMIT_ATTEMPTS: u32 = 5;
/// Before the second look; doubled before each further one.
const COMMIT_RETRY_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 100 });

/// The thread that commits, so that folding goes on meanwhile.
pub(super) struct Committer {
    thread: Background<Job, Result<Progress, Error>>,
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
        let thread = Background::start("commit", 1, move |Job { commit, undecodable }| {
            if let Some(keeper) = keeper.as_deref().filter(|_| !undecodable.is_empty()) {
                undecodable::keep(keeper, commit.partition, &undecodable, &hurry)?;
            }
            commit_once(&*store, &commit)
        })?;
        Ok(Self { thread, busy: false, patience: Some(patience) })
    }

    /// From now on nothing is tried again and again: the partition is to be let go.
    pub(super) fn hurry(&mut self) {
        self.patience = None;
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Keeps what cannot be decoded, then commits.
    pub(super) fn begin(&mut self, commit: Commit, undecodable: Vec<UndecodableRecord>) -> Result<(), Error> {
        self.busy = true;
        self.thread.begin(Job { commit, undecodable }).map_err(|Gone| committer_gone())
    }

    /// Waits for the end of the commit under way.
    pub(super) fn wait(&self) -> Result<Progress, Error> {
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
