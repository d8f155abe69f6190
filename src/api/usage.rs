//! Amberflo's usage routes (contract `amberflo.md` section 5).
//!
//! A query sees every event that was acked before it came (`design.md`, promise 9): the [`UsageSource`] is asked for rows
//! that do, for up to 2 s or as long as the header `Prefer: wait=<seconds>` says, and the answer says whether it got
//! them. Reading the rows and writing the answer happens on a thread that may block. The headers of an answer:
//!
//! | Header | Value |
//! |---|---|
//! | `Tollgate-Complete` | `true`, or `false` if the rows had not caught up in time |
//! | `Tollgate-Positions` | up to where the rows go: `<partition>=<next position>`, comma-separated |
//! | `Tollgate-Range` | `<start>-<end>` in seconds, if a range was widened to whole hours; in a batch those of all queries, in their order |
//! | `Tollgate-Groups-Cut` | `true` if there are more groups than an answer has |
//! | `Tollgate-Approximate` | of numbers of different values: `standard-error=0.0163` if some are estimates, `lower-bound` if there may be more of some; both, comma-separated |
//! | `Tollgate-Overflow` | `true` if events without their dimensions (the overflow row) were filtered or grouped by dimensions |

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use super::fields::{Parameters, Received, bytes, pairs};
use super::refusals::{RETRY_AFTER_S, check_scope};
use crate::accounts::{Caller, Scope};
use crate::clock::{Clock, UnixMillis};
use crate::dialect::amberflo::AmberfloError;
use crate::dialect::amberflo::usage::answer::{ANSWER_BYTES_MAX, Body, Gaps};
use crate::dialect::amberflo::usage::{AllMetersQuery, Form, UsageQuery, parse_batch, parse_query};
use crate::meters::Meters;
use crate::sketch;
use crate::store::{self, Rows};
use crate::telemetry;
use crate::usage::{Approximate, EvaluateError, Limits, MeterType, TimeRange, UsageSource, View, ViewRequest, evaluate, meters_in_range};

/// How long a query waits for what was acked before it came, unless it says otherwise.
const WAIT: Duration = Duration::from_secs(2);
/// The longest that a query may want to wait.
const WAIT_MAX_S: u64 = 30;
/// Largest body: a batch with some long filters.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Queries whose rows are read at once: what bounds the memory of all evaluations together. The largest ones take 700 MiB
/// each ([`Limits`], [`ANSWER_BYTES_MAX`]), common ones less than one.
const QUERIES_AT_ONCE_MAX: usize = 4;
/// How long a query waits until it is one of them.
const TURN_WAIT: Duration = Duration::from_secs(10);

const COMPLETE: HeaderName = HeaderName::from_static("tollgate-complete");
const POSITIONS: HeaderName = HeaderName::from_static("tollgate-positions");
const RANGE: HeaderName = HeaderName::from_static("tollgate-range");
const GROUPS_CUT: HeaderName = HeaderName::from_static("tollgate-groups-cut");
const OVERFLOW: HeaderName = HeaderName::from_static("tollgate-overflow");
const APPROXIMATE: HeaderName = HeaderName::from_static("tollgate-approximate");
const PREFER: HeaderName = HeaderName::from_static("prefer");

type Shared = State<Arc<Usage>>;
type By = Extension<Caller>;
type Answer = Result<Response, AmberfloError>;

/// What the handlers share.
struct Usage {
    source: Arc<dyn UsageSource>,
    meters: Arc<Meters>,
    clock: Clock,
    turns: Arc<Semaphore>,
}

/// `/usage`, `/usage/batch`, `/usage/sparse`, `/usage/sparse/batch` and `/usage/all`. Needs an `Extension<Caller>` on every
/// request.
pub fn routes(source: Arc<dyn UsageSource>, meters: Arc<Meters>, clock: Clock) -> Router {
    Router::new()
        .route("/usage", post(one))
        .route("/usage/batch", post(batch))
        .route("/usage/sparse", post(sparse_one))
        .route("/usage/sparse/batch", post(sparse_batch))
        .route("/usage/all", get(all_meters))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Arc::new(Usage { source, meters, clock, turns: Arc::new(Semaphore::new(QUERIES_AT_ONCE_MAX)) }))
}

async fn one(State(usage): Shared, Extension(caller): By, headers: HeaderMap, body: Received) -> Answer {
    usage.answer(&caller, &headers, Gaps::Filled, |account, now| parse_query(&read(body)?, account, now).map(Asked::One)).await
}

async fn batch(State(usage): Shared, Extension(caller): By, headers: HeaderMap, body: Received) -> Answer {
    usage.answer(&caller, &headers, Gaps::Filled, |account, now| parse_batch(&read(body)?, account, now).map(Asked::Batch)).await
}

async fn sparse_one(State(usage): Shared, Extension(caller): By, headers: HeaderMap, body: Received) -> Answer {
    usage.answer(&caller, &headers, Gaps::LeftOut, |account, now| parse_query(&read(body)?, account, now).map(Asked::One)).await
}

async fn sparse_batch(State(usage): Shared, Extension(caller): By, headers: HeaderMap, body: Received) -> Answer {
    usage.answer(&caller, &headers, Gaps::LeftOut, |account, now| parse_batch(&read(body)?, account, now).map(Asked::Batch)).await
}

async fn all_meters(State(usage): Shared, Extension(caller): By, headers: HeaderMap, parameters: Parameters) -> Answer {
    let parse = |account, now| AllMetersQuery::parse(&pairs(parameters)?, account, now).map(Asked::AllMeters);
    usage.answer(&caller, &headers, Gaps::Filled, parse).await
}

fn read(body: Received) -> Result<Bytes, AmberfloError> {
    bytes(body, || format!("the body of a usage query has more than {BODY_BYTES_MAX} bytes, the limit"))
}

impl Usage {
    /// The way of a query: scope, parse, rows, turn, evaluation, answer.
    async fn answer(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        gaps: Gaps,
        parse: impl FnOnce(u32, UnixMillis) -> Result<Asked, AmberfloError>,
    ) -> Answer {
        let started = Instant::now();
        check_scope(caller, Scope::Read)?;
        let asked = parse(caller.account, self.clock.now())?;
        let (form, ranges) = (asked.label(), asked.ranges());
        let View { rows, complete, positions } =
            self.source.view(asked.view_requests(), wait(headers)).await.map_err(|error| unavailable(&error.to_string()))?;
        // Not before the rows are there: whoever waits for them needs neither memory nor a thread.
        let turn = tokio::time::timeout(TURN_WAIT, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(unavailable("too many usage queries are under way")) };
        let (meters, account) = (self.meters.clone(), caller.account);
        let evaluated = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let types = asked.meter_types(&meters, account).map_err(|error| refusal(error.into()))?;
            asked.evaluate(&*rows, &types, gaps, Limits::default(), ANSWER_BYTES_MAX)
        });
        let evaluated = evaluated.await.map_err(|error| {
            tracing::error!(%error, "a usage query broke off");
            AmberfloError::internal()
        })??;
        telemetry::observe_query(form, complete, started.elapsed());
        Ok(respond(evaluated, complete, &positions, &ranges))
    }
}

fn unavailable(message: &str) -> AmberfloError {
    tracing::warn!(reason = message, "a usage query was refused");
    AmberfloError::unavailable(message, RETRY_AFTER_S)
}

/// How long to wait for the rows: `Prefer: wait=<seconds>`, among other preferences. What cannot be understood is no
/// preference (RFC 7240).
fn wait(headers: &HeaderMap) -> Duration {
    let preferences = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split([',', ';']));
    let mut waits = preferences.filter_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse::<u64>().ok()?;
        name.trim().eq_ignore_ascii_case("wait").then_some(seconds)
    });
    waits.next().map_or(WAIT, |seconds| Duration::from_secs(seconds.min(WAIT_MAX_S)))
}

/// What a request asks.
enum Asked {
    One(UsageQuery),
    Batch(Vec<UsageQuery>),
    AllMeters(AllMetersQuery),
}

/// What it gets.
struct Evaluated {
    body: Vec<u8>,
    cut: bool,
    overflow: bool,
    approximate: Approximate,
}

impl Asked {
    /// As it stands in metrics; a batch goes by its first query.
    fn label(&self) -> &'static str {
        let form = |query: &UsageQuery| match query.form {
            Form::A => "a",
            Form::B => "b",
        };
        match self {
            Self::One(query) => form(query),
            Self::Batch(queries) => queries.first().map_or("b", form),
            Self::AllMeters(_) => "all",
        }
    }

    fn ranges(&self) -> Vec<TimeRange> {
        match self {
            Self::One(query) => vec![query.query.buckets().range()],
            Self::Batch(queries) => queries.iter().map(|query| query.query.buckets().range()).collect(),
            Self::AllMeters(query) => vec![query.range()],
        }
    }

    fn view_requests(&self) -> Vec<ViewRequest> {
        match self {
            Self::One(query) => vec![query.query.view_request()],
            Self::Batch(queries) => queries.iter().map(|query| query.query.view_request()).collect(),
            Self::AllMeters(query) => vec![query.view_request()],
        }
    }

    /// What the meters count that are defined, of those that it asks for.
    fn meter_types(&self, meters: &Meters, account: u32) -> Result<HashMap<String, MeterType>, store::Error> {
        let type_of = |query: &UsageQuery| Ok((query.query.meter().to_owned(), meters.type_of(account, query.query.meter())?));
        match self {
            Self::One(query) => type_of(query).map(|found| HashMap::from([found])),
            // One question instead of many.
            Self::Batch(queries) if queries.len() > 1 => meters.types(account),
            Self::Batch(queries) => queries.iter().map(type_of).collect(),
            Self::AllMeters(_) => meters.types(account),
        }
    }

    /// Reads the rows and writes the body; one answer at a time is in memory beside it.
    fn evaluate(
        self,
        rows: &dyn Rows,
        types: &HashMap<String, MeterType>,
        gaps: Gaps,
        limits: Limits,
        bytes_max: usize,
    ) -> Result<Evaluated, AmberfloError> {
        let type_of = |meter: &str| types.get(meter).copied().unwrap_or_default();
        let (mut cut, mut overflow, mut approximate) = (false, false, Approximate::default());
        let mut push = |body: &mut Body, asked: &UsageQuery| {
            let answer = evaluate(&asked.query, type_of(asked.query.meter()), rows, limits).map_err(refusal)?;
            cut |= answer.cut;
            overflow |= answer.overflow;
            approximate = approximate.and(answer.approximate);
            body.push(asked, &answer, gaps).map_err(|error| AmberfloError::bad_request(error.to_string()))
        };
        let body = match self {
            Self::One(asked) => {
                let mut body = Body::single(bytes_max);
                push(&mut body, &asked)?;
                body
            }
            Self::Batch(queries) => {
                let mut body = Body::array(bytes_max);
                queries.iter().try_for_each(|asked| push(&mut body, asked))?;
                body
            }
            Self::AllMeters(asked) => {
                let mut body = Body::array(bytes_max);
                let customers = asked.view_request().customers;
                let meters =
                    meters_in_range(rows, asked.account(), asked.range(), customers.as_deref()).map_err(|error| refusal(error.into()))?;
                for meter in meters {
                    push(&mut body, &asked.of_meter(&meter, type_of(&meter))?)?;
                }
                body
            }
        };
        Ok(Evaluated { body: body.finish(), cut, overflow, approximate })
    }
}

/// The one place where an evaluation that failed gets its status.
fn refusal(error: EvaluateError) -> AmberfloError {
    match error {
        EvaluateError::TooManyCells { .. } => AmberfloError::bad_request(error.to_string()),
        EvaluateError::Rows(store::Error::Failed(_) | store::Error::NoRoom(_) | store::Error::Fenced { .. }) => {
            tracing::error!(%error, "rows cannot be read for a usage query");
            AmberfloError::unavailable("the rows cannot be read now", RETRY_AFTER_S)
        }
        EvaluateError::Rows(store::Error::Damaged(_)) => {
            tracing::error!(%error, "rows are damaged, a usage query has no answer");
            AmberfloError::internal()
        }
    }
}

fn respond(evaluated: Evaluated, complete: bool, positions: &[(u32, u64)], ranges: &[TimeRange]) -> Response {
    let mut response = evaluated.body.into_response();
    let headers = response.headers_mut();
    let is_true = HeaderValue::from_static("true");
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(COMPLETE, if complete { is_true.clone() } else { HeaderValue::from_static("false") });
    let positions = positions.iter().map(|(partition, next)| format!("{partition}={next}"));
    insert_list(headers, POSITIONS, positions);
    if ranges.iter().any(|range| range.widened().is_some()) {
        let ranges = ranges.iter().map(|range| range.whole_hours_s()).map(|(start_s, end_s)| format!("{start_s}-{end_s}"));
        insert_list(headers, RANGE, ranges);
    }
    if evaluated.cut {
        headers.insert(GROUPS_CUT, is_true.clone());
    }
    if evaluated.overflow {
        headers.insert(OVERFLOW, is_true);
    }
    let Approximate { is_estimate, is_lower_bound } = evaluated.approximate;
    if is_estimate || is_lower_bound {
        let error = is_estimate.then(|| format!("standard-error={}", sketch::standard_error()));
        insert_list(headers, APPROXIMATE, error.into_iter().chain(is_lower_bound.then(|| "lower-bound".into())));
    }
    response
}

fn insert_list(headers: &mut HeaderMap, name: HeaderName, items: impl Iterator<Item = String>) {
    // Digits and punctuation: always a header's value.
    if let Ok(value) = HeaderValue::try_from(items.collect::<Vec<_>>().join(",")) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
