//! The number of a group, or of a bucket of it, on its way: what is known of its rows so far. All of it merges in any order.

use super::unique::Distinct;
use super::{Approximate, Measure};
use crate::clock::UnixMicros;
use crate::event::{Amount, Sum};
use crate::store::Row;

/// What is known so far.
pub(super) enum Number {
    /// Exact.
    Sum(Sum),
    /// Of events, or of customers.
    Count(u64),
    Min(Option<Amount>),
    Max(Option<Amount>),
    /// Divided when all of it is known: an average of averages is none.
    Average(Sum, u64),
    Latest(Option<Latest>),
    Unique(Box<Distinct>),
}

/// The last of some measurements, and what makes it the last.
pub(super) struct Latest {
    time: UnixMicros,
    unique_id: String,
    value: Amount,
}

impl Number {
    /// Of no row.
    pub(super) fn none(measure: Measure<'_>) -> Self {
        match measure {
            Measure::Sum => Self::Sum(Sum::ZERO),
            Measure::Count | Measure::Customers => Self::Count(0),
            Measure::Min => Self::Min(None),
            Measure::Max => Self::Max(None),
            Measure::Average => Self::Average(Sum::ZERO, 0),
            Measure::Latest => Self::Latest(None),
            Measure::Unique(_) => Self::Unique(Box::default()),
        }
    }

    /// Adds a row. What counts customers or values hears of them by itself.
    pub(super) fn add(&mut self, row: &Row) {
        match self {
            Self::Sum(sum) => sum.add(row.sum),
            Self::Count(count) => *count += row.count,
            Self::Min(min) => *min = Some(min.map_or(row.min, |min| min.min(row.min))),
            Self::Max(max) => *max = Some(max.map_or(row.max, |max| max.max(row.max))),
            Self::Average(sum, count) => {
                sum.add(row.sum);
                *count += row.count;
            }
            Self::Latest(latest) => {
                // The order of `Row::merge`.
                let is_later = |latest: &Latest| (row.last_time, &row.last_id, row.last) > (latest.time, &latest.unique_id, latest.value);
                if latest.as_ref().is_none_or(is_later) {
                    *latest = Some(Latest { time: row.last_time, unique_id: row.last_id.clone(), value: row.last });
                }
            }
            Self::Unique(_) => debug_assert!(false, "counts values, not rows"),
        }
    }

    /// Counts some more.
    pub(super) fn add_count(&mut self, more: u64) {
        if let Self::Count(count) = self {
            *count += more;
        }
    }

    /// The different values, where these are counted.
    pub(super) fn distinct(&mut self) -> Option<&mut Distinct> {
        if let Self::Unique(distinct) = self { Some(distinct) } else { None }
    }

    /// What it holds beside itself, in cells.
    pub(super) fn cells(&self) -> usize {
        if let Self::Unique(distinct) = self { distinct.cells() } else { 0 }
    }

    /// The number; 0 of no row.
    pub(super) fn value(&self) -> Sum {
        match self {
            Self::Sum(sum) => *sum,
            Self::Count(count) => Sum::from_count(*count),
            Self::Min(amount) | Self::Max(amount) => amount.unwrap_or_default().into(),
            Self::Average(sum, count) => sum.divided_by(*count),
            Self::Latest(latest) => latest.as_ref().map(|latest| latest.value).unwrap_or_default().into(),
            Self::Unique(distinct) => Sum::from_count(distinct.count()),
        }
    }

    /// How far the number may be from the truth.
    pub(super) fn approximate(&self) -> Approximate {
        if let Self::Unique(distinct) = self { distinct.approximate() } else { Approximate::default() }
    }
}
