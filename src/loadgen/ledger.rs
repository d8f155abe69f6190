//! The ledger: the id of every acked event, one a line, for tests that kill the server and ask afterwards.
//!
//! A thread of its own owns the file. An id reaches it only after the 2xx that covers it, so whatever stands in
//! the file was acked. An id that was repeated stands there as often as it was acked.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::thread::JoinHandle;

use anyhow::Context as _;
use tokio::sync::mpsc;

/// Blocks of lines on the way to the file; a connection waits when there are more.
const BLOCKS_MAX: usize = 64;

/// Takes lines for the file. Clones share it.
pub(super) type Lines = mpsc::Sender<Vec<u8>>;

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Ledger {
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Ledger {
    /// Opens the file for appending, creating it if need be, and starts the thread.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread started.
    pub(super) fn open(path: &Path) -> anyhow::Result<(Self, Lines)> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("cannot open the ledger {}", path.display()))?;
        let (lines, inbox) = mpsc::channel(BLOCKS_MAX);
        let path = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("bench-ledger".into())
            .spawn(move || write(file, &path, inbox))
            .context("cannot start the ledger's thread")?;
        Ok((Self { thread }, lines))
    }

    /// Waits until everything is in the file. All [`Lines`] must have been dropped.
    ///
    /// # Errors
    /// A write has failed: ids are missing from the file.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the ledger's thread panicked"))?
    }
}

/// Writes what has queued up, in one go. Ends when every sender is gone, or at the first failed write, which the
/// senders notice by a closed channel.
fn write(mut file: File, path: &Path, mut inbox: mpsc::Receiver<Vec<u8>>) -> anyhow::Result<()> {
    let mut blocks = Vec::with_capacity(BLOCKS_MAX);
    while inbox.blocking_recv_many(&mut blocks, BLOCKS_MAX) > 0 {
        file.write_all(&blocks.concat()).with_context(|| format!("cannot write the ledger {}", path.display()))?;
        blocks.clear();
    }
    Ok(())
}
