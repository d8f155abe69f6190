//! The log's files: records, letters, segments with their indexes, metadata.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Kind, SEPARATOR, flags, mend, parts, unary};
use crate::clock::UnixMillis;
use crate::gateway::letters::{Entry, Said, block_of, entries, marks};
use crate::letters::{Ledger, Names};
use crate::log::disk::Disk;
use crate::log::disk::simulated::SimulatedDisk;
use crate::log::embedded::inspect::{self, Finding};
use crate::log::embedded::{EmbeddedAppender, EmbeddedLog, LogIdentity, Settings};
use crate::log::meta::{self, MetaError};
use crate::log::record::{self, Record};
use crate::log::{Append, Appender, Block, BlockView, Error, LogReader, Position};
use crate::store::{DimensionSet, Grain, RowKey};

const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);
const KEEP_ALL: Settings = Settings { segment_bytes: 1 << 20, retention_age_ms: None, retention_bytes: None, disk_reserve_bytes: 0 };
/// No log gets as far.
const POSITION_MAX: Position = Position((1 << 62) - 10);
/// Read at once: less than most inputs have.
const READ_BYTES: usize = 2 << 10;

/// Records of a block, or one record under its length.
fn records_in(input: &[u8]) -> (u32, Vec<u8>) {
    let (choice, payload) = flags(input);
    match choice {
        0 => (1, [&(payload.len() as u32).to_le_bytes(), payload].concat()),
        count => (u32::from(count), payload.to_vec()),
    }
}

/// The payload of a block: records or undecodable, one by one.
pub(super) fn records(input: &[u8]) -> Kind {
    let (count, payload) = records_in(input);
    let read: Vec<_> = record::records(&payload, count, RECEIVED).collect();
    assert_eq!(read.len(), count as usize, "each has its position");
    read.iter().flatten().for_each(check_record);
    let whole: Vec<u8> = record::parts(&payload).flatten().copied().collect();
    assert!(payload.starts_with(&whole));
    let parts = |record: &Record<'_>| format!("{} {}", unary(record.measurements().count()), unary(record.dimensions().count()));
    let words: Vec<_> = read.iter().take(4).map(|record| record.as_ref().map_or_else(ToString::to_string, parts)).collect();
    Kind::of(words.join(", "))
}

fn check_record(record: &Record<'_>) {
    assert!(record.measurements().next().is_some(), "it counts somewhere");
    assert!(record.dimensions().eq(record::dimensions(record.dimension_bytes())));
    let shown: serde_json::Value = serde_json::from_slice(&serde_json::to_vec(record).expect("JSON")).expect("JSON");
    assert_eq!(shown["uniqueId"], record.unique_id);
    // It has a row, which can be found again.
    let bucket = u32::try_from(record.time.seconds() / Grain::Hour.seconds()).expect("a bucket");
    for measured in record.measured() {
        let key = RowKey {
            account: record.account,
            meter: measured.meter,
            grain: Grain::Hour,
            bucket,
            customer: record.customer_id,
            partition: 0,
            dimensions: DimensionSet(&measured.dimensions),
        };
        let mut bytes = Vec::new();
        key.write(&mut bytes);
        assert_eq!(RowKey::read(&bytes), Some(key));
    }
}

/// The payload of a block of letters: raw, or (first byte 0) heads and events that are put into records here.
pub(super) fn letters(input: &[u8]) -> Kind {
    let (choice, rest) = flags(input);
    let mut block = Block::new(RECEIVED, 0);
    if choice == 0 {
        for two in parts(rest).chunks(2) {
            let (head, raw) = (two[0], two.get(1).copied().unwrap_or_default());
            block.push(|to| write_letter(to, head, raw));
        }
    } else {
        block.push(|to| to.extend_from_slice(rest));
        (1..choice).for_each(|_| block.push(|_| ()));
    }
    let view = BlockView { first: Position(3), count: block.count(), received: RECEIVED, payload: block.payload() };
    let read: Vec<Entry> = entries(&view).collect();
    assert!(read.iter().all(|entry| (3..3 + u64::from(block.count())).contains(&entry.position.0)));
    for entry in &read {
        check_entry(entry);
    }
    // No writer counts records without a length.
    if block.payload().len() >= 4 * block.count() as usize && !block.is_empty() {
        check_ledger(block);
    }
    let words = read.iter().map(|entry| match &entry.said {
        Said::Letter(letter) => format!("letter {} {}", letter.refusal.code, letter.is_cut),
        Said::Mark(mark) => format!("mark {} {:?}", mark.code, std::mem::discriminant(&mark.became)),
    });
    Kind::of(words.collect::<Vec<_>>().join(" "))
}

fn write_letter(to: &mut Vec<u8>, head: &[u8], raw: &[u8]) {
    to.extend_from_slice(&((5 + head.len() + raw.len()) as u32).to_le_bytes());
    to.push(1);
    to.extend_from_slice(&(head.len() as u32).to_le_bytes());
    to.extend_from_slice(head);
    to.extend_from_slice(raw);
}

fn check_entry(entry: &Entry) {
    let again = match entry.said.clone() {
        Said::Letter(letter) => {
            drop(Names::read(&letter.raw));
            block_of(vec![letter], RECEIVED)
        }
        Said::Mark(mark) => marks(vec![mark], RECEIVED),
    };
    let view = BlockView { first: entry.position, count: 1, received: RECEIVED, payload: again.payload() };
    let read: Vec<_> = entries(&view).map(|entry| entry.said).collect();
    assert_eq!(read, std::slice::from_ref(&entry.said));
}

/// The books of letters take whatever their log has.
fn check_ledger(block: Block) {
    let disk = SimulatedDisk::default();
    let (log, mut appender, _) = open(&disk, identity(&[4; 16])).expect("a new log");
    append(&mut appender, block.clone()).expect("memory");
    let ledger = Ledger::new(log);
    ledger.catch_up().expect("is read");
    append(&mut appender, block).expect("memory");
    ledger.catch_up().expect("is read");
}

fn identity(log_id: &[u8; 16]) -> LogIdentity {
    LogIdentity { log_id: *log_id, name: "events" }
}

fn dir() -> &'static Path {
    Path::new("/log")
}

fn open(disk: &SimulatedDisk, identity: LogIdentity) -> Result<(Arc<EmbeddedLog>, EmbeddedAppender, u64), Error> {
    let (log, appender, recovered) = EmbeddedLog::open(Arc::new(disk.clone()), dir(), identity, KEEP_ALL)?;
    Ok((log, appender, recovered.torn_bytes))
}

/// The position of the block's first record.
fn append(appender: &mut EmbeddedAppender, block: Block) -> Result<Position, Error> {
    let answer = appender.append_and_wait(vec![Append::unattended(block.seal())]).pop().expect("an answer");
    Ok(answer.result?.iter().next().and_then(|place| place.position).expect("a record"))
}

/// Segments with their indexes, in turns: a log as it is found on a disk. The log's id and the files' names are what the segments say.
pub(super) fn segments(input: &[u8]) -> Kind {
    let (choice, rest) = flags(input);
    let files = files(parts(rest), choice & 1 == 1);
    let Some(log_id) = files.first().and_then(|(_, bytes)| bytes.get(12..28)).and_then(|id| id.first_chunk::<16>().copied()) else {
        return Kind::of("no segment");
    };
    let identity = identity(&log_id);
    let disk = SimulatedDisk::default();
    disk.create_dir(dir()).expect("memory");
    files.iter().for_each(|(path, bytes)| disk.put(path, bytes));

    let mut findings = Vec::new();
    let checked = inspect::check(&disk, dir(), &identity, &mut |finding| findings.push(finding));
    let looked = EmbeddedLog::look(Arc::new(disk.clone()), dir(), identity).and_then(|log| read_all(&log));
    for (path, bytes) in &files {
        assert_eq!(disk.read(path).as_ref(), Some(bytes), "looking changes nothing");
    }
    [checked.as_ref().err(), looked.as_ref().err()].into_iter().flatten().for_each(names_its_file);
    let misleads = |finding: &Finding| match finding {
        Finding::Damaged(_) => true,
        Finding::Index { misleads, .. } => *misleads,
        Finding::Torn { .. } | Finding::Stranger { .. } => false,
    };
    let is_sound = !findings.iter().any(misleads);
    if is_sound {
        assert!(looked.is_ok(), "a log without damage is read: {:?}", looked.err());
    }
    let opened = go_on(&disk, identity, is_sound.then_some(&looked));
    let outcome = |result: &Result<_, Error>| result.as_ref().err().map_or("ok".to_owned(), without_names);
    let found: Vec<_> = findings.iter().take(2).map(|finding| format!("{finding:?}")).collect();
    Kind::of(format!("{} {} {}", outcome(&looked.map(drop)), outcome(&opened), found.join(" ").chars().take(60).collect::<String>()))
}

fn files(parts: Vec<&[u8]>, is_mended: bool) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for two in parts.chunks(2) {
        let mut segment = two[0].to_vec();
        if is_mended {
            mend::segment(&mut segment);
        }
        let Some(base) = mend::u64_at(&segment, 28) else { continue };
        let path = dir().join(format!("{base:020}.seg"));
        if files.iter().any(|(known, _)| *known == path) {
            continue;
        }
        let index = path.with_extension("idx");
        files.push((path, segment));
        if let Some(bytes) = two.get(1).filter(|bytes| !bytes.is_empty()) {
            let mut bytes = bytes.to_vec();
            if is_mended {
                mend::sparse_index(&mut bytes);
            }
            files.push((index, bytes));
        }
    }
    files
}

/// Everything of one block that a reader is told.
type Told = (Position, u32, UnixMillis, Vec<u8>);

/// Reads a log from begin to end, as the fold does.
fn read_all(log: &Arc<EmbeddedLog>) -> Result<Vec<Told>, Error> {
    let mut reader = log.reader();
    let (mut next, end) = (log.start(), log.end());
    assert!(next <= end);
    let mut told = Vec::new();
    while next < end {
        let chunk = reader.read(next, READ_BYTES)?;
        for block in chunk.blocks() {
            assert!(block.first == next || told.is_empty(), "positions have no gap");
            let decoded = record::records(block.payload, block.count, block.received).flatten();
            decoded.for_each(|record| check_record(&record));
            assert!(entries(&block).count() <= block.count as usize);
            told.push((block.first, block.count, block.received, block.payload.to_vec()));
            next = Position(block.first.0 + u64::from(block.count));
        }
        assert!(chunk.end() == Some(next) && next <= end, "it goes on");
    }
    Ok(told)
}

/// Opens the log, appends, and opens it again: what was there is there, and what was appended.
fn go_on(disk: &SimulatedDisk, identity: LogIdentity, looked: Option<&Result<Vec<Told>, Error>>) -> Result<(), Error> {
    let (log, mut appender, _) = open(disk, identity).inspect_err(names_its_file)?;
    let before = read_all(&log).inspect_err(names_its_file)?;
    if let Some(Ok(looked)) = looked {
        assert_eq!(*looked, before, "opened for reading only or for good, it says the same");
    }
    if log.end() >= POSITION_MAX {
        return Ok(());
    }
    let mut block = Block::new(RECEIVED, 0);
    block.push(|to| to.extend_from_slice(SEPARATOR));
    let payload = block.payload().to_vec();
    let at = append(&mut appender, block).inspect_err(names_its_file)?;
    appender.close().inspect_err(names_its_file)?;
    drop((log, appender));
    let (log, ..) = open(disk, identity).expect("closed in good order");
    let mut expected = before;
    expected.push((at, 1, RECEIVED, payload));
    assert_eq!(read_all(&log).expect("closed in good order"), expected);
    Ok(())
}

fn names_its_file(error: &Error) {
    match error {
        Error::Corrupt { file, what, .. } => assert!(file.starts_with("/log/") && !what.is_empty(), "{error}"),
        Error::Newer { file, .. } => assert!(file.starts_with("/log/"), "{error}"),
        Error::Full
        | Error::Closed(_)
        | Error::Unavailable(_)
        | Error::Unconfirmed(_)
        | Error::Stopping
        | Error::OutOfRange { .. }
        | Error::Io { .. } => panic!("not of a file: {error}"),
    }
}

fn without_names(error: &Error) -> String {
    match error {
        Error::Corrupt { what, .. } => what.clone(),
        other => other.to_string(),
    }
}

/// The metadata of a log.
pub(super) fn meta(input: &[u8]) -> Kind {
    let (choice, text) = flags(input);
    let mut bytes = text.to_vec();
    if choice & 1 == 1 {
        mend::meta(&mut bytes);
    }
    let disk = SimulatedDisk::default();
    disk.create_dir(dir()).expect("memory");
    disk.put(&dir().join(meta::FILE), &bytes);
    match meta::read(&disk, dir()) {
        Ok(found) => {
            let found = found.expect("a file is there");
            let again = meta::open_or_create(&disk, dir(), found.fold).expect("as it says");
            assert_eq!((again.log_id, again.hash_key, again.fold), (found.log_id, found.hash_key, found.fold));
            let id: String = found.log_id.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(memchr::memmem::find(&bytes.to_ascii_lowercase(), id.as_bytes()).is_some(), "the id is the one that stands there");
            Kind::of(format!("{:?}", found.fold))
        }
        Err(error) => {
            assert!(matches!(error, MetaError::Damaged(_) | MetaError::Newer { .. }), "{error}");
            Kind::of(error)
        }
    }
}
