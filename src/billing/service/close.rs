//! Closing what is due, and the statement that comes with it.

use std::sync::Weak;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::{Billing, Books, Error, Shared, Shown, State, Statements, WAIT_TO_CLOSE, blocking};
use crate::billing::invoice::{Closed, Invoice};
use crate::billing::ledger::Ledger;
use crate::billing::statement::Drawn;
use crate::billing::statement::{Item, Source, Statement};
use crate::billing::timeline::{Period, month_of, seconds};
use crate::clock::UnixMillis;
use crate::customers::CustomerId;
use crate::store::{self, Change, Kind};
use crate::usage::View;

impl Billing {
    /// Closes what is due of all customers of an account. Gives back how many customers could not be looked at, of how many.
    ///
    /// # Errors
    /// [`Error::Store`]: the customers are not known.
    pub async fn close_due(&self, account: u32) -> Result<(usize, usize), Error> {
        let (now, may_close) = (self.clock.now(), self.clock.receive_time().is_ok());
        if !may_close {
            return Ok((0, 0));
        }
        let shared = self.shared.clone();
        let due = blocking(move || shared.who_is_due(account, now)).await?;
        let mut failed = 0;
        for customer in &due {
            if let Err(error) = self.statements_at(account, customer, WAIT_TO_CLOSE, now, true).await {
                tracing::warn!(account, %error, "the invoices of a customer cannot be closed now");
                failed += 1;
            }
        }
        Ok((failed, due.len()))
    }
}

impl Shared {
    /// All periods of a month are due together: until then another assignment can still join two of them, or cut one.
    fn is_due(&self, period: &Period, now: UnixMillis) -> bool {
        seconds(month_of(period.start_h).end).saturating_mul(1_000).saturating_add(self.grace_ms) <= now.0
    }

    /// The end of the last month of which a period is due, in hours; 0: none is.
    fn due_until(&self, books: &Books, now: UnixMillis) -> u32 {
        let due = books.periods(now).into_iter().filter(|period| self.is_due(period, now));
        due.map(|period| month_of(period.start_h).end).max().unwrap_or(0)
    }

    /// The customers of which something is due that is not stored.
    fn who_is_due(&self, account: u32, now: UnixMillis) -> Result<Vec<CustomerId>, Error> {
        let mut due = Vec::new();
        for (id, stored) in self.store.documents(Kind::Ledger, account)? {
            let ledger = Ledger::read(&stored)?;
            if let Ok(customer) = CustomerId::parse(&id)
                && !ledger.assignments.is_empty()
            {
                let books = self.books_of(account, &customer, ledger)?;
                if self.due_until(&books, now) > books.ledger.stored_until_h {
                    due.push(customer);
                }
            }
        }
        Ok(due)
    }

    /// Closes what is due if the rows are complete, and computes the rest.
    pub(super) fn statements(
        &self,
        account: u32,
        customer: &CustomerId,
        view: Option<View>,
        now: UnixMillis,
        may_close: bool,
    ) -> Result<Statements, Error> {
        let mut books = self.books(account, customer)?;
        let complete = view.as_ref().is_none_or(|view| view.complete);
        let Some(view) = view else { return Ok(self.statement_of_orders(&books, now)) };
        let due_until = if complete && may_close { self.due_until(&books, now) } else { 0 };
        if due_until > books.ledger.closed_until_h {
            // From here on no assignment can change what is due; what came before is in the ledger as it is now.
            let ledger = self.change(account, customer, |ledger| {
                ledger.closed_until_h = ledger.closed_until_h.max(due_until);
                Ok(ledger.clone())
            })?;
            books = self.books_of(account, customer, ledger)?;
        }
        let closes = |period: &Period| month_of(period.start_h).end <= due_until;
        let (items, drawn) = self.walk(account, customer, &books, &view, now, &closes)?;
        if due_until > books.ledger.stored_until_h {
            self.change(account, customer, |ledger| {
                ledger.stored_until_h = ledger.stored_until_h.max(due_until);
                Ok(())
            })?;
        }
        let from = books.lives.first_shown();
        let shown = items.into_iter().filter(|item| item.invoice().period.life >= from);
        let invoices = shown.map(|item| shown_at(item, now)).collect();
        let orders = books.ledger.orders.into_iter().filter(|order| order.life >= from).collect();
        Ok(Statements { invoices, complete, orders, drawn, now })
    }

    fn statement_of_orders(&self, books: &Books, now: UnixMillis) -> Statements {
        let from = books.lives.first_shown();
        let orders = books.ledger.orders.iter().filter(|order| order.life >= from).cloned().collect();
        Statements { invoices: Vec::new(), complete: true, orders, drawn: Drawn::new(), now }
    }

    fn walk(
        &self,
        account: u32,
        customer: &CustomerId,
        books: &Books,
        view: &View,
        now: UnixMillis,
        closes: &dyn Fn(&Period) -> bool,
    ) -> Result<(Vec<Item>, Drawn), Error> {
        let source = Source {
            account,
            customer,
            orders: &books.ledger.orders,
            rows: &*view.rows,
            plan: &|reference| books.plans.plan(reference),
            closed: &|id| {
                let stored = self.store.document(Kind::Invoice, account, id.as_str())?;
                stored.map(|stored| Closed::read(&stored)).transpose()
            },
        };
        let mut statement = Statement::new(&source);
        for period in books.periods(now) {
            let mut close = |invoice: &Invoice| {
                let closes = closes(&period);
                closes.then(|| self.store_once(account, Closed::new(invoice.clone(), now.0, view.positions.clone()))).transpose()
            };
            statement.add(&period, &mut close)?;
        }
        Ok(statement.finish())
    }

    /// Stores an invoice unless there is one; gives back the one that is stored.
    fn store_once(&self, account: u32, closed: Closed) -> Result<Closed, store::Error> {
        let body = closed.write()?;
        let mut outcome = Ok(None);
        let id = closed.invoice.id.clone();
        self.store.change_document(Kind::Invoice, account, id.as_str(), &mut |stored| match stored {
            Some(stored) => {
                outcome = Closed::read(stored).map(Some);
                Change::Keep
            }
            None => {
                outcome = Ok(None);
                Change::Put(body.clone())
            }
        })?;
        Ok(outcome?.unwrap_or(closed))
    }
}

fn shown_at(item: Item, now: UnixMillis) -> Shown {
    match item {
        Item::Closed(closed) => (*closed).into(),
        Item::Open(invoice) => {
            let is_over = seconds(month_of(invoice.period.start_h).end).saturating_mul(1_000) <= now.0;
            Shown { state: if is_over { State::Grace } else { State::Open }, invoice: *invoice, closed: None }
        }
    }
}

/// Closes what is due of all accounts, now and then, for those whose invoices nobody asks for, until nobody else has `billing` any more. Any
/// number of nodes may do so at a time.
pub async fn close_all(billing: Weak<Billing>, accounts: impl Fn() -> Vec<u32>, every: Duration) {
    let mut turns = tokio::time::interval(every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        for account in accounts() {
            let Some(billing) = billing.upgrade() else { return };
            match billing.close_due(account).await {
                Ok((_, 0)) => {}
                Ok((failed, customers)) => tracing::info!(account, customers, failed, "invoices that were due were closed"),
                Err(error) => tracing::warn!(account, %error, "it is not known whose invoices are due"),
            }
        }
        if billing.strong_count() == 0 {
            return;
        }
    }
}
