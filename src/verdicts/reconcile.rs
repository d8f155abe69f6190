//! The verdicts on thousands of events at once, for whoever compares its own books.
//!
//! The index knows positions, so one question answers for all that are in the log. Whether a rule filtered one stands in its record:
//! records are read as far as a bounded number of reads goes, and what was not read is said. Whoever is not in the log is looked for
//! among the dead letters.

use std::collections::{BTreeMap, HashMap};

use super::*;

/// Reads of the log that one answer may cost; neighbours share one.
const READS_MAX: usize = if cfg!(test) { 2 } else { 1_000 };
/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// What became of one of the events that were asked for.
#[derive(Debug)]
pub enum Standing {
    /// It is in the log.
    Logged {
        /// `counted` or `filtered`; `None` where only the record would tell, and it was not read.
        verdict: Option<Verdict>,
        /// Where it stands first.
        position: Position,
        /// Positions of records of the same identity that say something else, newest first.
        conflicts: Vec<Position>,
    },
    /// It was refused although its neighbours were taken.
    Rejected(Box<Letter>),
    /// Nobody has seen it, as far as was looked.
    Missing,
}

/// The answer.
#[derive(Debug)]
pub struct Reconciled {
    /// One for each id, in the order in which they were asked for.
    pub standings: Vec<Standing>,
    /// Dead letters before this position were not looked at; `None`: all were that had to be.
    pub letters_looked_back_to: Option<Position>,
}

impl Verdicts {
    /// What became of each of these events.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn reconcile(self: &Arc<Self>, account: Account, namespace: &str, unique_ids: &[String]) -> Result<Reconciled, Error> {
        if account.identity == IdentityMode::AllAttributes {
            return Err(Error::NotAnId);
        }
        let _turn = tokio::time::timeout(TURN, self.reconciling.lock()).await.map_err(|_| Error::Busy)?;
        let firsts = self.firsts_of(account.number, namespace, unique_ids).await?;
        let conflicts = self.conflicts_by_first(account.number).await?;
        let verdicts = self.read_verdicts(firsts.iter().flatten().map(|first| first.position).collect()).await?;
        let absent = unique_ids.iter().zip(&firsts).filter(|(_, first)| first.is_none()).map(|(id, _)| id.clone()).collect();
        let (letters, letters_looked_back_to) = self.letters_about(account.number, namespace, absent).await?;
        let standing = |(id, first): (&String, Option<FirstPosition>)| match first {
            Some(FirstPosition { position, .. }) => Standing::Logged {
                verdict: verdicts.get(&position).copied().flatten(),
                position,
                conflicts: conflicts.get(&position).cloned().unwrap_or_default(),
            },
            None => letters.get(id).map_or(Standing::Missing, |letter| Standing::Rejected(Box::new(letter.clone()))),
        };
        let standings = unique_ids.iter().zip(firsts).map(standing).collect();
        Ok(Reconciled { standings, letters_looked_back_to })
    }

    async fn firsts_of(&self, account: u32, namespace: &str, unique_ids: &[String]) -> Result<Vec<Option<FirstPosition>>, Error> {
        let identities: Vec<_> = unique_ids.iter().map(|id| self.hash_key.identity_of(account, namespace, id)).collect();
        let any = |identity| Lookup { identity, before: Position(u64::MAX), log_time: UnixMillis(i64::MIN) };
        let mut found = self.materializer.firsts(identities.iter().copied().flatten().map(any).collect(), WAIT).await?.into_iter();
        Ok(identities.into_iter().map(|identity| identity.and_then(|_| found.next().flatten())).collect())
    }

    async fn conflicts_by_first(&self, account: u32) -> Result<HashMap<Position, Vec<Position>>, Error> {
        let mut by_first: HashMap<Position, Vec<Position>> = HashMap::new();
        for conflict in self.materializer.conflicts(account, Position(u64::MAX), CONFLICTS_MAX, WAIT).await? {
            by_first.entry(conflict.first).or_default().push(conflict.position);
        }
        Ok(by_first)
    }

    async fn read_verdicts(&self, positions: Vec<Position>) -> Result<BTreeMap<Position, Option<Verdict>>, Error> {
        let log = self.log.clone();
        blocking(move || read_verdicts(log, positions)).await
    }

    async fn letters_about(
        &self,
        account: u32,
        namespace: &str,
        unique_ids: Vec<String>,
    ) -> Result<(HashMap<String, Letter>, Option<Position>), Error> {
        if unique_ids.is_empty() || !namespace.is_empty() {
            return Ok((HashMap::new(), None));
        }
        let latest = self.letters.latest(account, unique_ids).await?;
        Ok((latest.letters, latest.looked_back_to))
    }
}

/// Whether the records at some positions are filtered, as far as the reads go and the log has them.
fn read_verdicts(log: Arc<dyn Partition>, positions: Vec<Position>) -> Result<BTreeMap<Position, Option<Verdict>>, Error> {
    let mut verdicts: BTreeMap<Position, Option<Verdict>> = positions.into_iter().map(|position| (position, None)).collect();
    let wanted: Vec<Position> = verdicts.keys().copied().collect();
    let mut reader = log.clone().reader();
    let (mut reads, mut behind) = (0, Position(0));
    for position in wanted {
        if position < behind {
            continue;
        }
        if reads == READS_MAX {
            break;
        }
        let chunk = match reader.read(position, READ_BYTES) {
            Ok(chunk) => chunk,
            Err(_) if position < log.start() => continue,
            Err(error) => return Err(error.into()),
        };
        reads += 1;
        for block in chunk.blocks() {
            for (at, record) in (block.first.0..).map(Position).zip(records(block.payload, block.count, block.received)) {
                if let (Some(verdict), Ok(record)) = (verdicts.get_mut(&at), record) {
                    *verdict = Some(if record.filtered { Verdict::Filtered } else { Verdict::Counted });
                }
            }
        }
        behind = chunk.end().unwrap_or(position);
    }
    Ok(verdicts)
}
