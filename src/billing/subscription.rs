//! An assignment as a subscription: what it is called and where it stands at a moment. There is one row of both, whichever dialect made it
//! (contract `stigg.md` section 6, rule 10).

use serde::{Deserialize, Serialize};

use super::ledger::Ledger;
use super::timeline::{Assignment, HOUR_MAX, seconds};
use crate::clock::{UnixMicros, UnixMillis};
use crate::customers::page::Place;
use crate::customers::{CustomerId, Life, Lives};

/// With what the id begins of a subscription that brought none. It has its place in the ledger and its customer: `sub_7_acme`.
const OWN_ID: &str = "sub_";

/// Why a subscription has ended, or is going to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// Somebody canceled it at once.
    Immediate,
    /// Somebody canceled it for later.
    Scheduled,
    /// Its trial ended, and it was to end with it.
    TrialEnded,
    /// Its customer was removed.
    CustomerArchived,
    /// The customer has another plan since. Follows from the rows and is never stored.
    Superseded,
    /// It was made with an end. Follows from the row and is never stored.
    Expired,
}

/// That a subscription begins as a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Until when, in ms since 1970; `None`: until further notice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_ms: Option<i64>,
}

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubscriptionStatus {
    /// It begins later.
    NotStarted,
    /// It is tried out.
    InTrial,
    /// It holds.
    Active,
    /// It was ended.
    Canceled,
    /// It has come to the end that it was made with.
    Expired,
}

/// An assignment as a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The client's own id, or ours.
    pub id: String,
    /// Whose it is.
    pub customer: CustomerId,
    /// The row.
    pub row: Assignment,
    /// Where it stands.
    pub status: SubscriptionStatus,
    /// When it ends or has ended, as far as that is known, in ms since 1970, and why.
    pub end: Option<(i64, CancelReason)>,
    /// Its place in the ledger.
    pub(crate) index: usize,
}

impl Subscription {
    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.status, SubscriptionStatus::Canceled | SubscriptionStatus::Expired)
    }

    /// Whether it holds now.
    pub fn is_in_force(&self) -> bool {
        matches!(self.status, SubscriptionStatus::InTrial | SubscriptionStatus::Active)
    }

    /// Where it stands in a list.
    pub fn place(&self) -> Place {
        Place { made_at: UnixMillis(self.row.created_ms).micros(), id: self.id.clone() }
    }
}

/// The id of a subscription that brought none.
pub(super) fn own_id(index: usize, customer: &CustomerId) -> String {
    format!("{OWN_ID}{index}_{customer}")
}

/// The place and the customer in an id that [`own_id`] makes.
pub(super) fn parse_own_id(id: &str) -> Option<(usize, CustomerId)> {
    let (index, customer) = id.strip_prefix(OWN_ID)?.split_once('_')?;
    let customer = CustomerId::parse(customer).ok()?;
    let index = index.parse().ok()?;
    // One form only: `+7` and `07` are numbers, too.
    (own_id(index, &customer) == id).then_some((index, customer))
}

/// Whether an id has the form of those that are made here, which no client may choose.
pub fn is_own_subscription_id(id: &str) -> bool {
    parse_own_id(id).is_some()
}

/// The subscriptions of whoever has an id, or had it last; in the order in which they were made.
pub(super) fn subscriptions(ledger: &Ledger, customer: &CustomerId, lives: &Lives, now: UnixMillis) -> Vec<Subscription> {
    let shown = lives.first_shown()..=lives.current();
    let made = ledger.assignments.iter().enumerate().filter(|(_, row)| shown.contains(&row.life));
    let subscription = |(index, row): (usize, &Assignment)| {
        let end = end_of(&ledger.assignments, index, row, lives);
        let id = row.id.clone().unwrap_or_else(|| own_id(index, customer));
        Subscription { id, customer: customer.clone(), status: status_of(row, end, now), end, row: row.clone(), index }
    };
    made.map(subscription).collect()
}

/// The first of what ends an assignment, as [`super::timeline::periods`] has it.
fn end_of(assignments: &[Assignment], index: usize, row: &Assignment, lives: &Lives) -> Option<(i64, CancelReason)> {
    let own = row.end_ms.map(|end_ms| (end_ms, row.canceled.unwrap_or(CancelReason::Expired)));
    if row.is_void() {
        return own;
    }
    let follows =
        |(at, other): &(usize, &Assignment)| other.life == row.life && !other.is_void() && (other.start_ms, *at) > (row.start_ms, index);
    let next = assignments
        .iter()
        .enumerate()
        .filter(follows)
        .map(|(_, other)| (other.start_ms, CancelReason::Superseded))
        .min_by_key(|next| next.0);
    let removed = life_end(lives, row.life).map(|end_ms| (end_ms, CancelReason::CustomerArchived));
    // Of equals the first: what was said of it before what follows from others.
    [own, removed, next].into_iter().flatten().min_by_key(|end| end.0)
}

fn life_end(lives: &Lives, life: Life) -> Option<i64> {
    lives.end(life).map(|end: UnixMicros| end.millis().0)
}

fn status_of(row: &Assignment, end: Option<(i64, CancelReason)>, now: UnixMillis) -> SubscriptionStatus {
    match end {
        Some((end_ms, CancelReason::Expired)) if end_ms <= now.0 => SubscriptionStatus::Expired,
        Some((end_ms, _)) if end_ms <= now.0 || row.is_void() => SubscriptionStatus::Canceled,
        _ if row.start_ms > now.0 => SubscriptionStatus::NotStarted,
        _ if row.trial.is_some_and(|trial| trial.end_ms.is_none_or(|end_ms| end_ms > now.0)) => SubscriptionStatus::InTrial,
        _ => SubscriptionStatus::Active,
    }
}

/// Which subscription gives way to a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivesWay {
    /// The one in force.
    InForce,
    /// The one with this id, unless it has ended.
    WithId(String),
}

impl GivesWay {
    /// Whether it is this one.
    pub(super) fn is(&self, made: &Subscription) -> bool {
        match self {
            Self::InForce => made.is_in_force(),
            Self::WithId(id) => made.id == *id && !made.is_over(),
        }
    }
}

/// When a subscription is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelTime {
    /// Now.
    Immediate,
    /// With the month.
    EndOfPeriod,
    /// Then, in ms since 1970.
    At(i64),
}

/// End of a billing period that holds a moment, in ms since 1970.
pub(super) fn period_end(now: UnixMillis) -> i64 {
    let hour = super::timeline::hour_of(now).min(HOUR_MAX - 1);
    seconds(super::timeline::month_of(hour).end).saturating_mul(1_000)
}

#[cfg(test)]
mod tests;
