//! What is really in the log: run once, before anything is read or appended.
//!
//! Segments that were closed in good order are taken by their index. The last one may not have been: a crash left it
//! open, with bytes that were written but perhaps never synced. A process that starts again sees these bytes in the page cache
//! and must not trust them: after a power cut they could be gone, while rows that were folded from them are not. So the valid
//! blocks are copied into a fresh file, which is synced and takes the old one's place, before anybody reads them.
//!
//! A block that is not valid ends the log, if nothing behind it can have been acknowledged. Every block says how many bytes of
//! the file were durable when it was written; one behind the broken place that counts the broken place among these proves
//! that acknowledged data was damaged, and that is never dropped in silence.

use std::path::Path;

use super::super::disk::{Disk, DiskFile, read_file};
use super::super::{BLOCK_HEADER_BYTES, Error, Position, record};
use super::segment::{self, BLOCK_MAGIC, BlockHeader, Landmark, SEGMENT_HEADER_BYTES, Sealed, SegmentHeader, SparseIndex};
use super::{LogIdentity, Recovered, Segment, io_error};
use crate::clock::UnixMillis;
use crate::fault;

pub(super) struct Found {
    pub(super) segments: Vec<Segment>,
    pub(super) end: Position,
    pub(super) recovered: Recovered,
}

pub(super) fn recover(disk: &dyn Disk, dir: &Path, identity: &LogIdentity) -> Result<Found, Error> {
    let names = disk.list(dir).map_err(|error| io_error(dir, &error))?;
    for leftover in names.iter().filter(|name| name.ends_with(".tmp")) {
        let path = dir.join(leftover);
        disk.remove(&path).map_err(|error| io_error(&path, &error))?;
    }
    let mut found = Found { segments: Vec::new(), end: Position(0), recovered: Recovered::default() };
    let files: Vec<_> = names.iter().filter(|name| name.ends_with(".seg")).map(|name| dir.join(name)).collect();
    for (at, path) in files.iter().enumerate() {
        let is_last = at + 1 == files.len();
        let Some(base) = check_header(disk, path, identity, is_last)? else {
            // The process died between making the file and syncing its header: nothing can be in it.
            disk.remove(path).and_then(|()| disk.sync_dir(dir)).map_err(|error| io_error(path, &error))?;
            continue;
        };
        if at > 0 && base != found.end {
            let what = format!("it begins at position {base}, the segment before it ends at {}", found.end);
            return Err(Error::Corrupt { file: path.display().to_string(), offset: 28, what });
        }
        let (index, sealed) = match sealed(disk, path, is_last)? {
            Some(sealed) => sealed,
            None => recover_tail(disk, dir, path, &mut found.recovered)?,
        };
        if sealed.end == base {
            // Nothing in it: the appender will want to make a file of this name, also if the one behind it was none.
            remove_empty(disk, dir, path).map_err(|error| io_error(path, &error))?;
            found.end = base;
            continue;
        }
        found.end = sealed.end;
        found.segments.push(Segment {
            base,
            path: path.clone(),
            bytes: sealed.bytes,
            newest: sealed.newest,
            index: std::sync::Arc::new(std::sync::Mutex::new(index)),
        });
    }
    Ok(found)
}

/// The index goes first, durably: left alone, it would be taken for that of the segment which gets this name next.
fn remove_empty(disk: &dyn Disk, dir: &Path, path: &Path) -> std::io::Result<()> {
    match disk.remove(&segment::index_path(path)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => disk.sync_dir(dir)?,
    }
    disk.remove(path)?;
    disk.sync_dir(dir)
}

/// The base position; `None` for a last segment that has no valid header yet.
pub(super) fn check_header(disk: &dyn Disk, path: &Path, identity: &LogIdentity, is_last: bool) -> Result<Option<Position>, Error> {
    let file = disk.open(path).map_err(|error| io_error(path, &error))?;
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    let read = file.read_at(0, &mut bytes).map_err(|error| io_error(path, &error))?;
    let length = file.len().map_err(|error| io_error(path, &error))?;
    let corrupt = |what: String| Error::Corrupt { file: path.display().to_string(), offset: 0, what };
    let header = match SegmentHeader::read(&bytes[..read]) {
        Ok(header) => header,
        Err(_) if is_last && length <= SEGMENT_HEADER_BYTES as u64 => return Ok(None),
        Err(what) => return Err(corrupt(what)),
    };
    if header.log_id != identity.log_id {
        return Err(corrupt("it belongs to another log".into()));
    }
    if segment::path(Path::new(""), header.base).file_name() != path.file_name() {
        return Err(corrupt(format!("its header says position {}, its name something else", header.base)));
    }
    Ok(Some(header.base))
}

/// What the index says of a segment that was closed in good order. A sealed segment in the middle must be whole; its
/// index is made again if it is gone.
pub(super) fn sealed(disk: &dyn Disk, path: &Path, is_last: bool) -> Result<Option<(Option<SparseIndex>, Sealed)>, Error> {
    let (index, sealed) = match (stored_index(disk, path)?, is_last) {
        (Some(read), _) => read,
        (None, true) => return Ok(None),
        (None, false) => make_index(disk, path)?,
    };
    let length = disk.open(path).and_then(|file| file.len()).map_err(|error| io_error(path, &error))?;
    if length != sealed.bytes {
        let what = format!("it has {length} bytes, its index says {}", sealed.bytes);
        return Err(Error::Corrupt { file: path.display().to_string(), offset: length.min(sealed.bytes), what });
    }
    Ok(Some((Some(index), sealed)))
}

fn recover_tail(disk: &dyn Disk, dir: &Path, path: &Path, recovered: &mut Recovered) -> Result<(Option<SparseIndex>, Sealed), Error> {
    let scanned = scan(disk, path)?;
    let valid = scanned.sealed.bytes;
    let file = disk.open(path).map_err(|error| io_error(path, &error))?;
    let length = file.len().map_err(|error| io_error(path, &error))?;
    if let Some(what) = scanned.damage
        && durable_behind(&*file, path, valid, length)?
    {
        return Err(Error::Corrupt { file: path.display().to_string(), offset: valid, what });
    }
    recovered.torn_bytes += length - valid;
    recovered.records += scanned.records;
    copy_synced(disk, dir, path, &*file, valid).map_err(|error| io_error(path, &error))?;
    segment::write_index(disk, dir, path, &scanned.index.to_bytes(&scanned.sealed)).map_err(|error| io_error(path, &error))?;
    fault::point("recovery-indexed");
    Ok((Some(scanned.index), scanned.sealed))
}

/// Copies the first `bytes` of a segment into a fresh, synced file that takes its place.
fn copy_synced(disk: &dyn Disk, dir: &Path, path: &Path, from: &dyn DiskFile, bytes: u64) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let to = disk.create(&temporary)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let wanted = buffer.len().min((bytes - at) as usize);
        let read = from.read_at(at, &mut buffer[..wanted])?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        to.write_at(at, &buffer[..read])?;
        at += read as u64;
    }
    to.sync()?;
    fault::point("recovery-copied");
    disk.rename(&temporary, path)?;
    fault::point("recovery-renamed");
    disk.sync_dir(dir)
}

pub(super) struct Scanned {
    pub(super) index: SparseIndex,
    /// End of the valid part.
    pub(super) sealed: Sealed,
    pub(super) records: u64,
    /// Why the valid part ends before the file does.
    pub(super) damage: Option<String>,
}

/// Reads a segment from its header on for as long as its blocks are valid.
pub(super) fn scan(disk: &dyn Disk, path: &Path) -> Result<Scanned, Error> {
    let file = disk.open(path).map_err(|error| io_error(path, &error))?;
    let length = file.len().map_err(|error| io_error(path, &error))?;
    let mut head = [0; SEGMENT_HEADER_BYTES];
    let read = file.read_at(0, &mut head).map_err(|error| io_error(path, &error))?;
    let base = match SegmentHeader::read(&head[..read]) {
        Ok(header) => header.base,
        Err(what) => return Err(Error::Corrupt { file: path.display().to_string(), offset: 0, what }),
    };
    let mut scanned = Scanned {
        index: SparseIndex::default(),
        sealed: Sealed { end: base, bytes: SEGMENT_HEADER_BYTES as u64, newest: UnixMillis(i64::MIN) },
        records: 0,
        damage: None,
    };
    let mut payload = Vec::new();
    while scanned.sealed.bytes < length {
        let offset = scanned.sealed.bytes;
        let header = match read_block(&*file, offset, length, scanned.sealed.end, &mut payload) {
            Ok(Ok(header)) => header,
            Ok(Err(what)) => {
                scanned.damage = Some(what);
                break;
            }
            Err(error) => return Err(io_error(path, &error)),
        };
        if header.version > record::VERSION {
            return Err(Error::Newer { file: path.display().to_string(), offset, version: header.version, known: record::VERSION });
        }
        scanned.index.note(Landmark { first: header.first, offset, newest_before: scanned.sealed.newest });
        scanned.records += u64::from(header.count);
        scanned.sealed.end = Position(header.first.0 + u64::from(header.count));
        scanned.sealed.newest = scanned.sealed.newest.max(header.received);
        scanned.sealed.bytes = offset + (BLOCK_HEADER_BYTES + payload.len()) as u64;
    }
    Ok(scanned)
}

fn read_block(
    file: &dyn DiskFile,
    offset: u64,
    length: u64,
    expected: Position,
    payload: &mut Vec<u8>,
) -> std::io::Result<Result<BlockHeader, String>> {
    let mut head = [0; BLOCK_HEADER_BYTES];
    if file.read_at(offset, &mut head)? < head.len() {
        return Ok(Err("the file ends inside a block's header".into()));
    }
    let header = match BlockHeader::read(&head) {
        Ok(header) => header,
        Err(what) => return Ok(Err(what)),
    };
    if header.first != expected {
        return Ok(Err(format!("the block begins at position {}, {expected} was due", header.first)));
    }
    if offset + BLOCK_HEADER_BYTES as u64 + u64::from(header.payload_bytes) > length {
        return Ok(Err("the file ends inside a block".into()));
    }
    payload.resize(header.payload_bytes as usize, 0);
    let read = file.read_at(offset + BLOCK_HEADER_BYTES as u64, payload)?;
    if read < payload.len() || crc32c::crc32c(payload) != header.payload_crc {
        return Ok(Err("the checksum of the block's records does not fit".into()));
    }
    Ok(Ok(header))
}

/// Whether a block behind `broken` says that the broken place had been synced before it was written.
pub(super) fn durable_behind(file: &dyn DiskFile, path: &Path, broken: u64, length: u64) -> Result<bool, Error> {
    let mut bytes = vec![0; 1 << 20];
    let mut at = broken + 1;
    while at + (BLOCK_HEADER_BYTES as u64) <= length {
        let read = file.read_at(at, &mut bytes).map_err(|error| io_error(path, &error))?;
        let claims = |found: usize| {
            let header = bytes[found..read].first_chunk().map(BlockHeader::read);
            matches!(header, Some(Ok(header)) if header.synced > broken)
        };
        if memchr::memmem::find_iter(&bytes[..read], BLOCK_MAGIC).any(claims) {
            return Ok(true);
        }
        if read < bytes.len() {
            return Ok(false);
        }
        // The windows overlap by a header, so that none is missed at the seam.
        at += (read - BLOCK_HEADER_BYTES) as u64;
    }
    Ok(false)
}

/// The index of a sealed segment; made again from the segment if it is missing or damaged.
pub(super) fn load_index(disk: &dyn Disk, path: &Path) -> Result<(SparseIndex, Sealed), Error> {
    match stored_index(disk, path)? {
        Some(read) => Ok(read),
        None => make_index(disk, path),
    }
}

/// What was written when the segment was closed; `None` if it is missing or damaged.
pub(super) fn stored_index(disk: &dyn Disk, path: &Path) -> Result<Option<(SparseIndex, Sealed)>, Error> {
    let stored = read_file(disk, &segment::index_path(path)).map_err(|error| io_error(path, &error))?;
    let is_its_own = |(index, sealed): &(SparseIndex, Sealed)| segment::base_of(path).is_some_and(|base| index.is_of(base, sealed));
    Ok(stored.as_deref().and_then(SparseIndex::read).filter(is_its_own))
}

/// The index of a sealed segment, from the segment, which must be whole.
fn make_index(disk: &dyn Disk, path: &Path) -> Result<(SparseIndex, Sealed), Error> {
    let scanned = scan(disk, path)?;
    match scanned.damage {
        Some(damage) => Err(Error::Corrupt { file: path.display().to_string(), offset: scanned.sealed.bytes, what: damage }),
        None => Ok((scanned.index, scanned.sealed)),
    }
}
