//! What belongs to the index and how far it goes: `manifest.json`, replaced as a whole by an atomic rename.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::IndexError;
use crate::log::disk::{Disk, read_file, replace_file};

pub(super) const FILE: &str = "manifest.json";
pub(super) const FORMAT: u32 = 2;
/// No log and no index gets as far.
const NUMBER_MAX: u64 = 1 << 62;
/// More merges of merges than there are entries to merge.
const LEVELS_MAX: u32 = 1_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) log_id: String,
    /// The buckets follow from it.
    pub(super) horizon_ms: Option<i64>,
    /// Every first before this position is in a run.
    pub(super) covered: u64,
    /// Log time at `covered`, ms.
    pub(super) log_time: i64,
    /// Firsts are missing that had expired at this log time, ms.
    pub(super) expired_by: i64,
    /// The highest number that was given to a file.
    pub(super) last_file: u64,
    pub(super) runs: Vec<NamedRun>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedRun {
    pub(super) file: String,
    pub(super) bucket: i64,
    pub(super) level: u32,
}

/// The manifest under its checksum: a digit that flipped would be a position like any other.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed<'a> {
    crc32c: u32,
    #[serde(borrow)]
    manifest: &'a RawValue,
}

impl Manifest {
    /// Of an index that covers nothing.
    pub(super) fn empty(log_id: String, horizon_ms: Option<i64>) -> Self {
        let (covered, last_file, runs) = (0, 0, Vec::new());
        Self { format: FORMAT, log_id, horizon_ms, covered, log_time: i64::MIN, expired_by: i64::MIN, last_file, runs }
    }

    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), IndexError> {
        let failed = |error: serde_json::Error| IndexError::Io(error.to_string());
        let manifest = serde_json::value::to_raw_value(self).map_err(failed)?;
        let sealed = Sealed { crc32c: crc32c::crc32c(manifest.get().as_bytes()), manifest: &manifest };
        let bytes = serde_json::to_vec(&sealed).map_err(failed)?;
        Ok(replace_file(disk, dir, FILE, &bytes)?)
    }

    /// `None` if there is none.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, IndexError> {
        let Some(bytes) = read_file(disk, &dir.join(FILE))? else { return Ok(None) };
        Self::parse(&bytes).map(Some)
    }

    /// Reads what [`Manifest::write`] wrote.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let damaged = |what: &str| IndexError::Damaged(format!("{FILE} {what}"));
        let unknown = |_| damaged("is not what was written, or an older version wrote it");
        let sealed: Sealed<'_> = serde_json::from_slice(bytes).map_err(unknown)?;
        if crc32c::crc32c(sealed.manifest.get().as_bytes()) != sealed.crc32c {
            return Err(damaged("is not what was written"));
        }
        let manifest: Self = serde_json::from_str(sealed.manifest.get()).map_err(|_| damaged("is of another version"))?;
        match manifest.format {
            FORMAT if manifest.makes_sense() => Ok(manifest),
            FORMAT => Err(damaged("makes no sense")),
            _ => Err(damaged("is of another version")),
        }
    }

    /// Whether its numbers can be counted on from, and its files are in its directory.
    fn makes_sense(&self) -> bool {
        let is_run = |run: &NamedRun| run.level < LEVELS_MAX && !run.file.contains('/') && run.file.ends_with(".run");
        self.covered.max(self.last_file) < NUMBER_MAX && self.runs.iter().all(is_run)
    }
}
