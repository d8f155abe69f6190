//! Stigg's wire format (contract `stigg.md`).

pub mod customers;
pub mod error;
pub mod events;
pub mod fields;
pub mod history;
pub mod pages;
pub mod subscriptions;
pub mod usage;

use serde_json::{Value, json};

/// What stands around one object.
pub fn envelope(data: Value) -> Value {
    json!({"data": data})
}
