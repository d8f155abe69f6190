//! Meters on OpenMeter's wire (contract `cloudevents.md` section 3): request ⇄ model.
//!
//! Of a definition every dialect sees the display name, the type and the dimensions, which are the names of OpenMeter's groups. What only
//! OpenMeter says is kept for it. A definition that another dialect made is shown as what it does: it counts the events whose type is its
//! name, and takes the member `value` of their data, and its dimensions are members of their data.
//!
//! The id of a meter follows from its account, its name and when it was made: the time is in a ULID, and the rest of it is a hash. So it is
//! nowhere stored, and a meter that is deleted and made again has another one.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::VALUE_DIMENSION;
use super::json_path::JsonPath;
use super::plan::event_type;
use super::times::parse_time;
use crate::clock::{UnixMicros, UnixMillis, rfc3339};
use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, parse_object};
use crate::dialect::octane;
use crate::event::{DIMENSION_KEY_BYTES_MAX, DIMENSIONS_MAX, NAME_BYTES_MAX};
use crate::meters::{Extensions, Meter, Said};
use crate::usage::{Field, MeterType};

/// Longest slug, in bytes.
pub const SLUG_BYTES_MAX: usize = 64;
/// Longest display name, in characters.
pub const NAME_CHARS_MAX: usize = 256;
/// Longest description and longest value of metadata, in characters.
pub const TEXT_CHARS_MAX: usize = 1_024;
/// Entries of metadata.
pub const METADATA_MAX: usize = 64;
/// Groups of a meter: at most half of the dimensions that an event may have.
pub const GROUPS_MAX: usize = DIMENSIONS_MAX / 2;
/// What a query calls the subject among the names of groups.
pub const SUBJECT: &str = "subject";
/// Of the numbers of a meter that another dialect defined.
const VALUE_PATH: &str = "$.value";

const AGGREGATION: &str = "aggregation";
const EVENT_TYPE: &str = "eventType";
const VALUE_PROPERTY: &str = "valueProperty";
const GROUP_BY: &str = "groupBy";
const EVENT_FROM: &str = "eventFrom";
const DESCRIPTION: &str = "description";
const METADATA: &str = "metadata";
const UPDATED_AT: &str = "updatedAt";

/// How a meter makes one number of many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Aggregation {
    /// All added up.
    Sum,
    /// How many events.
    Count,
    /// How many different values.
    UniqueCount,
    /// The sum divided by the number of events.
    Average,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// The one of the latest event.
    Latest,
}

/// All of them, and the type that the other dialects know (as `octane.md` section 3 has it).
const AGGREGATIONS: [(&str, Aggregation, MeterType); 7] = [
    ("SUM", Aggregation::Sum, MeterType::SumOfAllUsage),
    ("COUNT", Aggregation::Count, MeterType::SumOfAllUsage),
    ("UNIQUE_COUNT", Aggregation::UniqueCount, MeterType::UniqueCustomersCount),
    ("AVG", Aggregation::Average, MeterType::SumOfAllUsage),
    ("MIN", Aggregation::Min, MeterType::SumOfAllUsage),
    ("MAX", Aggregation::Max, MeterType::MaxInPeriod),
    ("LATEST", Aggregation::Latest, MeterType::SumOfAllUsage),
];

impl Aggregation {
    /// As it is called on the wire.
    pub fn word(self) -> &'static str {
        AGGREGATIONS.into_iter().find(|(_, known, _)| *known == self).map_or("SUM", |(word, ..)| word)
    }

    /// All words.
    pub fn words() -> [&'static str; 7] {
        AGGREGATIONS.map(|(word, ..)| word)
    }

    fn of_word(word: &str) -> Option<(Self, MeterType)> {
        let found = AGGREGATIONS.into_iter().find(|(known, ..)| known.eq_ignore_ascii_case(word));
        found.map(|(_, aggregation, meter_type)| (aggregation, meter_type))
    }

    /// How a meter aggregates: as it was sent, unless another dialect has changed the type since. Of a meter of Octane's, as that says.
    pub fn of(meter: &Meter) -> Self {
        let kept = meter.ext.openmeter.get(AGGREGATION).and_then(Value::as_str).and_then(Self::of_word);
        let kept = kept.filter(|(_, meter_type)| *meter_type == meter.said.meter_type);
        match (kept, octane::meters::aggregation(meter)) {
            (Some((aggregation, _)), _) => aggregation,
            // Of numbers that come by the hour, a weighted sum is the sum.
            (None, word) => Self::of_word(word).map_or(Self::Sum, |(aggregation, _)| aggregation),
        }
    }
}

/// What a POST says about a meter; checked. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterRequest {
    /// The `slug`.
    pub name: String,
    /// What the other dialects see.
    pub said: Said,
    /// What they do not.
    pub ext: Extensions,
}

impl MeterRequest {
    /// Reads the body of a POST.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let object = parse_object(body)?;
        let fields = Fields::of(&object, "");
        let slug = fields.required_name("slug", SLUG_BYTES_MAX)?;
        if !is_slug(&slug) {
            return Err(fields.wrong("slug", "must be lower-case letters and digits, in parts with _ between them"));
        }
        let words = AGGREGATIONS.map(|(word, aggregation, meter_type)| (word, (aggregation, meter_type)));
        let (aggregation, meter_type) = fields.required_word(AGGREGATION, &words)?;
        let mut own = Map::new();
        own.insert(AGGREGATION.into(), aggregation.word().into());
        own.insert(EVENT_TYPE.into(), fields.required_name(EVENT_TYPE, NAME_BYTES_MAX)?.into());
        match value_property(&fields)? {
            Some(path) => _ = own.insert(VALUE_PROPERTY.into(), path.into()),
            None if aggregation == Aggregation::Count => {}
            None => {
                return Err(fields.wrong(VALUE_PROPERTY, format_args!("is missing: of what does {} make a number?", aggregation.word())));
            }
        }
        if let Some(text) = fields.text(EVENT_FROM)? {
            let time = parse_time(text).ok_or_else(|| fields.wrong(EVENT_FROM, "must be a time as in RFC 3339"))?;
            own.insert(EVENT_FROM.into(), rfc3339::shortest(time).into());
        }
        let MeterUpdate { display_name, description, metadata, groups } = MeterUpdate::of(&fields)?;
        insert_some(&mut own, DESCRIPTION, description);
        insert_some(&mut own, METADATA, metadata);
        let dimensions = groups.keys().cloned().collect();
        insert_some(&mut own, GROUP_BY, Some(groups).filter(|groups| !groups.is_empty()));
        let said = Said { display_name: display_name.unwrap_or_else(|| slug.clone()), label: slug.clone(), meter_type, dimensions };
        Ok(Self { name: slug, said, ext: Extensions { openmeter: own, ..Extensions::default() } })
    }

    /// The type of the events that it is made from.
    pub fn event_type(&self) -> &str {
        self.ext.openmeter.get(EVENT_TYPE).and_then(Value::as_str).unwrap_or(&self.name)
    }
}

fn insert_some(map: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(name.into(), value.into());
    }
}

fn is_slug(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    text.split('_').all(is_part)
}

fn value_property<'v>(fields: &Fields<'v>) -> Result<Option<&'v str>, ApiError> {
    let Some(path) = fields.text(VALUE_PROPERTY)? else { return Ok(None) };
    JsonPath::parse(path).map_err(|error| fields.wrong(VALUE_PROPERTY, error))?;
    Ok(Some(path))
}

/// What a PUT says about a meter: all of what can be changed. What is not in it is unset, and the name is the slug again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterUpdate {
    display_name: Option<String>,
    description: Option<String>,
    metadata: Option<Map<String, Value>>,
    groups: Map<String, Value>,
}

impl MeterUpdate {
    /// Reads the body of a PUT.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        Self::of(&Fields::of(&parse_object(body)?, ""))
    }

    fn of(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let display_name = text(fields, "name", NAME_CHARS_MAX)?.map(str::to_owned);
        if display_name.as_deref() == Some("") {
            return Err(fields.wrong("name", "must not be empty"));
        }
        let description = text(fields, DESCRIPTION, TEXT_CHARS_MAX)?.filter(|text| !text.is_empty()).map(str::to_owned);
        let metadata = fields.object(METADATA)?.map(|metadata| read_metadata(fields, &metadata)).transpose()?;
        let groups = fields.object(GROUP_BY)?.map_or(Ok(Map::new()), |groups| read_groups(fields, &groups))?;
        Ok(Self { display_name, description, metadata, groups })
    }

    /// Puts it into a definition. One that another dialect made is OpenMeter's own from the moment on that its groups are others than it had
    /// anyway: only then is there something that its events must be read for.
    pub fn apply(&self, meter: &mut Meter, now: UnixMillis) {
        meter.said.display_name = self.display_name.clone().unwrap_or_else(|| meter.name.clone());
        let is_own = meter.ext.openmeter.contains_key(EVENT_TYPE);
        if !is_own && self.groups != groups(meter) {
            let (event_type, aggregation) = (event_type(meter).to_owned(), Aggregation::of(meter));
            let path = shown_path(meter, aggregation).map(str::to_owned);
            let own = &mut meter.ext.openmeter;
            own.insert(EVENT_TYPE.into(), event_type.into());
            own.insert(AGGREGATION.into(), aggregation.word().into());
            insert_some(own, VALUE_PROPERTY, path);
        }
        if is_own || meter.ext.openmeter.contains_key(EVENT_TYPE) {
            meter.said.dimensions = self.groups.keys().cloned().collect();
            set(&mut meter.ext.openmeter, GROUP_BY, Some(self.groups.clone()).filter(|groups| !groups.is_empty()));
        }
        set(&mut meter.ext.openmeter, DESCRIPTION, self.description.clone());
        set(&mut meter.ext.openmeter, METADATA, self.metadata.clone());
        meter.ext.openmeter.insert(UPDATED_AT.into(), rfc3339::shortest(now.micros()).into());
    }
}

fn set(map: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    match value {
        Some(value) => drop(map.insert(name.into(), value.into())),
        None => drop(map.remove(name)),
    }
}

/// A text of at most so many characters.
fn text<'v>(fields: &Fields<'v>, name: &str, chars_max: usize) -> Result<Option<&'v str>, ApiError> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    let chars = text.chars().count();
    if chars > chars_max {
        return Err(fields.wrong(name, format_args!("has {chars} characters, the limit is {chars_max}")));
    }
    fields.check_text(name, text, 4 * chars_max)?;
    Ok(Some(text))
}

fn read_metadata(outer: &Fields<'_>, metadata: &Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    check_entries(outer, METADATA, metadata.object.len(), METADATA_MAX)?;
    let mut read = Map::new();
    for name in metadata.object.keys() {
        metadata.check_text(name, name, DIMENSION_KEY_BYTES_MAX)?;
        if let Some(text) = text(metadata, name, TEXT_CHARS_MAX)? {
            read.insert(name.clone(), text.into());
        }
    }
    Ok(read)
}

fn read_groups(outer: &Fields<'_>, groups: &Fields<'_>) -> Result<Map<String, Value>, ApiError> {
    check_entries(outer, GROUP_BY, groups.object.len(), GROUPS_MAX)?;
    let mut read = Map::new();
    for name in groups.object.keys() {
        if !is_group_name(name) {
            let shown: String = name.chars().take(DIMENSION_KEY_BYTES_MAX).collect();
            return Err(groups.wrong(&shown, "is no name of a group: take letters, digits and _, 128 at most, and not `subject`"));
        }
        let path = groups.required_text(name)?;
        JsonPath::parse(path).map_err(|error| groups.wrong(name, error))?;
        read.insert(name.clone(), path.into());
    }
    Ok(read)
}

fn check_entries(fields: &Fields<'_>, name: &str, entries: usize, entries_max: usize) -> Result<(), ApiError> {
    if entries <= entries_max {
        return Ok(());
    }
    Err(fields.wrong(name, format_args!("has {entries} entries, the limit is {entries_max}")))
}

fn is_group_name(name: &str) -> bool {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    is_word && (1..=DIMENSION_KEY_BYTES_MAX).contains(&name.len()) && name != SUBJECT
}

/// Where a meter finds its values, as OpenMeter has said; [`None`] if it has not.
pub fn value_path(meter: &Meter) -> Option<&str> {
    meter.ext.openmeter.get(VALUE_PROPERTY).and_then(Value::as_str)
}

/// Events before this moment are none of the meter's.
pub fn event_from(meter: &Meter) -> Option<UnixMicros> {
    meter.ext.openmeter.get(EVENT_FROM).and_then(Value::as_str).and_then(parse_time)
}

/// What [`Aggregation::UniqueCount`] of a meter counts: the values that it finds, which ingest keeps as a dimension, or else subjects.
pub fn counted(meter: &Meter) -> Field {
    match value_path(meter) {
        Some(_) => Field::Dimension(VALUE_DIMENSION.into()),
        None => Field::Customer,
    }
}

fn shown_path(meter: &Meter, aggregation: Aggregation) -> Option<&str> {
    let is_counted = aggregation == Aggregation::Count || aggregation == Aggregation::UniqueCount;
    value_path(meter).or((!is_counted).then_some(VALUE_PATH))
}

/// The groups of a meter: names and paths. Of one that OpenMeter has not defined, its dimensions, as far as they can be called so.
pub fn groups(meter: &Meter) -> Map<String, Value> {
    if meter.ext.openmeter.contains_key(EVENT_TYPE) {
        return meter.ext.openmeter.get(GROUP_BY).and_then(Value::as_object).cloned().unwrap_or_default();
    }
    let named = meter.said.dimensions.iter().filter(|name| is_group_name(name));
    named.map(|name| (name.clone(), format!("$['{name}']").into())).collect()
}

/// A definition as it is answered.
pub fn render(account: u32, meter: &Meter) -> Value {
    let own = &meter.ext.openmeter;
    let aggregation = Aggregation::of(meter);
    let created_at = rfc3339::shortest(meter.created_at.micros());
    let mut members = json!({
        "id": id(account, meter), "slug": meter.name, "name": meter.said.display_name, AGGREGATION: aggregation.word(),
        EVENT_TYPE: event_type(meter), GROUP_BY: groups(meter), UPDATED_AT: own.get(UPDATED_AT).cloned().unwrap_or_else(|| created_at.as_str().into()),
        "createdAt": created_at,
    });
    if let Value::Object(members) = &mut members {
        insert_some(members, VALUE_PROPERTY, shown_path(meter, aggregation));
        for name in [DESCRIPTION, METADATA, EVENT_FROM] {
            insert_some(members, name, own.get(name).cloned());
        }
    }
    members
}

/// The characters of a ULID.
const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a ULID.
const ULID_CHARS: u32 = 26;

/// The id of a meter: a ULID.
pub fn id(account: u32, meter: &Meter) -> String {
    let mut hash = Sha256::new();
    hash.update(b"tollgate meter\0");
    hash.update(account.to_be_bytes());
    hash.update(meter.created_at.0.to_be_bytes());
    hash.update(meter.name.as_bytes());
    let mut bits = meter.created_at.0.max(0) as u128 & ((1 << 48) - 1);
    for byte in &hash.finalize()[..10] {
        bits = bits << 8 | u128::from(*byte);
    }
    let digit = |at: u32| char::from(CROCKFORD[(bits >> (5 * at) & 31) as usize]);
    (0..ULID_CHARS).rev().map(digit).collect()
}

/// Whether a text may be an id of a meter.
pub fn is_id(text: &str) -> bool {
    text.len() == ULID_CHARS as usize && text.bytes().all(|byte| CROCKFORD.contains(&byte))
}

#[cfg(test)]
mod tests;
