//! Connections: a bounded number, each used by one thread at a time, and how a thread waits for an answer.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{Client, Socket, Statement};

use super::Timeouts;
use super::connect::{Connector, Driver, describe};
use crate::park;
use crate::store::Error;
use crate::telemetry;

/// Threads that move bytes.
const RUNTIME_THREADS: usize = 2;

/// The threads that move bytes and measure time; they end with the last of those who need them.
pub(super) struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    pub(super) fn start() -> std::io::Result<Arc<Self>> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(RUNTIME_THREADS).thread_name("postgres").enable_all();
        Ok(Arc::new(Self(Some(builder.build()?))))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // A runtime that is dropped waits for its threads, which a thread of a runtime must not.
            runtime.shutdown_background();
        }
    }
}

/// Waits for a future on any thread, be it one of a runtime: a start asks the store before there is anybody to be kept waiting.
pub(super) fn wait<F: Future>(runtime: &Handle, future: F) -> F::Output {
    // For its timers; what it waits for is moved by the runtime's own threads.
    let _context = runtime.enter();
    park::until(future)
}

/// Why something was not done, and whether it may be tried again at once.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    /// Nothing was changed, and the cause may be gone: a connection that was lost while nobody used it, a conflict with somebody else.
    pub(super) is_passing: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, is_passing: false }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        let passing = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ];
        let is_passing = error.is_closed() || error.code().map_or_else(|| is_io(&error), |code| passing.contains(code));
        Self { error: failed(&error), is_passing }
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

pub(super) fn failed(error: &tokio_postgres::Error) -> Error {
    match error.code() {
        Some(code) if *code == SqlState::DISK_FULL => Error::Failed(format!("PostgreSQL has no room: {}", describe(error))),
        _ => Error::Failed(format!("PostgreSQL: {}", describe(error))),
    }
}

/// One session.
pub(super) struct Session {
    pub(super) client: Client,
    statements: HashMap<&'static str, Statement>,
    answer_timeout: Duration,
}

impl Session {
    /// A statement, prepared when it is used first.
    pub(super) async fn prepared(&mut self, sql: &'static str) -> Result<Statement, Failure> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.in_time(self.client.prepare(sql)).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// Whether a statement was used before.
    pub(super) fn has_prepared(&self, sql: &str) -> bool {
        self.statements.contains_key(sql)
    }

    /// An answer, if it comes in time: a server that hangs sends none, and no end of the connection either.
    pub(super) async fn in_time<T>(&self, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Failure> {
        in_time(self.answer_timeout, answer).await
    }

    /// Statements without parameters and answers.
    pub(super) async fn run(&self, sql: &str) -> Result<(), Failure> {
        self.in_time(self.client.batch_execute(sql)).await
    }

    /// Ends the transaction. From here on an error means that nobody knows.
    pub(super) async fn commit(&self) -> Result<(), Failure> {
        let unknown = |failure| Failure { is_passing: false, ..failure };
        self.run("COMMIT").await.map_err(unknown)
    }
}

pub(super) async fn in_time<T>(timeout: Duration, answer: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, Failure> {
    match tokio::time::timeout(timeout, answer).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err(Error::Failed(format!("PostgreSQL did not answer within {} s", timeout.as_secs())).into()),
    }
}

/// Moves the bytes of a connection on the store's runtime.
struct OnRuntime(Handle);

impl Driver for OnRuntime {
    fn drive<S>(self, connection: tokio_postgres::Connection<Socket, S>)
    where
        S: TlsStream + Unpin + Send + 'static,
    {
        self.0.spawn(async move {
            // Whoever waits for an answer hears of it.
            if let Err(error) = connection.await {
                tracing::debug!(error = describe(&error), "a connection to the database ended");
            }
        });
    }
}

struct State {
    idle: Vec<Session>,
    /// Idle or in use.
    open: usize,
}

/// Sessions that are made when needed and kept.
pub(super) struct Pool {
    connector: Connector,
    runtime: Handle,
    /// Snapshots may be left when the store goes.
    _threads: Arc<Runtime>,
    sessions_max: usize,
    state: Mutex<State>,
    freed: Condvar,
}

impl Pool {
    pub(super) fn new(connector: Connector, threads: &Arc<Runtime>, sessions_max: usize) -> Result<Arc<Self>, Error> {
        let state = Mutex::new(State { idle: Vec::new(), open: 0 });
        let Some(runtime) = &threads.0 else { return Err(Error::Failed("the threads have ended".into())) };
        let (runtime, _threads) = (runtime.handle().clone(), threads.clone());
        Ok(Arc::new(Self { connector, runtime, _threads, sessions_max, state, freed: Condvar::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session of one's own; waits for one to be given back when there are no more to be had.
    pub(super) fn lease(self: &Arc<Self>) -> Result<Lease, Error> {
        let began = Instant::now();
        let lease = self.lease_in_time();
        telemetry::observe_database_wait(lease.is_ok(), began.elapsed());
        lease
    }

    fn lease_in_time(self: &Arc<Self>) -> Result<Lease, Error> {
        let deadline = Instant::now() + self.connector.timeouts.lease;
        let mut state = self.lock();
        loop {
            while let Some(session) = state.idle.pop() {
                if !session.client.is_closed() {
                    return Ok(Lease { session: Some(session), is_given_back: false, pool: self.clone() });
                }
                state.open -= 1;
            }
            if state.open < self.sessions_max {
                state.open += 1;
                drop(state);
                // Counted from here on, and no longer when it is dropped.
                let mut lease = Lease { session: None, is_given_back: false, pool: self.clone() };
                lease.session = Some(wait(&self.runtime, self.connect())?);
                return Ok(lease);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Failed(format!("all {} connections to the database are in use", self.sessions_max)));
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    async fn connect(&self) -> Result<Session, Error> {
        let timeouts = &self.connector.timeouts;
        let connecting = self.connector.connect(OnRuntime(self.runtime.clone()));
        // The client's own limit is for the first bytes of each host alone.
        let client = in_time(2 * timeouts.connect, connecting).await.map_err(|failure| failure.error)?;
        Ok(Session { client, statements: HashMap::new(), answer_timeout: timeouts.answer() })
    }

    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.connector.timeouts
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

/// A session that is one thread's. It goes back by [`Lease::give_back`]; dropped, its connection ends and the server
/// undoes what was not committed.
pub(super) struct Lease {
    session: Option<Session>,
    is_given_back: bool,
    pool: Arc<Pool>,
}

impl Lease {
    /// For use.
    pub(super) fn session(&mut self) -> Result<&mut Session, Failure> {
        self.session.as_mut().ok_or_else(|| Error::Failed("a connection that was given back".into()).into())
    }

    /// For the next one. No transaction is open.
    pub(super) fn give_back(mut self) {
        if let Some(session) = self.session.take() {
            self.is_given_back = true;
            self.pool.lock().idle.push(session);
            self.pool.freed.notify_one();
        }
    }

    /// The same, after its transaction is undone, for which nobody waits.
    pub(super) fn undo(mut self) {
        let runtime = self.pool.runtime.clone();
        runtime.spawn(async move {
            let Ok(session) = self.session() else { return };
            if session.run("ROLLBACK").await.is_ok() {
                self.give_back();
            }
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.is_given_back {
            self.pool.lock().open -= 1;
            self.pool.freed.notify_one();
        }
    }
}
