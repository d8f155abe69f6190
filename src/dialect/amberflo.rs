//! Amberflo's wire format (contract `amberflo.md`).

pub mod customers;
pub mod error;
pub(super) mod fields;
pub mod ingest;
pub mod meters;
pub mod payments;
pub mod rules;
pub mod session;
pub mod usage;

pub use error::AmberfloError;
