//! What is asked of the materializer's thread, and the rows that it gives out: those stored, with those laid over them that were folded
//! since.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Instant;

use tokio::sync::oneshot;

use super::first_positions::First;
use crate::clock::UnixMillis;
use crate::event::IdentityHash;
use crate::log::Position;
use crate::store::{self, Conflict, KeyRange, Row, RowKey, RowSelection, Rows, Snapshot, Visit};

/// What a view must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Whose rows.
    pub account: u32,
    /// One meter, or all.
    pub meter: Option<String>,
    /// Some customers, sorted, or all.
    pub customers: Option<Vec<String>>,
    /// First day, as days since 1970.
    pub from_day: u32,
    /// One past the last day.
    pub to_day: u32,
}

impl Wanted {
    pub(super) fn holds(&self, key: &RowKey<'_>) -> bool {
        key.account == self.account
            && (self.from_day..self.to_day).contains(&key.bucket)
            && self.meter.as_deref().is_none_or(|meter| meter == key.meter)
            && self
                .customers
                .as_ref()
                .is_none_or(|customers| customers.binary_search_by(|customer| customer.as_str().cmp(key.customer)).is_ok())
    }
}

/// Rows as of one position.
pub struct View {
    /// What is stored, with what was folded since.
    pub rows: Box<dyn Rows>,
    /// Everything before this position is in it.
    pub next: Position,
    /// Whether that is everything that was durable when the view was asked for.
    pub complete: bool,
}

/// No view can be had.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Too many queries wait.
    #[error("too many queries wait for the rows")]
    Busy,
    /// What was durable when it was asked has not been folded within the wait, and a part of the answer would be wrong.
    #[error("the latest records have not been folded in time")]
    Behind,
    /// The store failed, or the process is stopping.
    #[error("the rows cannot be read now: {0}")]
    Failed(String),
}

/// Which first record is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lookup {
    /// The identity that it is to have.
    pub identity: IdentityHash,
    /// It does not stand before this position.
    pub from: Position,
    /// It stands before this position.
    pub before: Position,
    /// Log time at that position: older firsts than the horizon do not matter. `i64::MIN`: all that are known.
    pub log_time: UnixMillis,
}

impl Lookup {
    /// Any first of an identity.
    pub fn any(identity: IdentityHash) -> Self {
        Self { identity, from: Position(0), before: Position(u64::MAX), log_time: UnixMillis(i64::MIN) }
    }
}

/// A request to the materializer's thread: what is asked, and how much must be folded before.
pub(super) struct Request {
    pub(super) at_least: Position,
    pub(super) deadline: Instant,
    pub(super) asked: Question,
}

pub(super) enum Question {
    View(Vec<Wanted>, Reply<View>),
    Firsts(Vec<Lookup>, Reply<Vec<Option<First>>>),
    /// The latest conflicts of an account before a position.
    Conflicts(u32, Position, usize, Reply<Vec<Conflict>>),
}

pub(super) type Reply<T> = oneshot::Sender<Result<T, ViewError>>;
pub(super) fn view_failed(error: impl std::fmt::Display) -> ViewError {
    ViewError::Failed(error.to_string())
}

pub(super) fn stopping() -> ViewError {
    ViewError::Failed("the materializer has ended".into())
}
/// Stored rows with those laid over them that were folded since. All rows are absolute.
pub(super) struct Overlaid {
    pub(super) snapshot: Box<dyn Snapshot>,
    pub(super) uncommitted: BTreeMap<Vec<u8>, Row>,
}

impl Rows for Overlaid {
    fn scan(&self, selection: &RowSelection, visit: &mut Visit<'_>) -> Result<(), store::Error> {
        let mut newer = selection
            .key_ranges()
            .into_iter()
            .flat_map(|(from, to)| self.uncommitted.range((Bound::Included(from), Bound::Excluded(to))))
            .peekable();
        if newer.peek().is_none() {
            return self.snapshot.scan(selection, visit);
        }
        let mut bytes = Vec::with_capacity(128);
        self.snapshot.scan(selection, &mut |key, row| {
            bytes.clear();
            key.write(&mut bytes);
            while let Some((newer_key, newer_row)) = newer.next_if(|(newer_key, _)| **newer_key < bytes) {
                visit_encoded(newer_key, newer_row, visit)?;
            }
            match newer.next_if(|(newer_key, _)| **newer_key == bytes) {
                Some((_, newer_row)) => visit(key, newer_row),
                None => visit(key, row),
            }
        })?;
        newer.try_for_each(|(key, row)| visit_encoded(key, row, visit))
    }

    fn first_key(&self, ranges: &[KeyRange]) -> Result<Option<Vec<u8>>, store::Error> {
        let newer = ranges.iter().find_map(|(from, to)| {
            let range: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Included(from), Bound::Excluded(to));
            self.uncommitted.range::<[u8], _>(range).next().map(|(key, _)| key.clone())
        });
        Ok([self.snapshot.first_key(ranges)?, newer].into_iter().flatten().min())
    }
}

fn visit_encoded(key: &[u8], row: &Row, visit: &mut Visit<'_>) -> Result<(), store::Error> {
    let key = RowKey::read(key).ok_or_else(|| store::Error::Damaged("a row's key in memory".into()))?;
    visit(key, row)
}
