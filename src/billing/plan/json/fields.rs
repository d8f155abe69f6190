//! Reads JSON field by field, so that an error names the field.

use serde_json::{Map, Value};

use super::PlanError;
use crate::billing::plan::{NAME_BYTES_MAX, PRICE_MAX};
use crate::event::Amount;

/// A value and where it stands.
pub(super) struct Node<'v> {
    value: &'v Value,
    path: String,
}

impl<'v> Node<'v> {
    pub(super) fn root(value: &'v Value) -> Self {
        Self { value, path: String::new() }
    }

    pub(super) fn wrong(&self, reason: impl Into<String>) -> PlanError {
        let path = if self.path.is_empty() { "the plan".into() } else { self.path.clone() };
        PlanError { path, reason: reason.into() }
    }

    /// The members of an object that has no others than those that are known.
    pub(super) fn object(&self, known: &[&str]) -> Result<Fields<'v>, PlanError> {
        let Value::Object(members) = self.value else { return Err(self.wrong("must be an object")) };
        let prefix = if self.path.is_empty() { String::new() } else { format!("{}.", self.path) };
        if let Some(name) = members.keys().find(|name| !known.contains(&name.as_str())) {
            let reason = format!("is no field here; there are: {}", known.join(", "));
            return Err(PlanError { path: format!("{prefix}{}", shortened(name)), reason });
        }
        Ok(Fields { members, prefix })
    }
}

/// What is shown of a name that was chosen outside.
fn shortened(name: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 64;
    name.chars().take(SHOWN_CHARS_MAX).collect()
}

/// The members of an object; `null` is as good as absent.
pub(super) struct Fields<'v> {
    members: &'v Map<String, Value>,
    prefix: String,
}

impl<'v> Fields<'v> {
    pub(super) fn wrong(&self, name: &str, reason: impl Into<String>) -> PlanError {
        PlanError { path: format!("{}{name}", self.prefix), reason: reason.into() }
    }

    pub(super) fn get(&self, name: &str) -> Option<Node<'v>> {
        let value = self.members.get(name).filter(|value| !value.is_null())?;
        Some(Node { value, path: format!("{}{name}", self.prefix) })
    }

    pub(super) fn required<T>(&self, name: &str, value: Option<T>) -> Result<T, PlanError> {
        value.ok_or_else(|| self.wrong(name, "is missing"))
    }

    pub(super) fn text(&self, name: &str, bytes_max: usize) -> Result<Option<String>, PlanError> {
        let Some(node) = self.get(name) else { return Ok(None) };
        let Value::String(text) = node.value else { return Err(node.wrong("must be a string")) };
        if text.is_empty() {
            return Err(node.wrong("must not be empty"));
        }
        if text.len() > bytes_max {
            return Err(node.wrong(format!("has {} bytes, the limit is {bytes_max}", text.len())));
        }
        if text.contains('\0') { Err(node.wrong("contains U+0000")) } else { Ok(Some(text.clone())) }
    }

    pub(super) fn required_text(&self, name: &str, bytes_max: usize) -> Result<String, PlanError> {
        self.required(name, self.text(name, bytes_max)?)
    }

    /// One of a few words, in any case.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, PlanError> {
        let Some(text) = self.text(name, NAME_BYTES_MAX)? else { return Ok(None) };
        let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text)).map(|(_, value)| *value);
        let all = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        found.map(Some).ok_or_else(|| self.wrong(name, format!("must be one of {}", all())))
    }

    /// A number of 0 or more, exact.
    pub(super) fn quantity(&self, name: &str) -> Result<Option<Amount>, PlanError> {
        let Some(node) = self.get(name) else { return Ok(None) };
        let Value::Number(number) = node.value else { return Err(node.wrong("must be a number")) };
        let amount = Amount::parse(number.as_str().as_bytes()).map_err(|error| node.wrong(error.to_string()))?;
        if amount < Amount::default() {
            return Err(node.wrong("must not be negative"));
        }
        // What was rounded when it was read is not the price that was meant.
        if is_exact(number.as_str(), amount) { Ok(Some(amount)) } else { Err(node.wrong("has more than 12 places, the limit")) }
    }

    /// A quantity of more than 0.
    pub(super) fn positive(&self, name: &str) -> Result<Option<Amount>, PlanError> {
        let quantity = self.quantity(name)?;
        if quantity == Some(Amount::default()) { Err(self.wrong(name, "must be more than 0")) } else { Ok(quantity) }
    }

    /// A quantity of money.
    pub(super) fn price(&self, name: &str) -> Result<Option<Amount>, PlanError> {
        let price = self.quantity(name)?;
        if price.is_some_and(|price| price >= PRICE_MAX) { Err(self.wrong(name, "must be less than 10^12")) } else { Ok(price) }
    }

    /// The items of an array; none if it is not there.
    pub(super) fn list(&self, name: &str, items_max: usize) -> Result<Vec<Node<'v>>, PlanError> {
        let Some(node) = self.get(name) else { return Ok(Vec::new()) };
        let Value::Array(items) = node.value else { return Err(node.wrong("must be an array")) };
        if items.len() > items_max {
            return Err(node.wrong(format!("has {} entries, the limit is {items_max}", items.len())));
        }
        Ok(items.iter().enumerate().map(|(index, value)| Node { value, path: format!("{}[{index}]", node.path) }).collect())
    }

    /// The members of an object whose names are free.
    pub(super) fn members(&self, name: &str, members_max: usize) -> Result<Option<Vec<(&'v str, Node<'v>)>>, PlanError> {
        let Some(node) = self.get(name) else { return Ok(None) };
        let Value::Object(members) = node.value else { return Err(node.wrong("must be an object")) };
        if members.len() > members_max {
            return Err(node.wrong(format!("has {} members, the limit is {members_max}", members.len())));
        }
        let named =
            |(name, value): (&'v String, &'v Value)| (name.as_str(), Node { value, path: format!("{}.{}", node.path, shortened(name)) });
        Ok(Some(members.iter().map(named).collect()))
    }
}

/// Whether a number was read without rounding: its digits but the zeros at both ends are those of what was read.
fn is_exact(text: &str, read: Amount) -> bool {
    let significant = |text: &str| {
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
        digits.trim_matches('0').to_owned()
    };
    significant(text) == significant(&read.to_string())
}
