//! The description of where the events of the other dialects come in (contract `octane.md` section 2, `stigg.md` section 4, `cloudevents.md`
//! section 1). What is said of the gateway's [`Door`](crate::gateway::door::Door)s.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::{amount, rejected_header};
use crate::accounts::Scope;
use crate::api::{OCTANE, OPENMETER, STIGG, error_form};
use crate::dialect::routing::Dialect;
use crate::event::{DIMENSION_KEY_BYTES_MAX, DIMENSION_VALUE_BYTES_MAX, DIMENSIONS_MAX, NAME_BYTES_MAX};
use crate::openapi::{Described, Operation, Schema};

const JSON: &str = "application/json";
const CLOUD_EVENT: &str = "application/cloudevents+json";
const CLOUD_EVENTS: &str = "application/cloudevents-batch+json";

/// All of them. `body_max`: bytes of a body of events.
pub(super) fn described(body_max: usize) -> Vec<Described> {
    let of = |dialect: Dialect, tag, path: &str, operation: Operation| Described {
        method: Method::POST,
        path: format!("{}{path}", dialect.prefix()),
        tag,
        operation: operation.needs(Scope::Ingest).body_max(body_max).with_errors(error_form(dialect)),
    };
    vec![
        of(Dialect::Octane, OCTANE, "/measurements", send_measurement()),
        of(Dialect::Octane, OCTANE, "/measurements/multi", send_measurements()),
        of(Dialect::Stigg, STIGG, "/api/v1/events", send_stigg_events()),
        of(Dialect::CloudEvents, OPENMETER, "/api/v1/events", send_cloud_events()),
    ]
}

fn name() -> Schema {
    Schema::name_to(NAME_BYTES_MAX)
}

fn time(absent: &str) -> Schema {
    Schema::time().about(absent)
}

fn labels() -> Schema {
    Schema::map(Schema::text_to(DIMENSION_VALUE_BYTES_MAX).or_null())
        .with("maxProperties", DIMENSIONS_MAX)
        .with("propertyNames", json!({"maxLength": DIMENSION_KEY_BYTES_MAX}))
        .about("What usage is filtered and grouped by.")
}

/// What a measurement has but for its id and its time.
fn measurement_body() -> Schema {
    Schema::object()
        .has("value", amount())
        .takes("meter_name", name().about("The meter."))
        .takes(
            "event_name",
            Schema::text().about("Where there is no `meter_name`: all meters that are defined with it, or the meter of that name."),
        )
        .takes("customer_name", name().about("Without it, the customer is the one whose mapping a label meets."))
        .takes("labels", labels())
        .takes("reset_total", Schema::flag().with("const", false).about("A total cannot be set, only added to."))
}

fn measurement() -> Schema {
    measurement_body()
        .takes(
            "time",
            time("When it was used; in UTC where there is no offset, and on receipt where there is no time. Microseconds are kept."),
        )
        .takes("id", name().about("Tells it from its copies. One is made where there is none, of meter, customer, time and labels."))
        .named("OctaneMeasurement")
}

/// As it was sent, with what was not.
fn measurement_taken() -> Schema {
    measurement_body()
        .has("time", Schema::text().about("As it was sent, or as it was made: RFC 3339."))
        .has("id", Schema::text().about("As it was sent, or as it was made."))
        .with("additionalProperties", true)
        .named("OctaneMeasurementTaken")
}

fn a_measurement() -> Value {
    json!({"value": 12.5, "meter_name": "tokens", "customer_name": "acme-7", "time": "2026-01-01T00:00:00.123456Z", "labels": {"region": "eu-1"}, "id": "m-1"})
}

fn send_measurement() -> Operation {
    Operation::new("octaneSendMeasurement", "Send a measurement")
        .about("A 200 means that it is on disk and visible to every query that begins after it.")
        .body(measurement(), a_measurement())
        .answers("The measurement as it was sent, with the id and the time that it has", measurement_taken())
        .example(a_measurement())
}

fn send_measurements() -> Operation {
    Operation::new("octaneSendMeasurements", "Send measurements")
        .about("All of them or none: after a 400 nothing is stored.")
        .body(Schema::array(measurement()), json!([a_measurement()]))
        .answers("The measurements, in their order, with the ids and the times that they have", Schema::array(measurement_taken()))
        .example(json!([a_measurement()]))
}

fn scalar(about: &str) -> Schema {
    Schema::any().with("type", json!(["string", "number", "boolean", "null"])).about(about)
}

fn send_stigg_events() -> Operation {
    let dimensions = Schema::map(scalar("A text, a number or a truth value."))
        .with("maxProperties", DIMENSIONS_MAX)
        .about("What usage is filtered and grouped by. A numeric `value` is how much was used.");
    let event = Schema::object()
        .has("customerId", name())
        .has("eventName", name().about("The meter."))
        .has("idempotencyKey", name().about("Tells it from its copies."))
        .takes("timestamp", time("When it was used; on receipt without."))
        .takes("dimensions", dimensions)
        .takes("resourceId", Schema::text_to(DIMENSION_VALUE_BYTES_MAX).about("Becomes the dimension `resourceId`."))
        .named("StiggEvent");
    let events = Schema::array(event).with("minItems", 1).with("maxItems", 1_000);
    let example = json!({"events": [{"customerId": "acme-7", "eventName": "tokens", "idempotencyKey": "e-1",
        "timestamp": "2026-01-01T00:00:00.123Z", "dimensions": {"value": 12, "region": "eu-1"}}]});
    rejected_header(
        Operation::new("stiggReportEvents", "Report events")
            .about(
                "A 200 means that every event taken is on disk. Where some are bad, the good ones are taken, the bad ones are kept as dead letters, and \
                 `Tollgate-Rejected` counts them; where none is good, the answer is 400 and nothing is stored.",
            )
            .body(Schema::object().has("events", events), example)
            .answers("The events that were taken are durable", Schema::object().has("data", Schema::object()))
            .example(json!({"data": {}})),
    )
}

fn cloud_event() -> Schema {
    let no_text = || Schema::name_to(NAME_BYTES_MAX);
    Schema::object()
        .has("id", no_text().about("Tells it from its copies, together with `source`."))
        .has("source", Schema::name_to(DIMENSION_VALUE_BYTES_MAX).about("Becomes the dimension `ce.source`."))
        .has("type", no_text().about("All meters that are defined with it, or the meter of that name."))
        .has("subject", no_text().about("The customer."))
        .takes("specversion", Schema::words(&["1.0"]))
        .takes("time", time("When it was used; on receipt without."))
        .takes("datacontenttype", Schema::text().about("`application/json`.").example(JSON))
        .takes("dataschema", Schema::text().about("Not looked at."))
        .takes(
            "data",
            Schema::map(Schema::any())
                .about("Its texts, numbers and truth values are dimensions. Without a defined meter a numeric `value` is how much was used, else 1."),
        )
        .with("additionalProperties", true)
        .about("Other attributes that are texts, numbers or truth values are dimensions.")
        .named("CloudEvent")
}

fn a_cloud_event() -> Value {
    json!({"specversion": "1.0", "id": "e-1", "source": "svc-a", "type": "tokens", "subject": "acme-7", "time": "2026-01-01T00:00:00.5Z",
        "data": {"value": 42, "model": "m-2"}})
}

fn send_cloud_events() -> Operation {
    let batch = || Schema::array(cloud_event());
    let data = Schema::map(Schema::any()).about("In binary mode: the data of the event.");
    let header = |about: &str| Schema::text().about(about);
    rejected_header(
        Operation::new("openmeterIngestEvents", "Send CloudEvents")
            .about(
                "In structured mode (one event), in batches, as plain JSON (one event or an array), or in binary mode: the attributes in headers, percent-encoded, \
                 and the data in the body. Extension attributes are in headers `ce-<name>` there. A 204 means that every event taken is on disk. Where some of an \
                 array are bad, the good ones are taken, the bad ones are kept as dead letters, and `Tollgate-Rejected` counts them; where none is good, the \
                 answer is 400 and nothing is stored.",
            )
            .header("ce-specversion", header("Its being there says that the event is in binary mode: `1.0`."))
            .header("ce-id", header("In binary mode: `id`."))
            .header("ce-source", header("In binary mode: `source`."))
            .header("ce-type", header("In binary mode: `type`."))
            .header("ce-subject", header("In binary mode: `subject`."))
            .header("ce-time", header("In binary mode: `time`."))
            .form(CLOUD_EVENT, cloud_event(), a_cloud_event())
            .form(CLOUD_EVENTS, batch(), json!([a_cloud_event()]))
            .form(JSON, Schema::any_of([cloud_event(), batch(), data]), a_cloud_event())
            .answers_empty(StatusCode::NO_CONTENT, "The events that were taken are durable"),
    )
}
