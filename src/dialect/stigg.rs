//! Stigg's wire format (contract `stigg.md`).

pub mod error;
pub mod events;
