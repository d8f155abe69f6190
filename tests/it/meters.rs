//! Meter definitions, as the contract has them (`amberflo.md` section 3), and what they decide.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, DAY_0_S, DAY_S, Gateway, event};

fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer.json()
}

fn define(client: &Client, name: &str, meter_type: &str) -> Value {
    let body = json!({"meterApiName": name, "displayName": format!("The {name}"), "type": meter_type});
    ok(client.post("/meter-definition", &[], body.to_string()))
}

fn code(answer: Answer) -> String {
    answer.json()["code"].as_str().expect("a text").to_owned()
}

#[test]
fn a_definition_goes_there_and_back_in_every_form_of_its_path() {
    let mut gateway = Gateway::start();
    assert_eq!(ok(gateway.get("/meter-definition")), json!([]));
    gateway.send(&[event("u")]).logged(1);
    assert_eq!(ok(gateway.get("/meter-definition/")), json!([]), "a meter with events is not a defined one");
    let body = json!({
        "meterApiName": "a b/ü", "displayName": "API calls", "type": "Max_In_Period", "label": null, "dimensions": ["region", ""],
        "meterTimeInMillis": 7, "unknown": {},
    });
    let made = ok(gateway.post("/amberflo/meter-definition/", &[], body.to_string()));
    let time = made["meterTimeInMillis"].as_i64().expect("ms");
    assert!(time > 1_767_225_600_000);
    let expected = json!({
        "meterApiName": "a b/ü", "displayName": "API calls", "type": "MAX_IN_PERIOD", "label": "a b/ü", "dimensions": ["region", ""],
        "meterTimeInMillis": time,
    });
    assert_eq!(made, expected);
    let path = "/meter-definition/a%20b%2F%C3%BC";
    assert_eq!(ok(gateway.get(path)), made);
    // A PUT replaces all of it but the time.
    let put =
        json!({"meterApiName": "a b/ü", "displayName": "Calls", "label": "calls", "type": "SUM_OF_ALL_USAGE", "meterTimeInMillis": 9});
    let replaced = ok(gateway.call("PUT", "/meter-definition", &put.to_string()));
    let expected = json!({
        "meterApiName": "a b/ü", "displayName": "Calls", "type": "SUM_OF_ALL_USAGE", "label": "calls", "dimensions": [], "meterTimeInMillis": time,
    });
    assert_eq!(replaced, expected);
    define(&gateway, "second", "UNIQUE_CUSTOMERS_COUNT");
    gateway.kill_and_restart();
    let names = |gateway: &Gateway| -> Vec<Value> {
        ok(gateway.get("/meter-definition")).as_array().expect("an array").iter().map(|meter| meter["meterApiName"].clone()).collect()
    };
    assert_eq!(names(&gateway), ["a b/ü", "second"], "in the order of their making");
    assert_eq!(ok(gateway.delete(path)), replaced);
    assert_eq!(names(&gateway), ["second"]);
    assert_eq!(gateway.usage("m").count(), 1, "usage stays");
}

#[test]
fn what_is_refused_has_the_status_and_the_code_of_the_contract() {
    let gateway = Gateway::start();
    define(&gateway, "m", "SUM_OF_ALL_USAGE");
    let body = json!({"meterApiName": "m", "displayName": "again", "type": "SUM_OF_ALL_USAGE"}).to_string();
    assert_eq!(code(gateway.post("/meter-definition", &[], &body).refused(400)), "DUPLICATE");
    let unknown = body.replace("\"m\"", "\"n\"");
    assert_eq!(code(gateway.call("PUT", "/meter-definition", &unknown).refused(400)), "NOT_FOUND");
    for path in ["/meter-definition/n", "/meter-definition/%00", "/meter-definition/%ff"] {
        assert_eq!(code(gateway.get(path).refused(404)), "NOT_FOUND");
        assert_eq!(code(gateway.delete(path).refused(404)), "NOT_FOUND");
    }
    for method in ["POST", "PUT"] {
        for (body, details) in [
            (json!({"displayName": "d", "type": "SUM_OF_ALL_USAGE"}), "meterApiName is missing"),
            (json!({"meterApiName": "m", "type": "SUM_OF_ALL_USAGE"}), "displayName is missing"),
            (json!({"meterApiName": "m", "displayName": "d"}), "type is missing"),
            (json!({"meterApiName": "m", "displayName": "d", "type": "SUM", "dimensions": 7}), "dimensions must be an array of strings"),
        ] {
            gateway.call(method, "/meter-definition", &body.to_string()).refused(400).details(details);
        }
        assert_eq!(code(gateway.call(method, "/meter-definition", "[]").refused(400)), "BAD_REQUEST");
    }
    assert_eq!(code(gateway.call("PATCH", "/meter-definition", "{}").refused(405)), "METHOD_NOT_ALLOWED");
    assert_eq!(code(gateway.with_key(None).get("/meter-definition").refused(401)), "UNAUTHORIZED");
    let reader = gateway.with(&gateway.make_key("default", &["read"]));
    reader.get("/meter-definition/m").refused(200);
    reader.post("/meter-definition", &[], &unknown).refused(403);
    reader.delete("/meter-definition/m").refused(403);
}

/// A query of form B that names no aggregation, or this one.
fn total(client: &Client, meter: &str, aggregation: Option<&str>) -> String {
    let range = json!({"startTimeInSeconds": DAY_0_S, "endTimeInSeconds": DAY_0_S + DAY_S});
    let query = json!({"meterApiName": meter, "aggregation": aggregation, "timeGroupingInterval": "DAY", "timeRange": range});
    let one = ok(client.post("/usage", &[("prefer", "wait=30")], query.to_string()));
    let batch = ok(client.post("/usage/batch", &[("prefer", "wait=30")], json!([query, query]).to_string()));
    assert_eq!(batch[1], one, "in a batch, too");
    one["clientMeters"][0]["groupValue"].to_string()
}

#[test]
fn the_type_of_a_meter_decides_what_a_query_gets_that_does_not_say() {
    let gateway = Gateway::start();
    let of = |customer: &str, value: u32| event(&format!("{customer}-{value}")).customer(customer).value(value);
    gateway.send(&[of("a", 5), of("a", 7), of("b", 1)]).logged(3);
    assert_eq!(total(&gateway, "m", None), "13", "nobody defined it");
    for (meter_type, expected, count) in
        [("MAX_IN_PERIOD", "7", "3"), ("UNIQUE_CUSTOMERS_COUNT", "2", "2"), ("SUM_OF_ALL_USAGE", "13", "3")]
    {
        define(&gateway, "m", meter_type);
        assert_eq!((total(&gateway, "m", None).as_str(), total(&gateway, "m", Some("COUNT")).as_str()), (expected, count), "{meter_type}");
        assert_eq!((total(&gateway, "m", Some("SUM")).as_str(), total(&gateway, "m", Some("MIN")).as_str()), ("13", "1"), "{meter_type}");
        let all =
            ok(gateway
                .get(&format!("/usage/all?startTimeInSeconds={DAY_0_S}&endTimeInSeconds={}&timeGroupingInterval=DAY", DAY_0_S + DAY_S)));
        assert_eq!(all[0]["clientMeters"][0]["groupValue"].to_string(), expected, "{meter_type}");
        gateway.delete("/meter-definition/m").refused(200);
    }
    // Another account's definition of the same name is another one's.
    gateway.make_account("other");
    define(&gateway.with(&gateway.make_key("other", &["admin"])), "m", "MAX_IN_PERIOD");
    assert_eq!(total(&gateway, "m", None), "13");
}
