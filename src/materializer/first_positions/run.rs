//! An immutable, sorted file of first positions, with a filter and fences that are kept in memory. Little-endian.
//!
//! ```text
//! pages of 1,024 bytes:  25 entries of 40 bytes (u64 upper and u64 lower half of the identity, u64 position, i64 log time ms, u64
//!                        content hash), zeros where there are fewer; 20 zeros, u32 CRC-32C of the 1,020 bytes before it
//! fences                 u32 a page: the highest 32 bits of its first identity
//! filter                 lines of 64 bytes: a Bloom filter, each entry in one line (see `filter`)
//! footer, 64 bytes       "TGRUN002", u64 entries, u64 pages, u64 filter lines, u32 CRC-32C of fences and filter,
//!                        zeros, u32 CRC-32C of the 60 bytes before it
//! ```
//!
//! Entries are sorted by identity, then position; an identity may stand there more than once (a first that expired
//! and the one that came after it). A page is read with its checksum each time: what is wrong is never a verdict.

use std::path::Path;

use super::IndexError;
use super::entry::{ENTRY_BYTES, Entry, halves, u32_at, u64_at};
use super::filter::{Filter, Probe};
use crate::event::IdentityHash;
use crate::log::disk::{Disk, DiskFile};

pub(super) const PAGE_BYTES: usize = 1_024;
pub(super) const PAGE_ENTRIES: usize = 25;
const ENTRIES_BYTES: usize = PAGE_ENTRIES * ENTRY_BYTES;
const CRC_AT: usize = PAGE_BYTES - 4;
const FOOTER_BYTES: usize = 64;
const FOOTER_CRC_AT: usize = FOOTER_BYTES - 4;
const FENCE_BYTES: usize = 4;
const MAGIC: &[u8; 8] = b"TGRUN002";
/// Written at once.
const WRITE_BYTES: usize = 1 << 20;
/// Synced at once while a run is written: the disk is shared with the log, whose syncs must not wait for gigabytes.
const SYNC_BYTES: u64 = 32 << 20;

/// An open run.
pub(super) struct Run {
    name: String,
    file: Box<dyn DiskFile>,
    entries: u64,
    fences: Vec<u32>,
    filter: Filter,
}

impl Run {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn len(&self) -> u64 {
        self.entries
    }

    /// Bytes of memory: fences and filter.
    pub(super) fn bytes(&self) -> u64 {
        (self.fences.len() * FENCE_BYTES) as u64 + self.filter.bytes()
    }

    /// The same, of a run that is still to be written.
    pub(super) fn bytes_for(entries: u64) -> u64 {
        entries.div_ceil(PAGE_ENTRIES as u64) * FENCE_BYTES as u64 + Filter::bytes_for(entries)
    }

    pub(super) fn pages(&self) -> usize {
        self.fences.len()
    }

    pub(super) fn fences(&self) -> &[u32] {
        &self.fences
    }

    pub(super) fn filter(&self) -> &Filter {
        &self.filter
    }

    pub(super) fn open(disk: &dyn Disk, dir: &Path, name: &str) -> Result<Self, IndexError> {
        let damaged = |what: &str| IndexError::Damaged(format!("{name}: {what}"));
        let file = match disk.open(&dir.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(damaged("the file is missing")),
            Err(error) => return Err(error.into()),
        };
        let length = file.len()?;
        let footer_at = length.checked_sub(FOOTER_BYTES as u64).ok_or_else(|| damaged("the file is too short"))?;
        let mut footer = [0; FOOTER_BYTES];
        file.read_at(footer_at, &mut footer)?;
        if &footer[..8] != MAGIC || crc32c::crc32c(&footer[..FOOTER_CRC_AT]) != u32_at(&footer, FOOTER_CRC_AT) {
            return Err(damaged("the footer is not what was written"));
        }
        let (entries, pages, lines) = (u64_at(&footer, 8), u64_at(&footer, 16), u64_at(&footer, 24));
        let memory_at = pages.saturating_mul(PAGE_BYTES as u64);
        // First of all that the file has room for so many: whatever is multiplied then fits.
        let fits = entries < footer_at
            && entries.div_ceil(PAGE_ENTRIES as u64) == pages
            && lines.saturating_mul(64) == Filter::bytes_for(entries)
            && memory_at.saturating_add(Self::bytes_for(entries)) == footer_at;
        if !fits {
            return Err(damaged("the footer does not fit the file"));
        }
        let mut memory = vec![0; (footer_at - memory_at) as usize];
        file.read_at(memory_at, &mut memory)?;
        if crc32c::crc32c(&memory) != u32_at(&footer, 32) {
            return Err(damaged("fences and filter are not what was written"));
        }
        let (fences, filter) = memory.split_at(pages as usize * FENCE_BYTES);
        let fences = fences.as_chunks::<FENCE_BYTES>().0.iter().map(|fence| u32::from_le_bytes(*fence)).collect();
        Ok(Self { name: name.to_owned(), file, entries, fences, filter: Filter::read(filter) })
    }

    /// Those of the identities, as bits, that may be here.
    pub(super) fn may_hold_all(&self, probes: &[Probe]) -> u64 {
        self.filter.may_hold_all(probes)
    }

    pub(super) fn may_hold(&self, probe: &Probe) -> bool {
        self.filter.may_hold(probe)
    }

    /// The entry of an identity that counts.
    pub(super) fn find(&self, identity: IdentityHash, counts: impl Fn(&Entry) -> bool) -> Result<Option<Entry>, IndexError> {
        let wanted = halves(identity);
        let fence = fence_of(wanted.0);
        let mut page = [0; PAGE_BYTES];
        for at in self.first_page(fence)..self.fences.len() {
            if self.fences[at] > fence {
                break;
            }
            self.read_pages(at, &mut page)?;
            let entries = self.entries_of(at, &page);
            let begin = entries.partition_point(|entry| (u64_at(entry, 0), u64_at(entry, 8)) < wanted);
            let mut same = entries[begin..].iter().map(Entry::read).take_while(|entry| entry.is_of(identity));
            if let Some(entry) = same.find(&counts) {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The page on which the entries of a fence may begin: the one before the first fence that is not lower. Identities are
    /// uniform, so it is not far from where they say.
    fn first_page(&self, fence: u32) -> usize {
        let pages = self.fences.len();
        let guess = ((u64::from(fence) * pages as u64) >> 32) as usize;
        let is_lower = |at: usize| self.fences.get(at).is_some_and(|found| *found < fence);
        let (mut begin, mut end, mut step) = (guess, guess, 16);
        while begin > 0 && !is_lower(begin) {
            begin = begin.saturating_sub(step);
            step *= 2;
        }
        step = 16;
        while end < pages && is_lower(end) {
            end = (end + step).min(pages);
            step *= 2;
        }
        (begin + self.fences[begin..end].partition_point(|found| *found < fence)).saturating_sub(1)
    }

    /// Fills `pages`, whole ones, from page `at` on.
    fn read_pages(&self, at: usize, pages: &mut [u8]) -> Result<(), IndexError> {
        self.file.read_at((at * PAGE_BYTES) as u64, pages)?;
        let is_right = |page: &[u8; PAGE_BYTES]| crc32c::crc32c(&page[..CRC_AT]) == u32_at(page, CRC_AT);
        match pages.as_chunks().0.iter().position(|page| !is_right(page)) {
            None => Ok(()),
            Some(wrong) => Err(IndexError::Damaged(format!(
                "{}: page {} is not what was written; delete the index, it is made again from the log",
                self.name,
                at + wrong
            ))),
        }
    }

    fn entries_of<'p>(&self, at: usize, page: &'p [u8]) -> &'p [[u8; ENTRY_BYTES]] {
        let left = self.entries as usize - at * PAGE_ENTRIES;
        &page[..ENTRIES_BYTES].as_chunks().0[..left.min(PAGE_ENTRIES)]
    }

    /// Appends the entries of some pages to `to`; `pages` is overwritten.
    pub(super) fn read_entries(&self, at: std::ops::Range<usize>, pages: &mut Vec<u8>, to: &mut Vec<Entry>) -> Result<(), IndexError> {
        pages.resize(at.len() * PAGE_BYTES, 0);
        self.read_pages(at.start, pages)?;
        for (at, page) in at.zip(pages.as_chunks::<PAGE_BYTES>().0) {
            to.extend(self.entries_of(at, page).iter().map(Entry::read));
        }
        Ok(())
    }

    /// The bytes of the file, for a copy.
    pub(super) fn file(&self) -> &dyn DiskFile {
        &*self.file
    }
}

/// What stands in the fences for a first identity.
pub(super) fn fence_of(upper: u64) -> u32 {
    (upper >> 32) as u32
}

/// Writes a run. A file that was not finished is nobody's: it is removed when the index is opened.
pub(super) struct Writer {
    name: String,
    file: Box<dyn DiskFile>,
    /// Not written yet; the last page may be begun.
    buffer: Vec<u8>,
    page_start: usize,
    written: u64,
    synced: u64,
    entries: u64,
    fences: Vec<u32>,
    filter: Filter,
}

impl Writer {
    /// Begins a run of `entries` entries.
    pub(super) fn create(disk: &dyn Disk, dir: &Path, name: String, entries: u64) -> Result<Self, IndexError> {
        Ok(Self {
            file: disk.create(&dir.join(&name))?,
            name,
            buffer: Vec::with_capacity(WRITE_BYTES + PAGE_BYTES),
            page_start: 0,
            written: 0,
            synced: 0,
            entries: 0,
            fences: Vec::with_capacity((entries as usize).div_ceil(PAGE_ENTRIES)),
            filter: Filter::for_entries(entries),
        })
    }

    /// Adds an entry, which is higher than all before.
    pub(super) fn push(&mut self, entry: &Entry) -> Result<(), IndexError> {
        if self.buffer.len() == self.page_start {
            self.fences.push(fence_of(entry.upper));
        }
        self.filter.insert(entry.upper, entry.lower);
        self.buffer.extend_from_slice(&entry.to_bytes());
        self.entries += 1;
        if self.buffer.len() == self.page_start + ENTRIES_BYTES { self.end_page() } else { Ok(()) }
    }

    fn end_page(&mut self) -> Result<(), IndexError> {
        self.buffer.resize(self.page_start + CRC_AT, 0);
        let crc = crc32c::crc32c(&self.buffer[self.page_start..]);
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        self.page_start = self.buffer.len();
        if self.buffer.len() >= WRITE_BYTES { self.write_out() } else { Ok(()) }
    }

    fn write_out(&mut self) -> Result<(), IndexError> {
        self.file.write_at(self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        self.page_start = 0;
        if self.written - self.synced >= SYNC_BYTES {
            self.file.sync()?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Makes the run durable.
    pub(super) fn finish(mut self, disk: &dyn Disk, dir: &Path) -> Result<Run, IndexError> {
        if self.buffer.len() > self.page_start {
            self.end_page()?;
        }
        let memory_start = self.buffer.len();
        self.fences.iter().for_each(|fence| self.buffer.extend_from_slice(&fence.to_le_bytes()));
        self.filter.write(&mut self.buffer);
        let memory_crc = crc32c::crc32c(&self.buffer[memory_start..]);
        let mut footer = [0; FOOTER_BYTES];
        footer[..8].copy_from_slice(MAGIC);
        footer[8..16].copy_from_slice(&self.entries.to_le_bytes());
        footer[16..24].copy_from_slice(&(self.fences.len() as u64).to_le_bytes());
        footer[24..32].copy_from_slice(&(self.filter.bytes() / 64).to_le_bytes());
        footer[32..36].copy_from_slice(&memory_crc.to_le_bytes());
        let crc = crc32c::crc32c(&footer[..FOOTER_CRC_AT]);
        footer[FOOTER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        self.buffer.extend_from_slice(&footer);
        self.write_out()?;
        self.file.sync()?;
        disk.sync_dir(dir)?;
        Ok(Run { name: self.name, file: self.file, entries: self.entries, fences: self.fences, filter: self.filter })
    }
}

#[cfg(test)]
mod tests;
