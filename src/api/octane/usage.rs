//! Usage (contract `octane.md` section 4), on the way of all queries: see [`crate::api::usage`] for what an answer's headers say.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Extension, State};
use hyper::header::HeaderMap;

use super::openapi::usage as openapi;
use super::{Answer, By, Name, Parts, Shared, find, read, work};
use crate::accounts::Scope;
use crate::api::fields::{Parameters, Received, pairs};
use crate::api::openapi::OCTANE;
use crate::api::refusals::check_scope;
use crate::api::usage::{Facts, refusal, wait, whole_answer};
use crate::customers::CustomerId;
use crate::dialect::ApiError;
use crate::dialect::octane::usage::{ByTime, ByTimeQuestion, UsageQuestion, render};
use crate::meters::{self, Meter};
use crate::openapi::Routes;
use crate::store::Rows;
use crate::usage::{Limits, MeterType, Query, evaluate};

/// As these queries stand in metrics.
const FORM: &str = "octane";

pub(super) fn routes() -> Routes<Arc<Parts>> {
    Routes::of(OCTANE).get("/customers/{name}/usage", one, openapi::show()).post(
        "/customers/{name}/usage_by_time",
        by_time,
        openapi::show_by_time(),
    )
}

/// What is asked about.
struct Subject {
    customer: CustomerId,
    /// `None`: nobody defined the meter.
    definition: Option<Meter>,
}

impl Subject {
    fn find(parts: &Parts, account: u32, name: &Name, meter: &str) -> Result<Self, ApiError> {
        let customer = find(parts, account, name)?.id().clone();
        let definition = match parts.meters.get(account, meter) {
            Ok(meter) => Some(meter),
            Err(meters::Error::Unknown) => None,
            Err(error) => return Err(super::meters::refusal(error)),
        };
        Ok(Self { customer, definition })
    }
}

async fn one(State(parts): Shared, Extension(by): By, name: Name, headers: HeaderMap, parameters: Parameters) -> Answer {
    let started = Instant::now();
    check_scope(&by, Scope::Read)?;
    let question = UsageQuestion::parse(&pairs(parameters)?)?;
    let (queries, now) = (parts.queries.clone(), parts.customers.now().millis());
    let asked = work(parts, move |parts| {
        let subject = Subject::find(parts, by.account, &name, question.meter())?;
        question.queries(by.account, &subject.customer, subject.definition.as_ref(), now)
    });
    let (query, wider) = asked.await?;
    let wanted = [Some(&query), wider.as_ref()].into_iter().flatten().map(Query::view_request).collect();
    let seen = queries.read(wanted, wait(&headers), move |rows| {
        let answer = answer_to(&query, rows, Limits::default())?;
        let (query, answer) = match wider {
            Some(wider) if answer.groups.is_empty() => {
                let answer = answer_to(&wider, rows, Limits::default())?;
                (wider, answer)
            }
            _ => (query, answer),
        };
        Ok((render(&answer), Facts::of(query.buckets(), &answer)))
    });
    Ok(whole_answer(FORM, seen.await?, started))
}

async fn by_time(State(parts): Shared, Extension(by): By, name: Name, headers: HeaderMap, body: Received) -> Answer {
    let started = Instant::now();
    check_scope(&by, Scope::Read)?;
    let question = ByTimeQuestion::parse(&read(body)?)?;
    let (queries, now) = (parts.queries.clone(), parts.customers.now().millis());
    let asked = work(parts, move |parts| {
        let Subject { customer, definition } = Subject::find(parts, by.account, &name, question.meter())?;
        let (of_groups, of_all) = question.queries(by.account, &customer, definition.as_ref(), now)?;
        Ok((question, definition, of_groups, of_all))
    });
    let (question, definition, of_groups, of_all) = asked.await?;
    // Both read the same rows.
    let seen = queries.read(vec![of_groups.view_request()], wait(&headers), move |rows| {
        let groups = answer_to(&of_groups, rows, Limits::default())?;
        let all = of_all.map(|of_all| answer_to(&of_all, rows, Limits::default().beside(&groups))).transpose()?;
        let answer = ByTime { question: &question, query: &of_groups, definition: definition.as_ref(), groups: &groups, all: all.as_ref() };
        let body = answer.write().map_err(|too_large| ApiError::bad_request(too_large.to_string()))?;
        Ok((body, Facts::of(of_groups.buckets(), &groups)))
    });
    Ok(whole_answer(FORM, seen.await?, started))
}

/// What is computed was said with the query.
fn answer_to(query: &Query, rows: &dyn Rows, limits: Limits) -> Result<crate::usage::Answer, ApiError> {
    evaluate(query, MeterType::default(), rows, limits).map_err(refusal)
}
