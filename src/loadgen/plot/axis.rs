//! Axes: where a value lies, where the ticks stand, and what they say.

/// How values are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::loadgen) enum Scale {
    /// From zero on.
    Linear,
    /// Each factor takes as much room, wherever it is. Only for values above zero.
    Log,
}

/// One axis, as long as its values need it.
#[derive(Debug)]
pub(in crate::loadgen) struct Axis {
    pub(super) name: &'static str,
    scale: Scale,
    unit: &'static str,
    first: f64,
    last: f64,
    pub(super) ticks: Vec<Tick>,
}

/// A place that the reader can tell the value of.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub(super) value: f64,
    /// `None`: only a thin line, where there is no room for all texts.
    pub(super) label: Option<String>,
}

/// Labels of a logarithmic axis at most; with more, only powers of ten have one.
const LABELS_MAX: usize = 10;
/// Steps of a linear axis, about.
const STEPS: f64 = 5.0;
/// Prefixes of units, the largest first.
const PREFIXES: [(f64, &str); 7] = [(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")];

impl Axis {
    /// An axis that holds all `values`; those that are not finite, or on a logarithmic axis not above zero, are not asked.
    /// `unit` is the SI unit of the values, to be used with prefixes; empty for plain numbers.
    pub(in crate::loadgen) fn new(name: &'static str, scale: Scale, unit: &'static str, values: impl IntoIterator<Item = f64>) -> Self {
        let values = values.into_iter().filter(|value| value.is_finite() && (scale == Scale::Linear || *value > 0.0));
        let (least, most) = values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        let most = if most > 0.0 { most } else { 1.0 };
        let values = match scale {
            Scale::Linear => steps_from_zero(most),
            Scale::Log => round_numbers(least.min(most), most),
        };
        let (first, last) = (values[0], values[values.len() - 1]);
        let has_room = values.len() <= LABELS_MAX;
        let label = |value: f64| match scale {
            Scale::Linear => Some(si(value, last, unit)),
            Scale::Log => (has_room || is_power_of_ten(value)).then(|| si(value, value, unit)),
        };
        let ticks = values.into_iter().map(|value| Tick { value, label: label(value) }).collect();
        Self { name, scale, unit, first, last, ticks }
    }

    /// Where a value lies: 0 at the begin of the axis, 1 at its end.
    pub(super) fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => (value - self.first) / (self.last - self.first),
            Scale::Log => (value / self.first).ln() / (self.last / self.first).ln(),
        }
    }

    /// A value with its unit.
    pub(super) fn text(&self, value: f64) -> String {
        si(value, value, self.unit)
    }
}

/// 0 and steps of 1, 2 or 5 times a power of ten, until `most` is reached.
fn steps_from_zero(most: f64) -> Vec<f64> {
    let step = round_at_or_above(most / (STEPS + 1.0));
    let steps = (most / step - 1e-9).ceil() as u32;
    (0..=steps).map(|number| f64::from(number) * step).collect()
}

/// The numbers 1, 2 and 5 times powers of ten from the last one at or below `least` to the first one at or above `most`; two at least.
fn round_numbers(least: f64, most: f64) -> Vec<f64> {
    let mut numbers = vec![round_at_or_below(least)];
    while numbers.len() < 2 || numbers[numbers.len() - 1] < most * (1.0 - 1e-9) {
        numbers.push(round_at_or_above(numbers[numbers.len() - 1] * 1.5));
    }
    numbers
}

/// The first of the numbers 1, 2, 5, 10, 20, 50 … (and of their fractions) that is not below `value` > 0.
pub(in crate::loadgen) fn round_at_or_above(value: f64) -> f64 {
    let ten = 10_f64.powi(value.log10().floor() as i32);
    // A hair of what rounding makes of 5e-7 / 1e-7 is no reason for the next one.
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * ten).into_iter().find(|number| *number >= value * (1.0 - 1e-9)).unwrap_or(10.0 * ten)
}

fn round_at_or_below(value: f64) -> f64 {
    let ten = 10_f64.powi(value.log10().floor() as i32);
    [10.0, 5.0, 2.0, 1.0].map(|factor| factor * ten).into_iter().find(|number| *number <= value * (1.0 + 1e-9)).unwrap_or(ten)
}

fn is_power_of_ten(value: f64) -> bool {
    let power = value.log10();
    (power - power.round()).abs() < 1e-9
}

/// A value with the prefix that suits `beside`, to three decimals at most.
fn si(value: f64, beside: f64, unit: &str) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let (factor, prefix) = PREFIXES.into_iter().find(|(factor, _)| beside >= factor * 0.9995).unwrap_or(PREFIXES[PREFIXES.len() - 1]);
    let digits = format!("{:.3}", value / factor);
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    let unit = format!("{prefix}{unit}");
    // A number and its unit stay on one line.
    if unit.is_empty() { digits.to_owned() } else { format!("{digits}\u{a0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<String> {
        axis.ticks.iter().filter_map(|tick| tick.label.as_deref()).map(|label| label.replace('\u{a0}', " ")).collect()
    }

    #[test]
    fn a_logarithmic_axis_has_round_ticks_around_its_values() {
        let rates = Axis::new("", Scale::Log, "", [2_000.0, 13_000.0, 200_000.0]);
        assert_eq!(labels(&rates), ["2 k", "5 k", "10 k", "20 k", "50 k", "100 k", "200 k"]);
        let latencies = Axis::new("", Scale::Log, "s", [0.000_6, 0.004_1]);
        assert_eq!(labels(&latencies), ["500 µs", "1 ms", "2 ms", "5 ms"]);
    }

    #[test]
    fn with_many_ticks_only_powers_of_ten_are_written() {
        let axis = Axis::new("", Scale::Log, "s", [0.000_3, 1.7]);
        assert_eq!(labels(&axis), ["1 ms", "10 ms", "100 ms", "1 s"]);
        assert_eq!((axis.ticks.len(), axis.ticks[0].label.as_ref()), (13, None), "from 200 µs to 2 s");
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_keeps_one_prefix() {
        assert_eq!(labels(&Axis::new("", Scale::Linear, "s", [1.4e-6, 2.2e-6])), ["0", "0.5 µs", "1 µs", "1.5 µs", "2 µs", "2.5 µs"]);
        assert_eq!(labels(&Axis::new("", Scale::Linear, "B", [1e9])), ["0", "0.2 GB", "0.4 GB", "0.6 GB", "0.8 GB", "1 GB"]);
    }

    #[test]
    fn every_value_lies_on_the_axis_in_its_order() {
        for scale in [Scale::Linear, Scale::Log] {
            for values in [vec![7.0], vec![1.0], vec![1_000_000.0], vec![0.02, 0.3, 999.0], vec![5e-7, 1e-6], vec![1.0, 1e9]] {
                let axis = Axis::new("", scale, "", values.iter().copied());
                let places: Vec<_> = values.iter().map(|value| axis.place(*value)).collect();
                assert!(places.iter().all(|place| (-1e-6..=1.0 + 1e-6).contains(place)), "{values:?} at {places:?} of {axis:?}");
                assert!(places.is_sorted_by(|a, b| a < b), "{values:?} at {places:?}");
                assert!(axis.ticks.len() >= 2 && axis.ticks.is_sorted_by(|a, b| a.value < b.value), "{axis:?}");
            }
        }
    }

    #[test]
    fn a_tenfold_value_lies_as_far_on_wherever_it_is() {
        let axis = Axis::new("", Scale::Log, "", [1.0, 10_000.0]);
        for (value, place) in [(1.0, 0.0), (10.0, 0.25), (1_000.0, 0.75), (10_000.0, 1.0)] {
            assert!((axis.place(value) - place).abs() < 1e-12);
        }
    }

    #[test]
    fn an_axis_without_values_is_one_all_the_same() {
        for scale in [Scale::Linear, Scale::Log] {
            let axis = Axis::new("", scale, "", [f64::NAN]);
            assert!(axis.place(1.0).is_finite() && axis.ticks.len() >= 2, "{axis:?}");
        }
        assert_eq!(Axis::new("", Scale::Log, "", [0.0, 3.0, 4.0]).ticks[0].value, 2.0, "zero is not on a logarithmic axis");
    }

    #[test]
    fn round_numbers_are_their_own_next_ones() {
        for number in [1e-7, 5e-7, 2e-3, 0.1, 1.0, 2.0, 5.0, 1e3, 2e6, 5e8] {
            assert!((round_at_or_above(number) / number - 1.0).abs() < 1e-9, "{number}");
            assert!((round_at_or_below(number) / number - 1.0).abs() < 1e-9, "{number}");
        }
        assert_eq!((round_at_or_above(2.1), round_at_or_above(50.1), round_at_or_below(4.9)), (5.0, 100.0, 2.0));
    }
}
