//! Dead letters: what was not taken although its neighbours were, and what was done about it: replayed, deleted.
//!
//! Everything is in the letters' own log ([`crate::gateway::letters`]): letters, and marks that refer to earlier positions. What is
//! marked is kept in memory by the [`Ledger`], which reads the log and nothing else. So a letter's state survives restarts
//! and backups with the letter, and goes with it.
//!
//! Changes are made one after the other, and what was begun goes on when whoever asked for it hangs up. Of readers, a few get their turn
//! at a time: each may hold some MiB.
//!
//! What stands in the log of events and cannot be decoded is here, too ([`UndecodableLetters`]).

mod filter;
mod ledger;
mod replay;
mod scan;
mod undecodable;

use std::sync::Arc;

use tokio::sync::{Mutex, Semaphore};

pub use filter::{Filter, Names, State};
pub use ledger::Ledger;
pub use replay::{Replay, ReplayedPage};
pub use scan::{Latest, Page};
pub use undecodable::UndecodableLetters;

use crate::batch::{BatchError, Batcher};
use crate::clock::{Clock, ClockJumped, UnixMillis};
use crate::dialect::ApiError;
use crate::gateway::letters::{Became, DeadLetter, Mark, Refusal, marks};
use crate::log::{self, Position};

/// Questions that are answered at a time.
const READERS_MAX: usize = 4;

/// Everything that is asked of the dead letters.
pub struct Letters {
    ledger: Arc<Ledger>,
    /// Where marks go: the appender of the letters themselves.
    batcher: Batcher,
    clock: Clock,
    /// Held while letters are changed, so that no two decide on the same state.
    changes: Arc<Mutex<()>>,
    readers: Arc<Semaphore>,
}

/// A letter with its place, and what was done about it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Where it is in its log.
    pub position: Position,
    /// When it came.
    pub received: UnixMillis,
    /// What it says.
    pub letter: DeadLetter,
    /// The last time that it was replayed, and what came of it.
    pub last_replay: Option<(UnixMillis, Became)>,
    /// Size of its record.
    bytes: u64,
}

impl Letter {
    /// Why it is not taken, as far as is known now.
    pub fn refusal(&self) -> &Refusal {
        match &self.last_replay {
            Some((_, Became::Refused(refusal))) => refusal,
            Some((_, Became::Replayed { .. } | Became::Deleted)) | None => &self.letter.refusal,
        }
    }

    fn mark(&self, became: Became) -> Mark {
        let DeadLetter { account, refusal, .. } = &self.letter;
        Mark { account: *account, letter: self.position.0, code: refusal.code.clone(), bytes: self.bytes, became }
    }
}

/// Some letters were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// How many.
    pub count: usize,
    /// Where to go on, as `before`; `None`: there are no more.
    pub next: Option<Position>,
}

/// Why there is no answer. What was done before it stays done, and doing it again changes nothing more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The letters cannot be read.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// A mark was not written, or nobody knows.
    #[error(transparent)]
    Append(#[from] BatchError),
    /// No mark can be stamped.
    #[error(transparent)]
    Clock(#[from] ClockJumped),
    /// What was brought again was not stored, or nobody knows: the answer of the door.
    #[error("{}", .0.message)]
    Door(Box<ApiError>),
    /// The thread or task broke off.
    #[error("it was interrupted")]
    Interrupted,
}

impl Letters {
    /// Over the letters' log and its appender.
    pub fn new(ledger: Arc<Ledger>, batcher: Batcher, clock: Clock) -> Self {
        Self { ledger, batcher, clock, changes: Arc::default(), readers: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// The latest letters of an account that a filter holds for.
    ///
    /// # Errors
    /// [`Error::Log`].
    pub async fn list(&self, account: u32, filter: Filter) -> Result<Page, Error> {
        self.read(move |ledger| scan::page(ledger, account, &filter)).await
    }

    /// One letter of an account; `None` if it has none there, or not any more.
    ///
    /// # Errors
    /// [`Error::Log`].
    pub async fn get(&self, account: u32, position: Position) -> Result<Option<Letter>, Error> {
        self.read(move |ledger| scan::one(ledger, account, position)).await
    }

    /// The latest letter about each of these uniqueIds, as far as a bounded look back finds one; without the bytes of the events.
    ///
    /// # Errors
    /// [`Error::Log`].
    pub async fn latest(&self, account: u32, unique_ids: Vec<String>) -> Result<Latest, Error> {
        self.read(move |ledger| scan::latest(ledger, account, unique_ids)).await
    }

    /// Deletes a letter; `false` if there is none.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete(self: &Arc<Self>, account: u32, position: Position) -> Result<bool, Error> {
        let letters = self.clone();
        self.change(async move {
            let Some(letter) = letters.get(account, position).await? else { return Ok(false) };
            letters.note(vec![letter.mark(Became::Deleted)]).await?;
            Ok(true)
        })
        .await
    }

    /// Deletes the latest letters that a filter holds for.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn delete_all(self: &Arc<Self>, account: u32, filter: Filter) -> Result<Deleted, Error> {
        let letters = self.clone();
        self.change(async move {
            let page = letters.list(account, filter).await?;
            letters.note(page.letters.iter().map(|letter| letter.mark(Became::Deleted)).collect()).await?;
            Ok(Deleted { count: page.letters.len(), next: page.next })
        })
        .await
    }

    /// Waits for its turn and makes a change to its end, also when nobody waits for it any more.
    async fn change<T: Send + 'static>(&self, change: impl Future<Output = Result<T, Error>> + Send + 'static) -> Result<T, Error> {
        let turn = self.changes.clone().lock_owned().await;
        let change = async move {
            let _turn = turn;
            change.await
        };
        tokio::spawn(change).await.map_err(|_| Error::Interrupted)?
    }

    /// Writes marks durably.
    async fn note(&self, new: Vec<Mark>) -> Result<(), Error> {
        if !new.is_empty() {
            let block = marks(new, self.clock.receive_time()?);
            self.batcher.append(block.seal(), None).await?;
        }
        Ok(())
    }

    async fn read<T: Send + 'static>(&self, work: impl FnOnce(&Ledger) -> Result<T, log::Error> + Send + 'static) -> Result<T, Error> {
        let ledger = self.ledger.clone();
        // Given back when the reading ends, which it does not when nobody waits for it any more.
        let turn = self.readers.clone().acquire_owned().await.map_err(|_| Error::Interrupted)?;
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            ledger.catch_up()?;
            work(&ledger)
        });
        Ok(read.await.map_err(|_| Error::Interrupted)??)
    }
}

/// Keeps a ledger, and the metrics that it sets, close behind the log for as long as the process runs.
pub async fn follow(ledger: Arc<Ledger>) {
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
    let mut is_read = true;
    loop {
        let behind = ledger.clone();
        match tokio::task::spawn_blocking(move || behind.catch_up()).await {
            Ok(Ok(())) => is_read = true,
            Ok(Err(error)) => {
                if std::mem::replace(&mut is_read, false) {
                    tracing::error!(%error, "the dead letters cannot be read; what is asked of them fails, events are not affected");
                }
            }
            // The runtime is going.
            Err(_) => return,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
pub(crate) mod tests;
