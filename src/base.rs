//! Bases: sealed snapshots of rows, index and position, which make up for the part of the log that retention removes
//! (`design.md`, "Truncating a log needs a base").
//!
//! ```text
//! base/<position, 20 digits>/
//!   base.json   what is in it and its checksums (checked_json)
//!   rows        "TGBASE01", then frames: u32 bytes of items, u32 CRC-32C of the items, items; the last frame is empty
//!                 u8 1, u32 bytes, encoded key, u32 bytes, row                          a row (store::row), sorted by key
//!                 u8 2, u32 account, u32 partition, u64 position, u64 of the first      a conflict, sorted
//!   index/      a dedup index that covers at least the position; its files have checksums of their own
//! ```
//!
//! Little-endian. Rows and conflicts are those of exactly the position; an index that is ahead of them gives the same verdicts.
//! Documents are in no base: they are in no log either. A base is made in `<position>.tmp`, synced, then renamed.

mod rows;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checked_json;
use crate::clock::UnixMillis;
use crate::log::Position;
use crate::store::{self, Item, Progress, Snapshot};

const CONTENT: &str = "base.json";
const ROWS: &str = "rows";
const INDEX: &str = "index";
const FORMAT: u32 = 1;
/// Files of an index up to this size are copied and not linked: a manifest may be written again.
const COPIED_BYTES_MAX: u64 = 64 << 10;

/// Why a base cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing failed.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// It is not what was written.
    #[error("the base is damaged: {}: {what}; restore the data directory from a backup", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The dedup index could not be linked.
    #[error("{0}")]
    Index(String),
    /// The rows could not be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopping,
}

fn io_at(file: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Io { file: file.to_owned(), error }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    log_id: String,
    partition: u32,
    position: u64,
    log_time_ms: i64,
    rows: u64,
    conflicts: u64,
    digest: String,
    rows_bytes: u64,
    index_covers: u64,
    /// Name and size in bytes.
    index_files: Vec<(String, u64)>,
}

/// A sealed base.
#[derive(Debug, Clone)]
pub struct Base {
    dir: PathBuf,
    content: Content,
}

/// What tells a base, and that it belongs to this log.
#[derive(Debug, Clone, Copy)]
pub struct BaseIdentity {
    /// See [`crate::log::meta::LogMeta::log_id`].
    pub log_id: [u8; 16],
    /// The partition.
    pub partition: u32,
}

impl BaseIdentity {
    fn log_id_text(&self) -> String {
        self.log_id.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Base {
    /// The newest base below `bases`; its contents are looked at when they are used.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn newest(bases: &Path, identity: &BaseIdentity) -> Result<Option<Self>, Error> {
        match sealed(bases)?.pop() {
            Some(dir) => Self::open(dir, identity).map(Some),
            None => Ok(None),
        }
    }

    fn open(dir: PathBuf, identity: &BaseIdentity) -> Result<Self, Error> {
        let file = dir.join(CONTENT);
        let damaged = |what: String| Error::Damaged { file: file.clone(), what };
        let bytes = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged("it is missing".into())),
            read => read.map_err(io_at(&file))?,
        };
        let content: Content = checked_json::read(&bytes).map_err(damaged)?;
        if content.format != FORMAT {
            return Err(damaged(format!("it has format {}, this binary knows {FORMAT}", content.format)));
        }
        if content.log_id != identity.log_id_text() || content.partition != identity.partition {
            return Err(damaged("it belongs to another log".into()));
        }
        if dir.file_name().is_none_or(|name| *name != *name_of(Position(content.position))) {
            return Err(damaged(format!("it says position {}, the directory's name something else", content.position)));
        }
        Ok(Self { dir, content })
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How far its rows go.
    pub fn progress(&self) -> Progress {
        Progress { next: Position(self.content.position), log_time: UnixMillis(self.content.log_time_ms) }
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.content.rows
    }

    /// Its files, relative to its directory.
    pub fn files(&self) -> Vec<PathBuf> {
        let index = self.content.index_files.iter().map(|(name, _)| Path::new(INDEX).join(name));
        [CONTENT, ROWS].map(PathBuf::from).into_iter().chain(index).collect()
    }

    /// Where its index is.
    pub fn index_dir(&self) -> PathBuf {
        self.dir.join(INDEX)
    }

    /// Hands over every row and conflict, sorted; checks all of it on the way.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`], and whatever `visit` returns.
    pub fn visit(&self, visit: &mut dyn FnMut(Item<'_>) -> Result<(), store::Error>) -> Result<(), Error> {
        let file = self.dir.join(ROWS);
        let read = rows::visit(&file, visit)?;
        let sealed = (self.content.rows, self.content.conflicts, self.content.digest.clone());
        if (read.digest.rows(), read.conflicts, read.digest.finish().to_string()) != sealed {
            return Err(Error::Damaged { file, what: "rows and conflicts are not those that were sealed".into() });
        }
        Ok(())
    }

    /// Puts a copy of its index in the place of the one in `to`, if there is one, so that there is a whole one or none at any time.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn put_index(&self, to: &Path) -> Result<(), Error> {
        let made = to.with_extension("tmp");
        for old in [&made, to] {
            match fs::remove_dir_all(old) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(io_at(old))?,
            }
            if old == made {
                self.copy_index(&made)?;
            }
        }
        fs::rename(&made, to).map_err(io_at(to))?;
        to.parent().map_or(Ok(()), sync_dir)
    }

    /// Makes a copy of the index in the new directory `to`, durably; large files, which are never changed, are linked where the
    /// file system can.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn copy_index(&self, to: &Path) -> Result<(), Error> {
        fs::create_dir(to).map_err(io_at(to))?;
        for (name, bytes) in &self.content.index_files {
            let (from, to) = (self.index_dir().join(name), to.join(name));
            let found = match fs::metadata(&from) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                found => Some(found.map_err(io_at(&from))?.len()),
            };
            if found != Some(*bytes) {
                let what = found.map_or("it is missing".into(), |found| format!("it has {found} bytes, {bytes} were sealed"));
                return Err(Error::Damaged { file: from, what });
            }
            if *bytes > COPIED_BYTES_MAX && fs::hard_link(&from, &to).is_ok() {
                continue;
            }
            fs::copy(&from, &to).and_then(|_| File::open(&to)?.sync_all()).map_err(io_at(&to))?;
        }
        sync_dir(to)
    }
}

fn name_of(position: Position) -> String {
    format!("{:020}", position.0)
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_at(dir))
}

/// The sealed bases below `bases`, oldest first.
fn sealed(bases: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = entries(bases)?;
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.len() == 20 && name.iter().all(u8::is_ascii_digit)
    });
    Ok(found)
}

fn entries(bases: &Path) -> Result<Vec<PathBuf>, Error> {
    let listed = match fs::read_dir(bases) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(io_at(bases))?,
    };
    let mut found = listed.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>().map_err(io_at(bases))?;
    found.sort();
    Ok(found)
}

/// Everything below `bases` that is no sealed base: what a process left that died while it made one.
///
/// # Errors
/// [`Error::Io`].
pub fn leftovers(bases: &Path) -> Result<Vec<PathBuf>, Error> {
    let sealed = sealed(bases)?;
    Ok(entries(bases)?.into_iter().filter(|path| !sealed.contains(path)).collect())
}

/// Removes unfinished bases.
///
/// # Errors
/// [`Error::Io`].
pub fn remove_leftovers(bases: &Path) -> Result<(), Error> {
    for path in leftovers(bases)?.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "tmp")) {
        fs::remove_dir_all(&path).map_err(io_at(&path))?;
    }
    Ok(())
}

/// A base that is being made. What was made of it goes when it is dropped before it is sealed.
#[derive(Debug)]
pub struct Unsealed {
    bases: PathBuf,
    dir: PathBuf,
    identity: BaseIdentity,
    progress: Progress,
}

impl Unsealed {
    /// Begins a base at a position.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin(bases: &Path, identity: BaseIdentity, progress: Progress) -> Result<Self, Error> {
        let dir = bases.join(format!("{}.tmp", name_of(progress.next)));
        fs::create_dir_all(bases).map_err(io_at(bases))?;
        remove_leftovers(bases)?;
        fs::create_dir(&dir).map_err(io_at(&dir))?;
        Ok(Self { bases: bases.to_owned(), dir, identity, progress })
    }

    /// Where the index is to be put, in a new directory, before the base is sealed.
    pub fn index_dir(&self) -> PathBuf {
        self.dir.join(INDEX)
    }

    /// Writes the rows of a snapshot, which must stand at the base's position, makes everything durable, gives the base its name
    /// and removes the older ones. `go_on` is asked now and then.
    ///
    /// # Errors
    /// [`Error`]; the older base is still there then.
    pub fn seal(self, snapshot: &dyn Snapshot, index_covers: Position, go_on: &dyn Fn() -> bool) -> Result<Base, Error> {
        let rows = self.dir.join(ROWS);
        let written = rows::write(&rows, snapshot, go_on)?;
        let mut index_files = Vec::new();
        for path in entries(&self.index_dir())? {
            let file = File::open(&path).map_err(io_at(&path))?;
            file.sync_all().map_err(io_at(&path))?;
            let bytes = file.metadata().map_err(io_at(&path))?.len();
            index_files.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), bytes));
        }
        sync_dir(&self.index_dir())?;
        let content = Content {
            format: FORMAT,
            log_id: self.identity.log_id_text(),
            partition: self.identity.partition,
            position: self.progress.next.0,
            log_time_ms: self.progress.log_time.0,
            rows: written.digest.rows(),
            conflicts: written.conflicts,
            digest: written.digest.finish().to_string(),
            rows_bytes: written.bytes,
            index_covers: index_covers.0,
            index_files,
        };
        let file = self.dir.join(CONTENT);
        let bytes = checked_json::to_bytes(&content).map_err(|error| Error::Io { file: file.clone(), error: error.into() })?;
        let write = || -> io::Result<()> {
            let mut file = File::create_new(&file)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().map_err(io_at(&file))?;
        sync_dir(&self.dir)?;
        let older = sealed(&self.bases)?;
        let dir = self.bases.join(name_of(self.progress.next));
        fs::rename(&self.dir, &dir).map_err(io_at(&self.dir))?;
        sync_dir(&self.bases)?;
        for gone in &older {
            fs::remove_dir_all(gone).map_err(io_at(gone))?;
        }
        Ok(Base { dir, content })
    }
}

impl Drop for Unsealed {
    fn drop(&mut self) {
        // Gone already if it was sealed; if it cannot be removed, the next start does.
        drop(fs::remove_dir_all(&self.dir));
    }
}

#[cfg(test)]
mod tests;
