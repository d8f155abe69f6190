//! CloudEvents as OpenMeter takes them, and its meters (contract `cloudevents.md`).

pub mod error;
pub mod events;
