//! Subscriptions over the store.

use super::{Billing, Error};
use crate::billing::ledger::{Ledger, NewAssignment};
use crate::billing::subscriptions::{GivesWay, Subscription};
use crate::billing::timeline::{Assignment, hour_of, month_of, seconds};
use crate::clock::UnixMillis;
use crate::customers::{CustomerId, Lives};

/// When a subscription is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Now.
    Now,
    /// With the calendar month (UTC) that is running: what one invoice is about.
    WithMonth,
    /// At a moment.
    At(UnixMillis),
}

impl Billing {
    /// A customer's subscriptions, oldest first; of whoever has the id now, or had it last.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn subscriptions(&self, account: u32, customer: &CustomerId) -> Result<Vec<Subscription>, Error> {
        let lives = self.shared.customers.lives(account, customer)?;
        Ok(self.shared.ledger(account, customer)?.subscriptions(lives.first_shown(), &lives))
    }

    /// Assigns a plan to a customer, in place of a subscription if one is named.
    ///
    /// # Errors
    /// [`Error::Unknown`] where nothing is there to give way, [`Error::Refused`], [`Error::Store`].
    pub fn subscribe(
        &self,
        account: u32,
        customer: &CustomerId,
        old: Option<GivesWay>,
        new: &NewAssignment,
    ) -> Result<Subscription, Error> {
        let version = self.shared.plans.get(account, &new.plan_id, None)?.map(|made| made.version);
        let (lives, now) = (self.shared.customers.lives(account, customer)?, self.clock.now());
        let made = self.shared.change(account, customer, |ledger| {
            let made = match old {
                Some(old) => ledger.replace(old, new.clone(), version, &lives, now)?,
                None => Some(ledger.assign(new.clone(), version, &lives, now)?),
            };
            Ok(made.and_then(|made| row_of(ledger, &lives, &made)))
        })?;
        made.ok_or(Error::Unknown("active subscription"))
    }

    /// Ends the subscription that holds now.
    ///
    /// # Errors
    /// [`Error::Unknown`] where none does, [`Error::Refused`], [`Error::Store`].
    pub fn end_active(&self, account: u32, customer: &CustomerId, end: End) -> Result<(), Error> {
        let (lives, now) = (self.shared.customers.lives(account, customer)?, self.clock.now());
        let end_ms = match end {
            End::Now => now.0,
            End::WithMonth => seconds(month_of(hour_of(now)).end) * 1_000,
            End::At(time) => time.0,
        };
        let found = self.shared.change(account, customer, |ledger| {
            let found = ledger.find(GivesWay::Active, &lives, now);
            found.map(|number| ledger.end(number as usize, end_ms)).transpose()
        })?;
        found.ok_or(Error::Unknown("active subscription"))
    }
}

/// The row of an assignment; the newest, if several say the same.
fn row_of(ledger: &Ledger, lives: &Lives, made: &Assignment) -> Option<Subscription> {
    ledger.subscriptions(made.life, lives).into_iter().rfind(|row| row.assignment == *made)
}
