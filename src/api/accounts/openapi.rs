//! The description of the routes of accounts.

use hyper::StatusCode;
use serde_json::json;

use crate::accounts::{ACCOUNTS_MAX, Scope};
use crate::api::openapi::{limit, next};
use crate::openapi::{Operation, Schema};

/// The name of an account.
pub(in crate::api) fn name() -> Schema {
    let about = "1 to 64 lower case letters and digits, with `-`, `_` and `.` in between.";
    Schema::text().with("pattern", "^[a-z0-9]([a-z0-9_.-]{0,62}[a-z0-9])?$").with("maxLength", 64).about(about)
}

fn identity() -> Schema {
    let about = "What makes a copy: the `uniqueId` alone, or customer, meter, time and dimensions with it. It cannot be changed.";
    Schema::words(&["unique_id", "all_attributes"]).about(about)
}

fn account() -> Schema {
    Schema::object()
        .has("name", name())
        .has("identity", identity())
        .has("createdAt", Schema::time())
        .has("disabledAt", Schema::time().or_null())
        .named("Account")
}

fn an_account() -> serde_json::Value {
    json!({"name": "acme", "identity": "unique_id", "createdAt": "2026-01-01T00:00:00.000Z", "disabledAt": null})
}

pub(super) fn list() -> Operation {
    Operation::new("listAccounts", "List accounts")
        .needs(Scope::Operator)
        .query("after", Schema::text().about("The name behind which the page begins: `next` of the page before."))
        .query("limit", limit())
        .answers(
            "A page of accounts, by name",
            Schema::object().has("accounts", Schema::array(account())).has("next", next(name())).named("Accounts"),
        )
        .example(json!({"accounts": [an_account()], "next": null}))
}

pub(super) fn create() -> Operation {
    let body = Schema::object().has("name", name()).takes("identity", identity()).and_nothing_else().named("NewAccount");
    Operation::new("createAccount", "Make an account")
        .about(&format!("There are at most {ACCOUNTS_MAX}."))
        .needs(Scope::Operator)
        .body(body, json!({"name": "acme"}))
        .answers_with(StatusCode::CREATED, "The account", "application/json", account())
        .example(an_account())
}

pub(super) fn disable() -> Operation {
    Operation::new("disableAccount", "Shut an account out")
        .about("Its keys are refused with 403 from the answer on. Nothing of it is deleted.")
        .needs(Scope::Operator)
        .path("name", Schema::text())
        .answers("The account", account())
        .may_be_unknown()
}
