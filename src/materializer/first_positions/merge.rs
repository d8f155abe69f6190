//! Many sorted runs into one.
//!
//! A chunk of each run is read; whatever is not higher than the lowest end of a chunk is complete, is put side by side and sorted. The
//! sort finds the ascending pieces and merges them pairwise without branches on what it compares, in the cache: cheaper than a heap or
//! a tree of losers, whose every step is a branch that nobody can predict.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::IndexError;
use super::entry::Entry;
use super::run::{Run, Writer};
use crate::log::disk::Disk;

/// Pages of a run read at once: 64 KiB.
const CHUNK_PAGES: usize = if cfg!(test) { 1 } else { 64 };

/// Entries of a run that are not merged yet.
struct Source {
    run: Arc<Run>,
    next_page: usize,
    chunk: Vec<Entry>,
    /// Where those begin that are left.
    begin: usize,
}

impl Source {
    /// Reads on when nothing is left.
    fn fill(&mut self, pages: &mut Vec<u8>) -> Result<(), IndexError> {
        if self.begin < self.chunk.len() {
            return Ok(());
        }
        self.chunk.clear();
        self.begin = 0;
        let end = (self.next_page + CHUNK_PAGES).min(self.run.pages());
        self.run.read_entries(self.next_page..end, pages, &mut self.chunk)?;
        self.next_page = end;
        Ok(())
    }

    /// The last entry that is known of, if the run goes on behind it.
    fn known_up_to(&self) -> Option<&Entry> {
        self.chunk.last().filter(|_| self.next_page < self.run.pages())
    }

    fn take_up_to(&mut self, end: Option<Entry>, to: &mut Vec<Entry>) {
        let left = &self.chunk[self.begin..];
        let taken = end.map_or(left.len(), |end| left.partition_point(|entry| *entry <= end));
        to.extend_from_slice(&left[..taken]);
        self.begin += taken;
    }
}

/// Writes the entries of all runs as one. Ends with an error when `is_closing`.
pub(super) fn merge(disk: &dyn Disk, dir: &Path, name: String, runs: &[Arc<Run>], is_closing: &AtomicBool) -> Result<Run, IndexError> {
    let mut writer = Writer::create(disk, dir, name, runs.iter().map(|run| run.len()).sum())?;
    let source = |run: &Arc<Run>| Source { run: run.clone(), next_page: 0, chunk: Vec::new(), begin: 0 };
    let mut sources: Vec<Source> = runs.iter().map(source).collect();
    let (mut pages, mut batch) = (Vec::new(), Vec::new());
    loop {
        if is_closing.load(Ordering::Relaxed) {
            return Err(IndexError::Io("the index is being closed".into()));
        }
        sources.iter_mut().try_for_each(|source| source.fill(&mut pages))?;
        let end = sources.iter().filter_map(Source::known_up_to).min().copied();
        batch.clear();
        sources.iter_mut().for_each(|source| source.take_up_to(end, &mut batch));
        batch.sort();
        batch.iter().try_for_each(|entry| writer.push(entry))?;
        if end.is_none() {
            return writer.finish(disk, dir);
        }
    }
}
