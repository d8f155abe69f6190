//! Promise 7: the same records, folded in one partition or in eight, in any order, give the same rows once they are merged.

use std::collections::BTreeMap;
use std::path::Path;

use ethnum::I256;

use super::*;
use crate::log::disk::simulated::SimulatedDisk;

/// An event that counts: customer, meter, hour, value × 10^12.
type Made = (u8, u8, u8, i128);

fn made() -> impl Strategy<Value = Made> {
    let limit = 99_999_999_999_999_999_999_999_999_999_999_i128;
    let value = prop_oneof![-1_000_000_000_000_000_i128..1_000_000_000_000_000, -limit..=limit];
    (0_u8..3, 0_u8..2, 0_u8..50, value)
}

/// Day and hour rows by all that tells them apart but the partition.
fn folded(records: &[(usize, Made)], partitions: u32) -> BTreeMap<Vec<u8>, Row> {
    let disk = SimulatedDisk::default();
    disk.create_dir(Path::new("data")).expect("made");
    let store = EmbeddedStore::open_on(&disk, Path::new("data/store.redb"), None).expect("opens");
    let snapshot = store.snapshot().expect("a snapshot");
    let mut sets: Vec<_> = (0..partitions).map(|partition| WorkingSet::new(partition, 1_000, Shares::default())).collect();
    for (id, (customer, meter, hour, value)) in records {
        let (id, customer, meter) = (format!("u-{id}"), format!("c-{customer}"), format!("m-{meter}"));
        let draft = Draft {
            namespace: "",
            unique_id: &id,
            unique_id_generated: false,
            customer_id: &customer,
            time: Some(UnixMicros::of_seconds(20_000 * DAY_S + i64::from(*hour) * HOUR_S)),
            measurements: &mut [Measurement { meter: &meter, value: Amount::from_scaled(*value).expect("in range") }],
            dimensions: &mut [],
        };
        let received = crate::clock::UnixMillis(1_000);
        let event = MeterEvent::check(draft, received, TimeWindow::default()).expect("a good event");
        let mut bytes = Vec::new();
        record::write(&mut bytes, &KEY, ACCOUNT, &event, record::Decisions::default());
        let record = record::records(&bytes, 1, received).next().expect("one").expect("decodes");
        // As a gateway does: all copies of an identity meet in one partition.
        let partition = id.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31) ^ u32::from(byte)) % partitions;
        sets[partition as usize].add(&*snapshot, &record).expect("adds");
    }
    let mut merged: BTreeMap<Vec<u8>, Row> = BTreeMap::new();
    for (key, row) in sets.iter_mut().flat_map(|working| begun(working).decoded().expect("rows")) {
        let mut whole = Vec::new();
        RowKey { partition: 0, ..RowKey::read(&key).expect("a key") }.write(&mut whole);
        match merged.entry(whole) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(row)),
            std::collections::btree_map::Entry::Occupied(mut entry) => entry.get_mut().merge(&row),
        }
    }
    merged
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn rows_of_one_partition_and_of_eight_are_the_same_once_merged(
        made in proptest::collection::vec((made(), any::<u16>()), 1..80),
    ) {
        let records: Vec<_> = made.iter().map(|(made, _)| *made).enumerate().collect();
        let mut reordered = records.clone();
        reordered.sort_by_key(|(at, _)| made[*at].1);
        let in_one = folded(&records, 1);
        prop_assert_eq!(&folded(&reordered, 8), &in_one);
        // And they are what plain numbers say.
        let mut expected: BTreeMap<(String, String), (u64, I256)> = BTreeMap::new();
        for (_, (customer, meter, _, value)) in &records {
            let total = expected.entry((format!("m-{meter}"), format!("c-{customer}"))).or_insert((0, I256::ZERO));
            *total = (total.0 + 1, total.1 + I256::from(*value));
        }
        for grain in [Grain::Hour, Grain::Day] {
            let mut found: BTreeMap<(String, String), (u64, I256)> = BTreeMap::new();
            for (key, row) in &in_one {
                let key = RowKey::read(key).expect("a key");
                if key.grain == grain {
                    let total = found.entry((key.meter.to_owned(), key.customer.to_owned())).or_insert((0, I256::ZERO));
                    *total = (total.0 + row.count, total.1 + row.sum.scaled());
                }
            }
            prop_assert_eq!(&found, &expected);
        }
    }
}
