//! What an event leaves open is decided when it comes, in memory: which meters count an event of Octane's that names none, and whose a measurement is
//! that names nobody (contract `octane.md` sections 1 and 2). It stays one event: it counts once in each, whatever is defined when it comes again.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Gateway, Pair, Random, Setup, Shared};

const NOON: &str = "2026-01-01T12:00:00Z";
const EVENTS: [&str; 2] = ["call", "stall"];
const METERS: [&str; 4] = ["calls", "seconds", "call", "all"];

#[track_caller]
fn call(client: &Client, method: &str, path: &str, body: &Value, status: u16) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    client.call(method, &format!("/octane{path}"), &body).refused(status)
}

#[track_caller]
fn define(client: &Client, name: &str, event: &str) {
    let meter = json!({"name": name, "event_name": event, "meter_type": "COUNTER", "data_type": "FLOAT", "aggregation": "SUM",
        "is_incremental": true, "reporting_method": "DELTA"});
    call(client, "POST", "/meters", &meter, 200);
}

#[track_caller]
fn map(client: &Client, customer: &str, mappings: &Value) {
    call(client, "POST", "/customers", &json!({"name": customer, "measurement_mappings": mappings}), 200);
}

fn measurement(id: &str, event: &str, value: usize) -> Value {
    json!({"id": id, "event_name": event, "customer_name": "acme", "value": value, "time": NOON})
}

#[track_caller]
fn send(client: &Client, measurements: &[Value]) {
    call(client, "POST", "/measurements/multi", &json!(measurements), 200);
}

fn sums(client: &Client) -> BTreeMap<&'static str, String> {
    METERS.into_iter().chain(EVENTS).map(|meter| (meter, client.usage(meter).sum())).collect()
}

fn verdict(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/events/{id}")).json()
}

#[test]
fn an_event_counts_in_each_meter_of_its_name_and_a_repeat_in_none() {
    let mut gateway = Gateway::start();
    send(&gateway, &[measurement("before", "call", 1)]);
    assert_eq!(gateway.usage("call").sum(), "1", "without a meter it is about its own name");
    define(&gateway, "calls", "call");
    define(&gateway, "seconds", "call");
    send(&gateway, &[measurement("both", "call", 2), measurement("other", "stall", 4), measurement("both", "call", 2)]);
    // One that names its meter is about that one alone.
    let mut named = measurement("named", "call", 8);
    named["meter_name"] = json!("seconds");
    send(&gateway, &[named]);
    let of = |gateway: &Gateway| ["call", "calls", "seconds", "stall"].map(|meter| gateway.usage(meter).sum());
    assert_eq!(of(&gateway), ["1", "2", "10", "4"]);
    let both = verdict(&gateway, "both");
    assert_eq!((&both["verdict"], &both["event"]["values"]), (&json!("counted"), &json!({"calls": 2, "seconds": 2})));
    // What is defined changes; what was sent is still the same event.
    define(&gateway, "all", "call");
    call(&gateway, "DELETE", "/meters/calls", &Value::Null, 204);
    gateway.stop_and_restart();
    let repeats = ["before", "both"].map(|id| measurement(id, "call", if id == "both" { 2 } else { 1 }));
    send(&gateway, &repeats);
    assert_eq!((of(&gateway), gateway.usage("all").sum()), (["1", "2", "10", "4"].map(String::from), "0".into()));
    send(&gateway, &[measurement("both", "call", 3), measurement("last", "call", 16)]);
    assert_eq!((of(&gateway), gateway.usage("all").sum()), (["1", "2", "26", "4"].map(String::from), "16".into()));
    assert_eq!(gateway.settled_metrics().verdict("conflict"), 1, "only where the value was another one");
    if Pair::of_this_run() == Pair::Embedded {
        gateway.stop();
        gateway.tollgate(&["verify"]).ended_with(0);
    }
}

#[test]
fn without_a_name_a_measurement_is_the_customer_s_whose_mapping_it_meets() {
    let gateway = Gateway::start();
    let bare = |id: &str, labels: Value| json!({"id": id, "meter_name": "calls", "value": 1, "time": NOON, "labels": labels});
    let said = |answer: Answer| answer.json()["error"]["message"].as_str().expect("a message").to_owned();
    assert_eq!(said(call(&gateway, "POST", "/measurements", &bare("m-0", json!({})), 400)), "customer_name is missing");
    map(&gateway, "first", &json!([{"label": "user", "value_regex": "u-1"}, {"label": "host"}]));
    map(&gateway, "second", &json!([{"label": "user", "value_regex": "u-[0-9]+"}]));
    let unmet = "customer_name is missing, and no customer's mapping is met by the labels";
    assert_eq!(said(call(&gateway, "POST", "/measurements", &bare("m-0", json!({"user": "x"})), 400)), unmet);
    let good = bare("m-1", json!({"user": "u-1"}));
    let multi = json!([good, bare("m-0", json!({"user": "x"}))]);
    assert_eq!(said(call(&gateway, "POST", "/measurements/multi", &multi, 400)), format!("[1].{unmet}"));
    assert_eq!(gateway.usage("calls").count(), 0, "all of a batch, or nothing");
    for (id, labels, customer) in [
        ("m-1", json!({"user": "u-1"}), "first"),
        ("m-2", json!({"user": "u-2", "region": "eu"}), "second"),
        ("m-3", json!({"user": "u-2", "host": "h"}), "first"),
    ] {
        let echo = call(&gateway, "POST", "/measurements", &bare(id, labels), 200).json();
        assert_eq!(echo["customer_name"], Value::Null, "as it was sent");
        assert_eq!(verdict(&gateway, id)["event"]["customerId"], customer);
    }
    // Without an id it is known by what was sent, also when it would be somebody else's by now.
    let without = json!({"meter_name": "calls", "value": 1, "time": NOON, "labels": {"user": "u-2"}});
    call(&gateway, "POST", "/measurements", &without, 200);
    call(&gateway, "DELETE", "/customers/second/mappings/user", &Value::Null, 204);
    map(&gateway, "third", &json!([{"label": "user"}]));
    call(&gateway, "POST", "/measurements", &without, 200);
    call(&gateway, "POST", "/measurements", &bare("m-2", json!({"user": "u-2", "region": "eu"})), 200);
    let of = |customer: &str| gateway.usage("calls").customer(customer).count();
    assert_eq!((of("first"), of("second"), of("third")), (2, 2, 0));
    assert_eq!(gateway.settled_metrics().verdict("conflict"), 0);
    call(&gateway, "DELETE", "/customers/first", &Value::Null, 204);
    call(&gateway, "POST", "/measurements", &bare("m-4", json!({"user": "u-1"})), 200);
    assert_eq!(of("third"), 1, "who is removed gets nothing more");
}

#[test]
fn whatever_is_sent_repeated_and_defined_in_any_order_each_event_counts_once_as_it_came_first() {
    let steps = if Pair::of_this_run() == Pair::Embedded { 300 } else { 60 };
    let mut gateway = Setup::default().start();
    let mut random = Random::seeded();
    let mut defined: BTreeMap<&str, &str> = BTreeMap::new();
    // By id: what it says.
    let mut sent: Vec<(String, &str, usize)> = Vec::new();
    let mut expected: BTreeMap<&str, usize> = METERS.into_iter().chain(EVENTS).map(|meter| (meter, 0)).collect();
    for step in 0..steps {
        if random.once_in(steps / 20) {
            let meter = METERS[random.below(METERS.len())];
            if defined.remove(meter).is_some() {
                call(&gateway, "DELETE", &format!("/meters/{meter}"), &Value::Null, 204);
            } else {
                let event = EVENTS[random.below(EVENTS.len())];
                define(&gateway, meter, event);
                defined.insert(meter, event);
            }
        }
        let mut batch = Vec::new();
        for _ in 0..=random.below(4) {
            if sent.is_empty() || random.once_in(2) {
                let (id, event, value) = (format!("e-{}", sent.len()), EVENTS[random.below(EVENTS.len())], 1 + random.below(9));
                let counts: Vec<&str> = defined.iter().filter(|(_, counted)| **counted == event).map(|(meter, _)| *meter).collect();
                let counts = if counts.is_empty() { vec![event] } else { counts };
                counts.into_iter().for_each(|meter| *expected.get_mut(meter).expect("is one of them") += value);
                sent.push((id, event, value));
            }
            let (id, event, value) = &sent[random.below(sent.len())];
            // A new one goes out at once, an old one may.
            let (last, event_of_last, value_of_last) = sent.last().expect("there is one");
            batch.push(measurement(last, event_of_last, *value_of_last));
            batch.push(measurement(id, event, *value));
        }
        random.shuffle(&mut batch);
        send(&gateway, &batch);
        if step == steps / 2 {
            gateway.kill_and_restart();
        }
    }
    let expected: BTreeMap<&str, String> = expected.into_iter().map(|(meter, sum)| (meter, sum.to_string())).collect();
    assert_eq!(sums(&gateway), expected);
    assert_eq!(gateway.settled_metrics().verdict("conflict"), 0, "what was sent is the same, whatever it has become");
    if Pair::of_this_run() == Pair::Embedded {
        gateway.stop();
        gateway.tollgate(&["verify"]).ended_with(0);
        gateway.tollgate(&["rebuild"]).ended_with(0);
        gateway.restart();
        assert_eq!(sums(&gateway), expected);
    }
}

#[test]
fn what_one_node_defines_holds_on_the_others_that_share_its_store() {
    let shared = Shared::new();
    let [one, other] = [0, 1].map(|_| Setup::default().node_of(&shared).start());
    send(&other, &[measurement("before", "call", 1)]);
    define(&one, "calls", "call");
    send(&other, &[measurement("first", "call", 2), measurement("before", "call", 1)]);
    let mapped = json!({"id": "mapped", "event_name": "call", "value": 4, "time": NOON, "labels": {"user": "u-1"}});
    call(&other, "POST", "/measurements", &mapped, 400);
    map(&one, "acme", &json!([{"label": "user", "value_regex": "u-1"}]));
    call(&other, "POST", "/measurements", &mapped, 200);
    call(&one, "DELETE", "/meters/calls", &Value::Null, 204);
    send(&other, &[measurement("last", "call", 8), measurement("first", "call", 2)]);
    for node in [&one, &other] {
        assert_eq!((node.usage("calls").sum(), node.usage("call").sum()), ("6".into(), "9".into()));
    }
}
