//! How many values a body may have. What a parser keeps of a body is many times its size when the body is nothing but commas:
//! it is looked at before anything is kept.

use memchr::memchr_iter;

/// Of each event that a body may have: half as many again as an event with all its dimensions has.
const OF_AN_EVENT_MAX: usize = 128;
/// Any body may have so many.
const ALWAYS: usize = 1 << 17;

/// How many values a body may have that may have so many events.
pub(in crate::event) fn max(events_max: usize) -> usize {
    events_max.saturating_mul(OF_AN_EVENT_MAX).max(ALWAYS)
}

/// Whether a body has more values than that. What is no JSON has any number.
pub(super) fn are_more_than(max: usize, body: &[u8]) -> bool {
    // Every value but the first of an object or array comes behind a comma.
    body.len() > max && memchr_iter(b',', body).count() > max && separators(body, max) > max
}

/// Commas outside of strings, counted up to one past `max`.
fn separators(body: &[u8], max: usize) -> usize {
    let (mut count, mut in_string, mut escaped) = (0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b',' if !in_string => count += 1,
            _ => {}
        }
        if count > max {
            break;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_text_is_not() {
        let of = |body: &str| separators(body.as_bytes(), 1_000);
        assert_eq!(of("[1,2,{\"a\":3,\"b\":[4,5]}]"), 4);
        assert_eq!(of(r#"{"a,b":"c,\",d\\","e":1}"#), 1);
        assert_eq!(of(&"[],".repeat(5_000)), 1_001, "no further than needed");
    }

    #[test]
    fn a_body_of_text_is_never_too_dense() {
        let text = format!("[\"{}\"]", ",".repeat(1_000));
        assert!(!are_more_than(10, text.as_bytes()));
        let values = format!("[{}1]", "1,".repeat(11));
        assert!(are_more_than(10, values.as_bytes()));
        assert!(!are_more_than(11, values.as_bytes()));
    }
}
