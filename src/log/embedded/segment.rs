//! The files of the embedded log, little-endian.
//!
//! ```text
//! <base, 20 digits>.seg
//!   0  "TGSEG001"
//!   8  u32 partition (0)
//!  12  u128 log id
//!  28  u64 base: position of the first record
//!  36  u32 CRC-32C of bytes 0 to 35, then zeros up to 64
//!   blocks, one after the other:
//!   0  "TGB1"
//!   4  u16 version of the records      6  u16 zero
//!   8  u32 bytes of records           12  u32 number of records
//!  16  u64 position of the first      24  i64 receive time, ms
//!  32  u64 bytes of this file that were durable when the block was written
//!  40  u32 CRC-32C of the records     44  u32 CRC-32C of bytes 0 to 43
//!   records (log::record)
//!
//! <base>.idx, written when a segment is closed in good order:
//!   0  "TGIDX001"
//!   8  u64 position behind the last record   16  u64 bytes of the segment
//!  24  i64 newest receive time, ms           32  u32 number of entries
//!  36  entries: u64 position, u64 offset of the block that begins with it, i64 newest receive time before it in this segment
//!   …  u32 CRC-32C of everything before
//! ```
//!
//! The durable length in a block tells a torn tail from damage: bytes before it were synced, so they must be right.

use std::path::{Path, PathBuf};

use super::super::disk::{Disk, replace_file};
use super::super::{BLOCK_BYTES_MAX, BLOCK_HEADER_BYTES, Position};
use crate::clock::UnixMillis;

pub(super) const SEGMENT_HEADER_BYTES: usize = 64;
const SEGMENT_MAGIC: &[u8; 8] = b"TGSEG001";
pub(super) const BLOCK_MAGIC: &[u8; 4] = b"TGB1";
const INDEX_MAGIC: &[u8; 8] = b"TGIDX001";
const ENTRY_BYTES: usize = 24;
/// A record's length.
const RECORD_BYTES_MIN: u64 = 4;
/// No log gets as far: what lies behind can be added to.
const POSITION_MAX: Position = Position(1 << 62);
/// One index entry for about so many bytes of segment.
const INDEX_STRIDE_BYTES: u64 = 64 << 10;

pub(super) fn path(dir: &Path, base: Position) -> PathBuf {
    dir.join(format!("{:020}.seg", base.0))
}

/// The base that a segment's name says.
pub(super) fn base_of(segment: &Path) -> Option<Position> {
    segment.file_stem()?.to_str()?.parse().ok().map(Position)
}

pub(super) fn index_path(segment: &Path) -> PathBuf {
    segment.with_extension("idx")
}

pub(super) struct SegmentHeader {
    pub(super) log_id: [u8; 16],
    pub(super) base: Position,
}

impl SegmentHeader {
    pub(super) fn to_bytes(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[12..28].copy_from_slice(&self.log_id);
        bytes[28..36].copy_from_slice(&self.base.0.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes.first_chunk::<SEGMENT_HEADER_BYTES>().ok_or("the file is shorter than its header")?;
        if &bytes[..8] != SEGMENT_MAGIC {
            return Err("the file does not begin as a segment does".into());
        }
        if crc32c::crc32c(&bytes[..36]) != u32_at(bytes, 36) {
            return Err("the checksum of the file's header does not fit".into());
        }
        let mut log_id = [0; 16];
        log_id.copy_from_slice(&bytes[12..28]);
        let base = Position(u64_at(bytes, 28));
        if base > POSITION_MAX {
            return Err("the file's header makes no sense".into());
        }
        Ok(Self { log_id, base })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) version: u16,
    pub(super) payload_bytes: u32,
    pub(super) count: u32,
    pub(super) first: Position,
    pub(super) received: UnixMillis,
    pub(super) synced: u64,
    pub(super) payload_crc: u32,
}

impl BlockHeader {
    pub(super) fn to_bytes(self) -> [u8; BLOCK_HEADER_BYTES] {
        let mut bytes = [0; BLOCK_HEADER_BYTES];
        bytes[..4].copy_from_slice(BLOCK_MAGIC);
        bytes[4..6].copy_from_slice(&self.version.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.count.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.received.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.synced.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn read(bytes: &[u8; BLOCK_HEADER_BYTES]) -> Result<Self, String> {
        if &bytes[..4] != BLOCK_MAGIC || crc32c::crc32c(&bytes[..44]) != u32_at(bytes, 44) {
            return Err("no block begins here".into());
        }
        let header = Self {
            version: u16::from_le_bytes([bytes[4], bytes[5]]),
            payload_bytes: u32_at(bytes, 8),
            count: u32_at(bytes, 12),
            first: Position(u64_at(bytes, 16)),
            received: UnixMillis(u64_at(bytes, 24).cast_signed()),
            synced: u64_at(bytes, 32),
            payload_crc: u32_at(bytes, 40),
        };
        // Before a record comes its length. Who counted what is not there would do so four billion times.
        let is_counted = header.count > 0 && u64::from(header.count) * RECORD_BYTES_MIN <= u64::from(header.payload_bytes);
        if !is_counted || header.payload_bytes as usize > BLOCK_BYTES_MAX || header.first > POSITION_MAX {
            return Err("the block's header makes no sense".into());
        }
        Ok(header)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

/// A block that can be gone to without reading what comes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Landmark {
    pub(super) first: Position,
    pub(super) offset: u64,
    /// Newest receive time of the blocks before it in the segment.
    pub(super) newest_before: UnixMillis,
}

impl Landmark {
    /// Where the blocks of a segment begin.
    pub(super) fn begin(base: Position) -> Self {
        Self { first: base, offset: SEGMENT_HEADER_BYTES as u64, newest_before: UnixMillis(i64::MIN) }
    }
}

/// Some blocks, about one every 64 KiB.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SparseIndex {
    entries: Vec<Landmark>,
}

/// How a segment that was closed in good order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sealed {
    pub(super) end: Position,
    pub(super) bytes: u64,
    pub(super) newest: UnixMillis,
}

impl SparseIndex {
    /// Takes note of a block, if the last entry is far enough away.
    pub(super) fn note(&mut self, block: Landmark) {
        if self.entries.last().is_none_or(|last| block.offset >= last.offset + INDEX_STRIDE_BYTES) {
            self.entries.push(block);
        }
    }

    /// The last noted block that does not begin behind `position`.
    pub(super) fn before(&self, position: Position) -> Option<Landmark> {
        let after = self.entries.partition_point(|block| block.first <= position);
        after.checked_sub(1).map(|at| self.entries[at])
    }

    pub(super) fn to_bytes(&self, sealed: &Sealed) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(40 + ENTRY_BYTES * self.entries.len());
        bytes.extend_from_slice(INDEX_MAGIC);
        bytes.extend_from_slice(&sealed.end.0.to_le_bytes());
        bytes.extend_from_slice(&sealed.bytes.to_le_bytes());
        bytes.extend_from_slice(&sealed.newest.0.to_le_bytes());
        bytes.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        for block in &self.entries {
            bytes.extend_from_slice(&block.first.0.to_le_bytes());
            bytes.extend_from_slice(&block.offset.to_le_bytes());
            bytes.extend_from_slice(&block.newest_before.0.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` if the bytes are not what was written.
    pub(super) fn read(bytes: &[u8]) -> Option<(Self, Sealed)> {
        let (rest, crc) = bytes.split_last_chunk::<4>()?;
        if rest.len() < 36 || &rest[..8] != INDEX_MAGIC || crc32c::crc32c(rest) != u32::from_le_bytes(*crc) {
            return None;
        }
        let sealed = Sealed { end: Position(u64_at(rest, 8)), bytes: u64_at(rest, 16), newest: UnixMillis(u64_at(rest, 24).cast_signed()) };
        let (entries, []) = rest[36..].as_chunks::<ENTRY_BYTES>() else { return None };
        let read = |entry: &[u8; ENTRY_BYTES]| Landmark {
            first: Position(u64_at(entry, 0)),
            offset: u64_at(entry, 8),
            newest_before: UnixMillis(u64_at(entry, 16).cast_signed()),
        };
        let is_counted = entries.len() == u32_at(rest, 32) as usize;
        let index = Self { entries: entries.iter().map(read).collect() };
        (is_counted && index.leads_into(&sealed)).then_some((index, sealed))
    }

    /// Whether it begins where the blocks do, and goes on from there to the end.
    fn leads_into(&self, sealed: &Sealed) -> bool {
        let (first, last) = (self.entries.first(), self.entries.last());
        first.is_none_or(|first| first.offset == SEGMENT_HEADER_BYTES as u64)
            && self.entries.is_sorted_by(|a, b| a.first < b.first && a.offset < b.offset)
            && last.map_or(sealed.bytes == SEGMENT_HEADER_BYTES as u64, |last| last.first < sealed.end && last.offset < sealed.bytes)
            && sealed.end <= POSITION_MAX
    }

    /// Whether it can be that of a segment: a block stands at its begin, unless nothing is in it.
    pub(super) fn is_of(&self, base: Position, sealed: &Sealed) -> bool {
        self.entries.first().map_or(sealed.end, |first| first.first) == base
    }
}

pub(super) fn write_index(disk: &dyn Disk, dir: &Path, segment: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let path = index_path(segment);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    replace_file(disk, dir, &name, bytes)
}
