use super::*;
use crate::event::parse::Parser;

const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);

fn shown(event: &MeterEvent<'_, '_>) -> String {
    let dimensions: Vec<_> = event.dimensions().iter().map(|(key, value)| format!("{key}={value}")).collect();
    let [measurement] = event.measurements() else { panic!("one measurement") };
    let time = event.time_sent().map_or("none".to_owned(), |time| time.0.to_string());
    let (id, customer) = (event.unique_id(), event.customer_id());
    format!("{id} {customer} {} {} {time} [{}]", measurement.meter, measurement.value, dimensions.join(" "))
}

fn read(json: &str) -> Result<String, String> {
    let mut parser = Parser::default();
    let parsed = parser.parse(json.as_bytes(), 1).expect("JSON");
    let mut scratch = Scratch::default();
    let members = parsed.elements().next().and_then(|element| element.members.ok()).expect("an object");
    let event = read_custom(members, || 7, &mut scratch, RECEIVED, TimeWindow::default());
    event.map(|event| shown(&event)).map_err(|rejection| format!("{} {}", rejection.field, rejection.reason))
}

#[test]
fn every_key_of_the_table_is_read_and_what_is_missing_has_its_default() {
    assert_eq!(read(r#"{"subject":"s"}"#), Ok("00000000000000000000000000000007 s custom 1 none []".into()));
    for customer in CUSTOMER {
        for (time, meter, value, id) in [(TIME[0], METER[0], VALUE[0], UNIQUE_ID[0]), (TIME[4], METER[3], VALUE[4], UNIQUE_ID[2])] {
            let json = format!(r#"{{"{customer}":"c","{time}":1767225600,"{meter}":"m","{value}":2.50,"{id}":"u"}}"#);
            assert_eq!(read(&json), Ok("u c m 2.5 1767225600000000 []".into()), "{json}");
        }
    }
}

#[test]
fn the_first_key_of_the_table_wins_wherever_it_stands_and_the_others_are_dimensions() {
    let json = r#"{"type":"t","event":"e","amount":3,"value":2,"subject":"s","customer_id":"c","id":"i","n":1.50,"b":false,"z":null,"o":{},"a":[1]}"#;
    assert_eq!(read(json), Ok("i c e 2 none [amount=3 b=false n=1.50 subject=s type=t]".into()));
    let nested = r#"{"customerId":"c","customer":{"name":"n"},"eventId":9,"ts":"2026-01-01T01:00:00.25+01:00"}"#;
    assert_eq!(read(nested), Ok("9 c custom 1 1767225600250000 []".into()));
}

#[test]
fn a_time_is_seconds_or_milliseconds_or_rfc_3339() {
    let at = |time: &str| read(&format!(r#"{{"customer":"c","id":"i","time":{time}}}"#));
    for (time, micros) in [
        ("1767225600", 1_767_225_600_000_000_i64),
        ("99999999999", 99_999_999_999_000_000),
        ("100000000000", 100_000_000_000_000),
        ("1767225600123", 1_767_225_600_123_000),
        ("1767225600.5", 1_767_225_600_500_000),
        ("1767225600123.4567", 1_767_225_600_123_456),
        ("1.7672256e9", 1_767_225_600_000_000),
        ("\"2026-01-01T00:00:00Z\"", 1_767_225_600_000_000),
    ] {
        assert_eq!(at(time), Ok(format!("i c custom 1 {micros} []")), "{time}");
    }
    for time in ["\"yesterday\"", "\"2026-01-01\"", "true", "[]", "{}"] {
        assert!(at(time).expect_err("no time").starts_with("time must be a time"), "{time}");
    }
    assert!(at("-5").expect_err("before 1970").starts_with("meterTimeInMillis is"));
    assert!(at("99999999999999999999").expect_err("too late").starts_with("meterTimeInMillis is"));
}

#[test]
fn what_is_of_the_wrong_type_is_refused_and_named_as_it_was_sent() {
    for (json, reason) in [
        (r#"{"id":"i"}"#, "customerId is missing"),
        (r#"{"customer":{}}"#, "customer must be a string"),
        (r#"{"customer":true}"#, "customer must be a string"),
        (r#"{"customer":"c","value":"5"}"#, "value must be a number"),
        (r#"{"customer":"c","usage":[5]}"#, "usage must be a number"),
        (r#"{"customer":"c","event":[]}"#, "event must be a string"),
        (r#"{"customer":"c","id":{}}"#, "id must be a string"),
        (r#"{"customer":"c","customer":"d"}"#, "customer is given twice"),
        (r#"{"customer":"c","x":1,"x":2}"#, "dimensions.x is given twice"),
        (r#"{"customer":"","id":"i"}"#, "customerId must not be empty"),
        (r#"{"customer":"c","quantity":1e20}"#, "quantity is out of range: the absolute value must be below 10^20"),
    ] {
        assert_eq!(read(json), Err(reason.into()), "{json}");
    }
}

#[test]
fn a_row_reads_as_the_object_of_its_fields() {
    let (columns, row) = (["customer", "value", "zip", "note", "ts"], ["c", "1.50", "007", "", "1767225600"]);
    let mut scratch = Scratch::default();
    let event = read_custom(members_of_row(&columns, &row), || 7, &mut scratch, RECEIVED, TimeWindow::default()).expect("an event");
    assert_eq!(shown(&event), "00000000000000000000000000000007 c custom 1.5 1767225600000000 [zip=007]");
}

#[test]
fn the_hash_is_that_of_what_was_sent_however_it_is_spaced() {
    let key = HashKey::from_bytes([3; 16]);
    let hash = |text: &str| record_hash(&key, text.as_bytes());
    assert_eq!(hash(r#"{"a": "x y", "b" :[1 , 2]}"#), hash("{\"a\":\"x y\",\n\"b\":[1,2]}"));
    let all =
        [r#"{"a":"x y"}"#, r#"{"a":"xy"}"#, r#"{"a":"x\" y"}"#, r#"{"a":1}"#, r#"{"a":"x y","n":{"b":1}}"#, r#"{"a":"x y","n":{"b":2}}"#];
    let hashes: std::collections::HashSet<_> = all.iter().map(|text| hash(text)).collect();
    assert_eq!(hashes.len(), all.len());
    assert_ne!(record_hash(&HashKey::from_bytes([4; 16]), b"{}"), hash("{}"), "it is keyed");
    let row = |columns: &[&str], fields: &[&str]| row_hash(&key, columns, fields);
    assert_eq!(row(&["a", "b"], &["1", ""]), row(&["a"], &["1"]));
    assert_ne!(row(&["a", "b"], &["1", "2"]), row(&["a", "b"], &["12", ""]));
}
