//! The data directory and its lock: one process at a time.
//!
//! ```text
//! lock            held while a process runs; says which one
//! log/            the events: meta.json, segments
//! dead-letters/   events that were not taken: segments
//! base/           what makes up for the removed begin of the log (crate::base)
//! index/          the dedup index, derived from base and log
//! store.redb      rows, accounts, keys, customers, meters
//! control.sock    where a running gateway is asked for a backup; of the operator's user only
//! *.tmp           what a process is making; a leftover if none runs
//! ```

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::log::disk::{Disk, RealDisk};

/// The events.
pub const LOG: &str = "log";
/// Events that were not taken.
pub const DEAD_LETTERS: &str = "dead-letters";
/// Bases.
pub const BASE: &str = "base";
/// The dedup index.
pub const INDEX: &str = "index";
/// Rows and documents.
pub const STORE: &str = "store.redb";
/// The lock.
pub const LOCK: &str = "lock";
/// Where a running gateway is spoken to.
pub const CONTROL: &str = "control.sock";

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
    /// There is no log in it.
    #[error("{} is no data directory of tollgate: it has no log; --data-dir takes another one", path.display())]
    None {
        /// The directory.
        path: PathBuf,
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
        let lock_path = path.join(LOCK);
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

    /// The same, of a directory that has a log already.
    ///
    /// # Errors
    /// [`DataDirError`]; nothing was made.
    pub fn lock_existing(path: &Path) -> Result<Self, DataDirError> {
        if path.join(LOG).is_dir() { Self::lock(path) } else { Err(DataDirError::None { path: path.to_owned() }) }
    }

    /// What processes that are gone have left unfinished in it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn leftovers(&self) -> std::io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(&self.path)?.map(|entry| entry.map(|entry| entry.path()));
        let mut found = entries.collect::<std::io::Result<Vec<_>>>()?;
        found.retain(|path| path.extension().is_some_and(|extension| extension == "tmp"));
        Ok(found)
    }

    /// Removes it.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn remove_leftovers(&self) -> std::io::Result<()> {
        self.leftovers()?.iter().try_for_each(|path| if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or directory in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}
