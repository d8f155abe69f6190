//! The calendar of buckets, in UTC: where the one that holds a moment begins, and where the next one does.
//!
//! Months are counted with plain arithmetic on days of the proleptic Gregorian calendar: there is no time zone in it,
//! so nothing that a time zone database would be asked for, and nothing that can fail.

use std::ops::Range;

use super::{QueryError, TimeRange};
use crate::store::row::{DAY_S, HOUR_S};

/// Most buckets of a query. Hours of eleven years; a client that means more wants days.
pub const BUCKETS_MAX: usize = 100_000;
/// 1970-01-01 was a Thursday, three days behind a Monday.
const DAYS_BEHIND_MONDAY: i64 = 3;

/// How wide the buckets of an answer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interval {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// A week, from Monday on.
    Week,
    /// A calendar month.
    Month,
}

impl Interval {
    /// Begin of the bucket that holds a moment; both in s since 1970.
    pub fn floor(self, time_s: i64) -> i64 {
        let day = time_s.div_euclid(DAY_S);
        match self {
            Self::Hour => time_s.div_euclid(HOUR_S) * HOUR_S,
            Self::Day => day * DAY_S,
            Self::Week => (day - (day + DAYS_BEHIND_MONDAY).rem_euclid(7)) * DAY_S,
            Self::Month => {
                let (year, month) = month_of_day(day);
                first_day(year, month) * DAY_S
            }
        }
    }

    /// Seconds of a bucket, where all have the same.
    fn width_s(self) -> Option<i64> {
        match self {
            Self::Hour => Some(HOUR_S),
            Self::Day => Some(DAY_S),
            Self::Week => Some(7 * DAY_S),
            Self::Month => None,
        }
    }

    /// Begin of the bucket behind the one that begins at `start_s`; both in s since 1970.
    pub fn next(self, start_s: i64) -> i64 {
        match self.width_s() {
            Some(width_s) => start_s + width_s,
            None => {
                let (year, month) = month_of_day(start_s.div_euclid(DAY_S));
                first_day(year, month + 1) * DAY_S
            }
        }
    }

    /// Whether day rows can be put together into buckets of this width.
    pub fn is_made_of_days(self) -> bool {
        match self {
            Self::Hour => false,
            Self::Day | Self::Week | Self::Month => true,
        }
    }
}

/// Days of a year that begins in March, before its nth month: February is last, so that its length shows nowhere.
fn days_before_month(months_since_march: i64) -> i64 {
    (153 * months_since_march + 2) / 5
}

/// Year and month (1 to 12) of a day since 1970.
fn month_of_day(day: i64) -> (i64, i64) {
    // 400 years are one turn of the calendar: 146,097 days. 719,468 days lie between 0000-03-01 and 1970-01-01.
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let months_since_march = (5 * day_of_year + 2) / 153;
    let year = era * 400 + year_of_era;
    if months_since_march < 10 { (year, months_since_march + 3) } else { (year + 1, months_since_march - 9) }
}

/// The first of a month, in days since 1970. Month 13 is January of the next year.
fn first_day(year: i64, month: i64) -> i64 {
    let months = year * 12 + (month - 1) - 2;
    let (year, months_since_march) = (months.div_euclid(12), months.rem_euclid(12));
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + days_before_month(months_since_march);
    era * 146_097 + day_of_era - 719_468
}

/// The buckets of a range: all that overlap it, aligned to the calendar, so the first may begin before the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buckets {
    interval: Interval,
    range: TimeRange,
}

impl Buckets {
    /// Cuts a range into buckets.
    ///
    /// # Errors
    /// [`QueryError::TooManyBuckets`]: more than [`BUCKETS_MAX`].
    pub fn new(range: TimeRange, interval: Interval) -> Result<Self, QueryError> {
        let (start_s, end_s) = range.whole_hours_s();
        let length_s = end_s - interval.floor(start_s);
        // There are not so many months in all of time.
        let is_few = interval.width_s().is_none_or(|width_s| length_s <= width_s * BUCKETS_MAX as i64);
        if is_few { Ok(Self { interval, range }) } else { Err(QueryError::TooManyBuckets) }
    }

    /// How wide they are.
    pub fn interval(self) -> Interval {
        self.interval
    }

    /// What they were cut from.
    pub fn range(self) -> TimeRange {
        self.range
    }

    /// Where each begins, in s since 1970, ascending: at least one, at most [`BUCKETS_MAX`].
    pub fn starts(self) -> impl Iterator<Item = i64> {
        let (start_s, end_s) = self.range.whole_hours_s();
        let first = self.interval.floor(start_s);
        std::iter::successors(Some(first), move |start| Some(self.interval.next(*start))).take_while(move |start| *start < end_s)
    }
}

/// Whole days inside of a range of hours; empty if there is none.
pub(super) fn whole_days(hours: &Range<u32>) -> Range<u32> {
    hours.start.div_ceil(24)..hours.end / 24
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use jiff::civil::Date;
    use jiff::tz::TimeZone;
    use jiff::{Timestamp, ToSpan};
    use proptest::prelude::*;

    fn date(time_s: i64) -> Date {
        Timestamp::from_second(time_s).expect("a time that jiff knows").to_zoned(TimeZone::UTC).date()
    }

    fn seconds(date: Date) -> i64 {
        date.to_zoned(TimeZone::UTC).expect("UTC has every date").timestamp().as_second()
    }

    proptest! {
        #[test]
        fn weeks_and_months_are_those_of_jiff(time_s in 0_i64..super::super::TIME_S_MAX - 31 * DAY_S) {
            let today = date(time_s);
            let monday = today.checked_sub(i64::from(today.weekday().to_monday_zero_offset()).days()).expect("a date");
            prop_assert_eq!(Interval::Week.floor(time_s), seconds(monday));
            prop_assert_eq!(Interval::Week.next(seconds(monday)), seconds(monday.checked_add(1.week()).expect("a date")));
            let first = today.first_of_month();
            prop_assert_eq!(Interval::Month.floor(time_s), seconds(first));
            prop_assert_eq!(Interval::Month.next(seconds(first)), seconds(first.checked_add(1.month()).expect("a date")));
        }

        #[test]
        fn buckets_follow_each_other_without_gap(time_s in 0_i64..super::super::TIME_S_MAX, interval in intervals()) {
            let start = interval.floor(time_s);
            let next = interval.next(start);
            prop_assert!(start <= time_s && time_s < next);
            prop_assert_eq!(interval.floor(start), start);
            prop_assert_eq!(interval.floor(next), next);
            prop_assert_eq!(interval.floor(next - 1), start);
        }

        #[test]
        fn the_buckets_of_a_range_cover_it(start_s in 0_i64..4_000_000_000, length_s in 1_i64..200_000_000, interval in intervals()) {
            let range = TimeRange::new(start_s, start_s + length_s).expect("a range");
            let buckets = Buckets::new(range, interval).expect("few enough");
            let starts: Vec<i64> = buckets.starts().collect();
            prop_assert!(starts[0] <= start_s && start_s < interval.next(starts[0]));
            let last = starts[starts.len() - 1];
            prop_assert!(last < start_s + length_s && start_s + length_s <= interval.next(last));
            prop_assert!(starts.windows(2).all(|pair| interval.next(pair[0]) == pair[1]));
        }
    }

    pub(in crate::usage) fn intervals() -> impl Strategy<Value = Interval> {
        prop_oneof![Just(Interval::Hour), Just(Interval::Day), Just(Interval::Week), Just(Interval::Month)]
    }

    #[test]
    fn the_first_week_and_the_last_month_have_their_days() {
        assert_eq!(Interval::Week.floor(0), -3 * DAY_S);
        assert_eq!(Interval::Month.next(Interval::Month.floor(super::super::TIME_S_MAX - 1)), super::super::TIME_S_MAX);
        // 2024 was a leap year, 1900 and 2100 are none, 2000 was.
        for (year, days) in [(1900, 28), (2000, 29), (2023, 28), (2024, 29), (2100, 28)] {
            assert_eq!(first_day(year, 3) - first_day(year, 2), days, "{year}");
        }
    }

    #[test]
    fn too_many_buckets_are_refused() {
        let count = |start_s, end_s, interval| {
            let buckets = Buckets::new(TimeRange::new(start_s, end_s).expect("a range"), interval);
            buckets.map(|buckets| buckets.starts().count())
        };
        assert_eq!(count(0, 100_000 * HOUR_S, Interval::Hour), Ok(BUCKETS_MAX));
        assert_eq!(count(0, 100_000 * HOUR_S + 1, Interval::Hour), Err(QueryError::TooManyBuckets));
        assert_eq!(count(1, 100_000 * DAY_S + 1, Interval::Day), Err(QueryError::TooManyBuckets), "100,001 days are touched");
        assert_eq!(count(0, super::super::TIME_S_MAX, Interval::Month), Ok(8_030 * 12));
    }
}
