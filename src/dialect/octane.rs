//! Octane's wire format (contract `octane.md`).

pub mod error;
pub mod measurements;
