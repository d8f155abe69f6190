//! Requests that were handed to Kafka and are not answered yet: who waits, how many records are left, and whether more may be
//! handed over.
//!
//! A request is counted down by the delivery reports of its records; nothing waits for a single one. What is finished is
//! gathered until [`InFlight::flush`], so that the runtime is woken once for many.
//!
//! Records are handed over only while Kafka takes them. What it does not confirm for a while is its last for now: further requests
//! are held back, and refused when their time is over. So of an outage, only the requests at its begin have an unknown outcome, the
//! others are known not to be written. One at a time is let through to see whether Kafka is back.

use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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

fn ticket(slot: u32, record: u32) -> usize {
    (slot as usize) << 32 | record as usize
}

/// Who waits for a request.
pub(super) struct Waiting {
    pub(super) done: Done,
    pub(super) fingerprints: Vec<Fingerprint>,
    pub(super) answers: Answers,
}

/// A request whose records were handed over, or are about to be.
pub(super) struct Request {
    slot: u32,
    bytes: usize,
    since: Instant,
    /// When nobody waits any longer.
    deadline: Instant,
    /// Records whose outcome is not known.
    left: AtomicU32,
    records: Box<[RecordAt]>,
    /// `None` once it is answered.
    open: Mutex<Option<Open>>,
}

struct Open {
    waiting: Waiting,
    failed: Option<Error>,
}

struct RecordAt {
    partition: AtomicI32,
    offset: AtomicI64,
}

impl Request {
    /// The ticket of one of its records.
    pub(super) fn ticket(&self, record: u32) -> usize {
        ticket(self.slot, record)
    }

    /// Its outcome, unless all is well: of several errors the first.
    fn fail(&self, error: Error) {
        if let Some(open) = &mut *lock(&self.open) {
            open.failed.get_or_insert(error);
        }
    }

    fn place(&self, record: &RecordAt) -> Place {
        let offset = record.offset.load(Ordering::Relaxed);
        // A record that Kafka had already got, and confirmed once more, may come without its offset.
        let position = u64::try_from(offset).ok().map(Position);
        Place { partition: u32::try_from(record.partition.load(Ordering::Relaxed)).unwrap_or_default(), position }
    }

    /// Takes the answer out, if it was not given yet.
    fn answer(&self, unless: Option<Error>) -> Option<(Answers, Answer)> {
        let Open { waiting, failed } = lock(&self.open).take()?;
        let result = match unless.or(failed) {
            Some(error) => Err(error),
            None => Ok(Positions::Each(self.records.iter().map(|record| self.place(record)).collect())),
        };
        let Waiting { done, fingerprints, answers } = waiting;
        Some((answers, Answer { to: done, records: self.records.len() as u32, fingerprints, result }))
    }
}

/// Everything that is under way to one topic.
pub(super) struct InFlight {
    name: &'static str,
    bytes_max: usize,
    slots: Mutex<Slots>,
    gate: Mutex<Gate>,
    /// The gate may have opened.
    changed: Condvar,
    delivered: Mutex<Delivered>,
}

#[derive(Default)]
struct Slots {
    requests: Vec<Option<Arc<Request>>>,
    free: Vec<u32>,
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
struct Delivered {
    /// Reports of one batch are mostly of the same request.
    latest: Option<Arc<Request>>,
    finished: Vec<(Answers, Answer)>,
    requests: usize,
    bytes: usize,
    has_succeeded: bool,
    has_failed: bool,
}

impl InFlight {
    pub(super) fn new(name: &'static str, bytes_max: usize) -> Self {
        // Nobody knows whether Kafka is there.
        let gate = Gate { requests: 0, bytes: 0, progress: Instant::now(), is_suspect: true, is_shut: false };
        Self { name, bytes_max, slots: Mutex::default(), gate: Mutex::new(gate), changed: Condvar::new(), delivered: Mutex::default() }
    }

    /// Waits until a request of this size may be handed over; `false` if that was not so before its deadline.
    pub(super) fn admit(&self, bytes: usize, deadline: Instant) -> bool {
        let mut gate = lock(&self.gate);
        loop {
            let now = Instant::now();
            if gate.lets_through(bytes, self.bytes_max, now) {
                if gate.requests == 0 {
                    // After a long silence, one goes ahead.
                    gate.is_suspect |= now.saturating_duration_since(gate.progress) > SILENCE;
                    gate.progress = now;
                }
                gate.requests += 1;
                gate.bytes += bytes;
                self.changed.notify_all();
                return true;
            }
            let Some(left) = deadline.checked_duration_since(now).filter(|left| !left.is_zero()) else { return false };
            gate = self.changed.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Notes a request that was admitted.
    pub(super) fn begin(&self, records: u32, bytes: usize, since: Instant, deadline: Instant, waiting: Waiting) -> Arc<Request> {
        let mut slots = lock(&self.slots);
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.requests.push(None);
            slots.requests.len() as u32 - 1
        });
        let request = Arc::new(Request {
            slot,
            bytes,
            since,
            deadline,
            left: AtomicU32::new(records),
            records: (0..records).map(|_| RecordAt { partition: AtomicI32::new(-1), offset: AtomicI64::new(-1) }).collect(),
            open: Mutex::new(Some(Open { waiting, failed: None })),
        });
        slots.requests[slot as usize] = Some(request.clone());
        request
    }

    /// The last `unsent` records of a request cannot be handed over.
    pub(super) fn give_up(&self, request: &Arc<Request>, unsent: u32, error: Error) {
        request.fail(error);
        let mut delivered = lock(&self.delivered);
        delivered.has_failed = true;
        self.count_down(request, unsent, &mut delivered);
    }

    /// One record's report.
    pub(super) fn delivered(&self, result: &DeliveryResult<'_>, ticket: usize) {
        let mut delivered = lock(&self.delivered);
        let (slot, record) = ((ticket >> 32) as u32, ticket as u32);
        let request = match delivered.latest.take() {
            Some(latest) if latest.slot == slot => latest,
            _ => {
                let slots = lock(&self.slots);
                let Some(Some(request)) = slots.requests.get(slot as usize) else { return };
                request.clone()
            }
        };
        match result {
            Ok(message) => {
                delivered.has_succeeded = true;
                if let Some(at) = request.records.get(record as usize) {
                    at.partition.store(message.partition(), Ordering::Relaxed);
                    at.offset.store(message.offset(), Ordering::Relaxed);
                }
            }
            // Whether it was sent is known to librdkafka alone: its status of a message is not to be had without `unsafe`.
            Err((error, _)) => {
                delivered.has_failed = true;
                request.fail(Error::Unconfirmed(error.to_string()));
            }
        }
        if !self.count_down(&request, 1, &mut delivered) {
            delivered.latest = Some(request);
        }
    }

    /// Gives back whether it was the end of the request.
    fn count_down(&self, request: &Arc<Request>, records: u32, delivered: &mut Delivered) -> bool {
        if request.left.fetch_sub(records, Ordering::AcqRel) != records {
            return false;
        }
        // Its slot is free for another one.
        delivered.latest.take_if(|latest| latest.slot == request.slot);
        delivered.requests += 1;
        delivered.bytes += request.bytes;
        delivered.finished.extend(self.answer(request, None));
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.requests.get_mut(request.slot as usize) {
            *slot = None;
            slots.free.push(request.slot);
        }
        true
    }

    fn answer(&self, request: &Request, unless: Option<Error>) -> Option<(Answers, Answer)> {
        let answer = request.answer(unless)?;
        crate::telemetry::observe_confirmed(self.name, request.since.elapsed());
        Some(answer)
    }

    /// Hands in what is finished, and lets through who waits.
    pub(super) fn flush(&self) {
        let mut delivered = lock(&self.delivered);
        let done = std::mem::take(&mut *delivered);
        delivered.latest = done.latest;
        drop(delivered);
        if done.has_succeeded || done.has_failed {
            let mut gate = lock(&self.gate);
            gate.requests = gate.requests.saturating_sub(done.requests);
            gate.bytes = gate.bytes.saturating_sub(done.bytes);
            // What failed beside what succeeded was refused for itself.
            gate.is_suspect = !done.has_succeeded;
            if done.has_succeeded {
                gate.progress = Instant::now();
            }
            self.changed.notify_all();
        }
        give(done.finished);
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
        let over: Vec<_> = lock(&self.slots).requests.iter().flatten().filter(|request| is_over(request)).cloned().collect();
        let answers = over.iter().filter_map(|request| self.answer(request, Some(Error::Unconfirmed(why.into()))));
        give(answers.collect());
    }

    /// Requests under way.
    pub(super) fn requests(&self) -> usize {
        lock(&self.gate).requests
    }

    /// Lets nothing through, or no longer.
    pub(super) fn set_shut(&self, is_shut: bool) {
        lock(&self.gate).is_shut = is_shut;
        self.changed.notify_all();
    }

    /// Waits until something is under way, or for so long.
    pub(super) fn wait_for_work(&self, patience: Duration) {
        let gate = lock(&self.gate);
        if gate.requests == 0 {
            drop(self.changed.wait_timeout(gate, patience).unwrap_or_else(PoisonError::into_inner));
        }
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is changed in steps that leave it whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
