//! One operation: parameters, bodies, answers and refusals.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::refusal::{COMMON_REFUSALS, Refusal};
use super::{ErrorForm, Schema};
use crate::accounts::Scope;

const JSON: &str = "application/json";

/// What one method of one path takes and answers.
#[derive(Debug, Clone)]
pub struct Operation {
    json: Map<String, Value>,
    schemas: BTreeMap<&'static str, Value>,
    /// The answer that what follows is about.
    last: u16,
    refusals: BTreeMap<u16, Refusal>,
    errors: ErrorForm,
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
        Self { json, schemas: BTreeMap::new(), last: 200, refusals: BTreeMap::new(), errors: ErrorForm::OWN }
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
    pub fn refuses(self, status: StatusCode, about: &str) -> Self {
        self.refusing(status.as_u16(), Refusal::Own(about.to_owned()))
    }

    /// From now on all refusals, also those said before, are in this form; without it in [our own](ErrorForm::OWN).
    #[must_use]
    pub fn with_errors(self, errors: ErrorForm) -> Self {
        Self { errors, ..self }
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
        self.last = status.as_u16();
        self.json["responses"][status.as_str()] = json!({"description": about});
        self
    }

    fn refers(self, status: u16, name: &'static str) -> Self {
        self.refusing(status, Refusal::Common(name))
    }

    fn refusing(mut self, status: u16, refusal: Refusal) -> Self {
        self.refusals.insert(status, refusal);
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

    pub(super) fn errors(&self) -> ErrorForm {
        self.errors
    }

    pub(super) fn render(&self, tag: &str) -> Value {
        let mut json = self.json.clone();
        json.insert("tags".into(), json!([tag]));
        let mut json = Value::from(json);
        for (status, refusal) in &self.refusals {
            json["responses"][status.to_string()] = refusal.render(&self.errors);
        }
        json
    }
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
