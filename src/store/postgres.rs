//! The store that many nodes share: PostgreSQL, 14 or newer.
//!
//! # Tables
//! All in the schema `tollgate`, made and brought up to date by `migrations`. `rows` has a row's encoded key as `bytea`, which
//! sorts bytewise as keys must, and what it says in columns; the view `usage` takes keys apart for people. `progress`, `conflicts`
//! and `documents` are as their names say.
//!
//! # Commits
//! One transaction moves a partition's progress on condition that it is the expected one, and writes the rows. The second of two owners
//! waits for the first one's transaction, finds another progress, and changes nothing. Whatever the server's
//! settings say, an answer means that the commit is durable there (`synchronous_commit`).
//!
//! Until `COMMIT` was sent, nothing can have happened: a connection that was lost by then, a deadlock or a conflict is tried again here, a few
//! times. After it, a lost answer is [`Error::Failed`]: nobody knows.
//!
//! Behind a commit, in a transaction of its own, all nodes are told of it: in that of the commit it would be one more reason to fail, and
//! commits that tell wait for each other's sync.
//!
//! # Snapshots
//! See `snapshot`: a transaction that is begun by the first look and given up when nobody looks.
//!
//! # Threads
//! Sessions keep prepared statements, a temporary table and `LISTEN`: between Tollgate and the server there is no pooler, or one that gives
//! each connection a session of its own.
//!
//! Calls block. Connections are moved by a small runtime of the store's own, so that a call may come from any thread; every wait has an end
//! ([`Timeouts`]).

mod commit;
mod connect;
mod documents;
mod listen;
mod migrations;
mod numeric;
mod pool;
mod rows;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, TrySendError, bounded};

use self::connect::{Connector, describe};
use self::listen::Listeners;
pub use self::listen::{Gone, Heard};
use self::pool::{Failure, Pool, Runtime, Session, wait};
use self::snapshot::PostgresSnapshot;
use super::{Change, Commit, Error, Kind, Progress, Shared, SharedChanges, Snapshot, Store, Version};
use crate::log::Position;

/// How often something is tried that failed for a passing reason, before anything can have happened.
const ATTEMPTS: u32 = 3;

/// How long anything may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Making a connection to one host, unless the URL has another `connect_timeout`.
    pub connect: Duration,
    /// One statement, in the server.
    pub statement: Duration,
    /// Waiting for a lock, in the server.
    pub lock: Duration,
    /// Waiting for a connection that is in use.
    pub lease: Duration,
    /// A snapshot's transaction that nobody looks at, before it is given up.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            statement: Duration::from_secs(30),
            lock: Duration::from_secs(10),
            lease: Duration::from_secs(10),
            idle: Duration::from_secs(1),
        }
    }
}

impl Timeouts {
    /// How long an answer may take: a server that is there has given up by itself before.
    fn answer(&self) -> Duration {
        self.statement + self.statement / 4
    }
}

/// How a database is used.
#[derive(Clone)]
pub struct Settings {
    /// `postgres://…`; it has a password, so it is shown nowhere.
    pub url: String,
    /// Connections: half for what is read, half for what is written, and one that listens.
    pub connections_max: usize,
    /// How long anything may take.
    pub timeouts: Timeouts,
}

impl Settings {
    /// The defaults for a database.
    pub fn new(url: &str) -> Self {
        Self { url: url.into(), connections_max: 40, timeouts: Timeouts::default() }
    }
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be used.
    #[error("TOLLGATE_DATABASE_URL cannot be used: {0}")]
    Url(String),
    /// The database is not what is needed. Nothing was changed.
    #[error("the database cannot be used: {0}")]
    Unfit(String),
    /// It cannot be reached, or refused something.
    #[error("PostgreSQL: {0}")]
    Failed(String),
}

impl From<tokio_postgres::Error> for OpenError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(describe(&error))
    }
}

/// Rows and documents in a PostgreSQL database.
pub struct PostgresStore {
    /// Separate, so that no number of queries keeps a commit waiting.
    reading: Arc<Pool>,
    writing: Arc<Pool>,
    listeners: Arc<Listeners>,
}

impl PostgresStore {
    /// Connects, and makes the tables or brings them up to date.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(settings: &Settings) -> Result<Self, OpenError> {
        let connector = Connector::new(&settings.url, settings.timeouts)?;
        let failed = |error: Error| OpenError::Failed(error.to_string());
        let threads = Runtime::start().map_err(|error| OpenError::Failed(format!("no thread: {error}")))?;
        let half = (settings.connections_max / 2).max(1);
        let pool = || Pool::new(connector.clone(), &threads, half).map_err(failed);
        let (reading, writing) = (pool()?, pool()?);
        let listeners = Listeners::new(connector.clone(), writing.runtime().clone());
        let store = Self { reading, writing, listeners };
        let mut lease = store.writing.lease().map_err(failed)?;
        let session = lease.session().map_err(|failure| failed(failure.error))?;
        wait(store.writing.runtime(), migrations::apply(&session.client))?;
        lease.give_back();
        Ok(store)
    }

    /// How far the rows of all partitions go of which something is stored, ordered by partition.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn progress(&self) -> Result<Vec<(u32, Progress)>, Error> {
        self.on(&self.reading, async |session| commit::read_all_progress(session).await)
    }

    /// Asks the owners of these partitions to commit at once what they have folded when they have reached these positions. Nobody answers.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn wish(&self, wishes: &[(u32, Position)]) -> Result<(), Error> {
        self.on(&self.reading, async |session| listen::tell(session, listen::WISHES, wishes).await)
    }

    /// Lets `ear` hear what all nodes tell, this one among them, until it says that it is not interested any more. It is called on a
    /// thread that moves the connections' bytes, so it must neither wait for anything nor ask this store.
    ///
    /// Something may be missed ([`Heard::Missed`]): who has to know looks now and then.
    pub fn listen(&self, ear: impl Fn(Heard) -> Result<(), Gone> + Send + Sync + 'static) {
        self.listeners.add(Box::new(ear));
    }

    /// Does something on a session; a few times, if it fails for a passing reason.
    fn on<T>(&self, pool: &Arc<Pool>, mut work: impl AsyncFnMut(&mut Session) -> Result<T, Failure>) -> Result<T, Error> {
        let mut attempt = 1;
        loop {
            let mut lease = pool.lease()?;
            match wait(pool.runtime(), async { work(lease.session()?).await }) {
                Ok(done) => {
                    lease.give_back();
                    return Ok(done);
                }
                // Whatever the session was doing, the server undoes it when its connection ends.
                Err(Failure { is_passing: true, error }) if attempt < ATTEMPTS => {
                    tracing::debug!(%error, attempt, "the database is asked again");
                    attempt += 1;
                }
                Err(failure) => return Err(failure.error),
            }
        }
    }
}

impl Store for PostgresStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        Ok(Box::new(PostgresSnapshot::new(self.reading.clone())))
    }

    fn commit(&self, commit: &Commit) -> Result<(), Error> {
        self.on(&self.writing, async |session| commit::run(session, commit).await)
    }

    fn row_count(&self) -> Result<u64, Error> {
        // What the last vacuum or analysis saw; −1 before there was one.
        let estimate = "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'tollgate.rows'::regclass";
        self.on(&self.reading, async |session| {
            let statement = session.prepared(estimate).await?;
            let row = session.in_time(session.client.query_one(&statement, &[])).await?;
            Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
        })
    }

    fn document(&self, kind: Kind, account: u32, id: &str) -> Result<Option<Vec<u8>>, Error> {
        self.on(&self.reading, async |session| documents::one(session, kind, account, id).await)
    }

    fn documents(&self, kind: Kind, account: u32) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.on(&self.reading, async |session| documents::all(session, kind, account).await)
    }

    fn documents_after(&self, kind: Kind, account: u32, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        self.on(&self.reading, async |session| documents::after(session, kind, account, after, limit).await)
    }

    fn change_document(&self, kind: Kind, account: u32, id: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Change) -> Result<(), Error> {
        self.on(&self.writing, async |session| documents::change(session, kind, account, id, change).await)
    }

    fn shared_since(&self, version: Version) -> Result<SharedChanges, Error> {
        self.on(&self.reading, async |session| documents::shared_since(session, version).await)
    }

    fn change_shared(&self, version: Version, documents: &[Shared]) -> Result<Option<Version>, Error> {
        self.on(&self.writing, async |session| documents::change_shared(session, version, documents).await)
    }

    fn watch(&self) -> Option<Receiver<()>> {
        // One is enough: who is told looks at everything that changed.
        let (heard, hears) = bounded(1);
        self.listen(move |what| match what {
            Heard::Wish(..) | Heard::Progress(..) => Ok(()),
            Heard::Documents | Heard::Missed => match heard.try_send(()) {
                Ok(()) | Err(TrySendError::Full(())) => Ok(()),
                Err(TrySendError::Disconnected(())) => Err(Gone),
            },
        });
        Some(hears)
    }
}
