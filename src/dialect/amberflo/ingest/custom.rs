//! Custom events: any JSON object, or any row, into a draft, by the table of the contract (`amberflo.md` section 2). Of the keys that a
//! field may stand under, the first one of the table that is there wins; the others are dimensions, as every other scalar is.
//!
//! A scalar that becomes a text is written as it was sent: a number with its digits. What is nested is dropped, and so is `null`. A field of the
//! wrong type is refused and not passed over: an amount that nobody understands would count as 1.

use crate::clock::{UnixMicros, UnixMillis, rfc3339};
use crate::dialect::draft::{Scratch, number, repeated, required, wrong_type};
use crate::event::parse::Value;
use crate::event::{Amount, Draft, HashKey, Measurement, MeterEvent, Rejection, TimeWindow};

const CUSTOMER: [&str; 4] = ["customerId", "customer_id", "customer", "subject"];
const TIME: [&str; 5] = ["meterTimeInMillis", "created", "timestamp", "time", "ts"];
const METER: [&str; 4] = ["meterApiName", "meter", "event", "type"];
const VALUE: [&str; 5] = ["meterValue", "value", "usage", "amount", "quantity"];
const UNIQUE_ID: [&str; 3] = ["uniqueId", "id", "eventId"];
/// The meter of an event that names none.
const DEFAULT_METER: &str = "custom";
/// 10^11: a smaller number of a time is one of seconds, any other one of milliseconds.
const SECONDS_END: i64 = 100_000_000_000;
/// 10^12, the scale of amounts, by 10^6 µs a second.
const SCALED_PER_MICRO_OF_SECONDS: i128 = 1_000_000;
/// The same by 10^3 µs a millisecond.
const SCALED_PER_MICRO_OF_MILLIS: i128 = 1_000_000_000;

/// What a member has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found<'t> {
    Text(&'t str),
    Number(&'t str),
    Bool(bool),
    Nested,
}

impl<'t> Found<'t> {
    /// `None`: as good as absent.
    fn of(value: &Value<'t>) -> Option<Self> {
        match value {
            Value::Null => None,
            Value::Bool(is) => Some(Self::Bool(*is)),
            // The bytes of a number are ASCII.
            Value::Number(text) => Some(std::str::from_utf8(text).map_or(Self::Nested, Self::Number)),
            Value::String(text) => Some(Self::Text(text)),
            Value::Array(_) | Value::Object(_) => Some(Self::Nested),
        }
    }

    /// As a text.
    fn shown(self) -> Option<&'t str> {
        match self {
            Self::Text(text) | Self::Number(text) => Some(text),
            Self::Bool(is) => Some(if is { "true" } else { "false" }),
            Self::Nested => None,
        }
    }
}

/// A field of the event, and the key that it stands under, as far as the members were read.
#[derive(Default)]
struct Slot<'t>(Option<(usize, &'t str, Found<'t>)>);

impl<'t> Slot<'t> {
    /// Takes a member if its key is one of these and comes before what was taken; gives back what is not taken any more.
    fn offer(&mut self, keys: &[&str], key: &'t str, found: Found<'t>) -> Offered<'t> {
        let Some(rank) = keys.iter().position(|known| *known == key) else { return Offered::Unknown };
        match self.0 {
            Some((taken, _, _)) if taken == rank => Offered::Repeated,
            Some((taken, _, _)) if taken < rank => Offered::Left(key, found),
            last => {
                self.0 = Some((rank, key, found));
                last.map_or(Offered::Taken, |(_, key, found)| Offered::Left(key, found))
            }
        }
    }

    /// What it says as a name: a text, or the digits of a number.
    fn name(&self) -> Result<Option<&'t str>, Rejection> {
        match self.0 {
            None => Ok(None),
            Some((_, _, Found::Text(text) | Found::Number(text))) => Ok(Some(text)),
            Some((_, key, Found::Bool(_) | Found::Nested)) => Err(wrong_type(key, "must be a string")),
        }
    }

    fn amount(&self) -> Result<Option<Amount>, Rejection> {
        match self.0 {
            None => Ok(None),
            Some((_, key, Found::Number(text))) => number(key, &Value::Number(text.as_bytes())).map(Some),
            Some((_, key, Found::Text(_) | Found::Bool(_) | Found::Nested)) => Err(wrong_type(key, "must be a number")),
        }
    }

    fn time(&self) -> Result<Option<UnixMicros>, Rejection> {
        match self.0 {
            None => Ok(None),
            Some((_, key, Found::Number(text))) => Ok(Some(unix_time(number(key, &Value::Number(text.as_bytes()))?))),
            Some((_, key, Found::Text(text))) => rfc3339::parse(text).ok_or_else(|| wrong_time(key)).map(Some),
            Some((_, key, Found::Bool(_) | Found::Nested)) => Err(wrong_time(key)),
        }
    }
}

fn wrong_time(key: &str) -> Rejection {
    wrong_type(key, "must be a time: seconds or milliseconds since 1970, or a text such as 2026-01-01T00:00:00Z")
}

enum Offered<'t> {
    /// None of these keys.
    Unknown,
    Taken,
    /// This one is a dimension.
    Left(&'t str, Found<'t>),
    Repeated,
}

/// What the members of a custom event say.
#[derive(Default)]
struct Slots<'t> {
    customer: Slot<'t>,
    time: Slot<'t>,
    meter: Slot<'t>,
    value: Slot<'t>,
    unique_id: Slot<'t>,
}

impl<'t> Slots<'t> {
    fn offer(&mut self, key: &'t str, found: Found<'t>) -> Offered<'t> {
        let Self { customer, time, meter, value, unique_id } = self;
        let slots: [(&mut Slot<'t>, &[&str]); 5] =
            [(customer, &CUSTOMER), (time, &TIME), (meter, &METER), (value, &VALUE), (unique_id, &UNIQUE_ID)];
        for (slot, keys) in slots {
            match slot.offer(keys, key, found) {
                Offered::Unknown => {}
                offered => return offered,
            }
        }
        Offered::Unknown
    }
}

/// Reads one custom event. A uniqueId that was not sent is the hash of the record ([`record_hash`]): sent again, it is the same event.
///
/// # Errors
/// [`Rejection`] names the member.
pub fn read_custom<'t, 's>(
    members: impl Iterator<Item = (&'t str, Value<'t>)>,
    hash: impl FnOnce() -> u128,
    scratch: &'s mut Scratch<'t>,
    received: UnixMillis,
    window: TimeWindow,
) -> Result<MeterEvent<'t, 's>, Rejection> {
    scratch.clear();
    let mut slots = Slots::default();
    for (key, value) in members {
        let Some(found) = Found::of(&value) else { continue };
        let (key, left) = match slots.offer(key, found) {
            Offered::Taken => continue,
            Offered::Repeated => return Err(repeated(key)),
            Offered::Left(key, found) => (key, found),
            Offered::Unknown => (key, found),
        };
        scratch.dimensions.extend(left.shown().map(|text| (key, text)));
    }
    let meter = slots.meter.name()?.unwrap_or(DEFAULT_METER);
    let value = slots.value.amount()?.unwrap_or(Amount::ONE);
    scratch.measurements.push(Measurement { meter, value });
    let unique_id = match slots.unique_id.name()? {
        Some(sent) => sent,
        None => scratch.generated.set(hash()),
    };
    let draft = Draft {
        namespace: "",
        unique_id,
        // A copy has it again.
        unique_id_generated: false,
        customer_id: required("customerId", slots.customer.name()?)?,
        time: slots.time.time()?,
        measurements: &mut scratch.measurements,
        dimensions: &mut scratch.dimensions,
    };
    MeterEvent::check(draft, received, window)
}

/// Seconds, or from [`SECONDS_END`] on milliseconds; what is finer than a microsecond is cut off.
fn unix_time(number: Amount) -> UnixMicros {
    let is_seconds = number < Amount::from_int(SECONDS_END);
    let micros = number.scaled().div_euclid(if is_seconds { SCALED_PER_MICRO_OF_SECONDS } else { SCALED_PER_MICRO_OF_MILLIS });
    UnixMicros(i64::try_from(micros).unwrap_or(if micros < 0 { i64::MIN } else { i64::MAX }))
}

/// The fields of a row as the members of an object: what reads as a number is one. An empty field is absent.
pub fn members_of_row<'t>(columns: &[&'t str], row: &[&'t str]) -> impl Iterator<Item = (&'t str, Value<'t>)> {
    let pairs = columns.iter().copied().zip(row.iter().copied()).filter(|(_, field)| !field.is_empty());
    pairs.map(|(column, field)| {
        let is_number = serde_json::from_str::<serde_json::Number>(field).is_ok() && !field.contains(|c: char| c.is_ascii_whitespace());
        (column, if is_number { Value::Number(field.as_bytes()) } else { Value::String(field) })
    })
}

/// 128 bits of a record that was sent as JSON: of its bytes without the white space between them, nested parts included. Two records
/// that differ only in what is dropped are two events.
pub fn record_hash(key: &HashKey, raw: &[u8]) -> u128 {
    let mut canonical = b"custom event\0".to_vec();
    let (mut in_string, mut is_escaped) = (false, false);
    for byte in raw {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\r' | b'\n' if !in_string => continue,
            _ => {}
        }
        canonical.push(*byte);
    }
    key.identity(&canonical).0
}

/// The same of a row: of its fields that are not empty and the names of their columns.
pub fn row_hash(key: &HashKey, columns: &[&str], row: &[&str]) -> u128 {
    let mut canonical = b"custom row\0".to_vec();
    for (column, field) in columns.iter().zip(row).filter(|(_, field)| !field.is_empty()) {
        for text in [column, field] {
            canonical.extend_from_slice(&(text.len() as u64).to_le_bytes());
            canonical.extend_from_slice(text.as_bytes());
        }
    }
    key.identity(&canonical).0
}

/// What the names of an event that was not taken may stand under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Its uniqueId.
    UniqueId,
    /// Its customer.
    Customer,
    /// Its meter.
    Meter,
}

/// Which name of an event a key may have.
pub fn name_under(key: &str) -> Option<Name> {
    let names: [(&[&str], Name); 3] = [(&UNIQUE_ID, Name::UniqueId), (&CUSTOMER, Name::Customer), (&METER, Name::Meter)];
    names.into_iter().find(|(keys, _)| keys.contains(&key)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests;
