//! Amberflo's wire format (contract `amberflo.md`).

pub mod customers;
pub mod error;
pub mod ingest;
pub mod payments;
pub mod usage;

pub use error::AmberfloError;
