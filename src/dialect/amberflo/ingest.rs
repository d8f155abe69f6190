//! Amberflo's meter events: JSON members, or the fields of a row, into a draft (contract `amberflo.md` section 2). Custom events are
//! in [`custom`].

pub mod custom;

use crate::clock::{UnixMicros, UnixMillis};
use crate::dialect::draft::{Scratch, first_time, members, number, once, read_dimensions, required, string, wrong_type};
use crate::event::parse::{Members, Value};
use crate::event::{Amount, Code, Draft, MEASUREMENTS_MAX, Measurement, MeterEvent, Rejection, TimeWindow};

/// What the members of one event say.
#[derive(Default)]
struct Fields<'t> {
    unique_id: Option<&'t str>,
    customer_id: Option<&'t str>,
    meter: Option<&'t str>,
    value: Option<Amount>,
    time: Option<UnixMicros>,
    has_values: bool,
    has_dimensions: bool,
}

/// Reads one event. A uniqueId that was not sent is made: nothing can be deduplicated then.
///
/// # Errors
/// [`Rejection`] names the field.
pub fn read_event<'t, 's>(
    members: Members<'t>,
    scratch: &'s mut Scratch<'t>,
    received: UnixMillis,
    window: TimeWindow,
) -> Result<MeterEvent<'t, 's>, Rejection> {
    scratch.clear();
    let mut fields = Fields::default();
    for (key, value) in members {
        read_member(key, value, &mut fields, scratch)?;
    }
    finish(&fields, scratch, received, window)
}

/// Reads one row of a table: the columns of the contract, and a dimension for each other column. An empty field is an absent one.
///
/// # Errors
/// [`Rejection`] names the column.
pub fn read_row<'t, 's>(
    columns: &[&'t str],
    row: &[&'t str],
    scratch: &'s mut Scratch<'t>,
    received: UnixMillis,
    window: TimeWindow,
) -> Result<MeterEvent<'t, 's>, Rejection> {
    scratch.clear();
    let mut fields = Fields::default();
    for (&column, &field) in columns.iter().zip(row).filter(|(_, field)| !field.is_empty()) {
        match column {
            "meterValue" | "meterTimeInMillis" => read_member(column, Value::Number(field.as_bytes()), &mut fields, scratch)?,
            "uniqueId" | "customerId" | "meterApiName" => read_member(column, Value::String(field), &mut fields, scratch)?,
            dimension => scratch.dimensions.push((dimension, field)),
        }
    }
    finish(&fields, scratch, received, window)
}

/// A column of a table that can have no events: objects, which a field cannot be. As a dimension it would be taken for something else.
pub fn impossible_column<'t>(columns: &[&'t str]) -> Option<&'t str> {
    columns.iter().copied().find(|column| ["values", "dimensions"].contains(column))
}

#[inline]
fn finish<'t, 's>(
    fields: &Fields<'t>,
    scratch: &'s mut Scratch<'t>,
    received: UnixMillis,
    window: TimeWindow,
) -> Result<MeterEvent<'t, 's>, Rejection> {
    finish_measurements(fields, scratch)?;
    let draft = Draft {
        namespace: "",
        unique_id: scratch.generated.sent_or_made(fields.unique_id)?,
        unique_id_generated: fields.unique_id.is_none(),
        customer_id: required("customerId", fields.customer_id)?,
        time: Some(required("meterTimeInMillis", fields.time)?),
        measurements: &mut scratch.measurements,
        dimensions: &mut scratch.dimensions,
    };
    MeterEvent::check(draft, received, window)
}

/// Reads one member. `null` is an absent field; a key outside of the contract is ignored.
#[inline]
fn read_member<'t>(key: &'t str, value: Value<'t>, fields: &mut Fields<'t>, scratch: &mut Scratch<'t>) -> Result<(), Rejection> {
    if matches!(value, Value::Null) {
        return Ok(());
    }
    match key {
        "uniqueId" => once(key, &mut fields.unique_id, string(key, &value)?),
        "customerId" => once(key, &mut fields.customer_id, string(key, &value)?),
        "meterApiName" => once(key, &mut fields.meter, string(key, &value)?),
        "meterValue" => once(key, &mut fields.value, number(key, &value)?),
        "meterTimeInMillis" => once(key, &mut fields.time, time(key, &value)?),
        "dimensions" => {
            first_time(key, &mut fields.has_dimensions)?;
            read_dimensions(key, value, &mut scratch.dimensions)
        }
        "values" => {
            first_time(key, &mut fields.has_values)?;
            read_values(members(key, value)?, scratch)
        }
        _ => Ok(()),
    }
}

fn read_values<'t>(members: Members<'t>, scratch: &mut Scratch<'t>) -> Result<(), Rejection> {
    for (meter, value) in members {
        if matches!(value, Value::Null) {
            continue;
        }
        let field = || format!("values.{meter}");
        if scratch.measurements.len() == MEASUREMENTS_MAX {
            return Err(Rejection::new(Code::TooMany, "values", format!("has more than {MEASUREMENTS_MAX} entries")));
        }
        let value = number(&field(), &value)?;
        scratch.measurements.push(Measurement { meter, value });
    }
    Ok(())
}

/// One of `meterApiName` + `meterValue`, or `values`.
fn finish_measurements<'t>(fields: &Fields<'t>, scratch: &mut Scratch<'t>) -> Result<(), Rejection> {
    if fields.has_values {
        if fields.meter.is_some() || fields.value.is_some() {
            return Err(Rejection::new(Code::WrongValue, "values", "must not be given together with meterApiName or meterValue"));
        }
        if scratch.measurements.is_empty() {
            return Err(Rejection::new(Code::MissingField, "values", "has no entry"));
        }
        return Ok(());
    }
    let meter = required("meterApiName", fields.meter)?;
    let value = required("meterValue", fields.value)?;
    scratch.measurements.push(Measurement { meter, value });
    Ok(())
}

/// Unix ms, a whole number. Its range is checked with the event.
fn time(field: &str, value: &Value<'_>) -> Result<UnixMicros, Rejection> {
    let millis = match value {
        Value::Number(text) if text.len() <= 15 && text.iter().all(u8::is_ascii_digit) && text[0] != b'0' => {
            Some(text.iter().fold(0, |millis, digit| millis * 10 + i64::from(digit - b'0')))
        }
        _ => number(field, value)?.to_int(),
    };
    millis.map(|millis| UnixMillis(millis).micros()).ok_or_else(|| wrong_type(field, "must be a whole number of milliseconds"))
}

#[cfg(test)]
mod tests;
