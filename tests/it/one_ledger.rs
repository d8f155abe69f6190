//! One ledger, four dialects: a customer that one made is everybody's, and usage adds up whoever sent it and whoever asks.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Client, DAY_0_MS, DAY_0_S, DAY_S, Gateway};
use crate::lossless::One;

/// The sums of each day, by the begin of the day.
type Days = BTreeMap<i64, String>;

/// What `acme` used of `calls` in January 2026, as a dialect tells it.
type Query = (&'static str, fn(&Client) -> i64);

const QUERIES: [Query; 4] = [("Amberflo", ask_amberflo), ("Octane", ask_octane), ("Stigg", ask_stigg), ("OpenMeter", ask_openmeter)];

fn ask_amberflo(client: &Client) -> i64 {
    client.usage("calls").customer("acme").sum().parse().expect("a whole number")
}

fn ask_stigg(client: &Client) -> i64 {
    history(client).iter().map(|(_, value)| value.as_i64().expect("a whole number")).sum()
}

fn ask_octane(client: &Client) -> i64 {
    let path = "/octane/customers/acme/usage?meter_name=calls&start_time=2026-01-01T00:00:00Z&end_time=2026-02-01T00:00:00Z";
    client.get(path).refused(200).json()["usage"].as_i64().expect("a whole number")
}

fn ask_openmeter(client: &Client) -> i64 {
    let path = "/openmeter/api/v1/meters/calls/query?subject=acme&from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z";
    client.get(path).refused(200).json()["data"][0]["value"].as_i64().expect("a whole number")
}

fn history(client: &Client) -> Vec<(String, Value)> {
    let answer =
        client.get("/stigg/api/v1/usage/acme/history/calls?startDate=2026-01-01T00:00:00Z&endDate=2026-02-01T00:00:00Z").refused(200);
    assert_eq!(answer.header("tollgate-complete"), Some("true"));
    let series = answer.json()["data"]["series"].clone();
    let points = series.as_array().expect("an array").iter().flat_map(|one| one["points"].as_array().expect("an array").clone());
    points.map(|point| (point["timestamp"].as_str().expect("a time").to_owned(), point["value"].clone())).collect()
}

fn cloud_event(id: &str, value: Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "svc", "type": "calls", "subject": "acme", "time": "2026-01-02T00:00:00.5Z", "data": {"value": value}})
}

/// A request in the words of a dialect: path, headers, body, and how much it brings of `calls`.
type Sent = (&'static str, Vec<(&'static str, &'static str)>, Value, i64);

fn sent() -> Vec<Sent> {
    let amberflo = |id: &str, value: i64, day: i64| json!({"uniqueId": id, "customerId": "acme", "meterApiName": "calls", "meterValue": value, "meterTimeInMillis": DAY_0_MS + day * DAY_S * 1_000});
    let octane = |id: &str, value: i64| json!({"id": id, "customer_name": "acme", "meter_name": "calls", "value": value, "time": "2026-01-01T12:00:00.123456"});
    let stigg = json!({"customerId": "acme", "eventName": "calls", "idempotencyKey": "s-1", "timestamp": "2026-01-01T23:59:59.999Z", "dimensions": {"value": 100}});
    let usage = |key: &str, value: i64| json!({"customerId": "acme", "featureId": "calls", "idempotencyKey": key, "value": value, "createdAt": "2026-01-03T00:00:00Z"});
    let binary = vec![
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "c-3"),
        ("ce-source", "svc"),
        ("ce-type", "calls"),
        ("ce-subject", "acme"),
        ("ce-time", "2026-01-02T00:00:00.5Z"),
    ];
    vec![
        ("/ingest", vec![], json!([amberflo("a-1", 1, 0), amberflo("a-2", 2, 1)]), 3),
        ("/measurements", vec![], octane("o-1", 10), 10),
        ("/octane/measurements/multi", vec![], json!([octane("o-2", 20), octane("o-3", 30)]), 50),
        ("/api/v1/events", vec![], json!({"events": [stigg]}), 100),
        ("/stigg/api/v1/usage", vec![], json!({"usages": [usage("s-2", 200), usage("s-3", 300)]}), 500),
        ("/api/v1/usage", vec![], usage("s-4", 400), 400),
        (
            "/api/v1/events",
            vec![("content-type", "application/cloudevents-batch+json")],
            json!([cloud_event("c-1", json!(1_000)), cloud_event("c-2", json!("2000"))]),
            3_000,
        ),
        ("/openmeter/api/v1/events", binary, json!({"value": 10_000}), 10_000),
    ]
}

#[test]
fn usage_of_all_dialects_adds_up_in_the_query_of_each() {
    let gateway = Gateway::start();
    One::new(&gateway, "acme").create_by_octane(json!({})).refused(200);
    // OpenMeter's queries are of meters that somebody has defined.
    let calls = json!({"meterApiName": "calls", "displayName": "Calls", "type": "SUM_OF_ALL_USAGE"});
    gateway.post("/meter-definition", &[], calls.to_string()).refused(200);
    let mut expected = 0;
    for (path, headers, body, brings) in sent() {
        expected += brings;
        // Once more, as a client does whose answer was lost.
        for _ in 0..2 {
            let status = gateway.post(path, &headers, body.to_string()).status;
            assert!([200, 201, 204].contains(&status), "{path}: {status}");
            for (dialect, ask) in QUERIES {
                assert_eq!(ask(&gateway), expected, "{dialect}, behind {path}");
            }
        }
    }
    let days: Days = [(0, "161"), (1, "13002"), (2, "900")].map(|(day, sum)| (DAY_0_S + day * DAY_S, sum.to_owned())).into();
    assert_eq!(gateway.usage("calls").customer("acme").ask("SUM").buckets(), days);
    let days = ["2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z", "2026-01-03T00:00:00.000Z"].map(String::from);
    assert_eq!(history(&gateway), days.into_iter().zip([json!(161), json!(13_002), json!(900)]).collect::<Vec<_>>());
    let more = json!({"customerId": "acme", "featureId": "calls", "value": 1, "createdAt": "2026-01-04T00:00:00Z"});
    let answer = gateway.post("/api/v1/usage", &[], more.to_string()).refused(201).json();
    assert_eq!(answer["data"]["currentUsage"], expected + 1, "whoever sent it");
}

#[test]
fn a_customer_of_one_dialect_is_read_changed_and_removed_through_the_others() {
    let gateway = Gateway::start();
    let names = |one: &One<'_>| {
        let [amberflo, octane, stigg] = one.shown();
        [amberflo["customerName"].clone(), octane["display_name"].clone(), stigg["name"].clone()]
    };
    for (maker, changer, remover) in (0..27).map(|n| (n / 9, n / 3 % 3, n % 3)) {
        let one = One::new(&gateway, &format!("acme {maker}/{changer}-{remover}").replace([' ', '/'], "_"));
        match maker {
            0 => one.amberflo("POST", json!({"customerName": "made"})).refused(200),
            1 => one.create_by_octane(json!({"display_name": "made"})).refused(200),
            _ => one.create_by_stigg(json!({"name": "made"})).refused(201),
        };
        assert_eq!(names(&one), ["made"; 3], "made by {maker}");
        match changer {
            0 => one.amberflo("PUT", json!({"customerName": "changed"})),
            1 => one.octane("PUT", "", json!({"display_name": "changed"})),
            _ => one.stigg("PATCH", "", json!({"name": "changed"})),
        }
        .refused(200);
        assert_eq!(names(&one), ["changed"; 3], "changed by {changer}");
        match remover {
            0 => one.amberflo("DELETE", Value::Null).refused(200),
            1 => one.octane("DELETE", "", Value::Null).refused(204),
            _ => one.stigg("DELETE", "", Value::Null).refused(200),
        };
        one.amberflo("GET", Value::Null).refused(404);
        one.octane("GET", "", Value::Null).refused(404);
        assert!(one.stigg("GET", "", Value::Null).refused(200).json()["data"]["archivedAt"].is_string(), "removed by {remover}");
    }
    for (path, nobody) in [
        ("/amberflo/customers", json!([])),
        ("/octane/customers", json!([])),
        ("/stigg/api/v1/customers", json!({"data": [], "pagination": {"next": null, "prev": null}})),
    ] {
        assert_eq!(gateway.get(path).refused(200).json(), nobody);
    }
}
