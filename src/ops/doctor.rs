//! `tollgate doctor`: reads every byte of every file of a data directory, says what is wrong and what to do. It repairs nothing.
//!
//! The store is checked in a copy, since redb repairs what it checks.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::{self, Unfinished};
use super::{Error, PARTITION, Step, Watch, base_identity, io_at};
use crate::base::{self, Base};
use crate::data_dir::{self, DataDir};
use crate::log::Position;
use crate::log::disk::RealDisk;
use crate::log::embedded::LogIdentity;
use crate::log::embedded::inspect::{self, Checked, Finding as LogFinding};
use crate::log::meta::{self, LogMeta};
use crate::materializer::first_positions::check;
use crate::store::embedded::EmbeddedStore;
use crate::store::{self, Item, Progress, RowKey, Snapshot, Store};

const BACKUP: &str = "restore the data directory from a backup";
const REBUILD: &str = "`tollgate rebuild` makes it again from the log";
const NEXT_START: &str = "nothing: the next start removes it";

/// What is to be looked at.
#[derive(Debug, Clone)]
pub struct Doctor {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where the store is copied to; into the data directory if not given.
    pub scratch: Option<PathBuf>,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether something is lost or wrong; otherwise it is good to know, no more.
    pub is_damage: bool,
    /// The file, relative to the data directory.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub advice: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_damage { "damage" } else { "note" };
        write!(f, "{kind:6}  {}: {} -> {}", self.file, self.what, self.advice)
    }
}

/// What was read and found.
#[derive(Debug, Default)]
pub struct Diagnosis {
    /// One line each for what is there.
    pub read: Vec<String>,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Whether nothing is lost or wrong.
    pub fn is_healthy(&self) -> bool {
        !self.findings.iter().any(|finding| finding.is_damage)
    }

    fn damage(&mut self, file: impl Into<String>, what: impl fmt::Display, advice: &'static str) {
        self.findings.push(Finding { is_damage: true, file: file.into(), what: what.to_string(), advice });
    }

    fn note(&mut self, file: impl Into<String>, what: impl fmt::Display, advice: &'static str) {
        self.findings.push(Finding { is_damage: false, file: file.into(), what: what.to_string(), advice });
    }
}

impl Doctor {
    /// Looks.
    ///
    /// # Errors
    /// [`Error`]: it could not look.
    pub fn run(&self, watch: &mut Watch<'_>) -> Result<Diagnosis, Error> {
        let dir = DataDir::lock_existing(&self.data_dir)?;
        let mut found = Diagnosis::default();
        let mut step = |done| watch(Step { what: "parts", done, of: 5 });
        strangers(&dir, &mut found)?;
        let Some(meta) = check_meta(&dir, &mut found) else { return Ok(found) };
        step(0)?;
        let log = check_log(&dir, data_dir::LOG, "events", &meta, &mut found)?;
        step(1)?;
        check_log(&dir, data_dir::DEAD_LETTERS, "dead_letters", &meta, &mut found)?;
        step(2)?;
        let base = check_bases(&dir, &meta, &log, &mut found)?;
        step(3)?;
        check_index(&dir, &meta, &log, &mut found);
        step(4)?;
        let scratch = self.scratch.as_ref().map_or_else(|| dir.join("doctor.tmp"), |scratch| scratch.join("tollgate-doctor.tmp"));
        check_store(&dir, scratch, &log, &mut found)?;
        if let (Some(start), true) = (log.map(|log| log.start), base.is_none())
            && start > Position(0)
        {
            found.damage("base", format!("the log begins at position {start} and there is no base for what came before"), BACKUP);
        }
        step(5)?;
        Ok(found)
    }
}

fn strangers(dir: &DataDir, found: &mut Diagnosis) -> Result<(), Error> {
    const KNOWN: [&str; 7] =
        [data_dir::LOG, data_dir::DEAD_LETTERS, data_dir::BASE, data_dir::INDEX, data_dir::STORE, data_dir::LOCK, data_dir::CONTROL];
    for path in files::list(dir.path())? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            found.note(name, "a process that is gone left it unfinished", NEXT_START);
        } else if name == data_dir::CONTROL {
            found.note(name, "the last gateway did not end in good order", "nothing: the next start makes it anew");
        } else if !KNOWN.contains(&name.as_str()) {
            found.note(name, "it is none of tollgate's files", "move it elsewhere if it is not needed");
        }
    }
    Ok(())
}

fn check_meta(dir: &DataDir, found: &mut Diagnosis) -> Option<LogMeta> {
    let file = format!("{}/{}", data_dir::LOG, meta::FILE);
    match meta::read(&RealDisk, &dir.join(data_dir::LOG)) {
        Ok(Some(meta)) => return Some(meta),
        Ok(None) => found.damage(file, "it is missing; no other file can be checked without it", BACKUP),
        Err(error) => found.damage(file, error, BACKUP),
    }
    None
}

/// `None` if there is damage, so that nothing can be said of its end.
fn check_log(
    dir: &DataDir,
    name: &'static str,
    label: &'static str,
    meta: &LogMeta,
    found: &mut Diagnosis,
) -> Result<Option<Checked>, Error> {
    let path = dir.join(name);
    if !path.is_dir() {
        found.note(name, "it is missing", "nothing: the next start makes an empty one");
        return Ok(None);
    }
    let advice = if name == data_dir::LOG { BACKUP } else { "no usage depends on it: move the file away, or restore it from a backup" };
    let mut is_damaged = false;
    let identity = LogIdentity { log_id: meta.log_id, name: label };
    let checked = inspect::check(&RealDisk, &path, &identity, &mut |one| match one {
        LogFinding::Damaged(error) => {
            is_damaged = true;
            let (file, what) = in_data_dir(dir, &error);
            found.damage(file, what, advice);
        }
        LogFinding::Index { file, what, misleads: true } => {
            found.damage(format!("{name}/{file}"), what, "delete it: it is made again from the segment");
        }
        LogFinding::Index { file, what, misleads: false } => {
            found.note(format!("{name}/{file}"), what, "nothing: it is made again from the segment");
        }
        LogFinding::Torn { file, bytes } => {
            found.note(
                format!("{name}/{file}"),
                format!("{bytes} bytes of a write that was never acknowledged"),
                "nothing: the next start cuts them off",
            );
        }
        LogFinding::Stranger { file, is_leftover: true } => {
            found.note(format!("{name}/{file}"), "a process that is gone left it unfinished", NEXT_START);
        }
        LogFinding::Stranger { file, is_leftover: false } => {
            found.note(format!("{name}/{file}"), "it is none of the log's files", "move it elsewhere if it is not needed");
        }
    })?;
    let Checked { segments, start, end, .. } = checked;
    found.read.push(format!("{name}  {segments} segments  positions {start} to {end}"));
    Ok((!is_damaged).then_some(checked))
}

/// The file that an error names, relative to the data directory, and what is wrong with it.
fn in_data_dir(dir: &DataDir, error: &crate::log::Error) -> (String, String) {
    let relative = |file: &str| Path::new(file).strip_prefix(dir.path()).map_or(file.to_owned(), |path| path.display().to_string());
    match error {
        crate::log::Error::Corrupt { file, offset, what } => (relative(file), format!("damaged at byte {offset}: {what}")),
        crate::log::Error::Io { file, error } => (relative(file), format!("it cannot be read: {error}")),
        crate::log::Error::Newer { file, version, known, .. } => {
            (relative(file), format!("it has records of version {version}, this binary knows up to {known}"))
        }
        other => (data_dir::LOG.into(), other.to_string()),
    }
}

fn check_bases(dir: &DataDir, meta: &LogMeta, log: &Option<Checked>, found: &mut Diagnosis) -> Result<Option<Position>, Error> {
    let bases = dir.join(data_dir::BASE);
    for path in base::leftovers(&bases)? {
        let name = format!("{}/{}", data_dir::BASE, path.file_name().unwrap_or_default().to_string_lossy());
        if path.extension().is_some_and(|extension| extension == "tmp") {
            found.note(name, "a process that is gone left it unfinished", NEXT_START);
        } else {
            found.note(name, "it is none of tollgate's files", "move it elsewhere if it is not needed");
        }
    }
    // Without the begin of the log the base is all there is of it; with it, it is only a shortcut.
    let is_needed = log.as_ref().is_none_or(|log| log.start > Position(0));
    let advice = if is_needed { BACKUP } else { "delete the directory: the log still has all of it" };
    let base = match Base::newest(&bases, &base_identity(meta)) {
        Ok(None) => return Ok(None),
        Ok(Some(base)) => base,
        Err(error) => {
            found.damage(data_dir::BASE, error, advice);
            return Ok(Some(Position(0)));
        }
    };
    let name = format!("{}/{}", data_dir::BASE, base.dir().file_name().unwrap_or_default().to_string_lossy());
    let position = base.progress().next;
    if let Err(error) = base.visit(&mut |_| Ok(())) {
        found.damage(format!("{name}/rows"), error, advice);
    }
    let index = check_index_files(&base.index_dir(), &format!("{name}/index"), meta, advice, found);
    if index.findings.is_empty() && index.covered.is_none_or(|covered| covered < position) {
        found.damage(format!("{name}/index"), "it does not cover the base's position", advice);
    }
    if log.as_ref().is_some_and(|log| position < log.start || log.end < position) {
        found.damage(&name, format!("it stands at position {position}, outside of the log"), BACKUP);
    }
    found.read.push(format!("{name}  {} rows", base.rows()));
    Ok(Some(position))
}

fn check_index(dir: &DataDir, meta: &LogMeta, log: &Option<Checked>, found: &mut Diagnosis) {
    const ADVICE: &str = "delete the directory: it is made again from base and log";
    let index = check_index_files(&dir.join(data_dir::INDEX), data_dir::INDEX, meta, ADVICE, found);
    let Some(covered) = index.covered else { return };
    if log.as_ref().is_some_and(|log| covered > log.end) {
        found.damage(data_dir::INDEX, format!("it covers the log up to {covered}, which ends before"), BACKUP);
    }
    found.read.push(format!("{}  {} entries  covers up to {covered}", data_dir::INDEX, index.entries));
}

fn check_index_files(path: &Path, name: &str, meta: &LogMeta, advice: &'static str, found: &mut Diagnosis) -> check::Checked {
    let index = check::check(&RealDisk, path, meta.log_id);
    for stranger in &index.strangers {
        found.note(format!("{name}/{stranger}"), "a process that is gone left it", NEXT_START);
    }
    for finding in &index.findings {
        found.damage(format!("{name}/{}", finding.file), &finding.what, advice);
    }
    index
}

fn check_store(dir: &DataDir, scratch: PathBuf, log: &Option<Checked>, found: &mut Diagnosis) -> Result<(), Error> {
    let path = dir.join(data_dir::STORE);
    if !path.is_file() {
        let advice = "restore it from a backup; or start without it: usage is made again, accounts, keys and customers are gone";
        found.damage(data_dir::STORE, "it is missing", advice);
        return Ok(());
    }
    let scratch = Unfinished::begin(scratch)?;
    let copy = scratch.path().join(data_dir::STORE);
    fs::copy(&path, &copy).map_err(io_at(&copy))?;
    let opened = EmbeddedStore::open(&copy).and_then(|mut store| Ok((store.check_pages()?, store)));
    let store = match opened {
        Ok((true, store)) => store,
        Ok((false, store)) => {
            found.damage(data_dir::STORE, "redb found pages that are not what was written", REBUILD);
            store
        }
        Err(store::Error::Failed(what)) => return Err(store::Error::Failed(what).into()),
        Err(error) => {
            found.damage(data_dir::STORE, error, BACKUP);
            return Ok(());
        }
    };
    let snapshot = store.snapshot()?;
    check_rows(&*snapshot, found);
    check_documents(&store, found);
    match snapshot.progress(PARTITION) {
        Ok(progress) => check_progress(progress, log, found),
        Err(error) => found.damage(data_dir::STORE, error, REBUILD),
    }
    Ok(())
}

fn check_rows(snapshot: &dyn Snapshot, found: &mut Diagnosis) {
    let (mut rows, mut documents, mut unknown) = (0_u64, 0_u64, 0_u64);
    let visited = snapshot.visit(&mut |item| {
        match item {
            Item::Row(key, _) => {
                rows += 1;
                unknown += u64::from(RowKey::read(key).is_none());
            }
            Item::Conflict(_) => {}
            Item::Document(..) => documents += 1,
        }
        Ok(())
    });
    if let Err(error) = visited {
        found.damage(data_dir::STORE, format!("after {rows} rows and {documents} documents: {error}"), REBUILD);
    }
    if unknown > 0 {
        found.damage(data_dir::STORE, format!("{unknown} rows have a key that cannot be read"), REBUILD);
    }
    found.read.push(format!("{}  {rows} rows  {documents} documents", data_dir::STORE));
}

fn check_documents(store: &EmbeddedStore, found: &mut Diagnosis) {
    let visited = store.visit_documents(&mut |item| {
        if let Item::Document(_, account, id, document) = item
            && serde_json::from_slice::<serde::de::IgnoredAny>(document).is_err()
        {
            found.damage(data_dir::STORE, format!("the document {id} of account {account} is no JSON"), BACKUP);
        }
        Ok(())
    });
    if let Err(error) = visited {
        found.damage(data_dir::STORE, error, BACKUP);
    }
}

fn check_progress(progress: Progress, log: &Option<Checked>, found: &mut Diagnosis) {
    let Some(log) = log else { return };
    let next = progress.next;
    if next > log.end {
        found.damage(data_dir::STORE, format!("the rows stand at position {next}, but the log ends at {}", log.end), BACKUP);
    } else if next < log.start {
        found.damage(data_dir::STORE, format!("the rows stand at position {next}, but the log begins at {}", log.start), REBUILD);
    } else if next == log.end && log.segments > 0 && log.start == Position(0) && progress.log_time != log.newest {
        let what = format!("the rows say log time {}, the log {}", progress.log_time, log.newest);
        found.damage(data_dir::STORE, what, REBUILD);
    }
}
