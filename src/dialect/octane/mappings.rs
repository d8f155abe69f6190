//! Mappings and tags (contract `octane.md` section 1): lists of objects of which something is ours, and the rest is kept as it was sent.
//!
//! Only Octane writes these lists. What their objects have beside their fields stands in the customer's extension, in the same order.

use serde_json::{Map, Value};

use super::error::ChangeError;
use super::fields::{EXTRA_BYTES_MAX, extra, items};
use crate::customers::mappings::{LABEL_BYTES_MAX, REGEX_BYTES_MAX, compile};
use crate::customers::{Customer, MAPPINGS_MAX, Mapping, TAG_BYTES_MAX, TAGS_MAX};
use crate::dialect::ApiError;
use crate::dialect::fields::{Fields, parse_object};

/// Where the extension has what mappings have beside their fields.
const MAPPING_EXTRAS: &str = "mapping_extras";
/// The same of tags.
const TAG_EXTRAS: &str = "tag_extras";
/// `value` is what the specification calls the expression.
const MAPPING_FIELDS: [&str; 3] = ["label", "value_regex", "value"];
const TAG_FIELDS: [&str; 1] = ["tag"];

/// A mapping as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMapping {
    mapping: Mapping,
    extra: Map<String, Value>,
}

/// A tag as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentTag {
    tag: String,
    extra: Map<String, Value>,
}

impl SentMapping {
    /// Reads the body of a POST.
    ///
    /// # Errors
    /// 400; `field` says where.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        Self::read(&parse_object(body)?, "")
    }

    fn read(object: &Map<String, Value>, path: &str) -> Result<Self, ApiError> {
        let fields = Fields::of(object, path);
        let label = fields.required_name("label", LABEL_BYTES_MAX)?;
        let name = if fields.get("value_regex").is_some() { "value_regex" } else { "value" };
        // An empty text is what the Python client has for nothing.
        let value_regex = fields.text(name)?.filter(|text| !text.is_empty());
        if let Some(expression) = value_regex {
            fields.check_text(name, expression, REGEX_BYTES_MAX)?;
            compile(expression).map_err(|reason| fields.wrong(name, reason))?;
        }
        let mapping = Mapping { label, value_regex: value_regex.map(str::to_owned) };
        let path = if path.is_empty() { "the mapping" } else { path };
        Ok(Self { mapping, extra: extra(object, &MAPPING_FIELDS, path, EXTRA_BYTES_MAX)? })
    }

    /// As it is answered.
    pub fn render(&self) -> Value {
        let mut members = self.extra.clone();
        members.insert("label".into(), self.mapping.label.as_str().into());
        if let Some(expression) = &self.mapping.value_regex {
            members.insert("value_regex".into(), expression.as_str().into());
        }
        members.into()
    }

    /// Adds it to a customer's. The same once more changes nothing: a client that lost the answer sends it again.
    ///
    /// # Errors
    /// [`ChangeError::TooMany`].
    pub fn add_to(&self, customer: &mut Customer) -> Result<(), ChangeError> {
        let mut all = mappings_of(customer);
        if all.contains(self) {
            return Ok(());
        }
        match all.iter().position(|known| known.mapping == self.mapping) {
            Some(at) => all[at] = self.clone(),
            None if all.len() >= MAPPINGS_MAX => return Err(ChangeError::TooMany { what: "mappings", max: MAPPINGS_MAX }),
            None => all.push(self.clone()),
        }
        set_mappings(customer, all);
        Ok(())
    }
}

/// Takes all mappings of a label away; of the first of these labels that there is.
///
/// # Errors
/// [`ChangeError::UnknownMapping`].
pub fn remove(customer: &mut Customer, labels: &[String]) -> Result<(), ChangeError> {
    let mut all = mappings_of(customer);
    let label = labels.iter().find(|label| all.iter().any(|known| known.mapping.label == **label)).ok_or(ChangeError::UnknownMapping)?;
    all.retain(|known| known.mapping.label != *label);
    set_mappings(customer, all);
    Ok(())
}

/// Mappings as they are answered.
pub fn render(customer: &Customer) -> Value {
    mappings_of(customer).iter().map(SentMapping::render).collect()
}

/// Tags as they are answered: as objects.
pub(super) fn render_tags(customer: &Customer) -> Value {
    let tags = customer.tags.iter().enumerate().map(|(at, tag)| {
        let mut members = extra_at(customer, TAG_EXTRAS, at);
        members.insert("tag".into(), tag.as_str().into());
        Value::Object(members)
    });
    tags.collect()
}

/// Reads a list of mappings.
pub(super) fn read_all(fields: &Fields<'_>, name: &str, value: &Value) -> Result<Vec<SentMapping>, ApiError> {
    let read = |(at, item): (usize, &Value)| {
        let object = item.as_object().ok_or_else(|| fields.wrong(&format!("{name}[{at}]"), "must be an object"))?;
        SentMapping::read(object, &format!("{name}[{at}]"))
    };
    items(fields, name, value, "mappings", MAPPINGS_MAX)?.iter().enumerate().map(read).collect()
}

/// Reads a list of tags: texts, or objects as they are answered.
pub(super) fn read_tags(fields: &Fields<'_>, name: &str, value: &Value) -> Result<Vec<SentTag>, ApiError> {
    let read = |(at, item): (usize, &Value)| {
        let path = format!("{name}[{at}]");
        match item {
            Value::String(tag) if !tag.is_empty() => {
                fields.check_text(&path, tag, TAG_BYTES_MAX)?;
                Ok(SentTag { tag: tag.clone(), extra: Map::new() })
            }
            Value::Object(object) => {
                let tag = Fields::of(object, &path).required_name("tag", TAG_BYTES_MAX)?;
                Ok(SentTag { tag, extra: extra(object, &TAG_FIELDS, &path, EXTRA_BYTES_MAX)? })
            }
            _ => Err(fields.wrong(&path, "must be a string that is not empty")),
        }
    };
    items(fields, name, value, "strings", TAGS_MAX)?.iter().enumerate().map(read).collect()
}

/// A customer's mappings with all that was sent.
fn mappings_of(customer: &Customer) -> Vec<SentMapping> {
    let with_extra =
        |(at, mapping): (usize, &Mapping)| SentMapping { mapping: mapping.clone(), extra: extra_at(customer, MAPPING_EXTRAS, at) };
    customer.mappings.iter().enumerate().map(with_extra).collect()
}

pub(super) fn set_mappings(customer: &mut Customer, sent: Vec<SentMapping>) {
    let (mappings, extras) = sent.into_iter().map(|sent| (sent.mapping, sent.extra)).unzip();
    customer.mappings = mappings;
    set_extras(customer, MAPPING_EXTRAS, extras);
}

pub(super) fn set_tags(customer: &mut Customer, sent: Vec<SentTag>) {
    let (tags, extras) = sent.into_iter().map(|sent| (sent.tag, sent.extra)).unzip();
    customer.tags = tags;
    set_extras(customer, TAG_EXTRAS, extras);
}

fn set_extras(customer: &mut Customer, name: &str, extras: Vec<Map<String, Value>>) {
    if extras.iter().all(Map::is_empty) {
        customer.ext.octane.remove(name);
    } else {
        customer.ext.octane.insert(name.into(), extras.into());
    }
}

fn extra_at(customer: &Customer, name: &str, at: usize) -> Map<String, Value> {
    let found = customer.ext.octane.get(name).and_then(|extras| extras.get(at)?.as_object());
    found.cloned().unwrap_or_default()
}
