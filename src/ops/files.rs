//! Files and directories in bulk: copied with checksums, made durable, removed when something fails.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{Error, io_at};

const BUFFER_BYTES: usize = 1 << 20;

/// A directory that is being made. It goes when it is dropped before it got its name.
#[derive(Debug)]
pub(super) struct Unfinished {
    dir: PathBuf,
    is_finished: bool,
}

impl Unfinished {
    /// Makes it, in the place of a leftover of the same name.
    pub(super) fn begin(dir: PathBuf) -> Result<Self, Error> {
        remove_if_there(&dir)?;
        fs::create_dir_all(&dir).map_err(io_at(&dir))?;
        Ok(Self { dir, is_finished: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes all of it durable and gives it its name, which must be free or an empty directory's.
    pub(super) fn finish(mut self, to: &Path) -> Result<(), Error> {
        sync_dirs(&self.dir)?;
        fs::rename(&self.dir, to).map_err(io_at(to))?;
        self.is_finished = true;
        sync_dir(parent(to))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_finished {
            // If it cannot be removed, the next attempt does.
            drop(fs::remove_dir_all(&self.dir));
        }
    }
}

/// The directory that something is in.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A sibling that says what it is for.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent(path).join(format!(".{name}.{suffix}.tmp"))
}

pub(super) fn remove_if_there(path: &Path) -> Result<(), Error> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.map_err(io_at(path))
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_at(dir))
}

/// Makes the entries of a directory and of all below it durable.
pub(super) fn sync_dirs(dir: &Path) -> Result<(), Error> {
    for path in list(dir)? {
        if path.is_dir() {
            sync_dirs(&path)?;
        }
    }
    sync_dir(dir)
}

/// The entries of a directory, sorted; none if it is not there.
pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(io_at(dir))?,
    };
    let mut found = listed.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>().map_err(io_at(dir))?;
    found.sort();
    Ok(found)
}

/// Whether nothing is there, or an empty directory.
pub(super) fn is_free(path: &Path) -> Result<bool, Error> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_at(path)(error)),
        Ok(found) => Ok(found.is_dir() && list(path)?.is_empty()),
    }
}

/// Copies the first `bytes` of a file into a new one, durably; gives back their CRC-32C.
pub(super) fn copy(
    from: &mut File,
    name: &Path,
    to: &Path,
    bytes: u64,
    progress: &mut dyn FnMut(u64) -> Result<(), Error>,
) -> Result<u32, Error> {
    if let Some(dir) = to.parent() {
        fs::create_dir_all(dir).map_err(io_at(dir))?;
    }
    let mut written = File::create_new(to).map_err(io_at(to))?;
    let crc = read(from, name, bytes, &mut |bytes| {
        written.write_all(bytes).map_err(io_at(to))?;
        progress(bytes.len() as u64)
    })?;
    written.sync_all().map_err(io_at(to))?;
    Ok(crc)
}

/// Reads the first `bytes` of a file; gives back their CRC-32C.
pub(super) fn read(from: &mut File, name: &Path, bytes: u64, each: &mut dyn FnMut(&[u8]) -> Result<(), Error>) -> Result<u32, Error> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut left, mut crc) = (bytes, 0);
    while left > 0 {
        let wanted = BUFFER_BYTES.min(usize::try_from(left).unwrap_or(BUFFER_BYTES));
        let read = match from.read(&mut buffer[..wanted]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read.map_err(io_at(name))?,
        };
        if read == 0 {
            return Err(Error::Damaged { file: name.to_owned(), what: format!("it ends {left} bytes too soon") });
        }
        crc = crc32c::crc32c_append(crc, &buffer[..read]);
        each(&buffer[..read])?;
        left -= read as u64;
    }
    Ok(crc)
}
