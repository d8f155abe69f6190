//! What nodes ask each other, as JSON. Hashes are hexadecimal digits.
//!
//! ```text
//! POST /internal/v1/partitions/{partition}/firsts?waitMs=1000
//! {"lookups": [{"identity": "00…", "from": 0, "before": 18446744073709551615, "logTime": -9223372036854775808}]}
//! {"partition": 3, "firsts": [{"position": 7, "logTime": 1767225600000, "content": "0123456789abcdef"}, null]}
//!
//! POST /internal/v1/partitions/{partition}/conflicts?waitMs=1000
//! {"account": 1, "before": 18446744073709551615, "limit": 100}
//! {"partition": 3, "conflicts": [{"position": 9, "first": 7}]}
//! ```

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::event::{ContentHash, IdentityHash};
use crate::log::Position;
use crate::materializer::Lookup;
use crate::materializer::first_positions::First;
use crate::store::{CONFLICTS_MAX, Conflict};

/// Look-ups of one question: twice the ids of a reconciliation.
pub(super) const LOOKUPS_MAX: usize = 20_000;
/// Bytes of a question, and of an answer: above what the limits make.
pub(super) const BODY_BYTES_MAX: usize = 4 << 20;

/// What the owner of a partition is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// See [`crate::verdicts::Owners::firsts`].
    Firsts(Vec<Lookup>),
    /// See [`crate::verdicts::Owners::conflicts`].
    Conflicts { account: u32, before: Position, limit: usize },
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answers {
    Firsts(Vec<Option<First>>),
    Conflicts(Vec<Conflict>),
}

/// A question or an answer that makes no sense; says what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Nonsense(String);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FirstsAsked {
    lookups: Vec<LookupAsked>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LookupAsked {
    identity: String,
    from: u64,
    before: u64,
    log_time: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConflictsAsked {
    account: u32,
    before: u64,
    limit: usize,
}

#[derive(Serialize, Deserialize)]
struct FirstsSaid {
    partition: u32,
    firsts: Vec<Option<FirstSaid>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FirstSaid {
    position: u64,
    log_time: i64,
    content: String,
}

#[derive(Serialize, Deserialize)]
struct ConflictsSaid {
    partition: u32,
    conflicts: Vec<ConflictSaid>,
}

#[derive(Serialize, Deserialize)]
struct ConflictSaid {
    position: u64,
    first: u64,
}

/// Which route a question goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Firsts,
    Conflicts,
}

impl Route {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Firsts => "firsts",
            Self::Conflicts => "conflicts",
        }
    }
}

impl Question {
    pub(super) fn route(&self) -> Route {
        match self {
            Self::Firsts(_) => Route::Firsts,
            Self::Conflicts { .. } => Route::Conflicts,
        }
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        let json = match self {
            Self::Firsts(lookups) => {
                let asked = |lookup: &Lookup| LookupAsked {
                    identity: format!("{:032x}", lookup.identity.0),
                    from: lookup.from.0,
                    before: lookup.before.0,
                    log_time: lookup.log_time.0,
                };
                serde_json::to_vec(&FirstsAsked { lookups: lookups.iter().map(asked).collect() })
            }
            Self::Conflicts { account, before, limit } => {
                serde_json::to_vec(&ConflictsAsked { account: *account, before: before.0, limit: *limit })
            }
        };
        // Texts and numbers always serialize.
        json.unwrap_or_default()
    }

    /// Reads what another node asks.
    pub(super) fn from_json(route: Route, json: &[u8]) -> Result<Self, Nonsense> {
        match route {
            Route::Firsts => {
                let asked: FirstsAsked = read(json)?;
                if asked.lookups.len() > LOOKUPS_MAX {
                    return Err(Nonsense(format!("lookups has {} entries, the limit is {LOOKUPS_MAX}", asked.lookups.len())));
                }
                let lookup = |asked: LookupAsked| {
                    Ok(Lookup {
                        identity: IdentityHash(digits(&asked.identity)?),
                        from: Position(asked.from),
                        before: Position(asked.before),
                        log_time: UnixMillis(asked.log_time),
                    })
                };
                asked.lookups.into_iter().map(lookup).collect::<Result<_, _>>().map(Self::Firsts)
            }
            Route::Conflicts => {
                let ConflictsAsked { account, before, limit } = read(json)?;
                if limit > CONFLICTS_MAX {
                    return Err(Nonsense(format!("limit is {limit}, at most {CONFLICTS_MAX} are kept")));
                }
                Ok(Self::Conflicts { account, before: Position(before), limit })
            }
        }
    }

    /// Reads another node's answer about a partition, and checks that it can be one to this question.
    pub(super) fn read_answer(&self, partition: u32, json: &[u8]) -> Result<Answers, Nonsense> {
        let (of, answers) = match self {
            Self::Firsts(_) => {
                let said: FirstsSaid = read(json)?;
                let first = |said: FirstSaid| {
                    Ok(First {
                        position: Position(said.position),
                        log_time: UnixMillis(said.log_time),
                        content: ContentHash(u64::try_from(digits(&said.content)?).map_err(|_| no_hash())?),
                    })
                };
                let firsts = said.firsts.into_iter().map(|said| said.map(first).transpose()).collect::<Result<_, _>>()?;
                (said.partition, Answers::Firsts(firsts))
            }
            Self::Conflicts { account, .. } => {
                let said: ConflictsSaid = read(json)?;
                let conflict = |one: ConflictSaid| Conflict {
                    account: *account,
                    partition,
                    position: Position(one.position),
                    first: Position(one.first),
                };
                (said.partition, Answers::Conflicts(said.conflicts.into_iter().map(conflict).collect()))
            }
        };
        if of != partition {
            return Err(Nonsense(format!("it is about partition {of}")));
        }
        if self.fits(&answers) { Ok(answers) } else { Err(Nonsense("it does not fit the question".into())) }
    }

    fn fits(&self, answers: &Answers) -> bool {
        match (self, answers) {
            (Self::Firsts(lookups), Answers::Firsts(firsts)) => {
                let fits = |(lookup, first): (&Lookup, &Option<First>)| {
                    first.is_none_or(|first| (lookup.from..lookup.before).contains(&first.position))
                };
                lookups.len() == firsts.len() && lookups.iter().zip(firsts).all(fits)
            }
            (Self::Conflicts { before, limit, .. }, Answers::Conflicts(conflicts)) => {
                conflicts.len() <= *limit
                    && conflicts.iter().all(|conflict| conflict.first < conflict.position && conflict.position < *before)
                    && conflicts.is_sorted_by(|newer, older| newer.position > older.position)
            }
            (Self::Firsts(_), Answers::Conflicts(_)) | (Self::Conflicts { .. }, Answers::Firsts(_)) => false,
        }
    }
}

impl Answers {
    pub(super) fn to_json(&self, partition: u32) -> Vec<u8> {
        let json = match self {
            Self::Firsts(firsts) => {
                let said = |first: &First| FirstSaid {
                    position: first.position.0,
                    log_time: first.log_time.0,
                    content: format!("{:016x}", first.content.0),
                };
                serde_json::to_vec(&FirstsSaid { partition, firsts: firsts.iter().map(|first| first.as_ref().map(said)).collect() })
            }
            Self::Conflicts(conflicts) => {
                let said = |conflict: &Conflict| ConflictSaid { position: conflict.position.0, first: conflict.first.0 };
                serde_json::to_vec(&ConflictsSaid { partition, conflicts: conflicts.iter().map(said).collect() })
            }
        };
        // Texts and numbers always serialize.
        json.unwrap_or_default()
    }
}

fn read<'j, T: Deserialize<'j>>(json: &'j [u8]) -> Result<T, Nonsense> {
    serde_json::from_slice(json).map_err(|error| Nonsense(error.to_string()))
}

/// At most 128 bits.
fn digits(text: &str) -> Result<u128, Nonsense> {
    let are_digits = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    are_digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().ok_or_else(no_hash)
}

fn no_hash() -> Nonsense {
    Nonsense("a hash is no hexadecimal number".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup() -> impl Strategy<Value = Lookup> {
        let number = || prop_oneof![0_u64..10, any::<u64>(), Just(u64::MAX)];
        (any::<u128>(), number(), number(), any::<i64>()).prop_map(|(identity, from, before, log_time)| Lookup {
            identity: IdentityHash(identity),
            from: Position(from.min(before)),
            before: Position(before),
            log_time: UnixMillis(log_time),
        })
    }

    fn first_within(lookup: &Lookup, place: u64, content: u64) -> Option<First> {
        let room = lookup.before.0 - lookup.from.0;
        (room > 0).then(|| First {
            position: Position(lookup.from.0 + place % room),
            log_time: lookup.log_time,
            content: ContentHash(content),
        })
    }

    proptest! {
        #[test]
        fn questions_and_answers_come_over_as_they_were(
            lookups in proptest::collection::vec((lookup(), any::<u64>(), any::<bool>()), 0..20),
            partition in any::<u32>(),
        ) {
            let asked: Vec<Lookup> = lookups.iter().map(|(lookup, ..)| *lookup).collect();
            let question = Question::Firsts(asked.clone());
            prop_assert_eq!(Question::from_json(question.route(), &question.to_json()), Ok(question.clone()));
            let first = |(lookup, number, is_known): &(Lookup, u64, bool)| {
                if *is_known { first_within(lookup, *number, *number) } else { None }
            };
            let answers = Answers::Firsts(lookups.iter().map(first).collect());
            prop_assert_eq!(question.read_answer(partition, &answers.to_json(partition)), Ok(answers.clone()));
            // To another question it is none.
            prop_assert!(question.read_answer(partition.wrapping_add(1), &answers.to_json(partition)).is_err());
            let longer = Question::Firsts(asked.into_iter().chain([Lookup::any(IdentityHash(1))]).collect());
            prop_assert!(longer.read_answer(partition, &answers.to_json(partition)).is_err());
            let conflicts = Question::Conflicts { account: 1, before: Position(u64::MAX), limit: 3 };
            prop_assert!(conflicts.read_answer(partition, &answers.to_json(partition)).is_err());
        }

        #[test]
        fn any_bytes_are_a_question_or_nonsense(bytes in "\\PC{0,80}") {
            for route in [Route::Firsts, Route::Conflicts] {
                if let Ok(question) = Question::from_json(route, bytes.as_bytes()) {
                    prop_assert_eq!(Question::from_json(route, &question.to_json()), Ok(question));
                }
            }
        }
    }

    #[test]
    fn conflicts_come_over_as_they_were_and_only_those_that_were_asked_for() {
        let question = Question::Conflicts { account: 7, before: Position(10), limit: 2 };
        assert_eq!(Question::from_json(Route::Conflicts, &question.to_json()), Ok(question.clone()));
        let conflict = |position, first| Conflict { account: 7, partition: 3, position: Position(position), first: Position(first) };
        let good = Answers::Conflicts(vec![conflict(9, 0), conflict(8, 7)]);
        assert_eq!(question.read_answer(3, &good.to_json(3)), Ok(good));
        for wrong in [
            vec![conflict(10, 0)],
            vec![conflict(9, 9)],
            vec![conflict(8, 0), conflict(9, 0)],
            vec![conflict(8, 0), conflict(8, 0)],
            vec![conflict(9, 0), conflict(8, 0), conflict(7, 0)],
        ] {
            assert!(question.read_answer(3, &Answers::Conflicts(wrong.clone()).to_json(3)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_first_outside_of_what_was_asked_for_is_nonsense() {
        let lookup = Lookup { from: Position(5), before: Position(8), ..Lookup::any(IdentityHash(1)) };
        let at = |position| {
            let first = First { position: Position(position), log_time: UnixMillis(1), content: ContentHash(2) };
            Question::Firsts(vec![lookup]).read_answer(0, &Answers::Firsts(vec![Some(first)]).to_json(0)).is_ok()
        };
        assert_eq!([4, 5, 7, 8].map(at), [false, true, true, false]);
    }

    #[test]
    fn a_question_is_bounded() {
        let many = Question::Firsts(vec![Lookup { log_time: UnixMillis(i64::MIN), ..Lookup::any(IdentityHash(u128::MAX)) }; LOOKUPS_MAX]);
        let json = many.to_json();
        assert!(json.len() <= BODY_BYTES_MAX, "{}", json.len());
        assert!(Question::from_json(Route::Firsts, &json).is_ok());
        let more = Question::Firsts(vec![Lookup::any(IdentityHash(0)); LOOKUPS_MAX + 1]);
        assert!(Question::from_json(Route::Firsts, &more.to_json()).is_err());
        let greedy = Question::Conflicts { account: 1, before: Position(1), limit: CONFLICTS_MAX + 1 };
        assert!(Question::from_json(Route::Conflicts, &greedy.to_json()).is_err());
        let first = First { position: Position(u64::MAX - 1), log_time: UnixMillis(i64::MIN), content: ContentHash(u64::MAX) };
        let answer = Answers::Firsts(vec![Some(first); LOOKUPS_MAX]).to_json(u32::MAX);
        assert!(answer.len() <= BODY_BYTES_MAX, "{}", answer.len());
    }
}
