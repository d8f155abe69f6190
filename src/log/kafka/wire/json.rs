//! The little JSON that messages are made of, written in one form and read in that form only.

use memchr::memchr2;

use crate::event::parse::find_special;

/// Appends a string with its quotes.
pub(super) fn write_text(text: &[u8], to: &mut Vec<u8>) {
    to.reserve(text.len() + 2);
    to.push(b'"');
    let mut rest = text;
    while let Some(at) = find_special(rest) {
        to.extend_from_slice(&rest[..at]);
        match rest[at] {
            escaped @ (b'"' | b'\\') => to.extend_from_slice(&[b'\\', escaped]),
            control => {
                to.extend_from_slice(b"\\u00");
                write_hex_byte(control, to);
            }
        }
        rest = &rest[at + 1..];
    }
    to.extend_from_slice(rest);
    to.push(b'"');
}

/// Appends a whole number.
pub(super) fn write_number(value: u64, to: &mut Vec<u8>) {
    to.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

const HEX: &[u8; 16] = b"0123456789abcdef";

pub(super) fn write_hex_byte(byte: u8, to: &mut Vec<u8>) {
    to.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

pub(super) fn write_hex(bytes: &[u8], to: &mut Vec<u8>) {
    bytes.iter().for_each(|byte| write_hex_byte(*byte, to));
}

/// The value of lowercase hexadecimal digits.
pub(super) fn read_hex(digits: &[u8]) -> Option<u128> {
    if digits.is_empty() || digits.len() > 32 {
        return None;
    }
    digits.iter().try_fold(0, |value: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// Reads off the front; `None` where something else stands.
pub(super) struct Scanner<'v>(pub(super) &'v [u8]);

impl<'v> Scanner<'v> {
    pub(super) fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(())
    }

    pub(super) fn has(&mut self, literal: &[u8]) -> bool {
        self.literal(literal).is_some()
    }

    /// Appends a string without its quotes, unescaped; gives back its length, which is at most `max`.
    pub(super) fn text(&mut self, max: usize, to: &mut Vec<u8>) -> Option<usize> {
        let start = to.len();
        self.literal(b"\"")?;
        loop {
            let at = memchr2(b'"', b'\\', self.0)?;
            let (plain, rest) = self.0.split_at_checked(at)?;
            to.extend_from_slice(plain);
            if to.len() - start > max {
                return None;
            }
            self.0 = match rest {
                [b'"', rest @ ..] => {
                    self.0 = rest;
                    return Some(to.len() - start);
                }
                [b'\\', escaped @ (b'"' | b'\\'), rest @ ..] => {
                    to.push(*escaped);
                    rest
                }
                [b'\\', b'u', b'0', b'0', high, low, rest @ ..] => {
                    to.push(u8::try_from(read_hex(&[*high, *low])?).ok().filter(|byte| *byte < 0x20)?);
                    rest
                }
                _ => return None,
            };
        }
    }

    /// The text of a number, whatever is in it.
    pub(super) fn number(&mut self) -> Option<&'v [u8]> {
        let end = self.0.iter().position(|byte| matches!(byte, b',' | b'}'))?;
        let (number, rest) = self.0.split_at_checked(end)?;
        self.0 = rest;
        Some(number)
    }

    /// A whole number of at most 18 digits.
    pub(super) fn whole(&mut self) -> Option<i64> {
        let digits = self.number()?;
        if digits.is_empty() || digits.len() > 18 {
            return None;
        }
        digits.iter().try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
    }
}
