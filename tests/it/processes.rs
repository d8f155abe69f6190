//! Start and data directory: one process at a time, and none on data that do not fit together.
//!
//! This is about the files of the embedded pair; the cluster's own are elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Gateway, Setup, event, wide_event};

/// The segments of the log, oldest first.
fn segments(gateway: &Gateway) -> Vec<PathBuf> {
    files(&gateway.data_dir().join("log"), "seg")
}

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("read");
    bytes[at] ^= 0xff;
    fs::write(file, bytes).expect("written");
}

/// Removes what is derived from the log, so that the next start reads it from the begin.
fn forget_what_is_derived(gateway: &Gateway) {
    fs::remove_file(gateway.data_dir().join("store.redb")).expect("removed");
    fs::remove_dir_all(gateway.data_dir().join("index")).expect("removed");
}

fn name(file: &Path) -> String {
    file.display().to_string()
}

/// A gateway that has stopped in good order, with ten events in ten blocks.
fn stopped() -> Gateway {
    let mut gateway = Gateway::start();
    for at in 0..10 {
        gateway.send(&[event(&format!("u-{at}"))]).logged(1);
    }
    gateway.stop();
    gateway
}

/// A gateway whose log has several segments, of 1 MiB each.
fn with_several_segments() -> Gateway {
    let gateway = Setup::with("[log]\nsegment_bytes = 1_048_576").start();
    let events: Vec<_> = (0..60).map(|at| wide_event(&format!("u-{at}"))).collect();
    for batch in events.chunks(5) {
        gateway.send(batch).logged(5);
    }
    assert_eq!(gateway.usage("m").count(), 60);
    gateway
}

#[test]
fn a_second_process_on_the_same_data_directory_is_refused_and_the_first_goes_on() {
    let mut gateway = Gateway::start();
    gateway.send(&[event("u-1")]).logged(1);
    let directory = gateway.data_dir().display().to_string();
    let said = gateway.start_another().because(&["in use by another tollgate", &directory, "--data-dir"]);
    assert_eq!(said.lines().count(), 1, "{said}");
    gateway.send(&[event("u-2")]).logged(1);
    gateway.kill_and_restart();
    assert_eq!(gateway.usage("m").count(), 2);
}

#[test]
fn a_damaged_record_of_a_sealed_segment_stops_whoever_reads_it() {
    let mut gateway = stopped();
    let segment = &segments(&gateway)[0];
    let bytes = fs::read(segment).expect("read").len();
    flip(segment, bytes / 2);
    gateway.start_in_vain().because(&[&name(segment), "damaged at byte"]);
    forget_what_is_derived(&gateway);
    gateway.start_in_vain().because(&[&name(segment), "damaged at byte"]);
    // Still there, for whoever can mend it.
    assert_eq!(fs::read(segment).expect("read").len(), bytes);
    flip(segment, bytes / 2);
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 10);
}

#[test]
fn a_sealed_segment_that_was_cut_stops_the_start() {
    let mut gateway = stopped();
    let segment = &segments(&gateway)[0];
    let bytes = fs::read(segment).expect("read");
    let kept = bytes.len() - 10;
    fs::write(segment, &bytes[..kept]).expect("written");
    gateway.start_in_vain().because(&[&name(segment), &format!("damaged at byte {kept}")]);
}

#[test]
fn a_damaged_head_of_a_segment_stops_the_start() {
    let mut gateway = stopped();
    let segment = &segments(&gateway)[0];
    flip(segment, 20);
    gateway.start_in_vain().because(&[&name(segment), "damaged at byte 0"]);
}

#[test]
fn damage_before_something_acked_is_no_torn_tail() {
    let mut gateway = Gateway::start();
    for at in 0..10 {
        gateway.send(&[event(&format!("u-{at}"))]).logged(1);
    }
    gateway.kill();
    let segment = &segments(&gateway)[0];
    // In the records of the first block, whose header ends at byte 112.
    flip(segment, 120);
    gateway.start_in_vain().because(&[&name(segment), "damaged at byte 64"]);
    flip(segment, 120);
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 10);
}

#[test]
fn a_torn_tail_is_cut_off_and_said_so() {
    let mut gateway = Gateway::start();
    gateway.send(&[event("u-1")]).logged(1);
    gateway.kill();
    let segment = &segments(&gateway)[0];
    let mut bytes = fs::read(segment).expect("read");
    // What a write leaves that was never synced and never acked: half of a block.
    let half = bytes[64..64 + 60].to_vec();
    bytes.extend_from_slice(&half);
    fs::write(segment, bytes).expect("written");
    gateway.restart();
    assert!(gateway.stderr().contains("torn_bytes=60"), "{}", gateway.stderr());
    assert_eq!(gateway.usage("m").count(), 1);
    gateway.send(&[event("u-2")]).logged(1);
    gateway.kill_and_restart();
    assert_eq!(gateway.usage("m").count(), 2);
}

#[test]
fn rows_that_are_ahead_of_the_log_stop_the_start() {
    let mut gateway = stopped();
    for file in files(&gateway.data_dir().join("log"), "seg").into_iter().chain(files(&gateway.data_dir().join("log"), "idx")) {
        fs::remove_file(file).expect("removed");
    }
    gateway.start_in_vain().because(&["the rows stand at position 10, but the log ends at 0", "restore the data directory from a backup"]);
}

#[test]
fn a_segment_that_is_missing_from_the_middle_stops_the_start() {
    let mut gateway = with_several_segments();
    gateway.stop();
    let segments = segments(&gateway);
    assert!(segments.len() >= 3, "{segments:?}");
    fs::remove_file(&segments[1]).expect("removed");
    gateway.start_in_vain().because(&[&name(&segments[2]), "the segment before it ends at"]);
}

#[test]
fn segments_that_are_missing_from_the_begin_stop_a_rebuild() {
    let mut gateway = with_several_segments();
    gateway.stop();
    let segments = segments(&gateway);
    fs::remove_file(&segments[0]).expect("removed");
    forget_what_is_derived(&gateway);
    gateway.start_in_vain().because(&["but the rows need it from 0 on"]);
}

#[test]
fn an_index_of_a_segment_is_made_again_when_it_is_gone() {
    let mut gateway = with_several_segments();
    gateway.stop();
    for index in files(&gateway.data_dir().join("log"), "idx") {
        fs::remove_file(index).expect("removed");
    }
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 60);
    gateway.send(&[event("u-1").dimension("a", "b"), event("one more")]).logged(2);
    assert_eq!(gateway.usage("m").count(), 61);
}

#[test]
fn a_segment_of_another_log_stops_the_start() {
    let (mut gateway, other) = (stopped(), stopped());
    let (segment, stranger) = (&segments(&gateway)[0], &segments(&other)[0]);
    fs::copy(stranger, segment).expect("copied");
    gateway.start_in_vain().because(&[&name(segment), "belongs to another log"]);
}

#[test]
fn a_log_without_its_metadata_stops_the_start() {
    let mut gateway = stopped();
    let meta = gateway.data_dir().join("log/meta.json");
    let text = fs::read_to_string(&meta).expect("read");
    fs::remove_file(&meta).expect("removed");
    gateway.start_in_vain().because(&["meta.json", "restore it from a backup"]);
    fs::write(&meta, text.replace("10000", "10001")).expect("written");
    gateway.start_in_vain().because(&["meta.json", "checksum"]);
    fs::write(&meta, text).expect("written");
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 10);
}

#[test]
fn a_store_that_is_no_store_stops_the_start() {
    let mut gateway = stopped();
    fs::write(gateway.data_dir().join("store.redb"), "not a store").expect("written");
    gateway.start_in_vain().because(&["the rows cannot be opened"]);
}
