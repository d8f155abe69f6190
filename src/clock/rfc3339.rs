//! Moments as text (RFC 3339), for all dialects, of each year through 9999.
//!
//! jiff's own timestamps end a day before the year does, so that each has a date in every time zone. A moment of that day is read and
//! shown by the calendar.

use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use jiff::{SignedDuration, Timestamp};

use super::{UnixMicros, UnixMillis};

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

/// A moment with its offset, in ns since 1970. A time zone's name in brackets may follow.
pub fn parse_nanos(text: &str) -> Option<i128> {
    text.parse().ok().map(|time: Timestamp| time.as_nanosecond()).or_else(|| by_calendar(text))
}

/// The same; what is finer than a microsecond is cut off.
pub fn parse(text: &str) -> Option<UnixMicros> {
    // Of times of events, so without the 128 bits of nanoseconds. Both parts have the sign of the whole.
    let micros = |time: Timestamp| time.as_second() * 1_000_000 + i64::from(time.subsec_nanosecond().div_euclid(1_000));
    text.parse().ok().map(micros).map(UnixMicros).or_else(|| by_calendar(text).map(floor))
}

/// A moment without an offset, which is in UTC, or one with it; also a date alone, which is its midnight.
pub fn parse_or_utc(text: &str) -> Option<UnixMicros> {
    let in_utc = || text.parse().ok().map(|time: DateTime| floor(time.duration_since(EPOCH).as_nanos()));
    parse(text).or_else(in_utc)
}

/// Whether a text has a time of day and no time zone's name: what RFC 3339 itself allows of what is read here.
pub fn is_strict(text: &str) -> bool {
    text.len() <= 64 && matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')) && !text.contains('[')
}

/// A moment in UTC with milliseconds. One after the year 9999 is shown as the last that has a date.
pub fn millis(time: UnixMillis) -> String {
    format!("{:.3}Z", civil(time.micros()))
}

/// The same, with microseconds.
pub fn micros(time: UnixMicros) -> String {
    format!("{:.6}Z", civil(time))
}

/// The same, with as many digits of a second as it has, up to six.
pub fn shortest(time: UnixMicros) -> String {
    format!("{}Z", civil(time))
}

/// The date and the time of day in UTC. What no year through 9999 has is the last moment that does.
pub fn civil(time: UnixMicros) -> DateTime {
    EPOCH.saturating_add(SignedDuration::from_micros(time.0))
}

/// Whole microseconds, down.
fn floor(nanos: i128) -> UnixMicros {
    // No date is as far from 1970 as an i64 of microseconds reaches.
    UnixMicros(i64::try_from(nanos.div_euclid(1_000)).unwrap_or(i64::MAX))
}

fn by_calendar(text: &str) -> Option<i128> {
    let pieces = Pieces::parse(text).ok()?;
    if pieces.time_zone_annotation().is_some() {
        return None;
    }
    let offset = pieces.to_numeric_offset()?;
    let since_epoch = DateTime::from_parts(pieces.date(), pieces.time()?).duration_since(EPOCH);
    Some(since_epoch.as_nanos() - i128::from(offset.seconds()) * 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The end of the year 9999.
    const TIME_MAX: UnixMillis = UnixMillis(253_402_300_799_999);

    #[test]
    fn each_moment_of_the_last_day_is_read_and_shown() {
        for (text, shown) in [
            ("9999-12-30T21:59:59.999999Z", Some("9999-12-30T21:59:59.999999Z")),
            ("9999-12-31T23:59:58Z", Some("9999-12-31T23:59:58Z")),
            ("9999-12-31T23:59:59.999999999+00:00", Some("9999-12-31T23:59:59.999999Z")),
            ("9999-12-31T12:00:00+02:00", Some("9999-12-31T10:00:00Z")),
            ("9999-12-31T12:00:00[UTC]", None),
            ("9999-12-31", None),
        ] {
            assert_eq!(parse(text).map(shortest).as_deref(), shown, "{text}");
        }
        assert_eq!(millis(TIME_MAX), "9999-12-31T23:59:59.999Z");
        assert_eq!(parse_or_utc("9999-12-31T23:00:00").map(micros).as_deref(), Some("9999-12-31T23:00:00.000000Z"));
    }

    #[test]
    fn what_no_year_of_four_digits_has_is_shown_as_the_last_that_has_a_date() {
        assert_eq!(millis(UnixMillis(TIME_MAX.0 + 1)), "9999-12-31T23:59:59.999Z");
        assert_eq!(micros(UnixMicros(i64::MAX)), "9999-12-31T23:59:59.999999Z");
    }

    proptest! {
        #[test]
        fn a_moment_that_was_shown_is_read_back(time in prop_oneof![0..=TIME_MAX.0 * 1_000, TIME_MAX.0 * 1_000 - 90_000_000_000..=TIME_MAX.0 * 1_000]) {
            prop_assert_eq!(parse(&micros(UnixMicros(time))), Some(UnixMicros(time)));
            prop_assert_eq!(parse(&shortest(UnixMicros(time))), Some(UnixMicros(time)));
            prop_assert!(is_strict(&micros(UnixMicros(time))));
        }
    }
}
