//! [`Billing`]: the model over the store, with a clock and rows.

mod balance;
mod close;
mod subscriptions;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use balance::{CardBalance, CustomerBalance, OrderBalance};
pub use close::close_all;

use super::invoice::{Closed, Invoice, InvoiceId, Status};
use super::ledger::{Ledger, NewAssignment, Refusal};
use super::plan::Plan;
use super::plans::{LoadedPlans, MadePlan, PlanWritten, Plans};
use super::prepaid::{Order, Payment, PaymentStatus, Terms};
use super::statement::{self, Drawn};
use super::timeline::{Assignment, Period, hour_of, month_of, seconds};
use crate::clock::{Clock, UnixMillis};
use crate::customers::{self, CustomerId, Customers, Lives};
use crate::store::{self, Change, Kind, Store};
use crate::usage::{UsageSource, ViewError, ViewRequest};

/// How long the rows are waited for.
const WAIT: Duration = Duration::from_secs(2);
/// The same when nobody waits for an answer.
const WAIT_TO_CLOSE: Duration = Duration::from_secs(30);
/// Statements that are computed at a time.
const STATEMENTS_AT_ONCE_MAX: usize = 4;
/// How long one waits until it is one of them.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The ledger refused. Nothing happened.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// There is nothing under this id.
    #[error("there is no {0} with this id")]
    Unknown(&'static str),
    /// The invoice is still open: it cannot be paid, or be void.
    #[error("is open: it is closed when its period and the grace time are over")]
    StillOpen,
    /// The invoice is paid or void already.
    #[error("is {0} already")]
    Settled(&'static str),
    /// The plan has as many versions as it can have, or the account as many plans.
    #[error("{0}")]
    TooMany(String),
    /// The rows, or a turn, cannot be had now. Asking again makes sense.
    #[error("{0}")]
    Unavailable(String),
    /// A line is too large, or counts too many values.
    #[error("{0}")]
    CannotBill(String),
    /// The store's error; after [`store::Error::Failed`] it is **unknown** whether a change happened.
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl From<statement::Error> for Error {
    fn from(error: statement::Error) -> Self {
        match error {
            statement::Error::Store(error) | statement::Error::Quantity(super::quantity::Error::Rows(error)) => Self::Store(error),
            error @ (statement::Error::TooLarge(_) | statement::Error::Quantity(_)) => Self::CannotBill(error.to_string()),
        }
    }
}

impl From<ViewError> for Error {
    fn from(error: ViewError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<customers::Error> for Error {
    fn from(error: customers::Error) -> Self {
        match error {
            customers::Error::Store(error) => Self::Store(error),
            customers::Error::Exists | customers::Error::Unknown | customers::Error::StepBack { .. } => Self::Unknown("customer"),
        }
    }
}

/// Where an invoice stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Its month has not ended.
    Open,
    /// Its month has ended, and it is not closed yet.
    Grace,
    /// Closed.
    Closed(Status),
}

/// An invoice, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Where it stands.
    pub state: State,
    /// The invoice, or what it would be.
    pub invoice: Invoice,
    /// When it was closed, in ms since 1970, and up to where the rows went: partition and next position.
    pub closed: Option<(i64, Vec<(u32, u64)>)>,
}

impl Shown {
    /// Whether it is void.
    pub fn is_void(&self) -> bool {
        self.state == State::Closed(Status::Void)
    }
}

/// All that a customer owes.
#[derive(Debug)]
pub struct Statements {
    /// In the order of time; of whoever has the id now, or had it last.
    pub invoices: Vec<Shown>,
    /// Whether the rows show everything that was acked before it was asked.
    pub complete: bool,
    /// The orders of the same, also deleted ones.
    pub orders: Vec<Order>,
    drawn: Drawn,
    now: UnixMillis,
}

/// What billing works with.
#[derive(Clone)]
struct Shared {
    store: Arc<dyn Store>,
    customers: Arc<Customers>,
    plans: Arc<Plans>,
    grace_ms: i64,
}

/// Plans, assignments, orders and invoices of all accounts. What is not async may block: async code goes through `spawn_blocking`.
pub struct Billing {
    shared: Shared,
    source: Arc<dyn UsageSource>,
    clock: Clock,
    turns: Arc<Semaphore>,
}

/// A customer's ledger and what it takes to read it, as of one moment.
struct Books {
    ledger: Ledger,
    lives: Lives,
    plans: LoadedPlans,
}

impl Books {
    fn periods(&self, now: UnixMillis) -> Vec<Period> {
        self.ledger.periods(&self.lives, hour_of(now).saturating_add(1), &|id| self.plans.is_made(id))
    }
}

impl Billing {
    /// Billing over a store. `grace`: how long after its end a period is closed.
    pub fn new(store: Arc<dyn Store>, customers: Arc<Customers>, source: Arc<dyn UsageSource>, clock: Clock, grace: Duration) -> Self {
        let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        let plans = Arc::new(Plans::new(store.clone()));
        let turns = Arc::new(Semaphore::new(STATEMENTS_AT_ONCE_MAX));
        Self { shared: Shared { store, customers, plans, grace_ms }, source, clock, turns }
    }

    /// How long after its end a period is closed, in ms.
    pub fn grace_ms(&self) -> i64 {
        self.shared.grace_ms
    }

    /// Now, for what begins now.
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Whether anything was ever set up or sold under an id.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn knows(&self, account: u32, customer: &CustomerId) -> Result<bool, Error> {
        let is_there = |kind| self.shared.store.document(kind, account, customer.as_str()).map(|found| found.is_some());
        Ok(is_there(Kind::Ledger)? || is_there(Kind::Customer)?)
    }

    /// Makes a version of a plan, unless its newest one says the same.
    ///
    /// # Errors
    /// [`Error::TooMany`], [`Error::Store`].
    pub fn write_plan(&self, account: u32, plan: &Plan) -> Result<MadePlan, Error> {
        match self.shared.plans.write(account, plan, self.clock.now())? {
            PlanWritten::Made(made) => Ok(made),
            PlanWritten::TooManyVersions => {
                Err(Error::TooMany(format!("the plan has {} versions, the limit: give it another id", super::plans::VERSIONS_MAX)))
            }
            PlanWritten::TooManyPlans => Err(Error::TooMany(format!("the account has {} plans, the limit", super::plans::PLANS_MAX))),
        }
    }

    /// A version of a plan; `None`: its newest.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Store`].
    pub fn plan(&self, account: u32, id: &str, version: Option<u32>) -> Result<MadePlan, Error> {
        self.shared.plans.get(account, id, version)?.ok_or(Error::Unknown("plan"))
    }

    /// The newest version of each plan, in the order of their ids.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn plans(&self, account: u32) -> Result<Vec<MadePlan>, Error> {
        Ok(self.shared.plans.list(account)?)
    }

    /// Ids of the plans that somebody was assigned, made or not; in order.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn assigned_plan_ids(&self, account: u32) -> Result<Vec<String>, Error> {
        let mut ids = std::collections::BTreeSet::new();
        for (_, stored) in self.shared.store.documents(Kind::Ledger, account)? {
            ids.extend(Ledger::read(&stored)?.assignments.into_iter().map(|assignment| assignment.plan_id));
        }
        Ok(ids.into_iter().collect())
    }

    /// Assigns a plan to a customer, whether there is one or not.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Store`].
    pub fn assign(&self, account: u32, customer: &CustomerId, new: &NewAssignment) -> Result<Assignment, Error> {
        let version = self.shared.plans.get(account, &new.plan_id, None)?.map(|made| made.version);
        let (lives, now) = (self.shared.customers.lives(account, customer)?, self.clock.now());
        self.shared.change(account, customer, |ledger| ledger.assign(new.clone(), version, &lives, now))
    }

    /// A customer's assignments, oldest first; of whoever has the id now, or had it last.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn assignments(&self, account: u32, customer: &CustomerId) -> Result<Vec<Assignment>, Error> {
        let from = self.shared.customers.lives(account, customer)?.first_shown();
        Ok(self.shared.ledger(account, customer)?.assignments_from(from))
    }

    /// Adds a prepaid order.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Store`].
    pub fn order(&self, account: u32, customer: &CustomerId, id: &str, terms: &Terms) -> Result<Order, Error> {
        let (life, now) = (self.shared.customers.lives(account, customer)?.current(), self.clock.now());
        self.shared.change(account, customer, |ledger| ledger.order(id, terms.clone(), life, now))
    }

    /// A customer's prepaid orders that were not deleted, in the order in which they were made.
    ///
    /// # Errors
    /// [`Error::Store`].
    pub fn orders(&self, account: u32, customer: &CustomerId) -> Result<Vec<Order>, Error> {
        let from = self.shared.customers.lives(account, customer)?.first_shown();
        let orders = self.shared.ledger(account, customer)?.orders;
        Ok(orders.into_iter().filter(|order| order.life >= from && order.deleted_ms.is_none()).collect())
    }

    /// Ends a prepaid order.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Store`].
    pub fn delete_order(&self, account: u32, customer: &CustomerId, id: &str) -> Result<Order, Error> {
        let (from, now) = (self.shared.customers.lives(account, customer)?.first_shown(), self.clock.now());
        self.shared.change(account, customer, |ledger| ledger.delete_order(id, from, now))
    }

    /// Notes what became of the payment for an order, which is one of `customer`'s, or, without one, the only one of its id in the account.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Refused`], [`Error::Store`].
    pub fn note_payment(
        &self,
        account: u32,
        customer: Option<&CustomerId>,
        id: &str,
        status: PaymentStatus,
        payment: &Payment,
    ) -> Result<Order, Error> {
        let customer = match customer {
            Some(customer) => customer.clone(),
            None => self.shared.who_ordered(account, id)?.ok_or(Error::Unknown("prepaid order"))?,
        };
        let (from, now) = (self.shared.customers.lives(account, &customer)?.first_shown(), self.clock.now());
        self.shared.change(account, &customer, |ledger| ledger.note_payment(id, from, status, payment.clone(), now))
    }

    /// Everything that a customer owes and has. What is due to be closed is closed, if the rows are there in time.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::CannotBill`], [`Error::Store`].
    pub async fn statements(&self, account: u32, customer: &CustomerId) -> Result<Statements, Error> {
        self.statements_within(account, customer, WAIT).await
    }

    /// One invoice. It is also found after its customer was removed and another one made.
    ///
    /// # Errors
    /// [`Error::Unknown`], and as [`Self::statements`].
    pub async fn invoice(&self, account: u32, id: &str) -> Result<Shown, Error> {
        let unknown = || Error::Unknown("invoice");
        let (customer, start_h) = InvoiceId::parse(id).ok_or_else(unknown)?;
        let id = InvoiceId::new(&customer, start_h);
        let (shared, wanted) = (self.shared.clone(), id.clone());
        if let Some(closed) = blocking(move || shared.closed(account, &wanted)).await? {
            return Ok(closed.into());
        }
        let found = self.statements_within(account, &customer, WAIT).await?;
        found.invoices.into_iter().find(|shown| shown.invoice.id == id).ok_or_else(unknown)
    }

    /// Notes that a closed invoice is paid, or void. Once more is no error.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::StillOpen`], [`Error::Settled`], and as [`Self::statements`].
    pub async fn settle(&self, account: u32, id: &str, status: Status) -> Result<Shown, Error> {
        let shown = self.invoice(account, id).await?;
        if shown.closed.is_none() {
            return Err(Error::StillOpen);
        }
        let (shared, now) = (self.shared.clone(), self.clock.now());
        blocking(move || shared.settle(account, &shown.invoice.id, status, now)).await.map(Shown::from)
    }

    async fn statements_within(&self, account: u32, customer: &CustomerId, wait: Duration) -> Result<Statements, Error> {
        // A clock that has run ahead would close what is not over.
        let (now, may_close) = (self.clock.now(), self.clock.receive_time().is_ok());
        self.statements_at(account, customer, wait, now, may_close).await
    }

    /// The same at a given time.
    async fn statements_at(
        &self,
        account: u32,
        customer: &CustomerId,
        wait: Duration,
        now: UnixMillis,
        may_close: bool,
    ) -> Result<Statements, Error> {
        let (shared, who) = (self.shared.clone(), customer.clone());
        let first_hour = blocking(move || Ok(shared.ledger(account, &who)?.first_hour())).await?;
        let view = match first_hour {
            Some(first_hour) => {
                let wanted = ViewRequest {
                    account,
                    meter: None,
                    from_s: seconds(first_hour),
                    to_s: seconds(month_of(hour_of(now)).end),
                    customers: Some(vec![customer.as_str().to_owned()]),
                };
                Some(self.source.view(vec![wanted], wait).await?)
            }
            None => None,
        };
        let turn = tokio::time::timeout(TURN_WAIT, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Error::Unavailable("too many invoices are being computed".into())) };
        let (shared, customer) = (self.shared.clone(), customer.clone());
        blocking(move || {
            let _turn = turn;
            shared.statements(account, &customer, view, now, may_close)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(store::Error::Damaged(format!("billing broke off: {error}")).into()),
    }
}

impl From<Closed> for Shown {
    fn from(closed: Closed) -> Self {
        Self { state: State::Closed(closed.status), invoice: closed.invoice, closed: Some((closed.closed_ms, closed.positions)) }
    }
}

impl Shared {
    fn ledger(&self, account: u32, customer: &CustomerId) -> Result<Ledger, Error> {
        let stored = self.store.document(Kind::Ledger, account, customer.as_str())?;
        Ok(stored.map_or_else(|| Ok(Ledger::default()), |stored| Ledger::read(&stored))?)
    }

    fn closed(&self, account: u32, id: &InvoiceId) -> Result<Option<Closed>, Error> {
        let stored = self.store.document(Kind::Invoice, account, id.as_str())?;
        Ok(stored.map(|stored| Closed::read(&stored)).transpose()?)
    }

    fn books(&self, account: u32, customer: &CustomerId) -> Result<Books, Error> {
        self.books_of(account, customer, self.ledger(account, customer)?)
    }

    fn books_of(&self, account: u32, customer: &CustomerId, ledger: Ledger) -> Result<Books, Error> {
        let lives = self.customers.lives(account, customer)?;
        let plans = self.plans.load(account, ledger.assignments.iter().map(|assignment| assignment.plan_id.as_str()))?;
        Ok(Books { ledger, lives, plans })
    }

    /// Writes the ledger as `change` leaves it, unless it refuses.
    fn change<T>(&self, account: u32, customer: &CustomerId, change: impl Fn(&mut Ledger) -> Result<T, Refusal>) -> Result<T, Error> {
        let mut outcome = Err(store::Error::Failed("it never read the ledger that was to be changed".into()).into());
        let mut decide = |stored: Option<&[u8]>| match changed(stored, &change) {
            Ok((done, body)) => {
                outcome = Ok(done);
                body.map_or(Change::Keep, Change::Put)
            }
            Err(error) => {
                outcome = Err(error);
                Change::Keep
            }
        };
        self.store.change_document(Kind::Ledger, account, customer.as_str(), &mut decide)?;
        outcome
    }

    /// The customer of the only order with an id, of those who have customers' ids now.
    fn who_ordered(&self, account: u32, id: &str) -> Result<Option<CustomerId>, Error> {
        let mut found = None;
        for (customer, stored) in self.store.documents(Kind::Ledger, account)? {
            if Ledger::read(&stored)?.orders.iter().any(|order| order.id == id && order.deleted_ms.is_none()) {
                if found.is_some() {
                    return Ok(None);
                }
                found = CustomerId::parse(&customer).ok();
            }
        }
        Ok(found)
    }

    fn settle(&self, account: u32, id: &InvoiceId, status: Status, now: UnixMillis) -> Result<Closed, Error> {
        let mut outcome = Err(Error::Unknown("invoice"));
        let mut decide = |stored: Option<&[u8]>| match settled(stored, status, now) {
            Ok((closed, body)) => {
                outcome = Ok(closed);
                body.map_or(Change::Keep, Change::Put)
            }
            Err(error) => {
                outcome = Err(error);
                Change::Keep
            }
        };
        self.store.change_document(Kind::Invoice, account, id.as_str(), &mut decide)?;
        outcome
    }
}

fn changed<T>(stored: Option<&[u8]>, change: &impl Fn(&mut Ledger) -> Result<T, Refusal>) -> Result<(T, Option<Vec<u8>>), Error> {
    let before = stored.map_or_else(|| Ok(Ledger::default()), Ledger::read)?;
    let mut ledger = before.clone();
    let done = change(&mut ledger)?;
    let body = if ledger == before { None } else { Some(ledger.write()?) };
    Ok((done, body))
}

fn settled(stored: Option<&[u8]>, status: Status, now: UnixMillis) -> Result<(Closed, Option<Vec<u8>>), Error> {
    let mut closed = Closed::read(stored.ok_or(Error::Unknown("invoice"))?)?;
    match closed.status {
        Status::Pending => {}
        same if same == status => return Ok((closed, None)),
        Status::Paid => return Err(Error::Settled("paid")),
        Status::Void => return Err(Error::Settled("void")),
    }
    (closed.status, closed.status_ms) = (status, now.0);
    let body = closed.write()?;
    Ok((closed, Some(body)))
}
