//! The description of invoices and balances.

use serde_json::{Value, json};

use crate::accounts::Scope;
use crate::api::billing::plans::openapi::terms;
use crate::api::openapi::{complete, customer_id, position};
use crate::openapi::{Operation, Schema};

fn money() -> Schema {
    Schema::number().about("In the currency; rounded once, half to even.")
}

fn step() -> Schema {
    Schema::object()
        .has("quantity", Schema::number().about("Units, or whole packages."))
        .may_have("upTo", Schema::number().about("The last unit of the tier in this period."))
        .has("unitPrice", Schema::number())
        .may_have("flatPrice", Schema::number())
}

fn used() -> Schema {
    Schema::object()
        .has("meter", Schema::text())
        .has("aggregation", Schema::text())
        .may_have("dimension", Schema::text().about("By whose values there are rates."))
        .may_have("dimensionValue", Schema::text())
        .has("quantity", Schema::number())
        .has("included", Schema::number().about("Units that cost nothing in this period."))
        .has("model", Schema::words(&["perUnit", "graduated", "volume", "package"]))
        .has("steps", Schema::array(step()).about("Tiers or packages."))
        .has("events", Schema::count())
        .has("rows", Schema::count().about("Rows of the store that it was read from."))
        .has("overflow", Schema::flag().about("Events that have lost their dimensions are among them."))
        .named("InvoiceUsage")
}

fn line() -> Schema {
    Schema::object()
        .has("kind", Schema::words(&["fee", "usage", "priceMinimum", "planMinimum", "late"]))
        .has("id", Schema::text().about("Of the fee or the price; of a line for late usage the earlier invoice's."))
        .has("name", Schema::text())
        .may_have("due", Schema::words(&["advance", "arrears"]))
        .may_have("usage", used())
        .may_have("billedBefore", money())
        .has("amount", money())
        .named("InvoiceLine")
}

fn with_period(object: Schema) -> Schema {
    object.has("startTime", Schema::time().or_null()).has("endTime", Schema::time().or_null())
}

fn draw() -> Schema {
    with_period(Schema::object().has("orderId", Schema::text()).has("card", Schema::count().about("Which of a recurring order's amounts.")))
        .has("amount", money())
}

fn totals() -> Schema {
    let names = ["fees", "usage", "late", "beforePrepaid", "prepaid", "total"];
    names.into_iter().fold(Schema::object(), |totals, name| totals.has(name, money()))
}

fn invoice() -> Schema {
    let plan = Schema::object().has("id", Schema::text()).has("version", Schema::integer().or_null()).has("name", Schema::text());
    let place = Schema::object().has("partition", Schema::count()).has("next", position());
    let invoice = Schema::object().has("id", Schema::text()).has("customerId", Schema::text()).has("plan", plan);
    with_period(invoice.has("productId", Schema::text().or_null()))
        .has("status", Schema::words(&["open", "grace", "pending", "paid", "void"]))
        .has("currency", Schema::text())
        .has("lines", Schema::array(line()))
        .has("prepaid", Schema::array(draw()).about("What prepaid orders pay of it."))
        .has("totals", totals())
        .has("closedAt", Schema::time().or_null())
        .has("positions", Schema::any_of([Schema::array(place), Schema::null()]).about("Up to where the rows of a closed one go."))
        .has("terms", terms().about("The plan in full."))
        .named("Invoice")
}

fn an_invoice() -> Value {
    json!({
        "id": "AAd9kGFjbWU", "customerId": "acme", "plan": {"id": "pro", "version": 1, "name": "Pro"}, "productId": "1",
        "startTime": "2026-01-01T00:00:00.000Z", "endTime": "2026-02-01T00:00:00.000Z", "status": "pending", "currency": "USD",
        "lines": [{"kind": "usage", "id": "tokens", "name": "tokens", "amount": 2.47, "usage": {"meter": "tokens", "aggregation": "sum",
            "quantity": 1234.5, "included": 0, "model": "perUnit", "steps": [{"quantity": 1234.5, "unitPrice": 0.002}], "events": 12, "rows": 3, "overflow": false}}],
        "prepaid": [{"orderId": "o-1", "card": 0, "startTime": "2026-01-01T00:00:00.000Z", "endTime": "2026-02-01T00:00:00.000Z", "amount": 2}],
        "totals": {"fees": 0, "usage": 2.47, "late": 0, "beforePrepaid": 2.47, "prepaid": 2, "total": 0.47},
        "closedAt": "2026-02-02T00:00:07.000Z", "positions": [{"partition": 0, "next": 812}],
        "terms": {"id": "pro", "name": "Pro", "productId": "1", "currency": "USD", "billingPeriod": "month", "fees": [],
            "prices": [{"id": "tokens", "name": "tokens", "meter": "tokens", "aggregation": "sum", "model": "perUnit", "unitPrice": 0.002}]},
    })
}

fn answers_invoice(operation: Operation) -> Operation {
    operation.path("invoiceId", Schema::text()).answers("The invoice as it is then", invoice()).example(an_invoice()).may_be_unknown()
}

pub(super) fn show() -> Operation {
    let about = "Which rows, which tiers, which prepaid orders. While its month is open it is computed from what was used so far.";
    answers_invoice(Operation::new("getInvoice", "Read an invoice with its explanation").about(about).needs(Scope::Read))
}

pub(super) fn pay() -> Operation {
    let about = "Of a closed invoice. The same once more is no error.";
    answers_invoice(Operation::new("payInvoice", "Say that an invoice is paid").about(about).needs(Scope::Admin))
}

pub(super) fn void() -> Operation {
    let about = "Of a closed invoice: what it drew from prepaid orders is theirs again. The same once more is no error.";
    answers_invoice(Operation::new("voidInvoice", "Say that an invoice is not to be paid").about(about).needs(Scope::Admin))
}

fn balance_schema() -> Schema {
    let drawn = with_period(Schema::object().has("invoiceId", Schema::text())).has("amount", money());
    let card = with_period(Schema::object().has("card", Schema::count()))
        .has("isGood", Schema::flag().about("It can be drawn from now."))
        .has("remaining", money())
        .has("draws", Schema::array(drawn))
        .named("PrepaidCard");
    let order = Schema::object()
        .has("id", Schema::text())
        .has("amount", money())
        .has("currency", Schema::text())
        .has("paymentStatus", Schema::words(&["not_needed", "pending", "settled", "failed"]))
        .has("deletedAt", Schema::time().or_null())
        .has("cards", Schema::array(card))
        .named("PrepaidBalance");
    let available = Schema::object().has("currency", Schema::text()).has("amount", money());
    Schema::object()
        .has("customerId", Schema::text())
        .has("available", Schema::array(available))
        .has("orders", Schema::array(order))
        .named("Balance")
}

pub(super) fn balance() -> Operation {
    let (name, about, schema) = complete();
    Operation::new("getBalance", "What is left of a customer's prepaid orders")
        .about("And what was used of them when. It is never negative: past it, usage is billed.")
        .needs(Scope::Read)
        .path("customerId", Schema::text())
        .answers("The balance", balance_schema())
        .example(json!({"customerId": "acme", "available": [{"currency": "USD", "amount": 98}], "orders": []}))
        .always_with_header(name, about, schema)
        .may_be_unknown()
}

pub(super) fn usage_cost() -> Operation {
    let (name, about, schema) = complete();
    let nothing = Schema::object()
        .has("customerId", Schema::text())
        .has("lines", Schema::array(line()).with("maxItems", 0))
        .about("The customer has no plan now.");
    Operation::new("getUsageCost", "What the open month costs so far")
        .about("The open invoice with its lines; a customer without a plan has none.")
        .needs(Scope::Read)
        .body(Schema::object().has("customerId", customer_id()).named("UsageCostQuery"), json!({"customerId": "acme"}))
        .answers("The open invoice", Schema::any_of([invoice(), nothing]))
        .example(json!({"customerId": "acme", "lines": []}))
        .always_with_header(name, about, schema)
}
