//! Stigg's error body: as its documents show it and as its client reads it (contract `stigg.md` section 0).

use serde_json::{Value, json};

use crate::dialect::ApiError;

/// Answered with every 409: its client tries that status again, and would get the same.
pub const SHOULD_RETRY: &str = "x-should-retry";

/// The body of an error. A code of the dialect's own stays what it is.
pub fn body(error: &ApiError) -> Value {
    let code = match error.code {
        "BAD_REQUEST" => "VALIDATION_ERROR",
        "UNAUTHORIZED" => "UNAUTHENTICATED",
        code => code,
    };
    json!({"message": error.message, "code": code, "error": {"code": code, "message": error.message}})
}
