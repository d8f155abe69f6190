//! The schema and its versions: files of SQL, forward only, applied at start.
//!
//! All that is missing is applied in one transaction, under a lock, so that nodes may start at the same time. What was released is
//! never changed; a new version is a new file. A node whose binary is older than the schema does not start.

use tokio_postgres::Client;

use super::OpenError;

/// (name, what it does); the first is version 1.
const MIGRATIONS: [(&str, &str); 2] =
    [("tables", include_str!("migrations/0001_tables.sql")), ("sketches", include_str!("migrations/0002_sketches.sql"))];
/// The oldest server: 14.0.
const SERVER_VERSION_MIN: i32 = 140_000;
/// Number of the lock: "tollgate" in ASCII.
const LOCK: i64 = 0x746f_6c6c_6761_7465;

/// Brings the schema up to the version of this binary.
pub(super) async fn apply(client: &Client) -> Result<(), OpenError> {
    check_server(client).await?;
    if applied(client).await? == MIGRATIONS.len() {
        // Nothing is to be made, so no right to make anything is needed.
        return Ok(());
    }
    client.batch_execute(&format!("BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({LOCK})")).await?;
    // Another node may have been here in the meantime.
    let from = applied(client).await?;
    if from == 0 {
        client
            .batch_execute(
                "CREATE SCHEMA IF NOT EXISTS tollgate;
                 CREATE TABLE IF NOT EXISTS tollgate.migrations (version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL)",
            )
            .await?;
    }
    for (version, (name, sql)) in (1_i32..).zip(MIGRATIONS).skip(from) {
        client.batch_execute(sql).await?;
        client.execute("INSERT INTO tollgate.migrations VALUES ($1, $2, now())", &[&version, &name]).await?;
        tracing::info!(version, name, "the schema of the database was brought to a newer version");
    }
    Ok(client.batch_execute("COMMIT").await?)
}

/// The version that a database has; 0: none.
async fn applied(client: &Client) -> Result<usize, OpenError> {
    // Not `to_regclass`, which may remember from before the wait for the lock that there is none.
    let exists = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'tollgate' AND tablename = 'migrations')";
    let exists: bool = client.query_one(exists, &[]).await?.try_get(0)?;
    if !exists {
        return Ok(0);
    }
    let found: i32 = client.query_one("SELECT coalesce(max(version), 0) FROM tollgate.migrations", &[]).await?.try_get(0)?;
    match usize::try_from(found) {
        Ok(found) if found <= MIGRATIONS.len() => Ok(found),
        _ => Err(OpenError::Unfit(format!(
            "its schema has version {found}, this binary knows versions up to {}: run the newer binary; a schema never goes back",
            MIGRATIONS.len()
        ))),
    }
}

async fn check_server(client: &Client) -> Result<(), OpenError> {
    let settings = "SELECT current_setting('server_version_num')::integer, current_setting('server_version'),
        current_setting('server_encoding'), current_setting('fsync'), current_setting('full_page_writes'), current_setting('data_checksums')";
    let row = client.query_one(settings, &[]).await?;
    let (number, version, encoding): (i32, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if number < SERVER_VERSION_MIN {
        return Err(OpenError::Unfit(format!("it runs on PostgreSQL {version}; version 14 or newer is needed")));
    }
    if encoding != "UTF8" {
        return Err(OpenError::Unfit(format!("its encoding is {encoding}; make one with the encoding UTF8")));
    }
    for (column, setting) in [(3, "fsync"), (4, "full_page_writes")] {
        if row.try_get::<_, &str>(column)? != "on" {
            tracing::warn!(setting, "the database is not safe: a power cut can lose or damage what was committed; switch the setting on");
        }
    }
    if row.try_get::<_, &str>(5)? != "on" {
        tracing::warn!("the database has no data checksums: a page that its disk damages goes unnoticed; see `pg_checksums --enable`");
    }
    Ok(())
}
