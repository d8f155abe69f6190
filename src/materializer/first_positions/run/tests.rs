use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::log::disk::simulated::SimulatedDisk;

fn dir() -> &'static Path {
    Path::new("index")
}

fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::default();
    disk.create_dir(dir()).expect("made");
    disk
}

/// Of which nothing is read but its fences.
fn run_of(fences: &[u32]) -> Run {
    let file = disk().create(&dir().join("a.run")).expect("made");
    let entries = (fences.len() * PAGE_ENTRIES) as u64;
    Run { name: "a.run".into(), file, entries, fences: fences.to_vec(), filter: Filter::for_entries(0) }
}

fn begins_as_a_plain_search(fences: &[u32], asked: impl IntoIterator<Item = u32>) -> Result<(), TestCaseError> {
    let run = run_of(fences);
    for fence in asked {
        let plain = fences.iter().take_while(|found| **found < fence).count().saturating_sub(1);
        prop_assert_eq!(run.first_page(fence), plain, "{} in {:?}", fence, fences);
    }
    Ok(())
}

/// A fence, and what is just beside it.
fn beside(fence: u32) -> [u32; 3] {
    [fence.saturating_sub(1), fence, fence.saturating_add(1)]
}

#[test]
fn a_search_begins_where_a_plain_one_would_however_crowded_the_identities_are() {
    const MAX: u32 = u32::MAX;
    let two = |low: u32, high: u32| [[low; 300], [high; 300]].concat();
    let crowded = [
        vec![],
        vec![0],
        vec![MAX],
        vec![7; 600],
        vec![0; 600],
        vec![MAX; 600],
        two(0, MAX),
        two(MAX / 2, MAX / 2 + 1),
        (0..600).collect(),
        (MAX - 599..=MAX).collect(),
        (0..600).map(|page| MAX / 2 - 300 + page).collect(),
        (0..600).map(|page| page * (MAX / 600)).collect(),
    ];
    for fences in crowded {
        let asked: Vec<u32> = [0, MAX / 2, MAX].iter().chain(&fences).copied().flat_map(beside).collect();
        begins_as_a_plain_search(&fences, asked).expect("the same page");
    }
}

/// Sorted fences, spread over everything or over a part of it.
fn fences() -> impl Strategy<Value = Vec<u32>> {
    let spread = (any::<u32>(), 0_u32..32, vec(any::<u32>(), 0..600));
    spread.prop_map(|(lowest, shift, offsets)| {
        let mut fences: Vec<u32> = offsets.into_iter().map(|offset| lowest.saturating_add(offset >> shift)).collect();
        fences.sort_unstable();
        fences
    })
}

/// Identities of which many share what stands in the fences.
fn identity() -> impl Strategy<Value = u128> {
    prop_oneof![
        any::<u128>(),
        (0_u128..4).prop_map(|low| u128::MAX - low),
        0_u128..4,
        (0_u128..4, any::<u64>()).prop_map(|(fence, low)| fence << 96 | u128::from(low)),
        (0_u128..3).prop_map(|few| few << 64),
    ]
}

proptest! {
    #[test]
    fn a_search_begins_where_a_plain_one_would(fences in fences(), asked in vec(any::<u32>(), 0..8), at in vec(any::<Index>(), 0..16)) {
        let there = at.iter().filter(|_| !fences.is_empty()).flat_map(|at| beside(fences[at.index(fences.len())]));
        begins_as_a_plain_search(&fences, asked.iter().copied().chain(there).chain([0, u32::MAX]))?;
    }

    #[test]
    fn a_fence_is_the_begin_of_an_identity(begin: u32, rest: u32) {
        prop_assert_eq!(fence_of(u64::from(begin) << 32 | u64::from(rest)), begin);
    }

    #[test]
    fn each_entry_is_found_and_no_other_wherever_identities_crowd(
        identities in vec(identity(), 1..400),
        others in vec(identity(), 0..16),
        least in 0_u64..400,
    ) {
        let entry = |(position, identity): (u64, &u128)| {
            let (upper, lower) = halves(IdentityHash(*identity));
            Entry { upper, lower, position, log_time: 0, content: 0 }
        };
        let mut entries: Vec<Entry> = (0..).zip(&identities).map(entry).collect();
        entries.sort_unstable();
        let disk = disk();
        let mut writer = Writer::create(&disk, dir(), "a.run".into(), entries.len() as u64).expect("begun");
        entries.iter().for_each(|entry| writer.push(entry).expect("written"));
        writer.finish(&disk, dir()).expect("durable");
        let run = Run::open(&disk, dir(), "a.run").expect("opens");
        for identity in identities.iter().chain(&others).map(|identity| IdentityHash(*identity)) {
            let counts = |entry: &Entry| entry.position >= least;
            let plain = entries.iter().find(|entry| entry.is_of(identity) && counts(entry));
            prop_assert_eq!(run.find(identity, counts).expect("is read"), plain.copied());
        }
    }
}
