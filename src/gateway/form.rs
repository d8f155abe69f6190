//! In which form a body brings its events: how it is written, and what its members mean (contract `amberflo.md` section 2).

use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::{Deserialize, Serialize};

use super::IngestError;
use crate::dialect::amberflo::ingest::custom::{self, Name};
use crate::event::Rejection;

/// A form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Form {
    /// How it is written.
    pub syntax: Syntax,
    /// Whose words its members are.
    pub shape: Shape,
}

/// What the members of an event mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Amberflo's meter event.
    #[default]
    Amberflo,
    /// Amberflo's custom event, whose members are mapped to those of a meter event.
    Custom,
    /// Octane's measurement.
    Octane,
    /// Stigg's event.
    StiggEvent,
    /// Stigg's report of usage.
    StiggUsage,
    /// A CloudEvent.
    CloudEvent,
}

impl Shape {
    /// Whether an event may leave open what definitions say: which meters count it, or whose it is.
    pub(super) fn leaves_open(self) -> bool {
        matches!(self, Self::Octane | Self::CloudEvent)
    }

    /// Whether a mapping may say whose an event is that names no customer.
    pub(super) fn is_mapped(self) -> bool {
        matches!(self, Self::Octane)
    }

    /// What a dialect calls the fields of an event: uniqueId, customerId, meterApiName, meterTimeInMillis, meterValue, dimensions.
    const fn names(self) -> [&'static str; 6] {
        match self {
            Self::Amberflo | Self::Custom => FIELDS,
            Self::Octane => ["id", "customer_name", "meter_name", "time", "value", "labels"],
            Self::StiggEvent => ["idempotencyKey", "customerId", "eventName", "timestamp", "dimensions.value", "dimensions"],
            Self::StiggUsage => ["idempotencyKey", "customerId", "featureId", "createdAt", "value", "dimensions"],
            Self::CloudEvent => ["id", "subject", "type", "time", "data.value", "data"],
        }
    }

    /// A rejection that names the field as its sender does.
    pub fn in_its_words(self, mut rejection: Rejection) -> Rejection {
        if matches!(self, Self::Amberflo | Self::Custom) {
            return rejection;
        }
        let name = rejection.field.split('.').next().unwrap_or_default();
        if let Some(at) = FIELDS.iter().position(|field| *field == name) {
            let rest = rejection.field[name.len()..].to_owned();
            rejection.field = format!("{}{rest}", self.names()[at]);
        }
        rejection
    }

    /// Which name of an event stands under a key.
    pub fn name_under(self, key: &str) -> Option<Name> {
        if self == Self::Custom {
            return custom::name_under(key);
        }
        let [unique_id, customer, meter, ..] = self.names();
        match key {
            _ if key == unique_id => Some(Name::UniqueId),
            _ if key == customer => Some(Name::Customer),
            _ if key == meter || (self == Self::Octane && key == "event_name") => Some(Name::Meter),
            _ => None,
        }
    }

    /// As it stands in dead letters.
    pub fn label(self) -> &'static str {
        match self {
            Self::Amberflo => "amberflo",
            Self::Custom => "custom",
            Self::Octane => "octane",
            Self::StiggEvent => "stigg_event",
            Self::StiggUsage => "stigg_usage",
            Self::CloudEvent => "cloud_event",
        }
    }
}

/// As the model's checks call them.
const FIELDS: [&str; 6] = ["uniqueId", "customerId", "meterApiName", "meterTimeInMillis", "meterValue", "dimensions"];

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Syntax {
    /// One event, or an array of them; or several, one a line.
    #[default]
    Json,
    /// An event a line.
    Ndjson,
    /// A header row, and an event a row.
    Csv,
}

impl Syntax {
    /// As it stands in answers and in dead letters.
    pub fn label(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }
}

/// The form that one event was sent in: with it, its bytes can be read again by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sent {
    /// How it is written.
    #[serde(default)]
    pub syntax: Syntax,
    /// Whose words its members are.
    #[serde(default)]
    pub shape: Shape,
    /// The header row that its row belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
}

impl Sent {
    /// Whether it is an event of the contract, written as a JSON value: what every letter was before there were other forms.
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// The form of a body that brings one event.
    pub fn form(&self) -> Form {
        Form { syntax: self.syntax, shape: self.shape }
    }

    /// A body that brings an event, of which these are the bytes, as it was brought.
    pub fn body(&self, event: &[u8]) -> Vec<u8> {
        match self.syntax {
            // An element of an array, as it was: what is no object is rejected, and never taken apart further.
            Syntax::Json => [b"[".as_slice(), event, b"]"].concat(),
            Syntax::Ndjson => event.to_vec(),
            Syntax::Csv => [self.header.as_deref().unwrap_or_default().as_bytes(), b"\n", event].concat(),
        }
    }
}

impl Form {
    /// The form that the head of a request announces. A `schemaDetection` of `AUTO` and any `ingestSchemaId` mean the same: there is
    /// one mapping, the table of the contract, which has no way to make another.
    pub(super) fn of(headers: &HeaderMap, query: Option<&str>) -> Result<Self, IngestError> {
        let mut form = Self { syntax: syntax(headers)?, shape: Shape::Amberflo };
        let Some(query) = query else { return Ok(form) };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let wrong =
                |reason| Err(IngestError::Parameter(if name == "schemaDetection" { "schemaDetection" } else { "ingestSchemaId" }, reason));
            match name {
                "schemaDetection" if !value.eq_ignore_ascii_case("AUTO") => return wrong("must be AUTO"),
                "ingestSchemaId" if value.is_empty() => return wrong("must not be empty"),
                "schemaDetection" | "ingestSchemaId" => form.shape = Shape::Custom,
                _ => {}
            }
        }
        Ok(form)
    }
}

/// Whatever is announced as something else is read as JSON: so do clients that say nothing, or say what their library says by itself.
fn syntax(headers: &HeaderMap) -> Result<Syntax, IngestError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Syntax::Json) };
    // As nearly all say it.
    if value == "application/json" {
        return Ok(Syntax::Json);
    }
    let text = value.to_str().unwrap_or("?");
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let is = |known: &str| essence.trim().eq_ignore_ascii_case(known);
    if ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"].into_iter().any(is) {
        return Ok(Syntax::Ndjson);
    }
    if !is("text/csv") {
        return Ok(Syntax::Json);
    }
    for parameter in parameters.split(';') {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let (name, value) = (name.trim(), value.trim().trim_matches('"'));
        let is_utf_8 = ["utf-8", "us-ascii"].into_iter().any(|known| value.eq_ignore_ascii_case(known));
        let has_none = name.eq_ignore_ascii_case("header") && value.eq_ignore_ascii_case("absent");
        if has_none || (name.eq_ignore_ascii_case("charset") && !is_utf_8) {
            return Err(IngestError::MediaType(text.chars().take(100).collect()));
        }
    }
    Ok(Syntax::Csv)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn of(content_type: Option<&str>, query: Option<&str>) -> Result<Form, String> {
        let mut headers = HeaderMap::new();
        if let Some(value) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(value).expect("a value"));
        }
        Form::of(&headers, query).map_err(|error| error.to_string())
    }

    #[test]
    fn the_head_says_how_a_body_is_written() {
        for (content_type, syntax) in [
            (None, Syntax::Json),
            (Some("application/json"), Syntax::Json),
            (Some("application/x-www-form-urlencoded"), Syntax::Json),
            (Some("text/csvx"), Syntax::Json),
            (Some("Application/X-NDJSON; charset=utf-8"), Syntax::Ndjson),
            (Some("application/jsonl"), Syntax::Ndjson),
            (Some("text/csv"), Syntax::Csv),
            (Some("TEXT/CSV ; header=present; charset=\"UTF-8\""), Syntax::Csv),
        ] {
            assert_eq!(of(content_type, None), Ok(Form { syntax, shape: Shape::Amberflo }), "{content_type:?}");
        }
        for refused in ["text/csv; header=absent", "text/csv;charset=latin1"] {
            assert!(of(Some(refused), None).is_err(), "{refused}");
        }
    }

    #[test]
    fn the_query_says_whether_events_are_custom_ones() {
        for (query, is_custom) in [
            ("", false),
            ("x=1&schema=AUTO", false),
            ("schemaDetection=AUTO", true),
            ("schemaDetection=auto&x", true),
            ("ingestSchemaId=s-1", true),
            ("ingestSchemaId=s-1&schemaDetection=AUTO", true),
        ] {
            assert_eq!(of(None, Some(query)).map(|form| form.shape == Shape::Custom), Ok(is_custom), "{query}");
        }
        for (query, reason) in [
            ("schemaDetection=NONE", "schemaDetection must be AUTO"),
            ("schemaDetection", "schemaDetection must be AUTO"),
            ("schemaDetection=AUTO&ingestSchemaId=", "ingestSchemaId must not be empty"),
        ] {
            assert_eq!(of(None, Some(query)), Err(reason.into()), "{query}");
        }
    }
}
