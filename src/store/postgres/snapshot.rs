//! Snapshots: a transaction that is begun by the first look and given up when nobody looks.
//!
//! A transaction with a snapshot takes a connection and keeps the server from clearing up behind it, over the whole database. So none is held
//! for longer than somebody reads:
//! - `Store::snapshot` itself asks nothing. The first look begins a transaction (repeatable read, read only), which sees what is committed at
//!   that moment; all further looks see the same.
//! - A transaction that nobody has looked at for `Timeouts::idle` ends, as it does when its connection is lost. The next look begins
//!   another, which sees what is committed then.
//!
//! # Why that is right
//! Whoever was told a partition's progress by a snapshot goes by it: verification compares the rows as of this position, a base is sealed at it. So
//! the snapshot remembers what it told, and when it has to begin again and finds another progress, it fails for good instead.
//!
//! The owner of a partition keeps a snapshot from one commit to the next and asks it for rows that it does not have in memory. Nobody else
//! writes rows of its partition. Its own commits change only rows that it has in memory, and it forgets a row only after the
//! commit that holds it; so a row that it asks for is the same in every snapshot at or after its last commit, and a later
//! one does no harm. If somebody else did commit, this owner is a zombie, and its next commit is fenced, whatever it read.
//!
//! A query lays the owner's uncommitted rows over a snapshot. Rows are absolute, never deltas, so a snapshot that is later than these rows
//! counts nothing twice: each row is as of the position that was asked for, or a later one.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use tokio_postgres::types::ToSql;

use super::commit::{position, read_progress, read_progresses};
use super::pool::{Failure, Lease, Pool, Session, wait};
use super::rows::{self, behind, damaged, stored_key};
use crate::log::Position;
use crate::store::{Conflict, Error, Item, KeyRange, Progress, Row, RowKey, RowSelection, Rows, Snapshot, Visit};

/// Ranges of keys that are asked for at once.
const RANGES: usize = 1_000;

/// The columns that [`rows::read`] takes.
macro_rules! columns {
    () => {
        "stored.key, stored.rest, stored.count, stored.last_time, stored.sum, stored.min, stored.max, stored.last, stored.last_id, \
         stored.sketches"
    };
}
/// Each key is looked up by itself: of a table that was never analyzed, the server might rather read all of it.
const ROWS_OF_KEYS: &str = concat!(
    "SELECT ",
    columns!(),
    ", wanted.number FROM unnest($1::bytea[]) WITH ORDINALITY AS wanted (key, number)
        CROSS JOIN LATERAL (SELECT * FROM tollgate.rows WHERE key = wanted.key OFFSET 0) AS stored"
);
/// Both bounds have to be plain comparisons: with an OR beside one, the index is read from the other on to its end.
const COUNTS: &str = "SELECT (SELECT count(*) FROM tollgate.rows WHERE key >= begins AND key < ends)
    FROM unnest($1::bytea[], $2::bytea[]) WITH ORDINALITY AS prefix (begins, ends, number) ORDER BY number";
const RANGE: &str = concat!("SELECT ", columns!(), " FROM tollgate.rows stored WHERE key >= $1 AND key < $2 ORDER BY key");
/// Each range is looked up by itself; the order of the ranges is that of the keys.
const SOME_RANGES: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM unnest($1::bytea[], $2::bytea[]) AS range (begins, ends)
        CROSS JOIN LATERAL (SELECT * FROM tollgate.rows WHERE key >= range.begins AND key < range.ends OFFSET 0) AS stored ORDER BY key"
);
/// Keys that are cut are in the order of their checksums. Where there are some, the server has to sort.
const HAS_CUT_KEYS: &str = "SELECT EXISTS (SELECT FROM tollgate.rows WHERE rest IS NOT NULL AND key >= $1 AND key < $2)";
const SOME_RANGES_WITH_CUT_KEYS: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM unnest($1::bytea[], $2::bytea[]) AS range (begins, ends)
        CROSS JOIN LATERAL (SELECT * FROM tollgate.rows WHERE key >= range.begins AND key < range.ends OFFSET 0) AS stored
        ORDER BY substring(key FOR 2000), rest NULLS FIRST"
);

/// The first of each range, and the first of those.
const FIRST_KEY: &str = "SELECT stored.key FROM unnest($1::bytea[], $2::bytea[]) AS range (begins, ends)
    CROSS JOIN LATERAL (SELECT key FROM tollgate.rows WHERE key >= range.begins AND key < range.ends ORDER BY key LIMIT 1) AS stored
    ORDER BY stored.key LIMIT 1";

type VisitStored<'v> = dyn FnMut(&[u8], &Row) -> Result<(), Error> + 'v;

/// What is committed at one moment.
pub(super) struct PostgresSnapshot {
    pool: Arc<Pool>,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    transaction: Option<Transaction>,
    /// The progress that somebody goes by.
    told: BTreeMap<u32, Progress>,
}

struct Transaction {
    lease: Lease,
    last_look: Instant,
}

impl PostgresSnapshot {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, held: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks; once more, in a new transaction, if this one is lost. `work` must not have shown anybody anything when it fails so.
    fn look<T>(&self, mut work: impl AsyncFnMut(&mut Session) -> Result<T, Failure>) -> Result<T, Error> {
        let mut held = self.lock();
        let mut is_second = false;
        loop {
            let result = match self.transaction(&mut held) {
                Ok(transaction) => {
                    let result = wait(self.pool.runtime(), async { work(transaction.lease.session()?).await });
                    transaction.last_look = Instant::now();
                    result
                }
                Err(failure) => Err(failure),
            };
            let Err(failure) = result else { return result.map_err(|failure| failure.error) };
            // It has failed, or is in the middle of an answer: its connection ends with it.
            held.transaction = None;
            if !failure.is_passing || is_second {
                return Err(failure.error);
            }
            is_second = true;
        }
    }

    fn transaction<'h>(&self, held: &'h mut Held) -> Result<&'h mut Transaction, Failure> {
        if held.transaction.is_none() {
            let mut lease = self.pool.lease()?;
            wait(self.pool.runtime(), begin(lease.session()?, &held.told))?;
            held.transaction = Some(Transaction { lease, last_look: Instant::now() });
            self.pool.runtime().spawn(give_up_when_idle(Arc::downgrade(&self.held), self.pool.timeouts().idle));
        }
        held.transaction.as_mut().ok_or_else(|| Error::Failed("no transaction".into()).into())
    }
}

async fn begin(session: &mut Session, told: &BTreeMap<u32, Progress>) -> Result<(), Failure> {
    session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    if told.is_empty() {
        return Ok(());
    }
    let partitions: Vec<u32> = told.keys().copied().collect();
    let found = read_progresses(session, &partitions).await?;
    for ((partition, told), found) in told.iter().zip(found) {
        if found != *told {
            return Err(Error::Failed(format!(
                "a snapshot of partition {partition} at {} was given up, and the rows have moved on to {}; take a new one",
                told.next, found.next
            ))
            .into());
        }
    }
    Ok(())
}

/// Shows every row in these ranges, which are in order.
async fn scan_ranges(session: &mut Session, from: &[&[u8]], to: &[&[u8]], visit: &mut VisitStored<'_>) -> Result<(), Failure> {
    let (Some(first), Some(last)) = (from.first(), to.last()) else { return Ok(()) };
    let has_cut_keys = session.prepared(HAS_CUT_KEYS).await?;
    let has_cut_keys: bool = session.in_time(session.client.query_one(&has_cut_keys, &[first, last])).await?.try_get(0)?;
    let mut key = Vec::with_capacity(128);
    let mut show = |row: &tokio_postgres::Row| {
        let read = rows::read(row, &mut key)?;
        Ok(visit(&key, &read)?)
    };
    match (has_cut_keys, from.len()) {
        (false, 1) => each(session, RANGE, &[first, last], &mut show).await,
        (false, _) => each(session, SOME_RANGES, &[&from, &to], &mut show).await,
        (true, _) => each(session, SOME_RANGES_WITH_CUT_KEYS, &[&from, &to], &mut show).await,
    }
}

/// Shows one row of an answer after another; no more of it is in memory than was read at once.
async fn each(
    session: &mut Session,
    sql: &'static str,
    parameters: &[&(dyn ToSql + Sync)],
    show: &mut (dyn FnMut(&tokio_postgres::Row) -> Result<(), Failure> + '_),
) -> Result<(), Failure> {
    let statement = session.prepared(sql).await?;
    let stream = session.in_time(session.client.query_raw(&statement, parameters.iter().copied())).await?;
    let mut stream = pin!(stream);
    // Something may have been shown by now: it is not tried again.
    let for_good = |failure| Failure { is_passing: false, ..failure };
    while let Some(row) = session.in_time(stream.try_next()).await.map_err(for_good)? {
        show(&row).map_err(for_good)?;
    }
    Ok(())
}

async fn give_up_when_idle(held: Weak<Mutex<Held>>, idle_max: Duration) {
    loop {
        tokio::time::sleep(idle_max / 2).await;
        let Some(held) = held.upgrade() else { return };
        let mut held = match held.try_lock() {
            Ok(held) => held,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // Somebody is looking.
            Err(TryLockError::WouldBlock) => continue,
        };
        match held.transaction.take() {
            None => return,
            Some(transaction) if transaction.last_look.elapsed() < idle_max => held.transaction = Some(transaction),
            Some(transaction) => return transaction.lease.undo(),
        }
    }
}

impl Drop for PostgresSnapshot {
    fn drop(&mut self) {
        if let Some(transaction) = self.lock().transaction.take() {
            transaction.lease.undo();
        }
    }
}

impl Rows for PostgresSnapshot {
    fn scan(&self, selection: &RowSelection, visit: &mut Visit<'_>) -> Result<(), Error> {
        let mut visit = |key: &[u8], row: &Row| visit(RowKey::read(key).ok_or_else(|| damaged(&"its key"))?, row);
        for ranges in selection.key_ranges().chunks(RANGES) {
            let (from, to): (Vec<&[u8]>, Vec<&[u8]>) = ranges.iter().map(|(from, to)| (from.as_slice(), to.as_slice())).unzip();
            self.look(async |session| scan_ranges(session, &from, &to, &mut visit).await)?;
        }
        Ok(())
    }

    fn first_key(&self, ranges: &[KeyRange]) -> Result<Option<Vec<u8>>, Error> {
        for ranges in ranges.chunks(RANGES) {
            let (from, to): (Vec<&[u8]>, Vec<&[u8]>) = ranges.iter().map(|(from, to)| (from.as_slice(), to.as_slice())).unzip();
            let found = self.look(async |session| {
                let first = session.prepared(FIRST_KEY).await?;
                let found = session.in_time(session.client.query_opt(&first, &[&from, &to])).await?;
                Ok(found.map(|row| row.try_get(0)).transpose()?)
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

impl Snapshot for PostgresSnapshot {
    fn is_far(&self) -> bool {
        true
    }

    fn row(&self, key: &[u8]) -> Result<Option<Row>, Error> {
        Ok(self.rows(std::slice::from_ref(&key.to_vec()))?.pop().flatten())
    }

    fn rows(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Row>>, Error> {
        let stored: Vec<Vec<u8>> = keys.iter().map(|key| stored_key(key).0).collect();
        self.look(async |session| {
            let select = session.prepared(ROWS_OF_KEYS).await?;
            let stream = session.in_time(session.client.query_raw(&select, [&stored as &(dyn ToSql + Sync)])).await?;
            let mut stream = pin!(stream);
            let mut found = vec![None; keys.len()];
            let mut key = Vec::new();
            while let Some(row) = session.in_time(stream.try_next()).await? {
                let at: i64 = row.try_get(10)?;
                let read = rows::read(&row, &mut key)?;
                // The place in the question, counted from 1.
                if let Some(found) = usize::try_from(at - 1).ok().and_then(|at| found.get_mut(at)) {
                    *found = Some(read);
                }
            }
            Ok(found)
        })
    }

    fn count(&self, prefix: &[u8]) -> Result<u64, Error> {
        Ok(self.counts(std::slice::from_ref(&prefix.to_vec()))?.pop().unwrap_or(0))
    }

    fn counts(&self, prefixes: &[Vec<u8>]) -> Result<Vec<u64>, Error> {
        let ends: Vec<Vec<u8>> = prefixes.iter().map(|prefix| behind(prefix)).collect();
        self.look(async |session| {
            let statement = session.prepared(COUNTS).await?;
            let counted = session.in_time(session.client.query(&statement, &[&prefixes, &ends])).await?;
            counted.iter().map(|row| Ok(row.try_get::<_, i64>(0)?.unsigned_abs())).collect()
        })
    }

    fn progress(&self, partition: u32) -> Result<Progress, Error> {
        let progress = self.look(async |session| read_progress(session, partition).await)?;
        self.lock().told.insert(partition, progress);
        Ok(progress)
    }

    fn progresses(&self, partitions: &[u32]) -> Result<Vec<Progress>, Error> {
        let progresses = self.look(async |session| read_progresses(session, partitions).await)?;
        self.lock().told.extend(partitions.iter().copied().zip(progresses.iter().copied()));
        Ok(progresses)
    }

    fn conflicts(&self, account: u32, partition: u32, before: Position, limit: usize) -> Result<Vec<Conflict>, Error> {
        let (of, end) = (i64::from(account), position(before));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.look(async |session| {
            let statement = "SELECT account, partition::bigint, position, first FROM tollgate.conflicts
                WHERE account = $1 AND partition::bigint = $2 AND position < $3 ORDER BY position DESC LIMIT $4";
            let statement = session.prepared(statement).await?;
            let found = session.in_time(session.client.query(&statement, &[&of, &i64::from(partition), &end, &limit])).await?;
            found.iter().map(read_conflict).collect()
        })
    }

    fn visit(&self, visit: &mut dyn FnMut(Item<'_>) -> Result<(), Error>) -> Result<(), Error> {
        // What was shown cannot be taken back.
        let once = |failure| Failure { is_passing: false, ..failure };
        self.look(async |session| visit_all(session, visit).await.map_err(once))
    }
}

async fn visit_all(session: &mut Session, visit: &mut dyn FnMut(Item<'_>) -> Result<(), Error>) -> Result<(), Failure> {
    // However long it takes.
    session.run("SET LOCAL statement_timeout = 0").await?;
    // No account has this number, nor any behind it.
    scan_ranges(session, &[b""], &[&[0xff; 4]], &mut |key, row| visit(Item::Row(key, row))).await?;
    let conflicts = "SELECT account, partition::bigint, position, first FROM tollgate.conflicts ORDER BY account, partition, position";
    each(session, conflicts, &[], &mut |row| visit(Item::Conflict(read_conflict(row)?)).map_err(Failure::from)).await?;
    let documents = "SELECT kind, account, id, body::text FROM tollgate.documents WHERE body IS NOT NULL ORDER BY kind, account, id";
    each(session, documents, &[], &mut |row| {
        let (kind, account): (i16, i64) = (row.try_get(0)?, row.try_get(1)?);
        let (Ok(kind), Ok(account)) = (u8::try_from(kind), u32::try_from(account)) else {
            return Err(Error::Damaged("a document's key".into()).into());
        };
        Ok(visit(Item::Document(kind, account, row.try_get(2)?, row.try_get::<_, &str>(3)?.as_bytes()))?)
    })
    .await
}

fn read_conflict(row: &tokio_postgres::Row) -> Result<Conflict, Failure> {
    let (account, partition): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let (position, first): (i64, i64) = (row.try_get(2)?, row.try_get(3)?);
    let (Ok(account), Ok(partition)) = (u32::try_from(account), u32::try_from(partition)) else {
        return Err(Error::Damaged("a conflict".into()).into());
    };
    Ok(Conflict { account, partition, position: Position(position.cast_unsigned()), first: Position(first.cast_unsigned()) })
}
