//! A store whose commits go through a test; everything else is that of the embedded one.

use crossbeam_channel::Receiver;

use super::embedded::EmbeddedStore;
use super::{Change, Commit, Error, Kind, Shared, SharedChanges, Snapshot, Store};

/// What a test makes of a commit.
pub(crate) trait Commits: Send + Sync + 'static {
    fn commit(&self, store: &EmbeddedStore, commit: &Commit) -> Result<(), Error>;
}

pub(crate) struct Intercepted<C> {
    pub(crate) store: EmbeddedStore,
    pub(crate) commits: C,
}

impl<C: Commits> Store for Intercepted<C> {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        self.store.snapshot()
    }

    fn commit(&self, commit: &Commit) -> Result<(), Error> {
        self.commits.commit(&self.store, commit)
    }

    fn row_count(&self) -> Result<u64, Error> {
        self.store.row_count()
    }

    fn document(&self, kind: Kind, account: u32, id: &str) -> Result<Option<Vec<u8>>, Error> {
        self.store.document(kind, account, id)
    }

    fn documents(&self, kind: Kind, account: u32) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.store.documents(kind, account)
    }

    fn documents_after(&self, kind: Kind, account: u32, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.store.documents_after(kind, account, after, limit)
    }

    fn change_document(&self, kind: Kind, account: u32, id: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Change) -> Result<(), Error> {
        self.store.change_document(kind, account, id, change)
    }

    fn shared_since(&self, version: u64) -> Result<SharedChanges, Error> {
        self.store.shared_since(version)
    }

    fn change_shared(&self, version: u64, documents: &[Shared]) -> Result<Option<u64>, Error> {
        self.store.change_shared(version, documents)
    }

    fn watch(&self) -> Option<Receiver<()>> {
        self.store.watch()
    }
}
