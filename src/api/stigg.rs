//! Stigg's routes (contract `stigg.md` sections 0 to 5). Paths are those below the prefix; errors become Stigg's where the routes are put together.

mod customers;
mod openapi;
mod subscriptions;
pub(super) mod usage;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::audit;
use super::fields::{Parameters, Received, bytes_within, pairs};
use super::openapi::STIGG;
use super::refusals::{self, CHANGE_UNKNOWN, store_refusal};
use crate::accounts::Caller;
use crate::billing::{self, Billing, Refusal};
use crate::customers::{CustomerId, Customers, Error};
use crate::dialect::ApiError;
use crate::dialect::stigg::envelope;
use crate::dialect::stigg::pages::Query;
use crate::openapi::Routes;
use crate::store;

/// Largest body: an import of 1,000 customers that say a little.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What the routes work with.
#[derive(Clone)]
pub(super) struct Parts {
    /// The customers of all accounts.
    pub(super) customers: Arc<Customers>,
    /// Subscriptions.
    pub(super) billing: Arc<Billing>,
}

type Shared = State<Parts>;
type By = Extension<Caller>;
type InPath = Result<Path<String>, PathRejection>;
type Answer = Result<Response, ApiError>;

/// Customers and subscriptions. Needs an `Extension<Caller>` on every request.
pub(super) fn routes(parts: Parts) -> Routes {
    Routes::of(STIGG)
        .get("/api/v1/customers", customers::list, openapi::list_customers())
        .post("/api/v1/customers", customers::provision, openapi::provision_customer())
        .get("/api/v1/customers/{customer_id}", customers::show, openapi::show_customer())
        .patch("/api/v1/customers/{customer_id}", customers::change, openapi::change_customer())
        .delete("/api/v1/customers/{customer_id}", customers::archive, openapi::delete_customer())
        // An id like any other, but for a POST.
        .post("/api/v1/customers/import", customers::import, openapi::import_customers())
        .get("/api/v1/customers/import", customers::show_import, openapi::show_import())
        .patch("/api/v1/customers/import", customers::change_import, openapi::change_import())
        .delete("/api/v1/customers/import", customers::archive_import, openapi::delete_import())
        .post("/api/v1/customers/{customer_id}/archive", customers::archive, openapi::archive_customer())
        .post("/api/v1/customers/{customer_id}/unarchive", customers::unarchive, openapi::unarchive_customer())
        .post("/api/v1/customers/{customer_id}/payment-method", customers::attach, openapi::attach_payment_method())
        .delete("/api/v1/customers/{customer_id}/payment-method", customers::detach, openapi::detach_payment_method())
        .get("/api/v1/subscriptions", subscriptions::list, openapi::list_subscriptions())
        .post("/api/v1/subscriptions", subscriptions::provision, openapi::provision_subscription())
        .get("/api/v1/subscriptions/{subscription_id}", subscriptions::show, openapi::show_subscription())
        .patch("/api/v1/subscriptions/{subscription_id}", subscriptions::change, openapi::change_subscription())
        .post("/api/v1/subscriptions/{subscription_id}/cancel", subscriptions::cancel, openapi::cancel_subscription())
        .body_max(BODY_BYTES_MAX)
        .with_state(parts)
}

fn query(parameters: Parameters) -> Result<Query, ApiError> {
    pairs(parameters).map(Query::new)
}

fn read(body: Received) -> Result<Bytes, ApiError> {
    bytes_within(body, BODY_BYTES_MAX)
}

/// The id in a path, of a customer or, with another `unknown`, of something else. What cannot be one is nobody's.
fn customer_in(path: InPath) -> Result<CustomerId, ApiError> {
    let Ok(Path(text)) = path else { return Err(unknown_customer("with this id")) };
    CustomerId::parse(&text).map_err(|_| unknown_customer("with this id"))
}

/// Does `work` where it may block.
async fn blocking<T, W>(parts: Parts, work: W) -> Result<T, ApiError>
where
    T: Send + 'static,
    W: FnOnce(&Parts) -> Result<T, ApiError> + Send + 'static,
{
    refusals::blocking("a request of Stigg's", move || work(&parts)).await?
}

fn json(status: StatusCode, text: String) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], text).into_response()
}

/// An answer that says what was changed.
fn changed(status: StatusCode, object: String, data: String) -> Response {
    audit::changed(object, json(status, data))
}

fn one(data: Value) -> String {
    envelope(data).to_string()
}

fn unknown_customer(id: &str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "CUSTOMER_NOT_FOUND", format!("customer {id} not found"))
}

fn unknown_subscription(id: &str) -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "SUBSCRIPTION_NOT_FOUND", format!("subscription {id} not found"))
}

fn duplicate(message: String) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "DUPLICATED_ENTITY_NOT_ALLOWED", message)
}

/// What became of a customer.
fn of_customer(id: &CustomerId, error: Error) -> ApiError {
    match error {
        Error::Exists => duplicate(format!("customer {id} exists, or is archived")),
        Error::Unknown | Error::StepBack { .. } => unknown_customer(id.as_str()),
        Error::Store(error) => of_store(&error),
    }
}

/// What became of a subscription.
fn of_billing(customer: Option<&CustomerId>, id: &str, error: billing::Error) -> ApiError {
    match (error, customer) {
        (billing::Error::Unknown("customer"), Some(customer)) => unknown_customer(customer.as_str()),
        (billing::Error::Unknown(_) | billing::Error::Refused(Refusal::UnknownSubscription), _) => unknown_subscription(id),
        (billing::Error::Refused(Refusal::OtherSubscription), _) => duplicate(format!("subscription {id} exists")),
        (billing::Error::Refused(refusal), _) => ApiError::bad_field(field_of(&refusal), refusal),
        (billing::Error::Store(error), _) => of_store(&error),
        (error, _) => {
            tracing::error!(%error, "a subscription was refused for what it does not depend on");
            ApiError::internal()
        }
    }
}

fn field_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Closed(_) => "startDate",
        Refusal::EndNotAfterStart | Refusal::EndClosed(_) => "cancellationDate",
        Refusal::TooManyAssignments | Refusal::TooManyOrders => "customerId",
        Refusal::OtherOrder | Refusal::DeletedOrder | Refusal::UnknownOrder | Refusal::OtherSubscription | Refusal::UnknownSubscription => {
            "id"
        }
    }
}

fn of_store(error: &store::Error) -> ApiError {
    tracing::error!(%error, "the store did not answer for Stigg's customers or subscriptions");
    store_refusal(error, CHANGE_UNKNOWN)
}
