//! The tests' own exact numbers, by which those of the gateway are judged.

use std::fmt;
use std::iter::Sum;
use std::ops::AddAssign;

use ethnum::I256;

const PLACES: usize = 12;

/// A decimal with 12 places in 256 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Decimal(I256);

impl Decimal {
    /// `mantissa` × 10^−`places`, for up to 12 places.
    pub(crate) fn new(mantissa: i128, places: u32) -> Self {
        Self(I256::from(mantissa) * I256::from(10).pow(PLACES as u32 - places))
    }
}

impl AddAssign for Decimal {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sum for Decimal {
    fn sum<I: Iterator<Item = Self>>(numbers: I) -> Self {
        numbers.fold(Self::default(), |mut sum, number| {
            sum += number;
            sum
        })
    }
}

/// As the contract wants numbers in answers: no exponent, no trailing zeros.
impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:0>width$}", self.0.unsigned_abs(), width = PLACES + 1);
        let (whole, fraction) = digits.split_at(digits.len() - PLACES);
        let text = format!("{whole}.{fraction}");
        let sign = if self.0 < 0 { "-" } else { "" };
        write!(f, "{sign}{}", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[test]
fn decimals_are_written_as_the_contract_wants_them() {
    for (mantissa, places, text) in [(0, 0, "0"), (-5, 1, "-0.5"), (1_200, 2, "12"), (1, 12, "0.000000000001"), (-100, 0, "-100")] {
        assert_eq!(Decimal::new(mantissa, places).to_string(), text);
    }
}
