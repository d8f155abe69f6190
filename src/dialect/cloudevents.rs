//! CloudEvents as OpenMeter takes them, and its meters (contract `cloudevents.md`).

pub mod answer;
pub mod error;
pub mod events;
pub mod json_path;
pub mod listed;
pub mod meters;
pub mod paths;
pub mod plan;
pub mod query;
pub mod times;

/// The dimension that the source becomes.
pub const SOURCE_DIMENSION: &str = "ce.source";
/// The dimension that the type becomes where meters are defined for it: it is no meter's name then.
pub const TYPE_DIMENSION: &str = "ce.type";
/// The dimension of a measurement that has the text of which a meter counts the different ones.
pub const VALUE_DIMENSION: &str = "ce.value";
/// The dimension of a measurement that says why its meter could not read a value; it counts nowhere.
pub const ERROR_DIMENSION: &str = "ce.error";

/// Whether a dimension is one of those above, which nobody else may give.
pub fn is_ours(name: &str) -> bool {
    [SOURCE_DIMENSION, TYPE_DIMENSION, VALUE_DIMENSION, ERROR_DIMENSION].contains(&name)
}
