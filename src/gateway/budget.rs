//! Bytes in flight: room is taken before a body is read and given back when its events are durable (`design.md`,
//! promise 10). Whoever finds none waits in line, for a bounded time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::telemetry;

/// A body of any size takes at least so much: requests cost memory beside their bytes.
const ROOM_BYTES_MIN: usize = 4 << 10;

/// The bytes that requests may hold at a time.
#[derive(Clone)]
pub struct Budget {
    bytes: Arc<Semaphore>,
    limit: usize,
    wait: Duration,
}

/// Room for one request, given back on drop.
pub struct Room {
    permit: OwnedSemaphorePermit,
    budget: Budget,
}

/// There was no room for as long as a request may wait; nothing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many bytes in flight")]
pub struct NoRoom;

impl Budget {
    /// A budget of `limit` bytes, at most 4 GiB; a request waits up to `wait` for its part.
    pub fn new(limit: usize, wait: Duration) -> Self {
        Self { bytes: Arc::new(Semaphore::new(limit)), limit, wait }
    }

    /// Takes room for `bytes`, first come first served.
    ///
    /// # Errors
    /// [`NoRoom`] after the wait.
    pub async fn reserve(&self, bytes: usize) -> Result<Room, NoRoom> {
        let wanted = u32::try_from(bytes.max(ROOM_BYTES_MIN).min(self.limit)).map_err(|_| NoRoom)?;
        let permit = match self.bytes.clone().try_acquire_many_owned(wanted) {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = self.bytes.clone().acquire_many_owned(wanted);
                timeout(self.wait, waiting).await.ok().and_then(Result::ok).ok_or(NoRoom)?
            }
        };
        Ok(Room { permit, budget: self.clone() })
    }

    /// Bytes that are taken now.
    pub fn taken(&self) -> usize {
        self.limit - self.bytes.available_permits()
    }

    /// Sets the metrics; called when they are read, as each request changes them twice.
    pub fn report(&self) {
        telemetry::set_in_flight(self.taken(), self.limit);
    }
}

impl Room {
    /// Makes the room hold at least `bytes`. Does not wait: a request that holds room and waits for more could wait for
    /// another one that does the same.
    ///
    /// # Errors
    /// [`NoRoom`]; the room stays as it is.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let missing = bytes.min(self.budget.limit).saturating_sub(self.permit.num_permits());
        if missing > 0 {
            let missing = u32::try_from(missing).map_err(|_| NoRoom)?;
            self.permit.merge(self.budget.bytes.clone().try_acquire_many_owned(missing).map_err(|_| NoRoom)?);
        }
        Ok(())
    }

    /// Gives back what is beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let excess = self.permit.num_permits().saturating_sub(bytes.max(ROOM_BYTES_MIN));
        drop(self.permit.split(excess));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_is_given_back_and_nobody_waits_for_ever() {
        let budget = Budget::new(100_000, Duration::from_secs(10));
        let mut first = budget.reserve(60_000).await.expect("room");
        assert_eq!(budget.reserve(60_000).await.err(), Some(NoRoom));
        assert_eq!(first.grow_to(120_000), Ok(()), "never more than there is in all");
        first.shrink_to(10);
        assert_eq!(budget.taken(), ROOM_BYTES_MIN);
        let second = budget.reserve(60_000).await.expect("room");
        assert_eq!(first.grow_to(50_000), Err(NoRoom));
        drop((first, second));
        assert_eq!(budget.taken(), 0);
    }
}
