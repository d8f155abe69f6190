//! The description of Amberflo's routes of plans, prepaid orders and invoices.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::accounts::Scope;
use crate::api::openapi::{complete, customer_id};
use crate::openapi::{Operation, Schema};

/// An id of a plan, a product or an order.
fn id() -> Schema {
    Schema::text_to(255)
}

fn seconds() -> Schema {
    Schema::integer_in(0..=253_402_300_799).about("Seconds since 1970; 0 is as good as absent.")
}

fn millis() -> Schema {
    Schema::integer_in(0..=253_402_300_799_999).about("Milliseconds since 1970; 0 is as good as absent.")
}

fn period() -> Schema {
    Schema::object().has("interval", Schema::words(&["day", "month", "year"])).has("intervalsCount", Schema::integer().with("minimum", 1))
}

fn of_customer(operation: Operation) -> Operation {
    operation.required_query("CustomerId", customer_id().about("Also read as `customerId`."))
}

fn assignment_in() -> Schema {
    Schema::object()
        .has("customerId", customer_id())
        .takes("productPlanId", id().about("The plan; without it `productId` is."))
        .takes("productId", id())
        .takes("startTimeInSeconds", seconds().about("Without a start it begins now."))
        .takes("startTime", millis())
        .takes("endTimeInSeconds", seconds())
        .takes("endTime", millis())
        .named("NewAssignment")
}

fn assigns(operation: Operation) -> Operation {
    operation
        .about("Its history is kept. A change in the middle of a month bills both plans by their hours.")
        .needs(Scope::Admin)
        .body(assignment_in(), json!({"customerId": "acme", "productPlanId": "pro", "productId": "1", "startTimeInSeconds": 1_767_225_600}))
}

fn assignment() -> Schema {
    Schema::object()
        .has("customerId", Schema::text())
        .has("productPlanId", Schema::text())
        .has("productId", Schema::text())
        .has("startTimeInSeconds", Schema::integer())
        .may_have("endTimeInSeconds", Schema::integer())
        .named("Assignment")
}

pub(super) fn assign_dashed() -> Operation {
    let shown = Schema::object()
        .has("customerId", Schema::text())
        .has("productId", Schema::text())
        .has("startTime", Schema::integer())
        .named("AssignmentDashed");
    assigns(Operation::new("assignPlanDashed", "Give a customer a plan (dashed path)"))
        .answers("The assignment", shown)
        .example(json!({"customerId": "acme", "productId": "pro", "startTime": 1_767_225_600_000_i64}))
}

fn an_assignment() -> Value {
    json!({"customerId": "acme", "productPlanId": "pro", "productId": "1", "startTimeInSeconds": 1_767_225_600})
}

pub(super) fn assign_slashed() -> Operation {
    assigns(Operation::new("assignPlan", "Give a customer a plan")).answers("The assignment", assignment()).example(an_assignment())
}

pub(super) fn latest_assignment() -> Operation {
    of_customer(Operation::new("getAssignment", "The latest plan of a customer"))
        .needs(Scope::Read)
        .answers("The assignment, or null", assignment().or_null())
        .example(an_assignment())
}

pub(super) fn assignments() -> Operation {
    of_customer(Operation::new("listAssignments", "All plans of a customer, the oldest first"))
        .needs(Scope::Read)
        .answers("The assignments", Schema::array(assignment()))
        .example(json!([an_assignment()]))
}

fn product_plan() -> Schema {
    Schema::object()
        .has("id", Schema::text())
        .has("productId", Schema::text())
        .has("productPlanName", Schema::text())
        .has("billingPeriod", period())
        .has("isDefault", Schema::flag())
        .has("lockingStatus", Schema::words(&["open"]))
        .has("lastUpdateTimeInMillis", Schema::integer())
        .named("ProductPlan")
}

pub(super) fn plans() -> Operation {
    Operation::new("listProductPlans", "List plans, as Amberflo shows them")
        .about("Those that were made, those that somebody was assigned, and the one that is always there.")
        .needs(Scope::Read)
        .answers("The plans", Schema::array(product_plan()))
}

pub(super) fn plan() -> Operation {
    Operation::new("getProductPlan", "Read a plan, as Amberflo shows it")
        .needs(Scope::Read)
        .required_query("productPlanId", id().with("minLength", 1))
        .answers("The plan", product_plan())
        .may_be_unknown()
}

fn order_in() -> Schema {
    let number = || Schema::number().with("exclusiveMinimum", 0);
    let frequency = Schema::object()
        .takes("interval", Schema::words_in_any_case(&["DAY", "MONTH", "YEAR"]))
        .takes("intervalsCount", Schema::integer())
        .named("Recurrence");
    Schema::object()
        .has("customerId", customer_id())
        .takes("id", id().about("The same id with the same content is the same order. Without it, on the dashed path, one is made."))
        .takes("amount", number().about("Or `prepaidPrice`, one of which must be there."))
        .takes("prepaidPrice", number())
        .takes("currency", Schema::text().about("ISO 4217; without it `USD`."))
        .takes("originalCurrency", Schema::text().about("In place of `currency`."))
        .takes("startTimeInSeconds", seconds().about("Without a start it begins now, on the dashed path."))
        .takes("startTime", millis())
        .takes("expirationTime", millis().about("Not for an order that comes again."))
        .takes("recurrenceFrequency", frequency)
        .takes("productId", id())
        .takes("prepaidOfferVersion", Schema::integer())
        .takes("externalPayment", Schema::flag())
        .takes("originalWorth", Schema::number())
        .named("NewOrder")
}

fn orders_it(operation: Operation) -> Operation {
    operation
        .about("Usage draws on the orders that expire first. Idempotent by the order's id.")
        .needs(Scope::Admin)
        .body(order_in(), json!({"id": "o-1", "customerId": "acme", "prepaidPrice": 100, "startTimeInSeconds": 1_767_225_600}))
}

fn order_schema() -> Schema {
    Schema::object()
        .has("id", Schema::text())
        .has("customerId", Schema::text())
        .has("productId", Schema::text())
        .has("prepaidOfferVersion", Schema::integer())
        .has("prepaidPrice", Schema::number())
        .has("originalWorth", Schema::number())
        .has("originalCurrency", Schema::text())
        .has("externalPayment", Schema::flag())
        .has("startTimeInSeconds", Schema::integer())
        .has("endTimeInSeconds", Schema::integer())
        .has("firstCardEndTimeSeconds", Schema::integer())
        .has("recurrenceFrequency", period().or_null())
        .has("internalStatus", Schema::words(&["active", "inactive"]))
        .has("paymentStatus", Schema::words(&["not_needed", "pending", "settled", "failed"]))
        .has("createdTimeInSeconds", Schema::integer())
        .has("modifiedTimeInSeconds", Schema::integer())
        .named("PrepaidOrder")
}

pub(super) fn order_dashed() -> Operation {
    let shown = Schema::object()
        .has("orderId", Schema::text())
        .has("customerId", Schema::text())
        .has("amount", Schema::number())
        .has("currency", Schema::text())
        .has("createTime", Schema::integer())
        .may_have("expirationTime", Schema::integer())
        .named("PrepaidOrderDashed");
    orders_it(Operation::new("orderPrepaidDashed", "Order in advance (dashed path)"))
        .answers("The order", shown)
        .example(json!({"orderId": "o-1", "customerId": "acme", "amount": 100, "currency": "USD", "createTime": 1_767_225_600_000_i64}))
}

pub(super) fn order_slashed() -> Operation {
    orders_it(Operation::new("orderPrepaid", "Order in advance")).answers("The order", order_schema())
}

pub(super) fn orders() -> Operation {
    of_customer(Operation::new("listPrepaid", "List a customer's prepaid orders"))
        .needs(Scope::Read)
        .query("ProductId", id().about("Also read as `productId`."))
        .answers("The active orders", Schema::array(order_schema()))
}

pub(super) fn delete_order() -> Operation {
    of_customer(Operation::new("deletePrepaid", "Delete a prepaid order"))
        .about("What was drawn stays drawn.")
        .needs(Scope::Admin)
        .required_query("Id", id().with("minLength", 1).about("The order. Also read as `id`."))
        .answers("The deleted order", order_schema())
        .may_be_unknown()
}

pub(super) fn note_payment() -> Operation {
    let body = Schema::object()
        .has(
            "prepaidUri",
            Schema::text_to(4 * 255).with("minLength", 1).about("The order's id, or a path that ends with the customer's and the order's."),
        )
        .has("paymentStatus", Schema::words_in_any_case(&["SETTLED", "FAILED", "PENDING"]))
        .takes("systemName", id())
        .takes("paymentId", id())
        .takes("paymentTimeInSeconds", Schema::integer())
        .named("NewPayment");
    let echo = Schema::object()
        .has("prepaidUri", Schema::text())
        .has("paymentStatus", Schema::text())
        .may_have("systemName", Schema::text())
        .may_have("paymentId", Schema::text())
        .may_have("paymentTimeInSeconds", Schema::number())
        .named("Payment");
    Operation::new("notePayment", "Say what became of the payment for an order")
        .needs(Scope::Admin)
        .body(body, json!({"prepaidUri": "acme/o-1", "paymentStatus": "SETTLED", "systemName": "bank", "paymentId": "p-1", "paymentTimeInSeconds": 1_767_225_600}))
        .answers("What was said", echo)
        .refuses(StatusCode::NOT_FOUND, "There is no such order.")
}

fn invoices_of(operation: Operation) -> Operation {
    operation.needs(Scope::Read).required_query("customerId", customer_id().about("Also read as `CustomerId`."))
}

fn computed(operation: Operation) -> Operation {
    let (name, about, schema) = complete();
    operation.always_with_header(name, about, schema)
}

pub(super) fn invoices_dashed() -> Operation {
    let invoice = Schema::object()
        .has("invoiceId", Schema::text())
        .has("customerId", Schema::text())
        .has("startTime", Schema::integer().about("Seconds since 1970."))
        .has("endTime", Schema::integer().about("Seconds since 1970."))
        .has("totalAmount", Schema::number())
        .has("currency", Schema::text())
        .has("status", Schema::words(&["DRAFT", "PENDING", "PAID", "VOID"]))
        .named("InvoiceDashed");
    let operation = invoices_of(Operation::new("listInvoicesDashed", "List a customer's invoices (dashed path)"));
    computed(operation.answers("The invoices; of a customer without a plan none", Schema::array(invoice)))
}

fn total_bill() -> Schema {
    let amounts =
        ["itemPrice", "fixPrice", "prepaid", "totalDiscount", "totalPriceBeforeDiscount", "totalPriceBeforePrepaid", "totalPrice"];
    let bill = Schema::object().has("startTimeInSeconds", Schema::integer()).has("endTimeInSeconds", Schema::integer());
    amounts.into_iter().fold(bill, |bill, name| bill.has(name, Schema::number()))
}

fn invoice_key() -> Schema {
    let names = ["accountId", "customerId", "productId", "productPlanId"];
    let key = names.into_iter().fold(Schema::object(), |key, name| key.has(name, Schema::text()));
    ["year", "month", "day"].into_iter().fold(key, |key, name| key.has(name, Schema::integer()))
}

fn sdk_invoice() -> Schema {
    let item = Schema::object()
        .has("productItemId", Schema::text())
        .has("productItemName", Schema::text())
        .has("kind", Schema::text())
        .has("price", Schema::number())
        .may_have("meterApiName", Schema::text())
        .may_have("quantity", Schema::number());
    let fee = Schema::object()
        .has("id", Schema::text())
        .has("name", Schema::text())
        .has("due", Schema::text().or_null())
        .has("price", Schema::number());
    Schema::object()
        .has("invoiceUri", Schema::text())
        .has("invoiceKey", invoice_key())
        .has("planBillingPeriod", period())
        .has("planName", Schema::text())
        .has("invoiceStartTimeInSeconds", Schema::integer())
        .has("invoiceEndTimeInSeconds", Schema::integer())
        .has("gracePeriodInHours", Schema::integer())
        .has("productItemInvoices", Schema::array(item))
        .has("appliedPromotions", Schema::array(Schema::any()).with("maxItems", 0))
        .has("productPlanFees", Schema::array(fee))
        .has("totalBill", total_bill())
        .has("invoicePriceStatus", Schema::words(&["open", "grace_period", "price_locked"]))
        .has("paymentStatus", Schema::words(&["pre_payment", "pending", "settled", "not_needed"]))
        .named("CustomerProductInvoice")
}

pub(super) fn invoice() -> Operation {
    let operation = invoices_of(Operation::new("getCustomerInvoice", "The open invoice of a customer, or that of a month"))
        .about("Without `year` and `month`, or with `latest=true`, the open one.")
        .query("latest", Schema::words_in_any_case(&["true", "false"]))
        .query("productPlanId", id())
        .query("year", Schema::integer())
        .query("month", Schema::integer())
        .query("day", Schema::integer());
    computed(operation.answers("The invoice, or null", sdk_invoice().or_null()))
}

pub(super) fn invoices() -> Operation {
    let operation = invoices_of(Operation::new("listInvoices", "List a customer's invoices"));
    computed(operation.answers("The invoices; of a customer without a plan none", Schema::array(sdk_invoice())))
}
