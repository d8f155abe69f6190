//! Which request is sent next, and when it ought to be.
//!
//! A free connection takes the next ticket. In a closed loop it sends at once. In a paced run each ticket has
//! an intended time that does not depend on the answers to the others: a server that stalls gets no respite,
//! and the wait counts as latency (no coordinated omission).

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Gives out the events of a run in requests of one size. Shared by all connections.
#[derive(Debug)]
pub(super) struct Schedule {
    start: Instant,
    events_per_request: u64,
    events_max: u64,
    /// Events a second; `None` = closed loop.
    rate: Option<NonZeroU64>,
    next: AtomicU64,
}

/// The right to send one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    /// Number of its first event in the run, counted from 0.
    pub(super) first: u64,
    /// Events in it, ≥ 1.
    pub(super) events: usize,
    /// When it ought to be sent; `None` = as soon as possible.
    pub(super) intended: Option<Instant>,
}

impl Schedule {
    /// A schedule of `events_max` events from `start` on. `rate` is in events a second.
    pub(super) fn new(start: Instant, events_per_request: u64, events_max: u64, rate: Option<NonZeroU64>) -> Self {
        assert!(events_per_request > 0, "a request has at least one event");
        Self { start, events_per_request, events_max, rate, next: AtomicU64::new(0) }
    }

    /// When the run begins.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// The next request; `None` when all are given out.
    pub(super) fn take(&self) -> Option<Ticket> {
        // Relaxed: the number alone matters, nothing else is published with it.
        self.ticket(self.next.fetch_add(1, Ordering::Relaxed))
    }

    fn ticket(&self, number: u64) -> Option<Ticket> {
        let first = number.checked_mul(self.events_per_request)?;
        let left = self.events_max.checked_sub(first).filter(|left| *left > 0)?;
        let events = usize::try_from(left.min(self.events_per_request)).ok()?;
        let intended = self.rate.and_then(|rate| self.start.checked_add(time_of_event(first, rate)));
        Some(Ticket { first, events, intended })
    }
}

/// How long after the start event `number` is due at `rate` events a second. In whole seconds and the rest,
/// so that neither a long run nor an odd rate drifts.
fn time_of_event(number: u64, rate: NonZeroU64) -> Duration {
    let rest_ns = u128::from(number % rate) * 1_000_000_000 / u128::from(rate.get());
    Duration::from_secs(number / rate) + Duration::from_nanos(rest_ns as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(events_per_second: u64) -> Option<NonZeroU64> {
        NonZeroU64::new(events_per_second)
    }

    fn due(number: u64, events_per_second: u64) -> Duration {
        time_of_event(number, NonZeroU64::new(events_per_second).expect("not zero"))
    }

    #[test]
    fn tickets_cover_every_event_once_and_the_last_one_is_shorter() {
        let schedule = Schedule::new(Instant::now(), 1_000, 2_500, None);
        let tickets: Vec<_> = std::iter::from_fn(|| schedule.take()).collect();
        let spans: Vec<_> = tickets.iter().map(|ticket| (ticket.first, ticket.events)).collect();
        assert_eq!(spans, [(0, 1_000), (1_000, 1_000), (2_000, 500)]);
        assert!(tickets.iter().all(|ticket| ticket.intended.is_none()));
        assert_eq!(schedule.take(), None);
    }

    #[test]
    fn a_paced_request_is_due_when_its_first_event_is() {
        let start = Instant::now();
        let schedule = Schedule::new(start, 100, 1_000_000, rate(50_000));
        let offsets: Vec<_> = (0..4).filter_map(|_| schedule.take()?.intended).map(|at| at - start).collect();
        assert_eq!(offsets, [0, 2, 4, 6].map(Duration::from_millis));
    }

    #[test]
    fn odd_rates_do_not_drift() {
        assert_eq!(due(3, 3), Duration::from_secs(1));
        assert_eq!(due(1, 3), Duration::from_nanos(333_333_333));
        assert_eq!(due(7_000_001, 7), Duration::from_secs(1_000_000) + Duration::from_nanos(142_857_142));
    }

    #[test]
    fn the_slowest_and_the_fastest_run_do_not_overflow() {
        assert_eq!(due(1_000_000_000, 1), Duration::from_secs(1_000_000_000));
        assert_eq!(due(u64::MAX, u64::MAX), Duration::from_secs(1));
        assert_eq!(due(u64::MAX - 1, u64::MAX), Duration::from_nanos(999_999_999));
    }
}
