//! A byte of the store's file that is not what was written is an error, or makes no difference: never a wrong answer.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::clock::UnixMicros;
use crate::event::Amount;
use crate::log::disk::simulated::{Random, SimulatedDisk};
use crate::store::{DimensionSet, Grain};

const PATH: &str = "data/store.redb";
const CUSTOMERS: u64 = 400;
const FLIPS: usize = 150;

fn key(customer: u64) -> Vec<u8> {
    let customer = format!("customer-{customer}");
    let key =
        RowKey { account: 1, meter: "m", grain: Grain::Day, bucket: 3, customer: &customer, partition: 0, dimensions: DimensionSet(&[0]) };
    let mut bytes = Vec::new();
    key.write(&mut bytes);
    bytes
}

/// All that the store can be asked.
#[derive(Debug, PartialEq, Eq)]
struct Answers {
    next: u64,
    log_time: i64,
    rows: BTreeMap<Vec<u8>, Row>,
    one_by_one: usize,
    meters: Vec<String>,
    counted: u64,
    documents: Vec<(String, Vec<u8>)>,
}

fn ask(store: &EmbeddedStore) -> Result<Answers, Error> {
    let snapshot = store.snapshot()?;
    let progress = snapshot.progress(0)?;
    let selection = RowSelection { account: 1, meter: "m".into(), grain: Grain::Day, from: 0, to: 9, customers: None };
    let mut rows = BTreeMap::new();
    snapshot.scan(&selection, &mut |key, row| {
        let mut bytes = Vec::new();
        key.write(&mut bytes);
        rows.insert(bytes, row.clone());
        Ok(())
    })?;
    let mut one_by_one = 0;
    for customer in 0..CUSTOMERS {
        one_by_one += usize::from(snapshot.row(&key(customer))?.is_some());
    }
    let mut group = Vec::new();
    RowKey::read(&key(7)).expect("a key").write_group(&mut group);
    Ok(Answers {
        next: progress.next.0,
        log_time: progress.log_time.0,
        rows,
        one_by_one,
        meters: crate::store::meters(&*snapshot, 1)?,
        counted: snapshot.count(&group)?,
        documents: store.documents(Kind::Customer, 1)?,
    })
}

/// A store of some hundred rows and some documents, closed in good order.
fn written() -> (SimulatedDisk, Vec<u8>) {
    let disk = SimulatedDisk::default();
    disk.create_dir(Path::new("data")).expect("made");
    let store = EmbeddedStore::open_on(&disk, Path::new(PATH), None).expect("opens");
    let rows = (0..CUSTOMERS).map(|at| (key(at), Row::first(Amount::from_int(at as i64), UnixMicros(5), "u-1"))).collect();
    let reached = Progress { next: Position(CUSTOMERS), log_time: UnixMillis(7) };
    let commit = Commit { partition: 0, expected: read_progress(None), reached, rows, conflicts: Vec::new() };
    store.commit(&commit).expect("commits");
    for id in 0..20 {
        let said = format!("document-{id}").into_bytes();
        store.change_document(Kind::Customer, 1, &format!("c-{id}"), &mut |_| Change::Put(said.clone())).expect("changes");
    }
    drop(store);
    let bytes = disk.read(Path::new(PATH)).expect("a file");
    (disk, bytes)
}

#[test]
fn a_flipped_bit_in_the_store_is_an_error_or_makes_no_difference() {
    let (disk, bytes) = written();
    let open = |bytes: &[u8]| {
        disk.put(Path::new(PATH), bytes);
        EmbeddedStore::open_on(&disk, Path::new(PATH), None)
    };
    let right = ask(&open(&bytes).expect("opens")).expect("answers");
    assert_eq!((right.rows.len(), right.one_by_one, right.documents.len()), (CUSTOMERS as usize, CUSTOMERS as usize, 20));
    // Where there is something: the rest of the file is room for later.
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[at & !63..(at | 63) + 1].iter().any(|byte| *byte != 0)).collect();
    // Another seed each time: a run has only so much time.
    let mut seed = [0; 8];
    getrandom::fill(&mut seed).expect("random bytes");
    let mut random = Random::new(u64::from_le_bytes(seed));
    let mut refused = 0;
    for _ in 0..FLIPS {
        let (at, bit) = (used[random.below(used.len())], random.below(8));
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        match open(&flipped).and_then(|store| ask(&store)) {
            Ok(answers) => assert_eq!(answers, right, "bit {bit} of byte {at} was flipped"),
            Err(error) => {
                refused += 1;
                assert!(matches!(error, Error::Damaged(_) | Error::Failed(_)), "{error}");
            }
        }
    }
    assert!(refused > 0, "none of {FLIPS} flips was noticed");
}
