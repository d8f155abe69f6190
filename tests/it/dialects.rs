//! Events in the words of each dialect, at each door: they count as any other, once, and what is wrong is said in the words of whoever sent it
//! (contracts `octane.md` section 2, `stigg.md` section 4, `cloudevents.md` sections 1 and 2).

use serde_json::{Value, json};

use crate::harness::{Answer, Client, DAY_0_S, Gateway};

const CLOUD_EVENT: (&str, &str) = ("content-type", "application/cloudevents+json");
const CLOUD_BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");
/// Noon of the first day of 2026, as most dialects write it.
const NOON: &str = "2026-01-01T12:00:00Z";

#[track_caller]
fn post(client: &Client, path: &str, body: &Value, status: u16) -> Answer {
    client.post(path, &[], body.to_string()).refused(status)
}

/// Sum of a meter of a customer, with the dimensions that it comes with.
#[track_caller]
fn used(client: &Client, meter: &str, dimensions: &[&str]) -> Vec<(Vec<String>, Value)> {
    let query = json!({"meterApiName": meter, "aggregation": "SUM", "timeGroupingInterval": "DAY", "groupBy": dimensions,
        "timeRange": {"startTimeInSeconds": DAY_0_S}});
    let answer = post(client, "/usage", &query, 200);
    assert_eq!(answer.header("tollgate-complete"), Some("true"));
    let groups = answer.json()["clientMeters"].as_array().expect("an array").clone();
    let of = |group: &Value| {
        let texts = dimensions.iter().map(|key| group["group"]["groupInfo"][*key].as_str().expect("a text").to_owned());
        (texts.collect(), group["groupValue"].clone())
    };
    groups.iter().map(of).collect()
}

fn sum(client: &Client, meter: &str) -> Value {
    used(client, meter, &[]).first().map_or(json!(0), |(_, sum)| sum.clone())
}

#[test]
fn octane_s_measurements_count_once_and_come_back_with_id_and_time() {
    let gateway = Gateway::start();
    let sent = json!({"meter_name": "calls", "customer_name": "acme", "value": 2.5, "labels": {"region": "eu", "none": null}, "time": "2026-01-01T12:00:00.123456", "id": "m-1"});
    for path in ["/measurements", "/measurements/", "/octane/measurements", "/octane//measurements/"] {
        assert_eq!(post(&gateway, path, &sent, 200).json(), sent);
    }
    assert_eq!(used(&gateway, "calls", &["customerId", "region"]), [(vec!["acme".into(), "eu".into()], json!(2.5))]);
    // Without an id it is known by what it says, and by its time, to the microsecond.
    let mut without = sent.clone();
    without["id"] = Value::Null;
    let echo = post(&gateway, "/measurements", &without, 200).json();
    assert!(echo["id"].as_str().is_some_and(|id| !id.is_empty()), "{echo}");
    let again = post(&gateway, "/measurements/multi", &json!([without, without]), 200).json();
    assert_eq!(again, json!([echo, echo]));
    without["time"] = json!("2026-01-01T12:00:00.123457Z");
    post(&gateway, "/measurements", &without, 200);
    assert_eq!(sum(&gateway, "calls"), json!(7.5));
    // Without a time either, two of the same moment are two.
    let bare = json!({"event_name": "bare", "customer_name": "acme", "value": 1});
    let [first, second] = [0, 1].map(|_| post(&gateway, "/measurements", &bare, 200).json());
    assert!(first["id"] != second["id"] && first["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{first}");
    let today = json!({"meterApiName": "bare", "aggregation": "COUNT", "timeGroupingInterval": "MONTH", "timeRange": {"startTimeInSeconds": DAY_0_S}});
    assert_eq!(post(&gateway, "/usage", &today, 200).json()["clientMeters"][0]["groupValue"], 2);
}

#[test]
fn of_octane_s_batch_all_counts_or_nothing() {
    let gateway = Gateway::start();
    let good = json!({"meter_name": "calls", "customer_name": "acme", "value": 1, "time": NOON, "id": "m-1"});
    for (change, said) in [
        (json!({"value": null}), "[1].value is missing"),
        (json!({"customer_name": null}), "[1].customer_name is missing"),
        (json!({"meter_name": null}), "[1].meter_name is missing, and so is event_name"),
        (json!({"labels": {"a": 1}}), "[1].labels.a must be a string"),
        (json!({"time": "noon"}), "[1].time must be a time such as 2026-01-01T00:00:00Z"),
        (json!({"reset_total": true}), "[1].reset_total must not be true: a total cannot be set, only added to"),
        (json!({"id": "x".repeat(256)}), "[1].id has 256 bytes, the limit is 255"),
        (json!({"customer_name": ""}), "[1].customer_name must not be empty"),
    ] {
        let mut bad = good.clone();
        bad.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        let error = post(&gateway, "/measurements/multi", &json!([good, bad]), 400).json();
        assert_eq!((&error["error"]["message"], &error["error"]["type"]), (&json!(said), &json!("invalid_request_error")));
        let field = said.split(' ').next().expect("a field");
        assert_eq!((&error["code"], &error["error"]["param"]), (&json!(400), &json!(field)));
    }
    post(&gateway, "/measurements", &json!([good]), 400);
    post(&gateway, "/measurements/multi", &good, 400);
    assert_eq!(sum(&gateway, "calls"), json!(0));
    assert_eq!(gateway.dead_letters(), [] as [Value; 0]);
    assert_eq!(post(&gateway, "/measurements/multi", &json!([]), 200).json(), json!([]));
}

#[test]
fn stigg_s_events_count_once_and_a_bad_one_costs_its_neighbours_nothing() {
    let gateway = Gateway::start();
    let event = |key: &str, more: Value| {
        let mut event = json!({"customerId": "acme", "eventName": "seats", "idempotencyKey": key, "timestamp": NOON});
        event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        event
    };
    let events = json!({"events": [
        event("e-1", json!({"dimensions": {"region": "eu", "level": 3, "beta": true, "value": 2.5}, "resourceId": "r-1"})),
        event("e-2", json!({"dimensions": {"value": "many"}, "resourceId": null})),
    ]});
    for path in ["/stigg/api/v1/events", "/api/v1/events"] {
        let answer = post(&gateway, path, &events, 200);
        assert_eq!((answer.json(), answer.header("tollgate-rejected")), (json!({"data": {}}), None));
    }
    let keys = ["region", "level", "beta", "resourceId", "value"];
    assert_eq!(
        used(&gateway, "seats", &keys),
        [
            (["eu", "3", "true", "r-1", ""].map(String::from).to_vec(), json!(2.5)),
            (["", "", "", "", "many"].map(String::from).to_vec(), json!(1))
        ]
    );
    let mixed =
        json!({"events": [event("e-3", json!({})), event("e-4", json!({"idempotencyKey": null})), event("e-5", json!({"timestamp": 7}))]});
    assert_eq!(post(&gateway, "/api/v1/events", &mixed, 200).header("tollgate-rejected"), Some("2"));
    let letters = gateway.dead_letters();
    assert_eq!((&letters[1]["reason"], &letters[1]["field"]), (&json!("is missing"), &json!("idempotencyKey")));
    assert_eq!((&letters[0]["field"], &letters[0]["shape"]), (&json!("timestamp"), &json!("stigg_event")));
    // Brought again as it was sent, mended.
    let letter = letters[1]["position"].as_u64().expect("a position");
    let mended = event("e-4", json!({}));
    post(&gateway, &format!("/v1/dead-letters/{letter}/replay"), &mended, 200);
    assert_eq!(sum(&gateway, "seats"), json!(5.5));
    for (body, said) in [
        (json!({"events": []}), "events is empty: send 1 to 1000"),
        (json!({"events": {}}), "events is missing, or is no array"),
        (json!({}), "events is missing, or is no array"),
        (json!({"events": [event("x", json!({"customerId": ""}))]}), "events[0].customerId must not be empty"),
        (json!({"events": vec![event("x", json!({})); 1_001]}), "the body has 1001 events, the limit is 1000"),
    ] {
        let status = if said.contains("limit") { 413 } else { 400 };
        let error = post(&gateway, "/stigg/api/v1/events", &body, status).json();
        assert_eq!((&error["message"], &error["error"]["message"]), (&json!(said), &json!(said)));
    }
}

fn cloud_event(id: &str, more: Value) -> Value {
    let mut event =
        json!({"specversion": "1.0", "id": id, "source": "svc-a", "type": "llm", "subject": "acme", "time": "2026-01-01T00:00:00.5Z"});
    event.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    event
}

#[test]
fn cloud_events_are_the_same_in_each_mode() {
    let gateway = Gateway::start();
    let data = json!({"value": 42, "model": "m-2", "nested": {"a": 1}, "none": null, "cached": false});
    let event = |id: &str| cloud_event(id, json!({"data": data, "datacontenttype": "application/json", "team": "blue", "model": "other"}));
    let none = |answer: Answer| assert_eq!((answer.refused(204).text(), ""), ("", ""));
    none(gateway.post("/api/v1/events", &[CLOUD_EVENT], event("single").to_string()));
    none(gateway.post("/openmeter/api/v1/events", &[CLOUD_BATCH], json!([event("single"), event("batch")]).to_string()));
    none(gateway.post("/api/v1/events", &[], json!([event("array")]).to_string()));
    none(gateway.post("/api/v1/events", &[], event("object").to_string()));
    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "b%69nary"),
        ("ce-source", "svc-a"),
        ("ce-type", "llm"),
        ("ce-subject", "acme"),
        ("ce-time", "2026-01-01T00:00:00.5Z"),
        ("ce-team", "blue"),
    ];
    none(gateway.post("/api/v1/events", &binary, data.to_string()));
    none(gateway.post("/api/v1/events", &[CLOUD_BATCH], json!([event("binary")]).to_string()));
    none(gateway.post("/api/v1/events", &[CLOUD_BATCH], "[]"));
    let keys = ["customerId", "model", "cached", "team", "ce.source", "nested", "none"];
    assert_eq!(used(&gateway, "llm", &keys), [(["acme", "m-2", "false", "blue", "svc-a", "", ""].map(String::from).to_vec(), json!(210))]);
}

#[test]
fn a_cloud_event_is_known_by_its_source_and_its_id() {
    let gateway = Gateway::start();
    let batch = json!([
        cloud_event("e", json!({"data": {"value": "1.5"}})),
        cloud_event("e", json!({"data": {"value": "1.5"}})),
        cloud_event("e", json!({"source": "svc-b", "time": null})),
    ]);
    for _ in 0..2 {
        gateway.post("/openmeter/api/v1/events", &[CLOUD_BATCH], batch.to_string()).refused(204);
    }
    assert_eq!(sum(&gateway, "llm"), json!(2.5));
}

#[test]
fn what_is_wrong_with_a_cloud_event_is_a_problem() {
    let gateway = Gateway::start();
    for (change, said) in [
        (json!({"id": ""}), "id must not be empty"),
        (json!({"source": null}), "source is missing"),
        (json!({"subject": 7}), "subject must be a string"),
        (json!({"type": null}), "type is missing"),
        (json!({"specversion": "0.3"}), "specversion must be 1.0"),
        (json!({"time": "yesterday"}), "time must be a time such as 2026-01-01T00:00:00Z"),
        (json!({"datacontenttype": "text/plain"}), "datacontenttype must be application/json"),
        (json!({"data": [1]}), "data must be an object"),
        (json!({"data_base64": "AA=="}), "data_base64 must not be given: data must be a JSON object"),
    ] {
        let answer = gateway.post("/openmeter/api/v1/events", &[CLOUD_EVENT], cloud_event("e", change).to_string()).refused(400);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let problem = answer.json();
        assert_eq!((&problem["detail"], &problem["title"], &problem["status"]), (&json!(said), &json!("Bad Request"), &json!(400)));
    }
    for (headers, body) in [
        (vec![("content-type", "text/plain")], cloud_event("e", json!({})).to_string()),
        (vec![CLOUD_EVENT], json!([cloud_event("e", json!({}))]).to_string()),
        (vec![CLOUD_BATCH], cloud_event("e", json!({})).to_string()),
        (vec![("ce-specversion", "1.0"), ("ce-id", "e")], "{".into()),
        (vec![("ce-specversion", "1.0"), ("ce-id", "%ff")], "{}".into()),
    ] {
        gateway.post("/openmeter/api/v1/events", &headers, body).refused(400);
    }
    let mixed = json!([cloud_event("good", json!({})), cloud_event("bad", json!({"type": null}))]);
    let answer = gateway.post("/openmeter/api/v1/events", &[CLOUD_BATCH], mixed.to_string()).refused(204);
    assert_eq!(answer.header("tollgate-rejected"), Some("1"));
    let letter = &gateway.dead_letters()[0];
    assert_eq!((&letter["field"], &letter["shape"]), (&json!("type"), &json!("cloud_event")));
    gateway.get("/v1/dead-letters?uniqueId=bad&customerId=acme").refused(200);
    assert_eq!(sum(&gateway, "llm"), json!(1));
}

#[test]
fn strangers_are_told_so_in_the_words_of_the_door() {
    let node = Gateway::start();
    let gateway = node.with_key(None);
    let error = post(&gateway, "/measurements", &json!({}), 401).json();
    assert_eq!(error["error"]["code"], "unauthorized");
    let error = post(&gateway, "/stigg/api/v1/events", &json!({}), 401).json();
    assert_eq!(error["code"], "UNAUTHENTICATED");
    let answer = gateway.post("/api/v1/events", &[CLOUD_EVENT], "{}").refused(401);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    for path in ["/octane/measurements", "/measurements/multi", "/stigg/api/v1/events"] {
        assert_eq!(gateway.get(path).refused(405).header("allow"), Some("POST"), "{path}");
    }
}

#[test]
fn usage_that_came_in_four_dialects_adds_up() {
    let gateway = Gateway::start();
    post(
        &gateway,
        "/ingest",
        &json!({"customerId": "acme", "meterApiName": "all", "meterValue": 1, "meterTimeInMillis": DAY_0_S * 1_000}),
        200,
    );
    post(&gateway, "/measurements", &json!({"customer_name": "acme", "meter_name": "all", "value": 10, "time": NOON}), 200);
    let event = json!({"customerId": "acme", "eventName": "all", "idempotencyKey": "k", "timestamp": NOON, "dimensions": {"value": 100}});
    post(&gateway, "/api/v1/events", &json!({"events": [event]}), 200);
    let cloud = cloud_event("c", json!({"type": "all", "data": {"value": 1000}}));
    gateway.post("/api/v1/events", &[CLOUD_EVENT], cloud.to_string()).refused(204);
    assert_eq!(used(&gateway, "all", &["customerId"]), [(vec!["acme".into()], json!(1111))]);
}
