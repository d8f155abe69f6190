//! Stigg's events and reports of usage into drafts of events (contract `stigg.md` section 4).

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::{UnixMicros, UnixMillis};
use crate::dialect::draft::{Scratch, first_time, members, number, once, required, scalar, string, timestamp, wrong_type};
use crate::event::parse::{Members, Value};
use crate::event::{Amount, Code, Draft, Measurement, MeterEvent, Rejection, TimeWindow};

/// The dimension that a resource becomes.
pub(super) const RESOURCE: &str = "resourceId";
/// The dimension of an event that is its amount.
const VALUE: &str = "value";

/// What is wrong with a body around its events.
#[derive(Debug)]
pub enum EnvelopeError {
    /// It is no JSON object.
    Json(serde_json::Error),
    /// The field `events`, to be read after its name.
    Events(&'static str),
}

#[derive(Deserialize)]
struct Envelope<'b> {
    #[serde(borrow)]
    events: Option<&'b RawValue>,
}

/// The array of events in the body of a request.
///
/// # Errors
/// [`EnvelopeError`].
pub fn in_envelope(body: &[u8]) -> Result<&[u8], EnvelopeError> {
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(EnvelopeError::Json)?;
    let events = envelope.events.map(RawValue::get).filter(|events| events.starts_with('['));
    let events = events.ok_or(EnvelopeError::Events("is missing, or is no array"))?;
    if events.trim_start_matches('[').trim_start().starts_with(']') {
        return Err(EnvelopeError::Events("is empty: send 1 to 1000"));
    }
    Ok(events.as_bytes())
}

#[derive(Default)]
struct Fields<'t> {
    customer: Option<&'t str>,
    meter: Option<&'t str>,
    value: Option<Amount>,
    time: Option<UnixMicros>,
    key: Option<&'t str>,
    resource: Option<&'t str>,
    has_dimensions: bool,
    has_behavior: bool,
}

/// Reads one event: it counts as 1, or as its numeric dimension `value` says.
///
/// # Errors
/// [`Rejection`] names the field.
pub fn read_event<'t, 's>(
    sent: Members<'t>,
    scratch: &'s mut Scratch<'t>,
    received: UnixMillis,
    window: TimeWindow,
) -> Result<MeterEvent<'t, 's>, Rejection> {
    scratch.clear();
    let mut fields = Fields::default();
    for (name, value) in sent {
        match name {
            _ if matches!(value, Value::Null) => {}
            "eventName" => once(name, &mut fields.meter, string(name, &value)?)?,
            "timestamp" => once(name, &mut fields.time, timestamp(name, &value)?)?,
            "dimensions" => {
                first_time(name, &mut fields.has_dimensions)?;
                for (key, value) in members(name, value)? {
                    match (key, &value) {
                        (VALUE, Value::Number(_)) => once("dimensions.value", &mut fields.value, number("dimensions.value", &value)?)?,
                        _ => push_dimension(key, &value, scratch)?,
                    }
                }
            }
            _ => read_common(name, &value, &mut fields)?,
        }
    }
    required("idempotencyKey", fields.key)?;
    let meter = required("eventName", fields.meter)?;
    scratch.measurements.push(Measurement { meter, value: fields.value.unwrap_or(Amount::ONE) });
    finish(&fields, scratch, received, window)
}

/// Reads one report of usage. Without a key of its own nothing can be deduplicated.
///
/// # Errors
/// [`Rejection`] names the field.
pub fn read_usage<'t, 's>(
    sent: Members<'t>,
    scratch: &'s mut Scratch<'t>,
    received: UnixMillis,
    window: TimeWindow,
) -> Result<MeterEvent<'t, 's>, Rejection> {
    scratch.clear();
    let mut fields = Fields::default();
    for (name, value) in sent {
        match name {
            _ if matches!(value, Value::Null) => {}
            "featureId" => once(name, &mut fields.meter, string(name, &value)?)?,
            "value" => {
                let amount = number(name, &value)?;
                amount.to_int().ok_or_else(|| wrong_type(name, "must be a whole number"))?;
                once(name, &mut fields.value, amount)?;
            }
            "createdAt" => once(name, &mut fields.time, timestamp(name, &value)?)?,
            "updateBehavior" => {
                first_time(name, &mut fields.has_behavior)?;
                check_behavior(name, &value)?;
            }
            "dimensions" => {
                first_time(name, &mut fields.has_dimensions)?;
                for (key, value) in members(name, value)? {
                    push_dimension(key, &value, scratch)?;
                }
            }
            _ => read_common(name, &value, &mut fields)?,
        }
    }
    let (meter, value) = (required("featureId", fields.meter)?, required("value", fields.value)?);
    scratch.measurements.push(Measurement { meter, value });
    finish(&fields, scratch, received, window)
}

fn read_common<'t>(name: &str, value: &Value<'t>, fields: &mut Fields<'t>) -> Result<(), Rejection> {
    match name {
        "customerId" => once(name, &mut fields.customer, string(name, value)?),
        "idempotencyKey" => once(name, &mut fields.key, string(name, value)?),
        RESOURCE => once(name, &mut fields.resource, string(name, value)?),
        _ => Ok(()),
    }
}

fn check_behavior(name: &str, value: &Value<'_>) -> Result<(), Rejection> {
    match string(name, value)? {
        known if known.eq_ignore_ascii_case("DELTA") => Ok(()),
        known if known.eq_ignore_ascii_case("SET") => {
            Err(Rejection::new(Code::WrongValue, name, "must not be SET: a total cannot be set, only added to"))
        }
        _ => Err(Rejection::new(Code::WrongValue, name, "must be DELTA")),
    }
}

fn push_dimension<'t>(key: &'t str, value: &Value<'t>, scratch: &mut Scratch<'t>) -> Result<(), Rejection> {
    match (scalar(value), value) {
        (Some(text), _) => scratch.dimensions.push((key, text)),
        (None, Value::Null) => {}
        (None, _) => return Err(wrong_type(&format!("dimensions.{key}"), "must be a string, a number, true or false")),
    }
    Ok(())
}

fn finish<'t, 's>(
    fields: &Fields<'t>,
    scratch: &'s mut Scratch<'t>,
    received: UnixMillis,
    window: TimeWindow,
) -> Result<MeterEvent<'t, 's>, Rejection> {
    if let Some(resource) = fields.resource {
        scratch.dimensions.push((RESOURCE, resource));
    }
    let draft = Draft {
        namespace: "",
        unique_id: scratch.generated.sent_or_made(fields.key)?,
        unique_id_generated: fields.key.is_none(),
        customer_id: required("customerId", fields.customer)?,
        time: fields.time,
        measurements: &mut scratch.measurements,
        dimensions: &mut scratch.dimensions,
    };
    MeterEvent::check(draft, received, window)
}
