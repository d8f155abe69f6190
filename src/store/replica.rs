//! A copy of shared documents, in memory: of accounts and keys, of filtering rules. One change at a time, also where several nodes share a
//! store: decided by the copy, and written on condition that nobody has changed any shared document since the copy was brought up to date;
//! otherwise the copy follows, and it is decided again. Module [`follow`] keeps it up to date in between.

pub mod follow;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Error, Shared, SharedChanges, Store, Version};
use follow::Follower;

/// How often a change is decided again because another node was faster.
const ATTEMPTS: u32 = 20;

/// What a copy consists of.
pub trait Content: Send + 'static {
    /// What it is a copy of, for log lines.
    const NAME: &'static str;

    /// Which changes it has.
    fn version(&self) -> Version;

    /// Takes over what changed. It passes over documents of other kinds.
    ///
    /// # Errors
    /// [`Error::Damaged`]: nothing was taken over.
    fn apply(&mut self, changes: SharedChanges) -> Result<(), Error>;
}

/// The copy of one node.
pub struct Replica<C> {
    store: Arc<dyn Store>,
    /// Locked for as long as a change takes: what one sees is what it changes.
    content: Mutex<C>,
}

impl<C: Content> Replica<C> {
    /// Reads what a store has; where other nodes change it too, a thread follows.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`].
    pub fn start(store: Arc<dyn Store>, content: C, follower: Option<Follower>) -> Result<Arc<Self>, Error> {
        let replica = Arc::new(Self { store, content: Mutex::new(content) });
        replica.catch_up()?;
        if let Some(follower) = follower {
            follower.start(&replica).map_err(|error| Error::Failed(format!("no thread: {error}")))?;
        }
        Ok(replica)
    }

    /// The copy as it is.
    pub fn lock(&self) -> MutexGuard<'_, C> {
        // Whoever panicked has changed nothing: the copy is written last.
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what other nodes changed. However long the store takes, the copy can be read meanwhile.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`].
    pub fn catch_up(&self) -> Result<(), Error> {
        loop {
            let version = self.lock().version();
            let changes = self.store.shared_since(version)?;
            let mut content = self.lock();
            // Otherwise a change of this node came in between.
            if content.version() == version {
                return if changes.version == version { Ok(()) } else { content.apply(changes) };
            }
        }
    }

    /// Writes what `decide` makes of the copy. It is asked again when another node has changed something in the meantime.
    ///
    /// # Errors
    /// Those of `decide`, [`Error::Damaged`]; after [`Error::Failed`] it is unknown whether the change was made.
    pub fn change<T, E: From<Error>>(&self, decide: impl Fn(&C) -> Result<(Vec<Shared>, T), E>) -> Result<T, E> {
        let mut content = self.lock();
        for _ in 0..ATTEMPTS {
            let (documents, made) = decide(&content)?;
            if documents.is_empty() {
                return Ok(made);
            }
            match self.store.change_shared(content.version(), &documents)? {
                Some(version) => {
                    content.apply(SharedChanges { version, is_all: false, documents })?;
                    return Ok(made);
                }
                None => {
                    let changes = self.store.shared_since(content.version())?;
                    content.apply(changes)?;
                }
            }
        }
        Err(Error::Failed(format!("other nodes change {} all the time", C::NAME)).into())
    }
}
