//! Exact numbers and times, made for reading. No digit is left out, none is added but zeros of money.

use crate::billing::{Currency, Money};
use crate::clock::{UnixMicros, rfc3339};

/// Between groups of three digits.
const GROUP: char = ',';

/// A decimal with its digits in groups: 1,234,567.5.
pub(super) fn grouped(decimal: &str) -> String {
    let (sign, digits) = decimal.strip_prefix('-').map_or(("", decimal), |digits| ("\u{2212}", digits));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
    let mut text = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(GROUP);
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

/// An amount with all places of its currency: 1,234.50 USD.
pub(super) fn money(amount: Money, currency: Currency) -> String {
    with_places(&amount.to_string(), currency.places() as usize) + " " + currency.code()
}

fn with_places(decimal: &str, places: usize) -> String {
    let text = grouped(decimal);
    let has = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    match (has, places) {
        (has, places) if has >= places => text,
        (0, places) => format!("{text}.{}", "0".repeat(places)),
        (has, places) => text + &"0".repeat(places - has),
    }
}

fn shown(seconds: i64, format: &str) -> String {
    rfc3339::civil(UnixMicros::of_seconds(seconds)).strftime(format).to_string()
}

/// 22 Nov 2026, from s since 1970.
pub(super) fn day(seconds: i64) -> String {
    shown(seconds, "%-d %b %Y")
}

/// 22 Nov.
pub(super) fn short_day(seconds: i64) -> String {
    shown(seconds, "%-d %b")
}

/// 2026-11-22, for programs.
pub(super) fn iso_day(seconds: i64) -> String {
    shown(seconds, "%Y-%m-%d")
}

/// 22 Nov 2026, 05:42 UTC.
pub(super) fn moment(seconds: i64) -> String {
    shown(seconds, "%-d %b %Y, %H:%M UTC")
}

/// November 2026.
pub(super) fn month(seconds: i64) -> String {
    shown(seconds, "%B %Y")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Amount;

    #[test]
    fn numbers_are_grouped_and_keep_their_digits() {
        for (decimal, text) in [
            ("0", "0"),
            ("999", "999"),
            ("1000", "1,000"),
            ("-1234567.123456789012", "\u{2212}1,234,567.123456789012"),
            ("100000000000000000000", "100,000,000,000,000,000,000"),
            ("-12", "\u{2212}12"),
        ] {
            assert_eq!(grouped(decimal), text);
        }
    }

    #[test]
    fn money_has_the_places_of_its_currency() {
        let money = |amount: &str, code: &str| {
            let currency = Currency::parse(code).expect("a currency");
            money(Money::exactly(Amount::parse(amount.as_bytes()).expect("an amount"), currency).expect("fits"), currency)
        };
        assert_eq!(money("1234.5", "USD"), "1,234.50 USD");
        assert_eq!(money("-3", "EUR"), "\u{2212}3.00 EUR");
        assert_eq!(money("1234", "JPY"), "1,234 JPY");
        assert_eq!(money("0.125", "BHD"), "0.125 BHD");
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!((day(1_795_325_914), short_day(0), iso_day(86_399)), ("22 Nov 2026".into(), "1 Jan".into(), "1970-01-01".into()));
        assert_eq!((moment(1_795_325_914), month(0)), ("22 Nov 2026, 05:38 UTC".into(), "January 1970".into()));
        assert_eq!(day(i64::MAX), "31 Dec 9999");
    }
}
