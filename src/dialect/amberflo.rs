//! Amberflo's wire format (contract `amberflo.md`).

pub mod customers;
pub mod ingest;
pub mod meters;
pub mod payments;
pub mod rules;
pub mod session;
pub mod usage;
