//! The description of the audit log.

use hyper::StatusCode;
use serde_json::json;

use crate::accounts::Scope;
use crate::api::openapi::{limit, next, position};
use crate::openapi::{Operation, Schema};

fn entry() -> Schema {
    Schema::object()
        .has("number", Schema::count())
        .has("time", Schema::time())
        .has("key", Schema::text().about("The id of the key that asked."))
        .has("account", Schema::text().or_null().about("Its account."))
        .has("address", Schema::text().or_null().about("Null where it is not the reader's business."))
        .has("action", Schema::text().about("Method and path."))
        .has("object", Schema::text().or_null().about("What was changed: an id or a name."))
        .has("status", Schema::integer().or_null().about("Null where the process ended before there was an answer."))
        .named("AuditEntry")
}

pub(super) fn list() -> Operation {
    Operation::new("listAudit", "What administrators did")
        .about("The newest first; an account's latest 10,000 entries are kept.")
        .needs_any(&[Scope::Admin, Scope::Operator])
        .query("account", Schema::text().about("Another account than the key's own; for operators."))
        .query("before", position().about("The number before which the page begins: `next` of the page before."))
        .query("limit", limit())
        .refuses(StatusCode::NOT_FOUND, "There is no such account.")
        .answers("A page of entries", Schema::object().has("entries", Schema::array(entry())).has("next", next(Schema::count())).named("Audit"))
        .example(json!({"entries": [{"number": 7, "time": "2026-01-01T00:00:00.000Z", "key": "bootstrap", "account": "default", "address": "192.0.2.7",
            "action": "POST /v1/keys", "object": "9f86d081884c7d65", "status": 201}], "next": null}))
}
