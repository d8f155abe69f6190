//! Everything that is asked rather than ingested: routes, who may call them, and what a stranger gets.
//!
//! Paths arrive [normalised](crate::dialect::routing), Amberflo's and our own without a prefix, those of the other dialects with theirs; the
//! caller's key has been checked and its account is an extension of the request.

mod accounts;
mod audit;
mod billing;
pub mod customers;
mod dead_letters;
mod docs;
mod events;
mod fields;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod keys;
mod meters;
mod octane;
mod openapi;
mod openmeter;
pub mod reconcile;
mod refusals;
mod rules;
mod session;
mod stigg;
pub mod usage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::StatusCode;

use crate::accounts::Accounts;
use crate::accounts::audit::Audit;
use crate::billing::Billing;
use crate::clock::Clock;
use crate::customers::Customers;
use crate::dialect::ApiError;
use crate::dialect::routing::Dialect;
use crate::dialect::speak;
use crate::gateway::Gateway;
use crate::letters::Letters;
use crate::materializer::{Materializer, Wanted};
use crate::meters::Meters;
use crate::openapi::{Described, Routes};
use crate::portal::Portal;
use crate::rules::Rules;
use crate::store::row::DAY_S;
use crate::telemetry;
use crate::usage::{UsageSource, View, ViewError, ViewFuture, ViewRequest};
use crate::verdicts::Verdicts;

pub use audit::Peer;
pub use customers::Provider;
pub use docs::needs_no_key;
pub use openapi::{INGEST, OCTANE, OPENMETER, OPERATION, STIGG, error_form};

/// What the routes work with.
pub struct Parts {
    /// All accounts and their keys.
    pub accounts: Arc<Accounts>,
    /// What administrators did.
    pub audit: Arc<Audit>,
    /// The customers of all accounts.
    pub customers: Arc<Customers>,
    /// Where customers are made, too, if one is configured.
    pub provider: Option<Provider>,
    /// What is said of meters.
    pub meters: Arc<Meters>,
    /// Which events count nowhere.
    pub rules: Arc<Rules>,
    /// Plans, orders, invoices.
    pub billing: Arc<Billing>,
    /// What became of events.
    pub verdicts: Arc<Verdicts>,
    /// The rows.
    pub source: Arc<dyn UsageSource>,
    /// What was not taken.
    pub letters: Arc<Letters>,
    /// Takes what is replayed.
    pub gateway: Arc<Gateway>,
    /// Whether it takes events of requests, too: on this node, that is its role.
    pub takes_events: bool,
    /// Gives links to the customers' page.
    pub portal: Arc<Portal>,
    /// For "until now".
    pub clock: Clock,
}

/// All routes, our own and Amberflo's at the root and those of the other dialects under their prefixes, and their description. `beside` is
/// described with them: what is served before requests come here.
///
/// All need a key but those of [`needs_no_key`].
pub fn router(parts: Parts, beside: Vec<Described>) -> Router {
    let docs = docs::Docs::default();
    let routes = routes(parts).merge(docs::routes(docs.clone())).layered(|router| {
        router.route_layer(middleware::from_fn(observe)).method_not_allowed_fallback(method_not_allowed).fallback(unknown_path)
    });
    docs.describe(openapi::ABOUT, &[beside, routes.operations().to_vec()].concat());
    routes.into_router()
}

fn routes(parts: Parts) -> Routes {
    let queries = usage::Queries::new(parts.source);
    let usage = Arc::new(usage::Usage::new(queries.clone(), parts.meters.clone(), parts.clock.clone()));
    let openmeter = openmeter::Parts {
        meters: parts.meters.clone(),
        usage: usage.clone(),
        verdicts: parts.verdicts.clone(),
        clock: parts.clock.clone(),
    };
    let openmeter = openmeter::routes(openmeter, |routes| {
        routes.layered(|router| router.route_layer(middleware::from_fn_with_state(parts.audit.clone(), audit::note)))
    });
    let stigg = stigg::routes(stigg::Parts { customers: parts.customers.clone(), billing: parts.billing.clone() })
        .layered(|router| router.route_layer(middleware::from_fn_with_state(parts.audit.clone(), audit::note)));
    let octane = octane::Parts {
        customers: parts.customers.clone(),
        billing: parts.billing.clone(),
        meters: parts.meters.clone(),
        queries: queries.clone(),
    };
    let reported = stigg::usage::routes(stigg::usage::Parts {
        gateway: parts.takes_events.then(|| parts.gateway.clone()),
        verdicts: parts.verdicts.clone(),
        queries: queries.clone(),
        customers: parts.customers.clone(),
        clock: parts.clock.clone(),
    });
    let octane =
        octane::routes(octane).layered(|router| router.route_layer(middleware::from_fn_with_state(parts.audit.clone(), audit::note)));
    // Where every method but GET changes what is set up.
    let noted = Routes::of(OPERATION)
        .merge(accounts::routes(parts.accounts.clone()))
        .merge(keys::routes(parts.accounts.clone()))
        .merge(customers::routes(customers::Parts {
            customers: parts.customers,
            accounts: parts.accounts.clone(),
            provider: parts.provider,
        }))
        .merge(meters::routes(parts.meters.clone()))
        .merge(rules::routes(parts.rules))
        .merge(billing::noted_routes(parts.billing.clone()))
        .merge(dead_letters::routes(dead_letters::Parts { letters: parts.letters, gateway: parts.gateway }))
        .layered(|router| router.route_layer(middleware::from_fn_with_state(parts.audit.clone(), audit::note)));
    Routes::of(OPERATION)
        .merge(noted)
        .merge(audit::routes(parts.audit, parts.accounts))
        .merge(usage::routes(usage))
        .merge(billing::routes(parts.billing))
        .merge(events::routes(parts.verdicts.clone()))
        .merge(reconcile::routes(parts.verdicts))
        .merge(session::routes(parts.portal))
        .merge(in_words_of(Dialect::Octane, octane))
        .merge(in_words_of(Dialect::Stigg, stigg.merge(reported)))
        .merge(in_words_of(Dialect::CloudEvents, openmeter))
}

/// The routes of a dialect, under its prefix and with errors in its words.
fn in_words_of(dialect: Dialect, routes: Routes) -> Routes {
    routes.under(dialect.prefix(), error_form(dialect), |router| {
        let router = router.fallback(unknown_path).method_not_allowed_fallback(method_not_allowed);
        router.layer(middleware::map_response(move |response: Response| async move { speak(dialect, response) }))
    })
}

async fn unknown_path() -> ApiError {
    ApiError::not_found(StatusCode::NOT_FOUND, "there is nothing at this path")
}

async fn method_not_allowed() -> ApiError {
    method_not_allowed_error()
}

/// 421: some nodes of a cluster have only some of the roles.
pub fn not_here() -> ApiError {
    let message = "this node does not answer this (its roles are set so); ask one that does";
    ApiError::new(StatusCode::MISDIRECTED_REQUEST, "MISDIRECTED_REQUEST", message)
}

/// 405, for paths that exist.
pub fn method_not_allowed_error() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "METHOD_NOT_ALLOWED",
        "this path does not know the method; the header Allow says which ones it knows",
    )
}

async fn observe(path: MatchedPath, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let response = next.run(request).await;
    telemetry::observe_request(path.as_str().to_owned(), response.status().as_u16(), started.elapsed());
    response
}

impl UsageSource for Materializer {
    fn view(&self, wanted: Vec<ViewRequest>, wait: Duration) -> ViewFuture<'_> {
        Box::pin(async move {
            let wanted = wanted.into_iter().map(days).collect();
            let view = Materializer::view(self, wanted, wait).await.map_err(|error| ViewError::Unavailable(error.to_string()))?;
            Ok(View { rows: view.rows, complete: view.complete, positions: vec![(0, view.next.0)] })
        })
    }
}

fn days(request: ViewRequest) -> Wanted {
    let day = |seconds: i64| u32::try_from(seconds.max(0) / DAY_S).unwrap_or(u32::MAX);
    Wanted {
        account: request.account,
        meter: request.meter,
        customers: request.customers,
        from_day: day(request.from_s),
        to_day: day(request.to_s.saturating_add(DAY_S - 1)),
    }
}
