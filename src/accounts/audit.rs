//! What administrators and operators asked for: who, when, what, of which object, from where, and what came of it.
//!
//! An entry is a document in the store, so it is durable when it is written and goes with every backup. It is written before
//! anything is done, without an outcome, and again with it: whatever a crash cuts off, nothing was done without an entry,
//! and one without an outcome says that nobody knows. If it cannot be written, nothing is done.
//!
//! Several nodes may write an account's entries: which number is free is decided in the store, by whoever writes it first. What a node
//! remembers of the end of a ring is where it begins to look.
//!
//! Each account has a ring of the latest [`ENTRIES_MAX`] entries: entry n is written over entry n − [`ENTRIES_MAX`]. So a
//! flood costs its sender as many synced writes as its changes do (twice), takes some 5 MB, and pushes out nothing of another account's.
//!
//! What an operator does to another account stands in both rings: the account sees who did it, without the address.
//! Keys stand here by their ids; no body, no path and no header is kept.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::Caller;
use crate::clock::{Clock, UnixMillis};
use crate::store::{Change, Error, Kind, Store};

/// Entries that are kept of an account.
pub const ENTRIES_MAX: u64 = if cfg!(test) { 8 } else { 10_000 };
/// Longest object, in bytes: as long as any id may be.
const OBJECT_BYTES_MAX: usize = 256;
const VERSION: u32 = 1;

/// One thing that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    version: u32,
    /// Its number among its account's, from 0 on; without gaps.
    pub number: u64,
    /// When, ms; never before the entry before it, whatever the clock did.
    pub at: i64,
    /// Id of the key.
    pub key: String,
    /// Account of the key.
    pub account: u32,
    /// Where the request came from, if that is known.
    pub address: Option<IpAddr>,
    /// Method and route.
    pub action: String,
    /// Id or name of what was changed, if it came so far.
    pub object: Option<String>,
    /// Status of the answer; `None` if the process ended before there was one.
    pub outcome: Option<u16>,
}

impl Entry {
    /// When.
    pub fn time(&self) -> UnixMillis {
        UnixMillis(self.at)
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Status of the answer.
    pub status: u16,
    /// Id or name of what was changed.
    pub object: Option<String>,
    /// The account that was changed, if it is not the key's own.
    pub account: Option<u32>,
}

/// Where an account's ring goes on, as far as is known here.
#[derive(Debug, Clone, Copy)]
struct Head {
    next: u64,
    at: i64,
}

impl Head {
    fn behind(entry: &Entry) -> Self {
        Self { next: entry.number + 1, at: entry.at }
    }
}

/// All entries. Blocking calls that sync a disk: async code goes through `spawn_blocking`.
pub struct Audit {
    store: Arc<dyn Store>,
    clock: Clock,
    /// Of the accounts that were asked for since the start. Locked while an entry is written, so that none gets another's number.
    heads: Mutex<HashMap<u32, Head>>,
}

impl Audit {
    /// The entries that a store keeps.
    pub fn new(store: Arc<dyn Store>, clock: Clock) -> Self {
        Self { store, clock, heads: Mutex::default() }
    }

    /// Notes what is about to be done.
    ///
    /// # Errors
    /// The store's; then nothing may be done.
    pub fn begin(&self, by: &Caller, address: Option<IpAddr>, action: &str) -> Result<Entry, Error> {
        let (version, number, at) = (VERSION, 0, 0);
        let entry = Entry {
            version,
            number,
            at,
            key: by.key_id.to_string(),
            account: by.account,
            address,
            action: action.into(),
            object: None,
            outcome: None,
        };
        self.append(by.account, entry)
    }

    /// Notes what came of it.
    ///
    /// # Errors
    /// The store's; the entry says then that nobody knows.
    pub fn finish(&self, begun: Entry, outcome: Outcome) -> Result<(), Error> {
        let object = outcome.object.filter(|object| object.len() <= OBJECT_BYTES_MAX);
        let finished = Entry { object, outcome: Some(outcome.status), ..begun };
        let bytes = to_json(&finished)?;
        let mut write = |stored: Option<&[u8]>| match stored.and_then(|stored| read(stored).ok()) {
            // A whole ring of others may have come in between.
            Some(stored) if stored.number == finished.number => Change::Put(bytes.clone()),
            _ => Change::Keep,
        };
        self.store.change_document(Kind::Audit, finished.account, &slot(finished.number), &mut write)?;
        match outcome.account.filter(|account| *account != finished.account) {
            Some(other) => self.append(other, finished).map(drop),
            None => Ok(()),
        }
    }

    /// An account's entries before a number, the latest first, and the number to go on before, if there are more.
    ///
    /// # Errors
    /// The store's.
    pub fn page(&self, account: u32, before: Option<u64>, limit: usize) -> Result<(Vec<Entry>, Option<u64>), Error> {
        let end = self.head(&mut self.lock(), account)?.next;
        let (first, end) = (end.saturating_sub(ENTRIES_MAX), before.map_or(end, |before| before.min(end)));
        let mut page = Vec::new();
        for number in (first..end).rev().take(limit) {
            let found = self.store.document(Kind::Audit, account, &slot(number))?.map(|bytes| read(&bytes)).transpose()?;
            // One that is being written over right now has gone.
            page.extend(found.filter(|entry| entry.number == number));
        }
        let next = page.last().map(|entry| entry.number).filter(|last| *last > first);
        Ok((page, next))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Head>> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, account: u32, entry: Entry) -> Result<Entry, Error> {
        let mut heads = self.lock();
        loop {
            let head = self.head(&mut heads, account)?;
            let entry = Entry { number: head.next, at: self.clock.now().0.max(head.at), ..entry.clone() };
            let bytes = to_json(&entry)?;
            let mut outcome = Ok(true);
            let mut write = |stored: Option<&[u8]>| {
                outcome = stored.map_or(Ok(true), |stored| Ok(read(stored)?.number < entry.number));
                if matches!(outcome, Ok(true)) { Change::Put(bytes.clone()) } else { Change::Keep }
            };
            self.store.change_document(Kind::Audit, account, &slot(entry.number), &mut write)?;
            if outcome? {
                heads.insert(account, Head::behind(&entry));
                return Ok(entry);
            }
            // Another node was faster.
        }
    }

    /// Where the account's ring goes on now.
    fn head(&self, heads: &mut HashMap<u32, Head>, account: u32) -> Result<Head, Error> {
        let known = match heads.get(&account) {
            Some(head) => *head,
            None => self.read_head(account)?,
        };
        let head = self.follow(account, known)?;
        heads.insert(account, head);
        Ok(head)
    }

    /// Reads the account's ring when it is asked for first.
    fn read_head(&self, account: u32) -> Result<Head, Error> {
        let mut head = Head { next: 0, at: i64::MIN };
        for (_, bytes) in self.store.documents(Kind::Audit, account)? {
            let entry = read(&bytes)?;
            if entry.number >= head.next {
                head = Head::behind(&entry);
            }
        }
        Ok(head)
    }

    /// Goes on over what other nodes have written. Numbers have no gaps, so the end is found in a few steps that double, and some that halve.
    fn follow(&self, account: u32, known: Head) -> Result<Head, Error> {
        let mut head = known;
        let mut step = 1;
        loop {
            let number = head.next + step - 1;
            let stored = self.store.document(Kind::Audit, account, &slot(number))?.map(|bytes| read(&bytes)).transpose()?;
            match stored.filter(|entry| entry.number >= number) {
                Some(entry) => {
                    head = Head::behind(&entry);
                    step *= 2;
                }
                None if step == 1 => return Ok(head),
                None => step /= 2,
            }
        }
    }
}

/// Its place in the ring.
fn slot(number: u64) -> String {
    format!("{:05}", number % ENTRIES_MAX)
}

fn to_json(entry: &Entry) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(entry).map_err(|error| Error::Failed(error.to_string()))
}

fn read(bytes: &[u8]) -> Result<Entry, Error> {
    let entry: Entry = serde_json::from_slice(bytes).map_err(|error| Error::Damaged(format!("an entry of the audit log: {error}")))?;
    if entry.version > VERSION {
        return Err(Error::Damaged("an entry of the audit log is of a newer version: run the newer binary".into()));
    }
    if entry.number == u64::MAX {
        return Err(Error::Damaged("an entry of the audit log has a number behind which none comes".into()));
    }
    Ok(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::{Scope, ring_of};
    use crate::store::memory::MemoryStore;

    struct World {
        store: Arc<MemoryStore>,
        audit: Audit,
        by: Caller,
    }

    impl World {
        fn new() -> Self {
            let store: Arc<MemoryStore> = Arc::default();
            let by = ring_of(&store, &[("key", 1, Scope::Admin)]).caller(b"key").expect("is known");
            Self { audit: Audit::new(store.clone(), Clock::start()), store, by }
        }

        fn note(&self, object: &str, account: Option<u32>) {
            let begun = self.audit.begin(&self.by, None, "POST /v1/keys").expect("memory");
            self.audit.finish(begun, Outcome { status: 201, object: Some(object.into()), account }).expect("memory");
        }

        fn numbers(&self, before: Option<u64>, limit: usize) -> (Vec<u64>, Option<u64>) {
            let (page, next) = self.audit.page(1, before, limit).expect("memory");
            (page.iter().map(|entry| entry.number).collect(), next)
        }
    }

    #[test]
    fn what_is_begun_is_there_before_anything_is_done() {
        let world = World::new();
        let begun = world.audit.begin(&world.by, Some(IpAddr::from([192, 0, 2, 7])), "DELETE /v1/keys/{key_id}").expect("memory");
        let (page, _) = world.audit.page(1, None, 10).expect("memory");
        assert_eq!(page, std::slice::from_ref(&begun));
        assert_eq!((page[0].outcome, page[0].key.as_str()), (None, "key"));
        world.audit.finish(begun.clone(), Outcome { status: 200, object: Some("k".into()), account: None }).expect("memory");
        let (page, _) = world.audit.page(1, None, 10).expect("memory");
        assert_eq!(page, [Entry { object: Some("k".into()), outcome: Some(200), ..begun }]);
    }

    #[test]
    fn the_ring_keeps_the_latest_and_is_paged() {
        let world = World::new();
        for at in 0..ENTRIES_MAX + 3 {
            world.note(&format!("k-{at}"), None);
        }
        assert_eq!(world.numbers(None, 100), ((3..ENTRIES_MAX + 3).rev().collect(), None));
        assert_eq!(world.numbers(None, 3), (vec![10, 9, 8], Some(8)));
        assert_eq!(world.numbers(Some(8), 3), (vec![7, 6, 5], Some(5)));
        assert_eq!(world.numbers(Some(5), 3), (vec![4, 3], None));
        assert_eq!(world.numbers(Some(0), 3), (vec![], None));
        assert_eq!(world.numbers(Some(u64::MAX), 1), (vec![10], Some(10)));
        assert_eq!(world.store.documents(Kind::Audit, 1).expect("memory").len() as u64, ENTRIES_MAX);
    }

    #[test]
    fn after_a_restart_it_goes_on_where_it_was() {
        let world = World::new();
        for at in 0..ENTRIES_MAX + 3 {
            world.note(&format!("k-{at}"), None);
        }
        let again = World { audit: Audit::new(world.store.clone(), Clock::start()), ..world };
        again.note("after", None);
        let (page, _) = again.audit.page(1, None, 2).expect("memory");
        assert_eq!(
            page.iter().map(|entry| (entry.number, entry.object.as_deref())).collect::<Vec<_>>(),
            [(11, Some("after")), (10, Some("k-10"))]
        );
    }

    #[test]
    fn what_is_done_to_another_account_stands_in_both_and_a_flood_pushes_out_only_its_own() {
        let world = World::new();
        world.note("k", Some(2));
        for at in 0..3 * ENTRIES_MAX {
            world.note(&format!("flood-{at}"), None);
        }
        let (page, next) = world.audit.page(2, None, 10).expect("memory");
        assert_eq!((page.len(), page[0].object.as_deref(), page[0].account, next), (1, Some("k"), 1, None));
    }

    #[test]
    fn an_outcome_that_comes_a_whole_ring_late_writes_over_nobody() {
        let world = World::new();
        let begun = world.audit.begin(&world.by, None, "slow").expect("memory");
        for at in 0..ENTRIES_MAX {
            world.note(&format!("k-{at}"), None);
        }
        world.audit.finish(begun, Outcome { status: 200, object: None, account: None }).expect("memory");
        let (page, _) = world.audit.page(1, None, 100).expect("memory");
        assert!(page.iter().all(|entry| entry.action != "slow"));
    }

    #[test]
    fn a_store_that_fails_lets_nothing_begin() {
        let world = World::new();
        world.store.break_down();
        assert!(world.audit.begin(&world.by, None, "POST /v1/keys").is_err());
    }
}
