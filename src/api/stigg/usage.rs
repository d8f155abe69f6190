//! Reports of usage, which answer with totals, and its history (contract `stigg.md` sections 4 and 5).
//!
//! A report is durable first, as what comes in at the doors is; then the answer waits until it is counted. It needs the scopes `ingest`, as it
//! brings events, and `read`, as it tells totals.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use serde_json::Value;

use super::{Answer, BODY_BYTES_MAX, By, customer_in, json as answer_json, of_customer, openapi, query, read};
use crate::accounts::{Caller, Scope};
use crate::api::events::refusal as of_verdicts;
use crate::api::fields::{Parameters, Received};
use crate::api::not_here;
use crate::api::openapi::STIGG;
use crate::api::refusals::{self, RETRY_AFTER_S, check_scope};
use crate::api::usage::{self, Facts, Queries};
use crate::clock::{Clock, UnixMicros};
use crate::customers::Customers;
use crate::dialect::ApiError;
use crate::dialect::stigg::error::SHOULD_RETRY;
use crate::dialect::stigg::history::History;
use crate::dialect::stigg::usage::{Measurement, Report, Totals, USAGES, USAGES_MAX, Usage, read_usages, render};
use crate::event::{IdentityMode, Rejection};
use crate::gateway::Gateway;
use crate::openapi::Routes;
use crate::usage::{Limits, MeterType, evaluate, ever, totals};
use crate::verdicts::{self, Verdicts};

/// How long a report waits until it is counted.
const COUNTED_WITHIN: Duration = Duration::from_secs(10);
/// Most points of a history.
const POINTS_MAX: usize = 100_000;

/// What the routes work with.
#[derive(Clone)]
pub(in crate::api) struct Parts {
    /// Takes reports; `None`: not this node's role.
    pub(in crate::api) gateway: Option<Arc<Gateway>>,
    /// Know what stands in the log.
    pub(in crate::api) verdicts: Arc<Verdicts>,
    /// The way to the rows.
    pub(in crate::api) queries: Queries,
    /// Who is known.
    pub(in crate::api) customers: Arc<Customers>,
    /// For "until now".
    pub(in crate::api) clock: Clock,
}

/// Needs an `Extension<Caller>` on every request.
pub(in crate::api) fn routes(parts: Parts) -> Routes {
    Routes::of(STIGG)
        .post("/api/v1/usage", report, openapi::report_usage())
        .get("/api/v1/usage/{customer_id}/history/{feature_id}", history, openapi::show_history())
        .body_max(BODY_BYTES_MAX)
        .with_state(parts)
}

async fn report(State(parts): State<Parts>, Extension(by): By, body: Received) -> Answer {
    check_scope(&by, Scope::Ingest)?;
    check_scope(&by, Scope::Read)?;
    let gateway = parts.gateway.as_ref().ok_or_else(not_here)?;
    let Report { events, is_single } = Report::parse(read(body)?)?;
    let list = if is_single { "" } else { USAGES };
    let brought = gateway.bring_usage(events.clone(), list, USAGES_MAX, &by).await?;
    let usages = read_usages(&events, brought.received, gateway.settings.window).map_err(read_otherwise)?;
    let all_have_keys = usages.iter().all(|usage| usage.has_key);
    let measured = |(usage, (id, time)): (Usage, (String, UnixMicros))| Measurement::new(usage, id, time.millis(), brought.received);
    let wanted = by_feature(&usages);
    let keys = usages.iter().map(|usage| usage.has_key).collect();
    let measurements = usages.into_iter().zip(brought.events).map(measured).collect();
    match parts.measure(&by, measurements, keys, wanted).await {
        Ok(mut measured) if is_single => Ok(answer_json(StatusCode::CREATED, super::one(measured.pop().unwrap_or_default()))),
        Ok(measured) => Ok(answer_json(StatusCode::CREATED, super::one(measured.into()))),
        // The client would send it again, and it would count again.
        Err(error) if !all_have_keys => {
            let mut refused = IntoResponse::into_response(error);
            refused.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
            Ok(refused)
        }
        Err(error) => Err(error),
    }
}

/// The customers of each feature, both without repetition.
type Wanted = BTreeMap<String, BTreeSet<String>>;

fn by_feature(usages: &[Usage]) -> Wanted {
    let mut wanted = Wanted::new();
    for usage in usages {
        wanted.entry(usage.feature.clone()).or_default().insert(usage.customer.clone());
    }
    wanted
}

impl Parts {
    /// The measurements that answer a report, once it is counted.
    async fn measure(
        &self,
        by: &Caller,
        mut measurements: Vec<Measurement>,
        have_keys: Vec<bool>,
        wanted: Wanted,
    ) -> Result<Vec<Value>, ApiError> {
        let totals = self.totals(by.account, wanted).await?;
        let (places, keys): (Vec<usize>, Vec<String>) =
            measurements.iter().map(|one| one.id().to_owned()).enumerate().filter(|(at, _)| have_keys[*at]).unzip();
        // Where all that an event says tells it from others, a key alone does not.
        if !keys.is_empty() && by.record_account().identity == IdentityMode::UniqueId {
            let firsts = self.verdicts.firsts(by.record_account(), &keys).await.map_err(|error| match error {
                error @ (verdicts::Error::View(_) | verdicts::Error::Busy) => {
                    tracing::debug!(%error, "a report of usage is not answered");
                    late()
                }
                error => of_verdicts(error),
            })?;
            for (at, first) in places.into_iter().zip(firsts) {
                if let Some(first) = first {
                    measurements[at].settle(&first.event, first.received, first.is_filtered());
                }
            }
        }
        Ok(render(&measurements, by.record_account().identity, totals))
    }

    /// All that was ever used, with everything acked before.
    async fn totals(&self, account: u32, wanted: Wanted) -> Result<Totals, ApiError> {
        let wanted: Vec<(String, Vec<String>)> =
            wanted.into_iter().map(|(feature, customers)| (feature, customers.into_iter().collect())).collect();
        let views = wanted.iter().map(|(feature, customers)| ever(account, feature, customers.clone())).collect();
        let read = self.queries.read(views, COUNTED_WITHIN, move |rows| {
            let mut all = Totals::new();
            for (feature, customers) in wanted {
                let of_feature = totals(rows, account, &feature, &customers).map_err(|error| usage::refusal(error.into()))?;
                all.extend(of_feature.into_iter().map(|(customer, sum)| ((customer, feature.clone()), sum)));
            }
            Ok(all)
        });
        match read.await {
            Ok(seen) if seen.rows.complete => Ok(seen.found),
            Ok(_) => Err(late()),
            Err(error) if error.status == StatusCode::SERVICE_UNAVAILABLE => Err(late()),
            Err(error) => Err(error),
        }
    }
}

/// 503 of what is durable, and nobody knows the total.
fn late() -> ApiError {
    let message = "the usage is stored, but could not be counted in time; send the same again: with an idempotencyKey it counts once";
    ApiError::unavailable(message, RETRY_AFTER_S)
}

fn read_otherwise(rejection: Rejection) -> ApiError {
    tracing::error!(field = rejection.field, reason = rejection.reason, "a report of usage that was taken cannot be read");
    ApiError::internal()
}

async fn history(
    State(parts): State<Parts>,
    Extension(by): By,
    path: Result<Path<(String, String)>, PathRejection>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Answer {
    check_scope(&by, Scope::Read)?;
    let started = std::time::Instant::now();
    let (customer, feature) = path.map(|Path(segments)| segments).map_err(|_| super::unknown_customer("with this id"))?;
    let customer = customer_in(Ok(Path(customer)))?;
    let history = History::parse((by.account, &customer, &feature), &query(parameters)?, parts.clock.now())?;
    let (customers, account) = (parts.customers.clone(), by.account);
    let known = move || customers.record(account, &customer).map(drop).map_err(|error| of_customer(&customer, error));
    refusals::blocking("a look for a customer", known).await??;
    let asked = history.clone();
    let seen = parts.queries.read(vec![history.query.view_request()], usage::wait(&headers), move |rows| {
        let limits = Limits { groups_max: POINTS_MAX, cells_max: POINTS_MAX, ..Limits::default() };
        let answer = evaluate(&asked.query, MeterType::SumOfAllUsage, rows, limits).map_err(usage::refusal)?;
        Ok((asked.render(&answer), Facts::of(asked.query.buckets(), &answer).with_range_moved(asked.is_widened)))
    });
    Ok(usage::whole_answer("stigg", seen.await?, started))
}
