//! Whole stores: filled at once, looked at without being changed, checked.

use std::path::Path;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable};

use super::{
    CACHE_BYTES, CONFLICTS, DOCUMENTS, EmbeddedSnapshot, EmbeddedStore, FORMAT, META, PROGRESS, ROWS, cannot_open, document_key, failed,
    open_document, read_document_key, seal,
};
use crate::store::{Conflict, Error, Item, Progress, Snapshot};

/// Hands over every document that a transaction sees.
pub(super) fn visit_documents(transaction: &ReadTransaction, visit: &mut dyn FnMut(Item<'_>) -> Result<(), Error>) -> Result<(), Error> {
    for entry in transaction.open_table(DOCUMENTS).map_err(failed)?.iter().map_err(failed)? {
        let (key, bytes) = entry.map_err(failed)?;
        let (kind, account, id) = read_document_key(key.value()).ok_or_else(|| Error::Damaged("a document's key".into()))?;
        visit(Item::Document(kind, account, id, &open_document(id, key.value(), bytes.value())?))?;
    }
    Ok(())
}

/// Hands everything that a store is to be filled with to its argument.
pub type Source<'s> = dyn FnMut(&mut dyn FnMut(Item<'_>) -> Result<(), Error>) -> Result<(), Error> + 's;

impl EmbeddedStore {
    /// Adds all that `source` hands over, and the progress of these partitions, in one transaction.
    ///
    /// # Errors
    /// The source's, and [`Error::Failed`]; nothing was added then.
    pub fn fill(&self, progress: &[(u32, Progress)], source: &mut Source<'_>) -> Result<(), Error> {
        let transaction = self.begin_write()?;
        {
            let mut rows = transaction.open_table(ROWS).map_err(failed)?;
            let mut conflicts = transaction.open_table(CONFLICTS).map_err(failed)?;
            let mut documents = transaction.open_table(DOCUMENTS).map_err(failed)?;
            let mut bytes = Vec::with_capacity(1_024);
            source(&mut |item| {
                bytes.clear();
                match item {
                    Item::Row(key, row) => {
                        row.write(&mut bytes);
                        seal(key, &mut bytes);
                        drop(rows.insert(key, bytes.as_slice()).map_err(failed)?);
                    }
                    Item::Conflict(Conflict { account, partition, position, first }) => {
                        drop(conflicts.insert((account, partition, position.0), first.0).map_err(failed)?);
                    }
                    Item::Document(kind, account, id, document) => {
                        let key = document_key(kind, account, id);
                        bytes.extend_from_slice(document);
                        seal(&key, &mut bytes);
                        drop(documents.insert(key.as_slice(), bytes.as_slice()).map_err(failed)?);
                    }
                }
                Ok(())
            })?;
            let mut kept = transaction.open_table(PROGRESS).map_err(failed)?;
            for (partition, progress) in progress {
                kept.insert(*partition, (progress.next.0, progress.log_time.0)).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)
    }

    /// Hands over every document, whatever became of the rows.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`], and whatever `visit` returns.
    pub fn visit_documents(&self, visit: &mut dyn FnMut(Item<'_>) -> Result<(), Error>) -> Result<(), Error> {
        visit_documents(&self.database.begin_read().map_err(failed)?, visit)
    }

    /// What a store holds, without changing a byte of its file; `None` if it was not closed in good order, so that only
    /// [`EmbeddedStore::open`], which repairs it, can tell.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`].
    pub fn look(path: &Path) -> Result<Option<Box<dyn Snapshot>>, Error> {
        let database = match Database::builder().set_cache_size(CACHE_BYTES).open_read_only(path) {
            Ok(database) => database,
            Err(redb::DatabaseError::RepairAborted) => return Ok(None),
            Err(error) => return Err(cannot_open(path, error)),
        };
        let transaction = database.begin_read().map_err(failed)?;
        let format = transaction.open_table(META).map_err(failed)?.get("format").map_err(failed)?.map(|format| format.value());
        if format != Some(FORMAT) {
            return Err(Error::Damaged(format!("{}: the store has format {format:?}, this binary knows {FORMAT}", path.display())));
        }
        let rows = transaction.open_table(ROWS).map_err(failed)?;
        Ok(Some(Box::new(EmbeddedSnapshot { transaction, rows })))
    }

    /// Has redb check every page; `false` if something was wrong that it could mend, which it has done then.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`].
    pub fn check_pages(&mut self) -> Result<bool, Error> {
        self.database.check_integrity().map_err(failed)
    }
}
