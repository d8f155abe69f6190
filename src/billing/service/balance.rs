//! What is left of a customer's prepaid orders, and what was used when.

use std::collections::BTreeMap;

use super::Statements;
use crate::billing::invoice::InvoiceId;
use crate::billing::money::{Currency, Money};
use crate::billing::prepaid::{Card, Draw, Order};
use crate::billing::timeline::{hour_of, month_of};

/// What a customer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerBalance {
    /// What is left of all cards that are good now, by currency.
    pub available: BTreeMap<&'static str, Money>,
    /// All orders, in the order in which they were made.
    pub orders: Vec<OrderBalance>,
}

/// An order and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderBalance {
    /// The order.
    pub order: Order,
    /// Those that are good now or from which something was drawn.
    pub cards: Vec<CardBalance>,
}

/// A card and what is left of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardBalance {
    /// Which, and when it is good.
    pub card: Card,
    /// Whether it is good now.
    pub is_good: bool,
    /// What is left; nothing that can be used once it has expired.
    pub remaining: Money,
    /// What was drawn, by which invoice.
    pub draws: Vec<(InvoiceId, Draw)>,
}

impl Statements {
    /// What is left of the orders. Invoices that are open have drawn for what was used so far.
    pub fn balance(&self) -> CustomerBalance {
        let mut available: BTreeMap<&'static str, Money> = BTreeMap::new();
        let mut orders = Vec::with_capacity(self.orders.len());
        for order in &self.orders {
            let cards = self.cards(order);
            let good: Money = cards.iter().filter(|card| card.is_good).map(|card| card.remaining).sum();
            let currency: Currency = order.terms.currency;
            *available.entry(currency.code()).or_default() += good;
            orders.push(OrderBalance { order: order.clone(), cards });
        }
        CustomerBalance { available, orders }
    }

    fn cards(&self, order: &Order) -> Vec<CardBalance> {
        let now_h = hour_of(self.now);
        let balance = |card: Card| {
            let drawn = self.drawn.get(&(order.life, order.id.clone(), card.number)).copied().unwrap_or_default();
            let is_good = order.is_usable() && card.start_h <= now_h && now_h < card.end_h;
            let remaining = (order.terms.amount - drawn).or_zero();
            CardBalance { card, is_good, remaining, draws: self.draws(order, card.number) }
        };
        // An open invoice draws for its fees until the end of its month.
        let cards = order.cards(month_of(now_h).end).into_iter().map(balance);
        cards.filter(|card| card.is_good || !card.draws.is_empty()).collect()
    }

    fn draws(&self, order: &Order, card: u32) -> Vec<(InvoiceId, Draw)> {
        let of_life = self.invoices.iter().filter(|shown| shown.invoice.period.life == order.life && !shown.is_void());
        let draws = of_life.flat_map(|shown| shown.invoice.draws.iter().map(|draw| (shown.invoice.id.clone(), draw.clone())));
        draws.filter(|(_, draw)| draw.order == order.id && draw.card == card).collect()
    }
}
