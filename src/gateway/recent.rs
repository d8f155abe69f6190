//! Recent ids: copies of events that are known to be durable are answered at the door (`design.md`, promise 6).
//!
//! Only a shortcut. What is in here is durable, so a copy of it changes no row, whether it goes on to the log or not. What is
//! not in here, or with other content, or only on its way to the log, goes on: the fold knows what to make of it.
//!
//! An entry for each id in moka costs 1.5 µs and 350 bytes, more than the whole rest of the way. So ids are kept as
//! fingerprints of 16 bytes in generations, and moka is the policy over these: it knows how old and how large they are
//! and which was of use lately, and says which one goes. It is asked once a batch.
//!
//! # Why no row changes
//!
//! Without a dedup horizon a repetition stays one for good. With a horizon H, the copy of an event whose first record was received H
//! ago counts again, and nothing at the door knows when the first was received: what is in here may itself be a repetition, and
//! no age of its entry says more. The time that the event brings does: the door lets it in from `max_event_future` before to
//! `max_event_age` after it, so no two copies that get in are further apart than both together, which is less than H. Hence, with
//! a horizon, ids are remembered only of events that bring their time, and only if both limits are set
//! ([`crate::config::Config::recent_ids`]). Log time is the running maximum of receive times, so it may be ahead of a clock that
//! stepped back: by as much as the limits leave of H, nothing is known ([`Settings::step_back_ms_max`]).
//!
//! Two cases are left, both with a horizon only. A uniqueId that comes again with other content: that is a conflict, and remembered as durable like every
//! record. Should its first copy pass the horizon while it is remembered, then another copy of the conflict would count, and is
//! `known` instead. And limits that were narrowed at a restart: a first that got in under the wider ones may lie further back than the
//! present ones say.

mod generation;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use moka::notification::RemovalCause;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::clock::UnixMillis;
use crate::event::{Fingerprint, MeterEvent};
use crate::telemetry;
use generation::{GROUP, Generation};

/// Bytes of a generation as long as little comes in.
const FIRST_BYTES: usize = 512 << 10;
/// How many times as many ids as the last one had the next generation is made for.
const GROWTH: usize = 4;
/// A generation is at most one such part of all bytes, and gets ids for at most one such part of the age. A look-up
/// reads one line of each that there is.
const PARTS: u32 = 3;
/// Smallest cache that makes sense, in bytes.
pub const BYTES_MIN: u64 = 64 << 10;
/// Longest age that can be set.
pub const AGE_MAX: Duration = Duration::from_secs(365 * 86_400);

/// Whether a copy of an event can come, and may be answered at the door: see above why it must bring its time.
pub fn may_recur(event: &MeterEvent<'_, '_>) -> bool {
    !event.unique_id_generated() && event.time_sent().is_some()
}

/// What an operator may turn.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Memory that ids may take, in bytes; 0: none are remembered.
    pub bytes_max: u64,
    /// How long an id is remembered.
    pub age_max: Duration,
    /// Nothing is known while the clock stands so many ms or more before the latest time that was stamped. `None`: the clock does
    /// not matter.
    pub step_back_ms_max: Option<i64>,
}

/// Remembers ids. Clones share what they remember.
#[derive(Clone)]
pub struct RecentIds(Option<Arc<Shared>>);

struct Shared {
    settings: Settings,
    live: Arc<Live>,
    /// From a generation's number to its size in KiB.
    policy: Cache<u64, u32>,
    filling: Mutex<Filling>,
    /// Latest time that was stamped, in ms.
    latest: AtomicI64,
}

/// The generations that moka has not let go.
#[derive(Default)]
struct Live {
    /// Newest first.
    list: ArcSwap<Vec<Arc<Generation>>>,
    /// The last one that had to go for want of room: its memory is for the one that it made room for.
    made_room: Mutex<Option<Arc<Generation>>>,
}

impl Live {
    fn add(&self, generation: &Arc<Generation>) {
        self.list.rcu(|live| std::iter::once(generation).chain(live.iter()).cloned().collect::<Vec<_>>());
    }

    fn remove(&self, number: u64) -> Option<Arc<Generation>> {
        let before = self.list.rcu(|live| live.iter().filter(|generation| generation.number != number).cloned().collect::<Vec<_>>());
        before.iter().find(|generation| generation.number == number).cloned()
    }

    fn made_room(&self) -> MutexGuard<'_, Option<Arc<Generation>>> {
        self.made_room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The generation that ids go into.
struct Filling {
    generation: Arc<Generation>,
    began: Instant,
}

impl RecentIds {
    /// An empty cache.
    pub fn new(settings: Settings) -> Self {
        if settings.bytes_max == 0 || settings.age_max.is_zero() {
            return Self(None);
        }
        let live = Arc::new(Live::default());
        let listed = live.clone();
        let policy = Cache::builder()
            .max_capacity(settings.bytes_max >> 10)
            .weigher(|_, kib| *kib)
            .time_to_live(settings.age_max)
            // moka's default would refuse a new generation in favour of one that was of use more often.
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |number, _, cause| {
                let forgotten = listed.remove(*number);
                match cause {
                    RemovalCause::Expired => telemetry::count_recent_ids_evicted("age"),
                    RemovalCause::Size => {
                        *listed.made_room() = forgotten;
                        telemetry::count_recent_ids_evicted("size");
                    }
                    // Nobody removes or replaces one.
                    RemovalCause::Explicit | RemovalCause::Replaced => {}
                }
            })
            .build();
        // Stands for the one before the first: nothing fits in.
        let none = Filling { generation: Arc::new(Generation::new(0, 0)), began: Instant::now() };
        Self(Some(Arc::new(Shared { settings, live, policy, filling: Mutex::new(none), latest: AtomicI64::new(i64::MIN) })))
    }

    /// Which of these are known to be durable: their places, ascending. `now` is when they were received.
    pub fn known(&self, ids: &[Fingerprint], now: UnixMillis) -> Vec<u32> {
        match &self.0 {
            Some(shared) if !shared.is_behind(now) => shared.known(ids),
            _ => Vec::new(),
        }
    }

    /// Takes note of events that **are durable**.
    pub fn remember(&self, ids: &[Fingerprint]) {
        if let Some(shared) = &self.0 {
            shared.remember(ids);
        }
    }

    /// Forgets what is too old, also when nothing comes in. Meant to be called from time to time.
    pub fn expire(&self) {
        if let Some(shared) = &self.0 {
            shared.policy.run_pending_tasks();
            *shared.live.made_room() = None;
        }
    }

    /// Sets the metrics; called when they are read.
    pub fn report(&self) {
        let (mut bytes, mut entries) = (0, 0);
        if let Some(shared) = &self.0 {
            for generation in shared.live.list.load().iter() {
                bytes += generation.bytes();
                entries += generation.entries();
            }
        }
        telemetry::set_recent_ids(bytes, entries);
    }
}

impl Shared {
    /// Whether the clock stands too far before log time.
    fn is_behind(&self, now: UnixMillis) -> bool {
        let Some(step_back_ms_max) = self.settings.step_back_ms_max else { return false };
        let latest = self.latest.fetch_max(now.0, Ordering::Relaxed);
        latest.saturating_sub(now.0) >= step_back_ms_max
    }

    fn known(&self, ids: &[Fingerprint]) -> Vec<u32> {
        let live = self.live.list.load();
        let mut known = Vec::new();
        let mut of_use = 0_u64;
        for (first, group) in (0_u32..).step_by(GROUP).zip(ids.chunks(GROUP)) {
            let mut found = 0;
            for (at, generation) in live.iter().enumerate() {
                let here = generation.find(group);
                of_use |= u64::from(here != 0) << at.min(63);
                found |= here;
            }
            known.extend((0..GROUP as u32).filter(|bit| found & (1 << bit) != 0).map(|bit| first + bit));
        }
        for generation in live.iter().enumerate().filter(|(at, _)| of_use & (1 << (*at).min(63)) != 0).map(|(_, generation)| generation) {
            self.policy.get(&generation.number);
        }
        known
    }

    fn remember(&self, ids: &[Fingerprint]) {
        if ids.is_empty() {
            return;
        }
        // A panic in between loses ids at most.
        let mut filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        if filling.began.elapsed() >= self.settings.age_max / PARTS {
            self.begin(&mut filling);
        }
        for group in ids.chunks(GROUP) {
            if filling.generation.entries() + group.len() > filling.generation.entries_max() {
                self.begin(&mut filling);
            }
            filling.generation.insert(group);
        }
    }

    /// Begins the next generation, for a few times as many ids as the last one got.
    fn begin(&self, filling: &mut Filling) {
        let last = &filling.generation;
        // Whole KiB, in which moka counts: rounded up, the last part would not fit.
        let largest = usize::try_from(((self.settings.bytes_max >> 10) / u64::from(PARTS)) << 10).unwrap_or(usize::MAX);
        let bytes = Generation::bytes_for(GROWTH * last.entries()).clamp(FIRST_BYTES.min(largest), largest);
        let next = Arc::new(Generation::new(last.number + 1, bytes));
        // What was filled last is worth most, whether it was of use already or not.
        self.policy.get(&last.number);
        // On the list before moka knows it, so that moka always finds what it takes off; its memory comes after moka has made room.
        self.live.add(&next);
        self.policy.insert(next.number, u32::try_from(next.bytes().div_ceil(1 << 10)).unwrap_or(u32::MAX));
        self.policy.run_pending_tasks();
        let made_room = self.live.made_room().take();
        next.allocate(made_room);
        *filling = Filling { generation: next, began: Instant::now() };
    }
}
