//! `/v1/dead-letters`: events that were not taken although their neighbours were.
//!
//! | | scope | |
//! |---|---|---|
//! | `GET /v1/dead-letters` | read | the latest ones, by filter |
//! | `GET /v1/dead-letters/{position}` | read | one |
//! | `POST /v1/dead-letters/{position}/replay` | ingest | brings its event again: as it was sent, or as it stands in the body |
//! | `POST /v1/dead-letters/replay` | ingest | brings those again that a filter holds for and whose events are not in the log |
//! | `DELETE /v1/dead-letters/{position}` | admin | |
//! | `DELETE /v1/dead-letters` | admin | by filter, of which at least one must be given |
//!
//! Reading needs no more than `read`: a letter is what a producer of the account sent, as the events are that `read` may see. A
//! replay sends events, so it needs what sending needs, and tells verdicts but no contents. What is deleted is gone for everybody.
//!
//! The filter is in the query: `code`, `reason` (a part of its text), `meterApiName`, `customerId`, `uniqueId`, `from` and `to` (of the
//! receipt, RFC 3339), `state` (open, refused, replayed), `before`, `limit`. One answer looks at a bounded number of letters from the
//! newest back; `next` is what to give as `before` to go on, or null.
//!
//! ```json
//! {"deadLetters": [{"position": 5, "received": "2026-01-01T00:00:00.000Z", "index": 1, "code": "wrong_type", "field": "meterValue",
//!   "reason": "must be a number", "raw": "{\"uniqueId\":…", "rawEncoding": "utf-8", "isCut": false, "state": "replayed",
//!   "lastReplay": {"time": "…", "verdict": "logged", "uniqueId": "u-1", "partition": 0, "position": 17}}], "next": null}
//! ```
//!
//! Records of the log of events that cannot be decoded (code `undecodable`) belong to no account. Operators, and nobody else, list, read and
//! delete them with `unowned=true`; each says in `record` which partition and position it is about. They cannot be replayed.
//!
//! `raw` has the bytes that were sent: as they are, or in base64 where they are no text, as `rawEncoding` says; `isCut`: only their begin.
//! An event that did not come as JSON in the fields of the contract has `form` (json, ndjson, csv), of a row the `header`, and of a custom
//! event `"schemaDetection": "AUTO"`; it is replayed in its form. A corrected event in the body of a replay is JSON in the fields of the
//! contract, whatever it was.

pub(super) mod openapi;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, Query, State};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::audit::Audited;
use super::fields::{LIMIT, Parameters, Received, before, bytes, limit, pairs};
use super::openapi::DEAD_LETTERS;
use super::refusals::{RETRY_AFTER_S, check_scope};
use crate::accounts::{Caller, Scope};
use crate::batch::BatchError;
use crate::clock::{UnixMicros, UnixMillis, rfc3339};
use crate::dialect::ApiError;
use crate::event::Code;
use crate::gateway::Gateway;
use crate::gateway::form::{Sent, Shape};
use crate::gateway::letters::{Became, DeadLetter, NOBODY, RecordAt, Refusal, UNDECODABLE};
use crate::letters::{self, Error, Filter, Letter, Letters, Replay};
use crate::log::{self, Position};
use crate::openapi::Routes;
use crate::telemetry::Outcome;

const KNOWN_PARAMETERS: &str = "code, reason, meterApiName, customerId, uniqueId, from, to, state, before, limit";
/// For operators: the letters that belong to no account.
const UNOWNED: &str = "unowned";

/// What the routes work with.
#[derive(Clone)]
pub(super) struct Parts {
    pub(super) letters: Arc<Letters>,
    pub(super) gateway: Arc<Gateway>,
}

type InPath = Result<Path<String>, PathRejection>;
type Answer = Result<Json<Value>, ApiError>;
type Change = Result<(Extension<Audited>, Json<Value>), ApiError>;

pub(super) fn routes(parts: Parts) -> Routes {
    Routes::of(DEAD_LETTERS)
        .get("/v1/dead-letters", list, openapi::list())
        .delete("/v1/dead-letters", delete_all, openapi::delete_all())
        .post("/v1/dead-letters/replay", replay_all, openapi::replay_all())
        .get("/v1/dead-letters/{position}", show, openapi::show())
        .delete("/v1/dead-letters/{position}", delete, openapi::delete())
        .post("/v1/dead-letters/{position}/replay", replay, openapi::replay())
        .with_state(parts)
}

async fn list(State(parts): State<Parts>, Extension(caller): Extension<Caller>, query: Parameters) -> Answer {
    let (account, query) = whose(&caller, Scope::Read, query)?;
    let page = parts.letters.list(account, filter(query)?).await.map_err(refusal)?;
    let letters: Vec<Value> = page.letters.iter().map(shown).collect();
    Ok(Json(json!({"deadLetters": letters, "next": page.next.map(|position| position.0)})))
}

async fn show(State(parts): State<Parts>, Extension(caller): Extension<Caller>, path: InPath, query: Parameters) -> Answer {
    let (account, _) = whose(&caller, Scope::Read, query)?;
    let letter = parts.letters.get(account, in_path(path)?).await.map_err(refusal)?;
    letter.map(|letter| Json(shown(&letter))).ok_or_else(unknown)
}

async fn replay(State(parts): State<Parts>, Extension(caller): Extension<Caller>, path: InPath, body: Received) -> Change {
    check_scope(&caller, Scope::Ingest)?;
    let position = in_path(path)?;
    let body = bytes(body, || "the body has more bytes than an event may have".into())?;
    let corrected = (!body.trim_ascii().is_empty()).then_some(body);
    let replayed = parts.letters.replay(&parts.gateway, &caller, position, corrected).await.map_err(refusal)?;
    replayed.map(|replay| (audited(position), Json(replayed_one(&replay)))).ok_or_else(unknown)
}

async fn replay_all(State(parts): State<Parts>, Extension(caller): Extension<Caller>, query: Parameters) -> Change {
    check_scope(&caller, Scope::Ingest)?;
    let filter = filter(query)?;
    let page = parts.letters.replay_all(&parts.gateway, &caller, filter).await.map_err(refusal)?;
    let is_refused = |replay: &&Replay| matches!(replay.became, Became::Refused(_));
    let rejected = page.replays.iter().filter(is_refused).count();
    let letters: Vec<Value> = page.replays.iter().map(replayed_one).collect();
    let answer = json!({
        "replayed": page.replays.len() - rejected, "rejected": rejected, "deadLetters": letters,
        "next": page.next.map(|position| position.0),
    });
    Ok((audited_many(page.replays.len()), Json(answer)))
}

async fn delete(State(parts): State<Parts>, Extension(caller): Extension<Caller>, path: InPath, query: Parameters) -> Change {
    let (account, _) = whose(&caller, Scope::Admin, query)?;
    let position = in_path(path)?;
    let was_there = parts.letters.delete(account, position).await.map_err(refusal)?;
    if was_there { Ok((audited(position), Json(json!({"deleted": 1})))) } else { Err(unknown()) }
}

async fn delete_all(State(parts): State<Parts>, Extension(caller): Extension<Caller>, query: Parameters) -> Change {
    let (account, query) = whose(&caller, Scope::Admin, query)?;
    let filter = filter(query)?;
    if !filter.is_selective() {
        let needed = "code, reason, meterApiName, customerId, uniqueId, from, to, state";
        return Err(ApiError::bad_request(format!("a deletion needs at least one of the parameters {needed}")));
    }
    let deleted = parts.letters.delete_all(account, filter).await.map_err(refusal)?;
    let answer = json!({"deleted": deleted.count, "next": deleted.next.map(|position| position.0)});
    Ok((audited_many(deleted.count), Json(answer)))
}

fn audited(letter: Position) -> Extension<Audited> {
    Extension(Audited { object: letter.0.to_string(), account: None })
}

fn audited_many(letters: usize) -> Extension<Audited> {
    Extension(Audited { object: format!("{letters} letters"), account: None })
}

/// Whose letters are meant: those of the caller's account, which needs a scope, or those of nobody, which only operators get to see.
fn whose(caller: &Caller, scope: Scope, query: Parameters) -> Result<(u32, Parameters), ApiError> {
    let Ok(Query(mut pairs)) = query else {
        check_scope(caller, scope)?;
        return Ok((caller.account, query));
    };
    let unowned: Vec<_> = pairs.extract_if(.., |(name, _)| name == UNOWNED).map(|(_, value)| value).collect();
    let account = match unowned.last().map(String::as_str) {
        None | Some("false") => {
            check_scope(caller, scope)?;
            caller.account
        }
        Some("true") => {
            check_scope(caller, Scope::Operator)?;
            NOBODY
        }
        Some(_) => return Err(ApiError::bad_field(UNOWNED, "must be true or false")),
    };
    Ok((account, Ok(Query(pairs))))
}

pub(super) fn filter(query: Parameters) -> Result<Filter, ApiError> {
    let mut filter = Filter { limit: LIMIT, ..Filter::default() };
    for (name, value) in pairs(query)? {
        match name.as_str() {
            "code" => filter.code = Some(code(value)?),
            "reason" => filter.reason = Some(value),
            "meterApiName" => filter.meter = Some(value),
            "customerId" => filter.customer = Some(value),
            "uniqueId" => filter.unique_id = Some(value),
            "from" => filter.from = Some(time("from", &value)?),
            "to" => filter.to = Some(time("to", &value)?),
            "state" => filter.states = vec![state(&value)?],
            "before" => filter.before = Some(before(&value)?),
            "limit" => filter.limit = limit(&value)?,
            _ => return Err(ApiError::bad_field(name, format!("is no parameter here; there are: {KNOWN_PARAMETERS}"))),
        }
    }
    Ok(filter)
}

fn code(label: String) -> Result<String, ApiError> {
    if label == UNDECODABLE || Code::from_label(&label).is_some() {
        return Ok(label);
    }
    let known: Vec<_> = Code::ALL.into_iter().map(Code::label).chain([UNDECODABLE]).collect();
    Err(ApiError::bad_field("code", format!("must be one of {}", known.join(", "))))
}

fn time(field: &str, text: &str) -> Result<UnixMillis, ApiError> {
    let time = rfc3339::parse(text).map(UnixMicros::millis);
    time.ok_or_else(|| ApiError::bad_field(field, "must be a time such as 2026-01-01T00:00:00Z"))
}

fn state(label: &str) -> Result<letters::State, ApiError> {
    let known = [letters::State::Open, letters::State::Refused, letters::State::Replayed];
    let found = known.into_iter().find(|state| state.label() == label);
    found.ok_or_else(|| ApiError::bad_field("state", "must be open, refused or replayed"))
}

fn shown(letter: &Letter) -> Value {
    let DeadLetter { index, refusal, is_cut, record, .. } = &letter.letter;
    let state = match &letter.last_replay {
        Some((_, Became::Replayed { .. })) => letters::State::Replayed,
        Some((_, Became::Refused(_))) => letters::State::Refused,
        Some((_, Became::Deleted)) | None => letters::State::Open,
    };
    let mut shown = json!({
        "position": letter.position.0, "received": letter.received.to_string(), "index": index,
        "code": refusal.code, "field": refusal.field, "reason": refusal.reason,
        "isCut": is_cut, "state": state.label(), "lastReplay": last_replay(letter),
    });
    if let Value::Object(members) = &mut shown {
        insert_raw(members, &letter.letter.raw);
        insert_form(members, &letter.letter.sent);
        if let Some(RecordAt { partition, position }) = record {
            members.insert("record".into(), json!({"partition": partition, "position": position}));
        }
    }
    shown
}

/// The bytes of an event as they were sent, and how they are written.
pub(super) fn insert_raw(members: &mut Map<String, Value>, raw: &[u8]) {
    let (text, encoding) = match std::str::from_utf8(raw) {
        Ok(text) => (text.to_owned(), "utf-8"),
        Err(_) => (BASE64_STANDARD.encode(raw), "base64"),
    };
    members.insert("raw".into(), text.into());
    members.insert("rawEncoding".into(), encoding.into());
}

/// The form that it was sent in, where that is not JSON in the fields of the contract.
pub(super) fn insert_form(members: &mut Map<String, Value>, sent: &Sent) {
    if sent.is_plain() {
        return;
    }
    members.insert("form".into(), sent.syntax.label().into());
    if sent.shape != Shape::Amberflo {
        members.insert("shape".into(), sent.shape.label().into());
    }
    if let Some(header) = &sent.header {
        members.insert("header".into(), header.as_str().into());
    }
}

/// What came of the last replay, or null.
pub(super) fn last_replay(letter: &Letter) -> Value {
    let Some((time, became)) = &letter.last_replay else { return Value::Null };
    let mut members = verdict(became);
    members.insert("time".into(), time.to_string().into());
    members.into()
}

fn replayed_one(replay: &Replay) -> Value {
    let mut members = verdict(&replay.became);
    members.insert("deadLetter".into(), replay.letter.0.into());
    if replay.was_done {
        // Whatever came in the body: it is in the log already.
        members.insert("verdict".into(), Outcome::Known.label().into());
    }
    members.into()
}

/// In the words of a receipt.
fn verdict(became: &Became) -> Map<String, Value> {
    let members = match became {
        Became::Replayed { unique_id, partition, position: Some(position) } => {
            json!({"verdict": Outcome::Logged.label(), "uniqueId": unique_id, "partition": partition, "position": position})
        }
        Became::Replayed { unique_id, position: None, .. } => json!({"verdict": Outcome::Known.label(), "uniqueId": unique_id}),
        Became::Refused(Refusal { code, field, reason }) => {
            json!({"verdict": Outcome::Rejected.label(), "code": code, "field": field, "reason": reason})
        }
        Became::Deleted => json!({}),
    };
    match members {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn in_path(path: InPath) -> Result<Position, ApiError> {
    path.ok().and_then(|Path(text)| text.parse().ok()).map(Position).ok_or_else(unknown)
}

fn unknown() -> ApiError {
    ApiError::not_found(StatusCode::NOT_FOUND, "there is no dead letter at this position")
}

/// The one place where an error of the letters becomes an answer.
pub(super) fn refusal(error: Error) -> ApiError {
    let busy = |what: &str| ApiError::unavailable(format!("{what}; send the same request again"), RETRY_AFTER_S);
    match error {
        Error::Door(answer) => *answer,
        Error::Append(BatchError::Busy) => busy("too many requests wait"),
        Error::Append(BatchError::Log(log::Error::Full)) => busy("the disk is full, no mark was stored"),
        Error::Append(BatchError::Log(_)) => busy("what was done could not be noted, or nobody knows"),
        Error::Clock(_) => busy("the server's clock is wrong"),
        Error::Log(_) | Error::Interrupted => {
            tracing::error!(%error, "dead letters cannot be read or changed");
            ApiError::internal()
        }
    }
}

#[cfg(test)]
mod tests;
