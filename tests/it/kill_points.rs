//! Promises 1 and 2 where it hurts most: the process dies at a named point of its code, under load, and nothing that was acked
//! is lost, nothing counts twice. The points are those of `tollgate::fault`, in a debug build.

use tollgate::fault::POINTS;

use crate::harness::{Gateway, Random, Setup};
use crate::load::Ledger;

/// A gateway in which everything happens often: small segments, small index tables, a commit every few milliseconds.
fn busy() -> Gateway {
    let frequent = Setup::with("[log]\nsegment_bytes = 1_048_576");
    frequent.variable("TOLLGATE_INDEX_TABLE_ENTRIES", "40").variable("TOLLGATE_COMMIT_INTERVAL_MS", "5").start()
}

fn expect_nothing_lost_and_nothing_twice(gateway: &Gateway, ledger: &mut Ledger, random: &mut Random) {
    ledger.expect_what_was_acked(gateway);
    ledger.send_again(gateway, random);
    ledger.expect_all(gateway);
}

/// Loads the gateway until it dies at this pass of the point, and starts it again.
fn die_at(gateway: &mut Gateway, ledger: &mut Ledger, random: &mut Random, point: &str, pass: usize) {
    gateway.stop();
    gateway.change_variable("TOLLGATE_KILL_AT", Some(&format!("{point}:{pass}")));
    let mut ended = None;
    match gateway.try_restart() {
        Ok(()) => drop(ledger.load_until(gateway, random, 0, |gateway| ended = Some(gateway.wait_for_end()))),
        // It had something left to do from the last time.
        Err(at_start) => ended = Some(at_start),
    }
    let ended = ended.expect("it has ended");
    assert_eq!(ended.code, None, "it was killed at {point}:{pass}; it said: {}", ended.stderr);
    gateway.change_variable("TOLLGATE_KILL_AT", None);
    gateway.restart();
}

fn die_at_each(points: &[&str], passes: &[usize]) {
    let mut random = Random::seeded();
    let mut gateway = busy();
    let mut ledger = Ledger::default();
    for point in points {
        for upper in passes {
            let pass = 1 + random.below(*upper);
            die_at(&mut gateway, &mut ledger, &mut random, point, pass);
            expect_nothing_lost_and_nothing_twice(&gateway, &mut ledger, &mut random);
        }
    }
    gateway.stop_and_restart();
    ledger.expect_all(&gateway);
}

const LOG: [&str; 4] = ["append", "appended", "synced", "answered"];
const ROWS: [&str; 3] = ["folded", "commit-begin", "committed"];
const INDEX: [&str; 6] = ["index-write", "index-written", "index-merge", "index-merged", "index-manifest", "index-manifested"];
const RECOVERY: [&str; 3] = ["recovery-copied", "recovery-renamed", "recovery-indexed"];

#[test]
fn a_death_at_each_point_of_the_log_loses_nothing() {
    die_at_each(&LOG, &[1, 40]);
}

#[test]
fn a_death_at_each_point_of_the_rows_loses_nothing() {
    die_at_each(&ROWS, &[1, 10]);
}

#[test]
fn a_death_at_each_point_of_the_index_loses_nothing() {
    die_at_each(&INDEX, &[1, 3]);
}

#[test]
fn a_death_between_two_segments_loses_nothing() {
    die_at_each(&["segment-roll"], &[1]);
}

#[test]
fn a_death_at_each_point_of_a_recovery_loses_nothing() {
    let mut random = Random::seeded();
    let mut gateway = busy();
    let mut ledger = Ledger::default();
    for point in RECOVERY {
        let answers = 1 + random.below(20);
        ledger.load_until(&mut gateway, &mut random, answers, Gateway::kill);
        gateway.change_variable("TOLLGATE_KILL_AT", Some(&format!("{point}:1")));
        let ended = gateway.start_and_wait_for_end();
        assert_eq!(ended.code, None, "it was killed at {point}; it said: {}", ended.stderr);
        gateway.change_variable("TOLLGATE_KILL_AT", None);
        gateway.restart();
        expect_nothing_lost_and_nothing_twice(&gateway, &mut ledger, &mut random);
    }
}

#[test]
fn every_point_is_died_at() {
    let mut tested = [&LOG[..], &ROWS, &INDEX, &RECOVERY, &["segment-roll"]].concat();
    let mut points = POINTS.to_vec();
    tested.sort_unstable();
    points.sort_unstable();
    assert_eq!(tested, points);
}
