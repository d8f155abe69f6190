//! The description of errors in the words of each dialect: what [`crate::dialect::speak`] makes of them.

use crate::dialect::cloudevents;
use crate::dialect::routing::Dialect;
use crate::openapi::{ErrorForm, Schema};

/// How errors of a dialect look.
pub fn error_form(dialect: Dialect) -> ErrorForm {
    const JSON: &str = "application/json";
    match dialect {
        Dialect::Amberflo => ErrorForm::OWN,
        Dialect::Octane => ErrorForm { prefix: "Octane", content_type: JSON, schema: octane },
        Dialect::Stigg => ErrorForm { prefix: "Stigg", content_type: JSON, schema: stigg },
        Dialect::CloudEvents => ErrorForm { prefix: "OpenMeter", content_type: cloudevents::error::CONTENT_TYPE, schema: problem },
    }
}

fn message() -> Schema {
    Schema::text().about("For people.")
}

/// The status, as it is in the head.
fn status() -> Schema {
    Schema::integer_in(400..=599).about("The HTTP status.")
}

/// One form in which each of the two clients finds its own.
fn octane() -> Schema {
    const KINDS: [&str; 4] = ["invalid_request_error", "authentication_error", "rate_limit_error", "api_error"];
    const CODES: [&str; 12] = [
        "invalid",
        "already_exists",
        "not_found",
        "unauthorized",
        "forbidden",
        "rate_limit",
        "method_not_allowed",
        "payload_too_large",
        "unsupported_media_type",
        "conflict",
        "unavailable",
        "internal_error",
    ];
    let error = Schema::object()
        .has("type", Schema::words(&KINDS))
        .has("code", Schema::words(&CODES).about("For programs."))
        .has("message", message())
        .may_have("param", Schema::text().about("The field that is wrong, with its path: `contact_info.email`."));
    Schema::object()
        .has("code", status())
        .has("status", Schema::text().about("The name of the HTTP status.").example("Not Found"))
        .has("message", message())
        .has("errors", Schema::object().and_nothing_else().about("Always empty."))
        .has("error", error)
        .named("OctaneError")
}

/// Everything twice: as the documents have it, and as the clients read it.
fn stigg() -> Schema {
    const CODES: [&str; 12] = [
        "VALIDATION_ERROR",
        "UNAUTHENTICATED",
        "FORBIDDEN",
        "CUSTOMER_NOT_FOUND",
        "SUBSCRIPTION_NOT_FOUND",
        "NOT_FOUND",
        "DUPLICATED_ENTITY_NOT_ALLOWED",
        "PAYLOAD_TOO_LARGE",
        "UNSUPPORTED_MEDIA_TYPE",
        "RATE_LIMITED",
        "INTERNAL_ERROR",
        "UNAVAILABLE",
    ];
    let code = || Schema::text().about("For programs.").with("examples", serde_json::json!(CODES));
    Schema::object()
        .has("message", message())
        .has("code", code())
        .has("error", Schema::object().has("code", code()).has("message", message()))
        .named("StiggError")
}

/// RFC 9457.
fn problem() -> Schema {
    Schema::object()
        .has("type", Schema::words(&["about:blank"]))
        .has("title", Schema::text().about("The name of the HTTP status.").example("Bad Request"))
        .has("status", status())
        .has("detail", message())
        .has("instance", Schema::text().with("pattern", "^urn:request:").about("Tells this answer from others."))
        .named("Problem")
}
