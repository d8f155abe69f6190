//! Keeps a copy up to date where other nodes change shared documents, too.
//!
//! One thread looks what changed: when the store says that something did, when a request brings a key that is not known here, and every
//! [`POLL`], as what the store says may be lost. A look that finds nothing new is one small query, whoever and how many wait for it, and
//! there are at most some a second ([`PACE`]). So a flood of wrong keys is a flood of neither queries nor memory: what it gets is
//! its answers a little later.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};
use tokio::sync::watch;

use super::{Content, Replica};

/// Between two looks at the latest: a revoked key has to stop within a second, whatever is heard.
pub const POLL: Duration = Duration::from_millis(500);
/// Between the begins of two looks at the soonest.
pub const PACE: Duration = Duration::from_millis(10);
/// How long a request waits for a look. Past it, its key is unknown.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Lets requests wait for a look that begins after they came.
pub struct Asking {
    asked: Arc<AtomicU64>,
    wake: Sender<()>,
    /// The last of those who asked before the latest look that has ended.
    looked: watch::Receiver<u64>,
}

impl Asking {
    /// Waits until all is known that was changed before.
    pub async fn look(&self) {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        // If it is full, the thread has not looked yet how many ask.
        _ = self.wake.try_send(());
        let mut looked = self.looked.clone();
        // Nobody looks any more, or not in time: what is known has to do.
        drop(tokio::time::timeout(WAIT_MAX, looked.wait_for(|looked| *looked >= number)).await);
    }
}

/// The thread, before it begins. It ends when nobody can ask it any more.
pub struct Follower {
    heard: Receiver<()>,
    asked: Arc<AtomicU64>,
    woken: Receiver<()>,
    looked: watch::Sender<u64>,
}

impl Follower {
    /// Hears from a store ([`crate::store::Store::watch`]), and from whoever asks.
    pub fn new(heard: Receiver<()>) -> (Self, Asking) {
        let asked = Arc::new(AtomicU64::new(0));
        let (wake, woken) = bounded(1);
        let (looked, looks) = watch::channel(0);
        (Self { heard, asked: asked.clone(), woken, looked }, Asking { asked, wake, looked: looks })
    }

    /// Follows for as long as there is somebody who has the copy.
    pub(super) fn start<C: Content>(self, replica: &Arc<Replica<C>>) -> std::io::Result<()> {
        let replica = Arc::downgrade(replica);
        std::thread::Builder::new().name("follower".into()).spawn(move || self.run(&replica)).map(drop)
    }

    fn run<C: Content>(self, replica: &Weak<Replica<C>>) {
        let mut is_lost = false;
        loop {
            select! {
                // The store has gone, and with it all that could change.
                recv(self.heard) -> heard => if heard.is_err() { return },
                recv(self.woken) -> woken => if woken.is_err() { return },
                default(POLL) => {}
            }
            let began = Instant::now();
            let Some(replica) = replica.upgrade() else { return };
            let asked = self.asked.load(Ordering::SeqCst);
            match replica.catch_up() {
                Ok(()) if is_lost => {
                    is_lost = false;
                    tracing::info!("{} are followed again", C::NAME);
                }
                Ok(()) => {}
                Err(error) if !is_lost => {
                    is_lost = true;
                    tracing::warn!(%error, "{} cannot be followed; what is known holds", C::NAME);
                }
                Err(_) => {}
            }
            drop(replica);
            self.looked.send_replace(asked);
            std::thread::sleep(PACE.saturating_sub(began.elapsed()));
        }
    }
}
