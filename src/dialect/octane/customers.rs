//! Customers on Octane's wire (contract `octane.md` section 1, `stigg.md` section 6): request ⇄ model.
//!
//! Octane sees a part of a customer. [`render`] shows that part, and a [`CustomerPatch`] changes what it names of it: a merge, so everything
//! else stays as it is. An empty text is what Octane has for nothing: the Python client cannot send `None` in any other way. So an empty text of
//! another dialect is not shown, and stays until something else is said.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{Patch, given, text_patch, time};
use super::mappings::{SentMapping, SentTag};
use super::metadata::Metadata;
use super::{mappings, subscriptions};
use crate::billing::Assignment;
use crate::clock::{UnixMicros, rfc3339};
use crate::customers::{ATTRIBUTES_MAX, Customer, CustomerId, SECONDARY_EMAILS_MAX, Stage, TEXT_BYTES_MAX};
use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, parse_object};
use crate::event::NAME_BYTES_MAX;

/// Kept, without effect.
const FLAGS: [&str; 2] = ["autogenerate_payment_gateway_customer", "autogenerate_accounting_customer"];
const VENDOR_ID: &str = "vendor_id";
const METADATA: &str = "customer_metadata";
/// How far ahead of our clock a client's may be, in µs. A time of creation that lay further ahead would be one of the removal, too: a customer
/// never ends before it begins.
const AHEAD_MAX: i64 = 300_000_000;

/// A text of `contact_info`, and where the model has it.
struct ContactText {
    name: &'static str,
    get: fn(&Customer) -> Option<&str>,
    slot: fn(&mut Customer) -> &mut Option<String>,
}

macro_rules! contact_text {
    ($name:literal, $($field:ident).+) => {
        ContactText { name: $name, get: |customer| customer.$($field).+.as_deref(), slot: |customer| &mut customer.$($field).+ }
    };
}

const CONTACT_TEXTS: [ContactText; 12] = [
    contact_text!("address_line_1", address.line1),
    contact_text!("address_line_2", address.line2),
    contact_text!("city", address.city),
    contact_text!("state", address.state),
    contact_text!("country", address.country),
    contact_text!("zipcode", address.postal_code),
    contact_text!("url", contact.url),
    contact_text!("logo_url", contact.logo_url),
    contact_text!("email", email),
    contact_text!("phone", contact.phone),
    contact_text!("legal_name", contact.legal_name),
    contact_text!("vat_id", contact.vat_id),
];
const SECONDARY_EMAILS: &str = "secondary_emails";

impl ContactText {
    fn shown<'c>(&self, customer: &'c Customer) -> Option<&'c str> {
        (self.get)(customer).filter(|text| !text.is_empty())
    }
}

/// What a PUT says about a customer, and, beside the name, a POST; checked. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomerPatch {
    display_name: Patch<String>,
    contact: ContactPatch,
    created_at: Option<UnixMicros>,
    mappings: Option<Vec<SentMapping>>,
    tags: Option<Vec<SentTag>>,
    vendor_id: Patch<Value>,
    name: Option<String>,
}

/// What is said of `contact_info`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ContactPatch {
    /// In the order of [`CONTACT_TEXTS`]; empty: nothing of any.
    texts: Vec<Patch<String>>,
    secondary_emails: Patch<Vec<String>>,
}

/// What a POST says about a new customer; checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCustomer {
    id: CustomerId,
    patch: CustomerPatch,
    attributes: BTreeMap<String, String>,
    flags: Vec<(&'static str, bool)>,
    plan: Option<Assignment>,
}

impl NewCustomer {
    /// Reads the body of a POST.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn parse(body: &[u8], now: UnixMicros) -> Result<Self, ApiError> {
        let object = parse_object(body)?;
        let fields = Fields::of(&object, "");
        let id = CustomerId::parse(fields.required_text("name")?).map_err(|reason| fields.wrong("name", reason))?;
        let flags = FLAGS.into_iter().map(|name| Ok(fields.bool(name)?.map(|flag| (name, flag))));
        let mut attributes = BTreeMap::new();
        let metadata = Metadata::of(&fields, METADATA)?;
        metadata
            .merge_into(&mut attributes)
            .map_err(|_| fields.wrong(METADATA, format_args!("has more than {ATTRIBUTES_MAX} properties, the limit")))?;
        Ok(Self {
            id,
            patch: CustomerPatch::read(&fields, now)?,
            attributes,
            flags: flags.collect::<Result<Vec<_>, ApiError>>()?.into_iter().flatten().collect(),
            plan: subscriptions::plan_of_customer(&fields, now.millis())?,
        })
    }

    /// The `name`.
    pub fn id(&self) -> &CustomerId {
        &self.id
    }

    /// The plan to which it is to be subscribed.
    pub fn plan(&self) -> Option<&Assignment> {
        self.plan.as_ref()
    }

    /// Writes a new customer's fields.
    pub fn fill(&self, new: &mut Customer) {
        self.patch.apply(new);
        let flags = self.flags.iter().map(|(name, flag)| ((*name).to_owned(), Value::from(*flag)));
        new.ext.octane.extend(flags);
        new.attributes.clone_from(&self.attributes);
    }
}

impl CustomerPatch {
    /// Reads the body of a PUT.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn parse(body: &[u8], now: UnixMicros) -> Result<Self, ApiError> {
        let object = parse_object(body)?;
        Self::read(&Fields::of(&object, ""), now)
    }

    fn read(fields: &Fields<'_>, now: UnixMicros) -> Result<Self, ApiError> {
        let list = |name| match given(fields, name) {
            Patch::Keep => None,
            Patch::Clear => Some(&Value::Null),
            Patch::Set(value) => Some(value),
        };
        let nothing = Value::Array(Vec::new());
        let or_nothing = |value| if value == &Value::Null { &nothing } else { value };
        let (mappings, tags) = (list("measurement_mappings").map(or_nothing), list("tags").map(or_nothing));
        Ok(Self {
            display_name: text_patch(fields, "display_name", TEXT_BYTES_MAX)?,
            contact: ContactPatch::of(fields)?,
            created_at: created_at(fields, now)?,
            mappings: mappings.map(|value| mappings::read_all(fields, "measurement_mappings", value)).transpose()?,
            tags: tags.map(|value| mappings::read_tags(fields, "tags", value)).transpose()?,
            vendor_id: vendor_id(fields)?,
            name: fields.text("name")?.map(str::to_owned),
        })
    }

    /// Whether it is about a customer of this name, or does not say.
    ///
    /// # Errors
    /// 400: a name never changes.
    pub fn check_name(&self, id: &CustomerId) -> Result<(), ApiError> {
        match &self.name {
            Some(name) if name != id.as_str() => Err(ApiError::bad_field("name", "cannot be changed")),
            _ => Ok(()),
        }
    }

    /// Merges it into a customer.
    pub fn apply(&self, customer: &mut Customer) {
        let shown = customer.name.as_deref().filter(|name| !name.is_empty());
        if let Some(name) = changed(&self.display_name, shown) {
            customer.name = name;
        }
        self.contact.apply(customer);
        customer.created_at = self.created_at.unwrap_or(customer.created_at);
        if let Some(sent) = &self.mappings {
            mappings::set_mappings(customer, sent.clone());
        }
        if let Some(sent) = &self.tags {
            mappings::set_tags(customer, sent.clone());
        }
        match &self.vendor_id {
            Patch::Keep => {}
            Patch::Clear => drop(customer.ext.octane.remove(VENDOR_ID)),
            Patch::Set(value) => drop(customer.ext.octane.insert(VENDOR_ID.into(), value.clone())),
        }
    }
}

/// What a text becomes that is shown so, if it becomes another one.
fn changed(patch: &Patch<String>, shown: Option<&str>) -> Option<Option<String>> {
    match patch {
        Patch::Set(text) if shown != Some(text) => Some(Some(text.clone())),
        Patch::Clear if shown.is_some() => Some(None),
        Patch::Keep | Patch::Clear | Patch::Set(_) => None,
    }
}

impl ContactPatch {
    const NOTHING: Self = Self { texts: Vec::new(), secondary_emails: Patch::Keep };

    fn of(fields: &Fields<'_>) -> Result<Self, ApiError> {
        match given(fields, "contact_info") {
            Patch::Keep => Ok(Self::NOTHING),
            Patch::Clear => Ok(Self { texts: vec![Patch::Clear; CONTACT_TEXTS.len()], secondary_emails: Patch::Clear }),
            Patch::Set(_) => fields.object("contact_info")?.map_or(Ok(Self::NOTHING), |contact| Self::read(&contact)),
        }
    }

    fn read(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let is_null = |name: &str| fields.object.get(name).is_some_and(Value::is_null);
        let text = |text: &ContactText| match text_patch(fields, text.name, TEXT_BYTES_MAX)? {
            Patch::Keep if is_null(text.name) => Ok(Patch::Clear),
            patch => Ok(patch),
        };
        let secondary_emails = match given(fields, SECONDARY_EMAILS) {
            Patch::Keep if is_null(SECONDARY_EMAILS) => Patch::Clear,
            Patch::Keep => Patch::Keep,
            Patch::Clear => Patch::Clear,
            Patch::Set(_) => fields.texts(SECONDARY_EMAILS, SECONDARY_EMAILS_MAX, TEXT_BYTES_MAX)?.map_or(Patch::Clear, Patch::Set),
        };
        Ok(Self { texts: CONTACT_TEXTS.iter().map(text).collect::<Result<_, ApiError>>()?, secondary_emails })
    }

    fn apply(&self, customer: &mut Customer) {
        let before = customer.address.clone();
        for (text, patch) in CONTACT_TEXTS.iter().zip(&self.texts) {
            if let Some(value) = changed(patch, text.shown(customer)) {
                *(text.slot)(customer) = value;
            }
        }
        if customer.address != before {
            // Somebody checked another one.
            customer.address.verified = None;
        }
        match &self.secondary_emails {
            Patch::Keep => {}
            Patch::Clear => customer.contact.secondary_emails.clear(),
            Patch::Set(emails) => customer.contact.secondary_emails.clone_from(emails),
        }
    }
}

fn created_at(fields: &Fields<'_>, now: UnixMicros) -> Result<Option<UnixMicros>, ApiError> {
    let created_at = time(fields, "created_at")?;
    match created_at {
        Some(time) if time.0.saturating_sub(now.0) > AHEAD_MAX => Err(fields.wrong("created_at", "lies in the future")),
        _ => Ok(created_at),
    }
}

/// A number or a text, kept as it was sent.
fn vendor_id(fields: &Fields<'_>) -> Result<Patch<Value>, ApiError> {
    let bytes = match given(fields, VENDOR_ID) {
        Patch::Keep => return Ok(Patch::Keep),
        Patch::Clear => return Ok(Patch::Clear),
        Patch::Set(Value::String(text)) => text.len(),
        Patch::Set(Value::Number(number)) => number.as_str().len(),
        Patch::Set(_) => return Err(fields.wrong(VENDOR_ID, "must be a number or a string")),
    };
    if bytes > NAME_BYTES_MAX {
        return Err(fields.wrong(VENDOR_ID, format_args!("has {bytes} bytes, the limit is {NAME_BYTES_MAX}")));
    }
    Ok(fields.get(VENDOR_ID).map_or(Patch::Keep, |value| Patch::Set(value.clone())))
}

/// A customer as Octane shows it; what is unset is left out.
pub fn render(customer: &Customer) -> Value {
    let mut members = Map::new();
    members.insert("name".into(), customer.id().as_str().into());
    if let Some(name) = customer.name.as_deref().filter(|name| !name.is_empty()) {
        members.insert("display_name".into(), name.into());
    }
    let contact = render_contact(customer);
    if !contact.is_empty() {
        members.insert("contact_info".into(), contact.into());
    }
    members.insert("created_at".into(), rfc3339::micros(customer.created_at).into());
    members.insert("measurement_mappings".into(), mappings::render(customer));
    members.insert("tags".into(), mappings::render_tags(customer));
    for name in [VENDOR_ID].into_iter().chain(FLAGS) {
        if let Some(kept) = customer.ext.octane.get(name) {
            members.insert(name.into(), kept.clone());
        }
    }
    members.into()
}

fn render_contact(customer: &Customer) -> Map<String, Value> {
    let texts = CONTACT_TEXTS.iter().filter_map(|text| Some((text.name.to_owned(), text.shown(customer)?.into())));
    let mut contact: Map<_, _> = texts.collect();
    let emails = &customer.contact.secondary_emails;
    if !emails.is_empty() {
        contact.insert(SECONDARY_EMAILS.into(), emails.clone().into());
    }
    contact
}

/// What GET `/customers/{name}/status` says.
pub fn status_label(customer: &Customer) -> &'static str {
    match customer.stage {
        Stage::Onboarding | Stage::Trial | Stage::Active => "ACTIVE",
        Stage::Offboarded => "OFFBOARDED",
    }
}

#[cfg(test)]
mod lossless;
#[cfg(test)]
mod tests;
