//! The store: rows with the position up to which they hold, and the documents that are in no log. Stage 6 of the way of an event.
//!
//! Rows and the partition's next position are committed in one transaction, on condition that the stored position is the
//! one that this owner read (`design.md`, promise 4). Two implementations: [`embedded`], on redb, for one process, and
//! [`postgres`], which any number of nodes share. `conformance` holds them to the same behaviour.
//!
//! Documents are what people set up: accounts, keys, customers, meters, filtering rules. A document is JSON under (kind, account, id), changed
//! by atomic read-modify-write. Some kinds are [shared](Kind::is_shared): every node keeps a copy of all of them, hears when
//! they change ([`Store::watch`]), fetches what changed ([`Store::shared_since`]), and changes them only on the strength
//! of an up-to-date copy ([`Store::change_shared`]).

#[cfg(test)]
mod conformance;
pub mod digest;
mod each;
pub mod embedded;
mod encoded;
#[cfg(test)]
pub(crate) mod intercepted;
#[cfg(any(test, feature = "fuzz"))]
#[cfg_attr(not(test), expect(dead_code, reason = "tests use more of it"))]
pub(crate) mod memory;
pub mod postgres;
pub mod replica;
pub mod row;
pub mod secret;

use crossbeam_channel::Receiver;

pub use each::Each;
pub use encoded::EncodedRows;
pub use row::{DimensionSet, Grain, KeyRange, Row, RowKey, RowSelection};

use crate::clock::UnixMillis;
use crate::log::Position;

/// Why the store could not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Somebody else committed since the position was read: this owner is a zombie. Nothing was changed.
    #[error("partition {partition} stands at {found} and not at {expected}: another owner has committed")]
    Fenced {
        /// The partition.
        partition: u32,
        /// As this owner read it.
        expected: Position,
        /// As it stands now.
        found: Position,
    },
    /// What is stored cannot be read.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The disk is full, and nobody waits for room any more. Whether a commit happened is **unknown**.
    #[error("there is no room for the rows: {0}; make room on the file system of the data directory")]
    NoRoom(String),
    /// The disk or the database failed. Whether a commit happened is **unknown**.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// How far a partition's rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The next position to fold; everything before it is in the rows.
    pub next: Position,
    /// The running maximum of receive times before `next`.
    pub log_time: UnixMillis,
}

/// A record that says something else than the first one of its identity; neither contents are here, the log has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// Whose.
    pub account: u32,
    /// The partition of both.
    pub partition: u32,
    /// Where it is.
    pub position: Position,
    /// Where the first one is, which counts.
    pub first: Position,
}

/// Conflicts that are kept for an account and a partition: the latest.
pub const CONFLICTS_MAX: usize = if cfg!(test) { 3 } else { 10_000 };

/// One transaction of the materializer.
#[derive(Debug, Default)]
pub struct Commit {
    /// The partition that was folded.
    pub partition: u32,
    /// The progress that this owner read, or made last.
    pub expected: Progress,
    /// The progress that holds with these rows.
    pub reached: Progress,
    /// What is written, sorted by key.
    pub rows: EncodedRows,
    /// Conflicts found since the last commit. Of each account, the latest [`CONFLICTS_MAX`] stay.
    pub conflicts: Vec<Conflict>,
}

/// Takes one row after the other; an error ends it.
pub type Visit<'v> = dyn FnMut(RowKey<'_>, &Row) -> Result<(), Error> + 'v;

/// Rows to be read: a committed snapshot, or one with what was folded since.
pub trait Rows: Send {
    /// Hands every row of a selection to `visit`, each once, ordered by encoded key.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`], and whatever `visit` returns.
    fn scan(&self, selection: &RowSelection, visit: &mut Visit<'_>) -> Result<(), Error>;

    /// The first key that has a row in any of these ranges (from ≤ key < to), which are in order. A few steps in the order of keys for each
    /// range, however many rows there are. Of a long key perhaps only its begin, which has everything but the dimensions.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`].
    fn first_key(&self, ranges: &[KeyRange]) -> Result<Option<Vec<u8>>, Error>;

    /// The next meter of an account that has rows, in the order of their encoded keys: shorter names first. `None` in the place of a name: the
    /// first one.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`].
    fn next_meter(&self, account: u32, behind: Option<&str>) -> Result<Option<String>, Error> {
        let Some(key) = self.first_key(&[row::meters_behind(account, behind)])? else { return Ok(None) };
        let key = RowKey::read(&key).ok_or_else(|| Error::Damaged("a row's key cannot be read".into()))?;
        Ok(Some(key.meter.to_owned()))
    }
}

/// All meters of an account.
#[cfg(test)]
pub(crate) fn meters(rows: &dyn Rows, account: u32) -> Result<Vec<String>, Error> {
    let mut meters: Vec<String> = Vec::new();
    while let Some(next) = rows.next_meter(account, meters.last().map(String::as_str))? {
        meters.push(next);
    }
    Ok(meters)
}

/// A consistent view of what is committed.
///
/// A view that is kept for long may be given up by its store (`postgres` says when) and taken again, later, at what is
/// committed then. It never mixes the two unnoticed: once it has told a partition's progress, it fails rather than show
/// anything as of another one.
pub trait Snapshot: Rows {
    /// Whether a question takes so long that several are better asked as one: over a network.
    fn is_far(&self) -> bool {
        false
    }

    /// One row.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`].
    fn row(&self, key: &[u8]) -> Result<Option<Row>, Error>;

    /// Several rows, in the order of their keys here. One question instead of many where the store is far away.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`].
    fn rows(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Row>>, Error> {
        keys.iter().map(|key| self.row(key)).collect()
    }

    /// Number of rows whose encoded key begins with `prefix`.
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn count(&self, prefix: &[u8]) -> Result<u64, Error>;

    /// The same of several prefixes, in their order here.
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn counts(&self, prefixes: &[Vec<u8>]) -> Result<Vec<u64>, Error> {
        prefixes.iter().map(|prefix| self.count(prefix)).collect()
    }

    /// How far a partition's rows go.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`].
    fn progress(&self, partition: u32) -> Result<Progress, Error>;

    /// The same of several partitions, in their order here.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`].
    fn progresses(&self, partitions: &[u32]) -> Result<Vec<Progress>, Error> {
        partitions.iter().map(|partition| self.progress(*partition)).collect()
    }

    /// An account's conflicts before a position, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn conflicts(&self, account: u32, partition: u32, before: Position, limit: usize) -> Result<Vec<Conflict>, Error>;

    /// Hands over everything that is stored, ordered, each once.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`], and whatever `visit` returns.
    fn visit(&self, visit: &mut dyn FnMut(Item<'_>) -> Result<(), Error>) -> Result<(), Error>;
}

/// One thing that a store keeps, for copies and comparisons of whole stores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Item<'s> {
    /// A row under its encoded key.
    Row(&'s [u8], &'s Row),
    /// A conflict.
    Conflict(Conflict),
    /// A document: the code of its kind, its account and id, what it says.
    Document(u8, u32, &'s str, &'s [u8]),
}

/// What a document is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An account; stored below account 0, which is nobody's.
    Account,
    /// An API key, by the hash of its secret.
    Key,
    /// A customer, by its id.
    Customer,
    /// A meter definition, by its API name.
    Meter,
    /// What an administrator did, by its place in the account's ring of them.
    Audit,
    /// What a deployment fixed when it was made, by its name; stored below account 0.
    Meta,
    /// A filtering rule, by account and id; stored below account 0.
    Rule,
    /// A pricing plan with all its versions, by its id.
    Plan,
    /// What a customer was sold: plans and prepaid orders, by the customer's id.
    Ledger,
    /// A closed invoice, by its id.
    Invoice,
    /// Whose subscription has an id that a client chose, by that id.
    Subscription,
    /// That a document of another kind has changed, by that document's kind, account and id; stored below account 0. Only a store that
    /// several nodes share has any.
    Told,
}

impl Kind {
    /// Those that every node keeps a copy of. All are stored below account 0.
    pub const SHARED: [Self; 4] = [Self::Account, Self::Key, Self::Rule, Self::Told];

    /// Stands in front of a document's key; never changes.
    pub fn code(self) -> u8 {
        match self {
            Self::Account => 1,
            Self::Key => 2,
            Self::Customer => 3,
            Self::Meter => 4,
            Self::Audit => 5,
            Self::Meta => 6,
            Self::Rule => 7,
            Self::Plan => 20,
            Self::Ledger => 21,
            Self::Invoice => 22,
            Self::Subscription => 24,
            Self::Told => 25,
        }
    }

    /// Whether every node keeps a copy of all documents of this kind and hears of their changes.
    pub fn is_shared(self) -> bool {
        Self::SHARED.contains(&self)
    }
}

/// What a change makes of a document.
#[derive(Debug)]
pub enum Change {
    /// Leaves it as it is.
    Keep,
    /// Writes it.
    Put(Vec<u8>),
    /// Writes it, and every node that shares the store hears that it changed ([`Kind::Told`]).
    Tell(Vec<u8>),
    /// Removes it, if it is there.
    Remove,
    /// The same, and every node hears of it.
    RemoveAndTell,
}

impl Change {
    /// What is to be stored of a document that is to be changed, or nothing, and whether others hear of it; `None`: it stays as it is.
    pub fn outcome(self) -> Option<(Option<Vec<u8>>, bool)> {
        match self {
            Self::Keep => None,
            Self::Put(body) => Some((Some(body), false)),
            Self::Tell(body) => Some((Some(body), true)),
            Self::Remove => Some((None, false)),
            Self::RemoveAndTell => Some((None, true)),
        }
    }
}

/// Is told of documents that were changed on this node, once they are, by whoever changed them with [`Change::Tell`].
pub trait Hears: Send + Sync + 'static {
    /// Returns when what this node goes by is not older than the change. May block.
    ///
    /// # Errors
    /// The store's: it is unknown what this node goes by.
    fn changed(&self, kind: Kind, account: u32, id: &str) -> Result<(), Error>;
}

/// A document of a shared kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// What it is.
    pub kind: Kind,
    /// Below which account it is stored.
    pub account: u32,
    /// Its id.
    pub id: String,
    /// What it says; `None`: it was removed, or is to be.
    pub body: Option<Vec<u8>>,
}

impl Shared {
    /// That another document has changed.
    pub fn told(kind: Kind, account: u32, id: &str) -> Self {
        Self { kind: Kind::Told, account: 0, id: format!("{}/{account}/{id}", kind.code()), body: Some(b"1".to_vec()) }
    }

    /// Which one that is: the code of its kind, its account and id.
    pub fn of_what(&self) -> Option<(u8, u32, &str)> {
        let (kind, rest) = self.id.split_once('/')?;
        let (account, id) = rest.split_once('/')?;
        (self.kind == Kind::Told).then_some((kind.parse().ok()?, account.parse().ok()?, id))
    }
}

/// Which changes of shared documents a copy has. 0: none.
pub type Version = u64;

/// What is to be done to a copy of the shared documents.
#[derive(Debug, PartialEq, Eq)]
pub struct SharedChanges {
    /// What the copy has then.
    pub version: Version,
    /// Whether these are all documents that there are, and what is not among them is to be forgotten.
    pub is_all: bool,
    /// What changed; of several changes of one document the last counts.
    pub documents: Vec<Shared>,
}

/// The store. Blocking calls, some of which sync a disk: async code goes through `spawn_blocking`.
pub trait Store: Send + Sync + 'static {
    /// A consistent view of the rows as they are committed now.
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error>;

    /// Commits rows and progress, durably.
    ///
    /// # Errors
    /// [`Error::Fenced`]: nothing was changed. Any other: unknown, read the progress again.
    fn commit(&self, commit: &Commit) -> Result<(), Error>;

    /// Number of rows; an estimate where counting would be reading them all.
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn row_count(&self) -> Result<u64, Error>;

    /// One document.
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn document(&self, kind: Kind, account: u32, id: &str) -> Result<Option<Vec<u8>>, Error>;

    /// All documents of a kind, ordered by id (in bytes).
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn documents(&self, kind: Kind, account: u32) -> Result<Vec<(String, Vec<u8>)>, Error>;

    /// The first documents of a kind behind an id, at most `limit`, ordered by id (in bytes); `None`: from the first on.
    ///
    /// # Errors
    /// [`Error::Failed`].
    fn documents_after(&self, kind: Kind, account: u32, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error>;

    /// Reads a document and writes what `change` makes of it, as one step that nobody can come between; durable when it returns.
    /// `change` may be called more than once; its last answer counts.
    ///
    /// # Errors
    /// [`Error::Failed`]: unknown.
    fn change_document(&self, kind: Kind, account: u32, id: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Change) -> Result<(), Error>;

    /// What changed of the shared documents since a version; since 0: all of them.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Failed`].
    fn shared_since(&self, version: Version) -> Result<SharedChanges, Error>;

    /// Writes shared documents, all or none, if nobody has changed any of them since `version`; gives back the version with these
    /// changes, or `None` where nothing was written because somebody had.
    ///
    /// # Errors
    /// [`Error::Failed`]: unknown.
    fn change_shared(&self, version: Version, documents: &[Shared]) -> Result<Option<Version>, Error>;

    /// Something comes when shared documents may have changed, most of the time: whoever must know looks now and then all the same.
    /// `None`: nobody but this process changes them, so nothing would ever come.
    fn watch(&self) -> Option<Receiver<()>>;
}
