//! The description of the routes of keys.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::accounts::{KEYS_MAX, RATE_MAX, Scope};
use crate::api::accounts::openapi::name as account_name;
use crate::openapi::{Operation, Schema};

const MANAGERS: [Scope; 2] = [Scope::Admin, Scope::Operator];

fn scopes() -> Schema {
    Schema::array(Schema::words(&Scope::ALL.map(Scope::label)))
}

fn rate_limit() -> Schema {
    let rate = || Schema::integer_in(1..=i64::from(RATE_MAX)).or_null();
    Schema::object()
        .may_have("requestsPerSecond", rate())
        .may_have("requestBurst", rate().about("How many may come at once; without it as many as in a second."))
        .may_have("eventsPerSecond", rate())
        .may_have("eventBurst", rate())
        .and_nothing_else()
        .named("RateLimit")
}

fn key_id() -> Schema {
    Schema::text().about("The public part of a key: not the key.")
}

fn fields() -> Schema {
    Schema::object()
        .has("id", key_id())
        .has("name", Schema::text().or_null())
        .has("account", account_name())
        .has("scopes", scopes())
        .has("rateLimit", rate_limit().or_null())
        .has("createdAt", Schema::time())
        .has("createdBy", Schema::text().or_null().about("The id of the key that made it."))
        .has("revokedAt", Schema::time().or_null())
}

fn key() -> Schema {
    fields().named("Key")
}

fn a_key() -> Value {
    json!({
        "id": "9f86d081884c7d65", "name": "producer 7", "account": "acme", "scopes": ["ingest"],
        "rateLimit": {"requestsPerSecond": null, "requestBurst": null, "eventsPerSecond": 5000, "eventBurst": 20000},
        "createdAt": "2026-01-01T00:00:00.000Z", "createdBy": "bootstrap", "revokedAt": null,
    })
}

fn of_account(operation: Operation) -> Operation {
    operation
        .needs_any(&MANAGERS)
        .query("account", Schema::text().about("Another account than the key's own; for operators."))
        .refuses(StatusCode::NOT_FOUND, "There is no such account.")
}

pub(super) fn list() -> Operation {
    of_account(Operation::new("listKeys", "List keys"))
        .answers("All keys of the account", Schema::object().has("keys", Schema::array(key())).named("Keys"))
        .example(json!({"keys": [a_key()]}))
}

pub(super) fn create() -> Operation {
    let name = Schema::name_to(128).with("pattern", "^[^\\u0000-\\u001f\\u007f-\\u009f]*$").about("For people; no control characters.");
    let body = Schema::object()
        .has("scopes", scopes().with("minItems", 1))
        .takes("name", name)
        .takes("rateLimit", rate_limit())
        .and_nothing_else()
        .named("NewKey");
    let mut example = a_key();
    example["key"] = "tg_9f86d081884c7d65_example".into();
    of_account(Operation::new("createKey", "Make a key"))
        .about(&format!("The answer has the key's text under `key`, this once. An account has at most {KEYS_MAX} keys."))
        .body(body, json!({"name": "producer 7", "scopes": ["ingest"], "rateLimit": {"eventsPerSecond": 5000, "eventBurst": 20000}}))
        .answers_with(
            StatusCode::CREATED,
            "The key with its text",
            "application/json",
            fields().has("key", Schema::text()).named("MadeKey"),
        )
        .example(example)
}

fn revoked(operation: Operation) -> Operation {
    operation
        .about("It is refused from the answer on, on connections that are open too. The same once more is no error.")
        .needs_any(&MANAGERS)
        .path("keyId", key_id())
        .answers("The key", key())
        .may_be_unknown()
}

pub(super) fn revoke() -> Operation {
    revoked(Operation::new("revokeKey", "Revoke a key"))
}

pub(super) fn revoke_by_post() -> Operation {
    revoked(Operation::new("revokeKeyByPost", "Revoke a key, by a POST"))
}
