//! Times as OpenMeter's clients write and read them: RFC 3339.

use crate::clock::{UnixMicros, rfc3339};
use crate::event::TIME_MAX;

/// A moment between the years 1970 and 9999; what is finer than a microsecond is cut off. Those before are the begin of 1970: a client
/// that means "from the beginning" may say so with the year 1.
pub fn parse_time(text: &str) -> Option<UnixMicros> {
    let time = rfc3339::parse(text).filter(|time| rfc3339::is_strict(text) && time.millis() <= TIME_MAX)?;
    Some(time.max(UnixMicros(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_with_any_offset_and_shown_in_utc() {
        for (text, shown) in [
            ("2026-01-01T00:00:00Z", Some("2026-01-01T00:00:00Z")),
            ("2026-01-01T02:00:00.5+02:00", Some("2026-01-01T00:00:00.5Z")),
            ("2026-01-01t00:00:00.1234567z", Some("2026-01-01T00:00:00.123456Z")),
            ("0001-01-01T00:00:00Z", Some("1970-01-01T00:00:00Z")),
            ("9999-12-31T23:59:59-01:00", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01", None),
            ("2026-01-01T00:00:00Z[Europe/Rome]", None),
            ("2026-13-01T00:00:00Z", None),
            ("", None),
        ] {
            assert_eq!(parse_time(text).map(rfc3339::shortest).as_deref(), shown, "{text}");
        }
    }
}
