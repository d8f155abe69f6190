//! `tollgate backup`: a consistent copy of a data directory, also of one that is in use.
//!
//! ```text
//! backup.json      what is in it, with sizes and checksums (checked_json)
//! log/             meta.json and the segments up to the durable end
//! dead-letters/    likewise
//! store.redb       rows, conflicts, progress and documents of one moment, written afresh
//! base/            the newest base, if there is one
//! ```
//!
//! First the store and the base, the log's end last: so the log is ahead of both, as it has to be. The dedup index is left out, a start
//! makes it from base and log. It is made under a name of its own beside its place and renamed when all of it is synced.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files::{self, Unfinished};
use super::{Error, Opened, PARTITION, Step, Watch, base_identity, io_at};
use crate::base::{self, Base};
use crate::checked_json;
use crate::clock::UnixMillis;
use crate::data_dir;
use crate::log::Position;
use crate::log::embedded::{DurableSegment, EmbeddedLog, Settings};
use crate::log::meta::{self, LogMeta};
use crate::store::digest::RowsDigest;
use crate::store::embedded::EmbeddedStore;
use crate::store::{self, Item, Progress, Store};

/// The file that says what is in a backup.
pub const CONTENT: &str = "backup.json";
pub(super) const FORMAT: u32 = 1;
/// How often a base is opened that is just being replaced by the next.
const BASE_ATTEMPTS: usize = 5;

/// What is in a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Version of the layout.
    pub format: u32,
    /// What made it.
    pub tollgate: String,
    /// See [`LogMeta::log_id`].
    pub log_id: String,
    /// When it was begun, UTC.
    pub time: String,
    /// How far the rows go.
    pub position: u64,
    /// Where the log ends.
    pub log_end: u64,
    /// Number of rows.
    pub rows: u64,
    /// Of the rows; `verify` prints the same one after a restore.
    pub digest: String,
    /// Every other file.
    pub files: Vec<BackedUp>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackedUp {
    /// Relative to the backup, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Of all its bytes.
    pub crc32c: u32,
}

/// What a backup is made of: the parts of a data directory, open.
#[derive(Clone)]
pub struct Source {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Of the log.
    pub meta: LogMeta,
    /// The events.
    pub log: Arc<EmbeddedLog>,
    /// What was not taken.
    pub dead_letters: Arc<EmbeddedLog>,
    /// Rows and documents.
    pub store: Arc<dyn Store>,
}

/// Makes a backup of a data directory that no gateway uses.
///
/// # Errors
/// [`Error`]; nothing is left of the backup then. [`data_dir::DataDirError::InUse`]: ask the gateway.
pub fn of_unused(data_dir: &Path, to: &Path, time: UnixMillis, watch: &mut Watch<'_>) -> Result<Content, Error> {
    let opened = Opened::lock(data_dir)?;
    let nothing_goes = Settings { segment_bytes: u64::MAX, retention_age_ms: None, retention_bytes: None, disk_reserve_bytes: 0 };
    let open = |part: &str, name| {
        let dir = opened.dir.join(part);
        // What the next start would do: what was not synced may vanish, so it is in no backup before it is.
        EmbeddedLog::open(opened.disk.clone(), &dir, opened.identity(name), nothing_goes).map(|(log, ..)| log)
    };
    let source = Source {
        data_dir: data_dir.to_owned(),
        meta: opened.meta,
        log: open(data_dir::LOG, "events")?,
        dead_letters: open(data_dir::DEAD_LETTERS, "dead_letters")?,
        store: Arc::new(EmbeddedStore::open(&opened.dir.join(data_dir::STORE))?),
    };
    source.write(to, time, watch)
}

impl Source {
    /// Writes a backup into `to`, which must not be there, or empty. Events go on coming in meanwhile.
    ///
    /// # Errors
    /// [`Error`]; nothing is left of the backup then.
    pub fn write(&self, to: &Path, time: UnixMillis, watch: &mut Watch<'_>) -> Result<Content, Error> {
        check_place(&self.data_dir, to)?;
        let made = Unfinished::begin(files::beside(to, "backup"))?;
        let mut writer = Writer { dir: made.path(), files: Vec::new(), step: Step { what: "rows", done: 0, of: 0 }, watch };
        // Nothing may go from the log before it is copied.
        let (_events, _letters) = (self.log.hold(), self.dead_letters.hold());
        let stored = writer.store(&*self.store)?;
        let base = self.open_base()?;
        let (letters, _) = self.dead_letters.durable();
        let (segments, log_end) = self.log.durable();
        if stored.progress.next > log_end {
            return Err(crate::materializer::Error::RowsAheadOfLog { rows: stored.progress.next, log: log_end }.into());
        }
        let sizes = base.iter().map(|(_, _, bytes)| *bytes).chain(segments.iter().chain(&letters).map(|segment| segment.bytes));
        writer.step = Step { what: "bytes", done: 0, of: sizes.sum() };
        for (path, mut file, bytes) in base {
            writer.copy(&self.data_dir.join(&path), &mut file, &path, bytes)?;
        }
        let meta = Path::new(data_dir::LOG).join(meta::FILE);
        writer.copy_whole(&self.data_dir.join(&meta), &meta)?;
        writer.segments(data_dir::DEAD_LETTERS, &letters)?;
        writer.segments(data_dir::LOG, &segments)?;
        let content = Content {
            format: FORMAT,
            tollgate: env!("CARGO_PKG_VERSION").into(),
            log_id: self.meta.log_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            time: time.to_string(),
            position: stored.progress.next.0,
            log_end: log_end.0,
            rows: stored.digest.rows(),
            digest: stored.digest.finish().to_string(),
            files: writer.files,
        };
        write_content(made.path(), &content)?;
        made.finish(to)?;
        Ok(content)
    }

    /// The files of the newest base, open, so that it does not matter when the next one takes its place.
    fn open_base(&self) -> Result<Vec<(PathBuf, File, u64)>, Error> {
        let bases = self.data_dir.join(data_dir::BASE);
        let mut attempt = 1;
        loop {
            let opened = Base::newest(&bases, &base_identity(&self.meta)).map_err(Error::from).and_then(|base| match base {
                Some(base) => self.open_files(&base),
                None => Ok(Vec::new()),
            });
            match opened {
                Err(Error::Base(base::Error::Damaged { .. }) | Error::Io { .. }) if attempt < BASE_ATTEMPTS => attempt += 1,
                opened => return opened,
            }
        }
    }

    fn open_files(&self, base: &Base) -> Result<Vec<(PathBuf, File, u64)>, Error> {
        let name = Path::new(data_dir::BASE).join(base.dir().file_name().unwrap_or_default());
        let open = |file: PathBuf| {
            let path = name.join(file);
            let full = self.data_dir.join(&path);
            let file = File::open(&full).map_err(io_at(&full))?;
            let bytes = file.metadata().map_err(io_at(&full))?.len();
            Ok((path, file, bytes))
        };
        base.files().into_iter().map(open).collect()
    }
}

/// A backup in the data directory would be lost with it, and one over something would destroy it.
fn check_place(data_dir: &Path, to: &Path) -> Result<(), Error> {
    let refuse = |what: &str| Err(Error::Refused(format!("{}: {what}", to.display())));
    if to.file_name().is_none() {
        return refuse("a backup needs a directory of its own");
    }
    let parent = files::parent(to);
    let parent = fs::canonicalize(parent).map_err(io_at(parent))?;
    let data_dir = fs::canonicalize(data_dir).map_err(io_at(data_dir))?;
    if parent.starts_with(&data_dir) {
        return refuse("a backup inside of the data directory would be lost with it");
    }
    if !files::is_free(to)? {
        return refuse("it is there and not empty; --to takes a directory that is not there yet");
    }
    Ok(())
}

fn write_content(dir: &Path, content: &Content) -> Result<(), Error> {
    let file = dir.join(CONTENT);
    let write = || -> io::Result<()> {
        let mut to = File::create_new(&file)?;
        to.write_all(&checked_json::to_bytes(content)?)?;
        to.sync_all()
    };
    write().map_err(io_at(&file))
}

struct Stored {
    progress: Progress,
    digest: RowsDigest,
}

/// What has been written so far.
struct Writer<'w, 'c> {
    dir: &'w Path,
    files: Vec<BackedUp>,
    step: Step,
    watch: &'w mut Watch<'c>,
}

impl Writer<'_, '_> {
    /// A store with everything that one read transaction sees.
    fn store(&mut self, from: &dyn Store) -> Result<Stored, Error> {
        let path = self.dir.join(data_dir::STORE);
        self.step.of = from.row_count()?;
        let snapshot = from.snapshot()?;
        let mut stored = Stored { progress: snapshot.progress(PARTITION)?, digest: RowsDigest::default() };
        let mut stopped = None;
        let to = EmbeddedStore::open(&path)?;
        // A store without rows has no progress either.
        let progress: &[_] = if stored.progress.next > Position(0) { &[(PARTITION, stored.progress)] } else { &[] };
        let filled = to.fill(progress, &mut |visit| {
            snapshot.visit(&mut |item| {
                if let Item::Row(key, row) = item {
                    stored.digest.add(key, row);
                    if stored.digest.rows().is_multiple_of(4_096) {
                        let step = Step { done: stored.digest.rows(), ..self.step };
                        (self.watch)(step).map_err(|error| {
                            stopped = Some(error);
                            store::Error::Failed("stopped".into())
                        })?;
                    }
                }
                visit(item)
            })
        });
        if let Some(error) = stopped {
            return Err(error);
        }
        filled?;
        drop(to);
        let mut file = File::open(&path).map_err(io_at(&path))?;
        file.sync_all().map_err(io_at(&path))?;
        let bytes = file.metadata().map_err(io_at(&path))?.len();
        let crc32c = files::read(&mut file, &path, bytes, &mut |_| Ok(()))?;
        self.files.push(BackedUp { path: data_dir::STORE.into(), bytes, crc32c });
        Ok(stored)
    }

    fn segments(&mut self, part: &str, segments: &[DurableSegment]) -> Result<(), Error> {
        for DurableSegment { path, bytes } in segments {
            let name = Path::new(part).join(path.file_name().unwrap_or_default());
            let mut file = File::open(path).map_err(io_at(path))?;
            self.copy(path, &mut file, &name, *bytes)?;
        }
        Ok(())
    }

    fn copy_whole(&mut self, from: &Path, name: &Path) -> Result<(), Error> {
        let mut file = File::open(from).map_err(io_at(from))?;
        let bytes = file.metadata().map_err(io_at(from))?.len();
        self.copy(from, &mut file, name, bytes)
    }

    fn copy(&mut self, from: &Path, file: &mut File, name: &Path, bytes: u64) -> Result<(), Error> {
        let Self { dir, step, watch, .. } = self;
        let crc32c = files::copy(file, from, &dir.join(name), bytes, &mut |copied| {
            step.done += copied;
            watch(*step)
        })?;
        self.files.push(BackedUp { path: name.to_string_lossy().into_owned(), bytes, crc32c });
        Ok(())
    }
}
