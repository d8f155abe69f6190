//! Customers, and what is theirs but for subscriptions (contract `octane.md` section 1).
//!
//! A new customer with a plan is made first and subscribed then. If the store fails in between, the answer is a 503 that says so: the customer
//! may be there, and without the plan.

use axum::extract::{Extension, State};
use axum::response::Response;
use hyper::header::HeaderMap;
use serde_json::{Map, Value, json};

use super::openapi::customers as openapi;
use super::subscriptions::refusal as plan_refusal;
use super::{Answer, Below, By, Name, Parts, Shared, deleted, find, read, refusal, unknown, work};
use crate::accounts::Scope;
use crate::api::audit::changed;
use crate::api::fields::Received;
use crate::api::openapi::OCTANE;
use crate::api::refusals::check_scope;
use crate::customers::Customer;
use crate::dialect::ApiError;
use crate::dialect::octane::customers::{CustomerPatch, NewCustomer, render, status_label};
use crate::dialect::octane::error::ChangeError;
use crate::dialect::octane::mappings::{self, SentMapping};
use crate::dialect::octane::metadata::{self, Metadata};
use crate::openapi::Routes;

pub(super) fn routes() -> Routes<std::sync::Arc<Parts>> {
    Routes::of(OCTANE)
        .get("/customers", list, openapi::list())
        .post("/customers", create, openapi::create())
        .get("/customers/{name}", show, openapi::show())
        .put("/customers/{name}", merge, openapi::change())
        .delete("/customers/{name}", remove, openapi::remove())
        .get("/customers/{name}/mappings", list_mappings, openapi::list_mappings())
        .post("/customers/{name}/mappings", add_mapping, openapi::add_mapping())
        .delete("/customers/{name}/mappings/{label}", remove_mappings, openapi::remove_mappings())
        .get("/customers/{name}/metadata", list_metadata, openapi::list_metadata())
        .post("/customers/{name}/metadata", merge_metadata, openapi::merge_metadata())
        .get("/customers/{name}/status", status, openapi::status())
}

async fn list(State(parts): Shared, Extension(by): By) -> Answer {
    check_scope(&by, Scope::Read)?;
    // A list can be long: it becomes text where it may take its time.
    let text = work(parts, move |parts| {
        let all = parts.customers.list(by.account).map_err(refusal)?;
        Ok(all.iter().map(render).collect::<Value>().to_string())
    });
    Ok(text_answer(text.await?))
}

fn text_answer(text: String) -> Response {
    axum::response::IntoResponse::into_response(([(hyper::header::CONTENT_TYPE, "application/json")], text))
}

async fn create(State(parts): Shared, Extension(by): By, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let body = read(body)?;
    let made = work(parts, move |parts| {
        let request = NewCustomer::parse(&body, parts.customers.now())?;
        let made = parts.customers.create(by.account, request.id(), |new| request.fill(new)).map_err(refusal)?;
        if let Some(plan) = request.plan() {
            parts.billing.subscribe(by.account, made.id(), plan).map_err(|error| plan_refusal(error, "price_plan_name"))?;
        }
        Ok(made)
    });
    Ok(one(&made.await?, render))
}

async fn show(State(parts): Shared, Extension(by): By, name: Name) -> Answer {
    look(parts, by, name, render).await
}

async fn merge(State(parts): Shared, Extension(by): By, name: Name, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let body = read(body)?;
    let merged = work(parts, move |parts| {
        let patch = CustomerPatch::parse(&body, parts.customers.now())?;
        let found = find(parts, by.account, &name)?;
        patch.check_name(found.id())?;
        parts.customers.change(by.account, found.id(), |customer| patch.apply(customer)).map_err(refusal)
    });
    Ok(one(&merged.await?, render))
}

async fn remove(State(parts): Shared, Extension(by): By, name: Name, headers: HeaderMap) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let removed = work(parts, move |parts| {
        let found = find(parts, by.account, &name)?;
        parts.customers.remove(by.account, found.id()).map_err(refusal)
    });
    Ok(deleted(&headers, id_of(&removed.await?)))
}

async fn list_mappings(State(parts): Shared, Extension(by): By, name: Name) -> Answer {
    look(parts, by, name, mappings::render).await
}

async fn add_mapping(State(parts): Shared, Extension(by): By, name: Name, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let body = read(body)?;
    let added = work(parts, move |parts| {
        let sent = SentMapping::parse(&body)?;
        let found = find(parts, by.account, &name)?;
        let customer = parts.customers.try_change(by.account, found.id(), |customer| sent.add_to(customer)).map_err(of_change)?;
        Ok((customer, sent.render()))
    });
    let (customer, mapping) = added.await?;
    Ok(changed(id_of(&customer), super::json(&mapping)))
}

async fn remove_mappings(State(parts): Shared, Extension(by): By, name: Name, label: Below, headers: HeaderMap) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let removed = work(parts, move |parts| {
        let found = find(parts, by.account, &name)?;
        parts.customers.try_change(by.account, found.id(), |customer| mappings::remove(customer, &label.0)).map_err(of_change)
    });
    Ok(deleted(&headers, id_of(&removed.await?)))
}

async fn list_metadata(State(parts): Shared, Extension(by): By, name: Name) -> Answer {
    look(parts, by, name, metadata::render).await
}

async fn merge_metadata(State(parts): Shared, Extension(by): By, name: Name, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let body = read(body)?;
    let merged = work(parts, move |parts| {
        let sent = Metadata::parse(&body)?;
        let found = find(parts, by.account, &name)?;
        parts.customers.try_change(by.account, found.id(), |customer| sent.merge(customer)).map_err(of_change)
    });
    Ok(one(&merged.await?, |_| Map::new().into()))
}

async fn status(State(parts): Shared, Extension(by): By, name: Name) -> Answer {
    look(parts, by, name, |customer| json!({"status": status_label(customer)})).await
}

/// Answers with something of a customer.
async fn look(parts: std::sync::Arc<Parts>, by: crate::accounts::Caller, name: Name, shown: fn(&Customer) -> Value) -> Answer {
    check_scope(&by, Scope::Read)?;
    let found = work(parts, move |parts| Ok(shown(&find(parts, by.account, &name)?)));
    Ok(super::json(&found.await?))
}

fn one(customer: &Customer, shown: fn(&Customer) -> Value) -> Response {
    changed(id_of(customer), super::json(&shown(customer)))
}

/// What became of a change of mappings or properties.
fn of_change(error: ChangeError) -> ApiError {
    match error {
        ChangeError::TooMany { .. } => ApiError::bad_request(error.to_string()),
        ChangeError::UnknownMapping => unknown("label", error.to_string()),
        ChangeError::Customer(error) => refusal(error),
    }
}

fn id_of(customer: &Customer) -> String {
    customer.id().as_str().to_owned()
}
