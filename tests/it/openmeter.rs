//! The contract `cloudevents.md`, section 3, row by row: meters, queries, subjects and the list of events, at the root and below the prefix.
//! What values mean is tested where the parts are; what the real clients make of it, in `tests/clients/test_openmeter_sdk.py`.

use serde_json::{Value, json};

use crate::harness::Gateway;
use crate::harness::api::{Api, Form, in_each_form};

/// What a path may look like.
const FORMS: [Form; 3] =
    [str::to_owned, |path| format!("/openmeter{path}"), |path| format!("//openmeter{}", path.replacen("/v1/", "//v1//", 1))];
const CLOUD_EVENT: (&str, &str) = ("content-type", "application/cloudevents+json");
const CLOUD_BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");
const CSV: (&str, &str) = ("accept", "text/csv");

/// What OpenMeter's answers have in common.
trait OpenMeters {
    /// The detail of a problem.
    fn no(&self, method: &str, path: &str, body: Value, status: u16) -> String;
    /// Sends an event of a type that is the name of its meter, with the member `value`.
    fn send(&self, kind: &str, id: &str, subject: &str, time: &str, data: Value);
    /// The rows of an answer that is complete.
    fn rows(&self, path: &str) -> Vec<Value>;
}

impl OpenMeters for Api {
    #[track_caller]
    fn no(&self, method: &str, path: &str, body: Value, status: u16) -> String {
        // The client compares all of the type.
        let problem = self.answered(method, path, &body, status, "application/problem+json").json();
        assert_eq!((&problem["type"], &problem["status"]), (&json!("about:blank"), &json!(status)), "{problem}");
        assert!(problem["title"].is_string() && problem["instance"].as_str().is_some_and(|text| text.starts_with("urn:request:")));
        problem["detail"].as_str().expect("a detail").to_owned()
    }

    #[track_caller]
    fn send(&self, kind: &str, id: &str, subject: &str, time: &str, data: Value) {
        let event =
            json!({"specversion": "1.0", "id": id, "source": "svc-a", "type": kind, "subject": subject, "time": time, "data": data});
        let answer = self.call_with(&[CLOUD_EVENT], "POST", "/api/v1/events", &event);
        assert_eq!(answer.refused(204).text(), "");
    }

    #[track_caller]
    fn rows(&self, path: &str) -> Vec<Value> {
        let answer = self.call_with(&[], "GET", path, &Value::Null).refused(200);
        assert_eq!(answer.header("tollgate-complete"), Some("true"), "{path}");
        answer.json()["data"].as_array().expect("rows").clone()
    }
}

fn in_every_form(rows: fn(&Api)) {
    in_each_form(&FORMS, rows);
}

fn a_meter() -> Value {
    json!({"slug": "tokens", "aggregation": "SUM", "eventType": "tokens", "valueProperty": "$.value", "groupBy": {"model": "$.model"}})
}

fn meter_of(aggregation: &str) -> Value {
    json!({"slug": aggregation.to_lowercase(), "aggregation": aggregation, "eventType": aggregation.to_lowercase(), "valueProperty": "$.value"})
}

#[test]
fn meters_are_made_read_changed_and_forgotten() {
    in_every_form(|api| {
        assert_eq!(api.get("/api/v1/meters"), json!([]));
        let mut sent = a_meter();
        sent["description"] = "of prompts".into();
        sent["metadata"] = json!({"team": "ml"});
        sent["eventFrom"] = "2026-01-01T01:00:00+01:00".into();
        let made = api.json("POST", "/api/v1/meters", sent.clone(), 201);
        for (name, value) in sent.as_object().expect("an object") {
            let expected = if name == "eventFrom" { &json!("2026-01-01T00:00:00Z") } else { value };
            assert_eq!(&made[name], expected, "{name}");
        }
        assert_eq!((&made["name"], &made["createdAt"]), (&json!("tokens"), &made["updatedAt"]));
        let id = made["id"].as_str().expect("an id").to_owned();
        assert_eq!(id.len(), 26);
        for path in ["/api/v1/meters/tokens".to_owned(), format!("/api/v1/meters/{id}")] {
            assert_eq!(api.get(&path), made);
        }
        assert_eq!(api.no("POST", "/api/v1/meters", sent, 409), "a meter with this slug is defined");
        let changed = api.json("PUT", &format!("/api/v1/meters/{id}"), json!({"name": "Tokens", "groupBy": {"kind": "$.kind"}}), 200);
        assert_eq!((&changed["name"], &changed["groupBy"], &changed["id"]), (&json!("Tokens"), &json!({"kind": "$.kind"}), &json!(id)));
        assert_eq!((changed.get("description"), changed.get("metadata"), &changed["valueProperty"]), (None, None, &json!("$.value")));
        assert_eq!(api.get("/api/v1/meters"), json!([changed]));
        assert_eq!(api.call_with(&[], "DELETE", "/api/v1/meters/tokens", &Value::Null).refused(204).text(), "");
        let below = ["", "/query", "/subjects"].map(|below| format!("/api/v1/meters/{id}{below}"));
        for (method, path) in [("GET", &below[0]), ("DELETE", &below[0]), ("GET", &below[1]), ("POST", &below[1]), ("GET", &below[2])] {
            assert_eq!(api.no(method, path, Value::Null, 404), "no meter has this id or slug");
        }
        assert_eq!(api.no("PUT", "/api/v1/meters/tokens", json!({}), 404), "no meter has this id or slug");
        assert_eq!(api.no("GET", "/api/v1/meters/a%00b", Value::Null, 404), "no meter has this id or slug");
        // Another one, with another id.
        assert_ne!(api.json("POST", "/api/v1/meters", a_meter(), 201)["id"], json!(id));
    });
}

#[test]
fn meters_come_in_pages_and_are_bounded() {
    let gateway = Gateway::start();
    let api = Api::plain(&gateway, FORMS[1]);
    for number in 0..64 {
        let mut meter = a_meter();
        meter["slug"] = format!("m{number}").into();
        api.json("POST", "/api/v1/meters", meter, 201);
    }
    assert_eq!(api.no("POST", "/api/v1/meters", a_meter(), 400), "eventType has 64 meters, the limit is 64");
    let mut other = a_meter();
    other["eventType"] = "other".into();
    api.json("POST", "/api/v1/meters", other, 201);
    let count = |query: &str| api.get(&format!("/api/v1/meters{query}")).as_array().expect("meters").len();
    assert_eq!([count(""), count("?page=1&pageSize=10"), count("?page=7&pageSize=10"), count("?page=8&pageSize=10")], [65, 10, 5, 0]);
    assert_eq!((count("?page=1"), count("?pageSize=3&order=ASC")), (65, 3));
    for query in ["page=0", "pageSize=0", "page=x", "pageSize=10001"] {
        let name = query.split('=').next().expect("a name");
        assert_eq!(api.no("GET", &format!("/api/v1/meters?{query}"), Value::Null, 400), format!("{name} must be between 1 and 10000"));
    }
}

#[test]
fn what_is_wrong_is_a_problem_that_names_the_field() {
    in_every_form(|api| {
        for (change, detail) in [
            (json!({"slug": "Tokens"}), "slug must be lower-case letters and digits, in parts with _ between them"),
            (json!({"aggregation": "MEDIAN"}), "aggregation must be one of SUM, COUNT, UNIQUE_COUNT, AVG, MIN, MAX, LATEST"),
            (json!({"valueProperty": "tokens"}), "valueProperty must begin with $"),
            (json!({"groupBy": {"model": "$"}, "eventType": null}), "eventType is missing"),
        ] {
            let mut body = a_meter();
            body.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
            assert_eq!(api.no("POST", "/api/v1/meters", body, 400), detail);
        }
        api.json("POST", "/api/v1/meters", a_meter(), 201);
        for (query, detail) in [
            ("windowSize=MINUTE", "windowSize must be HOUR, DAY or MONTH: what was used is kept by the hour"),
            ("windowTimeZone=Mars", "windowTimeZone must be the name of a time zone in the IANA database, such as Europe/Berlin"),
            ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to must be after `from`"),
            ("advancedMeterGroupByFilters=%7B%7D", "advancedMeterGroupByFilters is not supported yet: filter with filterGroupBy"),
        ] {
            assert_eq!(api.no("GET", &format!("/api/v1/meters/tokens/query?{query}"), Value::Null, 400), detail);
        }
        assert_eq!(
            api.no("POST", "/api/v1/meters/tokens/query", json!({"subject": 7}), 400),
            "subject must be a string or an array of strings"
        );
        for (query, detail) in [
            ("limit=101", "limit must be between 1 and 100"),
            ("from=noon", "from must be a time as in RFC 3339, before the year 10000"),
            ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to must not be before `from`"),
        ] {
            assert_eq!(api.no("GET", &format!("/api/v1/events?{query}"), Value::Null, 400), detail);
        }
        api.no("POST", "/api/v1/meters", json!("x".repeat(2 << 20)), 413);
        let answer = api.call_with(&[], "PATCH", "/api/v1/meters/tokens", &json!({})).refused(405);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let stranger = api.with_key(Some("nobody's"));
        stranger.no("GET", "/api/v1/meters", Value::Null, 401);
    });
}

#[test]
fn reading_needs_the_scope_read_and_changing_admin() {
    let gateway = Gateway::start();
    gateway.make_account("scopes");
    let api = |scope: &str| Api::new(gateway.with(&gateway.make_key("scopes", &[scope])), FORMS[0]);
    let (admin, read, ingest) = (api("admin"), api("read"), api("ingest"));
    admin.json("POST", "/api/v1/meters", a_meter(), 201);
    for path in
        ["/api/v1/meters", "/api/v1/meters/tokens", "/api/v1/meters/tokens/query", "/api/v1/meters/tokens/subjects", "/api/v1/events"]
    {
        read.get(path);
        ingest.no("GET", path, Value::Null, 403);
    }
    for (method, path) in [("POST", "/api/v1/meters"), ("PUT", "/api/v1/meters/tokens"), ("DELETE", "/api/v1/meters/tokens")] {
        read.no(method, path, a_meter(), 403);
    }
    read.json("POST", "/api/v1/meters/tokens/query", json!({}), 200);
    let object = |entry: &Value| (entry["action"].clone(), entry["object"].clone());
    let noted: Vec<_> = admin.client.get("/v1/audit").json()["entries"].as_array().expect("entries").iter().map(object).collect();
    assert!(noted.iter().any(|(_, object)| *object == json!("tokens")), "{noted:?}");
}

#[test]
fn a_meter_that_one_dialect_defines_is_seen_by_the_others() {
    let gateway = Gateway::start();
    let api = Api::plain(&gateway, FORMS[0]);
    let amberflo = json!({"meterApiName": "API calls", "displayName": "Calls", "type": "MAX_IN_PERIOD", "dimensions": ["region"]});
    api.client.call("POST", "/meter-definition", &amberflo.to_string()).refused(200);
    let shown = api.get("/api/v1/meters/API%20calls");
    for (name, value) in
        [("slug", "API calls"), ("eventType", "API calls"), ("aggregation", "MAX"), ("name", "Calls"), ("valueProperty", "$.value")]
    {
        assert_eq!(shown[name], value);
    }
    api.json("POST", "/api/v1/meters", a_meter(), 201);
    let theirs = gateway.get("/meter-definition/tokens").json();
    assert_eq!((&theirs["type"], &theirs["dimensions"]), (&json!("SUM_OF_ALL_USAGE"), &json!(["model"])));
    assert_eq!(gateway.get("/octane/meters/tokens").json()["aggregation"], "SUM");
    // What one changes leaves what only the others say as it is.
    let changed = json!({"meterApiName": "tokens", "displayName": "New", "type": "MAX_IN_PERIOD", "dimensions": ["model"]});
    api.client.call("PUT", "/meter-definition", &changed.to_string()).refused(200);
    let shown = api.get("/api/v1/meters/tokens");
    assert_eq!((&shown["aggregation"], &shown["name"], &shown["groupBy"]), (&json!("MAX"), &json!("New"), &json!({"model": "$.model"})));
}

/// Two subjects on two days of January, and one in another month.
fn send_some(api: &Api, kind: &str) {
    for (id, subject, time, data) in [
        ("e-1", "acme", "2026-01-01T00:30:00Z", json!({"value": 1.5, "model": "m-1"})),
        ("e-2", "acme", "2026-01-01T01:00:00Z", json!({"value": 3, "model": "m-2"})),
        ("e-3", "zeta", "2026-01-02T00:00:00Z", json!({"value": 0.5, "model": "m-1"})),
        ("e-4", "zeta", "2026-02-01T00:00:00Z", json!({"value": 5})),
    ] {
        // An id is one of its source, whatever the type.
        let id = format!("{kind}-{id}");
        api.send(kind, &id, subject, time, data.clone());
        // The same once more counts nowhere.
        api.send(kind, &id, subject, time, data);
    }
}

#[test]
fn every_parameter_of_a_query_is_heeded_in_both_of_its_forms() {
    in_every_form(|api| {
        api.json("POST", "/api/v1/meters", a_meter(), 201);
        send_some(api, "tokens");
        let row = |value: Value, start: &str, end: &str, subject: Value, groups: Value| json!({"value": value, "windowStart": format!("2026-{start}Z"), "windowEnd": format!("2026-{end}Z"), "subject": subject, "groupBy": groups});
        let none = Value::Null;
        let days = [
            row(json!(4.5), "01-01T00:00:00", "01-02T00:00:00", none.clone(), json!({})),
            row(json!(0.5), "01-02T00:00:00", "01-03T00:00:00", none.clone(), json!({})),
            row(json!(5), "02-01T00:00:00", "02-02T00:00:00", none.clone(), json!({})),
        ];
        let january = "from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z";
        let body = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"});
        let with = |more: Value| {
            let mut body = body.clone();
            body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            body
        };
        let total = |value: Value, subject: Value, groups: Value| row(value, "01-01T00:00:00", "02-01T00:00:00", subject, groups);
        for (parameters, body, rows) in [
            (january.to_owned(), body.clone(), vec![total(json!(5), none.clone(), json!({}))]),
            ("to=2026-03-01T00:00:00Z&windowSize=DAY".into(), json!({"to": "2026-03-01T00:00:00Z", "windowSize": "DAY"}), days.to_vec()),
            (format!("{january}&windowSize=DAY"), with(json!({"windowSize": "DAY"})), days[..2].to_vec()),
            (
                format!("{january}&windowSize=HOUR&subject=acme"),
                with(json!({"windowSize": "HOUR", "subject": ["acme"]})),
                vec![
                    row(json!(1.5), "01-01T00:00:00", "01-01T01:00:00", json!("acme"), json!({})),
                    row(json!(3), "01-01T01:00:00", "01-01T02:00:00", json!("acme"), json!({})),
                ],
            ),
            (
                format!("{january}&windowSize=MONTH&windowTimeZone=Europe/Berlin"),
                with(json!({"windowSize": "MONTH", "windowTimeZone": "Europe/Berlin"})),
                vec![
                    json!({"value": 5, "windowStart": "2025-12-31T23:00:00Z", "windowEnd": "2026-01-31T23:00:00Z", "subject": null, "groupBy": {}}),
                    json!({"value": 5, "windowStart": "2026-01-31T23:00:00Z", "windowEnd": "2026-02-28T23:00:00Z", "subject": null, "groupBy": {}}),
                ],
            ),
            (
                format!("{january}&groupBy=model&groupBy=subject"),
                with(json!({"groupBy": ["model", "subject"]})),
                vec![
                    total(json!(3), json!("acme"), json!({"model": "m-2"})),
                    total(json!(1.5), json!("acme"), json!({"model": "m-1"})),
                    total(json!(0.5), json!("zeta"), json!({"model": "m-1"})),
                ],
            ),
            (
                format!("{january}&filterGroupBy%5Bmodel%5D=m-1"),
                with(json!({"filterGroupBy": {"model": ["m-1"]}})),
                vec![total(json!(2), none.clone(), json!({}))],
            ),
            (
                format!("{january}&filterGroupBy=%7B%27model%27%3A%20%27m-1%27%7D&subject=zeta&subject=nobody"),
                with(json!({"filterGroupBy": {"model": "m-1"}, "subject": ["zeta", "nobody"]})),
                vec![total(json!(0.5), json!("zeta"), json!({}))],
            ),
            (format!("{january}&subject=nobody"), with(json!({"subject": "nobody"})), vec![]),
        ] {
            let path = format!("/api/v1/meters/tokens/query?{parameters}");
            assert_eq!(api.rows(&path), rows, "{parameters}");
            let by_body = api.json("POST", "/api/v1/meters/tokens/query", body.clone(), 200);
            assert_eq!(by_body["data"], json!(rows), "{body}");
            for name in ["from", "to", "windowSize"] {
                assert_eq!(by_body.get(name), body.get(name), "{body}");
            }
        }
        let by_customer = api.rows(&format!("/api/v1/meters/tokens/query?{january}&filterCustomerId=zeta"));
        assert_eq!(
            (&by_customer[0]["customerId"], &by_customer[0]["subject"], &by_customer[0]["value"]),
            (&json!("zeta"), &none, &json!(0.5))
        );
        assert_eq!(api.get("/api/v1/meters/tokens/subjects"), json!(["acme", "zeta"]));
        assert_eq!(api.get("/api/v1/meters/tokens/subjects?from=2026-01-02T00:00:00Z&to=2026-03-01T00:00:00Z"), json!(["zeta"]));
        let id = api.get("/api/v1/meters/tokens")["id"].as_str().expect("an id").to_owned();
        assert_eq!(api.rows(&format!("/api/v1/meters/{id}/query?{january}"))[0]["value"], 5);
        // Nothing is said of when: all there is, until now.
        let all = api.json("POST", "/api/v1/meters/tokens/query", Value::Null, 200);
        assert_eq!((&all["data"][0]["value"], &all["data"][0]["windowStart"]), (&json!(10), &json!("2026-01-01T00:00:00Z")));
    });
}

#[test]
fn answers_are_csv_for_whoever_asks_for_it() {
    let gateway = Gateway::start();
    let api = Api::plain(&gateway, FORMS[0]);
    api.json("POST", "/api/v1/meters", a_meter(), 201);
    send_some(&api, "tokens");
    let path = "/api/v1/meters/tokens/query?to=2026-03-01T00:00:00Z&windowSize=MONTH&groupBy=model&subject=zeta";
    let answer = api.call_with(&[CSV], "GET", path, &Value::Null).refused(200);
    assert_eq!(answer.header("content-type"), Some("text/csv; charset=utf-8"));
    let expected = "window_start,window_end,subject,model,value\r\n2026-02-01T00:00:00Z,2026-03-01T00:00:00Z,zeta,,5\r\n2026-01-01T00:00:00Z,2026-02-01T00:00:00Z,zeta,m-1,0.5\r\n";
    assert_eq!(answer.text(), expected);
    let by_body = api.call_with(&[CSV], "POST", "/api/v1/meters/tokens/query", &json!({"to": "2026-01-01T00:00:00Z"})).refused(200);
    assert_eq!(by_body.text(), "window_start,window_end,subject,value\r\n");
    assert_eq!(by_body.header("tollgate-empty"), Some("outside-range"));
    assert_eq!(
        api.call_with(&[CSV], "GET", "/api/v1/meters/none/query", &Value::Null).refused(404).header("content-type"),
        Some("application/problem+json")
    );
}

#[test]
fn every_aggregation_is_computed() {
    let gateway = Gateway::start();
    let api = Api::plain(&gateway, FORMS[1]);
    for (word, total) in
        [("SUM", json!(10)), ("AVG", json!(2.5)), ("MIN", json!(0.5)), ("MAX", json!(5)), ("LATEST", json!(5)), ("COUNT", json!(4))]
    {
        let name = word.to_lowercase();
        api.json("POST", "/api/v1/meters", meter_of(word), 201);
        send_some(&api, &name);
        let rows = api.rows(&format!("/api/v1/meters/{name}/query?to=2026-03-01T00:00:00Z"));
        assert_eq!(rows[0]["value"], total, "{word}");
    }
    // Different texts, and different numbers.
    api.json("POST", "/api/v1/meters", meter_of("UNIQUE_COUNT"), 201);
    for (id, user) in [("u-1", json!("a")), ("u-2", json!("b")), ("u-3", json!("a")), ("u-4", json!(7))] {
        api.send("unique_count", id, "acme", "2026-01-01T00:00:00Z", json!({"value": user}));
    }
    assert_eq!(api.rows("/api/v1/meters/unique_count/query")[0]["value"], 3);
    // Customers, of a meter that Amberflo has defined.
    let customers = json!({"meterApiName": "seats", "displayName": "Seats", "type": "UNIQUE_CUSTOMERS_COUNT"});
    gateway.call("POST", "/meter-definition", &customers.to_string()).refused(200);
    send_some(&api, "seats");
    assert_eq!(api.rows("/api/v1/meters/seats/query")[0]["value"], 2);
}

#[test]
fn events_before_those_that_a_meter_begins_with_are_left_out() {
    let gateway = Gateway::start();
    let api = Api::plain(&gateway, FORMS[1]);
    let mut meter = a_meter();
    meter["eventFrom"] = "2026-01-02T00:00:00Z".into();
    api.json("POST", "/api/v1/meters", meter, 201);
    send_some(&api, "tokens");
    for query in ["", "?from=2026-01-01T00:00:00Z"] {
        assert_eq!(api.rows(&format!("/api/v1/meters/tokens/query{query}"))[0]["value"], 5.5);
    }
    assert_eq!(api.get("/api/v1/meters/tokens/subjects"), json!(["zeta"]));
    assert_eq!(api.get("/api/v1/meters/tokens/subjects?to=2026-01-02T00:00:00Z"), json!([]));
}

fn ids(events: &Value) -> Vec<&str> {
    events.as_array().expect("events").iter().map(|event| event["event"]["id"].as_str().expect("an id")).collect()
}

#[test]
fn events_of_every_dialect_are_listed_once_as_cloud_events_the_newest_first() {
    in_every_form(|api| {
        assert_eq!(api.get("/api/v1/events"), json!([]));
        let began = jiff::Timestamp::now();
        let now = |minutes: i64| (began - jiff::SignedDuration::from_mins(minutes)).to_string();
        api.send("llm", "cloud-1", "acme-7", &now(3), json!({"value": 42, "model": "m-2"}));
        api.send("llm", "cloud-1", "acme-7", &now(3), json!({"value": 42, "model": "m-2"}));
        let amberflo = json!({"uniqueId": "am-1", "customerId": "acme-8", "meterApiName": "calls", "meterValue": 2, "meterTimeInMillis": began.as_millisecond(),
            "dimensions": {"region": "eu"}});
        api.client.call("POST", "/ingest", &json!([amberflo]).to_string()).refused(200);
        let octane = json!({"meter_name": "seats", "customer_name": "zeta", "value": 1.5, "id": "oc-1"});
        api.client.call("POST", "/octane/measurements", &octane.to_string()).refused(200);
        let stigg = json!({"events": [{"customerId": "zeta", "eventName": "login", "idempotencyKey": "st-1"}]});
        api.client.call("POST", "/stigg/api/v1/events", &stigg.to_string()).refused(200);
        let listed = api.get("/api/v1/events");
        assert_eq!(ids(&listed), ["st-1", "oc-1", "am-1", "cloud-1"]);
        let shown = |at: usize| {
            (&listed[at]["event"]["source"], &listed[at]["event"]["type"], &listed[at]["event"]["subject"], &listed[at]["event"]["data"])
        };
        let (source, cloud_source) = (json!("tollgate"), json!("svc-a"));
        assert_eq!(shown(3), (&cloud_source, &json!("llm"), &json!("acme-7"), &json!({"value": 42, "model": "m-2"})));
        assert_eq!(shown(2), (&source, &json!("calls"), &json!("acme-8"), &json!({"value": 2, "region": "eu"})));
        assert_eq!(shown(1), (&source, &json!("seats"), &json!("zeta"), &json!({"value": 1.5})));
        for event in listed.as_array().expect("events") {
            assert_eq!((&event["event"]["specversion"], &event["customerId"]), (&json!("1.0"), &event["event"]["subject"]));
            assert!(
                event["ingestedAt"].is_string() && event["ingestedAt"] == event["storedAt"] && event.get("validationError").is_none(),
                "{event}"
            );
        }
        let found = |query: &str| {
            let listed = api.get(&format!("/api/v1/events?{query}"));
            ids(&listed).join(" ")
        };
        assert_eq!(found("limit=2"), "st-1 oc-1");
        assert_eq!(found("id=-1&subject=acme"), "am-1 cloud-1");
        assert_eq!(found("id=oc&unknown=1"), "oc-1");
        assert_eq!(found("customerId=zeta"), "st-1 oc-1");
        assert_eq!(found("customerId=zet"), "", "no part of it");
        assert_eq!(found(&format!("to={}", now(1))), "cloud-1");
        assert_eq!(found(&format!("from={}&to={}", now(3), now(3))), "cloud-1", "both ends are in");
        assert_eq!(found(&format!("ingestedAtTo={}", now(1))), "");
        let cloud_received = listed[3]["ingestedAt"].as_str().expect("a time");
        assert_eq!(found(&format!("ingestedAtFrom={cloud_received}&ingestedAtTo={cloud_received}&id=cloud")), "cloud-1");
        assert_eq!(found(&format!("ingestedAtFrom={}", now(-60))), "");
    });
}

#[test]
fn what_happened_long_ago_is_listed_if_it_is_asked_for() {
    in_every_form(|api| {
        let event =
            |id: &str| json!({"id": id, "source": "s", "specversion": "1.0", "type": "t", "subject": "x", "time": "2026-01-01T00:00:00Z"});
        let batch = json!([event("e-1"), event("e-2"), event("e-1")]).to_string();
        api.client.call_with(&[CLOUD_BATCH], "POST", &(api.form)("/api/v1/events"), &batch).refused(204);
        assert_eq!(api.get("/api/v1/events"), json!([]));
        assert_eq!(ids(&api.get("/api/v1/events?from=2026-01-01T00:00:00Z")), ["e-2", "e-1"]);
        assert_eq!(ids(&api.get("/api/v1/events?from=2026-01-01T00:00:00.001Z")), [] as [&str; 0]);
    });
}

#[test]
fn one_event_counts_in_every_meter_of_its_type_and_what_one_cannot_read_is_listed() {
    in_every_form(|api| {
        for meter in [
            json!({"slug": "tokens", "aggregation": "SUM", "eventType": "prompt", "valueProperty": "$.usage.tokens", "groupBy": {"model": "$.model.name"}}),
            json!({"slug": "prompts", "aggregation": "COUNT", "eventType": "prompt"}),
            json!({"slug": "users", "aggregation": "UNIQUE_COUNT", "eventType": "prompt", "valueProperty": "$.user"}),
        ] {
            api.json("POST", "/api/v1/meters", meter, 201);
        }
        let now = jiff::Timestamp::now().to_string();
        let good = json!({"usage": {"tokens": "12.5"}, "model": {"name": "m-2"}, "user": "u-1", "region": "eu"});
        api.send("prompt", "good", "acme", &now, good);
        api.send("prompt", "bad", "acme", &now, json!({"usage": {"tokens": "many"}, "user": "u-2"}));
        api.send("prompt", "none", "acme", &now, json!({"user": {}}));
        let from = "from=2026-01-01T00:00:00Z";
        let values = |meter: &str, more: &str| {
            let rows = api.rows(&format!("/api/v1/meters/{meter}/query?{from}{more}"));
            rows.iter().map(|row| (row["value"].clone(), row["groupBy"].clone())).collect::<Vec<_>>()
        };
        assert_eq!(values("tokens", "&groupBy=model"), [(json!(12.5), json!({"model": "m-2"}))]);
        assert_eq!((values("prompts", ""), values("users", "")), (vec![(json!(3), json!({}))], vec![(json!(2), json!({}))]));
        let listed = api.get("/api/v1/events");
        assert_eq!(ids(&listed), ["none", "bad", "good"]);
        let data = json!({"usage": {"tokens": 12.5}, "model": {"name": "m-2"}, "user": "u-1", "region": "eu"});
        assert_eq!((&listed[2]["event"]["data"], &listed[2]["event"]["type"]), (&data, &json!("prompt")));
        assert_eq!(listed[2].get("validationError"), None);
        assert_eq!(listed[1]["validationError"], "meter tokens: its valueProperty is no number, and no text that is one");
        let both = "meter tokens: its valueProperty is not in the data; meter users: its valueProperty is an object or an array";
        assert_eq!(listed[0]["validationError"], both);
    });
}
