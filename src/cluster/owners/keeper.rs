//! The thread of a partition: folds it while it is this node's, and looks after its files when it is not.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select};

use super::{Parts, Shared};
use crate::cluster::OwnerAddress;
use crate::cluster::handover::Now;
use crate::log::disk::Disk;
use crate::materializer::first_positions::{self, IndexError};
use crate::materializer::{self, Materializer, Running};
use crate::telemetry;

/// Until a fold that ended with an error is started again; doubled each time that it fails at once.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A fold that ran for so long has not failed at once.
const RAN_WELL: Duration = Duration::from_secs(60);
/// How often it is looked whether files are to be removed.
const LOOK: Duration = Duration::from_secs(60);
/// With less room on the disk, files go that are not this node's any more.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// Orders that may wait for a partition's thread, which may be waiting for the database.
const ORDERS_MAX: usize = 1_024;

/// A handle to the thread.
pub(super) struct Keeper {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
    is_owned: Arc<AtomicBool>,
}

enum Order {
    Take,
    /// The sender is dropped when it is done.
    LetGo(Sender<()>),
}

impl Keeper {
    /// The partition is somebody else's at first.
    pub(super) fn start(shared: Arc<Shared>, partition: u32) -> std::io::Result<Self> {
        let (orders, given) = bounded(ORDERS_MAX);
        let is_owned = Arc::<AtomicBool>::default();
        let wanted = is_owned.clone();
        let thread = thread::Builder::new().name(format!("owner-{partition}")).spawn(move || keep(&shared, partition, &wanted, &given))?;
        Ok(Self { orders, thread, is_owned })
    }

    pub(super) fn is_owned(&self) -> bool {
        self.is_owned.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) {
        self.is_owned.store(true, Ordering::Release);
        // Its thread ends with its keeper.
        let _is_there = self.orders.send(Order::Take);
    }

    /// Disconnected when it is done; nothing is ever sent.
    pub(super) fn let_go(&self) -> Receiver<()> {
        let (sender, done) = bounded(0);
        self.is_owned.store(false, Ordering::Release);
        // Its thread ends with its keeper.
        let _is_there = self.orders.send(Order::LetGo(sender));
        done
    }

    /// Ends the thread; does not wait for one that is still doing something, unless `is_idle`.
    pub(super) fn end(self, is_idle: bool) -> thread::Result<()> {
        drop(self.orders);
        if self.thread.is_finished() || is_idle { self.thread.join() } else { Ok(()) }
    }
}

/// What a partition's thread is doing.
struct Fold<'s> {
    shared: &'s Shared,
    partition: u32,
    is_wanted: &'s Arc<AtomicBool>,
    running: Option<Running>,
    since: Instant,
    /// When it is started again, if it does not run.
    again: Option<Instant>,
    pause: Duration,
    /// Since when files lie there that are for others; `None`: there are none, or they are its own.
    left: Option<Instant>,
}

/// Until the last handle is gone.
fn keep(shared: &Shared, partition: u32, is_wanted: &Arc<AtomicBool>, orders: &Receiver<Order>) {
    let now = Instant::now();
    let mut fold = Fold { shared, partition, is_wanted, running: None, since: now, again: None, pause: PAUSE_MIN, left: Some(now) };
    loop {
        let ended = fold.running.as_ref().map_or_else(never, Running::ended);
        let again = fold.again.map_or_else(never, |at| after(at.saturating_duration_since(Instant::now())));
        let look = fold.left.map_or_else(never, |_| after(LOOK.min(shared.parts.kept)));
        select! {
            recv(orders) -> order => match order {
                Ok(Order::Take) if fold.running.is_none() => fold.start(),
                Ok(Order::Take) => {}
                Ok(Order::LetGo(_done)) => fold.let_go(),
                Err(_) => return fold.let_go(),
            },
            recv(ended) -> _ => fold.note_end(),
            recv(again) -> _ => fold.start(),
            recv(look) -> _ => fold.remove_files_if_due(),
        }
    }
}

impl Fold<'_> {
    fn start(&mut self) {
        (self.again, self.left) = (None, None);
        self.since = Instant::now();
        self.shared.taken().insert(self.partition);
        let started = start(&self.shared.parts, self.partition, Now { began: self.since, is_wanted: self.is_wanted.clone() });
        self.shared.taken().remove(&self.partition);
        match started {
            Ok((fold, running)) => {
                tracing::info!(partition = self.partition, position = %fold.folded(), "this node folds the partition");
                self.shared.running.write().unwrap_or_else(PoisonError::into_inner).insert(self.partition, fold);
                self.running = Some(running);
            }
            // The order to let go comes next.
            Err(materializer::Error::Stopped) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// It ended unasked.
    fn note_end(&mut self) {
        self.shared.running.write().unwrap_or_else(PoisonError::into_inner).remove(&self.partition);
        if let Some(running) = self.running.take() {
            if let Err(error) = running.let_go() {
                return self.fail(&error);
            }
            self.again = Some(Instant::now() + self.pause);
        }
    }

    fn fail(&mut self, error: &materializer::Error) {
        telemetry::count_owner_restart(self.partition);
        self.pause = if self.since.elapsed() >= RAN_WELL { PAUSE_MIN } else { (self.pause * 2).min(PAUSE_MAX) };
        let (partition, again_in) = (self.partition, self.pause);
        tracing::error!(partition, %error, ?again_in, "the fold of a partition ended; nothing is lost, it goes on from its last commit");
        self.again = Some(Instant::now() + self.pause);
    }

    fn let_go(&mut self) {
        self.shared.running.write().unwrap_or_else(PoisonError::into_inner).remove(&self.partition);
        (self.again, self.pause) = (None, PAUSE_MIN);
        self.left = self.left.or(Some(Instant::now()));
        let Some(running) = self.running.take() else { return };
        let ended = running.let_go();
        let partition = self.partition;
        // Whoever folds it now says how far it is behind.
        telemetry::set_lag(partition, 0, 0.0);
        telemetry::set_uncommitted(partition, 0);
        telemetry::set_fold_sizes(partition, 0, 0, 0);
        match ended {
            Ok(()) => tracing::info!(partition, "this node has let go of the partition"),
            Err(error) => tracing::warn!(partition, %error, "the last commit of a partition was not made; whoever goes on folds it again"),
        }
    }

    /// Nobody asks for the files any more, or their room is wanted.
    fn remove_files_if_due(&mut self) {
        let Parts { disk, index_dir, kept, .. } = &self.shared.parts;
        let free = disk.free_bytes(index_dir).unwrap_or(u64::MAX);
        if free >= FREE_BYTES_MIN && self.left.is_some_and(|since| since.elapsed() < *kept) {
            return;
        }
        let partition = self.partition;
        match remove_files(&**disk, &index_dir.join(partition.to_string())) {
            Ok(0) => self.left = None,
            Ok(files) => {
                tracing::info!(partition, files, "the dedup index of a partition that is another node's was removed");
                self.left = None;
            }
            Err(error) => tracing::warn!(partition, %error, "the dedup index of a partition that is another node's cannot be removed"),
        }
    }
}

/// How many there were.
fn remove_files(disk: &dyn Disk, dir: &std::path::Path) -> std::io::Result<usize> {
    match first_positions::remove_index(disk, dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        removed => removed,
    }
}

fn start(parts: &Parts, partition: u32, now: Now) -> Result<(Materializer, Running), materializer::Error> {
    let log = parts.log[partition as usize].clone();
    // What is ready is said of what was there now, not when this process began.
    log.newest_end()?;
    (parts.check)(partition)?;
    let before = OwnerAddress::take(&parts.address, &*parts.store, partition)?.before;
    let index_dir = parts.index_dir.join(partition.to_string());
    let failed = |error: std::io::Error| IndexError::Io(format!("{}: {error}", index_dir.display()));
    parts.disk.create_dir(&index_dir).map_err(failed)?;
    let taking = parts.handover.taking(log.clone(), before, now);
    let parts = materializer::Parts {
        log,
        meta: parts.meta,
        store: parts.store.clone(),
        disk: parts.disk.clone(),
        index_dir,
        clock: parts.clock.clone(),
        commit_interval: materializer::commit_interval(),
        bases: None,
        undecodable: Some(parts.undecodable.clone()),
    };
    Materializer::take(parts, taking)
}
