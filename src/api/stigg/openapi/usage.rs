//! Reports of usage, and its history.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{envelope, id, time_or_null};
use crate::accounts::Scope;
use crate::api::openapi::complete;
use crate::dialect::stigg::usage::{USAGES, USAGES_MAX};
use crate::event::{DIMENSION_KEY_BYTES_MAX, DIMENSION_VALUE_BYTES_MAX, DIMENSIONS_MAX};
use crate::openapi::{Operation, Schema};

fn usage() -> Schema {
    let scalar = Schema::any().with("type", json!(["string", "number", "boolean", "null"])).about("A text, a number or a truth value.");
    let whole = Schema::integer_in(-i64::MAX..=i64::MAX).about("How much was used.");
    Schema::object()
        .has("customerId", id().about("The customer. It need not be made."))
        .has("featureId", id().about("The meter."))
        .has("value", whole)
        .takes("updateBehavior", Schema::words_in_any_case(&["DELTA"]).about("A total cannot be `SET`, only added to."))
        .takes("createdAt", Schema::time().about("When it was used; on receipt without."))
        .takes("idempotencyKey", id().about("Tells it from its copies. One is made where there is none: then nothing can be told."))
        .takes("dimensions", Schema::map(scalar).with("maxProperties", DIMENSIONS_MAX).about("What usage is filtered and grouped by."))
        .takes("resourceId", Schema::text_to(DIMENSION_VALUE_BYTES_MAX).about("Becomes the dimension `resourceId`."))
        .named("StiggUsage")
}

fn measurement() -> Schema {
    Schema::object()
        .has("id", Schema::text().about("The `idempotencyKey`, or what was made in its place."))
        .has("createdAt", Schema::time().about("When it was received."))
        .has("timestamp", Schema::time().about("When it was used."))
        .has("customerId", Schema::text())
        .has("featureId", Schema::text())
        .has("value", Schema::number())
        .has("currentUsage", Schema::number().about("All that the customer ever used of the feature, behind this record."))
        .has("resourceId", Schema::text().or_null())
        .has("nextResetDate", time_or_null("Nothing is ever reset."))
        .has("usagePeriodStart", time_or_null("Nothing is ever reset."))
        .has("usagePeriodEnd", time_or_null("Nothing is ever reset."))
        .named("StiggMeasurement")
}

fn a_measurement() -> Value {
    json!({"id": "u-1", "createdAt": "2026-01-01T00:00:00.456Z", "timestamp": "2026-01-01T00:00:00.123Z", "customerId": "acme-7",
        "featureId": "seats", "value": 5, "currentUsage": 12, "resourceId": null, "nextResetDate": null, "usagePeriodStart": null,
        "usagePeriodEnd": null})
}

pub(in crate::api::stigg) fn report_usage() -> Operation {
    let usages = Schema::array(usage()).with("minItems", 1).with("maxItems", USAGES_MAX);
    let body = Schema::any_of([Schema::object().has(USAGES, usages).named("StiggUsages"), usage()]);
    let example = json!({USAGES: [{"customerId": "acme-7", "featureId": "seats", "value": 5, "idempotencyKey": "u-1"}]});
    let answer = Schema::any_of([Schema::array(measurement()), measurement()]);
    Operation::new("stiggReportUsage", "Report usage, and get the totals")
        .about(
            "All of them or none: after a 400 nothing is stored. A 201 means that they are on disk and counted. One usage that stands alone is answered with \
             one measurement, several with an array in their order. What is sent again under the same `idempotencyKey` counts once, and is answered with the \
             measurement that counts. The total of each is that behind its record: later ones of the same report are not in it. After a 503 send the same \
             again; where a usage has no `idempotencyKey` it says `x-should-retry: false`, as it would count again.",
        )
        .needs_all(&[Scope::Ingest, Scope::Read])
        .body(body, example)
        .answers_with(StatusCode::CREATED, "The measurements", "application/json", envelope(answer))
        .example(json!({"data": [a_measurement()]}))
}

pub(in crate::api::stigg) fn show_history() -> Operation {
    let tag = Schema::object().has("key", Schema::text()).has("value", Schema::text().about("Empty: of usage without this dimension."));
    let point = Schema::object()
        .has("timestamp", Schema::time().about("The begin of the day."))
        .has("value", Schema::number())
        .has("isResetPoint", Schema::flag().with("const", false));
    let series =
        Schema::object().has("tags", Schema::array(tag).with("maxItems", 1)).has("points", Schema::array(point)).named("StiggSeries");
    let data = Schema::object()
        .has("markers", Schema::array(Schema::any()).with("maxItems", 0).about("Nothing is ever reset."))
        .has("series", Schema::array(series).about("Those with the highest sums first; empty where nothing was used."));
    let point = json!({"timestamp": "2026-01-01T00:00:00.000Z", "value": 12, "isResetPoint": false});
    let example = json!({"data": {"markers": [], "series": [{"tags": [{"key": "region", "value": "eu-1"}], "points": [point]}]}});
    let (name, about, schema) = complete();
    Operation::new("stiggShowUsageHistory", "Read what a customer used, day by day")
        .about(
            "A point for each day of UTC with usage: the sum of the whole day, of all days that the range touches. `Tollgate-Range` says where that is more than \
             what was asked for. At most 100,000 points.",
        )
        .needs(Scope::Read)
        .path("customerId", Schema::text())
        .path("featureId", Schema::text().about("The meter."))
        .required_query("startDate", Schema::time())
        .query("endDate", Schema::time().about("It is not part of the range. Without it the range ends now."))
        .query("groupBy", Schema::text().with("maxLength", DIMENSION_KEY_BYTES_MAX).about("A dimension: one series for each of its values."))
        .query("resourceId", Schema::text().about("Of this resource only."))
        .header("Prefer", Schema::text().about("`wait=N`: seconds to wait for what was just acknowledged; without it 2."))
        .may_be_unknown()
        .answers("The history", envelope(data))
        .example(example)
        .always_with_header(name, about, schema)
        .always_with_header("Tollgate-Positions", "Up to where the rows go: `partition=next position`, comma-separated.", Schema::text())
        .with_header("Tollgate-Range", "`start-end` in seconds, where whole days are more than what was asked for.", Schema::text())
        .with_header(
            "Tollgate-Overflow",
            "Events that have lost their dimensions were filtered or grouped by dimensions.",
            Schema::words(&["true"]),
        )
}
