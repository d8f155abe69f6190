//! The verdicts on thousands of events at once, for whoever compares its own books.
//!
//! The index knows positions, so one question to each partition answers for all that are in the log. Whether a rule filtered one stands
//! in its record: records are read as far as a bounded number of reads goes, and what was not read is said. Whoever is not in the log
//! is looked for among the dead letters.

use std::collections::{BTreeMap, HashMap};

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::*;

/// Reads of the log that one answer may cost; neighbours share one.
const READS_MAX: usize = if cfg!(test) { 2 } else { 1_000 };
/// Partitions that are asked at a time.
pub(super) const AT_ONCE: usize = 4;
/// How long a request waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// What became of one of the events that were asked for.
#[derive(Debug)]
pub enum Standing {
    /// It is in the log.
    Logged {
        /// `counted` or `filtered`; `None` where only the record would tell, and it was not read.
        verdict: Option<Verdict>,
        /// The partition of all its records.
        partition: u32,
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
        let mut standings: Vec<Standing> = unique_ids.iter().map(|_| Standing::Missing).collect();
        let parts = self.by_partition(account.number, namespace, unique_ids);
        let reads_max = (READS_MAX / parts.len().max(1)).max(1);
        let ask = |(partition, asked)| self.reconcile_part(account.number, partition, asked, reads_max);
        let asked: Vec<_> = parts.into_iter().map(ask).collect();
        let found: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).try_collect().await?;
        for (at, standing) in found.into_iter().flatten() {
            standings[at] = standing;
        }
        let is_absent = |(_, standing): &(&String, &Standing)| matches!(standing, Standing::Missing);
        let absent = unique_ids.iter().zip(&standings).filter(is_absent).map(|(id, _)| id.clone()).collect();
        let (letters, letters_looked_back_to) = self.letters_about(account.number, namespace, absent).await?;
        for (id, standing) in unique_ids.iter().zip(&mut standings) {
            if let (Standing::Missing, Some(letter)) = (&*standing, letters.get(id)) {
                *standing = Standing::Rejected(Box::new(letter.clone()));
            }
        }
        Ok(Reconciled { standings, letters_looked_back_to })
    }

    /// Which of the ids are in which partition, and what they are looked up by.
    pub(super) fn by_partition(&self, account: u32, namespace: &str, unique_ids: &[String]) -> BTreeMap<u32, Vec<(usize, Lookup)>> {
        let mut parts: BTreeMap<u32, Vec<(usize, Lookup)>> = BTreeMap::new();
        for (at, id) in unique_ids.iter().enumerate() {
            if let Some(identity) = self.hash_key.identity_of(account, namespace, id) {
                parts.entry(partition(account, namespace, id, self.partitions())).or_default().push((at, Lookup::any(identity)));
            }
        }
        parts
    }

    /// What is in one partition of what was asked for.
    async fn reconcile_part(
        &self,
        account: u32,
        partition: u32,
        asked: Vec<(usize, Lookup)>,
        reads_max: usize,
    ) -> Result<Vec<(usize, Standing)>, Error> {
        let (places, lookups): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let firsts = self.owners.firsts(partition, lookups, WAIT).await?;
        let found: Vec<_> = places.into_iter().zip(firsts).filter_map(|(at, first)| Some((at, first?.position))).collect();
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let conflicts = self.conflicts_by_first(partition, account).await?;
        let positions = found.iter().map(|(_, position)| *position).collect();
        let filtered = self.log.filtered(partition, positions, reads_max).await?;
        let verdict = |is_filtered: &bool| if *is_filtered { Verdict::Filtered } else { Verdict::Counted };
        let standing = |(at, position)| {
            let verdict = filtered.get(&position).map(verdict);
            (at, Standing::Logged { verdict, partition, position, conflicts: conflicts.get(&position).cloned().unwrap_or_default() })
        };
        Ok(found.into_iter().map(standing).collect())
    }

    async fn conflicts_by_first(&self, partition: u32, account: u32) -> Result<HashMap<Position, Vec<Position>>, Error> {
        let mut by_first: HashMap<Position, Vec<Position>> = HashMap::new();
        for conflict in self.owners.conflicts(partition, account, Position(u64::MAX), CONFLICTS_MAX, WAIT).await? {
            by_first.entry(conflict.first).or_default().push(conflict.position);
        }
        Ok(by_first)
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
