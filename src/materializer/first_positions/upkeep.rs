//! What keeps an index small: runs that are merged, buckets that go.

use super::FirstPositions;
use super::run::Run;
use super::worker::MergeJob;
use super::{IndexError, Placed};
use crate::clock::UnixMillis;

/// Runs of one level that are merged into one of the next.
/// With 8, entries are written once less on their way to 50 M, and each look-up asks three runs more: the thread that folds has less time.
pub(super) const MERGE_RUNS: usize = if cfg!(test) { 3 } else { 4 };

impl FirstPositions {
    /// Drops the buckets in which everything has expired.
    pub(super) fn expire(&mut self, committed: UnixMillis) {
        let asked_from = committed.min(self.covered.log_time);
        let buckets = self.place.buckets;
        let merging = self.merging.map(|(bucket, _)| bucket);
        let has_expired = |placed: &mut Placed| buckets.has_all_expired(placed.bucket, asked_from) && merging != Some(placed.bucket);
        let expired: Vec<_> = self.runs.extract_if(.., has_expired).map(|placed| placed.run).collect();
        if !expired.is_empty() {
            self.gone.extend(expired);
            self.expired_by = self.expired_by.max(asked_from);
            self.is_manifest_due = true;
        }
    }

    pub(super) fn begin_merge(&mut self, bucket: i64) -> Result<(), IndexError> {
        if self.merging.is_some() {
            return Ok(());
        }
        let Some(job) = self.full_level().or_else(|| self.left_bucket(bucket)) else { return Ok(()) };
        self.merging = Some((job.bucket, Run::bytes_for(job.runs.iter().map(|run| run.len()).sum())));
        Ok(self.threads.merger.begin(job)?)
    }

    fn full_level(&self) -> Option<MergeJob> {
        let same_level = |a: &Placed, b: &Placed| (a.bucket, a.level) == (b.bucket, b.level);
        self.runs.chunk_by(same_level).find(|runs| runs.len() >= MERGE_RUNS).map(merge_job)
    }

    /// A bucket of more than one run to which nothing comes any more.
    fn left_bucket(&self, current: i64) -> Option<MergeJob> {
        let in_memory =
            self.tables().filter_map(|table| table.entries().first()).map(|entry| self.place.buckets.of(UnixMillis(entry.log_time)));
        let oldest = in_memory.min().unwrap_or(current).min(current);
        self.runs.chunk_by(|a, b| a.bucket == b.bucket).find(|runs| runs[0].bucket < oldest && runs.len() > 1).map(merge_job)
    }
}

fn merge_job(runs: &[Placed]) -> MergeJob {
    let level = runs.iter().map(|placed| placed.level).max().map_or(0, |level| level + 1);
    MergeJob { bucket: runs[0].bucket, level, runs: runs.iter().map(|placed| placed.run.clone()).collect() }
}
