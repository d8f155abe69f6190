//! Until when a certificate is valid (X.509, RFC 5280, 4.1). rustls checks certificates and keeps their times to itself.

use jiff::civil::{DateTime, date};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
/// `[0]`: the version, which may be absent.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter` of a certificate in DER, in seconds since 1970-01-01T00:00:00Z. `None` if it is no certificate.
pub(super) fn not_after_s(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = tagged(SEQUENCE, certificate)?;
    let (fields, _) = tagged(SEQUENCE, certificate)?;
    let fields = tagged(VERSION, fields).map_or(fields, |(_, rest)| rest);
    let (_serial, rest) = tagged(INTEGER, fields)?;
    let (_signature, rest) = tagged(SEQUENCE, rest)?;
    let (_issuer, rest) = tagged(SEQUENCE, rest)?;
    let (validity, _) = tagged(SEQUENCE, rest)?;
    let (_, _not_before, rest) = element(validity)?;
    let (tag, not_after, _) = element(rest)?;
    seconds(tag, std::str::from_utf8(not_after).ok()?)
}

fn seconds(tag: u8, text: &str) -> Option<i64> {
    let text = match tag {
        // Two digits of the year: from 50 on, of the last century.
        UTC_TIME if text.get(..2)? >= "50" => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let time = DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some(time.duration_since(date(1970, 1, 1).at(0, 0, 0, 0)).as_secs())
}

/// The content of the first element, which must have this tag, and what follows it.
fn tagged(expected: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der).and_then(|(tag, content, rest)| (tag == expected).then_some((content, rest)))
}

/// Tag and content of the first element, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        ..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An element with its length in its shortest form.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = match content.len() {
            short @ ..0x80 => vec![short as u8],
            long => vec![0x82, (long >> 8) as u8, long as u8],
        };
        [&[tag], length.as_slice(), content].concat()
    }

    fn certificate(version: &[u8], issuer_bytes: usize, times: &[u8]) -> Vec<u8> {
        let issuer = der(SEQUENCE, &vec![0; issuer_bytes]);
        let validity = der(SEQUENCE, times);
        let fields = [version, &der(INTEGER, &[7]), &der(SEQUENCE, &[]), &issuer, &validity, &der(SEQUENCE, &[])].concat();
        der(SEQUENCE, &[der(SEQUENCE, &fields), der(SEQUENCE, &[])].concat())
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_forms_of_time() {
        let begin = der(UTC_TIME, b"250101000000Z");
        let version = der(VERSION, &der(INTEGER, &[2]));
        for (end, expected) in [
            (der(UTC_TIME, b"260101000000Z"), 1_767_225_600),
            (der(UTC_TIME, b"700101000001Z"), 1),
            (der(GENERALIZED_TIME, b"20500101000000Z"), 2_524_608_000),
            (der(GENERALIZED_TIME, b"99991231235959Z"), 253_402_300_799),
        ] {
            let times = [begin.clone(), end].concat();
            assert_eq!(not_after_s(&certificate(&version, 20, &times)), Some(expected));
            assert_eq!(not_after_s(&certificate(&[], 300, &times)), Some(expected), "no version, a long issuer");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let times = [der(UTC_TIME, b"250101000000Z"), der(UTC_TIME, b"260101000000Z")].concat();
        let whole = certificate(&[], 300, &times);
        for length in 0..whole.len() {
            assert_eq!(not_after_s(&whole[..length]), None, "cut at {length}");
        }
        for at in 0..whole.len() {
            let mut bent = whole.clone();
            bent[at] = 0xff;
            // Whatever comes out, it does not panic.
            let _any = not_after_s(&bent);
        }
        let odd = [der(UTC_TIME, b"250101000000Z"), der(UTC_TIME, b"2601010000Z")].concat();
        assert_eq!(not_after_s(&certificate(&[], 20, &odd)), None);
    }
}
