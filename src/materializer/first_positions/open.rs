//! What an index finds in its directory.

use std::path::Path;
use std::sync::Arc;

use super::manifest::{self, Manifest, NamedRun};
use super::run::Run;
use super::{IndexError, Placed};
use crate::clock::UnixMillis;
use crate::log::Position;
use crate::log::disk::Disk;

/// What the manifest names, if it fits: see [`super::FirstPositions::open`].
pub(super) fn load(
    disk: &dyn Disk,
    dir: &Path,
    log_id: &str,
    horizon_ms: Option<i64>,
    committed: UnixMillis,
) -> Result<Option<(Manifest, Vec<Placed>)>, IndexError> {
    let Some(manifest) = Manifest::read(disk, dir)? else { return Ok(None) };
    check_fits(&manifest, log_id, horizon_ms, committed)?;
    let open = |named: &NamedRun| {
        let run = Arc::new(Run::open(disk, dir, &named.file)?);
        Ok(Placed { bucket: named.bucket, level: named.level, run })
    };
    let runs = manifest.runs.iter().map(open).collect::<Result<_, IndexError>>()?;
    Ok(Some((manifest, runs)))
}

/// Whether an index can be used: it is of this log, and has everything that can still be asked for.
pub(super) fn check_fits(manifest: &Manifest, log_id: &str, horizon_ms: Option<i64>, committed: UnixMillis) -> Result<(), IndexError> {
    if manifest.log_id != log_id || manifest.horizon_ms != horizon_ms {
        return Err(IndexError::Damaged("it belongs to another log".into()));
    }
    if UnixMillis(manifest.expired_by) > committed {
        return Err(IndexError::Damaged(format!(
            "it has dropped what had expired at {}, and the rows stand at {committed}",
            UnixMillis(manifest.expired_by)
        )));
    }
    Ok(())
}

/// Removes files that the manifest does not name: the work of a process that died.
pub(super) fn remove_strangers(disk: &dyn Disk, dir: &Path, runs: &[Placed], is_new: bool) -> Result<(), IndexError> {
    let is_known = |name: &str| (name == manifest::FILE && !is_new) || runs.iter().any(|placed| placed.run.name() == name);
    let mut strangers = disk.list(dir)?;
    strangers.retain(|name| !is_known(name));
    strangers.iter().try_for_each(|name| disk.remove(&dir.join(name)))?;
    // A manifest that came back after a power cut would find other runs under the names that it knows.
    if strangers.is_empty() { Ok(()) } else { Ok(disk.sync_dir(dir)?) }
}

/// Puts one in the place of an index that nobody has open which covers everything before `start` and has nothing of it: all of that had expired at
/// `committed`.
///
/// # Errors
/// [`IndexError::Io`].
pub fn begin_at(
    disk: &dyn Disk,
    dir: &Path,
    log_id: [u8; 16],
    horizon_ms: i64,
    start: Position,
    committed: UnixMillis,
) -> Result<(), IndexError> {
    let empty = Manifest::empty(hex::encode(log_id), Some(horizon_ms));
    let last_file = Manifest::read(disk, dir).ok().flatten().map_or(0, |manifest| manifest.last_file);
    Manifest { covered: start.0, expired_by: committed.0, last_file, ..empty }.write(disk, dir)
}

/// Removes an index that nobody has open: the manifest first, so that the rest is nobody's. Returns how many files there were.
///
/// # Errors
/// What the operating system says.
pub fn remove_index(disk: &dyn Disk, dir: &Path) -> std::io::Result<usize> {
    let mut files = disk.list(dir)?;
    files.sort_by_key(|name| name != manifest::FILE);
    for name in &files {
        disk.remove(&dir.join(name))?;
        if name == manifest::FILE {
            disk.sync_dir(dir)?;
        }
    }
    Ok(files.len())
}
