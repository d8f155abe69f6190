//! Payments on Amberflo's wire (contract `amberflo.md` section 6): plan assignments, prepaid orders, invoices.
//!
//! The paths of the seed are dashed, those of the SDKs slashed. Both take both request shapes; the answer has the shape of the path's family.

pub mod invoices;
pub mod prepaid;
pub mod pricing;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::billing::Money;
use crate::clock::UnixMillis;
use crate::customers::CustomerId;
use crate::dialect::ApiError;
use crate::dialect::fields::read_int;
use crate::event::{Amount, TIME_MAX};

/// Longest id of an order, a plan or a product, in bytes.
const ID_BYTES_MAX: usize = 255;

/// Which family of paths a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `/payments-…`, from the seed.
    Dashed,
    /// `/payments/…`, from the SDKs.
    Slashed,
}

/// The members of an object in a body, or the parameters of a query; `null` is the same as absent.
pub struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`.
    pub fn of_body(body: &[u8]) -> Result<Self, ApiError> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(_) => Err(ApiError::bad_field("the body", "must be a JSON object")),
            Err(error) => Err(ApiError::bad_field("the body", format!("is not JSON: {error}"))),
        }
    }

    /// The parameters of a query; of several with one name the first. An empty one is absent.
    pub fn of_query(pairs: Vec<(String, String)>) -> Self {
        let mut members = Map::new();
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            members.entry(name).or_insert(Value::String(value));
        }
        Self(members)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn object(&self, name: &str) -> Result<Option<Self>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(Some(Self(members.clone()))),
            Some(_) => Err(ApiError::bad_field(name, "must be an object")),
        }
    }

    /// A text. An empty one is absent: go sends them.
    fn text(&self, name: &str, bytes_max: usize) -> Result<Option<String>, ApiError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let Value::String(text) = value else { return Err(ApiError::bad_field(name, "must be a string")) };
        if text.len() > bytes_max {
            return Err(ApiError::bad_field(name, format!("has {} bytes, the limit is {bytes_max}", text.len())));
        }
        if text.contains('\0') {
            return Err(ApiError::bad_field(name, "contains U+0000"));
        }
        Ok(Some(text.clone()).filter(|text| !text.is_empty()))
    }

    /// A required id.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`.
    pub fn id(&self, name: &str) -> Result<String, ApiError> {
        self.text(name, ID_BYTES_MAX)?.ok_or_else(|| ApiError::bad_field(name, "is missing"))
    }

    /// An id, by the first of these names that is there.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`.
    pub fn optional_id(&self, names: &[&str]) -> Result<Option<String>, ApiError> {
        names.iter().find(|name| self.get(name).is_some()).map_or(Ok(None), |name| self.text(name, ID_BYTES_MAX))
    }

    /// The customer, by the first of these names that is there; the first is named if none is.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`.
    pub fn customer(&self, names: &[&str]) -> Result<CustomerId, ApiError> {
        let first = names.first().copied().unwrap_or("customerId");
        let name = names.iter().find(|name| self.get(name).is_some()).copied().unwrap_or(first);
        let text = match self.get(name) {
            None => return Err(ApiError::bad_field(name, "is missing")),
            Some(Value::String(text)) => text,
            Some(_) => return Err(ApiError::bad_field(name, "must be a string")),
        };
        CustomerId::parse(text).map_err(|reason| ApiError::bad_field(name, reason))
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(ApiError::bad_field(name, "must be true or false")),
        }
    }

    /// A whole number; in a query it is text.
    ///
    /// # Errors
    /// 400 `BAD_REQUEST`.
    pub fn int(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let number = match self.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => read_int(number.as_str()),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| ApiError::bad_field(name, "must be a whole number"))
    }

    /// A time in s since 1970, between the years 1970 and 9999. 0 is absent: go sends it.
    fn seconds(&self, name: &str) -> Result<Option<UnixMillis>, ApiError> {
        let Some(seconds) = self.int(name)?.filter(|seconds| *seconds != 0) else { return Ok(None) };
        time(name, seconds.checked_mul(1_000), "s").map(Some)
    }

    /// The same in ms.
    fn millis(&self, name: &str) -> Result<Option<UnixMillis>, ApiError> {
        let Some(millis) = self.int(name)?.filter(|millis| *millis != 0) else { return Ok(None) };
        time(name, Some(millis), "ms").map(Some)
    }

    /// A number of more than 0.
    fn positive(&self, name: &str) -> Result<Option<Amount>, ApiError> {
        let amount = match self.get(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => Amount::parse(number.as_str().as_bytes()).ok(),
            Some(_) => None,
        };
        let amount = amount.ok_or_else(|| ApiError::bad_field(name, "must be a number below 10^20"))?;
        if amount > Amount::default() { Ok(Some(amount)) } else { Err(ApiError::bad_field(name, "must be more than 0")) }
    }
}

fn time(name: &str, millis: Option<i64>, unit: &str) -> Result<UnixMillis, ApiError> {
    let known = millis.map(UnixMillis).filter(|time| (UnixMillis(0)..=TIME_MAX).contains(time));
    known.ok_or_else(|| ApiError::bad_field(name, format!("must be a time between the years 1970 and 9999, in {unit} since 1970")))
}

fn shown_money(money: Money) -> Value {
    serde_json::to_value(money).unwrap_or(Value::Null)
}
