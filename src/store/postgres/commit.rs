//! One commit: progress on condition, rows in bulk, conflicts.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;

use futures_util::SinkExt;

use super::listen;
use super::pool::{Failure, Session};
use super::rows::CopyBuffer;
use crate::clock::UnixMillis;
use crate::log::Position;
use crate::store::{CONFLICTS_MAX, Commit, Conflict, Error, Progress};

/// Bytes that are sent at once.
const COPY_BYTES: usize = 256 << 10;

/// For rows on their way: of this session alone, never logged, emptied at every end of a transaction.
const MAKE_STAGE: &str = "CREATE TEMPORARY TABLE IF NOT EXISTS tollgate_stage (
    key bytea, rest bytea, count bigint, last_time timestamptz, sum numeric, min numeric, max numeric, last numeric, last_id text,
    sketches bytea
) ON COMMIT DELETE ROWS";
const COPY: &str = "COPY pg_temp.tollgate_stage FROM STDIN (FORMAT binary)";
const WRITE: &str = "INSERT INTO tollgate.rows AS stored (key, rest, count, last_time, sum, min, max, last, last_id, sketches)
    SELECT key, rest, count, last_time, sum, min, max, last, last_id, sketches FROM pg_temp.tollgate_stage
    ON CONFLICT (key) DO UPDATE SET count = excluded.count, last_time = excluded.last_time, sum = excluded.sum, min = excluded.min,
        max = excluded.max, last = excluded.last, last_id = excluded.last_id, sketches = excluded.sketches";

/// Where a partition stands of which nothing is stored.
pub(super) const BEGIN: Progress = Progress { next: Position(0), log_time: UnixMillis(i64::MIN) };

/// Commits, or finds that this owner is a zombie.
pub(super) async fn run(session: &mut Session, commit: &Commit) -> Result<(), Failure> {
    if !session.has_prepared(WRITE) {
        session.run(MAKE_STAGE).await?;
        session.prepared(WRITE).await?;
    }
    session.run("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    if let Some(found) = move_progress(session, commit).await? {
        session.run("ROLLBACK").await?;
        return Err(Error::Fenced { partition: commit.partition, expected: commit.expected.next, found: found.next }.into());
    }
    write_rows(session, commit).await?;
    keep_conflicts(session, &commit.conflicts).await?;
    session.commit().await?;
    // The commit stands, whatever becomes of this: who waits for it looks now and then.
    if let Err(Failure { error, .. }) = listen::tell(session, listen::PROGRESS, &[(commit.partition, commit.reached.next)]).await {
        tracing::debug!(%error, "nobody was told of a commit");
    }
    Ok(())
}

fn partition(partition: u32) -> Result<i32, Error> {
    i32::try_from(partition).map_err(|_| Error::Failed("a partition beyond 2^31".into()))
}

pub(super) fn position(position: Position) -> i64 {
    // Behind all that can be.
    i64::try_from(position.0).unwrap_or(i64::MAX)
}

/// Moves the progress if it is as expected; gives back what it is if it is not.
async fn move_progress(session: &mut Session, commit: &Commit) -> Result<Option<Progress>, Failure> {
    // Waits for another owner's transaction, and looks then.
    let sql = if commit.expected == BEGIN {
        "INSERT INTO tollgate.progress AS stored (partition, next, log_time_ms, committed_at) VALUES ($1, $2, $3, now())
             ON CONFLICT (partition) DO UPDATE SET next = excluded.next, log_time_ms = excluded.log_time_ms, committed_at = excluded.committed_at
             WHERE stored.next = $4 AND stored.log_time_ms = $5"
    } else {
        "UPDATE tollgate.progress SET next = $2, log_time_ms = $3, committed_at = now() WHERE partition = $1 AND next = $4 AND log_time_ms = $5"
    };
    let statement = session.prepared(sql).await?;
    let Commit { expected, reached, .. } = commit;
    let partition = partition(commit.partition)?;
    let moved = session
        .in_time(session.client.execute(
            &statement,
            &[&partition, &position(reached.next), &reached.log_time.0, &position(expected.next), &expected.log_time.0],
        ))
        .await?;
    if moved == 1 { Ok(None) } else { read_progress(session, commit.partition).await.map(Some) }
}

/// How far a partition's rows go.
pub(super) async fn read_progress(session: &mut Session, of: u32) -> Result<Progress, Failure> {
    let statement = session.prepared("SELECT next, log_time_ms FROM tollgate.progress WHERE partition = $1").await?;
    let found = session.in_time(session.client.query_opt(&statement, &[&partition(of)?])).await?;
    let Some(row) = found else { return Ok(BEGIN) };
    Ok(Progress { next: Position(row.try_get::<_, i64>(0)?.cast_unsigned()), log_time: UnixMillis(row.try_get(1)?) })
}

/// The same of several partitions, in their order here; in one question.
pub(super) async fn read_progresses(session: &mut Session, of: &[u32]) -> Result<Vec<Progress>, Failure> {
    let stored: BTreeMap<u32, Progress> = read_all_progress(session).await?.into_iter().collect();
    Ok(of.iter().map(|partition| stored.get(partition).copied().unwrap_or(BEGIN)).collect())
}

/// How far the rows of all partitions go of which something is stored.
pub(super) async fn read_all_progress(session: &mut Session) -> Result<Vec<(u32, Progress)>, Failure> {
    let statement = session.prepared("SELECT partition, next, log_time_ms FROM tollgate.progress ORDER BY partition").await?;
    let found = session.in_time(session.client.query(&statement, &[])).await?;
    let read = |row: &tokio_postgres::Row| {
        let partition = row.try_get::<_, i32>(0)?.cast_unsigned();
        Ok((partition, Progress { next: Position(row.try_get::<_, i64>(1)?.cast_unsigned()), log_time: UnixMillis(row.try_get(2)?) }))
    };
    found.iter().map(read).collect()
}

async fn write_rows(session: &mut Session, commit: &Commit) -> Result<(), Failure> {
    if commit.rows.is_empty() {
        return Ok(());
    }
    let copy = session.prepared(COPY).await?;
    let mut sink = pin!(session.in_time(session.client.copy_in::<_, bytes::Bytes>(&copy)).await?);
    let mut buffer = CopyBuffer::new();
    for row in commit.rows.rows() {
        let (key, row) = row?;
        buffer.add(key, &row)?;
        if buffer.len() >= COPY_BYTES {
            session.in_time(sink.send(buffer.take().into())).await?;
        }
    }
    session.in_time(sink.send(buffer.finish().into())).await?;
    session.in_time(sink.as_mut().finish()).await?;
    let write = session.prepared(WRITE).await?;
    session.in_time(session.client.execute(&write, &[])).await?;
    Ok(())
}

/// Adds conflicts and forgets the oldest of each account that has too many.
async fn keep_conflicts(session: &mut Session, new: &[Conflict]) -> Result<(), Failure> {
    if new.is_empty() {
        return Ok(());
    }
    // One that is named twice has what it was named with last.
    let mut firsts = BTreeMap::new();
    for conflict in new {
        let owner = (i64::from(conflict.account), partition(conflict.partition)?);
        firsts.insert((owner, position(conflict.position)), position(conflict.first));
    }
    let owners: BTreeSet<(i64, i32)> = firsts.keys().map(|(owner, _)| *owner).collect();
    let (keys, firsts): (Vec<_>, Vec<i64>) = firsts.into_iter().unzip();
    let (of, positions): (Vec<_>, Vec<i64>) = keys.into_iter().unzip();
    let (accounts, partitions): (Vec<i64>, Vec<i32>) = of.into_iter().unzip();
    let add = "INSERT INTO tollgate.conflicts (account, partition, position, first) SELECT * FROM unnest($1::bigint[], $2::integer[], $3::bigint[], $4::bigint[])
        ON CONFLICT (account, partition, position) DO UPDATE SET first = excluded.first";
    let add = session.prepared(add).await?;
    session.in_time(session.client.execute(&add, &[&accounts, &partitions, &positions, &firsts])).await?;
    let forget = "DELETE FROM tollgate.conflicts old USING unnest($1::bigint[], $2::integer[]) AS owner (account, partition),
        LATERAL (SELECT position FROM tollgate.conflicts kept WHERE (kept.account, kept.partition) = (owner.account, owner.partition)
            ORDER BY position DESC OFFSET $3 LIMIT 1) AS oldest
        WHERE (old.account, old.partition) = (owner.account, owner.partition) AND old.position < oldest.position";
    let forget = session.prepared(forget).await?;
    let (accounts, partitions): (Vec<i64>, Vec<i32>) = owners.into_iter().unzip();
    session.in_time(session.client.execute(&forget, &[&accounts, &partitions, &(CONFLICTS_MAX as i64 - 1)])).await?;
    Ok(())
}
