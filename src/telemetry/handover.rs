//! Partitions that go from one node to another, with their dedup indexes.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_histogram, histogram};

/// Seconds from when this node was told that a partition is its to the first verdict that it may give there. Labels: `how` = new (there was
/// nothing yet) | resumed (from the index on its own disk) | fetched (with another node's index) | read (the log, from its begin).
pub const TAKEN_SECONDS: &str = "tollgate_handover_seconds";
/// Bytes of indexes that came from other nodes.
pub const FETCHED_BYTES_TOTAL: &str = "tollgate_handover_fetched_bytes_total";
/// Files of indexes that came from other nodes and were put to use.
pub const FETCHED_FILES_TOTAL: &str = "tollgate_handover_fetched_files_total";
/// Bytes of indexes that were given to other nodes.
pub const GIVEN_BYTES_TOTAL: &str = "tollgate_handover_given_bytes_total";
/// Indexes that did not come from another node: what could not be fetched was read from the log. Labels: `reason`, see [`NotFetched`].
pub const FAILURES_TOTAL: &str = "tollgate_handover_failures_total";

pub(super) const SECONDS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0];

/// How a partition was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenHow {
    /// There was nothing yet.
    New,
    /// From the index on its own disk, and what came since.
    Resumed,
    /// With another node's index, and what came since.
    Fetched,
    /// The log was read from its begin.
    Read,
}

impl TakenHow {
    const ALL: [Self; 4] = [Self::New, Self::Resumed, Self::Fetched, Self::Read];

    /// As it stands in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Resumed => "resumed",
            Self::Fetched => "fetched",
            Self::Read => "read",
        }
    }
}

/// Why an index did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotFetched {
    /// The other node does not answer.
    Unreachable,
    /// It answers, but does not give it.
    Refused,
    /// It is not what was asked for, or not what was written.
    Damaged,
    /// It came in part, or too slowly.
    Cut,
    /// It finds no room here, or cannot be written.
    Disk,
}

impl NotFetched {
    const ALL: [Self; 5] = [Self::Unreachable, Self::Refused, Self::Damaged, Self::Cut, Self::Disk];

    /// As it stands in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Damaged => "damaged",
            Self::Cut => "cut",
            Self::Disk => "disk",
        }
    }
}

pub(super) fn describe() {
    describe_histogram!(TAKEN_SECONDS, "Seconds from when a partition became this node's to the first verdict, by how it was taken.");
    describe_counter!(FETCHED_BYTES_TOTAL, "Bytes of dedup indexes that came from other nodes.");
    describe_counter!(FETCHED_FILES_TOTAL, "Files of dedup indexes that came from other nodes and were put to use.");
    describe_counter!(GIVEN_BYTES_TOTAL, "Bytes of dedup indexes that were given to other nodes.");
    describe_counter!(FAILURES_TOTAL, "Dedup indexes that did not come from another node, by reason.");
}

pub(super) fn begin() {
    TakenHow::ALL.iter().for_each(|how| drop(histogram!(TAKEN_SECONDS, "how" => how.label())));
    [FETCHED_BYTES_TOTAL, FETCHED_FILES_TOTAL, GIVEN_BYTES_TOTAL].iter().for_each(|name| counter!(*name).increment(0));
    NotFetched::ALL.iter().for_each(|reason| counter!(FAILURES_TOTAL, "reason" => reason.label()).increment(0));
}

/// Records that a partition was taken.
pub fn observe_taken(how: TakenHow, took: Duration) {
    histogram!(TAKEN_SECONDS, "how" => how.label()).record(took);
}

/// Counts bytes that came.
pub fn count_fetched_bytes(bytes: u64) {
    counter!(FETCHED_BYTES_TOTAL).increment(bytes);
}

/// Counts files of an index that is in use now.
pub fn count_fetched_files(files: u64) {
    counter!(FETCHED_FILES_TOTAL).increment(files);
}

/// Counts bytes that were given.
pub fn count_given_bytes(bytes: u64) {
    counter!(GIVEN_BYTES_TOTAL).increment(bytes);
}

/// Counts an index that did not come.
pub fn count_not_fetched(reason: NotFetched) {
    counter!(FAILURES_TOTAL, "reason" => reason.label()).increment(1);
}
