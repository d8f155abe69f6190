//! Tollgate's own routes of invoices and balances, and what the open period costs. Scope `read`; `admin` to pay or to void.
//!
//! | | |
//! |---|---|
//! | `GET /v1/invoices/{id}` | an invoice with its explanation: which rows, which tiers, which prepaid orders |
//! | `POST /v1/invoices/{id}/pay`, `/void` | of a closed invoice; the same once more is no error; the invoice as it is then |
//! | `GET /v1/customers/{id}/balance` | what is left of the prepaid orders, and what was used when |
//! | `POST /payments/cost/usage-cost` | `{"customerId"}`: the lines of the open period |
//!
//! ```json
//! {"id": "AAd9kGFjbWU", "customerId": "acme", "plan": {"id": "pro", "version": 1, "name": "Pro"}, "productId": "1",
//!  "startTime": "2026-01-01T00:00:00.000Z", "endTime": "2026-02-01T00:00:00.000Z", "status": "pending", "currency": "USD",
//!  "lines": [{"kind": "usage", "id": "tokens", "name": "tokens", "amount": 2.47,
//!             "usage": {"meter": "tokens", "aggregation": "sum", "quantity": 1234.5, "included": 0, "model": "perUnit",
//!                       "steps": [{"quantity": 1234.5, "unitPrice": 0.002}], "events": 12, "rows": 3, "overflow": false}}],
//!  "prepaid": [{"orderId": "o-1", "card": 0, "startTime": "…", "endTime": "…", "amount": 2}],
//!  "totals": {"fees": 0, "usage": 2.47, "late": 0, "beforePrepaid": 2.47, "prepaid": 2, "total": 0.47},
//!  "closedAt": "2026-02-02T00:00:07.000Z", "positions": [{"partition": 0, "next": 812}], "terms": {…}}
//! ```
//!
//! `status`: `open` while the period runs, `grace` until it is closed, then `pending`, `paid` or `void`. The rows are those of the meter and
//! the customer from `startTime` to `endTime`, as of `positions` where the invoice is closed. `terms` is the plan. A line of kind
//! `late` has the earlier invoice's id, and what was billed for its usage before.

mod openapi;

use std::sync::Arc;

use axum::extract::{Extension, State};
use serde_json::{Value, json};

use super::{Answer, BODY_BYTES_MAX, By, InPath, Shared, changed, computed, in_path, read, refusal};
use crate::accounts::Scope;
use crate::api::fields::{OwnQuery, Parameters, Received};
use crate::api::openapi::{INVOICES, PREPAID};
use crate::api::refusals::check_scope;
use crate::billing::prepaid::Draw;
use crate::billing::timeline::{HOUR_MAX, seconds};
use crate::billing::{Billing, CardBalance, CustomerBalance, Error, LineKind, OrderBalance, Shown, State as Stage, Status};
use crate::clock::UnixMillis;
use crate::customers::CustomerId;
use crate::dialect::amberflo::payments::Fields;
use crate::openapi::Routes;

pub(super) fn routes(billing: Arc<Billing>) -> Routes {
    Routes::of(INVOICES)
        .get("/v1/invoices/{invoice_id}", show, openapi::show())
        .post("/v1/invoices/{invoice_id}/pay", pay, openapi::pay())
        .post("/v1/invoices/{invoice_id}/void", void, openapi::void())
        .tagged(PREPAID)
        .get("/v1/customers/{customer_id}/balance", balance, openapi::balance())
        .body_max(BODY_BYTES_MAX)
        .with_state(billing)
}

pub(super) fn cost_routes(billing: Arc<Billing>) -> Routes {
    Routes::of(INVOICES).post("/payments/cost/usage-cost", usage_cost, openapi::usage_cost()).body_max(BODY_BYTES_MAX).with_state(billing)
}

async fn show(State(billing): Shared, Extension(by): By, path: InPath, query: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    OwnQuery::of(query, &[])?;
    let id = in_path(path, "invoice")?;
    let shown = billing.invoice(by.account, &id).await.map_err(refusal)?;
    Ok(super::json(&render(&shown)))
}

async fn pay(State(billing): Shared, Extension(by): By, path: InPath, query: Parameters) -> Answer {
    check_scope(&by, Scope::Admin)?;
    settle(&billing, by.account, path, query, Status::Paid).await
}

async fn void(State(billing): Shared, Extension(by): By, path: InPath, query: Parameters) -> Answer {
    check_scope(&by, Scope::Admin)?;
    settle(&billing, by.account, path, query, Status::Void).await
}

async fn settle(billing: &Billing, account: u32, path: InPath, query: Parameters, status: Status) -> Answer {
    OwnQuery::of(query, &[])?;
    let id = in_path(path, "invoice")?;
    let shown = billing.settle(account, &id, status).await.map_err(refusal)?;
    Ok(changed(id, &render(&shown)))
}

async fn balance(State(billing): Shared, Extension(by): By, path: InPath, query: Parameters) -> Answer {
    check_scope(&by, Scope::Read)?;
    OwnQuery::of(query, &[])?;
    let unknown = || refusal(Error::Unknown("customer"));
    let customer = CustomerId::parse(&in_path(path, "customer")?).map_err(|_| unknown())?;
    let statements = billing.statements(by.account, &customer).await.map_err(refusal)?;
    let is_known = {
        let (billing, customer) = (billing.clone(), customer.clone());
        super::work(billing, move |billing| billing.knows(by.account, &customer)).await?
    };
    if !is_known {
        return Err(unknown());
    }
    Ok(computed(&render_balance(&customer, &statements.balance()), statements.complete))
}

async fn usage_cost(State(billing): Shared, Extension(by): By, body: Received) -> Answer {
    check_scope(&by, Scope::Read)?;
    let customer = Fields::of_body(&read(body)?)?.customer(&["customerId"])?;
    let statements = billing.statements(by.account, &customer).await.map_err(refusal)?;
    let open = statements.invoices.iter().rfind(|shown| shown.state == Stage::Open);
    Ok(computed(&open.map_or_else(|| json!({"customerId": customer.as_str(), "lines": []}), render), statements.complete))
}

fn time(hour: u32) -> Value {
    if hour >= HOUR_MAX { Value::Null } else { UnixMillis(seconds(hour) * 1_000).to_string().into() }
}

fn status_label(state: Stage) -> &'static str {
    match state {
        Stage::Open => "open",
        Stage::Grace => "grace",
        Stage::Closed(Status::Pending) => "pending",
        Stage::Closed(Status::Paid) => "paid",
        Stage::Closed(Status::Void) => "void",
    }
}

/// An invoice with its explanation.
fn render(shown: &Shown) -> Value {
    let invoice = &shown.invoice;
    let period = &invoice.period;
    let mut answer = json!({
        "id": invoice.id,
        "customerId": invoice.customer,
        "plan": {"id": period.plan.id, "version": period.plan.version, "name": invoice.plan["name"]},
        "productId": period.product_id,
        "startTime": time(period.start_h),
        "endTime": time(period.end_h),
        "status": status_label(shown.state),
        "currency": invoice.currency,
        "lines": invoice.lines,
        "prepaid": invoice.draws.iter().map(render_draw).collect::<Vec<_>>(),
        "totals": {
            "fees": invoice.sum_of(&[LineKind::Fee]),
            "usage": invoice.sum_of(&LineKind::OF_USAGE),
            "late": invoice.sum_of(&[LineKind::Late]),
            "beforePrepaid": invoice.before_prepaid(),
            "prepaid": invoice.prepaid(),
            "total": invoice.total(),
        },
        "closedAt": null,
        "positions": null,
        "terms": invoice.plan,
    });
    if let Some((closed_ms, positions)) = &shown.closed {
        answer["closedAt"] = UnixMillis(*closed_ms).to_string().into();
        let positions = positions.iter().map(|(partition, next)| json!({"partition": partition, "next": next}));
        answer["positions"] = positions.collect();
    }
    answer
}

fn render_draw(draw: &Draw) -> Value {
    json!({"orderId": draw.order, "card": draw.card, "startTime": time(draw.start_h), "endTime": time(draw.end_h), "amount": draw.amount})
}

fn render_balance(customer: &CustomerId, balance: &CustomerBalance) -> Value {
    let available = balance.available.iter().map(|(currency, amount)| json!({"currency": currency, "amount": amount}));
    json!({
        "customerId": customer,
        "available": available.collect::<Vec<_>>(),
        "orders": balance.orders.iter().map(render_order).collect::<Vec<_>>(),
    })
}

fn render_order(balance: &OrderBalance) -> Value {
    let order = &balance.order;
    json!({
        "id": order.id,
        "amount": order.terms.amount,
        "currency": order.terms.currency,
        "paymentStatus": order.payment_status,
        "deletedAt": order.deleted_ms.map(|deleted| UnixMillis(deleted).to_string()),
        "cards": balance.cards.iter().map(render_card).collect::<Vec<_>>(),
    })
}

fn render_card(balance: &CardBalance) -> Value {
    let draws = balance.draws.iter().map(|(invoice, draw)| {
        json!({"invoiceId": invoice, "startTime": time(draw.start_h), "endTime": time(draw.end_h), "amount": draw.amount})
    });
    json!({
        "card": balance.card.number,
        "startTime": time(balance.card.start_h),
        "endTime": time(balance.card.end_h),
        "isGood": balance.is_good,
        "remaining": balance.remaining,
        "draws": draws.collect::<Vec<_>>(),
    })
}
