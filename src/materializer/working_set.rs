//! The rows that the fold works on: those touched lately, whole, in memory.
//!
//! An entry holds one (meter, customer, day, dimensions): its day row and the hour rows seen so far. What is not in memory is
//! taken from the snapshot of the last commit. Rows are absolute, not deltas: a commit writes them over what is stored,
//! and a query lays them over what it reads. An entry leaves memory only when it is committed.
//!
//! A commit is copied a few entries at a time, while folding goes on: what changes before its turn is copied first, as it was.
//!
//! The overflow guard lives here too: past the limit, new dimension sets of a (partition, customer, meter, day) share one row.
//! Such a row keeps sketches of the values that it has lost ([`crate::sketch`]): kilobytes, which count as so many entries.

use hashbrown::{HashMap, HashTable};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

use super::shares::Shares;
use crate::event::Amount;
use crate::log::record::{Measured, Record};
use crate::store::row::{self, DAY_S, HOUR_S};
use crate::store::{DimensionSet, EncodedRows, Error, Grain, Row, RowKey, Snapshot};

/// Memory of an entry with one hour, in bytes; further hours and sketches of as many bytes count as one more.
const ENTRY_BYTES: usize = 750;
/// What an hour has beside its slot: the uniqueId of its last event.
const HOUR_ID_BYTES: usize = 48;
/// Entries kept across commits, in percent of what the partitions of a process share ([`Shares`]); past it, those not touched for longest go.
const KEPT_MAX_PERCENT: usize = if cfg!(test) { 50 } else { 80 };
/// Entries that stay when some go.
const KEPT_MIN_PERCENT: usize = if cfg!(test) { 25 } else { 65 };
/// What the smallest part has, in percent.
const PART_MIN_PERCENT: usize = 2;
/// Records whose rows are looked for together, so that the waits for memory overlap.
pub const LOOK_AHEAD: usize = 32;
/// What memory is read in.
const LINE_BYTES: usize = 64;

/// What was asked of a snapshot ahead of the records that need it.
#[derive(Default)]
struct Fetched {
    rows: HashMap<Vec<u8>, Option<Row>, foldhash::fast::RandomState>,
    /// Dimension sets by the group prefix of the day key.
    counts: HashMap<Vec<u8>, u64, foldhash::fast::RandomState>,
}

/// Counts commits; the first is 1.
type Epoch = u64;
/// No entry.
const NONE: u32 = u32::MAX;

struct Slot {
    row: Row,
    /// The commit that this row's last change belongs to; 0: never changed since it was read.
    changed: Epoch,
}

struct Entry {
    /// The encoded key of the day row.
    key: Box<[u8]>,
    hash: u64,
    day: Slot,
    /// By hour of 1970.
    hours: Vec<(u32, Slot)>,
    /// Whether the store had the day row: only then can it have hour rows that are not here.
    was_stored: bool,
    /// The commit whose list of changed entries this one is on.
    listed: Epoch,
    /// The commit that it was copied for last.
    copied: Epoch,
    /// Hash of account and customer.
    customer: u64,
    /// One more entry of this customer, or [`NONE`].
    next: u32,
}

/// The commit that is being copied.
struct Copying {
    /// How many of `in_commit` have had their turn.
    done: usize,
    rows: EncodedRows,
}

/// Rows in memory; owned by the materializer's thread.
pub struct WorkingSet {
    partition: u32,
    dimension_sets_max: u64,
    shares: Shares,
    entries: Vec<Entry>,
    table: HashTable<u32>,
    /// The entry of each customer that was made last.
    customers: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
    /// Memory behind the sketches of all entries.
    sketch_bytes: usize,
    /// Memory of hours behind the first of their entry.
    hour_bytes: usize,
    /// Number of dimension sets by the group prefix of the day key, for groups that have an entry here.
    groups: HashMap<Box<[u8]>, u64, foldhash::fast::RandomState>,
    /// The commit that changes belong to from now on.
    current: Epoch,
    /// The last one that is durable.
    committed: Epoch,
    changed: Vec<u32>,
    in_commit: Vec<u32>,
    /// From the begin of a commit until all its rows are copied.
    copying: Option<Copying>,
    key: Vec<u8>,
    /// Empty where the snapshot is near.
    fetched: Fetched,
}

impl WorkingSet {
    /// An empty one, with its part of the room that partitions share.
    pub fn new(partition: u32, dimension_sets_max: u32, shares: Shares) -> Self {
        Self {
            shares,
            partition,
            dimension_sets_max: u64::from(dimension_sets_max),
            entries: Vec::new(),
            table: HashTable::new(),
            customers: HashTable::new(),
            hasher: foldhash::fast::RandomState::default(),
            sketch_bytes: 0,
            hour_bytes: 0,
            groups: HashMap::default(),
            current: 1,
            committed: 0,
            changed: Vec::new(),
            in_commit: Vec::new(),
            copying: None,
            key: Vec::with_capacity(512),
            fetched: Fetched::default(),
        }
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether folding should wait for the commit under way.
    pub fn is_full(&self) -> bool {
        self.weight() >= self.part_of(100)
    }

    /// Entries, and what their further hours and sketches take in their place.
    fn weight(&self) -> usize {
        self.entries.len() + (self.sketch_bytes + self.hour_bytes) / ENTRY_BYTES
    }

    /// So many percent of the entries that this partition may have.
    fn part_of(&self, percent: usize) -> usize {
        let entries = self.shares.entries_max() * percent / 100;
        self.shares.part_of(entries, entries * PART_MIN_PERCENT / 100)
    }

    /// Whether anything changed since the last commit was begun.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Looks at what adding these records (up to [`LOOK_AHEAD`]) is going to need. Changes nothing: a row is five dependent reads
    /// of memory away, and only reads that do not wait for each other overlap.
    pub fn look_ahead<'r, 'b: 'r>(&mut self, records: impl Iterator<Item = &'r Record<'b>>) {
        let (mut hashes, mut count) = ([0; LOOK_AHEAD], 0);
        for (hash, record) in hashes.iter_mut().zip(records) {
            count += 1;
            if let Some(measured) = record.counted().next() {
                self.key.clear();
                day_key(self.partition, record, &measured).write(&mut self.key);
                *hash = self.hasher.hash_one(self.key.as_slice());
            }
        }
        let mut found = [u32::MAX; LOOK_AHEAD];
        for (at, hash) in found.iter_mut().zip(&hashes[..count]) {
            *at = self.table.find(*hash, |at| self.entries[*at as usize].hash == *hash).copied().unwrap_or(u32::MAX);
        }
        let touched = found.iter().filter_map(|at| self.entries.get(*at as usize)).map(Entry::touched);
        std::hint::black_box(touched.fold(0, std::ops::BitXor::bitxor));
    }

    /// Asks for everything that adding these records is going to need of a snapshot that is far away: one question for rows, one for
    /// numbers of dimension sets. All are added before anything else is done here. What is not asked for now, an overflow row, is asked for
    /// when it is needed.
    ///
    /// # Errors
    /// The snapshot's.
    pub fn fetch_ahead(&mut self, snapshot: &dyn Snapshot, records: &[Record<'_>]) -> Result<(), Error> {
        self.fetched = Fetched::default();
        let mut keys = BTreeSet::new();
        let mut groups = BTreeMap::new();
        for record in records {
            let hour = (record.time.seconds() / HOUR_S) as u32;
            for measured in record.counted() {
                let key = day_key(self.partition, record, &measured);
                let day = encoded(&key);
                let entry = self.find(&day).map(|at| &self.entries[at as usize]);
                if entry.is_none_or(|entry| entry.was_stored && entry.hours.iter().all(|(bucket, _)| *bucket != hour)) {
                    keys.insert(encoded(&RowKey { grain: Grain::Hour, bucket: hour, ..key }));
                }
                if entry.is_none() {
                    let mut group = Vec::with_capacity(64);
                    key.write_group(&mut group);
                    keys.insert(day.clone());
                    groups.insert(day, group);
                }
            }
        }
        if keys.is_empty() {
            return Ok(());
        }
        let keys = Vec::from_iter(keys);
        let rows = snapshot.rows(&keys)?;
        self.fetched.rows = keys.into_iter().zip(rows).collect();
        // A set that is not stored is a new one of its group.
        groups.retain(|key, group| self.fetched.rows.get(key).is_some_and(Option::is_none) && !self.groups.contains_key(group.as_slice()));
        let groups = Vec::from_iter(groups.into_values().collect::<BTreeSet<_>>());
        if !groups.is_empty() {
            let counts = snapshot.counts(&groups)?;
            self.fetched.counts = groups.into_iter().zip(counts).collect();
        }
        Ok(())
    }

    /// Adds one record that counts.
    ///
    /// # Errors
    /// The store's, when a row has to be read. The record may have been added in part: the working set must be dropped.
    pub fn add(&mut self, snapshot: &dyn Snapshot, record: &Record<'_>) -> Result<(), Error> {
        for measured in record.counted() {
            self.add_measurement(snapshot, record, &measured)?;
        }
        Ok(())
    }

    fn add_measurement(&mut self, snapshot: &dyn Snapshot, record: &Record<'_>, measured: &Measured<'_>) -> Result<(), Error> {
        // Checked at the door: between 1970 and 9999.
        let seconds = record.time.seconds();
        let value = measured.value;
        let mut key = day_key(self.partition, record, measured);
        let at = self.entry(snapshot, &mut key)?;
        let current = self.current;
        let entry = &mut self.entries[at as usize];
        if entry.listed != current {
            if let Some(copying) = &mut self.copying {
                copying.copy(entry, current - 1);
            }
            entry.listed = current;
            self.changed.push(at);
        }
        entry.day.add(value, record, current);
        let hour = (seconds / HOUR_S) as u32;
        let at_hour = match entry.hours.iter().position(|(bucket, _)| *bucket == hour) {
            Some(at_hour) => at_hour,
            None => self.bring_hour(snapshot, at, &RowKey { grain: Grain::Hour, bucket: hour, ..key })?,
        };
        self.entries[at as usize].hours[at_hour].1.add(value, record, current);
        if key.dimensions.is_overflow() {
            self.sketch(at, at_hour, DimensionSet(&measured.dimensions));
        }
        Ok(())
    }

    /// Makes or reads an hour row of an entry; gives back its place.
    fn bring_hour(&mut self, snapshot: &dyn Snapshot, at: u32, key: &RowKey<'_>) -> Result<usize, Error> {
        let entry = &mut self.entries[at as usize];
        let stored = if entry.was_stored { self.fetched.row(snapshot, &encoded(key))? } else { None };
        let row = stored.unwrap_or_else(|| Row::none_yet(key.dimensions));
        self.sketch_bytes += row.sketch_bytes();
        let before = entry.hour_bytes();
        entry.hours.push((key.bucket, Slot { row, changed: 0 }));
        self.hour_bytes += entry.hour_bytes() - before;
        Ok(entry.hours.len() - 1)
    }

    /// Adds what an overflow row loses to its sketches.
    fn sketch(&mut self, at: u32, at_hour: usize, dimensions: DimensionSet<'_>) {
        let entry = &mut self.entries[at as usize];
        let rows = [&mut entry.day.row, &mut entry.hours[at_hour].1.row];
        let before: usize = rows.iter().map(|row| row.sketch_bytes()).sum();
        self.sketch_bytes = self.sketch_bytes + row::sketch_dimensions(dimensions, rows) - before;
    }

    /// The entry of an encoded day key, if it is here.
    fn find(&self, key: &[u8]) -> Option<u32> {
        self.table.find(self.hasher.hash_one(key), |at| *self.entries[*at as usize].key == *key).copied()
    }

    /// The entry of a day key, made or read if it is not here. Turns the key's dimensions into the overflow mark where the
    /// guard says so. The day row of a new entry counts nothing yet.
    fn entry(&mut self, snapshot: &dyn Snapshot, key: &mut RowKey<'_>) -> Result<u32, Error> {
        loop {
            self.key.clear();
            key.write(&mut self.key);
            let hash = self.hasher.hash_one(self.key.as_slice());
            if let Some(at) = self.table.find(hash, |at| *self.entries[*at as usize].key == *self.key) {
                return Ok(*at);
            }
            let stored = self.fetched.row(snapshot, &self.key)?;
            let was_stored = stored.is_some();
            if !was_stored && !key.dimensions.is_overflow() && !self.admit(snapshot, key)? {
                key.dimensions = DimensionSet::OVERFLOW;
                continue;
            }
            let at = self.entries.len() as u32;
            let row = stored.unwrap_or_else(|| Row::none_yet(key.dimensions));
            self.sketch_bytes += row.sketch_bytes();
            let day = Slot { row, changed: 0 };
            let customer = self.hasher.hash_one((key.account, key.customer));
            let next = NONE;
            let (key, hours) = (self.key.as_slice().into(), Vec::with_capacity(1));
            self.entries.push(Entry { key, hash, day, hours, was_stored, listed: 0, copied: 0, customer, next });
            self.add_to_customer(at);
            self.table.insert_unique(hash, at, |at| self.entries[*at as usize].hash);
            return Ok(at);
        }
    }

    /// Whether one more dimension set fits into its group; counts it if so.
    fn admit(&mut self, snapshot: &dyn Snapshot, key: &RowKey<'_>) -> Result<bool, Error> {
        let mut group = Vec::with_capacity(64);
        key.write_group(&mut group);
        let count = match self.groups.get(group.as_slice()) {
            Some(count) => *count,
            // No set of the group is here, so all that there are stand in the snapshot.
            None => self.fetched.count(snapshot, &group)?,
        };
        let fits = count < self.dimension_sets_max;
        self.groups.insert(group.into(), if fits { count + 1 } else { count });
        Ok(fits)
    }

    /// The rows that changed since the last commit was begun belong to the commit that begins now.
    pub fn begin_commit(&mut self) {
        assert!(self.in_commit.is_empty(), "one commit at a time");
        self.in_commit = std::mem::take(&mut self.changed);
        self.current += 1;
        self.copying = Some(Copying { done: 0, rows: EncodedRows::with_capacity(2 * self.in_commit.len()) });
    }

    /// Copies rows of the commit that was begun, of up to so many entries. All of them, in no order, once none is left; `None` before.
    pub fn copy_commit(&mut self, entries_max: usize) -> Option<EncodedRows> {
        let copying = self.copying.as_mut()?;
        let epoch = self.current - 1;
        let turn = self.in_commit[copying.done..].iter().take(entries_max);
        copying.done += turn.len();
        turn.for_each(|at| copying.copy(&mut self.entries[*at as usize], epoch));
        if copying.done < self.in_commit.len() {
            return None;
        }
        self.copying.take().map(|copying| copying.rows)
    }

    /// The commit that was begun and copied is durable. The snapshot that folding goes on with must be a later one.
    pub fn end_commit(&mut self) {
        self.committed = self.current - 1;
        self.in_commit.clear();
        if self.weight() > self.part_of(KEPT_MAX_PERCENT) {
            self.forget_oldest();
        }
    }

    /// Forgets committed entries, those changed longest ago first, until few enough are left.
    fn forget_oldest(&mut self) {
        let has_sketches = self.sketch_bytes > 0;
        let mut bytes_of: HashMap<Epoch, usize, foldhash::fast::RandomState> = HashMap::default();
        for entry in &self.entries {
            let sketches = if has_sketches { entry.sketch_bytes() } else { 0 };
            *bytes_of.entry(entry.listed).or_default() += ENTRY_BYTES + entry.hour_bytes() + sketches;
        }
        let mut by_age: Vec<_> = bytes_of.into_iter().filter(|(epoch, _)| *epoch <= self.committed).collect();
        by_age.sort_unstable();
        let mut surplus = self.weight().saturating_sub(self.part_of(KEPT_MIN_PERCENT)) * ENTRY_BYTES;
        let mut up_to = 0;
        for (epoch, bytes) in by_age {
            if surplus == 0 {
                break;
            }
            up_to = epoch;
            surplus = surplus.saturating_sub(bytes);
        }
        self.entries.retain(|entry| entry.listed > up_to);
        self.index_anew();
    }

    /// Brings table, list of changes and groups in line with the entries that are left.
    fn index_anew(&mut self) {
        self.table.clear();
        self.customers.clear();
        self.changed.clear();
        if self.sketch_bytes > 0 {
            self.sketch_bytes = self.entries.iter().map(Entry::sketch_bytes).sum();
        }
        self.hour_bytes = self.entries.iter().map(Entry::hour_bytes).sum();
        let mut open_groups = std::collections::HashSet::new();
        for at in 0..self.entries.len() as u32 {
            let entry = &self.entries[at as usize];
            self.table.insert_unique(entry.hash, at, |at| self.entries[*at as usize].hash);
            self.add_to_customer(at);
            let entry = &self.entries[at as usize];
            if entry.listed <= self.committed {
                continue;
            }
            self.changed.push(at);
            if let Some(key) = RowKey::read(&entry.key) {
                let mut group = Vec::with_capacity(64);
                key.write_group(&mut group);
                open_groups.insert(group);
            }
        }
        // A group whose sets are all stored is counted from the snapshot when it is next asked for; one with a set that
        // is not stored yet keeps its number.
        self.groups.retain(|group, _| open_groups.contains(&group[..]));
    }

    /// Adds an entry to those of its customer.
    fn add_to_customer(&mut self, at: u32) {
        let customer = self.entries[at as usize].customer;
        let entries = &mut self.entries;
        match self.customers.find_mut(customer, |at| entries[*at as usize].customer == customer) {
            Some(last) => entries[at as usize].next = std::mem::replace(last, at),
            None => {
                entries[at as usize].next = NONE;
                self.customers.insert_unique(customer, at, |at| entries[*at as usize].customer);
            }
        }
    }

    /// The entries of a customer, and maybe others.
    fn entries_of(&self, account: u32, customer: &str) -> impl Iterator<Item = &Entry> {
        let customer = self.hasher.hash_one((account, customer));
        let last = self.customers.find(customer, |at| self.entries[*at as usize].customer == customer);
        let entry = |at: u32| self.entries.get(at as usize);
        std::iter::successors(last.copied().and_then(entry), move |one| entry(one.next))
    }

    /// Rows that are not committed yet, to be laid over stored ones: all rows of entries for which `wanted` says yes. It is asked of the
    /// entries of these customers of an account, or of all that there are.
    pub fn uncommitted(
        &self,
        customers: Option<(u32, &[String])>,
        wanted: &mut dyn FnMut(&RowKey<'_>) -> bool,
        rows: &mut BTreeMap<Vec<u8>, Row>,
    ) {
        let mut look = |entry: &Entry| {
            if entry.listed > self.committed && RowKey::read(&entry.key).is_some_and(|key| wanted(&key)) {
                entry.for_each_row(|slot| slot.changed > self.committed, &mut |key, row| drop(rows.insert(key.to_vec(), row.clone())));
            }
        };
        match customers {
            Some((account, customers)) => customers.iter().flat_map(|customer| self.entries_of(account, customer)).for_each(look),
            None => self.entries.iter().for_each(&mut look),
        }
    }
}

impl Fetched {
    /// A row, from here or from the snapshot.
    fn row(&self, snapshot: &dyn Snapshot, key: &[u8]) -> Result<Option<Row>, Error> {
        match self.rows.get(key) {
            Some(fetched) => Ok(fetched.clone()),
            None => snapshot.row(key),
        }
    }

    /// A number of dimension sets, from here or from the snapshot.
    fn count(&self, snapshot: &dyn Snapshot, group: &[u8]) -> Result<u64, Error> {
        match self.counts.get(group) {
            Some(fetched) => Ok(*fetched),
            None => snapshot.count(group),
        }
    }
}

impl Copying {
    /// The rows of an entry that belong to the commit, unless they are here already.
    fn copy(&mut self, entry: &mut Entry, epoch: Epoch) {
        if entry.listed == epoch && entry.copied != epoch {
            entry.copied = epoch;
            entry.for_each_row(|slot| slot.changed == epoch, &mut |key, row| self.rows.push(key, row));
        }
    }
}

impl Entry {
    /// Something of each line of memory that adding a record is going to need.
    fn touched(&self) -> u64 {
        let key = self.key.iter().step_by(LINE_BYTES).chain(self.key.last());
        let hour = self.hours.first().map_or(0, |(bucket, slot)| slot.touched() ^ u64::from(*bucket));
        key.fold(self.listed, |all, byte| all ^ u64::from(*byte)) ^ self.day.touched() ^ hour
    }

    /// Memory of its hours behind the first.
    fn hour_bytes(&self) -> usize {
        let slots = self.hours.capacity().saturating_sub(1) * size_of::<(u32, Slot)>();
        slots + self.hours.len().saturating_sub(1) * HOUR_ID_BYTES
    }

    /// Memory behind its sketches.
    fn sketch_bytes(&self) -> usize {
        // All rows of an entry have the same dimensions: none of the others has any.
        let is_overflow = self.key.last() == DimensionSet::OVERFLOW.0.last();
        if is_overflow {
            self.day.row.sketch_bytes() + self.hours.iter().map(|(_, slot)| slot.row.sketch_bytes()).sum::<usize>()
        } else {
            0
        }
    }

    fn for_each_row(&self, wanted: impl Fn(&Slot) -> bool, visit: &mut dyn FnMut(&[u8], &Row)) {
        if wanted(&self.day) {
            visit(&self.key, &self.day.row);
        }
        let Some(key) = RowKey::read(&self.key) else { return };
        let mut bytes = Vec::with_capacity(self.key.len());
        for (hour, slot) in self.hours.iter().filter(|(_, slot)| wanted(slot)) {
            bytes.clear();
            RowKey { grain: Grain::Hour, bucket: *hour, ..key }.write(&mut bytes);
            visit(&bytes, &slot.row);
        }
    }
}

fn day_key<'r>(partition: u32, record: &Record<'r>, measured: &'r Measured<'_>) -> RowKey<'r> {
    RowKey {
        account: record.account,
        meter: measured.meter,
        grain: Grain::Day,
        // Checked at the door, and when the record was read: between 1970 and 9999.
        bucket: (record.time.seconds() / DAY_S) as u32,
        customer: record.customer_id,
        partition,
        dimensions: DimensionSet(&measured.dimensions),
    }
}

fn encoded(key: &RowKey<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    key.write(&mut bytes);
    bytes
}

impl Slot {
    /// See [`Entry::touched`].
    fn touched(&self) -> u64 {
        let id = self.row.last_id.as_bytes().first().copied().unwrap_or_default();
        let row = &self.row;
        self.changed ^ row.count ^ row.last_time.0.cast_unsigned() ^ row.sum.scaled().as_u64() ^ u64::from(id)
    }

    fn add(&mut self, value: Amount, record: &Record<'_>, current: Epoch) {
        self.changed = current;
        self.row.add(value, record.time, record.unique_id);
    }
}
