//! The data directory and its lock: one process at a time.
//!
//! ```text
//! lock            held while a process runs; says which one
//! log/            the events: meta.json, segments
//! dead-letters/   events that were not taken: segments
//! index/          the dedup index, derived from the log
//! store.redb      rows, accounts, keys, customers, meters
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::log::disk::{Disk, RealDisk};

/// The directory, for as long as this process has it.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// The directory cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process has it.
    #[error("the data directory {} is in use by another tollgate (process {process}); stop that one, or give this one another directory with --data-dir", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// The other process's id, as it left it.
        process: String,
    },
    /// It cannot be made or opened.
    #[error("the data directory {} cannot be used: {error}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the operating system says.
        error: std::io::Error,
    },
}

impl DataDir {
    /// Makes the directory if it is not there, and locks it. The lock goes with the process, however it ends.
    ///
    /// # Errors
    /// [`DataDirError`].
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let failed = |error| DataDirError::Io { path: path.to_owned(), error };
        RealDisk.create_dir(path).map_err(failed)?;
        let lock_path = path.join("lock");
        let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(lock_path).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                let read = lock.read_to_string(&mut process);
                let known = read.is_ok() && !process.trim().is_empty();
                return Err(DataDirError::InUse {
                    path: path.to_owned(),
                    process: if known { process.trim().to_owned() } else { "unknown".into() },
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        lock.set_len(0).and_then(|()| writeln!(lock, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// A file or directory in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}
