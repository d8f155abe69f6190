//! Subscriptions of a customer (contract `octane.md` section 5), on the plan assignments that billing keeps.

use std::sync::Arc;

use axum::extract::{Extension, State};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::Value;

use super::openapi::subscriptions as openapi;
use super::{Answer, Below, By, Name, Parts, Shared, deleted, find, json, read, unknown, work};
use crate::accounts::{Caller, Scope};
use crate::api::audit::changed;
use crate::api::fields::Received;
use crate::api::openapi::OCTANE;
use crate::api::refusals::{CHANGE_UNKNOWN, check_scope, store_refusal};
use crate::billing::{Error, GivesWay, Refusal, Subscription};
use crate::customers::Customer;
use crate::dialect::ApiError;
use crate::dialect::octane::subscriptions::{PlanChoice, SubscriptionRequest, parse_end, plan_uuid, render, subscription_uuid};
use crate::openapi::Routes;

pub(super) fn routes() -> Routes<Arc<Parts>> {
    Routes::of(OCTANE)
        .get("/customers/{name}/subscriptions", list, openapi::list())
        .post("/customers/{name}/subscriptions", create, openapi::create())
        .post("/customers/{name}/subscriptions/{uuid}", replace_one, openapi::replace())
        .get("/customers/{name}/active_subscription", active, openapi::show_active())
        .put("/customers/{name}/subscription", replace_active, openapi::replace_active())
        .delete("/customers/{name}/subscription", end, openapi::end_active())
}

/// The subscriptions of a customer, oldest first: by start, of equal ones the one made first. What ended before it began is not shown.
fn shown(parts: &Parts, account: u32, customer: &Customer) -> Result<Vec<Subscription>, ApiError> {
    let mut all = parts.billing.subscriptions(account, customer).map_err(|error| refusal(error, "name"))?;
    all.retain(|one| !one.row.is_void());
    all.sort_by_key(|one| (one.row.life, one.row.start_ms));
    Ok(all)
}

fn in_force(parts: &Parts, account: u32, customer: &Customer) -> Result<Subscription, ApiError> {
    shown(parts, account, customer)?.into_iter().rfind(Subscription::is_in_force).ok_or_else(none_active)
}

async fn list(State(parts): Shared, Extension(by): By, name: Name) -> Answer {
    check_scope(&by, Scope::Read)?;
    let all = work(parts, move |parts| {
        let customer = find(parts, by.account, &name)?;
        let all = shown(parts, by.account, &customer)?;
        Ok(all.iter().map(|one| render(by.account, one)).collect::<Value>())
    });
    Ok(json(&all.await?))
}

async fn active(State(parts): Shared, Extension(by): By, name: Name) -> Answer {
    check_scope(&by, Scope::Read)?;
    let found = work(parts, move |parts| {
        let customer = find(parts, by.account, &name)?;
        Ok(render(by.account, &in_force(parts, by.account, &customer)?))
    });
    Ok(json(&found.await?))
}

async fn create(State(parts): Shared, Extension(by): By, name: Name, body: Received) -> Answer {
    subscribe(parts, by, name, body, |_, _| Ok(None)).await
}

async fn replace_active(State(parts): Shared, Extension(by): By, name: Name, body: Received) -> Answer {
    subscribe(parts, by, name, body, |_, _| Ok(Some(GivesWay::InForce))).await
}

async fn replace_one(State(parts): Shared, Extension(by): By, name: Name, uuid: Below, body: Received) -> Answer {
    let account = by.account;
    let with_uuid = move |parts: &Parts, customer: &Customer| {
        let mut all = shown(parts, account, customer)?.into_iter();
        let found = all.find(|one| uuid.0.first() == Some(&subscription_uuid(account, one)));
        found.map(|one| Some(GivesWay::WithId(one.id))).ok_or_else(|| unknown("uuid", "subscription not found"))
    };
    subscribe(parts, by, name, body, with_uuid).await
}

/// Subscribes a customer, in place of what `old` finds.
async fn subscribe<O>(parts: Arc<Parts>, by: Caller, name: Name, body: Received, old: O) -> Answer
where
    O: FnOnce(&Parts, &Customer) -> Result<Option<GivesWay>, ApiError> + Send + 'static,
{
    check_scope(&by, Scope::Admin)?;
    let body = read(body)?;
    let made = work(parts, move |parts| {
        let request = SubscriptionRequest::parse(&body)?;
        let customer = find(parts, by.account, &name)?;
        let old = old(parts, &customer)?;
        let plan_id = plan_id(parts, by.account, request.plan.clone())?;
        let new = request.assignment(plan_id, parts.billing.now());
        let made = match &old {
            Some(old) => parts.billing.resubscribe(by.account, customer.id(), old, &new),
            None => parts.billing.subscribe(by.account, customer.id(), &new),
        };
        let made = made.map_err(|error| refusal(error, "effective_at"))?;
        Ok((customer.id().as_str().to_owned(), render(by.account, &made)))
    });
    let (object, made) = made.await?;
    Ok(changed(object, json(&made)))
}

async fn end(State(parts): Shared, Extension(by): By, name: Name, headers: HeaderMap, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let body = read(body)?;
    let ended = work(parts, move |parts| {
        let end = parse_end(&body)?;
        let customer = find(parts, by.account, &name)?;
        let in_force = in_force(parts, by.account, &customer)?;
        parts.billing.cancel(by.account, &in_force.id, end).map_err(|error| refusal(error, "expire_at"))?;
        Ok(customer.id().as_str().to_owned())
    });
    Ok(deleted(&headers, ended.await?))
}

/// The id of a plan. Any name is one, made or not; a `uuid` must be that of a plan that was made or assigned.
fn plan_id(parts: &Parts, account: u32, plan: PlanChoice) -> Result<String, ApiError> {
    let uuid = match plan {
        PlanChoice::Id(id) => return Ok(id),
        PlanChoice::Uuid(uuid) => uuid,
    };
    let of_plan = |error| refusal(error, "price_plan_uuid");
    let made = parts.billing.plans(account).map_err(of_plan)?.into_iter().map(|made| made.plan.id);
    let mut ids = made.chain(parts.billing.assigned_plan_ids(account).map_err(of_plan)?);
    ids.find(|id| plan_uuid(account, id) == uuid).ok_or_else(|| ApiError::bad_field("price_plan_uuid", "is of no price plan"))
}

fn none_active() -> ApiError {
    ApiError::not_found(StatusCode::NOT_FOUND, "the customer has no active subscription")
}

/// The one place where an error of billing gets its status here. `time`: the field that a refused time came in.
pub(super) fn refusal(error: Error, time: &str) -> ApiError {
    match error {
        Error::Unknown(_) | Error::Refused(Refusal::UnknownSubscription) => none_active(),
        Error::Refused(refusal) => ApiError::bad_field(time, refusal),
        Error::TooMany(_) | Error::CannotBill(_) | Error::StillOpen | Error::Settled(_) => ApiError::bad_request(error.to_string()),
        Error::Unavailable(message) => ApiError::unavailable(message, crate::api::refusals::RETRY_AFTER_S),
        Error::Store(error) => {
            tracing::error!(%error, "the store did not answer for subscriptions");
            store_refusal(&error, CHANGE_UNKNOWN)
        }
    }
}
