//! Usage on Octane's wire (contract `octane.md` section 4): question ⇄ what is evaluated.
//!
//! The definition of a meter says how many numbers become one. One of a gauge is the latest. One that nobody defined is a counter that sums, as
//! in every dialect: without events of it there is no usage.

mod answer;
#[cfg(test)]
mod tests;

use serde_json::Value;

use super::fields::{items, parse_time, time};
use super::meters;
use crate::clock::{UnixMicros, UnixMillis};
use crate::customers::CustomerId;
use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, parse_object};
use crate::event::{Amount, DIMENSION_KEY_BYTES_MAX, DIMENSION_VALUE_BYTES_MAX, NAME_BYTES_MAX};
use crate::meters::Meter;
use crate::usage::{
    Aggregation, Buckets, Draft, FILTER_VALUES_MAX, Field, GROUP_BY_MAX, Interval, Query, QueryError, TimeRange, Zone, month_around,
};

pub use answer::{ByTime, NUMBERS_MAX, TooLarge, render};

const MICROS: i64 = 1_000_000;
const METER: &str = "meter_name";
const START: &str = "start_time";
const END: &str = "end_time";
const AGGREGATE: &str = "aggregate";
const FILTERS: &str = "label_filters";
const GROUPS: &str = "label_group_by_keys";

/// How many numbers become one, in Octane's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Sum,
    Count,
    Max,
    Min,
    UniqueCount,
    Average,
    TimeWeightedSum,
    Latest,
}

const WORDS: [(&str, Word); 8] = [
    ("SUM", Word::Sum),
    ("COUNT", Word::Count),
    ("MAX", Word::Max),
    ("MIN", Word::Min),
    ("UNIQUE_COUNT", Word::UniqueCount),
    ("AVG", Word::Average),
    ("TIME_WEIGHTED_SUM", Word::TimeWeightedSum),
    ("LATEST", Word::Latest),
];

const INTERVALS: [(&str, Interval); 2] = [("hour", Interval::Hour), ("day", Interval::Day)];

/// What a GET asks: how much of a meter was used in a range. Checked but for what its meter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuestion {
    meter: String,
    start: Option<UnixMicros>,
    end: Option<UnixMicros>,
}

impl UsageQuestion {
    /// Reads the parameters. Unknown ones are ignored.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn parse(parameters: &[(String, String)]) -> Result<Self, ApiError> {
        let given = |name: &str| parameters.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let time = |name| given(name).filter(|text| !text.is_empty()).map(|text| time_in_query(name, text)).transpose();
        let wrong = |reason: String| ApiError::bad_field(METER, reason);
        let meter = match given(METER) {
            None => return Err(wrong("is missing".into())),
            Some("") => return Err(wrong(QueryError::MeterEmpty.to_string())),
            Some(meter) if meter.len() > NAME_BYTES_MAX => return Err(wrong(QueryError::MeterTooLong.to_string())),
            // A database cannot even be asked for it.
            Some(meter) if meter.contains('\0') => return Err(wrong("contains U+0000".into())),
            Some(meter) => meter,
        };
        Ok(Self { meter: meter.to_owned(), start: time(START)?, end: time(END)? })
    }

    /// The meter's name.
    pub fn meter(&self) -> &str {
        &self.meter
    }

    /// What is to be evaluated, and what instead if that finds nothing. Without a start it is that of the month of the end, and without an end
    /// that of the month that is running. A gauge has the latest value that it ever had before the end, if no start is given.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn queries(
        &self,
        account: u32,
        customer: &CustomerId,
        definition: Option<&Meter>,
        now: UnixMillis,
    ) -> Result<(Query, Option<Query>), ApiError> {
        let aggregation = measured(definition, None)?;
        let end_s = self.end.map_or_else(|| month_around(now.seconds()).end, end_second);
        let from = |start_s: i64| {
            let range = TimeRange::new(start_s, end_s).map_err(of_range)?;
            let buckets = Buckets::new(range, Interval::Month, Zone::default()).map_err(|error| ApiError::bad_field(START, error))?;
            let filters = vec![(Field::Customer, vec![customer.as_str().to_owned()])];
            let (meter, aggregation) = (self.meter.clone(), Some(aggregation.clone()));
            check(Draft { account, meter, aggregation, buckets, filters, group_by: Vec::new(), take: None })
        };
        let query = from(self.start.map_or_else(|| month_around(end_s - 1).start, second))?;
        // Most gauges tell what they show more than once a month, and all that was ever told is much to look through.
        let is_of_all_time = self.start.is_none() && definition.is_some_and(is_gauge);
        Ok((query, is_of_all_time.then(|| from(0)).transpose()?))
    }
}

/// What a POST asks: how much of a meter was used in each hour or day since a moment. Checked but for what its meter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByTimeQuestion {
    meter: String,
    start: UnixMicros,
    end: Option<UnixMicros>,
    interval: Interval,
    aggregate: Option<Word>,
    /// A label, and the values of which one must be there.
    filters: Vec<(String, Vec<String>)>,
    group_by: Vec<String>,
}

impl ByTimeQuestion {
    /// Reads the body of a POST. Unknown fields are ignored. `end_time` is ours; without it the end is now.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let object = parse_object(body)?;
        let fields = Fields::of(&object, "");
        let meter = fields.required_name(METER, NAME_BYTES_MAX)?;
        let start = fields.required(START, time(&fields, START)?)?;
        let interval = fields.word("time_bucket", &INTERVALS)?.unwrap_or(Interval::Day);
        let filters = fields.get(FILTERS).map_or(Ok(Vec::new()), |value| read_filters(&fields, value))?;
        let group_by = fields.texts(GROUPS, GROUP_BY_MAX, DIMENSION_KEY_BYTES_MAX)?.unwrap_or_default();
        Ok(Self { meter, start, end: time(&fields, END)?, interval, aggregate: fields.word(AGGREGATE, &WORDS)?, filters, group_by })
    }

    /// The meter's name.
    pub fn meter(&self) -> &str {
        &self.meter
    }

    /// What is to be evaluated: of each group, and, if there are groups, of all together.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn queries(
        &self,
        account: u32,
        customer: &CustomerId,
        definition: Option<&Meter>,
        now: UnixMillis,
    ) -> Result<(Query, Option<Query>), ApiError> {
        let aggregation = measured(definition, self.aggregate)?;
        let start_s = second(self.start);
        let range = match self.end {
            Some(end) => TimeRange::new(start_s, end_second(end)).map_err(of_range)?,
            None => TimeRange::until_now(start_s, now).map_err(|_| ApiError::bad_field(START, "must not lie ahead of now"))?,
        };
        let buckets = Buckets::new(range, self.interval, Zone::default()).map_err(|error| ApiError::bad_field(START, error))?;
        let customer = (Field::Customer, vec![customer.as_str().to_owned()]);
        let labels = self.filters.iter().map(|(label, values)| (Field::Dimension(label.clone()), values.clone()));
        let filters = std::iter::once(customer).chain(labels).collect();
        let group_by = self.group_by.iter().cloned().map(Field::Dimension).collect();
        let draft = Draft { account, meter: self.meter.clone(), aggregation: Some(aggregation), buckets, filters, group_by, take: None };
        let all = (!self.group_by.is_empty()).then(|| check(Draft { group_by: Vec::new(), ..draft.clone() })).transpose()?;
        Ok((check(draft)?, all))
    }
}

/// `[{key, value}]`; with a key that comes twice, one of its values must be there.
fn read_filters(fields: &Fields<'_>, value: &Value) -> Result<Vec<(String, Vec<String>)>, ApiError> {
    let mut filters: Vec<(String, Vec<String>)> = Vec::new();
    for (at, item) in items(fields, FILTERS, value, "objects with key and value", FILTER_VALUES_MAX)?.iter().enumerate() {
        let path = format!("{FILTERS}[{at}]");
        let object = item.as_object().ok_or_else(|| fields.wrong(&path, "must be an object"))?;
        let filter = Fields::of(object, &path);
        let (key, value) = (filter.required_name("key", DIMENSION_KEY_BYTES_MAX)?, filter.required_text("value")?);
        filter.check_text("value", value, DIMENSION_VALUE_BYTES_MAX)?;
        match filters.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) => values.push(value.to_owned()),
            None => filters.push((key, vec![value.to_owned()])),
        }
    }
    Ok(filters)
}

/// RFC 3339, or seconds since 1970, with or without a fraction.
fn time_in_query(name: &str, text: &str) -> Result<UnixMicros, ApiError> {
    let wrong = || ApiError::bad_field(name, "must be a time as in RFC 3339, or seconds since 1970, between the years 1970 and 9999");
    if let Some(time) = parse_time(text) {
        return Ok(time);
    }
    let seconds = Amount::parse(text.as_bytes()).map_err(|_| wrong())?;
    let micros = i64::try_from(seconds.scaled() / MICROS as i128).map_err(|_| wrong())?;
    if (0..=crate::usage::TIME_S_MAX * MICROS).contains(&micros) { Ok(UnixMicros(micros)) } else { Err(wrong()) }
}

fn second(time: UnixMicros) -> i64 {
    time.0.div_euclid(MICROS)
}

/// The end of a range is not part of it, but what is before it is.
fn end_second(time: UnixMicros) -> i64 {
    second(UnixMicros(time.0 + MICROS - 1))
}

/// Whether the meter shows what there is, and not what was used up.
fn is_gauge(definition: &Meter) -> bool {
    definition.ext.octane.get("meter_type").and_then(Value::as_str).is_some_and(|kind| kind.eq_ignore_ascii_case("gauge"))
}

/// How many numbers become one: as it is asked for, or as the definition says.
fn measured(definition: Option<&Meter>, asked: Option<Word>) -> Result<Aggregation, ApiError> {
    let of_definition = || match definition {
        None => Word::Sum,
        Some(meter) if is_gauge(meter) => Word::Latest,
        Some(meter) => word(meters::aggregation(meter)),
    };
    Ok(match asked.unwrap_or_else(of_definition) {
        Word::Sum => Aggregation::Sum,
        Word::Count => Aggregation::Count,
        Word::Max => Aggregation::Max,
        Word::Min => Aggregation::Min,
        Word::Average => Aggregation::Average,
        Word::Latest => Aggregation::Latest,
        Word::UniqueCount => Aggregation::Unique(counted(definition)?),
        Word::TimeWeightedSum => {
            let field = if asked.is_some() { AGGREGATE } else { METER };
            return Err(ApiError::bad_field(
                field,
                "asks for TIME_WEIGHTED_SUM, which cannot be computed: how long a value held is not kept",
            ));
        }
    })
}

fn word(text: &str) -> Word {
    WORDS.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(text)).map_or(Word::Sum, |(_, word)| word)
}

/// What UNIQUE_COUNT counts the different values of: the meter's primary label; without one the customer, which is what the other dialects
/// count of such a meter.
fn counted(definition: Option<&Meter>) -> Result<Field, ApiError> {
    let labels = definition.and_then(|meter| meter.ext.octane.get("primary_labels")).and_then(Value::as_array);
    match labels.map(Vec::as_slice).unwrap_or_default() {
        [] => Ok(Field::Customer),
        [label] => Ok(Field::Dimension(label.as_str().unwrap_or_default().to_owned())),
        _ => Err(ApiError::bad_field(METER, "counts different values of several primary labels, which cannot be computed: name one")),
    }
}

fn of_range(error: QueryError) -> ApiError {
    ApiError::bad_field(if error == QueryError::StartOutside { START } else { END }, error)
}

fn check(draft: Draft) -> Result<Query, ApiError> {
    Query::check(draft).map_err(|error| {
        let field = match error {
            QueryError::TooManyGroupKeys => GROUPS,
            QueryError::TooManyFilterValues => FILTERS,
            QueryError::TooManyLookUps => START,
            _ => METER,
        };
        ApiError::bad_field(field, error)
    })
}
