//! An index on its way from one node's disk to another's, byte for byte.
//!
//! Who gives it opens the files that the manifest names ([`Outgoing`]): what is merged or dropped meanwhile stays readable. The index may be in
//! use, or have been left by a process that is no more.
//!
//! Who takes it ([`Incoming`]) writes the runs beside those that it has, under numbers that none of them has; as long as no manifest
//! names them they are nobody's, and are removed when the index is opened. When all of them are there, are durable, and each entry was
//! checked, a manifest that names them takes the place of the old one. So there is the old index or the new one at any time. Nothing
//! that the other side says becomes the name of a file.

use std::path::Path;

use super::IndexError;
use super::check::check_run;
use super::manifest::{self, Manifest, NamedRun};
use super::open::check_fits;
use super::run::{PAGE_BYTES, Run};
use super::worker::run_name;
use crate::clock::UnixMillis;
use crate::fault;
use crate::log::Position;
use crate::log::disk::{Disk, DiskFile, read_file};

/// Runs of an index that is handed over: far more than merges leave.
pub const RUNS_MAX: usize = 4_096;
/// Bytes of its manifest.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;
/// Times that the runs of a manifest may have been merged away before they are open.
const OPENED_MAX: usize = 10;
/// Synced at once while a run comes.
const SYNC_BYTES: u64 = 32 << 20;
/// Entries have 40 bytes, filters and fences 2.16, and a page is never less than half of what it may be but for the last one of a run.
const ENTRY_BYTES_MAX: u64 = 48;
/// What a run has beside: a page that is not full, a line of the filter, the footer.
const RUN_BYTES_MORE: u64 = PAGE_BYTES as u64 + 256;

/// An index as it stands on the disk at one moment.
pub struct Outgoing {
    manifest: Vec<u8>,
    covered: Position,
    runs: Vec<Given>,
}

/// A run that is given.
struct Given {
    file: Box<dyn DiskFile>,
    bytes: u64,
}

impl Outgoing {
    /// Opens the files of the index in `dir`; `None`: there is none.
    ///
    /// # Errors
    /// [`IndexError`].
    pub fn open(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, IndexError> {
        let mut found = read_file(disk, &dir.join(manifest::FILE))?;
        for _ in 0..OPENED_MAX {
            let Some(bytes) = found else { return Ok(None) };
            let named = Manifest::parse(&bytes)?;
            let runs = named.runs.iter().map(|named| open_run(disk, dir, named)).collect::<Result<Option<Vec<_>>, _>>()?;
            // Files go only after the manifest that named them: if it is still there, these are its.
            found = read_file(disk, &dir.join(manifest::FILE))?;
            if let Some(runs) = runs
                && found.as_ref() == Some(&bytes)
            {
                return Ok(Some(Self { manifest: bytes, covered: Position(named.covered), runs }));
            }
        }
        Err(IndexError::Io("its runs are merged faster than they can be opened".into()))
    }

    /// The manifest, as it stands there.
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Every first before this is in the runs.
    pub fn covered(&self) -> Position {
        self.covered
    }

    /// Bytes of the runs, in the manifest's order.
    pub fn sizes(&self) -> impl Iterator<Item = u64> {
        self.runs.iter().map(|run| run.bytes)
    }

    /// Reads of a run, by its number in that order; fewer bytes only at its end.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn read_at(&self, run: usize, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.runs[run].file.read_at(offset, buffer)
    }
}

fn open_run(disk: &dyn Disk, dir: &Path, named: &NamedRun) -> Result<Option<Given>, IndexError> {
    match disk.open(&dir.join(&named.file)) {
        Ok(file) => {
            let bytes = file.len()?;
            Ok(Some(Given { file, bytes }))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What has to hold of an index that is taken over.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Of the log.
    pub log_id: [u8; 16],
    /// Of the log, too.
    pub horizon_ms: Option<i64>,
    /// Log time of the rows' position.
    pub committed: UnixMillis,
}

/// What another node says of its index.
#[derive(Debug, Clone)]
pub struct Offer {
    manifest: Manifest,
    sizes: Vec<u64>,
    bytes: u64,
}

impl Offer {
    /// Reads a manifest and the sizes of its runs.
    ///
    /// # Errors
    /// [`IndexError::Damaged`]: it makes no sense, or is not what is wanted.
    pub fn read(manifest: &[u8], sizes: Vec<u64>, wanted: &Wanted) -> Result<Self, IndexError> {
        let damaged = |what: String| Err(IndexError::Damaged(what));
        if manifest.len() > MANIFEST_BYTES_MAX || sizes.len() > RUNS_MAX {
            return damaged(format!("a manifest of {} bytes and {} runs is too large", manifest.len(), sizes.len()));
        }
        let manifest = Manifest::parse(manifest)?;
        check_fits(&manifest, &hex::encode(wanted.log_id), wanted.horizon_ms, wanted.committed)?;
        if manifest.runs.len() != sizes.len() || sizes.contains(&0) {
            return damaged(format!("there are {} runs, and sizes of {}, none of which may be 0", manifest.runs.len(), sizes.len()));
        }
        // Each entry has a position of its own before what is covered.
        let bytes_max = manifest.covered.saturating_mul(ENTRY_BYTES_MAX).saturating_add(sizes.len() as u64 * RUN_BYTES_MORE);
        match sizes.iter().try_fold(0_u64, |sum, bytes| sum.checked_add(*bytes)) {
            Some(bytes) if bytes <= bytes_max => Ok(Self { manifest, sizes, bytes }),
            _ => damaged(format!("its runs have more than the {bytes_max} bytes of what it covers")),
        }
    }

    /// Every first before this is in it.
    pub fn covered(&self) -> Position {
        Position(self.manifest.covered)
    }

    /// Whether the log ends behind what it covers. The end must have been asked for since the offer came: whoever makes it may know of more.
    pub fn fits(&self, end: Position) -> bool {
        self.covered() <= end
    }

    /// Bytes of all runs.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of runs.
    pub fn runs(&self) -> usize {
        self.sizes.len()
    }
}

/// A run that is being written.
struct Coming {
    file: Box<dyn DiskFile>,
    bytes: u64,
    written: u64,
    synced: u64,
}

impl Coming {
    /// Takes what is its; returns the rest.
    fn write<'b>(&mut self, bytes: &'b [u8]) -> std::io::Result<&'b [u8]> {
        let left = usize::try_from(self.bytes - self.written).unwrap_or(usize::MAX);
        let (now, rest) = bytes.split_at(left.min(bytes.len()));
        self.file.write_at(self.written, now)?;
        self.written += now.len() as u64;
        if self.is_whole() || self.written - self.synced >= SYNC_BYTES {
            self.file.sync()?;
            self.synced = self.written;
        }
        Ok(rest)
    }

    fn is_whole(&self) -> bool {
        self.written == self.bytes
    }
}

/// An index that is being taken over, in the directory of one that nobody has open. Dropped before it is installed it removes what it has
/// written.
pub struct Incoming<'d> {
    disk: &'d dyn Disk,
    dir: &'d Path,
    offer: Offer,
    /// Number of the first file.
    first: u64,
    /// Runs that are whole, but for the last one if there is [`Self::coming`].
    begun: usize,
    coming: Option<Coming>,
    is_installed: bool,
}

impl<'d> Incoming<'d> {
    /// Writes nothing yet.
    ///
    /// # Errors
    /// [`IndexError::Io`].
    pub fn begin(disk: &'d dyn Disk, dir: &'d Path, offer: Offer) -> Result<Self, IndexError> {
        disk.create_dir(dir)?;
        // What the manifest knows of, and whatever else lies there.
        let known = Manifest::read(disk, dir).ok().flatten().map_or(0, |manifest| manifest.last_file);
        let number = |name: &String| name.strip_suffix(".run")?.parse::<u64>().ok();
        let lying = disk.list(dir)?.iter().filter_map(number).max().unwrap_or(0);
        let first = known.max(lying).saturating_add(1);
        Ok(Self { disk, dir, offer, first, begun: 0, coming: None, is_installed: false })
    }

    /// Takes the next bytes: the runs one after the other.
    ///
    /// # Errors
    /// [`IndexError::Io`]; [`IndexError::Damaged`]: more comes than was offered.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<(), IndexError> {
        while !bytes.is_empty() {
            let mut coming = match self.coming.take() {
                Some(coming) => coming,
                None => self.begin_run()?,
            };
            bytes = coming.write(bytes)?;
            self.coming = Some(coming).filter(|coming| !coming.is_whole());
        }
        Ok(())
    }

    fn begin_run(&mut self) -> Result<Coming, IndexError> {
        let Some(&bytes) = self.offer.sizes.get(self.begun) else {
            return Err(IndexError::Damaged("more comes than was offered".into()));
        };
        let file = self.disk.create(&self.dir.join(self.name(self.begun)))?;
        self.begun += 1;
        Ok(Coming { file, bytes, written: 0, synced: 0 })
    }

    fn name(&self, run: usize) -> String {
        run_name(self.first + run as u64)
    }

    /// Checks every entry of every run, and puts the index in the place of the one that is there. Ends before that when `is_wanted` says so.
    ///
    /// # Errors
    /// [`IndexError`]: the index that was there is still there.
    pub fn install(mut self, is_wanted: &dyn Fn() -> bool) -> Result<(), IndexError> {
        if self.coming.is_some() || self.begun < self.offer.sizes.len() {
            return Err(IndexError::Damaged("less came than was offered".into()));
        }
        for (at, named) in self.offer.manifest.runs.iter().enumerate() {
            if !is_wanted() {
                return Err(IndexError::Io("it is not wanted any more".into()));
            }
            let run = Run::open(self.disk, self.dir, &self.name(at))?;
            let mut found = None;
            check_run(&run, &self.offer.manifest, named.bucket, &mut |what| found = Some(what))?;
            if let Some(what) = found {
                return Err(IndexError::Damaged(format!("{}: {what}", named.file)));
            }
        }
        self.disk.sync_dir(self.dir)?;
        fault::point("handover-fetched");
        let runs = (0..).zip(&self.offer.manifest.runs).map(|(at, named)| NamedRun { file: self.name(at), ..named.clone() }).collect();
        let last_file = self.first + self.offer.sizes.len() as u64;
        Manifest { runs, last_file, ..self.offer.manifest.clone() }.write(self.disk, self.dir)?;
        self.is_installed = true;
        fault::point("handover-installed");
        Ok(())
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if !self.is_installed {
            // Where that fails, they are removed when the index is opened.
            (0..self.begun).for_each(|run| drop(self.disk.remove(&self.dir.join(self.name(run)))));
        }
    }
}
