//! Documents in memory, for unit tests of what is kept in documents. It keeps no rows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Change, Commit, Error, Kind, Snapshot, Store};

type Documents = BTreeMap<(u8, u32, String), Vec<u8>>;

/// A store that forgets everything when it is dropped.
#[derive(Default)]
pub(crate) struct MemoryStore {
    documents: Mutex<Documents>,
    is_broken: AtomicBool,
}

impl MemoryStore {
    /// From here on every call fails.
    pub(crate) fn break_down(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> Result<MutexGuard<'_, Documents>, Error> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(Error::Failed("broken by a test".into()));
        }
        Ok(self.documents.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn no_rows() -> Error {
    Error::Failed("the store in memory keeps no rows".into())
}

impl Store for MemoryStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        Err(no_rows())
    }

    fn commit(&self, _: &Commit) -> Result<(), Error> {
        Err(no_rows())
    }

    fn row_count(&self) -> Result<u64, Error> {
        Err(no_rows())
    }

    fn document(&self, kind: Kind, account: u32, id: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.lock()?.get(&(kind.code(), account, id.to_owned())).cloned())
    }

    fn documents(&self, kind: Kind, account: u32) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let of_kind = |key: &(u8, u32, String)| (key.0, key.1) == (kind.code(), account);
        Ok(self.lock()?.iter().filter(|(key, _)| of_kind(key)).map(|(key, bytes)| (key.2.clone(), bytes.clone())).collect())
    }

    fn change_document(&self, kind: Kind, account: u32, id: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Change) -> Result<(), Error> {
        let mut documents = self.lock()?;
        let key = (kind.code(), account, id.to_owned());
        match change(documents.get(&key).map(Vec::as_slice)) {
            Change::Keep => (),
            Change::Put(bytes) => drop(documents.insert(key, bytes)),
            Change::Remove => drop(documents.remove(&key)),
        }
        Ok(())
    }
}
