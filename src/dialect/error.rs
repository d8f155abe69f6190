//! What all routes refuse with. By itself it is written as Amberflo has it, `{"message", "code", "details"?}` (contract `amberflo.md` section 0);
//! [`speak`](super::speak) writes it as another dialect has it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use crate::accounts::{Denied, Exceeded};

/// An answer that is not 200.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status.
    pub status: StatusCode,
    /// For programs: a word of the contract.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// The path of the field that is wrong, e.g. `[3].meterTimeInMillis`.
    pub field: Option<String>,
    /// The same with what is wrong with it.
    pub details: Option<String>,
    /// Seconds to wait before the same request makes sense.
    pub retry_after_s: Option<u32>,
}

impl ApiError {
    /// Any status.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), field: None, details: None, retry_after_s: None }
    }

    /// 400: something is wrong with the request as a whole.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
    }

    /// 400: something is wrong with a field.
    pub fn bad_field(field: impl std::fmt::Display, reason: impl std::fmt::Display) -> Self {
        let details = format!("{field} {reason}");
        Self { field: Some(field.to_string()), details: Some(details.clone()), ..Self::bad_request(details) }
    }

    /// 400: the id is taken.
    pub fn duplicate(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "DUPLICATE", message)
    }

    /// 404, or the 400 that the contract wants for a PUT.
    pub fn not_found(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "NOT_FOUND", message)
    }

    /// 401: no key, or one that nobody knows.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "the API key is missing or unknown: send it in the header X-API-KEY")
    }

    /// 401 or 403: why a key is of no use.
    pub fn denied(denied: Denied) -> Self {
        match denied {
            Denied::Unknown => Self::unauthorized(),
            Denied::Disabled => Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", denied.to_string()),
        }
    }

    /// 429 with `Retry-After`: the key's allowance is used up.
    pub fn too_many_requests(exceeded: &Exceeded) -> Self {
        let error =
            Self::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", format!("{exceeded}; nothing was stored, send the same later"));
        Self { retry_after_s: Some(exceeded.retry_after_s), ..error }
    }

    /// 403: the key is known and may not do this.
    pub fn forbidden(scope: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", format!("the API key has not the scope {scope}"))
    }

    /// 500: our fault; the cause is in the log.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", "an internal error; it was logged")
    }

    /// 503 with `Retry-After`.
    pub fn unavailable(message: impl Into<String>, retry_after_s: u32) -> Self {
        Self { retry_after_s: Some(retry_after_s), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message) }
    }

    /// The answer as it goes out.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut body = serde_json::Map::new();
        body.insert("message".into(), self.message.into());
        body.insert("code".into(), self.code.into());
        if let Some(details) = self.details {
            body.insert("details".into(), details.into());
        }
        let mut response = Response::new(Full::new(Bytes::from(serde_json::Value::Object(body).to_string())));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl axum::response::IntoResponse for ApiError {
    /// The error goes along, for [the words of another dialect](crate::dialect::speak).
    fn into_response(self) -> axum::response::Response {
        let mut response = Self::into_response(self.clone()).map(axum::body::Body::new);
        response.extensions_mut().insert(self);
        response
    }
}
