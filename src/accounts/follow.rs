//! Keeps the book up to date where other nodes change accounts and keys, too.
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

use super::book::State;

/// Between two looks at the latest: a revoked key has to stop within a second, whatever is heard.
const POLL: Duration = Duration::from_millis(500);
/// Between the begins of two looks at the soonest.
const PACE: Duration = Duration::from_millis(10);
/// How long a request waits for a look. Past it, its key is unknown.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Lets requests wait for a look that begins after they came.
pub(super) struct Asking {
    asked: Arc<AtomicU64>,
    wake: Sender<()>,
    /// The last of those who asked before the latest look that has ended.
    looked: watch::Receiver<u64>,
}

impl Asking {
    /// Waits until all is known that was changed before.
    pub(super) async fn look(&self) {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        // If it is full, the thread has not looked yet how many ask.
        _ = self.wake.try_send(());
        let mut looked = self.looked.clone();
        // Nobody looks any more, or not in time: what is known has to do.
        drop(tokio::time::timeout(WAIT_MAX, looked.wait_for(|looked| *looked >= number)).await);
    }
}

/// The thread, before it begins.
pub(super) struct Follower {
    heard: Receiver<()>,
    asked: Arc<AtomicU64>,
    woken: Receiver<()>,
    looked: watch::Sender<u64>,
}

impl Follower {
    pub(super) fn new(heard: Receiver<()>) -> (Self, Asking) {
        let asked = Arc::new(AtomicU64::new(0));
        let (wake, woken) = bounded(1);
        let (looked, looks) = watch::channel(0);
        (Self { heard, asked: asked.clone(), woken, looked }, Asking { asked, wake, looked: looks })
    }

    /// Follows for as long as there is somebody who has the accounts.
    pub(super) fn start(self, state: &Arc<State>) -> std::io::Result<()> {
        let state = Arc::downgrade(state);
        std::thread::Builder::new().name("accounts".into()).spawn(move || self.run(&state)).map(drop)
    }

    fn run(self, state: &Weak<State>) {
        let mut is_lost = false;
        loop {
            select! {
                // The store has gone, and with it all that could change.
                recv(self.heard) -> heard => if heard.is_err() { return },
                recv(self.woken) -> woken => if woken.is_err() { return },
                default(POLL) => {}
            }
            let began = Instant::now();
            let Some(state) = state.upgrade() else { return };
            let asked = self.asked.load(Ordering::SeqCst);
            match state.catch_up() {
                Ok(()) if is_lost => {
                    is_lost = false;
                    tracing::info!("accounts and keys are followed again");
                }
                Ok(()) => {}
                Err(error) if !is_lost => {
                    is_lost = true;
                    tracing::warn!(%error, "accounts and keys cannot be followed; those that are known are let in");
                }
                Err(_) => {}
            }
            drop(state);
            self.looked.send_replace(asked);
            std::thread::sleep(PACE.saturating_sub(began.elapsed()));
        }
    }
}

#[cfg(test)]
mod tests;
