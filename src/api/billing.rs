//! Billing: what its routes have in common. [`plans`] and [`invoices`] are Tollgate's own, [`payments`] Amberflo's.

pub(super) mod invoices;
pub(super) mod payments;
pub(super) mod plans;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use serde_json::Value;

use super::audit;
use super::fields::{Received, bytes_within};
use super::openapi::PLANS;
use super::refusals::{CHANGE_UNKNOWN, RETRY_AFTER_S, blocking, store_refusal};
use crate::accounts::Caller;
use crate::billing::{Billing, Error, Refusal};
use crate::dialect::ApiError;
use crate::openapi::Routes;

/// Largest body of a plan; of anything else of billing too.
const BODY_BYTES_MAX: usize = 1 << 20;
const COMPLETE: HeaderName = HeaderName::from_static("tollgate-complete");

type Shared = State<Arc<Billing>>;
type By = Extension<Caller>;
type InPath = Result<Path<String>, PathRejection>;
type Answer = Result<Response, ApiError>;

/// Routes that change something, and those that read beside them.
pub(super) fn noted_routes(billing: Arc<Billing>) -> Routes {
    Routes::of(PLANS).merge(plans::routes(billing.clone())).merge(invoices::routes(billing.clone())).merge(payments::routes(billing))
}

/// Routes that ask by a POST.
pub(super) fn routes(billing: Arc<Billing>) -> Routes {
    invoices::cost_routes(billing)
}

fn read(body: Received) -> Result<Bytes, ApiError> {
    bytes_within(body, BODY_BYTES_MAX)
}

/// Does what may block.
async fn work<T, W>(billing: Arc<Billing>, work: W) -> Result<T, ApiError>
where
    T: Send + 'static,
    W: FnOnce(&Billing) -> Result<T, Error> + Send + 'static,
{
    blocking("a request for billing", move || work(&billing)).await?.map_err(refusal)
}

/// The one place where an error of billing gets its status.
fn refusal(error: Error) -> ApiError {
    match error {
        Error::Refused(Refusal::UnknownOrder | Refusal::UnknownSubscription) | Error::Unknown(_) => {
            ApiError::not_found(StatusCode::NOT_FOUND, error.to_string())
        }
        Error::Refused(refusal) => ApiError::bad_field(field_of(&refusal), refusal),
        Error::StillOpen | Error::Settled(_) => ApiError::bad_request(format!("the invoice {error}")),
        Error::TooMany(_) | Error::CannotBill(_) => ApiError::bad_request(error.to_string()),
        Error::Unavailable(message) => {
            tracing::warn!(reason = message, "a request for invoices was refused");
            ApiError::unavailable(message, RETRY_AFTER_S)
        }
        Error::Store(error) => {
            tracing::error!(%error, "the store did not answer for billing");
            store_refusal(&error, CHANGE_UNKNOWN)
        }
    }
}

fn field_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Closed(_) => "startTimeInSeconds",
        Refusal::EndNotAfterStart => "endTimeInSeconds",
        Refusal::TooManyAssignments | Refusal::TooManyOrders => "customerId",
        Refusal::EndClosed(_) => "endTimeInSeconds",
        Refusal::OtherOrder | Refusal::DeletedOrder | Refusal::UnknownOrder | Refusal::OtherSubscription | Refusal::UnknownSubscription => {
            "id"
        }
    }
}

/// An answer that says what was changed.
fn changed(object: String, body: &Value) -> Response {
    audit::changed(object, json(body))
}

fn json(body: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// An answer from rows.
fn computed(body: &Value, complete: bool) -> Response {
    let mut response = json(body);
    response.headers_mut().insert(COMPLETE, HeaderValue::from_static(if complete { "true" } else { "false" }));
    response
}

/// The id in the path. What does not decode to UTF-8 is nobody's.
fn in_path(path: InPath, what: &str) -> Result<String, ApiError> {
    path.map(|Path(id)| id).map_err(|_| ApiError::not_found(StatusCode::NOT_FOUND, format!("there is no {what} with this id")))
}
