//! What this node answers other nodes: the firsts and the conflicts of the partitions that it owns.
//!
//! | status | |
//! |---|---|
//! | 200 | the answer; bodies are those of `questions` |
//! | 400, 413 | the question makes no sense, or is too large |
//! | 401 | without the secret of the nodes; nothing of the body was read |
//! | 421 | this node does not own the partition |
//! | 503 | it cannot answer now: `{"error": "behind", "busy" or "failed", "detail": …}` |

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::handover::Lending;
use super::local::{Local, OwnedHere};
use super::questions::{BODY_BYTES_MAX, Question, Route};
use super::secret::NodeSecret;
use crate::log::Partition;
use crate::materializer::ViewError;
use crate::telemetry::{self, Said};

/// With what the paths of these routes begin.
pub const PREFIX: &str = "/internal/v1/";
/// Questions that are answered at a time. Each may have 4 MiB.
const ANSWERED_MAX: usize = 32;
/// How long another node may let this one wait for a position.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// The whole request, body and all.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Why there is no answer now, as nodes tell each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Unavailable {
    Behind,
    Busy,
    Failed,
}

/// The body of a 503.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UnavailableBody {
    pub(super) error: Unavailable,
    pub(super) detail: String,
}

#[derive(Clone)]
struct Parts {
    local: Local,
    secret: NodeSecret,
    turns: Arc<Semaphore>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Waits {
    wait_ms: u64,
}

/// The routes, to be served where other nodes reach this one ([`super::NodeAddress::url`]); whoever has the secret may ask. `log`: all
/// partitions of the log, by their numbers. What `lending` answers is described there ([`super::handover`]).
pub fn router(log: Vec<Arc<dyn Partition>>, owned: Arc<dyn OwnedHere>, secret: NodeSecret, lending: Lending) -> Router {
    let parts = Parts { local: Local { log: log.into(), owned }, secret, turns: Arc::new(Semaphore::new(ANSWERED_MAX)) };
    Router::new()
        .route("/internal/v1/partitions/{partition}/firsts", post(firsts))
        .route("/internal/v1/partitions/{partition}/conflicts", post(conflicts))
        .merge(lending.router())
        .fallback(|| async { StatusCode::NOT_FOUND })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(parts.clone(), let_in))
        .with_state(parts)
}

/// Only nodes, only some at a time, and for a bounded time.
async fn let_in(State(parts): State<Parts>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let answer = answer_in_time(&parts, request, next).await;
    let said = match answer.status() {
        StatusCode::OK => Said::Answered,
        // Of an index: there is none here.
        StatusCode::MISDIRECTED_REQUEST | StatusCode::NOT_FOUND => Said::NotOwner,
        StatusCode::SERVICE_UNAVAILABLE => match answer.extensions().get() {
            Some(Unavailable::Behind) => Said::Behind,
            Some(Unavailable::Busy) => Said::Busy,
            Some(Unavailable::Failed) | None => Said::Failed,
        },
        _ => Said::Refused,
    };
    telemetry::observe_answer(said, began.elapsed());
    answer
}

async fn answer_in_time(parts: &Parts, request: Request, next: Next) -> Response {
    if !parts.secret.is_in(request.headers()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(_turn) = parts.turns.try_acquire() else { return unavailable(Unavailable::Busy, "too many nodes ask") };
    let answer = tokio::time::timeout(REQUEST_MAX, next.run(request)).await;
    answer.unwrap_or_else(|_| StatusCode::REQUEST_TIMEOUT.into_response())
}

type InPath = Result<Path<u32>, PathRejection>;
type InQuery = Result<Query<Waits>, QueryRejection>;
type Body = Result<Bytes, BytesRejection>;

async fn firsts(State(parts): State<Parts>, path: InPath, waits: InQuery, body: Body) -> Response {
    parts.answer(Route::Firsts, path, waits, body).await
}

async fn conflicts(State(parts): State<Parts>, path: InPath, waits: InQuery, body: Body) -> Response {
    parts.answer(Route::Conflicts, path, waits, body).await
}

impl Parts {
    async fn answer(&self, route: Route, path: InPath, waits: InQuery, body: Body) -> Response {
        let Ok(Path(partition)) = path else { return StatusCode::NOT_FOUND.into_response() };
        let Ok(Query(Waits { wait_ms })) = waits else { return (StatusCode::BAD_REQUEST, "waitMs is missing").into_response() };
        let body = match body {
            Ok(body) => body,
            Err(rejection) => return rejection.into_response(),
        };
        let question = match Question::from_json(route, &body) {
            Ok(question) => question,
            Err(nonsense) => return (StatusCode::BAD_REQUEST, nonsense.to_string()).into_response(),
        };
        drop(body);
        match self.local.answer(partition, &question, Duration::from_millis(wait_ms).min(WAIT_MAX)).await {
            None => StatusCode::MISDIRECTED_REQUEST.into_response(),
            Some(Ok(answers)) => {
                ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], answers.to_json(partition)).into_response()
            }
            Some(Err(ViewError::Behind)) => unavailable(Unavailable::Behind, ""),
            Some(Err(ViewError::Busy)) => unavailable(Unavailable::Busy, "too many questions wait for the rows"),
            Some(Err(ViewError::Failed(detail))) => unavailable(Unavailable::Failed, detail),
        }
    }
}

fn unavailable(error: Unavailable, detail: impl Into<String>) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, Extension(error), Json(UnavailableBody { error, detail: detail.into() })).into_response()
}
