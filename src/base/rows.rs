//! The file `rows` of a base: written from a snapshot, read item by item, in bounded memory.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use super::{Error, io_at};
use crate::log::Position;
use crate::store::digest::RowsDigest;
use crate::store::{self, Conflict, Item, Row, Snapshot};

const MAGIC: &[u8; 8] = b"TGBASE01";
const ROW: u8 = 1;
const CONFLICT: u8 = 2;
/// A frame is written when it has so many bytes.
const FRAME_BYTES: usize = 256 << 10;
/// No frame is larger: a row has at most some 80 KiB, an overflow row some 60.
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// What was written or read.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) digest: RowsDigest,
    pub(super) conflicts: u64,
    pub(super) bytes: u64,
}

/// Hands over every item; checks the frames on the way.
pub(super) fn visit(file: &Path, visit: &mut dyn FnMut(Item<'_>) -> Result<(), store::Error>) -> Result<Contents, Error> {
    let damaged = |what: &str| Error::Damaged { file: file.to_owned(), what: what.into() };
    let failed = |error: FrameError| match error {
        FrameError::Io(error) => Error::Io { file: file.to_owned(), error },
        FrameError::Damaged(what) => damaged(&what),
    };
    let mut from = BufReader::new(File::open(file).map_err(io_at(file))?);
    let mut magic = [0; 8];
    from.read_exact(&mut magic).map_err(|error| failed(error.into()))?;
    if &magic != MAGIC {
        return Err(damaged("it does not begin as the rows of a base do"));
    }
    let mut read = Contents::default();
    let mut items = Vec::new();
    loop {
        read_frame(&mut from, &mut items).map_err(failed)?;
        if items.is_empty() {
            return Ok(read);
        }
        let mut rest = items.as_slice();
        while !rest.is_empty() {
            let (item, after) = FrameItem::read(rest).ok_or_else(|| damaged("an item cannot be read"))?;
            rest = after;
            match item {
                FrameItem::Row(key, row) => {
                    read.digest.add(key, &row);
                    visit(Item::Row(key, &row))?;
                }
                FrameItem::Conflict(conflict) => {
                    read.conflicts += 1;
                    visit(Item::Conflict(conflict))?;
                }
            }
        }
    }
}

/// Writes rows and conflicts of a snapshot, durably. `go_on` is asked at each frame.
pub(super) fn write(file: &Path, snapshot: &dyn Snapshot, go_on: &dyn Fn() -> bool) -> Result<Contents, Error> {
    let failed = |error: io::Error| store::Error::Failed(format!("{}: {error}", file.display()));
    let mut to = File::create_new(file).map_err(io_at(file))?;
    to.write_all(MAGIC).map_err(io_at(file))?;
    let mut written = Contents { bytes: MAGIC.len() as u64, ..Contents::default() };
    let mut frame = Vec::with_capacity(FRAME_BYTES + (128 << 10));
    let mut row_bytes = Vec::new();
    let mut is_stopped = false;
    let visited = snapshot.visit(&mut |item| {
        match item {
            Item::Row(key, row) => {
                written.digest.add(key, row);
                row_bytes.clear();
                row.write(&mut row_bytes);
                frame.push(ROW);
                for bytes in [key, &row_bytes] {
                    frame.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                    frame.extend_from_slice(bytes);
                }
            }
            Item::Conflict(Conflict { account, partition, position, first }) => {
                written.conflicts += 1;
                frame.push(CONFLICT);
                frame.extend_from_slice(&account.to_le_bytes());
                frame.extend_from_slice(&partition.to_le_bytes());
                frame.extend_from_slice(&position.0.to_le_bytes());
                frame.extend_from_slice(&first.0.to_le_bytes());
            }
            Item::Document(..) => {}
        }
        if frame.len() < FRAME_BYTES {
            return Ok(());
        }
        is_stopped = !go_on();
        if is_stopped {
            return Err(store::Error::Failed("stopping".into()));
        }
        write_frame(&mut to, &mut frame, &mut written.bytes).map_err(failed)
    });
    if is_stopped {
        return Err(Error::Stopping);
    }
    visited?;
    if !frame.is_empty() {
        write_frame(&mut to, &mut frame, &mut written.bytes).map_err(io_at(file))?;
    }
    write_frame(&mut to, &mut frame, &mut written.bytes).and_then(|()| to.sync_all()).map_err(io_at(file))?;
    Ok(written)
}

fn write_frame(to: &mut File, items: &mut Vec<u8>, written: &mut u64) -> io::Result<()> {
    let mut head = [0; 8];
    head[..4].copy_from_slice(&(items.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&crc32c::crc32c(items).to_le_bytes());
    to.write_all(&head)?;
    to.write_all(items)?;
    *written += (head.len() + items.len()) as u64;
    items.clear();
    Ok(())
}

enum FrameError {
    Io(io::Error),
    Damaged(String),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("the file ends too soon".into()),
            _ => Self::Io(error),
        }
    }
}

fn read_frame(from: &mut impl Read, items: &mut Vec<u8>) -> Result<(), FrameError> {
    let mut head = [0; 8];
    from.read_exact(&mut head)?;
    let (bytes, crc) = (u32_at(&head, 0), u32_at(&head, 4));
    if bytes > FRAME_BYTES_MAX {
        return Err(FrameError::Damaged(format!("a frame says that it has {bytes} bytes")));
    }
    items.resize(bytes as usize, 0);
    from.read_exact(items)?;
    if crc32c::crc32c(items) != crc {
        return Err(FrameError::Damaged("the checksum of a frame does not fit".into()));
    }
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

/// One item of a frame.
enum FrameItem<'f> {
    Row(&'f [u8], Row),
    Conflict(Conflict),
}

impl<'f> FrameItem<'f> {
    fn read(bytes: &'f [u8]) -> Option<(Self, &'f [u8])> {
        let (kind, rest) = bytes.split_first()?;
        match *kind {
            ROW => {
                let (key, rest) = sized(rest)?;
                let (row, rest) = sized(rest)?;
                Some((Self::Row(key, Row::read(row)?), rest))
            }
            CONFLICT => {
                let (fixed, rest) = rest.split_first_chunk::<24>()?;
                let wide = |at: usize| fixed[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight));
                let conflict = Conflict {
                    account: u32_at(fixed, 0),
                    partition: u32_at(fixed, 4),
                    position: Position(wide(8)),
                    first: Position(wide(16)),
                };
                Some((Self::Conflict(conflict), rest))
            }
            _ => None,
        }
    }
}

fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}
