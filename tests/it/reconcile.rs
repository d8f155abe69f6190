//! Reconciliation: a ledger of thousands of ids is compared in one request, and what is missing is named.

use serde_json::{Value, json};

use crate::harness::{Answer, Event, Gateway, NO_RECENT_IDS, Random, Setup, event, event_without_id};

#[track_caller]
fn reconcile(gateway: &Gateway, body: &Value) -> Answer {
    gateway.post("/v1/reconcile", &[], body.to_string())
}

#[track_caller]
fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer.json()
}

/// What the ledger of a test expects of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Counted(u64, Option<u64>),
    Rejected,
    Missing,
}

#[test]
fn ten_thousand_mixed_ids_are_each_what_the_ledger_says() {
    let mut random = Random::seeded();
    let mut gateway = Setup::with(NO_RECENT_IDS).start();
    let mut ledger: Vec<(String, Expected)> = Vec::new();
    let mut position = 0;
    for batch in 0..20 {
        let mut events: Vec<Event> = Vec::new();
        for at in 0..500 {
            let id = format!("id-{batch}-{at}");
            let expected = match random.below(10) {
                0 => Expected::Missing,
                1 => {
                    events.push(event(&id).at(0));
                    Expected::Rejected
                }
                2 => {
                    events.extend([event(&id).value("1"), event(&id).value("2"), event(&id).value("1")]);
                    position += 3;
                    Expected::Counted(position - 3, Some(position - 2))
                }
                _ => {
                    events.push(event(&id));
                    position += 1;
                    Expected::Counted(position - 1, None)
                }
            };
            ledger.push((id, expected));
        }
        let bad = ledger[ledger.len() - 500..].iter().filter(|(_, expected)| *expected == Expected::Rejected).count();
        gateway.send(&events).logged(events.len() - bad).rejected(bad);
    }
    random.shuffle(&mut ledger);
    let ids: Vec<&str> = ledger.iter().map(|(id, _)| id.as_str()).collect();
    let expect = |gateway: &Gateway| {
        let answer = ok(reconcile(gateway, &json!({"uniqueIds": ids})));
        let mut events = answer["events"].as_array().expect("an array").iter();
        let mut missing = answer["missing"].as_array().expect("an array").iter();
        for (id, expected) in &ledger {
            if *expected == Expected::Missing {
                assert_eq!(missing.next(), Some(&json!(id)));
                continue;
            }
            let event = events.next().expect("one for each that is there");
            assert_eq!(event["uniqueId"], json!(id));
            match *expected {
                Expected::Counted(position, conflict) => {
                    let conflicts: Vec<u64> = conflict.into_iter().collect();
                    assert_eq!(
                        (&event["verdict"], &event["position"], &event["conflicts"]),
                        (&json!("counted"), &json!(position), &json!(conflicts))
                    );
                }
                _ => assert_eq!((&event["verdict"], &event["field"]), (&json!("rejected"), &json!("meterTimeInMillis"))),
            }
        }
        assert_eq!((events.next(), missing.next()), (None, None));
        let count = |wanted: fn(&Expected) -> bool| ledger.iter().filter(|(_, expected)| wanted(expected)).count();
        assert_eq!(answer["received"], 10_000);
        assert_eq!(answer["counted"], count(|expected| matches!(expected, Expected::Counted(..))));
        assert_eq!(answer["rejected"], count(|expected| *expected == Expected::Rejected));
        assert_eq!((&answer["logged"], &answer["filtered"]), (&json!(0), &json!(0)));
        assert_eq!(answer["deadLettersLookedBackTo"], Value::Null);
    };
    expect(&gateway);
    gateway.kill_and_restart();
    expect(&gateway);
}

#[test]
fn what_was_replayed_is_counted_and_what_was_deleted_is_missing() {
    let gateway = Gateway::start();
    let bad: Vec<_> = (0..4).map(|at| event(&format!("u-{at}")).at(0)).chain([event_without_id()]).collect();
    gateway.send(&bad).logged(1).rejected(4);
    gateway.post("/v1/dead-letters/0/replay", &[], event("u-0").json());
    gateway.post("/v1/dead-letters/1/replay", &[], event("u-1").without("customerId").json());
    gateway.delete("/v1/dead-letters/2");
    gateway.post("/v1/dead-letters/3/replay", &[], event("renamed").json());
    let answer = ok(reconcile(&gateway, &json!({"uniqueIds": ["u-0", "u-1", "u-2", "u-3", "u-0"]})));
    assert_eq!((&answer["counted"], &answer["rejected"], &answer["missing"]), (&json!(2), &json!(2), &json!(["u-2"])));
    let events = &answer["events"];
    assert_eq!((&events[0]["position"], &events[3]["position"]), (&json!(1), &json!(1)));
    assert_eq!((&events[1]["code"], &events[1]["field"]), (&json!("missing_field"), &json!("customerId")), "the latest reason");
    assert_eq!((&events[2]["verdict"], &events[2]["lastReplay"]["uniqueId"]), (&json!("rejected"), &json!("renamed")));
}

#[test]
fn ids_of_another_namespace_are_other_ids() {
    let gateway = Gateway::start();
    gateway.send(&[event("u-1"), event("u-2").at(0)]).logged(1).rejected(1);
    let ids = json!(["u-1", "u-2"]);
    assert_eq!(ok(reconcile(&gateway, &json!({"uniqueIds": ids, "namespace": "other"})))["missing"], ids);
    assert_eq!(ok(reconcile(&gateway, &json!({"uniqueIds": ids, "namespace": ""})))["missing"], json!([]));
}

#[test]
fn the_limits_are_named() {
    let gateway = Gateway::start();
    let long: Vec<String> = (0..10_000).map(|at| format!("{at:0255}")).collect();
    let answer = ok(reconcile(&gateway, &json!({"uniqueIds": long})));
    assert_eq!(answer["missing"].as_array().map(Vec::len), Some(10_000), "the largest request that there can be");
    let many = vec!["a"; 10_001];
    reconcile(&gateway, &json!({"uniqueIds": many})).refused(413).details("uniqueIds has 10001 entries, the limit is 10000");
    reconcile(&gateway, &json!({"uniqueIds": ["a", "x".repeat(256)]})).refused(400).details("uniqueIds[1] has 256 bytes, the limit is 255");
    reconcile(&gateway, &json!({"ids": []})).refused(400).details("uniqueIds is missing");
    gateway.post("/v1/reconcile", &[], "{").refused(400);
    gateway.post("/v1/reconcile", &[], " ".repeat((4 << 20) + 1)).refused(413);
    gateway.get("/v1/reconcile").refused(405);
    gateway.with_key(None).post("/v1/reconcile", &[], r#"{"uniqueIds": []}"#).refused(401);
    assert_eq!(ok(reconcile(&gateway, &json!({"uniqueIds": []})))["received"], 0);
}

#[test]
fn where_an_id_alone_names_nothing_that_is_said() {
    let gateway = Setup::with("[default_account]\nidentity = 'all_attributes'").start();
    gateway.send(&[event("u-1")]).logged(1);
    let refused = reconcile(&gateway, &json!({"uniqueIds": ["u-1"]})).refused(400);
    assert!(refused.text().contains("named by all of its attributes"), "{}", refused.shown());
}
