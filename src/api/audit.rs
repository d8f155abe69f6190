//! The audit log: notes what administrators ask for, and `GET /v1/audit`, which reads it.
//!
//! ```json
//! {"entries": [{"number": 7, "time": "2026-01-01T00:00:00.000Z", "key": "bootstrap", "account": "default", "address": "192.0.2.7",
//!               "action": "POST /v1/keys", "object": "9f86d081884c7d65", "status": 201}], "next": null}
//! ```
//!
//! `status` is null where the process ended before there was an answer. A request of a key that may not change anything is refused and
//! not noted: whoever has one could make the gateway write and sync at will.

mod openapi;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::Method;
use serde_json::{Value, json};

use super::accounts::{By, work};
use super::fields::{OwnQuery, Parameters};
use super::openapi::ACCOUNTS;
use super::refusals::store_refusal;
use crate::accounts::audit::{Audit, Entry, Outcome};
use crate::accounts::{Accounts, Caller, Scope};
use crate::dialect::ApiError;
use crate::openapi::Routes;

/// Where a request came from; an extension of it.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// What a request changed; an extension of its answer. Ids and names only, of what is there.
#[derive(Debug, Clone)]
pub(super) struct Audited {
    /// Id or name.
    pub(super) object: String,
    /// Its account, if it may be another than the caller's.
    pub(super) account: Option<u32>,
}

/// An answer that says what of the caller's account was changed.
pub(super) fn changed(object: String, mut answer: Response) -> Response {
    answer.extensions_mut().insert(Audited { object, account: None });
    answer
}

/// Notes a request before it is done, and what came of it: for routes on which every method but GET changes something.
///
/// What is done goes on when the client hangs up, and so does this.
pub(super) async fn note(State(audit): State<Arc<Audit>>, path: MatchedPath, request: Request, next: Next) -> Response {
    let changes = ![Method::GET, Method::HEAD].contains(request.method());
    let by = request.extensions().get::<Caller>().filter(|by| changes && by.manages_keys()).cloned();
    let Some(by) = by else { return next.run(request).await };
    let address = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let action = format!("{} {}", request.method(), path.as_str());
    let noted = tokio::spawn(async move {
        let entry = match begin(audit.clone(), by, address, action).await {
            Ok(entry) => entry,
            Err(error) => return IntoResponse::into_response(error),
        };
        let response = next.run(request).await;
        let audited = response.extensions().get::<Audited>().cloned();
        let (object, account) = audited.map_or((None, None), |audited| (Some(audited.object), audited.account));
        finish(audit, entry, Outcome { status: response.status().as_u16(), object, account }).await;
        response
    });
    noted.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a change broke off");
        IntoResponse::into_response(ApiError::internal())
    })
}

async fn begin(audit: Arc<Audit>, by: Caller, address: Option<IpAddr>, action: String) -> Result<Entry, ApiError> {
    match tokio::task::spawn_blocking(move || audit.begin(&by, address, &action)).await {
        Ok(Ok(entry)) => Ok(entry),
        Ok(Err(error)) => {
            tracing::error!(%error, "the audit log cannot be written; nothing was changed");
            Err(store_refusal(&error, "the audit log cannot be written, nothing was changed"))
        }
        Err(_) => Err(ApiError::internal()),
    }
}

async fn finish(audit: Arc<Audit>, entry: Entry, outcome: Outcome) {
    let status = outcome.status;
    if let Ok(Err(error)) = tokio::task::spawn_blocking(move || audit.finish(entry, outcome)).await {
        tracing::error!(%error, status, "the audit log has a change without its outcome");
    }
}

/// What reading it needs.
#[derive(Clone)]
struct Reading {
    audit: Arc<Audit>,
    accounts: Arc<Accounts>,
}

pub(super) fn routes(audit: Arc<Audit>, accounts: Arc<Accounts>) -> Routes {
    Routes::of(ACCOUNTS).get("/v1/audit", list, openapi::list()).with_state(Reading { audit, accounts })
}

async fn list(State(reading): State<Reading>, Extension(by): By, query: Parameters) -> Result<Json<Value>, ApiError> {
    if !by.manages_keys() {
        return Err(ApiError::forbidden(Scope::Admin.label()));
    }
    let query = OwnQuery::of(query, &["account", "before", "limit"])?;
    let limit = query.limit()?;
    let before =
        query.text("before").map(|text| text.parse::<u64>().map_err(|_| ApiError::bad_field("before", "must be a number of an entry")));
    let before = before.transpose()?;
    let name = query.text("account").map(str::to_owned);
    let page = work(reading.accounts, move |accounts| {
        let (entries, next) = reading.audit.page(accounts.of(&by, name.as_deref())?.number, before, limit)?;
        let entries: Vec<Value> = entries.iter().map(|entry| shown(entry, &by, accounts)).collect();
        Ok(json!({"entries": entries, "next": next}))
    });
    Ok(Json(page.await?))
}

/// An operator's address is the operators' business.
fn shown(entry: &Entry, by: &Caller, accounts: &Accounts) -> Value {
    let sees_address = entry.account == by.account || by.may(Scope::Operator);
    json!({
        "number": entry.number,
        "time": entry.time().to_string(),
        "key": entry.key,
        "account": accounts.name(entry.account),
        "address": entry.address.filter(|_| sees_address),
        "action": entry.action,
        "object": entry.object,
        "status": entry.outcome,
    })
}
