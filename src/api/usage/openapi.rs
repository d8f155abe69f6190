//! The description of usage queries.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::WAIT_MAX_S;
use crate::accounts::Scope;
use crate::api::openapi::{complete, customer_id};
use crate::dialect::amberflo::usage::BATCH_QUERIES_MAX;
use crate::event::{DIMENSION_KEY_BYTES_MAX, NAME_BYTES_MAX};
use crate::openapi::{Operation, Schema};
use crate::usage::{BUCKETS_MAX, FILTER_VALUES_MAX, GROUP_BY_MAX, TIME_S_MAX};

fn seconds(about: &str) -> Schema {
    Schema::integer_in(0..=TIME_S_MAX).about(about).about("Seconds since 1970.")
}

/// Of a name that no meter can have there is no usage, as of any other that nobody knows.
fn meter_name() -> Schema {
    Schema::text().with("minLength", 1).with("maxLength", NAME_BYTES_MAX).about("The meter.")
}

fn aggregation() -> Schema {
    Schema::words_in_any_case(&["SUM", "MIN", "MAX", "COUNT", "AVG", "LATEST", "UNIQUE"])
}

/// What is beyond the contract: whose different values UNIQUE counts, and where a day begins.
fn with_ours(query: Schema) -> Schema {
    query
        .takes("uniqueDimension", Schema::name_to(DIMENSION_KEY_BYTES_MAX).about("Whose different values `UNIQUE` counts."))
        .takes("timeZone", time_zone())
}

fn time_zone() -> Schema {
    Schema::text().about("A name of the IANA database, such as `Europe/Berlin`; without it UTC.").example("Europe/Berlin")
}

fn interval() -> Schema {
    Schema::words_in_any_case(&["HOUR", "DAY", "WEEK", "MONTH"]).about("Of UTC, or of the time zone; a week begins on Monday.")
}

/// A text, or an array of them.
fn texts(about: &str) -> Schema {
    Schema::any_of([Schema::text(), Schema::array(Schema::text()), Schema::null()]).about(about)
}

fn group_by() -> Schema {
    texts(&format!("`customerId` and names of dimensions, at most {GROUP_BY_MAX}."))
}

fn filter() -> Schema {
    let about = format!("By `customerId` and names of dimensions: one of these values, of at most {FILTER_VALUES_MAX} in all.");
    Schema::map(texts("Any of these.")).about(&about)
}

fn query_a() -> Schema {
    let query = Schema::object()
        .has("meterApiName", meter_name())
        .has("aggregation", aggregation())
        .has("timeGroupingInterval", interval())
        .has("startTimeInSeconds", seconds("The first."))
        .has("endTimeInSeconds", seconds("The end, which is not part of it."))
        .may_have("timeRange", Schema::null())
        .may_have("groupBy", group_by())
        .takes("filter", filter())
        .may_have("customerFilter", texts("Customers, any of which."));
    with_ours(query).named("UsageQueryA")
}

fn query_b() -> Schema {
    let range = Schema::object()
        .has("startTimeInSeconds", seconds("The first."))
        .takes("endTimeInSeconds", seconds("The end, which is not part of it; without it now."));
    let take = Schema::object()
        .has("limit", Schema::integer().with("minimum", 1).about("Groups, those with the highest values."))
        .takes("isAscending", Schema::flag().about("Those with the lowest."));
    let query = Schema::object()
        .has("meterApiName", meter_name())
        .has("timeGroupingInterval", interval())
        .has("timeRange", range)
        .takes("aggregation", aggregation().about("Without it what the meter's type says: a sum, if it is not defined."))
        .may_have("groupBy", group_by())
        .takes("filter", filter())
        .takes("take", take);
    with_ours(query).named("UsageQueryB")
}

fn query() -> Schema {
    Schema::any_of([query_b(), query_a()])
}

fn report_a() -> Schema {
    let record = Schema::map(Schema::number()).about("The begin of a bucket, in seconds since 1970, with its value.");
    let group = Schema::object().has("groupInfo", Schema::map(Schema::text())).has("records", Schema::array(record));
    Schema::object().has("clientMeters", Schema::map(Schema::array(group)).about("By the name of the meter.")).named("UsageReportA")
}

fn report_b() -> Schema {
    let value = Schema::object()
        .has("value", Schema::number())
        .has("secondsSinceEpochUtc", Schema::integer())
        .has("percentageFromPrevious", Schema::number());
    let group = Schema::object()
        .has("group", Schema::object().has("groupInfo", Schema::map(Schema::text())))
        .has("groupValue", Schema::number().about("Over the whole range."))
        .has("values", Schema::array(value));
    Schema::object()
        .has("metadata", Schema::map(Schema::any()).about("The query as it was received."))
        .has("secondsSinceEpochIntervals", Schema::array(Schema::integer()).about("The begins of all buckets."))
        .has("clientMeters", Schema::array(group))
        .named("UsageReportB")
}

fn report() -> Schema {
    Schema::any_of([report_b(), report_a()])
}

fn a_query() -> Value {
    json!({"meterApiName": "tokens", "aggregation": "SUM", "timeGroupingInterval": "DAY", "groupBy": ["customerId"],
        "startTimeInSeconds": 1_767_225_600, "endTimeInSeconds": 1_767_312_000})
}

fn a_report() -> Value {
    json!({"clientMeters": {"tokens": [{"groupInfo": {"customerId": "acme-7"}, "records": [{"1767225600": 12.5}]}]}})
}

fn yes() -> Schema {
    Schema::words(&["true"])
}

/// What all of Amberflo's queries have in common.
fn asks(operation: Operation, answer: Schema, example: Value) -> Operation {
    let operation = operation
        .needs(Scope::Read)
        .answers("The answer has the form that the query has", answer)
        .example(example)
        .answers_with(StatusCode::OK, "The answer has the form that the query has", "text/csv", Schema::text())
        .with_header("Tollgate-Meters-Cut", "There are more meters than an answer has.", yes());
    from_rows(operation)
}

/// What the last answer has in common with all that are read from rows: its headers, and how long to wait for it.
pub(in crate::api) fn from_rows(operation: Operation) -> Operation {
    let (name, about, schema) = complete();
    let wait = format!("`wait=N`: seconds to wait for what was just acknowledged, up to {WAIT_MAX_S}; without it 2.");
    operation
        .header("Prefer", Schema::text().about(&wait))
        .always_with_header(name, about, schema)
        .always_with_header("Tollgate-Positions", "Up to where the rows go: `partition=next position`, comma-separated.", Schema::text())
        .with_header("Tollgate-Range", "`start-end` in seconds, where a range was moved to whole hours.", Schema::text())
        .with_header("Tollgate-Buckets-Moved", "Buckets of a time zone that is not whole hours away from UTC begin up to an hour early.", yes())
        .with_header(
            "Tollgate-Approximate",
            "Of numbers of different values: `standard-error=0.0163` if some are estimates, `lower-bound` if there may be more of some.",
            Schema::text(),
        )
        .with_header(
            "Tollgate-Empty",
            "Why there is no group: `no-such-meter`, `customer-never-seen`, `outside-range` or `filter-matched-nothing`; in a batch one for each query.",
            Schema::text(),
        )
        .always_with_header("Vary", "The answer depends on `Accept`.", Schema::text())
        .with_header("Tollgate-Groups-Cut", "There are more groups than an answer has.", yes())
        .with_header(
            "Tollgate-Overflow",
            "Events that have lost their dimensions were filtered or grouped by dimensions.",
            yes(),
        )
}

fn about(gaps: &str) -> String {
    format!(
        "Two forms: with `timeRange` the answer has groups with a value for each bucket ({gaps}); with `startTimeInSeconds` beside the other fields it maps the \
         meter to groups with the buckets that have events. A range has at most {BUCKETS_MAX} buckets, and is widened to whole hours. A meter that nobody knows \
         has no usage, and is no error."
    )
}

pub(super) fn one() -> Operation {
    let operation = Operation::new("queryUsage", "Ask for usage").about(&about("0 where nothing was used"));
    asks(operation.body(query(), a_query()), report(), a_report())
}

pub(super) fn sparse_one() -> Operation {
    let operation = Operation::new("querySparseUsage", "Ask for usage, without gaps").about(&about("those that have events"));
    asks(operation.body(query(), a_query()), report(), a_report())
}

fn several(operation: Operation) -> Operation {
    let body = Schema::array(query()).with("maxItems", BATCH_QUERIES_MAX);
    let operation = operation.about(&format!("At most {BATCH_QUERIES_MAX} queries, each of either form; answers are in their order."));
    asks(operation.body(body, json!([a_query()])), Schema::array(report()), json!([a_report()]))
}

pub(super) fn batch() -> Operation {
    several(Operation::new("queryUsageBatch", "Ask for several usages at once"))
}

pub(super) fn sparse_batch() -> Operation {
    several(Operation::new("querySparseUsageBatch", "Ask for several usages at once, without gaps"))
}

pub(super) fn all_meters() -> Operation {
    let operation = Operation::new("queryAllUsage", "Ask for the usage of all meters")
        .about("One report for each meter that has events in the range, by what its type says.")
        .required_query("startTimeInSeconds", seconds("The first."))
        .required_query("timeGroupingInterval", interval())
        .query("endTimeInSeconds", seconds("The end, which is not part of it; without it now."))
        .query("timeZone", time_zone())
        .query("groupBy", Schema::words_in_any_case(&["customerId"]))
        .query("customerId", customer_id());
    asks(operation, Schema::array(report_b()), json!([]))
}
