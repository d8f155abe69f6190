//! Partitions that this node owns, asked by itself or by others.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::owners::Owned;
use super::questions::{Answers, Question};
use crate::log::Partition;
use crate::materializer::{Materializer, ViewError};

/// So long an answer that came in time may take to get here.
const GRACE: Duration = Duration::from_millis(100);

/// Says which partitions this node owns at the moment.
pub trait OwnedHere: Send + Sync + 'static {
    /// Whoever folds this partition, if that is this node.
    fn get(&self, partition: u32) -> Option<Materializer>;
}

impl OwnedHere for Owned {
    fn get(&self, partition: u32) -> Option<Materializer> {
        Owned::get(self, partition)
    }
}

/// The partitions, and which of them are owned here.
#[derive(Clone)]
pub(super) struct Local {
    pub(super) log: Arc<[Arc<dyn Partition>]>,
    pub(super) owned: Arc<dyn OwnedHere>,
}

impl Local {
    /// The answer of this node, for which everything is folded that was durable when it was asked; `None`: it does not own the partition.
    pub(super) async fn answer(&self, partition: u32, question: &Question, wait: Duration) -> Option<Result<Answers, ViewError>> {
        let materializer = self.owned.get(partition)?;
        let log = self.log.get(partition as usize)?.clone();
        let deadline = Instant::now() + wait;
        let answer = async {
            // The materializer waits for the end that is known here, and others append, too.
            match tokio::task::spawn_blocking(move || log.newest_end()).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(ViewError::Failed(error.to_string())),
                Err(_) => return Err(ViewError::Failed("asking for the end of the log was interrupted".into())),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match question {
                Question::Firsts(lookups) => materializer.firsts(lookups.clone(), left).await.map(Answers::Firsts),
                Question::Conflicts { account, before, limit } => {
                    materializer.conflicts(*account, *before, *limit, left).await.map(Answers::Conflicts)
                }
            }
        };
        // A materializer that has just begun answers nobody for a while.
        Some(timeout_at(deadline + GRACE, answer).await.unwrap_or(Err(ViewError::Behind)))
    }
}
