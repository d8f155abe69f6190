//! An index on demand: frozen where the fold stands, linked into another directory, checked.

use std::path::Path;

use super::run::Run;
use super::{FORMAT, FirstPositions, IndexError, MANIFEST, Manifest};
use crate::clock::UnixMillis;
use crate::log::Position;
use crate::log::disk::{Disk, read_file, replace_file};

impl FirstPositions {
    /// Freezes the table although it is not full, so that everything before `next`, where the log time is `log_time`, is soon
    /// covered. Does nothing while a table is being written: ask again until [`FirstPositions::covered`] is far enough.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn freeze_at(&mut self, next: Position, log_time: UnixMillis) -> Result<(), IndexError> {
        if self.frozen.is_none() && next > self.covered {
            self.freeze(next, log_time)?;
        }
        Ok(())
    }

    /// Links all runs into the new directory `dir` and writes a manifest there: an index that covers as much as this one.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn link_into(&self, dir: &Path) -> Result<(), IndexError> {
        self.disk.create_dir(dir)?;
        for run in self.runs.values().flatten() {
            std::fs::hard_link(self.dir.join(run.name()), dir.join(run.name()))?;
        }
        Ok(replace_file(&*self.disk, dir, MANIFEST, &self.manifest()?)?)
    }
}

/// What a check found in an index that is in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What it covers.
    pub covered: Position,
    /// Its entries.
    pub entries: u64,
    /// Its files.
    pub files: Vec<String>,
}

/// Reads every byte of the index in `dir`, which nobody has open; changes nothing. `None` if there is none.
///
/// # Errors
/// [`IndexError::Damaged`] says what is wrong.
pub fn check(disk: &dyn Disk, dir: &Path, log_id: [u8; 16]) -> Result<Option<Checked>, IndexError> {
    let Some(bytes) = read_file(disk, &dir.join(MANIFEST))? else { return Ok(None) };
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| IndexError::Damaged(format!("{MANIFEST}: {error}")))?;
    let log_id: String = log_id.iter().map(|byte| format!("{byte:02x}")).collect();
    if manifest.format != FORMAT || manifest.log_id != log_id {
        return Err(IndexError::Damaged("it belongs to another log or to another version".into()));
    }
    let mut checked = Checked { covered: Position(manifest.covered), entries: 0, files: vec![MANIFEST.into()] };
    for name in manifest.levels.into_values().flatten() {
        let run = Run::open(disk, dir, &name)?;
        let mut last = None;
        for entry in run.entries() {
            let entry = entry?;
            if last.is_some_and(|last| last >= entry) || entry.position >= manifest.covered {
                return Err(IndexError::Damaged(format!("{name}: its entries are out of order")));
            }
            last = Some(entry);
            checked.entries += 1;
        }
        checked.files.push(name);
    }
    Ok(Some(checked))
}
