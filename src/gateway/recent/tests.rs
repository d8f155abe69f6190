use std::collections::HashSet;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;
use crate::event::{ContentHash, HashKey, IdentityHash};

const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

fn cache(bytes_max: u64) -> RecentIds {
    RecentIds::new(Settings { bytes_max, age_max: AGE_MAX, step_back_ms_max: None })
}

fn id(number: u64) -> Fingerprint {
    Fingerprint::of(HashKey::from_bytes([1; 16]).identity(number.to_string().as_bytes()), ContentHash(7))
}

fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<Fingerprint> {
    numbers.into_iter().map(id).collect()
}

fn bytes(recent: &RecentIds) -> u64 {
    let shared = recent.0.as_ref().expect("it is on");
    shared.live.list.load().iter().map(|generation| generation.bytes() as u64).sum()
}

#[test]
fn what_was_remembered_is_known_and_nothing_else() {
    let recent = cache(1 << 20);
    assert!(recent.known(&ids(0..100), NOW).is_empty());
    recent.remember(&ids((0..100).filter(|number| number % 3 == 0)));
    assert_eq!(recent.known(&ids(0..100), NOW), (0..100).filter(|number| number % 3 == 0).collect::<Vec<_>>());
}

#[test]
fn an_identity_is_known_with_each_content_that_is_durable_and_no_other() {
    let recent = cache(1 << 20);
    let of = |content| [Fingerprint::of(IdentityHash(5 << 64 | 9), ContentHash(content))];
    recent.remember(&of(1));
    recent.remember(&of(2));
    assert_eq!((1..=3).map(|content| recent.known(&of(content), NOW).len()).collect::<Vec<_>>(), [1, 1, 0]);
}

#[test]
fn an_event_without_a_fingerprint_is_never_known() {
    let recent = cache(1 << 20);
    recent.remember(&[Fingerprint::NONE, id(1), Fingerprint::NONE]);
    assert_eq!(recent.known(&[id(1), Fingerprint::NONE, Fingerprint { identity: 0, rest: 7 }], NOW), [0]);
}

#[test]
fn it_stays_small_while_little_comes_in_and_within_its_bytes_when_much_does() {
    const BYTES_MAX: u64 = 8 << 20;
    let recent = cache(BYTES_MAX);
    assert_eq!(bytes(&recent), 0);
    recent.remember(&ids(0..1_000));
    assert!(bytes(&recent) <= FIRST_BYTES as u64);
    for first in (0..600_000).step_by(1_000) {
        recent.remember(&ids(first..first + 1_000));
        assert!(bytes(&recent) <= BYTES_MAX);
    }
    // 28 bytes an id, and the part of a generation that is empty yet.
    let known = (0..600_000).step_by(1_000).map(|first| recent.known(&ids(first..first + 1_000), NOW).len()).sum::<usize>();
    assert!(known as u64 > BYTES_MAX / 29 * 64 / 100, "{known} of 600,000 are known");
    assert!(recent.known(&ids(599_000..600_000), NOW).len() > 950);
}

#[test]
fn what_was_filled_last_stays_although_only_older_ids_were_of_use() {
    let recent = cache(1 << 20);
    let newest = || recent.0.as_ref().and_then(|shared| shared.live.list.load().first().map(|generation| generation.number));
    let mut begun = 0;
    for first in (0..100_000).step_by(500) {
        let before = newest();
        recent.remember(&ids(first..first + 500));
        if newest() != before && first > 0 {
            begun += 1;
            let known = recent.known(&ids(first - 500..first), NOW).len();
            assert!(known > 450, "{known} of the last 500 are known");
        }
        // The older half is of use all the time.
        recent.known(&ids((0..first / 2).step_by(20)), NOW);
    }
    assert!(begun > 4);
}

#[test]
fn nothing_is_known_while_the_clock_is_too_far_behind() {
    let recent = RecentIds::new(Settings { bytes_max: 1 << 20, age_max: AGE_MAX, step_back_ms_max: Some(1_000) });
    recent.remember(&ids([1]));
    let known = |ms: i64| recent.known(&ids([1]), UnixMillis(NOW.0 + ms)).len();
    assert_eq!([0, 5_000, 4_001, 4_000, 0, 5_000].map(known), [1, 1, 1, 0, 0, 1]);
}

#[test]
fn without_bytes_or_age_nothing_is_remembered() {
    for (bytes_max, age_max) in [(0, AGE_MAX), (1 << 20, Duration::ZERO)] {
        let recent = RecentIds::new(Settings { bytes_max, age_max, step_back_ms_max: None });
        recent.remember(&ids([1]));
        assert!(recent.known(&ids([1]), NOW).is_empty());
    }
}

/// Identities of which many share their lower words, with one of two contents: all that could be mistaken for another.
fn alike(number: u64, has_first_content: bool) -> Fingerprint {
    let spread = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let identity = u128::from(spread(number / 8) | 1) | u128::from(spread(!number)) << 64;
    Fingerprint::of(IdentityHash(identity), ContentHash(if has_first_content { 1 } else { 2 }))
}

/// The smallest cache, so that generations come and go and places are written over all the time.
#[test]
fn readers_beside_writers_never_find_what_nobody_remembered() {
    const IDS: u64 = 20_000;
    // Of those that share a lower word, some are never remembered.
    let is_sent = |number: u64| number % 8 < 6;
    let (recent, is_over) = (cache(BYTES_MIN), AtomicBool::new(false));
    let found = std::thread::scope(|threads| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                threads.spawn(|| {
                    let mut found = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        for first in (0..IDS).step_by(100) {
                            let other_content = (first..first + 100).map(|number| alike(number, number % 2 != 0));
                            let same_content = (first..first + 100).map(|number| alike(number, number % 2 == 0));
                            assert!(recent.known(&other_content.collect::<Vec<_>>(), NOW).is_empty(), "never remembered so");
                            let known = recent.known(&same_content.collect::<Vec<_>>(), NOW);
                            found += known.len();
                            assert!(known.iter().all(|at| is_sent(first + u64::from(*at))), "never remembered at all");
                        }
                    }
                    found
                })
            })
            .collect();
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let (recent, is_sent) = (&recent, &is_sent);
                threads.spawn(move || {
                    for round in 0..200_u64 {
                        let first = (round * 2 + writer) * 370 % IDS;
                        let own = (first..first + 370).map(|number| number % IDS).filter(|number| is_sent(*number));
                        let own = own.map(|number| alike(number, number % 2 == 0));
                        recent.remember(&own.collect::<Vec<_>>());
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("it writes to its end"));
        is_over.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().expect("nothing false is known")).sum::<usize>()
    });
    assert!(found > 0, "the readers saw what was written");
}

proptest! {
    #[test]
    fn what_is_known_was_remembered(
        steps in proptest::collection::vec((any::<bool>(), proptest::collection::vec((0_u64..3_000, any::<bool>()), 0..400)), 1..40),
    ) {
        let recent = cache(BYTES_MIN);
        let mut remembered = HashSet::new();
        for (writes, events) in steps {
            let batch: Vec<_> = events.iter().map(|(number, content)| alike(*number, *content)).collect();
            if writes {
                recent.remember(&batch);
                remembered.extend(batch);
            } else {
                let known = recent.known(&batch, NOW);
                prop_assert!(known.is_sorted());
                for at in known {
                    prop_assert!(remembered.contains(&batch[at as usize]));
                }
            }
        }
    }

    #[test]
    fn few_ids_are_all_known(numbers in proptest::collection::vec(0_u64..1_000_000, 0..300), size in 1_usize..100) {
        let recent = cache(1 << 20);
        let all = ids(numbers);
        all.chunks(size).for_each(|batch| recent.remember(batch));
        prop_assert_eq!(recent.known(&all, NOW).len(), all.len());
    }
}
