//! Usage: a question, and its answer from the rows. Stage 7 of the way of an event.
//!
//! A [`Query`] exists only if it was checked; [`evaluate()`] is a plain function of a query, the type of its meter and the
//! rows. It knows neither a wire format (that is the dialects') nor where rows come from: the shell asks a [`UsageSource`]
//! for a [`View`] that shows everything acked before (`design.md`, promise 9), and hands it in.
//!
//! Rows are hours and days in UTC. So a range is widened to whole hours ([`Buckets`] has the rule, and that of time zones), days of UTC
//! inside of a bucket are read from day rows, and the rest from hour rows. What is read grows with the rows in the range, not
//! with the events that they are made of. Numbers are exact decimals from end to end.

mod calendar;
mod empty;
mod evaluate;
#[cfg(test)]
pub(crate) mod memory;
mod reading;
mod total;
mod zone;

use std::pin::Pin;
use std::time::Duration;

pub use calendar::{BUCKETS_MAX, Buckets, Interval, ZONED_BUCKETS_MAX, month_around, time_in_zone};
pub use empty::{Empty, UNANSWERED_LOOK_UPS_MAX, Unanswered};
pub use evaluate::{Answer, Approximate, EvaluateError, Group, Limits, OVERFLOW_VALUE, evaluate};
pub use reading::{METERS_LOOKED_AT_MAX, MetersInRange, first_day_s, meters_in_range};
pub use total::{ever, totals};
pub use zone::Zone;

use crate::clock::UnixMillis;
use crate::event::NAME_BYTES_MAX;
use crate::store::Rows;

/// Most keys to group by (`design.md`, limits).
pub const GROUP_BY_MAX: usize = 10;
/// Most values of all filters together: each customer is a look-up in every bucket.
pub const FILTER_VALUES_MAX: usize = 10_000;
/// Most look-ups of a query, or of a batch of them: an hour or day of a customer that is filtered for. Some seconds of work.
pub const LOOK_UPS_MAX: usize = 5_000_000;
/// The begin of the year 10000, in s since 1970: no event is as late as that.
pub const TIME_S_MAX: i64 = 253_402_300_800;

/// Why a query cannot be asked. Reads after the name of the field that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The start lies outside of the years 1970 to 9999.
    #[error("must be between 0 and {TIME_S_MAX}, in seconds since 1970")]
    StartOutside,
    /// The end lies outside of the years 1970 to 9999.
    #[error("must be between 0 and {TIME_S_MAX}, in seconds since 1970")]
    EndOutside,
    /// The range is empty.
    #[error("must be after the start")]
    EndNotAfterStart,
    /// More buckets than [`BUCKETS_MAX`].
    #[error("cuts the range into more than {BUCKETS_MAX} buckets, the limit")]
    TooManyBuckets,
    /// More weeks or months of a time zone than [`ZONED_BUCKETS_MAX`].
    #[error("cuts the range into more than {ZONED_BUCKETS_MAX} weeks or months of a time zone, the limit")]
    TooManyZonedBuckets,
    /// No time zone has this name.
    #[error("must be the name of a time zone in the IANA database, such as Europe/Berlin")]
    ZoneUnknown,
    /// No meter has an empty name.
    #[error("must not be empty")]
    MeterEmpty,
    /// No meter has so long a name.
    #[error("has more than {NAME_BYTES_MAX} bytes, the limit")]
    MeterTooLong,
    /// More keys than [`GROUP_BY_MAX`].
    #[error("has more than {GROUP_BY_MAX} keys, the limit")]
    TooManyGroupKeys,
    /// More values than [`FILTER_VALUES_MAX`].
    #[error("has more than {FILTER_VALUES_MAX} values, the limit")]
    TooManyFilterValues,
    /// More look-ups than [`LOOK_UPS_MAX`].
    #[error("asks for more than {LOOK_UPS_MAX} hours or days of customers, the limit: ask for a shorter range or fewer customers")]
    TooManyLookUps,
}

/// Events with start ≤ time < end, in s since 1970, between the years 1970 and 9999; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimeRange {
    start_s: i64,
    end_s: i64,
    is_until_now: bool,
}

impl TimeRange {
    /// Checks a range; both in s since 1970.
    ///
    /// # Errors
    /// [`QueryError::StartOutside`], [`QueryError::EndOutside`], [`QueryError::EndNotAfterStart`].
    pub fn new(start_s: i64, end_s: i64) -> Result<Self, QueryError> {
        if !(0..=TIME_S_MAX).contains(&start_s) {
            return Err(QueryError::StartOutside);
        }
        if !(0..=TIME_S_MAX).contains(&end_s) {
            return Err(QueryError::EndOutside);
        }
        if end_s <= start_s {
            return Err(QueryError::EndNotAfterStart);
        }
        Ok(Self { start_s, end_s, is_until_now: false })
    }

    /// A range that ends now: the second that is running is in it, because an event of this very second may be acked.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn until_now(start_s: i64, now: UnixMillis) -> Result<Self, QueryError> {
        Self::new(start_s, now.seconds() + 1).map(|range| Self { is_until_now: true, ..range })
    }

    /// Start and end as they were asked for, in s since 1970.
    pub fn bounds_s(self) -> (i64, i64) {
        (self.start_s, self.end_s)
    }

    /// Whether it ends now, so that nothing at its end may be left out.
    pub fn is_until_now(self) -> bool {
        self.is_until_now
    }
}

/// What events can be filtered and grouped by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Field {
    /// Who is billed.
    Customer,
    /// One of the event's dimensions; `""` where an event has none of that name.
    Dimension(String),
}

/// How values become one number, as a query may ask for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Aggregation {
    /// All added up.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// How many events.
    Count,
    /// The sum divided by the number of events, at 12 places, half to even.
    Average,
    /// The one of the latest event; of several at that time, the one with the largest uniqueId, by its bytes.
    Latest,
    /// How many different values a field has.
    Unique(Field),
}

/// What a meter counts: decides what a query gets that does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MeterType {
    /// All values added up; also every meter that nobody defined.
    #[default]
    SumOfAllUsage,
    /// The largest value of each period.
    MaxInPeriod,
    /// How many customers have events.
    UniqueCustomersCount,
    /// The average value.
    Average,
    /// The value of the latest event.
    Latest,
}

impl MeterType {
    /// What is computed (contract `amberflo.md` section 5: COUNT of a meter of unique customers counts customers).
    pub fn measure(self, asked: Option<&Aggregation>) -> Measure<'_> {
        match (asked, self) {
            (Some(Aggregation::Unique(Field::Dimension(name))), _) => Measure::Unique(name),
            (Some(Aggregation::Unique(Field::Customer)), _) | (Some(Aggregation::Count) | None, Self::UniqueCustomersCount) => {
                Measure::Customers
            }
            (Some(Aggregation::Sum), _) | (None, Self::SumOfAllUsage) => Measure::Sum,
            (Some(Aggregation::Max), _) | (None, Self::MaxInPeriod) => Measure::Max,
            (Some(Aggregation::Min), _) => Measure::Min,
            (Some(Aggregation::Average), _) | (None, Self::Average) => Measure::Average,
            (Some(Aggregation::Latest), _) | (None, Self::Latest) => Measure::Latest,
            (Some(Aggregation::Count), Self::SumOfAllUsage | Self::MaxInPeriod | Self::Average | Self::Latest) => Measure::Count,
        }
    }
}

/// What is computed for each group and bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Measure<'q> {
    /// The exact sum.
    Sum,
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
    /// Number of events.
    Count,
    /// Number of different customers.
    Customers,
    /// The sum divided by the number of events.
    Average,
    /// The latest value.
    Latest,
    /// Number of different values of a dimension.
    Unique(&'q str),
}

/// Which groups of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Take {
    /// How many.
    pub limit: std::num::NonZeroUsize,
    /// From the smallest on.
    pub ascending: bool,
}

/// A question as a dialect read it, before it is checked.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Whose rows.
    pub account: u32,
    /// The meter's API name.
    pub meter: String,
    /// How; `None`: by the meter's type.
    pub aggregation: Option<Aggregation>,
    /// When.
    pub buckets: Buckets,
    /// An event must have one of the values of each; a field may come twice.
    pub filters: Vec<(Field, Vec<String>)>,
    /// Events that agree in these make a group; none: all are one group.
    pub group_by: Vec<Field>,
    /// `None`: all groups, from the largest on.
    pub take: Option<Take>,
}

/// A checked question: its limits hold, its filters are in the form that the evaluation goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    account: u32,
    meter: String,
    aggregation: Option<Aggregation>,
    buckets: Buckets,
    /// Sorted, without repetition.
    customers: Option<Vec<String>>,
    /// Values sorted; all must match.
    dimensions: Vec<(String, Vec<String>)>,
    /// Without repetition.
    group_by: Vec<Field>,
    take: Option<Take>,
}

impl Query {
    /// Checks a draft; the one constructor.
    ///
    /// # Errors
    /// [`QueryError`]: the name of the meter, the keys to group by, or the values to filter by.
    pub fn check(draft: Draft) -> Result<Self, QueryError> {
        if draft.meter.is_empty() {
            return Err(QueryError::MeterEmpty);
        }
        // A longer name has no place in a row's key.
        if draft.meter.len() > NAME_BYTES_MAX {
            return Err(QueryError::MeterTooLong);
        }
        let group_by = without_repetition(draft.group_by);
        if group_by.len() > GROUP_BY_MAX {
            return Err(QueryError::TooManyGroupKeys);
        }
        if draft.filters.iter().map(|(_, values)| values.len()).sum::<usize>() > FILTER_VALUES_MAX {
            return Err(QueryError::TooManyFilterValues);
        }
        let mut customers: Option<Vec<String>> = None;
        let mut dimensions = Vec::new();
        for (field, mut values) in draft.filters {
            values.sort_unstable();
            values.dedup();
            match field {
                Field::Dimension(name) => dimensions.push((name, values)),
                Field::Customer => {
                    // No customer has a longer id, and a row's key has no place for it.
                    values.retain(|value| value.len() <= NAME_BYTES_MAX);
                    if let Some(others) = &customers {
                        values.retain(|value| others.binary_search(value).is_ok());
                    }
                    customers = Some(values);
                }
            }
        }
        let (account, meter, aggregation, take) = (draft.account, draft.meter, draft.aggregation, draft.take);
        let query = Self { account, meter, aggregation, buckets: draft.buckets, customers, dimensions, group_by, take };
        if query.look_ups() > LOOK_UPS_MAX { Err(QueryError::TooManyLookUps) } else { Ok(query) }
    }

    /// Rows that are looked for one by one: each hour or day of each customer that is filtered for.
    pub fn look_ups(&self) -> usize {
        self.customers.as_ref().map_or(0, |customers| customers.len() * reading::buckets_read_max(&self.buckets))
    }

    /// Whose rows.
    pub fn account(&self) -> u32 {
        self.account
    }

    /// The meter's API name.
    pub fn meter(&self) -> &str {
        &self.meter
    }

    /// When.
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// What is computed for a meter of this type.
    pub fn measure(&self, meter_type: MeterType) -> Measure<'_> {
        meter_type.measure(self.aggregation.as_ref())
    }

    /// What tells why there is no answer.
    pub fn unanswered(&self) -> Unanswered {
        Unanswered { account: self.account, meter: Some(self.meter.clone()), customers: self.customers.clone() }
    }

    /// The fields whose values each group has, in this order.
    pub fn group_by(&self) -> &[Field] {
        &self.group_by
    }

    /// The rows that the evaluation reads.
    pub fn view_request(&self) -> ViewRequest {
        let (from_s, to_s) = self.buckets.answered_s();
        ViewRequest { account: self.account, meter: Some(self.meter.clone()), from_s, to_s, customers: self.customers.clone() }
    }
}

fn without_repetition(mut fields: Vec<Field>) -> Vec<Field> {
    let mut seen = std::collections::HashSet::new();
    fields.retain(|field| seen.insert(field.clone()));
    fields
}

/// Rows that somebody is going to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewRequest {
    /// Whose.
    pub account: u32,
    /// One meter, or all.
    pub meter: Option<String>,
    /// First moment, in s since 1970; begin of an hour.
    pub from_s: i64,
    /// End (exclusive), in s since 1970; begin of an hour. Day rows are read of whole days between the two only.
    pub to_s: i64,
    /// Some customers, sorted; `None`: all.
    pub customers: Option<Vec<String>>,
}

/// Rows as of one moment.
pub struct View {
    /// The rows.
    pub rows: Box<dyn Rows>,
    /// Whether they show everything that was acked before the view was asked for.
    pub complete: bool,
    /// Up to where they go: partition and next position.
    pub positions: Vec<(u32, u64)>,
}

/// No view can be had. Asking again later makes sense.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Too many queries wait, the store failed, or the process is stopping; says which.
    #[error("{0}")]
    Unavailable(String),
}

/// What [`UsageSource::view`] gives back.
pub type ViewFuture<'a> = Pin<Box<dyn Future<Output = Result<View, ViewError>> + Send + 'a>>;

/// Whoever has the rows.
pub trait UsageSource: Send + Sync + 'static {
    /// Rows that show everything that was acked before this call, or what there is after `wait` (`complete` says which).
    /// Rows outside of what is `wanted` may be missing or old.
    ///
    /// Dropping the future takes the request back.
    ///
    /// # Errors
    /// [`ViewError`].
    fn view(&self, wanted: Vec<ViewRequest>, wait: Duration) -> ViewFuture<'_>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::row::DAY_S;

    const START_S: i64 = 1_767_225_600;

    fn draft() -> Draft {
        let range = TimeRange::new(START_S, START_S + DAY_S).expect("a range");
        Draft {
            account: 1,
            meter: "tokens".into(),
            aggregation: None,
            buckets: Buckets::new(range, Interval::Day, Zone::default()).expect("one bucket"),
            filters: Vec::new(),
            group_by: Vec::new(),
            take: None,
        }
    }

    fn dimension(number: usize) -> Field {
        Field::Dimension(format!("d{number}"))
    }

    #[test]
    fn a_range_must_have_events_in_it() {
        for (start, end, error) in [
            (5, 5, QueryError::EndNotAfterStart),
            (6, 5, QueryError::EndNotAfterStart),
            (-1, 5, QueryError::StartOutside),
            (i64::MIN, i64::MAX, QueryError::StartOutside),
            (0, i64::MAX, QueryError::EndOutside),
            // Milliseconds where seconds are meant.
            (1_767_225_600_000, 1_767_312_000_000, QueryError::StartOutside),
        ] {
            assert_eq!(TimeRange::new(start, end), Err(error), "{start} to {end}");
        }
    }

    #[test]
    fn the_running_second_is_before_now() {
        let range = TimeRange::until_now(0, UnixMillis(7_200_000)).expect("a range");
        assert_eq!(range.bounds_s(), (0, 7_201), "an event of 02:00:00.000 was acked at 02:00:00.000");
        assert_eq!(TimeRange::until_now(7_201, UnixMillis(7_200_999)), Err(QueryError::EndNotAfterStart));
    }

    #[test]
    fn limits_are_checked() {
        let check = |change: &dyn Fn(&mut Draft)| {
            let mut draft = draft();
            change(&mut draft);
            Query::check(draft).map(|_| ())
        };
        assert_eq!(check(&|_| {}), Ok(()));
        assert_eq!(check(&|draft| draft.meter = String::new()), Err(QueryError::MeterEmpty));
        assert_eq!(check(&|draft| draft.meter = "m".repeat(255)), Ok(()));
        assert_eq!(check(&|draft| draft.meter = "m".repeat(256)), Err(QueryError::MeterTooLong));
        assert_eq!(check(&|draft| draft.group_by = (0..10).map(dimension).collect()), Ok(()));
        assert_eq!(check(&|draft| draft.group_by = (0..11).map(dimension).collect()), Err(QueryError::TooManyGroupKeys));
        assert_eq!(check(&|draft| draft.group_by = vec![Field::Customer; 11]), Ok(()));
        let values = |count: usize| vec![(Field::Customer, vec![String::new(); count])];
        assert_eq!(check(&|draft| draft.filters = values(10_000)), Ok(()));
        assert_eq!(check(&|draft| draft.filters = values(10_001)), Err(QueryError::TooManyFilterValues));
    }

    #[test]
    fn two_filters_of_customers_must_both_hold() {
        let customers = |lists: &[&[&str]]| {
            let filters = lists.iter().map(|list| (Field::Customer, list.iter().map(|name| (*name).to_owned()).collect()));
            Query::check(Draft { filters: filters.collect(), ..draft() }).expect("a query").view_request().customers
        };
        assert_eq!(customers(&[]), None);
        assert_eq!(customers(&[&["b", "a", "b"]]), Some(vec!["a".into(), "b".into()]));
        assert_eq!(customers(&[&["b", "a"], &["c", "b"]]), Some(vec!["b".into()]));
        assert_eq!(customers(&[&["a"], &["c"]]), Some(vec![]));
    }

    #[test]
    fn what_is_measured_depends_on_question_and_meter() {
        use Aggregation::{Count, Max, Min, Sum, Unique};
        use MeterType::{Latest, MaxInPeriod, SumOfAllUsage, UniqueCustomersCount};
        for (meter_type, asked, measure) in [
            (SumOfAllUsage, None, Measure::Sum),
            (MaxInPeriod, None, Measure::Max),
            (UniqueCustomersCount, None, Measure::Customers),
            (SumOfAllUsage, Some(Count), Measure::Count),
            (MaxInPeriod, Some(Count), Measure::Count),
            (UniqueCustomersCount, Some(Count), Measure::Customers),
            (UniqueCustomersCount, Some(Sum), Measure::Sum),
            (MaxInPeriod, Some(Min), Measure::Min),
            (SumOfAllUsage, Some(Max), Measure::Max),
            (Latest, None, Measure::Latest),
            (Latest, Some(Count), Measure::Count),
            (SumOfAllUsage, Some(Aggregation::Latest), Measure::Latest),
            (MeterType::Average, None, Measure::Average),
            (UniqueCustomersCount, Some(Unique(dimension(1))), Measure::Unique("d1")),
            (Latest, Some(Unique(Field::Customer)), Measure::Customers),
        ] {
            assert_eq!(meter_type.measure(asked.as_ref()), measure, "{meter_type:?} {asked:?}");
        }
    }
}
