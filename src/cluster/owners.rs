//! The partitions that this node owns: a fold for each, kept going.
//!
//! A partition has a thread of its own that starts its [`Materializer`], and starts it again when it ends with an error: Kafka or the
//! database may be gone for a while, and another owner may have committed in between (the fold goes on from what the store says
//! then). What one partition suffers stops no other one. Taking and letting go go through that thread (`keeper`), one after the other: two folds of
//! one partition are never at its index at a time.
//!
//! The index of a partition that was let go stays on the disk: whoever has it now may ask for it ([`super::handover`]), and it may come back. It is removed
//! a day later ([`KEPT`]), or when the disk has less than 1 GiB left. A process that starts counts the day anew.

mod keeper;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use self::keeper::Keeper;
use super::NodeAddress;
use super::handover::Handover;
use crate::clock::Clock;
use crate::log::disk::Disk;
use crate::log::meta::LogMeta;
use crate::log::{Partition, Position};
use crate::materializer::{self, KeepUndecodable, Materializer};
use crate::store::Store;
use crate::telemetry;

/// How long the index of a partition is kept that is somebody else's.
pub const KEPT: Duration = Duration::from_secs(24 * 3_600);

/// What folds are started from.
pub struct Parts {
    /// All partitions of the log, by their numbers.
    pub log: Vec<Arc<dyn Partition>>,
    /// What the fold needs besides the records.
    pub meta: LogMeta,
    /// Written to.
    pub store: Arc<dyn Store>,
    /// For the files of the indexes.
    pub disk: Arc<dyn Disk>,
    /// Where they are: a directory for each partition.
    pub index_dir: PathBuf,
    /// For the lag that is reported.
    pub clock: Clock,
    /// Where others ask this node.
    pub address: NodeAddress,
    /// Where records go that cannot be decoded.
    pub undecodable: Arc<dyn KeepUndecodable>,
    /// Gets the indexes of partitions that were others'.
    pub handover: Handover,
    /// How long the index of a partition is kept that is somebody else's: [`KEPT`].
    pub kept: Duration,
    /// What has to hold of a partition before it is folded.
    pub check: Box<dyn Fn(u32) -> Result<(), materializer::Error> + Send + Sync>,
}

/// All partitions that this node has ever owned. Cheap to clone.
#[derive(Clone)]
pub struct Owned {
    shared: Arc<Shared>,
}

struct Shared {
    parts: Parts,
    /// Folds that run.
    running: RwLock<BTreeMap<u32, Materializer>>,
    /// Partitions that are being taken: an index is being fetched, maybe.
    taken: Mutex<BTreeSet<u32>>,
    keepers: Mutex<BTreeMap<u32, Keeper>>,
}

impl Owned {
    /// Owns nothing yet.
    pub fn new(parts: Parts) -> Self {
        let owned =
            Self { shared: Arc::new(Shared { parts, running: RwLock::default(), taken: Mutex::default(), keepers: Mutex::default() }) };
        owned.look_after_files();
        owned
    }

    /// What lies on the disk has a thread that removes it some day.
    fn look_after_files(&self) {
        let Parts { disk, index_dir, log, .. } = &self.shared.parts;
        let lying = disk.list(index_dir).unwrap_or_default().into_iter().filter_map(|name| name.parse::<u32>().ok());
        let mut keepers = self.keepers();
        for partition in lying.filter(|partition| (*partition as usize) < log.len()) {
            match Keeper::start(self.shared.clone(), partition) {
                Ok(keeper) => drop(keepers.insert(partition, keeper)),
                Err(error) => tracing::warn!(partition, %error, "no thread for the files of a partition; they stay"),
            }
        }
    }

    /// The fold of a partition, if it runs here.
    pub fn get(&self, partition: u32) -> Option<Materializer> {
        self.shared.running.read().unwrap_or_else(PoisonError::into_inner).get(&partition).cloned()
    }

    /// The folds that run here.
    pub fn all(&self) -> Vec<(u32, Materializer)> {
        let running = self.shared.running.read().unwrap_or_else(PoisonError::into_inner);
        running.iter().map(|(partition, fold)| (*partition, fold.clone())).collect()
    }

    /// The partitions that are this node's to fold, whether they are folded already or not.
    pub fn partitions(&self) -> Vec<u32> {
        self.keepers().iter().filter(|(_, keeper)| keeper.is_owned()).map(|(partition, _)| *partition).collect()
    }

    /// How far the fold of each partition that runs here has come.
    pub fn folded(&self) -> Vec<(u32, Position)> {
        self.all().into_iter().map(|(partition, fold)| (partition, fold.folded())).collect()
    }

    /// Partitions that are this node's, but of which not everything is folded that was there when it took them.
    pub fn behind(&self) -> Vec<u32> {
        self.partitions().into_iter().filter(|partition| !self.get(*partition).is_some_and(|fold| fold.is_ready())).collect()
    }

    /// Whether a partition is being taken at the moment: its index is being fetched from another node, maybe.
    pub fn is_taking(&self, partition: u32) -> bool {
        self.shared.taken().contains(&partition)
    }

    /// From now on these are this node's as well. Does not wait.
    pub fn take(&self, partitions: &[u32]) {
        let mut keepers = self.keepers();
        for partition in partitions {
            if *partition as usize >= self.shared.parts.log.len() {
                tracing::error!(partition, "a partition was assigned that the topic did not have at the start; it is not folded");
                continue;
            }
            if !keepers.contains_key(partition) {
                match Keeper::start(self.shared.clone(), *partition) {
                    Ok(keeper) => drop(keepers.insert(*partition, keeper)),
                    Err(error) => {
                        tracing::error!(partition, %error, "no thread for a partition; it is not folded");
                        continue;
                    }
                }
            }
            if let Some(keeper) = keepers.get_mut(partition) {
                telemetry::begin_owner(*partition);
                keeper.take();
            }
        }
        telemetry::set_owned_partitions(keepers.values().filter(|keeper| keeper.is_owned()).count());
    }

    /// From now on these are somebody else's: what has been folded is committed. Waits for that, but not longer than `patience`: who
    /// goes on later finds that somebody else has committed, and changes nothing.
    pub fn let_go(&self, partitions: &[u32], patience: Duration) {
        let mut left = Vec::new();
        {
            let mut keepers = self.keepers();
            for partition in partitions {
                let Some(keeper) = keepers.get_mut(partition) else { continue };
                left.push((*partition, keeper.let_go()));
            }
            telemetry::set_owned_partitions(keepers.values().filter(|keeper| keeper.is_owned()).count());
        }
        let deadline = Instant::now() + patience;
        for (partition, done) in left {
            // Nothing is ever sent.
            if done.recv_deadline(deadline).is_err_and(|error| error.is_timeout()) {
                tracing::warn!(partition, "a partition was not let go in time; what its fold still commits counts only if nobody else has");
            }
        }
    }

    /// Lets go of everything and waits for the threads, but not longer than `patience`.
    pub fn end(&self, patience: Duration) {
        let all = self.partitions();
        self.let_go(&all, patience);
        for (partition, keeper) in std::mem::take(&mut *self.keepers()) {
            // One that hangs in a call to Kafka or the database goes with the process.
            if keeper.end(!all.contains(&partition)).is_err() {
                tracing::error!(partition, "the thread of a partition panicked");
            }
        }
    }

    fn keepers(&self) -> MutexGuard<'_, BTreeMap<u32, Keeper>> {
        // Nothing in there can be half done.
        self.shared.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn taken(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        // Numbers come and go whole.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
