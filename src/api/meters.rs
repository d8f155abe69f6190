//! Amberflo's meter definitions (contract `amberflo.md` section 3).
//!
//! | | scope | |
//! |---|---|---|
//! | `GET /meter-definition` | read | those that are defined, in the order of their making |
//! | `POST /meter-definition` | admin | defines a meter; 400 `DUPLICATE` if it is defined |
//! | `PUT /meter-definition` | admin | replaces what is said of it; 400 `NOT_FOUND` if it is not |
//! | `GET /meter-definition/{meterApiName}` | read | one |
//! | `DELETE /meter-definition/{meterApiName}` | admin | forgets it, and answers with it. Its usage stays |
//!
//! A definition decides what a usage query gets that names no aggregation, and what COUNT is of a meter of unique customers. A query that
//! begins after the answer to a change sees it, on any node.

mod openapi;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::{Json, response};
use serde_json::Value;

use super::audit::changed;
use super::fields::{Received, bytes};
use super::openapi::METERS;
use super::refusals::{CHANGE_UNKNOWN, blocking, check_scope, store_refusal};
use crate::accounts::{Caller, Scope};
use crate::dialect::ApiError;
use crate::dialect::amberflo::meters::{MeterRequest, render};
use crate::meters::{Error, Extensions, Meter, Meters};
use crate::openapi::Routes;
use crate::store;

/// Largest body: all limits reached, every character escaped.
const BODY_BYTES_MAX: usize = 256 << 10;

type Shared = State<Arc<Meters>>;
type By = Extension<Caller>;
type InPath = Result<Path<String>, PathRejection>;
type Answer = Result<response::Response, ApiError>;

pub(super) fn routes(meters: Arc<Meters>) -> Routes {
    Routes::of(METERS)
        .get("/meter-definition", list, openapi::list())
        .post("/meter-definition", create, openapi::create())
        .put("/meter-definition", replace, openapi::replace())
        .get("/meter-definition/{meter_api_name}", show, openapi::show())
        .delete("/meter-definition/{meter_api_name}", remove, openapi::remove())
        .body_max(BODY_BYTES_MAX)
        .with_state(meters)
}

async fn list(State(meters): Shared, Extension(caller): By) -> Result<Json<Value>, ApiError> {
    check_scope(&caller, Scope::Read)?;
    let all = done(meters, StatusCode::NOT_FOUND, move |meters| meters.list(caller.account)).await?;
    Ok(Json(all.iter().map(render).collect()))
}

async fn create(State(meters): Shared, Extension(caller): By, body: Received) -> Answer {
    check_scope(&caller, Scope::Admin)?;
    let MeterRequest { name, said } = MeterRequest::parse(&bytes(body, too_large)?)?;
    answer_one(meters, StatusCode::BAD_REQUEST, move |meters| meters.create(caller.account, &name, said, Extensions::default())).await
}

async fn replace(State(meters): Shared, Extension(caller): By, body: Received) -> Answer {
    check_scope(&caller, Scope::Admin)?;
    let MeterRequest { name, said } = MeterRequest::parse(&bytes(body, too_large)?)?;
    answer_one(meters, StatusCode::BAD_REQUEST, move |meters| meters.replace(caller.account, &name, said)).await
}

async fn show(State(meters): Shared, Extension(caller): By, path: InPath) -> Answer {
    check_scope(&caller, Scope::Read)?;
    let name = in_path(path)?;
    answer_one(meters, StatusCode::NOT_FOUND, move |meters| meters.get(caller.account, &name)).await
}

async fn remove(State(meters): Shared, Extension(caller): By, path: InPath) -> Answer {
    check_scope(&caller, Scope::Admin)?;
    let name = in_path(path)?;
    answer_one(meters, StatusCode::NOT_FOUND, move |meters| meters.remove(caller.account, &name)).await
}

/// The name in the path. What no meter can be called is no meter's: a database cannot even be asked for it.
fn in_path(path: InPath) -> Result<String, ApiError> {
    let name = path.ok().map(|Path(name)| name).filter(|name| !name.contains('\0'));
    name.ok_or_else(|| unknown(StatusCode::NOT_FOUND))
}

async fn answer_one<W>(meters: Arc<Meters>, unknown_status: StatusCode, work: W) -> Answer
where
    W: FnOnce(&Meters) -> Result<Meter, Error> + Send + 'static,
{
    let meter = done(meters, unknown_status, work).await?;
    let answer = response::IntoResponse::into_response(Json(render(&meter)));
    Ok(changed(meter.name, answer))
}

/// Does `work` where it may block.
async fn done<T, W>(meters: Arc<Meters>, unknown_status: StatusCode, work: W) -> Result<T, ApiError>
where
    T: Send + 'static,
    W: FnOnce(&Meters) -> Result<T, Error> + Send + 'static,
{
    blocking("a request for meter definitions", move || work(&meters)).await?.map_err(|error| refusal(error, unknown_status))
}

fn too_large() -> String {
    format!("the body has more than {BODY_BYTES_MAX} bytes, the limit here")
}

/// The one place where an error of the meters gets its status.
fn refusal(error: Error, unknown_status: StatusCode) -> ApiError {
    match error {
        Error::Exists => ApiError::duplicate(error.to_string()),
        Error::TooMany => ApiError::bad_request(error.to_string()),
        Error::Unknown => unknown(unknown_status),
        Error::Store(error) => unanswered(&error),
    }
}

/// Where the store did not answer for a meter definition, in any dialect.
pub(super) fn unanswered(error: &store::Error) -> ApiError {
    tracing::error!(%error, "the store did not answer for a meter definition");
    store_refusal(error, CHANGE_UNKNOWN)
}

fn unknown(status: StatusCode) -> ApiError {
    ApiError::not_found(status, Error::Unknown.to_string())
}
