//! Octane's error body, in which each of its two clients finds its own (contract `octane.md` section 0), and how a change of a customer
//! fails that only Octane makes.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::customers;
use crate::dialect::ApiError;

/// Why a customer's mappings or properties were not changed. Nothing happened, except after [`customers::Error::Store`].
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It would have more of something than it may have.
    #[error("the customer would have more than {max} {what}, the limit")]
    TooMany {
        /// Of what, for people.
        what: &'static str,
        /// How many it may have.
        max: usize,
    },
    /// There is no mapping of this label.
    #[error("the customer has no mapping of this label")]
    UnknownMapping,
    /// As any change of a customer.
    #[error(transparent)]
    Customer(#[from] customers::Error),
}

/// The body of an error.
pub fn body(error: &ApiError) -> Value {
    let (kind, code) = kind(error);
    let mut inner = json!({"type": kind, "code": code, "message": error.message});
    if let (Some(field), Some(members)) = (&error.field, inner.as_object_mut()) {
        members.insert("param".into(), field.as_str().into());
    }
    json!({
        "code": error.status.as_u16(), "status": error.status.canonical_reason().unwrap_or("Error"), "message": error.message,
        "errors": {}, "error": inner,
    })
}

fn kind(error: &ApiError) -> (&'static str, &'static str) {
    match (error.status, error.code) {
        (StatusCode::UNAUTHORIZED, _) => ("authentication_error", "unauthorized"),
        (StatusCode::FORBIDDEN, _) => ("authentication_error", "forbidden"),
        (StatusCode::NOT_FOUND, _) => ("invalid_request_error", "not_found"),
        (StatusCode::TOO_MANY_REQUESTS, _) => ("rate_limit_error", "rate_limit"),
        (_, "DUPLICATE") => ("invalid_request_error", "already_exists"),
        (StatusCode::METHOD_NOT_ALLOWED, _) => ("invalid_request_error", "method_not_allowed"),
        (StatusCode::PAYLOAD_TOO_LARGE, _) => ("invalid_request_error", "payload_too_large"),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, _) => ("invalid_request_error", "unsupported_media_type"),
        (StatusCode::SERVICE_UNAVAILABLE, _) => ("api_error", "unavailable"),
        (status, _) if status.is_server_error() => ("api_error", "internal_error"),
        (StatusCode::CONFLICT, _) => ("api_error", "conflict"),
        _ => ("invalid_request_error", "invalid"),
    }
}
