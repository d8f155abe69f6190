//! The contract `stigg.md`, sections 0 to 3, over HTTP: at the root and below the prefix. What a body means is tested where bodies are read, what
//! the real client makes of it in `tests/clients/test_stigg_sdk.py`.

use serde_json::{Value, json};

use crate::harness::Gateway;
use crate::harness::api::{Api, Form, in_each_form};

/// What a path may look like.
const FORMS: [Form; 3] = [str::to_owned, |path| format!("/stigg{path}"), |path| format!("//stigg{}", path.replacen("/v1/", "//v1//", 1))];

const CUSTOMERS: &str = "/api/v1/customers";
const SUBSCRIPTIONS: &str = "/api/v1/subscriptions";

/// What Stigg's answers have in common.
trait Stiggs {
    /// What is in the envelope of what succeeds.
    fn data(&self, method: &str, path: &str, body: Value) -> Value;
    /// The ids of a list.
    fn ids(&self, path: &str) -> Vec<String>;
    /// The error body in both of its forms.
    fn no(&self, method: &str, path: &str, body: Value, status: u16, code: &str) -> String;
    /// The same of a mistake, with its message.
    fn bad(&self, method: &str, path: &str, body: Value, message: &str);
}

impl Stiggs for Api {
    #[track_caller]
    fn data(&self, method: &str, path: &str, body: Value) -> Value {
        let answer = self.json(method, path, body, if method == "POST" && path.ends_with('s') { 201 } else { 200 });
        assert_eq!(answer.as_object().map(serde_json::Map::len), Some(1), "{answer}");
        answer["data"].clone()
    }

    #[track_caller]
    fn ids(&self, path: &str) -> Vec<String> {
        ids(&self.json("GET", path, Value::Null, 200))
    }

    #[track_caller]
    fn no(&self, method: &str, path: &str, body: Value, status: u16, code: &str) -> String {
        let answer = self.answered(method, path, &body, status, "application/json");
        let retry = (status == 409).then_some("false");
        assert_eq!(answer.header("x-should-retry"), retry, "{method} {path}");
        let error = answer.json();
        let message = error["message"].clone();
        assert_eq!(error, json!({"message": message, "code": code, "error": {"code": code, "message": message}}), "{method} {path}");
        message.as_str().expect("a message").to_owned()
    }

    #[track_caller]
    fn bad(&self, method: &str, path: &str, body: Value, message: &str) {
        assert_eq!(self.no(method, path, body, 400, "VALIDATION_ERROR"), message, "{method} {path}");
    }
}

#[track_caller]
fn ids(list: &Value) -> Vec<String> {
    assert_eq!(list.as_object().map(serde_json::Map::len), Some(2), "{list}");
    let id = |one: &Value| one["id"].as_str().expect("an id").to_owned();
    list["data"].as_array().expect("an array").iter().map(id).collect()
}

fn in_every_form(rows: fn(&Api)) {
    in_each_form(&FORMS, rows);
}

fn one_path(id: &str) -> String {
    format!("{CUSTOMERS}/{id}")
}

#[test]
fn section_0_what_holds_of_every_path() {
    in_every_form(|api| {
        let stranger = |key| api.with_key(key);
        for key in [None, Some("tg_0000000000000000_unknown")] {
            stranger(key).no("GET", CUSTOMERS, Value::Null, 401, "UNAUTHENTICATED");
        }
        for path in ["/api/v1/features", "/api/v1/customers/a/entitlements", "/api/v1-beta/customers", "/api/v1/plans"] {
            api.no("GET", path, Value::Null, 404, "NOT_FOUND");
        }
        for (method, path, allow) in [
            ("PUT", CUSTOMERS, "GET,HEAD,POST"),
            ("POST", "/api/v1/customers/a", "GET,HEAD,PATCH,DELETE"),
            ("GET", "/api/v1/customers/a/archive", "POST"),
            ("DELETE", "/api/v1/subscriptions/a", "GET,HEAD,PATCH"),
        ] {
            api.no(method, path, Value::Null, 405, "METHOD_NOT_ALLOWED");
            assert_eq!(api.call(method, path, &Value::Null).header("allow"), Some(allow), "{method} {path}");
        }
        api.no("POST", CUSTOMERS, Value::from("x".repeat(1 << 20)), 413, "PAYLOAD_TOO_LARGE");
        let coded = api.client.post(&(api.form)(CUSTOMERS), &[("content-encoding", "br")], "{}").refused(415);
        assert_eq!(coded.json()["error"]["code"], "UNSUPPORTED_MEDIA_TYPE");
        api.bad("POST", CUSTOMERS, Value::Null, "id is missing");
        api.bad("POST", CUSTOMERS, json!([]), "the body must be a JSON object");
    });
}

#[test]
fn section_2_a_customer_s_life() {
    in_every_form(|api| {
        let missing =
            [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/archive"), ("POST", "/unarchive"), ("DELETE", "/payment-method")];
        for (method, rest) in missing {
            let message = api.no(method, &format!("{CUSTOMERS}/acme-7{rest}"), Value::Null, 404, "CUSTOMER_NOT_FOUND");
            assert_eq!(message, "customer acme-7 not found");
        }
        let made = api.data("POST", CUSTOMERS, json!({"id": "acme-7", "name": "Acme", "metadata": {"tier": "gold"}, "unknown": 1}));
        assert_eq!(made["createdAt"].as_str().map(str::len), Some("2026-01-01T00:00:00.123Z".len()));
        let names: Vec<_> = made.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(names, ["archivedAt", "createdAt", "id", "metadata", "name", "subscriptions", "updatedAt"]);
        assert_eq!((&made["archivedAt"], &made["subscriptions"]), (&Value::Null, &json!([])));
        assert_eq!(api.data("GET", &one_path("acme-7"), Value::Null), made);
        let message = api.no("POST", CUSTOMERS, json!({"id": "acme-7"}), 409, "DUPLICATED_ENTITY_NOT_ALLOWED");
        assert!(message.contains("acme-7"), "{message}");
        let patched = api.data("PATCH", &one_path("acme-7"), json!({"email": "ap@acme.test", "metadata": {"a": "b"}, "name": null}));
        assert_eq!((&patched["email"], &patched["metadata"], &patched["name"]), (&json!("ap@acme.test"), &json!({"a": "b"}), &Value::Null));
        assert_eq!(patched["createdAt"], made["createdAt"]);
        api.bad("PATCH", &one_path("acme-7"), json!({"email": 7}), "email must be a string");
        let archived = api.data("POST", &one_path("acme-7/archive"), Value::Null);
        assert!(archived["archivedAt"].is_string());
        assert_eq!(api.data("DELETE", &one_path("acme-7"), Value::Null), archived, "the same, and once more the same");
        assert_eq!(api.data("GET", &one_path("acme-7"), Value::Null), archived);
        assert_eq!(api.ids(CUSTOMERS), [""; 0]);
        api.no("POST", CUSTOMERS, json!({"id": "acme-7"}), 409, "DUPLICATED_ENTITY_NOT_ALLOWED");
        let back = api.data("POST", &one_path("acme-7/unarchive"), Value::Null);
        assert_eq!((&back["archivedAt"], &back["email"]), (&Value::Null, &json!("ap@acme.test")));
        assert_eq!(api.ids(CUSTOMERS), ["acme-7"]);
    });
}

#[test]
fn section_2_imports_and_ways_to_pay() {
    in_every_form(|api| {
        let import = format!("{CUSTOMERS}/import");
        let entry = |id: &str| json!({"id": id, "name": id, "email": null});
        assert_eq!(
            api.json("POST", &import, json!({"customers": [entry("a"), entry("import")]}), 200),
            json!({"data": {"newCustomers": ["a", "import"]}})
        );
        let again = api.json("POST", &import, json!({"customers": [entry("b"), {"id": "a", "name": "A", "email": "e"}]}), 200);
        assert_eq!(again, json!({"data": {"newCustomers": ["b"]}}));
        assert_eq!(api.data("GET", &one_path("a"), Value::Null)["email"], "e");
        assert_eq!(api.data("GET", &one_path("import"), Value::Null)["id"], "import", "an id as any other");
        api.bad("POST", &import, json!({"customers": []}), "customers has 0 entries, it must be 1 to 1000");
        api.bad(
            "POST",
            &import,
            json!({"customers": [entry("c"), {"id": "d", "name": 7, "email": null}]}),
            "customers[1].name must be a string",
        );
        assert_eq!(api.call("GET", &one_path("c"), &Value::Null).status, 404, "nothing of a bad import is made");
        let pay = one_path("a/payment-method");
        let body = json!({"integrationId": "i", "vendorIdentifier": "STRIPE", "billingId": "b"});
        let attached = api.json("POST", &pay, body, 200);
        assert_eq!(attached["data"]["defaultPaymentMethod"]["billingId"], "b");
        api.bad("POST", &pay, json!({}), "integrationId is missing");
        assert_eq!(api.data("DELETE", &pay, Value::Null).get("defaultPaymentMethod"), None);
    });
}

#[test]
fn section_2_lists() {
    in_every_form(|api| {
        let empty = api.json("GET", CUSTOMERS, Value::Null, 200);
        assert_eq!(empty, json!({"data": [], "pagination": {"next": null, "prev": null}}));
        let all: Vec<_> = (0..25).map(|n| format!("c-{n:02}")).collect();
        for (n, id) in all.iter().enumerate() {
            api.data(
                "POST",
                CUSTOMERS,
                json!({"id": id, "name": if n % 2 == 0 { "even" } else { "odd" }, "email": format!("{n}@acme.test")}),
            );
        }
        assert_eq!(api.ids(CUSTOMERS), all[..20], "twenty unless it says otherwise");
        let page = |query: &str| {
            let list = api.json("GET", &format!("{CUSTOMERS}?{query}"), Value::Null, 200);
            let cursor = |name: &str| list["pagination"][name].as_str().map(str::to_owned);
            (ids(&list), cursor("next"), cursor("prev"))
        };
        let (first, next, prev) = page("limit=10");
        assert_eq!((&first[..], prev), (&all[..10], None));
        let (second, next, prev) = page(&format!("limit=10&after={}", next.expect("more")));
        assert_eq!(second, all[10..20]);
        let (back, _, before) = page(&format!("limit=7&ending_before={}", prev.expect("some before")));
        assert_eq!((&back[..], before.is_some()), (&all[3..10], true));
        let (third, none, _) = page(&format!("limit=10&starting_after={}", next.expect("more")));
        assert_eq!((&third[..], none), (&all[20..], None));
        assert_eq!(page("name=odd&limit=100").0.len(), 12);
        assert_eq!(page("email=7%40acme.test&name=odd").0, ["c-07"]);
        assert_eq!(page("email=7%40acme.test&name=even").0, [""; 0]);
        let made = api.data("GET", &one_path("c-00"), Value::Null)["createdAt"].as_str().expect("a time").replace('Z', "%2B00:00");
        assert_eq!(page(&format!("limit=1&createdAt%5Bgte%5D={made}")).0, ["c-00"]);
        assert!(!page(&format!("createdAt[gt]={made}")).0.contains(&"c-00".to_owned()));
        assert_eq!(page(&format!("createdAt[lt]={made}")).0, [""; 0]);
        for (query, message) in [
            ("limit=0", "limit must be a whole number between 1 and 100"),
            ("limit=101", "limit must be a whole number between 1 and 100"),
            ("after=x", "after must be a cursor from the pagination of an answer to this list"),
            ("createdAt[is]=x", "createdAt[is] is no filter here; createdAt[gt], [gte], [lt] and [lte] are"),
            ("createdAt[lt]=x", "createdAt[lt] must be a time in RFC 3339, such as 2026-01-01T00:00:00Z"),
        ] {
            api.bad("GET", &format!("{CUSTOMERS}?{query}"), Value::Null, message);
        }
    });
}

/// Whoever stays is listed once, in order, while others do what they like.
#[test]
fn pages_are_exact_while_customers_are_made_and_removed_at_the_same_time() {
    let gateway = Gateway::start();
    let api = Api::plain(&gateway, FORMS[0]);
    for n in 0..30 {
        api.data("POST", CUSTOMERS, json!({"id": format!("stays-{n:02}")}));
        api.data("POST", CUSTOMERS, json!({"id": format!("goes-{n:02}")}));
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in (0..30).cycle().take_while(|_| !done.load(std::sync::atomic::Ordering::Relaxed)) {
                let path = format!("{CUSTOMERS}/goes-{n:02}");
                for step in ["archive", "unarchive"] {
                    api.data("POST", &format!("{path}/{step}"), Value::Null);
                }
                let new = json!({"id": format!("new-{n}")}).to_string();
                assert!([201, 409].contains(&api.client.call("POST", CUSTOMERS, &new).status));
            }
        });
        for limit in [1, 7, 13] {
            let (mut seen, mut after) = (Vec::new(), String::new());
            loop {
                let list = api.json("GET", &format!("{CUSTOMERS}?limit={limit}&after={after}"), Value::Null, 200);
                seen.extend(ids(&list));
                let Some(next) = list["pagination"]["next"].as_str() else { break };
                after = next.to_owned();
            }
            let stayed: Vec<_> = seen.iter().filter(|id| id.starts_with("stays-")).cloned().collect();
            assert_eq!(stayed, (0..30).map(|n| format!("stays-{n:02}")).collect::<Vec<_>>());
            seen.sort();
            assert!(seen.is_sorted_by(|a, b| a < b), "nobody comes twice");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.join().expect("the writer ends");
    });
}

#[test]
fn section_3_a_subscription_s_life() {
    in_every_form(|api| {
        let new = json!({"id": "sub-1", "customerId": "acme-7", "planId": "pro", "metadata": {"k": "v"}, "unitQuantity": 2});
        assert_eq!(api.no("POST", SUBSCRIPTIONS, new.clone(), 404, "CUSTOMER_NOT_FOUND"), "customer acme-7 not found");
        api.data("POST", CUSTOMERS, json!({"id": "acme-7"}));
        let made = api.data("POST", SUBSCRIPTIONS, new.clone());
        let one = &made["subscription"];
        assert_eq!((&made["id"], &made["status"], &made["entitlements"]), (&json!("sub-1"), &json!("SUCCESS"), &json!([])));
        assert_eq!((&one["status"], &one["planId"], &one["unitQuantity"]), (&json!("ACTIVE"), &json!("pro"), &json!(2)));
        let path = format!("{SUBSCRIPTIONS}/sub-1");
        assert_eq!(api.data("GET", &path, Value::Null), *one);
        api.no("POST", SUBSCRIPTIONS, new, 409, "DUPLICATED_ENTITY_NOT_ALLOWED");
        api.data("POST", CUSTOMERS, json!({"id": "acme-8"}));
        let others = json!({"id": "sub-1", "customerId": "acme-8", "planId": "pro"});
        api.no("POST", SUBSCRIPTIONS, others, 409, "DUPLICATED_ENTITY_NOT_ALLOWED");
        let patched = api.data("PATCH", &path, json!({"metadata": {"a": "b"}, "unitQuantity": null}));
        assert_eq!((&patched["metadata"], patched.get("unitQuantity")), (&json!({"a": "b"}), None));
        let message = "cancellationTime must be IMMEDIATE, END_OF_BILLING_PERIOD or SPECIFIC_DATE";
        api.bad("POST", &format!("{path}/cancel"), json!({"cancellationTime": "SOON"}), message);
        let canceled = api.data("POST", &format!("{path}/cancel"), Value::Null);
        assert_eq!((&canceled["status"], &canceled["cancelReason"]), (&json!("CANCELED"), &json!("Immediate")));
        for (method, rest) in [("GET", ""), ("PATCH", ""), ("POST", "/cancel")] {
            let message = api.no(method, &format!("{SUBSCRIPTIONS}/sub-2{rest}"), Value::Null, 404, "SUBSCRIPTION_NOT_FOUND");
            assert_eq!(message, "subscription sub-2 not found");
        }
        api.bad("POST", SUBSCRIPTIONS, json!({"customerId": "acme-7"}), "planId is missing");
        api.bad(
            "GET",
            &format!("{SUBSCRIPTIONS}?status=ACTIVE%2CX"),
            Value::Null,
            "status must be of PAYMENT_PENDING, ACTIVE, EXPIRED, IN_TRIAL, CANCELED, NOT_STARTED",
        );
    });
}

#[test]
fn section_6_one_customer_for_all_dialects() {
    in_every_form(|api| {
        let amberflo = |method: &str, path: &str, body: Value| {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            api.client.call(method, path, &body)
        };
        // Rule 5: a name that is unset is the id for Amberflo, and null for Stigg also after Amberflo sent that back.
        api.data("POST", CUSTOMERS, json!({"id": "acme-7", "language": "fr"}));
        let mut shown = amberflo("GET", "/customers/acme-7", Value::Null).refused(200).json();
        assert_eq!(shown["customerName"], "acme-7");
        shown["customerEmail"] = json!("e");
        amberflo("PUT", "/customers", shown).refused(200);
        let seen = api.data("GET", &one_path("acme-7"), Value::Null);
        assert_eq!((&seen["name"], &seen["email"], &seen["language"]), (&Value::Null, &json!("e"), &json!("fr")));
        // Rule 7: a duplicate is one whoever made the first.
        assert_eq!(
            amberflo("POST", "/customers", json!({"customerId": "acme-7", "customerName": "A"})).refused(400).json()["code"],
            "DUPLICATE"
        );
        amberflo("POST", "/customers", json!({"customerId": "acme-8", "customerName": "A"})).refused(200);
        api.no("POST", CUSTOMERS, json!({"id": "acme-8"}), 409, "DUPLICATED_ENTITY_NOT_ALLOWED");
        // Rule 10: one row.
        let assigned = json!({"customerId": "acme-7", "productPlanId": "basic", "productId": "1", "startTimeInSeconds": 1_767_225_600});
        amberflo("POST", "/payments/pricing/amberflo/customer-pricing", assigned).refused(200);
        api.data("POST", SUBSCRIPTIONS, json!({"id": "sub-1", "customerId": "acme-7", "planId": "pro"}));
        let plans = amberflo("GET", "/payments/pricing/amberflo/customer-pricing/list?CustomerId=acme-7", Value::Null).refused(200).json();
        let plans: Vec<_> = plans.as_array().expect("an array").iter().map(|plan| plan["productPlanId"].clone()).collect();
        assert_eq!(plans, ["basic", "pro"]);
        let listed = api.json("GET", &format!("{SUBSCRIPTIONS}?customerId=acme-7"), Value::Null, 200);
        let listed: Vec<_> =
            listed["data"].as_array().expect("an array").iter().map(|one| (one["planId"].clone(), one["status"].clone())).collect();
        assert_eq!(listed, [(json!("basic"), json!("CANCELED")), (json!("pro"), json!("ACTIVE"))]);
        // Rule 6: removed by one, archived for the other, and brought back everywhere.
        amberflo("DELETE", "/customers/acme-7", Value::Null).refused(200);
        assert!(api.data("GET", &one_path("acme-7"), Value::Null)["archivedAt"].is_string());
        let canceled = api.data("GET", &format!("{SUBSCRIPTIONS}/sub-1"), Value::Null);
        assert_eq!((&canceled["status"], &canceled["cancelReason"]), (&json!("CANCELED"), &json!("CustomerArchived")));
        api.no("POST", SUBSCRIPTIONS, json!({"customerId": "acme-7", "planId": "pro"}), 404, "CUSTOMER_NOT_FOUND");
        api.data("POST", &one_path("acme-7/unarchive"), Value::Null);
        assert_eq!(amberflo("GET", "/customers/acme-7", Value::Null).refused(200).json()["customerEmail"], "e");
        assert_eq!(api.data("GET", &one_path("acme-7"), Value::Null)["subscriptions"], json!([]), "what was canceled stays so");
        api.data("POST", &one_path("acme-7/archive"), Value::Null);
        amberflo("GET", "/customers/acme-7", Value::Null).refused(404);
        assert_eq!(amberflo("GET", "/customers?customerId=acme-7", Value::Null).refused(200).json(), json!({}));
        // A create through Amberflo starts a new record, and a new list of subscriptions.
        amberflo("POST", "/customers", json!({"customerId": "acme-7", "customerName": "New"})).refused(200);
        let new = api.data("GET", &one_path("acme-7"), Value::Null);
        assert_eq!((&new["name"], new.get("language"), &new["archivedAt"]), (&json!("New"), None, &Value::Null));
        assert_eq!(api.ids(&format!("{SUBSCRIPTIONS}?customerId=acme-7")), [""; 0]);
        assert_eq!(
            api.no("GET", &format!("{SUBSCRIPTIONS}/sub-1"), Value::Null, 404, "SUBSCRIPTION_NOT_FOUND"),
            "subscription sub-1 not found"
        );
        api.data("POST", SUBSCRIPTIONS, json!({"id": "sub-1", "customerId": "acme-7", "planId": "pro"}));
    });
}

#[test]
fn customers_and_subscriptions_outlive_the_process_and_stay_in_their_account() {
    let mut gateway = Gateway::start();
    gateway.make_account("other");
    let other = gateway.make_key("other", &["admin"]);
    let before = {
        let api = Api::plain(&gateway, FORMS[0]);
        api.data("POST", CUSTOMERS, json!({"id": "acme-7", "metadata": {"a": "b"}, "passthrough": {"zuora": {"currency": "usd"}}}));
        api.data("POST", SUBSCRIPTIONS, json!({"id": "sub-1", "customerId": "acme-7", "planId": "p", "addons": []}));
        [api.data("GET", &one_path("acme-7"), Value::Null), api.data("GET", &format!("{SUBSCRIPTIONS}/sub-1"), Value::Null)]
    };
    gateway.kill_and_restart();
    let api = Api::plain(&gateway, FORMS[0]);
    assert_eq!(
        [api.data("GET", &one_path("acme-7"), Value::Null), api.data("GET", &format!("{SUBSCRIPTIONS}/sub-1"), Value::Null)],
        before
    );
    let other = Api::new(gateway.with(&other), FORMS[1]);
    other.no("GET", &one_path("acme-7"), Value::Null, 404, "CUSTOMER_NOT_FOUND");
    other.no("GET", &format!("{SUBSCRIPTIONS}/sub-1"), Value::Null, 404, "SUBSCRIPTION_NOT_FOUND");
    assert_eq!((other.ids(CUSTOMERS), other.ids(SUBSCRIPTIONS)), (vec![], vec![]));
    // The same ids are other ones there.
    other.data("POST", CUSTOMERS, json!({"id": "acme-7"}));
    other.data("POST", SUBSCRIPTIONS, json!({"id": "sub-1", "customerId": "acme-7", "planId": "q"}));
    assert_eq!(api.data("GET", &format!("{SUBSCRIPTIONS}/sub-1"), Value::Null), before[1]);
}

#[test]
fn what_changes_something_needs_a_key_that_may_and_is_noted() {
    let gateway = Gateway::start();
    let (reads, sends) = (gateway.make_key("default", &["read"]), gateway.make_key("default", &["ingest"]));
    let admin = Api::plain(&gateway, FORMS[1]);
    admin.data("POST", CUSTOMERS, json!({"id": "acme-7"}));
    admin.data("POST", SUBSCRIPTIONS, json!({"id": "sub-1", "customerId": "acme-7", "planId": "p"}));
    let reader = Api::new(gateway.with(&reads), FORMS[0]);
    reader.data("GET", &one_path("acme-7"), Value::Null);
    for (method, path) in [
        ("POST", CUSTOMERS),
        ("PATCH", "/api/v1/customers/acme-7"),
        ("DELETE", "/api/v1/customers/acme-7"),
        ("POST", "/api/v1/customers/acme-7/archive"),
        ("POST", "/api/v1/customers/acme-7/unarchive"),
        ("POST", "/api/v1/customers/import"),
        ("POST", "/api/v1/customers/acme-7/payment-method"),
        ("DELETE", "/api/v1/customers/acme-7/payment-method"),
        ("POST", SUBSCRIPTIONS),
        ("PATCH", "/api/v1/subscriptions/sub-1"),
        ("POST", "/api/v1/subscriptions/sub-1/cancel"),
    ] {
        reader.no(method, path, json!({"id": "b", "customerId": "acme-7", "planId": "p"}), 403, "FORBIDDEN");
    }
    Api::new(gateway.with(&sends), FORMS[0]).no("GET", CUSTOMERS, Value::Null, 403, "FORBIDDEN");
    let entries = gateway.get("/v1/audit").json();
    let noted: Vec<_> = entries["entries"]
        .as_array()
        .expect("entries")
        .iter()
        .map(|entry| (&entry["action"], &entry["object"], &entry["status"]))
        .collect();
    assert!(noted.contains(&(&json!("POST /stigg/api/v1/customers"), &json!("acme-7"), &json!(201))), "{noted:?}");
    assert!(noted.contains(&(&json!("POST /stigg/api/v1/subscriptions"), &json!("sub-1"), &json!(201))), "{noted:?}");
}
