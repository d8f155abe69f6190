//! Bodies and parameters of Tollgate's own routes: read field by field, so that an error names the field. Unlike the contract's
//! dialects they refuse what they do not know: a misspelled limit would be no limit.

use axum::body::Bytes;
use axum::extract::Query;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use hyper::StatusCode;
use serde_json::{Map, Value};

use crate::dialect::ApiError;
use crate::log::Position;

/// Entries of a page, unless it says otherwise, and at most.
pub(super) const LIMIT: usize = 100;
pub(super) const LIMIT_MAX: usize = 1_000;

/// A query as it comes.
pub(super) type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;
/// A body as it comes.
pub(super) type Received = Result<Bytes, BytesRejection>;

/// The parameters of a query, in their order.
pub(super) fn pairs(query: Parameters) -> Result<Vec<(String, String)>, ApiError> {
    query.map(|Query(pairs)| pairs).map_err(|_| ApiError::bad_request("the query cannot be read"))
}

/// The bytes of a body; `too_large` says what is wrong with one that has more than the route takes.
pub(super) fn bytes(body: Received, too_large: impl FnOnce() -> String) -> Result<Bytes, ApiError> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", too_large()),
        _ => ApiError::bad_request("the body cannot be read"),
    })
}

/// The bytes of a body that has no more than the route takes.
pub(super) fn bytes_within(body: Received, bytes_max: usize) -> Result<Bytes, ApiError> {
    bytes(body, || format!("the body has more than {bytes_max} bytes, the limit"))
}

/// The fields of a JSON object.
pub(super) struct Fields {
    fields: Map<String, Value>,
    /// Where the object stands, with a dot at its end; empty for the body itself.
    place: String,
}

impl Fields {
    /// Reads a body; one without any byte has no fields.
    pub(super) fn of_body(body: Received, known: &[&str]) -> Result<Self, ApiError> {
        let body = bytes(body, || "the body is larger than it can be here".into())?;
        if body.is_empty() {
            return Self::of(Map::new().into(), String::new(), known);
        }
        let value = serde_json::from_slice(&body).map_err(|_| ApiError::bad_request("the body is not valid JSON"))?;
        Self::of(value, String::new(), known)
    }

    fn of(value: Value, place: String, known: &[&str]) -> Result<Self, ApiError> {
        let Value::Object(fields) = value else {
            return Err(match place.strip_suffix('.') {
                Some(name) => ApiError::bad_field(name, "must be an object"),
                None => ApiError::bad_request("the body must be a JSON object"),
            });
        };
        match fields.keys().find(|name| !known.contains(&name.as_str())) {
            // What it is called was chosen outside.
            Some(name) => Err(unknown(&format!("{place}{name}"), "field", known)),
            None => Ok(Self { fields, place }),
        }
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name).filter(|value| !value.is_null())
    }

    /// The name with the place, for errors.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(ApiError::bad_field(self.path(name), "must be a text")),
        }
    }

    pub(super) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, ApiError> {
        let wrong = || ApiError::bad_field(self.path(name), "must be an array of texts");
        let items = match self.fields.get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Array(items)) => items,
            Some(_) => return Err(wrong()),
        };
        items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn number(&mut self, name: &str, max: u32) -> Result<Option<u32>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| (1..=max).contains(number));
        number.map(Some).ok_or_else(|| ApiError::bad_field(self.path(name), format!("must be a whole number between 1 and {max}")))
    }

    pub(super) fn object(&mut self, name: &str, known: &[&str]) -> Result<Option<Self>, ApiError> {
        let place = format!("{}.", self.path(name));
        self.take(name).map(|value| Self::of(value, place, known)).transpose()
    }
}

/// The parameters of a query, all of them known.
pub(super) struct OwnQuery(Vec<(String, String)>);

impl OwnQuery {
    pub(super) fn of(query: Parameters, known: &[&str]) -> Result<Self, ApiError> {
        let pairs = pairs(query)?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(unknown(name, "parameter", known));
            }
            if pairs[..at].iter().any(|(before, _)| before == name) {
                return Err(ApiError::bad_field(name, "is given more than once"));
            }
        }
        Ok(Self(pairs))
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Entries of the page.
    pub(super) fn limit(&self) -> Result<usize, ApiError> {
        self.text("limit").map_or(Ok(LIMIT), limit)
    }
}

/// Entries of a page, from the parameter `limit`.
pub(super) fn limit(text: &str) -> Result<usize, ApiError> {
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| ApiError::bad_field("limit", format!("must be between 1 and {LIMIT_MAX}")))
}

/// Where a page ends, from the parameter `before`.
pub(super) fn before(text: &str) -> Result<Position, ApiError> {
    text.parse().map(Position).map_err(|_| ApiError::bad_field("before", "must be a position"))
}

fn unknown(name: &str, what: &str, known: &[&str]) -> ApiError {
    const SHOWN_CHARS_MAX: usize = 64;
    let name: String = name.chars().take(SHOWN_CHARS_MAX).collect();
    if known.is_empty() {
        return ApiError::bad_field(name, format!("is no {what} here; there are none"));
    }
    ApiError::bad_field(name, format!("is no {what} here; there are: {}", known.join(", ")))
}
