//! Usage queries as Amberflo's clients ask them, and the answers as they read them (contract `amberflo.md` section 5).
//!
//! Two forms that disagree completely: form A (the metering description, the seed workflow) has a flat range, form B
//! (the SDKs) a `timeRange`; which one a query has decides which one its answer has. This part reads queries,
//! [`answer`] writes answers. Beyond the contract, either form may have a `timeZone` (an IANA name, UTC by default), and so may `GET
//! /usage/all` among its parameters: days, weeks and months are those of that zone.

pub mod answer;

use std::num::NonZeroUsize;

use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::clock::UnixMillis;
use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, not_json};
use crate::event::{DIMENSION_KEY_BYTES_MAX, NAME_BYTES_MAX};
use crate::usage::{
    Aggregation, Buckets, Draft, Field, Interval, LOOK_UPS_MAX, MeterType, Query, QueryError, Take, TimeRange, Unanswered, ViewRequest,
    Zone,
};

/// Most queries of a batch.
pub const BATCH_QUERIES_MAX: usize = 100;

const AGGREGATIONS: [(&str, Word); 7] = [
    ("SUM", Word::Sum),
    ("MIN", Word::Min),
    ("MAX", Word::Max),
    ("COUNT", Word::Count),
    ("AVG", Word::Average),
    ("LATEST", Word::Latest),
    ("UNIQUE", Word::Unique),
];
const INTERVALS: [(&str, Interval); 4] =
    [("HOUR", Interval::Hour), ("DAY", Interval::Day), ("WEEK", Interval::Week), ("MONTH", Interval::Month)];
/// What a customer is called among the fields to filter and group by.
const CUSTOMER_ID: &str = "customerId";
/// Names the dimension whose different values UNIQUE counts.
const UNIQUE_DIMENSION: &str = "uniqueDimension";

/// What `aggregation` may say. The last three are ours.
#[derive(Clone, Copy)]
enum Word {
    Sum,
    Min,
    Max,
    Count,
    Average,
    Latest,
    /// Says of what in [`UNIQUE_DIMENSION`].
    Unique,
}

/// What an answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A map of meters, with the buckets that have events.
    A,
    /// An array of groups, with every bucket and the query itself.
    B,
}

/// A query with what its answer must know of the request.
#[derive(Debug, Clone)]
pub struct UsageQuery {
    /// What is asked.
    pub query: Query,
    /// How it is answered.
    pub form: Form,
    /// The query as it was received, byte for byte.
    pub metadata: Box<RawValue>,
}

/// Reads the body of `POST /usage` or `/usage/sparse`: one query.
///
/// # Errors
/// 400, `details` names the field.
pub fn parse_query(body: &[u8], account: u32, now: UnixMillis) -> Result<UsageQuery, ApiError> {
    let received: Box<RawValue> = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    read_query(received, "", account, now)
}

/// Reads the body of `POST /usage/batch` or `/usage/sparse/batch`: an array of queries, each of either form.
///
/// # Errors
/// 400, `details` names the index and the field.
pub fn parse_batch(body: &[u8], account: u32, now: UnixMillis) -> Result<Vec<UsageQuery>, ApiError> {
    let array: &RawValue = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    let received: Vec<Box<RawValue>> =
        serde_json::from_str(array.get()).map_err(|_| ApiError::bad_request("the body must be an array of usage queries"))?;
    if received.len() > BATCH_QUERIES_MAX {
        let reason = format!("the batch has {} queries, the limit is {BATCH_QUERIES_MAX}", received.len());
        return Err(ApiError::bad_request(reason));
    }
    let read = |(index, query)| read_query(query, &format!("[{index}]"), account, now);
    let queries = received.into_iter().enumerate().map(read).collect::<Result<Vec<UsageQuery>, _>>()?;
    if queries.iter().map(|asked| asked.query.look_ups()).sum::<usize>() > LOOK_UPS_MAX {
        return Err(ApiError::bad_request(format!(
            "together, the queries of the batch ask for too much: filter {}",
            QueryError::TooManyLookUps
        )));
    }
    Ok(queries)
}

fn read_query(received: Box<RawValue>, path: &str, account: u32, now: UnixMillis) -> Result<UsageQuery, ApiError> {
    let value: Value = serde_json::from_str(received.get()).map_err(|error| not_json(&error))?;
    let Value::Object(object) = &value else {
        let what = if path.is_empty() { "the body" } else { path };
        return Err(ApiError::bad_field(what, "must be an object"));
    };
    let fields = Fields::of(object, path);
    let (form, draft) = match fields.object("timeRange")? {
        Some(range) => (Form::B, read_form_b(&fields, &range, account, now)?),
        None => (Form::A, read_form_a(&fields, account)?),
    };
    let query = Query::check(draft).map_err(|error| refused(&fields, &fields, error))?;
    Ok(UsageQuery { query, form, metadata: received })
}

fn read_form_a(fields: &Fields<'_>, account: u32) -> Result<Draft, ApiError> {
    let (start_s, end_s) = (fields.required_int("startTimeInSeconds")?, fields.required_int("endTimeInSeconds")?);
    let range = TimeRange::new(start_s, end_s).map_err(|error| refused(fields, fields, error))?;
    let mut filters = read_filters(fields)?;
    filters.extend(fields.values("customerFilter")?.map(|customers| (Field::Customer, customers)));
    Ok(Draft {
        account,
        meter: fields.required_text("meterApiName")?.to_owned(),
        aggregation: read_aggregation(fields, Some(fields.required_word("aggregation", &AGGREGATIONS)?))?,
        buckets: read_buckets(fields, range)?,
        filters,
        group_by: read_group_by(fields)?,
        take: None,
    })
}

fn read_form_b(fields: &Fields<'_>, range: &Fields<'_>, account: u32, now: UnixMillis) -> Result<Draft, ApiError> {
    let start_s = range.required_int("startTimeInSeconds")?;
    let checked = match range.int("endTimeInSeconds")? {
        Some(end_s) => TimeRange::new(start_s, end_s),
        None => TimeRange::until_now(start_s, now),
    };
    let checked = checked.map_err(|error| refused(fields, range, error))?;
    Ok(Draft {
        account,
        meter: fields.required_text("meterApiName")?.to_owned(),
        aggregation: read_aggregation(fields, fields.word("aggregation", &AGGREGATIONS)?)?,
        buckets: read_buckets(fields, checked)?,
        filters: read_filters(fields)?,
        group_by: read_group_by(fields)?,
        take: fields.object("take")?.map(|take| read_take(&take)).transpose()?,
    })
}

fn read_buckets(fields: &Fields<'_>, range: TimeRange) -> Result<Buckets, ApiError> {
    let interval = fields.required_word("timeGroupingInterval", &INTERVALS)?;
    let zone = fields.text("timeZone")?.map_or(Ok(Zone::default()), Zone::find);
    zone.and_then(|zone| Buckets::new(range, interval, zone)).map_err(|error| refused(fields, fields, error))
}

fn read_aggregation(fields: &Fields<'_>, said: Option<Word>) -> Result<Option<Aggregation>, ApiError> {
    let dimension = fields.name(UNIQUE_DIMENSION, DIMENSION_KEY_BYTES_MAX)?;
    let aggregation = match (said, dimension) {
        (Some(Word::Unique), Some(name)) => Aggregation::Unique(field(&name)),
        (Some(Word::Unique), None) => return Err(fields.wrong(UNIQUE_DIMENSION, "is missing: whose different values are counted?")),
        (_, Some(_)) => return Err(fields.wrong(UNIQUE_DIMENSION, "is for the aggregation UNIQUE")),
        (None, None) => return Ok(None),
        (Some(Word::Sum), None) => Aggregation::Sum,
        (Some(Word::Min), None) => Aggregation::Min,
        (Some(Word::Max), None) => Aggregation::Max,
        (Some(Word::Count), None) => Aggregation::Count,
        (Some(Word::Average), None) => Aggregation::Average,
        (Some(Word::Latest), None) => Aggregation::Latest,
    };
    Ok(Some(aggregation))
}

fn read_filters(fields: &Fields<'_>) -> Result<Vec<(Field, Vec<String>)>, ApiError> {
    let Some(filter) = fields.object("filter")? else { return Ok(Vec::new()) };
    let mut filters = Vec::with_capacity(filter.object.len());
    for name in filter.object.keys() {
        filters.extend(filter.values(name)?.map(|values| (field(name), values)));
    }
    Ok(filters)
}

fn read_group_by(fields: &Fields<'_>) -> Result<Vec<Field>, ApiError> {
    Ok(fields.values("groupBy")?.unwrap_or_default().iter().map(|name| field(name)).collect())
}

fn read_take(take: &Fields<'_>) -> Result<Take, ApiError> {
    let limit = usize::try_from(take.required_int("limit")?).ok().and_then(NonZeroUsize::new);
    let limit = limit.ok_or_else(|| take.wrong("limit", "must be a positive whole number"))?;
    Ok(Take { limit, ascending: take.bool("isAscending")?.unwrap_or(false) })
}

fn field(name: &str) -> Field {
    if name == CUSTOMER_ID { Field::Customer } else { Field::Dimension(name.to_owned()) }
}

fn field_name(field: &Field) -> &str {
    match field {
        Field::Customer => CUSTOMER_ID,
        Field::Dimension(name) => name,
    }
}

/// What the model has against a query, at the field that it is about.
fn refused(fields: &Fields<'_>, range: &Fields<'_>, error: QueryError) -> ApiError {
    match error {
        QueryError::StartOutside => range.wrong("startTimeInSeconds", error),
        QueryError::EndOutside | QueryError::EndNotAfterStart => range.wrong("endTimeInSeconds", error),
        QueryError::TooManyBuckets | QueryError::TooManyZonedBuckets => fields.wrong("timeGroupingInterval", error),
        QueryError::ZoneUnknown => fields.wrong("timeZone", error),
        QueryError::MeterEmpty | QueryError::MeterTooLong => fields.wrong("meterApiName", error),
        QueryError::TooManyGroupKeys => fields.wrong("groupBy", error),
        QueryError::TooManyFilterValues | QueryError::TooManyLookUps => fields.wrong("filter", error),
    }
}

/// `GET /usage/all`: one question for all meters that have events in its range.
#[derive(Debug, Clone)]
pub struct AllMetersQuery {
    account: u32,
    buckets: Buckets,
    customers: Option<Vec<String>>,
    by_customer: bool,
    /// As received: spelling and digits.
    received: Map<String, Value>,
}

impl AllMetersQuery {
    /// Reads the parameters of the request.
    ///
    /// # Errors
    /// 400, `details` names the parameter.
    pub fn parse(parameters: &[(String, String)], account: u32, now: UnixMillis) -> Result<Self, ApiError> {
        // Behind a `?` everything is text; once the numbers are numbers, it reads like a body.
        let mut received = Map::new();
        for (name, text) in parameters.iter().filter(|(_, text)| !text.is_empty()) {
            let value = match name.as_str() {
                "startTimeInSeconds" | "endTimeInSeconds" => {
                    text.parse::<serde_json::Number>().map_or_else(|_| text.as_str().into(), Value::Number)
                }
                _ => Value::String(text.clone()),
            };
            if received.insert(name.clone(), value).is_some() {
                return Err(ApiError::bad_field(name, "is given twice"));
            }
        }
        let fields = Fields::of(&received, "");
        let start_s = fields.required_int("startTimeInSeconds")?;
        let range = match fields.int("endTimeInSeconds")? {
            Some(end_s) => TimeRange::new(start_s, end_s),
            None => TimeRange::until_now(start_s, now),
        };
        let buckets = read_buckets(&fields, range.map_err(|error| refused(&fields, &fields, error))?)?;
        // Nobody has a longer id, and a row's key has no place for it.
        let customers =
            fields.text(CUSTOMER_ID)?.map(|id| Some(id.to_owned()).filter(|id| id.len() <= NAME_BYTES_MAX).into_iter().collect());
        let by_customer = fields.word("groupBy", &[(CUSTOMER_ID, ())])?.is_some();
        Ok(Self { account, buckets, customers, by_customer, received })
    }

    /// Whose meters.
    pub fn account(&self) -> u32 {
        self.account
    }

    /// When.
    pub fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// What tells why there is no answer.
    pub fn unanswered(&self) -> Unanswered {
        Unanswered { account: self.account, meter: None, customers: self.customers.clone() }
    }

    /// The rows that it takes.
    pub fn view_request(&self) -> ViewRequest {
        let (from_s, to_s) = self.buckets.answered_s();
        ViewRequest { account: self.account, meter: None, from_s, to_s, customers: self.customers.clone() }
    }

    /// The question for one meter; `metadata` is the body that would ask it by itself.
    ///
    /// # Errors
    /// No meter has such a name.
    pub fn of_meter(&self, meter: &str, meter_type: MeterType) -> Result<UsageQuery, ApiError> {
        let group_by = if self.by_customer { vec![Field::Customer] } else { Vec::new() };
        let filters = self.customers.iter().map(|customers| (Field::Customer, customers.clone()));
        let draft = Draft {
            account: self.account,
            meter: meter.to_owned(),
            aggregation: None,
            buckets: self.buckets.clone(),
            filters: filters.collect(),
            group_by,
            take: None,
        };
        let query = Query::check(draft).map_err(|error| ApiError::bad_field("meterApiName", error))?;
        let metadata = serde_json::value::to_raw_value(&self.metadata(meter, meter_type)).map_err(|_| ApiError::internal())?;
        Ok(UsageQuery { query, form: Form::B, metadata })
    }

    fn metadata(&self, meter: &str, meter_type: MeterType) -> Value {
        let aggregation = match meter_type {
            MeterType::SumOfAllUsage => "SUM",
            MeterType::MaxInPeriod => "MAX",
            MeterType::UniqueCustomersCount => "COUNT",
            MeterType::Average => "AVG",
            MeterType::Latest => "LATEST",
        };
        let only = |names: &[&str]| {
            let found = names.iter().filter_map(|name| Some(((*name).to_owned(), self.received.get(*name)?.clone())));
            Value::Object(found.collect())
        };
        let mut metadata = json!({
            "meterApiName": meter,
            "aggregation": aggregation,
            "timeGroupingInterval": self.received.get("timeGroupingInterval"),
            "timeRange": only(&["startTimeInSeconds", "endTimeInSeconds"]),
        });
        if let Some(zone) = self.received.get("timeZone") {
            metadata["timeZone"] = zone.clone();
        }
        if self.by_customer {
            metadata["groupBy"] = json!([CUSTOMER_ID]);
        }
        if let Some(customer) = self.received.get(CUSTOMER_ID) {
            metadata["filter"] = json!({ CUSTOMER_ID: [customer] });
        }
        metadata
    }
}

#[cfg(test)]
mod tests;
