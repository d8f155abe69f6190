//! The laws of sketches, and how near estimates are.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What each name had, as a sketch sees it: more names than stay, few values.
fn values() -> impl Strategy<Value = Vec<(u8, u32)>> {
    vec((0_u8..24, 0_u32..3_000), 0..200)
}

fn name(number: u8) -> String {
    // Not in the order of the numbers.
    format!("{}{}", ["d", "a", "c"][usize::from(number % 3)], number)
}

fn of(values: &[(u8, u32)]) -> Sketches {
    let mut sketches = Sketches::default();
    values.iter().for_each(|(number, value)| sketches.add(&name(*number), ValueHash::of(&value.to_string())));
    sketches
}

fn bytes(sketches: &Sketches) -> Vec<u8> {
    let mut bytes = Vec::new();
    sketches.write(&mut bytes);
    bytes
}

fn merged(one: &Sketches, other: &Sketches) -> Sketches {
    let mut merged = one.clone();
    merged.merge(other);
    merged
}

fn sketch(values: impl IntoIterator<Item = u64>) -> Sketch {
    let mut sketch = Sketch::default();
    values.into_iter().for_each(|value| sketch.add(ValueHash::of(&value.to_string())));
    sketch
}

proptest! {
    #[test]
    fn any_order_and_any_split_gives_the_same_bytes(values in values(), shuffled in values().prop_shuffle(), cuts in vec(any::<prop::sample::Index>(), 0..5)) {
        let all: Vec<_> = values.iter().chain(&shuffled).copied().collect();
        let other: Vec<_> = shuffled.iter().chain(values.iter().rev()).chain(&values).copied().collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(other.len() + 1)).collect();
        cuts.sort_unstable();
        let mut parts = Vec::new();
        let mut from = 0;
        for to in cuts.into_iter().chain([other.len()]) {
            parts.push(of(&other[from..to]));
            from = to;
        }
        let together = parts.iter().rev().fold(Sketches::default(), |sum, part| merged(&sum, part));
        prop_assert_eq!(bytes(&together), bytes(&of(&all)));
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent(a in values(), b in values(), c in values()) {
        let [a, b, c] = [of(&a), of(&b), of(&c)];
        prop_assert_eq!(merged(&a, &b), merged(&b, &a));
        prop_assert_eq!(merged(&merged(&a, &b), &c), merged(&a, &merged(&b, &c)));
        prop_assert_eq!(merged(&merged(&a, &b), &b), merged(&a, &b));
        prop_assert_eq!(merged(&a, &Sketches::default()), a);
    }

    #[test]
    fn the_first_names_have_all_their_values_and_of_others_nothing_is_claimed(values in values()) {
        let mut model: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        values.iter().for_each(|(number, value)| _ = model.entry(name(*number)).or_default().insert(*value));
        let sketches = of(&values);
        for number in 0..24 {
            let name = name(number);
            let place = model.keys().position(|own| *own == name);
            match sketches.get(&name) {
                Known::All(own) => {
                    prop_assert!(place.is_some_and(|place| place < NAMES_MAX));
                    prop_assert_eq!(own, &sketch(model[&name].iter().map(|value| u64::from(*value))));
                }
                Known::None => prop_assert!(place.is_none()),
                Known::Nothing => prop_assert!(place.is_none_or(|place| place >= NAMES_MAX) && model.len() > NAMES_MAX),
            }
        }
    }

    #[test]
    fn sketches_are_read_back_as_they_were_written_and_cut_ones_are_none(values in values(), many in 0_u64..3_000, cut in any::<prop::sample::Index>()) {
        let mut sketches = of(&values);
        (0..many).for_each(|value| sketches.add("a", ValueHash::of(&value.to_string())));
        let written = bytes(&sketches);
        prop_assert_eq!(Sketches::read(&written), Some(sketches));
        prop_assert_eq!(Sketches::read(&written[..cut.index(written.len())]), None);
        prop_assert_eq!(Sketches::read(&[written.as_slice(), &[0]].concat()), None);
    }

    #[test]
    fn what_is_read_has_one_form(bytes in vec(any::<u8>(), 0..40), has_more in 0_u8..3, names in 0_u8..4) {
        let bytes = [&[has_more, names], bytes.as_slice()].concat();
        if let Some(sketches) = Sketches::read(&bytes) {
            prop_assert_eq!(super::tests::bytes(&sketches), bytes);
        }
    }

    #[test]
    fn sets_that_overlap_merge_to_the_sketch_of_their_union(a in 0_u64..4_000, b in 0_u64..4_000, shift in 0_u64..4_000) {
        let mut both = sketch(0..a);
        both.merge(&sketch(shift..shift + b));
        prop_assert!(both == sketch((0..a).chain(shift..shift + b)), "sparse or dense, either way");
    }
}

#[test]
fn an_estimate_is_within_four_standard_errors() {
    assert_eq!(Sketch::default().estimate(), 0);
    for seed in 0..3_u64 {
        let mut sketch = Sketch::default();
        let mut added = 0;
        for count in [1_u64, 10, 100, 1_000, 3_000, 20_000, 200_000, 1_000_000] {
            (added..count).for_each(|value| sketch.add(ValueHash::of(&format!("{seed}/{value}"))));
            added = count;
            let (estimate, truth) = (sketch.estimate() as f64, count as f64);
            assert!((estimate - truth).abs() <= 4.0 * 0.01625 * truth, "seed {seed}: {estimate} of {count}");
        }
    }
}

#[test]
fn the_standard_error_is_what_it_is_said_to_be() {
    let relative = |seed: u64| {
        let values = 8_000;
        sketch((0..values).map(|value| seed << 32 | value)).estimate() as f64 / values as f64 - 1.0
    };
    let squares: f64 = (0..100).map(|seed| relative(seed).powi(2)).sum();
    let error = (squares / 100.0).sqrt();
    assert!((0.012..0.0205).contains(&error), "{error}");
    assert_eq!(standard_error().to_string(), "0.0163");
}

#[test]
fn hashes_and_bytes_never_change() {
    // Sketches were stored with these, and are compared with new ones.
    // Computed by another implementation of SipHash.
    let hashes = ["", "eu", "us", "\u{e9}"].map(|value| ValueHash::of(value).0);
    assert_eq!(hashes, [0x9295_bbfd_464b_112e, 0x2e21_b4a4_3fc5_85b5, 0x98d0_e5a1_e1c9_36ab, 0x7584_af39_e978_b5ac]);
    let mut sketches = Sketches::default();
    sketches.add("region", ValueHash::of("eu"));
    sketches.add("region", ValueHash::of("us"));
    let region = [&[6], b"region".as_slice(), &[2, 0], &[0xe2, 0x02, 4], &[0x8d, 0x09, 5]].concat();
    assert_eq!(bytes(&sketches), [&[0, 1], region.as_slice()].concat());
    (0..4_096).for_each(|value| sketches.add("region", ValueHash::of(&value.to_string())));
    let digest = crc32c::crc32c(&bytes(&sketches));
    assert_eq!((bytes(&sketches).len(), digest), (9 + 2 + PACKED_BYTES, 2_661_855_628), "all registers");
}

#[test]
fn ranks_go_from_one_to_the_largest() {
    assert_eq!([u64::MAX, 0, 1].map(|hash| ValueHash(hash).rank()), [1, RANK_MAX, RANK_MAX - 1]);
    assert_eq!(ValueHash(u64::MAX).register(), 4_095);
}

#[test]
fn a_form_that_nothing_writes_is_not_read() {
    let encoded = |sketch: &[u8]| [&[0, 1, 1, b'a'], sketch].concat();
    let few = encoded(&[1, 0, 5, 0, 3]);
    assert!(Sketches::read(&few).is_some());
    for (what, sketch) in [
        ("a rank of 0", vec![1, 0, 5, 0, 0]),
        ("a rank that is none", vec![1, 0, 5, 0, 54]),
        ("a register that is none", vec![1, 0, 0, 16, 3]),
        ("not ascending", vec![2, 0, 5, 0, 3, 5, 0, 3]),
        ("a list that is too long", [vec![0, 4], vec![0; 3 * 1_024]].concat()),
        ("all registers for few", [vec![0xff, 0xff], vec![0; PACKED_BYTES]].concat()),
        ("a rank of 63", [vec![0xff, 0xff], vec![0xff; PACKED_BYTES]].concat()),
    ] {
        assert_eq!(Sketches::read(&encoded(&sketch)), None, "{what}");
    }
    assert_eq!(Sketches::read(&[1, 0]), None, "names were left out of none");
    assert_eq!(Sketches::read(&[0, 2, 1, b'b', 0, 0, 1, b'a', 0, 0]), None, "names in no order");
}
