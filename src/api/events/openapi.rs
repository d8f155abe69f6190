//! The description of what became of events.

use serde_json::json;

use crate::accounts::Scope;
use crate::api::dead_letters::openapi::{rejected_event, with_raw};
use crate::api::openapi::{limit, next, position};
use crate::openapi::{Operation, Schema};

fn event() -> Schema {
    Schema::map(Schema::any()).about("The event as it is in the log.").named("LoggedEvent")
}

fn content(object: Schema) -> Schema {
    object
        .has("position", position())
        .has("received", Schema::time().or_null())
        .has("event", event().or_null())
        .may_have("filteredMeters", Schema::array(Schema::text()).about("Those of its meters that filtering rules dropped."))
}

fn placed(verdicts: &[&str]) -> Schema {
    content(Schema::object().has("verdict", Schema::words(verdicts)).has("partition", Schema::count()))
}

fn row() -> Schema {
    Schema::object()
        .has("meterApiName", Schema::text())
        .has("customerId", Schema::text())
        .has("hour", Schema::time())
        .has("day", Schema::time())
        .may_have("dimensions", Schema::map(Schema::text()))
        .may_have("overflow", Schema::yes().about("The row without dimensions, where there were too many."))
}

fn namespace(operation: Operation) -> Operation {
    operation.query("namespace", Schema::text().about("Of the uniqueId; empty without it."))
}

pub(super) fn show() -> Operation {
    let in_log = placed(&["counted", "duplicate", "conflict", "filtered", "logged"])
        .has("uniqueId", Schema::text())
        .has("rows", Schema::array(row()).about("Where it counts."))
        .has("conflicts", Schema::array(content(Schema::object())).about("Later ones with the same uniqueId and another content."));
    let rejected = with_raw(rejected_event());
    namespace(Operation::new("getEvent", "What became of an event"))
        .about("`counted`: it is in usage. `duplicate`: a copy. `conflict`: a copy that says something else. `filtered`: dropped by a rule. `rejected`: not taken.")
        .needs(Scope::Read)
        .path("uniqueId", Schema::text())
        .answers("Its verdict, its content, and where it counts", Schema::any_of([in_log, rejected]).named("EventFate"))
        .example(json!({"uniqueId": "u-1", "verdict": "counted", "partition": 0, "position": 7, "received": "2026-01-01T00:00:00.000Z",
            "event": {"uniqueId": "u-1", "customerId": "acme-7"}, "rows": [], "conflicts": []}))
        .may_be_unknown()
}

pub(super) fn list() -> Operation {
    let first = Schema::object()
        .has("position", position())
        .may_have("received", Schema::time())
        .may_have("event", event())
        .may_have("filteredMeters", Schema::array(Schema::text()));
    let in_log =
        placed(&["counted", "duplicate", "conflict", "filtered", "logged"]).may_have("first", first.about("What it is a copy of."));
    let next_one = Schema::any_of([position(), Schema::text(), Schema::null()]);
    let page = Schema::object()
        .has("events", Schema::array(Schema::any_of([in_log, with_raw(rejected_event())])))
        .has("next", next(next_one))
        .named("EventList");
    namespace(Operation::new("listEvents", "The latest events"))
        .about("Of the latest 72 hours, the newest first.")
        .needs(Scope::Read)
        .query("customerId", Schema::text())
        .query("meterApiName", Schema::text())
        .query("uniqueId", Schema::text())
        .query("verdict", Schema::words(&["counted", "duplicate", "conflict", "filtered", "rejected"]))
        .query("before", Schema::text().about("Where the page begins: `next` of the page before."))
        .query("limit", limit())
        .answers("A page of events", page)
}
