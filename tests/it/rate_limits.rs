//! A key that sends more than it may is told when to come again, and nothing of what it sent too much is stored.

use serde_json::json;

use crate::harness::{Gateway, event, wait_for};

/// So slow that nothing comes back while a test runs.
const ONE_IN_AN_AGE: u32 = 1;

#[test]
fn past_its_requests_a_key_is_told_when_to_come_again_and_others_are_served() {
    let gateway = Gateway::start();
    let limited = json!({"scopes": ["admin"], "rateLimit": {"requestsPerSecond": ONE_IN_AN_AGE, "requestBurst": 3}});
    let client = gateway.with(&gateway.make_key_with("default", limited));
    let taken = client.send(&[event("u-1")]).logged(1);
    assert_eq!(taken.header("ratelimit-policy"), Some(r#""requests";q=3;w=3"#));
    assert!(taken.header("ratelimit").is_some_and(|state| state.starts_with(r#""requests";r=2;t="#)), "{}", taken.shown());
    let refused = wait_for("the burst to be used up", || Some(client.get("/customers")).filter(|answer| answer.status == 429));
    let retry_after_s: u32 = refused.header("retry-after").expect("429 says when").parse().expect("seconds");
    assert_eq!(retry_after_s, 1);
    assert_eq!(refused.json()["code"], "RATE_LIMITED");
    assert!(refused.header("ratelimit").is_some_and(|state| state.starts_with(r#""requests";r=0;t="#)), "{}", refused.shown());
    let answer = gateway.send(&[event("u-2")]).logged(1);
    assert_eq!((answer.header("ratelimit"), answer.header("ratelimit-policy")), (None, None), "off by default");
}

#[test]
fn events_past_the_rate_are_shed_and_can_be_sent_later() {
    let gateway = Gateway::start();
    let limited = json!({"scopes": ["ingest"], "rateLimit": {"eventsPerSecond": 10, "eventBurst": 20}});
    let client = gateway.with(&gateway.make_key_with("default", limited));
    let batch = |name: &str| (0..40).map(|at| event(&format!("{name}-{at}"))).collect::<Vec<_>>();
    // Larger than the burst: let in, and waited for afterwards.
    let taken = client.send(&batch("first")).logged(40);
    assert!(taken.header("ratelimit").is_some_and(|state| state.starts_with(r#""events";r=0;t="#)), "{}", taken.shown());
    let refused = client.send(&batch("second")).refused(429);
    let retry_after_s: u32 = refused.header("retry-after").expect("429 says when").parse().expect("seconds");
    assert!((1..=3).contains(&retry_after_s), "{}", refused.shown());
    assert_eq!(gateway.usage("m").count(), 40);
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.outcome("logged"), metrics.outcome("shed")), (40, 40));
    wait_for("the rate to allow it", || (client.send(&batch("second")).status == 200).then_some(()));
    assert_eq!(gateway.usage("m").count(), 80);
    assert_eq!(gateway.settled_metrics().copies(), 0, "nothing of what was refused was stored");
}

#[test]
fn a_rate_is_that_of_a_key_and_not_of_a_connection_or_an_account() {
    let gateway = Gateway::start();
    let limited = json!({"scopes": ["read"], "rateLimit": {"requestsPerSecond": ONE_IN_AN_AGE, "requestBurst": 1}});
    let (one, other) = (gateway.make_key_with("default", limited.clone()), gateway.make_key_with("default", limited));
    let ask = |key: &str| {
        let mut wire = gateway.connect();
        wire.write(format!("GET /customers HTTP/1.1\r\nHost: tollgate\r\nX-API-KEY: {key}\r\n\r\n"));
        wire.answer().status
    };
    let started = std::time::Instant::now();
    assert_eq!(ask(&one.text), 200);
    let second = ask(&one.text);
    // On a machine that stood still for a second the allowance is there again.
    assert!(second == 429 || started.elapsed().as_millis() > 900);
    assert_eq!(ask(&other.text), 200);
}
