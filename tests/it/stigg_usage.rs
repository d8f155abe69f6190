//! The contract `stigg.md`, sections 4 and 5, over HTTP: reports of usage that are answered with totals, and their history. What the real client
//! makes of it is tested in `tests/clients/test_stigg_usage.py`.

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Gateway, NO_RECENT_IDS, Setup, Shared};

const USAGE: &str = "/api/v1/usage";
const DAY_1: &str = "2026-01-01T00:00:00Z";

#[track_caller]
fn report(client: &Client, path: &str, body: &Value) -> Value {
    let answer = client.post(path, &[], body.to_string()).refused(201);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let answer = answer.json();
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(1), "{answer}");
    answer["data"].clone()
}

/// The error body in both of its forms, with its code.
#[track_caller]
fn no(answer: Answer, status: u16, code: &str) -> String {
    let error = answer.refused(status).json();
    let message = error["message"].clone();
    assert_eq!(error, json!({"message": message, "code": code, "error": {"code": code, "message": message}}));
    message.as_str().expect("a message").to_owned()
}

fn usage(key: &str, value: i64, more: Value) -> Value {
    let mut usage = json!({"customerId": "acme", "featureId": "seats", "value": value, "idempotencyKey": key, "createdAt": DAY_1});
    usage.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    usage
}

fn of(measurements: &Value, field: &str) -> Vec<Value> {
    measurements.as_array().expect("an array").iter().map(|one| one[field].clone()).collect()
}

fn sum(client: &Client) -> String {
    client.usage("seats").customer("acme").sum()
}

#[track_caller]
fn history(client: &Client, query: &str) -> Value {
    let answer = client.get(&format!("{USAGE}/acme/history/seats?{query}")).refused(200);
    assert_eq!((answer.header("content-type"), answer.header("tollgate-complete")), (Some("application/json"), Some("true")));
    let data = answer.json()["data"].clone();
    assert_eq!(data["markers"], json!([]));
    data["series"].clone()
}

fn point(day: u32, value: i64) -> Value {
    json!({"timestamp": format!("2026-01-{day:02}T00:00:00.000Z"), "value": value, "isResetPoint": false})
}

#[test]
fn a_report_is_counted_before_it_is_answered_and_tells_the_total() {
    let gateway = Gateway::start();
    let made = report(&gateway, USAGE, &usage("u-1", 5, json!({"createdAt": "2026-01-01T12:00:00.123456+02:00", "resourceId": "r-1"})));
    let received = made["createdAt"].as_str().expect("a time").to_owned();
    assert_eq!(received.len(), DAY_1.len() + 4, "{received}");
    assert_eq!(
        made,
        json!({"id": "u-1", "createdAt": received, "timestamp": "2026-01-01T10:00:00.123Z", "customerId": "acme", "featureId": "seats",
            "value": 5, "currentUsage": 5, "resourceId": "r-1", "nextResetDate": null, "usagePeriodStart": null, "usagePeriodEnd": null})
    );
    let far = json!({"createdAt": "2027-06-30T00:00:00Z"});
    let several = json!({"usages": [
        usage("u-2", 7, far), usage("u-3", -2, json!({})), usage("u-4", 100, json!({"customerId": "zeta"})), usage("u-5", 30, json!({"resourceId": null})),
        usage("u-6", 1, json!({"featureId": "calls", "updateBehavior": "DELTA"})),
    ]});
    let made = report(&gateway, "/stigg/api/v1/usage", &several);
    assert_eq!(of(&made, "id"), ["u-2", "u-3", "u-4", "u-5", "u-6"]);
    assert_eq!(of(&made, "currentUsage"), [12, 10, 100, 40, 1]);
    assert_eq!(gateway.usage("seats").customer("acme").between(1_767_225_600, 1_900_000_000).sum(), "40", "whatever the day");
    for round in 1..=30 {
        let made = report(&gateway, "//stigg//api/v1/usage/", &json!({"customerId": "b", "featureId": "seats", "value": 1}));
        assert_eq!((&made["value"], &made["currentUsage"]), (&json!(1), &json!(round)), "right behind its answer");
    }
}

#[test]
fn what_is_reported_again_is_answered_as_it_was_and_counts_once() {
    let gateway = Setup::with(NO_RECENT_IDS).start();
    for without_time in [json!({}), json!({"createdAt": null})] {
        let key = without_time.to_string();
        let usages = json!({"usages": [usage(&key, 5, without_time.clone()), usage(&format!("{key}-2"), 7, without_time)]});
        let made = report(&gateway, USAGE, &usages);
        assert_eq!(report(&gateway, USAGE, &usages), made, "the same measurements, with the same times");
        assert_eq!(report(&gateway, USAGE, &json!({"usages": [usages["usages"][0]]}))[0]["id"], made[0]["id"]);
    }
    // Whatever it says now, the first counts.
    let other = report(&gateway, USAGE, &usage("{}", 1_000, json!({"createdAt": "2026-01-05T00:00:00Z", "resourceId": "r"})));
    let now = gateway.usage("seats").customer("acme").between(1_767_225_600, 1_900_000_000).sum();
    assert_eq!((&other["value"], &other["timestamp"], &other["resourceId"]), (&json!(5), &json!("2026-01-01T00:00:00.000Z"), &Value::Null));
    assert_eq!((other["currentUsage"].to_string(), now), ("24".into(), "24".into()));
    // Of another customer it counts nowhere.
    let elsewhere = report(&gateway, USAGE, &usage("{}", 9, json!({"customerId": "zeta"})));
    assert_eq!((&elsewhere["customerId"], &elsewhere["currentUsage"]), (&json!("zeta"), &json!(0)));
    // Twice in one report.
    let twice = report(&gateway, USAGE, &json!({"usages": [usage("t", 1, json!({})), usage("t", 1, json!({})), usage("u", 2, json!({}))]}));
    assert_eq!(of(&twice, "currentUsage"), [25, 25, 27]);
    // Without a key nothing can be told.
    let bare = json!({"customerId": "c", "featureId": "seats", "value": 3});
    let [first, second] = [0, 1].map(|_| report(&gateway, USAGE, &bare));
    assert!(first["id"] != second["id"] && first["id"].as_str().is_some_and(|id| !id.is_empty()), "{first}");
    assert_eq!((&first["currentUsage"], &second["currentUsage"]), (&json!(3), &json!(6)));
}

#[test]
fn where_all_attributes_tell_events_apart_a_key_may_name_several() {
    let gateway = Gateway::start();
    gateway.post("/v1/accounts", &[], json!({"name": "attributes", "identity": "all_attributes"}).to_string()).refused(201);
    let client = gateway.with(&gateway.make_key("attributes", &["admin"]));
    let usages =
        json!({"usages": [usage("u", 1, json!({})), usage("u", 2, json!({"resourceId": "r"})), usage("u", 2, json!({"resourceId": "r"}))]});
    for _ in 0..2 {
        let made = report(&client, USAGE, &usages);
        assert_eq!(
            (of(&made, "currentUsage"), of(&made, "value")),
            (vec![json!(1), json!(3), json!(3)], vec![json!(1), json!(2), json!(2)])
        );
    }
}

#[test]
fn of_a_report_all_counts_or_nothing() {
    let gateway = Gateway::start();
    let good = usage("good", 1, json!({}));
    for (change, said) in [
        (json!({"customerId": null}), "customerId is missing"),
        (json!({"featureId": ""}), "featureId must not be empty"),
        (json!({"value": null}), "value is missing"),
        (json!({"value": 1.5}), "value must be a whole number"),
        (json!({"value": "1"}), "value must be a number"),
        (json!({"updateBehavior": "SET"}), "updateBehavior must not be SET: a total cannot be set, only added to"),
        (json!({"updateBehavior": "OTHER"}), "updateBehavior must be DELTA"),
        (json!({"createdAt": "noon"}), "createdAt must be a time such as 2026-01-01T00:00:00Z"),
        (json!({"dimensions": {"a": []}}), "dimensions.a must be a string, a number, true or false"),
        (json!({"idempotencyKey": "x".repeat(256)}), "idempotencyKey has 256 bytes, the limit is 255"),
    ] {
        let bad = usage("bad", 1, change);
        let several = json!({"usages": [good, bad]}).to_string();
        assert_eq!(no(gateway.post(USAGE, &[], several), 400, "VALIDATION_ERROR"), format!("usages[1].{said}"));
        assert_eq!(no(gateway.post(USAGE, &[], bad.to_string()), 400, "VALIDATION_ERROR"), said);
    }
    for (body, said) in [
        (json!({"usages": []}), "usages has 0 entries, it must be 1 to 100"),
        (json!({"usages": vec![good.clone(); 101]}), "usages has 101 entries, it must be 1 to 100"),
        (json!({"usages": [7]}), "usages[0] must be a JSON object"),
        (json!({}), "usages is missing"),
        (json!([good]), "the body must be a JSON object"),
    ] {
        assert_eq!(no(gateway.post(USAGE, &[], body.to_string()), 400, "VALIDATION_ERROR"), said);
    }
    no(gateway.post(USAGE, &[], "x".repeat((1 << 20) + 1)), 413, "PAYLOAD_TOO_LARGE");
    assert_eq!((sum(&gateway), gateway.dead_letters()), ("0".into(), vec![]));
    let all = report(&gateway, USAGE, &json!({"usages": (0..100).map(|n| usage(&format!("n-{n}"), 1, json!({}))).collect::<Vec<_>>()}));
    assert_eq!(of(&all, "currentUsage"), (1..=100).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn what_a_rule_drops_is_in_no_total() {
    let gateway = Gateway::start();
    let rule = json!({"meterApiName": "seats", "dimensionName": "resourceId", "dimensionValues": ["r"], "action": "EXCLUDE"});
    gateway.post("/meter-event-filtering-rules", &[], rule.to_string()).refused(200);
    let usages = [usage("a", 1, json!({})), usage("b", 10, json!({"resourceId": "r"})), usage("c", 100, json!({}))];
    let made = report(&gateway, USAGE, &json!({"usages": usages}));
    assert_eq!((of(&made, "currentUsage"), sum(&gateway)), (vec![json!(1), json!(1), json!(101)], "101".into()));
}

#[test]
fn a_report_needs_leave_to_send_and_to_read() {
    let gateway = Gateway::start();
    gateway.make_account("other");
    let body = usage("u", 1, json!({}));
    for (scopes, status) in [(&["ingest"][..], 403), (&["read"], 403), (&["ingest", "read"], 201), (&["admin"], 201)] {
        let client = gateway.with(&gateway.make_key("other", scopes));
        client.post(USAGE, &[], body.to_string()).refused(status);
        let reads = if scopes == ["ingest"] { 403 } else { 404 };
        client.get(&format!("{USAGE}/acme/history/seats?startDate={DAY_1}")).refused(reads);
    }
    no(gateway.with_key(None).post(USAGE, &[], body.to_string()), 401, "UNAUTHENTICATED");
    assert_eq!(sum(&gateway), "0", "another account's");
    let audit = gateway.get("/v1/audit?account=other").refused(200);
    assert!(!audit.text().contains("/usage"), "nothing was set up: {}", audit.text());
    assert_eq!(gateway.get(USAGE).refused(405).header("allow"), Some("POST"));
}

#[test]
fn a_history_has_a_point_for_each_day_with_usage() {
    let gateway = Gateway::start();
    let path = format!("{USAGE}/acme/history/seats?startDate={DAY_1}");
    assert_eq!(no(gateway.get(&path), 404, "CUSTOMER_NOT_FOUND"), "customer acme not found");
    gateway.post("/api/v1/customers", &[], json!({"id": "acme"}).to_string()).refused(201);
    assert_eq!(history(&gateway, &format!("startDate={DAY_1}")), json!([]));
    let at = |day: u32, hour: u32, region: &str| json!({"createdAt": format!("2026-01-{day:02}T{hour:02}:59:59.999Z"), "dimensions": {"region": region}});
    let usages = [
        usage("a", 1, at(1, 0, "eu")),
        usage("b", 2, at(1, 23, "eu")),
        usage("c", 4, at(3, 12, "us")),
        usage("d", 8, json!({"createdAt": "2026-01-03T00:00:00Z", "resourceId": "r"})),
        usage("e", 16, json!({"customerId": "zeta"})),
    ];
    report(&gateway, USAGE, &json!({"usages": usages}));
    let all = json!([{"tags": [], "points": [point(1, 3), point(3, 12)]}]);
    assert_eq!(history(&gateway, &format!("startDate={DAY_1}")), all);
    assert_eq!(history(&gateway, "startDate=2026-01-01T20:00:00%2B00:00&endDate=2026-01-03T00:00:00.001Z"), all, "whole days");
    assert_eq!(
        history(&gateway, &format!("startDate={DAY_1}&endDate=2026-01-03T00:00:00Z")),
        json!([{"tags": [], "points": [point(1, 3)]}])
    );
    let tagged = |value: &str, points: Value| json!({"tags": [{"key": "region", "value": value}], "points": points});
    assert_eq!(
        history(&gateway, &format!("startDate={DAY_1}&groupBy=region")),
        json!([tagged("", json!([point(3, 8)])), tagged("us", json!([point(3, 4)])), tagged("eu", json!([point(1, 3)]))])
    );
    assert_eq!(history(&gateway, &format!("startDate={DAY_1}&resourceId=r")), json!([{"tags": [], "points": [point(3, 8)]}]));
    let range = gateway.get(&format!("{USAGE}/acme/history/seats?startDate=2026-01-02T01:00:00Z&endDate=2026-01-03T00:00:00Z"));
    assert_eq!(range.header("tollgate-range"), Some("1767312000-1767398400"));
    for (query, said) in [
        ("", "startDate is missing"),
        ("startDate=x", "startDate must be a time in RFC 3339, such as 2026-01-01T00:00:00Z"),
        ("startDate=2026-01-02T00:00:00Z&endDate=2026-01-02T00:00:00Z", "endDate must be after startDate"),
    ] {
        assert_eq!(no(gateway.get(&format!("{USAGE}/acme/history/seats?{query}")), 400, "VALIDATION_ERROR"), said, "{query}");
    }
    // One that was archived is still known, and its usage stays.
    gateway.post("/api/v1/customers/acme/archive", &[], "").refused(200);
    assert_eq!(history(&gateway, &format!("startDate={DAY_1}")), all);
}

#[test]
fn a_node_without_a_role_for_it_sends_reports_elsewhere() {
    let shared = Shared::new();
    let node = |roles: &str| Setup::default().flags(&["--roles", roles]).node_of(&shared).start();
    let (all, api, gateway) = (node("gateway,materializer,api"), node("materializer,api"), node("gateway,materializer"));
    let body = usage("u", 3, json!({})).to_string();
    for node in [&api, &gateway] {
        assert!(no(node.post(USAGE, &[], &body), 421, "MISDIRECTED_REQUEST").contains("roles"));
    }
    assert_eq!(report(&all, USAGE, &usage("u", 3, json!({})))["currentUsage"], 3);
    all.post("/api/v1/customers", &[], json!({"id": "acme"}).to_string()).refused(201);
    assert_eq!(history(&api, &format!("startDate={DAY_1}")), json!([{"tags": [], "points": [point(1, 3)]}]));
}

/// Nobody folds: what is stored is not counted.
#[test]
fn a_report_that_is_not_counted_in_time_is_not_answered_and_counts_once_when_it_comes_again() {
    let shared = Shared::new();
    let node = |roles: &str| Setup::default().flags(&["--roles", roles]).node_of(&shared).start();
    let asked = node("gateway,api");
    let late = |body: &Value| {
        let answer = asked.post(USAGE, &[], body.to_string());
        let said = (answer.header("x-should-retry").map(str::to_owned), answer.header("retry-after").is_some());
        assert!(no(answer, 503, "UNAVAILABLE").contains("is stored"));
        said
    };
    let (keyed, bare) = (usage("u", 3, json!({})), json!({"customerId": "acme", "featureId": "seats", "value": 4}));
    std::thread::scope(|threads| {
        let other = threads.spawn(|| late(&bare));
        assert_eq!(late(&keyed), (None, true));
        assert_eq!(other.join().expect("an answer"), (Some("false".into()), true), "sent again, it would count again");
    });
    let _folds = node("materializer");
    crate::harness::wait_for("the total", || {
        let answer = asked.post(USAGE, &[], keyed.to_string());
        (answer.status == 201).then(|| assert_eq!(answer.json()["data"]["currentUsage"], 7))
    });
}
