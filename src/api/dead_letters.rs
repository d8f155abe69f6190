//! `GET /v1/dead-letters`: the latest events that were not taken although their neighbours were.

use std::sync::Arc;

use axum::extract::{Extension, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::accounts::{Caller, Scope};
use crate::dialect::amberflo::AmberfloError;
use crate::gateway::{DeadLetter, letters};
use crate::log::embedded::EmbeddedLog;
use crate::log::{Error, LogReader, Position};

/// Letters of all accounts that one answer looks at, from the newest back.
const LOOKED_AT_MAX: u64 = 100_000;
const READ_BYTES: usize = 4 << 20;

pub(super) fn routes(log: Arc<EmbeddedLog>) -> Router {
    Router::new().route("/v1/dead-letters", get(list)).with_state(log)
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<usize>,
}

/// A letter with its place and time.
#[derive(Serialize)]
struct Listed {
    position: u64,
    received: String,
    #[serde(flatten)]
    letter: DeadLetter,
}

async fn list(
    State(log): State<Arc<EmbeddedLog>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<Listed>>, AmberfloError> {
    if !caller.may(Scope::Admin) {
        return Err(AmberfloError::forbidden(Scope::Admin.label()));
    }
    let limit = query.limit.unwrap_or(100);
    if !(1..=1_000).contains(&limit) {
        return Err(AmberfloError::bad_field("limit", "must be between 1 and 1000"));
    }
    let read = tokio::task::spawn_blocking(move || latest(&log, caller.account, limit)).await;
    match read {
        Ok(Ok(letters)) => Ok(Json(letters)),
        Ok(Err(error)) => {
            tracing::error!(%error, "dead letters cannot be read");
            Err(AmberfloError::internal())
        }
        Err(_) => Err(AmberfloError::internal()),
    }
}

fn latest(log: &Arc<EmbeddedLog>, account: u32, limit: usize) -> Result<Vec<Listed>, Error> {
    let end = log.end();
    let mut next = Position(log.start().0.max(end.0.saturating_sub(LOOKED_AT_MAX)));
    let mut reader = log.reader();
    let mut found = std::collections::VecDeque::new();
    while next < end {
        let chunk = reader.read(next, READ_BYTES)?;
        for (position, received, letter) in chunk.blocks().flat_map(|block| letters(&block)) {
            if letter.account == account && position >= next {
                if found.len() == limit {
                    found.pop_front();
                }
                found.push_back(Listed { position: position.0, received: received.to_string(), letter });
            }
        }
        next = chunk.end().unwrap_or(end);
    }
    Ok(found.into_iter().rev().collect())
}
