//! The description of the routes of customers.

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::accounts::Scope;
use crate::api::openapi::customer_id;
use crate::customers::{ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, TEXT_BYTES_MAX};
use crate::openapi::{Operation, Schema};

const STAGES: [&str; 4] = ["ONBOARDING", "TRAIL", "ACTIVE", "OFFBOARDED"];
const UNKNOWN: &str = "Something is wrong with the request; `NOT_FOUND`: there is no such customer.";

fn text() -> Schema {
    Schema::text_to(TEXT_BYTES_MAX)
}

fn stage_in() -> Schema {
    Schema::words_in_any_case(&["ONBOARDING", "TRAIL", "TRIAL", "ACTIVE", "OFFBOARDED"]).about("`TRIAL` and `TRAIL` are the same.")
}

fn address_in() -> Schema {
    Schema::object()
        .has("line1", text())
        .has("city", text())
        .has("country", text())
        .takes("state", text())
        .takes("postalCode", text())
        .takes("verified", Schema::flag())
        .named("NewAddress")
}

fn traits() -> Schema {
    Schema::map(Schema::text_to(ATTRIBUTE_VALUE_BYTES_MAX))
        .with("maxProperties", ATTRIBUTES_MAX)
        .with("propertyNames", json!({"maxLength": ATTRIBUTE_KEY_BYTES_MAX, "pattern": "^[^\\u0000]*$"}))
}

fn customer_in() -> Schema {
    Schema::object()
        .has("customerId", customer_id())
        .has("customerName", text().with("minLength", 1))
        .takes("customerEmail", text())
        .takes("description", text())
        .takes("enabled", Schema::flag().about("Without it true."))
        .takes("test", Schema::flag().about("Without it false."))
        .takes("lifecycleStage", stage_in().about("Without it `ACTIVE` for a new customer; another one stays where it is."))
        .takes("traits", traits())
        .takes("address", address_in())
        .named("NewCustomer")
}

fn customer() -> Schema {
    let millis = |about| Schema::integer().about(about);
    let address = Schema::object()
        .has("line1", Schema::text())
        .has("city", Schema::text())
        .has("country", Schema::text())
        .may_have("state", Schema::text())
        .may_have("postalCode", Schema::text())
        .may_have("verified", Schema::flag())
        .named("Address");
    Schema::object()
        .has("customerId", Schema::text())
        .has("id", Schema::text().about("The same as `customerId`."))
        .has("customerName", Schema::text())
        .may_have("customerEmail", Schema::text())
        .may_have("description", Schema::text())
        .may_have("enabled", Schema::flag())
        .may_have("test", Schema::flag())
        .has("lifecycleStage", Schema::words(&STAGES))
        .may_have("traits", Schema::map(Schema::text()))
        .may_have("address", address)
        .has("createTime", millis("Milliseconds since 1970."))
        .has("updateTime", millis("Milliseconds since 1970."))
        .may_have("deleteTime", millis("Milliseconds since 1970."))
        .may_have("deactivateTimeStamp", millis("Milliseconds since 1970: when it was last disabled."))
        .named("Customer")
}

fn a_customer() -> Value {
    json!({"customerId": "acme-7", "id": "acme-7", "customerName": "Acme Seven", "enabled": true, "test": false, "lifecycleStage": "ACTIVE",
        "traits": {"tier": "gold"}, "createTime": 1_767_225_600_000_i64, "updateTime": 1_767_225_600_000_i64})
}

fn answers_customer(operation: Operation) -> Operation {
    operation.answers("The customer", customer()).example(a_customer())
}

pub(super) fn list_or_find() -> Operation {
    let nobody = Schema::object().with("maxProperties", 0).about("There is no such customer.");
    Operation::new("listCustomers", "List customers, or find one")
        .about("With `customerId` the answer is that customer, or an empty object; without it all customers, in the order of their making.")
        .needs(Scope::Read)
        .query("customerId", Schema::text().about("The one that is looked for."))
        .answers("The customers, or the one", Schema::any_of([Schema::array(customer()), customer(), nobody]))
        .example(json!([a_customer()]))
}

pub(super) fn create() -> Operation {
    let words = ["true", "false", "if_payment_provider"];
    let operation = Operation::new("createCustomer", "Make a customer")
        .needs(Scope::Admin)
        .query("autoCreateCustomerInStripe", Schema::words_in_any_case(&words).about("Whether to make it at the payment provider too."))
        .body(customer_in(), json!({"customerId": "acme-7", "customerName": "Acme Seven", "traits": {"tier": "gold"}}))
        .refuses(StatusCode::BAD_REQUEST, "Something is wrong with the request; `DUPLICATE`: there is such a customer.");
    answers_customer(operation)
}

pub(super) fn replace() -> Operation {
    let operation = Operation::new("updateCustomer", "Replace a customer")
        .about("What is absent is cleared, or goes back to its default; the stage stays.")
        .needs(Scope::Admin)
        .body(customer_in(), json!({"customerId": "acme-7", "customerName": "Acme Seven", "enabled": false}))
        .refuses(StatusCode::BAD_REQUEST, UNKNOWN);
    answers_customer(operation)
}

pub(super) fn set_stage() -> Operation {
    let body = Schema::object().has("customerId", customer_id()).has("lifecycleStage", stage_in()).named("NewStage");
    let operation = Operation::new("setCustomerStage", "Move a customer to its next stage")
        .about("Stages go from `ONBOARDING` over `TRIAL` and `ACTIVE` to `OFFBOARDED`; a step back is refused.")
        .needs(Scope::Admin)
        .body(body, json!({"customerId": "acme-7", "lifecycleStage": "OFFBOARDED"}))
        .refuses(StatusCode::BAD_REQUEST, UNKNOWN);
    answers_customer(operation)
}

pub(super) fn show() -> Operation {
    one(Operation::new("getCustomer", "Read a customer").needs(Scope::Read))
}

pub(super) fn remove() -> Operation {
    one(Operation::new("deleteCustomer", "Delete a customer").about("Its usage stays. The id may be used again.").needs(Scope::Admin))
}

fn one(operation: Operation) -> Operation {
    answers_customer(operation.path("customerId", Schema::text())).may_be_unknown()
}

pub(super) fn show_stage() -> Operation {
    let operation = Operation::new("getCustomerCalledStage", "Read the customer whose id is `stage`").needs(Scope::Read);
    answers_customer(operation).may_be_unknown()
}

pub(super) fn remove_stage() -> Operation {
    let operation = Operation::new("deleteCustomerCalledStage", "Delete the customer whose id is `stage`").needs(Scope::Admin);
    answers_customer(operation).may_be_unknown()
}
