//! What administrators did can be read, and goes nowhere.

use serde_json::{Value, json};

use crate::harness::{Client, Gateway, event};

fn entries(client: &Client, query: &str) -> Vec<Value> {
    let answer = client.get(&format!("/v1/audit{query}"));
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer.json()["entries"].as_array().expect("an array").clone()
}

/// Action, object and status of each, the latest first.
fn told(entries: &[Value]) -> Vec<(String, Value, Value)> {
    entries
        .iter()
        .map(|entry| (entry["action"].as_str().expect("a text").to_owned(), entry["object"].clone(), entry["status"].clone()))
        .collect()
}

#[test]
fn who_changed_what_is_noted_with_its_outcome_and_kept() {
    let mut gateway = Gateway::start();
    let key = gateway.make_key("default", &["admin"]);
    let admin = gateway.with(&key);
    let customer = json!({"customerId": "acme-7", "customerName": "Acme"}).to_string();
    admin.post("/customers", &[], &customer).refused(200);
    admin.post("/customers", &[], &customer).refused(400);
    admin.call("DELETE", "/customers/acme-7", "").refused(200);
    admin.post("/v1/accounts", &[], json!({"name": "mine"}).to_string()).refused(403);
    gateway.revoke(&key);
    // What changes nothing is not noted, nor who may not.
    gateway.get("/customers");
    gateway.send(&[event("u-1")]).logged(1);
    gateway.usage("m").count();
    admin.call("DELETE", "/customers/acme-7", "").refused(401);
    let reader = gateway.make_key("default", &["read"]);
    gateway.with(&reader).call("DELETE", "/customers/acme-7", "").refused(403);

    let all = entries(&gateway, "");
    let expected = [
        ("POST /v1/keys", json!(reader.id), json!(201)),
        ("DELETE /v1/keys/{key_id}", json!(key.id), json!(200)),
        ("POST /v1/accounts", json!(null), json!(403)),
        ("DELETE /customers/{customer_id}", json!("acme-7"), json!(200)),
        ("POST /customers", json!(null), json!(400)),
        ("POST /customers", json!("acme-7"), json!(200)),
        ("POST /v1/keys", json!(key.id), json!(201)),
    ];
    assert_eq!(told(&all), expected.map(|(action, object, status)| (action.to_owned(), object, status)));
    let who: Vec<_> = all.iter().map(|entry| entry["key"].as_str().expect("a text")).collect();
    let by = key.id.as_str();
    assert_eq!(who, ["bootstrap", "bootstrap", by, by, by, by, "bootstrap"]);
    assert!(all.iter().all(|entry| entry["address"] == "127.0.0.1" && entry["account"] == "default"));
    let numbers: Vec<_> = all.iter().map(|entry| entry["number"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, [6, 5, 4, 3, 2, 1, 0]);

    gateway.kill_and_restart();
    assert_eq!(entries(&gateway, ""), all);
    gateway.make_account("acme");
    assert_eq!(entries(&gateway, "?limit=1")[0]["number"], 7);
}

#[test]
fn it_is_read_page_by_page() {
    let gateway = Gateway::start();
    for at in 0..7 {
        gateway.call("DELETE", &format!("/customers/c-{at}"), "").refused(404);
    }
    let (mut numbers, mut query) = (Vec::new(), String::from("?limit=3"));
    loop {
        let page = gateway.get(&format!("/v1/audit{query}")).json();
        numbers.extend(page["entries"].as_array().expect("an array").iter().map(|entry| entry["number"].as_u64().expect("a number")));
        let Some(next) = page["next"].as_u64() else { break };
        query = format!("?limit=3&before={next}");
    }
    assert_eq!(numbers, [6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn an_account_sees_what_was_done_to_it_and_no_other_account_s() {
    let gateway = Gateway::start();
    gateway.make_account("acme");
    gateway.make_account("globex");
    let (acme, globex) = (gateway.make_key("acme", &["admin"]), gateway.make_key("globex", &["admin"]));
    gateway.with(&globex).call("DELETE", "/customers/nobody", "").refused(404);
    let seen = entries(&gateway.with(&acme), "");
    let expected = [("POST /v1/keys", json!(acme.id), json!(201)), ("POST /v1/accounts", json!("acme"), json!(201))];
    assert_eq!(told(&seen), expected.map(|(action, object, status)| (action.to_owned(), object, status)));
    assert!(seen.iter().all(|entry| entry["key"] == "bootstrap" && entry["address"] == json!(null)), "who, but not from where: {seen:?}");
    gateway.with(&acme).get("/v1/audit?account=globex").refused(403);
    gateway.with(&acme).get("/v1/audit?account=nobody").refused(403);
    assert_eq!(entries(&gateway, "?account=globex").len(), 3);
    assert_eq!(entries(&gateway, "").len(), 4, "an operator's own are with its account");
}

#[test]
fn who_hangs_up_before_the_answer_is_noted_all_the_same() {
    let gateway = Gateway::start();
    let body = json!({"scopes": ["read"], "name": "unseen"}).to_string();
    let length = body.len();
    // Some are gone before their request is looked at, and leave nothing.
    crate::harness::wait_for("some who hung up to be noted", || {
        let mut wire = gateway.connect();
        wire.write(format!(
            "POST /v1/keys HTTP/1.1\r\nHost: tollgate\r\nX-API-KEY: {}\r\nContent-Length: {length}\r\n\r\n{body}",
            crate::harness::ADMIN_KEY
        ));
        drop(wire);
        (entries(&gateway, "").len() >= 3).then_some(())
    });
    crate::harness::wait_for("each entry to have its outcome", || {
        entries(&gateway, "").iter().all(|entry| entry["status"] == 201).then_some(())
    });
}
