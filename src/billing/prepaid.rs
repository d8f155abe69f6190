//! Prepaid orders, and what is drawn from them.
//!
//! An order is money that was paid before. A one-off order is good from its start until it expires, or for ever; a recurring one brings the
//! same amount again each interval, and what is left of the one before is gone. Each such amount is a *card*. Calendar intervals are counted
//! from the order's start: one that begins on 31 January comes again on 28 February and on 31 March.
//!
//! # Drawdown
//!
//! The grain of time is the hour. A card begins with the hour of its start and ends with the hour in which it expires; at its
//! next recurrence with the hour's begin. It pays for invoices of its currency, and for costs that arise while it is good:
//!
//! - A period is cut into slices where a card begins or ends. So within a slice all cards are good or not.
//! - What has arisen by the end of a slice is the price of everything used since the begin of the period, with fees in advance; by the end
//!   of the last slice it is the whole invoice, with fees in arrears, minimums and late usage.
//! - With volume tiers or negative values that can go down again. What was owed for good by the end of a slice is the smallest of what has
//!   arisen then or later.
//! - What is new in a slice is drawn from the cards that are good, in the order of their expiry; then of their start, then by the order's id.
//!
//! What no card pays for is on the invoice. Invoices are paid in the order of their periods, and what a closed one drew stays drawn unless it
//! is void. So the result is a function of orders, closed invoices and rows, and no card is ever drawn below zero.

use std::collections::BTreeSet;
use std::ops::Range;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde::{Deserialize, Serialize};

use super::money::{Currency, Money};
use super::timeline::{HOUR_MAX, hour_from, hour_of};
use crate::clock::UnixMillis;
use crate::customers::Life;

/// Most recurrences of an order: a century of days.
pub const CARDS_MAX: u32 = 36_525;
/// Most intervals between two recurrences.
pub const INTERVALS_MAX: u32 = 1_000;

/// How often an order comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interval {
    /// A day.
    Day,
    /// A calendar month.
    Month,
    /// A year.
    Year,
}

/// A whole number of intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recurrence {
    /// Which.
    pub interval: Interval,
    /// How many, from 1 to [`INTERVALS_MAX`].
    pub count: u32,
}

/// What is known of the payment for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentStatus {
    /// Nobody pays outside.
    NotNeeded,
    /// Somebody does, and has not yet. The order is good.
    Pending,
    /// It is paid.
    Settled,
    /// It will not be paid. The order is not good, for no invoice that is not closed yet.
    Failed,
}

/// What was said about a payment outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// Where it was made.
    pub system_name: Option<String>,
    /// What it is called there.
    pub payment_id: Option<String>,
    /// When, in s since 1970.
    pub time_s: Option<i64>,
}

/// What an order says that was sent with it: of two with one id, both must say the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What each card is worth.
    pub amount: Money,
    /// Its currency.
    pub currency: Currency,
    /// From when on, in ms since 1970.
    pub start_ms: i64,
    /// Until when, in ms since 1970; `None`: for ever. Of a one-off order.
    pub expires_ms: Option<i64>,
    /// `None`: once.
    pub recurrence: Option<Recurrence>,
    /// What it was sold for.
    pub product_id: String,
    /// A number of the vendor's.
    pub offer_version: i64,
    /// Whether it is paid outside.
    pub external_payment: bool,
    /// What it would have cost.
    pub original_worth: Money,
}

/// A prepaid order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Unique among the orders of its customer, also those that were deleted.
    pub id: String,
    /// Which of the customers that have had the id.
    pub life: Life,
    /// What was sent.
    pub terms: Terms,
    /// What is known of the payment.
    pub payment_status: PaymentStatus,
    /// Who said so.
    pub payment: Option<Payment>,
    /// In ms since 1970.
    pub created_ms: i64,
    /// In ms since 1970.
    pub modified_ms: i64,
    /// In ms since 1970: it is good for nothing after that.
    pub deleted_ms: Option<i64>,
}

/// One amount of an order, good for some hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Card {
    /// Last hour, exclusive; [`HOUR_MAX`]: for ever.
    pub end_h: u32,
    /// First hour.
    pub start_h: u32,
    /// Which recurrence, from 0 on.
    pub number: u32,
}

impl Order {
    /// Whether invoices may draw from it.
    pub fn is_usable(&self) -> bool {
        match self.payment_status {
            PaymentStatus::NotNeeded | PaymentStatus::Pending | PaymentStatus::Settled => true,
            PaymentStatus::Failed => false,
        }
    }

    /// The cards that are good at some time before an hour, in the order of time.
    pub fn cards(&self, until_h: u32) -> Vec<Card> {
        let deleted_h = self.deleted_ms.map_or(HOUR_MAX, |deleted| hour_from(UnixMillis(deleted)));
        let mut cards = Vec::new();
        for number in 0..CARDS_MAX {
            let Some(start) = self.terms.card_start(number) else { break };
            let start_h = hour_of(start);
            if start_h >= until_h.min(deleted_h) {
                break;
            }
            let end_h = self.terms.card_end_h(number).min(deleted_h);
            if start_h < end_h {
                cards.push(Card { end_h, start_h, number });
            }
            if self.terms.recurrence.is_none() {
                break;
            }
        }
        cards
    }
}

impl Terms {
    /// When a recurrence begins; `None`: after the end of time.
    pub fn card_start(&self, number: u32) -> Option<UnixMillis> {
        let Some(Recurrence { interval, count }) = self.recurrence.filter(|_| number > 0) else { return Some(UnixMillis(self.start_ms)) };
        let intervals = i64::from(number) * i64::from(count);
        let span = match interval {
            Interval::Day => Span::new().try_days(intervals),
            Interval::Month => Span::new().try_months(intervals),
            Interval::Year => Span::new().try_years(intervals),
        };
        let start = Timestamp::from_millisecond(self.start_ms).ok()?.to_zoned(TimeZone::UTC);
        Some(UnixMillis(start.checked_add(span.ok()?).ok()?.timestamp().as_millisecond()))
    }

    /// When the first card ends, in ms since 1970; `None`: never.
    pub fn first_card_end(&self) -> Option<UnixMillis> {
        if self.recurrence.is_some() { self.card_start(1) } else { self.expires_ms.map(UnixMillis) }
    }

    fn card_end_h(&self, number: u32) -> u32 {
        match self.recurrence {
            Some(_) => self.card_start(number + 1).map_or(HOUR_MAX, hour_of),
            None => self.expires_ms.map_or(HOUR_MAX, |expires| hour_from(UnixMillis(expires))),
        }
    }
}

/// What is left of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purse<'o> {
    /// The order's id.
    pub order: &'o str,
    /// When it is good.
    pub card: Card,
    /// What is left.
    pub remaining: Money,
}

/// What has arisen by the end of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// The slice, in hours since 1970.
    pub slice: Range<u32>,
    /// Since the begin of the period.
    pub arisen: Money,
}

/// What was drawn from a card for a slice of a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draw {
    /// The order's id.
    pub order: String,
    /// Which recurrence, from 0 on.
    pub card: u32,
    /// Begin of the slice, in hours since 1970.
    pub start_h: u32,
    /// Its end.
    pub end_h: u32,
    /// How much.
    pub amount: Money,
}

/// Cuts a period where cards begin or end. At least one slice, each of at least an hour.
pub fn slices<'c>(period: Range<u32>, cards: impl Iterator<Item = &'c Card>) -> Vec<Range<u32>> {
    let mut cuts = BTreeSet::from([period.start, period.end]);
    cuts.extend(cards.flat_map(|card| [card.start_h, card.end_h]).filter(|cut| period.contains(cut)));
    let cuts: Vec<u32> = cuts.into_iter().collect();
    cuts.windows(2).map(|pair| pair[0]..pair[1]).collect()
}

/// Draws what arises from the purses, slice by slice, and leaves in them what remains.
pub fn draw(costs: &[Cost], purses: &mut [Purse<'_>]) -> Vec<Draw> {
    purses.sort_by(|one, other| {
        (one.card.end_h, one.card.start_h, one.order, one.card.number).cmp(&(
            other.card.end_h,
            other.card.start_h,
            other.order,
            other.card.number,
        ))
    });
    let mut draws = Vec::new();
    let mut owed_before = Money::ZERO;
    for (index, Cost { slice, .. }) in costs.iter().enumerate() {
        let owed = costs[index..].iter().map(|cost| cost.arisen).min().unwrap_or_default().or_zero();
        let mut open = owed - owed_before;
        owed_before = owed;
        let is_good = |card: Card| card.start_h <= slice.start && slice.end <= card.end_h;
        for purse in purses.iter_mut().filter(|purse| is_good(purse.card)) {
            let amount = open.min(purse.remaining);
            if amount > Money::ZERO {
                purse.remaining -= amount;
                open -= amount;
                let order = purse.order.to_owned();
                draws.push(Draw { order, card: purse.card.number, start_h: slice.start, end_h: slice.end, amount });
            }
        }
    }
    draws
}

#[cfg(test)]
mod tests;
