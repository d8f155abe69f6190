//! Meters: list, make, read, change, forget.

use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde_json::Value;

use super::{Answer, By, InPath, Parts, Shared, find, json, openapi, read, refusal, work};
use crate::accounts::Scope;
use crate::api::audit::changed;
use crate::api::fields::{Parameters, Received, pairs};
use crate::api::openapi::OPENMETER;
use crate::api::refusals::check_scope;
use crate::dialect::ApiError;
use crate::dialect::cloudevents::meters::{MeterRequest, MeterUpdate, render};
use crate::dialect::cloudevents::plan::event_type;
use crate::meters::{EVENT_METERS_MAX, METERS_MAX, Meter};
use crate::openapi::Routes;

/// Meters of a page, if pages are asked for and it is not said how large.
pub(super) const PAGE_SIZE: usize = 100;

pub(super) fn routes() -> Routes<Arc<Parts>> {
    Routes::of(OPENMETER)
        .get("/api/v1/meters", list, openapi::list_meters())
        .post("/api/v1/meters", create, openapi::create_meter())
        .get("/api/v1/meters/{meter_id_or_slug}", show, openapi::show_meter())
        .put("/api/v1/meters/{meter_id_or_slug}", update, openapi::update_meter())
        .delete("/api/v1/meters/{meter_id_or_slug}", remove, openapi::remove_meter())
}

/// All of them, in the order of their making, or a page of them.
async fn list(State(parts): Shared, Extension(by): By, query: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    let page = page(pairs(query)?)?;
    let shown = work(parts, move |parts| {
        let all = parts.meters.list(by.account).map_err(refusal)?;
        let page = page.start.min(all.len())..page.end.min(all.len());
        Ok(all[page].iter().map(|meter| render(by.account, meter)).collect::<Value>())
    });
    Ok(json(StatusCode::OK, &shown.await?))
}

/// Which meters of all: `page` is counted from 1. Unknown parameters are ignored.
fn page(pairs: Vec<(String, String)>) -> Result<std::ops::Range<usize>, ApiError> {
    let (mut page, mut size) = (None, None);
    for (name, value) in pairs {
        let slot = match name.as_str() {
            "page" => &mut page,
            "pageSize" => &mut size,
            _ => continue,
        };
        let number = value.parse().ok().filter(|number| (1..=METERS_MAX).contains(number));
        *slot = Some(number.ok_or_else(|| ApiError::bad_field(name, format_args!("must be between 1 and {METERS_MAX}")))?);
    }
    if page.is_none() && size.is_none() {
        return Ok(0..usize::MAX);
    }
    let size = size.unwrap_or(PAGE_SIZE);
    let start = (page.unwrap_or(1) - 1) * size;
    Ok(start..start + size)
}

async fn create(State(parts): Shared, Extension(by): By, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let body = read(body)?;
    let made = work(parts, move |parts| {
        let request = MeterRequest::parse(&body)?;
        let all = parts.meters.list(by.account).map_err(refusal)?;
        let is_there = all.iter().any(|meter| meter.name == request.name);
        let of_this_type = all.iter().filter(|meter| event_type(meter) == request.event_type()).count();
        if !is_there && of_this_type >= EVENT_METERS_MAX {
            let reason = format!("has {of_this_type} meters, the limit is {EVENT_METERS_MAX}");
            return Err(ApiError::bad_field("eventType", reason));
        }
        let MeterRequest { name, said, ext } = request;
        parts.meters.create(by.account, &name, said, ext).map_err(refusal)
    });
    Ok(one(StatusCode::CREATED, by.account, made.await?))
}

async fn show(State(parts): Shared, Extension(by): By, path: InPath) -> Answer {
    check_scope(&by, Scope::Read)?;
    let found = work(parts, move |parts| find(parts, by.account, path));
    Ok(json(StatusCode::OK, &render(by.account, &found.await?)))
}

async fn update(State(parts): Shared, Extension(by): By, path: InPath, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let body = read(body)?;
    let updated = work(parts, move |parts| {
        let found = find(parts, by.account, path)?;
        let update = MeterUpdate::parse(&body)?;
        let now = parts.clock.now();
        parts.meters.change(by.account, &found.name, |meter| update.apply(meter, now)).map_err(refusal)
    });
    Ok(one(StatusCode::OK, by.account, updated.await?))
}

/// Forgets the definition. The meter's usage stays.
async fn remove(State(parts): Shared, Extension(by): By, path: InPath) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let removed = work(parts, move |parts| {
        let found = find(parts, by.account, path)?;
        parts.meters.remove(by.account, &found.name).map_err(refusal)
    });
    Ok(changed(removed.await?.name, StatusCode::NO_CONTENT.into_response()))
}

fn one(status: StatusCode, account: u32, meter: Meter) -> Response {
    let answer = json(status, &render(account, &meter));
    changed(meter.name, answer)
}
