//! The description at `/openapi.json` is of what is served: all of it, and nothing else. Whether answers are what it says is shown by
//! `tests/clients/test_openapi.py`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::harness::{Answer, Client, Gateway, Setup};

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];

fn paths(description: &Value) -> &Map<String, Value> {
    description["paths"].as_object().expect("an object")
}

/// The description, as somebody without a key gets it.
fn description(gateway: &Gateway) -> Value {
    let answer = gateway.with_key(None).get_from_main("/openapi.json");
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer.json()
}

/// A path with something in place of its parameters that nobody is called.
fn filled(path: &str) -> String {
    path.split('/').map(|segment| if segment.starts_with('{') { "nobody" } else { segment }).collect::<Vec<_>>().join("/")
}

/// Whether the path is one that the gateway has nothing at.
fn is_nowhere(answer: &Answer) -> bool {
    answer.status == 404 && answer.text().contains("there is nothing at this path")
}

/// Asks with a body where a method has one.
fn ask(client: &Client, method: &str, path: &str) -> Answer {
    client.call(method, path, if ["POST", "PUT", "PATCH"].contains(&method) { "{}" } else { "" })
}

#[test]
fn every_described_operation_is_served_and_every_other_method_is_405_and_named() {
    let gateway = Gateway::start();
    let description = description(&gateway);
    for (path, operations) in paths(&description) {
        let described: BTreeSet<String> = operations.as_object().expect("an object").keys().map(|method| method.to_uppercase()).collect();
        let mut allowed = described.clone();
        allowed.extend(described.contains("GET").then(|| "HEAD".to_owned()));
        for method in METHODS {
            let answer = ask(&gateway, method, &filled(path));
            if described.contains(method) {
                assert!(answer.status != 405 && !is_nowhere(&answer), "{method} {path}: {}", answer.shown());
            } else {
                assert_eq!(answer.status, 405, "{method} {path}: {}", answer.shown());
                let named = answer.header("allow").expect("an Allow").split(',').map(|name| name.trim().to_owned());
                assert_eq!(named.collect::<BTreeSet<_>>(), allowed, "{method} {path}");
            }
        }
    }
}

#[test]
fn what_is_described_is_served_below_the_prefix_and_with_a_slash_at_its_end() {
    let gateway = Gateway::start();
    for path in paths(&description(&gateway)).keys().map(|path| filled(path)) {
        let at_root = ask(&gateway, "PATCH", &path);
        let has_prefix = ["/octane/", "/stigg/", "/openmeter/"].iter().any(|prefix| path.starts_with(prefix));
        let below_prefix = (!has_prefix).then(|| format!("/amberflo{path}"));
        for form in below_prefix.into_iter().chain([format!("{path}/"), format!("/{path}")]) {
            let answer = ask(&gateway, "PATCH", &form);
            assert_eq!((answer.status, answer.header("allow")), (at_root.status, at_root.header("allow")), "{form}");
        }
    }
    assert!(is_nowhere(&ask(&gateway, "PATCH", "/amberflo/nowhere")), "and what is not there is told apart");
}

#[test]
fn what_needs_a_key_says_so_and_what_needs_none_does_not() {
    let gateway = Gateway::start();
    let description = description(&gateway);
    let stranger: Client = gateway.with_key(None);
    for (path, operations) in paths(&description) {
        for (method, operation) in operations.as_object().expect("an object") {
            let status = ask(&stranger, &method.to_uppercase(), &filled(path)).status;
            let needs_key = !operation["security"].as_array().expect("an array").is_empty();
            assert_eq!(status == 401, needs_key, "{method} {path}: {status}");
        }
    }
}

#[test]
fn operations_and_their_statuses_are_these() {
    let description = description(&Gateway::start());
    let mut lines = Vec::new();
    for (path, operations) in paths(&description) {
        for (method, operation) in operations.as_object().expect("an object") {
            let statuses: Vec<&str> = operation["responses"].as_object().expect("an object").keys().map(String::as_str).collect();
            lines.push(format!("{} {path} -> {}", method.to_uppercase(), statuses.join(" ")));
        }
    }
    insta::assert_snapshot!("operations", lines.join("\n"));
}

#[test]
fn what_is_served_elsewhere_is_not_described_here() {
    let gateway = Setup::default().ops_listener().start();
    let description = description(&gateway);
    assert!(!paths(&description).contains_key("/metrics"));
    assert!(paths(&description).contains_key("/ingest"));
    assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn whoever_has_the_description_is_told_that_it_is_the_same() {
    let gateway = Gateway::start();
    let tag = gateway.get_from_main("/openapi.json").header("etag").expect("a tag").to_owned();
    let again = gateway.get_with("/openapi.json", &[("if-none-match", &tag)]);
    assert_eq!((again.status, again.text()), (304, ""));
    assert_eq!(gateway.get_with("/openapi.json", &[("if-none-match", "\"another\"")]).status, 200);
}
