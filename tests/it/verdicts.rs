//! Promise 8: `GET /v1/events/{uniqueId}` tells the verdict of every event at any time, and the latest ones are listed.

use serde_json::{Value, json};

use crate::harness::{DAY_0_MS, Event, Gateway, Setup, event};

const DAY_0: &str = "2026-01-01T00:00:00Z";

/// The verdict on an id; its whole answer.
#[track_caller]
fn fate(gateway: &Gateway, id: &str) -> Value {
    let answer = gateway.get(&format!("/v1/events/{id}"));
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer.json()
}

/// The events of a list, newest first.
#[track_caller]
fn listed(gateway: &Gateway, query: &str) -> Vec<Value> {
    let answer = gateway.get(&format!("/v1/events?{query}"));
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer.json()["events"].as_array().expect("an array").clone()
}

/// Id and verdict of each event of a list.
fn verdicts(events: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    events.iter().map(|listed| (text(&listed["event"]["uniqueId"]), text(&listed["verdict"]))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(id, verdict)| ((*id).to_owned(), (*verdict).to_owned())).collect()
}

#[test]
fn an_event_that_counts_has_its_position_its_content_and_its_rows() {
    let mut gateway = Gateway::start();
    let several = event("a/b c").values(&[("in", "1.50"), ("out", "2")]).dimension("region", "eu").at(DAY_0_MS + 3_600_000 + 5);
    gateway.send(&[event("u-1"), several]).logged(2);
    let expect = |gateway: &Gateway| {
        let found = fate(gateway, "a%2Fb%20c");
        assert_eq!((&found["verdict"], &found["partition"], &found["position"]), (&json!("counted"), &json!(0), &json!(1)));
        assert_eq!(found["uniqueId"], "a/b c");
        assert!(found["received"].as_str().expect("a time").ends_with('Z'));
        let said = json!({
            "uniqueId": "a/b c", "customerId": "c", "meterTimeInMillis": DAY_0_MS + 3_600_005,
            "values": {"in": 1.5, "out": 2}, "dimensions": {"region": "eu"},
        });
        assert_eq!(found["event"].to_string(), said.to_string());
        let row = |meter: &str| json!({"meterApiName": meter, "customerId": "c", "hour": "2026-01-01T01:00:00Z", "day": DAY_0, "dimensions": {"region": "eu"}});
        assert_eq!(found["rows"], json!([row("in"), row("out")]));
        assert_eq!(found["conflicts"], json!([]));
    };
    expect(&gateway);
    gateway.kill_and_restart();
    expect(&gateway);
}

#[test]
fn an_event_past_the_limit_of_dimension_sets_counts_in_the_shared_row() {
    let gateway = Setup::with("[log]\ndimension_sets_max = 1").start();
    gateway.send(&[event("u-1").dimension("k", "1"), event("u-2").dimension("k", "2"), event("u-3").dimension("k", "1")]).logged(3);
    let row = |id: &str| fate(&gateway, id)["rows"][0].clone();
    assert_eq!((row("u-1")["dimensions"].clone(), row("u-3")["dimensions"].clone()), (json!({"k": "1"}), json!({"k": "1"})));
    assert_eq!((&row("u-2")["overflow"], row("u-2").get("dimensions")), (&json!(true), None));
}

#[test]
fn a_conflict_is_listed_with_both_contents() {
    let mut gateway = Gateway::start();
    gateway.send(&[event("u-1").value("5"), event("u-2")]).logged(2);
    gateway.send(&[event("u-1").value("6").customer("other")]).logged(1);
    gateway.send(&[event("u-1").value("7")]).logged(1);
    let expect = |gateway: &Gateway| {
        let conflicts = listed(gateway, "verdict=conflict");
        let contents = |listed: &Value| (listed["event"]["meterValue"].to_string(), listed["first"]["event"]["meterValue"].to_string());
        assert_eq!(conflicts.iter().map(contents).collect::<Vec<_>>(), [("7".into(), "5".into()), ("6".into(), "5".into())]);
        assert_eq!((&conflicts[1]["position"], &conflicts[1]["first"]["position"]), (&json!(2), &json!(0)));
        assert_eq!(listed(gateway, "verdict=conflict&customerId=other").len(), 1);
        assert_eq!(listed(gateway, "verdict=conflict&limit=1&before=3")[0]["position"], 2);
        let found = fate(gateway, "u-1");
        assert_eq!((&found["verdict"], &found["event"]["meterValue"]), (&json!("counted"), &json!(5)));
        let others: Vec<_> = found["conflicts"].as_array().expect("an array").iter().map(|other| other["position"].clone()).collect();
        assert_eq!(others, [json!(3), json!(2)]);
        assert_eq!(fate(gateway, "u-2")["conflicts"], json!([]));
    };
    expect(&gateway);
    gateway.stop_and_restart();
    expect(&gateway);
    gateway.kill_and_restart();
    expect(&gateway);
}

#[test]
fn a_rejected_event_is_found_by_its_id_with_its_reason() {
    let gateway = Gateway::start();
    gateway.send(&[event("u-1"), event("u-2").value("\"much\"")]).logged(1).rejected(1);
    let found = fate(&gateway, "u-2");
    assert_eq!((&found["verdict"], &found["field"], &found["deadLetter"]), (&json!("rejected"), &json!("meterValue"), &json!(0)));
    assert_eq!(listed(&gateway, "verdict=rejected&customerId=c"), listed(&gateway, "verdict=rejected"));
    assert_eq!(listed(&gateway, "verdict=rejected").len(), 1);
    assert_eq!(listed(&gateway, "verdict=rejected&customerId=d"), [] as [Value; 0]);
    // Sent again as it should be, it counts, and that is what became of it.
    gateway.send(&[event("u-2")]).logged(1);
    assert_eq!(fate(&gateway, "u-2")["verdict"], "counted");
}

#[test]
fn an_event_that_nobody_sent_is_unknown() {
    let gateway = Gateway::start();
    gateway.send(&[event("u-1")]).logged(1);
    let long = "x".repeat(300);
    for path in ["/v1/events/u-2", "/v1/events/u-1?namespace=other", &format!("/v1/events/{long}")] {
        gateway.get(path).refused(404);
    }
    assert_eq!(fate(&gateway, "u-1?namespace=")["verdict"], "counted");
}

#[test]
fn the_latest_events_are_listed_by_customer_meter_id_and_verdict() {
    let gateway = Gateway::start();
    let sent: Vec<Event> = (0..30).map(|at| event(&format!("u-{}", at % 20)).customer(if at % 2 == 0 { "even" } else { "odd" })).collect();
    gateway.send(&sent).logged(30);
    gateway.send(&[event("v").meter("other"), event("u-3").value("9")]).logged(2);
    let all = listed(&gateway, "");
    assert_eq!(all.len(), 32);
    assert_eq!(verdicts(&all[..4]), pairs(&[("u-3", "conflict"), ("v", "counted"), ("u-9", "duplicate"), ("u-8", "duplicate")]));
    assert_eq!((&all[2]["first"]["position"], &all[0]["first"]["event"]["meterValue"]), (&json!(9), &json!(1)));
    assert_eq!(verdicts(&listed(&gateway, "meterApiName=other")), pairs(&[("v", "counted")]));
    assert_eq!(listed(&gateway, "customerId=odd").len(), 15);
    assert_eq!(listed(&gateway, "verdict=duplicate").len(), 10);
    assert_eq!(listed(&gateway, "verdict=counted").len(), 21);
    assert_eq!(verdicts(&listed(&gateway, "uniqueId=u-3")), pairs(&[("u-3", "conflict"), ("u-3", "duplicate"), ("u-3", "counted")]));
    assert_eq!(verdicts(&listed(&gateway, "verdict=counted&limit=1")), pairs(&[("v", "counted")]));
    assert_eq!(listed(&gateway, "verdict=filtered"), [] as [Value; 0]);
}

#[test]
fn a_list_goes_on_page_by_page_to_the_first_event() {
    let gateway = Gateway::start();
    for step in 0..7 {
        gateway.send(&(0..400).map(|at| event(&format!("u-{}", step * 400 + at))).collect::<Vec<_>>()).logged(400);
    }
    let mut ids = Vec::new();
    let mut query = String::from("limit=999");
    loop {
        let page = gateway.get(&format!("/v1/events?{query}")).json();
        ids.extend(verdicts(page["events"].as_array().expect("an array")).into_iter().map(|(id, _)| id));
        let Some(next) = page["next"].as_u64() else { break };
        query = format!("limit=999&before={next}");
    }
    assert_eq!(ids, (0..2_800).rev().map(|at| format!("u-{at}")).collect::<Vec<_>>());
}

#[test]
fn a_parameter_that_makes_no_sense_is_named() {
    let gateway = Gateway::start();
    gateway.get("/v1/events?limit=0").refused(400).details("limit must be between 1 and 1000");
    gateway.get("/v1/events?verdict=good").refused(400).details("verdict must be counted, duplicate, conflict, filtered or rejected");
    gateway.get("/v1/events?before=-1").refused(400).details("before must be a position");
    let known = "uniqueId, namespace, customerId, meterApiName, verdict, before, limit";
    gateway.get("/v1/events?customer=c").refused(400).details(&format!("customer is no parameter here; there are: {known}"));
    gateway.get("/v1/events/u-1?account=2").refused(400).details("account is no parameter here; there is: namespace");
    gateway.with_key(None).get("/v1/events/u-1").refused(401);
}

#[test]
fn with_all_attributes_as_identity_the_same_id_may_name_several_events() {
    let mut gateway = Setup::with("[default_account]\nidentity = 'all_attributes'").start();
    let plain = event("u-1").value("5").dimension("k", "1");
    let others = [
        plain.clone().customer("other"),
        plain.clone().meter("other"),
        plain.clone().at(DAY_0_MS + 1),
        plain.clone().dimension("l", "1"),
        event("u-2").value("5").dimension("k", "1"),
    ];
    gateway.send(std::slice::from_ref(&plain)).logged(1);
    gateway.send(&others).logged(5);
    // All the same but for the value: a conflict. All the same: a copy.
    gateway.send(&[plain.clone().value("6"), plain.clone(), plain.clone().value("5.0")]).logged(3);
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.verdict("counted"), metrics.verdict("conflict"), metrics.copies()), (6, 1, 2));
    gateway.stop_and_restart();
    gateway.send(&others[..3]).logged(3);
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.verdict("counted"), metrics.copies()), (0, 3));

    gateway.get("/v1/events/u-1").refused(400);
    assert_eq!(listed(&gateway, "uniqueId=u-1&verdict=counted").len(), 5);
    assert_eq!(listed(&gateway, "uniqueId=u-1&verdict=conflict").len(), 1);

    // What makes copies is part of the data.
    gateway.stop();
    gateway.change_settings("[default_account]\nidentity = 'unique_id'");
    gateway.start_in_vain().because(&["identity = all_attributes", "unique_id"]);
    gateway.change_settings("");
    gateway.restart();
    gateway.send(&others[..1]).logged(1);
    assert_eq!(gateway.settled_metrics().copies(), 1);
}
