//! `POST /v1/reconcile`: the verdicts on up to 10,000 events at once, for whoever compares its own books. Scope `read`.
//!
//! ```json
//! {"uniqueIds": ["u-1", "u-2", "u-3"], "namespace": ""}
//!
//! {"received": 3, "counted": 1, "filtered": 0, "logged": 0, "rejected": 1, "missing": ["u-3"], "deadLettersLookedBackTo": null,
//!  "events": [{"uniqueId": "u-1", "verdict": "counted", "partition": 0, "position": 7, "conflicts": [9]},
//!             {"uniqueId": "u-2", "verdict": "rejected", "deadLetter": 5, "received": "…", "code": "…", "field": "…", "reason": "…",
//!              "lastReplay": null}]}
//! ```
//!
//! `events` are in the order of the ids, without those that are missing. The verdict is `logged` where only the record would tell
//! whether a rule filtered the event, and it was not read: because it has left the log, or since one answer reads a bounded part of
//! it. `conflicts`: positions of later records that say something else, of the latest 10,000 of the account. `deadLettersLookedBackTo`:
//! where it is not null, letters before that position were not looked at, and one about a missing event may be there.

mod openapi;

use std::sync::Arc;

use axum::Json;
use axum::extract::{DefaultBodyLimit, Extension, State};
use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::dead_letters::last_replay;
use super::events::refusal;
use super::fields::Received;
use super::openapi::EVENTS;
use super::refusals::check_scope;
use crate::accounts::{Caller, Scope};
use crate::dialect::ApiError;
use crate::event::{NAME_BYTES_MAX, NAMESPACE_BYTES_MAX};
use crate::letters::Letter;
use crate::materializer::fold::Verdict;
use crate::openapi::Routes;
use crate::telemetry::Outcome;
use crate::verdicts::{Reconciled, Standing, Verdicts};

/// Path of the route, whose body may be larger than others.
pub const PATH: &str = "/v1/reconcile";
/// Largest body: room for the longest ids.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Ids of one request.
const IDS_MAX: usize = 10_000;

pub(super) fn routes(verdicts: Arc<Verdicts>) -> Routes {
    let routes = Routes::of(EVENTS).post(PATH, reconcile, openapi::reconcile().body_max(BODY_BYTES_MAX));
    // The server has read the body within its own limits.
    routes.layered(|router| router.layer(DefaultBodyLimit::disable())).with_state(verdicts)
}

async fn reconcile(
    State(verdicts): State<Arc<Verdicts>>,
    Extension(caller): Extension<Caller>,
    body: Received,
) -> Result<Json<Value>, ApiError> {
    check_scope(&caller, Scope::Read)?;
    let body = body.map_err(|_| ApiError::bad_request("the body cannot be read"))?;
    let asked = Asked::parse(&body)?;
    let found = verdicts.reconcile(caller.record_account(), &asked.namespace, &asked.unique_ids).await.map_err(refusal)?;
    Ok(Json(answer(&asked.unique_ids, &found)))
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) unique_ids: Vec<String>,
    pub(super) namespace: String,
}

impl Asked {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let body: Value =
            serde_json::from_slice(body).map_err(|error| ApiError::bad_request(format!("the body is not valid JSON: {error}")))?;
        let Value::Object(mut members) = body else { return Err(ApiError::bad_request("the body must be a JSON object")) };
        let unique_ids = match members.remove("uniqueIds") {
            Some(Value::Array(ids)) => ids,
            None | Some(Value::Null) => return Err(ApiError::bad_field("uniqueIds", "is missing")),
            Some(_) => return Err(ApiError::bad_field("uniqueIds", "must be an array of strings")),
        };
        if unique_ids.len() > IDS_MAX {
            let details = format!("uniqueIds has {} entries, the limit is {IDS_MAX}", unique_ids.len());
            let error = ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", details.clone());
            return Err(ApiError { details: Some(details), ..error });
        }
        let namespace = match members.remove("namespace") {
            Some(namespace) if !namespace.is_null() => text("namespace", namespace, NAMESPACE_BYTES_MAX)?,
            _ => String::new(),
        };
        let id = |(at, id)| text(&format!("uniqueIds[{at}]"), id, NAME_BYTES_MAX);
        Ok(Self { unique_ids: unique_ids.into_iter().enumerate().map(id).collect::<Result<_, _>>()?, namespace })
    }
}

fn text(field: &str, value: Value, bytes_max: usize) -> Result<String, ApiError> {
    match value {
        Value::String(text) if text.len() > bytes_max => {
            Err(ApiError::bad_field(field, format!("has {} bytes, the limit is {bytes_max}", text.len())))
        }
        Value::String(text) => Ok(text),
        _ => Err(ApiError::bad_field(field, "must be a string")),
    }
}

fn answer(unique_ids: &[String], found: &Reconciled) -> Value {
    let mut answer = Map::new();
    let standings = || unique_ids.iter().zip(&found.standings);
    answer.insert("received".into(), unique_ids.len().into());
    for label in [Verdict::Counted.label(), Verdict::Filtered.label(), Outcome::Logged.label(), Outcome::Rejected.label()] {
        let count = standings().filter(|(_, standing)| verdict(standing) == Some(label)).count();
        answer.insert(label.into(), count.into());
    }
    let missing: Vec<&str> = standings().filter(|(_, standing)| verdict(standing).is_none()).map(|(id, _)| id.as_str()).collect();
    answer.insert("missing".into(), missing.into());
    answer.insert("deadLettersLookedBackTo".into(), found.letters_looked_back_to.map(|position| position.0).into());
    answer.insert("events".into(), standings().filter_map(|(id, standing)| shown(id, standing)).collect());
    answer.into()
}

fn verdict(standing: &Standing) -> Option<&'static str> {
    match standing {
        Standing::Logged { verdict, .. } => Some(verdict.map_or(Outcome::Logged.label(), Verdict::label)),
        Standing::Rejected(_) => Some(Outcome::Rejected.label()),
        Standing::Missing => None,
    }
}

fn shown(unique_id: &str, standing: &Standing) -> Option<Value> {
    let verdict = verdict(standing)?;
    Some(match standing {
        Standing::Logged { partition, position, conflicts, .. } => json!({
            "uniqueId": unique_id, "verdict": verdict, "partition": partition, "position": position.0,
            "conflicts": conflicts.iter().map(|conflict| conflict.0).collect::<Vec<_>>(),
        }),
        Standing::Rejected(letter) => rejected(unique_id, verdict, letter),
        Standing::Missing => return None,
    })
}

fn rejected(unique_id: &str, verdict: &str, letter: &Letter) -> Value {
    let refusal = letter.refusal();
    json!({
        "uniqueId": unique_id, "verdict": verdict, "deadLetter": letter.position.0, "received": letter.received.to_string(),
        "code": refusal.code, "field": refusal.field, "reason": refusal.reason, "lastReplay": last_replay(letter),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (u16, String) {
        let error = Asked::parse(body.as_bytes()).expect_err("refused");
        (error.status.as_u16(), error.details.unwrap_or(error.message))
    }

    #[test]
    fn what_is_asked_is_checked_and_named() {
        let asked = Asked::parse(br#"{"uniqueIds": ["a", "a", ""], "namespace": null, "other": 7}"#).expect("good");
        assert_eq!(asked, Asked { unique_ids: vec!["a".into(), "a".into(), String::new()], namespace: String::new() });
        assert_eq!(refused("{}"), (400, "uniqueIds is missing".into()));
        assert_eq!(refused(r#"{"uniqueIds": "a"}"#), (400, "uniqueIds must be an array of strings".into()));
        assert_eq!(refused(r#"{"uniqueIds": ["a", 7]}"#), (400, "uniqueIds[1] must be a string".into()));
        assert_eq!(refused(r#"{"uniqueIds": [], "namespace": 7}"#), (400, "namespace must be a string".into()));
        assert_eq!(refused("[]"), (400, "the body must be a JSON object".into()));
        let long = format!(r#"{{"uniqueIds": ["a", "{}"]}}"#, "x".repeat(256));
        assert_eq!(refused(&long), (400, "uniqueIds[1] has 256 bytes, the limit is 255".into()));
        let many = json!({"uniqueIds": vec!["a"; 10_001]}).to_string();
        assert_eq!(refused(&many), (413, "uniqueIds has 10001 entries, the limit is 10000".into()));
    }
}
