//! Customers, mappings, metadata.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{deletes, name, name_in, nothing, or_cleared, time_in};
use crate::accounts::Scope;
use crate::customers::mappings::{LABEL_BYTES_MAX, REGEX_BYTES_MAX};
use crate::customers::{
    ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, MAPPINGS_MAX, SECONDARY_EMAILS_MAX, TAG_BYTES_MAX, TAGS_MAX,
    TEXT_BYTES_MAX,
};
use crate::event::NAME_BYTES_MAX;
use crate::openapi::{Operation, Schema};

const CONTACT_TEXTS: [&str; 12] = [
    "address_line_1",
    "address_line_2",
    "city",
    "state",
    "country",
    "zipcode",
    "url",
    "logo_url",
    "email",
    "phone",
    "legal_name",
    "vat_id",
];

fn text() -> Schema {
    Schema::text_to(TEXT_BYTES_MAX).or_null()
}

fn contact_in() -> Schema {
    let emails = Schema::array(Schema::text_to(TEXT_BYTES_MAX)).with("maxItems", SECONDARY_EMAILS_MAX);
    let texts = CONTACT_TEXTS.into_iter().fold(Schema::object(), |contact, name| contact.may_have(name, text()));
    texts
        .may_have("secondary_emails", or_cleared(emails))
        .about("Merged field by field; null and an empty text clear one.")
        .named("NewOctaneContact")
}

fn contact() -> Schema {
    let texts = CONTACT_TEXTS.into_iter().fold(Schema::object(), |contact, name| contact.may_have(name, Schema::text()));
    texts.may_have("secondary_emails", Schema::array(Schema::text())).named("OctaneContact")
}

fn mapping_in() -> Schema {
    Schema::object()
        .has("label", Schema::name_to(LABEL_BYTES_MAX).about("The label that a measurement without a customer must have."))
        .takes(
            "value_regex",
            Schema::text_to(REGEX_BYTES_MAX)
                .about("What the whole of its value must match, as a regular expression; without one any value does."),
        )
        .may_have("value", Schema::any().about("The same under another name; looked at where there is no `value_regex`."))
        .with("additionalProperties", true)
        .named("NewOctaneMapping")
}

fn mapping() -> Schema {
    Schema::object()
        .has("label", Schema::text())
        .may_have("value_regex", Schema::text())
        .with("additionalProperties", true)
        .about("Other members are as they were sent.")
        .named("OctaneMapping")
}

fn tag_in() -> Schema {
    let tag = || Schema::name_to(TAG_BYTES_MAX);
    Schema::any_of([tag(), Schema::object().has("tag", tag()).with("additionalProperties", true).about("As it is answered.")])
}

fn property_in() -> Schema {
    Schema::object()
        .has("property", Schema::text_to(ATTRIBUTE_KEY_BYTES_MAX))
        .takes("value", Schema::text_to(ATTRIBUTE_VALUE_BYTES_MAX).about("Without one the property is taken away."))
        .named("NewOctaneProperty")
}

fn metadata_in() -> Schema {
    Schema::array(property_in()).with("maxItems", 2 * ATTRIBUTES_MAX).about(&format!("A customer has at most {ATTRIBUTES_MAX} properties."))
}

/// What both a new customer and a merge may say.
fn common(customer: Schema) -> Schema {
    let mappings = Schema::array(mapping_in()).with("maxItems", MAPPINGS_MAX).about("Replaces all.");
    customer
        .takes("display_name", Schema::text_to(TEXT_BYTES_MAX).about("For people; an empty one clears it."))
        .may_have("contact_info", or_cleared(contact_in()))
        .takes("created_at", time_in("When it became one; not in the future."))
        .may_have("measurement_mappings", or_cleared(mappings))
        .may_have("tags", or_cleared(Schema::array(tag_in()).with("maxItems", TAGS_MAX).about("Replaces all.")))
        .may_have(
            "vendor_id",
            Schema::any().with("type", json!(["number", "string", "null"])).with("maxLength", NAME_BYTES_MAX).about("Kept as it is sent."),
        )
}

fn customer_in() -> Schema {
    common(Schema::object().has("name", name_in("What it is called by; never changes.")))
        .takes("customer_metadata", metadata_in())
        .takes("price_plan_name", name_in("The plan that it is subscribed to from now on."))
        .takes("price_plan_tag", name_in("The same, where there is no `price_plan_name`."))
        .takes("autogenerate_payment_gateway_customer", Schema::flag().about("Kept, without effect."))
        .takes("autogenerate_accounting_customer", Schema::flag().about("Kept, without effect."))
        .named("NewOctaneCustomer")
}

fn customer_patch() -> Schema {
    common(Schema::object().takes("name", Schema::text().about("The one that it has."))).named("OctaneCustomerPatch")
}

fn customer() -> Schema {
    let tag = Schema::object().has("tag", Schema::text()).with("additionalProperties", true);
    Schema::object()
        .has("name", Schema::text())
        .may_have("display_name", Schema::text())
        .may_have("contact_info", contact())
        .has("created_at", Schema::time())
        .has("measurement_mappings", Schema::array(mapping()))
        .has("tags", Schema::array(tag))
        .may_have("vendor_id", Schema::any().with("type", json!(["number", "string"])))
        .may_have("autogenerate_payment_gateway_customer", Schema::flag())
        .may_have("autogenerate_accounting_customer", Schema::flag())
        .named("OctaneCustomer")
}

fn a_customer() -> Value {
    json!({"name": "acme-7", "display_name": "Acme Seven", "contact_info": {"email": "ap@acme.test", "city": "Oslo"},
        "created_at": "2026-01-01T00:00:00.123456Z", "measurement_mappings": [{"label": "user_id", "value_regex": "u-7"}], "tags": [{"tag": "beta"}]})
}

fn a_mapping() -> Value {
    json!({"label": "user_id", "value_regex": "u-[0-9]+"})
}

fn answers_customer(operation: Operation) -> Operation {
    operation.answers("The customer", customer()).example(a_customer())
}

fn of_customer(id: &str, summary: &str, scope: Scope) -> Operation {
    Operation::new(id, summary).needs(scope).path("name", name("The customer.")).may_be_unknown()
}

pub(in crate::api::octane) fn list() -> Operation {
    Operation::new("octaneListCustomers", "List customers")
        .needs(Scope::Read)
        .answers("All of them, in the order of their making", Schema::array(customer()))
        .example(json!([a_customer()]))
}

pub(in crate::api::octane) fn create() -> Operation {
    let sent = json!({"name": "acme-7", "display_name": "Acme Seven", "contact_info": {"email": "ap@acme.test"}, "tags": ["beta"],
        "customer_metadata": [{"property": "tier", "value": "gold"}], "price_plan_name": "pro"});
    let operation = Operation::new("octaneCreateCustomer", "Make a customer")
        .needs(Scope::Admin)
        .body(customer_in(), sent)
        .refuses(StatusCode::BAD_REQUEST, "Something is wrong with the request; `already_exists`: there is such a customer.");
    answers_customer(operation)
}

pub(in crate::api::octane) fn show() -> Operation {
    answers_customer(of_customer("octaneGetCustomer", "Read a customer", Scope::Read))
}

pub(in crate::api::octane) fn change() -> Operation {
    let operation = of_customer("octaneUpdateCustomer", "Change a customer", Scope::Admin)
        .about("A merge: what is absent stays as it is.")
        .body(customer_patch(), json!({"display_name": "Acme", "contact_info": {"city": "Bergen"}}));
    answers_customer(operation)
}

pub(in crate::api::octane) fn remove() -> Operation {
    deletes(of_customer("octaneDeleteCustomer", "Delete a customer", Scope::Admin).about("Its usage stays. The name may be used again."))
}

pub(in crate::api::octane) fn list_mappings() -> Operation {
    of_customer("octaneListMappings", "List a customer's mappings", Scope::Read)
        .answers("All of them", Schema::array(mapping()))
        .example(json!([a_mapping()]))
}

pub(in crate::api::octane) fn add_mapping() -> Operation {
    of_customer("octaneCreateMapping", "Add a mapping", Scope::Admin)
        .about(
            "A measurement without a customer is that of the customer whose mapping it meets; of several customers, of the one that was made first. The same \
             mapping once more changes nothing.",
        )
        .body(mapping_in(), a_mapping())
        .answers("The mapping", mapping())
        .example(a_mapping())
}

pub(in crate::api::octane) fn remove_mappings() -> Operation {
    deletes(of_customer("octaneDeleteMapping", "Delete all mappings of a label", Scope::Admin).path("label", name("The label.")))
}

pub(in crate::api::octane) fn list_metadata() -> Operation {
    let property = Schema::object().has("property", Schema::text()).has("value", Schema::text()).named("OctaneProperty");
    of_customer("octaneListMetadata", "List a customer's properties", Scope::Read)
        .answers("All of them, by their names", Schema::array(property))
        .example(json!([{"property": "tier", "value": "gold"}]))
}

pub(in crate::api::octane) fn merge_metadata() -> Operation {
    of_customer("octaneUpdateMetadata", "Change a customer's properties", Scope::Admin)
        .about("A merge: what is not named stays as it is.")
        .body(metadata_in(), json!([{"property": "tier", "value": "gold"}, {"property": "old", "value": null}]))
        .answers("It is done", nothing())
        .example(json!({}))
}

pub(in crate::api::octane) fn status() -> Operation {
    let status = Schema::object().has("status", Schema::words(&["ACTIVE", "OFFBOARDED"])).named("OctaneCustomerStatus");
    of_customer("octaneGetCustomerStatus", "Read a customer's status", Scope::Read)
        .answers("The status", status)
        .example(json!({"status": "ACTIVE"}))
}
