//! OpenMeter's routes (contract `cloudevents.md` section 3), but for events that come in, which the gateway takes.
//!
//! | | |
//! |---|---|
//! | `GET` `POST /api/v1/meters`, `GET` `PUT` `DELETE /api/v1/meters/{meterIdOrSlug}` | [`meters`] |
//! | `GET` `POST …/query`, `GET …/subjects` of a meter | [`queries`] |
//! | `GET /api/v1/events` | [`events`] |
//!
//! Reading needs the scope `read`, anything else `admin`. Errors are problems (RFC 9457).

mod events;
mod meters;
mod openapi;
mod queries;

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;
use serde_json::Value;

use super::fields::{Received, bytes_within};
use super::meters::unanswered;
use super::openapi::OPENMETER;
use super::refusals::blocking;
use super::usage::Usage;
use crate::accounts::Caller;
use crate::clock::Clock;
use crate::dialect::ApiError;
use crate::dialect::cloudevents::meters as wire;
use crate::meters::{Error, Meter, Meters};
use crate::openapi::Routes;
use crate::verdicts::Verdicts;

/// Largest body.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What the routes work with.
pub(super) struct Parts {
    /// Definitions of meters.
    pub(super) meters: Arc<Meters>,
    /// Answers queries.
    pub(super) usage: Arc<Usage>,
    /// Lists events.
    pub(super) verdicts: Arc<Verdicts>,
    /// When things are changed.
    pub(super) clock: Clock,
}

type Shared = State<Arc<Parts>>;
type By = Extension<Caller>;
type InPath = Result<Path<String>, PathRejection>;
type Answer = Result<Response, ApiError>;

/// All of them, below no prefix. `noted`: what is done to those that change something.
pub(super) fn routes(parts: Parts, noted: impl FnOnce(Routes) -> Routes) -> Routes {
    let parts = Arc::new(parts);
    let changing = meters::routes().body_max(BODY_BYTES_MAX).with_state(parts.clone());
    let reading = queries::routes().merge(events::routes()).body_max(BODY_BYTES_MAX).with_state(parts);
    Routes::of(OPENMETER).merge(noted(changing)).merge(reading)
}

fn read(body: Received) -> Result<axum::body::Bytes, ApiError> {
    bytes_within(body, BODY_BYTES_MAX)
}

/// Does what may block.
async fn work<T, W>(parts: Arc<Parts>, work: W) -> Result<T, ApiError>
where
    T: Send + 'static,
    W: FnOnce(&Parts) -> Result<T, ApiError> + Send + 'static,
{
    blocking("a request in OpenMeter's words", move || work(&parts)).await?
}

/// The meter that a path is about: its slug, which may be any name that another dialect gave, or its id.
fn find(parts: &Parts, account: u32, path: InPath) -> Result<Meter, ApiError> {
    // What no meter can be called is no meter's: a database cannot even be asked for it.
    let name = path.ok().map(|Path(name)| name).filter(|name| !name.contains('\0')).ok_or_else(unknown)?;
    match parts.meters.get(account, &name) {
        Err(Error::Unknown) if wire::is_id(&name) => {
            let all = parts.meters.list(account).map_err(refusal)?;
            all.into_iter().find(|meter| wire::id(account, meter) == name).ok_or_else(unknown)
        }
        found => found.map_err(refusal),
    }
}

/// The one place where an error of the meters gets its status here.
fn refusal(error: Error) -> ApiError {
    match error {
        Error::Exists => ApiError::new(StatusCode::CONFLICT, "DUPLICATE", "a meter with this slug is defined"),
        Error::Unknown => unknown(),
        Error::TooMany => ApiError::bad_request(error.to_string()),
        Error::Store(error) => unanswered(&error),
    }
}

fn unknown() -> ApiError {
    ApiError::not_found(StatusCode::NOT_FOUND, "no meter has this id or slug")
}

fn json(status: StatusCode, body: &Value) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}
