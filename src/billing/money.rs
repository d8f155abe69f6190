//! Currencies, amounts of money, and the exact numbers that prices come to before they are rounded.
//!
//! A price has up to 12 places, a quantity too, and a part of a month is a fraction of hours. So what a line comes to is an integer over
//! 10^24 × (hours of the month): exact, in 256 bits. It is rounded once, half to even, to the currency's minor unit; from there on it is
//! [`Money`], which is only added and compared. No `f64` comes near.

use std::fmt;
use std::iter::Sum as IterSum;

use ethnum::I256;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::event::amount::{PLACES, div_half_even};
use crate::event::{Amount, Sum};

/// 10^12: what an amount or a sum is multiplied by.
pub(super) const SCALE: I256 = I256::new(1_000_000_000_000);
/// An amount of money stays below it, so that sums of as many as there can be lines have room: 10^30.
const LIMIT: I256 = I256::new(1_000_000_000_000_000_000_000_000_000_000);

/// A currency of ISO 4217 that has minor units; also one that has been superseded, for old invoices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency(iso_currency::Currency);

impl Currency {
    /// The US dollar: where nobody says otherwise (contract `amberflo.md` 6.2).
    pub const USD: Self = Self(iso_currency::Currency::USD);

    /// Reads a code in any case; `None` for what ISO 4217 does not know, and for codes without minor units (gold, tests).
    pub fn parse(code: &str) -> Option<Self> {
        iso_currency::Currency::from_code(&code.to_ascii_uppercase()).filter(|found| found.exponent().is_some()).map(Self)
    }

    /// The code, in upper case.
    pub fn code(self) -> &'static str {
        self.0.code()
    }

    /// Decimal places of the minor unit: 2 for cents, 0 for yen, up to 4.
    pub fn places(self) -> u32 {
        // Only those with some are parsed, and none has more than 4.
        self.0.exponent().map_or(2, u32::from).min(PLACES)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Self::parse(&code).ok_or_else(|| de::Error::custom("no currency of ISO 4217"))
    }
}

/// An amount of money: a whole number of a currency's minor units, below 10^30 in size. As JSON the exact decimal, 9.5 and not 9.50.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(Sum);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(Sum::ZERO);

    /// A decimal as money; `None` if the currency has not so many places, or it is too large.
    pub fn exactly(amount: Amount, currency: Currency) -> Option<Self> {
        let unit = 10_i128.pow(PLACES - currency.places());
        (amount.scaled() % unit == 0).then(|| Self::of_scaled(I256::from(amount.scaled()))).flatten()
    }

    fn of_scaled(scaled: I256) -> Option<Self> {
        (scaled.abs() < LIMIT * SCALE).then(|| Self(Sum::from_scaled(scaled)))
    }

    fn scaled(self) -> I256 {
        self.0.scaled()
    }

    /// The larger of this and nothing.
    pub fn or_zero(self) -> Self {
        self.max(Self::ZERO)
    }
}

impl std::ops::Add for Money {
    type Output = Self;

    /// There is room for 10^20 times the limit.
    fn add(self, other: Self) -> Self {
        Self(Sum::from_scaled(self.scaled() + other.scaled()))
    }
}

impl std::ops::Sub for Money {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(Sum::from_scaled(self.scaled() - other.scaled()))
    }
}

impl std::ops::AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl std::ops::SubAssign for Money {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl IterSum for Money {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::ZERO, |sum, item| sum + item)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sum = decimal::deserialize(deserializer)?;
        Self::of_scaled(sum.scaled()).ok_or_else(|| de::Error::custom("an amount of money that is too large"))
    }
}

/// Sums as JSON numbers, read with all their digits.
pub(super) mod decimal {
    use ethnum::I256;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    use super::{SCALE, Sum};
    use crate::event::amount::PLACES;

    pub(in crate::billing) fn serialize<S: Serializer>(sum: &Sum, serializer: S) -> Result<S::Ok, S::Error> {
        sum.serialize(serializer)
    }

    pub(in crate::billing) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Sum, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        read(number.as_str()).ok_or_else(|| de::Error::custom(format!("{number} is no decimal")))
    }

    /// Reads what `Sum` shows.
    pub(in crate::billing) fn read(text: &str) -> Option<Sum> {
        let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(places) || places.len() > PLACES as usize {
            return None;
        }
        let places: I256 = format!("{places:0<12}").parse().ok()?;
        let scaled = whole.parse::<I256>().ok()?.checked_mul(SCALE)?.checked_add(places)?;
        Some(Sum::from_scaled(if is_negative { -scaled } else { scaled }))
    }
}

/// The same where there may be none.
pub(super) mod optional_decimal {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Sum, decimal};

    pub(in crate::billing) fn serialize<S: Serializer>(sum: &Option<Sum>, serializer: S) -> Result<S::Ok, S::Error> {
        sum.serialize(serializer)
    }

    pub(in crate::billing) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Sum>, D::Error> {
        #[derive(Deserialize)]
        struct Wrapped(#[serde(with = "decimal")] Sum);
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}

/// A part of a month, in whole hours: exactly the part of its milliseconds, as periods begin and end with hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    hours: u32,
    of_hours: u32,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { hours: 1, of_hours: 1 };

    /// So many hours of so many; at most all of them.
    pub fn new(hours: u32, of_hours: u32) -> Self {
        assert!(hours <= of_hours && of_hours > 0, "{hours} of {of_hours} hours are no part");
        Self { hours, of_hours }
    }

    /// Numerator and denominator.
    pub(super) fn ratio(self) -> (I256, I256) {
        (I256::from(self.hours), I256::from(self.of_hours))
    }
}

/// What a line comes to before it is rounded: `numerator / (10^24 × hours of the month)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exact {
    pub(super) numerator: I256,
    pub(super) of_hours: I256,
}

impl Exact {
    /// A part of an amount.
    pub fn part_of(amount: Amount, part: Part) -> Self {
        let (hours, of_hours) = part.ratio();
        // Below 10^32 × 10^12 × 2^32.
        Self { numerator: I256::from(amount.scaled()) * SCALE * hours, of_hours }
    }

    /// Rounded half to even to the currency's minor unit; `None`: too large for money.
    pub fn round(self, currency: Currency) -> Option<Money> {
        let places = currency.places();
        // 10^24 at most, times 2^32.
        let minor_unit = SCALE * I256::from(10).pow(PLACES - places) * self.of_hours;
        let minor_units = div_half_even(self.numerator, minor_unit);
        Money::of_scaled(minor_units.checked_mul(I256::from(10).pow(PLACES - places))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::parse(text.as_bytes()).expect("a number")
    }

    fn currency(code: &str) -> Currency {
        Currency::parse(code).expect("a currency")
    }

    #[test]
    fn currencies_have_the_minor_units_of_iso_4217() {
        for (code, places) in [("usd", 2), ("JPY", 0), ("Kwd", 3), ("CLF", 4), ("ISK", 0), ("EUR", 2), ("TND", 3), ("UYW", 4)] {
            assert_eq!(currency(code).places(), places, "{code}");
        }
        for unknown in ["", "US", "USDX", "ABC", "XAU", "XTS", "XXX"] {
            assert_eq!(Currency::parse(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn half_a_minor_unit_goes_to_the_even_neighbour() {
        for (price, code, rounded) in [
            ("0.005", "USD", "0"),
            ("0.015", "USD", "0.02"),
            ("0.025", "USD", "0.02"),
            ("0.0250001", "USD", "0.03"),
            ("0.5", "JPY", "0"),
            ("1.5", "JPY", "2"),
            ("0.0005", "KWD", "0"),
            ("0.0015", "KWD", "0.002"),
        ] {
            let rounded_here = Exact::part_of(amount(price), Part::WHOLE).round(currency(code)).expect("small");
            assert_eq!(rounded_here.to_string(), rounded, "{price} {code}");
        }
        // A third of a dollar, and half a cent as a part of a month.
        assert_eq!(Exact::part_of(amount("1"), Part::new(248, 744)).round(Currency::USD).expect("small").to_string(), "0.33");
        assert_eq!(Exact::part_of(amount("0.01"), Part::new(372, 744)).round(Currency::USD).expect("small").to_string(), "0");
        assert_eq!(Exact::part_of(amount("0.03"), Part::new(372, 744)).round(Currency::USD).expect("small").to_string(), "0.02");
    }

    #[test]
    fn money_has_no_more_places_than_its_currency() {
        assert_eq!(Money::exactly(amount("9.5"), Currency::USD).expect("cents").to_string(), "9.5");
        assert_eq!(Money::exactly(amount("9.505"), Currency::USD), None);
        assert_eq!(Money::exactly(amount("9.5"), currency("JPY")), None);
    }

    #[test]
    fn decimals_are_read_back_with_all_their_digits() {
        for text in ["0", "-0.000000000001", "123456789012345678901234567890.123456789012", "-99.5"] {
            assert_eq!(decimal::read(text).expect("a decimal").to_string(), text);
        }
        for text in ["", "-", ".5", "1e3", "0.0000000000001", "--1", "1.-1"] {
            assert_eq!(decimal::read(text), None, "{text}");
        }
        let money: Money = serde_json::from_str("-12.05").expect("money");
        assert_eq!(serde_json::to_string(&money).expect("JSON"), "-12.05");
        assert!(serde_json::from_str::<Money>(&format!("1{}", "0".repeat(30))).is_err());
    }
}
