//! The routes over documents in memory: paths, statuses, scopes. What stands in a body is the dialect's to test.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::http::header::{ALLOW, RETRY_AFTER};
use http_body_util::BodyExt;
use serde_json::json;
use tower_service::Service;

use super::*;
use crate::accounts::{DefaultAccount, KeyRing, Scope, ring_of};
use crate::clock::Clock;
use crate::store::memory::MemoryStore;
use crate::store::{Change, Kind, Store};

struct Api {
    store: Arc<MemoryStore>,
    router: Router,
    keys: Arc<KeyRing>,
}

/// An answer: status, `Allow` or `Retry-After`, body.
#[derive(Debug)]
struct Answered {
    status: u16,
    header: Option<String>,
    body: Value,
}

impl Answered {
    fn refused(&self) -> (u16, &str) {
        assert!(self.body["message"].is_string(), "{self:?}");
        (self.status, self.body["code"].as_str().expect("a code"))
    }

    fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.body
    }
}

impl Api {
    /// Keys are `admin`, `read` and `ingest` of account 1, and `other`, the admin of account 2.
    fn start() -> Self {
        let store = Arc::new(MemoryStore::default());
        let keys = ring_of(
            &store,
            &[("admin", 1, Scope::Admin), ("read", 1, Scope::Read), ("ingest", 1, Scope::Ingest), ("other", 2, Scope::Admin)],
        );
        // Names of accounts alone: who is let in stands in the other store.
        let opened = Accounts::open(Arc::new(MemoryStore::default()), &DefaultAccount::default(), Clock::start());
        let (accounts, _) = opened.expect("memory");
        let customers = Arc::new(Customers::new(store.clone(), Clock::start()));
        let router = routes(Parts { customers, accounts: Arc::new(accounts), provider: None }).into_router();
        Self { store, router, keys }
    }

    async fn send_as(&self, key: &str, method: &str, path: &str, body: impl Into<Body>) -> Answered {
        let caller = self.keys.caller(key.as_bytes()).expect("a key of this test");
        let request = Request::builder().method(method).uri(path).extension(caller).body(body.into()).expect("a request");
        let response = self.router.clone().call(request).await.expect("infallible");
        let header = response.headers().get(ALLOW).or(response.headers().get(RETRY_AFTER)).cloned();
        assert_eq!(response.headers().get(CONTENT_TYPE).expect("a type"), "application/json");
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        let body = serde_json::from_slice(&bytes).expect("JSON");
        Answered { status, header: header.map(|value| value.to_str().expect("ASCII").to_owned()), body }
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Answered {
        self.send_as("admin", method, path, body.to_string()).await
    }

    async fn get(&self, path: &str) -> Answered {
        self.send_as("admin", "GET", path, Body::empty()).await
    }

    async fn create(&self, id: &str) -> Value {
        self.send("POST", "/customers", named(id)).await.ok()
    }
}

fn named(id: &str) -> Value {
    json!({"customerId": id, "customerName": "Acme"})
}

#[tokio::test]
async fn a_customer_goes_through_every_form_of_the_path() {
    let api = Api::start();
    assert_eq!(api.get("/customers").await.ok(), json!([]));
    let created = api.create("acme-7").await;
    assert_eq!(created["createTime"], created["updateTime"]);
    assert_eq!(api.get("/customers").await.ok(), json!([created]));
    assert_eq!(api.get("/customers?customerId=acme-7").await.ok(), created);
    assert_eq!(api.get("/customers/acme-7").await.ok(), created);

    let replaced = api.send("PUT", "/customers", json!({"customerId": "acme-7", "customerName": "New", "enabled": false})).await.ok();
    assert_eq!((&replaced["customerName"], &replaced["createTime"]), (&json!("New"), &created["createTime"]));
    assert!(replaced["deactivateTimeStamp"].is_i64() && replaced["updateTime"].as_i64() >= created["updateTime"].as_i64());
    let staged = api.send("PUT", "/customers/stage", json!({"customerId": "acme-7", "lifecycleStage": "offboarded"})).await.ok();
    assert_eq!(staged["lifecycleStage"], "OFFBOARDED");
    let restaged = json!({"customerId": "acme-7", "customerName": "New", "lifecycleStage": "TRAIL"});
    assert_eq!(api.send("PUT", "/customers", restaged).await.ok()["lifecycleStage"], "TRAIL", "a plain PUT may step back");

    let removed = api.send_as("admin", "DELETE", "/customers/acme-7", Body::empty()).await.ok();
    let passed_ms = removed["deleteTime"].as_i64().zip(created["createTime"].as_i64()).map(|(to, from)| to - from);
    assert!(passed_ms.is_some_and(|ms| (0..60_000).contains(&ms)), "{removed}");
    assert_eq!(api.get("/customers").await.ok(), json!([]));
    assert_eq!(api.get("/customers?customerId=acme-7").await.ok(), json!({}));
    assert_eq!(api.get("/customers/acme-7").await.refused(), (404, "NOT_FOUND"));
    assert!(api.create("acme-7").await.get("deleteTime").is_none());
}

#[tokio::test]
async fn every_refusal_has_the_status_and_the_code_of_the_contract() {
    let api = Api::start();
    api.create("acme-7").await;
    let stage = |id: &str, stage: &str| json!({"customerId": id, "lifecycleStage": stage});
    let refused = [
        ("POST", "/customers", named("acme-7"), (400, "DUPLICATE")),
        ("POST", "/customers", json!({"customerId": "b"}), (400, "BAD_REQUEST")),
        ("POST", "/customers", json!([named("b")]), (400, "BAD_REQUEST")),
        ("POST", "/customers?autoCreateCustomerInStripe=maybe", named("b"), (400, "BAD_REQUEST")),
        ("POST", "/customers?autoCreateCustomerInStripe=True", named("b"), (400, "PAYMENT_PROVIDER_NOT_CONFIGURED")),
        ("POST", "/customers", Value::from("x".repeat(BODY_BYTES_MAX)), (413, "PAYLOAD_TOO_LARGE")),
        ("PUT", "/customers", named("b"), (400, "NOT_FOUND")),
        ("PUT", "/customers", json!({"customerId": "acme-7"}), (400, "BAD_REQUEST")),
        ("PUT", "/customers/stage", stage("b", "ACTIVE"), (400, "NOT_FOUND")),
        ("PUT", "/customers/stage", stage("acme-7", "TRIAL"), (400, "BAD_REQUEST")),
        ("PUT", "/customers/stage", stage("acme-7", "GONE"), (400, "BAD_REQUEST")),
        ("GET", "/customers/b", Value::Null, (404, "NOT_FOUND")),
        ("GET", "/customers/%ff", Value::Null, (404, "NOT_FOUND")),
        ("DELETE", "/customers/b", Value::Null, (404, "NOT_FOUND")),
        ("DELETE", "/customers/a%00", Value::Null, (404, "NOT_FOUND")),
    ];
    for (method, path, body, expected) in refused {
        let answered = api.send(method, path, body).await;
        assert_eq!(answered.refused(), expected, "{method} {path}");
    }
    let long = format!("/customers/{}", "x".repeat(256));
    assert_eq!(api.get(&long).await.refused(), (404, "NOT_FOUND"));
    let step_back = api.send("PUT", "/customers/stage", stage("acme-7", "TRIAL")).await;
    assert_eq!(step_back.body["details"], "lifecycleStage cannot go back from ACTIVE to TRAIL");
    assert_eq!(api.get("/customers").await.ok().as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_look_up_by_query_of_nobody_is_an_empty_object() {
    let api = Api::start();
    for id in ["nobody", "", "%00", "%ff", &"x".repeat(256)] {
        assert_eq!(api.get(&format!("/customers?customerId={id}")).await.ok(), json!({}));
    }
}

#[tokio::test]
async fn any_id_is_found_also_one_that_looks_like_a_path() {
    let api = Api::start();
    let ids = [
        ("a b+c", "a%20b%2Bc"),
        ("a/b", "a%2Fb"),
        ("100%25", "100%2525"),
        ("x=1&y=2", "x%3D1%26y%3D2"),
        ("東", "%E6%9D%B1"),
        ("stage", "stage"),
    ];
    for (id, encoded) in ids {
        let created = api.create(id).await;
        assert_eq!(api.get(&format!("/customers/{encoded}")).await.ok(), created);
        assert_eq!(api.get(&format!("/customers?other=1&customerId={encoded}")).await.ok(), created);
        let removed = api.send_as("admin", "DELETE", &format!("/customers/{encoded}"), Body::empty()).await.ok();
        assert_eq!(removed["customerId"], id);
    }
}

#[tokio::test]
async fn only_if_a_provider_is_asked_for_it_has_to_be_there() {
    let api = Api::start();
    for flag in ["false", "False", "if_payment_provider"] {
        let path = format!("/customers?autoCreateCustomerInStripe={flag}");
        assert_eq!(api.send("POST", &path, named(flag)).await.ok()["customerId"], flag);
    }
}

#[tokio::test]
async fn a_key_does_what_its_scope_says() {
    let api = Api::start();
    api.create("acme-7").await;
    let requests = [
        ("GET", "/customers"),
        ("GET", "/customers?customerId=acme-7"),
        ("GET", "/customers/acme-7"),
        ("POST", "/customers"),
        ("PUT", "/customers"),
        ("PUT", "/customers/stage"),
        ("DELETE", "/customers/acme-7"),
        ("DELETE", "/customers/stage"),
    ];
    for (method, path) in requests {
        let read = api.send_as("read", method, path, Body::empty()).await;
        if method == "GET" {
            read.ok();
        } else {
            assert_eq!(read.refused(), (403, "FORBIDDEN"), "{method} {path}");
        }
        assert_eq!(api.send_as("ingest", method, path, Body::empty()).await.refused(), (403, "FORBIDDEN"), "{method} {path}");
    }
    assert_eq!(api.get("/customers").await.ok().as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn an_account_sees_its_own() {
    let api = Api::start();
    api.create("acme-7").await;
    assert_eq!(api.send_as("other", "GET", "/customers", Body::empty()).await.ok(), json!([]));
    assert_eq!(api.send_as("other", "GET", "/customers/acme-7", Body::empty()).await.refused(), (404, "NOT_FOUND"));
    assert_eq!(api.send_as("other", "DELETE", "/customers/acme-7", Body::empty()).await.refused(), (404, "NOT_FOUND"));
    assert_eq!(api.send_as("other", "PUT", "/customers", named("acme-7").to_string()).await.refused(), (400, "NOT_FOUND"));
    assert_eq!(api.get("/customers").await.ok().as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn another_method_is_told_the_ones_there_are() {
    let api = Api::start();
    for (method, path, allowed) in [
        ("PATCH", "/customers", "GET,HEAD,POST,PUT"),
        ("DELETE", "/customers", "GET,HEAD,POST,PUT"),
        ("PUT", "/customers/acme-7", "GET,HEAD,DELETE"),
        ("POST", "/customers/stage", "GET,HEAD,PUT,DELETE"),
    ] {
        let answered = api.send(method, path, Value::Null).await;
        assert_eq!(answered.refused(), (405, "METHOD_NOT_ALLOWED"), "{method} {path}");
        assert_eq!(answered.header.as_deref(), Some(allowed), "{method} {path}");
    }
}

#[tokio::test]
async fn a_store_that_fails_is_a_503_to_be_tried_again() {
    let api = Api::start();
    api.store.break_down();
    for answered in
        [api.get("/customers").await, api.get("/customers?customerId=a").await, api.send("POST", "/customers", named("a")).await]
    {
        assert_eq!(answered.refused(), (503, "UNAVAILABLE"));
        assert_eq!(answered.header.as_deref(), Some("2"));
    }
}

#[tokio::test]
async fn damage_is_a_500_without_its_details() {
    let api = Api::start();
    api.store.change_document(Kind::Customer, 1, "a", &mut |_| Change::Put(b"secret".to_vec())).expect("memory");
    let answered = api.get("/customers/a").await;
    assert_eq!(answered.refused(), (500, "INTERNAL_ERROR"));
    assert!(!answered.body.to_string().contains("secret"));
}
