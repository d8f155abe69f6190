//! Buckets of log time, so that what expired leaves as whole files.

use crate::clock::UnixMillis;

/// Buckets that a horizon is divided into: so much more than the horizon is kept, and so many runs at least are asked.
const PER_HORIZON: i64 = 8;
/// Shortest bucket: a horizon of a second must not write eight files a second.
const SPAN_MS_MIN: i64 = if cfg!(test) { 1 } else { 60_000 };

#[derive(Debug, Clone, Copy)]
pub(super) struct Buckets {
    horizon_ms: Option<i64>,
}

impl Buckets {
    pub(super) fn new(horizon_ms: Option<i64>) -> Self {
        Self { horizon_ms }
    }

    fn span_ms(horizon_ms: i64) -> i64 {
        (horizon_ms / PER_HORIZON).max(SPAN_MS_MIN)
    }

    /// The one that a log time belongs to; the only one without a horizon.
    pub(super) fn of(self, log_time: UnixMillis) -> i64 {
        self.horizon_ms.map_or(0, |horizon| log_time.0.div_euclid(Self::span_ms(horizon)))
    }

    /// Whether a first of one log time has expired at another.
    #[inline]
    pub(super) fn has_expired(self, first: i64, at: UnixMillis) -> bool {
        self.horizon_ms.is_some_and(|horizon| at.0.saturating_sub(first) >= horizon)
    }

    /// Whether every first in a bucket has.
    pub(super) fn has_all_expired(self, bucket: i64, at: UnixMillis) -> bool {
        self.horizon_ms.is_some_and(|horizon| {
            let end = bucket.saturating_add(1).saturating_mul(Self::span_ms(horizon));
            self.has_expired(end.saturating_sub(1), at)
        })
    }
}
