//! Bodies and queries of our own routes, for `crate::fuzz`.

use axum::extract::Query;
use hyper::Uri;

use super::fields::{self, Fields, OwnQuery};
use super::{dead_letters, events, keys, reconcile};
use crate::dialect::ApiError;

/// The pairs of a query; `None` if it cannot be read.
pub(crate) fn pairs(uri: &Uri) -> Option<Vec<(String, String)>> {
    fields::pairs(Query::try_from_uri(uri)).ok()
}

/// What is wrong with a query, as each of the routes that have parameters sees it.
pub(crate) fn queries(uri: &Uri) -> [Result<(), ApiError>; 4] {
    let query = || Query::try_from_uri(uri);
    let pairs = fields::pairs(query());
    let own = OwnQuery::of(query(), &["account", "after", "before", "limit"]).and_then(|query| query.limit().map(drop));
    let events = |partitions| pairs.clone().and_then(|pairs| events::filter(pairs, partitions)).map(drop);
    [events(1), events(16), dead_letters::filter(query()).map(drop), own]
}

/// How many ids the body of a reconciliation asks for, all of which have the length of one.
pub(crate) fn reconcile(body: &[u8]) -> Result<usize, ApiError> {
    reconcile::Asked::parse(body).map(|asked| asked.unique_ids.len())
}

/// What is wrong with the body that makes a key.
pub(crate) fn new_key(body: &[u8]) -> Result<(), ApiError> {
    let fields = Fields::of_body(Ok(body.to_vec().into()), &["name", "scopes", "rateLimit"])?;
    keys::new_key(fields).map(drop)
}
