//! Exact numbers: what was measured, and sums of it. No `f64` comes near (`design.md`, promise 7).
//!
//! An [`Amount`] is a decimal with 12 places in 128 bits, read from the digits that the producer sent.
//! A [`Sum`] has 256 bits, so that no number of events can overflow it.

use std::cmp::Ordering;
use std::fmt;

use ethnum::I256;

/// Decimal places that are kept; more are rounded half to even, once, when the number is read
/// (contract `README.md`, "Numbers in").
pub const PLACES: u32 = 12;
const SCALE: i128 = 1_000_000_000_000;
/// 10^20, scaled: the absolute value of an amount stays below it.
const LIMIT: i128 = 100_000_000_000_000_000_000 * SCALE;

/// What one measurement says: a decimal with 12 places, absolute value below 10^20.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(i128);

/// Why a number cannot be an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not the text of a JSON number.
    #[error("is not a number")]
    NotANumber,
    /// 10^20 or more, or −10^20 or less.
    #[error("is out of range: the absolute value must be below 10^20")]
    OutOfRange,
}

impl Amount {
    /// One.
    pub const ONE: Self = Self(SCALE);

    /// Takes the scaled integer (value × 10^12) as it stands in a record or a row.
    ///
    /// # Errors
    /// [`AmountError::OutOfRange`] for what no parser could have made.
    pub fn from_scaled(scaled: i128) -> Result<Self, AmountError> {
        if scaled.unsigned_abs() < LIMIT.unsigned_abs() { Ok(Self(scaled)) } else { Err(AmountError::OutOfRange) }
    }

    /// The value × 10^12.
    pub fn scaled(self) -> i128 {
        self.0
    }

    /// A whole number that needs no check.
    pub const fn from_int(value: i64) -> Self {
        Self(value as i128 * SCALE)
    }

    /// The value as a whole number, if it is one that fits.
    pub fn to_int(self) -> Option<i64> {
        (self.0 % SCALE == 0).then(|| i64::try_from(self.0 / SCALE).ok()).flatten()
    }

    /// Appends it as a decimal: digits, and behind a point those places that are not zero at the end.
    pub fn write(self, to: &mut Vec<u8>) {
        write_decimal(self.0, to);
    }

    /// Reads the text of a JSON number. Linear in its length, whatever its exponent.
    ///
    /// # Errors
    /// [`AmountError`]: not a JSON number, or out of range.
    pub fn parse(text: &[u8]) -> Result<Self, AmountError> {
        if let Some(fast) = parse_short(text) {
            return Ok(fast);
        }
        parse_any(text)
    }
}

/// Up to 18 digits with an optional fraction of at most 12: what nearly every event has.
#[inline]
fn parse_short(text: &[u8]) -> Option<Amount> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 || (digits[0] == b'0' && digits.len() > 1 && digits[1] != b'.') {
        return None;
    }
    let mut value: u64 = 0;
    let mut point = None;
    for (at, &byte) in digits.iter().enumerate() {
        if byte.is_ascii_digit() {
            value = value * 10 + u64::from(byte - b'0');
        } else if byte == b'.' && point.is_none() && at > 0 && at + 1 < digits.len() {
            point = Some(at);
        } else {
            return None;
        }
    }
    let places = point.map_or(0, |at| digits.len() - at - 1);
    if places > PLACES as usize {
        return None;
    }
    let scaled = i128::from(value) * i128::from(10_u64.pow(PLACES - places as u32));
    Some(Amount(if negative { -scaled } else { scaled }))
}

/// The whole grammar: `-? int frac? exp?`, any number of digits.
fn parse_any(text: &[u8]) -> Result<Amount, AmountError> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let integer_len = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let integer = &rest[..integer_len];
    if integer.is_empty() || (integer[0] == b'0' && integer.len() > 1) {
        return Err(AmountError::NotANumber);
    }
    let mut rest = &rest[integer_len..];
    let mut fraction: &[u8] = &[];
    if let [b'.', after @ ..] = rest {
        let len = after.iter().take_while(|b| b.is_ascii_digit()).count();
        if len == 0 {
            return Err(AmountError::NotANumber);
        }
        fraction = &after[..len];
        rest = &after[len..];
    }
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', after @ ..] => parse_exponent(after)?,
        _ => return Err(AmountError::NotANumber),
    };
    let magnitude = scale_digits(integer, fraction, exponent)?;
    Ok(Amount(if negative { -magnitude } else { magnitude }))
}

/// An exponent, saturated far outside of what can matter for a text that fits into a body.
fn parse_exponent(text: &[u8]) -> Result<i64, AmountError> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(AmountError::NotANumber);
    }
    let mut value: i64 = 0;
    for digit in digits {
        value = (value * 10 + i64::from(digit - b'0')).min(1 << 40);
    }
    Ok(if negative { -value } else { value })
}

/// `integer.fraction × 10^exponent × 10^12`, rounded half to even.
fn scale_digits(integer: &[u8], fraction: &[u8], exponent: i64) -> Result<i128, AmountError> {
    // Digits before this index are kept, those from it on are rounded away.
    let cut = integer.len() as i64 + exponent + i64::from(PLACES);
    let digits = integer.iter().chain(fraction).map(|b| i128::from(b - b'0'));
    let mut value: i128 = 0;
    let mut kept = 0_i64;
    let mut remainder = Remainder::default();
    for digit in digits {
        if kept < cut {
            value = value * 10 + digit;
            if value >= LIMIT {
                return Err(AmountError::OutOfRange);
            }
        } else {
            remainder.push(digit, kept == cut);
        }
        kept += 1;
    }
    if value != 0 {
        for _ in kept..cut.max(kept) {
            value *= 10;
            if value >= LIMIT {
                return Err(AmountError::OutOfRange);
            }
        }
    }
    if remainder.rounds_up(value % 2 != 0) {
        value += 1;
    }
    if value >= LIMIT { Err(AmountError::OutOfRange) } else { Ok(value) }
}

/// What was cut off, compared with one half.
#[derive(Default)]
struct Remainder {
    first: i128,
    more: bool,
}

impl Remainder {
    fn push(&mut self, digit: i128, is_first: bool) {
        if is_first {
            self.first = digit;
        } else {
            self.more |= digit != 0;
        }
    }

    fn rounds_up(&self, odd: bool) -> bool {
        self.first > 5 || (self.first == 5 && (self.more || odd))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.0, f)
    }
}

/// Shows a scaled integer as a decimal.
fn show(scaled: i128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = Vec::with_capacity(DECIMAL_BYTES_MAX);
    write_decimal(scaled, &mut text);
    f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
}

/// Of a scaled integer in 128 bits: a sign, 27 digits before the point and 12 behind it.
const DECIMAL_BYTES_MAX: usize = 41;

/// Appends a scaled integer as a decimal.
fn write_decimal(scaled: i128, to: &mut Vec<u8>) {
    const ONE: u64 = SCALE as u64;
    let magnitude = scaled.unsigned_abs();
    // A division of 64 bits is several times as fast, and will do for nearly all.
    let (whole, places) = match u64::try_from(magnitude) {
        Ok(small) => (u128::from(small / ONE), small % ONE),
        Err(_) => (magnitude / u128::from(ONE), (magnitude % u128::from(ONE)) as u64),
    };
    if scaled < 0 {
        to.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    to.extend_from_slice(buffer.format(whole).as_bytes());
    if places != 0 {
        // A digit more than the places keeps their zeros in front.
        let digits = &buffer.format(ONE + places).as_bytes()[1..];
        let kept = digits.iter().rposition(|digit| *digit != b'0').map_or(0, |at| at + 1);
        to.push(b'.');
        to.extend_from_slice(&digits[..kept]);
    }
}

/// An exact sum of amounts: a decimal with 12 places in 256 bits. Addition is exact and commutative, so the
/// order and the partitioning of events never show in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sum(I256);

impl Sum {
    /// Nothing yet.
    pub const ZERO: Self = Self(I256::ZERO);

    /// Takes the scaled integer as it stands in a row.
    pub fn from_scaled(scaled: I256) -> Self {
        Self(scaled)
    }

    /// The value × 10^12.
    pub fn scaled(self) -> I256 {
        self.0
    }

    /// Whether so many amounts can come to it. Sums of which that holds can be added without an overflow.
    pub fn is_of(self, amounts: u64) -> bool {
        self.0.unsigned_abs() <= ethnum::U256::from(amounts) * ethnum::U256::from(LIMIT.unsigned_abs())
    }

    /// A count, as a number to answer with.
    pub fn from_count(count: u64) -> Self {
        Self(I256::from(count) * I256::from(SCALE))
    }

    /// Adds one amount.
    #[inline]
    pub fn add_amount(&mut self, amount: Amount) {
        self.0 += I256::from(amount.0);
    }

    /// Adds another sum.
    pub fn add(&mut self, other: Self) {
        self.0 += other.0;
    }

    /// What it comes to for each of so many, rounded half to even at 12 places; 0 for none.
    pub fn divided_by(self, count: u64) -> Self {
        if count == 0 { Self::ZERO } else { Self(div_half_even(self.0, I256::from(count))) }
    }

    /// 100 × (self − previous) / previous, rounded half to even at 12 places; 0 if `previous` is 0
    /// (contract `amberflo.md` section 5, `percentageFromPrevious`).
    pub fn percentage_from(self, previous: Self) -> Self {
        if previous.0 == I256::ZERO {
            return Self::ZERO;
        }
        let change = self.0 - previous.0;
        match change.checked_mul(I256::from(100 * SCALE)) {
            Some(scaled) => Self(div_half_even(scaled, previous.0)),
            // Beyond 10^50: a change this large is given in whole percents.
            None => Self(div_half_even(change, previous.0).saturating_mul(I256::from(100 * SCALE))),
        }
    }
}

/// A quotient, rounded half to even.
pub(crate) fn div_half_even(numerator: I256, denominator: I256) -> I256 {
    let quotient = numerator / denominator;
    let remainder = (numerator % denominator).unsigned_abs();
    let denominator_size = denominator.unsigned_abs();
    let up = match (remainder << 1_u32).cmp(&denominator_size) {
        Ordering::Less => false,
        Ordering::Greater => true,
        Ordering::Equal => quotient % I256::new(2) != I256::ZERO,
    };
    let away = if (numerator < I256::ZERO) == (denominator < I256::ZERO) { I256::ONE } else { -I256::ONE };
    if up { quotient + away } else { quotient }
}

impl From<Amount> for Sum {
    fn from(amount: Amount) -> Self {
        Self(I256::from(amount.0))
    }
}

/// The exact decimal, without trailing zeros and without exponent (contract `README.md`, "Numbers out").
impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(scaled) = i128::try_from(self.0) {
            return show(scaled, f);
        }
        let magnitude = self.0.unsigned_abs();
        let scale = ethnum::U256::new(SCALE as u128);
        let (whole, places) = (magnitude / scale, (magnitude % scale).as_u64());
        if self.0 < I256::ZERO {
            f.write_str("-")?;
        }
        write!(f, "{whole}")?;
        if places != 0 {
            let text = format!("{places:012}");
            write!(f, ".{}", text.trim_end_matches('0'))?;
        }
        Ok(())
    }
}

impl serde::Serialize for Sum {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number: serde_json::Number = self.to_string().parse().map_err(serde::ser::Error::custom)?;
        number.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        match Amount::parse(text.as_bytes()) {
            Ok(amount) => amount.to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_count_is_its_number() {
        assert_eq!([0, 1, 7, u64::MAX].map(|count| Sum::from_count(count).to_string()), ["0", "1", "7", "18446744073709551615"]);
    }

    #[test]
    fn numbers_are_read_from_their_digits() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("1.0", "1"),
            ("12.5", "12.5"),
            ("-3.000001", "-3.000001"),
            ("99999999999999999.99", "99999999999999999.99"),
            ("12345678901234567890", "12345678901234567890"),
            ("99999999999999999999", "99999999999999999999"),
            ("1e3", "1000"),
            ("1.5E-3", "0.0015"),
            ("25e-13", "0.000000000002"),
            ("35e-13", "0.000000000004"),
            ("0.0000000000005", "0"),
            ("0.000000000000500", "0"),
            ("0.00000000000050000001", "0.000000000001"),
            ("0.0000000000015", "0.000000000002"),
            ("1e-400", "0"),
            ("0e999999999999999999999", "0"),
            ("100000000000000000000", "is out of range: the absolute value must be below 10^20"),
            ("99999999999999999999.9999999999995", "is out of range: the absolute value must be below 10^20"),
            ("1e400", "is out of range: the absolute value must be below 10^20"),
            ("01", "is not a number"),
            ("1.", "is not a number"),
            (".5", "is not a number"),
            ("1e", "is not a number"),
            ("+1", "is not a number"),
            ("NaN", "is not a number"),
            ("", "is not a number"),
            ("-", "is not a number"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_no_parser_could_have_made_is_no_amount() {
        for scaled in [LIMIT, -LIMIT, i128::MAX, i128::MIN] {
            assert_eq!(Amount::from_scaled(scaled), Err(AmountError::OutOfRange));
        }
    }

    #[test]
    fn a_tenth_ten_times_is_one() {
        let tenth = Amount::parse(b"0.1").expect("a number");
        let mut sum = Sum::ZERO;
        for _ in 0..10 {
            sum.add_amount(tenth);
        }
        assert_eq!(sum.to_string(), "1");
    }

    #[test]
    fn percentages_are_rounded_half_to_even() {
        let sum = |text: &str| Sum::from(Amount::parse(text.as_bytes()).expect("a number"));
        assert_eq!(sum("0").percentage_from(sum("12.5")).to_string(), "-100");
        assert_eq!(sum("3").percentage_from(sum("2")).to_string(), "50");
        assert_eq!(sum("1").percentage_from(sum("3")).to_string(), "-66.666666666667");
        assert_eq!(sum("1").percentage_from(Sum::ZERO).to_string(), "0");
        // From 10^53 to 10^58: its hundredfold at 12 places more has no room.
        let ten_to = |exponent: u32| Sum(I256::from(10).pow(exponent + 12));
        assert_eq!(ten_to(58).percentage_from(ten_to(53)).to_string(), "9999900");
    }

    #[test]
    fn averages_are_rounded_half_to_even() {
        let sum = |text: &str| Sum::from(Amount::parse(text.as_bytes()).expect("a number"));
        for (total, count, average) in [
            ("10", 4, "2.5"),
            ("1", 3, "0.333333333333"),
            ("2", 3, "0.666666666667"),
            ("0.000000000001", 2, "0"),
            ("0.000000000003", 2, "0.000000000002"),
            ("-0.000000000003", 2, "-0.000000000002"),
            ("7", 0, "0"),
        ] {
            assert_eq!(sum(total).divided_by(count).to_string(), average, "{total} / {count}");
        }
    }

    #[test]
    fn halves_go_to_the_even_neighbour_whatever_the_signs() {
        for (numerator, denominator, expected) in [
            (0, 2, 0),
            (1, 2, 0),
            (3, 2, 2),
            (5, 2, 2),
            (7, 2, 4),
            (6, 2, 3),
            (1, 3, 0),
            (2, 3, 1),
            (4, 3, 1),
            (5, 3, 2),
            (9, 4, 2),
            (11, 4, 3),
        ] {
            for (sign_above, sign_below) in [(1, 1), (1, -1), (-1, 1), (-1, -1)] {
                let (above, below) = (I256::new(numerator * sign_above), I256::new(denominator * sign_below));
                let expected = I256::new(expected * sign_above * sign_below);
                assert_eq!(div_half_even(above, below), expected, "{above} / {below}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_short_way_and_the_general_way_agree(text in "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,13})?") {
            if let Some(short) = parse_short(text.as_bytes()) {
                prop_assert_eq!(Ok(short), parse_any(text.as_bytes()));
            }
        }

        #[test]
        fn what_is_shown_is_read_back(scaled in -LIMIT + 1..LIMIT) {
            let amount = Amount(scaled);
            prop_assert_eq!(Amount::parse(amount.to_string().as_bytes()), Ok(amount));
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in "[-+0-9.eE]{0,40}") {
            drop(Amount::parse(text.as_bytes()).map(|amount| amount.to_string()));
        }

        #[test]
        fn sums_do_not_know_the_order(mut values in proptest::collection::vec(-LIMIT + 1..LIMIT, 0..50), split in any::<prop::sample::Index>()) {
            let total = |values: &[i128]| values.iter().fold(Sum::ZERO, |mut sum, v| { sum.add_amount(Amount(*v)); sum });
            let forwards = total(&values);
            values.reverse();
            let (left, right) = values.split_at(split.index(values.len() + 1));
            let mut halves = total(left);
            halves.add(total(right));
            prop_assert_eq!(forwards, halves);
        }
    }
}
