//! Amberflo's filtering rules (contract `amberflo.md` section 4).
//!
//! | | scope | |
//! |---|---|---|
//! | `POST /meter-event-filtering-rules` | admin | makes a rule, or changes the one of its `ruleId`; a `ruleId` that is not known is made, so that a lost answer can be asked for again |
//! | `GET /meter-event-filtering-rules?meterApiName=` | read | those of a meter |
//!
//! A rule holds for events received after the answer, on every node; where there are several, the answer to a change of what is dropped takes a second. There is no way to
//! delete one: without `dimensionName` or `action` it drops nothing.

mod openapi;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use serde_json::Value;

use super::audit::Audited;
use super::fields::{Parameters, Received, bytes, pairs};
use super::openapi::METERS;
use super::refusals::{CHANGE_UNKNOWN, blocking, check_scope, store_refusal};
use crate::accounts::{Caller, Scope};
use crate::dialect::ApiError;
use crate::dialect::amberflo::rules::{parse, render};
use crate::openapi::Routes;
use crate::rules::{Error, Rules};

/// Largest body: all limits reached, in plain text.
const BODY_BYTES_MAX: usize = 2 << 20;

type Shared = State<Arc<Rules>>;
type By = Extension<Caller>;

pub(super) fn routes(rules: Arc<Rules>) -> Routes {
    Routes::of(METERS)
        .get("/meter-event-filtering-rules", list, openapi::list())
        .post("/meter-event-filtering-rules", put, openapi::put())
        .body_max(BODY_BYTES_MAX)
        .with_state(rules)
}

async fn list(State(rules): Shared, Extension(caller): By, query: Parameters) -> Result<Json<Value>, ApiError> {
    check_scope(&caller, Scope::Read)?;
    let meter = pairs(query)?.into_iter().find(|(name, _)| name == "meterApiName").map(|(_, value)| value);
    let meter = meter.filter(|meter| !meter.is_empty()).ok_or_else(|| ApiError::bad_field("meterApiName", "is missing"))?;
    Ok(Json(rules.list(caller.account, &meter).await.iter().map(render).collect()))
}

async fn put(State(rules): Shared, Extension(caller): By, body: Received) -> Result<(Extension<Audited>, Json<Value>), ApiError> {
    check_scope(&caller, Scope::Admin)?;
    let new = parse(&bytes(body, too_large)?)?;
    let changing = rules.clone();
    let changed = blocking("a change of a filtering rule", move || changing.put(caller.account, new)).await?;
    let (rule, must_be_heard) = changed.map_err(refusal)?;
    if must_be_heard {
        rules.settle().await;
    }
    let shown = render(&rule);
    Ok((Extension(Audited { object: rule.id, account: None }), Json(shown)))
}

fn too_large() -> String {
    format!("the body has more than {BODY_BYTES_MAX} bytes, the limit here")
}

/// The one place where an error of the rules gets its status.
fn refusal(error: Error) -> ApiError {
    match error {
        Error::TooMany | Error::TooManyOfMeter | Error::TooLong => ApiError::bad_request(error.to_string()),
        Error::Store(error) => {
            tracing::error!(%error, "the store did not answer for a filtering rule");
            store_refusal(&error, CHANGE_UNKNOWN)
        }
    }
}
