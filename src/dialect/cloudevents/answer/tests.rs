//! Answers as they go over the wire.

use serde_json::{Value, json};

use super::*;
use crate::clock::UnixMillis;
use crate::dialect::cloudevents::meters::MeterRequest;
use crate::meters::Meter;
use crate::usage::memory::{MemoryRows, event};
use crate::usage::{Limits, MeterType, evaluate, first_day_s};

/// 2026-01-01T00:00:00Z.
const DAY_0: i64 = 1_767_225_600;
const HOUR: i64 = 3_600;

fn rows() -> MemoryRows {
    MemoryRows::of(&[
        event("acme", DAY_0 + 600, "1.5").dimensions(&[("model", "m-1")]),
        event("acme", DAY_0 + HOUR, "2").dimensions(&[("model", "m,2"), ("kind", "k")]),
        event("acme", DAY_0 + 25 * HOUR, "-0.000000000001").dimensions(&[("model", "m-1")]),
        event("ze\"ta", DAY_0 + 26 * HOUR, "40"),
    ])
}

fn answer(body: &Value, form: Form) -> String {
    let request = json!({"slug": "tokens", "aggregation": "SUM", "eventType": "prompt", "valueProperty": "$.tokens"});
    let MeterRequest { name, said, ext } = MeterRequest::parse(request.to_string().as_bytes()).expect("a good body");
    let meter = Meter { name, said, ext, created_at: UnixMillis(1) };
    let asked = MeterQuery::of_body(body.to_string().as_bytes(), 1, &meter, UnixMillis((DAY_0 + 50 * HOUR) * 1_000)).expect("a query");
    let begins_s = first_day_s(&rows(), 1, "tokens").expect("memory");
    let found = asked.query(begins_s).expect("a query").map(|query| {
        let answer = evaluate(&query, MeterType::default(), &rows(), Limits::default()).expect("few");
        (query, answer)
    });
    let mut writer = Writer::new(asked, form, found).expect("small");
    // A byte at a time, or about.
    let mut body = Vec::new();
    while writer.write(&mut body, 1) {
        let more = body.len() + 1;
        if !writer.write(&mut body, more) {
            break;
        }
    }
    String::from_utf8(body).expect("UTF-8")
}

#[test]
fn answers_in_json() {
    let mut shown = String::new();
    for body in [
        json!({}),
        json!({"windowSize": "DAY"}),
        json!({"windowSize": "HOUR", "subject": "acme", "from": "2026-01-01T00:30:00Z", "to": "2026-01-02T01:00:00.5Z"}),
        json!({"groupBy": ["subject", "model", "kind"]}),
        json!({"filterCustomerId": ["ze\"ta"], "windowSize": "MONTH"}),
        json!({"filterGroupBy": {"model": ["none"]}, "from": "2026-01-01T00:00:00Z"}),
        json!({"to": "2025-01-01T00:00:00Z"}),
        json!({"windowSize": "DAY", "windowTimeZone": "America/New_York", "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T12:00:00Z"}),
    ] {
        let answer = answer(&body, Form::Json);
        let parsed: Value = serde_json::from_str(&answer).expect("JSON");
        shown += &format!("{body}\n{}\n", serde_json::to_string_pretty(&parsed).expect("JSON"));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn answers_in_csv() {
    let mut shown = String::new();
    for body in [
        json!({}),
        json!({"groupBy": ["kind", "subject", "model"], "windowSize": "DAY"}),
        json!({"filterCustomerId": ["ze\"ta"]}),
        json!({"to": "2025-01-01T00:00:00Z", "groupBy": ["a,b"]}),
    ] {
        let answer = answer(&body, Form::Csv);
        assert!(answer.ends_with("\r\n"), "{answer:?}");
        shown += &format!("{body}\n{}\n", answer.replace("\r\n", "\n"));
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn subjects_are_an_array_in_their_order_in_pieces_of_any_size() {
    let of = |names: &[&str], bytes: usize| {
        let group =
            |name: &&str| Group { values: vec![(*name).into()], total: Sum::ZERO, buckets: Vec::new(), approximate: Default::default() };
        let groups = names.iter().map(group).collect();
        let answer =
            Answer { bucket_starts: Vec::new(), groups, cut: false, overflow: false, approximate: Default::default(), rows_read: 0 };
        let mut subjects = Subjects::of(Some(answer));
        let mut body = Vec::new();
        while {
            let more = body.len() + bytes;
            subjects.write(&mut body, more)
        } {}
        String::from_utf8(body).expect("UTF-8")
    };
    for bytes in [1, 3, 1_000] {
        assert_eq!(of(&[], bytes), "[]");
        assert_eq!(of(&["z", "a\"b"], bytes), r#"["a\"b","z"]"#);
    }
    assert!(Subjects::of(None).is_empty());
}
