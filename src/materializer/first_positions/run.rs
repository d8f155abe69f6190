//! An immutable, sorted file of first positions, with a filter and fences that are kept in memory. Little-endian.
//!
//! ```text
//! pages of 4,096 bytes:  102 entries of 40 bytes (u128 identity, u64 position, i64 log time ms, u64 content hash),
//!                        zeros where there are fewer; 12 zeros, u32 CRC-32C of the 4,092 bytes before it
//! fences                 u64 a page: upper half of its first identity
//! filter                 blocks of 64 bytes: a Bloom filter of 16 bits an entry, each entry in one block
//! footer, 64 bytes       "TGRUN001", u64 entries, u64 pages, u64 filter blocks, u32 CRC-32C of fences and filter,
//!                        zeros, u32 CRC-32C of the 60 bytes before it
//! ```
//!
//! Entries are sorted by identity, then position; an identity may stand there more than once (a first that expired
//! and the one that came after it).

use std::path::Path;

use super::IndexError;
use crate::log::disk::{Disk, DiskFile};

const PAGE_BYTES: usize = 4_096;
const ENTRY_BYTES: usize = 40;
const PAGE_ENTRIES: usize = 102;
const FOOTER_BYTES: usize = 64;
const MAGIC: &[u8; 8] = b"TGRUN001";
const BLOCK_WORDS: usize = 8;
const FILTER_BITS: usize = 16;
const FILTER_PROBES: u32 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) identity: u128,
    pub(super) position: u64,
    pub(super) log_time: i64,
    pub(super) content: u64,
}

impl Entry {
    fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..16].copy_from_slice(&self.identity.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.position.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.log_time.to_le_bytes());
        bytes[32..].copy_from_slice(&self.content.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let half = |at: usize| u64_at(bytes, at);
        Self {
            identity: u128::from(half(0)) | (u128::from(half(8)) << 64),
            position: half(16),
            log_time: half(24).cast_signed(),
            content: half(32),
        }
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

/// A Bloom filter whose probes of one entry all fall into one cache line.
struct Filter {
    blocks: Vec<[u64; BLOCK_WORDS]>,
}

impl Filter {
    fn with_entries(entries: usize) -> Self {
        let bits = BLOCK_WORDS * 64;
        Self { blocks: vec![[0; BLOCK_WORDS]; (entries * FILTER_BITS).div_ceil(bits).max(1)] }
    }

    /// The block and the bits of an identity, from its lower half; the upper half sorts the entries.
    fn place(&self, identity: u128) -> (usize, impl Iterator<Item = (usize, u64)> + use<>) {
        let lower = identity as u64;
        let block = ((u128::from(lower) * self.blocks.len() as u128) >> 64) as usize;
        // The block uses the upper bits; a multiplication brings the lower ones up for the probes.
        let mixed = lower.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bits = (0..FILTER_PROBES).map(move |probe| {
            let bit = (mixed >> (64 - 9 * (probe + 1))) & 511;
            ((bit / 64) as usize, 1 << (bit % 64))
        });
        (block, bits)
    }

    fn insert(&mut self, identity: u128) {
        let (block, bits) = self.place(identity);
        for (word, bit) in bits {
            self.blocks[block][word] |= bit;
        }
    }

    fn may_hold(&self, identity: u128) -> bool {
        let (block, mut bits) = self.place(identity);
        bits.all(|(word, bit)| self.blocks[block][word] & bit != 0)
    }
}

/// An open run.
pub(super) struct Run {
    name: String,
    file: Box<dyn DiskFile>,
    entries: u64,
    fences: Vec<u64>,
    filter: Filter,
}

impl Run {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn len(&self) -> u64 {
        self.entries
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
        if &footer[..8] != MAGIC || crc32c::crc32c(&footer[..60]) != u32_at(&footer, 60) {
            return Err(damaged("the footer is not what was written"));
        }
        let (entries, pages, blocks) = (u64_at(&footer, 8), u64_at(&footer, 16), u64_at(&footer, 24));
        let memory_at = pages * PAGE_BYTES as u64;
        if memory_at + pages * 8 + blocks * 64 != footer_at || entries.div_ceil(PAGE_ENTRIES as u64) != pages {
            return Err(damaged("the footer does not fit the file"));
        }
        let mut memory = vec![0; (footer_at - memory_at) as usize];
        file.read_at(memory_at, &mut memory)?;
        if crc32c::crc32c(&memory) != u32_at(&footer, 32) {
            return Err(damaged("fences and filter are not what was written"));
        }
        let (fences, filter) = memory.split_at(pages as usize * 8);
        let words = |bytes: &[u8]| -> Vec<u64> { bytes.as_chunks::<8>().0.iter().map(|eight| u64::from_le_bytes(*eight)).collect() };
        let filter = Filter { blocks: words(filter).as_chunks::<BLOCK_WORDS>().0.to_vec() };
        Ok(Self { name: name.to_owned(), fences: words(fences), file, entries, filter })
    }

    /// Hands every entry of an identity to `visit`.
    pub(super) fn find(&self, identity: u128, visit: &mut dyn FnMut(Entry)) -> Result<(), IndexError> {
        if self.filter.blocks.is_empty() || !self.filter.may_hold(identity) {
            return Ok(());
        }
        let upper = (identity >> 64) as u64;
        // Entries of one upper half may begin on the page before the first fence that equals it.
        let first_page = self.fences.partition_point(|fence| *fence < upper).saturating_sub(1);
        let mut page = [0; PAGE_BYTES];
        for at in first_page..self.fences.len() {
            if self.fences[at] > upper {
                break;
            }
            for entry in self.read_page(at, &mut page)? {
                if entry.identity == identity {
                    visit(entry);
                }
            }
        }
        Ok(())
    }

    fn read_page<'p>(&self, at: usize, page: &'p mut [u8; PAGE_BYTES]) -> Result<impl Iterator<Item = Entry> + 'p, IndexError> {
        self.file.read_at((at * PAGE_BYTES) as u64, page)?;
        if crc32c::crc32c(&page[..PAGE_BYTES - 4]) != u32_at(page, PAGE_BYTES - 4) {
            return Err(IndexError::Damaged(format!(
                "{}: page {at} is not what was written; delete the index, it is made again from the log",
                self.name
            )));
        }
        let left = self.entries as usize - at * PAGE_ENTRIES;
        let entries = &page[..PAGE_ENTRIES * ENTRY_BYTES];
        Ok(entries.as_chunks::<ENTRY_BYTES>().0.iter().take(left).map(Entry::read))
    }

    /// All entries in order.
    pub(super) fn entries(&self) -> RunEntries<'_> {
        RunEntries { run: self, page: 0, buffered: Vec::new().into_iter() }
    }
}

pub(super) struct RunEntries<'r> {
    run: &'r Run,
    page: usize,
    buffered: std::vec::IntoIter<Entry>,
}

impl Iterator for RunEntries<'_> {
    type Item = Result<Entry, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.buffered.next() {
                return Some(Ok(entry));
            }
            if self.page == self.run.fences.len() {
                return None;
            }
            let mut page = [0; PAGE_BYTES];
            match self.run.read_page(self.page, &mut page) {
                Ok(entries) => self.buffered = entries.collect::<Vec<_>>().into_iter(),
                Err(error) => {
                    self.page = self.run.fences.len();
                    return Some(Err(error));
                }
            }
            self.page += 1;
        }
    }
}

/// Writes a run of sorted entries, of which there are `expected` at most, and makes it durable.
pub(super) fn write(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    expected: usize,
    entries: impl Iterator<Item = Result<Entry, IndexError>>,
) -> Result<Run, IndexError> {
    let file = disk.create(&dir.join(name))?;
    let mut filter = Filter::with_entries(expected);
    let mut fences = Vec::with_capacity(expected.div_ceil(PAGE_ENTRIES));
    let mut written = 0;
    let mut count: u64 = 0;
    let mut pages = Vec::with_capacity(1 << 20);
    let mut entries = entries.peekable();
    while entries.peek().is_some() {
        let start = pages.len();
        for entry in entries.by_ref().take(PAGE_ENTRIES) {
            let entry = entry?;
            if pages.len() == start {
                fences.push((entry.identity >> 64) as u64);
            }
            filter.insert(entry.identity);
            pages.extend_from_slice(&entry.to_bytes());
            count += 1;
        }
        pages.resize(start + PAGE_BYTES - 4, 0);
        let crc = crc32c::crc32c(&pages[start..]);
        pages.extend_from_slice(&crc.to_le_bytes());
        if pages.len() >= 1 << 20 {
            file.write_at(written, &pages)?;
            written += pages.len() as u64;
            pages.clear();
        }
    }
    let page_count = fences.len() as u64;
    let memory_start = pages.len();
    fences.iter().for_each(|fence| pages.extend_from_slice(&fence.to_le_bytes()));
    filter.blocks.iter().flatten().for_each(|word| pages.extend_from_slice(&word.to_le_bytes()));
    let memory_crc = crc32c::crc32c(&pages[memory_start..]);
    let mut footer = [0; FOOTER_BYTES];
    footer[..8].copy_from_slice(MAGIC);
    footer[8..16].copy_from_slice(&count.to_le_bytes());
    footer[16..24].copy_from_slice(&page_count.to_le_bytes());
    footer[24..32].copy_from_slice(&(filter.blocks.len() as u64).to_le_bytes());
    footer[32..36].copy_from_slice(&memory_crc.to_le_bytes());
    let crc = crc32c::crc32c(&footer[..60]);
    footer[60..].copy_from_slice(&crc.to_le_bytes());
    pages.extend_from_slice(&footer);
    file.write_at(written, &pages)?;
    file.sync()?;
    disk.sync_dir(dir)?;
    Ok(Run { name: name.to_owned(), file, entries: count, fences, filter })
}
