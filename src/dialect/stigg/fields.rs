//! Bodies of Stigg's requests, read field by field, so that an error names the field.
//!
//! In a change an absent field stays and `null` clears it; where something is made, both are nothing. Unknown fields are ignored.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::clock::{UnixMillis, rfc3339};
use crate::customers::{ATTRIBUTE_KEY_BYTES_MAX, ATTRIBUTE_VALUE_BYTES_MAX, ATTRIBUTES_MAX, CustomerId, TEXT_BYTES_MAX};
use crate::dialect::ApiError;
use crate::dialect::fields::check_text;
use crate::event::{NAME_BYTES_MAX, TIME_MAX};

/// What a body says of a field: nothing, that it is cleared, or what it is.
pub type Said<T> = Option<Option<T>>;

/// Sets what something was said of.
pub fn set<T: Clone>(said: &Said<T>, stored: &mut Option<T>) {
    if let Some(said) = said {
        stored.clone_from(said);
    }
}

/// Reads a body; one without any byte has no fields.
///
/// # Errors
/// 400.
pub fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(ApiError::bad_field("the body", "must be a JSON object")),
        Err(error) => Err(ApiError::bad_field("the body", format!("is not JSON: {error}"))),
    }
}

/// The members of an object in a body.
pub struct Fields<'b> {
    /// Where the object stands, with a dot at its end; empty for the body itself.
    place: String,
    members: &'b Map<String, Value>,
}

impl<'b> Fields<'b> {
    /// Those of an object at a place, which has a dot at its end.
    pub fn new(place: impl Into<String>, members: &'b Map<String, Value>) -> Self {
        Self { place: place.into(), members }
    }

    /// 400 that names a field.
    pub fn bad(&self, name: &str, reason: impl std::fmt::Display) -> ApiError {
        ApiError::bad_field(format!("{}{name}", self.place), reason)
    }

    /// A member that is not null.
    pub fn get(&self, name: &str) -> Option<&'b Value> {
        self.members.get(name).filter(|value| !value.is_null())
    }

    fn said<T>(&self, name: &str, read: impl FnOnce(&'b Value) -> Result<T, ApiError>) -> Result<Said<T>, ApiError> {
        match self.members.get(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => read(value).map(|value| Some(Some(value))),
        }
    }

    /// What a required field is; `null` counts as missing.
    ///
    /// # Errors
    /// 400.
    pub fn required<T>(&self, name: &str, said: Said<T>) -> Result<T, ApiError> {
        said.flatten().ok_or_else(|| self.bad(name, "is missing"))
    }

    /// A text.
    ///
    /// # Errors
    /// 400.
    pub fn text(&self, name: &str, bytes_max: usize) -> Result<Said<String>, ApiError> {
        self.said(name, |value| text(value, bytes_max).map_err(|reason| self.bad(name, reason)))
    }

    /// A customer's id.
    ///
    /// # Errors
    /// 400.
    pub fn customer_id(&self, name: &str) -> Result<CustomerId, ApiError> {
        let Value::String(text) = self.get(name).ok_or_else(|| self.bad(name, "is missing"))? else {
            return Err(self.bad(name, "must be a string"));
        };
        CustomerId::parse(text).map_err(|reason| self.bad(name, reason))
    }

    /// Another id: 1 to 255 bytes.
    ///
    /// # Errors
    /// 400.
    pub fn id(&self, name: &str) -> Result<Option<String>, ApiError> {
        let id = self.text(name, NAME_BYTES_MAX)?.flatten();
        if id.as_ref().is_some_and(String::is_empty) { Err(self.bad(name, "must not be empty")) } else { Ok(id) }
    }

    /// True or false.
    ///
    /// # Errors
    /// 400.
    pub fn flag(&self, name: &str) -> Result<Said<bool>, ApiError> {
        self.said(name, |value| value.as_bool().ok_or_else(|| self.bad(name, "must be true or false")))
    }

    /// A time in RFC 3339, in ms since 1970 (rounded down).
    ///
    /// # Errors
    /// 400.
    pub fn time(&self, name: &str) -> Result<Said<i64>, ApiError> {
        self.said(name, |value| {
            let parsed = value.as_str().ok_or("must be a string").and_then(time);
            parsed.map(|time| UnixMillis(time.div_euclid(1_000_000) as i64).0).map_err(|reason| self.bad(name, reason))
        })
    }

    /// Texts by texts.
    ///
    /// # Errors
    /// 400.
    pub fn texts(&self, name: &str) -> Result<Said<BTreeMap<String, String>>, ApiError> {
        self.said(name, |value| texts(&format!("{}{name}", self.place), value))
    }

    /// Something of a shape, without what the shape does not know.
    ///
    /// # Errors
    /// 400.
    pub fn shaped(&self, name: &str, shape: &Shape) -> Result<Said<Value>, ApiError> {
        self.said(name, |value| shape.take(&format!("{}{name}", self.place), value))
    }

    /// An array of so many objects, each with the fields at its place.
    ///
    /// # Errors
    /// 400.
    pub fn objects(&self, name: &str, max: usize) -> Result<Vec<Fields<'b>>, ApiError> {
        let Value::Array(items) = self.get(name).ok_or_else(|| self.bad(name, "is missing"))? else {
            return Err(self.bad(name, "must be an array"));
        };
        if !(1..=max).contains(&items.len()) {
            return Err(self.bad(name, format!("has {} entries, it must be 1 to {max}", items.len())));
        }
        let each = items.iter().enumerate().map(|(at, item)| match item {
            Value::Object(members) => Ok(Fields::new(format!("{}{name}[{at}].", self.place), members)),
            _ => Err(self.bad(&format!("{name}[{at}]"), "must be an object")),
        });
        each.collect()
    }

    /// All members.
    pub fn members(&self) -> &'b Map<String, Value> {
        self.members
    }
}

/// A time in RFC 3339 between the years 1970 and 9999, in ns since 1970. To be read after the field's name if it is wrong.
///
/// # Errors
/// What is wrong with it.
pub fn time(text: &str) -> Result<i128, &'static str> {
    let time = rfc3339::parse_nanos(text).ok_or("must be a time in RFC 3339, such as 2026-01-01T00:00:00Z")?;
    let known = Some(time).filter(|ns| (0..=i128::from(TIME_MAX.0) * 1_000_000 + 999_999).contains(ns));
    known.ok_or("must be a time between the years 1970 and 9999")
}

fn text(value: &Value, bytes_max: usize) -> Result<String, String> {
    let Value::String(text) = value else { return Err("must be a string".into()) };
    check_text(text, bytes_max)?;
    Ok(text.clone())
}

fn texts(place: &str, value: &Value) -> Result<BTreeMap<String, String>, ApiError> {
    let Value::Object(members) = value else { return Err(ApiError::bad_field(place, "must be an object")) };
    if members.len() > ATTRIBUTES_MAX {
        let reason = format!("has {} entries, the limit is {ATTRIBUTES_MAX}", members.len());
        return Err(ApiError::bad_field(place, reason));
    }
    let each = members.iter().map(|(key, value)| {
        check_text(key, ATTRIBUTE_KEY_BYTES_MAX).map_err(|reason| ApiError::bad_field(place, format!("has a key that {reason}")))?;
        let value = text(value, ATTRIBUTE_VALUE_BYTES_MAX);
        Ok((key.clone(), value.map_err(|reason| ApiError::bad_field(format!("{place}.{key}"), reason))?))
    });
    each.collect()
}

/// Most elements of an array in a body.
const ITEMS_MAX: usize = 32;

/// What a value must look like that is kept as it was sent.
pub enum Shape {
    /// A text of at most [`TEXT_BYTES_MAX`].
    Text,
    /// A finite number.
    Number,
    /// Texts by texts.
    Texts,
    /// An object; what is not listed is left out.
    Object(&'static [Member]),
    /// Up to 32 of the same.
    List(&'static Shape),
}

/// A member of an object.
pub struct Member {
    name: &'static str,
    shape: Shape,
    is_required: bool,
}

impl Member {
    /// One that may be absent, or null.
    pub const fn may(name: &'static str, shape: Shape) -> Self {
        Self { name, shape, is_required: false }
    }

    /// One that must be there.
    pub const fn must(name: &'static str, shape: Shape) -> Self {
        Self { name, shape, is_required: true }
    }
}

impl Shape {
    /// A value of this shape, without what the shape does not know. `place`: its path, for errors.
    ///
    /// # Errors
    /// 400.
    pub fn take(&self, place: &str, value: &Value) -> Result<Value, ApiError> {
        let bad = |reason: &str| ApiError::bad_field(place, reason);
        match self {
            Self::Text => text(value, TEXT_BYTES_MAX).map(Value::from).map_err(|reason| bad(&reason)),
            Self::Number if value.is_number() && value.as_f64().is_some_and(f64::is_finite) => Ok(value.clone()),
            Self::Number => Err(bad("must be a number")),
            Self::Texts => {
                let each = texts(place, value)?.into_iter().map(|(key, value)| (key, Value::from(value)));
                Ok(Value::Object(each.collect()))
            }
            Self::Object(known) => {
                let Value::Object(members) = value else { return Err(bad("must be an object")) };
                take_members(place, members, known)
            }
            Self::List(shape) => {
                let Value::Array(items) = value else { return Err(bad("must be an array")) };
                if items.len() > ITEMS_MAX {
                    return Err(bad(&format!("has {} entries, the limit is {ITEMS_MAX}", items.len())));
                }
                let each = items.iter().enumerate().map(|(at, item)| shape.take(&format!("{place}[{at}]"), item));
                each.collect::<Result<Vec<_>, _>>().map(Value::Array)
            }
        }
    }
}

fn take_members(place: &str, members: &Map<String, Value>, known: &[Member]) -> Result<Value, ApiError> {
    let mut taken = Map::new();
    for Member { name, shape, is_required } in known {
        let place = format!("{place}.{name}");
        match members.get(*name) {
            None | Some(Value::Null) if *is_required => return Err(ApiError::bad_field(place, "is missing")),
            None => {}
            Some(Value::Null) => drop(taken.insert((*name).to_owned(), Value::Null)),
            Some(value) => drop(taken.insert((*name).to_owned(), shape.take(&place, value)?)),
        }
    }
    Ok(taken.into())
}

/// Deepest nesting of what is kept as it was sent (`design.md`, limits).
const DEPTH_MAX: usize = 16;

/// Checks what is kept whatever it looks like.
///
/// # Errors
/// What is wrong with it, to be read after the field's name.
pub fn check_any(value: &Value) -> Result<(), String> {
    check_depth(value, DEPTH_MAX)
}

fn check_depth(value: &Value, left: usize) -> Result<(), String> {
    let Some(left) = left.checked_sub(1) else { return Err(format!("is nested more than {DEPTH_MAX} deep")) };
    match value {
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => {
            if number.as_f64().is_some_and(f64::is_finite) {
                Ok(())
            } else {
                Err("has a number out of range".into())
            }
        }
        Value::String(text) => check_text(text, TEXT_BYTES_MAX).map_err(|reason| format!("has a text that {reason}")),
        Value::Array(items) => items.iter().try_for_each(|item| check_depth(item, left)),
        Value::Object(members) => members.iter().try_for_each(|(key, value)| {
            check_text(key, ATTRIBUTE_KEY_BYTES_MAX).map_err(|reason| format!("has a key that {reason}"))?;
            check_depth(value, left)
        }),
    }
}
