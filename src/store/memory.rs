//! A store in memory, for unit tests: what a store does, without a disk or a server. Several parts of a test can share one, as
//! the nodes of a cluster share a database.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{
    CONFLICTS_MAX, Change, Commit, Conflict, Error, Item, KeyRange, Kind, Progress, Row, RowKey, RowSelection, Rows, Shared, SharedChanges,
    Snapshot, Store, Version, Visit,
};
use crate::clock::UnixMillis;
use crate::log::Position;

/// Below (code of the kind, account, id).
type Documents = BTreeMap<(u8, u32, String), Vec<u8>>;

#[derive(Clone, Default)]
struct Content {
    rows: BTreeMap<Vec<u8>, Row>,
    progress: BTreeMap<u32, Progress>,
    /// (account, partition, position) to the position of the first.
    conflicts: BTreeMap<(u32, u32, u64), u64>,
    documents: Documents,
    /// Changes of shared documents, the first of which is 1.
    shared: Vec<Shared>,
}

/// A store that forgets everything when it is dropped.
#[derive(Default)]
pub(crate) struct MemoryStore {
    content: Mutex<Content>,
    is_broken: AtomicBool,
    /// Whether several nodes use it, which hear of each other's changes.
    is_shared: bool,
    watching: Mutex<Vec<Sender<()>>>,
    /// Nobody hears of anything.
    is_mute: AtomicBool,
    looks: AtomicU64,
}

impl MemoryStore {
    /// One that several nodes use.
    pub(crate) fn of_many() -> Self {
        Self { is_shared: true, ..Self::default() }
    }

    /// From here on every call fails.
    pub(crate) fn break_down(&self) {
        self.is_broken.store(true, Ordering::Relaxed);
    }

    /// From here on nobody hears of changes.
    pub(crate) fn fall_silent(&self) {
        self.is_mute.store(true, Ordering::Relaxed);
    }

    /// How often somebody has asked what changed of the shared documents.
    pub(crate) fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    fn lock(&self) -> Result<MutexGuard<'_, Content>, Error> {
        if self.is_broken.load(Ordering::Relaxed) {
            return Err(Error::Failed("broken by a test".into()));
        }
        Ok(self.content.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn tell(&self) {
        if !self.is_mute.load(Ordering::Relaxed) {
            // Who has not looked since the last time is going to see this, too.
            self.watching.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|heard| _ = heard.try_send(()));
        }
    }
}

impl Content {
    fn change(&mut self, document: Shared) {
        let Shared { kind, account, id, body } = &document;
        let key = (kind.code(), *account, id.clone());
        match body {
            Some(body) => drop(self.documents.insert(key, body.clone())),
            None => drop(self.documents.remove(&key)),
        }
        if kind.is_shared() {
            self.shared.push(document);
        }
    }

    fn keep_conflicts(&mut self, new: &[Conflict]) {
        for conflict in new {
            self.conflicts.insert((conflict.account, conflict.partition, conflict.position.0), conflict.first.0);
        }
        for conflict in new {
            let of_one = (conflict.account, conflict.partition, 0)..=(conflict.account, conflict.partition, u64::MAX);
            let oldest_kept = self.conflicts.range(of_one.clone()).rev().nth(CONFLICTS_MAX - 1).map(|(key, _)| *key);
            self.conflicts.retain(|key, _| !of_one.contains(key) || oldest_kept.is_none_or(|oldest| *key >= oldest));
        }
    }
}

impl Rows for Content {
    fn scan(&self, selection: &RowSelection, visit: &mut Visit<'_>) -> Result<(), Error> {
        for (from, to) in selection.key_ranges() {
            for (key, row) in self.rows.range((Bound::Included(from), Bound::Excluded(to))) {
                visit(RowKey::read(key).ok_or_else(|| Error::Damaged("a key".into()))?, row)?;
            }
        }
        Ok(())
    }

    fn first_key(&self, ranges: &[KeyRange]) -> Result<Option<Vec<u8>>, Error> {
        let firsts = ranges.iter().filter_map(|(from, to)| self.rows.range(from.clone()..to.clone()).next());
        Ok(firsts.map(|(key, _)| key.clone()).next())
    }
}

impl Snapshot for Content {
    fn row(&self, key: &[u8]) -> Result<Option<Row>, Error> {
        Ok(self.rows.get(key).cloned())
    }

    fn count(&self, prefix: &[u8]) -> Result<u64, Error> {
        Ok(self.rows.keys().filter(|key| key.starts_with(prefix)).count() as u64)
    }

    fn progress(&self, partition: u32) -> Result<Progress, Error> {
        let begin = Progress { next: Position(0), log_time: UnixMillis(i64::MIN) };
        Ok(self.progress.get(&partition).copied().unwrap_or(begin))
    }

    fn conflicts(&self, account: u32, partition: u32, before: Position, limit: usize) -> Result<Vec<Conflict>, Error> {
        let kept = self.conflicts.range((account, partition, 0)..(account, partition, before.0));
        let conflict = |((_, _, position), first): (&(u32, u32, u64), &u64)| Conflict {
            account,
            partition,
            position: Position(*position),
            first: Position(*first),
        };
        Ok(kept.rev().take(limit).map(conflict).collect())
    }

    fn visit(&self, visit: &mut dyn FnMut(Item<'_>) -> Result<(), Error>) -> Result<(), Error> {
        self.rows.iter().try_for_each(|(key, row)| visit(Item::Row(key, row)))?;
        self.conflicts.iter().try_for_each(|((account, partition, position), first)| {
            visit(Item::Conflict(Conflict {
                account: *account,
                partition: *partition,
                position: Position(*position),
                first: Position(*first),
            }))
        })?;
        self.documents.iter().try_for_each(|((kind, account, id), body)| visit(Item::Document(*kind, *account, id, body)))
    }
}

impl Store for MemoryStore {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, Error> {
        Ok(Box::new(self.lock()?.clone()))
    }

    fn commit(&self, commit: &Commit) -> Result<(), Error> {
        let mut content = self.lock()?;
        let found = content.progress(commit.partition)?;
        if found != commit.expected {
            return Err(Error::Fenced { partition: commit.partition, expected: commit.expected.next, found: found.next });
        }
        let rows = commit.rows.decoded()?;
        content.progress.insert(commit.partition, commit.reached);
        content.rows.extend(rows);
        content.keep_conflicts(&commit.conflicts);
        Ok(())
    }

    fn row_count(&self) -> Result<u64, Error> {
        Ok(self.lock()?.rows.len() as u64)
    }

    fn document(&self, kind: Kind, account: u32, id: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.lock()?.documents.get(&(kind.code(), account, id.to_owned())).cloned())
    }

    fn documents(&self, kind: Kind, account: u32) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let of_kind = |key: &(u8, u32, String)| (key.0, key.1) == (kind.code(), account);
        Ok(self.lock()?.documents.iter().filter(|(key, _)| of_kind(key)).map(|(key, body)| (key.2.clone(), body.clone())).collect())
    }

    fn documents_after(&self, kind: Kind, account: u32, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let mut found = self.documents(kind, account)?;
        found.retain(|(id, _)| after.is_none_or(|after| id.as_str() > after));
        found.truncate(limit);
        Ok(found)
    }

    fn change_document(&self, kind: Kind, account: u32, id: &str, change: &mut dyn FnMut(Option<&[u8]>) -> Change) -> Result<(), Error> {
        let mut content = self.lock()?;
        let stored = content.documents.get(&(kind.code(), account, id.to_owned())).map(Vec::as_slice);
        let Some((body, is_told)) = change(stored).outcome() else { return Ok(()) };
        content.change(Shared { kind, account, id: id.to_owned(), body });
        if is_told && self.is_shared {
            content.change(Shared::told(kind, account, id));
        }
        drop(content);
        self.tell();
        Ok(())
    }

    fn shared_since(&self, version: Version) -> Result<SharedChanges, Error> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let content = self.lock()?;
        let documents = content.shared.iter().skip(version as usize).cloned().collect();
        Ok(SharedChanges { version: content.shared.len() as Version, is_all: version == 0, documents })
    }

    fn change_shared(&self, version: Version, documents: &[Shared]) -> Result<Option<Version>, Error> {
        let mut content = self.lock()?;
        if content.shared.len() as Version != version {
            return Ok(None);
        }
        documents.iter().cloned().for_each(|document| content.change(document));
        let version = content.shared.len() as Version;
        drop(content);
        self.tell();
        Ok(Some(version))
    }

    fn watch(&self) -> Option<Receiver<()>> {
        self.is_shared.then(|| {
            let (heard, hears) = bounded(1);
            self.watching.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
            hears
        })
    }
}
