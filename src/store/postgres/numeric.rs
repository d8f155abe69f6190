//! `numeric` on the wire: an exact decimal in groups of four digits.
//!
//! ```text
//! i16 groups   i16 weight: the first group counts 10000^weight   u16 sign: 0 or 0x4000   u16 places that are shown   groups: i16 each
//! ```
//!
//! Big-endian. Twelve places are three groups, so a scaled number has the same groups as what it stands for, three further
//! to the right.

use std::error::Error;

use ethnum::{I256, U256};
use tokio_postgres::types::{FromSql, Type};

use crate::event::amount::PLACES;

const BASE: u64 = 10_000;
const NEGATIVE: u16 = 0x4000;
/// Groups behind the point.
const FRACTION: usize = PLACES as usize / 4;
/// 2^256 has 78 digits.
const GROUPS_MAX: usize = 20;

/// A number × 10^12.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scaled(pub(super) I256);

impl Scaled {
    /// Appends it as a field of a binary `COPY`: i32 length, value.
    pub(super) fn write_field(self, to: &mut Vec<u8>) {
        // Lowest group first.
        let mut groups = [0_u16; GROUPS_MAX];
        let count = groups_of(self.0.unsigned_abs(), &mut groups);
        let first = groups[..count].iter().position(|group| *group != 0).unwrap_or(count);
        let places = places(&groups[..count]);
        let significant = &groups[first..count];
        to.extend_from_slice(&(8 + 2 * significant.len() as i32).to_be_bytes());
        to.extend_from_slice(&(significant.len() as i16).to_be_bytes());
        let weight = if significant.is_empty() { 0 } else { count as i16 - 1 - FRACTION as i16 };
        to.extend_from_slice(&weight.to_be_bytes());
        to.extend_from_slice(&(if self.0 < I256::ZERO { NEGATIVE } else { 0 }).to_be_bytes());
        to.extend_from_slice(&places.to_be_bytes());
        significant.iter().rev().for_each(|group| to.extend_from_slice(&group.to_be_bytes()));
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut halves = bytes.chunks_exact(2).map(|half| u16::from_be_bytes([half[0], half[1]]));
        let (count, weight, sign) = (halves.next()?, halves.next()? as i16, halves.next()?);
        halves.next()?;
        if halves.len() != usize::from(count) || !matches!(sign, 0 | NEGATIVE) {
            return None;
        }
        let mut magnitude = U256::ZERO;
        for group in halves {
            magnitude = magnitude.checked_mul(U256::from(BASE))?.checked_add(U256::from(group))?;
        }
        // The last group counts 10000^(weight − count + 1), scaled 10000^FRACTION times as much.
        let behind = i32::from(weight) - i32::from(count) + 1 + FRACTION as i32;
        if magnitude != U256::ZERO {
            for _ in 0..u32::try_from(behind).ok()? {
                magnitude = magnitude.checked_mul(U256::from(BASE))?;
            }
        }
        let is_negative = sign == NEGATIVE;
        let limit = if is_negative { I256::MIN } else { I256::MAX }.unsigned_abs();
        let number = magnitude.as_i256();
        (magnitude <= limit).then_some(Self(if is_negative { number.wrapping_neg() } else { number }))
    }
}

/// Takes a number apart, lowest group first; gives back how many there are, without zeros at the high end.
fn groups_of(mut magnitude: U256, groups: &mut [u16; GROUPS_MAX]) -> usize {
    let mut count = 0;
    // Division of 256 bits is slow, and nearly no number needs it.
    while *magnitude.high() != 0 {
        groups[count] = (magnitude % U256::from(BASE)).as_u16();
        magnitude /= U256::from(BASE);
        count += 1;
    }
    let mut rest = *magnitude.low();
    while u64::try_from(rest).is_err() {
        groups[count] = (rest % u128::from(BASE)) as u16;
        rest /= u128::from(BASE);
        count += 1;
    }
    let mut rest = rest as u64;
    while rest != 0 {
        groups[count] = (rest % BASE) as u16;
        rest /= BASE;
        count += 1;
    }
    count
}

/// Places behind the point without zeros at the end.
fn places(groups: &[u16]) -> u16 {
    let Some(lowest) = groups.iter().take(FRACTION).position(|group| *group != 0) else { return 0 };
    let zeros = (1..4).take_while(|power| groups[lowest].is_multiple_of(10_u16.pow(*power))).count();
    (4 * (FRACTION - lowest) - zeros) as u16
}

impl<'a> FromSql<'a> for Scaled {
    fn from_sql(_: &Type, bytes: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Self::read(bytes).ok_or_else(|| "a number that no row has".into())
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::NUMERIC
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(number: I256) -> Vec<u8> {
        let mut field = Vec::new();
        Scaled(number).write_field(&mut field);
        let value = field.split_off(4);
        assert_eq!(field, (value.len() as i32).to_be_bytes());
        value
    }

    fn numbers() -> impl Strategy<Value = I256> {
        let wide = (any::<i128>(), any::<u128>(), 0_u32..256).prop_map(|(high, low, shift)| I256::from_words(high, low as i128) >> shift);
        prop_oneof![
            wide,
            any::<i64>().prop_map(I256::from),
            (0_u32..76, -9_i64..10).prop_map(|(power, digit)| I256::new(10).pow(power) * I256::from(digit))
        ]
    }

    proptest! {
        #[test]
        fn a_number_is_read_back_as_it_was_written(number in numbers()) {
            prop_assert_eq!(Scaled::read(&written(number)), Some(Scaled(number)));
        }

        #[test]
        fn bytes_that_are_no_number_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            // Whatever it is, no panic; what is read is written as the same number.
            if let Some(Scaled(number)) = Scaled::read(&bytes) {
                prop_assert_eq!(Scaled::read(&written(number)), Some(Scaled(number)));
            }
        }
    }

    #[test]
    fn the_ends_of_the_range_are_read_back() {
        for number in [I256::MIN, I256::MIN + 1, I256::MAX, I256::ZERO, I256::ONE, -I256::ONE] {
            assert_eq!(Scaled::read(&written(number)), Some(Scaled(number)));
        }
    }

    #[test]
    fn only_the_places_that_are_needed_are_shown() {
        for (scaled, places) in [(0_i64, 0), (12_500_000_000_000, 1), (1, 12), (10_000, 8), (100_000, 7), (7_000_000_000_000, 0)] {
            assert_eq!(written(I256::from(scaled))[6..8], u16::to_be_bytes(places), "{scaled}");
        }
    }
}
