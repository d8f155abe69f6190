//! An embedded log of the benchmarks' own.

use std::path::Path;
use std::sync::Arc;

use tollgate::log::Answer;
use tollgate::log::disk::Disk;
use tollgate::log::embedded::{EmbeddedAppender, EmbeddedLog, LogIdentity, Settings};

/// Keeps the disk from filling up: what is more than this goes.
const KEPT_BYTES: u64 = 512 << 20;
/// As the materializer reads.
pub(crate) const READ_BYTES: usize = 512 << 10;

/// The log in a directory.
pub(crate) fn open(disk: impl Disk + 'static, dir: &Path) -> (Arc<EmbeddedLog>, EmbeddedAppender) {
    let settings =
        Settings { segment_bytes: KEPT_BYTES / 4, retention_age_ms: None, retention_bytes: Some(KEPT_BYTES), disk_reserve_bytes: 0 };
    let identity = LogIdentity { log_id: [3; 16], name: "events" };
    let (log, appender, _) = EmbeddedLog::open(Arc::new(disk), dir, identity, settings).expect("opens");
    (log, appender)
}

pub(crate) fn durable(answers: Vec<Answer>) {
    assert!(answers.iter().all(|answer| answer.result.is_ok()));
}
