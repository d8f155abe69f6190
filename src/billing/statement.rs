//! All invoices of a customer, one after the other, and what is left of its prepaid orders.
//!
//! Closed invoices are taken as they are stored. Each other one is computed: its lines, then a line for each closed period of the same customer
//! and currency of which more (or less) is known by now than was billed, then what prepaid orders pay. What is late is thus billed on
//! the first invoice behind that is not closed, once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use super::invoice::{self, Closed, Invoice, InvoiceId, Line, LineKind, TooLarge};
use super::money::{Currency, Money};
use super::plan::{Plan, json};
use super::prepaid::{Card, Order, Purse, draw, slices};
use super::quantity::{self, Quantity, Who, measure};
use super::timeline::{Period, PlanRef};
use crate::customers::{CustomerId, Life};
use crate::store::{self, Rows};

/// Why there is no statement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A line cannot be computed.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// A quantity cannot be measured.
    #[error(transparent)]
    Quantity(#[from] quantity::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// An invoice, closed or as it would be now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Stored.
    Closed(Box<Closed>),
    /// Computed.
    Open(Box<Invoice>),
}

impl Item {
    /// The invoice.
    pub fn invoice(&self) -> &Invoice {
        match self {
            Self::Closed(closed) => &closed.invoice,
            Self::Open(invoice) => invoice,
        }
    }
}

/// What a statement is made of.
pub struct Source<'s> {
    /// Whose rows.
    pub account: u32,
    /// Whose statement.
    pub customer: &'s CustomerId,
    /// What was sold in advance.
    pub orders: &'s [Order],
    /// Of all periods.
    pub rows: &'s dyn Rows,
    /// The plans.
    pub plan: &'s dyn Fn(&PlanRef) -> Result<Plan, store::Error>,
    /// The invoices that are stored.
    pub closed: &'s dyn Fn(&InvoiceId) -> Result<Option<Closed>, store::Error>,
}

/// What was drawn from each card, by life, order and number.
pub type Drawn = BTreeMap<(Life, String, u32), Money>;

/// A statement that is being made.
pub struct Statement<'s> {
    source: &'s Source<'s>,
    drawn: Drawn,
    /// Closed periods, and what was billed for them so far.
    billed: Vec<Billed>,
    items: Vec<Item>,
}

/// A closed period whose late usage is still billed.
struct Billed {
    id: InvoiceId,
    period: Period,
    plan: Rc<Plan>,
    amount: Money,
    /// What it would come to now; computed when somebody asks.
    now: Option<Money>,
}

impl<'s> Statement<'s> {
    /// Nothing yet.
    pub fn new(source: &'s Source<'s>) -> Self {
        Self { source, drawn: Drawn::new(), billed: Vec::new(), items: Vec::new() }
    }

    /// Adds the next period, which is not before the one added last. `close` may close what was computed: what it gives back is what is
    /// stored, by whomever.
    ///
    /// # Errors
    /// [`Error`].
    pub fn add(&mut self, period: &Period, close: &mut dyn FnMut(&Invoice) -> Result<Option<Closed>, store::Error>) -> Result<(), Error> {
        let id = InvoiceId::new(self.source.customer, period.start_h);
        let closed = match (self.source.closed)(&id)? {
            Some(closed) => Some(closed),
            None => {
                let invoice = self.compute(id, period)?;
                let closed = close(&invoice)?;
                if closed.is_none() {
                    self.note_draws(&invoice);
                    self.note_late(&invoice.lines);
                    self.items.push(Item::Open(Box::new(invoice)));
                }
                closed
            }
        };
        if let Some(closed) = closed {
            self.note(&closed)?;
            self.items.push(Item::Closed(Box::new(closed)));
        }
        Ok(())
    }

    /// All invoices, in the order of time, and what was drawn from each card of each order.
    pub fn finish(self) -> (Vec<Item>, Drawn) {
        (self.items, self.drawn)
    }

    fn note(&mut self, closed: &Closed) -> Result<(), store::Error> {
        let invoice = &closed.invoice;
        // What was late is billed, whether this invoice is ever paid or not.
        self.note_late(&invoice.lines);
        if closed.status == invoice::Status::Void {
            return Ok(());
        }
        self.note_draws(invoice);
        let (id, period, plan) = (invoice.id.clone(), invoice.period.clone(), Rc::new(invoice.plan()?));
        self.billed.push(Billed { id, period, plan, amount: invoice.sum_of(&LineKind::OF_USAGE), now: None });
        Ok(())
    }

    fn note_draws(&mut self, invoice: &Invoice) {
        for draw in &invoice.draws {
            *self.drawn.entry((invoice.period.life, draw.order.clone(), draw.card)).or_default() += draw.amount;
        }
    }

    fn note_late(&mut self, lines: &[Line]) {
        for line in lines.iter().filter(|line| line.kind == LineKind::Late) {
            for billed in self.billed.iter_mut().filter(|billed| billed.id.as_str() == line.id) {
                billed.amount += line.amount;
            }
        }
    }

    fn compute(&mut self, id: InvoiceId, period: &Period) -> Result<Invoice, Error> {
        let plan = (self.source.plan)(&period.plan)?;
        let cards = self.cards(period, plan.currency);
        let slices = slices(period.start_h..period.end_h, cards.iter().map(|(_, card)| card));
        let measured = self.measure(&plan, &slices)?;
        let whole = measured.last().map(Vec::as_slice).unwrap_or_default();
        let mut lines = invoice::lines(&plan, period.part(), whole)?;
        lines.extend(self.late(period.life, plan.currency)?);
        let total = lines.iter().map(|line| line.amount).sum();
        let costs = invoice::costs(&plan, period.part(), &slices, &measured, total)?;
        let mut purses = self.purses(&cards);
        let draws = draw(&costs, &mut purses);
        let (customer, currency) = (self.source.customer.clone(), plan.currency);
        Ok(Invoice { id, customer, period: period.clone(), plan: json::shown(&plan), currency, lines, draws })
    }

    /// The cards that may pay for a period.
    fn cards(&self, period: &Period, currency: Currency) -> Vec<(&'s Order, Card)> {
        let usable =
            self.source.orders.iter().filter(|order| order.is_usable() && order.life == period.life && order.terms.currency == currency);
        let cards = usable.flat_map(|order| order.cards(period.end_h).into_iter().map(move |card| (order, card)));
        cards.filter(|(_, card)| card.end_h > period.start_h).collect()
    }

    fn purses(&self, cards: &[(&'s Order, Card)]) -> Vec<Purse<'s>> {
        let purse = |(order, card): &(&'s Order, Card)| {
            let drawn = self.drawn.get(&(order.life, order.id.clone(), card.number)).copied().unwrap_or_default();
            Purse { order: &order.id, card: *card, remaining: (order.terms.amount - drawn).or_zero() }
        };
        cards.iter().map(purse).collect()
    }

    /// For each slice and price the quantities of its rates, since the begin of the first slice.
    fn measure(&self, plan: &Plan, slices: &[Range<u32>]) -> Result<Vec<Vec<Vec<Quantity>>>, Error> {
        let who = Who { account: self.source.account, customer: self.source.customer.as_str() };
        let mut by_slice: Vec<Vec<Vec<Quantity>>> = slices.iter().map(|_| Vec::new()).collect();
        for price in &plan.prices {
            for (slice, quantities) in by_slice.iter_mut().zip(measure(self.source.rows, who, price, slices)?) {
                slice.push(quantities);
            }
        }
        Ok(by_slice)
    }

    /// A line for each closed period that would come to something else by now.
    fn late(&mut self, life: Life, currency: Currency) -> Result<Vec<Line>, Error> {
        let mut lines = Vec::new();
        for index in 0..self.billed.len() {
            let billed = &self.billed[index];
            if billed.period.life != life || billed.plan.currency != currency {
                continue;
            }
            let now = match billed.now {
                Some(now) => now,
                None => {
                    let whole = billed.period.start_h..billed.period.end_h;
                    let measured = self.measure(&billed.plan, &[whole])?;
                    invoice::usage_total(&billed.plan, billed.period.part(), measured.last().map(Vec::as_slice).unwrap_or_default())?
                }
            };
            let billed = &mut self.billed[index];
            billed.now = Some(now);
            if now != billed.amount {
                let line = Line::new(LineKind::Late, billed.id.as_str(), &billed.plan.name, now - billed.amount);
                lines.push(Line { billed_before: Some(billed.amount), ..line });
            }
        }
        Ok(lines)
    }
}
