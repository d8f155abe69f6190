//! What became of an event: the verdict, where it is, when it came, what it says, the rows that it counts in (`design.md`,
//! promise 8).
//!
//! The dedup index of whoever owns a partition ([`Owners`]) knows where an identity stands first, the log has the event, the store keeps
//! the latest conflicts, the dead letters what was rejected beside good neighbours. In which partition an event is follows from what it
//! is called. Lists go back from the newest, a bounded number of records at a time.

mod cursor;
mod merge;
mod owners;
mod read;
mod reconcile;
mod scan;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{Mutex, Semaphore};

use crate::clock::{Clock, UnixMillis};
use crate::event::identity::partition;
use crate::event::{ContentHash, HashKey, IdentityHash, IdentityMode};
use crate::letters::{self, Letter, Letters};
use crate::log::record::{Account, Record, records};
use crate::log::{self, LogReader, Partition, Position};
use crate::materializer::first_positions::First as FirstPosition;
use crate::materializer::fold::Verdict;
use crate::materializer::{Lookup, ViewError};
use crate::store::row::{DAY_S, HOUR_S};
use crate::store::{self, CONFLICTS_MAX, Conflict, DimensionSet, Grain, RowKey, RowSelection};

use crate::usage::{self, UsageSource, ViewRequest};

pub use cursor::Cursor;
pub use owners::{Answering, Owners};
use read::Reading;
pub use reconcile::{Reconciled, Standing};
pub use scan::{Filter, Listed, Page, Wanted as WantedVerdict};

/// How far lists go back.
const WINDOW: Duration = Duration::from_secs(72 * 3_600);
/// How long a look-up waits until what was acked before it is folded.
const WAIT: Duration = Duration::from_secs(2);

/// What verdicts are made of.
pub struct Parts {
    /// The events: all partitions of the log, by their numbers.
    pub log: Vec<Arc<dyn Partition>>,
    /// What was rejected.
    pub letters: Arc<Letters>,
    /// Has the rows.
    pub source: Arc<dyn UsageSource>,
    /// Know firsts and conflicts.
    pub owners: Arc<dyn Owners>,
    /// Of the events' log.
    pub hash_key: HashKey,
    /// For how far lists go back.
    pub clock: Clock,
}

/// Answers what became of events.
pub struct Verdicts {
    log: Reading,
    letters: Arc<Letters>,
    source: Arc<dyn UsageSource>,
    owners: Arc<dyn Owners>,
    hash_key: HashKey,
    clock: Clock,
    /// Held by whoever looks up thousands of events at once: the thread that folds answers them one after the other.
    reconciling: Mutex<()>,
}

/// A record of the log, as far as an answer needs it.
#[derive(Debug, Clone)]
pub struct Logged {
    /// The partition that it is in.
    pub partition: u32,
    /// Where in it.
    pub position: Position,
    /// When the gateway received it.
    pub received: UnixMillis,
    /// What it says, as JSON.
    pub event: Box<RawValue>,
    account: u32,
    log_time: UnixMillis,
    identity: IdentityHash,
    content: ContentHash,
    is_filtered: bool,
    unique_id: String,
    namespace: String,
    measured: Vec<Measured>,
}

/// What one measurement is counted under.
#[derive(Debug, Clone)]
struct Measured {
    /// Whether a rule dropped it.
    is_filtered: bool,
    meter: String,
    customer: String,
    hour: u32,
    day: u32,
    dimensions: Vec<u8>,
}

/// A row that an event counts in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedIn {
    /// The meter.
    pub meter: String,
    /// Who is billed.
    pub customer: String,
    /// Begin of the hour, s since 1970.
    pub hour_s: i64,
    /// Begin of the day, s since 1970.
    pub day_s: i64,
    /// The row's dimensions; `None`: the row that the sets past the limit share.
    pub dimensions: Option<Vec<(String, String)>>,
}

/// What became of one event.
#[derive(Debug)]
pub enum Fate {
    /// It is in the log.
    Logged {
        /// `counted` or `filtered`; `None` where only the record would tell, and retention has taken it.
        verdict: Option<Verdict>,
        /// The partition of all its records.
        partition: u32,
        /// Where it stands first.
        position: Position,
        /// The record; `None` once retention has taken it.
        record: Option<Box<Logged>>,
        /// Where it counts; empty if it does not, or if the record is gone.
        rows: Vec<CountedIn>,
        /// Later records of the same identity that say something else, newest first.
        conflicts: Vec<Logged>,
    },
    /// It was refused although its neighbours were taken.
    Rejected(Box<Letter>),
    /// Nobody has seen it, or that is too long ago.
    Unknown,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// In this account an id alone names no event.
    #[error("in this account an event is named by all of its attributes, not by its uniqueId alone: list with uniqueId as a filter")]
    NotAnId,
    /// The materializer does not answer.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The dead letters cannot be read.
    #[error(transparent)]
    Letters(#[from] letters::Error),
    /// Too many are looking up many at once.
    #[error("too many requests look up many events")]
    Busy,
    /// The rows do not answer.
    #[error(transparent)]
    Rows(#[from] usage::ViewError),
    /// Nobody knows of such a partition.
    #[error("the log has no partition {0}")]
    NoPartition(u32),
    /// The rows cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The thread that reads broke off.
    #[error("reading was interrupted")]
    Interrupted,
}

impl Verdicts {
    /// Of these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { log, letters, source, owners, hash_key, clock } = parts;
        Self { log: Reading::new(log), letters, source, owners, hash_key, clock, reconciling: Mutex::default() }
    }

    /// Partitions of the log.
    pub fn partitions(&self) -> u32 {
        self.log.partitions()
    }

    /// What became of the event with this id.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn fate(self: &Arc<Self>, account: Account, namespace: &str, unique_id: &str) -> Result<Fate, Error> {
        if account.identity == IdentityMode::AllAttributes {
            return Err(Error::NotAnId);
        }
        let Some(identity) = self.hash_key.identity_of(account.number, namespace, unique_id) else { return Ok(Fate::Unknown) };
        let partition = partition(account.number, namespace, unique_id, self.partitions());
        let found = self.owners.firsts(partition, vec![Lookup::any(identity)], WAIT).await?;
        let Some(first) = found.into_iter().next().flatten() else {
            return self.fate_of_letter(account.number, namespace, unique_id).await;
        };
        let record = self.log.at(partition, vec![first.position]).await?.remove(&first.position);
        let verdict = record.as_ref().map(|record| if record.is_filtered { Verdict::Filtered } else { Verdict::Counted });
        let rows = match &record {
            Some(record) if !record.is_filtered => self.rows_of(record).await?,
            _ => Vec::new(),
        };
        let conflicts = self.owners.conflicts(partition, account.number, Position(u64::MAX), CONFLICTS_MAX, WAIT).await?;
        let of_this = conflicts.iter().filter(|conflict| conflict.first == first.position).map(|conflict| conflict.position).collect();
        let conflicts = self.log.at(partition, of_this).await?.into_values().rev().collect();
        Ok(Fate::Logged { verdict, partition, position: first.position, record: record.map(Box::new), rows, conflicts })
    }

    async fn fate_of_letter(&self, account: u32, namespace: &str, unique_id: &str) -> Result<Fate, Error> {
        // What was not taken has no namespace yet.
        if !namespace.is_empty() {
            return Ok(Fate::Unknown);
        }
        let filter = letters::Filter { unique_id: Some(unique_id.to_owned()), limit: 1, ..letters::Filter::default() };
        let latest = self.letters.list(account, filter).await?.letters.into_iter().next();
        Ok(latest.map_or(Fate::Unknown, |letter| Fate::Rejected(Box::new(letter))))
    }

    /// Where a record that counts is counted: under its dimensions if there is such a row, or else in the row that the sets past the limit
    /// share (a set that once did not fit never gets a row of its own).
    async fn rows_of(&self, record: &Logged) -> Result<Vec<CountedIn>, Error> {
        let wanted = |measured: &Measured| ViewRequest {
            account: record.account,
            meter: Some(measured.meter.clone()),
            from_s: i64::from(measured.day) * DAY_S,
            to_s: (i64::from(measured.day) + 1) * DAY_S,
            customers: Some(vec![measured.customer.clone()]),
        };
        let view = self.source.view(record.counted().map(wanted).collect(), WAIT).await?;
        let reached = |(partition, next): &(u32, u64)| *partition == record.partition && *next > record.position.0;
        if !view.complete && !view.positions.iter().any(reached) {
            // Without the row it would look as if the event's dimensions had none.
            return Err(ViewError::Behind.into());
        }
        let (measured, account, partition) = (record.counted().cloned().collect::<Vec<_>>(), record.account, record.partition);
        blocking(move || {
            let row = |measured: &Measured| counted_in(&*view.rows, account, partition, measured);
            measured.iter().map(row).collect::<Result<Vec<_>, store::Error>>().map_err(Error::from)
        })
        .await
    }
}

fn counted_in(rows: &dyn store::Rows, account: u32, partition: u32, measured: &Measured) -> Result<CountedIn, store::Error> {
    let selection = RowSelection {
        account,
        meter: measured.meter.clone(),
        grain: Grain::Day,
        from: measured.day,
        to: measured.day + 1,
        customers: Some(vec![measured.customer.clone()]),
    };
    let own = DimensionSet(&measured.dimensions);
    let mut has_own = false;
    rows.scan(&selection, &mut |key: RowKey<'_>, _| {
        // Each partition has rows and a limit of its own.
        has_own |= key.partition == partition && key.dimensions == own;
        Ok(())
    })?;
    Ok(CountedIn {
        meter: measured.meter.clone(),
        customer: measured.customer.clone(),
        hour_s: i64::from(measured.hour) * HOUR_S,
        day_s: i64::from(measured.day) * DAY_S,
        dimensions: has_own.then(|| own.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
    })
}

impl Logged {
    fn new(record: &Record<'_>, partition: u32, position: Position, log_time: UnixMillis) -> Self {
        // A record that was decoded always serializes.
        let event = serde_json::value::to_raw_value(record).unwrap_or_else(|_| RawValue::NULL.to_owned());
        let seconds = record.time.seconds();
        let measured = |measured: crate::log::record::Measured<'_>| Measured {
            is_filtered: measured.is_filtered,
            meter: measured.meter.to_owned(),
            customer: record.customer_id.to_owned(),
            // Checked when the record was read: between 1970 and 9999.
            hour: (seconds / HOUR_S) as u32,
            day: (seconds / DAY_S) as u32,
            dimensions: measured.dimensions.into_owned(),
        };
        Self {
            partition,
            position,
            received: record.received,
            event,
            account: record.account,
            log_time,
            identity: record.identity,
            content: record.content,
            is_filtered: record.filtered,
            unique_id: record.unique_id.to_owned(),
            namespace: record.namespace.to_owned(),
            measured: record.measured().map(measured).collect(),
        }
    }

    /// The meters of it that rules dropped, if others of it count.
    pub fn filtered_meters(&self) -> Vec<&str> {
        if self.is_filtered {
            Vec::new()
        } else {
            self.measured.iter().filter(|one| one.is_filtered).map(|one| one.meter.as_str()).collect()
        }
    }

    fn counted(&self) -> impl Iterator<Item = &Measured> {
        self.measured.iter().filter(|one| !one.is_filtered)
    }

    /// The id that the producer gave, or the gateway.
    pub fn unique_id(&self) -> &str {
        &self.unique_id
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Interrupted)?
}

#[cfg(test)]
pub(crate) mod tests;
