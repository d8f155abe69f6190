//! How far the store's rows go, as far as this process knows; asked for while somebody waits.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select};
use tokio::sync::watch;

use super::still;
use crate::log::Position;
use crate::store;
use crate::store::postgres::{Heard, PostgresStore};

/// Until the store is asked for the first time while somebody waits; doubled each time, up to the other.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// What is known. It may be behind the store, never ahead of it.
pub(super) struct Standing {
    store: Arc<PostgresStore>,
    /// The next position of each partition.
    progress: watch::Sender<Vec<Position>>,
    awaited: Mutex<Awaited>,
    wake: Sender<()>,
    woken: Receiver<()>,
}

/// What somebody waits for.
struct Awaited {
    /// How many wait.
    waiting: usize,
    /// The furthest of all that was waited for.
    ends: Vec<Position>,
}

impl Standing {
    /// Nothing is known yet.
    pub(super) fn new(store: Arc<PostgresStore>, partitions: usize) -> Self {
        let (wake, woken) = bounded(1);
        let nothing = vec![Position(0); partitions];
        let awaited = Mutex::new(Awaited { waiting: 0, ends: nothing.clone() });
        Self { store, progress: watch::Sender::new(nothing), awaited, wake, woken }
    }

    /// Hears of commits, for as long as somebody keeps this.
    pub(super) fn listen(self: Arc<Self>) {
        let store = self.store.clone();
        let standing = Arc::downgrade(&self);
        drop(self);
        store.listen(move |heard| {
            if let Some(standing) = standing.upgrade() {
                match heard {
                    Heard::Progress(partition, position) => standing.note([(partition, position)]),
                    Heard::Missed => standing.look_soon(),
                    Heard::Documents | Heard::Wish(..) => {}
                }
            }
            still(&standing)
        });
    }

    fn look_soon(&self) {
        // If it is woken already, that does for this too.
        let (Ok(()) | Err(_)) = self.wake.try_send(());
    }

    fn note(&self, found: impl IntoIterator<Item = (u32, Position)>) {
        self.progress.send_if_modified(|known| {
            let mut is_further = false;
            for (partition, position) in found {
                if let Some(known) = known.get_mut(partition as usize)
                    && *known < position
                {
                    *known = position;
                    is_further = true;
                }
            }
            is_further
        });
    }

    /// Wishes of the owners of all partitions that are not as far yet that they commit.
    ///
    /// # Errors
    /// [`store::Error`].
    pub(super) fn wish(&self, ends: &[Position]) -> Result<(), store::Error> {
        if reaches(&self.progress.borrow(), ends) {
            return Ok(());
        }
        self.note(self.store.progress()?.into_iter().map(|(partition, progress)| (partition, progress.next)));
        let wishes = behind(&self.progress.borrow(), ends);
        if wishes.is_empty() { Ok(()) } else { self.store.wish(&wishes) }
    }

    /// Waits until the rows go that far. Dropping the future is fine.
    pub(super) async fn passed(&self, ends: &[Position]) {
        let mut progress = self.progress.subscribe();
        if reaches(&progress.borrow_and_update(), ends) {
            return;
        }
        let _waiting = Waiting::begin(self, ends);
        // The sender lives as long as this.
        drop(progress.wait_for(|known| reaches(known, ends)).await);
    }

    fn awaited(&self) -> MutexGuard<'_, Awaited> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is waited for now; `None`: nobody waits.
    fn ends_awaited(&self) -> Option<Vec<Position>> {
        let awaited = self.awaited();
        (awaited.waiting > 0).then(|| awaited.ends.clone())
    }
}

fn reaches(known: &[Position], ends: &[Position]) -> bool {
    known.iter().zip(ends).all(|(known, end)| known >= end)
}

fn behind(known: &[Position], ends: &[Position]) -> Vec<(u32, Position)> {
    let all = (0..).zip(known.iter().zip(ends));
    all.filter(|(_, (known, end))| known < end).map(|(partition, (_, end))| (partition, *end)).collect()
}

/// Somebody waits, until this is dropped.
struct Waiting<'s>(&'s Standing);

impl<'s> Waiting<'s> {
    fn begin(standing: &'s Standing, ends: &[Position]) -> Self {
        let mut awaited = standing.awaited();
        awaited.waiting += 1;
        let is_first = awaited.waiting == 1;
        awaited.ends.iter_mut().zip(ends).for_each(|(awaited, end)| *awaited = (*awaited).max(*end));
        drop(awaited);
        if is_first {
            standing.look_soon();
        }
        Self(standing)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.awaited().waiting -= 1;
    }
}

/// The thread that asks the store while somebody waits; it ends when this is dropped.
pub(super) struct Looking {
    _stop: Sender<()>,
}

impl Looking {
    pub(super) fn start(standing: Arc<Standing>) -> io::Result<Self> {
        let (stop, stopping) = bounded(0);
        std::thread::Builder::new().name("progress".into()).spawn(move || run(&standing, &stopping))?;
        Ok(Self { _stop: stop })
    }
}

fn run(standing: &Standing, stopping: &Receiver<()>) {
    let mut pause = None;
    loop {
        let timer = pause.map_or_else(never, after);
        select! {
            recv(stopping) -> _ => return,
            recv(standing.woken) -> _ => pause = Some(PAUSE_MIN),
            recv(timer) -> _ => pause = look(standing).and(pause).map(|pause| PAUSE_MAX.min(2 * pause)),
        }
    }
}

/// Asks the store, and wishes again what it does not have yet: whoever owns it may not have heard. `None`: nobody waits.
fn look(standing: &Standing) -> Option<()> {
    let ends = standing.ends_awaited()?;
    if let Err(error) = standing.wish(&ends) {
        tracing::debug!(%error, "how far the rows go is not known now");
    }
    Some(())
}
