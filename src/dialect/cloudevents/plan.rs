//! What the meters that are defined for a type of events read of each (contract `cloudevents.md` section 2).

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::json_path::JsonPath;
use super::paths::{Found, Paths};
use super::{ERROR_DIMENSION, VALUE_DIMENSION};
use crate::dialect::draft::scalar;
use crate::event::parse::Value;
use crate::event::{Amount, AmountError, DIMENSION_VALUE_BYTES_MAX, Measurement, OwnDimension};
use crate::meters::{EVENT_METERS_MAX, Meter};

/// The members of a definition (`meters::Extensions::openmeter`) that this goes by.
const EVENT_TYPE: &str = "eventType";
const VALUE_PROPERTY: &str = "valueProperty";
const GROUP_BY: &str = "groupBy";
const AGGREGATION: &str = "aggregation";

/// Plans of an account, by the type of events. A type that has none is counted as if nothing was defined for it.
pub type Plans = HashMap<Box<str>, Arc<Plan>>;

/// Of which events a meter counts: of those of this type.
pub fn event_type(meter: &Meter) -> &str {
    meter.ext.openmeter.get(EVENT_TYPE).and_then(Json::as_str).unwrap_or(&meter.name)
}

/// What is read of each event of a type.
#[derive(Debug)]
pub struct Plan {
    /// Sorted by name.
    meters: Vec<PlannedMeter>,
    pub(super) paths: Paths,
    /// Members of the data that are some meter's number: each event may have another one, and none of them is a dimension. Sorted.
    amounts: Vec<Box<str>>,
}

#[derive(Debug)]
struct PlannedMeter {
    name: Box<str>,
    reads: Reads,
    /// Sorted by name; each with the number of its path.
    groups: Vec<(Box<str>, Option<usize>)>,
}

/// What a meter makes its value of.
#[derive(Debug)]
enum Reads {
    /// Of what it would be if nothing was defined.
    Plain,
    /// Each event is one.
    One,
    /// A number.
    Number(Option<usize>),
    /// Each event is one, and has a text.
    Text(Option<usize>),
}

/// Why a meter cannot read a value, as it stands in [`ERROR_DIMENSION`].
#[derive(Debug, Clone, Copy)]
enum Unreadable {
    Missing,
    Null,
    NotNumeric,
    OutOfRange,
    TooLong,
    NotScalar,
}

impl Unreadable {
    fn label(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Null => "null",
            Self::NotNumeric => "not_numeric",
            Self::OutOfRange => "out_of_range",
            Self::TooLong => "too_long",
            Self::NotScalar => "not_scalar",
        }
    }
}

/// What becomes of an event.
pub(super) struct Outcome<'o, 't> {
    pub(super) measurements: &'o mut Vec<Measurement<'t>>,
    pub(super) own: &'o mut Vec<OwnDimension<'t>>,
    /// Bit n: measurement n could not be read.
    pub(super) unreadable: u64,
}

impl Plan {
    /// Of the meters that are defined for a type; `None` where it makes no difference that they are.
    pub fn of<'m>(event_type: &str, meters: impl IntoIterator<Item = &'m Meter>) -> Option<Self> {
        let mut chosen: Vec<&Meter> = meters.into_iter().collect();
        chosen.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
        chosen.truncate(EVENT_METERS_MAX);
        if chosen.iter().all(|meter| meter.name == event_type && meter.ext.openmeter.is_empty()) {
            return None;
        }
        let mut plan = Self { meters: Vec::new(), paths: Paths::default(), amounts: Vec::new() };
        for meter in chosen {
            let planned = plan.plan(meter);
            plan.meters.push(planned);
        }
        plan.meters.sort_by(|a, b| a.name.cmp(&b.name));
        plan.amounts.sort_unstable();
        plan.amounts.dedup();
        Some(plan)
    }

    fn plan(&mut self, meter: &Meter) -> PlannedMeter {
        let definition = &meter.ext.openmeter;
        let path = |value: Option<&Json>| value.and_then(Json::as_str).and_then(|text| JsonPath::parse(text).ok());
        let value = path(definition.get(VALUE_PROPERTY));
        let number = value.as_ref().map(|path| self.paths.add(path));
        let reads = match definition.get(AGGREGATION).and_then(Json::as_str) {
            None => Reads::Plain,
            Some(word) if word.eq_ignore_ascii_case("COUNT") => Reads::One,
            Some(word) if word.eq_ignore_ascii_case("UNIQUE_COUNT") => Reads::Text(number),
            Some(_) => {
                self.amounts.extend(value.as_ref().and_then(JsonPath::member).map(Box::from));
                Reads::Number(number)
            }
        };
        let groups = definition.get(GROUP_BY).and_then(Json::as_object).into_iter().flatten();
        let mut groups: Vec<_> = groups
            .filter(|(name, _)| !super::is_ours(name))
            .map(|(name, text)| (Box::from(name.as_str()), path(Some(text)).map(|path| self.paths.add(&path))))
            .collect();
        groups.sort();
        PlannedMeter { name: meter.name.as_str().into(), reads, groups }
    }

    /// Whether a member of the data is a number that some meter reads.
    pub(super) fn is_amount(&self, member: &str) -> bool {
        self.amounts.binary_search_by(|amount| (**amount).cmp(member)).is_ok()
    }

    /// What each meter makes of an event. `plain`: its value if nothing was defined; `dimensions`: those of the event, sorted.
    pub(super) fn apply<'t>(&'t self, found: &Found<'t>, plain: Amount, dimensions: &[(&'t str, &'t str)], to: &mut Outcome<'_, 't>) {
        for (at, meter) in self.meters.iter().enumerate() {
            let begin = to.own.len();
            let read = meter.read(at, found, plain, to.own).and_then(|value| {
                meter.group(at, found, dimensions, to.own)?;
                Ok(value)
            });
            let value = read.unwrap_or_else(|why| {
                to.own.truncate(begin);
                to.own.push(OwnDimension { measurement: at, key: ERROR_DIMENSION, value: why.label() });
                to.unreadable |= 1 << at;
                Amount::default()
            });
            to.own[begin..].sort_unstable();
            to.measurements.push(Measurement { meter: &meter.name, value });
        }
    }
}

impl PlannedMeter {
    fn read<'t>(&self, at: usize, found: &Found<'t>, plain: Amount, own: &mut Vec<OwnDimension<'t>>) -> Result<Amount, Unreadable> {
        let value = |path: Option<usize>| match path.and_then(|path| found.get(path)) {
            None => Err(Unreadable::Missing),
            Some(Value::Null) => Err(Unreadable::Null),
            Some(value) => Ok(value),
        };
        match self.reads {
            Reads::Plain => Ok(plain),
            Reads::One => Ok(Amount::ONE),
            Reads::Number(path) => number(value(path)?),
            Reads::Text(path) => {
                let text = scalar(value(path)?).ok_or(Unreadable::NotScalar)?;
                own.push(OwnDimension { measurement: at, key: VALUE_DIMENSION, value: fitting(text)? });
                Ok(Amount::ONE)
            }
        }
    }

    fn group<'t>(
        &'t self,
        at: usize,
        found: &Found<'t>,
        dimensions: &[(&'t str, &'t str)],
        own: &mut Vec<OwnDimension<'t>>,
    ) -> Result<(), Unreadable> {
        for (name, path) in &self.groups {
            let value = fitting(path.and_then(|path| found.get(path)).and_then(scalar).unwrap_or_default())?;
            let shared = dimensions.binary_search_by_key(&&**name, |(key, _)| key);
            // What the event has anyway is not kept twice.
            if shared.ok().and_then(|shared| dimensions.get(shared)).is_none_or(|(_, known)| *known != value) {
                own.push(OwnDimension { measurement: at, key: name, value });
            }
        }
        Ok(())
    }
}

/// A number, or a text that is one.
fn number(value: &Value<'_>) -> Result<Amount, Unreadable> {
    let digits = match value {
        Value::Number(digits) => digits,
        Value::String(text) => text.as_bytes(),
        _ => return Err(Unreadable::NotNumeric),
    };
    Amount::parse(digits).map_err(|error| match error {
        AmountError::NotANumber => Unreadable::NotNumeric,
        AmountError::OutOfRange => Unreadable::OutOfRange,
    })
}

/// A text that can be a dimension.
fn fitting(text: &str) -> Result<&str, Unreadable> {
    let fits = text.len() <= DIMENSION_VALUE_BYTES_MAX && !text.contains('\0');
    if fits { Ok(text) } else { Err(Unreadable::TooLong) }
}

#[cfg(test)]
mod tests;
