//! The dedup index as it is found on a disk: the manifest, then the runs that it names, in its order.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{Kind, flags, mend, parts};
use crate::clock::UnixMillis;
use crate::event::{ContentHash, IdentityHash};
use crate::log::Position;
use crate::log::disk::Disk;
use crate::log::disk::simulated::SimulatedDisk;
use crate::materializer::first_positions::check::check;
use crate::materializer::first_positions::{Asked, First, FirstPositions, IndexError, Standing};

const PAGE_BYTES: usize = 1_024;
const PAGE_ENTRIES: usize = 25;
const ENTRY_BYTES: usize = 40;
const FOOTER_BYTES: usize = 64;
/// Entries of a run that are asked for.
const ASKED_MAX: usize = 200;

/// What an index says it is.
struct Named {
    log_id: [u8; 16],
    horizon_ms: Option<i64>,
    runs: Vec<String>,
}

impl Named {
    fn read(manifest: &[u8]) -> Self {
        let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
        let manifest = &manifest["manifest"];
        let id = manifest["log_id"].as_str().and_then(|id| u128::from_str_radix(id, 16).ok()).unwrap_or(7);
        let files = manifest["runs"].as_array().into_iter().flatten().filter_map(|run| run["file"].as_str());
        Self { log_id: id.to_be_bytes(), horizon_ms: manifest["horizon_ms"].as_i64(), runs: files.map(str::to_owned).collect() }
    }
}

impl Named {
    /// A horizon that no log has: whatever is noted has expired.
    fn expires_at_once(&self) -> bool {
        self.horizon_ms.is_some_and(|horizon| horizon <= 0)
    }
}

/// An entry as it stands on a page.
#[derive(Debug, Clone, Copy)]
struct Entry {
    identity: IdentityHash,
    first: First,
}

/// Any index: what is damaged is an error or made again; one that a check finds nothing wrong with has all its firsts, and goes on.
pub(super) fn index(input: &[u8]) -> Kind {
    let (choice, rest) = flags(input);
    let mut files: Vec<_> = parts(rest).into_iter().map(<[u8]>::to_vec).collect();
    if choice & 1 == 1 {
        mend::json(&mut files[0], "manifest");
        files[1..].iter_mut().for_each(|run| mend::run(run));
    }
    let named = Named::read(&files[0]);
    let (disk, dir) = (SimulatedDisk::default(), Path::new("/index"));
    disk.create_dir(dir).expect("memory");
    disk.put(&dir.join("manifest.json"), &files[0]);
    for (at, run) in files[1..].iter().enumerate() {
        // What the manifest does not name is a stranger.
        let name = named.runs.get(at).map_or_else(|| format!("stranger-{at}.run"), Clone::clone);
        disk.put(&dir.join(name), run);
    }
    let checked = check(&disk, dir, named.log_id);
    assert!(checked.findings.iter().all(|finding| !finding.file.is_empty() && !finding.what.is_empty()));
    let is_sound = checked.findings.is_empty() && checked.covered.is_some();
    let entries: Vec<Entry> = files[1..].iter().flat_map(|run| entries(run)).collect();
    let mut index = open(&disk, dir, &named);
    let words = format!("{is_sound} {} {:?}", index.entries() == 0, checked.findings.first().map(|finding| &finding.what));
    if is_sound && index.covered() == checked.covered.unwrap_or_default() {
        assert_eq!(index.entries(), checked.entries);
        entries.iter().filter(|_| !named.expires_at_once()).for_each(|entry| check_found(&index, entry));
    } else {
        assert!(!is_sound || named.expires_at_once(), "it was made anew for no reason");
        entries.iter().for_each(|entry| drop(ask(&index, entry)));
    }
    match go_on(&mut index) {
        Ok(asked) => {
            drop(index);
            let index = open(&disk, dir, &named);
            for asked in &asked {
                if named.expires_at_once() {
                    break;
                }
                let found =
                    index.first(asked.identity, Position(0)..Position(u64::MAX), UnixMillis(i64::MIN)).expect("was written just now");
                assert!(found.is_some(), "what was noted stays known");
            }
        }
        Err(IndexError::Damaged(what)) => assert!(!what.is_empty()),
        Err(IndexError::Io(what)) => panic!("{what}"),
    }
    Kind::of(words)
}

fn open(disk: &SimulatedDisk, dir: &Path, named: &Named) -> FirstPositions {
    FirstPositions::open(Arc::new(disk.clone()), dir, named.log_id, named.horizon_ms, UnixMillis(i64::MAX)).expect("memory")
}

fn entries(run: &[u8]) -> Vec<Entry> {
    // Behind the last one there are zeros up to the end of its page.
    let count = run.len().checked_sub(FOOTER_BYTES).and_then(|footer| mend::u64_at(run, footer + 8)).unwrap_or_default();
    let pages = run.chunks_exact(PAGE_BYTES).flat_map(|page| page.chunks_exact(ENTRY_BYTES).take(PAGE_ENTRIES));
    let entry = |bytes: &[u8]| {
        let word = |at| mend::u64_at(bytes, at).unwrap_or_default();
        let first = First { position: Position(word(16)), log_time: UnixMillis(word(24).cast_signed()), content: ContentHash(word(32)) };
        Entry { identity: IdentityHash(u128::from(word(0)) << 64 | u128::from(word(8))), first }
    };
    pages.map(entry).take(count.min(ASKED_MAX as u64) as usize).collect()
}

fn ask(index: &FirstPositions, entry: &Entry) -> Result<Option<First>, IndexError> {
    index.first(entry.identity, Position(0)..Position(entry.first.position.0.saturating_add(1)), entry.first.log_time)
}

fn check_found(index: &FirstPositions, entry: &Entry) {
    let found = ask(index, entry).expect("nothing is wrong with it");
    assert!(found.is_some_and(|first| first.position <= entry.first.position), "{entry:?} {found:?}");
}

/// Records come in behind what is covered, and are written.
fn go_on(index: &mut FirstPositions) -> Result<Vec<Asked>, IndexError> {
    let begin = index.covered().0;
    let log_time = index.covered_log_time().max(UnixMillis(0));
    let asked: Vec<Asked> = (0..20)
        .map(|at| Asked {
            identity: IdentityHash((u128::from(at) << 100) + 77),
            content: ContentHash(at),
            position: Position(begin + at),
            log_time,
        })
        .collect();
    let mut standings = Vec::new();
    index.stand_all(&asked, &mut standings)?;
    assert_eq!(standings.len(), asked.len());
    let copies = standings.iter().filter(|standing| matches!(standing, Standing::Copy { of, .. } if of.0 >= begin));
    assert_eq!(copies.count(), 0, "no two of them are the same");
    index.maintain(Position(begin + 20), log_time, log_time)?;
    index.freeze_at(Position(begin + 20), log_time)?;
    index.wait()?;
    Ok(asked)
}
