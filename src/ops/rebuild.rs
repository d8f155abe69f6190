//! `tollgate rebuild`: makes rows, conflicts and dedup index again from the log, or from the base and the log. Documents are in no
//! log, so they are kept.
//!
//! Everything is made in `rebuild.tmp`. The switch begins with taking the old index away, which a start would make again; then the
//! store takes the old one's place in one rename; then the index. Wherever it is killed, one store, whole, is there.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::{self, Unfinished};
use super::{Error, FromBase, Opened, Standing, Watch, fold_anew, io_at, standing};
use crate::data_dir;
use crate::log::Position;
use crate::log::embedded::{EmbeddedLog, Settings};
use crate::store::embedded::EmbeddedStore;
use crate::store::{self, Store};

/// What is to be rebuilt.
#[derive(Debug, Clone)]
pub struct Rebuild {
    /// The data directory.
    pub data_dir: PathBuf,
}

/// What came of it.
#[derive(Debug)]
pub struct Rebuilt {
    /// The position that the replay began at, if that was a base's.
    pub base: Option<Position>,
    /// As it was; otherwise why that cannot be said.
    pub before: Result<Standing, String>,
    /// As it is now.
    pub after: Standing,
    /// Documents that were kept.
    pub documents: u64,
}

impl Rebuild {
    /// Does it.
    ///
    /// # Errors
    /// [`Error`]; the data directory can be started with as before.
    pub fn run(&self, watch: &mut Watch<'_>) -> Result<Rebuilt, Error> {
        let opened = Opened::lock(&self.data_dir)?;
        opened.dir.remove_leftovers().map_err(io_at(&self.data_dir))?;
        // As a start would: what is made from the log from here on must not vanish from it.
        let nothing_goes = Settings { segment_bytes: u64::MAX, retention_age_ms: None, retention_bytes: None, disk_reserve_bytes: 0 };
        let log_dir = opened.dir.join(data_dir::LOG);
        let (log, ..) = EmbeddedLog::open(opened.disk.clone(), &log_dir, opened.identity("events"), nothing_goes)?;
        let base = opened.replay_base(&log, FromBase::IfNeeded)?;
        let begin = base.as_ref().map_or(Position(0), |base| base.progress().next);
        let old = open_old(&opened.dir.join(data_dir::STORE))?;
        let before = match &old {
            Some(old) => old.snapshot().and_then(|snapshot| standing(&*snapshot)).map_err(|error| error.to_string()),
            None => Err("there was no store".into()),
        };
        let stored = match &old {
            Some(old) => old.snapshot()?.progress(super::PARTITION).ok().map(|progress| progress.next),
            None => None,
        };
        // To the same position, so that the digests can be compared; the next start folds the rest.
        let until = stored.filter(|position| (begin..=log.end()).contains(position)).unwrap_or(log.end()).max(begin);
        let made = Unfinished::begin(opened.dir.join("rebuild.tmp"))?;
        let store = fold_anew(made.path(), &opened, &log, base.as_ref(), until, watch)?;
        let mut documents = 0;
        if let Some(old) = old {
            store.fill(&[], &mut |visit| {
                old.visit_documents(&mut |document| {
                    documents += 1;
                    visit(document)
                })
            })?;
        }
        let after = standing(&*store.snapshot()?)?;
        drop(store);
        switch(&opened, made.path())?;
        Ok(Rebuilt { base: base.map(|base| base.progress().next), before, after, documents })
    }
}

/// The store with the documents, if there is one. One that cannot be opened is not thrown away: it has what nothing else has.
fn open_old(path: &Path) -> Result<Option<EmbeddedStore>, Error> {
    if !path.exists() {
        return Ok(None);
    }
    EmbeddedStore::open(path).map(Some).map_err(|error| match error {
        store::Error::Damaged(what) => Error::Refused(format!(
            "{what}\naccounts, keys and customers are only in this file: restore it from a backup; or, to begin without them, move it away and rebuild again"
        )),
        error => error.into(),
    })
}

fn switch(opened: &Opened, made: &Path) -> Result<(), Error> {
    let root = opened.dir.path();
    let [index, store] = [data_dir::INDEX, data_dir::STORE].map(|name| (opened.dir.join(name), made.join(name)));
    fs::File::open(&store.1).and_then(|file| file.sync_all()).map_err(io_at(&store.1))?;
    files::sync_dirs(made)?;
    if index.0.exists() {
        let old = made.join("old-index");
        fs::rename(&index.0, &old).map_err(io_at(&index.0))?;
        files::sync_dir(root)?;
    }
    fs::rename(&store.1, &store.0).map_err(io_at(&store.0))?;
    files::sync_dir(root)?;
    fs::rename(&index.1, &index.0).map_err(io_at(&index.0))?;
    files::sync_dir(root)
}
