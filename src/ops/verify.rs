//! `tollgate verify`: folds the log once more into a scratch store and compares it with what is stored, row by row.
//!
//! It changes nothing in the data directory but lock and scratch: log and store are opened for reading only; a store that was not
//! closed in good order is copied into the scratch and repaired there. [`cluster`] does the same for many nodes.

pub mod cluster;

use std::fmt;
use std::path::{Path, PathBuf};

use super::files::Unfinished;
use super::{Error, FromBase, Opened, Standing, Watch, fold_anew, standing};
use crate::clock::UnixMillis;
use crate::data_dir;
use crate::log::Position;
use crate::log::embedded::EmbeddedLog;
use crate::store::embedded::EmbeddedStore;
use crate::store::{self, Conflict, Item, Row, RowKey, Snapshot, Store};

/// Differences that are described.
const DESCRIBED_MAX: usize = 20;

/// What is to be verified.
#[derive(Debug, Clone)]
pub struct Verify {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Where the scratch store is made; in the data directory if not given.
    pub scratch: Option<PathBuf>,
    /// Where the replay begins.
    pub from_base: FromBase,
}

/// What came of it.
#[derive(Debug)]
pub struct Verified {
    /// The position that the replay began at, if that was a base's.
    pub base: Option<Position>,
    /// As it is stored; `None` if that cannot be read.
    pub stored: Option<Standing>,
    /// As the log has it.
    pub replayed: Standing,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// How many there are.
    pub different: u64,
    /// Overflow rows that were begun by a version that kept no sketches, and are equal but for these.
    pub without_sketches: u64,
}

/// Something that is stored otherwise than the log has it.
#[derive(Debug)]
pub enum Difference {
    /// A row.
    Row {
        /// Its encoded key.
        key: Vec<u8>,
        /// As it is stored.
        stored: Option<Box<Row>>,
        /// As the log has it.
        replayed: Option<Box<Row>>,
    },
    /// A conflict that only one of them has.
    Conflict {
        /// Which.
        conflict: Conflict,
        /// Whether it is stored.
        is_stored: bool,
    },
    /// The stored rows cannot be read to their end.
    Unreadable(String),
}

impl Verify {
    /// Does it.
    ///
    /// # Errors
    /// [`Error`]: nothing is known of the rows then.
    pub fn run(&self, watch: &mut Watch<'_>) -> Result<Verified, Error> {
        let opened = Opened::lock(&self.data_dir)?;
        let scratch = match &self.scratch {
            Some(dir) => dir.join("tollgate-verify.tmp"),
            None => opened.dir.join("verify.tmp"),
        };
        let scratch = Unfinished::begin(scratch)?;
        let log = EmbeddedLog::look(opened.disk.clone(), &opened.dir.join(data_dir::LOG), opened.identity("events"))?;
        let (stored, _copy) = open_stored(&opened.dir.join(data_dir::STORE), scratch.path())?;
        let until = stored.progress(super::PARTITION)?.next;
        if log.end() < until {
            return Err(crate::materializer::Error::RowsAheadOfLog { rows: until, log: log.end() }.into());
        }
        let base = opened.replay_base(&log, self.from_base)?;
        let folded = fold_anew(scratch.path(), &opened, &log, base.as_ref(), until, watch)?;
        let replayed = folded.snapshot()?;
        let mut found = Found::default();
        compare(&*stored, &*replayed, &mut found)?;
        let stored = match standing(&*stored) {
            Ok(standing) => Some(standing),
            Err(store::Error::Damaged(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Verified {
            base: base.map(|base| base.progress().next),
            stored,
            replayed: standing(&*replayed)?,
            differences: found.described,
            different: found.count,
            without_sketches: found.without_sketches,
        })
    }
}

/// The stored rows, from the file itself or from a copy that could be repaired, which must be kept as long.
fn open_stored(store: &Path, scratch: &Path) -> Result<(Box<dyn Snapshot>, Option<EmbeddedStore>), Error> {
    if !store.is_file() {
        return Err(Error::Refused(format!("{} is missing: `tollgate rebuild` makes the rows from the log", store.display())));
    }
    if let Some(snapshot) = EmbeddedStore::look(store)? {
        return Ok((snapshot, None));
    }
    let copy = scratch.join("stored.redb");
    std::fs::copy(store, &copy).map_err(super::io_at(&copy))?;
    let copy = EmbeddedStore::open(&copy)?;
    Ok((copy.snapshot()?, Some(copy)))
}

#[derive(Default)]
struct Found {
    described: Vec<Difference>,
    count: u64,
    without_sketches: u64,
}

impl Found {
    /// Takes a stored row, and the one that the log has.
    fn compare(&mut self, key: &[u8], row: &Row, replayed: Option<Row>) {
        if replayed.as_ref() == Some(row) {
            return;
        }
        let has_fewer = |replayed: &Row| row.sketches.is_none() && *row == Row { sketches: None, ..replayed.clone() };
        if replayed.as_ref().is_some_and(has_fewer) {
            self.without_sketches += 1;
            return;
        }
        self.add(Difference::Row { key: key.to_vec(), stored: Some(Box::new(row.clone())), replayed: replayed.map(Box::new) });
    }

    fn add(&mut self, difference: Difference) {
        self.count += 1;
        if self.described.len() < DESCRIBED_MAX {
            self.described.push(difference);
        }
    }
}

fn compare(stored: &dyn Snapshot, replayed: &dyn Snapshot, found: &mut Found) -> Result<(), Error> {
    let has = |snapshot: &dyn Snapshot, conflict: &Conflict| -> Result<bool, store::Error> {
        let behind = Position(conflict.position.0 + 1);
        Ok(snapshot.conflicts(conflict.account, conflict.partition, behind, 1)?.first() == Some(conflict))
    };
    let compared = stored.visit(&mut |item| {
        match item {
            Item::Row(key, row) => found.compare(key, row, replayed.row(key)?),
            Item::Conflict(conflict) if !has(replayed, &conflict)? => found.add(Difference::Conflict { conflict, is_stored: true }),
            Item::Conflict(_) | Item::Document(..) => {}
        }
        Ok(())
    });
    match compared {
        Ok(()) => {}
        Err(store::Error::Damaged(what)) => found.add(Difference::Unreadable(what)),
        Err(error) => return Err(error.into()),
    }
    replayed.visit(&mut |item| {
        match item {
            Item::Row(key, row) => match stored.row(key) {
                Ok(Some(_)) => {}
                Ok(None) => found.add(Difference::Row { key: key.to_vec(), stored: None, replayed: Some(Box::new(row.clone())) }),
                // Told apart from a missing row: it is there, and unreadable.
                Err(store::Error::Damaged(what)) => found.add(Difference::Unreadable(format!("{}: {what}", Key(key)))),
                Err(error) => return Err(error),
            },
            Item::Conflict(conflict) if !has(stored, &conflict)? => found.add(Difference::Conflict { conflict, is_stored: false }),
            Item::Conflict(_) | Item::Document(..) => {}
        }
        Ok(())
    })?;
    Ok(())
}

/// A key for people.
struct Key<'k>(&'k [u8]);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(key) = RowKey::read(self.0) else { return write!(f, "a key that cannot be read: {:02x?}", self.0) };
        let grain = match key.grain {
            store::Grain::Hour => "hour",
            store::Grain::Day => "day",
        };
        let start = UnixMillis(key.start_s().saturating_mul(1_000));
        write!(f, "account {}  meter {}  customer {}  {grain} {start}", key.account, key.meter, key.customer)?;
        if key.dimensions.is_overflow() {
            f.write_str("  (overflow)")?;
        }
        key.dimensions.iter().try_for_each(|(name, value)| write!(f, "  {name}={value}"))
    }
}

struct Value<'r>(Option<&'r Row>);

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Row { count, sum, min, max, last_time, last, last_id, sketches }) = self.0 else { return f.write_str("none") };
        write!(f, "count {count}  sum {sum}  min {min}  max {max}  last {last} at {} ({last_id})", last_time.millis())?;
        let Some(sketches) = sketches else { return Ok(()) };
        sketches.estimates().try_for_each(|(name, estimate)| write!(f, "  about {estimate} {name}"))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Row { key, stored, replayed } => {
                write!(f, "{}\n  stored    {}\n  replayed  {}", Key(key), Value(stored.as_deref()), Value(replayed.as_deref()))
            }
            Self::Conflict { conflict, is_stored } => {
                let Conflict { account, position, first, .. } = conflict;
                let (stored, replayed) = if *is_stored { ("yes", "none") } else { ("none", "yes") };
                write!(f, "account {account}  conflict at position {position} with {first}\n  stored    {stored}\n  replayed  {replayed}")
            }
            Self::Unreadable(what) => write!(f, "stored rows cannot be read: {what}"),
        }
    }
}
