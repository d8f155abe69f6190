//! The customer, and the JSON that the store keeps of it.
//!
//! The JSON is the struct as serde writes it, times as µs since 1970. A field that is unset is left out, and one that is
//! not there is unset: fields can be added without a new version. `version` counts up when an older binary would lose or
//! misread something; it is then refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::lives::{Former, Lives};
use crate::clock::UnixMicros;
use crate::event::NAME_BYTES_MAX;
use crate::store;

/// Version of the stored JSON.
const VERSION: u32 = 1;

/// Longest name, e-mail, description or line of an address, in bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;
/// Most attributes of a customer.
pub const ATTRIBUTES_MAX: usize = 64;
/// Longest key of an attribute, in bytes.
pub const ATTRIBUTE_KEY_BYTES_MAX: usize = 128;
/// Longest value of an attribute, in bytes.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 1_024;
/// Most mappings of a customer.
pub const MAPPINGS_MAX: usize = 64;
/// Most tags of a customer.
pub const TAGS_MAX: usize = 64;
/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 255;
/// Most e-mail addresses beside the first.
pub const SECONDARY_EMAILS_MAX: usize = 64;

/// The caller's id of a customer: 1 to 255 bytes without U+0000, compared byte for byte, as in an event.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CustomerId(Box<str>);

impl CustomerId {
    /// Checks an id; the one constructor.
    ///
    /// # Errors
    /// [`IdError`].
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty);
        }
        if text.len() > NAME_BYTES_MAX {
            return Err(IdError::TooLong { got: text.len() });
        }
        if text.contains('\0') {
            return Err(IdError::Nul);
        }
        Ok(Self(text.into()))
    }

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CustomerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CustomerId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        Self::parse(&text)
    }
}

impl From<CustomerId> for String {
    fn from(id: CustomerId) -> Self {
        id.0.into()
    }
}

/// Why a text is no customer id; to be read after the field's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// There is nothing in it.
    #[error("must not be empty")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("has {got} bytes, the limit is {NAME_BYTES_MAX}")]
    TooLong {
        /// Its length, in bytes.
        got: usize,
    },
    /// PostgreSQL cannot keep U+0000 in a text.
    #[error("contains U+0000")]
    Nul,
}

/// How far a customer has come; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Stage {
    /// Is being set up.
    Onboarding,
    /// Tries it out.
    Trial,
    /// A regular customer; where one starts if nobody says otherwise.
    #[default]
    Active,
    /// Has left.
    Offboarded,
}

/// A postal address, possibly only parts of one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Address {
    /// Street and number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line1: Option<String>,
    /// What the first line has no room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line2: Option<String>,
    /// City.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    /// State or province.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Postal or ZIP code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<String>,
    /// Country, as it was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Whether somebody checked the address. A dialect that cannot say so unsets it when it changes the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
}

impl Address {
    /// Whether nothing of it is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How a customer is reached, beyond the e-mail and the address.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Contact {
    /// Web site.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Where its logo is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logo_url: Option<String>,
    /// More e-mail addresses, in the order sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secondary_emails: Vec<String>,
    /// Telephone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// Name in contracts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legal_name: Option<String>,
    /// VAT identification number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vat_id: Option<String>,
}

impl Contact {
    /// Whether nothing of it is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which measurements without a customer belong to this one (Octane).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The label that a measurement must have.
    pub label: String,
    /// What its value must match; unset: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_regex: Option<String>,
}

/// What only one dialect knows, kept for it as it was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Extensions {
    /// Nothing so far: unknown fields of an Amberflo request are not kept.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub amberflo: Map<String, Value>,
    /// `vendor_id`, the `autogenerate_*` flags, what mappings and tags have beside their fields.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub octane: Map<String, Value>,
    /// `billingId`, `couponId`, `language`, `timezone`, `defaultPaymentMethod`, `integrations`, `passthrough`, `salesforceId`.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub stigg: Map<String, Value>,
}

impl Extensions {
    /// Whether no dialect has anything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A customer, as `stigg.md` section 6 lists it. What has a method instead of a field is set by the operations of
/// [`Customers`](super::Customers), never by a dialect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Customer {
    version: u32,
    id: CustomerId,
    /// When it was made; Octane may say so itself.
    pub created_at: UnixMicros,
    pub(super) updated_at: UnixMicros,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) removed_at: Option<UnixMicros>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) deactivated_at: Option<UnixMicros>,
    /// Display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// E-mail address, as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// How far it has come.
    #[serde(default)]
    pub stage: Stage,
    /// Amberflo's older flag beside the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Whether it only serves a test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<bool>,
    /// Traits (Amberflo), customer metadata (Octane), metadata (Stigg).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Address::is_empty")]
    pub address: Address,
    /// How it is reached.
    #[serde(default, skip_serializing_if = "Contact::is_empty")]
    pub contact: Contact,
    /// Which measurements are its own, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mappings: Vec<Mapping>,
    /// Tags, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Currency of its bills, lower-case ISO code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// What only one dialect knows.
    #[serde(default, skip_serializing_if = "Extensions::is_empty")]
    pub ext: Extensions,
    /// Who had the id before.
    #[serde(default, skip_serializing_if = "Former::is_empty")]
    pub(super) former: Former,
}

impl Customer {
    /// A customer of whom nothing is known but the id.
    pub fn new(id: CustomerId, created_at: UnixMicros) -> Self {
        Self {
            version: VERSION,
            id,
            created_at,
            updated_at: created_at,
            removed_at: None,
            deactivated_at: None,
            name: None,
            email: None,
            description: None,
            stage: Stage::default(),
            enabled: None,
            test: None,
            attributes: BTreeMap::new(),
            address: Address::default(),
            contact: Contact::default(),
            mappings: Vec::new(),
            tags: Vec::new(),
            currency: None,
            ext: Extensions::default(),
            former: Former::default(),
        }
    }

    /// Unique in its account; never changes.
    pub fn id(&self) -> &CustomerId {
        &self.id
    }

    /// When it was last changed; never before `created_at`.
    pub fn updated_at(&self) -> UnixMicros {
        self.updated_at
    }

    /// When it was removed.
    pub fn removed_at(&self) -> Option<UnixMicros> {
        self.removed_at
    }

    /// When `enabled` last became false; stays when it becomes true again.
    pub fn deactivated_at(&self) -> Option<UnixMicros> {
        self.deactivated_at
    }

    /// Who has had the id, and who has it.
    pub fn lives(&self) -> Lives {
        Lives::of(self)
    }

    /// Whether only the record is left.
    pub fn is_removed(&self) -> bool {
        self.removed_at.is_some()
    }
}

/// Reads what [`write()`] wrote, or an older version of it.
///
/// # Errors
/// [`store::Error::Damaged`] when it is something else, or newer than this binary.
pub(super) fn read(stored: &[u8]) -> Result<Customer, store::Error> {
    let mut customer: Customer = serde_json::from_slice(stored).map_err(|error| store::Error::Damaged(format!("a customer: {error}")))?;
    if customer.version > VERSION {
        let found = customer.version;
        return Err(store::Error::Damaged(format!("a customer of version {found}, this binary knows {VERSION}: upgrade it")));
    }
    // In memory it is of this version: that is how it will be written.
    customer.version = VERSION;
    Ok(customer)
}

/// The JSON that is stored.
///
/// # Errors
/// [`store::Error::Failed`] if it cannot be written as JSON: nothing was stored.
pub(super) fn write(customer: &Customer) -> Result<Vec<u8>, store::Error> {
    serde_json::to_vec(customer).map_err(|error| store::Error::Failed(format!("a customer: {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::customers::arbitrary::any_customer;

    #[test]
    fn an_id_has_1_to_255_bytes_and_no_nul() {
        assert_eq!(CustomerId::parse(""), Err(IdError::Empty));
        assert_eq!(CustomerId::parse("a\0b"), Err(IdError::Nul));
        assert_eq!(CustomerId::parse(&"é".repeat(128)), Err(IdError::TooLong { got: 256 }));
        assert_eq!(CustomerId::parse(&"x".repeat(255)).map(|id| id.as_str().len()), Ok(255));
        assert_eq!(IdError::TooLong { got: 256 }.to_string(), "has 256 bytes, the limit is 255");
    }

    #[test]
    fn stages_are_ordered_as_a_customer_goes_through_them() {
        assert!([Stage::Onboarding, Stage::Trial, Stage::Active, Stage::Offboarded].is_sorted_by(|a, b| a < b));
    }

    /// Must stay readable for good: never edit this text.
    #[test]
    fn the_smallest_customer_of_version_1_is_read() {
        let stored = br#"{"version":1,"id":"acme-7","created_at":1767225600123456,"updated_at":1767225600123457,"of_the_future":[1]}"#;
        let mut expected = Customer::new(CustomerId::parse("acme-7").expect("a good id"), UnixMicros(1_767_225_600_123_456));
        expected.updated_at = UnixMicros(1_767_225_600_123_457);
        assert_eq!(read(stored).expect("version 1"), expected);
    }

    #[test]
    fn the_stored_form_is_what_it_was() {
        let mut customer = Customer::new(CustomerId::parse("acme-7").expect("a good id"), UnixMicros(1));
        customer.removed_at = Some(UnixMicros(2));
        customer.name = Some("Acme".into());
        customer.stage = Stage::Trial;
        customer.enabled = Some(false);
        customer.attributes.insert("tier".into(), "gold".into());
        customer.address.city = Some("Rome".into());
        customer.mappings.push(Mapping { label: "host".into(), value_regex: None });
        customer.ext.octane.insert("vendor_id".into(), serde_json::from_str("123456789012345678901234567890").expect("a number"));
        let written = String::from_utf8(write(&customer).expect("JSON")).expect("UTF-8");
        insta::assert_snapshot!(written, @r#"{"version":1,"id":"acme-7","created_at":1,"updated_at":1,"removed_at":2,"name":"Acme","stage":"TRIAL","enabled":false,"attributes":{"tier":"gold"},"address":{"city":"Rome"},"mappings":[{"label":"host"}],"ext":{"octane":{"vendor_id":123456789012345678901234567890}}}"#);
    }

    #[test]
    fn a_customer_of_a_newer_version_is_refused() {
        let stored = br#"{"version":2,"id":"a","created_at":1,"updated_at":1}"#;
        assert!(matches!(read(stored), Err(store::Error::Damaged(message)) if message.contains("version 2")));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(customer in any_customer()) {
            prop_assert_eq!(read(&write(&customer).expect("JSON")).expect("was written"), customer);
        }
    }
}
