//! Meters.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{deletes, name, name_in};
use crate::accounts::Scope;
use crate::event::{DIMENSION_KEY_BYTES_MAX, DIMENSIONS_MAX};
use crate::meters::TEXT_BYTES_MAX;
use crate::openapi::{Operation, Schema};

pub(super) const AGGREGATIONS: [&str; 8] = ["SUM", "COUNT", "MAX", "MIN", "UNIQUE_COUNT", "AVG", "TIME_WEIGHTED_SUM", "LATEST"];

fn labels() -> Schema {
    Schema::array(Schema::text_to(DIMENSION_KEY_BYTES_MAX)).with("maxItems", DIMENSIONS_MAX)
}

fn meter_in() -> Schema {
    let words = |words: &[&str]| Schema::words_in_any_case(words);
    Schema::object()
        .has("name", name_in("What it is called by; never changes."))
        .has("event_name", name_in("What measurements are called that it counts."))
        .has("meter_type", words(&["COUNTER", "GAUGE"]).about("The usage of a gauge is its latest value."))
        .has("data_type", words(&["INT", "FLOAT", "STRING", "CONTINUOUS", "DISCRETE"]).about("Kept, without effect."))
        .has(
            "aggregation",
            words(&AGGREGATIONS).about("How many values of a counter become one; asking for a TIME_WEIGHTED_SUM is refused."),
        )
        .has("is_incremental", Schema::flag().about("Kept, without effect."))
        .has("reporting_method", words(&["PERIODIC", "TOTAL", "DELTA"]).about("Kept, without effect."))
        .takes("display_name", Schema::text_to(TEXT_BYTES_MAX).about("For people; without it the name."))
        .takes("description", Schema::text_to(TEXT_BYTES_MAX))
        .takes("unit_name", Schema::text_to(TEXT_BYTES_MAX))
        .takes("expected_labels", labels().about("Nothing is refused on their account."))
        .takes("primary_labels", labels().about("`UNIQUE_COUNT` counts the different values of the only one; without one, customers."))
        .may_have("event_label_filter", Schema::any().about("Kept, at most 4096 bytes of JSON."))
        .named("NewOctaneMeter")
}

fn meter() -> Schema {
    let texts = ["name", "event_name", "meter_type", "data_type", "aggregation", "reporting_method", "display_name"];
    texts
        .into_iter()
        .fold(Schema::object(), |meter, name| meter.has(name, Schema::text()))
        .has("is_incremental", Schema::flag())
        .has("expected_labels", Schema::array(Schema::text()))
        .has("primary_labels", Schema::array(Schema::text()))
        .may_have("description", Schema::text())
        .may_have("unit_name", Schema::text())
        .may_have("event_label_filter", Schema::any())
        .may_have("is_archived", Schema::yes())
        .about("What one of these fields was sent as, it is answered as.")
        .named("OctaneMeter")
}

fn a_new_meter() -> Value {
    json!({"name": "calls", "event_name": "call", "meter_type": "COUNTER", "data_type": "INT", "aggregation": "SUM", "is_incremental": true,
        "reporting_method": "DELTA", "expected_labels": ["region"]})
}

fn a_meter() -> Value {
    let mut meter = a_new_meter();
    (meter["display_name"], meter["primary_labels"]) = ("calls".into(), json!([]));
    meter
}

fn answers_meter(operation: Operation) -> Operation {
    operation.answers("The meter", meter()).example(a_meter())
}

fn of_meter(id: &str, summary: &str, scope: Scope) -> Operation {
    Operation::new(id, summary).needs(scope).path("name", name("The meter.")).may_be_unknown()
}

pub(in crate::api::octane) fn list() -> Operation {
    Operation::new("octaneListMeters", "List meters")
        .needs(Scope::Read)
        .answers("Those that are not archived, in the order of their making", Schema::array(meter()))
        .example(json!([a_meter()]))
}

pub(in crate::api::octane) fn create() -> Operation {
    let operation = Operation::new("octaneCreateMeter", "Define a meter")
        .needs(Scope::Admin)
        .body(meter_in(), a_new_meter())
        .refuses(StatusCode::BAD_REQUEST, "Something is wrong with the request; `already_exists`: there is such a meter.");
    answers_meter(operation)
}

pub(in crate::api::octane) fn show() -> Operation {
    answers_meter(of_meter("octaneGetMeter", "Read a meter", Scope::Read))
}

pub(in crate::api::octane) fn change() -> Operation {
    let text = || Schema::text_to(TEXT_BYTES_MAX).about("An empty one clears it.");
    let patch = Schema::object().takes("display_name", text()).takes("description", text()).named("OctaneMeterPatch");
    let operation = of_meter("octaneUpdateMeter", "Change what a meter is called", Scope::Admin)
        .about("Nothing else of it can be changed, and other fields are passed over.")
        .body(patch, json!({"display_name": "API calls"}));
    answers_meter(operation)
}

pub(in crate::api::octane) fn remove() -> Operation {
    deletes(
        of_meter("octaneDeleteMeter", "Delete a meter", Scope::Admin).about("Its usage stays, and is that of a meter that nobody defined."),
    )
}

pub(in crate::api::octane) fn archive() -> Operation {
    let operation = of_meter("octaneArchiveMeter", "Take a meter out of the list", Scope::Admin)
        .about("It can still be read, and it still counts.")
        .optional_body(Schema::any().about("Not looked at."), json!({}));
    answers_meter(operation)
}
