//! The description of the reconciliation.

use serde_json::json;

use super::IDS_MAX;
use crate::accounts::Scope;
use crate::api::dead_letters::openapi::rejected_event;
use crate::api::openapi::position;
use crate::event::{NAME_BYTES_MAX, NAMESPACE_BYTES_MAX};
use crate::openapi::{Operation, Schema};

pub(super) fn reconcile() -> Operation {
    let text = |bytes_max: usize| Schema::text().with("maxLength", bytes_max);
    let body = Schema::object()
        .has("uniqueIds", Schema::array(text(NAME_BYTES_MAX)).with("maxItems", IDS_MAX))
        .takes("namespace", text(NAMESPACE_BYTES_MAX))
        .named("Reconciliation");
    let in_log = Schema::object()
        .has("uniqueId", Schema::text())
        .has("verdict", Schema::words(&["counted", "filtered", "logged"]))
        .has("partition", Schema::count())
        .has("position", position())
        .has("conflicts", Schema::array(position()));
    let events = Schema::array(Schema::any_of([in_log, rejected_event()]));
    let count = Schema::count;
    let answer = Schema::object()
        .has("received", count())
        .has("counted", count())
        .has("filtered", count())
        .has("logged", count())
        .has("rejected", count())
        .has("missing", Schema::array(Schema::text()).about("Those that nobody has seen."))
        .has("deadLettersLookedBackTo", position().or_null().about("Not null: letters before it were not looked at."))
        .has("events", events.about("In the order of the ids, without those that are missing."))
        .named("Reconciled");
    Operation::new("reconcile", "The verdicts on many events at once")
        .needs(Scope::Read)
        .body(body, json!({"uniqueIds": ["u-1", "u-2"]}))
        .answers("What became of each", answer)
        .example(json!({"received": 2, "counted": 1, "filtered": 0, "logged": 0, "rejected": 0, "missing": ["u-2"], "deadLettersLookedBackTo": null,
            "events": [{"uniqueId": "u-1", "verdict": "counted", "partition": 0, "position": 7, "conflicts": []}]}))
}
