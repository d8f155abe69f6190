//! What meters say: queries, and whose events they have. Read as every usage query is read, with the same headers, bounds and turns
//! ([`crate::api::usage`]).

use std::sync::Arc;

use axum::extract::{Extension, State};
use hyper::header::HeaderMap;

use super::{Answer, By, InPath, Parts, Shared, find, openapi, read, work};
use crate::accounts::Scope;
use crate::api::fields::{Parameters, Received, pairs};
use crate::api::openapi::OPENMETER;
use crate::api::refusals::check_scope;
use crate::api::usage::{Evaluated, Facts, Found, Pieces, Question, prefers_csv, refusal};
use crate::dialect::ApiError;
use crate::dialect::cloudevents::answer::{Form, Subjects, Writer};
use crate::dialect::cloudevents::query::MeterQuery;
use crate::meters::Meters;
use crate::openapi::Routes;
use crate::store::Rows;
use crate::usage::{Limits, MeterType, ViewRequest, evaluate, first_day_s};

pub(super) const JSON: &str = "application/json";
pub(super) const CSV: &str = "text/csv; charset=utf-8";

pub(super) fn routes() -> Routes<Arc<Parts>> {
    Routes::of(OPENMETER)
        .get("/api/v1/meters/{meter_id_or_slug}/query", query, openapi::query_meter())
        .post("/api/v1/meters/{meter_id_or_slug}/query", query_by_body, openapi::query_meter_by_body())
        .get("/api/v1/meters/{meter_id_or_slug}/subjects", subjects, openapi::list_subjects())
}

async fn query(State(parts): Shared, Extension(by): By, path: InPath, headers: HeaderMap, parameters: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    let account = by.account;
    let meter = work(parts.clone(), move |parts| find(parts, account, path)).await?;
    let wanted = wanted(&headers);
    let parse = |account, now| Ok(Asked { query: MeterQuery::of_parameters(pairs(parameters)?, account, &meter, now)?, wanted });
    parts.usage.answer(&by, &headers, parse).await
}

async fn query_by_body(State(parts): Shared, Extension(by): By, path: InPath, headers: HeaderMap, body: Received) -> Answer {
    check_scope(&by, Scope::Read)?;
    let account = by.account;
    let meter = work(parts.clone(), move |parts| find(parts, account, path)).await?;
    let wanted = wanted(&headers);
    let parse = |account, now| Ok(Asked { query: MeterQuery::of_body(&read(body)?, account, &meter, now)?, wanted });
    parts.usage.answer(&by, &headers, parse).await
}

async fn subjects(State(parts): Shared, Extension(by): By, path: InPath, headers: HeaderMap, parameters: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    let account = by.account;
    let meter = work(parts.clone(), move |parts| find(parts, account, path)).await?;
    let parse = |account, now| {
        let query = MeterQuery::subjects(pairs(parameters)?, account, &meter, now)?;
        Ok(Asked { query, wanted: Wanted::Subjects })
    };
    parts.usage.answer(&by, &headers, parse).await
}

fn wanted(headers: &HeaderMap) -> Wanted {
    Wanted::Rows(if prefers_csv(headers) { Form::Csv } else { Form::Json })
}

/// What is to be answered.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Rows(Form),
    Subjects,
}

/// A question about one meter.
struct Asked {
    query: MeterQuery,
    wanted: Wanted,
}

impl Question for Asked {
    fn label(&self) -> &'static str {
        "openmeter"
    }

    fn view_requests(&self) -> Vec<ViewRequest> {
        vec![self.query.view_request()]
    }

    fn evaluate(self, rows: &dyn Rows, _: &Meters) -> Result<Evaluated, ApiError> {
        let Self { query: asked, wanted } = self;
        let begins_s = if asked.begins_with_the_first_event() {
            first_day_s(rows, asked.account(), asked.meter()).map_err(|error| refusal(error.into()))?
        } else {
            None
        };
        let mut facts = Facts::default();
        let found = match asked.query(begins_s)? {
            None => {
                facts.found.push(Found::Nothing(asked.unanswered()));
                None
            }
            Some(query) => {
                facts.add_range(query.buckets());
                let answer = evaluate(&query, MeterType::default(), rows, Limits::default()).map_err(refusal)?;
                facts.add_answer(query.buckets(), &answer);
                facts.found.push(Found::of(&query, &answer));
                Some((query, answer))
            }
        };
        let (numbers, writer, content_type): (_, Box<dyn Pieces>, _) = match wanted {
            Wanted::Rows(form) => {
                let writer = Writer::new(asked, form, found).map_err(|error| ApiError::bad_request(error.to_string()))?;
                (writer.numbers_held(), Box::new(writer), if form == Form::Csv { CSV } else { JSON })
            }
            Wanted::Subjects => {
                let subjects = Subjects::of(found.map(|(_, answer)| answer));
                (subjects.len(), Box::new(subjects), JSON)
            }
        };
        Ok(Evaluated { facts, numbers, writer, content_type })
    }
}

impl Pieces for Writer {
    fn write(&mut self, to: &mut Vec<u8>, bytes: usize) -> bool {
        Self::write(self, to, bytes)
    }
}

impl Pieces for Subjects {
    fn write(&mut self, to: &mut Vec<u8>, bytes: usize) -> bool {
        Self::write(self, to, bytes)
    }
}
