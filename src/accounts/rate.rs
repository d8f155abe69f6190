//! How often a key may be used: requests and events a second, each with a burst. Off unless a key says so.
//!
//! Each limit is one word: the moment at which all that was taken is paid off (GCRA). Taking is a look at the clock and one
//! compare-and-swap, whatever the number of threads; nothing refills anything. A library for this (governor) brings a map,
//! clocks and locks for what these few lines do, and knows no debt.
//!
//! A request is let in while there is allowance, and its events may overdraw it: a batch larger than the burst would never get
//! in otherwise. What is overdrawn is waited for, so the mean rate holds, and the burst is passed by one request at most.
//!
//! Header fields: draft-ietf-httpapi-ratelimit-headers-11 (`RateLimit-Policy`, `RateLimit`).

use std::fmt::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// Largest rate and burst.
pub const RATE_MAX: u32 = 100_000_000;
const NANOS_A_SECOND: u64 = 1_000_000_000;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// A rate with its burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// On average, a second; 1 to [`RATE_MAX`].
    pub per_second: u32,
    /// At once; 1 to [`RATE_MAX`].
    pub burst: u32,
}

/// What a key's limits are; `None` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RateLimit {
    /// Requests of any kind.
    pub requests: Option<Rate>,
    /// Events, whatever becomes of them.
    pub events: Option<Rate>,
}

impl RateLimit {
    /// Whether nothing is limited.
    pub fn is_off(&self) -> bool {
        self.requests.is_none() && self.events.is_none()
    }
}

/// There is no allowance left. Nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the API key may send {per_second} {unit} a second and has sent more")]
pub struct Exceeded {
    /// What is limited: `requests` or `events`.
    pub unit: &'static str,
    /// The limit.
    pub per_second: u32,
    /// Whole seconds until there is allowance again, at least 1.
    pub retry_after_s: u32,
}

/// The allowance of one key, or of whoever else asks. Starts full.
#[derive(Debug)]
pub struct Limits {
    requests: Option<Bucket>,
    events: Option<Bucket>,
    policy: HeaderValue,
}

impl Limits {
    /// `None` if nothing is limited.
    pub fn of(limit: RateLimit) -> Option<Self> {
        if limit.is_off() {
            return None;
        }
        let (requests, events) =
            (limit.requests.map(|rate| Bucket::new("requests", rate)), limit.events.map(|rate| Bucket::new("events", rate)));
        let mut policy = String::new();
        for bucket in [&requests, &events].into_iter().flatten() {
            let (name, quota, window_s) = (bucket.unit, bucket.rate.burst, seconds(bucket.tolerance_ns));
            // A string takes everything.
            let _written = write!(policy, "{}\"{name}\";q={quota};w={window_s}", if policy.is_empty() { "" } else { ", " });
        }
        // Letters, digits and punctuation: always a header's value.
        let policy = HeaderValue::try_from(policy).ok()?;
        Some(Self { requests, events, policy })
    }

    /// Takes one request.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn take_request(&self) -> Result<(), Exceeded> {
        self.requests.as_ref().map_or(Ok(()), |bucket| bucket.take(1, now_ns()))
    }

    pub(super) fn take_events(&self, events: u64) -> Result<(), Exceeded> {
        self.events.as_ref().map_or(Ok(()), |bucket| bucket.take(events, now_ns()))
    }

    /// Says in an answer what the limits are and what is left of them.
    pub(super) fn describe(&self, headers: &mut HeaderMap) {
        let now_ns = now_ns();
        let mut state = String::with_capacity(48);
        for bucket in [&self.requests, &self.events].into_iter().flatten() {
            let (name, (left, full_s)) = (bucket.unit, bucket.left(now_ns));
            let _written = write!(state, "{}\"{name}\";r={left};t={full_s}", if state.is_empty() { "" } else { ", " });
        }
        if let Ok(state) = HeaderValue::try_from(state) {
            headers.insert(STATE, state);
            headers.insert(POLICY, self.policy.clone());
        }
    }
}

/// One limit.
#[derive(Debug)]
struct Bucket {
    unit: &'static str,
    rate: Rate,
    /// What one costs, ns; rounded up, so the rate is never passed.
    cost_ns: u64,
    /// What a whole burst costs, ns.
    tolerance_ns: u64,
    /// When everything taken is paid off, in ns of [`now_ns`].
    paid_at_ns: AtomicU64,
}

impl Bucket {
    fn new(unit: &'static str, rate: Rate) -> Self {
        let cost_ns = NANOS_A_SECOND.div_ceil(u64::from(rate.per_second.max(1)));
        Self { unit, rate, cost_ns, tolerance_ns: cost_ns * u64::from(rate.burst.max(1)), paid_at_ns: AtomicU64::new(0) }
    }

    /// Takes `count`, if there is allowance for one.
    fn take(&self, count: u64, now_ns: u64) -> Result<(), Exceeded> {
        if count == 0 {
            return Ok(());
        }
        let cost_ns = self.cost_ns.saturating_mul(count);
        let pay = |paid_at_ns: u64| {
            let owed_from_ns = paid_at_ns.max(now_ns);
            let has_allowance = owed_from_ns.saturating_add(self.cost_ns) <= now_ns.saturating_add(self.tolerance_ns);
            has_allowance.then(|| owed_from_ns.saturating_add(cost_ns))
        };
        let taken = self.paid_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay);
        taken.map(drop).map_err(|paid_at_ns| {
            let wait_ns = paid_at_ns.saturating_add(self.cost_ns).saturating_sub(now_ns.saturating_add(self.tolerance_ns));
            Exceeded { unit: self.unit, per_second: self.rate.per_second, retry_after_s: seconds(wait_ns) }
        })
    }

    /// What is left, and the seconds until all of it is there again.
    fn left(&self, now_ns: u64) -> (u64, u32) {
        let owed_ns = self.paid_at_ns.load(Ordering::Relaxed).saturating_sub(now_ns);
        let full_s = if owed_ns == 0 { 0 } else { seconds(owed_ns) };
        (self.tolerance_ns.saturating_sub(owed_ns) / self.cost_ns, full_s)
    }
}

/// Whole seconds, rounded up, at least 1.
fn seconds(ns: u64) -> u32 {
    u32::try_from(ns.div_ceil(NANOS_A_SECOND).max(1)).unwrap_or(u32::MAX)
}

/// Nanoseconds of a clock that nobody sets.
fn now_ns() -> u64 {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    // A process does not run for 584 years.
    STARTED.elapsed().min(Duration::from_nanos(u64::MAX)).as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = NANOS_A_SECOND;

    fn bucket(per_second: u32, burst: u32) -> Bucket {
        Bucket::new("requests", Rate { per_second, burst })
    }

    #[test]
    fn a_burst_is_let_in_and_then_the_rate() {
        let bucket = bucket(10, 5);
        for _ in 0..5 {
            assert_eq!(bucket.take(1, SECOND), Ok(()));
        }
        let refused = bucket.take(1, SECOND).expect_err("the burst is used up");
        assert_eq!((refused.unit, refused.per_second, refused.retry_after_s), ("requests", 10, 1));
        assert!(bucket.take(1, SECOND + SECOND / 10 - 1).is_err());
        assert_eq!(bucket.take(1, SECOND + SECOND / 10), Ok(()));
        assert!(bucket.take(1, SECOND + SECOND / 10).is_err());
        // After a pause there is a burst again and no more.
        let taken = (0..100).filter(|_| bucket.take(1, 60 * SECOND).is_ok()).count();
        assert_eq!(taken, 5);
    }

    #[test]
    fn a_batch_may_overdraw_and_is_waited_for() {
        let bucket = bucket(100, 10);
        assert_eq!(bucket.take(1_000, SECOND), Ok(()), "larger than the burst, and let in");
        assert_eq!(bucket.left(SECOND), (0, 10));
        assert_eq!(bucket.take(1, SECOND).expect_err("overdrawn").retry_after_s, 10);
        assert!(bucket.take(1, 10 * SECOND).is_err());
        assert_eq!(bucket.take(1, 11 * SECOND), Ok(()));
    }

    #[test]
    fn whatever_comes_when_the_mean_rate_is_kept() {
        let bucket = bucket(7, 3);
        let mut taken = 0;
        for step in 0..10_000_u64 {
            taken += u64::from(bucket.take(1, SECOND + step * SECOND / 997).is_ok());
        }
        let seconds = 10_000 / 997;
        assert!((7 * seconds..=7 * (seconds + 1) + 3).contains(&taken), "{taken} in {seconds} s");
    }

    #[test]
    fn no_number_makes_it_overflow() {
        let bucket = bucket(1, RATE_MAX);
        assert_eq!(bucket.take(u64::MAX, u64::MAX / 2), Ok(()));
        assert!(bucket.take(u64::MAX, u64::MAX / 2).is_err());
    }

    #[test]
    fn an_answer_says_what_is_left() {
        let limit = RateLimit { requests: Some(Rate { per_second: 10, burst: 50 }), events: Some(Rate { per_second: 1_000, burst: 500 }) };
        let limits = Limits::of(limit).expect("limits");
        limits.take_request().expect("allowance");
        let mut headers = HeaderMap::new();
        limits.describe(&mut headers);
        assert_eq!(headers[POLICY], r#""requests";q=50;w=5, "events";q=500;w=1"#);
        let state = headers[STATE].to_str().expect("ASCII");
        assert!(state.starts_with(r#""requests";r=49;t=1"#) || state.starts_with(r#""requests";r=50"#), "{state}");
        assert!(state.ends_with(r#""events";r=500;t=0"#), "{state}");
        assert!(Limits::of(RateLimit::default()).is_none());
    }
}
