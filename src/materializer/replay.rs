//! The fold without its thread: a log folded once more into a store and an index of its own, up to a given position.
//!
//! It is the owner of the partition that folds here too, with the same index, working set and commits as in a gateway; only its
//! requests are missing. Whatever this finds is what serving finds.

use std::sync::Arc;

use crossbeam_channel::never;

use super::{Error, LOOK_AGAIN, Owner, Parts};
use crate::log::{self, Position};
use crate::store::Progress;

/// Folds the log from where the store stands up to exactly `until` and commits it; tells `report` how far it has come, which
/// may end it. The index needs to cover no more than the store, and at least what the log does not have any more.
///
/// # Errors
/// [`Error`]; store and index are no better than scratch then.
pub fn replay(parts: Parts, until: Position, report: &mut dyn FnMut(Position) -> Result<(), Error>) -> Result<Progress, Error> {
    let mut owner = Owner::open(parts, Arc::default(), Arc::default(), Arc::default(), &mut ())?;
    if until < owner.committed.next || owner.log.end() < until {
        return Err(Error::LogTooShort { wanted: until, log: owner.log.end() });
    }
    owner.until = until;
    owner.catch_up_index(&never())?;
    while owner.folded.next < until {
        if owner.working.is_full() {
            owner.begin_commit_if_due(false);
            owner.wait_for_commit()?;
        }
        if !owner.fold_some()? {
            // Kafka may have fetched nothing yet of what there is.
            log::wait_for_more(&owner.reader.grown(), LOOK_AGAIN);
        }
        if let Some(done) = owner.committer.finished() {
            owner.end_commit(done?)?;
        }
        owner.begin_commit_if_due(false);
        owner.copy_some()?;
        report(owner.folded.next)?;
    }
    while owner.committed != owner.folded {
        owner.begin_commit_if_due(true);
        owner.wait_for_commit()?;
    }
    Ok(owner.store.snapshot()?.progress(owner.partition)?)
}

impl Owner {
    fn wait_for_commit(&mut self) -> Result<(), Error> {
        if self.committer.is_busy() {
            let done = self.committer.wait(&mut self.working)?;
            self.end_commit(done)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
