//! Meters (contract `octane.md` section 3).

use std::sync::Arc;

use axum::extract::{Extension, State};
use hyper::header::HeaderMap;
use serde_json::Value;

use super::openapi::meters as openapi;
use super::{Answer, By, Name, Parts, Shared, about, deleted, json, read, unknown, work};
use crate::accounts::Scope;
use crate::api::audit::changed;
use crate::api::fields::Received;
use crate::api::meters::unanswered;
use crate::api::openapi::OCTANE;
use crate::api::refusals::check_scope;
use crate::dialect::ApiError;
use crate::dialect::octane::meters::{MeterPatch, MeterRequest, archive as set_archived, is_archived, render};
use crate::meters::{Error, Meter};
use crate::openapi::Routes;

pub(super) fn routes() -> Routes<Arc<Parts>> {
    Routes::of(OCTANE)
        .get("/meters", list, openapi::list())
        .post("/meters", create, openapi::create())
        .get("/meters/{name}", show, openapi::show())
        .put("/meters/{name}", merge, openapi::change())
        .delete("/meters/{name}", remove, openapi::remove())
        .post("/meters/{name}/archive", archive, openapi::archive())
}

/// Those that are not archived.
async fn list(State(parts): Shared, Extension(by): By) -> Answer {
    check_scope(&by, Scope::Read)?;
    let all = work(parts, move |parts| {
        let all = parts.meters.list(by.account).map_err(refusal)?;
        Ok(all.iter().filter(|meter| !is_archived(meter)).map(render).collect::<Value>())
    });
    Ok(json(&all.await?))
}

async fn create(State(parts): Shared, Extension(by): By, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let body = read(body)?;
    let made = work(parts, move |parts| {
        let MeterRequest { name, said, ext } = MeterRequest::parse(&body)?;
        parts.meters.create(by.account, &name, said, ext).map_err(refusal)
    });
    Ok(one(made.await?))
}

async fn show(State(parts): Shared, Extension(by): By, name: Name) -> Answer {
    check_scope(&by, Scope::Read)?;
    let found = work(parts, move |parts| find(parts, by.account, &name));
    Ok(json(&render(&found.await?)))
}

async fn merge(State(parts): Shared, Extension(by): By, name: Name, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let body = read(body)?;
    let merged = work(parts, move |parts| {
        let patch = MeterPatch::parse(&body)?;
        let found = find(parts, by.account, &name)?;
        parts.meters.change(by.account, &found.name, |meter| patch.apply(meter)).map_err(refusal)
    });
    Ok(one(merged.await?))
}

async fn archive(State(parts): Shared, Extension(by): By, name: Name) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let archived = work(parts, move |parts| {
        let found = find(parts, by.account, &name)?;
        parts.meters.change(by.account, &found.name, set_archived).map_err(refusal)
    });
    Ok(one(archived.await?))
}

/// Forgets the definition. The meter's usage stays.
async fn remove(State(parts): Shared, Extension(by): By, name: Name, headers: HeaderMap) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let removed = work(parts, move |parts| {
        let found = find(parts, by.account, &name)?;
        parts.meters.remove(by.account, &found.name).map_err(refusal)
    });
    Ok(deleted(&headers, removed.await?.name))
}

/// The meter that a path is about. What no meter can be called is no meter's: a database cannot even be asked for it.
fn find(parts: &Parts, account: u32, name: &Name) -> Result<Meter, ApiError> {
    for name in name.0.iter().filter(|name| !name.contains('\0')) {
        match parts.meters.get(account, name) {
            Ok(meter) => return Ok(meter),
            Err(Error::Unknown) => {}
            Err(error) => return Err(refusal(error)),
        }
    }
    Err(refusal(Error::Unknown))
}

fn one(meter: Meter) -> axum::response::Response {
    let answer = json(&render(&meter));
    changed(meter.name, answer)
}

/// The one place where an error of the meters gets its status here.
pub(super) fn refusal(error: Error) -> ApiError {
    match error {
        Error::Exists => about("name", ApiError::duplicate(error.to_string())),
        Error::Unknown => unknown("name", "meter not found"),
        Error::TooMany => ApiError::bad_request(error.to_string()),
        Error::Store(error) => unanswered(&error),
    }
}
