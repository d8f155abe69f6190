//! What operators do to a data directory: [`verify`], [`rebuild`], [`doctor`], [`backup`], [`restore`].
//!
//! Each takes the directory's lock, so that nothing changes under it; only a backup is also made by a running gateway, which is asked
//! for it over the [`control`] socket.

pub mod backup;
pub mod control;
pub mod doctor;
mod files;
pub mod handover;
pub mod rebuild;
pub mod restore;
pub mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{self, Base, BaseIdentity};
use crate::clock::Clock;
use crate::data_dir::{self, DataDir, DataDirError};
use crate::log::disk::{Disk, RealDisk};
use crate::log::embedded::{EmbeddedLog, LogIdentity, PARTITION};
use crate::log::meta::{self, LogMeta, MetaError};
use crate::log::{self, Position};
use crate::materializer::{self, replay};
use crate::store::digest::{Digest, RowsDigest};
use crate::store::embedded::EmbeddedStore;
use crate::store::{self, Item, Progress, Snapshot};

/// Why something could not be done. What it was done to is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for makes no sense, or would harm.
    #[error("{0}")]
    Refused(String),
    /// The data directory cannot be had.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log's metadata cannot be used.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// The log cannot be read.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// A store cannot be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The log cannot be folded.
    #[error(transparent)]
    Fold(#[from] materializer::Error),
    /// The base cannot be used.
    #[error(transparent)]
    Base(#[from] base::Error),
    /// Reading or writing a file failed.
    #[error("{}: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// A file is not what was written.
    #[error("{} is damaged: {what}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Nobody waits for it any more, or the process is stopping.
    #[error("it was stopped before it was done")]
    Stopped,
}

fn io_at(file: &Path) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Io { file: file.to_owned(), error }
}

/// How far something has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What is being done.
    pub what: &'static str,
    /// So much of it.
    pub done: u64,
    /// Of so much.
    pub of: u64,
}

/// Is told how far it has come; an error ends it.
pub type Watch<'w> = dyn FnMut(Step) -> Result<(), Error> + 'w;

/// A data directory with its lock, and what its log was made with.
struct Opened {
    dir: DataDir,
    meta: LogMeta,
    disk: Arc<dyn Disk>,
}

impl Opened {
    fn lock(path: &Path) -> Result<Self, Error> {
        let dir = DataDir::lock_existing(path)?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let meta = meta::read(&*disk, &dir.join(data_dir::LOG))?;
        let meta = meta.ok_or_else(|| MetaError::Damaged("it is missing".into()))?;
        Ok(Self { dir, meta, disk })
    }

    fn identity(&self, name: &'static str) -> LogIdentity {
        LogIdentity { log_id: self.meta.log_id, name }
    }

    fn newest_base(&self) -> Result<Option<Base>, Error> {
        Ok(Base::newest(&self.dir.join(data_dir::BASE), &base_identity(&self.meta))?)
    }

    /// Where a replay has to begin: `None` for the begin of the log, if it is still there.
    fn replay_base(&self, log: &EmbeddedLog, from_base: FromBase) -> Result<Option<Base>, Error> {
        if log.start() == Position(0) && from_base == FromBase::IfNeeded {
            return Ok(None);
        }
        let start = log.start();
        match self.newest_base()? {
            Some(base) if base.progress().next >= start => Ok(Some(base)),
            Some(base) => Err(Error::Refused(format!(
                "the log begins at position {start}, but the base stands at {}: restore the data directory from a backup",
                base.progress().next
            ))),
            None if start == Position(0) => Err(Error::Refused("there is no base: none was needed so far".into())),
            None => Err(Error::Refused(format!(
                "the log begins at position {start}, and there is no base for what came before: restore the data directory from a backup"
            ))),
        }
    }
}

fn base_identity(meta: &LogMeta) -> BaseIdentity {
    BaseIdentity { log_id: meta.log_id, partition: PARTITION }
}

/// When a replay begins with the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromBase {
    /// When the log does not go back to the begin.
    IfNeeded,
    /// In any case.
    Always,
}

/// Where the rows of a partition stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Which partition.
    pub partition: u32,
    /// How far they go.
    pub progress: Progress,
    /// How many they are.
    pub rows: u64,
    /// Conflicts that are kept with them.
    pub conflicts: u64,
    /// Of the rows.
    pub digest: Digest,
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { partition, progress, rows, digest, .. } = self;
        write!(f, "partition {partition}  position {}  rows {rows}  {digest}", progress.next)
    }
}

/// Reads all rows.
fn standing(snapshot: &dyn Snapshot) -> Result<Standing, store::Error> {
    let (mut digest, mut conflicts) = (RowsDigest::default(), 0);
    snapshot.visit(&mut |item| {
        match item {
            Item::Row(key, row) => digest.add(key, row),
            Item::Conflict(_) => conflicts += 1,
            Item::Document(..) => {}
        }
        Ok(())
    })?;
    Ok(Standing { partition: PARTITION, progress: snapshot.progress(PARTITION)?, rows: digest.rows(), conflicts, digest: digest.finish() })
}

/// Folds a log from the begin or from a base into a new store and a new index in `dir`, up to exactly `until`.
fn fold_anew(
    dir: &Path,
    opened: &Opened,
    log: &Arc<EmbeddedLog>,
    base: Option<&Base>,
    until: Position,
    watch: &mut Watch<'_>,
) -> Result<Arc<EmbeddedStore>, Error> {
    let store = Arc::new(EmbeddedStore::open(&dir.join(data_dir::STORE))?);
    let index_dir = dir.join(data_dir::INDEX);
    if let Some(base) = base {
        fill_from(&store, base)?;
        base.copy_index(&index_dir)?;
    }
    let parts = materializer::Parts {
        log: log.clone(),
        meta: opened.meta,
        store: store.clone(),
        disk: opened.disk.clone(),
        index_dir,
        clock: Clock::start(),
        commit_interval: materializer::commit_interval(),
        bases: None,
        undecodable: None,
    };
    let begin = base.map_or(0, |base| base.progress().next.0);
    let step = |at: Position| Step { what: "events", done: at.0 - begin, of: until.0 - begin };
    replay::replay(parts, until, &mut |at| watch(step(at)).map_err(|_| materializer::Error::Stopped))?;
    Ok(store)
}

fn fill_from(store: &EmbeddedStore, base: &Base) -> Result<(), Error> {
    let mut failed = None;
    let filled = store.fill(&[(PARTITION, base.progress())], &mut |visit| {
        base.visit(visit).map_err(|error| match error {
            base::Error::Store(error) => error,
            other => {
                let said = store::Error::Damaged(other.to_string());
                failed = Some(other);
                said
            }
        })
    });
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(filled?),
    }
}
