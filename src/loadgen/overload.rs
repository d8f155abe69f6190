//! `--overload`: more than the server can do, the way real clients bring it.
//!
//! An open loop: requests are due at a fixed rate, whatever became of those before. Each is a small client of its own. It takes a
//! free connection or waits for one, gives up an attempt after a time-out (which closes the connection), comes back
//! after `Retry-After`, and gives up for good after a few attempts. Of the connections there are many more than in the closed loop
//! that the capacity was measured with, but not without end, as with pools of real clients: requests that find none in time
//! are offered, and never sent.
//!
//! A request that waits to be sent again is a few numbers: its bytes are made anew.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;

use super::events::{RequestBuffer, below, scramble};
use super::ledger::Lines;
use super::tally::{LATENCY_DIGITS, LATENCY_US_MAX, Problem, Tally};
use super::wire::{Answer, Connection, Failure};
use super::worker::{Phase, Phases, Shared, TIMER_STEP, is_worth_another_attempt, may_be_stored_after};

/// How often a client tries before it gives up.
const ATTEMPTS_MAX: u32 = 4;
/// Between attempts without `Retry-After`.
const BACKOFF: Duration = Duration::from_millis(100);

/// What the connections of an overload share.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) shared: Arc<Shared>,
    /// Of one attempt, and how long a request waits for a connection.
    pub(super) timeout: Duration,
    /// Those that wait to be sent again, the earliest first.
    again: Mutex<BinaryHeap<Reverse<Due>>>,
}

/// A request at a time. Compared by the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Instant,
    first: u64,
    events: usize,
    attempts: u32,
    may_be_stored: bool,
}

/// What one connection, or all together, have counted.
#[derive(Debug)]
pub(super) struct Offered {
    /// Latency counts from when a request was due.
    pub(super) tally: Tally,
    /// Of acked attempts, from when they were sent, in µs: what the server has to answer for.
    pub(super) served_us: Histogram<u64>,
    /// Events of requests that found a connection in time.
    pub(super) events_sent: u64,
    /// Events of requests that found none.
    pub(super) events_unsent: u64,
    /// Longest that an answer other than 2xx took, in µs.
    pub(super) refused_us_max: u64,
}

impl Clients {
    pub(super) fn new(shared: Arc<Shared>, timeout: Duration) -> Self {
        Self { shared, timeout, again: Mutex::default() }
    }

    fn come_back(&self, due: Due) {
        self.again.lock().unwrap_or_else(PoisonError::into_inner).push(Reverse(due));
    }

    /// A request that is to be sent again by now.
    fn take_again(&self) -> Option<Due> {
        let mut again = self.again.lock().unwrap_or_else(PoisonError::into_inner);
        let Reverse(first) = again.peek()?;
        if first.at <= Instant::now() { again.pop().map(|Reverse(due)| due) } else { None }
    }
}

impl Offered {
    /// All zero.
    ///
    /// # Errors
    /// The histogram does not like its bounds; not expected.
    pub(super) fn new() -> anyhow::Result<Self> {
        let served_us = Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS).context("cannot make a histogram")?;
        Ok(Self { tally: Tally::new()?, served_us, events_sent: 0, events_unsent: 0, refused_us_max: 0 })
    }

    /// Counts what waits to be sent again at the end.
    pub(super) fn leave(&mut self, clients: &Clients) {
        for Reverse(due) in clients.again.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            let events = if due.may_be_stored { &mut self.tally.events_unknown } else { &mut self.tally.events_refused };
            *events += due.events as u64;
        }
    }

    /// Adds what another one has counted.
    ///
    /// # Errors
    /// The histograms do not fit together; not expected.
    pub(super) fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.tally.add(other.tally)?;
        self.served_us.add(&other.served_us).context("cannot add up latencies")?;
        self.events_sent += other.events_sent;
        self.events_unsent += other.events_unsent;
        self.refused_us_max = self.refused_us_max.max(other.refused_us_max);
        Ok(())
    }
}

/// One connection and its loop.
#[derive(Debug)]
pub(super) struct Client {
    clients: Arc<Clients>,
    phases: Phases,
    request: RequestBuffer,
    ledger: Option<Lines>,
    connection: Option<Connection>,
    dice: u64,
    in_flight: Option<Due>,
    offered: Offered,
}

impl Client {
    /// Connection number `number`.
    pub(super) fn new(
        number: u64,
        clients: Arc<Clients>,
        phases: Phases,
        request: RequestBuffer,
        ledger: Option<Lines>,
    ) -> anyhow::Result<Self> {
        Ok(Self { clients, phases, request, ledger, connection: None, dice: number, in_flight: None, offered: Offered::new()? })
    }

    /// Sends until the run is over. Gives back what it counted.
    ///
    /// # Errors
    /// The compressor failed.
    pub(super) async fn run(mut self) -> anyhow::Result<Offered> {
        let mut phases = self.phases.clone();
        tokio::select! {
            biased;
            result = self.send_all() => result?,
            () = phases.reached(Phase::Abandoned) => {}
        }
        if let Some(unanswered) = self.in_flight {
            self.offered.tally.events_unknown += unanswered.events as u64;
        }
        Ok(self.offered)
    }

    async fn send_all(&mut self) -> anyhow::Result<()> {
        while self.phases.is_running() {
            let due = match self.clients.take_again() {
                Some(due) => due,
                None => match self.next_of_the_schedule().await {
                    Some(due) => due,
                    None => return Ok(()),
                },
            };
            if due.at.elapsed() > self.clients.timeout {
                self.book_the_end(due);
                continue;
            }
            self.send_once(due).await?;
        }
        Ok(())
    }

    /// Waits for the next request to be due.
    async fn next_of_the_schedule(&mut self) -> Option<Due> {
        let ticket = self.clients.shared.schedule.take()?;
        let at = ticket.intended.unwrap_or_else(Instant::now);
        if let Some(wake_at) = at.checked_sub(TIMER_STEP).filter(|wake_at| *wake_at > Instant::now()) {
            tokio::select! {
                biased;
                () = self.phases.reached(Phase::Draining) => return None,
                () = tokio::time::sleep_until(wake_at.into()) => {}
            }
        }
        Some(Due { at, first: ticket.first, events: ticket.events, attempts: 0, may_be_stored: false })
    }

    async fn send_once(&mut self, mut due: Due) -> anyhow::Result<()> {
        self.request.prepare(&self.clients.shared.workload, due.first, due.events).context("cannot compress a body")?;
        let sent_at = Instant::now();
        if due.attempts == 0 {
            self.offered.events_sent += due.events as u64;
        }
        due.attempts += 1;
        self.in_flight = Some(due);
        let attempt = tokio::time::timeout(self.clients.timeout, self.attempt()).await;
        self.in_flight = None;
        let answer = attempt.unwrap_or(Err(Failure::Timeout));
        self.offered.tally.retries += u64::from(due.attempts > 1);
        let mut wait = self.jittered(BACKOFF);
        match answer {
            Ok(answer) if answer.is_success() => return self.book(due, sent_at, &answer).await,
            Ok(answer) => {
                let took = u64::try_from(sent_at.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.offered.refused_us_max = self.offered.refused_us_max.max(took);
                self.offered.tally.count_answer(&answer);
                due.may_be_stored |= may_be_stored_after(answer.status);
                if let Some(retry_after) = answer.retry_after {
                    wait += retry_after;
                }
                if !is_worth_another_attempt(answer.status) {
                    due.attempts = ATTEMPTS_MAX;
                }
            }
            Err(failure) => {
                self.offered.tally.count(Problem::Failure(failure));
                due.may_be_stored |= failure.may_have_arrived();
            }
        }
        if due.attempts < ATTEMPTS_MAX {
            due.at = Instant::now() + wait;
            self.clients.come_back(due);
        } else {
            self.book_the_end(due);
        }
        Ok(())
    }

    async fn book(&mut self, due: Due, sent_at: Instant, answer: &Answer) -> anyhow::Result<()> {
        let now = Instant::now();
        let events = due.events as u64;
        let rejected = answer.rejected.min(events);
        self.offered.tally.ack(due.at.min(sent_at), now, events - rejected, rejected, self.request.events_repeated());
        let served = u64::try_from((now - sent_at).as_micros()).unwrap_or(u64::MAX);
        self.offered.served_us.saturating_record(served);
        if let Some(ledger) = self.ledger.as_ref().filter(|_| rejected == 0) {
            // A ledger that has failed says so itself.
            drop(ledger.send(self.request.id_lines()).await);
        }
        Ok(())
    }

    /// A request that nobody sends any more.
    fn book_the_end(&mut self, due: Due) {
        if due.may_be_stored {
            self.offered.tally.give_up(Instant::now(), due.events as u64);
        } else if due.attempts > 0 {
            self.offered.tally.refuse(Instant::now(), due.events as u64);
        } else {
            self.offered.events_unsent += due.events as u64;
        }
    }

    async fn attempt(&mut self) -> Result<Answer, Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.clients.shared.target.connect().await?,
        };
        self.offered.tally.attempts += 1;
        self.offered.tally.bytes_sent += self.request.wire().len() as u64;
        let (answer, connection) = connection.exchange(self.request.wire()).await?;
        self.connection = connection;
        Ok(answer)
    }

    fn jittered(&mut self, wait: Duration) -> Duration {
        self.dice = scramble(self.dice);
        wait / 2 + Duration::from_nanos(below(wait.as_nanos() as u64, self.dice))
    }
}
