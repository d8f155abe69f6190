//! Time comes in here and nowhere else, so that everything behind the log stays a function of the log.
//!
//! The clock also notices when the wall clock runs away from the monotonic one: a receive time that
//! jumps ahead would expire the whole dedup horizon at once (`design.md`, promise 5).

pub mod rfc3339;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(pub i64);

/// Microseconds since 1970-01-01T00:00:00Z: the finest time that a dialect keeps (Octane).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct UnixMicros(pub i64);

impl UnixMillis {
    /// Whole seconds since the epoch, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// The same moment in microseconds; saturates at the ends of time.
    pub fn micros(self) -> UnixMicros {
        UnixMicros(self.0.saturating_mul(1_000))
    }
}

impl UnixMicros {
    /// So many seconds since the epoch; saturates at the ends of time.
    pub const fn of_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Milliseconds, rounded down.
    pub fn millis(self) -> UnixMillis {
        UnixMillis(self.0.div_euclid(1_000))
    }

    /// Whole seconds since the epoch, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rfc3339::millis(*self))
    }
}

/// How far the wall clock may run ahead of the monotonic one before receive times are refused.
/// An hour, as Kafka's own `message.timestamp.after.max.ms`.
const AHEAD_MAX: Duration = Duration::from_secs(3_600);

/// The wall clock jumped; nothing is stamped with it until it has come back.
#[derive(Debug, thiserror::Error)]
#[error(
    "the system clock jumped ahead by {ahead_s} s while the process ran; events are refused until it is set right or the process is restarted"
)]
pub struct ClockJumped {
    /// How far ahead it is, in seconds.
    pub ahead_s: u64,
}

/// The one place that asks the operating system for the time.
#[derive(Debug, Clone)]
pub struct Clock {
    started_ms: i64,
    started_wall_ms: i64,
}

impl Clock {
    /// Anchors the wall clock to the monotonic one as they stand now.
    pub fn start() -> Self {
        Self { started_ms: steady_ms(), started_wall_ms: wall_ms() }
    }

    /// Now, as the wall clock has it.
    pub fn now(&self) -> UnixMillis {
        UnixMillis(wall_ms())
    }

    /// Now, fit to be written into a record as its receive time.
    ///
    /// # Errors
    /// [`ClockJumped`] while the wall clock is more than an hour ahead of where the monotonic clock says
    /// that it should be. A clock that steps back is harmless: log time is a running maximum.
    pub fn receive_time(&self) -> Result<UnixMillis, ClockJumped> {
        self.checked(wall_ms(), steady_ms())
    }

    fn checked(&self, wall_ms: i64, steady_ms: i64) -> Result<UnixMillis, ClockJumped> {
        let elapsed_ms = steady_ms.saturating_sub(self.started_ms);
        let ahead_ms = wall_ms.saturating_sub(self.started_wall_ms.saturating_add(elapsed_ms));
        if ahead_ms > AHEAD_MAX.as_millis() as i64 {
            return Err(ClockJumped { ahead_s: ahead_ms.unsigned_abs() / 1_000 });
        }
        Ok(UnixMillis(wall_ms))
    }
}

/// A clock that nobody sets. Unlike `Instant`'s it goes on while the machine is suspended: a wall clock that is right after
/// a night's sleep has not jumped.
fn steady_ms() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.saturating_mul(1_000).saturating_add(time.tv_nsec / 1_000_000)
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn wall_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_ahead_is_refused_and_one_that_steps_back_is_not() {
        let clock = Clock { started_ms: 500, started_wall_ms: 1_000_000 };
        let hour = 3_600_000;
        assert!(clock.checked(1_000_000 + hour, 500).is_ok());
        assert!(clock.checked(1_000_001 + hour, 500).is_err());
        assert!(clock.checked(1_000_001 + hour, 501).is_ok());
        assert!(clock.checked(-5, 10_500).is_ok());
    }
}
