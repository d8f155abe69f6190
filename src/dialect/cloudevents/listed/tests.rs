//! Events of every dialect as they are listed.

use super::*;
use crate::dialect::cloudevents::meters::MeterRequest;

fn meter(body: &Value) -> Meter {
    let MeterRequest { name, said, ext } = MeterRequest::parse(body.to_string().as_bytes()).expect("a good body");
    Meter { name, said, ext, created_at: UnixMillis(1) }
}

fn listed(record: &Value, meters: &[Meter]) -> Value {
    let record = serde_json::value::to_raw_value(record).expect("JSON");
    render(&record, UnixMillis(1_767_225_601_500), &Places::of(meters)).expect("a record")
}

fn record(more: Value) -> Value {
    let mut record = json!({"uniqueId": "e-1", "customerId": "acme-7", "meterTimeInMillis": 1_767_225_600_500_i64});
    record.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    record
}

#[test]
fn events_that_no_definition_is_for() {
    let cloud = record(
        json!({"namespace": "svc-a", "meterApiName": "llm", "meterValue": 42, "dimensions": {"model": "m-2", "ce.source": "svc-a"}}),
    );
    let expected = json!({
        "event": {"specversion": "1.0", "id": "e-1", "source": "svc-a", "type": "llm", "subject": "acme-7", "time": "2026-01-01T00:00:00.5Z",
            "datacontenttype": "application/json", "data": {"value": 42, "model": "m-2"}},
        "customerId": "acme-7", "ingestedAt": "2026-01-01T00:00:01.5Z", "storedAt": "2026-01-01T00:00:01.5Z",
    });
    assert_eq!(listed(&cloud, &[]), expected);
    let several = listed(&record(json!({"values": {"calls": 1, "bytes": 2.5}, "dimensions": {"region": "eu"}})), &[]);
    assert_eq!((&several["event"]["type"], &several["event"]["source"]), (&json!("bytes"), &json!("tollgate")));
    assert_eq!(several["event"]["data"], json!({"region": "eu", "values": {"calls": 1, "bytes": 2.5}}));
}

#[test]
fn what_meters_have_read_stands_where_they_read_it() {
    let meters = [
        meter(
            &json!({"slug": "tokens", "aggregation": "SUM", "eventType": "prompt", "valueProperty": "$.usage.tokens", "groupBy": {"model": "$.model.name", "kind": "$.kind"}}),
        ),
        meter(&json!({"slug": "prompts", "aggregation": "COUNT", "eventType": "prompt", "valueProperty": "$.usage.tokens"})),
        meter(&json!({"slug": "users", "aggregation": "UNIQUE_COUNT", "eventType": "prompt", "valueProperty": "$['user id']"})),
        meter(&json!({"slug": "cost", "aggregation": "MAX", "eventType": "prompt", "valueProperty": "$.cost"})),
        meter(&json!({"slug": "items", "aggregation": "SUM", "eventType": "prompt", "valueProperty": "$.items[0]"})),
    ];
    let sent = record(json!({
        "namespace": "svc-a", "values": {"tokens": 12, "prompts": 1, "users": 1, "cost": 0, "items": 7, "gone": 3},
        "dimensions": {"ce.source": "svc-a", "ce.type": "prompt", "region": "eu"},
        "meterDimensions": {"tokens": {"model": "m-2", "kind": ""}, "users": {"ce.value": "u-1"}, "cost": {"ce.error": "not_numeric"}},
    }));
    let listed = listed(&sent, &meters);
    assert_eq!(listed["event"]["type"], "prompt");
    assert_eq!(listed["event"]["data"], json!({"region": "eu", "usage": {"tokens": 12}, "model": {"name": "m-2"}, "user id": "u-1"}));
    assert_eq!(listed["validationError"], "meter cost: its valueProperty is no number, and no text that is one");
}

#[test]
fn several_errors_are_all_told_and_nothing_is_overwritten() {
    let meters = [meter(&json!({"slug": "a", "aggregation": "SUM", "eventType": "e", "valueProperty": "$.x.y"}))];
    let sent = record(json!({
        "values": {"a": 1, "b": 0, "c": 0}, "dimensions": {"ce.type": "e", "x": "text"},
        "meterDimensions": {"b": {"ce.error": "missing"}, "c": {"ce.error": "of the future"}},
    }));
    let listed = listed(&sent, &meters);
    assert_eq!(listed["validationError"], "meter b: its valueProperty is not in the data; meter c: of the future");
    assert_eq!(listed["event"]["data"], json!({"x": "text"}));
}
