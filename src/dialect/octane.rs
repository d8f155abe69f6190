//! Octane's wire format (contract `octane.md`).

pub mod customers;
pub mod error;
mod fields;
pub mod mappings;
pub mod measurements;
pub mod metadata;
pub mod meters;
pub mod subscriptions;
pub mod usage;
