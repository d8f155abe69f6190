//! Subscriptions.

use serde_json::{Value, json};

use super::{deletes, name, name_in, time_in};
use crate::accounts::Scope;
use crate::openapi::{Operation, Schema};

fn subscription_in() -> Schema {
    Schema::object()
        .takes("price_plan_name", name_in("The plan, by its id. One of the three must be there."))
        .takes("price_plan_uuid", name_in("The plan, by the `uuid` that it is answered with; where there is no `price_plan_name`."))
        .takes("price_plan_tag", name_in("The plan, by its id; where there is neither of the others."))
        .takes("effective_at", time_in("From when on; without it from now on."))
        .with("additionalProperties", true)
        .about("Other fields are kept: at most 4096 bytes of JSON.")
        .named("NewOctaneSubscription")
}

fn subscription() -> Schema {
    Schema::object()
        .has("uuid", Schema::text())
        .has("customer_name", Schema::text())
        .has("price_plan_name", Schema::text())
        .has("price_plan_uuid", Schema::text())
        .has("effective_at", Schema::time())
        .has("expired_at", Schema::time().or_null())
        .has("discounts", Schema::array(Schema::any()))
        .with("additionalProperties", true)
        .about("Other fields are as they were sent.")
        .named("OctaneSubscription")
}

fn a_subscription() -> Value {
    json!({"uuid": "0b1f6f5e-2a1e-8c5d-9a77-3f0e5d1c2b4a", "customer_name": "acme-7", "price_plan_name": "pro",
        "price_plan_uuid": "7d0a1b2c-3d4e-8f50-a162-738495a6b7c8", "effective_at": "2026-01-01T00:00:00.123456Z", "expired_at": null, "discounts": []})
}

fn answers_subscription(operation: Operation) -> Operation {
    operation.answers("The subscription", subscription()).example(a_subscription())
}

fn of_customer(id: &str, summary: &str, scope: Scope) -> Operation {
    Operation::new(id, summary).needs(scope).path("name", name("The customer.")).may_be_unknown()
}

fn subscribes(operation: Operation) -> Operation {
    let sent = json!({"price_plan_name": "pro", "effective_at": "2026-01-01T00:00:00.123456", "align_to_calendar": true});
    answers_subscription(operation.body(subscription_in(), sent))
}

pub(in crate::api::octane) fn list() -> Operation {
    of_customer("octaneListSubscriptions", "List a customer's subscriptions", Scope::Read)
        .answers("All of them, in the order of their begins", Schema::array(subscription()))
        .example(json!([a_subscription()]))
}

pub(in crate::api::octane) fn create() -> Operation {
    let operation = of_customer("octaneCreateSubscription", "Subscribe a customer", Scope::Admin)
        .about("One that is in force ends where this one begins. The same once more is the same subscription.");
    subscribes(operation)
}

pub(in crate::api::octane) fn show_active() -> Operation {
    answers_subscription(of_customer("octaneGetActiveSubscription", "Read the subscription that is in force", Scope::Read))
}

pub(in crate::api::octane) fn replace_active() -> Operation {
    subscribes(of_customer("octaneReplaceActiveSubscription", "Replace the subscription that is in force", Scope::Admin))
}

pub(in crate::api::octane) fn replace() -> Operation {
    let operation = of_customer("octaneReplaceSubscription", "Replace a subscription", Scope::Admin);
    subscribes(operation.path("uuid", Schema::text().about("The one that ends.")))
}

pub(in crate::api::octane) fn end_active() -> Operation {
    let end = Schema::object()
        .takes("expire_at", time_in("When it ends; without it now."))
        .takes("at_cycle_end", Schema::flag().about("At the end of the month that is running, where there is no `expire_at`."))
        .named("OctaneSubscriptionEnd");
    let operation = of_customer("octaneEndActiveSubscription", "End the subscription that is in force", Scope::Admin);
    deletes(operation.optional_body(end, json!({"at_cycle_end": true})))
}
