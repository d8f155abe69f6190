use super::*;
use crate::event::parse::{BodyError, Parser, Way};
use proptest::prelude::*;

const RECEIVED: UnixMillis = UnixMillis(1_767_225_600_000);

/// What became of each element: the event as text, or field, code and reason.
type Outcomes = Result<Vec<Result<String, Rejection>>, BodyError>;

fn shown(event: &MeterEvent<'_, '_>) -> String {
    let id = if event.unique_id_generated() { "(made)" } else { event.unique_id() };
    let values: Vec<String> = event.measurements().iter().map(|m| format!("{}={}", m.meter, m.value)).collect();
    format!("{id} {} {} {values:?} {:?}", event.customer_id(), event.time().0, event.dimensions())
}

fn read(parser: &mut Parser, body: &[u8], way: Way) -> Outcomes {
    let parsed = parser.parse_from(way, body, 100)?;
    let mut scratch = Scratch::default();
    let read = |element: crate::event::parse::Element<'_>| -> Result<String, Rejection> {
        // Each element by itself: the scratch's lifetime is that of the whole body elsewhere.
        let mut own = Scratch::default();
        element.members.and_then(|members| read_event(members, &mut own, RECEIVED, TimeWindow::default()).map(|event| shown(&event)))
    };
    let outcomes = parsed.elements().map(read).collect();
    scratch.dimensions.clear();
    Ok(outcomes)
}

fn one(body: &str) -> Result<String, String> {
    let outcomes = read(&mut Parser::default(), body.as_bytes(), Way::Scan).map_err(|error| error.to_string())?;
    let [outcome] = <[_; 1]>::try_from(outcomes).expect("one element");
    outcome.map_err(|rejection| format!("{} {} ({})", rejection.field, rejection.reason, rejection.code.label()))
}

fn event(extra: &str) -> String {
    format!(r#"{{"uniqueId":"u-1","customerId":"acme-7","meterTimeInMillis":1767225600123,{extra}}}"#)
}

#[test]
fn the_contracts_example_is_read() {
    let body = r#"[{"uniqueId":"u-1","meterApiName":"tokens","customerId":"acme-7","meterValue":12.5,"meterTimeInMillis":1767225600123,
        "dimensions":{"region":"eu-1","\u0061\"b":"\u00e9\n"}, "unknown": [1, {"x": [{}, []]}, null], "other": {"a": {"b": 1}}}]"#;
    assert_eq!(one(body).expect("taken"), r#"u-1 acme-7 1767225600123000 ["tokens=12.5"] [("a\"b", "é\n"), ("region", "eu-1")]"#);
}

#[test]
fn several_measurements_are_one_event() {
    assert_eq!(
        one(&event(r#""values":{"out":2,"in":-1.50,"none":null}"#)).expect("taken"),
        r#"u-1 acme-7 1767225600123000 ["in=-1.5", "out=2"] []"#
    );
}

#[test]
fn digits_are_never_a_float() {
    for (sent, kept) in [
        ("99999999999999999999", "99999999999999999999"),
        ("0.1000000000000000055", "0.1"),
        ("12345678901234567890.123456789012", "12345678901234567890.123456789012"),
        ("1e-400", "0"),
        ("-0.0", "0"),
    ] {
        let outcome = one(&event(&format!(r#""meterApiName":"m","meterValue":{sent}"#))).expect(sent);
        assert_eq!(outcome, format!(r#"u-1 acme-7 1767225600123000 ["m={kept}"] []"#));
    }
}

#[test]
fn what_is_wrong_is_named() {
    let value = r#""meterApiName":"m","meterValue":1"#;
    for (body, error) in [
        (event(r#""meterApiName":"m""#), "meterValue is missing (missing_field)"),
        (event(r#""meterApiName":"m","meterValue":null"#), "meterValue is missing (missing_field)"),
        (event(r#""meterApiName":"m","meterValue":"1""#), "meterValue must be a number (wrong_type)"),
        (
            event(r#""meterApiName":"m","meterValue":1e400"#),
            "meterValue is out of range: the absolute value must be below 10^20 (out_of_range)",
        ),
        (event(r#""meterApiName":7,"meterValue":1"#), "meterApiName must be a string (wrong_type)"),
        (event(&format!(r#"{value},"dimensions":{{"a":1}}"#)), "dimensions.a must be a string (wrong_type)"),
        (event(&format!(r#"{value},"dimensions":{{"a":"1","a":"2"}}"#)), "dimensions.a is given twice (repeated_key)"),
        (event(&format!(r#"{value},"uniqueId":"u-2""#)), "uniqueId is given twice (repeated_key)"),
        (
            event(&format!(r#"{value},"values":{{"a":1}}"#)),
            "values must not be given together with meterApiName or meterValue (wrong_value)",
        ),
        (event(r#""values":{}"#), "values has no entry (missing_field)"),
        (event(r#""values":{"a":1,"a":1}"#), "values.a is given twice (repeated_key)"),
        (event(value).replace("1767225600123", "1.5"), "meterTimeInMillis must be a whole number of milliseconds (wrong_type)"),
        (
            event(value).replace("1767225600123", "-1"),
            "meterTimeInMillis is -1 ms, it must be above 0 and not after the year 9999 (wrong_value)",
        ),
        (event(value).replace("acme-7", ""), "customerId must not be empty (wrong_value)"),
        (event(value).replace("acme-7", "a\\u0000b"), "customerId contains U+0000 (wrong_value)"),
        (event(&format!(r#"{value},"deep":{}{}"#, "[".repeat(16), "]".repeat(16))), " nests deeper than 16 levels (too_deep)"),
        (event(&format!(r#"{value},"lone":"\ud800""#)), " has a string with a broken escape (wrong_value)"),
        ("[7]".into(), " must be a JSON object (not_an_object)"),
    ] {
        assert_eq!(one(&body).expect_err(&body), error, "{body}");
    }
    for (body, error) in
        [("7", "the body must be an event or an array of events"), ("", "the body is not valid JSON"), ("{]", "the body is not valid JSON")]
    {
        assert!(one(body).expect_err(body).starts_with(error), "{body}");
    }
}

#[test]
fn one_bad_event_never_costs_its_neighbours() {
    let good = event(r#""meterApiName":"m","meterValue":1"#);
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    for bad in [r#"{"meterValue":1e400}"#, r#"{"x":"\ud800"}"#, r#"{"x":123456789012345678901234567890}"#, "null", deep.as_str()] {
        let body = format!("[{good},{bad} , {good}]");
        let outcomes = read(&mut Parser::default(), body.as_bytes(), Way::Scan).expect("an array");
        let taken: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(taken, [true, false, true], "{}", &bad[..bad.len().min(40)]);
    }
}

#[test]
fn raw_bytes_of_an_element_are_those_that_were_sent() {
    let mut parser = Parser::default();
    let body = br#" [ {"a": "x\ny"} , 7 ,"s" ,[1, 2], {"b":{}} ] "#;
    let usual = br#" [ {"a": "xy"} , 7 ,"s" ,[1, 2], {"b":{}} ] "#;
    for (way, body, first) in Way::ALL.into_iter().flat_map(|way| [(way, &body[..], r#"{"a": "x\ny"}"#), (way, usual, r#"{"a": "xy"}"#)]) {
        let parsed = parser.parse_from(way, body, 9).expect("an array");
        let raw: Vec<&str> = parsed.elements().map(|element| std::str::from_utf8(element.raw).expect("UTF-8")).collect();
        assert_eq!(raw, [first, "7", r#""s""#, "[1, 2]", r#"{"b":{}}"#], "{way:?}");
    }
}

/// JSON that is close to what producers send, with every kind of mistake in it.
fn bodies() -> impl Strategy<Value = String> {
    let text = prop_oneof![4 => Just(r#""u-1""#.to_owned()), 2 => "\"[ -!#-\\[\\]-~é€😀]{0,6}\"", 1 => r#""(\\n|\\u00e9|\\\\|\\"|a){0,4}""#, 1 => Just(r#""\ud83d\ude00""#.into())];
    let number =
        prop_oneof!["-?[0-9]{1,22}", "-?[0-9]{1,5}\\.[0-9]{1,14}", "[0-9]{1,3}[eE][-+]?[0-9]{1,3}", Just("1767225600123".to_owned())];
    let leaf = prop_oneof![text.clone(), number, Just("null".into()), Just("true".into()), Just("{}".into()), Just("[]".into())];
    let key = prop_oneof![
        8 => proptest::sample::select(vec!["uniqueId", "customerId", "meterApiName", "meterValue", "meterTimeInMillis", "dimensions", "values"]).prop_map(|key| format!("\"{key}\"")),
        1 => text,
    ];
    let value = leaf.prop_recursive(3, 24, 4, {
        let key = key.clone();
        move |inner| {
            let members = proptest::collection::vec((key.clone(), inner.clone()), 0..5);
            prop_oneof![
                members.prop_map(|members| object(&members)),
                proptest::collection::vec(inner, 0..4).prop_map(|items| format!("[{}]", items.join(" ,"))),
            ]
        }
    });
    let members = proptest::collection::vec((key, value), 0..8);
    let good = Just(event(r#""meterApiName":"m","meterValue":1,"dimensions":{"a":"b"}"#));
    let element = prop_oneof![3 => members.prop_map(|members| object(&members)), 1 => good];
    prop_oneof![element.clone(), proptest::collection::vec(element, 0..6).prop_map(|elements| format!("[{}]", elements.join(",\n")))]
}

fn object(members: &[(String, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{{{}}}", members.join(", "))
}

/// A fast way may take only what the slow one takes, and must make the same of it.
fn agree(parser: &mut Parser, body: &[u8]) -> Result<(), TestCaseError> {
    let slow = read(parser, body, Way::Slow);
    for way in [Way::Scan, Way::Tape] {
        match (read(parser, body, way), &slow) {
            // Only the wording of a syntax error may differ: the fast ways have none of their own.
            (Err(_), Err(_)) => {}
            (fast, slow) => prop_assert_eq!(&fast, slow, "{:?} {}", way, String::from_utf8_lossy(body)),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    #[test]
    fn a_body_reads_the_same_on_all_ways(body in bodies()) {
        agree(&mut Parser::default(), body.as_bytes())?;
    }

    #[test]
    fn a_mutated_body_reads_the_same_on_all_ways(body in bodies(), changes in proptest::collection::vec((any::<prop::sample::Index>(), prop_oneof![proptest::sample::select(br#"{}[]",:\0 e.-"#.to_vec()), any::<u8>()]), 1..4)) {
        let mut bytes = body.into_bytes();
        for (at, byte) in changes {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        agree(&mut Parser::default(), &bytes)?;
    }

    #[test]
    fn a_parser_that_is_used_again_remembers_nothing(bodies in proptest::collection::vec(bodies(), 1..4)) {
        let mut used = Parser::default();
        for body in bodies {
            prop_assert_eq!(read(&mut used, body.as_bytes(), Way::Scan), read(&mut Parser::default(), body.as_bytes(), Way::Scan));
        }
    }
}
