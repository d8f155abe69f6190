//! What is asked becomes what is evaluated; and whole questions answered from rows.

use serde_json::{Map, json};

use super::*;
use crate::meters::{Extensions, Said};
use crate::usage::memory::{ACCOUNT, Event, MemoryRows, event};
use crate::usage::{Limits, MeterType, evaluate};

/// 2026-01-01T00:00:00Z.
const DAY_0: i64 = 1_767_225_600;
const DAY: i64 = 86_400;
const HOUR: i64 = 3_600;
/// In the middle of January.
const NOW: UnixMillis = UnixMillis((DAY_0 + 14 * DAY + 1_800) * 1_000);

fn customer() -> CustomerId {
    CustomerId::parse("acme").expect("an id")
}

fn meter(octane: &Value, meter_type: MeterType) -> Meter {
    let said = Said { display_name: "Tokens used".into(), label: "tokens".into(), meter_type, dimensions: Vec::new() };
    let mut meter = Meter { name: "tokens".into(), said, ext: Extensions::default(), created_at: UnixMillis(1) };
    meter.ext.octane = octane.as_object().cloned().unwrap_or_else(Map::new);
    meter
}

fn counter(aggregation: &str) -> Meter {
    let meter_type = match aggregation {
        "MAX" => MeterType::MaxInPeriod,
        "UNIQUE_COUNT" => MeterType::UniqueCustomersCount,
        _ => MeterType::SumOfAllUsage,
    };
    meter(&json!({"aggregation": aggregation, "meter_type": "counter"}), meter_type)
}

fn parsed(parameters: &[(&str, &str)]) -> Result<UsageQuestion, ApiError> {
    let parameters: Vec<_> = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    UsageQuestion::parse(&parameters)
}

fn details<T: std::fmt::Debug>(result: Result<T, ApiError>) -> String {
    result.expect_err("a bad question").details.expect("details")
}

/// Start and end in s of what is answered.
fn range(parameters: &[(&str, &str)], definition: Option<&Meter>) -> (i64, i64) {
    let question = parsed(&[&[("meter_name", "tokens")], parameters].concat()).expect("a question");
    let (query, wider) = question.queries(ACCOUNT, &customer(), definition, NOW).expect("a query");
    if let Some(wider) = wider {
        assert_eq!(wider.buckets().answered_s(), (0, query.buckets().answered_s().1));
        return wider.buckets().answered_s();
    }
    assert_eq!((query.account(), query.meter(), query.view_request().customers), (ACCOUNT, "tokens", Some(vec!["acme".into()])));
    query.buckets().answered_s()
}

#[test]
fn a_range_is_what_is_given_or_the_month() {
    let month = (DAY_0, DAY_0 + 31 * DAY);
    assert_eq!(range(&[], None), month);
    assert_eq!(range(&[("start_time", ""), ("end_time", "")], None), month);
    assert_eq!(range(&[("start_time", "2026-01-03T04:00:00")], None), (DAY_0 + 2 * DAY + 4 * HOUR, month.1));
    assert_eq!(range(&[("end_time", "2025-12-03T00:00:00Z")], None), (DAY_0 - 31 * DAY, DAY_0 - 29 * DAY));
    let seconds = (DAY_0.to_string(), format!("{}.25", DAY_0 + DAY - 1));
    assert_eq!(range(&[("start_time", &seconds.0), ("end_time", &seconds.1)], None), (DAY_0, DAY_0 + DAY));
    let micros = [("start_time", "2026-01-01T00:59:59.999999Z"), ("end_time", "2026-01-01T02:00:00.000001+01:00")];
    assert_eq!(range(&micros, None), (DAY_0, DAY_0 + 2 * HOUR), "whole hours");
    let gauge = meter(&json!({"meter_type": "Gauge", "aggregation": "MAX"}), MeterType::MaxInPeriod);
    assert_eq!(range(&[], Some(&gauge)), (0, month.1), "its latest value, whenever it was");
    assert_eq!(range(&[("start_time", "2026-01-03T04:00:00")], Some(&gauge)), (DAY_0 + 2 * DAY + 4 * HOUR, month.1));
}

#[test]
fn what_is_wrong_is_named() {
    let time = "must be a time as in RFC 3339, or seconds since 1970, between the years 1970 and 9999";
    for (parameters, expected) in [
        (vec![], "meter_name is missing".to_owned()),
        (vec![("meter_name", "")], "meter_name must not be empty".into()),
        (vec![("meter_name", "a\0")], "meter_name contains U+0000".into()),
        (vec![("meter_name", &*"m".repeat(256))], "meter_name has more than 255 bytes, the limit".into()),
        (vec![("meter_name", "m"), ("start_time", "yesterday")], format!("start_time {time}")),
        (vec![("meter_name", "m"), ("end_time", "-1")], format!("end_time {time}")),
        (vec![("meter_name", "m"), ("end_time", "253402300801")], format!("end_time {time}")),
        (vec![("meter_name", "m"), ("end_time", "1e300")], format!("end_time {time}")),
    ] {
        assert_eq!(details(parsed(&parameters)), expected);
    }
    for (start, end) in [("7200", "7200"), ("7200", "1"), ("2026-03-01T00:00:00Z", "")] {
        let question = parsed(&[("meter_name", "m"), ("start_time", start), ("end_time", end)]).expect("a question");
        assert_eq!(details(question.queries(ACCOUNT, &customer(), None, NOW)), "end_time must be after the start");
    }
    for (change, expected) in [
        (json!({"meter_name": null}), "meter_name is missing"),
        (json!({"start_time": null}), "start_time is missing"),
        (json!({"start_time": 7}), "start_time must be a string"),
        (json!({"time_bucket": "week"}), "time_bucket must be one of hour, day"),
        (json!({"aggregate": "MEDIAN"}), "aggregate must be one of SUM, COUNT, MAX, MIN, UNIQUE_COUNT, AVG, TIME_WEIGHTED_SUM, LATEST"),
        (json!({"label_filters": {}}), "label_filters must be an array of objects with key and value"),
        (json!({"label_filters": [7]}), "label_filters[0] must be an object"),
        (json!({"label_filters": [{"key": "k"}]}), "label_filters[0].value is missing"),
        (json!({"label_filters": [{"key": "", "value": "v"}]}), "label_filters[0].key must not be empty"),
        (json!({"label_group_by_keys": "region"}), "label_group_by_keys must be an array of strings"),
        (json!({"label_group_by_keys": vec!["x"; 11]}), "label_group_by_keys has 11 entries, the limit is 10"),
    ] {
        let mut body = json!({"meter_name": "tokens", "start_time": "2026-01-01T00:00:00Z"});
        body.as_object_mut().expect("an object").extend(change.as_object().cloned().expect("an object"));
        assert_eq!(details(ByTimeQuestion::parse(body.to_string().as_bytes())), expected);
    }
    let asked = |body: Value| ByTimeQuestion::parse(body.to_string().as_bytes()).expect("a question");
    let ahead = asked(json!({"meter_name": "m", "start_time": "2026-02-01T00:00:00Z"}));
    assert_eq!(details(ahead.queries(ACCOUNT, &customer(), None, NOW)), "start_time must not lie ahead of now");
    let long = asked(json!({"meter_name": "m", "start_time": "1970-01-01T00:00:00Z", "time_bucket": "HOUR"}));
    assert_eq!(
        details(long.queries(ACCOUNT, &customer(), None, NOW)),
        "start_time cuts the range into more than 100000 buckets, the limit"
    );
}

/// Values of two customers in two hours, and another day.
fn used() -> Vec<Event> {
    let of = |customer: &str, time_s, value, region, user| event(customer, time_s, value).dimensions(&[("region", region), ("user", user)]);
    vec![
        of("acme", DAY_0 + 60, "0.1", "eu", "a"),
        of("acme", DAY_0 + 120, "0.2", "eu", "b"),
        of("acme", DAY_0 + HOUR, "7", "us", "a"),
        of("acme", DAY_0 + DAY, "-3", "eu", "a"),
        of("globex", DAY_0 + 60, "1000", "eu", "c"),
    ]
}

fn usage(definition: Option<&Meter>, parameters: &[(&str, &str)]) -> Result<Value, ApiError> {
    let question = parsed(&[&[("meter_name", "tokens")], parameters].concat())?;
    let (query, _) = question.queries(ACCOUNT, &customer(), definition, NOW)?;
    let answer = evaluate(&query, MeterType::default(), &MemoryRows::of(&used()), Limits::default()).expect("small");
    let answer: Value = serde_json::from_slice(&render(&answer)).expect("JSON");
    Ok(answer["usage"].clone())
}

#[test]
fn many_numbers_become_one_as_the_meter_says() {
    let first_day = [("end_time", "2026-01-02T00:00:00Z")];
    for (aggregation, all, of_first_day) in [
        ("SUM", json!(4.3), json!(7.3)),
        ("COUNT", json!(4), json!(3)),
        ("MAX", json!(7), json!(7)),
        ("MIN", json!(-3), json!(0.1)),
        ("AVG", json!(1.075), "2.433333333333".parse::<serde_json::Number>().expect("a number").into()),
        ("LATEST", json!(-3), json!(7)),
        ("UNIQUE_COUNT", json!(1), json!(1)),
    ] {
        let meter = counter(aggregation);
        assert_eq!(usage(Some(&meter), &[]).expect("an answer"), all, "{aggregation}");
        assert_eq!(usage(Some(&meter), &first_day).expect("an answer"), of_first_day, "{aggregation}");
    }
    assert_eq!(usage(None, &[]).expect("an answer"), json!(4.3), "a meter that nobody defined");
    let gauge = meter(&json!({"meter_type": "GAUGE", "aggregation": "SUM"}), MeterType::SumOfAllUsage);
    assert_eq!(usage(Some(&gauge), &[]).expect("an answer"), json!(-3));
    let nothing = [("start_time", "2025-01-01T00:00:00Z"), ("end_time", "2025-02-01T00:00:00Z")];
    assert_eq!(usage(Some(&counter("MIN")), &nothing).expect("an answer"), json!(0));
    let labels = |labels: Value| meter(&json!({"aggregation": "unique_count", "primary_labels": labels}), MeterType::UniqueCustomersCount);
    assert_eq!(usage(Some(&labels(json!(["user"]))), &[]).expect("an answer"), json!(2));
    let several = details(usage(Some(&labels(json!(["user", "region"]))), &[]));
    assert_eq!(several, "meter_name counts different values of several primary labels, which cannot be computed: name one");
    let weighted = "asks for TIME_WEIGHTED_SUM, which cannot be computed: how long a value held is not kept";
    assert_eq!(details(usage(Some(&counter("TIME_WEIGHTED_SUM")), &[])), format!("meter_name {weighted}"));
}

fn by_time(definition: Option<&Meter>, more: &Value) -> Value {
    let mut body = json!({"meter_name": "tokens", "start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-03T00:00:00Z"});
    body.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
    let question = ByTimeQuestion::parse(body.to_string().as_bytes()).expect("a question");
    let (query, all) = question.queries(ACCOUNT, &customer(), definition, NOW).expect("queries");
    let rows = MemoryRows::of(&used());
    let evaluate = |query: &Query| evaluate(query, MeterType::default(), &rows, Limits::default()).expect("small");
    let (groups, all) = (evaluate(&query), all.as_ref().map(evaluate));
    let answer = ByTime { question: &question, query: &query, definition, groups: &groups, all: all.as_ref() };
    serde_json::from_slice(&answer.write().expect("small")).expect("JSON")
}

fn points(answer: &Value) -> Value {
    let points = answer["usage_by_time"].as_array().expect("an array").iter();
    points.map(|point| json!([point["time"].as_str().expect("a text")[5..13], point["usage"], point["labels"]])).collect()
}

#[test]
fn by_time_there_is_a_number_for_each_group_of_each_day_or_hour_with_usage() {
    let defined = meter(&json!({"aggregation": "MAX", "unit_name": "token"}), MeterType::MaxInPeriod);
    let answer = by_time(Some(&defined), &json!({}));
    let expected = json!({
        "meter_name": "tokens", "meter_display_name": "Tokens used", "unit_name": "token", "start_time": "2026-01-01T00:00:00.000000Z",
        "end_time": "2026-01-03T00:00:00.000000Z", "total_usage": 7,
        "usage_by_time": [
            {"time": "2026-01-01T00:00:00.000000Z", "usage": 7, "labels": {}}, {"time": "2026-01-02T00:00:00.000000Z", "usage": -3, "labels": {}},
        ],
    });
    assert_eq!(answer, expected);
    let answer = by_time(Some(&defined), &json!({"time_bucket": "hour", "aggregate": "sum", "label_group_by_keys": ["region", "region"]}));
    assert_eq!(answer["total_usage"], json!(4.3), "of all groups");
    let (eu, us) = (json!({"region": "eu"}), json!({"region": "us"}));
    assert_eq!(points(&answer), json!([["01-01T00", 0.3, eu], ["01-01T01", 7, us], ["01-02T00", -3, eu]]));
    let answer = by_time(None, &json!({"label_group_by_keys": ["region", "user"]}));
    assert_eq!((&answer["meter_display_name"], answer.get("unit_name")), (&json!("tokens"), None));
    let of = |region: &str, user: &str| json!({"region": region, "user": user});
    let expected = json!([
        ["01-01T00", 0.1, of("eu", "a")],
        ["01-01T00", 0.2, of("eu", "b")],
        ["01-01T00", 7, of("us", "a")],
        ["01-02T00", -3, of("eu", "a")]
    ]);
    assert_eq!(points(&answer), expected);
}

#[test]
fn labels_are_filtered_by_all_keys_and_any_value_of_a_key() {
    let filtered = |filters: Value| by_time(None, &json!({"label_filters": filters}))["total_usage"].clone();
    assert_eq!(filtered(json!([{"key": "user", "value": "a"}])), json!(4.1));
    assert_eq!(filtered(json!([{"key": "user", "value": "a"}, {"key": "region", "value": "eu"}])), json!(-2.9));
    assert_eq!(filtered(json!([{"key": "region", "value": "us"}, {"key": "region", "value": "eu"}])), json!(4.3));
    let nothing = by_time(None, &json!({"label_filters": [{"key": "region", "value": "mars"}]}));
    assert_eq!((&nothing["total_usage"], &nothing["usage_by_time"]), (&json!(0), &json!([])));
}

#[test]
fn an_answer_has_its_limits() {
    let question = ByTimeQuestion::parse(br#"{"meter_name":"m","start_time":"2026-01-01T00:00:00Z","label_group_by_keys":["l"]}"#);
    let question = question.expect("a question");
    let (query, _) = question.queries(ACCOUNT, &customer(), None, NOW).expect("queries");
    let answer_of = |groups: usize, label_bytes: usize| {
        let group = |number: usize| crate::usage::Group {
            values: vec![format!("{number:0>label_bytes$}")],
            total: crate::event::Sum::ZERO,
            buckets: vec![(DAY_0, crate::event::Sum::ZERO)],
            approximate: crate::usage::Approximate::default(),
        };
        let groups = (0..groups).map(group).collect();
        crate::usage::Answer {
            bucket_starts: vec![DAY_0],
            groups,
            cut: false,
            overflow: false,
            approximate: Default::default(),
            rows_read: 0,
        }
    };
    let written =
        |groups: &crate::usage::Answer| ByTime { question: &question, query: &query, definition: None, groups, all: None }.write();
    assert!(written(&answer_of(NUMBERS_MAX, 1)).is_ok());
    assert_eq!(written(&answer_of(NUMBERS_MAX + 1, 1)), Err(TooLarge));
    assert_eq!(written(&answer_of(40_000, 1_000)), Err(TooLarge));
}
