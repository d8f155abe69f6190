use super::*;
use crate::log::disk::RealDisk;
use proptest::prelude::*;

fn open(dir: &Path, horizon_ms: Option<i64>) -> FirstPositions {
    FirstPositions::open(Arc::new(RealDisk), dir, [7; 16], horizon_ms).expect("opens")
}

/// Freezes the table and waits until it is a run, whatever its size.
fn flush(index: &mut FirstPositions, next: u64) {
    index.freeze(Position(next), UnixMillis(0)).expect("freezes");
    let done = index.worker.wait().expect("is alive").expect("is written");
    index.take_over(done).expect("is taken over");
}

fn identity(id: u64) -> IdentityHash {
    // Uniform enough for the filter, and two ids share their upper half.
    IdentityHash((u128::from(id / 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) << 64) | u128::from(id.wrapping_mul(0xd1b5_4a32_d192_ed03)))
}

fn stand(index: &mut FirstPositions, id: u64, position: u64, log_time: i64) -> Option<u64> {
    match index.stand(identity(id), ContentHash(id), Position(position), UnixMillis(log_time)).expect("answers") {
        Standing::First => None,
        Standing::Copy { of, content } => {
            assert_eq!(content, ContentHash(id));
            Some(of.0)
        }
    }
}

#[test]
fn a_repetition_does_not_refresh_and_the_horizon_is_exact() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), Some(100));
    assert_eq!(stand(&mut index, 1, 0, 1_000), None);
    assert_eq!(stand(&mut index, 1, 1, 1_099), Some(0));
    assert_eq!(stand(&mut index, 1, 2, 1_100), None, "the horizon has passed since the first, not since the repetition");
    assert_eq!(stand(&mut index, 1, 3, 1_150), Some(2));
    flush(&mut index, 4);
    assert_eq!(stand(&mut index, 1, 4, 1_199), Some(2));
    // Read again from before: the older first is still known.
    assert_eq!(stand(&mut index, 1, 1, 1_099), Some(0));
    assert_eq!(stand(&mut index, 1, 0, 1_000), None);
}

#[test]
fn a_damaged_index_is_begun_anew_and_a_strange_file_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), None);
    (0..1_000).for_each(|id| assert_eq!(stand(&mut index, id, id, 5), None));
    flush(&mut index, 1_000);
    drop(index);
    std::fs::write(dir.path().join("000000000099.run"), b"left over").expect("written");
    assert_eq!(open(dir.path(), None).covered(), Position(1_000));
    assert!(!dir.path().join("000000000099.run").exists());
    let run = dir.path().join("000000000001.run");
    let mut bytes = std::fs::read(&run).expect("read");
    let last = bytes.len() - 70;
    bytes[last] ^= 1;
    std::fs::write(&run, bytes).expect("written");
    let mut index = open(dir.path(), None);
    assert_eq!(index.covered(), Position(0));
    assert_eq!(stand(&mut index, 3, 3, 5), None);
}

#[test]
fn a_flipped_bit_in_a_page_is_an_error_and_not_a_verdict() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), None);
    stand(&mut index, 3, 0, 5);
    flush(&mut index, 1);
    drop(index);
    let run = dir.path().join("000000000001.run");
    let mut bytes = std::fs::read(&run).expect("read");
    bytes[20] ^= 4;
    std::fs::write(&run, bytes).expect("written");
    let mut index = open(dir.path(), None);
    let answer = index.stand(identity(3), ContentHash(3), Position(9), UnixMillis(5));
    assert!(matches!(answer, Err(IndexError::Damaged(_))));
}

#[test]
fn eight_runs_become_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut index = open(dir.path(), None);
    for batch in 0..8 {
        (0..300).for_each(|at| assert_eq!(stand(&mut index, batch * 300 + at, batch * 300 + at, 5), None));
        flush(&mut index, (batch + 1) * 300);
    }
    index.begin_merge(UnixMillis(5)).expect("begins");
    let done = index.worker.wait().expect("is alive").expect("is merged");
    index.take_over(done).expect("is taken over");
    assert_eq!(index.runs.values().flatten().count(), 1);
    let mut again = open(dir.path(), None);
    assert_eq!((again.len(), again.covered()), (2_400, Position(2_400)));
    (0..2_400).for_each(|id| assert_eq!(stand(&mut again, id, 5_000 + id, 5), Some(id)));
    assert_eq!(stand(&mut again, 9_999, 9_999, 5), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The rule of promise 5, obviously.
    #[test]
    fn verdicts_are_those_of_the_rule_whatever_was_flushed_or_reopened(
        ids in proptest::collection::vec((0_u64..12, 0_i64..30, 0_u8..10), 1..120),
        horizon in prop_oneof![Just(None), (1_i64..120).prop_map(Some)],
    ) {
        let dir = tempfile::tempdir().expect("a directory");
        let mut index = open(dir.path(), horizon);
        let mut firsts: Vec<(u64, u64, i64)> = Vec::new();
        let mut records: Vec<(u64, i64, Option<u64>)> = Vec::new();
        let mut log_time = 0;
        for (position, (id, step, action)) in ids.into_iter().enumerate() {
            let position = position as u64;
            log_time += step;
            let of = firsts.iter().find(|(first, at, time)| *first == id && *at < position && horizon.is_none_or(|horizon| log_time - time < horizon)).map(|first| first.1);
            if of.is_none() {
                firsts.push((id, position, log_time));
            }
            prop_assert_eq!(stand(&mut index, id, position, log_time), of);
            records.push((id, log_time, of));
            match action {
                0 => flush(&mut index, position + 1),
                1 => {
                    // A crash: what was not covered is read from the log again, with the same verdicts.
                    drop(index);
                    index = open(dir.path(), horizon);
                    for at in index.covered().0..=position {
                        let (id, log_time, of) = records[at as usize];
                        prop_assert_eq!(stand(&mut index, id, at, log_time), of);
                    }
                }
                2 => {
                    // The store stood further back: everything is read again.
                    for (at, (id, log_time, of)) in records.iter().enumerate().take(index.covered().0 as usize) {
                        prop_assert_eq!(stand(&mut index, *id, at as u64, *log_time), *of);
                    }
                }
                _ => {}
            }
        }
    }
}
