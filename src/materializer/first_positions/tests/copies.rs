//! Indexes that go from one disk to another.

use super::super::copy::{Incoming, Offer, Outgoing, Wanted};
use super::*;
use crate::log::disk::read_file;

const WANTED: Wanted = Wanted { log_id: LOG, horizon_ms: None, committed: UnixMillis(i64::MAX) };

/// An index of so many entries at positions 0, 1, 2 and so on, as runs of 100.
fn index_of(dir: &Path, entries: u64) -> FirstPositions {
    let mut index = open(dir, None);
    for end in (100..=entries).step_by(100) {
        (end - 100..end).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
        flush(&mut index, end, 5);
    }
    index
}

fn outgoing(dir: &Path) -> Outgoing {
    Outgoing::open(&RealDisk, dir).expect("opens").expect("is there")
}

fn offer(outgoing: &Outgoing) -> Offer {
    Offer::read(outgoing.manifest(), outgoing.sizes().collect(), &WANTED).expect("fits")
}

fn bytes(outgoing: &Outgoing) -> Vec<u8> {
    let mut all = Vec::new();
    for (run, size) in outgoing.sizes().enumerate() {
        let mut bytes = vec![0; size as usize];
        assert_eq!(outgoing.read_at(run, 0, &mut bytes).expect("reads"), bytes.len());
        all.append(&mut bytes);
    }
    all
}

/// Takes an index over from some bytes, which come in pieces.
fn take(to: &Path, offer: Offer, bytes: &[u8], piece: usize) -> Result<(), IndexError> {
    // What is synced makes no difference here.
    let disk = PoorDisk::default();
    let mut incoming = Incoming::begin(&disk, to, offer)?;
    bytes.chunks(piece).try_for_each(|piece| incoming.write(piece))?;
    incoming.install(&|| true)
}

fn hand_over(from: &Path, to: &Path) {
    hand_over_if_any(from, to, None);
}

/// An index that covers nothing yet has no manifest.
pub(super) fn hand_over_if_any(from: &Path, to: &Path, horizon_ms: Option<i64>) {
    let Some(outgoing) = Outgoing::open(&RealDisk, from).expect("opens") else { return };
    let offer = Offer::read(outgoing.manifest(), outgoing.sizes().collect(), &Wanted { horizon_ms, ..WANTED }).expect("fits");
    take(to, offer, &bytes(&outgoing), 1_000).expect("is taken over");
}

fn expect_all(dir: &Path, entries: u64) {
    let mut index = open(dir, None);
    assert_eq!((index.covered(), index.entries()), (Position(entries), entries));
    (0..entries).for_each(|id| assert_eq!(stand(&mut index, id, 10_000 + id, 5), Some(id)));
    let files: BTreeSet<String> = index.runs.iter().map(|placed| placed.run.name().to_owned()).collect();
    assert_eq!(run_files(dir), files, "nothing else lies there");
    drop(index);
    assert_eq!(check(&RealDisk, dir, LOG).findings, []);
}

#[test]
fn an_index_that_was_taken_over_is_whole_in_whatever_pieces_it_came() {
    let dir = tempfile::tempdir().expect("a directory");
    let from = dir.path().join("from");
    drop(index_of(&from, 500));
    for piece in [1, 63, 1_024, usize::MAX] {
        let to = dir.path().join(format!("to-{piece}"));
        let outgoing = outgoing(&from);
        take(&to, offer(&outgoing), &bytes(&outgoing), piece).expect("is taken over");
        expect_all(&to, 500);
        // It goes on as any other.
        let mut index = open(&to, None);
        (500..700).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
        flush(&mut index, 700, 5);
        settle(&mut index, 700, 5, 5);
        drop(index);
        expect_all(&to, 700);
    }
}

#[test]
fn what_is_merged_and_removed_while_it_is_given_is_given_all_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let mut index = index_of(&from, 300);
    let outgoing = outgoing(&from);
    let before = run_files(&from);
    settle(&mut index, 300, 5, 5);
    assert!(run_files(&from).is_disjoint(&before), "they are merged into another");
    take(&to, offer(&outgoing), &bytes(&outgoing), 512).expect("is taken over");
    expect_all(&to, 300);
}

#[test]
fn an_index_takes_the_place_of_an_older_one_and_of_a_damaged_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let from = dir.path().join("from");
    drop(index_of(&from, 500));
    for damage in ["none", "no manifest", "a manifest that is none", "a run is gone"] {
        let to = dir.path().join(damage);
        drop(index_of(&to, 200));
        match damage {
            "no manifest" => std::fs::remove_file(to.join(manifest::FILE)).expect("removed"),
            "a manifest that is none" => std::fs::write(to.join(manifest::FILE), "{").expect("written"),
            "a run is gone" => std::fs::remove_file(to.join(run_files(&to).first().expect("one"))).expect("removed"),
            _ => {}
        }
        hand_over(&from, &to);
        expect_all(&to, 500);
    }
}

#[test]
fn whatever_is_wrong_with_the_bytes_the_old_index_stays_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    drop(index_of(&from, 300));
    drop(index_of(&to, 100));
    let outgoing = outgoing(&from);
    let good = bytes(&outgoing);
    let before = RealDisk.list(&to).expect("lists");
    let refused = |bytes: &[u8]| {
        let refusal = take(&to, offer(&outgoing), bytes, 700);
        assert!(matches!(refusal, Err(IndexError::Damaged(_))), "{refusal:?}");
        assert_eq!(RealDisk.list(&to).expect("lists"), before);
    };
    for at in (0..good.len()).step_by(37) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        refused(&bytes);
    }
    for cut in [0, 1, 1_023, good.len() / 2, good.len() - 1] {
        refused(&good[..cut]);
    }
    refused(&[&good[..], b"?"].concat());
    // Whole runs, but not those of the manifest: each is where another one belongs.
    let size = outgoing.sizes().next().expect("one") as usize;
    let mut turned = good.clone();
    turned.rotate_left(size);
    assert_ne!(turned, good);
    take(&to, offer(&outgoing), &turned, 700).expect("which run is which makes no difference within a bucket");
    expect_all(&to, 300);
}

#[test]
fn a_process_that_is_killed_while_it_takes_one_over_has_its_old_index() {
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    drop(index_of(&from, 300));
    drop(index_of(&to, 100));
    let outgoing = outgoing(&from);
    let bytes = bytes(&outgoing);
    for come in [1, 1_000, bytes.len() / 2, bytes.len()] {
        let mut incoming = Incoming::begin(&RealDisk, &to, offer(&outgoing)).expect("begins");
        incoming.write(&bytes[..come]).expect("written");
        std::mem::forget(incoming);
        assert!(run_files(&to).len() > 1, "it left something behind");
        // Also where the next one is begun at once.
        if come == 1 {
            drop(Incoming::begin(&RealDisk, &to, offer(&outgoing)).expect("begins"));
        }
        expect_all(&to, 100);
    }
}

#[test]
fn one_that_is_not_wanted_any_more_is_not_put_to_use() {
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    drop(index_of(&from, 300));
    drop(index_of(&to, 100));
    let outgoing = outgoing(&from);
    let mut incoming = Incoming::begin(&RealDisk, &to, offer(&outgoing)).expect("begins");
    incoming.write(&bytes(&outgoing)).expect("written");
    incoming.install(&|| false).expect_err("it is not wanted");
    expect_all(&to, 100);
}

#[test]
fn an_offer_that_does_not_fit_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), Some(1_000));
    (0..100).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
    flush(&mut index, 100, 5);
    (100..200).for_each(|id| assert_eq!(stand(&mut index, id, id, 50_000), None));
    flush(&mut index, 200, 50_000);
    // What came first has expired, and is gone.
    settle(&mut index, 200, 50_000, 50_000);
    assert_eq!(index.entries(), 100);
    drop(index);
    let outgoing = outgoing(dir.path());
    let sizes: Vec<u64> = outgoing.sizes().collect();
    let wanted = Wanted { log_id: LOG, horizon_ms: Some(1_000), committed: UnixMillis(50_000) };
    let read = |sizes: &[u64], wanted: Wanted| Offer::read(outgoing.manifest(), sizes.to_vec(), &wanted).map(|offer| offer.bytes());
    assert_eq!(read(&sizes, wanted).expect("fits"), sizes.iter().sum::<u64>());
    for other in [
        Wanted { log_id: [8; 16], ..wanted },
        Wanted { horizon_ms: None, ..wanted },
        Wanted { horizon_ms: Some(1_001), ..wanted },
        // It has dropped what had not expired there.
        Wanted { committed: UnixMillis(4), ..wanted },
    ] {
        assert!(matches!(read(&sizes, other), Err(IndexError::Damaged(_))), "{other:?}");
    }
    let offer = Offer::read(outgoing.manifest(), sizes.clone(), &wanted).expect("fits");
    assert!(offer.fits(Position(200)) && !offer.fits(Position(199)), "it knows of what the log does not have");
    let mut huge = sizes.clone();
    huge[0] = u64::MAX;
    let mut larger = sizes.clone();
    larger[0] += 1 << 20;
    for sizes in [&[][..], &[0], &[&sizes[..], &[5_000]].concat(), &huge, &larger] {
        assert!(matches!(read(sizes, wanted), Err(IndexError::Damaged(_))), "{sizes:?}");
    }
}

/// What another node says never becomes the name of a file here.
#[test]
fn names_that_are_paths_are_refused_and_others_are_not_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    drop(index_of(&from, 100));
    let outgoing = outgoing(&from);
    let sizes = || outgoing.sizes().collect::<Vec<_>>();
    let renamed = |name: &str| {
        let mut manifest = Manifest::parse(outgoing.manifest()).expect("reads");
        manifest.runs[0].file = name.to_owned();
        manifest.write(&RealDisk, dir.path()).expect("written");
        read_file(&RealDisk, &dir.path().join(manifest::FILE)).expect("reads").expect("is there")
    };
    for name in ["../x.run", "/etc/x.run", "x", "", "a/b.run"] {
        assert!(matches!(Offer::read(&renamed(name), sizes(), &WANTED), Err(IndexError::Damaged(_))), "{name}");
    }
    let offer = Offer::read(&renamed("..run"), sizes(), &WANTED).expect("a name");
    take(&to, offer, &bytes(&outgoing), 100).expect("is taken over");
    assert_eq!(run_files(&to).into_iter().collect::<Vec<_>>(), ["000000000001.run"]);
    expect_all(&to, 100);
}

#[test]
fn what_lies_on_the_disk_of_an_index_that_is_removed_goes_and_it_is_begun_anew() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(index_of(dir.path(), 300));
    assert_eq!(remove_index(&RealDisk, dir.path()).expect("removed"), 4);
    assert_eq!(RealDisk.list(dir.path()).expect("lists"), Vec::<String>::new());
    assert!(Outgoing::open(&RealDisk, dir.path()).expect("looks").is_none());
    assert_eq!(open(dir.path(), None).covered(), Position(0));
}

#[test]
fn indexes_of_a_process_share_the_room_of_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let shares = crate::materializer::Shares::default();
    let open = |name: &str| {
        let dir = dir.path().join(name);
        FirstPositions::open_sharing(Arc::new(RealDisk), &dir, LOG, None, UnixMillis(0), &shares).expect("opens")
    };
    let mut first = open("first");
    (0..10).for_each(|id| assert_eq!(stand(&mut first, id, id, 5), None));
    first.maintain(Position(10), UnixMillis(5), UnixMillis(5)).expect("maintains");
    assert_eq!(first.table.entries().len(), 10, "there is room for 16");
    let second = open("second");
    first.maintain(Position(10), UnixMillis(5), UnixMillis(5)).expect("maintains");
    assert_eq!((first.table.entries().len(), first.table.entries_max()), (0, 8), "now for 8");
    first.wait().expect("written");
    assert_eq!(second.table.entries_max(), 8);
    drop(second);
    (10..18).for_each(|id| assert_eq!(stand(&mut first, id, id, 5), None));
    first.maintain(Position(18), UnixMillis(5), UnixMillis(5)).expect("maintains");
    assert_eq!(first.table.entries_max(), 16, "the next table has the room again");
}
