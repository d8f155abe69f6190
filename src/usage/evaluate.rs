//! From rows to an answer: one pass over the rows of a query, in the order of time. Pure: no clock, no I/O but the rows'.
//!
//! While it runs, every group that has events and every bucket of it that has some is in memory, one number each;
//! [`Limits`] bound how many that may be. Groups are ranked and cut when all of them are known.
//!
//! Numbers are exact but for one: how many different values a dimension has. That is exact, too, as long as the values of the whole
//! evaluation are few enough to be held ([`Limits::values_max`]) and no overflow row is among the rows; [`Approximate`] says which.
//! An event without the dimension has no value of it; an empty one is a value.

mod number;
mod unique;

use std::collections::HashMap;
use std::ops::ControlFlow;

use self::number::Number;
use self::unique::{SeenCustomers, Values};
use super::reading::{plan, scan, selection};
use super::{Field, Measure, MeterType, Query, Take};
use crate::event::Sum;
use crate::store::{self, Row, RowKey, Rows};

/// What an overflow row has in place of each dimension.
pub const OVERFLOW_VALUE: &str = "(overflow)";
/// Between the values of a group's key. No value contains it, and it sorts before everything that one may contain.
const SEPARATOR: char = '\0';

/// How much an evaluation may hold and answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Groups of an answer; past it the answer is cut (`design.md`, limits).
    pub groups_max: usize,
    /// Numbers held while the rows are read: one a group and bucket that has events, and, for a measure of customers, one
    /// a customer of such a bucket; for one of values, what is held of these. About 100 bytes each; past it there is no answer.
    pub cells_max: usize,
    /// Different values of a dimension that are held, of all groups together. What meets another one is estimated from then on.
    pub values_max: usize,
}

impl Limits {
    /// What is left for another answer beside one that is kept.
    pub fn beside(self, kept: &Answer) -> Self {
        Self { cells_max: self.cells_max.saturating_sub(kept.numbers()), ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { groups_max: 100_000, cells_max: 4_000_000, values_max: 100_000 }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// Past [`Limits::cells_max`].
    #[error(
        "the answer would be put together from more than {cells_max} numbers, the limit: ask for longer intervals, a shorter range or fewer groups"
    )]
    TooManyCells {
        /// The limit.
        cells_max: usize,
    },
    /// The rows cannot be read.
    #[error(transparent)]
    Rows(#[from] store::Error),
}

/// How far a number may be from the truth. By default it is exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Approximate {
    /// Whether it comes from a sketch: [`crate::sketch::standard_error`] is its relative standard error.
    pub is_estimate: bool,
    /// Whether there may be more: an overflow row from before there were sketches, or one that has more names than are kept.
    pub is_lower_bound: bool,
}

impl Approximate {
    /// Of several numbers: what holds of any.
    pub fn and(self, other: Self) -> Self {
        Self { is_estimate: self.is_estimate | other.is_estimate, is_lower_bound: self.is_lower_bound | other.is_lower_bound }
    }
}

/// One group of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its value for each field that was grouped by, in their order; `""` for a dimension that its events do not have.
    pub values: Vec<String>,
    /// Over the whole range.
    pub total: Sum,
    /// Begin of each bucket that has events, in s since 1970, and its number; ascending.
    pub buckets: Vec<(i64, Sum)>,
    /// Of the total; no bucket is farther from the truth.
    pub approximate: Approximate,
}

/// What was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Begin of each bucket of the range, in s since 1970, ascending, whether it has events or not.
    pub bucket_starts: Vec<i64>,
    /// Largest total first (or smallest, if asked for); equal totals by their values. Without fields to group by there is
    /// one group, or none if there are no events.
    pub groups: Vec<Group>,
    /// Whether there are more groups than [`Limits::groups_max`], and more were asked for.
    pub cut: bool,
    /// Whether events that have lost their dimensions to the overflow row are filtered or grouped by dimensions: a filter
    /// leaves them out, a group shows them as [`OVERFLOW_VALUE`].
    pub overflow: bool,
    /// What holds of any group, also of those that were cut.
    pub approximate: Approximate,
    /// Rows that were read: those in the range, of the customers that were filtered for.
    pub rows_read: u64,
}

impl Answer {
    /// Numbers that it holds: one for each group and bucket that has events.
    pub fn numbers(&self) -> usize {
        self.groups.iter().map(|group| group.buckets.len()).sum()
    }
}

/// Answers a query from rows, which must hold at least those of [`Query::view_request`].
///
/// # Errors
/// [`EvaluateError`].
pub fn evaluate(query: &Query, meter_type: MeterType, rows: &dyn Rows, limits: Limits) -> Result<Answer, EvaluateError> {
    let mut fold = Fold::new(query, query.measure(meter_type), limits);
    for (grain, buckets) in plan(&query.buckets, &fold.bucket_starts) {
        let selection = selection(query.account, &query.meter, grain, buckets, query.customers.as_deref());
        if scan(rows, selection, &mut |key, row| fold.add(key, row))?.is_break() {
            return Err(EvaluateError::TooManyCells { cells_max: limits.cells_max });
        }
    }
    Ok(fold.into_answer())
}

/// What is known of a group so far.
struct Totals {
    number: u32,
    total: Number,
    /// Index of the bucket that the last row is in, and its number so far.
    open: (u32, Number),
    /// The buckets before it; ascending, because rows come in the order of time.
    buckets: Vec<(u32, Sum)>,
}

impl Totals {
    fn new(number: u32, measure: Measure<'_>, bucket: u32) -> Self {
        Self { number, total: Number::none(measure), open: (bucket, Number::none(measure)), buckets: Vec::new() }
    }

    /// Goes on to a bucket, if it is another one; gives back the cells that this frees.
    fn go_on(&mut self, measure: Measure<'_>, bucket: u32) -> usize {
        debug_assert!(self.open.0 <= bucket, "rows come in the order of time");
        let (closed, number) = std::mem::replace(&mut self.open, (bucket, Number::none(measure)));
        self.buckets.push((closed, number.value()));
        number.cells()
    }

    /// What both its numbers hold beside themselves, in cells.
    fn cells(&self) -> usize {
        self.total.cells() + self.open.1.cells()
    }
}

/// A group that is known, before the ranking.
struct Ranked {
    key: Box<str>,
    total: Sum,
    buckets: Vec<(u32, Sum)>,
    approximate: Approximate,
}

impl Ranked {
    fn of((key, mut group): (Box<str>, Totals)) -> Self {
        let (bucket, number) = &group.open;
        group.buckets.push((*bucket, number.value()));
        Self { key, total: group.total.value(), approximate: group.total.approximate(), buckets: group.buckets }
    }
}

/// An evaluation under way.
struct Fold<'q> {
    query: &'q Query,
    measure: Measure<'q>,
    limits: Limits,
    bucket_starts: Vec<i64>,
    reads_dimensions: bool,
    groups: HashMap<Box<str>, Totals>,
    customers: SeenCustomers,
    values: Values,
    cells: usize,
    overflow: bool,
    rows_read: u64,
    /// The key of the row's group, kept for its memory.
    group_key: String,
}

impl<'q> Fold<'q> {
    fn new(query: &'q Query, measure: Measure<'q>, limits: Limits) -> Self {
        let groups_by_dimension = query.group_by.iter().any(|field| matches!(field, Field::Dimension(_)));
        Self {
            query,
            measure,
            limits,
            bucket_starts: query.buckets.starts(),
            reads_dimensions: groups_by_dimension || !query.dimensions.is_empty(),
            groups: HashMap::new(),
            customers: SeenCustomers::default(),
            values: Values::new(limits.values_max),
            cells: 0,
            overflow: false,
            rows_read: 0,
            group_key: String::new(),
        }
    }

    /// Adds a row; breaks past the limit of cells.
    fn add(&mut self, key: RowKey<'_>, row: &Row) -> ControlFlow<()> {
        self.rows_read += 1;
        self.overflow |= self.reads_dimensions && key.dimensions.is_overflow();
        if !self.matches(&key) {
            return ControlFlow::Continue(());
        }
        self.write_group_key(&key);
        let bucket = self.bucket_of(key.start_s());
        let group = match self.groups.get_mut(self.group_key.as_str()) {
            Some(group) => group,
            None => {
                let number = self.groups.len() as u32;
                self.cells += 1;
                self.groups.entry(self.group_key.as_str().into()).or_insert_with(|| Totals::new(number, self.measure, bucket))
            }
        };
        if group.open.0 != bucket {
            self.cells = self.cells + 1 - group.go_on(self.measure, bucket);
        }
        match self.measure {
            Measure::Customers => {
                let (to_total, to_bucket) = self.customers.see(group.number, bucket, key.customer, &mut self.cells);
                group.total.add_count(to_total);
                group.open.1.add_count(to_bucket);
            }
            Measure::Unique(dimension) => {
                let before = group.cells();
                let brought = self.values.of(dimension, &key, row, &mut self.cells);
                for distinct in [&mut group.total, &mut group.open.1].into_iter().filter_map(Number::distinct) {
                    distinct.add(&brought, &self.values);
                }
                self.cells = self.cells + group.cells() - before;
            }
            Measure::Sum | Measure::Count | Measure::Min | Measure::Max | Measure::Average | Measure::Latest => {
                group.total.add(row);
                group.open.1.add(row);
            }
        }
        if self.cells > self.limits.cells_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Whether a row's dimensions pass the filters; customers are filtered by the scan.
    fn matches(&self, key: &RowKey<'_>) -> bool {
        self.query.dimensions.iter().all(|(name, values)| {
            let value = key.dimensions.get(name).unwrap_or_default();
            !key.dimensions.is_overflow() && values.binary_search_by(|allowed| allowed.as_str().cmp(value)).is_ok()
        })
    }

    /// Index of the bucket that holds a moment of the range.
    fn bucket_of(&self, time_s: i64) -> u32 {
        let behind = self.bucket_starts.partition_point(|start| *start <= time_s);
        debug_assert!(behind > 0, "the rows are those of the range");
        behind.saturating_sub(1) as u32
    }

    fn write_group_key(&mut self, key: &RowKey<'_>) {
        self.group_key.clear();
        for (at, field) in self.query.group_by.iter().enumerate() {
            if at > 0 {
                self.group_key.push(SEPARATOR);
            }
            self.group_key.push_str(match field {
                Field::Customer => key.customer,
                Field::Dimension(_) if key.dimensions.is_overflow() => OVERFLOW_VALUE,
                Field::Dimension(name) => key.dimensions.get(name).unwrap_or_default(),
            });
        }
    }

    fn into_answer(self) -> Answer {
        let Take { limit, ascending } = self.query.take.unwrap_or(Take { limit: std::num::NonZeroUsize::MAX, ascending: false });
        let wanted = limit.get().min(self.groups.len());
        let kept = wanted.min(self.limits.groups_max);
        let by_rank = |group: &Ranked, other: &Ranked| {
            let by_total = group.total.cmp(&other.total);
            let by_total = if ascending { by_total } else { by_total.reverse() };
            // The keys sort like the lists of values that they are made of.
            by_total.then_with(|| group.key.cmp(&other.key))
        };
        let mut groups: Vec<_> = self.groups.into_iter().map(Ranked::of).collect();
        let approximate = groups.iter().map(|group| group.approximate).fold(Approximate::default(), Approximate::and);
        if kept < groups.len() {
            groups.select_nth_unstable_by(kept, by_rank);
            groups.truncate(kept);
        }
        groups.sort_unstable_by(by_rank);
        let starts = &self.bucket_starts;
        let groups = groups.into_iter().map(|group| Group {
            values: if self.query.group_by.is_empty() { Vec::new() } else { group.key.split(SEPARATOR).map(str::to_owned).collect() },
            total: group.total,
            buckets: group.buckets.into_iter().map(|(bucket, number)| (starts[bucket as usize], number)).collect(),
            approximate: group.approximate,
        });
        let groups = groups.collect();
        let (cut, overflow, rows_read) = (kept < wanted, self.overflow, self.rows_read);
        Answer { groups, bucket_starts: self.bucket_starts, cut, overflow, approximate, rows_read }
    }
}

#[cfg(test)]
mod tests;
