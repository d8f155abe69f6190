//! Truncating a log needs a base: what retention removes is made up for, bit for bit.
//!
//! The embedded pair's.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Event, Gateway, Setup, contents, flip, wait_for, wide_event};

const SETTINGS: &str = "[log]\nsegment_bytes = 1_048_576\nretention_bytes = 2_000_000";

fn segments(gateway: &Gateway) -> Vec<u64> {
    let files = contents(&gateway.file("log")).into_iter().map(|(path, _)| path);
    let names = files.filter(|path| path.extension().is_some_and(|extension| extension == "seg"));
    names.map(|path| path.file_stem().expect("a stem").to_string_lossy().parse().expect("a position")).collect()
}

fn bases(gateway: &Gateway) -> Vec<PathBuf> {
    let Ok(listed) = fs::read_dir(gateway.file("base")) else { return Vec::new() };
    let mut bases: Vec<_> = listed.map(|entry| entry.expect("an entry").path()).filter(|path| path.extension().is_none()).collect();
    bases.sort();
    bases
}

fn sealed_position(gateway: &Gateway) -> u64 {
    bases(gateway).last().map_or(0, |base| base.file_name().expect("a name").to_string_lossy().parse().expect("a position"))
}

fn some(from: usize) -> Vec<Event> {
    (from..from + 10).map(|id| wide_event(&format!("u-{id}")).customer(&format!("c-{}", id % 3)).value(id)).collect()
}

/// A gateway whose log has lost its begin; how many events were sent.
fn truncated() -> (Gateway, usize) {
    let gateway = Setup::with(SETTINGS).start();
    let mut sent = 0;
    wait_for("retention", || {
        gateway.send(&some(sent)).logged(10);
        sent += 10;
        assert!(gateway.usage("m").wait_s(30).ask("COUNT").is_complete());
        let oldest = segments(&gateway)[0];
        assert!(oldest <= sealed_position(&gateway), "a segment went that no base makes up for");
        (oldest > 20).then_some(())
    });
    (gateway, sent)
}

fn sum_of(sent: usize) -> (usize, String) {
    (sent, (0..sent).sum::<usize>().to_string())
}

fn usage(gateway: &Gateway) -> (usize, String) {
    (gateway.usage("m").count(), gateway.usage("m").sum())
}

#[test]
fn segments_go_only_behind_a_base_and_usage_stays() {
    let (mut gateway, sent) = truncated();
    assert_eq!(usage(&gateway), sum_of(sent));
    // Copies of events whose records are gone are copies still.
    for from in (0..sent).step_by(10) {
        gateway.send(&some(from)).logged(10);
    }
    assert_eq!(usage(&gateway), sum_of(sent));
    gateway.kill_and_restart();
    gateway.send(&some(0)).logged(10);
    assert_eq!(usage(&gateway), sum_of(sent));
    gateway.stop();
    assert_eq!(bases(&gateway).len(), 1, "the older one goes");
    let log_bytes: usize = contents(&gateway.file("log")).iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(log_bytes < 6_000_000, "{log_bytes} bytes of {} are still there", 2 * sent * 60_000);
    gateway.tollgate(&["doctor"]).ended_with(0).says(&["healthy"]);
}

#[test]
fn rows_are_verified_and_made_again_from_the_base() {
    let (mut gateway, sent) = truncated();
    gateway.stop();
    let verified = gateway.tollgate(&["verify"]).ended_with(0).says(&["from the base at position", "equal"]);
    let before = verified.standing("stored");
    assert_eq!(gateway.tollgate(&["rebuild"]).ended_with(0).standing("after"), before);
    // Without a store there is no start, and a rebuild is the way out.
    fs::remove_file(gateway.file("store.redb")).expect("removed");
    fs::remove_dir_all(gateway.file("index")).expect("removed");
    gateway.start_in_vain().because(&["the log begins at", "tollgate rebuild"]);
    assert_eq!(gateway.tollgate(&["rebuild"]).ended_with(0).standing("after"), before);
    gateway.restart();
    gateway.send(&some(0)).logged(10);
    assert_eq!(usage(&gateway), sum_of(sent));
}

#[test]
fn a_deleted_index_is_made_again_from_the_base() {
    let (mut gateway, sent) = truncated();
    for restart in 0..2 {
        gateway.stop();
        fs::remove_dir_all(gateway.file("index")).expect("removed");
        gateway.restart();
        for from in (0..sent).step_by(10) {
            gateway.send(&some(from)).logged(10);
        }
        assert_eq!(usage(&gateway), sum_of(sent), "restart {restart}");
    }
}

#[test]
fn a_base_that_is_needed_and_damaged_stops_what_needs_it() {
    let (mut gateway, sent) = truncated();
    gateway.stop();
    let base = bases(&gateway).pop().expect("a base");
    let rows = base.join("rows");
    let middle = fs::read(&rows).expect("read").len() / 2;
    flip(&rows, middle);
    gateway.tollgate(&["verify"]).refused(2, &["the base is damaged", "rows", "restore"]);
    gateway.tollgate(&["rebuild"]).refused(1, &["the base is damaged"]);
    flip(&rows, middle);
    flip(&base.join("base.json"), 60);
    gateway.tollgate(&["verify"]).refused(2, &["the base is damaged", "base.json"]);
    // Index and rows are there, so the gateway need not stop for it; without an index it has to.
    gateway.restart();
    assert_eq!(usage(&gateway), sum_of(sent));
    gateway.kill();
    if segments(&gateway)[0] > 0 && bases(&gateway) == [base.clone()] {
        fs::remove_dir_all(gateway.file("index")).expect("removed");
        gateway.start_in_vain().because(&["the base is damaged", "base.json"]);
    }
}

#[test]
fn a_backup_of_a_truncated_log_restores() {
    let (mut gateway, sent) = truncated();
    let to = gateway.beside("backup");
    let made = gateway.tollgate(&["backup", "--to", &to]).ended_with(0);
    gateway.kill();
    fs::remove_dir_all(gateway.data_dir()).expect("removed");
    gateway.tollgate(&["restore", "--from", &to]).ended_with(0);
    assert_eq!(gateway.tollgate(&["verify"]).ended_with(0).standing("stored"), made.standing(""));
    gateway.restart();
    for from in (0..sent).step_by(10) {
        gateway.send(&some(from)).logged(10);
    }
    assert_eq!(usage(&gateway), sum_of(sent));
}

#[test]
fn without_retention_no_base_is_made_and_nothing_goes() {
    let mut gateway = Setup::with("[log]\nsegment_bytes = 1_048_576").start();
    for from in (0..60).step_by(10) {
        gateway.send(&some(from)).logged(10);
    }
    assert_eq!(usage(&gateway), sum_of(60));
    gateway.stop();
    assert_eq!((bases(&gateway), segments(&gateway)[0]), (Vec::new(), 0));
    gateway.tollgate(&["verify", "--from-base"]).refused(2, &["there is no base"]);
}
