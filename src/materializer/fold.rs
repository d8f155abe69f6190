//! What one record does to the rows. No clock, no setting, no I/O of its own: equal prefixes of a log give equal rows.

use super::first_positions::Standing;
use crate::log::record::Record;

/// What became of a record in the log (`design.md`, promise 8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is in the rows.
    Counted,
    /// A copy of an earlier record.
    Duplicate,
    /// A copy of an earlier record by its identity, but with other content. The first one counts.
    Conflict,
    /// Dropped by a filtering rule.
    Filtered,
    /// Its bytes make no sense.
    Undecodable,
}

impl Verdict {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Counted, Self::Duplicate, Self::Conflict, Self::Filtered, Self::Undecodable];

    /// As it stands in metrics and answers.
    pub fn label(self) -> &'static str {
        match self {
            Self::Counted => "counted",
            Self::Duplicate => "duplicate",
            Self::Conflict => "conflict",
            Self::Filtered => "filtered",
            Self::Undecodable => "undecodable",
        }
    }
}

/// The verdict on a record that stands like this in its partition.
pub fn verdict(standing: Standing, record: &Record<'_>) -> Verdict {
    match standing {
        Standing::Copy { content, .. } if content == record.content => Verdict::Duplicate,
        Standing::Copy { .. } => Verdict::Conflict,
        Standing::First if record.filtered => Verdict::Filtered,
        Standing::First => Verdict::Counted,
    }
}
