//! How queries of every dialect get to the rows: those that show what was acked before (`design.md`, promise 9), a few queries at a time, on
//! threads that may block.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Semaphore;

use super::{insert_list, unavailable};
use crate::api::refusals::blocking;
use crate::dialect::ApiError;
use crate::store::Rows;
use crate::usage::{UsageSource, View, ViewRequest};

/// Queries whose rows are read at once: what bounds the memory of all evaluations together. The largest ones take 500 MiB
/// each ([`crate::usage::Limits`]), common ones less than one.
const AT_ONCE_MAX: usize = 4;
/// How long a query waits until it is one of them.
const TURN_WAIT: Duration = Duration::from_secs(10);

/// Whether everything acked before the query is in its answer.
const COMPLETE: HeaderName = HeaderName::from_static("tollgate-complete");
/// Up to where the rows of an answer go.
const POSITIONS: HeaderName = HeaderName::from_static("tollgate-positions");

/// The way to the rows; clones share their turns.
#[derive(Clone)]
pub(in crate::api) struct Queries {
    source: Arc<dyn UsageSource>,
    turns: Arc<Semaphore>,
}

/// What a query found, and in which rows.
pub(in crate::api) struct Seen<T> {
    pub(in crate::api) found: T,
    pub(in crate::api) rows: Standing,
}

/// Of which moment rows are.
#[derive(Debug, Clone)]
pub(in crate::api) struct Standing {
    /// Whether they show everything that was acked before the query came.
    pub(in crate::api) complete: bool,
    positions: Vec<(u32, u64)>,
}

impl Queries {
    pub(in crate::api) fn new(source: Arc<dyn UsageSource>) -> Self {
        Self { source, turns: Arc::new(Semaphore::new(AT_ONCE_MAX)) }
    }

    /// Waits for rows, not longer than `wait`, and for a turn; then does `work` with them on a thread that may block.
    ///
    /// # Errors
    /// 503: there are no rows, or no turn. What `work` refuses.
    pub(in crate::api) async fn read<T: Send + 'static>(
        &self,
        wanted: Vec<ViewRequest>,
        wait: Duration,
        work: impl FnOnce(&dyn Rows) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<Seen<T>, ApiError> {
        let View { rows, complete, positions } = self.source.view(wanted, wait).await.map_err(|error| unavailable(&error.to_string()))?;
        // Not before the rows are there: whoever waits for them needs neither memory nor a thread.
        let turn = tokio::time::timeout(TURN_WAIT, self.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(unavailable("too many usage queries are under way")) };
        let found = blocking("a usage query", move || {
            let _turn = turn;
            work(&*rows)
        });
        Ok(Seen { found: found.await??, rows: Standing { complete, positions } })
    }

    /// Does `work` with the rows as they are, beside all turns: for a few look-ups.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        wanted: Vec<ViewRequest>,
        work: impl FnOnce(&dyn Rows) -> Result<T, ApiError> + Send + 'static,
    ) -> Option<T> {
        let View { rows, .. } = self.source.view(wanted, Duration::ZERO).await.ok()?;
        blocking("a look at rows", move || work(&*rows)).await.flatten().ok()
    }
}

impl Standing {
    /// Says it in the headers of an answer.
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        headers.insert(COMPLETE, HeaderValue::from_static(if self.complete { "true" } else { "false" }));
        insert_list(headers, POSITIONS, self.positions.iter().map(|(partition, next)| format!("{partition}={next}")));
    }
}
