//! The writing side: groups of blocks at the end of the open segment, one sync a group, and what follows from a write that failed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::segment::{self, BlockHeader, SEGMENT_HEADER_BYTES, SegmentHeader, SparseIndex};
use super::{EmbeddedLog, PARTITION, Placed, Segment, Settings};
use crate::clock::UnixMillis;
use crate::log::disk::{DiskFile, is_full};
use crate::log::{Answer, Answers, Append, Appender, BLOCK_HEADER_BYTES, Block, Error, Position, Positions, record};
use crate::{fault, telemetry};

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

/// The segment that is written to.
struct Open {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    /// Bytes known to be durable.
    synced: u64,
}

impl EmbeddedAppender {
    pub(super) fn new(log: Arc<EmbeddedLog>, settings: Settings, next: Position) -> Self {
        Self { log, settings, open: None, next, staged: Vec::with_capacity(STAGED_BYTES_MAX), room: None, failed: None }
    }

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
