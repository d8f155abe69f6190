//! The embedded store: one redb file in the data directory.
//!
//! redb syncs every commit and keeps readers on the snapshot that they began with. Tables: `rows` and `progress`, written
//! by the materializer in one transaction; `documents`, written by the API. The number of rows is redb's own.
//!
//! redb checks its pages when it repairs a file, not when it reads one, so a value says itself whether it is what was written
//! under its key: it ends with the CRC-32C of both (u32, little-endian).

#[cfg(test)]
mod bit_flips;
mod file;
#[cfg(test)]
mod power_loss;
mod whole;

use std::collections::BTreeSet;
use std::ops::{Bound, Range};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Receiver;
use redb::{Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{
    CONFLICTS_MAX, Change, Commit, Conflict, Error, Item, KeyRange, Kind, Progress, Row, RowKey, RowSelection, Rows, Shared, SharedChanges,
    Snapshot, Store, Version, Visit,
};
use crate::clock::UnixMillis;
use crate::log::Position;
use crate::log::disk::room::{NoRoom, Room, WaitingDisk};
use crate::log::disk::{Disk, RealDisk, is_full};
use file::StoreFile;
pub use whole::Source;
use whole::visit_documents;

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const PROGRESS: TableDefinition<'_, u32, (u64, i64)> = TableDefinition::new("progress");
/// (account, partition, position) to the position of the first.
const CONFLICTS: TableDefinition<'_, (u32, u32, u64), u64> = TableDefinition::new("conflicts");
const DOCUMENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("documents");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Version of the tables' layout.
const FORMAT: u64 = 2;
/// Pages that redb keeps in memory.
const CACHE_BYTES: usize = 128 << 20;

/// Rows and documents in a redb file.
pub struct EmbeddedStore {
    database: Database,
    room: Option<Arc<Room>>,
    /// Of the shared documents; locked while they are changed. Begins with 1 at each start: no copy of them outlives the process.
    version: Mutex<Version>,
}

impl EmbeddedStore {
    /// Opens the file, making it if there is none. After a crash redb repairs itself to the last commit.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the file is not a store of this format, [`Error::Failed`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_on(&RealDisk, path, None)
    }

    /// As [`EmbeddedStore::open`], on the disk that `room` is about: what finds no room waits for it.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`].
    pub fn open_with_room(room: &Arc<Room>, path: &Path) -> Result<Self, Error> {
        Self::open_on(&WaitingDisk::new(room.clone()), path, Some(room.clone()))
    }

    /// As [`EmbeddedStore::open`], on any disk.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`].
    pub fn open_on(disk: &dyn Disk, path: &Path, room: Option<Arc<Room>>) -> Result<Self, Error> {
        let io = |error: std::io::Error| Error::Failed(format!("{}: {error}", path.display()));
        if let Some(file) = StoreFile::open(disk, path).map_err(io)? {
            return Self::open_file(file, path, room);
        }
        // redb makes its file in several steps. Under another name, so that a start that is cut there leaves no half of a store.
        let temporary = path.with_extension("tmp");
        let store = Self::open_file(StoreFile::create(disk, &temporary).map_err(io)?, &temporary, room)?;
        // Not only rows that the log could give again are going to be in it: it must not be gone after a power cut.
        disk.rename(&temporary, path).and_then(|()| path.parent().map_or(Ok(()), |dir| disk.sync_dir(dir))).map_err(io)?;
        Ok(store)
    }

    fn open_file(file: StoreFile, path: &Path, room: Option<Arc<Room>>) -> Result<Self, Error> {
        // Without the check redb trusts what it reads: a flipped bit in a key hides rows, and the row's own checksum never gets to
        // be looked at. It reads the whole file, as a repair after a crash does anyway.
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let opened = builder.create_with_backend(file);
        let database = opened.map_err(|error| cannot_open(path, error))?;
        let store = Self { database, room, version: Mutex::new(1) };
        store.make_tables()?;
        Ok(store)
    }

    fn make_tables(&self) -> Result<(), Error> {
        let transaction = self.begin_write()?;
        {
            transaction.open_table(ROWS).map_err(failed)?;
            transaction.open_table(PROGRESS).map_err(failed)?;
            transaction.open_table(CONFLICTS).map_err(failed)?;
            transaction.open_table(DOCUMENTS).map_err(failed)?;
            let mut meta = transaction.open_table(META).map_err(failed)?;
            let found = meta.get("format").map_err(failed)?.map(|format| format.value());
            match found {
                None => drop(meta.insert("format", FORMAT).map_err(failed)?),
                Some(FORMAT) => {}
                Some(other) => return Err(Error::Damaged(format!("the store has format {other}, this binary knows {FORMAT}"))),
            }
        }
        transaction.commit().map_err(failed)
    }

    fn version(&self) -> MutexGuard<'_, Version> {
        self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody changes a document without waiting for the answer: it does not wait for room, nor behind a commit that does.
    fn refuse_without_room(&self) -> Result<(), Error> {
        match &self.room {
            Some(room) if room.is_waited_for() || !room.has_some() => Err(Error::NoRoom(NoRoom.to_string())),
            _ => Ok(()),
        }
    }

    fn begin_write(&self) -> Result<redb::WriteTransaction, Error> {
        let mut transaction = self.database.begin_write().map_err(failed)?;
        transaction.set_durability(Durability::Immediate).map_err(failed)?;
        Ok(transaction)
    }
}

fn cannot_open(path: &Path, error: redb::DatabaseError) -> Error {
    match error {
        // redb says so of a file that is no database.
        redb::DatabaseError::Storage(redb::StorageError::Io(error)) if error.kind() != std::io::ErrorKind::InvalidData => {
            Error::Failed(format!("{}: {error}", path.display()))
        }
        other => Error::Damaged(format!("{}: {other}", path.display())),
    }
}

fn failed(error: impl Into<redb::Error>) -> Error {
    match error.into() {
        error @ redb::Error::Corrupted(_) => Error::Damaged(error.to_string()),
        redb::Error::Io(error) if is_full(&error) => Error::NoRoom(error.to_string()),
        error => Error::Failed(error.to_string()),
    }
}

fn read_progress(stored: Option<(u64, i64)>) -> Progress {
    stored.map_or(Progress { next: Position(0), log_time: UnixMillis(i64::MIN) }, |(next, log_time)| Progress {
        next: Position(next),
        log_time: UnixMillis(log_time),
    })
}

fn document_key(kind: u8, account: u32, id: &str) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&account.to_be_bytes());
    key.extend_from_slice(id.as_bytes());
    key
}

/// Appends the checksum of a key and its value.
fn seal(key: &[u8], value: &mut Vec<u8>) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), value);
    value.extend_from_slice(&crc.to_le_bytes());
}

/// The value that was sealed under a key; `None` if it is not what was written.
fn open_sealed<'v>(key: &[u8], sealed: &'v [u8]) -> Option<&'v [u8]> {
    let (value, crc) = sealed.split_last_chunk::<4>()?;
    (crc32c::crc32c_append(crc32c::crc32c(key), value) == u32::from_le_bytes(*crc)).then_some(value)
}

fn open_document(id: &str, key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let document = open_sealed(key, sealed).map(<[u8]>::to_vec);
    document.ok_or_else(|| Error::Damaged(format!("the document {id} is not what was written; restore the store from a backup")))
}

fn open_row(key: &[u8], sealed: &[u8]) -> Result<Row, Error> {
    open_sealed(key, sealed).and_then(Row::read).ok_or_else(damaged_row)
}

fn read_document_key(key: &[u8]) -> Option<(u8, u32, &str)> {
    let (kind, rest) = key.split_first()?;
    let (account, id) = rest.split_first_chunk::<4>()?;
    Some((*kind, u32::from_be_bytes(*account), std::str::from_utf8(id).ok()?))
}

fn read_conflict((account, partition, position): (u32, u32, u64), first: u64) -> Conflict {
    Conflict { account, partition, position: Position(position), first: Position(first) }
}

impl Store for EmbeddedStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let rows = transaction.open_table(ROWS).map_err(failed)?;
        Ok(Box::new(EmbeddedSnapshot { transaction, rows }))
    }

    fn commit(&self, commit: &Commit) -> Result<(), Error> {
        self.room.as_ref().map_or(Ok(()), |room| room.wait()).map_err(|error| Error::NoRoom(error.to_string()))?;
        let transaction = self.begin_write()?;
        {
            let mut progress = transaction.open_table(PROGRESS).map_err(failed)?;
            let found = read_progress(progress.get(commit.partition).map_err(failed)?.map(|stored| stored.value()));
            if found != commit.expected {
                return Err(Error::Fenced { partition: commit.partition, expected: commit.expected.next, found: found.next });
            }
            progress.insert(commit.partition, (commit.reached.next.0, commit.reached.log_time.0)).map_err(failed)?;
            let mut rows = transaction.open_table(ROWS).map_err(failed)?;
            let mut bytes = Vec::with_capacity(128);
            for (key, row) in commit.rows.iter() {
                bytes.clear();
                bytes.extend_from_slice(row);
                seal(key, &mut bytes);
                rows.insert(key, bytes.as_slice()).map_err(failed)?;
            }
            keep_conflicts(&transaction, &commit.conflicts)?;
        }
        transaction.commit().map_err(failed)
    }

    fn row_count(&self) -> Result<u64, Error> {
        let transaction = self.database.begin_read().map_err(failed)?;
        transaction.open_table(ROWS).map_err(failed)?.len().map_err(failed)
    }

    fn document(&self, kind: Kind, account: u32, id: &str) -> Result<Option<Vec<u8>>, Error> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let documents = transaction.open_table(DOCUMENTS).map_err(failed)?;
        let found = documents.get(document_key(kind.code(), account, id).as_slice()).map_err(failed)?;
        found.map(|bytes| open_document(id, document_key(kind.code(), account, id).as_slice(), bytes.value())).transpose()
    }

    fn documents(&self, kind: Kind, account: u32) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.documents_after(kind, account, None, usize::MAX)
    }

    fn documents_after(&self, kind: Kind, account: u32, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let documents = transaction.open_table(DOCUMENTS).map_err(failed)?;
        let prefix = document_key(kind.code(), account, "");
        let first = match after {
            Some(after) => Bound::Excluded(document_key(kind.code(), account, after)),
            None => Bound::Included(prefix.clone()),
        };
        let mut found = Vec::new();
        for entry in documents.range::<&[u8]>((first.as_ref().map(Vec::as_slice), Bound::Unbounded)).map_err(failed)?.take(limit) {
            let (key, bytes) = entry.map_err(failed)?;
            let Some(id) = key.value().strip_prefix(prefix.as_slice()) else { break };
            let id = std::str::from_utf8(id).map_err(|_| Error::Damaged("a document's id is not UTF-8".into()))?;
            found.push((id.to_owned(), open_document(id, key.value(), bytes.value())?));
        }
        Ok(found)
    }

    fn change_document(&self, kind: Kind, account: u32, id: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Change) -> Result<(), Error> {
        self.refuse_without_room()?;
        let mut version = kind.is_shared().then(|| self.version());
        let transaction = self.begin_write()?;
        {
            let mut documents = transaction.open_table(DOCUMENTS).map_err(failed)?;
            let key = document_key(kind.code(), account, id);
            let stored = documents.get(key.as_slice()).map_err(failed)?;
            let stored = stored.map(|bytes| open_document(id, &key, bytes.value())).transpose()?;
            // No other node is there to be told.
            let Some((body, _)) = change(stored.as_deref()).outcome() else { return Ok(()) };
            match body {
                Some(mut bytes) => {
                    seal(&key, &mut bytes);
                    drop(documents.insert(key.as_slice(), bytes.as_slice()).map_err(failed)?);
                }
                None => drop(documents.remove(key.as_slice()).map_err(failed)?),
            }
        }
        // Also if the commit fails: whether it happened is unknown then, and every copy is to be made again.
        if let Some(version) = &mut version {
            **version += 1;
        }
        transaction.commit().map_err(failed)
    }

    fn shared_since(&self, version: Version) -> Result<SharedChanges, Error> {
        // Locked for as long as it takes: what is read is of this version.
        let current = self.version();
        let mut documents = Vec::new();
        if version < *current {
            for kind in Kind::SHARED {
                let found = self.documents(kind, 0)?.into_iter();
                documents.extend(found.map(|(id, body)| Shared { kind, account: 0, id, body: Some(body) }));
            }
        }
        Ok(SharedChanges { version: *current, is_all: version < *current, documents })
    }

    fn change_shared(&self, version: Version, changed: &[Shared]) -> Result<Option<Version>, Error> {
        self.refuse_without_room()?;
        let mut current = self.version();
        if *current != version {
            return Ok(None);
        }
        let transaction = self.begin_write()?;
        {
            let mut documents = transaction.open_table(DOCUMENTS).map_err(failed)?;
            for Shared { kind, account, id, body } in changed {
                let key = document_key(kind.code(), *account, id);
                match body.clone() {
                    Some(mut body) => {
                        seal(&key, &mut body);
                        drop(documents.insert(key.as_slice(), body.as_slice()).map_err(failed)?);
                    }
                    None => drop(documents.remove(key.as_slice()).map_err(failed)?),
                }
            }
        }
        *current += 1;
        transaction.commit().map_err(failed)?;
        Ok(Some(*current))
    }

    fn watch(&self) -> Option<Receiver<()>> {
        None
    }
}

/// Adds conflicts and forgets the oldest of each account that has too many.
fn keep_conflicts(transaction: &redb::WriteTransaction, new: &[Conflict]) -> Result<(), Error> {
    if new.is_empty() {
        return Ok(());
    }
    let mut kept = transaction.open_table(CONFLICTS).map_err(failed)?;
    let mut owners = BTreeSet::new();
    for conflict in new {
        owners.insert((conflict.account, conflict.partition));
        kept.insert((conflict.account, conflict.partition, conflict.position.0), conflict.first.0).map_err(failed)?;
    }
    for (account, partition) in owners {
        let all = conflicts_before(account, partition, Position(u64::MAX));
        let oldest_kept = kept.range(all).map_err(failed)?.rev().nth(CONFLICTS_MAX - 1).transpose().map_err(failed)?;
        if let Some(position) = oldest_kept.map(|(key, _)| Position(key.value().2)) {
            kept.retain_in(conflicts_before(account, partition, position), |_, _| false).map_err(failed)?;
        }
    }
    Ok(())
}

fn conflicts_before(account: u32, partition: u32, before: Position) -> Range<(u32, u32, u64)> {
    (account, partition, 0)..(account, partition, before.0)
}

struct EmbeddedSnapshot {
    transaction: ReadTransaction,
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

fn damaged_row() -> Error {
    Error::Damaged("a row cannot be read; `tollgate rebuild` makes the rows again from the log".into())
}

impl Rows for EmbeddedSnapshot {
    fn scan(&self, selection: &RowSelection, visit: &mut Visit<'_>) -> Result<(), Error> {
        for (from, to) in selection.key_ranges() {
            for entry in self.rows.range(from.as_slice()..to.as_slice()).map_err(failed)? {
                let (key, bytes) = entry.map_err(failed)?;
                let row = open_row(key.value(), bytes.value())?;
                visit(RowKey::read(key.value()).ok_or_else(damaged_row)?, &row)?;
            }
        }
        Ok(())
    }

    fn first_key(&self, ranges: &[KeyRange]) -> Result<Option<Vec<u8>>, Error> {
        for (from, to) in ranges {
            if let Some(entry) = self.rows.range(from.as_slice()..to.as_slice()).map_err(failed)?.next() {
                let (key, bytes) = entry.map_err(failed)?;
                // The row says whether its key is what was written.
                open_row(key.value(), bytes.value())?;
                return Ok(Some(key.value().to_vec()));
            }
        }
        Ok(None)
    }
}

impl Snapshot for EmbeddedSnapshot {
    fn row(&self, key: &[u8]) -> Result<Option<Row>, Error> {
        match self.rows.get(key).map_err(failed)? {
            Some(bytes) => open_row(key, bytes.value()).map(Some),
            None => Ok(None),
        }
    }

    fn count(&self, prefix: &[u8]) -> Result<u64, Error> {
        let mut count = 0;
        for entry in self.rows.range(prefix..).map_err(failed)? {
            let (key, _) = entry.map_err(failed)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            count += 1;
        }
        Ok(count)
    }

    fn progress(&self, partition: u32) -> Result<Progress, Error> {
        let progress = self.transaction.open_table(PROGRESS).map_err(failed)?;
        Ok(read_progress(progress.get(partition).map_err(failed)?.map(|stored| stored.value())))
    }

    fn conflicts(&self, account: u32, partition: u32, before: Position, limit: usize) -> Result<Vec<Conflict>, Error> {
        let kept = self.transaction.open_table(CONFLICTS).map_err(failed)?;
        let newest_first = kept.range(conflicts_before(account, partition, before)).map_err(failed)?.rev().take(limit);
        newest_first.map(|entry| entry.map(|(key, first)| read_conflict(key.value(), first.value())).map_err(failed)).collect()
    }

    fn visit(&self, visit: &mut dyn FnMut(Item<'_>) -> Result<(), Error>) -> Result<(), Error> {
        for entry in self.rows.iter().map_err(failed)? {
            let (key, bytes) = entry.map_err(failed)?;
            visit(Item::Row(key.value(), &open_row(key.value(), bytes.value())?))?;
        }
        for entry in self.transaction.open_table(CONFLICTS).map_err(failed)?.iter().map_err(failed)? {
            let (key, first) = entry.map_err(failed)?;
            visit(Item::Conflict(read_conflict(key.value(), first.value())))?;
        }
        visit_documents(&self.transaction, visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMicros;
    use crate::event::Amount;
    use crate::store::{DimensionSet, Grain};

    fn open() -> (tempfile::TempDir, EmbeddedStore) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = EmbeddedStore::open(&dir.path().join("store.redb")).expect("opens");
        (dir, store)
    }

    fn keyed(account: u32, meter: &str, bucket: u32, customer: &str) -> (Vec<u8>, Row) {
        let key = RowKey { account, meter, grain: Grain::Day, bucket, customer, partition: 0, dimensions: DimensionSet(&[0]) };
        let mut bytes = Vec::new();
        key.write(&mut bytes);
        (bytes, Row::first(Amount::ONE, UnixMicros(5), "u-1"))
    }

    fn commit(expected: u64, reached: u64, rows: Vec<(Vec<u8>, Row)>) -> Commit {
        let progress = |next| match next {
            0 => read_progress(None),
            next => Progress { next: Position(next), log_time: UnixMillis(7) },
        };
        Commit {
            partition: 0,
            expected: progress(expected),
            reached: progress(reached),
            rows: rows.into_iter().collect(),
            conflicts: Vec::new(),
        }
    }

    #[test]
    fn a_value_that_is_not_what_was_written_under_its_key_is_an_error() {
        let (_dir, store) = open();
        let rows = [keyed(1, "m", 3, "a"), keyed(1, "m", 3, "b"), keyed(1, "m", 3, "c")];
        store.commit(&commit(0, 10, rows.to_vec())).expect("commits");
        store.change_document(Kind::Customer, 1, "a", &mut |_| Change::Put(b"{}".to_vec())).expect("written");
        let transaction = store.begin_write().expect("begins");
        {
            let mut stored = transaction.open_table(ROWS).expect("opens");
            let of_a = stored.get(rows[0].0.as_slice()).expect("read").expect("is there").value().to_vec();
            // Another row's value, and one with a changed count.
            stored.insert(rows[1].0.as_slice(), of_a.as_slice()).expect("written");
            let mut changed = of_a;
            changed[1] ^= 1;
            stored.insert(rows[2].0.as_slice(), changed.as_slice()).expect("written");
            let mut documents = transaction.open_table(DOCUMENTS).expect("opens");
            documents.insert(document_key(Kind::Customer.code(), 1, "a").as_slice(), b"[]____".as_slice()).expect("written");
        }
        transaction.commit().expect("commits");
        let snapshot = store.snapshot().expect("a snapshot");
        let damaged = |key: usize| matches!(snapshot.row(&rows[key].0), Err(Error::Damaged(_)));
        assert_eq!([damaged(0), damaged(1), damaged(2)], [false, true, true]);
        assert!(matches!(store.document(Kind::Customer, 1, "a"), Err(Error::Damaged(_))));
        let selection = RowSelection { account: 1, meter: "m".into(), grain: Grain::Day, from: 0, to: 9, customers: None };
        assert!(matches!(snapshot.scan(&selection, &mut |_, _| Ok(())), Err(Error::Damaged(_))));
    }
}
