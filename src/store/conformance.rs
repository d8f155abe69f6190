//! What every store does, whatever is behind it: one suite for the one in memory, the embedded one and PostgreSQL.

use proptest::prelude::*;

use super::digest::RowsDigest;
use super::embedded::EmbeddedStore;
use super::memory::MemoryStore;
use super::postgres::tests::fresh_store;
use super::*;
use crate::clock::UnixMicros;
use crate::event::{Amount, Sum};

/// A store, and what goes with it.
struct World {
    _dir: Option<tempfile::TempDir>,
    store: Box<dyn Store>,
}

fn memory() -> World {
    World { _dir: None, store: Box::new(MemoryStore::default()) }
}

fn embedded() -> World {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).expect("opens");
    World { _dir: Some(dir), store: Box::new(store) }
}

fn postgres() -> World {
    World { _dir: None, store: Box::new(fresh_store()) }
}

/// Makes a test of each function here for each store.
macro_rules! for_every_store {
    ($($behaviour:ident),* $(,)?) => {
        mod memory_does { $(#[test] fn $behaviour() { super::$behaviour(&*super::memory().store); })* }
        mod embedded_does { $(#[test] fn $behaviour() { super::$behaviour(&*super::embedded().store); })* }
        mod postgres_does { $(#[test] fn $behaviour() { super::$behaviour(&*super::postgres().store); })* }
    };
}

for_every_store!(
    rows_and_progress_are_committed_together_and_a_second_owner_changes_nothing,
    of_owners_who_commit_at_once_one_does_and_the_others_are_fenced,
    partitions_are_committed_independently,
    the_latest_conflicts_of_each_account_stay,
    a_scan_gives_the_selected_rows_and_no_others,
    the_first_key_of_some_ranges_is_found,
    a_scan_ends_with_the_error_of_who_looks_and_the_store_goes_on,
    rows_come_in_the_order_of_their_keys_however_long_they_are,
    several_rows_and_counts_are_asked_for_at_once,
    any_number_that_a_row_can_have_comes_back_bit_for_bit,
    sketches_come_back_bit_for_bit,
    a_snapshot_shows_one_moment,
    documents_change_in_one_step,
    documents_are_listed_piece_by_piece_in_the_order_of_their_ids,
    changes_of_a_document_at_the_same_time_are_all_kept,
    a_document_comes_back_byte_for_byte,
    of_an_id_that_no_document_can_have_there_is_none,
    shared_documents_are_followed_by_their_version,
    a_change_of_shared_documents_on_an_old_copy_changes_nothing,
    of_changes_of_shared_documents_at_once_each_sees_the_one_before,
);

fn key(account: u32, meter: &str, bucket: u32, customer: &str, partition: u32, dimensions: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let dimensions = DimensionSet(dimensions);
    RowKey { account, meter, grain: Grain::Day, bucket, customer, partition, dimensions }.write(&mut bytes);
    bytes
}

fn keyed(account: u32, meter: &str, bucket: u32, customer: &str) -> (Vec<u8>, Row) {
    (key(account, meter, bucket, customer, 0, &[0]), Row::first(Amount::ONE, UnixMicros(5), "u-1"))
}

/// Of records up to a position; 0: none were folded.
fn progress(next: u64) -> Progress {
    match next {
        0 => Progress { next: Position(0), log_time: UnixMillis(i64::MIN) },
        next => Progress { next: Position(next), log_time: UnixMillis(7) },
    }
}

fn commit(expected: u64, reached: u64, rows: Vec<(Vec<u8>, Row)>) -> Commit {
    let rows = rows.into_iter().collect();
    Commit { partition: 0, expected: progress(expected), reached: progress(reached), rows, conflicts: Vec::new() }
}

fn day_rows(account: u32, from: u32, to: u32, customers: Option<Vec<String>>) -> RowSelection {
    RowSelection { account, meter: "m".into(), grain: Grain::Day, from, to, customers }
}

fn rows_and_progress_are_committed_together_and_a_second_owner_changes_nothing(store: &dyn Store) {
    assert_eq!(store.snapshot().expect("a snapshot").progress(0).expect("progress"), progress(0));
    store.commit(&commit(0, 10, vec![keyed(1, "m", 3, "a")])).expect("commits");
    for expected in [0, 9, 11] {
        let zombie = store.commit(&commit(expected, 12, vec![keyed(1, "m", 3, "b")])).expect_err("is fenced");
        assert!(matches!(zombie, Error::Fenced { partition: 0, expected: said, found: Position(10) } if said.0 == expected), "{zombie}");
    }
    let earlier = Progress { log_time: UnixMillis(6), ..progress(10) };
    let zombie = Commit { expected: earlier, ..commit(10, 12, vec![keyed(1, "m", 3, "b")]) };
    assert!(matches!(store.commit(&zombie), Err(Error::Fenced { .. })), "the same position of another log time");
    let snapshot = store.snapshot().expect("a snapshot");
    assert_eq!(snapshot.progress(0).expect("progress"), progress(10));
    assert!(snapshot.row(&keyed(1, "m", 3, "a").0).expect("read").is_some());
    assert!(snapshot.row(&keyed(1, "m", 3, "b").0).expect("read").is_none());
    store.commit(&commit(10, 20, Vec::new())).expect("a commit without rows");
    assert_eq!(store.snapshot().expect("a snapshot").progress(0).expect("progress"), progress(20));
}

fn of_owners_who_commit_at_once_one_does_and_the_others_are_fenced(store: &dyn Store) {
    for round in 0..5 {
        let customers = ["a", "b", "c", "d"].map(|owner| format!("{owner}-{round}"));
        let done: Vec<bool> = std::thread::scope(|scope| {
            let owners = customers.each_ref().map(|customer| {
                scope.spawn(move || match store.commit(&commit(10 * round, 10 * round + 10, vec![keyed(1, "m", 3, customer)])) {
                    Ok(()) => true,
                    Err(Error::Fenced { found, .. }) => {
                        assert_eq!(found.0, 10 * round + 10);
                        false
                    }
                    Err(error) => panic!("{error}"),
                })
            });
            owners.map(|owner| owner.join().expect("no panic")).into()
        });
        assert_eq!(done.iter().filter(|done| **done).count(), 1);
        let snapshot = store.snapshot().expect("a snapshot");
        for (customer, done) in customers.iter().zip(done) {
            assert_eq!(snapshot.row(&keyed(1, "m", 3, customer).0).expect("reads").is_some(), done);
        }
    }
}

fn partitions_are_committed_independently(store: &dyn Store) {
    store.commit(&commit(0, 10, vec![keyed(1, "m", 3, "a")])).expect("commits");
    store
        .commit(&Commit { partition: 7, ..commit(0, 12, vec![(key(1, "m", 3, "a", 7, &[0]), keyed(1, "m", 3, "a").1)]) })
        .expect("commits");
    let snapshot = store.snapshot().expect("a snapshot");
    assert_eq!([0, 7, 8].map(|partition| snapshot.progress(partition).expect("progress")), [progress(10), progress(12), progress(0)]);
    assert_eq!(snapshot.progresses(&[8, 7, 0, 7]).expect("progress"), [progress(0), progress(12), progress(10), progress(12)]);
    assert_eq!(snapshot.progresses(&[]).expect("progress"), []);
    assert_eq!(snapshot.count(&[]).expect("counts"), 2);
}

fn conflict(account: u32, position: u64) -> Conflict {
    Conflict { account, partition: 0, position: Position(position), first: Position(position / 2) }
}

fn the_latest_conflicts_of_each_account_stay(store: &dyn Store) {
    let conflicts = [conflict(1, 4), conflict(2, 5), conflict(1, 6)].to_vec();
    store.commit(&Commit { conflicts, ..commit(0, 10, Vec::new()) }).expect("commits");
    let conflicts = [conflict(1, 12), conflict(1, 14)].to_vec();
    store.commit(&Commit { conflicts, ..commit(10, 20, Vec::new()) }).expect("commits");
    let snapshot = store.snapshot().expect("a snapshot");
    let listed = |account, before, limit| snapshot.conflicts(account, 0, Position(before), limit).expect("listed");
    assert_eq!(listed(1, u64::MAX, 9), [conflict(1, 14), conflict(1, 12), conflict(1, 6)]);
    assert_eq!(listed(1, 14, 1), [conflict(1, 12)]);
    assert_eq!(listed(2, u64::MAX, 9), [conflict(2, 5)]);
    assert_eq!(listed(3, u64::MAX, 9), []);
    assert_eq!(snapshot.conflicts(1, 1, Position(u64::MAX), 9).expect("listed"), [], "of another partition");
}

fn a_scan_gives_the_selected_rows_and_no_others(store: &dyn Store) {
    let rows =
        [(1, "m", 3, "a"), (1, "m", 3, "ab"), (1, "m", 4, "a"), (1, "m", 5, "a"), (1, "mm", 3, "a"), (1, "a", 3, "a"), (2, "m", 3, "a")];
    let rows = rows.map(|(account, meter, bucket, customer)| keyed(account, meter, bucket, customer));
    store.commit(&commit(0, 10, rows.to_vec())).expect("commits");
    let snapshot = store.snapshot().expect("a snapshot");
    let scanned = |customers: Option<&[&str]>| {
        let selection = day_rows(1, 3, 5, customers.map(|customers| customers.iter().map(|&customer| customer.to_owned()).collect()));
        let mut found = Vec::new();
        let mut visit = |key: RowKey<'_>, row: &Row| {
            assert!(selection.holds(&key));
            assert_eq!(*row, rows[0].1);
            found.push((key.bucket, key.customer.to_owned()));
            Ok(())
        };
        snapshot.scan(&selection, &mut visit).expect("scans");
        found
    };
    assert_eq!(scanned(None), [(3, "a".into()), (3, "ab".into()), (4, "a".into())]);
    assert_eq!(scanned(Some(&["a"])), [(3, "a".into()), (4, "a".into())]);
    assert_eq!(scanned(Some(&["a", "ab", "nobody"])), [(3, "a".into()), (3, "ab".into()), (4, "a".into())]);
    assert_eq!(scanned(Some(&["nobody"])), []);
    assert_eq!(scanned(Some(&[])), []);
    assert_eq!(meters(&*snapshot, 1).expect("meters"), ["a", "m", "mm"]);
    assert_eq!(meters(&*snapshot, 2).expect("meters"), ["m"]);
    assert_eq!(meters(&*snapshot, 3).expect("meters"), Vec::<String>::new());
    assert_eq!(snapshot.count(&keyed(1, "m", 3, "a").0).expect("counts"), 1);
}

fn the_first_key_of_some_ranges_is_found(store: &dyn Store) {
    let long = key(1, "m", 9, "c", 0, &long_dimensions(3_000, 1));
    let rows = [(1, "m", 3, "a"), (1, "m", 5, "b"), (2, "m", 1, "a")];
    let rows = rows.map(|(account, meter, bucket, customer)| keyed(account, meter, bucket, customer));
    let all = rows.iter().cloned().chain([(long.clone(), rows[0].1.clone())]);
    store.commit(&commit(0, 10, all.collect())).expect("commits");
    let snapshot = store.snapshot().expect("a snapshot");
    let first = |ranges: &[KeyRange]| snapshot.first_key(ranges).expect("looks");
    let days = |from, to, customers: Option<&[&str]>| {
        day_rows(1, from, to, customers.map(|customers| customers.iter().map(|&customer| customer.to_owned()).collect())).key_ranges()
    };
    assert_eq!(first(&[]), None);
    assert_eq!(first(&days(0, 3, None)), None);
    assert_eq!(first(&days(0, 6, None)), Some(rows[0].0.clone()));
    assert_eq!(first(&days(4, 6, None)), Some(rows[1].0.clone()));
    assert_eq!(first(&days(0, 9, Some(&["b"]))), Some(rows[1].0.clone()), "in the sixth range");
    assert_eq!(first(&days(0, 9, Some(&["a", "b"]))), Some(rows[0].0.clone()));
    assert_eq!(first(&days(0, 3_000, Some(&["nobody"]))), None, "more ranges than are asked for at once");
    let found = first(&days(6, 20, None)).expect("a long key");
    assert_eq!(found[..1_000], long[..1_000], "at least its begin");
    assert_eq!(first(&days(10, 20, None)), None);
}

fn a_scan_ends_with_the_error_of_who_looks_and_the_store_goes_on(store: &dyn Store) {
    let rows = (0..2_000).map(|customer| keyed(1, "m", 3, &format!("customer-{customer}"))).collect();
    store.commit(&commit(0, 10, rows)).expect("commits");
    let snapshot = store.snapshot().expect("a snapshot");
    for _ in 0..20 {
        let mut seen = 0;
        let left = snapshot.scan(&day_rows(1, 3, 4, None), &mut |_, _| {
            seen += 1;
            if seen < 3 { Ok(()) } else { Err(Error::Damaged("enough".into())) }
        });
        assert!(matches!(left, Err(Error::Damaged(what)) if what == "enough"));
        assert_eq!(seen, 3);
    }
    assert_eq!(snapshot.count(&[]).expect("counts"), 2_000);
}

/// The dimensions of a row whose key has about this many bytes.
fn long_dimensions(bytes: usize, last: u8) -> Vec<u8> {
    let mut dimensions = vec![b'x'; bytes];
    dimensions.push(last);
    dimensions
}

fn visited(snapshot: &dyn Snapshot) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut visit = |item: Item<'_>| {
        if let Item::Row(key, _) = item {
            keys.push(key.to_vec());
        }
        Ok(())
    };
    snapshot.visit(&mut visit).expect("visits");
    keys
}

fn rows_come_in_the_order_of_their_keys_however_long_they_are(store: &dyn Store) {
    let mut keys = Vec::new();
    for customer in ["a", "b"] {
        for bytes in [0, 1, 100, 1_979, 1_980, 1_981, 1_982, 2_600, 2_700, 70_000] {
            for last in [0, 1, 255] {
                keys.push(key(1, "m", 3, customer, 0, &long_dimensions(bytes, last)));
            }
        }
    }
    let rows: Vec<_> = (0..).zip(&keys).map(|(at, key)| (key.clone(), Row::first(Amount::from_int(at), UnixMicros(at), "u"))).collect();
    store.commit(&commit(0, 10, rows.clone())).expect("commits");
    // Written over.
    store.commit(&commit(10, 20, rows.clone())).expect("commits");
    let mut sorted = keys.clone();
    sorted.sort();
    let snapshot = store.snapshot().expect("a snapshot");
    assert!(visited(&*snapshot) == sorted, "visited in order");
    for customers in [None, Some(vec!["a".to_owned(), "b".to_owned()])] {
        let mut scanned = Vec::new();
        let mut visit = |key: RowKey<'_>, _: &Row| {
            let mut bytes = Vec::new();
            key.write(&mut bytes);
            scanned.push(bytes);
            Ok(())
        };
        snapshot.scan(&day_rows(1, 3, 4, customers), &mut visit).expect("scans");
        assert!(scanned == sorted, "scanned in order");
    }
    for (key, row) in &rows {
        assert_eq!(snapshot.row(key).expect("reads").as_ref(), Some(row));
    }
    assert_eq!(snapshot.row(&key(1, "m", 3, "a", 0, &long_dimensions(70_000, 2))).expect("reads"), None);
    let mut group = keys[0].clone();
    group.truncate(group.len() - 1);
    assert_eq!(snapshot.count(&group).expect("counts"), keys.len() as u64 / 2);
}

fn several_rows_and_counts_are_asked_for_at_once(store: &dyn Store) {
    let rows: Vec<_> = (0..50).map(|customer| keyed(1, "m", 3, &format!("c-{customer}"))).collect();
    store.commit(&commit(0, 10, rows.clone())).expect("commits");
    let snapshot = store.snapshot().expect("a snapshot");
    let nobody = keyed(1, "m", 3, "nobody").0;
    let asked = [rows[7].0.clone(), nobody.clone(), rows[3].0.clone(), rows[7].0.clone()];
    assert_eq!(snapshot.rows(&asked).expect("reads"), [Some(rows[7].1.clone()), None, Some(rows[3].1.clone()), Some(rows[7].1.clone())]);
    assert_eq!(snapshot.rows(&[]).expect("reads"), []);
    let mut meter = Vec::new();
    row::write_meter_prefix(&mut meter, 1, "m");
    assert_eq!(snapshot.counts(&[rows[7].0.clone(), nobody, meter, Vec::new()]).expect("counts"), [1, 0, 50, 50]);
    assert_eq!(snapshot.counts(&[]).expect("counts"), Vec::<u64>::new());
}

fn any_number_that_a_row_can_have_comes_back_bit_for_bit(store: &dyn Store) {
    use ethnum::I256;
    let largest = Amount::from_scaled(10_i128.pow(32) - 1).expect("in range");
    let smallest = Amount::from_scaled(1 - 10_i128.pow(32)).expect("in range");
    // What the largest number of largest amounts comes to.
    let most = I256::from(i64::MAX) * I256::new(10_i128.pow(32) - 1);
    let sums = [most, -most, I256::ZERO, I256::ONE, -I256::ONE, I256::new(10_i128.pow(38)), I256::new(-12_500_000_000_000)];
    let times = [0, 253_402_300_799_999_999];
    let row = |at: usize, sum| Row {
        count: if at < 2 { i64::MAX.unsigned_abs() } else { at as u64 * 1_000_000 },
        sum: Sum::from_scaled(sum),
        min: smallest,
        max: largest,
        last_time: UnixMicros(times[at % 2]),
        last: Amount::from_scaled(at as i128).expect("in range"),
        last_id: ["", "é\u{1F600}\\'\"\t", "x"][at % 3].repeat(if at == 3 { 200 } else { 1 }),
        sketches: None,
    };
    let rows: Vec<_> = sums.into_iter().enumerate().map(|(at, sum)| (keyed(1, "m", at as u32, "a\u{e9}\\").0, row(at, sum))).collect();
    store.commit(&commit(0, 10, rows.clone())).expect("commits");
    let snapshot = store.snapshot().expect("a snapshot");
    for (key, row) in rows {
        assert_eq!(snapshot.row(&key).expect("reads"), Some(row));
    }
}

/// An overflow row that has seen so many values of each of its dimensions.
fn sketched(names: usize, values: usize) -> Row {
    let (mut row, mut other) = (Row::none_yet(DimensionSet::OVERFLOW), Row::none_yet(DimensionSet::OVERFLOW));
    for value in 0..values.max(1) {
        row.add(Amount::ONE, UnixMicros(value as i64), "u");
        for name in 0..names {
            let (name, value) = (format!("d{name}"), format!("{name}/{value}"));
            let mut dimensions = vec![1, name.len() as u8];
            dimensions.extend_from_slice(name.as_bytes());
            dimensions.extend_from_slice(&[value.len() as u8, 0]);
            dimensions.extend_from_slice(value.as_bytes());
            row::sketch_dimensions(DimensionSet(&dimensions), [&mut row, &mut other]);
        }
    }
    row
}

fn sketches_come_back_bit_for_bit(store: &dyn Store) {
    let rows = [(0, 0), (1, 1), (3, 1_000), (17, 2_000), (1, 20_000)].map(|(names, values)| sketched(names, values));
    let keys: Vec<_> = (0..).zip(&rows).map(|(bucket, _)| key(1, "m", bucket, "a", 0, DimensionSet::OVERFLOW.0)).collect();
    store.commit(&commit(0, 10, keys.iter().cloned().zip(rows.clone()).collect())).expect("commits");
    let snapshot = store.snapshot().expect("a snapshot");
    assert_eq!(snapshot.rows(&keys).expect("reads"), rows.clone().map(Some));
    let mut scanned = Vec::new();
    snapshot
        .scan(&day_rows(1, 0, 9, None), &mut |_, row| {
            scanned.push(row.clone());
            Ok(())
        })
        .expect("scans");
    assert_eq!(scanned, rows);
    // Written over with more, and with none.
    let later = [(keys[1].clone(), sketched(2, 50)), (keys[2].clone(), Row { sketches: None, ..rows[2].clone() })];
    store.commit(&commit(10, 20, later.to_vec())).expect("commits");
    let snapshot = store.snapshot().expect("a snapshot");
    for (key, row) in later {
        assert_eq!(snapshot.row(&key).expect("reads"), Some(row));
    }
}

fn a_snapshot_shows_one_moment(store: &dyn Store) {
    store.commit(&commit(0, 10, vec![keyed(1, "m", 3, "a")])).expect("commits");
    let before = store.snapshot().expect("a snapshot");
    assert_eq!(before.progress(0).expect("progress"), progress(10));
    store.commit(&commit(10, 20, vec![keyed(1, "m", 3, "b")])).expect("commits");
    let after = store.snapshot().expect("a snapshot");
    assert_eq!((before.count(&[]).expect("counts"), after.count(&[]).expect("counts")), (1, 2));
    assert_eq!((visited(&*before).len(), visited(&*after).len()), (1, 2));
    assert_eq!(before.progress(0).expect("progress"), progress(10));
}

fn put(store: &dyn Store, kind: Kind, account: u32, id: &str, text: &str) {
    store.change_document(kind, account, id, &mut |_| Change::Put(text.as_bytes().to_vec())).expect("changes");
}

fn documents_change_in_one_step(store: &dyn Store) {
    put(store, Kind::Customer, 1, "a", "1");
    put(store, Kind::Customer, 1, "b", "2");
    store
        .change_document(Kind::Customer, 2, "a", &mut |old| {
            assert!(old.is_none());
            Change::Keep
        })
        .expect("keeps");
    store
        .change_document(Kind::Customer, 1, "a", &mut |old| {
            assert_eq!(old, Some(&b"1"[..]));
            Change::Keep
        })
        .expect("keeps");
    assert_eq!(store.documents(Kind::Customer, 1).expect("lists").len(), 2);
    assert_eq!(store.document(Kind::Meter, 1, "a").expect("reads"), None);
    for kind in [Kind::Customer, Kind::Key] {
        put(store, kind, 1, "a", "3");
        for _ in 0..2 {
            store.change_document(kind, 1, "a", &mut |_| Change::Remove).expect("removes, or finds nothing");
            assert_eq!(store.document(kind, 1, "a").expect("reads"), None);
        }
    }
    assert_eq!(store.documents(Kind::Customer, 1).expect("lists"), [("b".to_owned(), b"2".to_vec())]);
    assert_eq!(store.documents(Kind::Key, 1).expect("lists"), []);
}

fn documents_are_listed_piece_by_piece_in_the_order_of_their_ids(store: &dyn Store) {
    for id in ["b", "a", "é", "Z", "a b", "aa"] {
        put(store, Kind::Customer, 2, id, "1");
    }
    put(store, Kind::Customer, 1, "zz", "1");
    put(store, Kind::Customer, 3, "0", "1");
    put(store, Kind::Meter, 2, "c", "1");
    let piece = |after, limit| -> Vec<String> {
        store.documents_after(Kind::Customer, 2, after, limit).expect("lists").into_iter().map(|(id, _)| id).collect()
    };
    assert_eq!(piece(None, 3), ["Z", "a", "a b"]);
    assert_eq!(piece(Some("a b"), 2), ["aa", "b"]);
    assert_eq!(piece(Some("b"), 9), ["é"]);
    assert_eq!(piece(Some("ab"), 1), ["b"], "an id that nobody has stands somewhere, too");
    assert_eq!(piece(Some("é"), 9), [""; 0]);
    let all = store.documents(Kind::Customer, 2).expect("lists");
    assert_eq!(store.documents_after(Kind::Customer, 2, None, 100).expect("lists"), all);
}

fn changes_of_a_document_at_the_same_time_are_all_kept(store: &dyn Store) {
    for kind in [Kind::Customer, Kind::Account] {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..10 {
                        let mut add = |old: Option<&[u8]>| {
                            let old = old.map_or(0, |old| std::str::from_utf8(old).expect("text").parse::<u32>().expect("a number"));
                            Change::Put((old + 1).to_string().into_bytes())
                        };
                        store.change_document(kind, 0, "new", &mut add).expect("changes");
                    }
                });
            }
        });
        assert_eq!(store.document(kind, 0, "new").expect("reads"), Some(b"40".to_vec()));
    }
}

fn a_document_comes_back_byte_for_byte(store: &dyn Store) {
    let texts = [r#"{"b":1.50,  "a":[1e3,"é\u0000\\"],"b":2}"#, "\"\u{1F600}\"", " null ", "0.10"];
    for text in texts {
        for (kind, id) in [(Kind::Customer, "a/b c\u{e9}'\\"), (Kind::Key, "k")] {
            put(store, kind, 1, id, text);
            assert_eq!(store.document(kind, 1, id).expect("reads").as_deref(), Some(text.as_bytes()));
            assert_eq!(store.documents(kind, 1).expect("lists"), [(id.to_owned(), text.as_bytes().to_vec())]);
        }
    }
    for id in ["B", "a", "\u{e9}", "A", "ab"] {
        put(store, Kind::Meter, 1, id, "{}");
    }
    let listed = store.documents(Kind::Meter, 1).expect("lists");
    assert_eq!(listed.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["A", "B", "a", "ab", "\u{e9}"], "ordered in bytes");
}

/// A copy of the shared documents.
#[derive(Default, PartialEq, Eq, Debug)]
struct Copied {
    version: Version,
    documents: std::collections::BTreeMap<(u8, String), Vec<u8>>,
}

impl Copied {
    fn follow(&mut self, store: &dyn Store) {
        let changes = store.shared_since(self.version).expect("reads");
        if changes.is_all {
            self.documents.clear();
        }
        for Shared { kind, account, id, body } in changes.documents {
            assert_eq!(account, 0);
            match body {
                Some(body) => drop(self.documents.insert((kind.code(), id), body)),
                None => drop(self.documents.remove(&(kind.code(), id))),
            }
        }
        self.version = changes.version;
    }
}

fn shared(kind: Kind, id: &str, body: Option<&str>) -> Shared {
    Shared { kind, account: 0, id: id.into(), body: body.map(|body| body.as_bytes().to_vec()) }
}

fn of_an_id_that_no_document_can_have_there_is_none(store: &dyn Store) {
    for kind in [Kind::Meter, Kind::Plan] {
        assert_eq!(store.document(kind, 1, "a\0b").expect("reads"), None, "{kind:?}");
    }
}

fn shared_documents_are_followed_by_their_version(store: &dyn Store) {
    let mut early = Copied::default();
    early.follow(store);
    assert!(early.documents.is_empty());
    put(store, Kind::Account, 0, "default", "1");
    early.follow(store);
    put(store, Kind::Customer, 0, "nobody else's", "1");
    let version = store.change_shared(early.version, &[shared(Kind::Key, "k", Some("2")), shared(Kind::Account, "default", Some("3"))]);
    assert!(version.expect("writes").is_some_and(|version| version > early.version));
    put(store, Kind::Key, 0, "l", "4");
    store.change_document(Kind::Key, 0, "k", &mut |_| Change::Remove).expect("removes");
    early.follow(store);
    let mut late = Copied::default();
    late.follow(store);
    assert_eq!(early, late);
    let documents = late.documents.into_iter().map(|((_, id), body)| (id, body)).collect::<Vec<_>>();
    assert_eq!(documents, [("default".into(), b"3".to_vec()), ("l".into(), b"4".to_vec())]);
    let nothing = store.shared_since(late.version).expect("reads");
    assert_eq!(nothing, SharedChanges { version: late.version, is_all: false, documents: Vec::new() });
}

fn a_change_of_shared_documents_on_an_old_copy_changes_nothing(store: &dyn Store) {
    let mut copy = Copied::default();
    copy.follow(store);
    let old = copy.version;
    let new = store.change_shared(old, &[shared(Kind::Key, "a", Some("1"))]).expect("writes").expect("is up to date");
    assert_eq!(store.change_shared(old, &[shared(Kind::Key, "a", Some("2")), shared(Kind::Key, "b", Some("2"))]).expect("looks"), None);
    put(store, Kind::Account, 0, "x", "1");
    assert_eq!(store.change_shared(new, &[shared(Kind::Key, "a", None)]).expect("looks"), None, "changed the other way");
    assert_eq!(store.documents(Kind::Key, 0).expect("lists"), [("a".to_owned(), b"1".to_vec())]);
}

fn of_changes_of_shared_documents_at_once_each_sees_the_one_before(store: &dyn Store) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                let mut copy = Copied::default();
                for n in 0..10 {
                    loop {
                        copy.follow(store);
                        let number = copy.documents.len().to_string();
                        let made = shared(Kind::Account, &format!("{thread}-{n}"), Some(&number));
                        if store.change_shared(copy.version, &[made]).expect("answers").is_some() {
                            break;
                        }
                    }
                }
            });
        }
    });
    let made = store.documents(Kind::Account, 0).expect("lists");
    let mut numbers: Vec<usize> = made.iter().map(|(_, body)| String::from_utf8_lossy(body).parse().expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>(), "no number was given out twice");
}

/// One thing that happens to a store.
#[derive(Debug, Clone)]
enum Step {
    Commit { partition: u32, expected_off: bool, rows: Vec<(u8, u8, i64)>, conflicts: Vec<(u8, u64)> },
    Document { kind: u8, account: u32, id: u8, body: Option<u32> },
    Shared { is_another: bool, ids: Vec<(u8, Option<u32>)> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = proptest::collection::vec((0_u8..6, 0_u8..6, -1_000_i64..1_000), 0..8);
    let conflicts = proptest::collection::vec((0_u8..2, 0_u64..50), 0..3);
    let commit = (0_u32..3, proptest::bool::weighted(0.1), rows, conflicts)
        .prop_map(|(partition, expected_off, rows, conflicts)| Step::Commit { partition, expected_off, rows, conflicts });
    let document = (0_u8..4, 0_u32..2, 0_u8..4, proptest::option::weighted(0.7, any::<u32>()))
        .prop_map(|(kind, account, id, body)| Step::Document { kind, account, id, body });
    let ids = proptest::collection::btree_map(0_u8..4, proptest::option::weighted(0.7, any::<u32>()), 1..3);
    let shared =
        (proptest::bool::weighted(0.2), ids).prop_map(|(is_another, ids)| Step::Shared { is_another, ids: ids.into_iter().collect() });
    proptest::collection::vec(prop_oneof![4 => commit, 2 => document, 1 => shared], 1..12)
}

/// Takes the step and says what came of it.
fn take(store: &dyn Store, step: &Step) -> String {
    match step {
        Step::Commit { partition, expected_off, rows, conflicts } => {
            let found = store.snapshot().and_then(|snapshot| snapshot.progress(*partition)).expect("progress");
            let expected = if *expected_off { Progress { next: Position(found.next.0 + 1), ..found } } else { found };
            let reached = Progress { next: Position(found.next.0 + 3), log_time: UnixMillis(found.next.0 as i64) };
            let keyed = |(customer, set, value): &(u8, u8, i64)| {
                let dimensions = match set {
                    4 => DimensionSet::OVERFLOW.0.to_vec(),
                    5 => long_dimensions(2_500, *customer),
                    zeros => vec![0; usize::from(*zeros)],
                };
                let key = key(1, "m", u32::from(*set), &format!("c{}", customer / 2), *partition, &dimensions);
                let sketches = if *set == 4 { sketched(usize::from(*customer), value.unsigned_abs() as usize % 9).sketches } else { None };
                (key, Row { sketches, ..Row::first(Amount::from_int(*value), UnixMicros(*value + 1_000), "u") })
            };
            let rows: std::collections::BTreeMap<_, _> = rows.iter().map(keyed).collect();
            let conflicts = conflicts.iter().map(|(account, at)| Conflict { partition: *partition, ..conflict(u32::from(*account), *at) });
            let commit =
                Commit { partition: *partition, expected, reached, rows: rows.into_iter().collect(), conflicts: conflicts.collect() };
            format!("{:?}", store.commit(&commit).map_err(|error| error.to_string()))
        }
        Step::Document { kind, account, id, body } => {
            let kind = [Kind::Account, Kind::Key, Kind::Customer, Kind::Audit][usize::from(*kind)];
            let account = if kind.is_shared() { 0 } else { *account };
            let mut seen = None;
            let mut change = |old: Option<&[u8]>| {
                seen = old.map(<[u8]>::to_vec);
                body.map_or(Change::Remove, |body| Change::Put(body.to_string().into_bytes()))
            };
            store.change_document(kind, account, &format!("id{id}"), &mut change).expect("changes");
            format!("{seen:?}")
        }
        Step::Shared { is_another, ids } => {
            let version = store.shared_since(0).expect("reads").version;
            let version = if *is_another { version + 1 } else { version };
            let changed: Vec<_> =
                ids.iter().map(|(id, body)| shared(Kind::Key, &format!("id{id}"), body.map(|body| body.to_string()).as_deref())).collect();
            store.change_shared(version, &changed).expect("answers").map_or("refused", |_| "written").into()
        }
    }
}

/// Everything that is stored, and the digest of the rows.
fn content(store: &dyn Store) -> (Vec<String>, String) {
    let snapshot = store.snapshot().expect("a snapshot");
    let (mut items, mut digest) = (Vec::new(), RowsDigest::default());
    snapshot
        .visit(&mut |item| {
            if let Item::Row(key, row) = item {
                digest.add(key, row);
            }
            items.push(format!("{item:?}"));
            Ok(())
        })
        .expect("visits");
    items.extend((0..3).map(|partition| format!("{:?}", snapshot.progress(partition).expect("progress"))));
    (items, digest.finish().to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_same_commits_and_changes_leave_the_same_in_every_store(steps in steps()) {
        let worlds = [memory(), embedded(), postgres()];
        for step in &steps {
            let [one, two, three] = worlds.each_ref().map(|world| take(&*world.store, step));
            prop_assert_eq!(&one, &two);
            prop_assert_eq!(&one, &three);
        }
        let [one, two, three] = worlds.each_ref().map(|world| content(&*world.store));
        prop_assert_eq!(&one, &two);
        prop_assert_eq!(&one, &three);
    }
}
