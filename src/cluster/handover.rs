//! How a partition's dedup index goes from the node that had it to the one that has it now.
//!
//! An index is derived from the log, so a node that takes a partition can always read it from there; that is weeks of log, maybe. Its files
//! never change once they are written, so they can as well be had from whoever has them ([`Lending`]): the last owners, whose addresses stand with
//! the partition. They give what they have, whether they fold the partition still (as a zombie does), have let go of it, or were started
//! again since: an index is right whoever made it, and may be ahead of the rows (`design.md`, promise 5). What it does not cover is read
//! from the log, before the first verdict, as after any start.
//!
//! Whoever takes the partition ([`Handover`]) asks only if reading would take longer than asking, and takes the index only if that is faster than
//! reading: see [`Costs`]. It is stopped when it takes longer than reading would have; whatever goes wrong, the log is read.
//!
//! # On the wire
//!
//! ```text
//! GET /internal/v1/partitions/{partition}/index      with the secret of the nodes
//!
//! 200   "TGIDX001", u32 bytes of the head, the head, u32 CRC-32C of the head; then the runs, whole, in the manifest's order. Little-endian.
//!       head: {"partition": 3, "manifest": "…", "sizes": [43456, …]}
//! 401   without the secret
//! 404   there is none here
//! 503   too many are given at the moment, or it cannot be read
//! ```
//!
//! The files are opened before the head is sent, so what is merged meanwhile is given all the same. Runs have checksums of their own, and every
//! entry is looked at before the index is used ([`crate::materializer::first_positions::copy`]).

mod costs;
mod fetch;
mod lend;
mod taking;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::fetch::Peers;
use super::secret::NodeSecret;
use crate::materializer::Shares;

pub use costs::Costs;
pub use lend::Lending;
pub(super) use taking::Now;

/// Indexes that are fetched at a time: they share network and disk, and a filter of each is in memory twice while it is checked.
const FETCHED_MAX: usize = 2;

/// What this node takes partitions over with. Cheap to clone.
#[derive(Clone)]
pub struct Handover {
    shared: Arc<Shared>,
}

struct Shared {
    peers: Peers,
    runtime: Handle,
    turns: Semaphore,
    shares: Shares,
    costs: Costs,
}

impl Handover {
    /// `runtime`: where connections to other nodes live. `shares`: what the partitions of this node share.
    pub fn new(secret: NodeSecret, runtime: Handle, shares: Shares, costs: Costs) -> Self {
        let (peers, turns) = (Peers::new(secret), Semaphore::new(FETCHED_MAX));
        Self { shared: Arc::new(Shared { peers, runtime, turns, shares, costs }) }
    }
}
