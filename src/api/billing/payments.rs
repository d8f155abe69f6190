//! Amberflo's routes of plans, prepaid orders and invoices (contract `amberflo.md` 6.1 to 6.3), in their dashed and slashed forms.

mod openapi;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Extension, State};
use serde_json::Value;

use super::{Answer, BODY_BYTES_MAX, By, Shared, changed, computed, json, read, refusal, work};
use crate::accounts::{Caller, Scope};
use crate::api::fields::{Parameters, Received, pairs};
use crate::api::openapi::{INVOICES, PLANS, PREPAID};
use crate::api::refusals::check_scope;
use crate::billing::{Billing, Error, MadePlan};
use crate::customers::CustomerId;
use crate::dialect::ApiError;
use crate::dialect::amberflo::payments::invoices::{About, Wanted, render as render_invoice, render_seed};
use crate::dialect::amberflo::payments::prepaid::{OrderRequest, PaymentRequest, render as render_order};
use crate::dialect::amberflo::payments::pricing::{AssignRequest, DEFAULT_PLAN_ID, render as render_assignment, render_plan};
use crate::dialect::amberflo::payments::{Family, Fields};
use crate::openapi::Routes;

/// The SDKs' parameter, and what is accepted beside it.
const CUSTOMER: [&str; 2] = ["CustomerId", "customerId"];
/// The same the other way round, for invoices.
const OF_CUSTOMER: [&str; 2] = ["customerId", "CustomerId"];

pub(super) fn routes(billing: Arc<Billing>) -> Routes {
    plan_routes().merge(order_routes()).merge(invoice_routes()).body_max(BODY_BYTES_MAX).with_state(billing)
}

fn plan_routes() -> Routes<Arc<Billing>> {
    Routes::of(PLANS)
        .post("/payments-pricing-amberflo-customer-pricing", assign_dashed, openapi::assign_dashed())
        .get("/payments/pricing/amberflo/customer-pricing", latest_assignment, openapi::latest_assignment())
        .post("/payments/pricing/amberflo/customer-pricing", assign_slashed, openapi::assign_slashed())
        .get("/payments/pricing/amberflo/customer-pricing/list", assignments, openapi::assignments())
        .get("/payments/pricing/amberflo/account-pricing/product-plans", plan, openapi::plan())
        .get("/payments/pricing/amberflo/account-pricing/product-plans/list", plans, openapi::plans())
}

fn order_routes() -> Routes<Arc<Billing>> {
    Routes::of(PREPAID)
        .post("/payments-pricing-amberflo-customer-prepaid", order_dashed, openapi::order_dashed())
        .post("/payments/pricing/amberflo/customer-prepaid", order_slashed, openapi::order_slashed())
        .delete("/payments/pricing/amberflo/customer-prepaid", delete_order, openapi::delete_order())
        .get("/payments/pricing/amberflo/customer-prepaid/list", orders, openapi::orders())
        .post("/payments/external/prepaid-payment-status", note_payment, openapi::note_payment())
}

fn invoice_routes() -> Routes<Arc<Billing>> {
    Routes::of(INVOICES)
        .get("/payments-billing-customer-product-invoice", invoices_dashed, openapi::invoices_dashed())
        .get("/payments/billing/customer-product-invoice", invoice, openapi::invoice())
        .get("/payments/billing/customer-product-invoice/all", invoices, openapi::invoices())
}

fn parameters(query: Parameters) -> Result<Fields, ApiError> {
    pairs(query).map(Fields::of_query)
}

async fn assign_dashed(State(billing): Shared, Extension(by): By, body: Received) -> Answer {
    assign(billing, by, body, Family::Dashed).await
}

async fn assign_slashed(State(billing): Shared, Extension(by): By, body: Received) -> Answer {
    assign(billing, by, body, Family::Slashed).await
}

async fn assign(billing: Arc<Billing>, by: Caller, body: Received, family: Family) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let AssignRequest { customer, new } = AssignRequest::parse(&read(body)?)?;
    let who = customer.clone();
    let made = work(billing, move |billing| billing.assign(by.account, &who, &new)).await?;
    Ok(changed(customer.as_str().to_owned(), &render_assignment(&customer, &made, family)))
}

async fn latest_assignment(State(billing): Shared, Extension(by): By, query: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    let customer = parameters(query)?.customer(&CUSTOMER)?;
    let who = customer.clone();
    let made = work(billing, move |billing| billing.assignments(by.account, &who)).await?;
    Ok(json(&made.last().map_or(Value::Null, |last| render_assignment(&customer, last, Family::Slashed))))
}

async fn assignments(State(billing): Shared, Extension(by): By, query: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    let customer = parameters(query)?.customer(&CUSTOMER)?;
    let who = customer.clone();
    let made = work(billing, move |billing| billing.assignments(by.account, &who)).await?;
    Ok(json(&made.iter().map(|made| render_assignment(&customer, made, Family::Slashed)).collect()))
}

async fn plans(State(billing): Shared, Extension(by): By) -> Answer {
    check_scope(&by, Scope::Read)?;
    let plans = work(billing, move |billing| all_plans(billing, by.account)).await?;
    Ok(json(&plans.iter().map(|(id, made)| render_plan(id, made.as_ref())).collect()))
}

async fn plan(State(billing): Shared, Extension(by): By, query: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    let id = parameters(query)?.id("productPlanId")?;
    let wanted = id.clone();
    let plans = work(billing, move |billing| all_plans(billing, by.account)).await?;
    let found = plans.get(&wanted).ok_or_else(|| refusal(Error::Unknown("plan")))?;
    Ok(json(&render_plan(&id, found.as_ref())))
}

/// Those that somebody made, those that somebody was assigned, and the one that is always there.
fn all_plans(billing: &Billing, account: u32) -> Result<BTreeMap<String, Option<MadePlan>>, Error> {
    let mut plans = BTreeMap::from([(DEFAULT_PLAN_ID.to_owned(), None)]);
    plans.extend(billing.assigned_plan_ids(account)?.into_iter().map(|id| (id, None)));
    plans.extend(billing.plans(account)?.into_iter().map(|made| (made.plan.id.clone(), Some(made))));
    Ok(plans)
}

async fn order_dashed(State(billing): Shared, Extension(by): By, body: Received) -> Answer {
    order(billing, by, body, Family::Dashed).await
}

async fn order_slashed(State(billing): Shared, Extension(by): By, body: Received) -> Answer {
    order(billing, by, body, Family::Slashed).await
}

async fn order(billing: Arc<Billing>, by: Caller, body: Received, family: Family) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let OrderRequest { customer, id, terms } = OrderRequest::parse(&read(body)?, family, billing.now())?;
    let id = id.map_or_else(new_id, Ok)?;
    let who = customer.clone();
    let made = work(billing, move |billing| billing.order(by.account, &who, &id, &terms)).await?;
    Ok(changed(made.id.clone(), &render_order(&customer, &made, family)))
}

/// An id that nobody else has.
fn new_id() -> Result<String, ApiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the operating system gives no random numbers");
        ApiError::internal()
    })?;
    Ok(hex::encode(bytes))
}

async fn orders(State(billing): Shared, Extension(by): By, query: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    let query = parameters(query)?;
    let customer = query.customer(&CUSTOMER)?;
    let product = query.optional_id(&["ProductId", "productId"])?;
    let who = customer.clone();
    let made = work(billing, move |billing| billing.orders(by.account, &who)).await?;
    let wanted = made.iter().filter(|order| product.as_ref().is_none_or(|product| *product == order.terms.product_id));
    Ok(json(&wanted.map(|order| render_order(&customer, order, Family::Slashed)).collect()))
}

async fn delete_order(State(billing): Shared, Extension(by): By, query: Parameters) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let query = parameters(query)?;
    let customer = query.customer(&CUSTOMER)?;
    let id = query.optional_id(&["Id", "id"])?.ok_or_else(|| ApiError::bad_field("Id", "is missing"))?;
    let who = customer.clone();
    let deleted = work(billing, move |billing| billing.delete_order(by.account, &who, &id)).await?;
    Ok(changed(deleted.id.clone(), &render_order(&customer, &deleted, Family::Slashed)))
}

async fn note_payment(State(billing): Shared, Extension(by): By, body: Received) -> Answer {
    check_scope(&by, Scope::Admin)?;
    let PaymentRequest { customer, order, status, payment, echo } = PaymentRequest::parse(&read(body)?)?;
    let noted = work(billing, move |billing| billing.note_payment(by.account, customer.as_ref(), &order, status, &payment)).await?;
    Ok(changed(noted.id, &echo))
}

async fn invoices_dashed(State(billing): Shared, Extension(by): By, query: Parameters) -> Answer {
    let (found, _) = statements(&billing, &by, query).await?;
    Ok(computed(&found.invoices.iter().map(render_seed).collect(), found.complete))
}

async fn invoices(State(billing): Shared, Extension(by): By, query: Parameters) -> Answer {
    let (found, _) = statements(&billing, &by, query).await?;
    let about = About { account: by.account, grace_ms: billing.grace_ms() };
    Ok(computed(&found.invoices.iter().map(|shown| render_invoice(shown, about)).collect(), found.complete))
}

async fn invoice(State(billing): Shared, Extension(by): By, query: Parameters) -> Answer {
    let (found, query) = statements(&billing, &by, query).await?;
    let about = About { account: by.account, grace_ms: billing.grace_ms() };
    let wanted = Wanted::parse(&query)?.find(&found.invoices);
    Ok(computed(&wanted.map_or(Value::Null, |shown| render_invoice(shown, about)), found.complete))
}

async fn statements(billing: &Billing, by: &Caller, query: Parameters) -> Result<(crate::billing::Statements, Fields), ApiError> {
    check_scope(by, Scope::Read)?;
    let query = parameters(query)?;
    let customer: CustomerId = query.customer(&OF_CUSTOMER)?;
    let found = billing.statements(by.account, &customer).await.map_err(refusal)?;
    Ok((found, query))
}
