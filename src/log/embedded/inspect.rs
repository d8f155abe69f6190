//! Looking at a log without changing it: opened for reading only, or checked byte by byte.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use crossbeam_channel::bounded;

use super::recovery::{self, Scanned};
use super::segment::{self, Sealed};
use super::{EmbeddedLog, LogIdentity, Segment, io_error};
use crate::clock::UnixMillis;
use crate::log::disk::{Disk, DiskFile};
use crate::log::{Error, Position};

impl EmbeddedLog {
    /// Opens a log for reading, without changing a byte of it. The valid blocks of a tail that was not closed in good order are
    /// readable, whether they were synced or not: nothing durable may be made from what lies behind the rows' position.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when durable bytes are not what was written, [`Error::Newer`], [`Error::Io`].
    pub fn look(disk: Arc<dyn Disk>, dir: &Path, identity: LogIdentity) -> Result<Arc<Self>, Error> {
        let names = disk.list(dir).map_err(|error| io_error(dir, &error))?;
        let files: Vec<_> = names.iter().filter(|name| name.ends_with(".seg")).map(|name| dir.join(name)).collect();
        let mut segments: Vec<Segment> = Vec::new();
        let mut end = Position(0);
        for (at, path) in files.iter().enumerate() {
            let is_last = at + 1 == files.len();
            let Some(base) = recovery::check_header(&*disk, path, &identity, is_last)? else { continue };
            if at > 0 && base != end {
                return Err(not_in_line(path, base, end));
            }
            let (index, sealed) = match recovery::sealed(&*disk, path, is_last)? {
                Some(sealed) => sealed,
                None => look_at_tail(&*disk, path)?,
            };
            end = sealed.end;
            if sealed.end > base {
                let index = Arc::new(std::sync::Mutex::new(index));
                segments.push(Segment { base, path: path.clone(), bytes: sealed.bytes, newest: sealed.newest, index });
            }
        }
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            disk,
            identity,
            segments: std::sync::Mutex::new(segments),
            end: AtomicU64::new(end.0),
            keep_from: AtomicU64::new(0),
            holds: AtomicUsize::new(0),
            grown: bounded(1),
        }))
    }
}

fn not_in_line(path: &Path, base: Position, end: Position) -> Error {
    let what = format!("it begins at position {base}, the segment before it ends at {end}");
    Error::Corrupt { file: path.display().to_string(), offset: 28, what }
}

fn look_at_tail(disk: &dyn Disk, path: &Path) -> Result<(Option<segment::SparseIndex>, Sealed), Error> {
    let scanned = scan_tail(disk, path)?.0;
    Ok((Some(scanned.index), scanned.sealed))
}

/// The valid part of a segment that was not closed in good order, and the bytes behind it.
fn scan_tail(disk: &dyn Disk, path: &Path) -> Result<(Scanned, u64), Error> {
    let mut scanned = recovery::scan(disk, path)?;
    let valid = scanned.sealed.bytes;
    let file = disk.open(path).map_err(|error| io_error(path, &error))?;
    let length = file.len().map_err(|error| io_error(path, &error))?;
    if let Some(what) = scanned.damage.take()
        && recovery::durable_behind(&*file, path, valid, length)?
    {
        return Err(Error::Corrupt { file: path.display().to_string(), offset: valid, what });
    }
    Ok((scanned, length - valid))
}

/// What a check found in a log's directory.
#[derive(Debug)]
pub enum Finding {
    /// Durable bytes are not what was written, or cannot be read.
    Damaged(Error),
    /// The index of a segment does not fit it. It is derived.
    Index {
        /// Its name.
        file: String,
        /// What does not fit.
        what: &'static str,
        /// Whether the next start takes it for what it is not.
        misleads: bool,
    },
    /// A tail that the next start cuts off: none of it was acknowledged.
    Torn {
        /// Its name.
        file: String,
        /// Bytes behind the last valid block.
        bytes: u64,
    },
    /// A file that is none of the log's.
    Stranger {
        /// Its name.
        file: String,
        /// Whether the next start removes it.
        is_leftover: bool,
    },
}

/// What a check read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checked {
    /// Segments.
    pub segments: u64,
    /// The oldest record.
    pub start: Position,
    /// One past the newest.
    pub end: Position,
    /// Newest receive time.
    pub newest: UnixMillis,
}

/// Reads every byte of every file of the log in `dir`; tells `found` what is wrong.
///
/// # Errors
/// [`Error::Io`]: the directory itself cannot be read.
pub fn check(disk: &dyn Disk, dir: &Path, identity: &LogIdentity, found: &mut dyn FnMut(Finding)) -> Result<Checked, Error> {
    let names = disk.list(dir).map_err(|error| io_error(dir, &error))?;
    let segments: Vec<_> = names.iter().filter(|name| name.ends_with(".seg")).collect();
    for name in &names {
        let is_index =
            name.strip_suffix(".idx").is_some_and(|stem| segments.iter().any(|segment| segment.strip_suffix(".seg") == Some(stem)));
        if !is_index && !name.ends_with(".seg") && name != super::super::meta::FILE {
            found(Finding::Stranger { file: name.clone(), is_leftover: name.ends_with(".tmp") });
        }
    }
    let mut checked = Checked { segments: 0, start: Position(0), end: Position(0), newest: UnixMillis(i64::MIN) };
    let mut is_known = true;
    for (at, name) in segments.iter().enumerate() {
        let path = dir.join(name);
        let is_last = at + 1 == segments.len();
        match check_segment(disk, &path, identity, is_last, found) {
            Ok(None) => {}
            Ok(Some((base, sealed))) => {
                if at == 0 {
                    checked.start = base;
                } else if is_known && base != checked.end {
                    found(Finding::Damaged(not_in_line(&path, base, checked.end)));
                }
                checked.segments += 1;
                checked.end = sealed.end;
                checked.newest = checked.newest.max(sealed.newest);
                is_known = true;
            }
            Err(error) => {
                // Where it ends is not known, so nothing can be said of where the next one should begin.
                is_known = false;
                found(Finding::Damaged(error));
            }
        }
    }
    Ok(checked)
}

fn check_segment(
    disk: &dyn Disk,
    path: &Path,
    identity: &LogIdentity,
    is_last: bool,
    found: &mut dyn FnMut(Finding),
) -> Result<Option<(Position, Sealed)>, Error> {
    let Some(base) = recovery::check_header(disk, path, identity, is_last)? else {
        found(Finding::Torn { file: file_name(path), bytes: length(disk, path)? });
        return Ok(None);
    };
    let index_path = segment::index_path(path);
    let index_name = file_name(&index_path);
    let stored = recovery::stored_index(disk, path)?;
    let is_there = disk.open(&index_path).is_ok();
    let (scanned, torn_bytes) = match &stored {
        // It was closed in good order: every byte has to be right.
        Some((_, sealed)) => (whole(disk, path, Some(sealed))?, 0),
        None if is_last => scan_tail(disk, path)?,
        None => (whole(disk, path, None)?, 0),
    };
    match stored {
        Some((index, sealed)) if index != scanned.index || sealed != scanned.sealed => {
            found(Finding::Index { file: index_name, what: "it does not fit its segment", misleads: true });
        }
        Some(_) => {}
        None if is_there => found(Finding::Index { file: index_name, what: "it is not what was written", misleads: false }),
        None if !is_last => found(Finding::Index { file: index_name, what: "it is missing", misleads: false }),
        None => {}
    }
    if torn_bytes > 0 {
        found(Finding::Torn { file: file_name(path), bytes: torn_bytes });
    }
    Ok(Some((base, scanned.sealed)))
}

/// Scans a segment that must be valid to its last byte.
fn whole(disk: &dyn Disk, path: &Path, sealed: Option<&Sealed>) -> Result<Scanned, Error> {
    let scanned = recovery::scan(disk, path)?;
    let length = length(disk, path)?;
    let corrupt = |offset, what| Err(Error::Corrupt { file: path.display().to_string(), offset, what });
    match (&scanned.damage, sealed) {
        (Some(what), _) => corrupt(scanned.sealed.bytes, what.clone()),
        (None, Some(sealed)) if sealed.bytes > length => corrupt(length, format!("it has {length} bytes, its index says {}", sealed.bytes)),
        _ => Ok(scanned),
    }
}

fn length(disk: &dyn Disk, path: &Path) -> Result<u64, Error> {
    disk.open(path).and_then(|file: Box<dyn DiskFile>| file.len()).map_err(|error| io_error(path, &error))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
