//! Octane's measurements into drafts of events, and their echo (contract `octane.md` section 2).

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::clock::{UnixMicros, UnixMillis, rfc3339};
use crate::customers::mappings::Matcher;
use crate::dialect::draft::{Scratch, first_time, number, once, read_dimensions, required, string, timestamp, wrong_type};
use crate::event::parse::{Members, Value};
use crate::event::{Amount, Code, Draft, HashKey, Mapping, Measurement, MeterEvent, Rejection, Said, TimeWindow};

/// By the name of an event, the meters that count it, sorted; only where that is not the one meter of this name.
pub type EventMeters = HashMap<Box<str>, Arc<[Box<str>]>>;

/// What is defined in an account.
#[derive(Clone, Copy)]
pub struct Defined<'d> {
    /// By the name of an event, the meters that count it.
    pub meters: &'d EventMeters,
    /// To whom a measurement belongs that names no customer.
    pub mappings: &'d Matcher,
}

/// The field that mappings stand in for.
pub const CUSTOMER: &str = "customer_name";
const MEASUREMENT: &[u8] = b"measurement\0";
const EVENT: &[u8] = b"event\0";

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
/// two of the same moment would be one. `given` becomes what its echo need not add.
///
/// # Errors
/// [`Rejection`] names the field.
pub fn read_measurement<'t, 's>(
    sent: Members<'t>,
    (key, defined): (&HashKey, Option<Defined<'t>>),
    given: &mut Given,
    scratch: &'s mut Scratch<'t>,
    received: UnixMillis,
    window: TimeWindow,
) -> Result<MeterEvent<'t, 's>, Rejection> {
    scratch.clear();
    let mut fields = Fields::default();
    *given = Given::default();
    for (name, value) in sent {
        given.note(name, &value);
        read_member(name, value, &mut fields, scratch)?;
    }
    let customer = match fields.customer {
        Some(customer) => customer,
        None => mapped_customer(defined, &scratch.dimensions)?,
    };
    let meter = fields.meter.or(fields.event);
    let meter = meter.ok_or_else(|| Rejection::new(Code::MissingField, "meter_name", "is missing, and so is event_name"))?;
    let value = required("value", fields.value)?;
    scratch.measurements.push(Measurement { meter, value });
    let made = match (fields.id, fields.time) {
        (None, Some(time)) => {
            scratch.dimensions.sort_unstable();
            // By what was sent: what is defined may be something else when it comes again.
            let kind = if fields.meter.is_some() { MEASUREMENT } else { EVENT };
            Some(measurement_hash(key, kind, [meter, fields.customer.unwrap_or_default()], time, &scratch.dimensions))
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
    let event = MeterEvent::check(draft, received, window)?;
    let meters = defined.filter(|_| fields.meter.is_none()).and_then(|defined| defined.meters.get(meter));
    if meters.is_none() && fields.customer.is_some() {
        return Ok(event);
    }
    scratch.mapped.clear();
    scratch.mapped.measurements.extend(meters.into_iter().flat_map(|meters| meters.iter()).map(|meter| Measurement { meter, value }));
    let said = Said { customer_id: fields.customer.unwrap_or_default(), ..event.whole() };
    let measurements = if meters.is_some() { scratch.mapped.measurements.as_slice() } else { said.measurements };
    event.mapped(Mapping { said, measurements, dimensions: said.dimensions, own: &[], unreadable: 0 })
}

/// The customer whose mapping is met by the labels.
fn mapped_customer<'t>(defined: Option<Defined<'t>>, labels: &[(&str, &str)]) -> Result<&'t str, Rejection> {
    let Some(Defined { mappings, .. }) = defined.filter(|defined| !defined.mappings.is_empty()) else {
        return required(CUSTOMER, None);
    };
    let found = mappings.customer(labels).map(crate::customers::CustomerId::as_str);
    found.ok_or_else(|| Rejection::new(Code::MissingField, CUSTOMER, "is missing, and no customer's mapping is met by the labels"))
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
            read_dimensions(name, value, &mut scratch.dimensions)
        }
        "reset_total" => match value {
            Value::Bool(false) => Ok(()),
            Value::Bool(true) => Err(Rejection::new(Code::WrongValue, name, "must not be true: a total cannot be set, only added to")),
            _ => Err(wrong_type(name, "must be true or false")),
        },
        _ => Ok(()),
    }
}

/// What tells two measurements apart that have no id; of those that name a meter, and of those that do not. `labels` are sorted.
fn measurement_hash(key: &HashKey, kind: &[u8], names: [&str; 2], time: UnixMicros, labels: &[(&str, &str)]) -> u128 {
    let mut canonical = kind.to_vec();
    canonical.extend_from_slice(&time.0.to_le_bytes());
    for text in names.into_iter().chain(labels.iter().flat_map(|(key, value)| [*key, *value])) {
        canonical.extend_from_slice(&(text.len() as u64).to_le_bytes());
        canonical.extend_from_slice(text.as_bytes());
    }
    key.identity(&canonical).0
}

/// Which of the members that an echo adds a measurement came with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Given {
    has_id: bool,
    has_time: bool,
    has_null: bool,
}

impl Given {
    fn note(&mut self, name: &str, value: &Value<'_>) {
        let has_it = match name {
            "id" => &mut self.has_id,
            "time" => &mut self.has_time,
            _ => return,
        };
        *has_it = true;
        self.has_null |= matches!(value, Value::Null);
    }

    /// Whether its echo is what was sent.
    pub fn is_whole(self) -> bool {
        self.has_id && self.has_time && !self.has_null
    }
}

/// Appends a measurement that was taken as it was sent, with the id and the time that it has now where it came without.
pub fn write_echo(raw: &[u8], given: Given, id: &str, time: UnixMicros, to: &mut Vec<u8>) {
    if given.is_whole() {
        return to.extend_from_slice(raw);
    }
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
        insert("time", &rfc3339::micros(time));
    }
    to.push(b'}');
}

/// With `null` in place of one of them there would be two.
fn write_echo_slowly(raw: &[u8], id: &str, time: UnixMicros, to: &mut Vec<u8>) {
    let mut members: Map<String, Json> = serde_json::from_slice(raw).unwrap_or_default();
    for (name, text) in [("id", id.to_owned()), ("time", rfc3339::micros(time))] {
        if members.get(name).is_none_or(Json::is_null) {
            members.insert(name.into(), text.into());
        }
    }
    to.extend_from_slice(Json::Object(members).to_string().as_bytes());
}
