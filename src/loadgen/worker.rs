//! One connection's loop: take a ticket, send, insist until there is an answer, book the outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::watch;

use super::events::{RequestBuffer, Workload, below, scramble};
use super::ledger::Lines;
use super::schedule::{Schedule, Ticket};
use super::tally::{Problem, Tally};
use super::wire::{Answer, Connection, Failure, Target};

/// tokio's timer and the poll below it each round up to a millisecond. So it is set this much early: a request may go
/// out up to 2 ms before its time, and the generator's own lateness does not count as the server's.
pub(super) const TIMER_STEP: Duration = Duration::from_millis(2);

/// Waits between attempts: doubled from the first to the last, half of it random.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A longer `Retry-After` is cut to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// No attempt begins later than this after the first one of its request. Outlasts the restart of a killed server.
const INSIST: Duration = Duration::from_secs(60);

/// How far a run is. Goes up only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Requests are sent.
    Running,
    /// No new request and no new attempt; answers are waited for.
    Draining,
    /// What is still unanswered is given up.
    Abandoned,
}

/// Waits for a phase. The run's main thread holds the other end.
#[derive(Debug, Clone)]
pub(super) struct Phases(watch::Receiver<Phase>);

impl Phases {
    /// Follows what `receiver` says.
    pub(super) fn new(receiver: watch::Receiver<Phase>) -> Self {
        Self(receiver)
    }

    /// Whether requests are sent still.
    pub(super) fn is_running(&self) -> bool {
        *self.0.borrow() == Phase::Running
    }

    /// Returns once the run is in `phase` or a later one, or has lost its main thread.
    pub(super) async fn reached(&mut self, phase: Phase) {
        drop(self.0.wait_for(|now| *now >= phase).await);
    }
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    /// What to send.
    pub(super) workload: Workload,
    /// When.
    pub(super) schedule: Schedule,
    /// Where to.
    pub(super) target: Target,
    /// Events acked so far, for the progress bar and for noticing a hopeless run.
    pub(super) events_acked: AtomicU64,
}

/// One connection and its loop.
#[derive(Debug)]
pub(super) struct Worker {
    shared: Arc<Shared>,
    phases: Phases,
    request: RequestBuffer,
    ledger: Option<Lines>,
    /// `None` before the first request and after a failure; the next attempt opens a new one.
    connection: Option<Connection>,
    /// State of the dice for backoff.
    dice: u64,
    /// Events of the request that is on its way.
    events_in_flight: usize,
    tally: Tally,
}

/// How a request ended.
enum Outcome {
    Acked(Answer),
    /// Every attempt was answered with no.
    Refused,
    /// No attempt succeeded, and at least one may have been carried out.
    Unknown,
}

impl Worker {
    /// Connection number `number` of a run.
    pub(super) fn new(
        number: u64,
        shared: Arc<Shared>,
        phases: Phases,
        request: RequestBuffer,
        ledger: Option<Lines>,
    ) -> anyhow::Result<Self> {
        let tally = Tally::new()?;
        Ok(Self { shared, phases, request, ledger, connection: None, dice: number, events_in_flight: 0, tally })
    }

    /// Sends until the tickets are used up or the run is over. Gives back what it counted.
    ///
    /// # Errors
    /// The compressor failed. A server that fails is no error, it is counted; a ledger that fails ends the loop.
    pub(super) async fn run(mut self) -> anyhow::Result<Tally> {
        let mut phases = self.phases.clone();
        tokio::select! {
            biased;
            result = self.send_all() => result?,
            () = phases.reached(Phase::Abandoned) => {}
        }
        self.tally.events_unknown += self.events_in_flight as u64;
        Ok(self.tally)
    }

    async fn send_all(&mut self) -> anyhow::Result<()> {
        // Connections are opened before the start, so that no latency holds that of opening one.
        match self.shared.target.connect().await {
            Ok(connection) => self.connection = Some(connection),
            Err(failure) => self.tally.count(Problem::Failure(failure)),
        }
        if !self.wait_until(self.shared.schedule.start()).await {
            return Ok(());
        }
        while self.phases.is_running() {
            let Some(ticket) = self.shared.schedule.take() else {
                return Ok(());
            };
            if let Some(wake_at) = ticket.intended.and_then(|at| at.checked_sub(TIMER_STEP))
                && Instant::now() < wake_at
                && !self.wait_until(wake_at).await
            {
                return Ok(());
            }
            if !self.send_one(ticket).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Sends one request and books it. The answer is whether to go on.
    async fn send_one(&mut self, ticket: Ticket) -> anyhow::Result<bool> {
        self.request.prepare(&self.shared.workload, ticket.first, ticket.events).context("cannot compress a body")?;
        let sent_at = Instant::now();
        self.events_in_flight = ticket.events;
        let outcome = self.insist(sent_at).await;
        self.events_in_flight = 0;
        let ended_at = Instant::now();
        let events = ticket.events as u64;
        match outcome {
            Outcome::Acked(answer) => {
                // A late request is measured from when it was due, an early one from when it was sent.
                let begun_at = ticket.intended.map_or(sent_at, |intended| intended.min(sent_at));
                let rejected = answer.rejected.min(events);
                self.tally.ack(begun_at, ended_at, events - rejected, rejected, self.request.events_repeated());
                // Relaxed: for display and a rough decision only.
                self.shared.events_acked.fetch_add(events - rejected, Ordering::Relaxed);
                // Which events were rejected is not known, so none of them is claimed to have been acked.
                match self.ledger.as_ref().filter(|_| rejected == 0) {
                    // A closed ledger has failed; its own thread tells why.
                    Some(ledger) => Ok(ledger.send(self.request.id_lines()).await.is_ok()),
                    None => Ok(true),
                }
            }
            Outcome::Unknown => {
                self.tally.give_up(ended_at, events);
                Ok(true)
            }
            Outcome::Refused => {
                self.tally.refuse(ended_at, events);
                // A wrong key or path: a million times no would tell nothing more.
                Ok(self.shared.events_acked.load(Ordering::Relaxed) > 0)
            }
        }
    }

    /// Sends the same bytes again and again until they are taken, refused for good, or the time is up.
    async fn insist(&mut self, first_at: Instant) -> Outcome {
        let mut may_be_stored = false;
        let mut backoff = BACKOFF_FIRST;
        loop {
            let mut wait = self.jittered(backoff);
            match self.attempt().await {
                Ok(answer) if answer.is_success() => return Outcome::Acked(answer),
                Ok(answer) => {
                    self.tally.count_answer(&answer);
                    may_be_stored |= may_be_stored_after(answer.status);
                    if !is_worth_another_attempt(answer.status) {
                        return unacked(may_be_stored);
                    }
                    if let Some(retry_after) = answer.retry_after {
                        wait = wait.max(retry_after.min(RETRY_AFTER_MAX));
                    }
                }
                Err(failure) => {
                    self.tally.count(Problem::Failure(failure));
                    may_be_stored |= failure.may_have_arrived();
                }
            }
            let again_at = Instant::now() + wait;
            if again_at - first_at > INSIST || !self.wait_until(again_at).await {
                return unacked(may_be_stored);
            }
            self.tally.retries += 1;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Sends the prepared bytes once.
    async fn attempt(&mut self) -> Result<Answer, Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.shared.target.connect().await?,
        };
        self.tally.attempts += 1;
        self.tally.bytes_sent += self.request.wire().len() as u64;
        let (answer, connection) = connection.exchange(self.request.wire()).await?;
        self.connection = connection;
        Ok(answer)
    }

    /// Sleeps; `false` if the run ended before.
    async fn wait_until(&mut self, at: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.phases.reached(Phase::Draining) => false,
            () = tokio::time::sleep_until(at.into()) => true,
        }
    }

    fn jittered(&mut self, backoff: Duration) -> Duration {
        self.dice = scramble(self.dice);
        let half = backoff / 2;
        half + Duration::from_nanos(below(half.as_nanos() as u64, self.dice))
    }
}

fn unacked(may_be_stored: bool) -> Outcome {
    if may_be_stored { Outcome::Unknown } else { Outcome::Refused }
}

/// The statuses after which real clients send again (contract `amberflo.md`, section 0), and 408.
pub(super) fn is_worth_another_attempt(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// After a 5xx some or all events may be stored; every other refusal says that none is.
pub(super) fn may_be_stored_after(status: u16) -> bool {
    status >= 500
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::super::events::{Encoding, Mix};
    use super::super::wire::Reach;
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_will_not_is_not() {
        assert!([408, 429, 500, 502, 503, 599].into_iter().all(is_worth_another_attempt));
        assert!(![301, 400, 401, 404, 413, 415].into_iter().any(is_worth_another_attempt));
    }

    #[test]
    fn refused_and_unknown_are_kept_apart() {
        assert!([500, 503].into_iter().all(may_be_stored_after));
        assert!(![400, 401, 408, 413, 429].into_iter().any(may_be_stored_after));
        assert!(!Failure::Connect.may_have_arrived());
        assert!(Failure::Timeout.may_have_arrived());
    }

    /// Reads one request to the last byte of its body.
    fn read_request(stream: &mut BufReader<TcpStream>) -> Vec<u8> {
        let mut request = Vec::new();
        let mut body_bytes = 0;
        while !request.ends_with(b"\r\n\r\n") {
            let mut line = String::new();
            assert!(stream.read_line(&mut line).expect("a line") > 0, "the head is cut");
            if let Some(length) = line.strip_prefix("Content-Length: ") {
                body_bytes = length.trim().parse().expect("a number");
            }
            request.extend_from_slice(line.as_bytes());
        }
        let head_bytes = request.len();
        request.resize(head_bytes + body_bytes, 0);
        stream.read_exact(&mut request[head_bytes..]).expect("a body");
        request
    }

    /// Runs one connection with one request of 100 events against a server that answers the attempts in turn
    /// (`None` = hangs up without a word). Gives what was counted, and what the server got.
    fn run_against(answers: Vec<Option<&'static str>>) -> (Tally, Vec<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = std::thread::spawn(move || {
            let accept = || BufReader::new(listener.accept().expect("a connection").0);
            let mut stream = accept();
            let mut requests = Vec::new();
            let mut answers = answers.into_iter().peekable();
            while let Some(answer) = answers.next() {
                requests.push(read_request(&mut stream));
                match answer {
                    Some(answer) => stream.get_mut().write_all(answer.as_bytes()).expect("written"),
                    None if answers.peek().is_some() => {
                        stream.get_ref().shutdown(std::net::Shutdown::Both).expect("hung up");
                        stream = accept();
                    }
                    None => {}
                }
            }
            requests
        });
        let mix = Mix {
            events_per_request: 100,
            customers: 10,
            meters: 1,
            dimension_sets: 1,
            repeated_millionths: 0,
            late_millionths: 0,
            rate: None,
        };
        let workload = Workload::new(1, 1_767_225_600_000, mix);
        let target = Target::find(&url, None, Reach::Loopback).expect("a target");
        let request = RequestBuffer::new(&workload, 100, target.head(), Encoding::Identity);
        let schedule = Schedule::new(Instant::now(), 100, 100, None);
        let shared = Arc::new(Shared { workload, schedule, target, events_acked: AtomicU64::new(0) });
        let (_phase, phases) = watch::channel(Phase::Running);
        let worker = Worker::new(0, shared, Phases::new(phases), request, None).expect("a worker");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let tally = runtime.block_on(worker.run()).expect("a tally");
        (tally, server.join().expect("the server"))
    }

    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const BUSY: &str = "HTTP/1.1 503 Busy\r\nRetry-After: 0\r\nContent-Length: 4\r\n\r\nbusy";
    const NO: &str = "HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n";

    #[test]
    fn every_attempt_sends_the_same_bytes_until_one_is_acked() {
        let (tally, requests) = run_against(vec![None, Some(BUSY), Some(OK)]);
        assert_eq!(requests.len(), 3);
        assert!(requests.iter().all(|request| *request == requests[0]));
        assert_eq!((tally.requests_acked, tally.events_acked, tally.attempts, tally.retries), (1, 100, 3, 2));
        let problems = [(Problem::Status(503), 1), (Problem::Failure(Failure::Receive), 1)];
        assert_eq!(tally.problems.into_iter().collect::<Vec<_>>(), problems);
        assert_eq!(tally.bytes_sent, 3 * requests[0].len() as u64);
    }

    #[test]
    fn a_plain_yes_of_any_server_takes_all_events() {
        for answer in ["HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nwhat is it?\n", "HTTP/1.1 204 No Content\r\n\r\n", OK] {
            let (tally, _) = run_against(vec![Some(answer)]);
            assert_eq!((tally.requests_acked, tally.events_acked, tally.events_rejected), (1, 100, 0), "{answer}");
            assert!(tally.problems.is_empty());
        }
    }

    #[test]
    fn a_no_is_final_and_leaves_open_what_an_earlier_attempt_did() {
        let (tally, _) = run_against(vec![Some(NO)]);
        assert_eq!((tally.events_refused, tally.events_unknown, tally.events_acked), (100, 0, 0));
        let (tally, _) = run_against(vec![Some(BUSY), Some(NO)]);
        assert_eq!((tally.events_refused, tally.events_unknown, tally.events_acked), (0, 100, 0));
    }
}
