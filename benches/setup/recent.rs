//! Ids, and a cache that remembers some.

use std::time::Duration;

use tollgate::clock::UnixMillis;
use tollgate::event::{ContentHash, Fingerprint, HashKey};
use tollgate::gateway::recent::{RecentIds, Settings};

pub(crate) const NOW: UnixMillis = UnixMillis(1_767_227_400_000);

pub(crate) fn id(number: u64) -> Fingerprint {
    Fingerprint::of(HashKey::from_bytes([7; 16]).identity(number.to_string().as_bytes()), ContentHash(7))
}

/// As much as by default, and so many ids remembered (the oldest may be forgotten already).
pub(crate) fn filled(ids: u64) -> RecentIds {
    let recent = RecentIds::new(Settings { bytes_max: 128 << 20, age_max: Duration::from_secs(7_200), step_back_ms_max: None });
    let all: Vec<_> = (0..ids).map(id).collect();
    all.chunks(1_000).for_each(|batch| recent.remember(batch));
    recent
}
