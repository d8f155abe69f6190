//! `GET /v1/events/{uniqueId}` and `GET /v1/events`: what became of events.
//!
//! ```json
//! {"uniqueId": "u-1", "verdict": "counted", "partition": 0, "position": 7, "received": "2026-01-01T00:00:00.000Z",
//!  "event": {"uniqueId": "u-1", "customerId": "acme", …},
//!  "rows": [{"meterApiName": "calls", "customerId": "acme", "hour": "2026-01-01T00:00:00Z", "day": "2026-01-01T00:00:00Z",
//!            "dimensions": {"region": "eu"}}],
//!  "conflicts": [{"position": 9, "received": "…", "event": {…}}]}
//! ```
//!
//! `filteredMeters` names those of an event's meters that filtering rules dropped, where others of it count.
//!
//! The verdict on an event that was not taken is `rejected`, with its dead letter. Once that was replayed and its event is in the log, the
//! event is no longer rejected; `lastReplay` says under which uniqueId it is there, should that be another one.
//!
//! The verdict is `logged` and `event` null where the record, which would tell whether a rule dropped it, has left the log.
//!
//! A list has `events` (each with its verdict; a `duplicate` or a `conflict` says under `first` what it is a copy of) and `next`: what to give as
//! `before` to go on, or null. That is a position of the log, or of the dead letters where rejected events are listed; where the log has
//! several partitions it is a text.

mod openapi;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::dead_letters::{self, insert_form, insert_raw, last_replay};
use super::fields::{LIMIT, Parameters, limit, pairs};
use super::openapi::EVENTS;
use super::refusals::{RETRY_AFTER_S, check_scope};
use crate::accounts::{Caller, Scope};
use crate::clock::{UnixMicros, rfc3339};
use crate::dialect::ApiError;
use crate::letters::Letter;
use crate::log::{self, Position};
use crate::materializer::fold::Verdict;
use crate::openapi::Routes;
use crate::telemetry::Outcome;
use crate::verdicts::{CountedIn, Cursor, Error, Fate, Filter, Listed, Logged, Verdicts, WantedVerdict};

type Answer = Result<Json<Value>, ApiError>;

pub(super) fn routes(verdicts: Arc<Verdicts>) -> Routes {
    Routes::of(EVENTS).get("/v1/events", list, openapi::list()).get("/v1/events/{unique_id}", show, openapi::show()).with_state(verdicts)
}

async fn show(
    State(verdicts): State<Arc<Verdicts>>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    query: Parameters,
) -> Answer {
    check_scope(&caller, Scope::Read)?;
    let unique_id = path.map(|Path(id)| id).map_err(|_| unknown())?;
    let mut namespace = String::new();
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "namespace" => namespace = value,
            _ => return Err(ApiError::bad_field(name, "is no parameter here; there is: namespace")),
        }
    }
    let fate = verdicts.fate(caller.record_account(), &namespace, &unique_id).await.map_err(refusal)?;
    let mut answer = match fate {
        Fate::Unknown => return Err(unknown()),
        Fate::Rejected(letter) => rejected(&letter),
        Fate::Logged { verdict, partition, position, record, rows, conflicts } => {
            let verdict = verdict.map_or(Outcome::Logged.label(), Verdict::label);
            let mut answer = placed(verdict, partition, position, record.as_deref());
            answer.insert("rows".into(), rows.iter().map(row).collect());
            answer.insert("conflicts".into(), conflicts.iter().map(|record| Value::Object(content(record))).collect());
            answer
        }
    };
    answer.insert("uniqueId".into(), unique_id.into());
    Ok(Json(answer.into()))
}

async fn list(State(verdicts): State<Arc<Verdicts>>, Extension(caller): Extension<Caller>, query: Parameters) -> Answer {
    check_scope(&caller, Scope::Read)?;
    let filter = filter(pairs(query)?, verdicts.partitions())?;
    let page = verdicts.list(caller.account, filter).await.map_err(refusal)?;
    let events: Vec<Value> = page.events.iter().map(|event| Value::Object(listed(event))).collect();
    Ok(Json(json!({"events": events, "next": page.next})))
}

/// `partitions`: of the log.
pub(super) fn filter(pairs: Vec<(String, String)>, partitions: u32) -> Result<Filter, ApiError> {
    let mut filter = Filter { limit: LIMIT, ..Filter::default() };
    let mut before = None;
    for (name, value) in pairs {
        match name.as_str() {
            "uniqueId" => filter.unique_id = Some(value),
            "namespace" => filter.namespace = Some(value),
            "customerId" => filter.customer = Some(value),
            "meterApiName" => filter.meter = Some(value),
            "verdict" => filter.verdict = Some(verdict(&value)?),
            "before" => before = Some(value),
            "limit" => filter.limit = limit(&value)?,
            _ => {
                let known = "uniqueId, namespace, customerId, meterApiName, verdict, before, limit";
                return Err(ApiError::bad_field(name, format!("is no parameter here; there are: {known}")));
            }
        }
    }
    // What it is a place in shows when the verdict is known: dead letters are in one partition.
    let partitions = if filter.verdict == Some(WantedVerdict::Rejected) { 1 } else { partitions };
    filter.before = before.map(|text| cursor(&text, partitions)).transpose()?;
    Ok(filter)
}

fn cursor(text: &str, partitions: u32) -> Result<Cursor, ApiError> {
    let wanted = if partitions == 1 { "must be a position" } else { "must be what `next` was" };
    Cursor::parse(text, partitions).ok_or_else(|| ApiError::bad_field("before", wanted))
}

fn verdict(text: &str) -> Result<WantedVerdict, ApiError> {
    let in_log = [Verdict::Counted, Verdict::Duplicate, Verdict::Conflict, Verdict::Filtered];
    let found = in_log.into_iter().find(|verdict| verdict.label() == text).map(WantedVerdict::InLog);
    let found = found.or((text == Outcome::Rejected.label()).then_some(WantedVerdict::Rejected));
    found.ok_or_else(|| ApiError::bad_field("verdict", "must be counted, duplicate, conflict, filtered or rejected"))
}

fn listed(event: &Listed) -> Map<String, Value> {
    match event {
        Listed::Rejected(letter) => rejected(letter),
        Listed::Logged(verdict, record, first) => {
            let mut listed = placed(verdict.label(), record.partition, record.position, Some(record));
            if let Some(first) = first {
                let content = first.record.as_ref().map(content).unwrap_or_else(|| object(json!({"position": first.position.0})));
                listed.insert("first".into(), content.into());
            }
            listed
        }
    }
}

fn placed(verdict: &str, partition: u32, position: Position, record: Option<&Logged>) -> Map<String, Value> {
    let mut placed = record.map(content).unwrap_or_else(|| object(json!({"position": position.0, "received": null, "event": null})));
    placed.insert("verdict".into(), verdict.into());
    placed.insert("partition".into(), partition.into());
    placed
}

fn content(record: &Logged) -> Map<String, Value> {
    // What the record was rendered as a moment ago.
    let event: Value = serde_json::from_str(record.event.get()).unwrap_or_default();
    let mut content = object(json!({"position": record.position.0, "received": record.received.to_string(), "event": event}));
    let filtered_meters = record.filtered_meters();
    if !filtered_meters.is_empty() {
        content.insert("filteredMeters".into(), filtered_meters.into());
    }
    content
}

/// With the reason as it is now, should it have been replayed and refused again.
fn rejected(letter: &Letter) -> Map<String, Value> {
    let refusal = letter.refusal();
    let mut rejected = object(json!({
        "verdict": Outcome::Rejected.label(), "received": letter.received.to_string(), "deadLetter": letter.position.0,
        "code": refusal.code, "field": refusal.field, "reason": refusal.reason, "lastReplay": last_replay(letter),
    }));
    insert_raw(&mut rejected, &letter.letter.raw);
    insert_form(&mut rejected, &letter.letter.sent);
    rejected
}

fn row(row: &CountedIn) -> Value {
    let time = |seconds: i64| rfc3339::shortest(UnixMicros::of_seconds(seconds));
    let mut shown = object(json!({
        "meterApiName": row.meter, "customerId": row.customer, "hour": time(row.hour_s), "day": time(row.day_s),
    }));
    match &row.dimensions {
        Some(dimensions) => {
            let dimensions: Map<String, Value> = dimensions.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
            shown.insert("dimensions".into(), dimensions.into());
        }
        None => drop(shown.insert("overflow".into(), true.into())),
    }
    shown.into()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn unknown() -> ApiError {
    ApiError::not_found(StatusCode::NOT_FOUND, "no event with this uniqueId is known")
}

/// The one place where an error of the verdicts becomes an answer.
pub(super) fn refusal(error: Error) -> ApiError {
    match error {
        Error::NotAnId => ApiError::bad_request(error.to_string()),
        Error::View(_) | Error::Rows(_) | Error::Busy => ApiError::unavailable(error.to_string(), RETRY_AFTER_S),
        Error::Letters(error) => dead_letters::refusal(error),
        // It may be a broker that does not answer now.
        Error::Log(log::Error::Io { .. }) => {
            tracing::error!(%error, "what became of events cannot be read");
            ApiError::unavailable("the log cannot be read now", RETRY_AFTER_S)
        }
        Error::Log(_) | Error::Store(_) | Error::NoPartition(_) | Error::Interrupted => {
            tracing::error!(%error, "what became of events cannot be read");
            ApiError::internal()
        }
    }
}
