//! What a customer was sold: plans and prepaid orders, in one document, so that a change never comes between two others.
//!
//! `closed_until_h` is the one thing that is not set up by anybody: the hour up to which periods are being closed, or are. It only grows,
//! and no assignment may begin before it, so a closed period stays the period that it was.

use serde::{Deserialize, Serialize};

use super::prepaid::{Order, Payment, PaymentStatus, Terms};
use super::timeline::{Assignment, HOUR_MAX, Period, begin_of, hour_of, periods, seconds};
use crate::clock::UnixMillis;
use crate::customers::{Life, Lives};
use crate::store;

/// Version of what is stored.
const VERSION: u32 = 1;
/// Most assignments of a customer.
pub const ASSIGNMENTS_MAX: usize = 1_000;
/// Most prepaid orders of a customer.
pub const ORDERS_MAX: usize = 1_000;

/// Why something was not written down. Nothing happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The assignment would change what is closed.
    #[error("lies before {}, up to which the invoices of this customer are closed", UnixMillis(.0 * 1_000))]
    Closed(
        /// Up to when, in s since 1970.
        i64,
    ),
    /// The assignment ends before it begins.
    #[error("must be after the start")]
    EndNotAfterStart,
    /// More than [`ASSIGNMENTS_MAX`].
    #[error("the customer has {ASSIGNMENTS_MAX} plan assignments, the limit")]
    TooManyAssignments,
    /// More than [`ORDERS_MAX`].
    #[error("the customer has {ORDERS_MAX} prepaid orders, the limit")]
    TooManyOrders,
    /// There is an order with this id that says something else.
    #[error("is the id of another prepaid order of this customer")]
    OtherOrder,
    /// There was an order with this id.
    #[error("is the id of a prepaid order of this customer that was deleted")]
    DeletedOrder,
    /// There is no order with this id.
    #[error("no prepaid order of this customer has this id")]
    UnknownOrder,
    /// There is a subscription with this id.
    #[error("is the id of another subscription")]
    OtherSubscription,
    /// The customer's subscription is not there.
    #[error("no subscription has this id")]
    UnknownSubscription,
    /// A subscription cannot end in what is closed.
    #[error("lies before {}, up to which the invoices of this customer are closed", UnixMillis(.0 * 1_000))]
    EndClosed(
        /// Up to when, in s since 1970.
        i64,
    ),
}

/// What a customer was sold, in all lives of its id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    version: u32,
    /// In the order in which they were made.
    pub assignments: Vec<Assignment>,
    /// In the order in which they were made.
    pub orders: Vec<Order>,
    /// Periods that begin before it are being closed, or are: the begin of a month, in hours since 1970.
    pub closed_until_h: u32,
    /// Periods that begin before it are closed.
    pub stored_until_h: u32,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { version: VERSION, assignments: Vec::new(), orders: Vec::new(), closed_until_h: 0, stored_until_h: 0 }
    }
}

/// What is to be assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAssignment {
    /// The plan's id.
    pub plan_id: String,
    /// As it was sent.
    pub product_id: Option<String>,
    /// `None`: now.
    pub start_ms: Option<i64>,
    /// `None`: until the next one.
    pub end_ms: Option<i64>,
}

impl Ledger {
    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`store::Error::Damaged`].
    pub fn read(stored: &[u8]) -> Result<Self, store::Error> {
        let damaged = |what: String| store::Error::Damaged(format!("what a customer was sold: {what}"));
        let ledger: Self = serde_json::from_slice(stored).map_err(|error| damaged(error.to_string()))?;
        if ledger.version > VERSION {
            return Err(damaged(format!("of version {}, this binary knows {VERSION}: upgrade it", ledger.version)));
        }
        Ok(ledger)
    }

    /// The JSON that is stored.
    ///
    /// # Errors
    /// [`store::Error::Failed`]: nothing was stored.
    pub fn write(&self) -> Result<Vec<u8>, store::Error> {
        serde_json::to_vec(self).map_err(|error| store::Error::Failed(format!("what a customer was sold: {error}")))
    }

    /// Assigns a plan. The same once more is the same assignment. `lives`: it belongs to the current one.
    ///
    /// # Errors
    /// [`Refusal::Closed`], [`Refusal::EndNotAfterStart`], [`Refusal::TooManyAssignments`].
    pub fn assign(&mut self, new: NewAssignment, plan_version: Option<u32>, lives: &Lives, now: UnixMillis) -> Result<Assignment, Refusal> {
        let assignment = Assignment {
            life: lives.current(),
            plan_id: new.plan_id,
            plan_version,
            product_id: new.product_id,
            start_ms: new.start_ms.unwrap_or(now.0),
            end_ms: new.end_ms,
            created_ms: now.0,
            ..Assignment::default()
        };
        // What only other dialects say does not make it another.
        let is_same = |made: &&Assignment| {
            let (created_ms, id, canceled, trial) = (made.created_ms, made.id.clone(), made.canceled, made.trial);
            Assignment { created_ms, id, canceled, trial, ext: made.ext.clone(), ..assignment.clone() } == **made
        };
        // Only if nothing was assigned behind it: otherwise it says that the plan holds again.
        if let Some(made) = self.assignments.iter().rfind(|made| made.life == assignment.life).filter(is_same) {
            return Ok(made.clone());
        }
        self.add(assignment.clone(), lives)?;
        Ok(assignment)
    }

    /// Adds an assignment if it may begin when it does. Gives back its place.
    fn add(&mut self, assignment: Assignment, lives: &Lives) -> Result<usize, Refusal> {
        if assignment.is_void() {
            return Err(Refusal::EndNotAfterStart);
        }
        // What lies before the customer is not its own, closed or not.
        if hour_of(UnixMillis(assignment.start_ms)).max(begin_of(lives, assignment.life)) < self.closed_until_h {
            return Err(Refusal::Closed(seconds(self.closed_until_h)));
        }
        if self.assignments.len() >= ASSIGNMENTS_MAX {
            return Err(Refusal::TooManyAssignments);
        }
        self.assignments.push(assignment);
        Ok(self.assignments.len() - 1)
    }

    /// The assignments from a life on, oldest first: by start, of equal ones the one made first.
    pub fn assignments_from(&self, life: Life) -> Vec<Assignment> {
        let is_shown = |assignment: &&Assignment| assignment.life >= life && !assignment.is_void();
        let mut found: Vec<_> = self.assignments.iter().filter(is_shown).cloned().collect();
        found.sort_by_key(|assignment| (assignment.life, assignment.start_ms));
        found
    }

    /// Adds a prepaid order. The same once more is the same order.
    ///
    /// # Errors
    /// [`Refusal::OtherOrder`], [`Refusal::DeletedOrder`], [`Refusal::TooManyOrders`].
    pub fn order(&mut self, id: &str, terms: Terms, life: Life, now: UnixMillis) -> Result<Order, Refusal> {
        match self.orders.iter().find(|order| order.life == life && order.id == id) {
            Some(order) if order.deleted_ms.is_some() => return Err(Refusal::DeletedOrder),
            Some(order) if order.terms == terms => return Ok(order.clone()),
            Some(_) => return Err(Refusal::OtherOrder),
            None => {}
        }
        if self.orders.len() >= ORDERS_MAX {
            return Err(Refusal::TooManyOrders);
        }
        let order = Order {
            id: id.to_owned(),
            life,
            payment_status: if terms.external_payment { PaymentStatus::Pending } else { PaymentStatus::NotNeeded },
            terms,
            payment: None,
            created_ms: now.0,
            modified_ms: now.0,
            deleted_ms: None,
        };
        self.orders.push(order.clone());
        Ok(order)
    }

    /// Ends a prepaid order; what was drawn from it stays drawn.
    ///
    /// # Errors
    /// [`Refusal::UnknownOrder`].
    pub fn delete_order(&mut self, id: &str, life: Life, now: UnixMillis) -> Result<Order, Refusal> {
        let order = self.order_mut(id, life)?;
        (order.deleted_ms, order.modified_ms) = (Some(now.0), now.0);
        Ok(order.clone())
    }

    /// Notes what became of the payment for an order.
    ///
    /// # Errors
    /// [`Refusal::UnknownOrder`].
    pub fn note_payment(
        &mut self,
        id: &str,
        life: Life,
        status: PaymentStatus,
        payment: Payment,
        now: UnixMillis,
    ) -> Result<Order, Refusal> {
        let order = self.order_mut(id, life)?;
        (order.payment_status, order.payment, order.modified_ms) = (status, Some(payment), now.0);
        Ok(order.clone())
    }

    fn order_mut(&mut self, id: &str, life: Life) -> Result<&mut Order, Refusal> {
        let is_it = |order: &&mut Order| order.life >= life && order.id == id && order.deleted_ms.is_none();
        self.orders.iter_mut().rev().find(is_it).ok_or(Refusal::UnknownOrder)
    }

    /// The periods that begin before an hour, in the order of time.
    pub fn periods(&self, lives: &Lives, until_h: u32, made: &dyn Fn(&str) -> bool) -> Vec<Period> {
        periods(&self.assignments, lives, until_h, made)
    }

    /// The first hour of which anything could be billed.
    pub fn first_hour(&self) -> Option<u32> {
        self.assignments.iter().map(|assignment| hour_of(UnixMillis(assignment.start_ms))).min().filter(|hour| *hour < HOUR_MAX)
    }
}

mod subscriptions;
#[cfg(test)]
mod tests;
