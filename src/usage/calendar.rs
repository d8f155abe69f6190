//! The calendar of buckets: where the ones of a range begin, in UTC or another time zone.
//!
//! Days are counted with plain arithmetic of the proleptic Gregorian calendar. A time zone only says when a local day begins ([`Zone`]).
//!
//! Rows are whole hours of UTC, and some zones are not whole hours away from it. There the begin of a day, week or month is moved down to the
//! whole hour of UTC that it lies in: each hour is in one bucket, so buckets never overlap, and they add up to the whole. Buckets of an
//! hour are those of UTC in every zone. The end of a range that is a local full hour is moved down in the same way, so that ranges which
//! follow each other stay apart; whatever else cuts an hour widens the range.

#[cfg(test)]
pub(super) mod tests;

use std::ops::Range;

use super::{QueryError, TimeRange, Zone};
use crate::store::row::{DAY_S, HOUR_S};

/// Most buckets of a query. Hours of eleven years; a client that means more wants days.
pub const BUCKETS_MAX: usize = 100_000;
/// Most weeks or months of a time zone: each has edges that are read by themselves.
pub const ZONED_BUCKETS_MAX: usize = 10_000;
/// 1970-01-01 was a Thursday, three days behind a Monday.
const DAYS_BEHIND_MONDAY: i64 = 3;

/// How wide the buckets of an answer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interval {
    /// An hour of UTC.
    Hour,
    /// A local day.
    Day,
    /// A week, from Monday on.
    Week,
    /// A calendar month.
    Month,
}

/// What days are put together to.
#[derive(Debug, Clone, Copy)]
enum Days {
    One,
    Week,
    Month,
}

impl Days {
    /// First day of the bucket that has a day; both in days since 1970.
    fn first(self, day: i64) -> i64 {
        match self {
            Self::One => day,
            Self::Week => day - (day + DAYS_BEHIND_MONDAY).rem_euclid(7),
            Self::Month => {
                let (year, month) = month_of_day(day);
                first_day(year, month)
            }
        }
    }

    /// First day behind the bucket that begins with a day.
    fn next(self, first: i64) -> i64 {
        match self {
            Self::One => first + 1,
            Self::Week => first + 7,
            Self::Month => {
                let (year, month) = month_of_day(first);
                first_day(year, month + 1)
            }
        }
    }

    /// Number of buckets that have one of the days from the first to the last.
    fn count(self, first: i64, last: i64) -> i64 {
        let months = |day| {
            let (year, month) = month_of_day(day);
            12 * year + month
        };
        1 + match self {
            Self::One => last - first,
            Self::Week => (self.first(last) - self.first(first)) / 7,
            Self::Month => months(last) - months(first),
        }
    }
}

impl Interval {
    fn days(self) -> Option<Days> {
        match self {
            Self::Hour => None,
            Self::Day => Some(Days::One),
            Self::Week => Some(Days::Week),
            Self::Month => Some(Days::Month),
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

/// The calendar month of UTC that has a moment; all in s since 1970.
pub fn month_around(time_s: i64) -> Range<i64> {
    let first = Days::Month.first(time_s.div_euclid(DAY_S));
    first * DAY_S..Days::Month.next(first) * DAY_S
}

/// A moment (s since 1970) as RFC 3339 has it, in local time with its distance from UTC; in UTC where that distance has seconds, as some
/// zones had until 1972.
pub fn time_in_zone(time_s: i64, zone: &Zone) -> String {
    let offset_s = zone.offset_s(time_s);
    let is_shown = !zone.is_utc() && offset_s % 60 == 0;
    let shown_s = if is_shown { time_s + offset_s } else { time_s };
    let (day, second) = (shown_s.div_euclid(DAY_S), shown_s.rem_euclid(DAY_S));
    let (year, month) = month_of_day(day);
    let date = format!("{year:04}-{month:02}-{:02}", day - first_day(year, month) + 1);
    let time = format!("{:02}:{:02}:{:02}", second / HOUR_S, second / 60 % 60, second % 60);
    if !is_shown {
        return format!("{date}T{time}Z");
    }
    let (sign, distance_s) = (if offset_s < 0 { '-' } else { '+' }, offset_s.abs());
    format!("{date}T{time}{sign}{:02}:{:02}", distance_s / HOUR_S, distance_s / 60 % 60)
}

/// The buckets of a range: all that overlap it, aligned to the calendar, so the first may begin before the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buckets {
    interval: Interval,
    range: TimeRange,
    zone: Zone,
    /// The whole hours that are answered, in s since 1970.
    answered: (i64, i64),
}

impl Buckets {
    /// Cuts a range into buckets.
    ///
    /// # Errors
    /// [`QueryError::TooManyBuckets`]: more than [`BUCKETS_MAX`]. [`QueryError::TooManyZonedBuckets`]: more than [`ZONED_BUCKETS_MAX`].
    pub fn new(range: TimeRange, interval: Interval, zone: Zone) -> Result<Self, QueryError> {
        let answered = answered(range, &zone);
        let buckets = Self { interval, range, zone, answered };
        let count = match interval.days() {
            None => (answered.1 - answered.0) / HOUR_S,
            Some(days) => days.count(buckets.zone.day_of(answered.0), buckets.zone.day_of(answered.1 - 1)),
        };
        let has_edges = matches!(interval, Interval::Week | Interval::Month) && !buckets.zone.is_utc();
        if count > BUCKETS_MAX as i64 {
            return Err(QueryError::TooManyBuckets);
        }
        if has_edges && count > ZONED_BUCKETS_MAX as i64 { Err(QueryError::TooManyZonedBuckets) } else { Ok(buckets) }
    }

    /// How wide they are.
    pub fn interval(&self) -> Interval {
        self.interval
    }

    /// Where days begin at midnight.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The whole hours that are answered, in s since 1970: start and end.
    pub fn answered_s(&self) -> (i64, i64) {
        self.answered
    }

    /// The same as numbers of hours since 1970.
    pub fn hours(&self) -> Range<u32> {
        // 70,389,528 hours until the year 10000.
        (self.answered.0 / HOUR_S) as u32..(self.answered.1 / HOUR_S) as u32
    }

    /// What is answered, in s since 1970, if it is not what was asked for.
    pub fn moved(&self) -> Option<(i64, i64)> {
        (self.answered != self.range.bounds_s()).then_some(self.answered)
    }

    /// Where each begins, in s since 1970, ascending: at least one, about [`BUCKETS_MAX`] at most. Begins of whole hours.
    pub fn starts(&self) -> Vec<i64> {
        let (start_s, end_s) = self.answered;
        let Some(days) = self.interval.days() else { return (start_s..end_s).step_by(HOUR_S as usize).collect() };
        let begin = |day| floor_hour(self.zone.begin_of_day(day));
        // A zone may turn back its clocks over midnight: the day that they show need not be the last one that began.
        let mut first = days.first(self.zone.day_of(start_s + HOUR_S - 1));
        while begin(first) > start_s {
            first = days.first(first - 1);
        }
        while begin(days.next(first)) <= start_s {
            first = days.next(first);
        }
        let mut starts = vec![begin(first)];
        let begins = std::iter::successors(Some(days.next(first)), |day| Some(days.next(*day))).map(begin);
        for start in begins.take_while(|start| *start < end_s) {
            // A day that a zone left out begins with the next one.
            if starts.last().is_none_or(|last| *last < start) {
                starts.push(start);
            }
        }
        starts
    }

    /// End of the last one, in s since 1970: where the one behind it would begin.
    pub fn end_s(&self) -> i64 {
        let (_, end_s) = self.answered;
        let Some(days) = self.interval.days() else { return end_s };
        let mut first = days.first(self.zone.day_of(end_s - 1));
        loop {
            let begin_s = floor_hour(self.zone.begin_of_day(first));
            if begin_s >= end_s {
                return begin_s;
            }
            first = days.next(first);
        }
    }

    /// Whether local hours are not hours of UTC at one of these begins of buckets: those were moved down to whole hours.
    pub fn are_moved(&self, starts: &[i64]) -> bool {
        !self.zone.is_utc() && starts.iter().any(|start| self.zone.offset_s(*start) % HOUR_S != 0)
    }
}

fn floor_hour(time_s: i64) -> i64 {
    time_s.div_euclid(HOUR_S) * HOUR_S
}

/// The whole hours that a range is answered with, in s since 1970.
fn answered(range: TimeRange, zone: &Zone) -> (i64, i64) {
    let (start_s, end_s) = range.bounds_s();
    let start_hour = floor_hour(start_s);
    let (down, up) = (floor_hour(end_s), floor_hour(end_s + HOUR_S - 1));
    // The hour that is running is never left out.
    let ends_local_hour = !range.is_until_now() && zone.begins_hour(end_s);
    (start_hour, if ends_local_hour && down > start_hour { down } else { up })
}
