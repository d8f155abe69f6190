//! Amberflo's customer routes (contract `amberflo.md` section 1).
//!
//! The path comes normalised and the caller as an [`Extension`]: whose key it is was settled before. Here: what the key may
//! do, wire ⇄ model, and one call of [`Customers`] on a thread that may wait for a disk. A client that hangs up does not
//! take a change back.

mod at_provider;
mod openapi;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, FromRef, Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use super::audit::changed;
use super::fields::{Parameters, Received, bytes, pairs};
use super::openapi::CUSTOMERS;
use super::refusals::{CHANGE_UNKNOWN, blocking, check_scope, store_refusal};
use crate::accounts::{Accounts, Caller, Scope};
use crate::customers::{Customer, CustomerId, Customers, Error};
use crate::dialect::ApiError;
use crate::dialect::amberflo::customers::{AutoCreate, CustomerRequest, StageRequest, render, stage_label};
use crate::openapi::Routes;
use crate::store;
use crate::stripe::{IdempotencyKeys, Stripe};

/// Largest body. A customer at all its limits with every character escaped has half of it, and a body as large as the
/// gateway takes would keep an async thread busy for long.
const BODY_BYTES_MAX: usize = 1 << 20;
/// The last segment of `/customers/stage`, which only for PUT is no id.
const STAGE: &str = "stage";

type Shared = State<Arc<Customers>>;
type By = Extension<Caller>;
type InPath = Result<Path<String>, PathRejection>;
type Answer = Result<Response, ApiError>;

/// What the routes work with.
#[derive(Clone)]
pub struct Parts {
    /// The customers.
    pub customers: Arc<Customers>,
    /// Know the accounts' names.
    pub accounts: Arc<Accounts>,
    /// Makes customers at the payment provider, where one is configured.
    pub provider: Option<Provider>,
}

/// The payment provider, and the keys of its calls.
#[derive(Clone)]
pub struct Provider {
    /// Stripe's API.
    pub stripe: Arc<Stripe>,
    /// Of this gateway's log.
    pub keys: IdempotencyKeys,
}

impl FromRef<Parts> for Arc<Customers> {
    fn from_ref(parts: &Parts) -> Self {
        parts.customers.clone()
    }
}

/// `/customers`, `/customers/{customerId}` and `/customers/stage`. Needs an `Extension<Caller>` on every request. Every
/// success is 200 with JSON, every refusal as section 0 of the contract has it; other methods are 405 with `Allow`.
pub fn routes(parts: Parts) -> Routes {
    Routes::of(CUSTOMERS)
        .get("/customers", list_or_find, openapi::list_or_find())
        .post("/customers", create, openapi::create())
        .put("/customers", replace, openapi::replace())
        .get("/customers/stage", show_stage, openapi::show_stage())
        .put("/customers/stage", set_stage, openapi::set_stage())
        .delete("/customers/stage", remove_stage, openapi::remove_stage())
        .get("/customers/{customer_id}", show, openapi::show())
        .delete("/customers/{customer_id}", remove, openapi::remove())
        .layered(|router| router.method_not_allowed_fallback(method_not_allowed))
        .body_max(BODY_BYTES_MAX)
        .with_state(parts)
}

async fn list_or_find(State(customers): Shared, Extension(caller): By, query: Parameters) -> Answer {
    check_scope(&caller, Scope::Read)?;
    match parameter(query, "customerId")? {
        Some(id) => answer(customers, StatusCode::NOT_FOUND, move |customers| find(customers, caller.account, &id)).await,
        None => answer(customers, StatusCode::NOT_FOUND, move |customers| list(customers, caller.account)).await,
    }
}

fn list(customers: &Customers, account: u32) -> Result<Value, Error> {
    Ok(customers.list(account)?.iter().map(render).collect())
}

/// In this form nobody is an empty object, no error, and so is who cannot be.
fn find(customers: &Customers, account: u32, id: &str) -> Result<Value, Error> {
    let Ok(id) = CustomerId::parse(id) else { return Ok(Map::new().into()) };
    match customers.get(account, &id) {
        Ok(customer) => Ok(render(&customer)),
        Err(Error::Unknown) => Ok(Map::new().into()),
        Err(error) => Err(error),
    }
}

async fn create(State(parts): State<Parts>, Extension(caller): By, query: Parameters, body: Received) -> Answer {
    check_scope(&caller, Scope::Admin)?;
    let auto_create = AutoCreate::parse(parameter(query, "autoCreateCustomerInStripe")?.as_deref())?;
    let request = CustomerRequest::parse(&read(body)?)?;
    if !auto_create.is_wanted(parts.provider.is_some())? {
        return create_here(parts.customers, caller.account, request).await;
    }
    // Goes on when the client hangs up: what the provider has made gets its customer here.
    match tokio::spawn(at_provider::create(parts, caller.account, request)).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(%error, "a request for a customer at the payment provider broke off");
            Err(ApiError::internal())
        }
    }
}

async fn create_here(customers: Arc<Customers>, account: u32, request: CustomerRequest) -> Answer {
    let create = move |customers: &Customers| customers.create(account, request.id(), |new| request.fill(new));
    answer_one(customers, StatusCode::BAD_REQUEST, create).await
}

async fn replace(State(customers): Shared, Extension(caller): By, body: Received) -> Answer {
    check_scope(&caller, Scope::Admin)?;
    let request = CustomerRequest::parse(&read(body)?)?;
    let replace = move |customers: &Customers| customers.change(caller.account, request.id(), |stored| request.replace(stored));
    answer_one(customers, StatusCode::BAD_REQUEST, replace).await
}

async fn set_stage(State(customers): Shared, Extension(caller): By, body: Received) -> Answer {
    check_scope(&caller, Scope::Admin)?;
    let StageRequest { id, stage } = StageRequest::parse(&read(body)?)?;
    let set_stage = move |customers: &Customers| customers.set_stage(caller.account, &id, stage);
    answer_one(customers, StatusCode::BAD_REQUEST, set_stage).await
}

async fn show(State(customers): Shared, Extension(caller): By, path: InPath) -> Answer {
    show_one(customers, caller, &in_path(path)?).await
}

async fn show_stage(State(customers): Shared, Extension(caller): By) -> Answer {
    show_one(customers, caller, STAGE).await
}

async fn show_one(customers: Arc<Customers>, caller: Caller, id: &str) -> Answer {
    check_scope(&caller, Scope::Read)?;
    let id = CustomerId::parse(id).map_err(|_| unknown(StatusCode::NOT_FOUND))?;
    answer_one(customers, StatusCode::NOT_FOUND, move |customers| customers.get(caller.account, &id)).await
}

async fn remove(State(customers): Shared, Extension(caller): By, path: InPath) -> Answer {
    remove_one(customers, caller, &in_path(path)?).await
}

async fn remove_stage(State(customers): Shared, Extension(caller): By) -> Answer {
    remove_one(customers, caller, STAGE).await
}

async fn remove_one(customers: Arc<Customers>, caller: Caller, id: &str) -> Answer {
    check_scope(&caller, Scope::Admin)?;
    let id = CustomerId::parse(id).map_err(|_| unknown(StatusCode::NOT_FOUND))?;
    answer_one(customers, StatusCode::NOT_FOUND, move |customers| customers.remove(caller.account, &id)).await
}

async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "this path has not this method; the header Allow has those it has")
}

/// A query parameter; the first if it is given more than once.
fn parameter(query: Parameters, name: &str) -> Result<Option<String>, ApiError> {
    Ok(pairs(query)?.into_iter().find(|(key, _)| key == name).map(|(_, value)| value))
}

/// The id in the path. What does not decode to UTF-8 is nobody's.
fn in_path(path: InPath) -> Result<String, ApiError> {
    path.map(|Path(id)| id).map_err(|_| unknown(StatusCode::NOT_FOUND))
}

fn read(body: Received) -> Result<Bytes, ApiError> {
    bytes(body, || format!("the body of a customer has more than {BODY_BYTES_MAX} bytes"))
}

/// Does `work` where it may block, and answers with the customer that it leaves.
async fn answer_one<W>(customers: Arc<Customers>, unknown: StatusCode, work: W) -> Answer
where
    W: FnOnce(&Customers) -> Result<Customer, Error> + Send + 'static,
{
    let render_one = |customer: Customer| (customer.id().as_str().to_owned(), render(&customer).to_string());
    let (object, json) = done(customers, unknown, move |customers| work(customers).map(render_one)).await?;
    Ok(changed(object, ([(CONTENT_TYPE, "application/json")], json).into_response()))
}

/// Does `work` where it may block, and answers with its JSON. `unknown_status` is what a customer that is not there comes to.
async fn answer<W>(customers: Arc<Customers>, unknown_status: StatusCode, work: W) -> Answer
where
    W: FnOnce(&Customers) -> Result<Value, Error> + Send + 'static,
{
    // A list can be long: it becomes text there too.
    let json = done(customers, unknown_status, move |customers| work(customers).map(|json| json.to_string())).await?;
    Ok(([(CONTENT_TYPE, "application/json")], json).into_response())
}

async fn done<T, W>(customers: Arc<Customers>, unknown_status: StatusCode, work: W) -> Result<T, ApiError>
where
    T: Send + 'static,
    W: FnOnce(&Customers) -> Result<T, Error> + Send + 'static,
{
    blocking("a request for customers", move || work(&customers)).await?.map_err(|error| refusal(error, unknown_status))
}

/// The one place where an error of the customers gets its status.
fn refusal(error: Error, unknown_status: StatusCode) -> ApiError {
    match error {
        Error::Exists => ApiError::duplicate("a customer with this customerId exists"),
        Error::Unknown => unknown(unknown_status),
        Error::StepBack { from, to } => {
            let reason = format!("cannot go back from {} to {}", stage_label(from), stage_label(to));
            ApiError::bad_field("lifecycleStage", reason)
        }
        Error::Store(error) => unanswered(&error),
    }
}

/// Where the store did not answer for a customer, in any dialect.
pub(super) fn unanswered(error: &store::Error) -> ApiError {
    tracing::error!(%error, "the store did not answer for a customer");
    store_refusal(error, CHANGE_UNKNOWN)
}

fn unknown(status: StatusCode) -> ApiError {
    ApiError::not_found(status, "no customer has this customerId")
}

#[cfg(test)]
mod tests;
