//! OpenMeter's error body: RFC 9457 (contract `cloudevents.md` section 1).

use serde_json::{Value, json};

use crate::dialect::ApiError;

/// The one content type, to the letter: its client compares the whole of it.
pub const CONTENT_TYPE: &str = "application/problem+json";

/// The body of an error.
pub fn body(error: &ApiError) -> Value {
    let title = error.status.canonical_reason().unwrap_or("Error");
    json!({
        "type": "about:blank", "title": title, "status": error.status.as_u16(), "detail": error.message,
        "instance": format!("urn:request:{}", request_id()),
    })
}

/// Tells one answer from another. Without random bytes they are all the same one: nobody looks anything up by it.
fn request_id() -> String {
    let mut random = [0; 8];
    let _fallback = getrandom::fill(&mut random);
    hex::encode(random)
}
