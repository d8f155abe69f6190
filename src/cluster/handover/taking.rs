//! A partition that is being taken: whose index is fetched, and how it went.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::{timeout, timeout_at};

use super::fetch::{Failed, Offered, SILENCE_MAX};
use super::{Handover, Shared};
use crate::cluster::NodeAddress;
use crate::log::Partition;
use crate::materializer::Shares;
use crate::materializer::first_positions::IndexError;
use crate::materializer::first_positions::copy::{Incoming, Wanted};
use crate::materializer::{CaughtUp, Error, IndexPlace, IndexStanding, Taking};
use crate::telemetry::handover::{self as telemetry, NotFetched, TakenHow};

/// How long a node may take to say what it has: half of what reading the log takes, but within these.
const HEAD_MIN: Duration = Duration::from_millis(500);
const HEAD_MAX: Duration = Duration::from_secs(3);
/// How often it is looked whether the partition is wanted still.
const LOOK: Duration = Duration::from_millis(100);
/// What a disk has left behind an index that was fetched, at least.
const FREE_BYTES_MIN: u64 = 64 << 20;

/// When a partition became this node's, and whether it still is.
#[derive(Clone)]
pub(in crate::cluster) struct Now {
    pub(in crate::cluster) began: Instant,
    pub(in crate::cluster) is_wanted: Arc<AtomicBool>,
}

/// A partition that this node takes.
pub(in crate::cluster) struct TakingOver {
    handover: Handover,
    log: Arc<dyn Partition>,
    /// Who had it before, newest first.
    before: Vec<NodeAddress>,
    now: Now,
    /// The node whose index was put to use.
    fetched_from: Option<String>,
}

/// The partition is not to be taken any more.
struct Unwanted;

impl Handover {
    /// A partition that this node takes from those who had it before, newest first.
    pub(in crate::cluster) fn taking(&self, log: Arc<dyn Partition>, before: Vec<NodeAddress>, now: Now) -> TakingOver {
        TakingOver { handover: self.clone(), log, before, now, fetched_from: None }
    }
}

impl Taking for TakingOver {
    fn shares(&self) -> Shares {
        self.handover.shared.shares.clone()
    }

    fn is_index_wanted(&self, standing: &IndexStanding) -> bool {
        !self.before.is_empty() && self.handover.shared.costs.are_worth_asking(standing)
    }

    fn find_index(&mut self, place: &IndexPlace<'_>, standing: &IndexStanding) -> Result<bool, Error> {
        let shared = self.handover.shared.clone();
        let found = shared.runtime.block_on(self.fetch(&shared, place, standing)).map_err(|Unwanted| Error::Stopped)?;
        self.fetched_from = found;
        // It may have come from a node that knows of more.
        self.log.newest_end()?;
        Ok(self.fetched_from.is_some())
    }

    fn caught_up(&mut self, CaughtUp { from, to, took }: CaughtUp) {
        let how = match (&self.fetched_from, from.0, to.0) {
            (Some(_), ..) => TakenHow::Fetched,
            (None, _, 0) => TakenHow::New,
            (None, 0, _) => TakenHow::Read,
            (None, ..) => TakenHow::Resumed,
        };
        let all = self.now.began.elapsed();
        telemetry::observe_taken(how, all);
        tracing::info!(
            partition = self.log.number(),
            how = how.label(),
            from_node = self.fetched_from.as_deref().unwrap_or("-"),
            seconds = all.as_secs_f64(),
            records_read = to.0.saturating_sub(from.0),
            seconds_reading = took.as_secs_f64(),
            "a partition was taken"
        );
    }
}

/// The one of several offers that is fastest.
struct Best {
    /// Of the node among those that were asked.
    at: usize,
    offered: Offered,
    cost: u64,
}

impl TakingOver {
    /// The name of the node whose index is in its place now; `None`: the log is to be read.
    async fn fetch(&self, shared: &Shared, place: &IndexPlace<'_>, standing: &IndexStanding) -> Result<Option<String>, Unwanted> {
        let deadline = Instant::now() + shared.costs.patience(standing);
        let _turn = self.while_wanted(shared.turns.acquire()).await?;
        let mut nodes = self.before.clone();
        while Instant::now() < deadline {
            let Some(Best { at, offered, .. }) = self.best(shared, &mut nodes, place, standing).await? else { break };
            let node = nodes.remove(at);
            let (runs, bytes, covered) = (offered.offer.runs(), offered.offer.bytes(), offered.offer.covered());
            tracing::info!(partition = self.log.number(), node = node.node, runs, bytes, %covered, "the dedup index is fetched from another node");
            match self.transfer(offered, place, deadline).await? {
                Ok(()) => {
                    telemetry::count_fetched_files(runs as u64);
                    return Ok(Some(node.node));
                }
                Err(failed) => self.report(&node, &failed),
            }
        }
        Ok(None)
    }

    /// The offer that is fastest, if it is faster than reading the log. Takes those out of `nodes` that offer nothing.
    async fn best(
        &self,
        shared: &Shared,
        nodes: &mut Vec<NodeAddress>,
        place: &IndexPlace<'_>,
        standing: &IndexStanding,
    ) -> Result<Option<Best>, Unwanted> {
        let wanted = Wanted { log_id: place.log_id, horizon_ms: place.horizon_ms, committed: standing.committed.log_time };
        let patience = Duration::from_nanos(shared.costs.of_reading(standing) / 2).clamp(HEAD_MIN, HEAD_MAX);
        let ask = |node: &NodeAddress| {
            let node = node.clone();
            async move { timeout(patience, shared.peers.ask(&node, self.log.number(), &wanted)).await }
        };
        let answers = self.while_wanted(join_all(nodes.iter().map(ask))).await?;
        // Not before: they may know of more than this node did.
        let Ok(end) = self.log.newest_end() else { return Ok(None) };
        let reading = shared.costs.of_reading(standing);
        let mut best: Option<Best> = None;
        let mut answering = Vec::new();
        for (node, answer) in std::mem::take(nodes).into_iter().zip(answers) {
            match answer.unwrap_or_else(|_| Err(Failed::new(NotFetched::Unreachable, format!("no answer within {patience:?}")))) {
                Ok(Some(offered)) if !offered.offer.fits(end) => {
                    let what = format!("it covers the log up to {}, which ends at {end}", offered.offer.covered());
                    self.report(&node, &Failed::new(NotFetched::Damaged, what));
                }
                Ok(Some(offered)) => {
                    let cost = shared.costs.of_fetching(standing, &offered.offer);
                    if let Some(cost) = cost.filter(|cost| *cost < best.as_ref().map_or(reading, |best| best.cost)) {
                        best = Some(Best { at: answering.len(), offered, cost });
                    }
                    answering.push(node);
                }
                Ok(None) => {}
                Err(failed) => self.report(&node, &failed),
            }
        }
        *nodes = answering;
        Ok(best)
    }

    /// Writes what comes, checks it, puts it to use.
    async fn transfer(&self, mut offered: Offered, place: &IndexPlace<'_>, deadline: Instant) -> Result<Result<(), Failed>, Unwanted> {
        let free = place.disk.free_bytes(place.dir).unwrap_or(u64::MAX);
        let bytes = offered.offer.bytes();
        if free < bytes.saturating_add(FREE_BYTES_MIN) {
            return Ok(Err(Failed::new(NotFetched::Disk, format!("{bytes} bytes are too many for the {free} that the disk has left"))));
        }
        let mut incoming = match Incoming::begin(place.disk, place.dir, offered.offer.clone()) {
            Ok(incoming) => incoming,
            Err(error) => return Ok(Err(written(&error))),
        };
        loop {
            let until = deadline.min(Instant::now() + SILENCE_MAX);
            let piece = match self.while_wanted(timeout_at(until.into(), offered.next())).await? {
                Ok(Ok(Some(piece))) => piece,
                Ok(Ok(None)) => break,
                Ok(Err(failed)) => return Ok(Err(failed)),
                Err(_) => return Ok(Err(Failed::new(NotFetched::Cut, "nothing comes any more, or reading the log is faster"))),
            };
            telemetry::count_fetched_bytes(piece.len() as u64);
            if let Err(error) = incoming.write(&piece) {
                return Ok(Err(written(&error)));
            }
        }
        // Another node can have the turn.
        drop(offered);
        let installed = incoming.install(&|| self.is_wanted());
        if !self.is_wanted() {
            return Err(Unwanted);
        }
        Ok(installed.map_err(|error| written(&error)))
    }

    fn is_wanted(&self) -> bool {
        self.now.is_wanted.load(Ordering::Acquire)
    }

    async fn while_wanted<T>(&self, work: impl Future<Output = T>) -> Result<T, Unwanted> {
        tokio::pin!(work);
        loop {
            match timeout(LOOK, &mut work).await {
                Ok(done) => return Ok(done),
                Err(_) if self.is_wanted() => {}
                Err(_) => return Err(Unwanted),
            }
        }
    }

    fn report(&self, node: &NodeAddress, failed: &Failed) {
        telemetry::count_not_fetched(failed.reason);
        let (partition, reason, what) = (self.log.number(), failed.reason.label(), &failed.what);
        tracing::warn!(partition, node = node.node, reason, what, "the dedup index does not come from this node");
    }
}

fn written(error: &IndexError) -> Failed {
    let reason = match error {
        IndexError::Io(_) => NotFetched::Disk,
        IndexError::Damaged(_) => NotFetched::Damaged,
    };
    Failed::new(reason, error)
}
