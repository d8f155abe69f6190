//! Checks every byte of an index, for `tollgate doctor`. Reads only; the index must not be in use.

use std::path::Path;

use super::IndexError;
use super::buckets::Buckets;
use super::entry::Entry;
use super::filter::Filter;
use super::manifest::{self, Manifest};
use super::run::{PAGE_ENTRIES, Run, fence_of};
use crate::clock::UnixMillis;
use crate::log::Position;
use crate::log::disk::Disk;

/// Pages read at once.
const CHUNK_PAGES: usize = 64;

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file's name.
    pub file: String,
    /// What is wrong with it.
    pub what: String,
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// What the index covers; `None`: there is none, which is as good as a new one.
    pub covered: Option<Position>,
    /// Its entries.
    pub entries: u64,
    /// Files that the manifest does not name: they are removed at the next start.
    pub strangers: Vec<String>,
    /// Everything that is wrong. Whatever it is: the index can be deleted, it is made again from the log.
    pub findings: Vec<Finding>,
}

/// Reads every byte of the index in `dir`, which nobody has open. Changes nothing.
pub fn check(disk: &dyn Disk, dir: &Path, log_id: [u8; 16]) -> Checked {
    let mut checked = Checked::default();
    let findings = &mut checked.findings;
    let mut find = |file: &str, what: String| findings.push(Finding { file: file.to_owned(), what });
    let manifest = match Manifest::read(disk, dir) {
        Ok(manifest) => manifest,
        Err(error) => {
            find(manifest::FILE, error.to_string());
            return checked;
        }
    };
    let known: Vec<&str> = manifest.iter().flat_map(|manifest| &manifest.runs).map(|named| named.file.as_str()).collect();
    match disk.list(dir) {
        Ok(names) => {
            checked.strangers = names.into_iter().filter(|name| name != manifest::FILE && !known.contains(&name.as_str())).collect()
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => find(".", error.to_string()),
    }
    let Some(manifest) = manifest else { return checked };
    checked.covered = Some(Position(manifest.covered));
    if manifest.log_id != hex::encode(log_id) {
        find(manifest::FILE, "the index belongs to another log".into());
    }
    for named in &manifest.runs {
        let run = Run::open(disk, dir, &named.file);
        checked.entries += run.as_ref().map_or(0, Run::len);
        let read = run.and_then(|run| check_run(&run, &manifest, named.bucket, &mut |what| find(&named.file, what)));
        if let Err(error) = read {
            find(&named.file, error.to_string());
        }
    }
    checked
}

/// Goes through the entries; stops at a page that cannot be read.
pub(super) fn check_run(run: &Run, manifest: &Manifest, bucket: i64, find: &mut dyn FnMut(String)) -> Result<(), IndexError> {
    let buckets = Buckets::new(manifest.horizon_ms);
    let mut filter = Filter::for_entries(run.len());
    let (mut unsorted, mut strangers, mut uncovered, mut fences) = (0_u64, 0_u64, 0_u64, 0_u64);
    let (mut pages, mut entries) = (Vec::new(), Vec::new());
    let mut last: Option<Entry> = None;
    for begin in (0..run.pages()).step_by(CHUNK_PAGES) {
        let end = (begin + CHUNK_PAGES).min(run.pages());
        entries.clear();
        run.read_entries(begin..end, &mut pages, &mut entries)?;
        for entry in &entries {
            unsorted += u64::from(last.replace(*entry).is_some_and(|last| last >= *entry));
            strangers += u64::from(buckets.of(UnixMillis(entry.log_time)) != bucket);
            uncovered += u64::from(entry.position >= manifest.covered);
            filter.insert(entry.upper, entry.lower);
        }
        let firsts = entries.chunks(PAGE_ENTRIES).map(|page| fence_of(page[0].upper));
        fences += firsts.zip(&run.fences()[begin..end]).filter(|(first, fence)| first != *fence).count() as u64;
    }
    let counted = [
        (unsorted, "entries are not higher than the one before them"),
        (strangers, "entries belong to another bucket of log time"),
        (uncovered, "entries lie behind what the manifest says is covered"),
        (fences, "fences are not the first identity of their page"),
    ];
    counted.iter().filter(|(count, _)| *count > 0).for_each(|(count, what)| find(format!("{count} {what}")));
    if filter != *run.filter() {
        find("the filter does not fit the entries".into());
    }
    Ok(())
}
