//! Amberflo's usage routes (contract `amberflo.md` section 5).
//!
//! A query sees every event that was acked before it came (`design.md`, promise 9): the [`UsageSource`](crate::usage::UsageSource) is asked for rows
//! that do, for up to 2 s or as long as the header `Prefer: wait=<seconds>` says, and the answer says whether it got
//! them. Reading the rows happens on a thread that may block; then rows and turn are given back, and the body is written while the client
//! takes it (`body`). So whatever can go wrong has gone wrong before the first byte. With `Accept: text/csv` the body is CSV
//! ([`crate::dialect::amberflo::usage::answer`] has its columns), else JSON. The headers of an answer:
//!
//! | Header | Value |
//! |---|---|
//! | `Tollgate-Complete` | `true`, or `false` if the rows had not caught up in time |
//! | `Tollgate-Positions` | up to where the rows go: `<partition>=<next position>`, comma-separated |
//! | `Tollgate-Range` | `<start>-<end>` in seconds, if a range was moved to whole hours; in a batch those of all queries, in their order |
//! | `Tollgate-Buckets-Moved` | `true` if the time zone of a query is not whole hours away from UTC, so that its buckets begin up to an hour early ([`crate::usage::Buckets`] has the rule) |
//! | `Tollgate-Groups-Cut` | `true` if there are more groups than an answer has |
//! | `Tollgate-Approximate` | of numbers of different values: `standard-error=0.0163` if some are estimates, `lower-bound` if there may be more of some; both, comma-separated |
//! | `Tollgate-Meters-Cut` | `true` if `/usage/all` leaves out meters: it has the first 300 with events in the range (shorter names first, names of one length in the order of their bytes) of the first 10,000 of the account, and ends before the first one that would take it past what an answer may hold |
//! | `Tollgate-Overflow` | `true` if events without their dimensions (the overflow row) were filtered or grouped by dimensions |
//! | `Tollgate-Empty` | why there is no group: `no-such-meter`, `customer-never-seen`, `outside-range` or `filter-matched-nothing` ([`crate::usage::Empty`] defines them). In a batch one for each query, in their order, `-` for those that have groups; left out where it could not be found out |

mod accept;
mod asked;
mod body;
mod openapi;
mod queries;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::header::{CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use tokio::sync::Semaphore;

pub(super) use self::accept::prefers_csv;
use self::asked::Asked;
pub(super) use self::asked::{Facts, Found};
pub(super) use self::body::Pieces;
use self::body::Written;
pub(super) use self::openapi::from_rows;
pub(super) use self::queries::{Queries, Seen};

use super::fields::{Parameters, Received, bytes, pairs};
use super::openapi::USAGE;
use super::refusals::{RETRY_AFTER_S, check_scope};
use crate::accounts::{Caller, Scope};
use crate::clock::{Clock, UnixMillis};
use crate::dialect::ApiError;
use crate::dialect::amberflo::usage::answer::{Gaps, Writer};
use crate::dialect::amberflo::usage::{AllMetersQuery, parse_batch, parse_query};
use crate::meters::{self, Meters};
use crate::openapi::Routes;
use crate::sketch;
use crate::store::{self, Rows};
use crate::telemetry;
use crate::usage::{Approximate, Empty, EvaluateError, UNANSWERED_LOOK_UPS_MAX, ViewRequest};

/// How long a query waits for what was acked before it came, unless it says otherwise.
const WAIT: Duration = Duration::from_secs(2);
/// The longest that a query may want to wait.
const WAIT_MAX_S: u64 = 30;
/// Largest body: a batch with some long filters.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Numbers of all answers together that wait for their clients to take them; about 60 bytes each. Past it an answer is a 503.
const NUMBERS_HELD_MAX: usize = 8_000_000;

const RANGE: HeaderName = HeaderName::from_static("tollgate-range");
const GROUPS_CUT: HeaderName = HeaderName::from_static("tollgate-groups-cut");
const BUCKETS_MOVED: HeaderName = HeaderName::from_static("tollgate-buckets-moved");
const METERS_CUT: HeaderName = HeaderName::from_static("tollgate-meters-cut");
const EMPTY: HeaderName = HeaderName::from_static("tollgate-empty");
const OVERFLOW: HeaderName = HeaderName::from_static("tollgate-overflow");
const APPROXIMATE: HeaderName = HeaderName::from_static("tollgate-approximate");
const PREFER: HeaderName = HeaderName::from_static("prefer");

type Shared = State<Arc<Usage>>;
type By = Extension<Caller>;
type Answer = Result<Response, ApiError>;

/// What answers usage queries, of every dialect.
pub(super) struct Usage {
    queries: Queries,
    meters: Arc<Meters>,
    clock: Clock,
    held: Arc<Semaphore>,
}

/// A question that is answered from rows.
pub(super) trait Question: Send + 'static {
    /// As it stands in metrics.
    fn label(&self) -> &'static str;

    /// The rows that it reads.
    fn view_requests(&self) -> Vec<ViewRequest>;

    /// Reads them, on a thread that may block: an answer that can be written, whatever its size.
    ///
    /// # Errors
    /// 400: it is too much. 503, 500: the rows cannot be read.
    fn evaluate(self, rows: &dyn Rows, meters: &Meters) -> Result<Evaluated, ApiError>;
}

/// What was found.
pub(super) struct Evaluated {
    /// For the headers.
    pub(super) facts: Facts,
    /// Numbers that it holds in memory.
    pub(super) numbers: usize,
    /// Writes the body.
    pub(super) writer: Box<dyn Pieces>,
    /// Of the body.
    pub(super) content_type: &'static str,
}

/// An answer before its headers.
struct Answered {
    facts: Facts,
    body: Written,
    content_type: &'static str,
}

/// A question in Amberflo's words.
struct InAmberflosWords {
    asked: Asked,
    gaps: Gaps,
    is_csv: bool,
}

impl Question for InAmberflosWords {
    fn label(&self) -> &'static str {
        self.asked.label()
    }

    fn view_requests(&self) -> Vec<ViewRequest> {
        self.asked.view_requests()
    }

    fn evaluate(self, rows: &dyn Rows, meters: &Meters) -> Result<Evaluated, ApiError> {
        let (facts, reports) = self.asked.evaluate(rows, meters, self.gaps, self.is_csv)?;
        let numbers = reports.numbers_held();
        let content_type = if self.is_csv { accept::CSV } else { accept::JSON };
        Ok(Evaluated { facts, numbers, writer: Box::new(reports.into_writer()), content_type })
    }
}

impl Pieces for Writer {
    fn write(&mut self, to: &mut Vec<u8>, bytes: usize) -> bool {
        Self::write(self, to, bytes)
    }
}

/// `/usage`, `/usage/batch`, `/usage/sparse`, `/usage/sparse/batch` and `/usage/all`. Needs an `Extension<Caller>` on every
/// request.
pub(super) fn routes(usage: Arc<Usage>) -> Routes {
    Routes::of(USAGE)
        .post("/usage", one, openapi::one())
        .post("/usage/batch", batch, openapi::batch())
        .post("/usage/sparse", sparse_one, openapi::sparse_one())
        .post("/usage/sparse/batch", sparse_batch, openapi::sparse_batch())
        .get("/usage/all", all_meters, openapi::all_meters())
        .body_max(BODY_BYTES_MAX)
        .with_state(usage)
}

async fn one(State(usage): Shared, Extension(caller): By, headers: HeaderMap, body: Received) -> Answer {
    usage.in_amberflos_words(&caller, &headers, Gaps::Filled, |account, now| parse_query(&read(body)?, account, now).map(Asked::One)).await
}

async fn batch(State(usage): Shared, Extension(caller): By, headers: HeaderMap, body: Received) -> Answer {
    usage
        .in_amberflos_words(&caller, &headers, Gaps::Filled, |account, now| parse_batch(&read(body)?, account, now).map(Asked::Batch))
        .await
}

async fn sparse_one(State(usage): Shared, Extension(caller): By, headers: HeaderMap, body: Received) -> Answer {
    usage.in_amberflos_words(&caller, &headers, Gaps::LeftOut, |account, now| parse_query(&read(body)?, account, now).map(Asked::One)).await
}

async fn sparse_batch(State(usage): Shared, Extension(caller): By, headers: HeaderMap, body: Received) -> Answer {
    usage
        .in_amberflos_words(&caller, &headers, Gaps::LeftOut, |account, now| parse_batch(&read(body)?, account, now).map(Asked::Batch))
        .await
}

async fn all_meters(State(usage): Shared, Extension(caller): By, headers: HeaderMap, parameters: Parameters) -> Answer {
    let parse = |account, now| AllMetersQuery::parse(&pairs(parameters)?, account, now).map(Asked::AllMeters);
    usage.in_amberflos_words(&caller, &headers, Gaps::Filled, parse).await
}

fn read(body: Received) -> Result<Bytes, ApiError> {
    bytes(body, || format!("the body of a usage query has more than {BODY_BYTES_MAX} bytes, the limit"))
}

impl Usage {
    /// Of these parts.
    pub(super) fn new(queries: Queries, meters: Arc<Meters>, clock: Clock) -> Self {
        Self { queries, meters, clock, held: Arc::new(Semaphore::new(NUMBERS_HELD_MAX)) }
    }

    async fn in_amberflos_words(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        gaps: Gaps,
        parse: impl FnOnce(u32, UnixMillis) -> Result<Asked, ApiError>,
    ) -> Answer {
        let is_csv = prefers_csv(headers);
        self.answer(caller, headers, |account, now| Ok(InAmberflosWords { asked: parse(account, now)?, gaps, is_csv })).await
    }

    /// The way of a query: scope, parse, rows, turn, evaluation, answer.
    pub(super) async fn answer<Q: Question>(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
        parse: impl FnOnce(u32, UnixMillis) -> Result<Q, ApiError>,
    ) -> Answer {
        let started = Instant::now();
        check_scope(caller, Scope::Read)?;
        let question = parse(caller.account, self.clock.now())?;
        let form = question.label();
        let (meters, held) = (self.meters.clone(), self.held.clone());
        let seen = self.queries.read(question.view_requests(), wait(headers), move |rows| {
            let Evaluated { facts, numbers, writer, content_type } = question.evaluate(rows, &meters)?;
            Ok(Answered { facts, body: Written::begin(writer, numbers, &held)?, content_type })
        });
        let seen = seen.await?;
        let empty = self.reasons(&seen.found.facts.found).await;
        telemetry::observe_query(form, seen.rows.complete, seen.found.facts.rows_read, started.elapsed());
        Ok(respond(seen, &empty))
    }

    /// Why each query found nothing; `None` where it found something, or the reason is not known. The rows of its range say only that there
    /// are none, so that others are looked at, which are newer by now.
    async fn reasons(&self, found: &[Found]) -> Vec<Option<Empty>> {
        let nothing_known = || found.iter().map(Found::reason).collect();
        if !found.iter().any(|found| matches!(found, Found::Nothing(_))) {
            return nothing_known();
        }
        let looked_at = found.iter().filter_map(Found::view_request).collect();
        let (meters, questions) = (self.meters.clone(), found.to_vec());
        let reasons = self.queries.look(looked_at, move |rows| {
            let mut look_ups_left = UNANSWERED_LOOK_UPS_MAX;
            let mut reason = |found: &Found| match found {
                Found::Nothing(question) => {
                    let is_defined = question.meter.as_ref().is_some_and(|meter| is_defined(&meters, question.account, meter));
                    question.reason(is_defined, rows, &mut look_ups_left).map(Some)
                }
                Found::Some | Found::NoMatch => Ok(found.reason()),
            };
            questions.iter().map(&mut reason).collect::<Result<Vec<_>, _>>().map_err(|error| refusal(error.into()))
        });
        reasons.await.unwrap_or_else(nothing_known)
    }
}

fn is_defined(meters: &Meters, account: u32, meter: &str) -> bool {
    match meters.get(account, meter) {
        Ok(_) => true,
        Err(meters::Error::Unknown) => false,
        Err(error) => {
            tracing::debug!(%error, "whether a meter is defined is not known");
            true
        }
    }
}

fn unavailable(message: &str) -> ApiError {
    tracing::warn!(reason = message, "a usage query was refused");
    ApiError::unavailable(message, RETRY_AFTER_S)
}

/// How long to wait for the rows: `Prefer: wait=<seconds>`, among other preferences. What cannot be understood is no
/// preference (RFC 7240).
pub(super) fn wait(headers: &HeaderMap) -> Duration {
    let preferences = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split([',', ';']));
    let mut waits = preferences.filter_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse::<u64>().ok()?;
        name.trim().eq_ignore_ascii_case("wait").then_some(seconds)
    });
    waits.next().map_or(WAIT, |seconds| Duration::from_secs(seconds.min(WAIT_MAX_S)))
}

/// The one place where an evaluation that failed gets its status.
pub(super) fn refusal(error: EvaluateError) -> ApiError {
    match error {
        EvaluateError::TooManyCells { .. } => ApiError::bad_request(error.to_string()),
        EvaluateError::Rows(store::Error::Failed(_) | store::Error::NoRoom(_) | store::Error::Fenced { .. }) => {
            tracing::error!(%error, "rows cannot be read for a usage query");
            ApiError::unavailable("the rows cannot be read now", RETRY_AFTER_S)
        }
        EvaluateError::Rows(store::Error::Damaged(_)) => {
            tracing::error!(%error, "rows are damaged, a usage query has no answer");
            ApiError::internal()
        }
    }
}

fn respond(seen: Seen<Answered>, empty: &[Option<Empty>]) -> Response {
    let Answered { facts, body, content_type } = seen.found;
    let mut response = body.into_body().into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(VARY, HeaderValue::from_static("accept"));
    seen.rows.describe(headers);
    describe_facts(&facts, headers);
    if empty.iter().any(Option::is_some) {
        insert_list(headers, EMPTY, empty.iter().map(|reason| reason.map_or("-", Empty::label).to_owned()));
    }
    response
}

/// An answer of JSON that is written whole, and observed. `form`: as it stands in metrics.
pub(super) fn whole_answer(form: &'static str, seen: Seen<(Vec<u8>, Facts)>, started: Instant) -> Response {
    let Seen { found: (body, facts), rows } = seen;
    let mut response = ([(CONTENT_TYPE, accept::JSON)], body).into_response();
    rows.describe(response.headers_mut());
    describe_facts(&facts, response.headers_mut());
    telemetry::observe_query(form, rows.complete, facts.rows_read, started.elapsed());
    response
}

/// Says in the headers of an answer how it is not what was asked for, or not exact.
fn describe_facts(facts: &Facts, headers: &mut HeaderMap) {
    if facts.ranges_moved {
        insert_list(headers, RANGE, facts.ranges_s.iter().map(|(start_s, end_s)| format!("{start_s}-{end_s}")));
    }
    let flags =
        [(BUCKETS_MOVED, facts.buckets_moved), (GROUPS_CUT, facts.groups_cut), (METERS_CUT, facts.meters_cut), (OVERFLOW, facts.overflow)];
    for (name, _) in flags.into_iter().filter(|(_, is_set)| *is_set) {
        headers.insert(name, HeaderValue::from_static("true"));
    }
    let Approximate { is_estimate, is_lower_bound } = facts.approximate;
    if is_estimate || is_lower_bound {
        let error = is_estimate.then(|| format!("standard-error={}", sketch::standard_error()));
        insert_list(headers, APPROXIMATE, error.into_iter().chain(is_lower_bound.then(|| "lower-bound".into())));
    }
}

fn insert_list(headers: &mut HeaderMap, name: HeaderName, items: impl Iterator<Item = String>) {
    // Digits and punctuation: always a header's value.
    if let Ok(value) = HeaderValue::try_from(items.collect::<Vec<_>>().join(",")) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
