//! Named points of the code at which a test lets the process die. In a release build there is nothing of it.
//!
//! In a debug build `TOLLGATE_KILL_AT=append:17` kills the process, as `kill -9` does, when the point `append` is passed for the
//! 17th time. [`POINTS`] has the names. Limits that a test wants smaller than production has them are read from the
//! environment, too ([`limit`]).

/// The points, in the order of an event's way; those of the start and of retention come last.
pub const POINTS: [&str; 17] = [
    // The log: before a group is written, before it is synced, before it is answered, behind the answers.
    "append",
    "appended",
    "synced",
    "answered",
    // A segment has ended in good order, and the next one is not made yet.
    "segment-roll",
    // The materializer: a chunk is folded, a commit begins, a commit is durable and not taken over.
    "folded",
    "commit-begin",
    "committed",
    // The dedup index: before and behind a run's file, before and behind a merge's, before and behind the manifest.
    "index-write",
    "index-written",
    "index-merge",
    "index-merged",
    "index-manifest",
    "index-manifested",
    // Recovery: the copy of the tail is synced, has taken the old one's place, has its index.
    "recovery-copied",
    "recovery-renamed",
    "recovery-indexed",
];

/// Those that only a node of a cluster passes: records that cannot be decoded are kept, and the commit that passes them is not made; runs that
/// another node gave are on the disk and nobody's yet; the manifest names them.
pub const CLUSTER_POINTS: [&str; 3] = ["undecodable-kept", "handover-fetched", "handover-installed"];

/// Passes a point.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_name: &'static str) {}

/// Passes a point: the process dies here if it was told to.
#[cfg(debug_assertions)]
pub fn point(name: &'static str) {
    debug_assert!(POINTS.contains(&name) || CLUSTER_POINTS.contains(&name), "{name} is not in the list of points");
    armed::pass(name);
}

/// A limit as production has it.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn limit(_variable: &'static str, production: usize) -> usize {
    production
}

/// A limit; the environment's if the variable is set.
#[cfg(debug_assertions)]
pub fn limit(variable: &'static str, production: usize) -> usize {
    armed::limit(variable).unwrap_or(production)
}

#[cfg(debug_assertions)]
mod armed {
    use std::collections::HashMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{LazyLock, Mutex, PoisonError};

    /// Which point, and how often it may still be passed.
    struct Armed {
        name: String,
        left: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("TOLLGATE_KILL_AT").ok()?;
        let (name, passes) = text.split_once(':').unwrap_or((&text, "1"));
        let left = passes.parse().ok().filter(|passes| *passes > 0);
        match left {
            Some(left) if super::POINTS.contains(&name) || super::CLUSTER_POINTS.contains(&name) => {
                Some(Armed { name: name.to_owned(), left: AtomicU64::new(left) })
            }
            // A test that arms nothing would pass for the wrong reason.
            _ => {
                eprintln!(
                    "TOLLGATE_KILL_AT={text} names no point and pass of it; the points are {:?} {:?}",
                    super::POINTS,
                    super::CLUSTER_POINTS
                );
                std::process::abort();
            }
        }
    });

    pub(super) fn pass(name: &'static str) {
        let Some(armed) = &*ARMED else { return };
        if armed.name == name && armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // As kill -9: nothing is unwound, nothing is flushed.
            let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            eprintln!("SIGKILL at {name} failed: {killed:?}");
            std::process::abort();
        }
    }

    pub(super) fn limit(variable: &'static str) -> Option<usize> {
        static READ: LazyLock<Mutex<HashMap<&'static str, Option<usize>>>> = LazyLock::new(Mutex::default);
        let mut read = READ.lock().unwrap_or_else(PoisonError::into_inner);
        *read.entry(variable).or_insert_with(|| std::env::var(variable).ok()?.parse().ok())
    }
}
