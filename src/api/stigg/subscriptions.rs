//! Subscriptions (contract `stigg.md` section 3): the assignments that billing keeps, whichever dialect made them.

use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use serde_json::Value;

use super::{Answer, By, InPath, Parts, Shared, blocking, changed, of_billing, one, query, read, unknown_subscription};
use crate::accounts::Scope;
use crate::api::fields::{Parameters, Received};
use crate::api::refusals::check_scope;
use crate::billing::{Error, Subscription};
use crate::customers::CustomerId;
use crate::dialect::ApiError;
use crate::dialect::stigg::pages::{Listed, Query, envelope as envelope_list};
use crate::dialect::stigg::subscriptions::{
    NewSubscription, PRICING_TYPE, PRICING_TYPES, STATUSES, SubscriptionChange, parse_cancel, render, render_new, status_label,
};
use crate::event::NAME_BYTES_MAX;

pub(super) async fn list(State(parts): Shared, Extension(by): By, parameters: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    let query = query(parameters)?;
    let (window, created, wanted) = (query.window(Listed::Subscriptions)?, query.created()?, Wanted::parse(&query)?);
    let text = blocking(parts, move |parts| {
        let is_wanted = |made: &Subscription| wanted.has(made) && created.has(made.place().made_at);
        let page = parts.billing.subscription_page(by.account, wanted.customer.as_ref(), window, is_wanted);
        let page = page.map_err(|error| of_billing(None, "", error))?;
        Ok(envelope_list(&page, Listed::Subscriptions, render).to_string())
    });
    Ok(super::json(StatusCode::OK, text.await?))
}

/// The filters of a list.
struct Wanted {
    customer: Option<CustomerId>,
    plan: Option<String>,
    resource: Option<String>,
    statuses: Option<Vec<String>>,
    pricing: Option<Vec<String>>,
}

impl Wanted {
    fn parse(query: &Query) -> Result<Self, ApiError> {
        let customer = query.text("customerId").map(CustomerId::parse).transpose();
        Ok(Self {
            customer: customer.map_err(|reason| ApiError::bad_field("customerId", reason))?,
            plan: query.text("planId").map(str::to_owned),
            resource: query.text("resourceId").map(str::to_owned),
            statuses: labels(query, "status", &STATUSES)?,
            pricing: labels(query, "pricingType", &PRICING_TYPES)?,
        })
    }

    fn has(&self, made: &Subscription) -> bool {
        let lists = |labels: &Option<Vec<String>>, label: &str| labels.as_ref().is_none_or(|all| all.iter().any(|one| one == label));
        self.plan.as_ref().is_none_or(|plan| *plan == made.row.plan_id)
            && self.resource.as_deref().is_none_or(|id| made.row.ext.stigg.get("resourceId").and_then(Value::as_str) == Some(id))
            && lists(&self.statuses, status_label(made.status))
            && lists(&self.pricing, PRICING_TYPE)
    }
}

fn labels(query: &Query, name: &str, known: &[&str]) -> Result<Option<Vec<String>>, ApiError> {
    let Some(given) = query.list(name) else { return Ok(None) };
    if given.iter().all(|label| known.contains(label)) {
        return Ok(Some(given.into_iter().map(str::to_owned).collect()));
    }
    Err(ApiError::bad_field(name, format!("must be of {}", known.join(", "))))
}

pub(super) async fn provision(State(parts): Shared, Extension(by): By, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let new = NewSubscription::parse(&read(body)?)?;
    let made = blocking(parts, move |parts| {
        let row = new.row(parts.billing.now());
        let made = parts.billing.subscribe(by.account, &new.customer, &row);
        made.map_err(|error| of_billing(Some(&new.customer), row.id.as_deref().unwrap_or_default(), error))
    });
    let made = made.await?;
    Ok(changed(StatusCode::CREATED, made.id.clone(), one(render_new(&made))))
}

pub(super) async fn show(State(parts): Shared, Extension(by): By, path: InPath) -> Answer {
    check_scope(&by, Scope::Read)?;
    answer(parts, id_in(path)?, move |parts, id| parts.billing.subscription(by.account, id).map_err(|error| of_billing(None, id, error)))
        .await
}

pub(super) async fn change(State(parts): Shared, Extension(by): By, path: InPath, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let (id, change) = (id_in(path)?, SubscriptionChange::parse(&read(body)?)?);
    let work = move |parts: &Parts, id: &str| {
        let refusal = |error: Error| of_billing(None, id, error);
        change.check(&parts.billing.subscription(by.account, id).map_err(refusal)?.row)?;
        parts.billing.change_subscription(by.account, id, change.end, |row| change.apply(row)).map_err(refusal)
    };
    answer(parts, id, work).await
}

pub(super) async fn cancel(State(parts): Shared, Extension(by): By, path: InPath, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let (id, when) = (id_in(path)?, parse_cancel(&read(body)?)?);
    answer(parts, id, move |parts, id| parts.billing.cancel(by.account, id, when).map_err(|error| of_billing(None, id, error))).await
}

/// Of a subscription that brought no id, it has the customer's.
const ID_BYTES_MAX: usize = NAME_BYTES_MAX + 32;

fn id_in(path: InPath) -> Result<String, ApiError> {
    let known = path.ok().map(|Path(id)| id).filter(|id| id.len() <= ID_BYTES_MAX && !id.contains('\0'));
    known.ok_or_else(|| unknown_subscription("with this id"))
}

/// Does `work`, and answers with the subscription that it leaves.
async fn answer<W>(parts: Parts, id: String, work: W) -> Answer
where
    W: FnOnce(&Parts, &str) -> Result<Subscription, ApiError> + Send + 'static,
{
    let object = id.clone();
    let text = blocking(parts, move |parts| Ok(one(render(&work(parts, &id)?)))).await?;
    Ok(changed(StatusCode::OK, object, text))
}
