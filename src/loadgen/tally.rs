//! What a connection counts. Each has its own tally; they are added up at the end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use anyhow::Context as _;
use hdrhistogram::Histogram;

use super::wire::{Answer, Failure};

/// Longest latency that is told apart, in µs: the time that a request is insisted on, and a paced run's backlog.
pub(super) const LATENCY_US_MAX: u64 = 3_600_000_000;
/// Three significant digits: percentiles are within 0.1 %.
pub(super) const LATENCY_DIGITS: u8 = 3;

/// Why an attempt did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Problem {
    /// An answer other than 2xx.
    Status(u16),
    /// No answer.
    Failure(Failure),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Failure(failure) => f.write_str(failure.label()),
        }
    }
}

/// Counts of one connection, or of all together.
#[derive(Debug)]
pub(super) struct Tally {
    /// Of acked requests, in µs, repeated attempts and the waits between them included.
    pub(super) latency_us: Histogram<u64>,
    /// Requests answered with 2xx.
    pub(super) requests_acked: u64,
    /// Requests put on a connection, the repeated ones too.
    pub(super) attempts: u64,
    /// Attempts after the first of a request.
    pub(super) retries: u64,
    /// Events that a 2xx covers and did not reject.
    pub(super) events_acked: u64,
    /// Events in acked requests that repeat an earlier one.
    pub(super) events_repeated: u64,
    /// Events of acked requests that the server named as rejected.
    pub(super) events_rejected: u64,
    /// Events of requests whose every attempt was refused.
    pub(super) events_refused: u64,
    /// Events of requests without success that may be stored all the same.
    pub(super) events_unknown: u64,
    /// Bytes of all attempts, heads included.
    pub(super) bytes_sent: u64,
    /// Attempts without success, and failures to open the first connection.
    pub(super) problems: BTreeMap<Problem, u64>,
    /// The first answer other than 2xx, for people.
    pub(super) first_bad_answer: Option<String>,
    /// When the last request was acked or given up.
    pub(super) last_outcome_at: Option<Instant>,
}

impl Tally {
    /// All zero.
    ///
    /// # Errors
    /// The histogram does not like its bounds; not expected.
    pub(super) fn new() -> anyhow::Result<Self> {
        let latency_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS).context("cannot make the histogram of latencies")?;
        Ok(Self {
            latency_us,
            requests_acked: 0,
            attempts: 0,
            retries: 0,
            events_acked: 0,
            events_repeated: 0,
            events_rejected: 0,
            events_refused: 0,
            events_unknown: 0,
            bytes_sent: 0,
            problems: BTreeMap::new(),
            first_bad_answer: None,
            last_outcome_at: None,
        })
    }

    /// Counts a request answered with 2xx.
    pub(super) fn ack(&mut self, begun_at: Instant, acked_at: Instant, acked: u64, rejected: u64, repeated: u64) {
        let latency = acked_at.saturating_duration_since(begun_at);
        self.latency_us.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        self.requests_acked += 1;
        self.events_acked += acked;
        self.events_rejected += rejected;
        self.events_repeated += repeated;
        self.last_outcome_at = Some(acked_at);
    }

    /// Counts a request that was given up and is not stored.
    pub(super) fn refuse(&mut self, given_up_at: Instant, events: u64) {
        self.events_refused += events;
        self.last_outcome_at = Some(given_up_at);
    }

    /// Counts a request that was given up and may be stored all the same.
    pub(super) fn give_up(&mut self, given_up_at: Instant, events: u64) {
        self.events_unknown += events;
        self.last_outcome_at = Some(given_up_at);
    }

    /// Counts an attempt without success.
    pub(super) fn count(&mut self, problem: Problem) {
        *self.problems.entry(problem).or_default() += 1;
    }

    /// Counts an answer other than 2xx and keeps the text of the first.
    pub(super) fn count_answer(&mut self, answer: &Answer) {
        let problem = Problem::Status(answer.status);
        self.count(problem);
        self.first_bad_answer.get_or_insert_with(|| format!("{problem}: {}", answer.excerpt.trim()));
    }

    /// Adds what another one has counted.
    ///
    /// # Errors
    /// The histograms do not fit together; not expected.
    pub(super) fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.latency_us.add(&other.latency_us).context("cannot add up latencies")?;
        self.requests_acked += other.requests_acked;
        self.attempts += other.attempts;
        self.retries += other.retries;
        self.events_acked += other.events_acked;
        self.events_repeated += other.events_repeated;
        self.events_rejected += other.events_rejected;
        self.events_refused += other.events_refused;
        self.events_unknown += other.events_unknown;
        self.bytes_sent += other.bytes_sent;
        for (problem, count) in other.problems {
            *self.problems.entry(problem).or_default() += count;
        }
        self.first_bad_answer = self.first_bad_answer.take().or(other.first_bad_answer);
        self.last_outcome_at = self.last_outcome_at.max(other.last_outcome_at);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sum_has_the_counts_of_both_and_the_later_end() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut a = Tally::new().expect("a tally");
        a.ack(at(0), at(10), 990, 10, 5);
        a.count(Problem::Failure(Failure::Connect));
        let mut b = Tally::new().expect("a tally");
        b.ack(at(0), at(30), 1_000, 0, 0);
        b.count(Problem::Failure(Failure::Connect));
        b.count_answer(&Answer { status: 503, rejected: 0, retry_after: None, excerpt: "busy\n".into() });
        a.add(b).expect("added");
        assert_eq!((a.requests_acked, a.events_acked, a.events_rejected, a.events_repeated), (2, 1_990, 10, 5));
        assert_eq!(a.last_outcome_at, Some(at(30)));
        assert_eq!(a.latency_us.len(), 2);
        assert_eq!(a.first_bad_answer.as_deref(), Some("status 503: busy"));
        let problems: Vec<_> = a.problems.iter().map(|(problem, count)| (problem.to_string(), *count)).collect();
        assert_eq!(problems, [("status 503".to_owned(), 1), ("connect".to_owned(), 2)]);
    }

    #[test]
    fn a_latency_beyond_the_scale_is_kept_at_its_end() {
        let start = Instant::now();
        let mut tally = Tally::new().expect("a tally");
        tally.ack(start, start + Duration::from_secs(100_000), 1, 0, 0);
        assert_eq!(tally.latency_us.len(), 1);
    }
}
