//! The partitions that this node owns: a fold for each, kept going.
//!
//! A partition has a thread of its own that starts its [`Materializer`], and starts it again when it ends with an error: Kafka or the
//! database may be gone for a while, and another owner may have committed in between (the fold goes on from what the store says
//! then). What one partition suffers stops no other one. Taking and letting go go through that thread, one after the other: two folds of
//! one partition are never at its index at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select};

use super::OwnerAddress;
use crate::clock::Clock;
use crate::log::disk::Disk;
use crate::log::meta::LogMeta;
use crate::log::{Partition, Position};
use crate::materializer::first_positions::IndexError;
use crate::materializer::{self, KeepUndecodable, Materializer, Running};
use crate::store::Store;
use crate::telemetry;

/// Until a fold that ended with an error is started again; doubled each time that it fails at once.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A fold that ran for so long has not failed at once.
const RAN_WELL: Duration = Duration::from_secs(60);

/// Orders that may wait for a partition's thread, which may be waiting for the database.
const ORDERS_MAX: usize = 1_024;

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
    pub address: OwnerAddress,
    /// Where records go that cannot be decoded.
    pub undecodable: Arc<dyn KeepUndecodable>,
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
    keepers: Mutex<BTreeMap<u32, Keeper>>,
}

/// The thread of a partition.
struct Keeper {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
    is_owned: bool,
}

enum Order {
    Take,
    /// The sender is dropped when it is done.
    LetGo(Sender<()>),
}

impl Owned {
    /// Owns nothing yet.
    pub fn new(parts: Parts) -> Self {
        Self { shared: Arc::new(Shared { parts, running: RwLock::default(), keepers: Mutex::default() }) }
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
        self.keepers().iter().filter(|(_, keeper)| keeper.is_owned).map(|(partition, _)| *partition).collect()
    }

    /// How far the fold of each partition that runs here has come.
    pub fn folded(&self) -> Vec<(u32, Position)> {
        self.all().into_iter().map(|(partition, fold)| (partition, fold.folded())).collect()
    }

    /// Partitions that are this node's, but of which not everything is folded that was there when it took them.
    pub fn behind(&self) -> Vec<u32> {
        self.partitions().into_iter().filter(|partition| !self.get(*partition).is_some_and(|fold| fold.is_ready())).collect()
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
                keeper.is_owned = true;
                telemetry::begin_owner(*partition);
                // Its thread ends with its keeper.
                let _is_there = keeper.orders.send(Order::Take);
            }
        }
        telemetry::set_owned_partitions(keepers.values().filter(|keeper| keeper.is_owned).count());
    }

    /// From now on these are somebody else's: what has been folded is committed. Waits for that, but not longer than `patience`: who
    /// goes on later finds that somebody else has committed, and changes nothing.
    pub fn let_go(&self, partitions: &[u32], patience: Duration) {
        let mut left = Vec::new();
        {
            let mut keepers = self.keepers();
            for partition in partitions {
                let Some(keeper) = keepers.get_mut(partition) else { continue };
                let (sender, done) = bounded(0);
                keeper.is_owned = false;
                // Its thread ends with its keeper.
                let _is_there = keeper.orders.send(Order::LetGo(sender));
                left.push((*partition, done));
            }
            telemetry::set_owned_partitions(keepers.values().filter(|keeper| keeper.is_owned).count());
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
            drop(keeper.orders);
            // One that hangs in a call to Kafka or the database goes with the process.
            if (keeper.thread.is_finished() || !all.contains(&partition)) && keeper.thread.join().is_err() {
                tracing::error!(partition, "the thread of a partition panicked");
            }
        }
    }

    fn keepers(&self) -> MutexGuard<'_, BTreeMap<u32, Keeper>> {
        // Nothing in there can be half done.
        self.shared.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    fn start(shared: Arc<Shared>, partition: u32) -> std::io::Result<Self> {
        let (orders, given) = bounded(ORDERS_MAX);
        let thread = std::thread::Builder::new().name(format!("owner-{partition}")).spawn(move || keep(&shared, partition, &given))?;
        Ok(Self { orders, thread, is_owned: false })
    }
}

/// What a partition's thread is doing.
struct Fold {
    running: Option<Running>,
    since: Instant,
    /// When it is started again, if it does not run.
    again: Option<Instant>,
    pause: Duration,
}

/// Until the last handle is gone.
fn keep(shared: &Shared, partition: u32, orders: &Receiver<Order>) {
    let mut fold = Fold { running: None, since: Instant::now(), again: None, pause: PAUSE_MIN };
    loop {
        let ended = fold.running.as_ref().map_or_else(never, Running::ended);
        let again = fold.again.map_or_else(never, |at| after(at.saturating_duration_since(Instant::now())));
        select! {
            recv(orders) -> order => match order {
                Ok(Order::Take) if fold.running.is_none() => fold.start(shared, partition),
                Ok(Order::Take) => {}
                Ok(Order::LetGo(_done)) => fold.let_go(shared, partition),
                Err(_) => return fold.let_go(shared, partition),
            },
            recv(ended) -> _ => fold.note_end(shared, partition),
            recv(again) -> _ => fold.start(shared, partition),
        }
    }
}

impl Fold {
    fn start(&mut self, shared: &Shared, partition: u32) {
        self.again = None;
        self.since = Instant::now();
        match start(&shared.parts, partition) {
            Ok((fold, running)) => {
                tracing::info!(partition, position = %fold.folded(), "this node folds the partition");
                shared.running.write().unwrap_or_else(PoisonError::into_inner).insert(partition, fold);
                self.running = Some(running);
            }
            Err(error) => self.fail(partition, &error),
        }
    }

    /// It ended unasked.
    fn note_end(&mut self, shared: &Shared, partition: u32) {
        shared.running.write().unwrap_or_else(PoisonError::into_inner).remove(&partition);
        if let Some(running) = self.running.take() {
            if let Err(error) = running.let_go() {
                return self.fail(partition, &error);
            }
            self.again = Some(Instant::now() + self.pause);
        }
    }

    fn fail(&mut self, partition: u32, error: &materializer::Error) {
        telemetry::count_owner_restart(partition);
        self.pause = if self.since.elapsed() >= RAN_WELL { PAUSE_MIN } else { (self.pause * 2).min(PAUSE_MAX) };
        tracing::error!(partition, %error, again_in = ?self.pause, "the fold of a partition ended; nothing is lost, it goes on from its last commit");
        self.again = Some(Instant::now() + self.pause);
    }

    fn let_go(&mut self, shared: &Shared, partition: u32) {
        shared.running.write().unwrap_or_else(PoisonError::into_inner).remove(&partition);
        (self.again, self.pause) = (None, PAUSE_MIN);
        let Some(running) = self.running.take() else { return };
        let ended = running.let_go();
        // Whoever folds it now says how far it is behind.
        telemetry::set_lag(partition, 0, 0.0);
        telemetry::set_uncommitted(partition, 0);
        match ended {
            Ok(()) => tracing::info!(partition, "this node has let go of the partition"),
            Err(error) => tracing::warn!(partition, %error, "the last commit of a partition was not made; whoever goes on folds it again"),
        }
    }
}

fn start(parts: &Parts, partition: u32) -> Result<(Materializer, Running), materializer::Error> {
    let log = parts.log[partition as usize].clone();
    // What is ready is said of what was there now, not when this process began.
    log.newest_end()?;
    (parts.check)(partition)?;
    parts.address.write(&*parts.store, partition)?;
    let index_dir = parts.index_dir.join(partition.to_string());
    let failed = |error: std::io::Error| IndexError::Io(format!("{}: {error}", index_dir.display()));
    parts.disk.create_dir(&index_dir).map_err(failed)?;
    Materializer::start(materializer::Parts {
        log,
        meta: parts.meta,
        store: parts.store.clone(),
        disk: parts.disk.clone(),
        index_dir,
        clock: parts.clock.clone(),
        commit_interval: materializer::commit_interval(),
        bases: None,
        undecodable: Some(parts.undecodable.clone()),
    })
}
