//! `/v1/keys`: make, list, revoke. An account's admin manages its own account's keys, an operator with `?account=<name>` any account's.
//!
//! ```json
//! {"id": "9f86d081884c7d65", "name": "biller", "account": "acme", "scopes": ["ingest"],
//!  "rateLimit": {"requestsPerSecond": 50, "requestBurst": 100, "eventsPerSecond": null, "eventBurst": null},
//!  "createdAt": "2026-01-01T00:00:00.000Z", "createdBy": "bootstrap", "revokedAt": null}
//! ```
//!
//! The answer that makes a key has its text under `key`, this once.

mod openapi;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use serde_json::{Value, json};

use super::accounts::{BODY_BYTES_MAX, By, Shared, refusal, work};
use super::audit::Audited;
use super::fields::{Fields, OwnQuery, Parameters, Received};
use super::openapi::ACCOUNTS;
use crate::accounts::{Accounts, ApiKey, Caller, Error, NewKey, RATE_MAX, Rate, RateLimit, Scope, is_key_id, is_key_name};
use crate::dialect::ApiError;
use crate::openapi::Routes;

type Answer = Result<Response, ApiError>;
type InPath = Result<Path<String>, PathRejection>;

pub(super) fn routes(accounts: Arc<Accounts>) -> Routes {
    Routes::of(ACCOUNTS)
        .get("/v1/keys", list, openapi::list())
        .post("/v1/keys", create, openapi::create())
        .delete("/v1/keys/{key_id}", revoke, openapi::revoke())
        .post("/v1/keys/{key_id}/revoke", revoke, openapi::revoke_by_post())
        .body_max(BODY_BYTES_MAX)
        .with_state(accounts)
}

async fn list(State(accounts): Shared, Extension(by): By, query: Parameters) -> Answer {
    check(&by)?;
    let name = account_name(query)?;
    let keys = work(accounts, move |accounts| accounts.keys(accounts.of(&by, name.as_deref())?.number)).await?;
    Ok(Json(json!({"keys": keys.iter().map(shown).collect::<Vec<_>>()})).into_response())
}

async fn create(State(accounts): Shared, Extension(by): By, query: Parameters, body: Received) -> Answer {
    check(&by)?;
    let name = account_name(query)?;
    let new = new_key(Fields::of_body(body, &["name", "scopes", "rateLimit"])?)?;
    let make = move |accounts: &Accounts| accounts.create_key(&by, accounts.of(&by, name.as_deref())?.number, new);
    let made = work(accounts, make).await?;
    let mut body = shown(&made.key);
    body["key"] = made.text.into();
    let mut response = answer(StatusCode::CREATED, body, &made.key);
    // Nothing between here and the client may keep it.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn revoke(State(accounts): Shared, Extension(by): By, path: InPath, query: Parameters) -> Answer {
    check(&by)?;
    OwnQuery::of(query, &[])?;
    let id = path.ok().map(|Path(id)| id).filter(|id| is_key_id(id)).ok_or_else(|| refusal(Error::UnknownKey))?;
    let key = work(accounts, move |accounts| accounts.revoke_key(&by, &id)).await?;
    Ok(answer(StatusCode::OK, shown(&key), &key))
}

fn check(by: &Caller) -> Result<(), ApiError> {
    if by.manages_keys() { Ok(()) } else { Err(ApiError::forbidden(Scope::Admin.label())) }
}

/// The account that is asked about; `None` for one's own.
fn account_name(query: Parameters) -> Result<Option<String>, ApiError> {
    Ok(OwnQuery::of(query, &["account"])?.text("account").map(str::to_owned))
}

pub(super) fn new_key(mut fields: Fields) -> Result<NewKey, ApiError> {
    let name = fields.text("name")?;
    if name.as_ref().is_some_and(|name| !is_key_name(name)) {
        return Err(ApiError::bad_field("name", "must have 1 to 128 bytes and no control characters"));
    }
    let labels = fields.texts("scopes")?.unwrap_or_default();
    let scope = |label: &String| Scope::ALL.into_iter().find(|scope| scope.label() == label);
    let scopes: Option<Vec<Scope>> = labels.iter().map(scope).collect();
    let mut scopes = scopes
        .filter(|scopes| !scopes.is_empty())
        .ok_or_else(|| ApiError::bad_field("scopes", "is required: an array of ingest, read, admin, operator"))?;
    scopes.sort();
    scopes.dedup();
    const RATES: [&str; 4] = ["requestsPerSecond", "requestBurst", "eventsPerSecond", "eventBurst"];
    let limit = match fields.object("rateLimit", &RATES)? {
        None => RateLimit::default(),
        Some(mut fields) => RateLimit { requests: rate(&mut fields, RATES[0], RATES[1])?, events: rate(&mut fields, RATES[2], RATES[3])? },
    };
    Ok(NewKey { name, scopes, limit })
}

/// The burst is what may come in a second, unless it says otherwise.
fn rate(fields: &mut Fields, per_second: &str, burst: &str) -> Result<Option<Rate>, ApiError> {
    match (fields.number(per_second, RATE_MAX)?, fields.number(burst, RATE_MAX)?) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(ApiError::bad_field(fields.path(per_second), format!("is required with {burst}"))),
        (Some(per_second), burst) => Ok(Some(Rate { per_second, burst: burst.unwrap_or(per_second) })),
    }
}

fn answer(status: StatusCode, body: Value, key: &ApiKey) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.extensions_mut().insert(Audited { object: key.id.clone(), account: Some(key.account.1) });
    response
}

fn shown(key: &ApiKey) -> Value {
    let per_second = |rate: Option<Rate>| rate.map(|rate| rate.per_second);
    let burst = |rate: Option<Rate>| rate.map(|rate| rate.burst);
    let RateLimit { requests, events } = key.limit;
    let limit = json!({
        "requestsPerSecond": per_second(requests), "requestBurst": burst(requests),
        "eventsPerSecond": per_second(events), "eventBurst": burst(events),
    });
    json!({
        "id": key.id,
        "name": key.name,
        "account": key.account.0,
        "scopes": key.scopes.iter().map(|scope| scope.label()).collect::<Vec<_>>(),
        "rateLimit": if key.limit.is_off() { Value::Null } else { limit },
        "createdAt": key.created_at.to_string(),
        "createdBy": key.created_by,
        "revokedAt": key.revoked_at.map(|at| at.to_string()),
    })
}
