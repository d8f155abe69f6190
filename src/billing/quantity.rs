//! From rows to quantities: what of a meter is billed, cumulated from the begin of a period to each of its cuts.
//!
//! Sums, maxima, the last value and sets of values merge in any order, so neither the order of events nor their partitions show.

use std::collections::HashSet;
use std::ops::Range;

use super::plan::{Aggregate, Price, Rates};
use crate::event::Sum;
use crate::store::row::{DAY_S, HOUR_S};
use crate::store::{Grain, Row, RowKey, RowSelection, Rows};

/// Different values that a price may count: they are held in memory.
pub const UNIQUE_MAX: usize = 1_000_000;
/// Hours of a day.
const DAY_H: u32 = (DAY_S / HOUR_S) as u32;

/// Why there is no quantity.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More different values than [`UNIQUE_MAX`].
    #[error("the price {price} counts more than {UNIQUE_MAX} different values, the limit")]
    TooManyValues {
        /// The price's id.
        price: String,
    },
    /// The rows cannot be read.
    #[error(transparent)]
    Rows(#[from] crate::store::Error),
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quantity {
    /// The number that is billed.
    pub value: Sum,
    /// Events behind it.
    pub events: u64,
    /// Rows that it was read from.
    pub rows: u64,
    /// Whether some of these events have lost their dimensions to the overflow row.
    pub has_overflow: bool,
}

/// Whose rows.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The account.
    pub account: u32,
    /// The customer's id.
    pub customer: &'a str,
}

/// The quantity of each rate of a price ([`Price::all_rates`]) at each end of a slice; slices follow each other.
///
/// # Errors
/// [`Error`].
pub fn measure(rows: &dyn Rows, who: Who<'_>, price: &Price, slices: &[Range<u32>]) -> Result<Vec<Vec<Quantity>>, Error> {
    let mut parts: Vec<Measured> = price.all_rates().iter().map(|_| Measured::default()).collect();
    let mut measured = Vec::with_capacity(slices.len());
    for slice in slices {
        let mut too_many = false;
        for (grain, buckets) in scans(slice) {
            let selection = RowSelection {
                account: who.account,
                meter: price.meter.clone(),
                grain,
                from: buckets.start,
                to: buckets.end,
                customers: Some(vec![who.customer.to_owned()]),
            };
            rows.scan(&selection, &mut |key, row| {
                if let Some(part) = rate_of(price, &key).and_then(|index| parts.get_mut(index)) {
                    too_many |= part.add(&price.aggregate, &key, row).is_none();
                }
                Ok(())
            })?;
        }
        if too_many {
            return Err(Error::TooManyValues { price: price.id.clone() });
        }
        measured.push(parts.iter().map(|part| part.quantity(&price.aggregate)).collect());
    }
    Ok(measured)
}

/// Which rows make up a range of hours: whole days from day rows.
fn scans(hours: &Range<u32>) -> impl Iterator<Item = (Grain, Range<u32>)> {
    let days = hours.start.div_ceil(DAY_H)..hours.end / DAY_H;
    let scans = if days.is_empty() {
        [(Grain::Hour, hours.clone()), (Grain::Day, 0..0), (Grain::Hour, 0..0)]
    } else {
        [(Grain::Hour, hours.start..days.start * DAY_H), (Grain::Hour, days.end * DAY_H..hours.end), (Grain::Day, days)]
    };
    scans.into_iter().filter(|(_, buckets)| !buckets.is_empty())
}

/// Index of the rate that a row is billed at; `None`: it is free.
fn rate_of(price: &Price, key: &RowKey<'_>) -> Option<usize> {
    match &price.rates {
        Rates::One(_) => Some(0),
        Rates::ByValue { dimension, values, default } => {
            let value = key.dimensions.get(dimension).unwrap_or_default();
            let own = values.binary_search_by(|(own, _)| own.as_str().cmp(value)).ok();
            own.or_else(|| default.is_some().then_some(values.len()))
        }
    }
}

/// What is known of a rate's events so far.
#[derive(Debug, Default)]
struct Measured {
    row: Option<Row>,
    rows: u64,
    values: HashSet<Box<str>>,
    has_overflow: bool,
}

impl Measured {
    /// Adds a row; `None` past the limit of values.
    fn add(&mut self, aggregate: &Aggregate, key: &RowKey<'_>, row: &Row) -> Option<()> {
        self.rows += 1;
        self.has_overflow |= key.dimensions.is_overflow();
        match &mut self.row {
            Some(merged) => merged.merge(row),
            None => self.row = Some(row.clone()),
        }
        if let Aggregate::Unique { dimension } = aggregate
            && let Some(value) = key.dimensions.get(dimension)
            && !self.values.contains(value)
        {
            if self.values.len() >= UNIQUE_MAX {
                return None;
            }
            self.values.insert(value.into());
        }
        Some(())
    }

    fn quantity(&self, aggregate: &Aggregate) -> Quantity {
        let Some(row) = &self.row else { return Quantity::default() };
        let value = match aggregate {
            Aggregate::Sum => row.sum,
            Aggregate::Count => Sum::from_count(row.count),
            Aggregate::Max => row.max.into(),
            Aggregate::Latest => row.last.into(),
            Aggregate::Unique { .. } => Sum::from_count(self.values.len() as u64),
        };
        Quantity { value, events: row.count, rows: self.rows, has_overflow: self.has_overflow }
    }
}
