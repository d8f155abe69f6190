use std::collections::HashSet;

use serde_json::json;

use super::*;
use crate::clock::{UnixMicros, UnixMillis};
use crate::dialect::cloudevents::events::read_cloud_event;
use crate::dialect::draft::Scratch;
use crate::event::parse::Parser;
use crate::event::{HashKey, IdentityMode, MeterEvent, TimeWindow};
use crate::log::record::{self, Account, Decisions, Record};
use crate::meters::{Extensions, Said};
use crate::usage::MeterType;

const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);

pub(crate) fn meter(name: &str, definition: Json) -> Meter {
    let said = Said { display_name: name.into(), label: name.into(), meter_type: MeterType::SumOfAllUsage, dimensions: Vec::new() };
    let openmeter = definition.as_object().cloned().unwrap_or_default();
    Meter { name: name.into(), said, ext: Extensions { openmeter, ..Extensions::default() }, created_at: UnixMillis(1) }
}

fn plans(meters: &[Meter]) -> Plans {
    let types: HashSet<&str> = meters.iter().map(event_type).collect();
    let of = |kind: &str| Some((kind.into(), Arc::new(Plan::of(kind, meters.iter().filter(|meter| event_type(meter) == kind))?)));
    types.into_iter().filter_map(of).collect()
}

fn written(event: &MeterEvent<'_, '_>, identity: IdentityMode) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::write(&mut bytes, &HashKey::from_bytes([1; 16]), Account { number: 1, identity }, event, Decisions::default());
    bytes
}

/// What is made of an event of type `llm` with this data; once with all attributes as identity.
fn read<T>(meters: &[Meter], data: &str, with: impl Fn(&Record<'_>) -> T) -> Result<T, String> {
    read_as(IdentityMode::UniqueId, meters, data, with)
}

fn read_as<T>(identity: IdentityMode, meters: &[Meter], data: &str, with: impl Fn(&Record<'_>) -> T) -> Result<T, String> {
    let plans = plans(meters);
    let body =
        format!(r#"{{"id":"e-1","source":"svc","type":"llm","subject":"acme","time":"2026-01-01T00:00:00Z","tier":"gold","data":{data}}}"#);
    let mut parser = Parser::default();
    let parsed = parser.parse(body.as_bytes(), 1).map_err(|error| error.to_string())?;
    let mut scratch = Scratch::default();
    let members = parsed.elements().next().expect("one").members.map_err(|rejection| rejection.reason)?;
    let event = read_cloud_event(members, Some(&plans), &mut scratch, RECEIVED, TimeWindow::default());
    let event = event.map_err(|rejection| format!("{} {}", rejection.field, rejection.reason))?;
    let bytes = written(&event, identity);
    let record = record::records(&bytes, 1, RECEIVED).next().expect("one").expect("decodes");
    assert_eq!(record.time, UnixMicros(1_767_225_600_000_000));
    Ok(with(&record))
}

/// Each meter with its value and its dimensions; `-` in front of it: it counts nowhere.
fn shown(record: &Record<'_>) -> Vec<String> {
    let one = |measured: record::Measured<'_>| {
        let dimensions: Vec<_> = record::dimensions(&measured.dimensions).map(|(key, value)| format!("{key}={value}")).collect();
        format!("{}{} {} {}", if measured.is_filtered { "-" } else { "" }, measured.meter, measured.value, dimensions.join(" "))
    };
    record.measured().map(one).collect()
}

fn tokens() -> Meter {
    meter(
        "tokens",
        json!({"eventType": "llm", "aggregation": "SUM", "valueProperty": "$.usage.tokens", "groupBy": {"model": "$.model", "kind": "$['usage'].kind", "zone": "$.zones[-1]"}}),
    )
}

#[test]
fn without_a_meter_an_event_is_about_its_type() {
    let made = read(&[], r#"{"value":42,"model":"m-2","nested":{"a":1}}"#, shown);
    assert_eq!(made, Ok(vec!["llm 42 ce.source=svc model=m-2 tier=gold".into()]));
    let other = meter("tokens", json!({"eventType": "other", "aggregation": "COUNT"}));
    assert_eq!(read(&[other], "{}", shown), Ok(vec!["llm 1 ce.source=svc tier=gold".into()]));
    // One that another dialect has defined under the name of the type is the one that is meant anyway.
    assert_eq!(read(&[meter("llm", json!({}))], r#"{"value":"7"}"#, shown), Ok(vec!["llm 7 ce.source=svc tier=gold".into()]));
}

#[test]
fn each_meter_reads_its_own_value_and_groups() {
    let meters = [
        tokens(),
        meter("requests", json!({"eventType": "llm", "aggregation": "COUNT", "groupBy": {"model": "$.usage.kind"}})),
        meter("users", json!({"eventType": "llm", "aggregation": "UNIQUE_COUNT", "valueProperty": "$.user"})),
        meter("latency", json!({"eventType": "llm", "aggregation": "MAX", "valueProperty": "$.ms"})),
        meter("llm", json!({})),
    ];
    let data = r#"{"value":2,"model":"m-2","ms":"12.5","user":"u-7","usage":{"tokens":100,"kind":"in"},"zones":["a","b"],"ce.error":"x"}"#;
    let common = "ce.source=svc ce.type=llm";
    assert_eq!(
        read(&meters, data, shown).expect("a good event"),
        [
            format!("latency 12.5 {common} model=m-2 tier=gold user=u-7"),
            format!("llm 2 {common} model=m-2 tier=gold user=u-7"),
            format!("requests 1 {common} model=in tier=gold user=u-7"),
            format!("tokens 100 {common} kind=in model=m-2 tier=gold user=u-7 zone=b"),
            format!("users 1 {common} ce.value=u-7 model=m-2 tier=gold user=u-7"),
        ]
    );
}

#[test]
fn what_a_meter_cannot_read_counts_for_the_others() {
    let unique = meter("users", json!({"eventType": "llm", "aggregation": "UNIQUE_COUNT", "valueProperty": "$.user"}));
    let meters = [tokens(), unique, meter("requests", json!({"eventType": "llm", "aggregation": "COUNT"}))];
    let errors = |record: &Record<'_>| {
        let own = |at: usize| record.own_dimensions(at).find(|(key, _)| *key == ERROR_DIMENSION).map(|(_, why)| why.to_owned());
        assert_eq!(own(0), None, "requests counts anyway");
        assert!(record.measured().enumerate().all(|(at, measured)| measured.is_filtered == own(at).is_some()));
        (own(1).unwrap_or_default(), own(2).unwrap_or_default())
    };
    let long = "x".repeat(1_025);
    for (data, tokens, users) in [
        ("null", "missing", "missing"),
        (r#"{"usage":{},"user":null}"#, "missing", "null"),
        (r#"{"usage":{"tokens":null},"user":{}}"#, "null", "not_scalar"),
        (r#"{"usage":{"tokens":"many"},"user":true}"#, "not_numeric", ""),
        (r#"{"usage":{"tokens":{}},"user":7}"#, "not_numeric", ""),
        (r#"{"usage":{"tokens":1e400},"user":"a"}"#, "out_of_range", ""),
        (r#"{"usage":{"tokens":" 1"},"user":"a"}"#, "not_numeric", ""),
        (&format!(r#"{{"usage":{{"tokens":1,"kind":"{long}"}},"user":["a"]}}"#), "too_long", "not_scalar"),
        (r#"{"usage":{"tokens":"1.50","kind":7},"user":"a"}"#, "", ""),
    ] {
        assert_eq!(read(&meters, data, errors), Ok((tokens.into(), users.into())), "{data}");
    }
    let all = read(&meters[..1], "{}", |record| (record.filtered, shown(record))).expect("a good event");
    assert_eq!(all, (true, vec!["-tokens 0 ce.error=missing ce.source=svc ce.type=llm tier=gold".into()]));
}

#[test]
fn which_event_it_is_and_what_it_says_does_not_depend_on_meters() {
    let some = [tokens(), meter("users", json!({"eventType": "llm", "aggregation": "UNIQUE_COUNT", "valueProperty": "$.model"}))];
    for mode in [IdentityMode::UniqueId, IdentityMode::AllAttributes] {
        let hashes =
            |meters: &[Meter], data: &str| read_as(mode, meters, data, |record| (record.identity, record.content)).expect("a good event");
        for data in ["{}", r#"{"value":2,"model":"m"}"#, r#"{"usage":{"tokens":1,"kind":"a"},"zones":["a",null,true,1.5]}"#] {
            let all = [&[][..], &some[..1], &some[1..], &some].map(|meters| hashes(meters, data));
            assert!(all.iter().all(|one| *one == all[0]), "{data}");
        }
        let said = hashes(&some, r#"{"usage":{"tokens":1,"kind":"a"},"x":{"y":1}}"#);
        assert_eq!(said, hashes(&[], r#"{ "x":{"y": 1.0}, "usage":{"kind":"a","tokens":1} }"#), "the order of members says nothing");
        assert_ne!(said.1, hashes(&some, r#"{"usage":{"tokens":2,"kind":"a"},"x":{"y":1}}"#).1);
        assert_ne!(said.1, hashes(&[], r#"{"usage":{"tokens":1,"kind":"a"},"x":{"y":2}}"#).1);
    }
}

#[test]
fn there_is_an_end_to_meters_and_their_groups() {
    let many: Vec<_> = (0..300_i64)
        .map(|n| {
            let made = meter(&format!("m-{n:03}"), json!({"eventType": "llm", "aggregation": "SUM", "valueProperty": "$.n"}));
            Meter { created_at: UnixMillis(1_000 - n), ..made }
        })
        .collect();
    let made = read(&many, r#"{"n":1}"#, |record| record.measurements().map(|(meter, _)| meter.to_owned()).collect::<Vec<_>>());
    let made = made.expect("a good event");
    assert_eq!((made.len(), made[0].as_str(), made[63].as_str()), (EVENT_METERS_MAX, "m-236", "m-299"), "those that were made first");
    let groups = |count: usize, path: &str| {
        let groups: serde_json::Map<_, _> = (0..count).map(|n| (format!("g-{n}"), json!(path))).collect();
        json!({"eventType": "llm", "aggregation": "COUNT", "groupBy": groups})
    };
    let wide = [meter("m", groups(62, "$.n"))];
    assert_eq!(
        read(&wide, r#"{"n":1}"#, |_| ()),
        Err("data has 66 entries for the meter m, the limit is 64".replace("data", "dimensions"))
    );
    let long = format!(r#"{{"n":["{}"]}}"#, "x".repeat(1_024));
    let heavy: Vec<_> = (0..3).map(|n| meter(&format!("m-{n}"), groups(30, "$.n[0]"))).collect();
    let refused = read(&heavy, &long, |_| ()).expect_err("more than 64 KiB");
    assert!(refused.starts_with("dimensions has ") && refused.ends_with("bytes, the limit is 65536"), "{refused}");
}

#[test]
fn data_and_paths_that_are_nested_deep_or_do_not_fit_are_no_problem() {
    let deep = |depth: usize| format!("{}1{}", r#"{"a":"#.repeat(depth), "}".repeat(depth));
    let path = format!("${}", ".a".repeat(16));
    let meters =
        [meter("m", json!({"eventType": "llm", "aggregation": "SUM", "valueProperty": path, "groupBy": {"g": "$..a", "h": 7, "i": "$"}}))];
    let made = read(&meters, &deep(14), shown).expect("a good event");
    assert_eq!(made, ["-m 0 ce.error=missing ce.source=svc ce.type=llm tier=gold"]);
    assert!(read(&meters, &deep(17), |_| ()).is_err());
    let numbers = format!(r#"{{"a":{{"a":{}}}}}"#, "9".repeat(5_000));
    assert!(read(&meters, &numbers, |_| ()).is_ok());
    let many = format!("[{}1]", "1,".repeat(20_000));
    assert!(read(&meters, &format!(r#"{{"a":{many},"b":{many}}}"#), |_| ()).is_ok());
}
