//! Customer metadata (contract `octane.md` section 1): `[{property, value}]`, the attributes of the model.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::error::ChangeError;
use super::fields::items;
use crate::customers::{ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, Customer};
use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, not_json};

/// Entries of a request: as many as there can be, and as many that are deleted.
const ENTRIES_MAX: usize = 2 * ATTRIBUTES_MAX;

/// What a request says of some properties.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata(Vec<(String, Option<String>)>);

impl Metadata {
    /// Reads the body of a POST.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let value: Value = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
        let nothing = Map::new();
        Self::read(&Fields::of(&nothing, ""), "the body", &value, "")
    }

    /// Reads the member of a new customer.
    pub(super) fn of(fields: &Fields<'_>, name: &str) -> Result<Self, ApiError> {
        fields.get(name).map_or(Ok(Self::default()), |value| Self::read(fields, name, value, name))
    }

    fn read(fields: &Fields<'_>, name: &str, value: &Value, place: &str) -> Result<Self, ApiError> {
        let read = |(at, item): (usize, &Value)| {
            let path = format!("{place}[{at}]");
            let object = item.as_object().ok_or_else(|| fields.wrong(&path, "must be an object"))?;
            read_one(&Fields::of(object, &path))
        };
        let items = items(fields, name, value, "objects with property and value", ENTRIES_MAX)?;
        items.iter().enumerate().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Merges it into a customer's; a property without a value is taken away.
    ///
    /// # Errors
    /// [`ChangeError::TooMany`].
    pub fn merge(&self, customer: &mut Customer) -> Result<(), ChangeError> {
        self.merge_into(&mut customer.attributes)
    }

    pub(super) fn merge_into(&self, attributes: &mut BTreeMap<String, String>) -> Result<(), ChangeError> {
        for (property, value) in &self.0 {
            match value {
                Some(value) => drop(attributes.insert(property.clone(), value.clone())),
                None => drop(attributes.remove(property)),
            }
        }
        let is_too_many = attributes.len() > ATTRIBUTES_MAX;
        if is_too_many { Err(ChangeError::TooMany { what: "properties", max: ATTRIBUTES_MAX }) } else { Ok(()) }
    }
}

fn read_one(fields: &Fields<'_>) -> Result<(String, Option<String>), ApiError> {
    let property = fields.required_text("property")?;
    fields.check_text("property", property, ATTRIBUTE_KEY_BYTES_MAX)?;
    let value = fields.text("value")?;
    if let Some(value) = value {
        fields.check_text("value", value, ATTRIBUTE_VALUE_BYTES_MAX)?;
    }
    Ok((property.to_owned(), value.map(str::to_owned)))
}

/// A customer's as it is answered, in the order of the properties.
pub fn render(customer: &Customer) -> Value {
    customer.attributes.iter().map(|(property, value)| json!({"property": property, "value": value})).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMicros;
    use crate::customers::CustomerId;

    fn merged(customer: &mut Customer, body: &Value) -> Result<(), ChangeError> {
        Metadata::parse(body.to_string().as_bytes()).expect("good metadata").merge(customer)
    }

    #[test]
    fn properties_are_merged_and_a_null_takes_one_away() {
        let mut customer = Customer::new(CustomerId::parse("a").expect("an id"), UnixMicros(1));
        merged(&mut customer, &json!([{"property": "tier", "value": "gold"}, {"property": "b", "value": ""}])).expect("few");
        merged(&mut customer, &json!([{"property": "tier", "value": "tin"}, {"property": "b", "value": null}, {"property": "c"}]))
            .expect("few");
        assert_eq!(render(&customer), json!([{"property": "tier", "value": "tin"}]));
        let many = |from: usize| (from..from + 64).map(|n| json!({"property": format!("p{n}"), "value": "v"})).collect::<Value>();
        assert!(matches!(merged(&mut customer, &many(0)), Err(ChangeError::TooMany { what: "properties", max: 64 })));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let many: Vec<_> = (0..129).map(|_| json!({"property": "p"})).collect();
        for (body, details) in [
            (json!({}), "the body must be an array of objects with property and value"),
            (json!(many), "the body has 129 entries, the limit is 128"),
            (json!([{"property": "p"}, 7]), "[1] must be an object"),
            (json!([{"value": "v"}]), "[0].property is missing"),
            (json!([{"property": "p", "value": 7}]), "[0].value must be a string"),
            (json!([{"property": "x".repeat(129)}]), "[0].property has 129 bytes, the limit is 128"),
            (json!([{"property": "p", "value": "x".repeat(1_025)}]), "[0].value has 1025 bytes, the limit is 1024"),
            (json!([{"property": "p\0"}]), "[0].property contains U+0000"),
        ] {
            let refused = Metadata::parse(body.to_string().as_bytes()).expect_err("bad metadata");
            assert_eq!(refused.details.as_deref(), Some(details));
        }
        assert!(Metadata::parse(b"[").is_err());
    }
}
