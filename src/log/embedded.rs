//! The embedded log: segment files of one partition in a directory.
//!
//! One [`EmbeddedAppender`] writes, any number of [`EmbeddedReader`]s read what it has synced. What both share, the list
//! of segments and the durable end, is in [`EmbeddedLog`].
//!
//! Deliberately not here: what is in a record, and when a group of appends is complete (`batch`).

mod appender;
pub mod inspect;
mod reader;
mod recovery;
mod segment;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::disk::Disk;
use super::{Error, LogReader, Partition, Position};
use crate::clock::UnixMillis;
use crate::telemetry;
pub use appender::EmbeddedAppender;
pub use reader::EmbeddedReader;
use segment::{Landmark, SparseIndex};

/// The only partition.
pub const PARTITION: u32 = 0;

/// What an operator may turn.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A segment that has reached this size is closed and the next one begun.
    pub segment_bytes: u64,
    /// Sealed segments whose last record was received longer ago than this may go, in ms. `None`: never.
    pub retention_age_ms: Option<i64>,
    /// While all segments together are larger than this, the oldest may go. `None`: never.
    pub retention_bytes: Option<u64>,
    /// Bytes of the file system that an append leaves free: for rows and index, which must be able to follow.
    pub disk_reserve_bytes: u64,
}

/// What tells this log from others: stands in each segment.
#[derive(Debug, Clone, Copy)]
pub struct LogIdentity {
    /// See [`super::meta::LogMeta::log_id`].
    pub log_id: [u8; 16],
    /// Name in metrics: `events` or `dead_letters`.
    pub name: &'static str,
}

/// A sealed or open segment.
#[derive(Debug, Clone)]
struct Segment {
    base: Position,
    path: PathBuf,
    bytes: u64,
    /// Receive time of its newest block.
    newest: UnixMillis,
    /// `None`: sealed by an earlier process and not looked into since.
    index: Arc<Mutex<Option<SparseIndex>>>,
}

impl Segment {
    fn index(&self) -> MutexGuard<'_, Option<SparseIndex>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part that appender and readers share.
pub struct EmbeddedLog {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    identity: LogIdentity,
    segments: Mutex<Vec<Segment>>,
    end: AtomicU64,
    /// Nothing from here on may be removed.
    keep_from: AtomicU64,
    /// While there are any, nothing at all may be removed.
    holds: AtomicUsize,
    grown: (Sender<()>, Receiver<()>),
}

/// Where a block of the group under way stands.
struct Placed {
    first: Position,
    offset: u64,
    received: UnixMillis,
}

/// What was found and mended when the log was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records that were copied out of a tail that had not been closed in good order.
    pub records: u64,
    /// Bytes behind the last valid block, dropped: writes that were never acknowledged.
    pub torn_bytes: u64,
}

impl EmbeddedLog {
    /// Opens the log in `dir`, making it if there is none, and recovers its tail.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when durable bytes are not what was written, [`Error::Newer`], [`Error::Io`]. Nothing was lost by trying.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: LogIdentity,
        settings: Settings,
    ) -> Result<(Arc<Self>, EmbeddedAppender, Recovered), Error> {
        disk.create_dir(dir).map_err(|error| io_error(dir, &error))?;
        let found = recovery::recover(&*disk, dir, &identity)?;
        let log = Arc::new(Self {
            dir: dir.to_owned(),
            disk,
            identity,
            segments: Mutex::new(found.segments),
            end: AtomicU64::new(found.end.0),
            keep_from: AtomicU64::new(0),
            holds: AtomicUsize::new(0),
            grown: bounded(1),
        });
        let appender = EmbeddedAppender::new(log.clone(), settings, found.end);
        telemetry::set_log_bytes(identity.name, log.bytes());
        Ok((log, appender, found.recovered))
    }

    /// One past the last durable record.
    pub fn end(&self) -> Position {
        Position(self.end.load(Ordering::Acquire))
    }

    /// The oldest record there is.
    pub fn start(&self) -> Position {
        self.lock().first().map_or(self.end(), |segment| segment.base)
    }

    /// The first position of the segment that a position is in; `None`: it is in none.
    pub fn segment_of(&self, position: Position) -> Option<Position> {
        self.lock().iter().rev().map(|segment| segment.base).find(|base| *base <= position)
    }

    /// Size of all segments in bytes.
    pub fn bytes(&self) -> u64 {
        self.lock().iter().map(|segment| segment.bytes).sum()
    }

    /// Gets a message when the end has moved; several moves may share one.
    pub fn grown(&self) -> Receiver<()> {
        self.grown.1.clone()
    }

    /// Lets retention remove what lies wholly before a position: that of the newest sealed base. It removes nothing before it is
    /// told so, and looks when a segment is closed.
    pub fn keep_from(&self, position: Position) {
        self.keep_from.store(position.0, Ordering::Release);
    }

    /// Keeps every segment for as long as the hold is there.
    pub fn hold(self: &Arc<Self>) -> Hold {
        self.holds.fetch_add(1, Ordering::AcqRel);
        Hold(self.clone())
    }

    /// The files with what is durable in each, oldest first, and the durable end.
    pub fn durable(&self) -> (Vec<DurableSegment>, Position) {
        let segments = self.lock();
        let durable = |segment: &Segment| DurableSegment { path: segment.path.clone(), bytes: segment.bytes };
        (segments.iter().map(durable).collect(), self.end())
    }

    /// What a base at `committed` would be good for, if the newest one is at `base`.
    pub fn worth_of_base(&self, base: Position, committed: Position, settings: &Settings, log_time: UnixMillis) -> WorthOfBase {
        let segments = self.lock();
        let ends = segments.iter().skip(1).map(|next| next.base);
        WorthOfBase {
            frees: ends.clone().any(|end| base < end && end <= committed),
            is_wanted: is_expired(&segments, settings, log_time) && ends.clone().next().is_some_and(|end| base < end),
            bytes_since: segments.iter().filter(|segment| segment.base >= base).map(|segment| segment.bytes).sum(),
            oldest: segments.first().map_or(log_time, |segment| segment.newest),
        }
    }

    /// Makes a reader.
    pub fn reader(self: &Arc<Self>) -> EmbeddedReader {
        EmbeddedReader::new(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Segment>> {
        // The list is replaced in single steps; a panic elsewhere cannot leave it half changed.
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, end: Position, bytes: u64, blocks: &[Placed]) {
        let mut segments = self.lock();
        if let Some(open) = segments.last_mut() {
            open.bytes = bytes;
            for block in blocks {
                if let Some(index) = &mut *open.index() {
                    index.note(Landmark { first: block.first, offset: block.offset, newest_before: open.newest });
                }
                open.newest = open.newest.max(block.received);
            }
        }
        self.end.store(end.0, Ordering::Release);
        drop(segments);
        match self.grown.0.try_send(()) {
            // A message is waiting already, it will do for this move too.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }

    /// Removes the oldest sealed segments that retention lets go and a base makes up for.
    fn retain(&self, settings: &Settings, now: UnixMillis) {
        loop {
            let mut segments = self.lock();
            let [_, second, ..] = segments.as_slice() else { return };
            let is_free = second.base.0 <= self.keep_from.load(Ordering::Acquire) && self.holds.load(Ordering::Acquire) == 0;
            if !is_free || !is_expired(&segments, settings, now) {
                return;
            }
            let gone = segments.remove(0);
            drop(segments);
            let removed = self.disk.remove(&gone.path).and_then(|()| match self.disk.remove(&segment::index_path(&gone.path)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => self.disk.sync_dir(&self.dir),
            });
            if let Err(error) = removed {
                tracing::warn!(file = %gone.path.display(), %error, "could not remove an expired segment, the next start will see it again");
                return;
            }
        }
    }
}

/// Whether the oldest segment may go by its age or by the size of all.
fn is_expired(segments: &[Segment], settings: &Settings, now: UnixMillis) -> bool {
    let [first, _, ..] = segments else { return false };
    let too_old = settings.retention_age_ms.is_some_and(|age| now.0.saturating_sub(first.newest.0) > age);
    let total: u64 = segments.iter().map(|segment| segment.bytes).sum();
    too_old || settings.retention_bytes.is_some_and(|limit| total > limit)
}

/// See [`EmbeddedLog::hold`].
pub struct Hold(Arc<EmbeddedLog>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.holds.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A segment, and how much of it may be relied on.
#[derive(Debug, Clone)]
pub struct DurableSegment {
    /// The file.
    pub path: PathBuf,
    /// Its durable length.
    pub bytes: u64,
}

/// See [`EmbeddedLog::worth_of_base`].
#[derive(Debug, Clone, Copy)]
pub struct WorthOfBase {
    /// Whether a whole segment lies between the two, which could go then.
    pub frees: bool,
    /// Whether a segment waits for it: it is to go, and the newest base does not cover it.
    pub is_wanted: bool,
    /// Bytes of the segments that begin behind the newest base.
    pub bytes_since: u64,
    /// Newest receive time of the oldest segment.
    pub oldest: UnixMillis,
}

impl Partition for EmbeddedLog {
    fn number(&self) -> u32 {
        PARTITION
    }

    fn start(&self) -> Position {
        EmbeddedLog::start(self)
    }

    fn end(&self) -> Position {
        EmbeddedLog::end(self)
    }

    fn newest_end(&self) -> Result<Position, Error> {
        Ok(EmbeddedLog::end(self))
    }

    fn part_of(&self, position: Position) -> Position {
        self.segment_of(position).unwrap_or(position)
    }

    fn reader(self: Arc<Self>) -> Box<dyn LogReader> {
        Box::new(EmbeddedLog::reader(&self))
    }
}

fn io_error(path: &Path, error: &io::Error) -> Error {
    Error::Io { file: path.display().to_string(), error: error.to_string() }
}

#[cfg(test)]
mod tests;
