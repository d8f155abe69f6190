//! The embedded store: one redb file in the data directory.
//!
//! redb syncs every commit and keeps readers on the snapshot that they began with. Tables: `rows` and `progress`, written
//! by the materializer in one transaction; `documents`, written by the API. The number of rows is redb's own.

mod file;
#[cfg(test)]
mod power_loss;

use std::path::Path;
use std::sync::Arc;

use redb::{Database, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::{Change, Commit, Error, Kind, Progress, Row, RowKey, RowSelection, Rows, Snapshot, Store, row};
use crate::clock::UnixMillis;
use crate::log::Position;
use crate::log::disk::room::{NoRoom, Room, WaitingDisk};
use crate::log::disk::{Disk, RealDisk, is_full};
use file::StoreFile;

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
const PROGRESS: TableDefinition<'_, u32, (u64, i64)> = TableDefinition::new("progress");
const DOCUMENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("documents");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// Version of the tables' layout.
const FORMAT: u64 = 1;
/// Pages that redb keeps in memory.
const CACHE_BYTES: usize = 128 << 20;

/// Rows and documents in a redb file.
pub struct EmbeddedStore {
    database: Database,
    room: Option<Arc<Room>>,
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
        let opened = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(file);
        let database = opened.map_err(|error| match error {
            redb::DatabaseError::Storage(redb::StorageError::Io(error)) => Error::Failed(format!("{}: {error}", path.display())),
            other => Error::Damaged(format!("{}: {other}", path.display())),
        })?;
        let store = Self { database, room };
        store.make_tables()?;
        Ok(store)
    }

    fn make_tables(&self) -> Result<(), Error> {
        let transaction = self.begin_write()?;
        {
            transaction.open_table(ROWS).map_err(failed)?;
            transaction.open_table(PROGRESS).map_err(failed)?;
            transaction.open_table(DOCUMENTS).map_err(failed)?;
            let mut meta = transaction.open_table(META).map_err(failed)?;
            let found = meta.get("format").map_err(failed)?.map(|format| format.value());
            match found {
                None => drop(meta.insert("format", FORMAT).map_err(failed)?),
                Some(FORMAT) => {}
                Some(newer) => return Err(Error::Damaged(format!("the store has format {newer}, this binary knows {FORMAT}"))),
            }
        }
        transaction.commit().map_err(failed)
    }

    fn begin_write(&self) -> Result<redb::WriteTransaction, Error> {
        let mut transaction = self.database.begin_write().map_err(failed)?;
        transaction.set_durability(Durability::Immediate).map_err(failed)?;
        Ok(transaction)
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

fn document_key(kind: Kind, account: u32, id: &str) -> Vec<u8> {
    let mut key = vec![kind.code()];
    key.extend_from_slice(&account.to_be_bytes());
    key.extend_from_slice(id.as_bytes());
    key
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
            for (key, row) in &commit.rows {
                bytes.clear();
                row.write(&mut bytes);
                rows.insert(key.as_slice(), bytes.as_slice()).map_err(failed)?;
            }
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
        let found = documents.get(document_key(kind, account, id).as_slice()).map_err(failed)?;
        Ok(found.map(|bytes| bytes.value().to_vec()))
    }

    fn documents(&self, kind: Kind, account: u32) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let documents = transaction.open_table(DOCUMENTS).map_err(failed)?;
        let prefix = document_key(kind, account, "");
        let mut found = Vec::new();
        for entry in documents.range(prefix.as_slice()..).map_err(failed)? {
            let (key, bytes) = entry.map_err(failed)?;
            let Some(id) = key.value().strip_prefix(prefix.as_slice()) else { break };
            let id = std::str::from_utf8(id).map_err(|_| Error::Damaged("a document's id is not UTF-8".into()))?;
            found.push((id.to_owned(), bytes.value().to_vec()));
        }
        Ok(found)
    }

    fn change_document(&self, kind: Kind, account: u32, id: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Change) -> Result<(), Error> {
        // Nobody changes a document without waiting for the answer: it does not wait for room, nor behind a commit that does.
        if self.room.as_ref().is_some_and(|room| room.is_waited_for() || !room.has_some()) {
            return Err(Error::NoRoom(NoRoom.to_string()));
        }
        let transaction = self.begin_write()?;
        {
            let mut documents = transaction.open_table(DOCUMENTS).map_err(failed)?;
            let key = document_key(kind, account, id);
            let stored = documents.get(key.as_slice()).map_err(failed)?.map(|bytes| bytes.value().to_vec());
            match change(stored.as_deref()) {
                Change::Keep => return Ok(()),
                Change::Put(bytes) => drop(documents.insert(key.as_slice(), bytes.as_slice()).map_err(failed)?),
            }
        }
        transaction.commit().map_err(failed)
    }
}

struct EmbeddedSnapshot {
    transaction: ReadTransaction,
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

fn damaged_row() -> Error {
    Error::Damaged("a row cannot be read; `tollgate rebuild` makes the rows again from the log".into())
}

impl Rows for EmbeddedSnapshot {
    fn scan(&self, selection: &RowSelection, visit: &mut dyn FnMut(RowKey<'_>, &Row) -> Result<(), Error>) -> Result<(), Error> {
        for (from, to) in selection.key_ranges() {
            for entry in self.rows.range(from.as_slice()..to.as_slice()).map_err(failed)? {
                let (key, bytes) = entry.map_err(failed)?;
                let key = RowKey::read(key.value()).ok_or_else(damaged_row)?;
                visit(key, &Row::read(bytes.value()).ok_or_else(damaged_row)?)?;
            }
        }
        Ok(())
    }

    fn meters(&self, account: u32) -> Result<Vec<String>, Error> {
        let mut meters = Vec::new();
        let mut from = account.to_be_bytes().to_vec();
        while let Some(entry) = self.rows.range(from.as_slice()..).map_err(failed)?.next() {
            let (key, _) = entry.map_err(failed)?;
            let key = RowKey::read(key.value()).ok_or_else(damaged_row)?;
            if key.account != account {
                break;
            }
            meters.push(key.meter.to_owned());
            // On to the next meter: behind its name comes the grain, which is 0 or 1.
            from.clear();
            row::write_meter_prefix(&mut from, account, key.meter);
            from.push(0xff);
        }
        Ok(meters)
    }
}

impl Snapshot for EmbeddedSnapshot {
    fn row(&self, key: &[u8]) -> Result<Option<Row>, Error> {
        match self.rows.get(key).map_err(failed)? {
            Some(bytes) => Row::read(bytes.value()).map(Some).ok_or_else(damaged_row),
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
        Commit { partition: 0, expected: progress(expected), reached: progress(reached), rows }
    }

    #[test]
    fn rows_and_progress_are_committed_together_and_a_second_owner_changes_nothing() {
        let (_dir, store) = open();
        store.commit(&commit(0, 10, vec![keyed(1, "m", 3, "a")])).expect("commits");
        let zombie = store.commit(&commit(0, 12, vec![keyed(1, "m", 3, "b")])).expect_err("is fenced");
        assert!(matches!(zombie, Error::Fenced { found: Position(10), .. }));
        let snapshot = store.snapshot().expect("a snapshot");
        assert_eq!(snapshot.progress(0).expect("progress"), Progress { next: Position(10), log_time: UnixMillis(7) });
        assert!(snapshot.row(&keyed(1, "m", 3, "a").0).expect("read").is_some());
        assert!(snapshot.row(&keyed(1, "m", 3, "b").0).expect("read").is_none());
    }

    #[test]
    fn a_scan_gives_the_selected_rows_and_no_others() {
        let (_dir, store) = open();
        let mut rows = vec![
            keyed(1, "m", 3, "a"),
            keyed(1, "m", 3, "ab"),
            keyed(1, "m", 4, "a"),
            keyed(1, "m", 5, "a"),
            keyed(1, "mm", 3, "a"),
            keyed(2, "m", 3, "a"),
        ];
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        store.commit(&commit(0, 10, rows)).expect("commits");
        let snapshot = store.snapshot().expect("a snapshot");
        let scanned = |customers: Option<Vec<String>>| {
            let selection = RowSelection { account: 1, meter: "m".into(), grain: Grain::Day, from: 3, to: 5, customers };
            let mut found = Vec::new();
            let mut visit = |key: RowKey<'_>, _: &Row| {
                assert!(selection.holds(&key));
                found.push((key.bucket, key.customer.to_owned()));
                Ok(())
            };
            snapshot.scan(&selection, &mut visit).expect("scans");
            found
        };
        assert_eq!(scanned(None), [(3, "a".into()), (3, "ab".into()), (4, "a".into())]);
        assert_eq!(scanned(Some(vec!["a".into()])), [(3, "a".into()), (4, "a".into())]);
        assert_eq!(snapshot.meters(1).expect("meters"), ["m", "mm"]);
        assert_eq!(snapshot.count(&keyed(1, "m", 3, "a").0).expect("counts"), 1);
    }

    #[test]
    fn documents_change_in_one_step() {
        let (_dir, store) = open();
        let put = |id: &str, text: &str| {
            store.change_document(Kind::Customer, 1, id, &mut |_| Change::Put(text.as_bytes().to_vec())).expect("changes");
        };
        put("a", "1");
        put("b", "2");
        store
            .change_document(Kind::Customer, 2, "a", &mut |old| {
                assert!(old.is_none());
                Change::Keep
            })
            .expect("keeps");
        store
            .change_document(Kind::Customer, 1, "a", &mut |old| {
                assert_eq!(old, Some(&b"1"[..]));
                Change::Keep
            })
            .expect("keeps");
        assert_eq!(store.documents(Kind::Customer, 1).expect("lists").len(), 2);
        assert_eq!(store.document(Kind::Meter, 1, "a").expect("reads"), None);
    }
}
