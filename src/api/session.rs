//! Links to the customers' page (contract `amberflo.md` section 6.4). Scope `read`: whoever gets one reads less than the key itself can, and no
//! longer than the key is good.

mod openapi;

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};

use super::fields::{Received, bytes};
use super::openapi::CUSTOMERS;
use super::refusals::{RETRY_AFTER_S, blocking, check_scope, store_refusal};
use crate::accounts::{Caller, Scope};
use crate::dialect::ApiError;
use crate::dialect::amberflo::session;
use crate::openapi::Routes;
use crate::portal::{LinkError, Portal};

/// Largest body.
const BODY_BYTES_MAX: usize = 64 << 10;

type Answer = Result<Response, ApiError>;

/// `/session`. Needs an `Extension<Caller>` on every request.
pub(super) fn routes(portal: Arc<Portal>) -> Routes {
    Routes::of(CUSTOMERS).post("/session", make, openapi::make()).body_max(BODY_BYTES_MAX).with_state(portal)
}

async fn make(State(portal): State<Arc<Portal>>, Extension(by): Extension<Caller>, headers: HeaderMap, body: Received) -> Answer {
    check_scope(&by, Scope::Read)?;
    let body = bytes(body, || format!("the body of a session has more than {BODY_BYTES_MAX} bytes"))?;
    let new = session::parse(&body, portal.now())?;
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).map(str::to_owned);
    let made = blocking("a request for a session", move || portal.link(&by, new, host.as_deref())).await?;
    let link = made.map_err(refusal)?;
    // Nobody on the way keeps it.
    let headers = [(CONTENT_TYPE, HeaderValue::from_static("application/json")), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, session::render(&link).to_string()).into_response())
}

/// The one place where an error of a link gets its status.
fn refusal(error: LinkError) -> ApiError {
    match error {
        LinkError::Removed => ApiError::not_found(StatusCode::BAD_REQUEST, error.to_string()),
        LinkError::Address(_) => ApiError::bad_request(error.to_string()),
        LinkError::Store(error) => {
            tracing::error!(%error, retry_after_s = RETRY_AFTER_S, "the store did not answer for a session");
            store_refusal(&error, "the store failed; send the same request again")
        }
    }
}
