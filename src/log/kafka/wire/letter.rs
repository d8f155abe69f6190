//! Records of the dead letters' log. Of them, this module knows the frame alone: length, form, a head that is a JSON object, and bytes.

use super::json::{Scanner, read_hex, write_hex, write_number, write_text};
use super::{Incoming, Outgoing};

/// The version of messages that is written and known.
const VERSION: u16 = 1;
/// The form of record that is known.
const FORM: u8 = 1;
/// Length, form, length of the head.
const FIXED_BYTES: usize = 4 + 1 + 4;
/// Bytes that follow a head; those of an event are fewer.
const RAW_BYTES_MAX: usize = 1 << 20;

pub(super) fn encode(record: &[u8], to: &mut Outgoing) -> Option<()> {
    let (length, rest) = record.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*length) as usize == rest.len()).then_some(())?;
    let (head_length, rest) = rest.strip_prefix(&[FORM])?.split_first_chunk::<4>()?;
    let (head, raw) = rest.split_at_checked(u32::from_le_bytes(*head_length) as usize)?;
    let open = head.strip_suffix(b"}").filter(|open| open.starts_with(b"{"))?;
    to.value.extend_from_slice(open);
    let text = std::str::from_utf8(raw);
    match text {
        Ok("") => {}
        Ok(text) => {
            to.value.extend_from_slice(b",\"event\":");
            write_text(text.as_bytes(), &mut to.value);
        }
        Err(_) => {
            to.value.extend_from_slice(b",\"eventHex\":\"");
            write_hex(raw, &mut to.value);
            to.value.push(b'"');
        }
    }
    to.value.push(b'}');
    to.partition = 0;
    write_number(u64::from(VERSION), &mut to.header);
    to.header.push(b' ');
    write_number(head.len() as u64, &mut to.header);
    to.header.extend_from_slice(b" 1");
    Some(())
}

pub(super) fn decode(message: &Incoming<'_>, to: &mut Vec<u8>) -> Option<()> {
    let start = to.len();
    let header = std::str::from_utf8(message.header?.strip_prefix(b"1 ")?).ok()?;
    let head_length: usize = header.strip_suffix(" 1")?.parse().ok()?;
    let (open, rest) = message.value?.split_at_checked(head_length.checked_sub(1)?)?;
    to.extend_from_slice(&[0; FIXED_BYTES]);
    to.extend_from_slice(open);
    to.push(b'}');
    let mut rest = Scanner(rest);
    if rest.has(b",\"event\":") {
        rest.text(RAW_BYTES_MAX, to)?;
    } else if rest.has(b",\"eventHex\":\"") {
        let digits = rest.0.strip_suffix(b"\"}").filter(|digits| digits.len() % 2 == 0)?;
        for pair in digits.chunks(2) {
            to.push(u8::try_from(read_hex(pair)?).ok()?);
        }
        rest.0 = b"}";
    }
    (rest.0 == b"}").then_some(())?;
    let length = u32::try_from(to.len() - start - 4).ok()?;
    to[start..start + 4].copy_from_slice(&length.to_le_bytes());
    to[start + 4] = FORM;
    to[start + 5..start + FIXED_BYTES].copy_from_slice(&u32::try_from(head_length).ok()?.to_le_bytes());
    Some(())
}
