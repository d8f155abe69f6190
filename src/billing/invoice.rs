//! The invoice: lines of one period of one plan, and what prepaid orders pay of it.
//!
//! An invoice that is not closed is computed whenever it is asked for, from what was used so far: it is what would be owed if nothing more were
//! used. No clock is in it, but for which state it is in.

mod lines;
#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

pub use lines::{Line, LineKind, TooLarge, Used, costs, lines, usage_total};

use super::money::{Currency, Money};
use super::plan::{Plan, json};
use super::prepaid::Draw;
use super::timeline::Period;
use crate::customers::CustomerId;
use crate::store;

/// Version of what is stored.
const VERSION: u32 = 1;

/// Of a customer and the first hour of a period: as these are unique, so is the id, and an invoice that is stored nowhere is found by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvoiceId(String);

impl InvoiceId {
    /// The id of the period of a customer that begins with an hour (since 1970).
    pub fn new(customer: &CustomerId, start_h: u32) -> Self {
        Self(URL_SAFE_NO_PAD.encode([&start_h.to_be_bytes(), customer.as_str().as_bytes()].concat()))
    }

    /// Whose it is and when the period begins; `None` for what is no id.
    pub fn parse(text: &str) -> Option<(CustomerId, u32)> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (start_h, customer) = bytes.split_first_chunk::<4>()?;
        Some((CustomerId::parse(std::str::from_utf8(customer).ok()?).ok()?, u32::from_be_bytes(*start_h)))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is owed for a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invoice {
    /// Its id.
    pub id: InvoiceId,
    /// Whose it is.
    pub customer: CustomerId,
    /// What it is about.
    pub period: Period,
    /// The plan as JSON, so that the invoice explains itself for good.
    pub plan: serde_json::Value,
    /// Of all its amounts.
    pub currency: Currency,
    /// What it is made of.
    pub lines: Vec<Line>,
    /// What prepaid orders pay.
    pub draws: Vec<Draw>,
}

impl Invoice {
    /// What a few kinds of lines come to.
    pub fn sum_of(&self, kinds: &[LineKind]) -> Money {
        self.lines.iter().filter(|line| kinds.contains(&line.kind)).map(|line| line.amount).sum()
    }

    /// What it comes to: the sum of its lines.
    pub fn before_prepaid(&self) -> Money {
        self.lines.iter().map(|line| line.amount).sum()
    }

    /// What prepaid orders pay of it.
    pub fn prepaid(&self) -> Money {
        self.draws.iter().map(|draw| draw.amount).sum()
    }

    /// What is left to be paid. Negative: late usage has made earlier months cheaper by more than this one costs.
    pub fn total(&self) -> Money {
        self.before_prepaid() - self.prepaid()
    }

    /// The plan that it was made by.
    ///
    /// # Errors
    /// [`store::Error::Damaged`].
    pub fn plan(&self) -> Result<Plan, store::Error> {
        json::read(&self.plan).map_err(|error| store::Error::Damaged(format!("the plan of an invoice: {error}")))
    }
}

/// How far an invoice has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Closed, and not paid yet.
    Pending,
    /// Closed and paid.
    Paid,
    /// Closed and not to be paid: what it drew from prepaid orders is theirs again, and no late usage is billed for its period.
    Void,
}

/// An invoice that never changes any more, but for its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Closed {
    version: u32,
    /// The invoice.
    pub invoice: Invoice,
    /// What its lines come to, once more: what is read must be what was written.
    total: Money,
    /// When it was closed, in ms since 1970.
    pub closed_ms: i64,
    /// Up to where the rows went that it was made from: partition and next position.
    pub positions: Vec<(u32, u64)>,
    /// How far it has come.
    pub status: Status,
    /// When it came there, in ms since 1970.
    pub status_ms: i64,
}

impl Closed {
    /// Closes an invoice.
    pub fn new(invoice: Invoice, closed_ms: i64, positions: Vec<(u32, u64)>) -> Self {
        let total = invoice.total();
        Self { version: VERSION, invoice, total, closed_ms, positions, status: Status::Pending, status_ms: closed_ms }
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`store::Error::Damaged`].
    pub fn read(stored: &[u8]) -> Result<Self, store::Error> {
        let damaged = |what: String| store::Error::Damaged(format!("an invoice: {what}"));
        let closed: Self = serde_json::from_slice(stored).map_err(|error| damaged(error.to_string()))?;
        if closed.version > VERSION {
            return Err(damaged(format!("of version {}, this binary knows {VERSION}: upgrade it", closed.version)));
        }
        if closed.total == closed.invoice.total() { Ok(closed) } else { Err(damaged("its lines do not come to its total".into())) }
    }

    /// The JSON that is stored.
    ///
    /// # Errors
    /// [`store::Error::Failed`]: nothing was stored.
    pub fn write(&self) -> Result<Vec<u8>, store::Error> {
        serde_json::to_vec(self).map_err(|error| store::Error::Failed(format!("an invoice: {error}")))
    }
}
