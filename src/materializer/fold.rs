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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::ContentHash;
    use crate::log::Position;
    use crate::log::record::tests::{encode, only};

    #[test]
    fn the_first_is_judged_by_the_rules_and_its_copies_by_what_they_say() {
        let bytes = encode("acme", &[("m", 1)], &[], None);
        let record = only(&bytes).expect("decodes");
        let mut filtered = record;
        filtered.filtered = true;
        let copy_of = |content| Standing::Copy { of: Position(3), content };
        let (same, other) = (copy_of(record.content), copy_of(ContentHash(record.content.0 ^ 1)));
        for (standing, of_record, of_filtered) in [
            (Standing::First, Verdict::Counted, Verdict::Filtered),
            (same, Verdict::Duplicate, Verdict::Duplicate),
            (other, Verdict::Conflict, Verdict::Conflict),
        ] {
            assert_eq!((verdict(standing, &record), verdict(standing, &filtered)), (of_record, of_filtered));
        }
    }

    #[test]
    fn each_verdict_has_a_name_and_a_number_of_its_own() {
        assert_eq!(Verdict::ALL.map(Verdict::label), ["counted", "duplicate", "conflict", "filtered", "undecodable"]);
        assert_eq!(Verdict::ALL.map(|verdict| verdict as usize), [0, 1, 2, 3, 4]);
    }
}
