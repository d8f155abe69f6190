//! Whoever folds a partition knows which of its records came first.

use std::pin::Pin;
use std::time::Duration;

use crate::log::Position;
use crate::materializer::first_positions::First;
use crate::materializer::{Lookup, Materializer, ViewError};
use crate::store::Conflict;

/// What an owner's answer comes as. Dropping it takes the question back.
pub type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<T, ViewError>> + Send + 'a>>;

/// The owners of all partitions: this process, or as many as there are.
pub trait Owners: Send + Sync + 'static {
    /// The first record of each identity, where one is known, in the order of the look-ups. Everything that was durable in the partition
    /// when this was asked is folded before.
    ///
    /// # Errors
    /// [`ViewError`], among them [`ViewError::Behind`] when that takes longer than `wait`.
    fn firsts(&self, partition: u32, lookups: Vec<Lookup>, wait: Duration) -> Answering<'_, Vec<Option<First>>>;

    /// The latest conflicts of an account before a position, newest first, at most `limit`; waits as [`Owners::firsts`] does.
    ///
    /// # Errors
    /// As there.
    fn conflicts(&self, partition: u32, account: u32, before: Position, limit: usize, wait: Duration) -> Answering<'_, Vec<Conflict>>;
}

/// In one process, whose log has one partition.
impl Owners for Materializer {
    fn firsts(&self, _: u32, lookups: Vec<Lookup>, wait: Duration) -> Answering<'_, Vec<Option<First>>> {
        Box::pin(Materializer::firsts(self, lookups, wait))
    }

    fn conflicts(&self, _: u32, account: u32, before: Position, limit: usize, wait: Duration) -> Answering<'_, Vec<Conflict>> {
        Box::pin(Materializer::conflicts(self, account, before, limit, wait))
    }
}
