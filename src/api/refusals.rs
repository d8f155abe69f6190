//! Refusals that several routes have in common, and how they do what may block.

use crate::accounts::{Caller, Scope};
use crate::dialect::ApiError;
use crate::store;

/// When to ask again, in s, after something did not answer.
pub(super) const RETRY_AFTER_S: u32 = 2;
/// Of a change whose answer from the store was lost.
pub(super) const CHANGE_UNKNOWN: &str = "the store failed: a change may have been made or not, ask before sending it again";

/// Does what may block on a thread that may. A client that hangs up does not take a change back. `what`: what broke off, if it does.
pub(super) async fn blocking<T: Send + 'static>(what: &'static str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "{what} broke off");
        ApiError::internal()
    })
}

/// 403 unless the key has a scope.
pub(super) fn check_scope(caller: &Caller, scope: Scope) -> Result<(), ApiError> {
    if caller.may(scope) { Ok(()) } else { Err(ApiError::forbidden(scope.label())) }
}

/// 503 with a message where asking again may help, else 500.
pub(super) fn store_refusal(error: &store::Error, message: &str) -> ApiError {
    match error {
        store::Error::Failed(_) | store::Error::NoRoom(_) => ApiError::unavailable(message, RETRY_AFTER_S),
        store::Error::Damaged(_) | store::Error::Fenced { .. } => ApiError::internal(),
    }
}
