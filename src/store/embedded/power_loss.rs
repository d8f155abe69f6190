//! Promise 4 on a disk that loses its power: rows and position are those of one commit, at or behind the last one that was acked.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::clock::UnixMicros;
use crate::event::Amount;
use crate::log::disk::simulated::{Fault, SimulatedDisk};
use crate::store::{DimensionSet, Grain};

const PATH: &str = "data/store.redb";

fn open(disk: &SimulatedDisk) -> EmbeddedStore {
    disk.create_dir(Path::new("data")).expect("made");
    EmbeddedStore::open_on(disk, Path::new(PATH), None).unwrap_or_else(|error| panic!("does not open: {error}"))
}

/// The commit that takes the store from `at` to `at + 1`: each of these customers' rows then says `at + 1`.
fn commit(at: u64, customers: &[u16]) -> Commit {
    let progress = |next| match next {
        0 => read_progress(None),
        next => Progress { next: Position(next), log_time: UnixMillis(next as i64) },
    };
    let rows = customers.iter().map(|customer| row(*customer, at + 1)).collect();
    Commit { partition: 0, expected: progress(at), reached: progress(at + 1), rows, conflicts: Vec::new() }
}

fn row(customer: u16, says: u64) -> (Vec<u8>, Row) {
    let customer = format!("customer-{customer}");
    let key =
        RowKey { account: 1, meter: "m", grain: Grain::Day, bucket: 3, customer: &customer, partition: 0, dimensions: DimensionSet(&[0]) };
    let mut bytes = Vec::new();
    key.write(&mut bytes);
    (bytes, Row { count: says, ..Row::first(Amount::ONE, UnixMicros(5), "u-1") })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_and_position_are_those_of_one_commit_after_any_loss_of_power(
        steps in proptest::collection::vec(
            (proptest::collection::btree_set(0_u16..300, 1..60), any::<u64>(), proptest::option::weighted(0.5, 0_u64..60)),
            1..12,
        ),
    ) {
        let mut disk = SimulatedDisk::default();
        let mut store = open(&disk);
        // What was committed, in order; the commit that was under way is the last, and not counted in `acked`.
        let (mut commits, mut acked, mut documents): (Vec<Vec<u16>>, usize, u64) = (Vec::new(), 0, 0);
        for (customers, seed, cut_after) in steps {
            if let Some(after) = cut_after {
                disk.fail(Fault::Everything, after);
            }
            let customers: Vec<_> = customers.into_iter().collect();
            commits.truncate(acked);
            commits.push(customers.clone());
            if store.commit(&commit(acked as u64, &customers)).is_ok() {
                acked += 1;
                let said = (documents + 1).to_string().into_bytes();
                if store.change_document(Kind::Customer, 1, "a", &mut |_| Change::Put(said.clone())).is_ok() {
                    documents += 1;
                }
            }
            if cut_after.is_none() && seed % 2 == 0 {
                continue;
            }
            disk = disk.power_loss(seed);
            drop(store);
            store = open(&disk);
            let snapshot = store.snapshot().expect("a snapshot");
            let found = snapshot.progress(0).expect("progress").next.0 as usize;
            prop_assert!((acked..=commits.len()).contains(&found), "it stands at {found}, {acked} were acked");
            acked = found;
            for customer in 0..300 {
                let says = commits[..found].iter().rposition(|rows| rows.contains(&customer)).map(|at| at as u64 + 1);
                let read = snapshot.row(&row(customer, 0).0).expect("reads");
                prop_assert_eq!(read.map(|row| row.count), says);
            }
            let document = store.document(Kind::Customer, 1, "a").expect("reads");
            let document: u64 = document.map_or(0, |text| String::from_utf8(text).expect("text").parse().expect("a number"));
            prop_assert!((documents..=documents + 1).contains(&document));
            documents = document;
        }
    }
}

#[test]
fn a_store_whose_making_was_cut_anywhere_is_made_again() {
    for operations in 0..60 {
        for seed in 0..4 {
            let disk = SimulatedDisk::default();
            disk.create_dir(Path::new("data")).expect("made");
            disk.fail(Fault::Everything, operations);
            drop(EmbeddedStore::open_on(&disk, Path::new(PATH), None));
            let store = open(&disk.power_loss(seed));
            store.commit(&commit(0, &[1])).unwrap_or_else(|error| panic!("cut at {operations}, seed {seed}: {error}"));
        }
    }
}
