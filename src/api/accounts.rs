//! `/v1/accounts`, for operators: make, list, disable.
//!
//! ```json
//! {"name": "acme", "identity": "unique_id", "createdAt": "2026-01-01T00:00:00.000Z", "disabledAt": null}
//! ```

pub(super) mod openapi;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::audit::Audited;
use super::fields::{Fields, OwnQuery, Parameters, Received};
use super::openapi::ACCOUNTS;
use super::refusals::{CHANGE_UNKNOWN, blocking, store_refusal};
use crate::accounts::{ACCOUNTS_MAX, Account, Accounts, Caller, Error, KEYS_MAX, Scope, is_account_name};
use crate::clock::UnixMillis;
use crate::dialect::ApiError;
use crate::event::IdentityMode;
use crate::openapi::Routes;

/// Largest body of what is about accounts and keys.
pub(super) const BODY_BYTES_MAX: usize = 16 << 10;

pub(super) type Shared = State<Arc<Accounts>>;
pub(super) type By = Extension<Caller>;
type Answer = Result<Response, ApiError>;

pub(super) fn routes(accounts: Arc<Accounts>) -> Routes {
    Routes::of(ACCOUNTS)
        .get("/v1/accounts", list, openapi::list())
        .post("/v1/accounts", create, openapi::create())
        .post("/v1/accounts/{name}/disable", disable, openapi::disable())
        .body_max(BODY_BYTES_MAX)
        .with_state(accounts)
}

async fn list(State(accounts): Shared, Extension(by): By, query: Parameters) -> Answer {
    let query = OwnQuery::of(query, &["after", "limit"])?;
    let limit = query.limit()?;
    let after = query.text("after").map(str::to_owned);
    let mut page = work(accounts, move |accounts| accounts.list(&by, after.as_deref(), limit + 1)).await?;
    let has_more = page.len() > limit;
    page.truncate(limit);
    let next = page.last().filter(|_| has_more).map(|last| last.name.clone());
    Ok(Json(json!({"accounts": page.iter().map(shown).collect::<Vec<_>>(), "next": next})).into_response())
}

async fn create(State(accounts): Shared, Extension(by): By, query: Parameters, body: Received) -> Answer {
    check_operator(&by)?;
    OwnQuery::of(query, &[])?;
    let mut fields = Fields::of_body(body, &["name", "identity"])?;
    let name = fields
        .text("name")?
        .filter(|name| is_account_name(name))
        .ok_or_else(|| ApiError::bad_field("name", "is required: 1 to 64 lower case letters, digits, and `-`, `_`, `.` in between"))?;
    let identity = match fields.text("identity")?.as_deref() {
        None => IdentityMode::default(),
        Some("unique_id") => IdentityMode::UniqueId,
        Some("all_attributes") => IdentityMode::AllAttributes,
        Some(_) => return Err(ApiError::bad_field("identity", "must be unique_id or all_attributes")),
    };
    let account = work(accounts, move |accounts| accounts.create(&by, &name, identity)).await?;
    Ok(answer(StatusCode::CREATED, shown(&account), &account))
}

async fn disable(State(accounts): Shared, Extension(by): By, path: Result<Path<String>, PathRejection>, query: Parameters) -> Answer {
    check_operator(&by)?;
    OwnQuery::of(query, &[])?;
    let Path(name) = path.map_err(|_| refusal(Error::UnknownAccount))?;
    let account = work(accounts, move |accounts| accounts.disable(&by, &name)).await?;
    Ok(answer(StatusCode::OK, shown(&account), &account))
}

fn check_operator(by: &Caller) -> Result<(), ApiError> {
    if by.may(Scope::Operator) { Ok(()) } else { Err(refusal(Error::NotOperator)) }
}

fn answer(status: StatusCode, body: Value, account: &Account) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.extensions_mut().insert(Audited { object: account.name.clone(), account: Some(account.number) });
    response
}

fn shown(account: &Account) -> Value {
    json!({
        "name": account.name,
        "identity": account.identity.label(),
        "createdAt": UnixMillis(account.created_at).to_string(),
        "disabledAt": account.disabled_at.map(|at| UnixMillis(at).to_string()),
    })
}

/// Does what syncs a disk, or waits for who does, where it may block.
pub(super) async fn work<T, W>(accounts: Arc<Accounts>, work: W) -> Result<T, ApiError>
where
    T: Send + 'static,
    W: FnOnce(&Accounts) -> Result<T, Error> + Send + 'static,
{
    blocking("a change of accounts or keys", move || work(&accounts)).await?.map_err(refusal)
}

/// The one place where an error of accounts and keys gets its status.
pub(super) fn refusal(error: Error) -> ApiError {
    match error {
        Error::Exists => ApiError::duplicate("an account with this name exists"),
        Error::UnknownAccount | Error::UnknownKey => ApiError::not_found(StatusCode::NOT_FOUND, error.to_string()),
        Error::TooManyAccounts => ApiError::bad_request(format!("there are {ACCOUNTS_MAX} accounts, the limit")),
        Error::TooManyKeys => ApiError::bad_request(format!("the account has {KEYS_MAX} keys, the limit: revoke one first")),
        Error::AccountDisabled => ApiError::bad_field("account", "is disabled"),
        Error::DefaultStays | Error::LastOperator => ApiError::bad_request(error.to_string()),
        Error::OperatorElsewhere => ApiError::bad_field("scopes", "may have operator only in the account default"),
        Error::NotOperator => ApiError::forbidden(Scope::Operator.label()),
        Error::Denied(denied) => ApiError::denied(denied),
        Error::Store(error) => {
            tracing::error!(%error, "the store did not answer for accounts and keys");
            store_refusal(&error, CHANGE_UNKNOWN)
        }
    }
}
