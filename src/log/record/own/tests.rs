use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::tests::{RECEIVED, only};
use super::super::{Account, Decisions, write as write_record};
use super::*;
use crate::event::{Draft, HashKey, IdentityMode, Mapping, Measurement, OwnDimension, TimeWindow};

type Set = BTreeMap<String, String>;

/// A record of an event with these dimensions, whose measurements have these of their own.
fn encode(shared: &Set, own: &[Set], unreadable: u64) -> Vec<u8> {
    let meters: Vec<String> = (0..own.len()).map(|at| format!("m-{at:02}")).collect();
    let mut measurements: Vec<_> = meters.iter().map(|meter| Measurement { meter, value: Amount::ONE }).collect();
    let mut dimensions: Vec<_> = shared.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let draft = Draft {
        namespace: "",
        unique_id: "u-1",
        unique_id_generated: false,
        customer_id: "acme",
        time: None,
        measurements: &mut measurements,
        dimensions: &mut dimensions,
    };
    let event = MeterEvent::check(draft, RECEIVED, TimeWindow::default()).expect("a good event");
    let each =
        own.iter().enumerate().flat_map(|(measurement, own)| own.iter().map(move |(key, value)| OwnDimension { measurement, key, value }));
    let each: Vec<_> = each.collect();
    let mapping =
        Mapping { said: event.whole(), measurements: event.measurements(), dimensions: event.dimensions(), own: &each, unreadable };
    let event = event.mapped(mapping).expect("no more than it may have");
    let mut bytes = Vec::new();
    let account = Account { number: 9, identity: IdentityMode::UniqueId };
    write_record(&mut bytes, &HashKey::from_bytes([1; 16]), account, &event, Decisions::default());
    bytes
}

fn set() -> impl Strategy<Value = Set> {
    proptest::collection::btree_map("[a-d]{0,2}", "[x-z]{0,2}", 0..4)
}

proptest! {
    #[test]
    fn a_measurement_has_the_event_s_dimensions_and_its_own_which_come_first(shared in set(), own in proptest::collection::vec(set(), 1..6)) {
        let bytes = encode(&shared, &own, 0b10);
        let record = only(&bytes).expect("decodes");
        let measured: Vec<_> = record.measured().collect();
        prop_assert_eq!(measured.len(), own.len());
        for (at, (measured, own)) in measured.iter().zip(&own).enumerate() {
            let mut expected = shared.clone();
            expected.extend(own.clone());
            let found: Vec<_> = dimensions(&measured.dimensions).collect();
            prop_assert!(found.iter().copied().eq(expected.iter().map(|(key, value)| (key.as_str(), value.as_str()))));
            prop_assert!(record.own_dimensions(at).eq(own.iter().map(|(key, value)| (key.as_str(), value.as_str()))));
            prop_assert_eq!(measured.is_filtered, at == 1);
            // As if the event had had all of them: equal dimensions have equal bytes.
            let whole = encode(&expected, &[Set::new()], 0);
            prop_assert_eq!(only(&whole).expect("decodes").dimension_bytes(), &*measured.dimensions);
        }
        prop_assert_eq!(record.has_own_dimensions(), own.iter().any(|own| !own.is_empty()));
    }

    #[test]
    fn a_cut_record_is_undecodable(own in proptest::collection::vec(set(), 1..4), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&Set::new(), &own, 0);
        prop_assert!(only(&bytes[..cut.index(bytes.len())]).is_err());
    }
}

#[test]
fn what_is_shown_names_the_meter() {
    let set = |key: &str| Set::from([(key.to_owned(), "x".to_owned())]);
    let bytes = encode(&set("s"), &[set("a"), Set::new(), set("b")], 0b100);
    let shown = serde_json::to_value(only(&bytes).expect("decodes")).expect("JSON");
    assert_eq!(shown["dimensions"], serde_json::json!({"s": "x"}));
    assert_eq!(shown["meterDimensions"], serde_json::json!({"m-00": {"a": "x"}, "m-02": {"b": "x"}}));
}

#[test]
fn what_a_sender_said_decides_which_copies_are_alike() {
    let own = [Set::from([("a".to_owned(), "x".to_owned())])];
    let (plain, mapped) = (encode(&Set::new(), &[Set::new()], 0), encode(&Set::new(), &own, 1));
    let (plain, mapped) = (only(&plain).expect("decodes"), only(&mapped).expect("decodes"));
    assert_eq!((plain.identity, plain.content), (mapped.identity, mapped.content));
    assert!(!plain.filtered && mapped.filtered);
}
