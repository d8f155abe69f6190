//! The description of dead letters.

use serde_json::{Value, json};

use super::UNDECODABLE;
use crate::accounts::Scope;
use crate::api::openapi::{limit, next, position};
use crate::event::Code;
use crate::openapi::{Operation, Schema};

/// What is wrong with an event, and with which part of it.
fn with_refusal(object: Schema) -> Schema {
    object
        .has("code", Schema::text().about("A word: `missing_field`, `wrong_type` and the like."))
        .has("field", Schema::text().about("Its path; empty for the whole event."))
        .has("reason", Schema::text().about("For people."))
}

fn logged() -> Schema {
    Schema::object()
        .has("verdict", Schema::words(&["logged"]))
        .has("uniqueId", Schema::text())
        .has("partition", Schema::count())
        .has("position", position())
}

fn known() -> Schema {
    Schema::object()
        .has("verdict", Schema::words(&["known"]).about("It was in the log already."))
        .may_have("uniqueId", Schema::text())
        .may_have("partition", Schema::count())
        .may_have("position", position())
        .may_have("code", Schema::text())
        .may_have("field", Schema::text())
        .may_have("reason", Schema::text())
}

fn rejected() -> Schema {
    with_refusal(Schema::object().has("verdict", Schema::words(&["rejected"])))
}

/// What came of the last replay, or null.
pub(in crate::api) fn last_replay() -> Schema {
    let kinds = [logged(), known(), rejected(), Schema::object().with("maxProperties", 1)];
    Schema::any_of(kinds.map(|kind| kind.has("time", Schema::time()))).named("LastReplay").or_null()
}

/// The bytes of an event as they were sent.
pub(in crate::api) fn with_raw(object: Schema) -> Schema {
    object
        .has("raw", Schema::text().about("The bytes that were sent."))
        .has("rawEncoding", Schema::words(&["utf-8", "base64"]))
        .may_have("form", Schema::words(&["json", "ndjson", "csv"]).about("Where it did not come as JSON in the fields of a meter event."))
        .may_have("schemaDetection", Schema::words(&["AUTO"]).about("Of a custom event."))
        .may_have("header", Schema::text().about("The header row of a row."))
}

/// An event that was not taken, as lists of events show it.
pub(in crate::api) fn rejected_event() -> Schema {
    let event = Schema::object()
        .has("verdict", Schema::words(&["rejected"]))
        .may_have("uniqueId", Schema::text())
        .has("received", Schema::time())
        .has("deadLetter", position());
    with_refusal(event).has("lastReplay", last_replay())
}

fn letter() -> Schema {
    let letter = Schema::object()
        .has("position", position())
        .has("received", Schema::time())
        .has("index", Schema::count().about("Its place in the request."));
    let record = Schema::object().has("partition", Schema::count()).has("position", position());
    with_raw(with_refusal(letter))
        .has("isCut", Schema::flag().about("Only the begin of the bytes was kept."))
        .has("state", Schema::words(&["open", "refused", "replayed"]))
        .has("lastReplay", last_replay())
        .may_have("record", record.about("The record of the log that cannot be decoded."))
        .named("DeadLetter")
}

fn a_letter() -> Value {
    json!({"position": 5, "received": "2026-01-01T00:00:00.000Z", "index": 1, "code": "wrong_type", "field": "meterValue",
        "reason": "must be a number", "raw": "{\"uniqueId\":\"u-1\",\"meterValue\":\"7\"}", "rawEncoding": "utf-8", "isCut": false, "state": "open",
        "lastReplay": null})
}

fn at(operation: Operation) -> Operation {
    operation.path("position", Schema::text().about("The position of the letter.")).may_be_unknown()
}

fn unowned(operation: Operation) -> Operation {
    let about = "For operators: the letters that belong to no account, about records of the log that cannot be decoded.";
    operation.query("unowned", Schema::words(&["true", "false"]).about(about))
}

fn filtered(operation: Operation) -> Operation {
    let codes: Vec<&str> = Code::ALL.into_iter().map(Code::label).chain([UNDECODABLE]).collect();
    operation
        .query("code", Schema::words(&codes))
        .query("reason", Schema::text().about("A part of the reason's text."))
        .query("meterApiName", Schema::text())
        .query("customerId", Schema::text())
        .query("uniqueId", Schema::text())
        .query("from", Schema::time().about("Received from then on."))
        .query("to", Schema::time().about("Received before."))
        .query("state", Schema::words(&["open", "refused", "replayed"]))
        .query("before", position().about("The position before which the page begins: `next` of the page before."))
        .query("limit", limit())
}

pub(super) fn list() -> Operation {
    let page = Schema::object().has("deadLetters", Schema::array(letter())).has("next", next(position())).named("DeadLetters");
    unowned(filtered(
        Operation::new("listDeadLetters", "List dead letters").about("The newest first.").needs_any(&[Scope::Read, Scope::Operator]),
    ))
    .answers("A page of letters", page)
    .example(json!({"deadLetters": [a_letter()], "next": null}))
}

pub(super) fn show() -> Operation {
    let operation = Operation::new("getDeadLetter", "Read a dead letter").needs_any(&[Scope::Read, Scope::Operator]);
    unowned(at(operation)).answers("The letter", letter()).example(a_letter())
}

fn outcome() -> Schema {
    Schema::any_of([logged(), known(), rejected()].map(|kind| kind.has("deadLetter", position()))).named("Replay")
}

pub(super) fn replay() -> Operation {
    let body = Schema::map(Schema::any()).about("The event, corrected; without a body it is brought as it was sent.");
    at(Operation::new("replayDeadLetter", "Bring a dead letter again"))
        .about("As often as you like: its event counts once.")
        .needs(Scope::Ingest)
        .optional_body(body, json!({"uniqueId": "u-1", "meterApiName": "tokens", "customerId": "acme-7", "meterValue": 7, "meterTimeInMillis": 1_767_225_600_123_i64}))
        .answers("What became of it", outcome())
        .example(json!({"deadLetter": 5, "verdict": "logged", "uniqueId": "u-1", "partition": 0, "position": 17}))
}

pub(super) fn replay_all() -> Operation {
    let answer = Schema::object()
        .has("replayed", Schema::count())
        .has("rejected", Schema::count())
        .has("deadLetters", Schema::array(outcome()))
        .has("next", next(position()))
        .named("Replays");
    filtered(Operation::new("replayDeadLetters", "Bring dead letters again, by filter"))
        .about("Those whose events are not in the log.")
        .needs(Scope::Ingest)
        .answers("What became of them", answer)
}

pub(super) fn delete() -> Operation {
    let operation = Operation::new("deleteDeadLetter", "Delete a dead letter").needs_any(&[Scope::Admin, Scope::Operator]);
    unowned(at(operation))
        .answers("It is gone", Schema::object().has("deleted", Schema::integer()).named("Deleted"))
        .example(json!({"deleted": 1}))
}

pub(super) fn delete_all() -> Operation {
    let answer = Schema::object().has("deleted", Schema::count()).has("next", next(position())).named("DeletedMany");
    unowned(filtered(Operation::new("deleteDeadLetters", "Delete dead letters, by filter")))
        .about("At least one parameter beside `before` and `limit` must be given.")
        .needs_any(&[Scope::Admin, Scope::Operator])
        .answers("How many are gone", answer)
}
