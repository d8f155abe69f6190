//! From rows to an answer: one pass over the rows of a query, in the order of time. Pure: no clock, no I/O but the rows'.
//!
//! While it runs, every group that has events and every bucket of it that has some is in memory, one number each;
//! [`Limits`] bound how many that may be. Groups are ranked and cut when all of them are known.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

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
    /// a customer of such a bucket. About 100 bytes each; past it there is no answer.
    pub cells_max: usize,
}

impl Limits {
    /// What is left for another answer beside one that is kept.
    pub fn beside(self, kept: &Answer) -> Self {
        Self { cells_max: self.cells_max.saturating_sub(kept.numbers()), ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { groups_max: 100_000, cells_max: 4_000_000 }
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

/// One group of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its value for each field that was grouped by, in their order; `""` for a dimension that its events do not have.
    pub values: Vec<String>,
    /// Over the whole range.
    pub total: Sum,
    /// Begin of each bucket that has events, in s since 1970, and its number; ascending.
    pub buckets: Vec<(i64, Sum)>,
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
    let mut fold = Fold::new(query, meter_type.measure(query.aggregation), limits);
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
    total: Sum,
    /// Index of the bucket; ascending, because rows come in the order of time.
    buckets: Vec<(u32, Sum)>,
}

/// An evaluation under way.
struct Fold<'q> {
    query: &'q Query,
    measure: Measure,
    limits: Limits,
    bucket_starts: Vec<i64>,
    reads_dimensions: bool,
    groups: HashMap<Box<str>, Totals>,
    customers: SeenCustomers,
    cells: usize,
    overflow: bool,
    rows_read: u64,
    /// The key of the row's group, kept for its memory.
    group_key: String,
}

impl<'q> Fold<'q> {
    fn new(query: &'q Query, measure: Measure, limits: Limits) -> Self {
        let groups_by_dimension = query.group_by.iter().any(|field| matches!(field, Field::Dimension(_)));
        Self {
            query,
            measure,
            limits,
            bucket_starts: query.buckets.starts(),
            reads_dimensions: groups_by_dimension || !query.dimensions.is_empty(),
            groups: HashMap::new(),
            customers: SeenCustomers::default(),
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
                self.groups.entry(self.group_key.as_str().into()).or_insert(Totals { number, total: Sum::ZERO, buckets: Vec::new() })
            }
        };
        let (to_total, to_bucket) = match self.measure {
            Measure::Customers => self.customers.see(group.number, bucket, key.customer, &mut self.cells),
            Measure::Sum => (row.sum, row.sum),
            Measure::Count => (Sum::from_count(row.count), Sum::from_count(row.count)),
            Measure::Min => (row.min.into(), row.min.into()),
            Measure::Max => (row.max.into(), row.max.into()),
        };
        let is_first = group.buckets.is_empty();
        group.total = if is_first { to_total } else { merged(self.measure, group.total, to_total) };
        match group.buckets.last_mut() {
            Some((last, number)) if *last == bucket => *number = merged(self.measure, *number, to_bucket),
            last => {
                debug_assert!(last.is_none_or(|(last, _)| *last < bucket), "rows come in the order of time");
                group.buckets.push((bucket, to_bucket));
                self.cells += 1;
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
        let by_rank = |(key, group): &(Box<str>, Totals), (other_key, other): &(Box<str>, Totals)| {
            let by_total = group.total.cmp(&other.total);
            let by_total = if ascending { by_total } else { by_total.reverse() };
            // The keys sort like the lists of values that they are made of.
            by_total.then_with(|| key.cmp(other_key))
        };
        let mut groups: Vec<_> = self.groups.into_iter().collect();
        if kept < groups.len() {
            groups.select_nth_unstable_by(kept, by_rank);
            groups.truncate(kept);
        }
        groups.sort_unstable_by(by_rank);
        let starts = &self.bucket_starts;
        let groups = groups.into_iter().map(|(key, group)| Group {
            values: if self.query.group_by.is_empty() { Vec::new() } else { key.split(SEPARATOR).map(str::to_owned).collect() },
            total: group.total,
            buckets: group.buckets.into_iter().map(|(bucket, number)| (starts[bucket as usize], number)).collect(),
        });
        let groups = groups.collect();
        Answer { groups, bucket_starts: self.bucket_starts, cut: kept < wanted, overflow: self.overflow, rows_read: self.rows_read }
    }
}

fn merged(measure: Measure, mut one: Sum, other: Sum) -> Sum {
    match measure {
        Measure::Sum | Measure::Count | Measure::Customers => {
            one.add(other);
            one
        }
        Measure::Min => one.min(other),
        Measure::Max => one.max(other),
    }
}

/// Which customers a group, and a bucket of it, has seen. Customers are numbered as they come.
#[derive(Default)]
struct SeenCustomers {
    numbers: HashMap<Box<str>, u32>,
    by_group: HashSet<(u32, u32)>,
    by_bucket: HashSet<(u32, u32, u32)>,
}

impl SeenCustomers {
    /// What a customer adds to the group and to the bucket: one, the first time. Adds to `cells` what it keeps.
    fn see(&mut self, group: u32, bucket: u32, customer: &str, cells: &mut usize) -> (Sum, Sum) {
        let number = match self.numbers.get(customer) {
            Some(number) => *number,
            None => {
                let number = self.numbers.len() as u32;
                self.numbers.insert(customer.into(), number);
                number
            }
        };
        let is_new_in_group = self.by_group.insert((group, number));
        let is_new_in_bucket = self.by_bucket.insert((group, bucket, number));
        *cells += usize::from(is_new_in_bucket);
        (Sum::from_count(u64::from(is_new_in_group)), Sum::from_count(u64::from(is_new_in_bucket)))
    }
}

#[cfg(test)]
mod tests;
