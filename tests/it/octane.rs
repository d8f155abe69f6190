//! The contract `octane.md`, section by section, row by row, in every form of a path and of a key; and one customer in two dialects
//! (`stigg.md` section 6). What values mean is tested where the parts are.

use serde_json::{Value, json};

use crate::harness::api::Api;
use crate::harness::{ADMIN_KEY, Answer, Gateway, event};

/// The Python client says so of itself, and nobody else.
const PYTHON: (&str, &str) = ("X-Octane-Client-User-Agent", "{\"lang\":\"python\"}");

/// How a request may come: the header that brings the key, its form, and the form of the path.
type Form = (&'static str, fn(&str) -> String, fn(&str) -> String);

const FORMS: [Form; 5] = [
    ("authorization", |key| format!("Bearer {key}"), str::to_owned),
    ("x-authorization", |key| format!("Bearer {key}"), |path| format!("{path}/")),
    ("authorization", |key| format!("bearer {key}"), |path| path.replace('/', "//")),
    ("x-api-key", str::to_owned, |path| format!("/octane{path}")),
    ("x-authorization", |key| format!("Bearer {key}"), |path| format!("//octane/{path}/")),
];

/// What Octane's answers have in common.
trait Octanes {
    /// The same with another key, or none.
    fn keyed(&self, key: &str) -> Self;
    /// Exactly 200, and a body of JSON: without one, the Python client raises.
    fn ok(&self, method: &str, path: &str, body: Value) -> Value;
    /// As the Python client deletes, and as all others do.
    fn delete(&self, path: &str, is_python: bool);
    /// The error body in which each client finds its own: code, field.
    fn no(&self, method: &str, path: &str, body: Value, status: u16) -> (String, Option<String>);
    /// The same of a mistake in a field.
    fn bad(&self, method: &str, path: &str, body: Value, field: &str);
    /// The same of what is not there.
    fn unknown(&self, method: &str, path: &str, body: Value, field: Option<&str>);
}

impl Octanes for Api {
    fn keyed(&self, key: &str) -> Self {
        Self { headers: vec![(self.headers[0].0, key.into())], client: self.client.clone(), form: self.form }
    }

    #[track_caller]
    fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        self.json(method, path, body, 200)
    }

    #[track_caller]
    fn delete(&self, path: &str, is_python: bool) {
        if is_python {
            assert_eq!(self.call_with(&[PYTHON], "DELETE", path, &Value::Null).refused(200).json(), json!({}));
        } else {
            assert_eq!(self.call_with(&[], "DELETE", path, &Value::Null).refused(204).text(), "");
        }
    }

    #[track_caller]
    fn no(&self, method: &str, path: &str, body: Value, status: u16) -> (String, Option<String>) {
        let error = self.json(method, path, body, status);
        assert_eq!((&error["code"], &error["errors"]), (&json!(status), &json!({})), "{error}");
        assert!(error["status"].is_string() && error["message"] == error["error"]["message"], "{error}");
        let kind = if status == 401 { "authentication_error" } else { "invalid_request_error" };
        assert_eq!(error["error"]["type"], kind, "{error}");
        let text = |name: &str| error["error"][name].as_str().map(str::to_owned);
        (text("code").expect("a code"), text("param"))
    }

    #[track_caller]
    fn bad(&self, method: &str, path: &str, body: Value, field: &str) {
        assert_eq!(self.no(method, path, body, 400), ("invalid".into(), Some(field.into())), "{method} {path}");
    }

    #[track_caller]
    fn unknown(&self, method: &str, path: &str, body: Value, field: Option<&str>) {
        assert_eq!(self.no(method, path, body, 404), ("not_found".into(), field.map(str::to_owned)), "{method} {path}");
    }
}

/// In the account of the tests' own key.
fn plain(gateway: &Gateway) -> Api {
    of_key(gateway, ADMIN_KEY, FORMS[0])
}

fn of_key(gateway: &Gateway, key: &str, (header, key_form, form): Form) -> Api {
    Api { headers: vec![(header, key_form(key))], client: gateway.with_key(None), form }
}

fn in_every_form(rows: fn(&Api)) {
    let gateway = Gateway::start();
    for (at, form) in FORMS.into_iter().enumerate() {
        let account = format!("form-{at}");
        gateway.make_account(&account);
        rows(&of_key(&gateway, &gateway.make_key(&account, &["admin"]).text, form));
    }
}

#[test]
fn section_0_what_holds_of_every_path() {
    in_every_form(|api| {
        let stranger = api.keyed(&api.headers[0].1.replace("tg_", "tg-"));
        for (method, path) in [("GET", "/customers"), ("POST", "/meters"), ("GET", "/meters/x")] {
            assert_eq!(stranger.no(method, path, Value::Null, 401), ("unauthorized".into(), None));
        }
        api.unknown("GET", "/price_plans", Value::Null, None);
        api.unknown("GET", "/customers/a/b/c/d", Value::Null, None);
        assert_eq!(api.no("PATCH", "/customers", json!({}), 405), ("method_not_allowed".into(), None));
        assert_eq!(api.no("POST", "/customers", json!("x".repeat(2 << 20)), 413), ("payload_too_large".into(), None));
        for path in ["/customers", "/meters"] {
            assert_eq!(api.no("POST", path, json!([]), 400), ("invalid".into(), None));
        }
    });
}

#[test]
fn section_1_customers() {
    in_every_form(|api| {
        assert_eq!(api.get("/customers"), json!([]));
        for method in ["GET", "DELETE"] {
            api.unknown(method, "/customers/acme-7", Value::Null, Some("name"));
        }
        api.unknown("PUT", "/customers/acme-7", json!({}), Some("name"));
        let sent = json!({
            "name": "acme-7", "display_name": "Acme Seven", "contact_info": {"email": "ap@acme.test", "city": "Oslo"},
            "created_at": "2026-01-01T00:00:00.123456", "measurement_mappings": [{"label": "user_id", "value": "u-7"}], "tags": ["beta"],
            "vendor_id": 7, "customer_metadata": [{"property": "tier", "value": "gold"}],
        });
        let made = api.ok("POST", "/customers", sent.clone());
        // The example of the contract.
        let expected = json!({
            "name": "acme-7", "display_name": "Acme Seven", "contact_info": {"email": "ap@acme.test", "city": "Oslo"},
            "created_at": "2026-01-01T00:00:00.123456Z", "measurement_mappings": [{"label": "user_id", "value_regex": "u-7"}],
            "tags": [{"tag": "beta"}], "vendor_id": 7,
        });
        assert_eq!(made, expected);
        assert_eq!((api.get("/customers/acme-7"), api.get("/customers")), (made.clone(), json!([made])));
        assert_eq!(api.no("POST", "/customers", sent, 400), ("already_exists".into(), Some("name".into())));
        let merged = api.ok("PUT", "/customers/acme-7", json!({"name": "acme-7", "contact_info": {"city": "Bergen"}, "tags": []}));
        let mut expected = made;
        expected["contact_info"]["city"] = "Bergen".into();
        expected["tags"] = json!([]);
        assert_eq!((&merged, &api.get("/customers/acme-7")), (&expected, &expected));
        api.bad("PUT", "/customers/acme-7", json!({"name": "acme-8"}), "name");
        api.bad("PUT", "/customers/acme-7", json!({"tags": [{}]}), "tags[0].tag");
        api.bad("POST", "/customers", json!({}), "name");
        api.bad("POST", "/customers", json!({"name": "b", "contact_info": {"email": 7}}), "contact_info.email");
        api.bad("POST", "/customers", json!({"name": "b", "created_at": "2999-01-01T00:00:00Z"}), "created_at");
        let regex = json!({"name": "b", "measurement_mappings": [{"label": "l", "value_regex": "("}]});
        api.bad("POST", "/customers", regex, "measurement_mappings[0].value_regex");
        assert_eq!(api.get("/customers").as_array().map(Vec::len), Some(1));
        api.delete("/customers/acme-7", true);
        api.unknown("GET", "/customers/acme-7", Value::Null, Some("name"));
        let again = api.ok("POST", "/customers", json!({"name": "acme-7"}));
        assert!(again.get("vendor_id").is_none() && again["created_at"] != expected["created_at"], "a new record: {again}");
        api.delete("/customers/acme-7", false);
        assert_eq!(api.get("/customers"), json!([]));
    });
}

#[test]
fn section_1_what_is_below_a_customer() {
    in_every_form(|api| {
        for (method, path, body) in [
            ("GET", "/customers/acme/mappings", Value::Null),
            ("POST", "/customers/acme/mappings", json!({"label": "l"})),
            ("DELETE", "/customers/acme/mappings/l", Value::Null),
            ("GET", "/customers/acme/metadata", Value::Null),
            ("POST", "/customers/acme/metadata", json!([])),
            ("GET", "/customers/acme/status", Value::Null),
        ] {
            api.unknown(method, path, body, Some("name"));
        }
        api.ok("POST", "/customers", json!({"name": "acme"}));
        let (mappings, metadata) = ("/customers/acme/mappings", "/customers/acme/metadata");
        assert_eq!((api.get(mappings), api.get(metadata)), (json!([]), json!([])));
        for _ in 0..2 {
            assert_eq!(
                api.ok("POST", mappings, json!({"label": "a b", "value_regex": "u-.*"})),
                json!({"label": "a b", "value_regex": "u-.*"})
            );
        }
        api.ok("POST", mappings, json!({"label": "host"}));
        let both = json!([{"label": "a b", "value_regex": "u-.*"}, {"label": "host"}]);
        assert_eq!((&api.get(mappings), &api.get("/customers/acme")["measurement_mappings"]), (&both, &both));
        api.bad("POST", mappings, json!({"value_regex": "x"}), "label");
        api.bad("POST", mappings, json!({"label": "l", "value_regex": "("}), "value_regex");
        api.unknown("DELETE", "/customers/acme/mappings/other", Value::Null, Some("label"));
        api.delete("/customers/acme/mappings/a+b", true);
        api.delete("/customers/acme/mappings/host", false);
        assert_eq!(api.get(mappings), json!([]));
        let property = |name: &str, value: Value| json!({"property": name, "value": value});
        assert_eq!(api.ok("POST", metadata, json!([property("b", "2".into()), property("a", "1".into())])), json!({}));
        assert_eq!(api.ok("POST", metadata, json!([property("b", Value::Null), property("c", "3".into())])), json!({}));
        assert_eq!(api.get(metadata), json!([property("a", "1".into()), property("c", "3".into())]));
        api.bad("POST", metadata, json!([property("a", 7.into())]), "[0].value");
        let many: Vec<_> = (0..64).map(|n| property(&format!("p{n}"), "v".into())).collect();
        assert_eq!(api.no("POST", metadata, json!(many), 400).0, "invalid");
        assert_eq!(api.get(metadata).as_array().map(Vec::len), Some(2), "nothing of it");
        assert_eq!(api.get("/customers/acme/status"), json!({"status": "ACTIVE"}));
    });
}

#[test]
fn names_have_slashes_spaces_and_plus_signs() {
    in_every_form(|api| {
        for (name, paths) in [
            ("a b/ü", vec!["a+b%2F%C3%BC", "a%20b%2F%C3%BC"]),
            ("a+b", vec!["a%2Bb", "a+b"]),
            ("%2F", vec!["%252F"]),
            ("x y", vec!["x+y", "x%20y", "x%2By"]),
            ("x y+z", vec!["x+y%2Bz"]),
        ] {
            let made = api.ok("POST", "/customers", json!({"name": name}));
            let meter = json!({
                "name": name, "event_name": "e", "meter_type": "COUNTER", "data_type": "INT", "aggregation": "SUM", "is_incremental": true,
                "reporting_method": "DELTA",
            });
            api.ok("POST", "/meters", meter);
            for path in paths {
                assert_eq!(api.get(&format!("/customers/{path}")), made);
                assert_eq!(api.get(&format!("/meters/{path}"))["name"], name);
                assert_eq!(api.ok("PUT", &format!("/customers/{path}"), json!({"name": name})), made);
                assert_eq!(api.get(&format!("/customers/{path}/subscriptions")), json!([]));
            }
        }
        // What has the name as it stands goes first.
        api.ok("POST", "/customers", json!({"name": "a b"}));
        api.delete("/customers/a+b", true);
        assert_eq!(api.get("/customers/a+b")["name"], "a b");
        for nobody in ["%00", "%ff", "q%2By", &"x".repeat(256)] {
            api.unknown("GET", &format!("/customers/{nobody}"), Value::Null, Some("name"));
            api.unknown("GET", &format!("/meters/{nobody}"), Value::Null, Some("name"));
        }
    });
}

#[test]
fn section_3_meters() {
    in_every_form(|api| {
        assert_eq!(api.get("/meters"), json!([]));
        let sent = json!({
            "name": "calls", "event_name": "call", "meter_type": "counter", "data_type": "INT", "aggregation": "MAX", "is_incremental": true,
            "reporting_method": "periodic", "expected_labels": ["region"], "primary_labels": ["region"], "unit_name": "call",
            "event_label_filter": [{"label": "region", "value": "eu"}],
        });
        let made = api.ok("POST", "/meters", sent.clone());
        let mut expected = sent.clone();
        expected["display_name"] = "calls".into();
        assert_eq!((&made, &api.get("/meters/calls"), &api.get("/meters")), (&expected, &expected, &json!([expected])));
        assert_eq!(api.no("POST", "/meters", sent, 400), ("already_exists".into(), Some("name".into())));
        api.bad("POST", "/meters", json!({"name": "x", "event_name": "e", "meter_type": "sum"}), "meter_type");
        let put = api.ok("PUT", "/meters/calls", json!({"display_name": "Calls", "description": "of the API", "aggregation": "SUM"}));
        (expected["display_name"], expected["description"]) = ("Calls".into(), "of the API".into());
        assert_eq!(put, expected, "nothing else can be changed");
        let archived = api.ok("POST", "/meters/calls/archive", json!({}));
        assert_eq!((&archived["is_archived"], &api.get("/meters"), &api.get("/meters/calls")), (&json!(true), &json!([]), &archived));
        api.delete("/meters/calls", true);
        for (method, path) in
            [("GET", "/meters/calls"), ("PUT", "/meters/calls"), ("DELETE", "/meters/calls"), ("POST", "/meters/calls/archive")]
        {
            api.unknown(method, path, json!({}), Some("name"));
        }
    });
}

#[test]
fn section_2_measurements() {
    in_every_form(|api| {
        let sent = json!({"meter_name": "m", "customer_name": "nobody knows", "value": 0.1, "time": "2026-01-01T00:00:00.123456", "labels": {"region": "eu"}, "id": "m-1", "more": [7]});
        assert_eq!(api.ok("POST", "/measurements", sent.clone()), sent, "with all that it came with");
        let bare = json!({"event_name": "m", "customer_name": "acme", "value": 2, "time": null, "labels": null, "reset_total": false});
        let echo = api.ok("POST", "/measurements", bare);
        assert!(echo["id"].is_string() && echo["time"].as_str().is_some_and(|time| time.len() == 27 && time.ends_with('Z')), "{echo}");
        // In the order in which they came, known ones too.
        let all = json!([echo, sent]);
        assert_eq!(api.ok("POST", "/measurements/multi", all.clone()), all);
        assert_eq!(api.ok("POST", "/measurements/multi", json!([])), json!([]));
        api.bad("POST", "/measurements", json!({"customer_name": "acme", "value": 1}), "meter_name");
        api.bad("POST", "/measurements", json!({"meter_name": "m", "customer_name": "acme"}), "value");
        for (field, value) in
            [("reset_total", json!(true)), ("value", json!("1")), ("time", json!("noon")), ("labels", json!([])), ("id", json!(7))]
        {
            let mut bad = json!({"meter_name": "m", "customer_name": "acme", "value": 1});
            bad[field] = value;
            api.bad("POST", "/measurements", bad.clone(), field);
            api.bad("POST", "/measurements/multi", json!([sent, bad]), &format!("[1].{field}"));
        }
        api.ok("POST", "/customers", json!({"name": "acme"}));
        assert_eq!(api.get("/customers/acme/usage?meter_name=m"), json!({"usage": 2}), "counted once, and nothing else");
        let none = api.keyed("nothing");
        assert_eq!(none.no("POST", "/measurements", json!({}), 401), ("unauthorized".into(), None));
    });
}

/// A meter as the Python client would make it, but for what is said here.
fn meter(name: &str, kind: &str, aggregation: &str) -> Value {
    json!({"name": name, "event_name": name, "meter_type": kind, "data_type": "FLOAT", "aggregation": aggregation, "is_incremental": true,
        "reporting_method": "DELTA", "primary_labels": ["user"], "unit_name": "token"})
}

fn measured(meter: &str, time: &str, value: Value, user: &str) -> Value {
    json!({"meter_name": meter, "customer_name": "acme", "time": time, "value": value, "labels": {"user": user, "region": "eu"}})
}

/// Three in January, one in February.
fn measure(api: &Api, meter: &str) {
    let all = json!([
        measured(meter, "2026-01-01T00:00:00.000001", json!(0.1), "a"),
        measured(meter, "2026-01-01T00:59:59.999999Z", json!(0.2), "b"),
        measured(meter, "2026-01-31T23:59:59.999999Z", json!(7), "a"),
        measured(meter, "2026-02-01T00:00:00Z", json!(-3), "c"),
    ]);
    api.ok("POST", "/measurements/multi", all);
}

#[test]
fn section_4_usage() {
    in_every_form(|api| {
        let usage = |more: &str| format!("/customers/acme/usage?meter_name={more}");
        api.unknown("GET", &usage("sum"), Value::Null, Some("name"));
        api.ok("POST", "/customers", json!({"name": "acme"}));
        assert_eq!(api.get(&usage("sum")), json!({"usage": 0}), "a meter that nobody knows");
        let january = "&start_time=2026-01-01T00:00:00&end_time=2026-02-01T00:00:00Z";
        for (word, used) in [
            ("SUM", "7.3"),
            ("count", "3"),
            ("MAX", "7"),
            ("min", "0.1"),
            ("UNIQUE_COUNT", "2"),
            ("AVG", "2.433333333333"),
            ("LATEST", "7"),
        ] {
            api.ok("POST", "/meters", meter(word, "counter", word));
            measure(api, word);
            assert_eq!(api.get(&usage(&format!("{word}{january}"))).to_string(), format!("{{\"usage\":{used}}}"), "{word}");
        }
        measure(api, "undefined");
        assert_eq!(api.get(&usage(&format!("undefined{january}"))), json!({"usage": 7.3}), "a meter that nobody defined");
        // Seconds since 1970, as the documents have them; a range is moved to whole hours, which the answer says.
        assert_eq!(api.get(&usage("SUM&start_time=1767225600&end_time=1767229200")), json!({"usage": 0.3}));
        let moved =
            api.call_with(&[], "GET", &usage("SUM&start_time=1767225601.5&end_time=2026-01-01T00:30:00Z"), &Value::Null).refused(200);
        assert_eq!((moved.json(), moved.header("tollgate-range")), (json!({"usage": 0.3}), Some("1767225600-1767229200")));
        assert_eq!(moved.header("tollgate-complete"), Some("true"));
        // Without a range it is the month that is running, and of a gauge whatever is latest.
        api.ok("POST", "/meters", meter("gauge", "GAUGE", "SUM"));
        measure(api, "gauge");
        assert_eq!(api.get(&usage(&format!("gauge{january}"))), json!({"usage": 7}));
        assert_eq!(api.get(&usage("gauge&end_time=2026-01-02T00:00:00Z")), json!({"usage": 0.2}));
        assert_eq!((api.get(&usage("gauge")), api.get(&usage("SUM"))), (json!({"usage": -3}), json!({"usage": 0})));
        api.ok("POST", "/measurements", json!({"meter_name": "SUM", "customer_name": "acme", "value": 1e-12}));
        assert_eq!(api.get(&usage("SUM")).to_string(), "{\"usage\":0.000000000001}");
        api.ok("POST", "/meters", meter("weighted", "counter", "TIME_WEIGHTED_SUM"));
        api.bad("GET", &usage("weighted"), Value::Null, "meter_name");
        api.bad("GET", "/customers/acme/usage", Value::Null, "meter_name");
        api.bad("GET", &usage("SUM&start_time=yesterday"), Value::Null, "start_time");
        api.bad("GET", &usage("SUM&start_time=7200&end_time=7200"), Value::Null, "end_time");
    });
}

#[test]
fn section_4_usage_by_time() {
    in_every_form(|api| {
        let path = "/customers/acme/usage_by_time";
        let asked = |more: Value| {
            let mut body = json!({"meter_name": "m", "start_time": "2026-01-01T00:30:00.000Z", "end_time": "2026-02-02T00:00:00Z"});
            body.as_object_mut().expect("an object").extend(more.as_object().cloned().expect("an object"));
            body
        };
        api.unknown("POST", path, asked(json!({})), Some("name"));
        api.ok("POST", "/customers", json!({"name": "acme"}));
        let nothing = api.ok("POST", path, json!({"meter_name": "m", "start_time": "2026-01-01T00:00:00Z"}));
        assert_eq!((&nothing["total_usage"], &nothing["usage_by_time"], nothing.get("unit_name")), (&json!(0), &json!([]), None));
        api.ok("POST", "/meters", meter("m", "counter", "MAX"));
        measure(api, "m");
        let point = |time: &str, usage: Value, labels: Value| json!({"time": format!("2026-{time}:00:00.000000Z"), "usage": usage, "labels": labels});
        let expected = json!({
            "meter_name": "m", "meter_display_name": "m", "unit_name": "token", "start_time": "2026-01-01T00:00:00.000000Z",
            "end_time": "2026-02-02T00:00:00.000000Z", "total_usage": 7,
            "usage_by_time": [point("01-01T00", json!(0.2), json!({})), point("01-31T00", json!(7), json!({})), point("02-01T00", json!(-3), json!({}))],
        });
        assert_eq!(api.ok("POST", path, asked(json!({"time_bucket": null}))), expected);
        let grouped = api.ok("POST", path, asked(json!({"time_bucket": "hour", "aggregate": "sum", "label_group_by_keys": ["user"]})));
        assert_eq!(grouped["total_usage"], json!(4.3));
        let user = |name: &str| json!({"user": name});
        let expected = json!([
            point("01-01T00", json!(0.1), user("a")),
            point("01-01T00", json!(0.2), user("b")),
            point("01-31T23", json!(7), user("a")),
            point("02-01T00", json!(-3), user("c")),
        ]);
        assert_eq!(grouped["usage_by_time"], expected);
        let filters = json!([{"key": "region", "value": "eu"}, {"key": "user", "value": "b"}, {"key": "user", "value": "c"}]);
        let filtered = api.ok("POST", path, asked(json!({"aggregate": "COUNT", "label_filters": filters})));
        assert_eq!((&filtered["total_usage"], filtered["usage_by_time"].as_array().map(Vec::len)), (&json!(2), Some(2)));
        for (field, value) in [
            ("meter_name", Value::Null),
            ("start_time", Value::Null),
            ("start_time", json!("2999-01-01T00:00:00Z")),
            ("time_bucket", json!("week")),
            ("aggregate", json!("TIME_WEIGHTED_SUM")),
            ("label_filters[0].key", json!([{"value": "v"}])),
        ] {
            let mut body = json!({"meter_name": "m", "start_time": "2026-01-01T00:00:00Z"});
            body[field.split('[').next().expect("a name")] = value;
            api.bad("POST", path, body, field);
        }
    });
}

#[test]
fn usage_is_one_in_all_dialects_and_needs_the_scope_to_read() {
    let gateway = Gateway::start();
    let api = plain(&gateway);
    api.ok("POST", "/customers", json!({"name": "a b+c"}));
    let sent = event("u-1").customer("a b+c").meter("tokens").value("2.5").dimension("region", "eu");
    gateway.send(&[sent]).logged(1);
    api.ok("POST", "/measurements", json!({"meter_name": "tokens", "customer_name": "a b+c", "value": 1, "time": "2026-01-01T00:00:00Z"}));
    for path in ["a+b%2Bc", "a%20b+c"] {
        let range = "start_time=2026-01-01T00:00:00Z&end_time=2027-01-01T00:00:00Z";
        assert_eq!(api.get(&format!("/customers/{path}/usage?meter_name=tokens&{range}")), json!({"usage": 3.5}));
    }
    let made = gateway.make_key("default", &["ingest"]);
    let producer = of_key(&gateway, &made.text, FORMS[0]);
    for (method, path) in [("GET", "/customers/x/usage?meter_name=tokens"), ("POST", "/customers/x/usage_by_time")] {
        let refused = producer.call_with(&[], method, path, &json!({})).refused(403).json();
        assert_eq!(refused["error"]["code"], "forbidden", "{method} {path}");
    }
}

/// Without what differs from run to run.
fn known(subscription: &Value) -> Value {
    json!([subscription["customer_name"], subscription["price_plan_name"], subscription["effective_at"], subscription["expired_at"]])
}

#[test]
fn section_5_subscriptions() {
    in_every_form(|api| {
        let (all, active, one) = ("/customers/acme/subscriptions", "/customers/acme/active_subscription", "/customers/acme/subscription");
        for (method, path) in [("GET", all), ("GET", active), ("DELETE", one)] {
            api.unknown(method, path, Value::Null, Some("name"));
        }
        api.unknown("POST", all, json!({"price_plan_name": "pro"}), Some("name"));
        api.ok("POST", "/customers", json!({"name": "acme"}));
        assert_eq!(api.get(all), json!([]));
        api.unknown("GET", active, Value::Null, None);
        api.unknown("PUT", one, json!({"price_plan_name": "pro"}), None);
        api.unknown("DELETE", one, Value::Null, None);
        api.bad("POST", all, json!({"align_to_calendar": true}), "price_plan_name");
        api.bad("POST", all, json!({"price_plan_uuid": "00000000-0000-8000-8000-000000000000"}), "price_plan_uuid");
        let sent = json!({"price_plan_name": "pro", "effective_at": "2026-01-01T00:00:00.123456", "align_to_calendar": true});
        let first = api.ok("POST", all, sent.clone());
        assert_eq!(api.ok("POST", all, sent), first, "the same once more is the same");
        assert_eq!(known(&first), json!(["acme", "pro", "2026-01-01T00:00:00.123456Z", null]));
        assert_eq!((&first["align_to_calendar"], &first["discounts"]), (&json!(true), &json!([])));
        assert_eq!((&api.get(active), &api.get(all)), (&first, &json!([first])));
        let next = json!({"price_plan_tag": "team", "effective_at": "2026-02-01T00:00:00Z"});
        let second = api.ok("PUT", one, next);
        assert_eq!(known(&second), json!(["acme", "team", "2026-02-01T00:00:00.000000Z", null]));
        let shown = api.get(all);
        assert_eq!((&shown[0]["uuid"], &shown[0]["expired_at"], &shown[1]), (&first["uuid"], &second["effective_at"], &second));
        // By its uuid, and the plan by its own.
        let by_uuid = json!({"price_plan_uuid": first["price_plan_uuid"], "effective_at": "2026-02-02T00:00:00Z"});
        let third = api.ok("POST", &format!("{all}/{}", second["uuid"].as_str().expect("a text")), by_uuid.clone());
        assert_eq!(known(&third), json!(["acme", "pro", "2026-02-02T00:00:00.000000Z", null]));
        api.unknown("POST", &format!("{all}/other"), by_uuid.clone(), Some("uuid"));
        let later = json!({"price_plan_name": "x", "effective_at": "2026-02-03T00:00:00Z"});
        api.unknown("POST", &format!("{all}/{}", first["uuid"].as_str().expect("a text")), later, None);
        api.delete(one, true);
        api.unknown("GET", active, Value::Null, None);
        let last = &api.get(all)[2];
        assert!(last["uuid"] == third["uuid"] && last["expired_at"].is_string(), "{last}");
        api.ok("POST", all, json!({"price_plan_name": "new"}));
        api.bad("DELETE", one, json!({"expire_at": "never"}), "expire_at");
        let at_end = api.call_with(&[], "DELETE", one, &json!({"at_cycle_end": true})).refused(204);
        assert_eq!(at_end.text(), "");
        let ending = api.get(active);
        assert!(ending["expired_at"].as_str().is_some_and(|end| end.ends_with("-01T00:00:00.000000Z")), "{ending}");
    });
}

fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer.json()
}

/// The rules of `stigg.md` section 6 that are about Octane and Amberflo.
#[test]
fn a_customer_is_one_in_both_dialects() {
    let mut gateway = Gateway::start();
    let api = plain(&gateway);
    api.ok("POST", "/customers", json!({"name": "acme", "price_plan_name": "pro", "contact_info": {"city": "Oslo", "country": "NO"}}));
    let amberflo = ok(gateway.get("/customers/acme"));
    assert_eq!((&amberflo["customerName"], amberflo.get("address")), (&json!("acme"), None), "rules 4 and 5");
    // Rule 10.
    let assigned = ok(gateway.get("/payments/pricing/amberflo/customer-pricing?customerId=acme"));
    assert_eq!(assigned["productPlanId"], "pro");
    ok(gateway.post(
        "/payments/pricing/amberflo/customer-pricing",
        &[],
        json!({"customerId": "acme", "productPlanId": "team"}).to_string(),
    ));
    assert_eq!(api.get("/customers/acme/active_subscription")["price_plan_name"], "team");
    assert_eq!(api.get("/customers/acme/subscriptions").as_array().map(Vec::len), Some(2));
    // Rule 7.
    let body = json!({"customerId": "acme", "customerName": "Acme"});
    assert_eq!(gateway.post("/customers", &[], body.to_string()).refused(400).json()["code"], "DUPLICATE");
    // Rules 1 to 3.
    ok(gateway.call("PUT", "/customers", &json!({"customerId": "acme", "customerName": "Acme", "traits": {"tier": "gold"}}).to_string()));
    let shown = api.get("/customers/acme");
    assert_eq!((&shown["display_name"], &shown["contact_info"]), (&json!("Acme"), &json!({"city": "Oslo", "country": "NO"})));
    assert_eq!(api.get("/customers/acme/metadata"), json!([{"property": "tier", "value": "gold"}]));
    ok(gateway.call("PUT", "/customers/stage", &json!({"customerId": "acme", "lifecycleStage": "OFFBOARDED"}).to_string()));
    assert_eq!(api.get("/customers/acme/status"), json!({"status": "OFFBOARDED"}));
    gateway.kill_and_restart();
    let api = plain(&gateway);
    assert_eq!(api.get("/customers/acme"), shown);
    // Rule 6, both ways.
    ok(gateway.delete("/customers/acme"));
    api.unknown("GET", "/customers/acme", Value::Null, Some("name"));
    api.unknown("GET", "/customers/acme/subscriptions", Value::Null, Some("name"));
    ok(gateway.post("/customers", &[], body.to_string()));
    let again = api.get("/customers/acme");
    assert!(again.get("contact_info").is_none() && api.get("/customers/acme/subscriptions") == json!([]), "{again}");
    api.delete("/customers/acme", true);
    gateway.get("/customers/acme").refused(404);
    // A meter is one, too.
    let sent = json!({
        "name": "m", "event_name": "e", "meter_type": "GAUGE", "data_type": "FLOAT", "aggregation": "LATEST", "is_incremental": false,
        "reporting_method": "TOTAL", "expected_labels": ["region"],
    });
    api.ok("POST", "/meters", sent);
    let defined = ok(gateway.get("/meter-definition/m"));
    assert_eq!((&defined["type"], &defined["dimensions"]), (&json!("SUM_OF_ALL_USAGE"), &json!(["region"])));
    let put = json!({"meterApiName": "m", "displayName": "The m", "type": "MAX_IN_PERIOD"});
    ok(gateway.call("PUT", "/meter-definition", &put.to_string()));
    let shown = api.get("/meters/m");
    assert_eq!((&shown["display_name"], &shown["aggregation"], &shown["event_name"]), (&json!("The m"), &json!("MAX"), &json!("e")));
}

#[test]
fn who_may_what_is_the_same_and_changes_are_noted() {
    let gateway = Gateway::start();
    let made = gateway.make_key("default", &["read"]);
    let reader = of_key(&gateway, &made.text, FORMS[0]);
    let api = plain(&gateway);
    api.ok("POST", "/customers", json!({"name": "acme"}));
    assert_eq!(reader.get("/customers/acme")["name"], "acme");
    for (method, path) in [
        ("POST", "/customers"),
        ("PUT", "/customers/acme"),
        ("DELETE", "/customers/acme"),
        ("POST", "/customers/acme/mappings"),
        ("DELETE", "/customers/acme/mappings/l"),
        ("POST", "/customers/acme/metadata"),
        ("POST", "/customers/acme/subscriptions"),
        ("POST", "/customers/acme/subscriptions/u"),
        ("PUT", "/customers/acme/subscription"),
        ("DELETE", "/customers/acme/subscription"),
        ("POST", "/meters"),
        ("PUT", "/meters/m"),
        ("DELETE", "/meters/m"),
        ("POST", "/meters/m/archive"),
    ] {
        let refused = reader.call_with(&[], method, path, &json!({})).refused(403).json();
        assert_eq!(refused["error"]["code"], "forbidden", "{method} {path}");
    }
    api.delete("/customers/acme", true);
    let noted = gateway.get("/v1/audit").json();
    let told: Vec<_> = noted["entries"].as_array().expect("an array").iter().map(|entry| (&entry["action"], &entry["object"])).collect();
    let removed = (&json!("DELETE /octane/customers/{name}"), &json!("acme"));
    assert_eq!(told[0], removed);
    assert_eq!((told[1].0, told[1].1), (&json!("POST /octane/customers"), &json!("acme")));
}
