//! How a partition is taken: where its rows stand, and an index that fits them.
//!
//! The index may be missing or far behind: the partition was another node's. Then whoever takes it ([`Taking`]) may put another one in its place
//! before the log is read, if that is faster.

use std::path::Path;
use std::time::Duration;

use super::first_positions::{self, FirstPositions};
use super::sealing::Sealing;
use super::{Error, Parts, Shares};
use crate::base;
use crate::log::disk::Disk;
use crate::log::{self, Position};
use crate::store::{Progress, Snapshot};

/// How wrong clocks may have been: Kafka refuses what is an hour ahead, and nobody what is behind.
const CLOCKS_MS: i64 = 86_400_000;
/// Of the begin of a log, what is looked at.
const LOOK_BYTES: usize = 256 << 10;

/// What else happens when a partition is taken, where there are several nodes or several partitions. `()`: nothing.
pub trait Taking: Send + 'static {
    /// With whom it shares memory: that of its index, and that of the rows it works on.
    fn shares(&self) -> Shares {
        Shares::default()
    }

    /// Whether another index is to be looked for.
    fn is_index_wanted(&self, standing: &IndexStanding) -> bool {
        let _ = standing;
        false
    }

    /// Puts another index in the place of one that nobody has open; whether it did. May take as long as it likes: rows and log are looked at again
    /// behind it. Without another one, the log is read.
    ///
    /// # Errors
    /// [`Error::Stopped`]: the partition is not to be taken any more.
    fn find_index(&mut self, place: &IndexPlace<'_>, standing: &IndexStanding) -> Result<bool, Error> {
        let _ = (place, standing);
        Ok(false)
    }

    /// The index has everything that the rows have; the first verdict comes next.
    fn caught_up(&mut self, caught_up: CaughtUp) {
        let _ = caught_up;
    }
}

impl Taking for () {}

/// Where an index is, and of what.
pub struct IndexPlace<'p> {
    /// The disk.
    pub disk: &'p dyn Disk,
    /// Its directory.
    pub dir: &'p Path,
    /// Of the log.
    pub log_id: [u8; 16],
    /// Of the log, too.
    pub horizon_ms: Option<i64>,
}

/// How far an index goes, and how far it has to.
#[derive(Debug, Clone, Copy)]
pub struct IndexStanding {
    /// It covers the log up to here.
    pub covered: Position,
    /// The rows stand here: so far it has to be before the first verdict.
    pub committed: Progress,
    /// The log has nothing before this: an index that does not reach it cannot be caught up.
    pub start: Position,
}

impl IndexStanding {
    /// Records that have to be read.
    pub fn behind(&self) -> u64 {
        self.committed.next.0.saturating_sub(self.covered.0)
    }

    /// Whether they are all there.
    pub fn can_be_read(&self) -> bool {
        self.covered >= self.start
    }
}

/// An index was caught up.
#[derive(Debug, Clone, Copy)]
pub struct CaughtUp {
    /// It covered the log up to here when it was opened.
    pub from: Position,
    /// And now up to here, or what it covered if that was more.
    pub to: Position,
    /// How long that took.
    pub took: Duration,
}

/// Rows and index of a partition, found to fit each other and the log.
pub(super) struct Taken {
    pub(super) snapshot: Box<dyn Snapshot>,
    pub(super) committed: Progress,
    /// End of the log.
    pub(super) end: Position,
    pub(super) index: FirstPositions,
    pub(super) sealing: Option<Sealing>,
}

impl Taken {
    /// Looks at all of it.
    pub(super) fn open(parts: &mut Parts, taking: &mut dyn Taking) -> Result<Self, Error> {
        let identity = base::BaseIdentity { log_id: parts.meta.log_id, partition: parts.log.number() };
        let (snapshot, committed) = standing(parts)?;
        let sealing = parts.bases.take().map(|settings| Sealing::open(settings, identity)).transpose()?;
        let shares = taking.shares();
        let index = open_index(parts, committed, &shares)?;
        let found = IndexStanding { covered: index.covered(), committed, start: parts.log.start() };
        if !taking.is_index_wanted(&found) {
            return Self::fitting(parts, snapshot, committed, index, sealing, &shares);
        }
        drop((index, snapshot));
        let place = IndexPlace {
            disk: &*parts.disk,
            dir: &parts.index_dir,
            log_id: parts.meta.log_id,
            horizon_ms: parts.meta.fold.dedup_horizon_ms,
        };
        taking.find_index(&place, &found)?;
        // Whoever had the partition may have committed meanwhile.
        let (snapshot, committed) = standing(parts)?;
        let index = open_index(parts, committed, &shares)?;
        Self::fitting(parts, snapshot, committed, index, sealing, &shares)
    }

    fn fitting(
        parts: &Parts,
        snapshot: Box<dyn Snapshot>,
        committed: Progress,
        mut index: FirstPositions,
        sealing: Option<Sealing>,
        shares: &Shares,
    ) -> Result<Self, Error> {
        let start = parts.log.start();
        if index.covered() < start {
            drop(index);
            match &sealing {
                Some(sealing) => sealing.put_index(&parts.index_dir, start)?,
                None => begin_where_the_log_does(parts, committed, start)?,
            }
            index = open_index(parts, committed, shares)?;
        }
        let end = end_behind(parts, index.covered())?;
        if index.covered() > end {
            return Err(Error::IndexAheadOfLog { index: index.covered(), log: end });
        }
        if index.covered() < start {
            return Err(Error::NoIndex { index: index.covered(), log: start });
        }
        Ok(Self { snapshot, committed, end, index, sealing })
    }
}

/// Where the rows stand, in a log that has what they need.
fn standing(parts: &Parts) -> Result<(Box<dyn Snapshot>, Progress), Error> {
    let snapshot = parts.store.snapshot()?;
    let committed = snapshot.progress(parts.log.number())?;
    let (start, end) = (parts.log.start(), end_behind(parts, committed.next)?);
    if committed.next > end {
        return Err(Error::RowsAheadOfLog { rows: committed.next, log: end });
    }
    if committed.next < start {
        return Err(Error::LogTruncated { rows: committed.next, log: start });
    }
    Ok((snapshot, committed))
}

/// Retention took the begin of the log, and nobody has an index that reaches so far. If all that went had expired where the rows stand, it takes
/// none: it begins where the log does. Otherwise nothing is done.
///
/// Log time before the begin is not known any more. It is not later than what came next, but for clocks that were slow then; so the newest of some
/// records counts, and [`CLOCKS_MS`] more than the horizon must have passed since.
fn begin_where_the_log_does(parts: &Parts, committed: Progress, start: Position) -> Result<(), Error> {
    let Some(horizon_ms) = parts.meta.fold.dedup_horizon_ms.filter(|_| start < committed.next) else { return Ok(()) };
    let chunk = log::read_some(&mut *parts.log.clone().look_ups(), start, LOOK_BYTES)?;
    let Some(newest) = chunk.blocks().map(|block| block.received.0).max() else { return Ok(()) };
    if newest.saturating_add(horizon_ms).saturating_add(CLOCKS_MS) <= committed.log_time.0 {
        tracing::warn!(partition = parts.log.number(), %start, "the dedup index begins where the log does: what retention took had expired");
        first_positions::begin_at(&*parts.disk, &parts.index_dir, parts.meta.log_id, horizon_ms, start, committed.log_time)?;
    }
    Ok(())
}

/// The log's end; asked for if it does not lie behind a position, as far as is known: others append and fold, too.
fn end_behind(parts: &Parts, position: Position) -> Result<Position, Error> {
    let known = parts.log.end();
    Ok(if known < position { parts.log.newest_end()? } else { known })
}

fn open_index(parts: &Parts, committed: Progress, shares: &Shares) -> Result<FirstPositions, Error> {
    let (log_id, horizon_ms) = (parts.meta.log_id, parts.meta.fold.dedup_horizon_ms);
    Ok(FirstPositions::open_sharing(parts.disk.clone(), &parts.index_dir, log_id, horizon_ms, committed.log_time, shares)?)
}
