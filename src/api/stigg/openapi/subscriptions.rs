//! Subscriptions.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{envelope, enveloped, id, pages, texts, time_or_null};
use crate::accounts::Scope;
use crate::api::openapi::customer_id;
use crate::dialect::stigg::subscriptions::{KEPT_BYTES_MAX, PRICING_TYPES, STATUSES};
use crate::openapi::{Operation, Schema};

const TAKEN: &str = "`DUPLICATED_ENTITY_NOT_ALLOWED`: there is a subscription with this id. With `x-should-retry: false`.";

/// Fields that are kept as they were sent, and those that nobody knows, which are kept, too.
fn kept(subscription: Schema) -> Schema {
    let names = ["resourceId", "billingId", "payingCustomerId", "salesforceId", "billingPeriod", "paymentCollectionMethod"];
    names
        .into_iter()
        .fold(subscription, |subscription, name| subscription.may_have(name, super::text().or_null()))
        .may_have("metadata", texts().or_null())
        .with("additionalProperties", true)
}

fn kept_about() -> String {
    format!("Other fields are kept and shown as they were sent, up to {KEPT_BYTES_MAX} bytes of JSON in all.")
}

fn subscription() -> Schema {
    let trial = Schema::object().has("trialEndBehavior", Schema::words(&["CONVERT_TO_PAID", "CANCEL_SUBSCRIPTION"]));
    kept(
        Schema::object()
            .has("id", Schema::text())
            .has("customerId", Schema::text())
            .has("planId", Schema::text())
            .has("createdAt", Schema::time())
            .has("startDate", Schema::time())
            .has("status", Schema::words(&STATUSES).about("`PAYMENT_PENDING` is none's."))
            .has("pricingType", Schema::words(&PRICING_TYPES).about("Always `FREE`: plans are priced elsewhere."))
            .has("paymentCollection", Schema::words(&["NOT_REQUIRED"]))
            .may_have("effectiveEndDate", Schema::time().about("When it ends, or ended."))
            .may_have("endDate", Schema::time().about("The same, of one that expires."))
            .may_have("cancellationDate", Schema::time().about("The same, of one that is canceled."))
            .may_have("cancelReason", Schema::text())
            .may_have("trialEndDate", Schema::time())
            .may_have("trial", trial),
    )
    .named("StiggSubscription")
}

fn a_subscription() -> Value {
    json!({"id": "sub-1", "customerId": "acme-7", "planId": "plan-pro", "createdAt": "2026-01-01T00:00:00.123Z",
        "startDate": "2026-01-01T00:00:00.123Z", "status": "ACTIVE", "pricingType": "FREE", "paymentCollection": "NOT_REQUIRED",
        "billingId": null, "resourceId": null, "metadata": {}})
}

fn answers(operation: Operation) -> Operation {
    operation.answers("The subscription", envelope(subscription())).example(enveloped(&a_subscription()))
}

pub(in crate::api::stigg) fn list_subscriptions() -> Operation {
    let lists =
        |name: &str, words: &[&str]| Schema::text().about(&format!("{name}, comma-joined: {}.", words.join(", "))).example(words.join(","));
    let operation = Operation::new("stiggListSubscriptions", "List subscriptions")
        .about("Those of all dialects, in the order of their making, with those that are over.")
        .needs(Scope::Read)
        .query("customerId", customer_id())
        .query("planId", Schema::text())
        .query("resourceId", Schema::text())
        .query("status", lists("Statuses", &STATUSES))
        .query("pricingType", lists("Pricing types", &PRICING_TYPES));
    pages(operation, subscription(), &a_subscription())
}

pub(in crate::api::stigg) fn provision_subscription() -> Operation {
    let trial = Schema::object()
        .has("isTrial", Schema::flag())
        .takes("trialEndBehavior", Schema::words(&["CONVERT_TO_PAID", "CANCEL_SUBSCRIPTION"]))
        .takes("trialEndDate", Schema::time());
    let body = Schema::object()
        .has("customerId", customer_id())
        .has("planId", id())
        .takes("id", id().about("One is made where there is none: `sub_<number>_<customer>`, a form that no other id has."))
        .takes("startDate", Schema::time().about("Without it now."))
        .takes("cancellationDate", Schema::time())
        .takes("trialOverrideConfiguration", trial);
    let made = Schema::object()
        .has("id", Schema::text())
        .has("status", Schema::words(&["SUCCESS"]))
        .has("subscription", subscription())
        .has("entitlements", Schema::array(Schema::any()).with("maxItems", 0));
    Operation::new("stiggProvisionSubscription", "Subscribe a customer to a plan")
        .about(&format!("A customer has one plan at a time: the one before ends where this one begins. {}", kept_about()))
        .needs(Scope::Admin)
        .body(kept(body).named("StiggNewSubscription"), json!({"customerId": "acme-7", "planId": "plan-pro", "metadata": {"seller": "x"}}))
        .answers_with(StatusCode::CREATED, "The subscription", "application/json", envelope(made))
        .example(json!({"data": {"id": "sub-1", "status": "SUCCESS", "subscription": a_subscription(), "entitlements": []}}))
        .refuses(StatusCode::CONFLICT, TAKEN)
        .may_be_unknown()
}

fn one(id: &str, summary: &str, scope: Scope) -> Operation {
    answers(Operation::new(id, summary).needs(scope).path("subscriptionId", Schema::text()).may_be_unknown())
}

pub(in crate::api::stigg) fn show_subscription() -> Operation {
    one("stiggShowSubscription", "Read a subscription", Scope::Read).about("Whichever dialect made it, and whether or not it is over.")
}

pub(in crate::api::stigg) fn change_subscription() -> Operation {
    let body = Schema::object()
        .may_have("cancellationDate", time_or_null("When it ends; null: not at all."))
        .takes("trialEndDate", Schema::time());
    one("stiggChangeSubscription", "Change a subscription", Scope::Admin)
        .about(&format!("What is absent stays, null clears. Its customer, its plan and its begin are fixed. {}", kept_about()))
        .optional_body(kept(body).named("StiggSubscriptionChange"), json!({"metadata": {"seller": "y"}}))
}

pub(in crate::api::stigg) fn cancel_subscription() -> Operation {
    let when = ["IMMEDIATE", "END_OF_BILLING_PERIOD", "SPECIFIC_DATE"];
    let body = Schema::object()
        .takes("cancellationTime", Schema::words(&when).about("Without it at once, or at `endDate`."))
        .takes("endDate", Schema::time().about("For `SPECIFIC_DATE`."));
    one("stiggCancelSubscription", "Cancel a subscription", Scope::Admin)
        .about("One that is over stays as it is.")
        .optional_body(body.named("StiggCancellation"), json!({"cancellationTime": "END_OF_BILLING_PERIOD"}))
}
