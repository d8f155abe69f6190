//! Documents: JSON, kept as the text that it came as.
//!
//! A change reads, decides and writes under a lock of the document's own. Documents of shared kinds have one lock for all of them: their
//! changes are counted, the counts are in the order of the commits, and who has seen one count has seen all below it. A change that
//! is committed is told to everybody who listens.

use tokio_postgres::Row;

use super::listen::DOCUMENTS;
use super::pool::{Failure, Session};
use crate::store::{Change, Error, Kind, Shared, SharedChanges, Version};

/// Number of the lock of all shared documents; documents of other kinds have one by their key.
const SHARED_LOCK: i64 = 0x746f_6c6c_6d61_7465;

fn code(kind: Kind) -> i16 {
    i16::from(kind.code())
}

fn text(body: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(body).map_err(|_| Error::Failed("a document that is not UTF-8".into()))
}

/// One document.
pub(super) async fn one(session: &mut Session, kind: Kind, account: u32, id: &str) -> Result<Option<Vec<u8>>, Failure> {
    // A text cannot have it here, so nothing can be called so; asking would be an error.
    if id.contains('\0') {
        return Ok(None);
    }
    let select = "SELECT body::text FROM tollgate.documents WHERE kind = $1 AND account = $2 AND id = $3 AND body IS NOT NULL";
    let select = session.prepared(select).await?;
    let found = session.in_time(session.client.query_opt(&select, &[&code(kind), &i64::from(account), &id])).await?;
    Ok(found.map(|row| row.try_get::<_, String>(0).map(String::into_bytes)).transpose()?)
}

/// All documents of a kind.
pub(super) async fn all(session: &mut Session, kind: Kind, account: u32) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let select = "SELECT id, body::text FROM tollgate.documents WHERE kind = $1 AND account = $2 AND body IS NOT NULL ORDER BY id";
    let select = session.prepared(select).await?;
    let found = session.in_time(session.client.query(&select, &[&code(kind), &i64::from(account)])).await?;
    found.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<_, String>(1)?.into_bytes()))).collect()
}

/// The first documents of a kind behind an id. No id is empty, so that stands before all.
pub(super) async fn after(
    session: &mut Session,
    kind: Kind,
    account: u32,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let select = "SELECT id, body::text FROM tollgate.documents
        WHERE kind = $1 AND account = $2 AND id > $3 AND body IS NOT NULL ORDER BY id LIMIT $4";
    let select = session.prepared(select).await?;
    let (kind, account, after) = (code(kind), i64::from(account), after.unwrap_or_default());
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = session.in_time(session.client.query(&select, &[&kind, &account, &after, &limit])).await?;
    found.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<_, String>(1)?.into_bytes()))).collect()
}

/// Reads a document and writes what `change` makes of it.
pub(super) async fn change(
    session: &mut Session,
    kind: Kind,
    account: u32,
    id: &str,
    change: &mut dyn FnMut(Option<&[u8]>) -> Change,
) -> Result<(), Failure> {
    session.run("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    if kind.is_shared() {
        lock_shared(session).await?;
    } else {
        let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1::smallint || ' ' || $2::bigint || ' ' || $3, 0))";
        let lock = session.prepared(lock).await?;
        session.in_time(session.client.execute(&lock, &[&code(kind), &i64::from(account), &id])).await?;
    }
    // A statement of its own: it sees what was committed while this one waited.
    let stored = one(session, kind, account, id).await?;
    let (body, is_told) = match (change(stored.as_deref()).outcome(), &stored) {
        (None, _) | (Some((None, _)), None) => return session.run("ROLLBACK").await,
        (Some(outcome), _) => outcome,
    };
    let version = if kind.is_shared() { Some(last_version(session).await? + 1) } else { None };
    write(session, kind, account, id, body.as_deref(), version).await?;
    if is_told && !kind.is_shared() {
        // Always behind the lock of the document, so that nobody waits for the other one of two.
        lock_shared(session).await?;
        let Shared { kind, account, id, body } = Shared::told(kind, account, id);
        let version = last_version(session).await? + 1;
        write(session, kind, account, &id, body.as_deref(), Some(version)).await?;
    }
    if is_told || kind.is_shared() {
        tell(session).await?;
    }
    session.commit().await
}

async fn lock_shared(session: &mut Session) -> Result<(), Failure> {
    let lock = session.prepared("SELECT pg_advisory_xact_lock($1)").await?;
    session.in_time(session.client.execute(&lock, &[&SHARED_LOCK])).await?;
    Ok(())
}

async fn last_version(session: &mut Session) -> Result<i64, Failure> {
    let select = session.prepared("SELECT coalesce(max(version), 0) FROM tollgate.documents WHERE version IS NOT NULL").await?;
    Ok(session.in_time(session.client.query_one(&select, &[])).await?.try_get(0)?)
}

async fn write(
    session: &mut Session,
    kind: Kind,
    account: u32,
    id: &str,
    body: Option<&[u8]>,
    version: Option<i64>,
) -> Result<(), Failure> {
    let (kind, account) = (code(kind), i64::from(account));
    let body = body.map(text).transpose()?;
    if body.is_none() && version.is_none() {
        let delete = session.prepared("DELETE FROM tollgate.documents WHERE kind = $1 AND account = $2 AND id = $3").await?;
        session.in_time(session.client.execute(&delete, &[&kind, &account, &id])).await?;
        return Ok(());
    }
    let put = "INSERT INTO tollgate.documents (kind, account, id, body, version) VALUES ($1, $2, $3, $4::text::json, $5)
        ON CONFLICT (kind, account, id) DO UPDATE SET body = excluded.body, version = excluded.version";
    let put = session.prepared(put).await?;
    session.in_time(session.client.execute(&put, &[&kind, &account, &id, &body, &version])).await?;
    Ok(())
}

async fn tell(session: &mut Session) -> Result<(), Failure> {
    let notify = session.prepared("SELECT pg_notify($1, '')").await?;
    session.in_time(session.client.execute(&notify, &[&DOCUMENTS])).await?;
    Ok(())
}

/// What changed of the shared documents since a version.
pub(super) async fn shared_since(session: &mut Session, version: Version) -> Result<SharedChanges, Failure> {
    let since = i64::try_from(version).map_err(|_| Error::Failed("a version beyond 2^63".into()))?;
    let select = "SELECT kind, account, id, body::text, version FROM tollgate.documents WHERE version > $1 ORDER BY version";
    let select = session.prepared(select).await?;
    let found = session.in_time(session.client.query(&select, &[&since])).await?;
    let current = found.last().map(|row| row.try_get::<_, i64>(4)).transpose()?.map_or(version, i64::cast_unsigned);
    let documents = found.iter().map(read_shared).collect::<Result<Vec<_>, Failure>>()?;
    Ok(SharedChanges { version: current, is_all: version == 0, documents })
}

fn read_shared(row: &Row) -> Result<Shared, Failure> {
    let (code_found, account): (i16, i64) = (row.try_get(0)?, row.try_get(1)?);
    let kind = Kind::SHARED.into_iter().find(|kind| code(*kind) == code_found);
    let (Some(kind), Ok(account)) = (kind, u32::try_from(account)) else {
        return Err(Error::Damaged(format!("a shared document of kind {code_found} of account {account}")).into());
    };
    Ok(Shared { kind, account, id: row.try_get(2)?, body: row.try_get::<_, Option<String>>(3)?.map(String::into_bytes) })
}

/// Writes shared documents if nobody has changed any since `version`.
pub(super) async fn change_shared(session: &mut Session, version: Version, documents: &[Shared]) -> Result<Option<Version>, Failure> {
    session.run("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
    lock_shared(session).await?;
    let mut current = last_version(session).await?;
    if current.cast_unsigned() != version {
        session.run("ROLLBACK").await?;
        return Ok(None);
    }
    for Shared { kind, account, id, body } in documents {
        current += 1;
        write(session, *kind, *account, id, body.as_deref(), Some(current)).await?;
    }
    tell(session).await?;
    session.commit().await?;
    Ok(Some(current.cast_unsigned()))
}
