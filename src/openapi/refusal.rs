//! Refusals: those that every route has in common, and the form in which a family of routes words them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Schema;

/// How the errors of a family of routes look. Descriptions of routes say which refusals there are; in which form they come is said once for
/// all routes of a family, see [`Routes::under`](super::Routes::under).
#[derive(Debug, Clone, Copy)]
pub struct ErrorForm {
    /// In front of the names of the responses that all routes of the family share. Empty for [`Self::OWN`]; each other form has its own.
    pub prefix: &'static str,
    /// The content type of every error.
    pub content_type: &'static str,
    /// What every error is: a named schema.
    pub schema: fn() -> Schema,
}

impl ErrorForm {
    /// Our own and Amberflo's.
    pub const OWN: Self = Self { prefix: "", content_type: "application/json", schema: error_schema };

    fn content(&self) -> Value {
        let (schema, _) = (self.schema)().into_parts();
        json!({self.content_type: {"schema": schema}})
    }

    /// The schemas that errors refer to.
    pub(super) fn schemas(&self) -> BTreeMap<&'static str, Value> {
        (self.schema)().into_parts().1
    }

    /// The responses that all routes of the family share, by their names.
    pub(super) fn common_responses(&self) -> Map<String, Value> {
        let mut responses = Map::new();
        for (status, name, about) in COMMON_REFUSALS.into_iter().chain([NOT_FOUND]) {
            let mut response = json!({"description": about, "content": self.content()});
            if [429, 503].contains(&status) {
                response["headers"]["Retry-After"] =
                    json!({"description": "Seconds.", "required": true, "schema": {"type": "integer", "minimum": 0}});
            }
            responses.insert(format!("{}{name}", self.prefix), response);
        }
        responses
    }
}

/// Why an operation answers no success, in no form yet.
#[derive(Debug, Clone)]
pub(super) enum Refusal {
    /// One of those that routes share, by its name.
    Common(&'static str),
    /// One that means something of its own.
    Own(String),
}

impl Refusal {
    pub(super) fn render(&self, form: &ErrorForm) -> Value {
        match self {
            Self::Common(name) => json!({"$ref": format!("#/components/responses/{}{name}", form.prefix)}),
            Self::Own(about) => json!({"description": about, "content": form.content()}),
        }
    }
}

/// What every error of ours and of Amberflo's is.
fn error_schema() -> Schema {
    const CODES: [&str; 13] = [
        "BAD_REQUEST",
        "DUPLICATE",
        "NOT_FOUND",
        "PAYMENT_PROVIDER_NOT_CONFIGURED",
        "UNAUTHORIZED",
        "FORBIDDEN",
        "REQUEST_TIMEOUT",
        "PAYLOAD_TOO_LARGE",
        "UNSUPPORTED_MEDIA_TYPE",
        "MISDIRECTED_REQUEST",
        "RATE_LIMITED",
        "INTERNAL_ERROR",
        "UNAVAILABLE",
    ];
    Schema::object()
        .has("message", Schema::text().about("For people."))
        .has("code", Schema::text().about("For programs.").with("examples", json!(CODES)))
        .may_have(
            "details",
            Schema::text().about("The field with its path, and what is wrong with it: `[3].meterTimeInMillis is missing`."),
        )
        .named("Error")
}

/// What whoever needs a key may be refused with: status, name, description.
pub(super) const COMMON_REFUSALS: [(u16, &str, &str); 10] = [
    (
        400,
        "BadRequest",
        "Something is wrong with the request: the answer names the field, the parameter or the header, if it is one. Nothing was stored.",
    ),
    (401, "Unauthorized", "The key is missing or unknown."),
    (403, "Forbidden", "The key has not the scope that this needs, or its account is disabled."),
    (408, "RequestTimeout", "The body did not arrive in time. Nothing was stored."),
    (413, "PayloadTooLarge", "The body has more bytes or entries than it can have here, as sent or inflated. Nothing was stored."),
    (415, "UnsupportedMediaType", "The content type or the content encoding is not one of those that are read. Nothing was stored."),
    (421, "MisdirectedRequest", "This node of a cluster does not answer this; ask one that has the role for it."),
    (429, "RateLimited", "The key's allowance is used up. Nothing was stored; send the same after `Retry-After`."),
    (500, "InternalError", "Our fault; the cause is in the server's log."),
    (503, "Unavailable", "It cannot be done now. What was sent may be stored or not: send the same again after `Retry-After`."),
];

const NOT_FOUND: (u16, &str, &str) = (404, "NotFound", "There is nothing with this id.");
