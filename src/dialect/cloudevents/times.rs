//! Times as OpenMeter's clients write and read them: RFC 3339.

use jiff::Timestamp;

use crate::clock::UnixMicros;
use crate::event::TIME_MAX;

/// A moment between the years 1970 and 9999; what is finer than a microsecond is cut off. Those before are the begin of 1970: a client
/// that means "from the beginning" may say so with the year 1.
pub fn parse_time(text: &str) -> Option<UnixMicros> {
    // More would be taken: a date alone, a time zone's name.
    if text.len() > 64 || !matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' ')) || text.contains('[') {
        return None;
    }
    let nanoseconds = text.parse::<Timestamp>().ok()?.as_nanosecond();
    let micros = UnixMicros(i64::try_from(nanoseconds.div_euclid(1_000)).unwrap_or(i64::MAX));
    (micros <= TIME_MAX.micros()).then_some(micros.max(UnixMicros(0)))
}

/// A moment as it is answered: as many digits of a second as it has, up to six.
pub fn shown_time(time: UnixMicros) -> String {
    match Timestamp::from_microsecond(time.0) {
        Ok(time) => time.to_string(),
        // Of no time that anybody can send.
        Err(_) => format!("{} us", time.0),
    }
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
            assert_eq!(parse_time(text).map(shown_time).as_deref(), shown, "{text}");
        }
    }
}
