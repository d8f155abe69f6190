//! Fields as Octane's clients send them: what a merge says of each, objects with members of their own, times.

use serde_json::{Map, Value};

use crate::clock::{UnixMicros, rfc3339};
use crate::dialect::ApiError;
use crate::dialect::fields::Fields;

/// Longest JSON of what an object has beside its fields, in bytes.
pub(super) const EXTRA_BYTES_MAX: usize = 512;
/// The begin of the year 10000, in µs since 1970.
const TIME_END: UnixMicros = UnixMicros::of_seconds(crate::usage::TIME_S_MAX);

/// What a merge says of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Patch<T> {
    /// Nothing.
    Keep,
    /// It is to be unset.
    Clear,
    /// It is to be this.
    Set(T),
}

/// A text. The Python client sends an empty one where its user has set `None`, or has left out what was there before.
pub(super) fn text_patch(fields: &Fields<'_>, name: &str, bytes_max: usize) -> Result<Patch<String>, ApiError> {
    match fields.text(name)? {
        None => Ok(Patch::Keep),
        Some("") => Ok(Patch::Clear),
        Some(text) => {
            fields.check_text(name, text, bytes_max)?;
            Ok(Patch::Set(text.to_owned()))
        }
    }
}

/// A member that is there, an empty text instead of it, or nothing: how a list or an object is set, cleared or left alone.
pub(super) fn given<'v>(fields: &Fields<'v>, name: &str) -> Patch<&'v Value> {
    match fields.get(name) {
        None => Patch::Keep,
        Some(Value::String(text)) if text.is_empty() => Patch::Clear,
        Some(value) => Patch::Set(value),
    }
}

/// The items of an array; `what` says what they must be.
pub(super) fn items<'v>(fields: &Fields<'v>, name: &str, value: &'v Value, what: &str, items_max: usize) -> Result<&'v [Value], ApiError> {
    let items = value.as_array().ok_or_else(|| fields.wrong(name, format_args!("must be an array of {what}")))?;
    if items.len() > items_max {
        return Err(fields.wrong(name, format_args!("has {} entries, the limit is {items_max}", items.len())));
    }
    Ok(items)
}

/// What an object has beside its fields, as it was sent; `null` is absent.
pub(super) fn extra(object: &Map<String, Value>, known: &[&str], path: &str, bytes_max: usize) -> Result<Map<String, Value>, ApiError> {
    let is_extra = |(name, value): &(&String, &Value)| !known.contains(&name.as_str()) && !value.is_null();
    let extra: Map<_, _> = object.iter().filter(is_extra).map(|(name, value)| (name.clone(), value.clone())).collect();
    let bytes = if extra.is_empty() { 0 } else { Value::Object(extra.clone()).to_string().len() };
    if bytes > bytes_max {
        return Err(ApiError::bad_field(path, format_args!("has {bytes} bytes in further members, the limit is {bytes_max}")));
    }
    Ok(extra)
}

/// A time: RFC 3339, or the same without an offset, which is UTC. What is finer than a microsecond is cut off.
pub(super) fn time(fields: &Fields<'_>, name: &str) -> Result<Option<UnixMicros>, ApiError> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    let time = parse_time(text).ok_or_else(|| fields.wrong(name, "must be a time as in RFC 3339, between the years 1970 and 9999"))?;
    Ok(Some(time))
}

/// See [`time`].
pub(super) fn parse_time(text: &str) -> Option<UnixMicros> {
    rfc3339::parse_or_utc(text).filter(|time| rfc3339::is_strict(text) && (UnixMicros(0)..TIME_END).contains(time))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::customers::arbitrary::any_time;

    #[test]
    fn a_time_is_read_with_and_without_an_offset() {
        let micros = Some(UnixMicros(1_767_225_600_123_456));
        for (text, time) in [
            ("2026-01-01T00:00:00.123456", micros),
            ("2026-01-01T00:00:00.123456Z", micros),
            ("2026-01-01 02:00:00.1234569+02:00", micros),
            ("2026-01-01T00:00:00", Some(UnixMicros(1_767_225_600_000_000))),
            ("1969-12-31T23:59:59.999999Z", None),
            ("9999-12-31T23:59:59-01:00", None),
            ("2026-01-01", None),
            ("2026-01-01T00:00:00[Europe/Rome]", None),
            ("2026-13-01T00:00:00Z", None),
            ("1767225600", None),
            ("", None),
        ] {
            assert_eq!(parse_time(text), time, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_time_that_was_shown_is_read_back(time in any_time()) {
            prop_assert_eq!(parse_time(&rfc3339::micros(time)), Some(time));
        }

        #[test]
        fn any_text_is_a_time_or_none(text in "\\PC{0,40}") {
            prop_assert!(parse_time(&text).is_none_or(|time| time.0 >= 0));
        }
    }
}
