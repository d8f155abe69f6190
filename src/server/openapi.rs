//! The description of what the server answers by itself: events, health and metrics.

mod doors;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::accounts::Scope;
use crate::api::{INGEST as INGEST_TAG, OPERATION};
use crate::event::{DIMENSION_KEY_BYTES_MAX, DIMENSION_VALUE_BYTES_MAX, DIMENSIONS_MAX, MEASUREMENTS_MAX, NAME_BYTES_MAX, TIME_MAX};
use crate::gateway::RECEIPT_TYPE;
use crate::openapi::{Described, Operation, Schema};

/// Where events come in.
pub(super) const INGEST: &str = "/ingest";
/// Whether the process lives.
pub(super) const HEALTH: &str = "/healthz";
/// Whether it can do its work.
pub(super) const READINESS: &str = "/readyz";
/// What is counted.
pub(super) const METRICS: &str = "/metrics";

/// What is answered here. `body_max`: bytes of a body of events; `serves_ops`: whether health and metrics are served where everything is.
pub fn described(body_max: usize, serves_ops: bool) -> Vec<Described> {
    let of = |method, path: &str, tag, operation| Described { method, path: path.into(), tag, operation };
    let mut all = vec![of(Method::POST, INGEST, INGEST_TAG, ingest().body_max(body_max))];
    all.extend(doors::described(body_max));
    if serves_ops {
        all.push(of(Method::GET, HEALTH, OPERATION, plain(Operation::new("getHealth", "Whether the process lives"), "It does")));
        let readiness = Operation::new("getReadiness", "Whether it can do its work");
        let readiness = plain(readiness, "It can").answers_with(
            StatusCode::SERVICE_UNAVAILABLE,
            "A line for each thing that is missing",
            "text/plain",
            Schema::text(),
        );
        all.push(of(Method::GET, READINESS, OPERATION, readiness));
        let metrics = plain(Operation::new("getMetrics", "Metrics, for Prometheus"), "The metrics").may_be_unavailable();
        all.push(of(Method::GET, METRICS, OPERATION, metrics));
    }
    all
}

fn plain(operation: Operation, about: &str) -> Operation {
    operation.answers_with(StatusCode::OK, about, "text/plain", Schema::text())
}

fn dimensions() -> Schema {
    Schema::map(Schema::text_to(DIMENSION_VALUE_BYTES_MAX).or_null())
        .with("maxProperties", DIMENSIONS_MAX)
        .with("propertyNames", json!({"maxLength": DIMENSION_KEY_BYTES_MAX}))
}

fn amount() -> Schema {
    Schema::number()
        .with("exclusiveMinimum", -1e20)
        .with("exclusiveMaximum", 1e20)
        .about("An exact decimal of up to 12 places; may be negative.")
}

fn meter_event() -> Schema {
    let values = Schema::map(amount().or_null()).with("maxProperties", MEASUREMENTS_MAX);
    Schema::object()
        .has("customerId", Schema::name_to(NAME_BYTES_MAX))
        .has("meterTimeInMillis", Schema::integer_in(1..=TIME_MAX.0).about("When it was used, in milliseconds since 1970."))
        .takes(
            "uniqueId",
            Schema::name_to(NAME_BYTES_MAX).about("Tells it from its copies. One is made where there is none: then nothing can be told."),
        )
        .takes("meterApiName", Schema::name_to(NAME_BYTES_MAX))
        .takes("meterValue", amount())
        .takes("values", values.about("Several meters at once, in place of `meterApiName` and `meterValue`."))
        .takes("dimensions", dimensions())
        .named("MeterEvent")
}

fn custom_event() -> Schema {
    let about = "With `schemaDetection=AUTO`: any object. `customerId`, `customer_id`, `customer` or `subject` is the customer; `meterApiName`, `meter`, \
                 `event` or `type` the meter (`custom` without); `meterValue`, `value`, `usage`, `amount` or `quantity` the amount (1 without); \
                 `meterTimeInMillis`, `created`, `timestamp`, `time` or `ts` the time (of receipt without); `uniqueId`, `id` or `eventId` the uniqueId (a hash \
                 of the record without). All other texts, numbers and truth values are dimensions.";
    Schema::map(Schema::any()).about(about).named("CustomEvent")
}

fn an_event() -> Value {
    json!({"uniqueId": "u-1", "meterApiName": "tokens", "customerId": "acme-7", "meterValue": 12.5, "meterTimeInMillis": 1_767_225_600_123_i64,
        "dimensions": {"region": "eu-1"}})
}

fn receipt() -> Schema {
    let durable = Schema::object()
        .has("index", Schema::count())
        .has("verdict", Schema::words(&["logged", "known"]).about("`known`: it was durable before."))
        .has("uniqueId", Schema::text())
        .may_have("partition", Schema::count().or_null())
        .may_have("position", Schema::count().or_null());
    let rejected = Schema::object()
        .has("index", Schema::count())
        .has("verdict", Schema::words(&["rejected"]))
        .has("code", Schema::text())
        .has("field", Schema::text())
        .has("reason", Schema::text());
    Schema::object()
        .has("received", Schema::count())
        .has("logged", Schema::count())
        .has("known", Schema::count())
        .has("rejected", Schema::count())
        .has("events", Schema::array(Schema::any_of([durable, rejected])))
        .named("Receipt")
}

fn ingest() -> Operation {
    let custom = || Schema::any_of([custom_event(), Schema::array(custom_event())]);
    let json = Schema::any_of([meter_event(), Schema::array(meter_event()), custom()]);
    let lines = format!("{}\n{}\n", an_event(), an_event().to_string().replace("u-1", "u-2"));
    let table = "uniqueId,meterApiName,customerId,meterValue,meterTimeInMillis,region\nu-1,tokens,acme-7,12.5,1767225600123,eu-1\n";
    let operation = Operation::new("ingestMeterEvents", "Send events")
        .about(
            "One, an array, one a line, or a table. A 200 means that every event taken is on disk. Where some are bad, the good ones are taken, the bad ones \
             are kept as dead letters, and `Tollgate-Rejected` counts them; where none is good, or the only one is bad, the answer is 400 and nothing is stored.",
        )
        .needs(Scope::Ingest)
        .query("schemaDetection", Schema::words_in_any_case(&["AUTO"]).about("The events are custom ones: any objects, any tables."))
        .query("ingestSchemaId", Schema::text().with("minLength", 1).about("The same."))
        .header("Prefer", Schema::text().about("`handling=strict`: all of them or none."))
        .form("application/json", json, json!([an_event()]))
        .form("application/x-ndjson", Schema::text().about("An event a line."), lines.into())
        .form("text/csv", Schema::text().about("A header row, and an event a row. Columns that are no fields are dimensions."), table.into())
        .answers_with(StatusCode::OK, "The events that were taken are durable", "text/plain", Schema::text().with("pattern", "^[0-9]+ records were ingested$"))
        .example("1 records were ingested".into())
        .answers_with(StatusCode::OK, "The events that were taken are durable", RECEIPT_TYPE, receipt());
    rejected_header(operation)
}

/// What the last answer says where some events were taken and others not.
fn rejected_header(operation: Operation) -> Operation {
    operation.with_header("Tollgate-Rejected", "How many events went to the dead letters.", Schema::integer().with("minimum", 1))
}
