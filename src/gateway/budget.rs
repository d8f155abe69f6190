//! Bytes in flight: room is taken before a body is read and given back when its events are durable (`design.md`,
//! promise 10). Whoever finds none waits in line, for a bounded time.
//!
//! Room is one word: the free bytes, and whether somebody waits. While nobody does, taking and giving back are one atomic
//! operation each, and two on the key's own count. As soon as somebody waits, everybody joins the line, and whoever gives room back
//! hands it on under the line's lock: to the key that holds least. So a key that floods waits behind its own requests, not in
//! front of the others', whether it sends many small bodies, few large ones, or some that never end.
//!
//! What a waiting request has in memory is its head and what the socket had in one read; its body stays with the client.

mod line;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use crate::accounts::Share;
use crate::telemetry::{self, RoomKind};
use line::{Line, Ticket};

/// A body of any size takes at least so much: requests cost memory beside their bytes.
pub const ROOM_BYTES_MIN: usize = 4 << 10;
/// Set in the word while somebody waits.
const WAITING: u64 = 1 << 63;

/// The bytes that requests may hold at a time.
#[derive(Clone)]
pub struct Budget(Arc<Shared>);

struct Shared {
    kind: RoomKind,
    /// Free bytes, and [`WAITING`].
    word: AtomicU64,
    limit: usize,
    /// What one key may hold, but for a single request of any size.
    share_max: usize,
    wait: Duration,
    line: Mutex<Line<oneshot::Sender<()>>>,
}

/// Room for one request, given back on drop.
pub struct Room {
    bytes: usize,
    share: Arc<Share>,
    budget: Arc<Shared>,
}

/// Why there was no room; nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// None for as long as a request may wait.
    #[error("too many bytes in flight")]
    Late,
    /// Too many requests wait already, of all or of the key.
    #[error("too many requests wait")]
    LineFull,
    /// A body turned out to be longer than the room that was taken for it, and there was no more.
    #[error("too many bytes in flight")]
    Growing,
}

impl NoRoom {
    /// As it stands in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::LineFull => "line_full",
            Self::Growing => "growing",
        }
    }
}

impl Budget {
    /// A budget of `limit` bytes; a request waits up to `wait` for its part. One key holds at most three quarters of it,
    /// so that there is always some for another one.
    pub fn new(kind: RoomKind, limit: usize, wait: Duration) -> Self {
        let line = Mutex::new(Line::default());
        Self(Arc::new(Shared { kind, word: AtomicU64::new(limit as u64), limit, share_max: limit / 4 * 3, wait, line }))
    }

    /// Takes room for `bytes`. Dropping the future takes the request out of the line.
    ///
    /// # Errors
    /// [`NoRoom::Late`] after the wait, [`NoRoom::LineFull`] at once.
    pub async fn reserve(&self, share: &Arc<Share>, bytes: usize) -> Result<Room, NoRoom> {
        let bytes = bytes.max(ROOM_BYTES_MIN).min(self.0.limit);
        if !self.0.take_at_once(share, bytes) {
            self.wait_for(share, bytes).await.inspect_err(|no_room| telemetry::count_no_room(self.0.kind, no_room.label()))?;
        }
        Ok(Room { bytes, share: share.clone(), budget: self.0.clone() })
    }

    async fn wait_for(&self, share: &Arc<Share>, bytes: usize) -> Result<(), NoRoom> {
        let began = Instant::now();
        let (mut place, granted) = Place::take(&self.0, share, bytes)?;
        // The sender is in the line, or has said that there is room.
        let is_granted = timeout(self.0.wait, granted).await.is_ok_and(|granted| granted.is_ok());
        telemetry::observe_room_wait(self.0.kind, began.elapsed());
        if is_granted {
            place.is_used = true;
            Ok(())
        } else {
            Err(NoRoom::Late)
        }
    }

    /// Requests that may hold room at a time.
    pub fn requests_max(&self) -> usize {
        self.0.limit.div_ceil(ROOM_BYTES_MIN)
    }

    /// Bytes that are taken now.
    pub fn taken(&self) -> usize {
        self.0.limit - free(self.0.word.load(Ordering::Acquire))
    }

    /// Requests that wait now.
    pub fn waiting(&self) -> usize {
        self.0.line().len()
    }

    /// Sets the metrics; called when they are read, as each request changes them twice.
    pub fn report(&self) {
        telemetry::set_in_flight(self.0.kind, self.taken(), self.0.limit, self.waiting());
    }
}

fn free(word: u64) -> usize {
    (word & !WAITING) as usize
}

impl Shared {
    /// The way of nearly all requests: nobody waits, and there is room.
    fn take_at_once(&self, share: &Share, bytes: usize) -> bool {
        let take = |word: u64| (word & WAITING == 0 && free(word) >= bytes).then(|| word - bytes as u64);
        if self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_err() {
            return false;
        }
        let held = share.add(bytes);
        let is_allowed = held == 0 || held + bytes <= self.share_max;
        if !is_allowed {
            self.give_back(share, bytes);
        }
        is_allowed
    }

    /// Takes room for somebody in the line, or for somebody who has some already: those who wait do not count.
    fn take(&self, bytes: usize) -> bool {
        let take = |word: u64| (free(word) >= bytes).then(|| word - bytes as u64);
        self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    fn give_back(&self, share: &Share, bytes: usize) {
        // In this order: whoever sees the room also sees that the key holds less.
        share.subtract(bytes);
        let before = self.word.fetch_add(bytes as u64, Ordering::AcqRel);
        if before & WAITING != 0 {
            self.hand_out_to_those_who_wait(share);
        }
    }

    /// What this key holds has changed.
    fn hand_out_to_those_who_wait(&self, share: &Share) {
        let mut line = self.line();
        line.holds_otherwise(share);
        self.hand_out(&mut line);
    }

    fn line(&self) -> MutexGuard<'_, Line<oneshot::Sender<()>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives room to those whose turn it is, as far as it goes. Called after every change that may let somebody in.
    fn hand_out(&self, line: &mut Line<oneshot::Sender<()>>) {
        while let Some(granted) = line.next(self.share_max, |bytes| self.take(bytes)) {
            // Whoever is not there any more gives it back when its place is dropped.
            let _is_there = granted.send(());
        }
        if line.is_empty() {
            self.word.fetch_and(!WAITING, Ordering::AcqRel);
        }
    }
}

/// A place in the line, and the room that is granted to it; both given back on drop, unless the room is used.
struct Place<'b> {
    budget: &'b Shared,
    share: &'b Arc<Share>,
    bytes: usize,
    ticket: Ticket,
    is_used: bool,
}

impl<'b> Place<'b> {
    fn take(budget: &'b Shared, share: &'b Arc<Share>, bytes: usize) -> Result<(Self, oneshot::Receiver<()>), NoRoom> {
        let (grant, granted) = oneshot::channel();
        let mut line = budget.line();
        let ticket = line.join(share, bytes, grant).ok_or(NoRoom::LineFull)?;
        // From here on nobody passes the line. What was given back before this is seen by `hand_out`, what is given back after
        // it is handed out by whoever does.
        budget.word.fetch_or(WAITING, Ordering::AcqRel);
        budget.hand_out(&mut line);
        drop(line);
        Ok((Self { budget, share, bytes, ticket, is_used: false }, granted))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_used {
            return;
        }
        let mut line = self.budget.line();
        if line.leave(self.share, self.ticket) {
            // It may have been in the way of others.
            self.budget.hand_out(&mut line);
        } else {
            drop(line);
            self.budget.give_back(self.share, self.bytes);
        }
    }
}

impl Room {
    /// Makes the room hold at least `bytes`. Does not wait: a request that holds room and waits for more could wait for
    /// another one that does the same. Goes before those who wait: what is begun is to end.
    ///
    /// # Errors
    /// [`NoRoom::Growing`]; the room stays as it is.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let missing = bytes.min(self.budget.limit).saturating_sub(self.bytes);
        if missing > 0 {
            if !self.budget.take(missing) {
                telemetry::count_no_room(self.budget.kind, NoRoom::Growing.label());
                return Err(NoRoom::Growing);
            }
            self.share.add(missing);
            self.bytes += missing;
            if self.budget.word.load(Ordering::Acquire) & WAITING != 0 {
                // The key has moved back in the line, so that it may be another one's turn.
                self.budget.hand_out_to_those_who_wait(&self.share);
            }
        }
        Ok(())
    }

    /// Gives back what is beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let excess = self.bytes.saturating_sub(bytes.max(ROOM_BYTES_MIN));
        if excess > 0 {
            self.bytes -= excess;
            self.budget.give_back(&self.share, excess);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.give_back(&self.share, self.bytes);
    }
}

#[cfg(test)]
mod tests;
