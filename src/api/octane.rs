//! Octane's routes (contract `octane.md`), but for measurements, which the gateway takes.
//!
//! | | |
//! |---|---|
//! | `GET` `POST /customers`, `GET` `PUT` `DELETE /customers/{name}` | [`customers`] |
//! | `…/mappings`, `…/metadata`, `…/status` of a customer | [`customers`] |
//! | `…/subscriptions`, `…/active_subscription`, `…/subscription` of a customer | [`subscriptions`] |
//! | `…/usage`, `…/usage_by_time` of a customer | [`usage`] |
//! | `GET` `POST /meters`, `GET` `PUT` `DELETE /meters/{name}`, `POST /meters/{name}/archive` | [`meters`] |
//!
//! Reading needs the scope `read`, anything else `admin`. Every success has a body of JSON, since the Python client takes an answer without one
//! for an error; only a deletion that another client asked for is a 204.

mod customers;
mod meters;
mod openapi;
mod subscriptions;
mod usage;

use std::sync::Arc;

use axum::extract::{Extension, FromRequestParts, State};
use axum::http::request;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::audit::changed;
use super::customers::unanswered;
use super::fields::{Received, bytes_within};
use super::openapi::OCTANE;
use super::refusals::blocking;
use super::usage::Queries;
use crate::accounts::Caller;
use crate::billing::Billing;
use crate::customers::{Customer, CustomerId, Customers, Error};
use crate::dialect::ApiError;
use crate::meters::Meters;
use crate::openapi::Routes;

/// Largest body.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Only the Python client sends it.
const PYTHON_CLIENT: &str = "x-octane-client-user-agent";

/// What the routes work with.
pub(super) struct Parts {
    /// The customers of all accounts.
    pub(super) customers: Arc<Customers>,
    /// What they are subscribed to.
    pub(super) billing: Arc<Billing>,
    /// Definitions of meters.
    pub(super) meters: Arc<Meters>,
    /// The way to the rows.
    pub(super) queries: Queries,
}

type Shared = State<Arc<Parts>>;
type By = Extension<Caller>;
/// The customer or the meter that a path is about.
type Name = Segment<2>;
/// What is below it.
type Below = Segment<4>;
type Answer = Result<Response, ApiError>;

/// All of them, below no prefix.
pub(super) fn routes(parts: Parts) -> Routes {
    Routes::of(OCTANE)
        .merge(customers::routes())
        .merge(subscriptions::routes())
        .merge(usage::routes())
        .merge(meters::routes())
        .body_max(BODY_BYTES_MAX)
        .with_state(Arc::new(parts))
}

fn read(body: Received) -> Result<axum::body::Bytes, ApiError> {
    bytes_within(body, BODY_BYTES_MAX)
}

/// Does what may block.
async fn work<T, W>(parts: Arc<Parts>, work: W) -> Result<T, ApiError>
where
    T: Send + 'static,
    W: FnOnce(&Parts) -> Result<T, ApiError> + Send + 'static,
{
    blocking("a request in Octane's words", move || work(&parts)).await?
}

/// A segment of a path, counted from 1: what it may name, best first.
struct Segment<const AT: usize>(Vec<String>);

impl<S: Sync, const AT: usize> FromRequestParts<S> for Segment<AT> {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.uri.path().split('/').nth(AT).map(names).unwrap_or_default()))
    }
}

/// What a segment may name. As it stands goes first. The Python client writes a space as `+` and a `+` as `%2B`; who has a `+` decoded before it
/// comes here may mean a space by any. What does not decode to UTF-8 names nothing.
fn names(segment: &str) -> Vec<String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
    let as_it_stands = decoded(segment);
    let mut names: Vec<_> = as_it_stands.clone().into_iter().collect();
    if as_it_stands.as_ref().is_some_and(|text| text.contains('+')) {
        names.extend(decoded(&segment.replace('+', " ")));
        names.extend(as_it_stands.map(|text| text.replace('+', " ")));
    }
    names
}

/// The customer that a path is about.
fn find(parts: &Parts, account: u32, name: &Name) -> Result<Customer, ApiError> {
    for name in &name.0 {
        // What cannot be a name is nobody's.
        let Ok(id) = CustomerId::parse(name) else { continue };
        match parts.customers.get(account, &id) {
            Ok(customer) => return Ok(customer),
            Err(Error::Unknown) => {}
            Err(error) => return Err(refusal(error)),
        }
    }
    Err(refusal(Error::Unknown))
}

/// The one place where an error of the customers gets its status here.
fn refusal(error: Error) -> ApiError {
    match error {
        Error::Exists => about("name", ApiError::duplicate("a customer with this name exists")),
        Error::Unknown => unknown("name", "customer not found"),
        Error::StepBack { .. } => ApiError::bad_request(error.to_string()),
        Error::Store(error) => unanswered(&error),
    }
}

fn about(field: &str, error: ApiError) -> ApiError {
    ApiError { field: Some(field.into()), ..error }
}

fn unknown(field: &str, message: impl Into<String>) -> ApiError {
    about(field, ApiError::not_found(StatusCode::NOT_FOUND, message))
}

fn json(body: &Value) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

/// The answer to a deletion.
fn deleted(headers: &HeaderMap, object: String) -> Response {
    let answer = if headers.contains_key(PYTHON_CLIENT) {
        json(&Value::Object(serde_json::Map::new()))
    } else {
        StatusCode::NO_CONTENT.into_response()
    };
    changed(object, answer)
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_segment_names_what_it_says_before_what_it_may_mean() {
        for (segment, expected) in [
            ("acme", vec!["acme"]),
            ("a%2Fb%20c", vec!["a/b c"]),
            ("a+b%2Bc", vec!["a+b+c", "a b+c", "a b c"]),
            ("%2B", vec!["+", "+", " "]),
            ("%252F", vec!["%2F"]),
            ("%ff", vec![]),
            ("", vec![""]),
        ] {
            assert_eq!(names(segment), expected, "{segment}");
        }
    }
}
