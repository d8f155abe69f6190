//! Queries: how they are read, and what they ask of the model.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::clock::rfc3339;
use crate::dialect::cloudevents::meters::MeterRequest;
use crate::usage::{BUCKETS_MAX, Measure, MeterType, time_in_zone};

/// 2026-02-10T12:34:56.789Z.
const NOW: UnixMillis = UnixMillis(1_770_726_896_789);

fn meter(more: Value) -> Meter {
    let mut body = json!({"slug": "tokens", "aggregation": "SUM", "eventType": "prompt", "valueProperty": "$.tokens"});
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let MeterRequest { name, said, ext } = MeterRequest::parse(body.to_string().as_bytes()).expect("a good body");
    Meter { name, said, ext, created_at: UnixMillis(1) }
}

fn of(pairs: &[(&str, &str)]) -> Result<MeterQuery, ApiError> {
    let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    MeterQuery::of_parameters(pairs, 7, &meter(json!({})), NOW)
}

fn of_body(body: &Value) -> Result<MeterQuery, ApiError> {
    MeterQuery::of_body(body.to_string().as_bytes(), 7, &meter(json!({})), NOW)
}

fn asked(query: &MeterQuery, begins_s: Option<i64>) -> Option<Query> {
    query.query(begins_s).expect("a query")
}

/// The whole hours that are answered.
fn range(query: &MeterQuery, begins_s: Option<i64>) -> Option<(String, String)> {
    let (start_s, end_s) = asked(query, begins_s)?.buckets().answered_s();
    let shown = |time_s| time_in_zone(time_s, &Zone::default());
    Some((shown(start_s), shown(end_s)))
}

#[test]
fn both_forms_ask_the_same() {
    let pairs = of(&[
        ("from", "2026-01-01T00:00:00Z"),
        ("to", "2026-02-01T01:00:00+01:00"),
        ("windowSize", "DAY"),
        ("windowTimeZone", "Europe/Berlin"),
        ("subject", "acme"),
        ("subject", "zeta"),
        ("filterCustomerId", "acme"),
        ("groupBy", "model"),
        ("groupBy", "subject"),
        ("groupBy", "model"),
        ("filterGroupBy[model]", "x"),
        ("filterGroupBy[model]", "y"),
        ("filterGroupBy[kind]", ""),
        ("clientId", "c"),
        ("unknown", "u"),
    ]);
    let body = of_body(&json!({
        "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z", "windowSize": "day", "windowTimeZone": "europe/berlin",
        "subject": ["acme", "zeta"], "filterCustomerId": "acme", "groupBy": ["model"],
        "filterGroupBy": {"kind": "", "model": ["x", "y"]}, "clientId": "c", "unknown": 7, "advancedMeterGroupByFilters": null,
    }));
    let (pairs, body) = (pairs.expect("a query"), body.expect("a query"));
    assert_eq!((pairs.shows_subject, pairs.shows_customer, body.shows_subject), (true, true, true));
    let (pairs, body) = (asked(&pairs, None).expect("asks"), asked(&body, None).expect("asks"));
    assert_eq!(pairs.group_by(), [Field::Customer, Field::Dimension("model".into())]);
    assert_eq!(pairs.view_request().customers, Some(vec!["acme".to_owned()]));
    assert_eq!((pairs.view_request(), pairs.group_by(), pairs.buckets()), (body.view_request(), body.group_by(), body.buckets()));
}

#[test]
fn a_dict_of_python_s_filters_as_the_deep_object_does() {
    let from = ("from", "2026-01-01T00:00:00Z");
    let deep = of(&[from, ("filterGroupBy[model]", "x"), ("filterGroupBy[kind]", "it's")]).expect("a query");
    let text = of(&[from, ("filterGroupBy", r#"{'model': 'x', 'kind': "it's"}"#)]).expect("a query");
    assert_eq!(asked(&deep, None), asked(&text, None));
    assert_ne!(asked(&deep, None), asked(&of(&[from]).expect("a query"), None));
}

#[test]
fn an_aggregation_of_the_meter_is_what_is_asked_for() {
    for (word, measure) in [
        ("SUM", Measure::Sum),
        ("COUNT", Measure::Count),
        ("UNIQUE_COUNT", Measure::Unique("ce.value")),
        ("AVG", Measure::Average),
        ("MIN", Measure::Min),
        ("MAX", Measure::Max),
        ("LATEST", Measure::Latest),
    ] {
        let query = MeterQuery::of_body(b"", 7, &meter(json!({"aggregation": word})), NOW).expect("a query");
        assert_eq!(asked(&query, Some(0)).expect("asks").measure(MeterType::default()), measure);
    }
}

#[test]
fn a_range_is_whole_windows_at_its_end_and_whole_hours_else() {
    for (from, to, window, expected) in [
        ("2026-01-01T10:20:00Z", "2026-01-01T12:00:00Z", "HOUR", ("2026-01-01T10:00:00Z", "2026-01-01T12:00:00Z")),
        ("2026-01-01T10:20:00Z", "2026-01-01T12:00:00.001Z", "HOUR", ("2026-01-01T10:00:00Z", "2026-01-01T13:00:00Z")),
        ("2026-01-01T10:20:00Z", "2026-01-02T00:00:00Z", "DAY", ("2026-01-01T10:00:00Z", "2026-01-02T00:00:00Z")),
        ("2026-01-01T10:20:00Z", "2026-01-02T00:00:00.000001Z", "DAY", ("2026-01-01T10:00:00Z", "2026-01-03T00:00:00Z")),
        ("2026-01-01T10:20:00Z", "2026-02-10T00:00:00Z", "MONTH", ("2026-01-01T10:00:00Z", "2026-03-01T00:00:00Z")),
        ("2026-01-01T10:20:00Z", "2026-01-01T12:01:00Z", "", ("2026-01-01T10:00:00Z", "2026-01-01T13:00:00Z")),
        // Until now.
        ("2026-01-01T10:20:00Z", "", "", ("2026-01-01T10:00:00Z", "2026-02-10T13:00:00Z")),
        ("2026-01-01T10:20:00Z", "", "DAY", ("2026-01-01T10:00:00Z", "2026-02-11T00:00:00Z")),
        ("0001-01-01T00:00:00Z", "9999-12-30T00:00:00Z", "MONTH", ("1970-01-01T00:00:00Z", "10000-01-01T00:00:00Z")),
    ] {
        let pairs = [("from", from), ("to", to), ("windowSize", window)];
        let pairs: Vec<_> = pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let query = of(&pairs).expect("a query");
        assert_eq!(range(&query, None), Some((expected.0.to_owned(), expected.1.to_owned())), "{pairs:?}");
    }
    let berlin =
        of(&[("from", "2026-03-28T23:00:00Z"), ("to", "2026-03-29T00:00:01Z"), ("windowSize", "DAY"), ("windowTimeZone", "Europe/Berlin")]);
    let expected = Some(("2026-03-28T23:00:00Z".into(), "2026-03-29T22:00:00Z".into()));
    assert_eq!(range(&berlin.expect("a query"), None), expected, "a day of 23 hours");
}

#[test]
fn without_a_begin_it_is_the_first_day_with_events() {
    let begins_s = Some(1_767_225_600);
    for (pairs, expected) in [
        (vec![], Some(("2026-01-01T00:00:00Z", "2026-02-10T13:00:00Z"))),
        (vec![("windowSize", "HOUR"), ("to", "2026-01-02T00:00:00Z")], Some(("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"))),
        (vec![("to", "2026-01-01T00:00:00Z")], None),
        (vec![("to", "2025-01-01T00:00:00Z")], None),
    ] {
        let query = of(&pairs).expect("a query");
        assert!(query.begins_with_the_first_event());
        assert_eq!(range(&query, begins_s), expected.map(|(start, end)| (start.to_owned(), end.to_owned())), "{pairs:?}");
        assert_eq!(range(&query, None), None);
        let wanted = query.view_request();
        let answered = asked(&query, begins_s).map_or(0, |query| query.view_request().to_s);
        assert!(wanted.from_s == 0 && wanted.to_s % HOUR_S == 0 && wanted.to_s >= answered, "{wanted:?}");
    }
}

#[test]
fn events_before_those_that_the_meter_begins_with_are_left_out() {
    let meter = meter(json!({"eventFrom": "2026-01-05T10:30:00Z"}));
    let of = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        MeterQuery::of_parameters(pairs, 7, &meter, NOW).expect("a query")
    };
    let range = |pairs, begins_s| range(&of(pairs), begins_s).map(|(start, _)| start);
    assert_eq!(range(&[("from", "2026-01-01T00:00:00Z")], None).as_deref(), Some("2026-01-05T10:00:00Z"));
    assert_eq!(range(&[("from", "2026-01-06T00:00:00Z")], None).as_deref(), Some("2026-01-06T00:00:00Z"));
    assert_eq!(range(&[], Some(0)).as_deref(), Some("2026-01-05T10:00:00Z"));
    assert_eq!(range(&[("from", "2026-01-01T00:00:00Z"), ("to", "2026-01-02T00:00:00Z")], None), None, "no event, and no error");
}

#[test]
fn what_is_wrong_is_named() {
    let from = ("from", "2026-01-01T00:00:00Z");
    let deep: Vec<(String, String)> = (0..11).map(|n| ("groupBy".to_owned(), format!("g{n}"))).collect();
    let deep: Vec<(&str, &str)> = deep.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    for (pairs, details) in [
        (vec![from, ("windowSize", "MINUTE")], "windowSize must be HOUR, DAY or MONTH: what was used is kept by the hour"),
        (vec![from, ("windowSize", "WEEK")], "windowSize must be HOUR, DAY or MONTH"),
        (
            vec![from, ("windowTimeZone", "Mars")],
            "windowTimeZone must be the name of a time zone in the IANA database, such as Europe/Berlin",
        ),
        (vec![("from", "noon")], "from must be a time as in RFC 3339, before the year 10000"),
        (vec![from, ("to", "2026-01-01T00:00:00Z")], "to must be after `from`"),
        (vec![from, from], "from is given twice"),
        (
            vec![from, ("filterGroupBy", "model=x")],
            "filterGroupBy must be given as filterGroupBy[name]=value, or as the text of a Python dict of texts",
        ),
        (vec![from, ("advancedMeterGroupByFilters", "{}")], "advancedMeterGroupByFilters is not supported yet: filter with filterGroupBy"),
        (
            vec![from, ("advancedMeterGroupByFilters[model][$eq]", "x")],
            "advancedMeterGroupByFilters is not supported yet: filter with filterGroupBy",
        ),
        (deep, "groupBy has more than 10 keys, the limit"),
    ] {
        assert_eq!(of(&pairs).expect_err("a bad query").details.as_deref(), Some(details));
    }
    let long = of(&[("from", "2000-01-01T00:00:00Z"), ("windowSize", "HOUR")]).expect_err("226,000 hours");
    assert_eq!(long.details, Some(format!("windowSize cuts the range into more than {BUCKETS_MAX} buckets, the limit")));
    for (body, details) in [
        (
            json!({"advancedMeterGroupByFilters": {"model": {"$in": ["x"]}}}),
            "advancedMeterGroupByFilters is not supported yet: filter with filterGroupBy",
        ),
        (json!({"from": 7}), "from must be a string"),
        (json!({"subject": [7]}), "subject must be a string or an array of strings"),
        (json!({"filterGroupBy": "model"}), "filterGroupBy must be an object"),
        (json!({"filterGroupBy": {"model": {"$eq": "x"}}}), "filterGroupBy.model must be a string or an array of strings"),
    ] {
        assert_eq!(of_body(&body).expect_err("a bad query").details.as_deref(), Some(details));
    }
    assert!(of_body(&json!([])).is_err());
}

proptest! {
    #[test]
    fn any_parameters_are_a_query_or_are_refused(pairs in proptest::collection::vec(
        ("from|to|windowSize|windowTimeZone|subject|groupBy|filterGroupBy|filterGroupBy\\[.{0,3}|filterCustomerId|\\PC{0,9}", "\\PC{0,12}|20[0-9]{2}-0[1-9]-1[0-9]T00:00:00Z|DAY|HOUR|UTC"), 0..6,
    )) {
        if let Ok(query) = MeterQuery::of_parameters(pairs, 7, &meter(json!({})), NOW) {
            let _request = query.view_request();
            let _query = query.query(Some(1_767_225_600));
        }
    }

    #[test]
    fn any_range_has_whole_windows_at_its_end(start_s in 0_i64..4_000_000_000, length_s in 1_i64..9_000_000, window in 0_usize..3, zone in 0_usize..3) {
        let zone = ["UTC", "America/New_York", "Asia/Kathmandu"][zone];
        let (from, to) = [start_s, start_s + length_s].map(|time_s| rfc3339::shortest(UnixMicros::of_seconds(time_s))).into();
        let query = of(&[("from", &from), ("to", &to), ("windowSize", WINDOWS[window].0), ("windowTimeZone", zone)]).expect("a query");
        let query = asked(&query, None).expect("asks");
        let (buckets, starts) = (query.buckets(), query.buckets().starts());
        prop_assert_eq!(buckets.answered_s().1, buckets.end_s(), "whole");
        prop_assert!(*starts.last().expect("one") < start_s + length_s, "the last one begins before the end");
        prop_assert!(buckets.end_s() + HOUR_S > start_s + length_s, "and ends behind it, but for what zones are moved by");
    }
}
