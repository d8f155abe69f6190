//! What an index finds in its directory.

use std::path::Path;
use std::sync::Arc;

use super::manifest::{self, Manifest, NamedRun};
use super::run::Run;
use super::{IndexError, Placed};
use crate::clock::UnixMillis;
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
    if manifest.log_id != log_id || manifest.horizon_ms != horizon_ms {
        return Err(IndexError::Damaged("it belongs to another log".into()));
    }
    if UnixMillis(manifest.expired_by) > committed {
        return Err(IndexError::Damaged(format!(
            "it has dropped what had expired at {}, and the rows stand at {committed}",
            UnixMillis(manifest.expired_by)
        )));
    }
    let open = |named: &NamedRun| {
        let run = Arc::new(Run::open(disk, dir, &named.file)?);
        Ok(Placed { bucket: named.bucket, level: named.level, run })
    };
    let runs = manifest.runs.iter().map(open).collect::<Result<_, IndexError>>()?;
    Ok(Some((manifest, runs)))
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
