//! A disk in memory that knows what is durable, for tests: it loses its power, fails, and gets full.
//!
//! What a program reads is what it wrote, as with a page cache. What is there after [`SimulatedDisk::power_loss`] is less:
//! of a file, what was synced, and of later writes any sectors (512 bytes), each as it was after any of the writes to it, under any
//! length that the file had meanwhile; of a directory, its entries as they were synced, and of later changes any, a rename whole
//! or not at all.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile};

const SECTOR_BYTES: usize = 512;
/// What a file takes room in.
const PAGE_BYTES: usize = 4_096;

/// SplitMix64: small, and good enough for choices in tests.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A write, before anything of it is written.
    Write(io::ErrorKind),
    /// A write, after a part of it was written.
    ShortWrite(io::ErrorKind),
    /// A sync of a file. What it was to make durable is not, and a later sync does not make it so either.
    Sync,
    /// A sync of a directory.
    SyncDir,
    /// Any operation that changes something: as if the power were gone from here on.
    Everything,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct SimulatedDisk(Arc<Mutex<World>>);

type FileId = usize;

#[derive(Clone, Default)]
struct World {
    files: Vec<SimulatedFile>,
    names: BTreeMap<PathBuf, FileId>,
    durable_names: BTreeMap<PathBuf, FileId>,
    unsynced_names: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    capacity_bytes: Option<usize>,
    /// What fails, and how many operations of its kind succeed before.
    fault: Option<(Fault, u64)>,
    /// Whether the fault stays once it has struck.
    is_lasting: bool,
}

#[derive(Clone, Default)]
struct SimulatedFile {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    pages: HashSet<usize>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone)]
enum NameChange {
    Create(PathBuf, FileId),
    Rename(PathBuf, PathBuf, FileId),
    Remove(PathBuf),
}

impl NameChange {
    fn is_in(&self, dir: &Path) -> bool {
        match self {
            Self::Create(path, _) | Self::Rename(path, ..) | Self::Remove(path) => path.parent() == Some(dir),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, FileId>) {
        match self {
            Self::Create(path, id) => drop(names.insert(path.clone(), *id)),
            Self::Rename(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
            Self::Remove(path) => drop(names.remove(path)),
        }
    }
}

impl Change {
    fn sectors(&self, length_before: usize) -> std::ops::Range<usize> {
        let (from, to) = match self {
            Self::Write { offset, bytes } => (*offset, offset + bytes.len()),
            // Cut off and written again it is something else; grown, it has zeros there, as it has without.
            Self::Length(length) => (*length.min(&length_before), length_before),
        };
        from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES)
    }

    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                to.resize(to.len().max(end), 0);
                to[*offset..end].copy_from_slice(bytes);
            }
            Self::Length(length) => to.resize(*length, 0),
        }
    }
}

impl SimulatedFile {
    fn change(&mut self, change: Change) {
        change.apply(&mut self.bytes);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        self.unsynced.drain(..).for_each(|change| change.apply(&mut self.durable));
    }

    /// What is there after the power was gone.
    fn lose(&self, random: &mut Random) -> Vec<u8> {
        let keep = match random.below(4) {
            0 => return self.durable.clone(),
            1 => return self.bytes.clone(),
            // Everything but what came last, sector by sector; or anything.
            2 => |random: &mut Random, versions: usize| versions.saturating_sub(usize::from(random.below(8) == 0)),
            _ => |random: &mut Random, versions: usize| random.below(versions + 1),
        };
        // The versions that each sector had, and the lengths that the file had.
        let mut lengths = vec![self.durable.len()];
        let mut versions: BTreeMap<usize, usize> = BTreeMap::new();
        let mut now = self.durable.clone();
        for change in &self.unsynced {
            change.sectors(now.len()).for_each(|sector| *versions.entry(sector).or_default() += 1);
            change.apply(&mut now);
            lengths.push(now.len());
        }
        let kept: BTreeMap<usize, usize> = versions.into_iter().map(|(sector, all)| (sector, keep(random, all))).collect();
        let mut seen: BTreeMap<usize, usize> = BTreeMap::new();
        let mut found = self.durable.clone();
        found.resize(now.len().max(found.len()), 0);
        let mut now = self.durable.clone();
        for change in &self.unsynced {
            let sectors = change.sectors(now.len());
            change.apply(&mut now);
            for sector in sectors {
                let seen = seen.entry(sector).or_default();
                *seen += 1;
                if *seen <= kept[&sector] {
                    let from = sector * SECTOR_BYTES;
                    found.resize(found.len().max(from + SECTOR_BYTES), 0);
                    let mut content = [0; SECTOR_BYTES];
                    let there = now.get(from..).unwrap_or_default();
                    let there = &there[..there.len().min(SECTOR_BYTES)];
                    content[..there.len()].copy_from_slice(there);
                    found[from..from + SECTOR_BYTES].copy_from_slice(&content);
                }
            }
        }
        found.resize(lengths[keep(random, lengths.len() - 1)], 0);
        found
    }
}

impl World {
    /// Counts an operation of a kind that may fail; whether this one does.
    fn strikes(&mut self, is_meant: impl Fn(Fault) -> bool) -> Option<Fault> {
        let (fault, left) = self.fault.as_mut()?;
        if !is_meant(*fault) && *fault != Fault::Everything {
            return None;
        }
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let fault = *fault;
        if !self.is_lasting && fault != Fault::Everything {
            self.fault = None;
        }
        Some(fault)
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        if self.strikes(|_| false).is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        change.apply(&mut self.names);
        self.unsynced_names.push(change);
        Ok(())
    }

    fn used_bytes(&self) -> usize {
        let open: HashSet<_> = self.names.values().collect();
        open.into_iter().map(|id| self.files[*id].pages.len() * PAGE_BYTES).sum()
    }

    /// How many of these bytes there is room for.
    fn fitting(&mut self, id: FileId, offset: usize, bytes: usize) -> usize {
        let Some(capacity) = self.capacity_bytes else { return bytes };
        let mut left = capacity.saturating_sub(self.used_bytes()) / PAGE_BYTES;
        let pages = &self.files[id].pages;
        for page in offset / PAGE_BYTES..(offset + bytes).div_ceil(PAGE_BYTES) {
            if !pages.contains(&page) {
                if left == 0 {
                    return (page * PAGE_BYTES).saturating_sub(offset);
                }
                left -= 1;
            }
        }
        bytes
    }

    fn write(&mut self, id: FileId, offset: usize, bytes: &[u8]) {
        let pages = offset / PAGE_BYTES..(offset + bytes.len()).div_ceil(PAGE_BYTES);
        let file = &mut self.files[id];
        file.pages.extend(pages);
        file.change(Change::Write { offset, bytes: bytes.to_vec() });
    }
}

impl SimulatedDisk {
    /// Fails after so many operations of the fault's kind: once, or from there on ([`SimulatedDisk::fail_for_good`]).
    pub(crate) fn fail(&self, fault: Fault, after: u64) {
        let mut world = self.lock();
        (world.fault, world.is_lasting) = (Some((fault, after)), false);
    }

    /// As [`SimulatedDisk::fail`], until the disk is mended.
    pub(crate) fn fail_for_good(&self, fault: Fault, after: u64) {
        let mut world = self.lock();
        (world.fault, world.is_lasting) = (Some((fault, after)), true);
    }

    /// Nothing fails any more.
    pub(crate) fn mend(&self) {
        self.lock().fault = None;
    }

    /// The size of the disk; `None`: endless.
    pub(crate) fn set_capacity(&self, bytes: Option<usize>) {
        self.lock().capacity_bytes = bytes;
    }

    /// Bytes in use.
    pub(crate) fn used_bytes(&self) -> usize {
        self.lock().used_bytes()
    }

    /// The disk as the next start finds it. This one goes on: whoever still writes to it writes into nothing.
    pub(crate) fn power_loss(&self, seed: u64) -> Self {
        let world = self.lock();
        let mut random = Random::new(seed);
        let mut names = world.durable_names.clone();
        let prefix = random.below(world.unsynced_names.len() + 1);
        let is_prefix = random.below(2) == 0;
        for (at, change) in world.unsynced_names.iter().enumerate() {
            if if is_prefix { at < prefix } else { random.below(2) == 0 } {
                change.apply(&mut names);
            }
        }
        let mut found = World { dirs: world.dirs.clone(), ..World::default() };
        let mut kept: BTreeMap<FileId, FileId> = BTreeMap::new();
        for (path, id) in names {
            let id = *kept.entry(id).or_insert_with(|| {
                let bytes = world.files[id].lose(&mut random);
                let pages = (0..bytes.len().div_ceil(PAGE_BYTES)).collect();
                found.files.push(SimulatedFile { durable: bytes.clone(), bytes, unsynced: Vec::new(), pages });
                found.files.len() - 1
            });
            found.names.insert(path, id);
        }
        found.durable_names = found.names.clone();
        Self(Arc::new(Mutex::new(found)))
    }

    /// A copy in which everything is as the program left it: a process ended, the machine did not.
    pub(crate) fn process_end(&self) -> Self {
        let mut world = self.lock().clone();
        world.fault = None;
        Self(Arc::new(Mutex::new(world)))
    }

    /// The content of a file.
    pub(crate) fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let world = self.lock();
        world.names.get(path).map(|id| world.files[*id].bytes.clone())
    }

    /// Puts a durable file in place, whatever was there.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut world = self.lock();
        let pages = (0..bytes.len().div_ceil(PAGE_BYTES)).collect();
        world.files.push(SimulatedFile { bytes: bytes.to_vec(), durable: bytes.to_vec(), unsynced: Vec::new(), pages });
        let id = world.files.len() - 1;
        world.names.insert(path.to_owned(), id);
        world.durable_names.insert(path.to_owned(), id);
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, id: FileId) -> Box<dyn DiskFile> {
        Box::new(Handle { disk: self.clone(), id })
    }
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut world = self.lock();
        if world.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|dir| world.dirs.contains(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let id = world.files.len();
        world.change_name(NameChange::Create(path.to_owned(), id))?;
        world.files.push(SimulatedFile::default());
        drop(world);
        Ok(self.handle(id))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let found = self.lock().names.get(path).copied();
        found.map(|id| self.handle(id)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open_writable(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.lock();
        let here = world.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.lock();
        let id = *world.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        world.change_name(NameChange::Rename(from.to_owned(), to.to_owned(), id))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock();
        if !world.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        world.change_name(NameChange::Remove(path.to_owned()))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.lock().dirs.insert(path.to_owned());
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut world = self.lock();
        if world.strikes(|fault| fault == Fault::SyncDir).is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        let (synced, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut world.unsynced_names).into_iter().partition(|change| change.is_in(path));
        world.unsynced_names = rest;
        synced.iter().for_each(|change| change.apply(&mut world.durable_names));
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let world = self.lock();
        Ok(world.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(world.used_bytes()) as u64))
    }
}

struct Handle {
    disk: SimulatedDisk,
    id: FileId,
}

impl DiskFile for Handle {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let world = self.disk.lock();
        let there = world.files[self.id].bytes.get(offset as usize..).unwrap_or_default();
        let read = there.len().min(buffer.len());
        buffer[..read].copy_from_slice(&there[..read]);
        Ok(read)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut world = self.disk.lock();
        let offset = offset as usize;
        match world.strikes(|fault| matches!(fault, Fault::Write(_) | Fault::ShortWrite(_))) {
            Some(Fault::Write(kind)) => return Err(kind.into()),
            Some(Fault::ShortWrite(kind)) => {
                world.write(self.id, offset, &bytes[..bytes.len() / 2]);
                return Err(kind.into());
            }
            Some(Fault::Sync | Fault::SyncDir | Fault::Everything) => return Err(io::ErrorKind::Other.into()),
            None => {}
        }
        let fitting = world.fitting(self.id, offset, bytes.len());
        world.write(self.id, offset, &bytes[..fitting]);
        if fitting < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.lock();
        match world.strikes(|fault| fault == Fault::Sync) {
            Some(Fault::Everything) => Err(io::ErrorKind::Other.into()),
            Some(_) => {
                // As Linux does: the pages count as clean afterwards, though they are not on the disk. What the program reads
                // stays; what a power loss leaves never has them.
                let file = &mut world.files[self.id];
                file.unsynced.clear();
                Err(io::ErrorKind::Other.into())
            }
            None => {
                world.files[self.id].sync();
                Ok(())
            }
        }
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.disk.lock();
        if world.strikes(|_| false).is_some() {
            return Err(io::ErrorKind::Other.into());
        }
        let file = &mut world.files[self.id];
        file.pages.retain(|page| page * PAGE_BYTES < bytes as usize);
        file.change(Change::Length(bytes as usize));
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.id].bytes.len() as u64)
    }
}
