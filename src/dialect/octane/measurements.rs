//! Octane's measurements into drafts of events, and their echo (contract `octane.md` section 2).

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value as Json};

use crate::clock::{UnixMicros, UnixMillis};
use crate::dialect::draft::{Scratch, first_time, members, number, once, required, string, timestamp, wrong_type};
use crate::event::parse::{Members, Value};
use crate::event::{Amount, Code, Draft, HashKey, Measurement, MeterEvent, Rejection, TimeWindow};

#[derive(Default)]
struct Fields<'t> {
    value: Option<Amount>,
    meter: Option<&'t str>,
    event: Option<&'t str>,
    customer: Option<&'t str>,
    time: Option<UnixMicros>,
    id: Option<&'t str>,
    has_labels: bool,
}

/// Reads one measurement. One without an id is known by its meter, customer, time and labels, or by nothing if it has no time either:
/// two of the same moment would be one.
///
/// # Errors
/// [`Rejection`] names the field.
pub fn read_measurement<'t, 's>(
    sent: Members<'t>,
    key: &HashKey,
    scratch: &'s mut Scratch<'t>,
    received: UnixMillis,
    window: TimeWindow,
) -> Result<MeterEvent<'t, 's>, Rejection> {
    scratch.clear();
    let mut fields = Fields::default();
    for (name, value) in sent {
        read_member(name, value, &mut fields, scratch)?;
    }
    let customer = required("customer_name", fields.customer)?;
    let meter = fields.meter.or(fields.event);
    let meter = meter.ok_or_else(|| Rejection::new(Code::MissingField, "meter_name", "is missing, and so is event_name"))?;
    scratch.measurements.push(Measurement { meter, value: required("value", fields.value)? });
    let made = match (fields.id, fields.time) {
        (None, Some(time)) => {
            scratch.dimensions.sort_unstable();
            Some(measurement_hash(key, meter, customer, time, &scratch.dimensions))
        }
        _ => None,
    };
    let unique_id = match (fields.id, made) {
        (Some(id), _) => id,
        (None, Some(hash)) => scratch.generated.set(hash),
        (None, None) => scratch.generated.make()?,
    };
    let draft = Draft {
        namespace: "",
        unique_id,
        unique_id_generated: fields.id.is_none() && made.is_none(),
        customer_id: customer,
        time: fields.time,
        measurements: &mut scratch.measurements,
        dimensions: &mut scratch.dimensions,
    };
    MeterEvent::check(draft, received, window)
}

fn read_member<'t>(name: &'t str, value: Value<'t>, fields: &mut Fields<'t>, scratch: &mut Scratch<'t>) -> Result<(), Rejection> {
    if matches!(value, Value::Null) {
        return Ok(());
    }
    match name {
        "value" => once(name, &mut fields.value, number(name, &value)?),
        "meter_name" => once(name, &mut fields.meter, string(name, &value)?),
        "event_name" => once(name, &mut fields.event, string(name, &value)?),
        "customer_name" => once(name, &mut fields.customer, string(name, &value)?),
        "time" => once(name, &mut fields.time, timestamp(name, &value)?),
        "id" => once(name, &mut fields.id, string(name, &value)?),
        "labels" => {
            first_time(name, &mut fields.has_labels)?;
            for (key, value) in members(name, value)? {
                match value {
                    Value::Null => {}
                    Value::String(text) => scratch.dimensions.push((key, text)),
                    _ => return Err(wrong_type(&format!("labels.{key}"), "must be a string")),
                }
            }
            Ok(())
        }
        "reset_total" => match value {
            Value::Bool(false) => Ok(()),
            Value::Bool(true) => Err(Rejection::new(Code::WrongValue, name, "must not be true: a total cannot be set, only added to")),
            _ => Err(wrong_type(name, "must be true or false")),
        },
        _ => Ok(()),
    }
}

/// What tells two measurements apart that have no id. `labels` are sorted.
fn measurement_hash(key: &HashKey, meter: &str, customer: &str, time: UnixMicros, labels: &[(&str, &str)]) -> u128 {
    let mut canonical = b"measurement\0".to_vec();
    canonical.extend_from_slice(&time.0.to_le_bytes());
    for text in [meter, customer].into_iter().chain(labels.iter().flat_map(|(key, value)| [*key, *value])) {
        canonical.extend_from_slice(&(text.len() as u64).to_le_bytes());
        canonical.extend_from_slice(text.as_bytes());
    }
    key.identity(&canonical).0
}

/// Appends a measurement that was taken as it was sent, with the id and the time that it has now.
pub fn write_echo(raw: &[u8], id: &str, time: UnixMicros, to: &mut Vec<u8>) {
    let given = serde_json::Deserializer::from_slice(raw).deserialize_map(GivenVisitor).unwrap_or_default();
    if given.has_null {
        return write_echo_slowly(raw, id, time, to);
    }
    // Its last byte is the brace that ends it.
    to.extend_from_slice(raw.get(..raw.len().saturating_sub(1)).unwrap_or_default());
    let mut insert = |name: &str, text: &str| {
        to.extend_from_slice(format!(",\"{name}\":{}", Json::from(text)).as_bytes());
    };
    if !given.has_id {
        insert("id", id);
    }
    if !given.has_time {
        insert("time", &shown(time));
    }
    to.push(b'}');
}

/// With `null` in place of one of them there would be two.
fn write_echo_slowly(raw: &[u8], id: &str, time: UnixMicros, to: &mut Vec<u8>) {
    let mut members: Map<String, Json> = serde_json::from_slice(raw).unwrap_or_default();
    for (name, text) in [("id", id.to_owned()), ("time", shown(time))] {
        if members.get(name).is_none_or(Json::is_null) {
            members.insert(name.into(), text.into());
        }
    }
    to.extend_from_slice(Json::Object(members).to_string().as_bytes());
}

/// RFC 3339 in UTC, with microseconds.
fn shown(time: UnixMicros) -> String {
    jiff::Timestamp::from_microsecond(time.0).map_or_else(|_| time.millis().to_string(), |time| format!("{time:.6}"))
}

/// Which members a measurement came with.
#[derive(Default)]
struct Given {
    has_id: bool,
    has_time: bool,
    has_null: bool,
}

struct GivenVisitor;

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a measurement")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
        let mut given = Given::default();
        while let Some((key, value)) = map.next_entry::<std::borrow::Cow<'de, str>, &RawValue>()? {
            let slot = match &*key {
                "id" => &mut given.has_id,
                "time" => &mut given.has_time,
                _ => continue,
            };
            *slot = true;
            given.has_null |= value.get() == "null";
        }
        Ok(given)
    }
}
