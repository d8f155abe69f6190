//! When a base is made, and by whom: the fold freezes and links the index, a thread of its own writes the rows.
//!
//! The index may be ahead of the rows, never behind them. So: a snapshot of what is committed, at position P; the table frozen
//! where the fold stands, at P or behind it; the index linked once it covers P. None of this makes the fold wait.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Error;
use super::background::{Background, Gone};
use super::first_positions::FirstPositions;
use crate::base::{self, Base, BaseIdentity, Unsealed};
use crate::clock::UnixMillis;
use crate::log::Position;
use crate::log::embedded::{EmbeddedLog, Settings};
use crate::store::{Progress, Snapshot, Store};

/// A base is due when this part of the retention has passed since the newest one.
const PARTS_OF_RETENTION: u64 = 8;
/// Pause between two looks at what the background does.
const PAUSE: Duration = Duration::from_millis(10);
/// Pause after a base could not be made.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Where bases are, and what they are for.
#[derive(Clone)]
pub struct BaseSettings {
    /// The directory of bases.
    pub dir: PathBuf,
    /// Whose segments go when a base makes up for them.
    pub log: Arc<EmbeddedLog>,
    /// What retention wants to remove. Without any, no base is made.
    pub retention: Settings,
}

enum State {
    Idle,
    /// The index does not cover the snapshot's position yet.
    Covering(Box<dyn Snapshot>, Progress),
    Writing,
}

struct Job {
    unsealed: Unsealed,
    snapshot: Box<dyn Snapshot>,
    index_covers: Position,
}

/// The newest base, and the next one on its way.
pub(super) struct Sealing {
    settings: BaseSettings,
    identity: BaseIdentity,
    newest: Option<Base>,
    state: State,
    /// Made with the first base.
    thread: Option<Background<Job, Result<Base, base::Error>>>,
    stopping: Arc<AtomicBool>,
    /// Not before.
    next_attempt: Instant,
    /// What was committed when it was last asked whether a base is due.
    looked_at: Position,
}

impl Sealing {
    /// Removes what is left of an unfinished base. A damaged base stops only those who need it; the next one takes its place.
    pub(super) fn open(settings: BaseSettings, identity: BaseIdentity) -> Result<Self, base::Error> {
        base::remove_leftovers(&settings.dir)?;
        let newest = Base::newest(&settings.dir, &identity).unwrap_or_else(|error| {
            tracing::error!(%error, "the newest base cannot be used; no segment goes before there is another");
            None
        });
        settings.log.keep_from(newest.as_ref().map_or(Position(0), |base| base.progress().next));
        Ok(Self {
            settings,
            identity,
            newest,
            state: State::Idle,
            thread: None,
            stopping: Arc::default(),
            next_attempt: Instant::now(),
            looked_at: Position(0),
        })
    }

    /// Everything before it can be made up for.
    pub(super) fn position(&self) -> Position {
        self.newest.as_ref().map_or(Position(0), |base| base.progress().next)
    }

    /// Puts the base's index in the place of one that needs records which the log, beginning at `start`, does not have.
    pub(super) fn put_index(&self, to: &Path, start: Position) -> Result<(), Error> {
        // Read again: now it has to be said what is wrong with it.
        match Base::newest(&self.settings.dir, &self.identity)? {
            Some(base) if base.progress().next >= start => {
                tracing::warn!(base = %base.dir().display(), "the dedup index is taken from the base and the log");
                base.put_index(to)?;
            }
            // The index that is found now is not enough, which is said then.
            Some(_) | None => {}
        }
        Ok(())
    }

    /// When to look again though nothing happens.
    pub(super) fn look_again(&self) -> Option<Duration> {
        match self.state {
            State::Idle => None,
            State::Covering(..) | State::Writing => Some(PAUSE),
        }
    }

    /// Does what can be done now without waiting. A base that cannot be made stops nothing: the log keeps its segments.
    pub(super) fn step(
        &mut self,
        index: &mut FirstPositions,
        store: &dyn Store,
        folded: Progress,
        committed: Progress,
    ) -> Result<(), Error> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Idle => {
                if self.is_due(committed) {
                    let snapshot = store.snapshot()?;
                    let progress = snapshot.progress(self.identity.partition)?;
                    index.freeze_at(folded.next, folded.log_time)?;
                    self.state = State::Covering(snapshot, progress);
                }
            }
            State::Covering(snapshot, progress) => {
                index.maintain(folded.next, folded.log_time, committed.log_time)?;
                if index.covered() < progress.next {
                    self.state = State::Covering(snapshot, progress);
                } else if let Err(error) = self.begin(index, snapshot, progress) {
                    self.failed(&error);
                }
            }
            State::Writing => match self.thread.as_ref().and_then(Background::finished) {
                None => self.state = State::Writing,
                Some(Ok(Ok(base))) => {
                    let position = base.progress().next;
                    tracing::info!(position = position.0, rows = base.rows(), "a base is sealed, the log before it may go");
                    self.settings.log.keep_from(position);
                    self.newest = Some(base);
                }
                Some(Ok(Err(error))) => self.failed(&error),
                Some(Err(Gone)) => {
                    self.thread = None;
                    self.failed(&base::Error::Stopping);
                }
            },
        }
        Ok(())
    }

    fn failed(&mut self, error: &base::Error) {
        tracing::error!(%error, "no base could be made; the log keeps what it would have removed");
        self.next_attempt = Instant::now() + PAUSE_AFTER_FAILURE;
        self.looked_at = Position(0);
    }

    fn begin(&mut self, index: &FirstPositions, snapshot: Box<dyn Snapshot>, progress: Progress) -> Result<(), base::Error> {
        let unsealed = Unsealed::begin(&self.settings.dir, self.identity, progress)?;
        let linked = index.link_into(&unsealed.index_dir());
        let index_covers = linked.map_err(|error| base::Error::Index(error.to_string()))?;
        let thread = match &mut self.thread {
            Some(thread) => thread,
            none => none.insert(start(self.stopping.clone()).map_err(|error| base::Error::Io { file: "thread".into(), error })?),
        };
        thread.begin(Job { unsealed, snapshot, index_covers }).map_err(|Gone| base::Error::Stopping)?;
        self.state = State::Writing;
        Ok(())
    }

    /// Whether enough was appended since the newest base, and another one would let a segment go.
    fn is_due(&mut self, committed: Progress) -> bool {
        let settings = self.settings.retention;
        let is_needed = settings.retention_age_ms.is_some() || settings.retention_bytes.is_some();
        if !is_needed || committed.next == self.looked_at || Instant::now() < self.next_attempt {
            return false;
        }
        self.looked_at = committed.next;
        let worth = self.settings.log.worth_of_base(self.position(), committed.next, &settings, committed.log_time);
        let newest: UnixMillis = self.newest.as_ref().map_or(worth.oldest, |base| base.progress().log_time);
        let passed_ms = committed.log_time.0.saturating_sub(newest.0);
        let is_old = settings.retention_age_ms.is_some_and(|age| passed_ms >= age / PARTS_OF_RETENTION as i64);
        let is_far = settings.retention_bytes.is_some_and(|bytes| worth.bytes_since >= bytes / PARTS_OF_RETENTION);
        worth.frees && (is_old || is_far || worth.is_wanted)
    }
}

fn start(stopping: Arc<AtomicBool>) -> std::io::Result<Background<Job, Result<Base, base::Error>>> {
    Background::start("base", 1, move |job: Job| job.unsealed.seal(&*job.snapshot, job.index_covers, &|| !stopping.load(Ordering::Relaxed)))
}

impl Drop for Sealing {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}
