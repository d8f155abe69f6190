//! Requests that were handed to Kafka and are not answered yet: who waits, how many records are left, and whether more may be
//! handed over.
//!
//! A request is counted down by the delivery reports of its records; nothing waits for a single one. What is finished is
//! gathered until [`InFlight::flush`], so that the runtime is woken once for many.
//!
//! Records are handed over only while Kafka takes them. What it does not confirm for a while is its last for now: further requests
//! are held back, and refused when their time is over. So of an outage, only the requests at its begin have an unknown outcome, the
//! others are known not to be written. One at a time is let through to see whether Kafka is back.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::message::{DeliveryResult, Message};

use crate::event::Fingerprint;
use crate::log::{Answer, Answers, Done, Error, Place, Position, Positions};

/// So long without a confirmation, with records under way, and nothing more is handed over.
const STALLED: Duration = Duration::from_secs(1);
/// So long without anything to send, and nobody knows whether Kafka is still there.
const SILENCE: Duration = Duration::from_secs(10);
/// What a record costs beside its bytes, in librdkafka and here.
pub(super) const RECORD_BYTES: usize = 512;

/// A ticket is the slot of a request and the place of a record in it.
const _: () = assert!(usize::BITS == 64, "a delivery report carries 64 bits back");

/// Where a request is kept that was handed over, or is about to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

impl Slot {
    /// The ticket of one of its records.
    pub(super) fn ticket(self, record: u32) -> usize {
        (self.0 as usize) << 32 | record as usize
    }

    fn of(ticket: usize) -> (Self, usize) {
        (Self((ticket >> 32) as u32), ticket & u32::MAX as usize)
    }
}

/// Who waits for a request.
pub(super) struct Waiting {
    pub(super) done: Done,
    pub(super) fingerprints: Vec<Fingerprint>,
    pub(super) answers: Answers,
}

struct Request {
    bytes: usize,
    since: Instant,
    /// When nobody waits any longer.
    deadline: Instant,
    /// Records whose outcome is not known.
    left: u32,
    places: Vec<Place>,
    /// `None` once it is answered.
    waiting: Option<Waiting>,
    failed: Option<Error>,
}

impl Request {
    /// Takes the answer out, if it was not given yet.
    fn answer(&mut self, unless: Option<Error>) -> Option<(Answers, Answer)> {
        let Waiting { done, fingerprints, answers } = self.waiting.take()?;
        let records = self.places.len() as u32;
        let result = match unless.or(self.failed.take()) {
            Some(error) => Err(error),
            None => Ok(Positions::Each(std::mem::take(&mut self.places))),
        };
        Some((answers, Answer { to: done, records, fingerprints, result }))
    }
}

/// Everything that is under way to one topic. One thread hands over and takes reports; the lock is for librdkafka's sake, which
/// would call from any.
pub(super) struct InFlight {
    name: &'static str,
    bytes_max: usize,
    state: Mutex<State>,
}

struct State {
    slots: Vec<Option<Request>>,
    free: Vec<u32>,
    gate: Gate,
    reported: Reported,
}

/// Whether more may be handed over.
struct Gate {
    requests: usize,
    bytes: usize,
    /// The last confirmation, or when something was handed over with nothing else under way.
    progress: Instant,
    /// The last report was a failure, or there was none for long: one request at a time.
    is_suspect: bool,
    /// A new producer is being made.
    is_shut: bool,
}

impl Gate {
    fn lets_through(&self, bytes: usize, bytes_max: usize, now: Instant) -> bool {
        let is_well = !self.is_suspect && now.saturating_duration_since(self.progress) < STALLED;
        !self.is_shut && (self.requests == 0 || (is_well && self.bytes + bytes <= bytes_max))
    }
}

/// What was reported since the last flush.
#[derive(Default)]
struct Reported {
    finished: Vec<(Answers, Answer)>,
    has_succeeded: bool,
    has_failed: bool,
}

impl InFlight {
    pub(super) fn new(name: &'static str, bytes_max: usize) -> Self {
        // Nobody knows whether Kafka is there.
        let gate = Gate { requests: 0, bytes: 0, progress: Instant::now(), is_suspect: true, is_shut: false };
        let state = State { slots: Vec::new(), free: Vec::new(), gate, reported: Reported::default() };
        Self { name, bytes_max, state: Mutex::new(state) }
    }

    /// Whether a request of this size may be handed over now; it counts as under way then.
    pub(super) fn admit(&self, bytes: usize) -> bool {
        let (now, gate) = (Instant::now(), &mut self.state().gate);
        if !gate.lets_through(bytes, self.bytes_max, now) {
            return false;
        }
        if gate.requests == 0 {
            // After a long silence, one goes ahead.
            gate.is_suspect |= now.saturating_duration_since(gate.progress) > SILENCE;
            gate.progress = now;
        }
        gate.requests += 1;
        gate.bytes += bytes;
        true
    }

    /// Notes a request that was admitted.
    pub(super) fn begin(&self, records: u32, bytes: usize, since: Instant, deadline: Instant, waiting: Waiting) -> Slot {
        // A record that Kafka had already got, and confirmed once more, may come without its position.
        let places = vec![Place { partition: 0, position: None }; records as usize];
        let request = Request { bytes, since, deadline, left: records, places, waiting: Some(waiting), failed: None };
        let State { slots, free, .. } = &mut *self.state();
        let slot = free.pop().unwrap_or_else(|| {
            slots.push(None);
            slots.len() as u32 - 1
        });
        slots[slot as usize] = Some(request);
        Slot(slot)
    }

    /// The last `unsent` records of a request cannot be handed over.
    pub(super) fn give_up(&self, slot: Slot, unsent: u32, error: Error) {
        self.count_down(slot, unsent, |_| Err(error));
    }

    /// One record's report.
    pub(super) fn delivered(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let (slot, record) = Slot::of(ticket);
        self.count_down(slot, 1, |places| match result {
            Ok(message) => {
                if let Some(place) = places.get_mut(record) {
                    let partition = u32::try_from(message.partition()).unwrap_or_default();
                    *place = Place { partition, position: u64::try_from(message.offset()).ok().map(Position) };
                }
                Ok(())
            }
            // Whether it was sent is known to librdkafka alone: its status of a message is not to be had without `unsafe`.
            Err((error, _)) => Err(Error::Unconfirmed(error.to_string())),
        });
    }

    /// What became of some records of a request is known; with the last of them it is answered, of several errors with the first.
    fn count_down(&self, slot: Slot, records: u32, note: impl FnOnce(&mut [Place]) -> Result<(), Error>) {
        let State { slots, free, gate, reported } = &mut *self.state();
        let Some(place) = slots.get_mut(slot.0 as usize) else { return };
        let Some(request) = place else { return };
        match note(&mut request.places) {
            Ok(()) => reported.has_succeeded = true,
            Err(error) => {
                reported.has_failed = true;
                request.failed.get_or_insert(error);
            }
        }
        request.left -= records;
        if request.left == 0 {
            gate.requests -= 1;
            gate.bytes -= request.bytes;
            reported.finished.extend(self.answer(request, None));
            *place = None;
            free.push(slot.0);
        }
    }

    fn answer(&self, request: &mut Request, unless: Option<Error>) -> Option<(Answers, Answer)> {
        let answer = request.answer(unless)?;
        crate::telemetry::observe_confirmed(self.name, request.since.elapsed());
        Some(answer)
    }

    /// Hands in what is finished.
    pub(super) fn flush(&self) {
        let mut state = self.state();
        let Reported { finished, has_succeeded, has_failed } = std::mem::take(&mut state.reported);
        if has_succeeded || has_failed {
            // What failed beside what succeeded was refused for itself.
            state.gate.is_suspect = !has_succeeded;
            if has_succeeded {
                state.gate.progress = Instant::now();
            }
        }
        drop(state);
        give(finished);
    }

    /// Answers requests that have waited too long, whatever Kafka says of them later.
    pub(super) fn expire(&self, now: Instant) {
        self.end(|request| request.deadline <= now, "it took too long");
    }

    /// Answers all requests.
    pub(super) fn abandon(&self) {
        self.end(|_| true, "the process is stopping");
    }

    fn end(&self, is_over: impl Fn(&Request) -> bool, why: &str) {
        let mut state = self.state();
        let over = state.slots.iter_mut().flatten().filter(|request| is_over(request));
        let answers = over.filter_map(|request| self.answer(request, Some(Error::Unconfirmed(why.into())))).collect();
        drop(state);
        give(answers);
    }

    /// Requests under way.
    pub(super) fn requests(&self) -> usize {
        self.state().gate.requests
    }

    /// Lets nothing through, or no longer.
    pub(super) fn set_shut(&self, is_shut: bool) {
        self.state().gate.is_shut = is_shut;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is changed in steps that leave it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands answers in, those of one way together.
fn give(finished: Vec<(Answers, Answer)>) {
    let mut finished = finished.into_iter().peekable();
    while let Some((answers, first)) = finished.next() {
        let mut together = vec![first];
        while let Some((_, next)) = finished.next_if(|(others, _)| others.is_same(&answers)) {
            together.push(next);
        }
        answers.give(together);
    }
}
