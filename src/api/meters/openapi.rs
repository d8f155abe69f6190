//! The description of meter definitions.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::accounts::Scope;
use crate::api::openapi::meter_name;
use crate::event::{DIMENSION_KEY_BYTES_MAX, DIMENSIONS_MAX};
use crate::meters::TEXT_BYTES_MAX;
use crate::openapi::{Operation, Schema};

const TYPES: [&str; 3] = ["SUM_OF_ALL_USAGE", "MAX_IN_PERIOD", "UNIQUE_CUSTOMERS_COUNT"];

fn definition_in() -> Schema {
    let name = || Schema::name_to(TEXT_BYTES_MAX);
    let dimensions = Schema::array(Schema::text_to(DIMENSION_KEY_BYTES_MAX)).with("maxItems", DIMENSIONS_MAX);
    Schema::object()
        .has("meterApiName", meter_name())
        .has("displayName", name())
        .has("type", Schema::words_in_any_case(&TYPES).about("What usage is of it when a query does not say."))
        .takes("label", name().about("Without it the `meterApiName`."))
        .takes("dimensions", dimensions)
        .named("NewMeterDefinition")
}

fn definition() -> Schema {
    Schema::object()
        .has("meterApiName", Schema::text())
        .has("displayName", Schema::text())
        .has("label", Schema::text())
        .has("type", Schema::words(&TYPES))
        .has("dimensions", Schema::array(Schema::text()))
        .has("meterTimeInMillis", Schema::integer().about("When it was defined, in milliseconds since 1970."))
        .named("MeterDefinition")
}

fn a_definition() -> Value {
    json!({"meterApiName": "tokens", "displayName": "Tokens", "label": "tokens", "type": "SUM_OF_ALL_USAGE", "dimensions": ["model"],
        "meterTimeInMillis": 1_767_225_600_000_i64})
}

fn answers_definition(operation: Operation) -> Operation {
    operation.answers("The definition", definition()).example(a_definition())
}

pub(super) fn list() -> Operation {
    Operation::new("listMeters", "List meter definitions")
        .about("Those that are defined, in the order of their making; a meter that only has events is not among them.")
        .needs(Scope::Read)
        .answers("The definitions", Schema::array(definition()))
        .example(json!([a_definition()]))
}

fn with_body(operation: Operation) -> Operation {
    let example = json!({"meterApiName": "tokens", "displayName": "Tokens", "type": "SUM_OF_ALL_USAGE", "dimensions": ["model"]});
    answers_definition(operation.needs(Scope::Admin).body(definition_in(), example))
}

pub(super) fn create() -> Operation {
    with_body(Operation::new("createMeter", "Define a meter"))
        .refuses(StatusCode::BAD_REQUEST, "Something is wrong with the request; `DUPLICATE`: it is defined.")
}

pub(super) fn replace() -> Operation {
    with_body(Operation::new("updateMeter", "Replace a meter definition"))
        .refuses(StatusCode::BAD_REQUEST, "Something is wrong with the request; `NOT_FOUND`: it is not defined.")
}

pub(super) fn show() -> Operation {
    one(Operation::new("getMeter", "Read a meter definition").needs(Scope::Read))
}

pub(super) fn remove() -> Operation {
    one(Operation::new("deleteMeter", "Forget a meter definition").about("Its events and its usage stay.").needs(Scope::Admin))
}

fn one(operation: Operation) -> Operation {
    answers_definition(operation.path("meterApiName", Schema::text())).may_be_unknown()
}
