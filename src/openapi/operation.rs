//! One operation: parameters, bodies, answers, and the refusals that every route has in common.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::Schema;
use crate::accounts::Scope;

const JSON: &str = "application/json";

/// What one method of one path takes and answers.
#[derive(Debug, Clone)]
pub struct Operation {
    json: Map<String, Value>,
    schemas: BTreeMap<&'static str, Value>,
    /// The answer that what follows is about.
    last: u16,
}

impl Operation {
    /// `id`: for clients that are generated from the description; `summary`: a few words for people.
    pub fn new(id: &str, summary: &str) -> Self {
        let mut json = Map::new();
        json.insert("operationId".into(), id.into());
        json.insert("summary".into(), summary.into());
        json.insert("parameters".into(), json!([]));
        json.insert("responses".into(), json!({}));
        json.insert("security".into(), json!([]));
        Self { json, schemas: BTreeMap::new(), last: 200 }
    }

    /// What is to be known beyond the summary, in Markdown.
    #[must_use]
    pub fn about(mut self, text: &str) -> Self {
        self.json.insert("description".into(), text.into());
        self
    }

    /// Needs a key with a scope, and may be refused as whatever needs a key.
    #[must_use]
    pub fn needs(self, scope: Scope) -> Self {
        self.needs_any(&[scope])
    }

    /// Needs a key with one of a few scopes.
    #[must_use]
    pub fn needs_any(mut self, scopes: &[Scope]) -> Self {
        let security = scopes.iter().flat_map(|scope| [json!({"apiKey": [scope.label()]}), json!({"bearer": [scope.label()]})]);
        self.json.insert("security".into(), security.collect());
        COMMON_REFUSALS.iter().fold(self, |operation, (status, name, _)| operation.refers(*status, name))
    }

    /// A parameter in the path.
    #[must_use]
    pub fn path(self, name: &str, schema: Schema) -> Self {
        self.parameter("path", name, schema, true)
    }

    /// A parameter in the query.
    #[must_use]
    pub fn query(self, name: &str, schema: Schema) -> Self {
        self.parameter("query", name, schema, false)
    }

    /// A parameter in the query that must be there.
    #[must_use]
    pub fn required_query(self, name: &str, schema: Schema) -> Self {
        self.parameter("query", name, schema, true)
    }

    /// A header of the request.
    #[must_use]
    pub fn header(self, name: &str, schema: Schema) -> Self {
        self.parameter("header", name, schema, false)
    }

    fn parameter(mut self, place: &str, name: &str, schema: Schema, required: bool) -> Self {
        let mut schema = self.adopt(schema);
        let mut parameter = json!({"name": name, "in": place, "required": required});
        if let Some(description) = schema.as_object_mut().and_then(|schema| schema.remove("description")) {
            parameter["description"] = description;
        }
        parameter["schema"] = schema;
        self.push_parameter(parameter);
        self
    }

    fn push_parameter(&mut self, parameter: Value) {
        if let Some(Value::Array(parameters)) = self.json.get_mut("parameters") {
            parameters.push(parameter);
        }
    }

    /// A JSON body, with an example.
    #[must_use]
    pub fn body(self, schema: Schema, example: Value) -> Self {
        self.form(JSON, schema, example)
    }

    /// A JSON body that need not be there.
    #[must_use]
    pub fn optional_body(self, schema: Schema, example: Value) -> Self {
        let mut operation = self.form(JSON, schema, example);
        operation.json["requestBody"]["required"] = false.into();
        operation
    }

    /// A body of some content type, beside others.
    #[must_use]
    pub fn form(mut self, content_type: &str, schema: Schema, example: Value) -> Self {
        let schema = self.adopt(schema);
        if !self.json.contains_key("requestBody") {
            self.json.insert("requestBody".into(), json!({"required": true, "content": {}}));
            self.push_parameter(json!({"$ref": "#/components/parameters/ContentEncoding"}));
        }
        self.json["requestBody"]["content"][content_type] = json!({"schema": schema, "example": example});
        self
    }

    /// Says how large the body may be, if there is one.
    #[must_use]
    pub fn body_max(mut self, bytes: usize) -> Self {
        if let Some(body) = self.json.get_mut("requestBody") {
            body["description"] = format!("At most {bytes} bytes.").into();
        }
        self
    }

    /// 200 with JSON.
    #[must_use]
    pub fn answers(self, about: &str, schema: Schema) -> Self {
        self.answers_with(StatusCode::OK, about, JSON, schema)
    }

    /// Any status with any content, beside others.
    #[must_use]
    pub fn answers_with(mut self, status: StatusCode, about: &str, content_type: &str, schema: Schema) -> Self {
        let schema = self.adopt(schema);
        self.last = status.as_u16();
        let response = self.response();
        response["description"] = about.into();
        response["content"][content_type] = json!({"schema": schema});
        self
    }

    /// An example of the last answer, of the content type given first.
    #[must_use]
    pub fn example(mut self, example: Value) -> Self {
        if let Some(Value::Object(content)) = self.response().get_mut("content")
            && let Some(content) = content.values_mut().next()
        {
            content["example"] = example;
        }
        self
    }

    /// A header of the last answer; it need not be there.
    #[must_use]
    pub fn with_header(mut self, name: &str, about: &str, schema: Schema) -> Self {
        let schema = self.adopt(schema);
        self.response()["headers"][name] = json!({"description": about, "schema": schema});
        self
    }

    /// A header that the last answer always has.
    #[must_use]
    pub fn always_with_header(self, name: &str, about: &str, schema: Schema) -> Self {
        let mut operation = self.with_header(name, about, schema);
        operation.response()["headers"][name]["required"] = true.into();
        operation
    }

    /// A refusal that only some routes have, or that means something of its own here.
    #[must_use]
    pub fn refuses(mut self, status: StatusCode, about: &str) -> Self {
        let (schema, named) = error_schema().into_parts();
        self.schemas.extend(named);
        self.json["responses"][status.as_str()] = json!({"description": about, "content": {JSON: {"schema": schema}}});
        self
    }

    /// 404 of what is looked up by the path.
    #[must_use]
    pub fn may_be_unknown(self) -> Self {
        self.refers(404, "NotFound")
    }

    /// 503 of what needs no key: nobody takes answers, or the node starts.
    #[must_use]
    pub fn may_be_unavailable(self) -> Self {
        self.refers(503, "Unavailable")
    }

    /// 421 of what needs no key, and only some nodes have.
    #[must_use]
    pub fn may_be_elsewhere(self) -> Self {
        self.refers(421, "MisdirectedRequest")
    }

    /// An answer without content.
    #[must_use]
    pub fn answers_empty(mut self, status: StatusCode, about: &str) -> Self {
        self.json["responses"][status.as_str()] = json!({"description": about});
        self
    }

    fn refers(mut self, status: u16, name: &str) -> Self {
        self.json["responses"][status.to_string()] = json!({"$ref": format!("#/components/responses/{name}")});
        self
    }

    fn response(&mut self) -> &mut Value {
        &mut self.json["responses"][self.last.to_string()]
    }

    fn adopt(&mut self, schema: Schema) -> Value {
        let (json, named) = schema.into_parts();
        self.schemas.extend(named);
        json
    }

    pub(super) fn schemas(&self) -> BTreeMap<&'static str, Value> {
        self.schemas.clone()
    }

    pub(super) fn render(&self, tag: &str) -> Value {
        let mut json = self.json.clone();
        json.insert("tags".into(), json!([tag]));
        json.into()
    }
}

/// What every error is.
pub fn error_schema() -> Schema {
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
const COMMON_REFUSALS: [(u16, &str, &str); 10] = [
    (400, "BadRequest", "Something is wrong with the request: `details` names the field, the parameter or the header. Nothing was stored."),
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

pub(super) fn common_responses() -> Value {
    let mut responses = Map::new();
    let (schema, _) = error_schema().into_parts();
    for (status, name, about) in COMMON_REFUSALS.into_iter().chain([NOT_FOUND]) {
        let mut response = json!({"description": about, "content": {JSON: {"schema": schema}}});
        if [429, 503].contains(&status) {
            response["headers"]["Retry-After"] =
                json!({"description": "Seconds.", "required": true, "schema": {"type": "integer", "minimum": 0}});
        }
        responses.insert(name.into(), response);
    }
    responses.into()
}

pub(super) fn common_parameters() -> Value {
    json!({"ContentEncoding": {
        "name": "Content-Encoding",
        "in": "header",
        "description": "How the body is compressed. An empty one is as good as none.",
        "schema": {"type": "string", "enum": ["gzip", "deflate", "zstd", "identity", ""], "default": "identity"},
    }})
}

pub(super) fn security_schemes() -> Value {
    json!({
        "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-KEY", "description": "An API key. Where there is one, `Authorization` is not looked at."},
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key as a bearer token."},
    })
}
