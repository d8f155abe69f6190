//! CloudEvents into drafts of events (contract `cloudevents.md` sections 1 and 2).

use hyper::header::HeaderMap;
use serde_json::{Map, Value as Json};

use super::plan::{Outcome, Plan, Plans};
use super::{SOURCE_DIMENSION, TYPE_DIMENSION, is_ours};
use crate::clock::{UnixMicros, UnixMillis};
use crate::dialect::draft::{MappedScratch, Scratch, first_time, members, number, once, required, scalar, string, timestamp};
use crate::event::identity::write_amount;
use crate::event::parse::{Members, Value};
use crate::event::{Amount, Code, Draft, Mapping, Measurement, MeterEvent, Rejection, Said, TimeWindow};

/// The member of the data that is the amount.
const VALUE: &str = "value";
/// With what the headers of binary mode begin.
const HEADER_PREFIX: &str = "ce-";

#[derive(Default)]
struct Attributes<'t> {
    id: Option<&'t str>,
    source: Option<&'t str>,
    kind: Option<&'t str>,
    subject: Option<&'t str>,
    time: Option<UnixMicros>,
    data: Option<Members<'t>>,
    has_data: bool,
    has_version: bool,
    has_content_type: bool,
}

/// Reads one event. What meters are defined for its type make measurements of it; without any, its type is the one that it is about.
///
/// # Errors
/// [`Rejection`] names the attribute.
pub fn read_cloud_event<'t, 's>(
    sent: Members<'t>,
    plans: Option<&'t Plans>,
    scratch: &'s mut Scratch<'t>,
    received: UnixMillis,
    window: TimeWindow,
) -> Result<MeterEvent<'t, 's>, Rejection> {
    scratch.clear();
    let mut attributes = Attributes::default();
    for (name, value) in sent {
        read_attribute(name, value, &mut attributes, scratch)?;
    }
    let source = required("source", attributes.source)?;
    let meter = required("type", attributes.kind)?;
    let plan = plans.and_then(|plans| plans.get(meter)).map(|plan| &**plan);
    scratch.mapped.clear();
    if let Some(plan) = plan {
        plan.paths.clear(&mut scratch.mapped.found);
    }
    let value = attributes.data.take().map_or(Ok(None), |data| read_data(data, plan, scratch))?;
    let value = value.unwrap_or(Amount::ONE);
    scratch.measurements.push(Measurement { meter, value });
    scratch.dimensions.retain(|(key, _)| !is_ours(key));
    scratch.dimensions.push((SOURCE_DIMENSION, source));
    let draft = Draft {
        namespace: source,
        unique_id: required("id", attributes.id)?,
        unique_id_generated: false,
        customer_id: required("subject", attributes.subject)?,
        time: attributes.time,
        measurements: &mut scratch.measurements,
        dimensions: &mut scratch.dimensions,
    };
    let event = MeterEvent::check(draft, received, window)?;
    match plan {
        None if scratch.mapped.nested.is_empty() => Ok(event),
        plan => map(event, plan, value, &mut scratch.mapped),
    }
}

/// An event of which meters, or members that are nested, make more than it is by itself.
fn map<'t, 's>(
    event: MeterEvent<'t, 's>,
    plan: Option<&'t Plan>,
    value: Amount,
    scratch: &'s mut MappedScratch<'t>,
) -> Result<MeterEvent<'t, 's>, Rejection> {
    // The order of members says nothing.
    scratch.nested.sort_by_key(|(name, _)| *name);
    for (name, value) in &scratch.nested {
        write_canonical(Value::String(name), &mut scratch.further);
        write_canonical(value.clone(), &mut scratch.further);
    }
    let mut unreadable = 0;
    if let Some(plan) = plan {
        scratch.dimensions.extend(event.dimensions().iter().filter(|(key, _)| !plan.is_amount(key)));
        let at = scratch.dimensions.partition_point(|(key, _)| *key < TYPE_DIMENSION);
        scratch.dimensions.insert(at, (TYPE_DIMENSION, event.measurements()[0].meter));
        let mut outcome = Outcome { measurements: &mut scratch.measurements, own: &mut scratch.own, unreadable };
        plan.apply(&scratch.found, value, &scratch.dimensions, &mut outcome);
        unreadable = outcome.unreadable;
    }
    let MappedScratch { measurements, dimensions, own, further, .. } = scratch;
    let said = Said { further, ..event.whole() };
    let is_planned = plan.is_some();
    event.mapped(Mapping {
        said,
        measurements: if is_planned { measurements } else { said.measurements },
        dimensions: if is_planned { dimensions } else { said.dimensions },
        own,
        unreadable,
    })
}

/// Appends a value in one form: what says the same is written the same.
fn write_canonical(value: Value<'_>, to: &mut Vec<u8>) {
    let mut text = |kind: u8, bytes: &[u8]| {
        to.push(kind);
        to.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        to.extend_from_slice(bytes);
    };
    match value {
        Value::Null => to.push(b'n'),
        Value::Bool(is) => to.push(if is { b't' } else { b'f' }),
        Value::String(string) => text(b's', string.as_bytes()),
        Value::Number(digits) => match Amount::parse(digits) {
            Ok(amount) => {
                to.push(b'd');
                write_amount(amount, to);
            }
            Err(_) => text(b'x', digits),
        },
        Value::Array(items) => {
            to.push(b'[');
            items.for_each(|item| write_canonical(item, to));
            to.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.collect();
            members.sort_by_key(|(name, _)| *name);
            to.push(b'{');
            for (name, value) in members {
                write_canonical(Value::String(name), to);
                write_canonical(value, to);
            }
            to.push(b'}');
        }
    }
}

fn read_attribute<'t>(
    name: &'t str,
    value: Value<'t>,
    attributes: &mut Attributes<'t>,
    scratch: &mut Scratch<'t>,
) -> Result<(), Rejection> {
    if matches!(value, Value::Null) {
        return Ok(());
    }
    match name {
        "id" => once(name, &mut attributes.id, string(name, &value)?),
        "source" => once(name, &mut attributes.source, string(name, &value)?),
        "type" => once(name, &mut attributes.kind, string(name, &value)?),
        "subject" => once(name, &mut attributes.subject, string(name, &value)?),
        "time" => once(name, &mut attributes.time, timestamp(name, &value)?),
        "specversion" => {
            first_time(name, &mut attributes.has_version)?;
            if string(name, &value)? == "1.0" { Ok(()) } else { Err(Rejection::new(Code::WrongValue, name, "must be 1.0")) }
        }
        "datacontenttype" => {
            first_time(name, &mut attributes.has_content_type)?;
            let essence = string(name, &value)?.split(';').next().unwrap_or_default().trim();
            let is_json = essence.eq_ignore_ascii_case("application/json");
            if is_json { Ok(()) } else { Err(Rejection::new(Code::WrongValue, name, "must be application/json")) }
        }
        "dataschema" => Ok(()),
        "data" => {
            first_time(name, &mut attributes.has_data)?;
            attributes.data = Some(members(name, value)?);
            Ok(())
        }
        "data_base64" => Err(Rejection::new(Code::WrongValue, name, "must not be given: data must be a JSON object")),
        extension => {
            scratch.dimensions.extend(scalar(&value).map(|text| (extension, text)));
            Ok(())
        }
    }
}

/// The scalar members of the data are dimensions, and come before an extension attribute of the same name; its numeric `value` is the
/// amount.
fn read_data<'t>(data: Members<'t>, plan: Option<&Plan>, scratch: &mut Scratch<'t>) -> Result<Option<Amount>, Rejection> {
    let mut amount = None;
    let extensions = scratch.dimensions.len();
    if let Some(plan) = plan {
        plan.paths.see_root(&data, &mut scratch.mapped.found);
    }
    for (name, value) in data {
        if let Some(plan) = plan {
            plan.paths.see(name, &value, &mut scratch.mapped.found)?;
        }
        match (name, &value) {
            (VALUE, Value::Number(_) | Value::String(_)) if let Some(digits) = numeric(&value) => {
                once("data.value", &mut amount, number("data.value", &Value::Number(digits))?)?;
            }
            (_, Value::Array(_) | Value::Object(_)) => scratch.mapped.nested.push((name, value)),
            _ => scratch.dimensions.extend(scalar(&value).map(|text| (name, text))),
        }
    }
    if extensions > 0 && scratch.dimensions.len() > extensions {
        let members = scratch.dimensions.split_off(extensions);
        scratch.dimensions.retain(|(name, _)| members.iter().all(|(member, _)| member != name));
        scratch.dimensions.extend(members);
    }
    Ok(amount)
}

/// The digits of a number, or of a text that is one.
fn numeric<'t>(value: &Value<'t>) -> Option<&'t [u8]> {
    match value {
        Value::Number(digits) => Some(digits),
        Value::String(text) => Amount::parse(text.as_bytes()).is_ok().then_some(text.as_bytes()),
        _ => None,
    }
}

/// Whether a request brings an event in binary mode: its attributes in headers, its data in the body.
pub fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

/// An event in binary mode as the same event in structured mode, in which it is kept if it is not taken.
///
/// # Errors
/// The header or the part of the body that cannot be read.
pub fn structured(headers: &HeaderMap, data: &[u8]) -> Result<Vec<u8>, String> {
    let mut event = Map::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix(HEADER_PREFIX) else { continue };
        let value = decoded(value.as_bytes()).ok_or_else(|| format!("the header {name} is not UTF-8, percent-encoded"))?;
        if event.insert(attribute.to_owned(), Json::String(value)).is_some() {
            return Err(format!("the header {name} is given twice"));
        }
    }
    let mut text = serde_json::to_vec(&event).map_err(|error| error.to_string())?;
    if !data.trim_ascii().is_empty() {
        serde_json::from_slice::<&serde_json::value::RawValue>(data).map_err(|error| format!("the data is not valid JSON: {error}"))?;
        text.pop();
        if !event.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(b"\"data\":");
        text.extend_from_slice(data.trim_ascii());
        text.push(b'}');
    }
    Ok(text)
}

/// Percent escapes undone; what is no escape stays.
fn decoded(value: &[u8]) -> Option<String> {
    percent_encoding::percent_decode(value).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}
