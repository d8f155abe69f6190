mod copies;
mod world;

use super::check::{Finding, check};
use super::upkeep::MERGE_RUNS;
use super::*;
use crate::log::disk::{DiskFile, RealDisk};
use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;

const LOG: [u8; 16] = [7; 16];

fn open_at(dir: &Path, horizon_ms: Option<i64>, committed: i64) -> FirstPositions {
    FirstPositions::open(Arc::new(RealDisk), dir, LOG, horizon_ms, UnixMillis(committed)).expect("opens")
}

fn open(dir: &Path, horizon_ms: Option<i64>) -> FirstPositions {
    open_at(dir, horizon_ms, i64::MAX)
}

/// Freezes the table and waits until it is covered.
fn flush(index: &mut FirstPositions, next: u64, log_time: i64) {
    index.freeze_at(Position(next), UnixMillis(log_time)).expect("freezes");
    index.wait().expect("is written");
    assert!(index.covered() >= Position(next));
}

/// Maintains until nothing is left to be done.
fn settle(index: &mut FirstPositions, next: u64, log_time: i64, committed: i64) {
    loop {
        index.maintain(Position(next), UnixMillis(log_time), UnixMillis(committed)).expect("maintains");
        if index.merging.is_some() {
            let merged = index.threads.merger.wait().expect("is alive").expect("is merged");
            index.take_over_merged(merged);
        } else if index.frozen.is_none() && !index.is_manifest_under_way {
            return;
        }
        index.wait().expect("is written");
    }
}

fn identity(id: u64) -> IdentityHash {
    // Uniform enough for the filter, and two ids share their upper half.
    IdentityHash((u128::from(id / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) << 64) | u128::from(id.wrapping_mul(0xd1b5_4a32_d192_ed03)))
}

fn asked(id: u64, position: u64, log_time: i64) -> Asked {
    Asked { identity: identity(id), content: ContentHash(id), position: Position(position), log_time: UnixMillis(log_time) }
}

fn stand(index: &mut FirstPositions, id: u64, position: u64, log_time: i64) -> Option<u64> {
    let mut standings = Vec::new();
    index.stand_all(&[asked(id, position, log_time)], &mut standings).expect("answers");
    match standings[..] {
        [Standing::First] => None,
        [Standing::Copy { of, content }] => {
            assert_eq!(content, ContentHash(id));
            Some(of.0)
        }
        _ => panic!("one answer to one question"),
    }
}

/// The names of the runs in a directory.
fn run_files(dir: &Path) -> BTreeSet<String> {
    RealDisk.list(dir).expect("lists").into_iter().filter(|name| name.ends_with(".run")).collect()
}

/// In place: a file that is cut and written again is on its way to the disk when it is cut the next time, which waits for it.
fn flip(path: &Path, byte: usize, bit: u8) {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("opens");
    let mut found = [0];
    file.read_exact_at(&mut found, byte as u64).expect("read");
    file.write_all_at(&[found[0] ^ (1 << bit)], byte as u64).expect("written");
}

fn only_run(dir: &Path) -> std::path::PathBuf {
    let files = run_files(dir);
    assert_eq!(files.len(), 1);
    dir.join(files.first().expect("one"))
}

#[test]
fn a_repetition_does_not_refresh_and_the_horizon_is_exact() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), Some(100));
    assert_eq!(stand(&mut index, 1, 0, 1_000), None);
    assert_eq!(stand(&mut index, 1, 1, 1_099), Some(0));
    assert_eq!(stand(&mut index, 1, 2, 1_100), None, "the horizon has passed since the first, not since the repetition");
    assert_eq!(stand(&mut index, 1, 3, 1_150), Some(2));
    // Read again from before: the older first is still known, written or not.
    for _ in 0..2 {
        assert_eq!(stand(&mut index, 1, 1, 1_099), Some(0));
        assert_eq!(stand(&mut index, 1, 0, 1_000), None);
        flush(&mut index, 4, 1_150);
        assert_eq!(stand(&mut index, 1, 4, 1_199), Some(2));
    }
    assert_eq!(index.entries(), 2, "what is asked again is not noted again");
    assert_eq!(stand(&mut index, 2, 5, 1_200), None);
    assert_eq!((stand(&mut index, 2, 5, 1_200), index.entries()), (None, 3), "nor what was asked last");
}

#[test]
fn a_table_is_frozen_when_it_is_full_and_when_log_time_has_left_its_bucket() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), Some(1_000));
    let mut next = 0;
    while !index.table.is_full(table::ENTRIES_MAX) {
        assert_eq!(stand(&mut index, next, next, 5), None);
        next += 1;
    }
    let mut entries_after = |index: &mut FirstPositions, log_time| {
        index.maintain(Position(next), UnixMillis(log_time), UnixMillis(5)).expect("maintains");
        let left = index.table.entries().len();
        assert_eq!(stand(index, next, next, log_time), None);
        next += 1;
        left
    };
    assert_eq!(entries_after(&mut index, 5), 0, "it was full");
    assert_eq!(entries_after(&mut index, 5), 1, "it is not full, and its bucket goes on");
    assert_eq!(entries_after(&mut index, 1_000_000), 0, "its bucket has ended");
}

#[test]
fn what_the_threads_have_finished_is_taken_over_between_batches() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), None);
    for end in (1..=MERGE_RUNS as u64).map(|run| run * 10) {
        (end - 10..end).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
        flush(&mut index, end, 5);
    }
    let next = Position(MERGE_RUNS as u64 * 10);
    let maintain = |index: &mut FirstPositions| index.maintain(next, UnixMillis(5), UnixMillis(5)).expect("maintains");
    maintain(&mut index);
    let (_, bytes) = index.merging.expect("there are enough runs to be merged");
    let tables: u64 = index.tables().chain(&index.spare).map(Table::bytes).sum();
    let runs: u64 = index.runs.iter().map(|placed| placed.run.bytes()).sum();
    assert_eq!(index.memory_bytes(), tables + runs + bytes, "the run that is being made counts from the begin");
    while index.runs.len() > 1 {
        std::thread::yield_now();
        maintain(&mut index);
    }
    assert_eq!(index.runs[0].level, 1, "it waits for others of its level");
    let run = &index.runs[0].run;
    assert_eq!(run.bytes(), run::Run::bytes_for(run.len()));
}

#[test]
fn a_filter_takes_few_for_there_that_are_not_and_none_for_missing_that_are() {
    let probe = |id| filter::Probe::new(identity(id));
    let mut filter = filter::Filter::for_entries(10_000);
    let empty = filter::Filter::for_entries(10_000);
    for id in 0..10_000 {
        let (upper, lower) = entry::halves(identity(id));
        filter.insert(upper, lower);
    }
    assert!(filter != empty, "what is in it tells it apart");
    assert!((0..10_000).all(|id| filter.may_hold(&probe(id))));
    let wrong = (10_000..30_000).filter(|id| filter.may_hold(&probe(*id))).count();
    assert!(wrong < 20_000 / 200, "{wrong} of 20,000, where one in 620 is expected");
    let probes: Vec<_> = (9_990..10_010).map(probe).collect();
    let each = probes.iter().enumerate().fold(0, |found, (at, probe)| found + (u64::from(filter.may_hold(probe)) << at));
    assert_eq!(filter.may_hold_all(&probes), each);
    assert_eq!(entry::halves(IdentityHash(3 << 64 | 4)), (3, 4));
}

#[test]
fn an_index_of_another_log_or_horizon_or_without_one_of_its_runs_is_begun_anew() {
    let made = || {
        let dir = tempfile::tempdir().expect("a directory");
        let mut index = open(dir.path(), Some(1_000));
        (0..60).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
        flush(&mut index, 60, 5);
        drop(index);
        let checked = check(&RealDisk, dir.path(), LOG);
        assert_eq!((checked.findings.len(), checked.entries, checked.covered), (0, 60, Some(Position(60))));
        dir
    };
    let opened = |dir: &Path, log, horizon| {
        let index = FirstPositions::open(Arc::new(RealDisk), dir, log, horizon, UnixMillis(i64::MAX)).expect("opens");
        index.covered()
    };
    assert_eq!(opened(made().path(), LOG, Some(1_000)), Position(60));
    assert_eq!(opened(made().path(), [8; 16], Some(1_000)), Position(0));
    assert_eq!(opened(made().path(), LOG, Some(1_001)), Position(0));
    let dir = made();
    std::fs::remove_file(only_run(dir.path())).expect("removes");
    assert_eq!(
        check(&RealDisk, dir.path(), LOG).findings.iter().map(|finding| finding.what.contains("missing")).collect::<Vec<_>>(),
        [true]
    );
    assert_eq!(opened(dir.path(), LOG, Some(1_000)), Position(0));
}

/// Changes what stands behind the pages of a run, and puts the right checksums to it.
fn change_run(path: &Path, change: impl FnOnce(&mut Vec<u8>, &mut [u8])) {
    let bytes = std::fs::read(path).expect("read");
    let (body, footer) = bytes.split_at(bytes.len() - 64);
    let pages = entry::u64_at(footer, 16) as usize;
    let (entries, memory) = body.split_at(pages * 1_024);
    let (mut memory, mut footer) = (memory.to_vec(), footer.to_vec());
    change(&mut memory, &mut footer);
    footer[32..36].copy_from_slice(&crc32c::crc32c(&memory).to_le_bytes());
    let sum = crc32c::crc32c(&footer[..60]);
    footer[60..].copy_from_slice(&sum.to_le_bytes());
    std::fs::write(path, [entries, memory.as_slice(), footer.as_slice()].concat()).expect("written");
}

#[test]
fn a_run_whose_footer_or_fences_do_not_fit_is_damaged_though_its_checksums_are_right() {
    let add = |footer: &mut [u8], at: usize, more: u64| {
        let number = entry::u64_at(footer, at) + more;
        footer[at..at + 8].copy_from_slice(&number.to_le_bytes());
    };
    let finding = |change: &dyn Fn(&mut Vec<u8>, &mut [u8])| {
        let dir = tempfile::tempdir().expect("a directory");
        let mut index = open(dir.path(), Some(1_000));
        (0..60).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
        flush(&mut index, 60, 5);
        drop(index);
        change_run(&only_run(dir.path()), |memory, footer| change(memory, footer));
        check(&RealDisk, dir.path(), LOG).findings.into_iter().map(|finding| finding.what).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(finding(&|_, _| {}), "");
    let unfit = "the footer does not fit the file";
    assert!(finding(&|_, footer| add(footer, 8, 25)).contains(unfit), "entries");
    assert!(finding(&|_, footer| add(footer, 24, 1)).contains(unfit), "lines of the filter");
    assert!(finding(&|memory, _| memory.extend([0; 8])).contains(unfit), "more than fences and filter");
    let fences = finding(&|memory, _| memory[..8].iter_mut().for_each(|byte| *byte ^= 1));
    assert_eq!(fences, "2 fences are not the first identity of their page");
    let filter = finding(&|memory, _| memory.last_mut().into_iter().for_each(|byte| *byte ^= 1));
    assert_eq!(filter, "the filter does not fit the entries");
}

#[test]
fn a_manifest_whose_numbers_or_names_make_no_sense_is_damaged() {
    let dir = tempfile::tempdir().expect("a directory");
    let written = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = Manifest::empty(hex::encode(LOG), None);
        manifest.runs.push(manifest::NamedRun { file: "1.run".into(), bucket: 0, level: 999 });
        manifest.covered = (1 << 62) - 1;
        change(&mut manifest);
        manifest.write(&RealDisk, dir.path()).expect("writes");
        match Manifest::read(&RealDisk, dir.path()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    assert_eq!(written(&|_| {}), "");
    let senseless: [&dyn Fn(&mut Manifest); 5] = [
        &|manifest| manifest.covered = 1 << 62,
        &|manifest| manifest.last_file = 1 << 62,
        &|manifest| manifest.runs[0].level = 1_000,
        &|manifest| manifest.runs[0].file = "../1.run".into(),
        &|manifest| manifest.runs[0].file = "1.ran".into(),
    ];
    for change in senseless {
        let what = written(change);
        assert!(what.contains("makes no sense"), "{what}");
    }
    let other = written(&|manifest| manifest.format += 1);
    assert!(other.contains("another version"), "{other}");
}

#[test]
fn a_batch_sees_its_own_keys() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), None);
    let records: Vec<Asked> = (0..200).map(|at| asked(at % 90, at, 5)).collect();
    let mut standings = Vec::new();
    index.stand_all(&records, &mut standings).expect("answers");
    for (at, standing) in (0..).zip(standings) {
        let first = Standing::Copy { of: Position(at % 90), content: ContentHash(at % 90) };
        assert_eq!(standing, if at < 90 { Standing::First } else { first });
    }
}

#[test]
fn a_damaged_index_is_begun_anew_and_a_strange_file_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), None);
    (0..1_000).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
    flush(&mut index, 1_000, 5);
    drop(index);
    std::fs::write(dir.path().join("000000000099.run"), b"left over").expect("written");
    assert_eq!(open(dir.path(), None).covered(), Position(1_000));
    let run = only_run(dir.path());
    let in_filter = std::fs::metadata(&run).expect("is there").len() as usize - 70;
    flip(&run, in_filter, 0);
    let mut index = open(dir.path(), None);
    assert_eq!(index.covered(), Position(0));
    assert_eq!(stand(&mut index, 3, 3, 5), None);
    assert_eq!(run_files(dir.path()), BTreeSet::new());
}

#[test]
fn no_bit_of_the_manifest_can_flip_unnoticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), Some(50));
    stand(&mut index, 3, 17, 5);
    flush(&mut index, 100, 5);
    drop(index);
    let path = dir.path().join(manifest::FILE);
    let right = std::fs::read(&path).expect("read");
    for byte in 0..right.len() {
        for bit in 0..8 {
            flip(&path, byte, bit);
            let loaded = load(&RealDisk, dir.path(), &hex::encode(LOG), Some(50), UnixMillis(i64::MAX));
            assert!(matches!(loaded, Err(IndexError::Damaged(_))), "bit {bit} of byte {byte}");
            assert!(!check(&RealDisk, dir.path(), LOG).findings.is_empty(), "bit {bit} of byte {byte}");
            flip(&path, byte, bit);
        }
    }
    assert_eq!(std::fs::read(&path).expect("read"), right);
    assert_eq!(open(dir.path(), Some(50)).covered(), Position(100));
}

#[test]
fn a_flipped_bit_in_a_page_is_an_error_and_not_a_verdict() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), None);
    stand(&mut index, 3, 0, 5);
    flush(&mut index, 1, 5);
    drop(index);
    let run = only_run(dir.path());
    for byte in 0..run::PAGE_BYTES {
        flip(&run, byte, (byte % 8) as u8);
        let mut index = open(dir.path(), None);
        let answer = index.stand_all(&[asked(3, 9, 5)], &mut Vec::new());
        assert!(matches!(answer, Err(IndexError::Damaged(_))), "byte {byte}");
        flip(&run, byte, (byte % 8) as u8);
    }
}

#[test]
fn many_runs_become_one_with_every_entry() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), None);
    for batch in 0..9 {
        (0..300).for_each(|at| assert_eq!(stand(&mut index, batch * 300 + at, batch * 300 + at, 5), None));
        flush(&mut index, (batch + 1) * 300, 5);
    }
    assert_eq!(index.runs.len(), 9);
    settle(&mut index, 2_700, 5, 5);
    assert_eq!(run_files(dir.path()).len(), 1);
    assert_eq!(check(&RealDisk, dir.path(), LOG).findings, []);
    let mut again = open(dir.path(), None);
    assert_eq!((again.entries(), again.covered()), (2_700, Position(2_700)));
    (0..2_700).for_each(|id| assert_eq!(stand(&mut again, id, 5_000 + id, 5), Some(id)));
    assert_eq!(stand(&mut again, 9_999, 9_999, 5), None);
}

#[test]
fn a_bucket_that_expired_at_the_committed_position_leaves_as_whole_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let horizon = 80;
    let mut index = open(dir.path(), Some(horizon));
    // Ten firsts a bucket of 10 ms, 1,000 to 1,199.
    (0..200).for_each(|at| {
        let log_time = 1_000 + at as i64;
        assert_eq!(stand(&mut index, at, at, log_time), None);
        settle(&mut index, at + 1, log_time, 1_000);
    });
    settle(&mut index, 200, 1_200, 1_000);
    let all = run_files(dir.path());
    assert_eq!(all.len(), 20, "a bucket that log time has left is one run");
    assert_eq!(stand(&mut index, 5, 200, 1_200), None, "expired, and still there");
    assert_eq!(stand(&mut index, 50, 50, 1_050), None);
    assert_eq!(stand(&mut index, 50, 51, 1_051), Some(50), "the rows may stand there");

    settle(&mut index, 201, 1_200, 1_109 + 79);
    assert_eq!(run_files(dir.path()).len(), 20 - 10, "firsts up to 1,108 have expired, so buckets up to 1,099 have gone");
    settle(&mut index, 201, 1_200, 1_109 + 80);
    let left = run_files(dir.path());
    assert_eq!(left.len(), 20 - 11);
    assert!(left.is_subset(&all), "nothing was written again");
    for at in 110..200 {
        assert_eq!(stand(&mut index, at, 300 + at, 1_189), Some(at), "what the committed position may need is there");
    }
    assert_eq!(check(&RealDisk, dir.path(), LOG).findings, []);
}

#[test]
fn what_is_not_covered_keeps_what_its_records_need() {
    let dir = tempfile::tempdir().expect("a directory");
    let horizon = 100;
    let mut index = open(dir.path(), Some(horizon));
    let bucket_end = 12 * 75 - 1;
    assert_eq!(stand(&mut index, 1, 0, bucket_end), None);
    flush(&mut index, 1, bucket_end);
    settle(&mut index, 1, bucket_end + 1, bucket_end);
    // A copy that is not covered, just before its first expires; then the rows are committed behind that.
    let (copy, committed) = (bucket_end + horizon - 1, bucket_end + horizon);
    assert_eq!(stand(&mut index, 1, 1, copy), Some(0));
    settle(&mut index, 2, copy, committed);
    drop(index);
    // After a crash the copy is looked up again. It must not be taken for a first.
    let mut index = open_at(dir.path(), Some(horizon), committed);
    assert_eq!(index.covered(), Position(1));
    assert_eq!(stand(&mut index, 1, 1, copy), Some(0));
    assert_eq!(stand(&mut index, 1, 2, committed), None);
}

#[test]
fn an_index_that_dropped_what_the_rows_need_again_is_begun_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), Some(80));
    (0..200).for_each(|at| assert_eq!(stand(&mut index, at, at, 1_000 + at as i64), None));
    flush(&mut index, 200, 1_199);
    settle(&mut index, 200, 1_199, 1_150);
    drop(index);
    assert_eq!(open_at(dir.path(), Some(80), 1_150).covered(), Position(200));
    assert_eq!(open_at(dir.path(), Some(80), 1_149).covered(), Position(0), "the rows were restored from an older backup");
}

#[test]
fn a_look_up_takes_note_of_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), Some(100));
    let first = |index: &FirstPositions, id, before, log_time| {
        index.first(identity(id), Position(0)..Position(before), UnixMillis(log_time)).expect("answers").map(|first| {
            assert_eq!(first.content, ContentHash(id));
            (first.position.0, first.log_time.0)
        })
    };
    for _ in 0..2 {
        assert_eq!(first(&index, 4, 10, 1_000), None);
    }
    assert_eq!(stand(&mut index, 4, 10, 1_000), None);
    assert_eq!(stand(&mut index, 4, 11, 1_100), None);
    for _ in 0..2 {
        assert_eq!(first(&index, 4, 10, 1_000), None);
        assert_eq!(first(&index, 4, 11, 1_099), Some((10, 1_000)));
        assert_eq!(first(&index, 4, 20, 1_199), Some((11, 1_100)));
        assert_eq!(first(&index, 4, 20, 1_200), None);
        assert_eq!(index.entries(), 2);
        flush(&mut index, 12, 1_100);
    }
}

#[test]
fn a_table_frozen_at_a_position_covers_it_even_with_nothing_in_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), None);
    stand(&mut index, 1, 0, 5);
    flush(&mut index, 1, 5);
    flush(&mut index, 70, 9);
    assert_eq!(stand(&mut index, 2, 70, 9), None);
    index.freeze_at(Position(30), UnixMillis(7)).expect("nothing to be done");
    drop(index);
    let index = open(dir.path(), None);
    assert_eq!((index.covered(), index.covered_log_time(), index.entries()), (Position(70), UnixMillis(9), 1));
}

/// Cannot link, as between two file systems, renames only as long as it may, and syncs nothing: no test here cuts the power, and
/// a busy disk would make those of many steps slow.
#[derive(Default)]
struct PoorDisk {
    renames_nothing: AtomicBool,
}

impl Disk for PoorDisk {
    fn create(&self, path: &Path) -> std::io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Unsynced(RealDisk.create(path)?)))
    }
    fn open(&self, path: &Path) -> std::io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path)
    }
    fn open_writable(&self, path: &Path) -> std::io::Result<Box<dyn DiskFile>> {
        RealDisk.open_writable(path)
    }
    fn free_bytes(&self, path: &Path) -> std::io::Result<u64> {
        RealDisk.free_bytes(path)
    }
    fn list(&self, dir: &Path) -> std::io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        if self.renames_nothing.load(Ordering::Relaxed) { Err(std::io::ErrorKind::StorageFull.into()) } else { RealDisk.rename(from, to) }
    }
    fn remove(&self, path: &Path) -> std::io::Result<()> {
        RealDisk.remove(path)
    }
    fn create_dir(&self, path: &Path) -> std::io::Result<()> {
        RealDisk.create_dir(path)
    }
    fn sync_dir(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
}

struct Unsynced(Box<dyn DiskFile>);

impl DiskFile for Unsynced {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_at(offset, bytes)
    }
    fn sync(&self) -> std::io::Result<()> {
        Ok(())
    }
    fn truncate(&self, bytes: u64) -> std::io::Result<()> {
        self.0.truncate(bytes)
    }
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
}

#[test]
fn no_run_goes_before_the_manifest_does_without_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = Arc::new(PoorDisk::default());
    let mut index = FirstPositions::open(disk.clone(), dir.path(), LOG, None, UnixMillis(0)).expect("opens");
    for end in [100, 200, 300] {
        (end - 100..end).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
        flush(&mut index, end, 5);
    }
    disk.renames_nothing.store(true, Ordering::Relaxed);
    index.maintain(Position(300), UnixMillis(5), UnixMillis(5)).expect("begins to merge");
    let merged = index.threads.merger.wait().expect("is alive").expect("is merged");
    index.take_over_merged(merged);
    assert!(matches!(index.wait(), Err(IndexError::Io(_))));
    drop(index);
    let mut index = open(dir.path(), None);
    assert_eq!((index.covered(), index.entries(), index.runs.len()), (Position(300), 300, 3));
    (0..300).for_each(|id| assert_eq!(stand(&mut index, id, 1_000 + id, 5), Some(id)));
}

#[test]
fn a_linked_index_is_whole_and_stays_so_when_its_original_goes_on() {
    for disk in [Arc::new(RealDisk) as Arc<dyn Disk>, Arc::new(PoorDisk::default())] {
        let dir = tempfile::tempdir().expect("a directory");
        let (original, copy) = (dir.path().join("index"), dir.path().join("copy"));
        let mut index = FirstPositions::open(disk, &original, LOG, None, UnixMillis(0)).expect("opens");
        for end in [100, 200] {
            (end - 100..end).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
            flush(&mut index, end, 5);
        }
        (200..230).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
        assert_eq!(index.link_into(&copy).expect("links"), Position(200));
        (230..300).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
        flush(&mut index, 300, 5);
        settle(&mut index, 300, 5, 5);
        drop(index);
        std::fs::remove_dir_all(&original).expect("removes");
        assert_eq!(check(&RealDisk, &copy, LOG).findings, []);
        let mut index = open(&copy, None);
        assert_eq!((index.covered(), index.entries()), (Position(200), 200));
        (0..200).for_each(|id| assert_eq!(stand(&mut index, id, 1_000 + id, 5), Some(id)));
    }
}

#[test]
fn a_check_finds_every_flipped_bit_and_names_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(check(&RealDisk, &dir.path().join("none"), LOG).findings, [], "no index is as good as a new one");
    let mut index = open(dir.path(), Some(1_000));
    (0..30).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
    flush(&mut index, 30, 5);
    drop(index);
    assert_eq!(check(&RealDisk, dir.path(), LOG).findings, []);
    let path = only_run(dir.path());
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    for byte in 0..std::fs::metadata(&path).expect("is there").len() as usize {
        flip(&path, byte, (byte % 8) as u8);
        let found = check(&RealDisk, dir.path(), LOG).findings;
        assert!(!found.is_empty() && found.iter().all(|finding| finding.file == name), "byte {byte}: {found:?}");
        flip(&path, byte, (byte % 8) as u8);
    }
    std::fs::write(dir.path().join("stranger"), b"?").expect("written");
    std::fs::remove_file(&path).expect("removes");
    let found = check(&RealDisk, dir.path(), LOG);
    assert_eq!(found.strangers, ["stranger"]);
    assert_eq!(found.findings.into_iter().map(|Finding { file, .. }| file).collect::<Vec<_>>(), [name]);
    assert_eq!(check(&RealDisk, dir.path(), [8; 16]).findings.len(), 2, "and of another log, too");
}

/// What checksums do not show: a file that was written wrong.
#[test]
fn a_check_finds_entries_that_are_not_what_they_must_be() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), Some(80));
    (0..60).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
    flush(&mut index, 60, 5);
    drop(index);
    let right = Manifest::read(&RealDisk, dir.path()).expect("reads").expect("is there");
    let what = |findings: Vec<Finding>| findings.into_iter().map(|finding| finding.what).collect::<Vec<_>>();
    let wrong = Manifest { covered: 50, runs: vec![NamedRun { bucket: 3, ..right.runs[0].clone() }], ..right.clone() };
    wrong.write(&RealDisk, dir.path()).expect("writes");
    assert_eq!(
        what(check(&RealDisk, dir.path(), LOG).findings),
        ["60 entries belong to another bucket of log time", "10 entries lie behind what the manifest says is covered"]
    );
    std::fs::remove_file(dir.path().join(&right.runs[0].file)).expect("removes");
    let mut writer = run::Writer::create(&RealDisk, dir.path(), right.runs[0].file.clone(), 30).expect("creates");
    (0..30).for_each(|at| {
        let upper = (29 - at) << 60;
        writer.push(&Entry { upper, lower: 0, position: at, log_time: 5, content: 0 }).expect("writes");
    });
    writer.finish(&RealDisk, dir.path()).expect("writes");
    right.write(&RealDisk, dir.path()).expect("writes");
    assert_eq!(what(check(&RealDisk, dir.path(), LOG).findings), ["28 entries are not higher than the one before them"]);
}

#[test]
fn memory_is_what_the_formula_says() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), None);
    let empty = index.memory_bytes();
    (0..10_000).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
    flush(&mut index, 10_000, 5);
    let tables: u64 = index.tables().chain(&index.spare).map(Table::bytes).sum();
    assert!(empty > 0 && index.memory_bytes() > tables);
    let each = (index.memory_bytes() - tables) as f64 / 10_000.0;
    assert!((2.0..2.2).contains(&each), "{each} bytes an entry");
}
