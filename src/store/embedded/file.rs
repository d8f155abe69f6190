//! The store's file on a [`Disk`], as redb wants it.
//!
//! redb's own locks are left out: the data directory has one ([`crate::data_dir`]).

use std::fmt;
use std::io;
use std::path::Path;

use crate::log::disk::{Disk, DiskFile};

/// One file, of which redb is the only user.
pub(super) struct StoreFile(Box<dyn DiskFile>);

impl StoreFile {
    /// Opens the file; `None` if it is not there.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Option<Self>> {
        match disk.open_writable(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => Ok(Some(Self(opened?))),
        }
    }

    /// Makes an empty file, in place of one of this name.
    pub(super) fn create(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        match disk.remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Self(disk.create(path)?)),
        }
    }
}

impl fmt::Debug for StoreFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreFile")
    }
}

impl redb::StorageBackend for StoreFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.0.read_at(offset, out)? < out.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}
