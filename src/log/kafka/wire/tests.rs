use super::*;
use crate::event::identity::partition;
use crate::event::{Amount, Draft, HashKey, IdentityMode, Mapping, Measurement, MeterEvent, OwnDimension, TimeWindow};
use crate::log::record::{Account, Decisions};
use proptest::prelude::*;

const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);
const KEY: [u8; 16] = [1; 16];

/// An event in parts, to be made with any strings.
#[derive(Debug, Clone)]
struct Sent {
    account: u32,
    all_attributes: bool,
    namespace: String,
    unique_id: String,
    generated: bool,
    customer: String,
    time: Option<i64>,
    values: Vec<(String, i128)>,
    dimensions: Vec<(String, String)>,
    filtered: u64,
    /// Each with the place of its measurement.
    own: Vec<(usize, String, String)>,
}

/// The record of an event, if it is one.
fn record_of(sent: &Sent) -> Option<Vec<u8>> {
    let mut measurements: Vec<_> =
        sent.values.iter().map(|(meter, scaled)| Measurement { meter, value: Amount::from_scaled(*scaled).expect("in range") }).collect();
    let mut dimensions: Vec<_> = sent.dimensions.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let draft = Draft {
        namespace: &sent.namespace,
        unique_id: &sent.unique_id,
        unique_id_generated: sent.generated,
        customer_id: &sent.customer,
        time: sent.time.map(crate::clock::UnixMicros),
        measurements: &mut measurements,
        dimensions: &mut dimensions,
    };
    let event = MeterEvent::check(draft, RECEIVED, TimeWindow::default()).ok()?;
    let mut own: Vec<_> =
        sent.own.iter().map(|(at, key, value)| OwnDimension { measurement: at % sent.values.len(), key, value }).collect();
    own.sort_unstable();
    own.dedup_by_key(|own| (own.measurement, own.key));
    let mapping = Mapping {
        said: event.whole(),
        measurements: event.measurements(),
        dimensions: event.dimensions(),
        own: &own,
        unreadable: sent.filtered & 2,
    };
    let event = if own.is_empty() { event } else { event.mapped(mapping).ok()? };
    let identity = if sent.all_attributes { IdentityMode::AllAttributes } else { IdentityMode::UniqueId };
    let mut bytes = Vec::new();
    let account = Account { number: sent.account, identity };
    record::write(&mut bytes, &HashKey::from_bytes(KEY), account, &event, Decisions { filtered: sent.filtered });
    Some(bytes)
}

fn undecodable(record: &[u8]) -> Option<Undecodable<'_>> {
    record::records(record, 1, RECEIVED).next()?.err()
}

fn plain() -> Sent {
    Sent {
        account: 9,
        all_attributes: false,
        namespace: String::new(),
        unique_id: "u-1".into(),
        generated: false,
        customer: "acme-7".into(),
        time: Some(1_767_225_600_500_000),
        values: vec![("tokens".into(), 42_500_000_000_000)],
        dimensions: vec![("model".into(), "m-2".into())],
        filtered: 0,
        own: Vec::new(),
    }
}

fn message(record: &[u8]) -> Outgoing {
    let mut message = Outgoing::default();
    encode(Form::Events, record, RECEIVED, 16, &mut message).expect("a record");
    message
}

fn read(form: Form, message: &Outgoing) -> Result<Vec<u8>, Newer> {
    let mut to = vec![7];
    let key = (!message.key.is_empty()).then_some(message.key.as_slice());
    let incoming = Incoming { key, value: Some(&message.value), header: Some(&message.header), received: RECEIVED };
    decode(form, &incoming, &mut to)?;
    Ok(to.split_off(1))
}

/// Strings with what JSON has to escape in them, and what UTF-8 makes long.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z0-9:/-]{1,20}", 1 => "[\u{1}-\u{ff}\"\\\\/]{1,60}", 1 => "\\PC{1,60}"]
}

fn sent() -> impl Strategy<Value = Sent> {
    let amount = prop_oneof![
        Just(0),
        (-1_000_i128..1_000).prop_map(|whole| whole * 1_000_000_000_000),
        -10_000_000_000_000_000_000_i128..10_000_000_000_000_000_000,
        (-1_000_i128..1_000).prop_map(|tenths| tenths * 100_000_000_000),
        -99_999_999_999_999_999_999_999_999_999_999_i128..99_999_999_999_999_999_999_999_999_999_999,
    ];
    let time = prop_oneof![
        1 => Just(None),
        2 => (0_i64..253_402_300_799_999).prop_map(|millis| Some(millis * 1_000)),
        2 => (0_i64..253_402_300_799_999_000).prop_map(Some),
    ];
    let who = (any::<u32>(), any::<bool>(), prop_oneof![Just(String::new()), name()], name(), any::<bool>(), name());
    let what = (time, proptest::collection::vec((name(), amount), 1..4), proptest::collection::vec((name(), name()), 0..5), 0..16_u64);
    let own = proptest::collection::vec((0..4_usize, name(), name()), 0..4);
    (who, what, own).prop_map(|(who, (time, values, dimensions, filtered), own)| {
        let (account, all_attributes, namespace, unique_id, generated, customer) = who;
        Sent { account, all_attributes, namespace, unique_id, generated, customer, time, values, dimensions, filtered, own }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_message_gives_back_exactly_the_record_that_it_was_made_of(sent in sent()) {
        if let Some(record) = record_of(&sent) {
            let message = message(&record);
            prop_assert_eq!(read(Form::Events, &message).expect("known"), record);
            let json: serde_json::Value = serde_json::from_slice(&message.value).expect("JSON");
            prop_assert_eq!(json["uniqueId"].as_str(), Some(sent.unique_id.as_str()));
            prop_assert_eq!(message.partition, partition(sent.account, &sent.namespace, &sent.unique_id, 16));
        }
    }

    #[test]
    fn a_message_with_any_byte_changed_is_a_record_or_undecodable(at in any::<prop::sample::Index>(), part in 0..3_usize, byte in any::<u8>()) {
        let mut message = message(&record_of(&plain()).expect("an event"));
        let part = match part { 0 => &mut message.key, 1 => &mut message.value, _ => &mut message.header };
        let at = at.index(part.len());
        part[at] = byte;
        match read(Form::Events, &message) {
            Ok(record) => match (only(&record, RECEIVED), undecodable(&record).map(|found| found.bytes)) {
                (Some(_), None) => {}
                (None, Some(value)) => prop_assert_eq!(value, &message.value),
                other => prop_assert!(false, "{:?}", other),
            },
            Err(newer) => prop_assert!(newer.version > VERSION),
        }
    }

    #[test]
    fn any_bytes_are_a_record_or_undecodable(
        key in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        value in proptest::option::of("\\{\"uniqueId\":\"u\",\"[a-zA-Z\":,{}0-9]{0,40}"),
        header in proptest::option::of("1 [0-9a-f]{32} [0-9a-f]{16} [0-9]"),
    ) {
        for form in [Form::Events, Form::DeadLetters] {
            let incoming = Incoming {
                key: key.as_deref(),
                value: value.as_ref().map(String::as_bytes),
                header: header.as_ref().map(String::as_bytes),
                received: RECEIVED,
            };
            let mut to = Vec::new();
            decode(form, &incoming, &mut to).expect("known");
            prop_assert_eq!(record::records(&to, 1, RECEIVED).count(), 1);
            prop_assert_eq!(to.len(), 4 + u32::from_le_bytes(*to.first_chunk().expect("a length")) as usize);
        }
    }

    #[test]
    fn a_letter_comes_back(raw in proptest::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,100}", as_text in any::<bool>()) {
        let raw = if as_text { text.into_bytes() } else { raw };
        let head = br#"{"letter":{"account":1,"index":0,"refusal":{"code":"x","field":"","reason":"}"},"is_cut":false}}"#;
        let mut record = ((1 + 4 + head.len() + raw.len()) as u32).to_le_bytes().to_vec();
        record.push(1);
        record.extend_from_slice(&(head.len() as u32).to_le_bytes());
        record.extend_from_slice(head);
        record.extend_from_slice(&raw);
        let mut message = Outgoing::default();
        encode(Form::DeadLetters, &record, RECEIVED, 16, &mut message).expect("a letter");
        prop_assert_eq!(message.partition, 0);
        let json: serde_json::Value = serde_json::from_slice(&message.value).expect("JSON");
        prop_assert_eq!(&json["letter"]["account"], 1);
        if let (Ok(text), false) = (std::str::from_utf8(&raw), raw.is_empty()) {
            prop_assert_eq!(json["event"].as_str(), Some(text));
        }
        prop_assert_eq!(read(Form::DeadLetters, &message).expect("known"), record);
    }
}

/// The form is for ever: other programs read it.
#[test]
fn messages_look_like_this() {
    let show = |sent: &Sent| {
        let message = message(&record_of(sent).expect("an event"));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        format!("{}\n{}\n{}", text(&message.key), text(&message.header), text(&message.value))
    };
    insta::assert_snapshot!(show(&plain()), @r#"
    9/u-1
    1 c254e08148878c4a32b820f449062cf5 45cbec52681fd78f 0
    {"uniqueId":"u-1","customerId":"acme-7","meterTimeInMillis":1767225600500,"meterApiName":"tokens","meterValue":42.5,"dimensions":{"model":"m-2"}}
    "#);
    let rich = Sent {
        namespace: "https://svc/a".into(),
        unique_id: "ü/\"1\"".into(),
        generated: true,
        filtered: u64::MAX,
        time: None,
        values: vec![("out".into(), -500_000_000_000), ("in".into(), 100_000_000_000_000_000_000_000_000_000_000 - 1)],
        dimensions: vec![],
        ..plain()
    };
    insta::assert_snapshot!(show(&rich), @r#"
    9/https://svc/a/ü/"1"
    1 9700e7ae74a2a70f324db413fbe0d58c efd444f224d54c77 7
    {"uniqueId":"ü/\"1\"","namespace":"https://svc/a","customerId":"acme-7","meterTimeInMillis":1767225600000,"values":{"in":99999999999999999999.999999999999,"out":-0.5},"dimensions":{}}
    "#);
    let own = |measurement, key: &str| (measurement, key.to_owned(), "x".to_owned());
    let mapped = Sent {
        values: vec![("a".into(), 0), ("b".into(), 0), ("c".into(), 1_000_000_000_000)],
        own: vec![own(1, "ce.error"), own(2, "model"), own(2, "a")],
        filtered: 2,
        ..plain()
    };
    insta::assert_snapshot!(show(&mapped), @r#"
    9/u-1
    3 c254e08148878c4a32b820f449062cf5 0f3467a18357213e 0 0000000000000002
    {"uniqueId":"u-1","customerId":"acme-7","meterTimeInMillis":1767225600500,"values":{"a":0,"b":0,"c":1},"dimensions":{"model":"m-2"},"meterDimensions":{"b":{"ce.error":"x"},"c":{"a":"x","model":"x"}}}
    "#);
    let fine = Sent { time: Some(1_767_225_600_500_250), ..plain() };
    assert!(show(&fine).contains(r#""meterTimeInMillis":1767225600500,"meterTimeInMicros":1767225600500250,"meterApiName""#));
}

#[test]
fn a_message_of_a_newer_version_is_told_from_a_broken_one() {
    let mut message = message(&record_of(&plain()).expect("an event"));
    message.header[0] = b'4';
    assert_eq!(read(Form::Events, &message), Err(Newer { version: 4 }));
    message.header = b"x".to_vec();
    let record = read(Form::Events, &message).expect("known");
    let found = undecodable(&record).expect("it is no record");
    assert_eq!((found.why, found.bytes), (Why::Header, message.value.as_slice()));
}

#[test]
fn a_broken_message_says_what_is_wrong_with_it() {
    let Outgoing { key, value, header, .. } = message(&record_of(&plain()).expect("an event"));
    let (key, value, header) = (key.as_slice(), value.as_slice(), header.as_slice());
    for (key, value, header, why) in [
        (Some(key), Some(value), None, Why::NoHeader),
        (Some(key), Some(value), Some(b"1 x".as_slice()), Why::Header),
        (None, Some(value), Some(header), Why::NoKey),
        (Some(b"u-1".as_slice()), Some(value), Some(header), Why::Key),
        (Some(key), None, Some(header), Why::NoValue),
        (Some(key), Some(b"".as_slice()), None, Why::NoValue),
        (Some(key), Some(b"{}".as_slice()), Some(header), Why::Value),
        (Some(b"9/u-2".as_slice()), Some(value), Some(header), Why::Value),
    ] {
        let mut record = Vec::new();
        decode(Form::Events, &Incoming { key, value, header, received: RECEIVED }, &mut record).expect("known");
        let found = undecodable(&record).expect("it is no record");
        assert_eq!((found.why, found.bytes), (why, value.unwrap_or_default()));
    }
}
