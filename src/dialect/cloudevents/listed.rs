//! Events of the log as CloudEvents (contract `cloudevents.md` section 3): whoever sent them, in whatever dialect.
//!
//! The log keeps what counts, not the text that was sent. So the data is put together again: dimensions are its members, as texts; what meters
//! have read stands where their definitions of today say; the number of an event that no definition is for is the member `value`, and the
//! numbers of one with several meters are under `values`. Extension attributes stand in the data, too.

use std::collections::HashMap;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::json_path::{JsonPath, Step};
use super::meters::{Aggregation, groups, value_path};
use super::{ERROR_DIMENSION, SOURCE_DIMENSION, TYPE_DIMENSION, VALUE_DIMENSION};
use crate::clock::{UnixMillis, rfc3339};
use crate::meters::Meter;

/// The source of events of the dialects that have none.
pub const SOURCE: &str = "tollgate";

/// Where meters read what they count, by their names.
#[derive(Debug, Default)]
pub struct Places(HashMap<String, Place>);

#[derive(Debug)]
struct Place {
    value: Option<JsonPath>,
    groups: Vec<(String, JsonPath)>,
}

impl Places {
    /// Of these definitions.
    pub fn of(meters: &[Meter]) -> Self {
        let path = |text: &str| JsonPath::parse(text).ok();
        let place = |meter: &Meter| {
            let is_counted = Aggregation::of(meter) == Aggregation::Count;
            let groups = groups(meter).into_iter().filter_map(|(name, text)| Some((name, path(text.as_str()?)?)));
            Place { value: value_path(meter).filter(|_| !is_counted).and_then(path), groups: groups.collect() }
        };
        Self(meters.iter().map(|meter| (meter.name.clone(), place(meter))).collect())
    }
}

/// An event of the log as it is listed. `record`: what it says, as JSON; [`None`]: that cannot be read.
pub fn render(record: &RawValue, received: UnixMillis, places: &Places) -> Option<Value> {
    let Value::Object(mut record) = serde_json::from_str(record.get()).ok()? else { return None };
    let mut dimensions = take_object(&mut record, "dimensions");
    let own = take_object(&mut record, "meterDimensions");
    let values = measurements(&mut record);
    let kind = dimensions.remove(TYPE_DIMENSION);
    let is_defined = kind.is_some();
    let source = [dimensions.remove(SOURCE_DIMENSION), record.remove("namespace")].into_iter().flatten().next();
    let mut data = dimensions;
    let mut errors = Vec::new();
    for (meter, value) in &values {
        let own = own.get(meter).and_then(Value::as_object);
        match own.and_then(|own| own.get(ERROR_DIMENSION)).and_then(Value::as_str) {
            Some(code) => errors.push(format!("meter {meter}: {}", reason(code))),
            None if is_defined => put_value(&mut data, places.0.get(meter), own, value),
            None => {}
        }
        if let Some(own) = own {
            put_groups(&mut data, places.0.get(meter), own);
        }
    }
    let first = values.first().map(|(meter, _)| Value::from(meter.as_str()));
    match values.as_slice() {
        _ if is_defined => {}
        [(_, value)] => drop(data.insert("value".into(), value.clone())),
        _ => drop(data.insert("values".into(), values.iter().cloned().collect::<Map<_, _>>().into())),
    }
    let subject = record.remove("customerId").unwrap_or_default();
    let time = record.get("meterTimeInMillis").and_then(Value::as_i64).unwrap_or_default();
    let received = rfc3339::shortest(received.micros());
    let mut listed = json!({
        "event": {
            "specversion": "1.0", "id": record.remove("uniqueId"), "source": source.unwrap_or_else(|| SOURCE.into()),
            "type": kind.or(first), "subject": subject, "time": rfc3339::shortest(UnixMillis(time).micros()),
            "datacontenttype": "application/json", "data": data,
        },
        "customerId": subject, "ingestedAt": received, "storedAt": received,
    });
    if !errors.is_empty() {
        listed["validationError"] = errors.join("; ").into();
    }
    Some(listed)
}

fn take_object(record: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match record.remove(name) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

/// Meters and their numbers.
fn measurements(record: &mut Map<String, Value>) -> Vec<(String, Value)> {
    match (record.remove("meterApiName"), record.remove("meterValue")) {
        (Some(Value::String(meter)), Some(value)) => vec![(meter, value)],
        _ => take_object(record, "values").into_iter().collect(),
    }
}

/// Why a meter could not read a value.
fn reason(code: &str) -> &str {
    match code {
        "missing" => "its valueProperty is not in the data",
        "null" => "its valueProperty is null",
        "not_numeric" => "its valueProperty is no number, and no text that is one",
        "out_of_range" => "its valueProperty is a number that is too large",
        "too_long" => "its valueProperty is a text that is too long to be counted",
        "not_scalar" => "its valueProperty is an object or an array",
        other => other,
    }
}

fn put_value(data: &mut Map<String, Value>, place: Option<&Place>, own: Option<&Map<String, Value>>, value: &Value) {
    let Some(path) = place.and_then(|place| place.value.as_ref()) else { return };
    let counted = own.and_then(|own| own.get(VALUE_DIMENSION));
    put(data, path.steps(), counted.unwrap_or(value));
}

fn put_groups(data: &mut Map<String, Value>, place: Option<&Place>, own: &Map<String, Value>) {
    for (name, path) in place.iter().flat_map(|place| &place.groups) {
        // An empty one need not have been there.
        if let Some(text) = own.get(name).filter(|text| text.as_str() != Some("")) {
            put(data, path.steps(), text);
        }
    }
}

/// Puts a value at the end of a path of names, unless something is in the way.
fn put(data: &mut Map<String, Value>, steps: &[Step], value: &Value) {
    let names = steps.iter().map(|step| match step {
        Step::Name(name) => Some(&**name),
        Step::Index(_) => None,
    });
    let Some(names) = names.collect::<Option<Vec<&str>>>() else { return };
    let Some((last, outer)) = names.split_last() else { return };
    let inner = outer.iter().try_fold(data, |object, name| object.entry(*name).or_insert_with(|| Map::new().into()).as_object_mut());
    if let Some(inner) = inner {
        inner.entry(*last).or_insert_with(|| value.clone());
    }
}

#[cfg(test)]
mod tests;
