//! What only Stigg knows of a customer, as it is kept.

use serde_json::{Value, json};

use super::{text, texts};
use crate::openapi::Schema;

fn unset(schema: Schema) -> Schema {
    schema.or_null()
}

fn address() -> Schema {
    let names = ["line1", "line2", "city", "state", "postalCode", "country"];
    names.into_iter().fold(Schema::object(), |address, name| address.takes(name, text())).named("StiggAddress")
}

/// With the card that it shows, of which nothing may be known.
pub(super) fn payment_method() -> Schema {
    Schema::object()
        .takes("type", text().about("`CARD`, `BANK` or `CASH_APP`."))
        .takes("billingId", text())
        .takes("cardBrand", text())
        .takes("cardExpiryMonth", Schema::number())
        .takes("cardExpiryYear", Schema::number())
        .takes("cardLast4Digits", text())
        .takes("walletType", text())
        .named("StiggPaymentMethod")
}

pub(super) fn integrations() -> Schema {
    let integration = Schema::object()
        .has("id", text())
        .has("vendorIdentifier", text().about("Of which system, such as `STRIPE`."))
        .takes("syncedEntityId", text())
        .named("StiggIntegration");
    Schema::array(integration).with("maxItems", 32)
}

pub(super) fn passthrough() -> Schema {
    let tax_id = Schema::object().has("type", text()).has("value", text()).named("StiggTaxId");
    let stripe = Schema::object()
        .takes("billingAddress", address().about("The customer's address in every dialect."))
        .takes("shippingAddress", address())
        .takes("customerName", text())
        .takes("invoiceCustomFields", texts())
        .takes("metadata", texts())
        .takes("paymentMethodId", text())
        .takes("taxIds", Schema::array(tax_id).with("maxItems", 32))
        .named("StiggStripe");
    let zuora = Schema::object()
        .takes("billingAddress", address())
        .takes("currency", text())
        .takes("metadata", texts())
        .takes("paymentMethodId", text())
        .named("StiggZuora");
    Schema::object().takes("stripe", stripe).takes("zuora", zuora).named("StiggPassthrough")
}

/// What is kept as it was sent, whole.
pub(super) const KEPT_TEXTS: [&str; 5] = ["billingId", "couponId", "language", "timezone", "salesforceId"];

/// The fields that a request may set.
pub(super) fn writable(customer: Schema) -> Schema {
    let customer = customer
        .may_have("name", unset(text()))
        .may_have("email", unset(text()))
        .may_have("metadata", unset(texts().about("The customer's attributes in every dialect; replaced whole.")))
        .may_have("billingCurrency", unset(Schema::text().with("pattern", "^[a-z]{3}$").about("ISO 4217, in lower case.")))
        .may_have("defaultPaymentMethod", unset(payment_method()))
        .may_have("integrations", unset(integrations()))
        .may_have("passthrough", unset(passthrough().about("Changed member by member.")));
    KEPT_TEXTS.into_iter().fold(customer, |customer, name| customer.may_have(name, unset(text())))
}

pub(super) fn an_address() -> Value {
    json!({"line1": "1 Road", "city": "Oslo", "country": "NO"})
}
