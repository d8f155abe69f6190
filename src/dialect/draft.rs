//! From the members of an object to a draft of an event: what the dialects' readers have in common.

use super::cloudevents::paths::Found;
use crate::clock::{UnixMicros, rfc3339};
use crate::event::parse::{Members, Value};
use crate::event::{Amount, AmountError, Code, Measurement, OwnDimension, Rejection};

/// Room for the parts of one event, used again for the next.
#[derive(Default)]
pub struct Scratch<'t> {
    pub(super) measurements: Vec<Measurement<'t>>,
    pub(super) dimensions: Vec<(&'t str, &'t str)>,
    pub(super) generated: GeneratedIds,
    pub(super) mapped: MappedScratch<'t>,
}

/// Room for what definitions make of an event.
#[derive(Default)]
pub(super) struct MappedScratch<'t> {
    pub(super) measurements: Vec<Measurement<'t>>,
    pub(super) dimensions: Vec<(&'t str, &'t str)>,
    pub(super) own: Vec<OwnDimension<'t>>,
    pub(super) found: Found<'t>,
    /// Members that are nested, and what they say in one form.
    pub(super) nested: Vec<(&'t str, Value<'t>)>,
    pub(super) further: Vec<u8>,
}

/// Makes uniqueIds for events that came without one: 128 bits, random unless they are given, a request, counted up.
#[derive(Debug, Default)]
pub(super) struct GeneratedIds {
    last: Option<u128>,
    text: String,
}

impl MappedScratch<'_> {
    /// Before the next event that is mapped.
    pub(super) fn clear(&mut self) {
        self.measurements.clear();
        self.dimensions.clear();
        self.own.clear();
        self.nested.clear();
        self.further.clear();
    }
}

impl Scratch<'_> {
    /// Before the next event.
    pub(super) fn clear(&mut self) {
        self.measurements.clear();
        self.dimensions.clear();
    }

    /// Makes the first uniqueId of these bits, so that the same event gets the same one when it is read again.
    pub fn making(first: u128) -> Self {
        let generated = GeneratedIds { last: Some(first.wrapping_sub(1)), text: String::new() };
        Self { generated, ..Self::default() }
    }
}

impl GeneratedIds {
    /// The uniqueId that was sent, or one that nobody else has.
    #[inline]
    pub(super) fn sent_or_made<'i>(&'i mut self, sent: Option<&'i str>) -> Result<&'i str, Rejection> {
        match sent {
            Some(sent) => Ok(sent),
            None => self.make(),
        }
    }

    /// A uniqueId that nobody else has.
    pub(super) fn make(&mut self) -> Result<&str, Rejection> {
        let next = match self.last {
            Some(last) => last.wrapping_add(1),
            None => random().ok_or_else(|| Rejection::new(Code::MissingField, "uniqueId", "is missing, and none can be made now"))?,
        };
        self.last = Some(next);
        Ok(self.set(next))
    }

    /// The uniqueId of these bits.
    pub(super) fn set(&mut self, bits: u128) -> &str {
        self.text = format!("{bits:032x}");
        &self.text
    }
}

fn random() -> Option<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).ok()?;
    Some(u128::from_le_bytes(bytes))
}

pub(super) fn required<T>(field: &str, value: Option<T>) -> Result<T, Rejection> {
    value.ok_or_else(|| Rejection::new(Code::MissingField, field, "is missing"))
}

pub(super) fn once<T>(field: &str, slot: &mut Option<T>, value: T) -> Result<(), Rejection> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(repeated(field)),
    }
}

pub(super) fn first_time(field: &str, seen: &mut bool) -> Result<(), Rejection> {
    if std::mem::replace(seen, true) { Err(repeated(field)) } else { Ok(()) }
}

pub(super) fn repeated(field: &str) -> Rejection {
    Rejection::new(Code::RepeatedKey, field, "is given twice")
}

pub(super) fn wrong_type(field: &str, reason: &str) -> Rejection {
    Rejection::new(Code::WrongType, field, reason)
}

pub(super) fn string<'t>(field: &str, value: &Value<'t>) -> Result<&'t str, Rejection> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(wrong_type(field, "must be a string")),
    }
}

pub(super) fn members<'t>(field: &str, value: Value<'t>) -> Result<Members<'t>, Rejection> {
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(wrong_type(field, "must be an object")),
    }
}

/// The dimensions in an object whose members are texts. One that is `null` is absent.
pub(super) fn read_dimensions<'t>(field: &str, value: Value<'t>, dimensions: &mut Vec<(&'t str, &'t str)>) -> Result<(), Rejection> {
    for (key, value) in members(field, value)? {
        match value {
            Value::Null => {}
            Value::String(text) => dimensions.push((key, text)),
            _ => return Err(wrong_type(&format!("{field}.{key}"), "must be a string")),
        }
    }
    Ok(())
}

pub(super) fn number(field: &str, value: &Value<'_>) -> Result<Amount, Rejection> {
    let Value::Number(text) = value else { return Err(wrong_type(field, "must be a number")) };
    Amount::parse(text).map_err(|error| {
        let code = match error {
            AmountError::NotANumber => Code::WrongType,
            AmountError::OutOfRange => Code::OutOfRange,
        };
        Rejection::new(code, field, error.to_string())
    })
}

/// The text of a scalar as it was sent, a number with its digits; `None` for `null` and for what is nested.
pub(super) fn scalar<'t>(value: &Value<'t>) -> Option<&'t str> {
    match value {
        Value::String(text) => Some(text),
        // The bytes of a number are ASCII.
        Value::Number(text) => std::str::from_utf8(text).ok(),
        Value::Bool(is) => Some(if *is { "true" } else { "false" }),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A time as RFC 3339 writes it; without an offset it is in UTC, as Octane's Python client sends it. Finer than a microsecond is cut off.
pub(super) fn timestamp(field: &str, value: &Value<'_>) -> Result<UnixMicros, Rejection> {
    let text = string(field, value)?;
    rfc3339::parse_or_utc(text).ok_or_else(|| wrong_type(field, "must be a time such as 2026-01-01T00:00:00Z"))
}
