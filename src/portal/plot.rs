//! Bars: one a day, as tall as its number. Heights are whole thousandths of the plot, computed with the exact numbers.

use ethnum::I256;

use crate::event::Sum;

/// Height of a plot, in its own units.
pub(super) const HEIGHT: i64 = 1_000;
/// Width of a day, and what of it the bar takes.
pub(super) const SLOT: usize = 10;
const BAR: usize = 8;
/// What is not zero can be seen.
const BAR_MIN: i64 = 8;

/// One bar, in units of the plot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bar {
    pub(super) x: usize,
    pub(super) y: i64,
    pub(super) width: usize,
    pub(super) height: i64,
}

/// Bars of numbers, and where zero is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plot {
    pub(super) width: usize,
    pub(super) zero: i64,
    pub(super) bars: Vec<Bar>,
}

/// Draws numbers: the largest fills the plot; below zero they hang down.
pub(super) fn plot(numbers: &[Sum]) -> Plot {
    let values: Vec<I256> = numbers.iter().map(|number| number.scaled()).collect();
    let highest = values.iter().copied().fold(I256::ZERO, I256::max);
    let lowest = values.iter().copied().fold(I256::ZERO, I256::min);
    let span = highest - lowest;
    let zero = if span == I256::ZERO { HEIGHT } else { part(highest, span) };
    let bar = |(at, value): (usize, &I256)| {
        let height = part(value.abs(), span).max(if *value == I256::ZERO { 0 } else { BAR_MIN });
        let y = if *value < I256::ZERO { zero.min(HEIGHT - height) } else { (zero - height).max(0) };
        Bar { x: at * SLOT + (SLOT - BAR) / 2, y, width: BAR, height }
    };
    Plot { width: numbers.len() * SLOT, zero, bars: values.iter().enumerate().map(bar).collect() }
}

/// `value` of `span` in units of the plot. Sums have room for this: an amount is below 10^32, and 10^40 of them below 2^240.
fn part(value: I256, span: I256) -> i64 {
    if span == I256::ZERO {
        return 0;
    }
    let height = value.checked_mul(I256::from(HEIGHT)).map_or_else(|| value / (span / I256::from(HEIGHT)).max(I256::ONE), |all| all / span);
    i64::try_from(height).unwrap_or(HEIGHT).clamp(0, HEIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn heights(numbers: &[i64]) -> Vec<(i64, i64)> {
        let sums: Vec<Sum> = numbers.iter().map(|number| Sum::from(crate::event::Amount::from_int(*number))).collect();
        plot(&sums).bars.iter().map(|bar| (bar.y, bar.height)).collect()
    }

    #[test]
    fn bars_are_as_tall_as_their_numbers() {
        assert_eq!(heights(&[10, 5, 0, 1]), [(0, 1_000), (500, 500), (1_000, 0), (900, 100)]);
        assert_eq!(heights(&[0, 0]), [(1_000, 0), (1_000, 0)]);
        assert_eq!(heights(&[]), []);
        assert_eq!(heights(&[100_000, 1]), [(0, 1_000), (992, 8)], "what is not nothing can be seen");
        assert_eq!(heights(&[30, -10]), [(0, 750), (750, 250)], "below zero");
        assert_eq!(heights(&[-4, -2]), [(0, 1_000), (0, 500)]);
    }

    proptest! {
        #[test]
        fn bars_are_within_the_plot(scaled in proptest::collection::vec(any::<i128>(), 0..40)) {
            // Far beyond what sums come to, too.
            let sums: Vec<Sum> = scaled.iter().map(|value| Sum::from_scaled(I256::from(*value) << 120_u32)).collect();
            let plot = plot(&sums);
            prop_assert_eq!(plot.width, sums.len() * SLOT);
            for bar in plot.bars {
                prop_assert!(bar.y >= 0 && bar.height >= 0 && bar.y + bar.height <= HEIGHT, "{:?}", bar);
            }
        }
    }
}
