//! Customers.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::fields::{KEPT_TEXTS, an_address, integrations, passthrough, payment_method, writable};
use super::{envelope, enveloped, id, pages, text, texts, time_or_null};
use crate::accounts::Scope;
use crate::api::openapi::customer_id;
use crate::dialect::stigg::customers::IMPORT_MAX;
use crate::openapi::{Operation, Schema};

const TAKEN: &str =
    "`DUPLICATED_ENTITY_NOT_ALLOWED`: there is a customer with this id, or one that was archived. With `x-should-retry: false`.";

fn new_customer() -> Schema {
    writable(Schema::object().has("id", customer_id())).named("StiggNewCustomer")
}

fn change() -> Schema {
    writable(Schema::object()).about("What is absent stays, null clears.").named("StiggCustomerChange")
}

fn customer() -> Schema {
    let plan = Schema::object().has("id", Schema::text()).has("name", Schema::text().about("Its id, where it has no other name."));
    let subscription = Schema::object()
        .has("id", Schema::text())
        .has("status", Schema::words(&["ACTIVE", "TRIAL", "PAUSED"]).about("`PAUSED`: it has not begun."))
        .has("plan", plan)
        .named("StiggCustomerSubscription");
    let attached = Schema::object()
        .has("integrationId", Schema::text())
        .has("vendorIdentifier", Schema::text())
        .may_have("billingId", Schema::text())
        .may_have("paymentMethodId", Schema::text())
        .about("The way to pay that was attached.");
    let customer = Schema::object()
        .has("id", Schema::text())
        .has("name", Schema::text().or_null().about("Null where nobody gave one."))
        .may_have("email", Schema::text())
        .has("createdAt", Schema::time().about("Of when it was made, or as Octane's client said."))
        .has("updatedAt", Schema::time())
        .has("archivedAt", time_or_null("When it was archived, or removed through another dialect."))
        .has("metadata", texts())
        .has("subscriptions", Schema::array(subscription).about("Those that are not over."))
        .may_have("billingCurrency", Schema::text())
        .may_have("defaultPaymentMethod", payment_method())
        .may_have("paymentMethod", attached)
        .may_have("integrations", integrations())
        .may_have("passthrough", passthrough());
    KEPT_TEXTS.into_iter().fold(customer, |customer, name| customer.may_have(name, Schema::text())).named("StiggCustomer")
}

fn a_customer() -> Value {
    json!({"id": "acme-7", "name": "Acme Seven", "email": "ap@acme.test", "createdAt": "2026-01-01T00:00:00.123Z",
        "updatedAt": "2026-01-01T00:00:00.123Z", "archivedAt": null, "metadata": {"tier": "gold"}, "language": "no",
        "passthrough": {"stripe": {"billingAddress": an_address()}},
        "subscriptions": [{"id": "sub-1", "status": "ACTIVE", "plan": {"id": "plan-pro", "name": "plan-pro"}}]})
}

fn answers(operation: Operation, status: StatusCode) -> Operation {
    operation.answers_with(status, "The customer", "application/json", envelope(customer())).example(enveloped(&a_customer()))
}

pub(in crate::api::stigg) fn list_customers() -> Operation {
    let operation = Operation::new("stiggListCustomers", "List customers")
        .about("In the order of their making, without those that were archived. Pages are exact while others come and go.")
        .needs(Scope::Read)
        .query("email", Schema::text().about("With exactly this one."))
        .query("name", Schema::text().about("With exactly this one."));
    pages(operation, customer(), &a_customer())
}

pub(in crate::api::stigg) fn provision_customer() -> Operation {
    let example = json!({"id": "acme-7", "name": "Acme Seven", "email": "ap@acme.test", "metadata": {"tier": "gold"},
        "passthrough": {"stripe": {"billingAddress": an_address()}}});
    let operation = Operation::new("stiggProvisionCustomer", "Make a customer")
        .about("One that was archived is not made again: unarchive it.")
        .needs(Scope::Admin)
        .body(new_customer(), example)
        .refuses(StatusCode::CONFLICT, TAKEN);
    answers(operation, StatusCode::CREATED)
}

/// What is said of one customer: of any by its id, or of the one whose id is `import`, which has a path of its own.
fn one(id: &str, summary: &str, scope: Scope, is_any: bool) -> Operation {
    let operation = if is_any {
        Operation::new(id, summary).path("customerId", Schema::text())
    } else {
        Operation::new(&format!("{id}CalledImport"), &format!("{summary} whose id is `import`"))
    };
    answers(operation.needs(scope).may_be_unknown(), StatusCode::OK)
}

fn show(is_any: bool) -> Operation {
    one("stiggShowCustomer", "Read the customer", Scope::Read, is_any).about("One that was archived is shown, too.")
}

pub(in crate::api::stigg) fn show_customer() -> Operation {
    show(true)
}

pub(in crate::api::stigg) fn show_import() -> Operation {
    show(false)
}

fn patch(is_any: bool) -> Operation {
    one("stiggChangeCustomer", "Change the customer", Scope::Admin, is_any)
        .about("What no field of Stigg's tells stays as it is.")
        .optional_body(change(), json!({"email": null, "metadata": {"tier": "iron"}}))
}

pub(in crate::api::stigg) fn change_customer() -> Operation {
    patch(true)
}

pub(in crate::api::stigg) fn change_import() -> Operation {
    patch(false)
}

const ARCHIVED: &str =
    "It is gone in every dialect until it is unarchived. Its subscriptions are canceled for good. Twice is the same as once.";

pub(in crate::api::stigg) fn archive_customer() -> Operation {
    one("stiggArchiveCustomer", "Archive the customer", Scope::Admin, true).about(ARCHIVED)
}

pub(in crate::api::stigg) fn delete_customer() -> Operation {
    one("stiggDeleteCustomer", "Archive the customer", Scope::Admin, true).about(ARCHIVED)
}

pub(in crate::api::stigg) fn delete_import() -> Operation {
    one("stiggDeleteCustomer", "Archive the customer", Scope::Admin, false).about(ARCHIVED)
}

pub(in crate::api::stigg) fn unarchive_customer() -> Operation {
    one("stiggUnarchiveCustomer", "Bring the customer back", Scope::Admin, true).about("In every dialect. Its subscriptions stay canceled.")
}

pub(in crate::api::stigg) fn import_customers() -> Operation {
    let new = Schema::object()
        .has("id", id())
        .has("name", text().or_null())
        .has("email", text().or_null())
        .may_have("metadata", texts().or_null())
        .may_have("billingId", text().or_null())
        .may_have("paymentMethodId", text().or_null())
        .may_have("salesforceId", text().or_null())
        .may_have("updatedAt", time_or_null("Not looked at."))
        .named("StiggImportedCustomer");
    let customers = Schema::array(new).with("minItems", 1).with("maxItems", IMPORT_MAX);
    let body = Schema::object().has("customers", customers).takes("integrationId", id().with("minLength", 0).about("Not looked at."));
    let example = json!({"customers": [{"id": "acme-7", "name": "Acme Seven", "email": null, "metadata": {"tier": "gold"}}]});
    let made = Schema::object().has("newCustomers", Schema::array(Schema::text()).about("Their ids."));
    Operation::new("stiggImportCustomers", "Make or change many customers")
        .about("Those that there are, are changed. No id comes twice. After a 503 send the same again.")
        .needs(Scope::Admin)
        .body(body.named("StiggImport"), example)
        .answers("Those that were made", envelope(made))
        .example(json!({"data": {"newCustomers": ["acme-7"]}}))
}

pub(in crate::api::stigg) fn attach_payment_method() -> Operation {
    let body = Schema::object()
        .has("integrationId", text())
        .has("vendorIdentifier", text().about("Of which system, such as `STRIPE`."))
        .takes("billingId", text())
        .takes("paymentMethodId", text())
        .takes("billingCurrency", Schema::text().with("pattern", "^[a-z]{3}$").about("ISO 4217, in lower case."));
    one("stiggAttachPaymentMethod", "Attach a way to pay", Scope::Admin, true)
        .about("It is kept, and nothing is paid with it.")
        .body(body.named("StiggNewPaymentMethod"), json!({"integrationId": "i-1", "vendorIdentifier": "STRIPE", "paymentMethodId": "pm_1"}))
}

pub(in crate::api::stigg) fn detach_payment_method() -> Operation {
    one("stiggDetachPaymentMethod", "Detach the way to pay", Scope::Admin, true)
}
