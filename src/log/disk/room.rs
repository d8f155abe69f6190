//! What waits when the disk is full, instead of failing.
//!
//! The log refuses appends while less than a reserve is free. What is left is for what can wait and must not fail: rows and
//! dedup index. A commit begins only while at least a part of the reserve is free; whatever of it meets a full disk all the same
//! waits in place and goes on when there is room. redb, once a write has failed, takes nothing more in this process; so no write
//! of its may fail for want of room.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Disk, DiskFile, is_full};
use crate::telemetry;

/// How often it is looked whether there is room again.
const LOOK_AGAIN: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 200 });
/// Of the reserve, what stays free when a commit begins: for what other small files need meanwhile.
const FLOOR_PART: u64 = 4;

/// Knows whether there is room, and lets callers wait for it until the process is to stop.
pub struct Room {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    reserve_bytes: u64,
    state: Mutex<State>,
    given_up: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    has_given_up: bool,
}

/// There is no room, and nobody waits any more: the process is to stop.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the disk is full")]
pub struct NoRoom;

impl Room {
    /// Of the file system of `dir`. `reserve_bytes` is what the log leaves.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path, reserve_bytes: u64) -> Arc<Self> {
        telemetry::set_waits_for_room(false);
        Arc::new(Self { disk, dir: dir.to_owned(), reserve_bytes, state: Mutex::default(), given_up: Condvar::new() })
    }

    /// Whether somebody waits now.
    pub fn is_waited_for(&self) -> bool {
        self.lock().waiting > 0
    }

    /// Whether something small can be begun now.
    pub fn has_some(&self) -> bool {
        // A file system that does not tell is taken at its word when a write fails.
        self.disk.free_bytes(&self.dir).map_or(true, |free| free >= self.reserve_bytes / FLOOR_PART)
    }

    /// Sets the metrics of what is left.
    pub fn report(&self) {
        telemetry::set_disk(self.disk.free_bytes(&self.dir).ok(), self.reserve_bytes);
    }

    /// Waits until something small can be begun.
    ///
    /// # Errors
    /// [`NoRoom`] once [`Room::give_up`] was called.
    pub fn wait(&self) -> Result<(), NoRoom> {
        let looked = self.patiently(|| if self.has_some() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) });
        looked.map_err(|_| NoRoom)
    }

    /// Nobody waits from here on: what meets a full disk fails.
    pub fn give_up(&self) {
        self.lock().has_given_up = true;
        self.given_up.notify_all();
    }

    /// Does something again until it does not fail for want of room.
    fn patiently<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut waiting = None;
        loop {
            match attempt() {
                Err(error) if is_full(&error) => {
                    let waiting = waiting.get_or_insert_with(|| Waiting::begin(self));
                    if !waiting.pause() {
                        return Err(error);
                    }
                }
                done => return done,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Two numbers that are changed one at a time: a panic elsewhere leaves them whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits; says so when it is the first, and when it was the last.
struct Waiting<'r>(&'r Room);

impl<'r> Waiting<'r> {
    fn begin(room: &'r Room) -> Self {
        let mut state = room.lock();
        state.waiting += 1;
        if state.waiting == 1 {
            telemetry::set_waits_for_room(true);
            let (dir, free_bytes) = (room.dir.display(), room.disk.free_bytes(&room.dir).unwrap_or(0));
            tracing::warn!(%dir, free_bytes, "the disk is full: rows and index wait for room, events are refused; nothing is lost");
        }
        Self(room)
    }

    /// `false` if there is no use in waiting any longer.
    fn pause(&self) -> bool {
        let state = self.0.lock();
        if state.has_given_up {
            return false;
        }
        let (state, _) = self.0.given_up.wait_timeout(state, LOOK_AGAIN).unwrap_or_else(PoisonError::into_inner);
        !state.has_given_up
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.waiting -= 1;
        if state.waiting == 0 {
            telemetry::set_waits_for_room(false);
            if !state.has_given_up {
                tracing::info!("there is room on the disk again");
            }
        }
    }
}

/// A disk whose writes wait for room.
pub struct WaitingDisk {
    disk: Arc<dyn Disk>,
    room: Arc<Room>,
}

impl WaitingDisk {
    /// The disk that `room` is about.
    pub fn new(room: Arc<Room>) -> Self {
        Self { disk: room.disk.clone(), room }
    }

    fn wrap(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(WaitingFile { file, room: self.room.clone() })
    }
}

impl Disk for WaitingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(self.room.patiently(|| self.disk.create(path))?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path)
    }

    fn open_writable(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(self.wrap(self.disk.open_writable(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.room.patiently(|| self.disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.room.patiently(|| self.disk.link(from, to))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.room.patiently(|| self.disk.create_dir(path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_bytes(dir)
    }
}

struct WaitingFile {
    file: Box<dyn DiskFile>,
    room: Arc<Room>,
}

impl DiskFile for WaitingFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // A part may have been written: the same bytes at the same place do no harm.
        self.room.patiently(|| self.file.write_at(offset, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        // Not tried again: a sync that succeeds after one that failed proves nothing.
        self.file.sync()
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.room.patiently(|| self.file.truncate(bytes))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}

#[cfg(test)]
mod tests;
