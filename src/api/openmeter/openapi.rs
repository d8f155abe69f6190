//! The description of OpenMeter's routes.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::events::LIMIT_MAX;
use super::meters::PAGE_SIZE;
use crate::accounts::Scope;
use crate::api::usage::from_rows;
use crate::dialect::cloudevents::json_path::PATH_BYTES_MAX;
use crate::dialect::cloudevents::meters::{Aggregation, GROUPS_MAX, METADATA_MAX, NAME_CHARS_MAX, SLUG_BYTES_MAX, TEXT_CHARS_MAX};
use crate::event::NAME_BYTES_MAX;
use crate::meters::{EVENT_METERS_MAX, METERS_MAX};
use crate::openapi::{Operation, Schema};
use crate::usage::GROUP_BY_MAX;

fn path(about: &str) -> Schema {
    Schema::text_to(PATH_BYTES_MAX).about("A JSONPath into the event's data that names one value, such as `$.usage.tokens`.").about(about)
}

fn chars_to(chars_max: usize) -> Schema {
    Schema::text().with("maxLength", chars_max).with("pattern", "^[^\\u0000]*$")
}

fn groups() -> Schema {
    let about = format!("Names of groups (letters, digits and `_`), and where their values are. At most {GROUPS_MAX}.");
    Schema::map(path("")).about(&about).with("maxProperties", GROUPS_MAX)
}

fn changeable(object: Schema) -> Schema {
    object
        .takes("name", chars_to(NAME_CHARS_MAX).with("minLength", 1).about("Without it the slug."))
        .takes("description", chars_to(TEXT_CHARS_MAX))
        .takes("metadata", Schema::map(chars_to(TEXT_CHARS_MAX)).with("maxProperties", METADATA_MAX))
        .takes("groupBy", groups())
}

fn new_meter() -> Schema {
    let slug = Schema::text().with("pattern", "^[a-z0-9]+(?:_[a-z0-9]+)*$").with("maxLength", SLUG_BYTES_MAX);
    let event_type = format!("The `type` of the events that it is made from. At most {EVENT_METERS_MAX} meters are made from one.");
    let meter = Schema::object()
        .has("slug", slug.with("minLength", 1).about("The meter's name."))
        .has("aggregation", Schema::words_in_any_case(&Aggregation::words()))
        .has("eventType", Schema::name_to(NAME_BYTES_MAX).about(&event_type))
        .takes("valueProperty", path("For `UNIQUE_COUNT` any scalar, else a number, or a text that is one. Only `COUNT` needs none."))
        .takes("eventFrom", Schema::time().about("Events before are left out of queries."));
    changeable(meter).named("OpenMeterNewMeter")
}

fn meter() -> Schema {
    Schema::object()
        .has("id", Schema::text().with("pattern", "^[0-9A-HJKMNP-TV-Z]{26}$").about("A ULID."))
        .has("slug", Schema::text())
        .has("name", Schema::text())
        .has("aggregation", Schema::words(&Aggregation::words()))
        .has("eventType", Schema::text())
        .has("groupBy", Schema::map(Schema::text()))
        .has("createdAt", Schema::time())
        .has("updatedAt", Schema::time().about("When it was last changed in this form."))
        .may_have("valueProperty", Schema::text())
        .may_have("eventFrom", Schema::time())
        .may_have("description", Schema::text())
        .may_have("metadata", Schema::map(Schema::text()))
        .named("OpenMeterMeter")
}

fn a_new_meter() -> Value {
    json!({"slug": "tokens_total", "name": "Tokens", "aggregation": "SUM", "eventType": "prompt", "valueProperty": "$.tokens",
        "groupBy": {"model": "$.model"}})
}

fn a_meter() -> Value {
    json!({"id": "01KDVDNC00E7N8SVJ6PJ6WRQ7B", "slug": "tokens_total", "name": "Tokens", "aggregation": "SUM", "eventType": "prompt",
        "valueProperty": "$.tokens", "groupBy": {"model": "$.model"}, "createdAt": "2026-01-01T00:00:00Z", "updatedAt": "2026-01-01T00:00:00Z"})
}

fn of_meter(operation: Operation) -> Operation {
    // Whatever stands in a path is a text.
    operation.path("meterIdOrSlug", Schema::any().about("The meter: its id, or its slug.")).may_be_unknown()
}

pub(super) fn list_meters() -> Operation {
    let number = || Schema::integer_in(1..=METERS_MAX as i64);
    Operation::new("openmeterListMeters", "List meters")
        .about(
            "In the order of their making. Those that other dialects have defined are among them: their events have their name for a type.",
        )
        .needs(Scope::Read)
        .query("page", number().about("The number of the page, from 1 on. Without it and `pageSize`, all."))
        .query("pageSize", number().with("default", PAGE_SIZE).about("Meters of a page."))
        .answers("The meters", Schema::array(meter()))
        .example(json!([a_meter()]))
}

pub(super) fn create_meter() -> Operation {
    Operation::new("openmeterCreateMeter", "Define a meter")
        .about("Events that are sent after the answer are counted by it, those before are not.")
        .needs(Scope::Admin)
        .body(new_meter(), a_new_meter())
        .answers_with(StatusCode::CREATED, "The meter", "application/json", meter())
        .example(a_meter())
        .refuses(StatusCode::CONFLICT, "A meter with this slug is defined.")
}

pub(super) fn show_meter() -> Operation {
    of_meter(Operation::new("openmeterGetMeter", "Read a meter").needs(Scope::Read)).answers("The meter", meter()).example(a_meter())
}

pub(super) fn update_meter() -> Operation {
    let update = changeable(Schema::object()).named("OpenMeterMeterUpdate");
    of_meter(Operation::new("openmeterUpdateMeter", "Change a meter"))
        .about("Replaces all that is in the body: what is not given is unset. Events that were counted stay as they are.")
        .needs(Scope::Admin)
        .body(update, json!({"name": "Tokens", "groupBy": {"model": "$.model"}}))
        .answers("The meter", meter())
        .example(a_meter())
}

pub(super) fn remove_meter() -> Operation {
    of_meter(Operation::new("openmeterDeleteMeter", "Forget a meter"))
        .about("What it has counted stays, and is there again when a meter of this slug is defined.")
        .needs(Scope::Admin)
        .answers_empty(StatusCode::NO_CONTENT, "It is forgotten.")
}

fn window() -> Schema {
    Schema::words_in_any_case(&["HOUR", "DAY", "MONTH"]).about("How wide a window is; without it the whole range is one.")
}

fn zone() -> Schema {
    Schema::text().with("default", "UTC").about("A name of the IANA database: where days and months begin.")
}

fn from() -> Schema {
    Schema::time().about("From when on; without it from the first day with events on.")
}

fn to() -> Schema {
    Schema::time().about("Until when; without it until now. A window that begins before it is there as a whole.")
}

fn group_by(texts: Schema) -> Schema {
    texts.about(&format!("`subject`, and names of groups or of other dimensions, at most {GROUP_BY_MAX}."))
}

fn rows() -> Schema {
    let row = Schema::object()
        .has("value", Schema::number())
        .has("windowStart", Schema::time())
        .has("windowEnd", Schema::time())
        .has("subject", Schema::text().or_null().about("Null unless subjects are filtered for or grouped by."))
        .has("groupBy", Schema::map(Schema::text()))
        .may_have("customerId", Schema::text().about("There if customers are filtered for."));
    Schema::object()
        .has("data", Schema::array(row).about("Group by group, the largest first. Windows without events are left out."))
        .may_have("from", Schema::time())
        .may_have("to", Schema::time())
        .may_have("windowSize", Schema::words(&["HOUR", "DAY", "MONTH"]))
        .named("OpenMeterQueryResult")
}

fn some_rows() -> Value {
    json!({"from": "2026-01-01T00:00:00Z", "windowSize": "DAY", "data": [{"value": 12.5, "windowStart": "2026-01-01T00:00:00Z",
        "windowEnd": "2026-01-02T00:00:00Z", "subject": "acme-7", "groupBy": {"model": "m-2"}}]})
}

fn asks(operation: Operation) -> Operation {
    let operation = of_meter(operation)
        .about("What is used is kept by the hour: a range is widened to whole hours, and there is no window of a minute.")
        .needs(Scope::Read)
        .answers("A row for each group and window", rows())
        .example(some_rows())
        .answers_with(StatusCode::OK, "A row for each group and window", "text/csv", Schema::text());
    from_rows(operation)
}

pub(super) fn query_meter() -> Operation {
    let dict = "The text of a Python dict, `{'model': 'm-2'}`; or several parameters of the form `filterGroupBy[model]=m-2`.";
    let texts = || Schema::array(Schema::text());
    asks(
        Operation::new("openmeterQueryMeter", "Ask a meter")
            .query("from", from())
            .query("to", to())
            .query("windowSize", window())
            .query("windowTimeZone", zone())
            .query("subject", texts().about("Any of these subjects."))
            .query("filterCustomerId", texts().about("Any of these customers."))
            .query("groupBy", group_by(texts()))
            .query("filterGroupBy", Schema::text().with("pattern", "^\\{('[A-Za-z0-9_]+': '[A-Za-z0-9_ ]*')?\\}$").about(dict))
            .query("clientId", Schema::text().about("Not looked at.")),
    )
}

pub(super) fn query_meter_by_body() -> Operation {
    let texts = || Schema::any_of([Schema::text(), Schema::array(Schema::text()), Schema::null()]);
    let query = Schema::object()
        .takes("from", from())
        .takes("to", to())
        .takes("windowSize", window())
        .takes("windowTimeZone", zone())
        .may_have("subject", texts().about("Any of these subjects."))
        .may_have("filterCustomerId", texts().about("Any of these customers."))
        .may_have("groupBy", group_by(texts()))
        .takes("filterGroupBy", Schema::map(texts()).about("By the names of groups: any of these values."))
        .may_have("advancedMeterGroupByFilters", Schema::null().about("Not supported yet."))
        .named("OpenMeterQuery");
    let example =
        json!({"from": "2026-01-01T00:00:00Z", "windowSize": "DAY", "groupBy": ["subject", "model"], "filterGroupBy": {"model": ["m-2"]}});
    asks(Operation::new("openmeterQueryMeterByBody", "Ask a meter, with a body").optional_body(query, example))
}

pub(super) fn list_subjects() -> Operation {
    let operation = of_meter(Operation::new("openmeterListSubjects", "List the subjects of a meter"))
        .about("All that it has events of, in the order of their bytes.")
        .needs(Scope::Read)
        .query("from", Schema::time().about("Those of events from then on."))
        .query("to", Schema::time().about("Those of events until then."))
        .answers("The subjects", Schema::array(Schema::text()))
        .example(json!(["acme-7"]));
    from_rows(operation)
}

pub(super) fn list_events() -> Operation {
    let event = Schema::object()
        .has("specversion", Schema::words(&["1.0"]))
        .has("id", Schema::text())
        .has("source", Schema::text())
        .has("type", Schema::text())
        .has("subject", Schema::text())
        .has("time", Schema::time())
        .has("datacontenttype", Schema::words(&["application/json"]))
        .has("data", Schema::map(Schema::any()).about("Put together from what is kept: members that are dimensions are texts."))
        .named("ListedCloudEvent");
    let listed = Schema::object()
        .has("event", event)
        .has("customerId", Schema::text())
        .has("ingestedAt", Schema::time())
        .has("storedAt", Schema::time())
        .may_have("validationError", Schema::text().about("Which meters could not read their value, and why."))
        .named("IngestedEvent");
    let example = json!([{"event": {"specversion": "1.0", "id": "e-1", "source": "svc-a", "type": "prompt", "subject": "acme-7",
        "time": "2026-01-01T00:00:00.5Z", "datacontenttype": "application/json", "data": {"tokens": 42, "model": "m-2"}},
        "customerId": "acme-7", "ingestedAt": "2026-01-01T00:00:01Z", "storedAt": "2026-01-01T00:00:01Z"}]);
    Operation::new("openmeterListEvents", "List the latest events")
        .about("Of every dialect, each once, the newest first. At most 100,000 records of the log are looked at.")
        .needs(Scope::Read)
        .query("from", Schema::time().about("What happened from then on; without it in the last 72 hours."))
        .query("to", Schema::time().about("What happened until then."))
        .query("ingestedAtFrom", Schema::time().about("What came from then on."))
        .query("ingestedAtTo", Schema::time().about("What came until then."))
        .query("id", Schema::text().about("A part of the id."))
        .query("subject", Schema::text().about("A part of the subject."))
        .query("customerId", Schema::text().about("The customer."))
        .query("limit", Schema::integer_in(1..=LIMIT_MAX as i64).with("default", LIMIT_MAX))
        .answers("The events", Schema::array(listed))
        .example(example)
        .with_header("Tollgate-Events-Cut", "There may be more: no more records were looked at.", Schema::words(&["true"]))
}
