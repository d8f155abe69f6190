//! The reading side: finds the segment of a position, and goes on from where the last read ended.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::segment::{BlockHeader, Landmark};
use super::{EmbeddedLog, io_error, recovery};
use crate::clock::UnixMillis;
use crate::log::disk::DiskFile;
use crate::log::{BLOCK_HEADER_BYTES, BlockAt, Chunk, Error, LogReader, Position, record};

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
    pub(super) fn new(log: Arc<EmbeddedLog>) -> Self {
        Self { log, open: None }
    }

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
