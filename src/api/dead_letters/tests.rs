//! The routes over real logs: scopes, statuses, parameters, whose letters they are. What is kept and replayed is tested in
//! [`crate::letters`] and on the real binary.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use tower_service::Service;

use super::*;
use crate::accounts::{KeyRing, ring_of};
use crate::letters::tests::{World, good};

struct Api {
    world: World,
    router: Router,
    keys: Arc<KeyRing>,
}

impl Api {
    /// Keys are `admin`, `read` and `ingest` of account 1, and `other`, the admin of account 2.
    fn start() -> Self {
        let keys = ring_of(
            &Arc::default(),
            &[("admin", 1, Scope::Admin), ("read", 1, Scope::Read), ("ingest", 1, Scope::Ingest), ("other", 2, Scope::Admin)],
        );
        let world = World::new();
        let router = routes(Parts { letters: world.letters.clone(), gateway: world.gateway.clone() }).into_router();
        Self { world, router, keys }
    }

    async fn send_as(&self, key: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let caller = self.keys.caller(key.as_bytes()).expect("a key of this test");
        let request = Request::builder().method(method).uri(path).extension(caller).body(Body::from(body.to_owned())).expect("a request");
        let response = self.router.clone().call(request).await.expect("infallible");
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        (status, serde_json::from_slice(&bytes).expect("JSON"))
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        self.send_as("admin", method, path, body).await
    }

    /// Positions of the letters that an account's key gets to see.
    async fn positions(&self, key: &str, query: &str) -> Vec<u64> {
        let (status, page) = self.send_as(key, "GET", &format!("/v1/dead-letters?{query}"), "").await;
        assert_eq!(status, 200, "{page}");
        let letters = page["deadLetters"].as_array().expect("an array");
        letters.iter().map(|letter| letter["position"].as_u64().expect("a position")).collect()
    }
}

/// Every route, with the scope that it needs.
const ROUTES: [(&str, &str, &str); 6] = [
    ("GET", "/v1/dead-letters", "read"),
    ("GET", "/v1/dead-letters/0", "read"),
    ("POST", "/v1/dead-letters/0/replay", "ingest"),
    ("POST", "/v1/dead-letters/replay", "ingest"),
    ("DELETE", "/v1/dead-letters/0", "admin"),
    ("DELETE", "/v1/dead-letters?code=too_old", "admin"),
];

#[tokio::test]
async fn a_key_does_what_its_scope_says_and_no_more() {
    let api = Api::start();
    api.world.write(1, &["7"]).await;
    for (method, path, needed) in ROUTES {
        for key in ["read", "ingest"] {
            let (status, body) = api.send_as(key, method, path, "").await;
            let expected = if key == needed { 200 } else { 403 };
            assert_eq!(status, expected, "{key} {method} {path}: {body}");
        }
    }
    for (method, path, _) in ROUTES {
        assert_eq!(api.send(method, path, "").await.0, 200, "{method} {path}");
    }
}

#[tokio::test]
async fn another_account_has_no_such_letter() {
    let api = Api::start();
    api.world.write(1, &["7", &good("u-1")]).await;
    assert_eq!(api.positions("other", "").await, [0; 0]);
    for (method, path) in [("GET", "/v1/dead-letters/0"), ("POST", "/v1/dead-letters/1/replay"), ("DELETE", "/v1/dead-letters/0")] {
        let (status, body) = api.send_as("other", method, path, "").await;
        assert_eq!((status, &body["code"]), (404, &json!("NOT_FOUND")), "{method} {path}");
    }
    let (_, replayed) = api.send_as("other", "POST", "/v1/dead-letters/replay", "").await;
    assert_eq!(replayed["deadLetters"], json!([]));
    let (_, deleted) = api.send_as("other", "DELETE", "/v1/dead-letters?code=wrong_type", "").await;
    assert_eq!(deleted, json!({"deleted": 0, "next": null}));
    assert_eq!(api.positions("read", "state=open").await, [1, 0]);
}

#[tokio::test]
async fn a_parameter_that_makes_no_sense_is_named() {
    let api = Api::start();
    let codes = Code::ALL.map(Code::label).join(", ") + ", undecodable";
    for (query, details) in [
        ("limit=0", "limit must be between 1 and 1000".to_owned()),
        ("limit=1001", "limit must be between 1 and 1000".to_owned()),
        ("before=x", "before must be a position".to_owned()),
        ("code=bad", format!("code must be one of {codes}")),
        ("state=deleted", "state must be open, refused or replayed".to_owned()),
        ("from=yesterday", "from must be a time such as 2026-01-01T00:00:00Z".to_owned()),
        ("to=1", "to must be a time such as 2026-01-01T00:00:00Z".to_owned()),
        ("customer=c", format!("customer is no parameter here; there are: {KNOWN_PARAMETERS}")),
    ] {
        for (method, path) in [("GET", "/v1/dead-letters"), ("POST", "/v1/dead-letters/replay"), ("DELETE", "/v1/dead-letters")] {
            let (status, body) = api.send(method, &format!("{path}?{query}"), "").await;
            assert_eq!((status, body["details"].as_str()), (400, Some(details.as_str())), "{method} {query}");
        }
    }
    for path in ["/v1/dead-letters/0", "/v1/dead-letters/-1", "/v1/dead-letters/x", "/v1/dead-letters/18446744073709551615"] {
        assert_eq!(api.send("GET", path, "").await.0, 404, "{path}");
        assert_eq!(api.send("DELETE", path, "").await.0, 404, "{path}");
        assert_eq!(api.send("POST", &format!("{path}/replay"), "").await.0, 404, "{path}");
    }
    assert_eq!(api.send("DELETE", "/v1/dead-letters?limit=5", "").await.0, 400, "a deletion of everything has to be asked for");
}

#[tokio::test]
async fn a_corrected_body_is_one_event() {
    let api = Api::start();
    api.world.write(1, &["7"]).await;
    let two = format!("{},{}", good("u-1"), good("u-2"));
    for (body, status) in [("{", 400), (two.as_str(), 400), ("]", 400), ("}] [{", 400)] {
        let (found, answer) = api.send("POST", "/v1/dead-letters/0/replay", body).await;
        assert_eq!(found, status, "{body}: {answer}");
    }
    let (_, array) = api.send("POST", "/v1/dead-letters/0/replay", &format!("[{}]", good("u-1"))).await;
    assert_eq!((&array["verdict"], &array["code"]), (&json!("rejected"), &json!("not_an_object")));
    assert_eq!(api.world.events.end(), Position(0), "nothing of it was taken");
    let (_, replayed) = api.send("POST", "/v1/dead-letters/0/replay", &good("u-1")).await;
    assert_eq!(replayed, json!({"deadLetter": 0, "verdict": "logged", "uniqueId": "u-1", "partition": 0, "position": 0}));
    let (_, again) = api.send("POST", "/v1/dead-letters/0/replay", &good("u-2")).await;
    assert_eq!(again, json!({"deadLetter": 0, "verdict": "known", "uniqueId": "u-1", "partition": 0, "position": 0}));
}

#[tokio::test]
async fn a_letter_is_found_by_what_is_in_it() {
    let api = Api::start();
    api.world.write(1, &[&good("u-0"), r#"{"customerId":"d","values":{"x":1}}"#, "7"]).await;
    for (query, expected) in [
        ("", vec![2, 1, 0]),
        ("uniqueId=u-0", vec![0]),
        ("customerId=d", vec![1]),
        ("meterApiName=x", vec![1]),
        ("meterApiName=m&customerId=c", vec![0]),
        ("meterApiName=m&customerId=d", vec![]),
        ("reason=be%202", vec![2]),
        ("code=wrong_type", vec![2, 1, 0]),
        ("code=too_old", vec![]),
        ("to=2026-01-01T00:00:00Z", vec![]),
        ("from=2026-01-01T00:00:00Z", vec![2, 1, 0]),
        ("from=2026-01-01T00:00:00Z&to=9999-01-01T00:00:00Z&before=1", vec![0]),
        ("limit=2", vec![2, 1]),
    ] {
        assert_eq!(api.positions("read", query).await, expected, "{query}");
    }
}
