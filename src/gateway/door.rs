//! The doors: where the events of each dialect come in, what a body brings there, and how it is answered. Behind them all events are the same.

use super::form::{Form, Shape, Syntax};
use super::{Arity, IngestError, REJECTED_HEADER, Taken, receipt};
use crate::clock::UnixMicros;
use crate::dialect::cloudevents::events::{is_binary, structured};
use crate::dialect::octane::measurements;
use crate::dialect::routing::{Dialect, Routed, of_body};
use crate::dialect::stigg::events::{self as stigg, EnvelopeError};
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

/// Events of one of Stigg's requests (contract `stigg.md` section 4).
const STIGG_EVENTS_MAX: usize = 1_000;

/// A door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `POST /ingest` (contract `amberflo.md` section 2).
    Amberflo,
    /// `POST /measurements`: one (contract `octane.md` section 2).
    Measurement,
    /// `POST /measurements/multi`: all of an array, or nothing.
    Measurements,
    /// Stigg's `POST /api/v1/events` (contract `stigg.md` section 4).
    StiggEvents,
    /// OpenMeter's `POST /api/v1/events` (contract `cloudevents.md` section 1).
    CloudEvents,
    /// The last two, where the body says which.
    StiggOrCloudEvents,
}

impl Door {
    /// The door at a path, whatever the method.
    pub fn at(routed: &Routed) -> Option<Self> {
        match (routed.dialect, routed.path.as_str()) {
            (Some(Dialect::Amberflo), "/ingest") => Some(Self::Amberflo),
            (Some(Dialect::Octane), "/measurements") => Some(Self::Measurement),
            (Some(Dialect::Octane), "/measurements/multi") => Some(Self::Measurements),
            (Some(Dialect::Stigg), "/api/v1/events") => Some(Self::StiggEvents),
            (Some(Dialect::CloudEvents), "/api/v1/events") => Some(Self::CloudEvents),
            (None, _) => Some(Self::StiggOrCloudEvents),
            _ => None,
        }
    }

    /// Whether a request of this method is for the door, and not for a route at the same path.
    pub fn takes(self, method: &Method) -> bool {
        self != Self::CloudEvents || !matches!(*method, Method::GET | Method::HEAD)
    }

    /// In whose words it answers; until the body says whose it is, in Stigg's.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::Amberflo => Dialect::Amberflo,
            Self::Measurement | Self::Measurements => Dialect::Octane,
            Self::StiggEvents | Self::StiggOrCloudEvents => Dialect::Stigg,
            Self::CloudEvents => Dialect::CloudEvents,
        }
    }

    /// As it stands in metrics.
    pub fn route(self) -> &'static str {
        match self {
            Self::Amberflo => "/ingest",
            Self::Measurement => "/octane/measurements",
            Self::Measurements => "/octane/measurements/multi",
            Self::StiggEvents | Self::StiggOrCloudEvents => "/stigg/api/v1/events",
            Self::CloudEvents => "/openmeter/api/v1/events",
        }
    }

    /// The door that a body is for.
    pub(super) fn of_body(self, body: &[u8]) -> Self {
        match self {
            Self::StiggOrCloudEvents if of_body(body) == Dialect::CloudEvents => Self::CloudEvents,
            Self::StiggOrCloudEvents => Self::StiggEvents,
            door => door,
        }
    }

    /// Whether it takes all of a body, or nothing.
    pub(super) fn is_strict(self) -> bool {
        matches!(self, Self::Measurement | Self::Measurements)
    }

    /// What its answer is made of beside what became of the events.
    pub(super) fn echoes(self) -> bool {
        matches!(self, Self::Measurement | Self::Measurements)
    }

    /// Under which name the list of events stands in a body; empty: it is the body.
    pub(super) fn list(self) -> &'static str {
        if self.dialect() == Dialect::Stigg { "events" } else { "" }
    }

    /// In what form events come, and how many.
    pub(super) fn form(self, headers: &HeaderMap, query: Option<&str>) -> Result<(Form, Arity), IngestError> {
        let json = |shape| Form { syntax: Syntax::Json, shape };
        Ok(match self {
            Self::Amberflo => (Form::of(headers, query)?, Arity::Any),
            Self::Measurement => (json(Shape::Octane), Arity::One),
            Self::Measurements => (json(Shape::Octane), Arity::Many),
            Self::StiggEvents | Self::StiggOrCloudEvents => (json(Shape::StiggEvent), Arity::Many),
            Self::CloudEvents => (json(Shape::CloudEvent), cloud_arity(headers)?),
        })
    }

    /// The events of a body, as one JSON text.
    pub(super) fn events(self, headers: &HeaderMap, body: Bytes) -> Result<Bytes, IngestError> {
        match self {
            Self::StiggEvents | Self::StiggOrCloudEvents => in_envelope(&body),
            Self::CloudEvents if is_binary(headers) => structured(headers, &body).map(Bytes::from).map_err(IngestError::Malformed),
            _ => Ok(body),
        }
    }

    /// How many events it takes, of so many that any may.
    pub(super) fn events_max(self, any: usize) -> usize {
        if self.dialect() == Dialect::Stigg { any.min(STIGG_EVENTS_MAX) } else { any }
    }

    /// The answer to a request whose events are durable. `events`: of [`Self::events`].
    pub(super) fn answer(self, events: &Bytes, taken: &Taken, wants_receipt: bool) -> super::Answer {
        let mut answer = match self {
            Self::Amberflo if wants_receipt => receipt::receipt(taken),
            Self::Amberflo => super::text(match taken.taken.len() {
                // Most of those requests that come in numbers bring one.
                1 => Bytes::from_static(b"1 records were ingested"),
                count => format!("{count} records were ingested").into(),
            }),
            Self::Measurement | Self::Measurements => json(self.echo(events, taken)),
            Self::StiggEvents | Self::StiggOrCloudEvents => json(b"{\"data\":{}}".to_vec()),
            Self::CloudEvents => {
                let mut answer = super::Answer::default();
                *answer.status_mut() = StatusCode::NO_CONTENT;
                answer
            }
        };
        if !taken.rejected.is_empty() {
            answer.headers_mut().insert(REJECTED_HEADER, HeaderValue::from(taken.rejected.len()));
        }
        answer
    }

    fn echo(self, events: &Bytes, taken: &Taken) -> Vec<u8> {
        let mut body = Vec::with_capacity(events.len() + 80 * taken.taken.len());
        let is_list = self == Self::Measurements;
        if is_list {
            body.push(b'[');
        }
        // Not asked for where all came with both.
        let mut named = taken.named.iter();
        for (at, (place, given)) in taken.places.iter().zip(&taken.given).enumerate() {
            if at > 0 {
                body.push(b',');
            }
            let (id, time) = named.next().map_or(("", UnixMicros::default()), |named| (named.unique_id.as_str(), named.time));
            measurements::write_echo(events.get(place.clone()).unwrap_or_default(), *given, id, time, &mut body);
        }
        if is_list {
            body.push(b']');
        }
        body
    }
}

fn json(body: Vec<u8>) -> super::Answer {
    let mut answer = super::Answer::new(body.into());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// By the media type: the one of a single event, the one of a batch, or JSON, which may be either.
fn cloud_arity(headers: &HeaderMap) -> Result<Arity, IngestError> {
    let content_type = headers.get(CONTENT_TYPE).map_or(Some(""), |value| value.to_str().ok()).unwrap_or("?");
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is = |known: &str| essence.eq_ignore_ascii_case(known);
    if is_binary(headers) {
        return if essence.is_empty() || is("application/json") { Ok(Arity::One) } else { Err(unknown_type(content_type)) };
    }
    if is("application/cloudevents+json") {
        Ok(Arity::One)
    } else if is("application/cloudevents-batch+json") {
        Ok(Arity::Many)
    } else if is("application/json") {
        Ok(Arity::Any)
    } else {
        Err(unknown_type(content_type))
    }
}

/// OpenMeter answers 400, and not 415.
fn unknown_type(content_type: &str) -> IngestError {
    let shown: String = content_type.chars().take(100).collect();
    IngestError::Malformed(format!(
        "the content type `{shown}` is not supported here: send application/cloudevents+json, application/cloudevents-batch+json or application/json"
    ))
}

/// The array in Stigg's envelope.
fn in_envelope(body: &Bytes) -> Result<Bytes, IngestError> {
    let events = stigg::in_envelope(body).map_err(|error| match error {
        EnvelopeError::Json(error) => IngestError::Malformed(format!("the body cannot be read: {error}")),
        EnvelopeError::Events(reason) => IngestError::Parameter("events", reason),
    })?;
    Ok(body.slice_ref(events))
}
