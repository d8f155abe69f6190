//! [`Billing`]: assignments as subscriptions, over the store.

use std::collections::BTreeMap;

use super::{Billing, Error, Shared};
use crate::billing::ledger::{Ledger, Refusal};
use crate::billing::subscription::{CancelReason, CancelTime, GivesWay, Subscription, parse_own_id, period_end, subscriptions};
use crate::billing::timeline::Assignment;
use crate::clock::UnixMillis;
use crate::customers::page::{Page, Pager, Window};
use crate::customers::{Customer, CustomerId, Lives};
use crate::store::{self, Change, Each, Kind};

impl Billing {
    /// Subscribes a customer to a plan: `new` says which one, from when on, and may have an id that no other subscription of the account has.
    ///
    /// # Errors
    /// [`Error::Unknown`]: the customer is not there, or removed. [`Error::Refused`], [`Error::Store`].
    pub fn subscribe(&self, account: u32, customer: &CustomerId, new: &Assignment) -> Result<Subscription, Error> {
        let lives = self.shared.customers.get(account, customer)?.lives();
        let plan_version = self.shared.plans.get(account, &new.plan_id, None)?.map(|made| made.version);
        let (new, now) = (Assignment { plan_version, ..new.clone() }, self.clock.now());
        if let Some(id) = &new.id {
            // Whoever would be refused does not take the id.
            self.shared.ledger(account, customer)?.subscribe(&new, &lives, now)?;
            self.shared.take_id(account, id, customer)?;
        }
        let change = |ledger: &mut Ledger| Ok((ledger.subscribe(&new, &lives, now)?, ledger.clone()));
        let (index, ledger) = self.shared.change(account, customer, change)?;
        found(&ledger, customer, &lives, now, index)
    }

    /// Subscribes a customer in place of a subscription that has not ended: the one in force, or the one with an id.
    ///
    /// # Errors
    /// [`Error::Unknown`]: there is none, or no customer. [`Error::Refused`], [`Error::Store`].
    pub fn resubscribe(&self, account: u32, customer: &CustomerId, old: &GivesWay, new: &Assignment) -> Result<Subscription, Error> {
        let lives = self.shared.customers.get(account, customer)?.lives();
        let plan_version = self.shared.plans.get(account, &new.plan_id, None)?.map(|made| made.version);
        let (new, now) = (Assignment { plan_version, ..new.clone() }, self.clock.now());
        let (index, ledger) = self.shared.change(account, customer, |ledger| {
            let find = |ledger: &Ledger| {
                let made = subscriptions(ledger, customer, &lives, now);
                made.iter().filter(|made| old.is(made)).max_by_key(|made| made.row.start_ms).map(|made| made.index)
            };
            Ok((ledger.replace(find, &new, &lives, now)?, ledger.clone()))
        })?;
        found(&ledger, customer, &lives, now, index.ok_or(Error::Unknown("active subscription"))?)
    }

    /// A subscription of whoever has the customer's id, or had it last.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`].
    pub fn subscription(&self, account: u32, id: &str) -> Result<Subscription, Error> {
        let unknown = || Error::Unknown("subscription");
        let own = parse_own_id(id);
        let customer = match &own {
            Some((_, customer)) => customer.clone(),
            None => self.shared.who_took(account, id)?.ok_or_else(unknown)?,
        };
        // The newest: whoever has the customer's id later has ids of its own.
        self.of_customer(account, &customer)?.into_iter().rev().find(|made| made.id == id).ok_or_else(unknown)
    }

    fn of_customer(&self, account: u32, customer: &CustomerId) -> Result<Vec<Subscription>, Error> {
        let lives = self.shared.customers.lives(account, customer)?;
        Ok(subscriptions(&self.shared.ledger(account, customer)?, customer, &lives, self.clock.now()))
    }

    /// A customer's subscriptions, in the order in which they were made.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn subscriptions(&self, account: u32, customer: &Customer) -> Result<Vec<Subscription>, Error> {
        let ledger = self.shared.ledger(account, customer.id())?;
        Ok(subscriptions(&ledger, customer.id(), &customer.lives(), self.clock.now()))
    }

    /// A page of the subscriptions of one customer or of all, ordered by creation, then id (in bytes), of which `wanted` is true. Looks at
    /// every subscription of them, and keeps a page and some.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn subscription_page(
        &self,
        account: u32,
        customer: Option<&CustomerId>,
        window: Window,
        wanted: impl Fn(&Subscription) -> bool,
    ) -> Result<Page<Subscription>, Error> {
        let mut pager = Pager::new(window);
        let mut offer = |made: Vec<Subscription>| {
            made.into_iter().filter(|made| wanted(made)).for_each(|made| pager.offer(made.place(), made));
        };
        match customer {
            Some(customer) => offer(self.of_customer(account, customer)?),
            None => self.shared.each_customer(account, self.clock.now(), &mut offer)?,
        }
        Ok(pager.page())
    }

    /// Changes what is said of a subscription, and when it is going to end: `Some(None)` takes back that it was canceled for later. The end of
    /// one that is over stays.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Refused`], [`Error::Store`].
    pub fn change_subscription(
        &self,
        account: u32,
        id: &str,
        end_ms: Option<Option<i64>>,
        edit: impl Fn(&mut Assignment),
    ) -> Result<Subscription, Error> {
        let (found, now) = (self.subscription(account, id)?, self.clock.now());
        let change = |row: &mut Assignment| {
            let (own_end_ms, canceled) = (row.end_ms, row.canceled);
            edit(row);
            match end_ms {
                _ if found.is_over() => (row.end_ms, row.canceled) = (own_end_ms, canceled),
                Some(Some(end_ms)) => (row.end_ms, row.canceled) = (Some(end_ms.max(row.start_ms)), Some(CancelReason::Scheduled)),
                Some(None) if canceled == Some(CancelReason::Scheduled) && own_end_ms.is_some_and(|end_ms| end_ms > now.0) => {
                    (row.end_ms, row.canceled) = (None, None);
                }
                _ => {}
            }
        };
        self.shared.change(account, &found.customer, |ledger| ledger.edit(found.index, &change))?;
        self.subscription(account, id)
    }

    /// Ends a subscription. One that is over stays as it is, so does one that ends at the same moment.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Refused`], [`Error::Store`].
    pub fn cancel(&self, account: u32, id: &str, when: CancelTime) -> Result<Subscription, Error> {
        let (found, now) = (self.subscription(account, id)?, self.clock.now());
        if found.is_over() {
            return Ok(found);
        }
        self.shared.change(account, &found.customer, |ledger| {
            let at = match when {
                CancelTime::Immediate => (now.0.max(ledger.closed_until_ms()), CancelReason::Immediate),
                CancelTime::EndOfPeriod => (period_end(now), CancelReason::Scheduled),
                CancelTime::At(end_ms) => (end_ms, CancelReason::Scheduled),
            };
            ledger.cancel(found.index, at.0, at.1)
        })?;
        self.subscription(account, id)
    }

    /// Brings back a customer that was removed; one that is there stays as it is. What it was subscribed to does not come back.
    ///
    /// What was sold under its id since then belongs to whoever has the id next: that is then this customer, in a new life.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`].
    pub fn unarchive(&self, account: u32, customer: &CustomerId) -> Result<Customer, Error> {
        let record = self.shared.customers.record(account, customer)?;
        let Some(removed_at) = record.removed_at() else { return Ok(record) };
        let lives = record.lives();
        let goes_on = self.shared.change(account, customer, |ledger| {
            let goes_on = !ledger.has_life(lives.current());
            if goes_on {
                ledger.end_life(lives.first_shown(), removed_at.millis().0);
            }
            Ok(goes_on)
        })?;
        Ok(self.shared.customers.unarchive(account, customer, removed_at, goes_on)?)
    }

    /// What plans are called, of those that somebody has made.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn plan_names<'i>(&self, account: u32, ids: impl Iterator<Item = &'i str>) -> Result<BTreeMap<String, String>, Error> {
        let mut names = BTreeMap::new();
        for id in ids.collect::<std::collections::BTreeSet<_>>() {
            if let Some(made) = self.shared.plans.get(account, id, None)? {
                names.insert(id.to_owned(), made.plan.name);
            }
        }
        Ok(names)
    }
}

fn found(ledger: &Ledger, customer: &CustomerId, lives: &Lives, now: UnixMillis, index: usize) -> Result<Subscription, Error> {
    let made = subscriptions(ledger, customer, lives, now).into_iter().find(|made| made.index == index);
    made.ok_or(Error::Unknown("subscription"))
}

impl Shared {
    /// Notes whose subscription has an id that a client chose. It stays noted, also where nothing comes of it: the customer can have it later.
    fn take_id(&self, account: u32, id: &str, customer: &CustomerId) -> Result<(), Error> {
        let mut taken = Err(Error::Store(store::Error::Failed("it never read who has the id".into())));
        let mut decide = |stored: Option<&[u8]>| match stored {
            None => {
                taken = Ok(());
                Change::Put(serde_json::Value::from(customer.as_str()).to_string().into_bytes())
            }
            Some(stored) => {
                let is_own = owner(stored).map(|owner| owner == *customer);
                taken = is_own.and_then(|is_own| if is_own { Ok(()) } else { Err(Refusal::OtherSubscription.into()) });
                Change::Keep
            }
        };
        self.store.change_document(Kind::Subscription, account, id, &mut decide)?;
        taken
    }

    fn who_took(&self, account: u32, id: &str) -> Result<Option<CustomerId>, Error> {
        self.store.document(Kind::Subscription, account, id)?.map(|stored| owner(&stored)).transpose()
    }

    /// Hands over the subscriptions of one customer after the other.
    fn each_customer(&self, account: u32, now: UnixMillis, offer: &mut dyn FnMut(Vec<Subscription>)) -> Result<(), Error> {
        let mut lives = self.customers.lives_in_order(account);
        for found in Each::of(&*self.store, Kind::Ledger, account) {
            let (id, stored) = found?;
            let ledger = Ledger::read(&stored)?;
            if let Ok(customer) = CustomerId::parse(&id)
                && !ledger.assignments.is_empty()
            {
                offer(subscriptions(&ledger, &customer, &lives.of(&id)?, now));
            }
        }
        Ok(())
    }
}

fn owner(stored: &[u8]) -> Result<CustomerId, Error> {
    serde_json::from_slice(stored).map_err(|error| store::Error::Damaged(format!("whose subscription has an id: {error}")).into())
}
