//! The latest events, of all dialects, as CloudEvents. Read from the log, from its end back ([`crate::verdicts`]).

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use hyper::StatusCode;
use serde_json::Value;

use super::{Answer, By, Parts, Shared, json, openapi, refusal, work};
use crate::accounts::Scope;
use crate::api::events;
use crate::api::fields::{Parameters, pairs};
use crate::api::openapi::OPENMETER;
use crate::api::refusals::check_scope;
use crate::clock::{UnixMicros, UnixMillis};
use crate::dialect::ApiError;
use crate::dialect::cloudevents::listed::{Places, render};
use crate::dialect::cloudevents::times::parse_time;
use crate::openapi::Routes;
use crate::verdicts::{Filter, Listed, Page};

/// Most events of an answer.
pub(super) const LIMIT_MAX: usize = 100;
/// How far the list goes back unless the query says it, in ms.
const WINDOW_MS: i64 = 72 * 3_600 * 1_000;
/// Whether there may be more than an answer has, although it has fewer than it may.
const CUT: HeaderName = HeaderName::from_static("tollgate-events-cut");

pub(super) fn routes() -> Routes<Arc<Parts>> {
    Routes::of(OPENMETER).get("/api/v1/events", list, openapi::list_events())
}

async fn list(State(parts): Shared, Extension(by): By, query: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    let filter = filter(pairs(query)?, parts.clock.now())?;
    let limit = filter.limit;
    let Page { events, next } = parts.verdicts.list(by.account, filter).await.map_err(events::refusal)?;
    let is_cut = next.is_some() && events.len() < limit;
    let shown = work(parts, move |parts| {
        let places = Places::of(&parts.meters.list(by.account).map_err(refusal)?);
        let shown = |event: &Listed| match event {
            Listed::Logged(_, record, _) => render(&record.event, record.received, &places),
            Listed::Rejected(_) => None,
        };
        Ok(events.iter().filter_map(shown).collect::<Value>())
    });
    Ok(respond(&shown.await?, is_cut))
}

fn respond(shown: &Value, is_cut: bool) -> Response {
    let mut answer = json(StatusCode::OK, shown);
    if is_cut {
        answer.headers_mut().insert(CUT, HeaderValue::from_static("true"));
    }
    answer
}

/// Which events are asked for; unknown parameters are ignored.
fn filter(pairs: Vec<(String, String)>, now: UnixMillis) -> Result<Filter, ApiError> {
    let mut filter = Filter { limit: LIMIT_MAX, firsts_only: true, ..Filter::default() };
    let (mut from, mut to) = (None, None);
    for (name, value) in pairs {
        match name.as_str() {
            "id" => filter.unique_id_part = Some(value),
            "subject" => filter.customer_part = Some(value),
            // An answer with more than was asked for would be taken for what was asked for.
            "customerId" if filter.customer.is_some() => return Err(ApiError::bad_field(name, "must be given once here")),
            "customerId" => filter.customer = Some(value),
            "from" => from = Some(time(&name, &value)?),
            "to" => to = Some(time(&name, &value)?),
            // Times of receiving have milliseconds.
            "ingestedAtFrom" => filter.received_since = Some(UnixMicros(time(&name, &value)?.0.saturating_add(999)).millis()),
            "ingestedAtTo" => filter.received_until = Some(time(&name, &value)?.millis()),
            "limit" => filter.limit = limit(&value)?,
            _ => {}
        }
    }
    let default_from = UnixMillis(now.0 - WINDOW_MS).micros();
    let range = from.unwrap_or(default_from)..=to.unwrap_or(UnixMicros(i64::MAX));
    if range.is_empty() && to.is_some() && from.is_some() {
        return Err(ApiError::bad_field("to", "must not be before `from`"));
    }
    filter.happened = Some(range);
    if from.is_some() && filter.received_since.is_none() {
        // An event may have come long before or after it happened.
        filter.received_since = Some(UnixMillis(0));
    }
    Ok(filter)
}

fn time(name: &str, text: &str) -> Result<UnixMicros, ApiError> {
    parse_time(text).ok_or_else(|| ApiError::bad_field(name, "must be a time as in RFC 3339, before the year 10000"))
}

fn limit(text: &str) -> Result<usize, ApiError> {
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit.ok_or_else(|| ApiError::bad_field("limit", format!("must be between 1 and {LIMIT_MAX}")))
}
