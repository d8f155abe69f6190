use std::path::Path;

use super::*;
use crate::clock::UnixMicros;
use crate::event::Amount;
use crate::store::embedded::EmbeddedStore;
use crate::store::{Commit, Conflict, DimensionSet, Grain, Row, RowKey, Store};

const IDENTITY: BaseIdentity = BaseIdentity { log_id: [5; 16], partition: 0 };

fn row(customer: &str, value: i64) -> (Vec<u8>, Row) {
    // Dimensions wide enough that the rows fill several frames.
    let dimensions = [7; 700];
    let key =
        RowKey { account: 1, meter: "m", grain: Grain::Day, bucket: 3, customer, partition: 0, dimensions: DimensionSet(&dimensions) };
    let mut bytes = Vec::new();
    key.write(&mut bytes);
    (bytes, Row::first(Amount::from_int(value), UnixMicros(5), customer))
}

/// A store with 1,000 rows and a conflict, at position 70.
fn store(dir: &Path) -> EmbeddedStore {
    let store = EmbeddedStore::open(&dir.join("store.redb")).expect("opens");
    let expected = store.snapshot().and_then(|snapshot| snapshot.progress(0)).expect("progress");
    let rows = (0..1_000).map(|at| row(&format!("c-{at:04}"), at)).collect();
    let conflicts = vec![Conflict { account: 1, partition: 0, position: Position(9), first: Position(4) }];
    store.commit(&Commit { partition: 0, expected, reached: progress(70), rows, conflicts }).expect("commits");
    store
}

fn progress(next: u64) -> Progress {
    Progress { next: Position(next), log_time: UnixMillis(1_000) }
}

fn seal(dir: &Path, store: &EmbeddedStore, next: u64, go_on: &dyn Fn() -> bool) -> Result<Base, Error> {
    let unsealed = Unsealed::begin(&dir.join("base"), IDENTITY, progress(next))?;
    fs::create_dir(unsealed.index_dir()).map_err(io_at(dir))?;
    fs::write(unsealed.index_dir().join("manifest.json"), "{}").map_err(io_at(dir))?;
    fs::write(unsealed.index_dir().join("1.run"), vec![3; 100_000]).map_err(io_at(dir))?;
    unsealed.seal(&*store.snapshot()?, Position(next + 5), go_on)
}

fn newest(dir: &Path) -> Result<Option<Base>, Error> {
    Base::newest(&dir.join("base"), &IDENTITY)
}

#[test]
fn a_base_has_the_rows_and_conflicts_of_its_snapshot_and_takes_the_older_ones_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    seal(dir.path(), &store, 60, &|| true).expect("is sealed");
    seal(dir.path(), &store, 70, &|| true).expect("is sealed");
    let base = newest(dir.path()).expect("read").expect("is there");
    assert_eq!((base.progress(), base.rows()), (progress(70), 1_000));
    assert_eq!(sealed(&dir.path().join("base")).expect("listed").len(), 1);

    let copy = EmbeddedStore::open(&dir.path().join("copy.redb")).expect("opens");
    let mut filled = Ok(());
    copy.fill(&[(0, base.progress())], &mut |visit| {
        filled = base.visit(visit);
        Ok(())
    })
    .expect("is filled");
    filled.expect("was read");
    let items = |store: &EmbeddedStore| {
        let mut items = Vec::new();
        let snapshot = store.snapshot().expect("a snapshot");
        let mut visit = |item: Item<'_>| {
            items.push(format!("{item:?}"));
            Ok(())
        };
        snapshot.visit(&mut visit).expect("visits");
        (items, snapshot.progress(0).expect("progress"))
    };
    assert_eq!(items(&copy), items(&store));
}

#[test]
fn a_copy_of_its_index_can_be_changed_without_changing_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = seal(dir.path(), &store(dir.path()), 70, &|| true).expect("is sealed");
    let index = dir.path().join("index");
    for _ in 0..2 {
        base.put_index(&index).expect("is put");
        assert_eq!(fs::read(index.join("1.run")).expect("read"), vec![3; 100_000]);
        // As an index does: files are replaced and removed.
        fs::write(index.join("manifest.json"), "[]").expect("written");
        fs::remove_file(index.join("1.run")).expect("removed");
    }
    fs::remove_file(base.index_dir().join("1.run")).expect("removed");
    assert!(matches!(base.put_index(&index), Err(Error::Damaged { .. })));
}

#[test]
fn a_base_that_is_not_finished_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = store(dir.path());
    seal(dir.path(), &store, 60, &|| true).expect("is sealed");
    assert!(matches!(seal(dir.path(), &store, 70, &|| false), Err(Error::Stopping)));
    assert!(leftovers(&dir.path().join("base")).expect("listed").is_empty(), "what was made of it goes");
    assert_eq!(newest(dir.path()).expect("read").expect("is there").progress(), progress(60));
    // A kill leaves it.
    std::mem::forget(Unsealed::begin(&dir.path().join("base"), IDENTITY, progress(70)).expect("begun"));
    assert_eq!(newest(dir.path()).expect("read").expect("is there").progress(), progress(60));
    remove_leftovers(&dir.path().join("base")).expect("removed");
    assert!(leftovers(&dir.path().join("base")).expect("listed").is_empty());
}

#[test]
fn a_flipped_bit_or_a_cut_anywhere_in_the_rows_is_damage() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = seal(dir.path(), &store(dir.path()), 70, &|| true).expect("is sealed");
    let rows = base.dir().join("rows");
    let whole = fs::read(&rows).expect("read");
    let is_damaged = |bytes: &[u8]| {
        fs::write(&rows, bytes).expect("written");
        matches!(base.visit(&mut |_| Ok(())), Err(Error::Damaged { .. }))
    };
    assert!(!is_damaged(&whole));
    let around = |at: usize| at.saturating_sub(9)..(at + 9).min(whole.len());
    let frame = whole[8..12].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize;
    assert!(frame < whole.len() / 2, "there are several frames");
    for at in around(0).chain(around(16 + frame)).chain(around(whole.len() / 2)).chain(around(whole.len())) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        assert!(is_damaged(&bytes), "byte {at}");
        assert!(is_damaged(&whole[..at]), "cut at {at}");
    }
    // A frame that is missing as a whole.
    assert!(is_damaged(&[&whole[..8], &whole[16 + frame..]].concat()));
}

#[test]
fn a_base_of_another_log_is_not_taken_for_one_of_this() {
    let dir = tempfile::tempdir().expect("a directory");
    seal(dir.path(), &store(dir.path()), 70, &|| true).expect("is sealed");
    let other = BaseIdentity { log_id: [6; 16], ..IDENTITY };
    assert!(matches!(Base::newest(&dir.path().join("base"), &other), Err(Error::Damaged { .. })));
}
