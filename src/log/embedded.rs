//! The embedded log: segment files of one partition in a directory.
//!
//! One [`EmbeddedAppender`] writes, any number of [`EmbeddedReader`]s read what it has synced. What both share, the list
//! of segments and the durable end, is in [`EmbeddedLog`].
//!
//! Deliberately not here: what is in a record, and when a group of appends is complete (`batch`).

pub mod inspect;
mod recovery;
mod segment;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::disk::{Disk, DiskFile, is_full};
use super::{
    Answer, Answers, Append, Appender, BLOCK_HEADER_BYTES, Block, BlockAt, Chunk, Error, LogReader, Partition, Position, Positions, record,
};
use crate::clock::UnixMillis;
use crate::{fault, telemetry};
use segment::{BlockHeader, Landmark, SEGMENT_HEADER_BYTES, SegmentHeader, SparseIndex};

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
        let appender = EmbeddedAppender {
            log: log.clone(),
            settings,
            open: None,
            next: found.end,
            staged: Vec::with_capacity(STAGED_BYTES_MAX),
            room: None,
            failed: None,
        };
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
        EmbeddedReader { log: self.clone(), open: None }
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

/// Small blocks are gathered up to this size and written at once; larger ones go out by themselves.
const STAGED_BYTES_MAX: usize = 256 << 10;
/// How many bytes may be written, and how much time may pass, before the file system is asked again how much room it has.
const ROOM_KNOWN_BYTES: u64 = 1 << 20;
const ROOM_KNOWN_FOR: Duration = Duration::from_millis(100);

/// The one writer of an embedded log.
pub struct EmbeddedAppender {
    log: Arc<EmbeddedLog>,
    settings: Settings,
    open: Option<Open>,
    next: Position,
    staged: Vec<u8>,
    room: Option<KnownRoom>,
    failed: Option<Error>,
}

/// What the file system said of its room, and what was written since.
struct KnownRoom {
    free_bytes: u64,
    at: Instant,
    written_bytes: u64,
}

/// Where a block of the group under way stands.
struct Placed {
    first: Position,
    offset: u64,
    received: UnixMillis,
}

/// The segment that is written to.
struct Open {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// Bytes known to be durable.
    synced: u64,
}

impl EmbeddedAppender {
    /// Where the next record goes.
    pub fn next(&self) -> Position {
        self.next
    }

    fn write_group(&mut self, group: &mut [Append]) -> Result<Position, Error> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        fault::point("append");
        self.check_room(group.iter().map(|append| append.block.len() as u64).sum())?;
        let newest = group.iter().map(|append| append.block.received()).max().unwrap_or_default();
        self.open_segment(newest)?;
        let Some(mut open) = self.open.take() else { return Err(Error::Stopping) };
        let result = self.write_blocks(&mut open, group);
        self.open = Some(open);
        result
    }

    /// Refuses a group that would take from the reserve. The file system is asked once a group at most, and less often far
    /// from the limit.
    fn check_room(&mut self, bytes: u64) -> Result<(), Error> {
        let reserve = self.settings.disk_reserve_bytes;
        let is_known = self.room.as_ref().is_some_and(|room| {
            let after = room.free_bytes.saturating_sub(room.written_bytes + bytes);
            room.written_bytes < ROOM_KNOWN_BYTES
                && room.at.elapsed() < ROOM_KNOWN_FOR
                && after > reserve.saturating_add(16 * ROOM_KNOWN_BYTES)
        });
        if !is_known {
            // One that does not tell is taken at its word when a write fails.
            let free_bytes = self.log.disk.free_bytes(&self.log.dir).unwrap_or(u64::MAX);
            self.room = Some(KnownRoom { free_bytes, at: Instant::now(), written_bytes: 0 });
        }
        let Some(room) = &mut self.room else { return Ok(()) };
        if room.free_bytes.saturating_sub(room.written_bytes + bytes) < reserve {
            return Err(Error::Full);
        }
        room.written_bytes += bytes;
        Ok(())
    }

    fn write_blocks(&mut self, open: &mut Open, group: &mut [Append]) -> Result<Position, Error> {
        let mut next = self.next;
        let mut written = open.synced;
        self.staged.clear();
        let mut blocks = Vec::with_capacity(group.len());
        for append in group.iter_mut() {
            let first = next;
            next = Position(first.0 + u64::from(append.block.count));
            append.block.place(first, open.synced);
            blocks.push(Placed { first, offset: written + self.staged.len() as u64, received: append.block.received() });
            let bytes = &append.block.bytes;
            let result = if bytes.len() + self.staged.len() <= STAGED_BYTES_MAX {
                self.staged.extend_from_slice(bytes);
                Ok(())
            } else {
                flush(&*open.file, &mut written, &mut self.staged).and_then(|()| flush_block(&*open.file, &mut written, bytes))
            };
            if let Err(error) = result {
                return Err(self.write_failed(open, &error));
            }
        }
        if let Err(error) = flush(&*open.file, &mut written, &mut self.staged) {
            return Err(self.write_failed(open, &error));
        }
        fault::point("appended");
        let started = Instant::now();
        if let Err(error) = open.file.sync() {
            return Err(self.close_for_good(&open.path, "sync", &error));
        }
        fault::point("synced");
        telemetry::observe_sync(self.log.identity.name, started.elapsed());
        open.synced = written;
        let first = self.next;
        self.next = next;
        self.log.publish(next, written, &blocks);
        telemetry::set_log_bytes(self.log.identity.name, self.log.bytes());
        Ok(first)
    }

    /// After a failed write: a full disk is cut back to what is durable and tried again by the next group, anything
    /// else closes the log.
    fn write_failed(&mut self, open: &Open, error: &io::Error) -> Error {
        if !is_full(error) {
            return self.close_for_good(&open.path, "write", error);
        }
        // Synced, so that nothing of it comes back after a power cut: it was said that nothing was stored.
        match open.file.truncate(open.synced).and_then(|()| open.file.sync()) {
            Ok(()) => Error::Full,
            Err(error) => self.close_for_good(&open.path, "cut", &error),
        }
    }

    fn close_for_good(&mut self, path: &Path, what: &str, error: &io::Error) -> Error {
        let failed = Error::Closed(format!("{what} of {}: {error}", path.display()));
        tracing::error!(log = self.log.identity.name, error = %failed, "the log takes no further append until a restart");
        telemetry::set_log_closed(self.log.identity.name);
        self.failed = Some(failed.clone());
        failed
    }

    fn open_segment(&mut self, now: UnixMillis) -> Result<(), Error> {
        let is_due = self.open.as_ref().is_some_and(|open| open.synced >= self.settings.segment_bytes);
        if is_due {
            self.seal()?;
            fault::point("segment-roll");
            self.log.retain(&self.settings, now);
        }
        if self.open.is_some() {
            return Ok(());
        }
        let path = segment::path(&self.log.dir, self.next);
        let made = self.create_segment(&path);
        let file = match made {
            Ok(file) => file,
            Err(error) if is_full(&error) => {
                // Nothing refers to the file yet: the next attempt begins with a clean one.
                return match self.log.disk.remove(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.close_for_good(&path, "removal", &error)),
                    _ => Err(Error::Full),
                };
            }
            Err(error) => return Err(self.close_for_good(&path, "creation", &error)),
        };
        self.log.lock().push(Segment {
            base: self.next,
            path: path.clone(),
            bytes: SEGMENT_HEADER_BYTES as u64,
            newest: UnixMillis(i64::MIN),
            index: Arc::new(Mutex::new(Some(SparseIndex::default()))),
        });
        self.open = Some(Open { file, path, synced: SEGMENT_HEADER_BYTES as u64 });
        Ok(())
    }

    fn create_segment(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let header = SegmentHeader { log_id: self.log.identity.log_id, base: self.next };
        let file = self.log.disk.create(path)?;
        file.write_at(0, &header.to_bytes())?;
        file.sync()?;
        self.log.disk.sync_dir(&self.log.dir)?;
        Ok(file)
    }

    /// Closes the open segment: writes its index, which also says that the segment ended in good order.
    fn seal(&mut self) -> Result<(), Error> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let Some(segment) = self.log.lock().last().cloned() else { return Ok(()) };
        let bytes = match &*segment.index() {
            Some(index) => index.to_bytes(&segment::Sealed { end: self.next, bytes: open.synced, newest: segment.newest }),
            None => return Ok(()),
        };
        match segment::write_index(&*self.log.disk, &self.log.dir, &open.path, &bytes) {
            Ok(()) => Ok(()),
            Err(error) if is_full(&error) => {
                // The segment stays open: it is sealed when there is room, or recovered by the next start.
                self.open = Some(open);
                Err(Error::Full)
            }
            Err(error) => Err(self.close_for_good(&open.path, "index", &error)),
        }
    }
}

fn flush(file: &dyn DiskFile, written: &mut u64, staged: &mut Vec<u8>) -> io::Result<()> {
    if !staged.is_empty() {
        file.write_at(*written, staged)?;
        *written += staged.len() as u64;
        staged.clear();
    }
    Ok(())
}

fn flush_block(file: &dyn DiskFile, written: &mut u64, bytes: &[u8]) -> io::Result<()> {
    file.write_at(*written, bytes)?;
    *written += bytes.len() as u64;
    Ok(())
}

impl Block {
    /// Fills in the header, once the place of the block is known.
    fn place(&mut self, first: Position, synced: u64) {
        let header = BlockHeader {
            version: record::VERSION,
            payload_bytes: (self.bytes.len() - BLOCK_HEADER_BYTES) as u32,
            count: self.count,
            first,
            received: self.received,
            synced,
            payload_crc: self.payload_crc,
        };
        self.bytes[..BLOCK_HEADER_BYTES].copy_from_slice(&header.to_bytes());
    }
}

impl Appender for EmbeddedAppender {
    fn append(&mut self, group: &mut Vec<Append>, answers: &Answers) {
        let result = if group.is_empty() { Ok(self.next) } else { self.write_group(group) };
        let mut first = result.as_ref().map_or(Position(0), |first| *first);
        let answer = |append: Append| {
            let end = Position(first.0 + u64::from(append.block.count));
            let result = result.clone().map(|_| Positions::Run { partition: PARTITION, range: first..end });
            first = end;
            Answer { to: append.done, records: append.block.count, fingerprints: append.block.fingerprints, result }
        };
        answers.give(group.drain(..).map(answer).collect());
    }

    fn close(&mut self) -> Result<(), Error> {
        match &self.failed {
            Some(failed) => Err(failed.clone()),
            None => self.seal(),
        }
    }
}

/// Reads the durable part of the log.
pub struct EmbeddedReader {
    log: Arc<EmbeddedLog>,
    open: Option<OpenRead>,
}

/// Where the last read ended, so that the next one can go on from there.
struct OpenRead {
    base: Position,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    next: Position,
    offset: u64,
    /// Log time before `next`, as far as the log goes back.
    log_time: UnixMillis,
}

/// How far a segment may be read.
struct Readable {
    /// One past its last durable record.
    stop: Position,
    /// Its size up to there.
    bytes: u64,
}

impl EmbeddedReader {
    /// Opens the segment that holds `from`.
    fn seek(&mut self, from: Position) -> Result<(OpenRead, Readable), Error> {
        let end = self.log.end();
        let segments = self.log.lock();
        let after = segments.partition_point(|segment| segment.base <= from);
        let Some(segment) = after.checked_sub(1).and_then(|at| segments.get(at)) else {
            let start = segments.first().map_or(end, |segment| segment.base);
            return Err(Error::OutOfRange { wanted: from, start, end });
        };
        let readable = Readable { stop: segments.get(after).map_or(end, |next| next.base.min(end)), bytes: segment.bytes };
        match self.open.take() {
            Some(open) if open.base == segment.base && open.next == from => return Ok((open, readable)),
            _ => {}
        }
        let log_time = segments[..after - 1].iter().map(|segment| segment.newest).max().unwrap_or(UnixMillis(i64::MIN));
        let segment = segment.clone();
        drop(segments);
        let begin = {
            let mut index = segment.index();
            let index = match &mut *index {
                Some(index) => index,
                none => none.insert(recovery::load_index(&*self.log.disk, &segment.path)?.0),
            };
            index.before(from).unwrap_or(Landmark::begin(segment.base))
        };
        let file = self.log.disk.open(&segment.path).map_err(|error| io_error(&segment.path, &error))?;
        let log_time = log_time.max(begin.newest_before);
        Ok((OpenRead { base: segment.base, path: segment.path, file, next: begin.first, offset: begin.offset, log_time }, readable))
    }
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

impl LogReader for EmbeddedReader {
    fn grown(&self) -> Receiver<()> {
        self.log.grown()
    }

    fn read(&mut self, from: Position, bytes_max: usize) -> Result<Chunk, Error> {
        let end = self.log.end();
        if from == end {
            return Ok(Chunk::default());
        }
        if from > end {
            return Err(Error::OutOfRange { wanted: from, start: self.log.start(), end });
        }
        let (mut open, readable) = self.seek(from)?;
        let chunk = read_blocks(&mut open, from, &readable, bytes_max)?;
        self.open = Some(open);
        Ok(chunk)
    }
}

/// Reads blocks from `open.offset` on and leaves out those that end before `from`.
fn read_blocks(open: &mut OpenRead, from: Position, readable: &Readable, bytes_max: usize) -> Result<Chunk, Error> {
    let stop = readable.stop;
    let mut chunk = Chunk::default();
    let mut wanted = bytes_max.max(2 * BLOCK_HEADER_BYTES);
    let mut bytes = Vec::new();
    loop {
        // Not more than there is: a reader that follows the end closely would zero far more than it reads.
        let left = readable.bytes.saturating_sub(open.offset).max(BLOCK_HEADER_BYTES as u64);
        wanted = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
        bytes.resize(wanted, 0);
        let read = open.file.read_at(open.offset, &mut bytes).map_err(|error| io_error(&open.path, &error))?;
        let Whole { bytes: whole, needed } = open.take_blocks(&bytes[..read], from, stop, &mut chunk)?;
        open.offset += whole as u64;
        if !chunk.is_empty() || open.next >= stop {
            break;
        }
        if whole == 0 && (read < wanted || wanted as u64 == left) {
            return Err(open.corrupt(open.offset, format!("the file ends before position {stop}, which was durable")));
        }
        // Nothing fitted, or all of it came before `from`: go on behind it, with room for what comes next.
        wanted = bytes_max.max(needed.unwrap_or(2 * BLOCK_HEADER_BYTES));
    }
    if chunk.blocks.first().is_none_or(|block| block.first > from) {
        return Err(open.corrupt(open.offset, format!("position {from} is not where the index says")));
    }
    chunk.bytes = bytes;
    Ok(chunk)
}

/// How much of what was read are whole blocks.
struct Whole {
    bytes: usize,
    /// Bytes that the next block has, as far as they are known; `None`: there is no next one.
    needed: Option<usize>,
}

impl OpenRead {
    /// Goes on through `bytes`, which stand at `self.offset`, for as long as blocks in it are whole; notes in `chunk` where those are that do
    /// not end before `from`.
    #[inline]
    fn take_blocks(&mut self, bytes: &[u8], from: Position, stop: Position, chunk: &mut Chunk) -> Result<Whole, Error> {
        let mut at = 0;
        while self.next < stop {
            let Some(header) = bytes[at..].first_chunk() else { return Ok(Whole { bytes: at, needed: Some(BLOCK_HEADER_BYTES) }) };
            let (header, end) = self.header(header, self.offset + at as u64, stop)?;
            let payload = at + BLOCK_HEADER_BYTES..at + BLOCK_HEADER_BYTES + header.payload_bytes as usize;
            if payload.end > bytes.len() {
                return Ok(Whole { bytes: at, needed: Some(payload.len() + BLOCK_HEADER_BYTES) });
            }
            if end > from {
                let corrupt = |what: String| self.corrupt(self.offset + at as u64, what);
                if crc32c::crc32c(&bytes[payload.clone()]) != header.payload_crc {
                    return Err(corrupt("the checksum of the block's records does not fit".into()));
                }
                if let Some(before) = chunk.end()
                    && before != header.first
                {
                    return Err(corrupt(format!("the block begins at position {}, the one before it ends at {before}", header.first)));
                }
                if chunk.is_empty() {
                    chunk.log_time_before = self.log_time;
                }
                let (first, count, received) = (header.first, header.count, header.received);
                chunk.blocks.push(BlockAt { first, count, received, payload: payload.clone() });
            }
            at = payload.end;
            self.next = end;
            self.log_time = self.log_time.max(header.received);
        }
        Ok(Whole { bytes: at, needed: None })
    }

    /// The header of a block at `offset`, and where the block ends.
    #[inline]
    fn header(&self, bytes: &[u8; BLOCK_HEADER_BYTES], offset: u64, stop: Position) -> Result<(BlockHeader, Position), Error> {
        let header = BlockHeader::read(bytes).map_err(|what| self.corrupt(offset, what))?;
        if header.version > record::VERSION {
            let file = self.path.display().to_string();
            return Err(Error::Newer { file, offset, version: header.version, known: record::VERSION });
        }
        let end = Position(header.first.0 + u64::from(header.count));
        if end > stop {
            return Err(self.corrupt(offset, format!("the block goes on to position {end}, the segment ends at {stop}")));
        }
        Ok((header, end))
    }

    #[cold]
    fn corrupt(&self, offset: u64, what: String) -> Error {
        Error::Corrupt { file: self.path.display().to_string(), offset, what }
    }
}

fn io_error(path: &Path, error: &io::Error) -> Error {
    Error::Io { file: path.display().to_string(), error: error.to_string() }
}

#[cfg(test)]
mod tests;
