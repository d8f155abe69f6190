//! Usage that any node can show: rows from the store, once they show what was acked anywhere before the query came (`design.md`, promise 9).
//!
//! A query asks Kafka where all partitions end, wishes of their owners, wherever they are, that they commit up to there at once, waits
//! until the store says that they have, and begins its snapshot then. Queries that wait for the same thing share it:
//! - A question to Kafka, and the wish that follows, is for all queries that came before it was begun (`asking`).
//! - What the store says is known once for the process (`standing`): told by the owners as they commit, and asked for now and then while
//!   somebody waits, as a notification may be lost.

mod asking;
mod standing;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use self::asking::Asking;
use self::standing::{Looking, Standing};
use crate::log::Position;
use crate::log::kafka::Ends;
use crate::store::postgres::{Gone, Heard, PostgresStore};
use crate::store::{self, KeyRange, RowSelection, Rows, Snapshot, Store, Visit};
use crate::usage::{UsageSource, View, ViewError, ViewFuture, ViewRequest};

/// How long a query waits for its turn to read rows, on top of its wait for them.
const TURN_PATIENCE: Duration = Duration::from_secs(10);

/// What a [`ClusterSource`] is made of.
pub struct Parts {
    /// Has the rows.
    pub store: Arc<PostgresStore>,
    /// Of the topic of events; others may ask, too.
    pub ends: Arc<Ends>,
    /// Queries whose rows are read at the same time. Each has a connection to itself: fewer than the store has for reading.
    pub queries_max: usize,
}

/// Rows of the whole cluster. Its threads end when it is dropped.
pub struct ClusterSource {
    store: Arc<PostgresStore>,
    asking: Asking,
    standing: Arc<Standing>,
    _looking: Looking,
    turns: Arc<Semaphore>,
    partitions: Arc<[u32]>,
}

impl ClusterSource {
    /// Starts what asks and listens. Neither Kafka nor PostgreSQL need be there.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(parts: Parts) -> io::Result<Self> {
        let Parts { store, ends, queries_max } = parts;
        let partitions: Arc<[u32]> = (0..ends.partitions()).collect();
        let standing = Arc::new(Standing::new(store.clone(), partitions.len()));
        standing.clone().listen();
        let looking = Looking::start(standing.clone())?;
        let wishing = standing.clone();
        let asking = Asking::start(move || {
            let ends = ends.newest().map_err(|error| format!("the log does not say where it ends: {error}"))?;
            wishing.wish(&ends).map_err(|error| rows_failed(&error))?;
            Ok(ends)
        })?;
        Ok(Self { store, asking, standing, _looking: looking, turns: Arc::new(Semaphore::new(queries_max)), partitions })
    }

    /// Waits until the store has everything that was acked before this was called; gives back up to where that is.
    async fn wait_for_rows(&self) -> Result<Arc<[Position]>, ViewError> {
        let ends = self.asking.ask().await.map_err(ViewError::Unavailable)?;
        self.standing.passed(&ends).await;
        Ok(ends)
    }

    /// The rows as they are now. `ends`: what they are to show.
    async fn rows(&self, ends: Option<Arc<[Position]>>) -> Result<View, ViewError> {
        let turn = timeout(TURN_PATIENCE, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(ViewError::Unavailable("too many queries are being answered".into())) };
        let (store, partitions) = (self.store.clone(), self.partitions.clone());
        let begun = tokio::task::spawn_blocking(move || {
            let snapshot = store.snapshot()?;
            // The first look: what is told of progress from here on is true of all rows that are read.
            let progress = snapshot.progresses(&partitions)?;
            Ok::<_, store::Error>((snapshot, progress))
        });
        let begun = begun.await.map_err(|error| ViewError::Unavailable(error.to_string()))?;
        let (snapshot, progress) = begun.map_err(|error| ViewError::Unavailable(rows_failed(&error)))?;
        let complete = ends.is_some_and(|ends| progress.iter().zip(&*ends).all(|(progress, end)| progress.next >= *end));
        let positions = self.partitions.iter().zip(&progress).map(|(partition, progress)| (*partition, progress.next.0)).collect();
        Ok(View { rows: Box::new(InTurn { snapshot, _turn: turn }), complete, positions })
    }
}

impl UsageSource for ClusterSource {
    /// Without a wait Kafka is not asked, so that nobody knows whether the rows show everything: they are not called complete.
    fn view(&self, _: Vec<ViewRequest>, wait: Duration) -> ViewFuture<'_> {
        Box::pin(async move {
            let ends = if wait.is_zero() { None } else { timeout(wait, self.wait_for_rows()).await.ok().transpose()? };
            self.rows(ends).await
        })
    }
}

fn rows_failed(error: &store::Error) -> String {
    format!("the rows cannot be read now: {error}")
}

/// A snapshot, and leave to read it.
struct InTurn {
    snapshot: Box<dyn Snapshot>,
    _turn: OwnedSemaphorePermit,
}

impl Rows for InTurn {
    fn scan(&self, selection: &RowSelection, visit: &mut Visit<'_>) -> Result<(), store::Error> {
        self.snapshot.scan(selection, visit)
    }

    fn first_key(&self, ranges: &[KeyRange]) -> Result<Option<Vec<u8>>, store::Error> {
        self.snapshot.first_key(ranges)
    }
}

/// What any node wishes is handed to the owners here for as long as this is kept.
pub struct Wishes {
    _kept: Arc<()>,
}

impl Wishes {
    /// Calls `wish` with each partition that is to be committed up to a position, also those that others own. It must not wait for anything:
    /// [`crate::materializer::Materializer::commit_from`] does not. A wish that is not heard comes again.
    pub fn hear(store: &PostgresStore, wish: impl Fn(u32, Position) + Send + Sync + 'static) -> Self {
        let kept = Arc::new(());
        let is_kept = Arc::downgrade(&kept);
        store.listen(move |heard| {
            if let Heard::Wish(partition, position) = heard {
                wish(partition, position);
            }
            still(&is_kept)
        });
        Self { _kept: kept }
    }
}

fn still<T>(kept: &Weak<T>) -> Result<(), Gone> {
    if kept.strong_count() == 0 { Err(Gone) } else { Ok(()) }
}
