//! What stands in the log under an id: the record that counts, whatever came later.

use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::reconcile::AT_ONCE;
use super::*;

impl Verdicts {
    /// The first record of each of these ids, in their order; `None`: nobody knows of one, or it has left the log.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn firsts(self: &Arc<Self>, account: Account, unique_ids: &[String]) -> Result<Vec<Option<Logged>>, Error> {
        if account.identity == IdentityMode::AllAttributes {
            return Err(Error::NotAnId);
        }
        let parts = self.by_partition(account.number, "", unique_ids);
        let asked: Vec<_> = parts.into_iter().map(|(partition, asked)| self.firsts_in(partition, asked)).collect();
        let found: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).try_collect().await?;
        let mut records = vec![None; unique_ids.len()];
        for (at, record) in found.into_iter().flatten() {
            records[at] = Some(record);
        }
        Ok(records)
    }

    async fn firsts_in(&self, partition: u32, asked: Vec<(usize, Lookup)>) -> Result<Vec<(usize, Logged)>, Error> {
        let (places, lookups): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let firsts = self.owners.firsts(partition, lookups, WAIT).await?;
        let positions: Vec<_> = places.into_iter().zip(firsts).filter_map(|(at, first)| Some((at, first?.position))).collect();
        let records = self.log.at(partition, positions.iter().map(|(_, position)| *position).collect()).await?;
        Ok(positions.into_iter().filter_map(|(at, position)| Some((at, records.get(&position)?.clone()))).collect())
    }
}
