//! Customers on Stigg's wire (contract `stigg.md` sections 1, 2 and 6): request ⇄ model.
//!
//! What only Stigg knows is kept in `ext.stigg` as it was sent; of `passthrough` all but the billing address, which is the customer's
//! address in every dialect.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::fields::{Fields, Member, Said, Shape, object, set};
use crate::billing::{Subscription, SubscriptionStatus};
use crate::customers::{Address, Customer, CustomerId, TEXT_BYTES_MAX};
use crate::dialect::ApiError;
use crate::event::NAME_BYTES_MAX;

/// Most customers of an import.
pub const IMPORT_MAX: usize = 1_000;
/// Longest field of those that only Stigg knows, in bytes of JSON.
const KEPT_BYTES_MAX: usize = 32 << 10;

const PASSTHROUGH: &str = "passthrough";
const STRIPE: &str = "stripe";
const BILLING_ADDRESS: &str = "billingAddress";
const PAYMENT_METHOD: &str = "paymentMethod";
const DEFAULT_PAYMENT_METHOD: &str = "defaultPaymentMethod";
const PAYMENT_METHOD_ID: &str = "paymentMethodId";

const ADDRESS: Shape = Shape::Object(&[
    Member::may("line1", Shape::Text),
    Member::may("line2", Shape::Text),
    Member::may("city", Shape::Text),
    Member::may("state", Shape::Text),
    Member::may("postalCode", Shape::Text),
    Member::may("country", Shape::Text),
]);
const PAYMENT: Shape = Shape::Object(&[
    Member::may("type", Shape::Text),
    Member::may("billingId", Shape::Text),
    Member::may("cardBrand", Shape::Text),
    Member::may("cardExpiryMonth", Shape::Number),
    Member::may("cardExpiryYear", Shape::Number),
    Member::may("cardLast4Digits", Shape::Text),
    Member::may("walletType", Shape::Text),
]);
const INTEGRATION: Shape = Shape::Object(&[
    Member::must("id", Shape::Text),
    Member::must("vendorIdentifier", Shape::Text),
    Member::may("syncedEntityId", Shape::Text),
]);
const TAX_ID: Shape = Shape::Object(&[Member::must("type", Shape::Text), Member::must("value", Shape::Text)]);
const OF_STRIPE: Shape = Shape::Object(&[
    Member::may(BILLING_ADDRESS, ADDRESS),
    Member::may("shippingAddress", ADDRESS),
    Member::may("customerName", Shape::Text),
    Member::may("invoiceCustomFields", Shape::Texts),
    Member::may("metadata", Shape::Texts),
    Member::may(PAYMENT_METHOD_ID, Shape::Text),
    Member::may("taxIds", Shape::List(&TAX_ID)),
]);
const OF_ZUORA: Shape = Shape::Object(&[
    Member::may(BILLING_ADDRESS, ADDRESS),
    Member::may("currency", Shape::Text),
    Member::may("metadata", Shape::Texts),
    Member::may(PAYMENT_METHOD_ID, Shape::Text),
]);
/// What is kept whole, and cleared or replaced whole.
const KEPT: [(&str, Shape); 7] = [
    ("billingId", Shape::Text),
    ("couponId", Shape::Text),
    ("language", Shape::Text),
    ("timezone", Shape::Text),
    ("salesforceId", Shape::Text),
    (DEFAULT_PAYMENT_METHOD, PAYMENT),
    ("integrations", Shape::List(&INTEGRATION)),
];
const OF_PASSTHROUGH: Shape = Shape::Object(&[Member::may(STRIPE, OF_STRIPE), Member::may("zuora", OF_ZUORA)]);

/// What a body says of a customer; checked.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CustomerFields {
    name: Said<String>,
    email: Said<String>,
    metadata: Said<BTreeMap<String, String>>,
    currency: Said<String>,
    /// By name; `None`: cleared.
    kept: BTreeMap<&'static str, Option<Value>>,
    /// Changed member by member: nobody means the address who sends tax ids.
    passthrough: Said<Value>,
}

impl CustomerFields {
    /// Reads the body of a PATCH.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        Self::of(&Fields::new("", &object(body)?))
    }

    fn of(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let mut kept = BTreeMap::new();
        for (name, shape) in &KEPT {
            if let Some(said) = short(fields, name, fields.shaped(name, shape)?)? {
                kept.insert(*name, said);
            }
        }
        Ok(Self {
            name: fields.text("name", TEXT_BYTES_MAX)?,
            email: fields.text("email", TEXT_BYTES_MAX)?,
            metadata: fields.texts("metadata")?,
            currency: currency(fields)?,
            kept,
            passthrough: short(fields, PASSTHROUGH, fields.shaped(PASSTHROUGH, &OF_PASSTHROUGH)?)?,
        })
    }

    /// Writes what was said; all else stays.
    pub fn apply(&self, customer: &mut Customer) {
        set(&self.name, &mut customer.name);
        set(&self.email, &mut customer.email);
        set(&self.currency, &mut customer.currency);
        if let Some(metadata) = &self.metadata {
            customer.attributes = metadata.clone().unwrap_or_default();
        }
        for (name, value) in &self.kept {
            keep(&mut customer.ext.stigg, name, value.clone());
        }
        match &self.passthrough {
            None => {}
            Some(None) => {
                customer.ext.stigg.remove(PASSTHROUGH);
                set_address(customer, Address::default());
            }
            Some(Some(said)) => merge_passthrough(customer, said),
        }
    }
}

/// Sets a member, or removes it.
fn keep(members: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(members.insert(name.to_owned(), value)),
        None => drop(members.remove(name)),
    }
}

fn short(fields: &Fields<'_>, name: &str, said: Said<Value>) -> Result<Said<Value>, ApiError> {
    match said.as_ref().and_then(|said| Some(said.as_ref()?.to_string().len())) {
        Some(bytes) if bytes > KEPT_BYTES_MAX => Err(fields.bad(name, format!("has {bytes} bytes of JSON, the limit is {KEPT_BYTES_MAX}"))),
        _ => Ok(said),
    }
}

fn currency(fields: &Fields<'_>) -> Result<Said<String>, ApiError> {
    let said = fields.text("billingCurrency", TEXT_BYTES_MAX)?;
    match &said {
        Some(Some(code)) if code.len() != 3 || !code.bytes().all(|byte| byte.is_ascii_lowercase()) => {
            Err(fields.bad("billingCurrency", "must be an ISO 4217 code in lower case, such as usd"))
        }
        _ => Ok(said),
    }
}

fn merge_passthrough(customer: &mut Customer, said: &Value) {
    let mut stored = match customer.ext.stigg.remove(PASSTHROUGH) {
        Some(Value::Object(stored)) => stored,
        _ => Map::new(),
    };
    for (vendor, said) in said.as_object().into_iter().flatten() {
        let Value::Object(said) = said else {
            stored.remove(vendor);
            if vendor == STRIPE {
                set_address(customer, Address::default());
            }
            continue;
        };
        let Some(of_vendor) = stored.entry(vendor.clone()).or_insert_with(|| Map::new().into()).as_object_mut() else { continue };
        for (name, value) in said {
            if vendor == STRIPE && name == BILLING_ADDRESS {
                set_address(customer, address_of(value));
            } else {
                keep(of_vendor, name, Some(value.clone()).filter(|value| !value.is_null()));
            }
        }
    }
    customer.ext.stigg.insert(PASSTHROUGH.to_owned(), stored.into());
}

/// Another address has not been verified by anybody.
fn set_address(customer: &mut Customer, address: Address) {
    let unchanged = Address { verified: customer.address.verified, ..address.clone() } == customer.address;
    if !unchanged {
        customer.address = address;
    }
}

/// `null`, and an address without any part, are none.
fn address_of(value: &Value) -> Address {
    let part = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    Address {
        line1: part("line1"),
        line2: part("line2"),
        city: part("city"),
        state: part("state"),
        postal_code: part("postalCode"),
        country: part("country"),
        verified: None,
    }
}

/// What a POST says of a new customer.
#[derive(Debug, Clone, PartialEq)]
pub struct NewCustomer {
    /// Its id.
    pub id: CustomerId,
    /// All else.
    pub fields: CustomerFields,
}

impl NewCustomer {
    /// Reads the body of a POST `/api/v1/customers`.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let members = object(body)?;
        let fields = Fields::new("", &members);
        Ok(Self { id: fields.customer_id("id")?, fields: CustomerFields::of(&fields)? })
    }

    /// Reads the body of an import. No id comes twice.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn parse_import(body: &[u8]) -> Result<Vec<Self>, ApiError> {
        let members = object(body)?;
        let fields = Fields::new("", &members);
        // Which of the integrations it comes from is not told anywhere.
        fields.text("integrationId", NAME_BYTES_MAX)?;
        let mut ids = BTreeSet::new();
        let each = fields.objects("customers", IMPORT_MAX)?.into_iter().map(|fields| {
            let one = Self::imported(&fields)?;
            if ids.insert(one.id.clone()) { Ok(one) } else { Err(fields.bad("id", "comes twice")) }
        });
        each.collect()
    }

    fn imported(fields: &Fields<'_>) -> Result<Self, ApiError> {
        for required in ["name", "email"] {
            if !fields.members().contains_key(required) {
                return Err(fields.bad(required, "is missing; it may be null"));
            }
        }
        fields.time("updatedAt")?;
        let mut kept = BTreeMap::new();
        for name in ["billingId", "salesforceId"] {
            if let Some(said) = fields.shaped(name, &Shape::Text)? {
                kept.insert(name, said);
            }
        }
        let method = fields.text(PAYMENT_METHOD_ID, TEXT_BYTES_MAX)?.map(|said| json!({STRIPE: {PAYMENT_METHOD_ID: said}}));
        let fields_said = CustomerFields {
            name: fields.text("name", TEXT_BYTES_MAX)?,
            email: fields.text("email", TEXT_BYTES_MAX)?,
            metadata: fields.texts("metadata")?,
            kept,
            passthrough: method.map(Some),
            ..CustomerFields::default()
        };
        Ok(Self { id: fields.customer_id("id")?, fields: fields_said })
    }
}

/// What a POST says of a way to pay.
#[derive(Debug, Clone, PartialEq)]
pub struct PaymentMethod {
    currency: Said<String>,
    method: Map<String, Value>,
}

impl PaymentMethod {
    /// Reads the body of a POST `/api/v1/customers/{id}/payment-method`.
    ///
    /// # Errors
    /// 400 that names the field.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let members = object(body)?;
        let fields = Fields::new("", &members);
        let mut method = Map::new();
        for name in ["integrationId", "vendorIdentifier"] {
            method.insert(name.into(), fields.required(name, fields.shaped(name, &Shape::Text)?)?);
        }
        for name in ["billingId", PAYMENT_METHOD_ID] {
            keep(&mut method, name, fields.shaped(name, &Shape::Text)?.flatten());
        }
        Ok(Self { currency: currency(&fields)?, method })
    }

    /// Makes it the one with which the customer pays.
    pub fn attach(&self, customer: &mut Customer) {
        let id = [PAYMENT_METHOD_ID, "billingId"].into_iter().find_map(|name| self.method.get(name)).cloned();
        // Of a card nothing is known but what it is called.
        let shown = json!({"type": null, "billingId": id, "cardExpiryMonth": null, "cardExpiryYear": null, "cardLast4Digits": null});
        customer.ext.stigg.insert(DEFAULT_PAYMENT_METHOD.into(), shown);
        customer.ext.stigg.insert(PAYMENT_METHOD.into(), self.method.clone().into());
        if let Some(Some(currency)) = &self.currency {
            customer.currency = Some(currency.clone());
        }
    }

    /// Leaves the customer without one.
    pub fn detach(customer: &mut Customer) {
        customer.ext.stigg.remove(DEFAULT_PAYMENT_METHOD);
        customer.ext.stigg.remove(PAYMENT_METHOD);
    }
}

/// A customer as Stigg shows it. `plan_names`: of plans that are called something else than their id.
pub fn render(customer: &Customer, subscriptions: &[Subscription], plan_names: &BTreeMap<String, String>) -> Value {
    let mut shown = customer.ext.stigg.clone();
    let address = shown_address(&customer.address);
    if !address.is_empty() {
        let passthrough = shown.entry(PASSTHROUGH).or_insert_with(|| Map::new().into());
        passthrough[STRIPE][BILLING_ADDRESS] = address.into();
    }
    let mut put = |name: &str, value: Value| drop(shown.insert(name.to_owned(), value));
    put("id", customer.id().as_str().into());
    // The one field that is null where it is unset (section 6, rule 5).
    put("name", customer.name.as_deref().into());
    put("createdAt", customer.created_at.millis().to_string().into());
    put("updatedAt", customer.updated_at().millis().to_string().into());
    put("archivedAt", customer.removed_at().map(|time| time.millis().to_string()).into());
    put("metadata", customer.attributes.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect());
    put("subscriptions", subscriptions.iter().filter_map(|made| render_subscription(made, plan_names)).collect());
    if let Some(email) = &customer.email {
        put("email", email.as_str().into());
    }
    if let Some(currency) = &customer.currency {
        put("billingCurrency", currency.as_str().into());
    }
    shown.into()
}

fn shown_address(address: &Address) -> Map<String, Value> {
    let Address { line1, line2, city, state, postal_code, country, verified: _ } = address;
    let parts = [("line1", line1), ("line2", line2), ("city", city), ("state", state), ("postalCode", postal_code), ("country", country)];
    parts.into_iter().filter_map(|(name, part)| Some((name.to_owned(), Value::from(part.as_deref()?)))).collect()
}

/// The seed's form of one that is not over.
fn render_subscription(made: &Subscription, plan_names: &BTreeMap<String, String>) -> Option<Value> {
    let status = match made.status {
        SubscriptionStatus::Active => "ACTIVE",
        SubscriptionStatus::InTrial => "TRIAL",
        SubscriptionStatus::NotStarted => "PAUSED",
        SubscriptionStatus::Canceled | SubscriptionStatus::Expired => return None,
    };
    let plan = made.row.plan_id.as_str();
    let name = plan_names.get(plan).map_or(plan, String::as_str);
    Some(json!({"id": made.id, "status": status, "plan": {"id": plan, "name": name}}))
}

#[cfg(test)]
mod lossless;
#[cfg(test)]
mod tests;
