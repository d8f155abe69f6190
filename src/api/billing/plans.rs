//! `/v1/plans`: pricing plans. Scopes `admin` to make one, `read` to read them.
//!
//! The body of a POST is a plan as [`crate::billing::plan::json`] describes it. Under an id that is new it becomes version 1. Under one that is there it
//! becomes the next version, unless the newest one says the same; customers who were assigned an older version keep that until they
//! are assigned the plan again. The answer is the plan with `version` and `createdAt`:
//!
//! ```json
//! {"id": "pro", "version": 1, "createdAt": "2026-01-01T00:00:00.000Z", "name": "Pro", "productId": "1", "currency": "USD",
//!  "billingPeriod": "month", "fees": [], "prices": []}
//! ```
//!
//! `GET /v1/plans` has the newest versions (`{"plans": […]}`), `GET /v1/plans/{id}` one of them, with `?version=` an older one.

pub(super) mod openapi;

use std::sync::Arc;

use axum::extract::{Extension, State};
use serde_json::{Value, json};

use super::{Answer, BODY_BYTES_MAX, By, InPath, Shared, changed, in_path, work};
use crate::accounts::Scope;
use crate::api::fields::{OwnQuery, Parameters, Received, bytes};
use crate::api::openapi::PLANS;
use crate::api::refusals::check_scope;
use crate::billing::plan::json::{read, shown};
use crate::billing::{Billing, MadePlan, Plan};
use crate::clock::UnixMillis;
use crate::dialect::ApiError;
use crate::openapi::Routes;

pub(super) fn routes(billing: Arc<Billing>) -> Routes {
    Routes::of(PLANS)
        .get("/v1/plans", list, openapi::list())
        .post("/v1/plans", create, openapi::create())
        .get("/v1/plans/{plan_id}", show, openapi::show())
        .body_max(BODY_BYTES_MAX)
        .with_state(billing)
}

async fn list(State(billing): Shared, Extension(by): By, query: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    OwnQuery::of(query, &[])?;
    let plans = work(billing, move |billing| billing.plans(by.account)).await?;
    Ok(super::json(&json!({"plans": plans.iter().map(render).collect::<Vec<_>>()})))
}

async fn create(State(billing): Shared, Extension(by): By, query: Parameters, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    OwnQuery::of(query, &[])?;
    let plan = parse(body)?;
    let made = work(billing, move |billing| billing.write_plan(by.account, &plan)).await?;
    Ok(changed(made.plan.id.clone(), &render(&made)))
}

async fn show(State(billing): Shared, Extension(by): By, path: InPath, query: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    let (id, query) = (in_path(path, "plan")?, OwnQuery::of(query, &["version"])?);
    let wrong = |_| ApiError::bad_field("version", "must be a whole number from 1 on");
    let version = query.text("version").map(str::parse::<u32>).transpose().map_err(wrong)?;
    let made = work(billing, move |billing| billing.plan(by.account, &id, version)).await?;
    Ok(super::json(&render(&made)))
}

/// Reads the body of a POST.
///
/// # Errors
/// 400, `details` names the field; 413.
pub(in crate::api) fn parse(body: Received) -> Result<Plan, ApiError> {
    let body = bytes(body, || format!("a plan has more than {BODY_BYTES_MAX} bytes"))?;
    let value: Value = serde_json::from_slice(&body).map_err(|_| ApiError::bad_request("the body is not valid JSON"))?;
    read(&value).map_err(|error| ApiError::bad_field(error.path, error.reason))
}

fn render(made: &MadePlan) -> Value {
    let mut plan = shown(&made.plan);
    plan["version"] = made.version.into();
    plan["createdAt"] = UnixMillis(made.created_ms).to_string().into();
    plan
}
