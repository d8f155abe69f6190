//! `tollgate doctor` reads every byte: whatever is damaged is found, named, and comes with what to do.
//!
//! The embedded pair's.

use std::fs;
use std::path::Path;

use crate::harness::{Gateway, Setup, contents, event, flip, wait_for, wide_event};

/// A stopped gateway with a file of each kind: several segments, dead letters, a base, an index with a run.
fn stopped() -> Gateway {
    let mut gateway = Setup::with("[log]\nsegment_bytes = 1_048_576\nretention_bytes = 4_000_000").start();
    gateway.send(&[event("bad").without("customerId"), event("good")]).logged(1);
    let mut sent = 0;
    wait_for("a base and some segments", || {
        let events: Vec<_> = (sent..sent + 10).map(|at| wide_event(&format!("u-{at}"))).collect();
        gateway.send(&events).logged(10);
        sent += 10;
        assert!(gateway.usage("m").wait_s(30).ask("COUNT").is_complete());
        let has = |dir: &str, extension: Option<&str>| {
            let entries = fs::read_dir(gateway.file(dir)).into_iter().flatten().filter_map(Result::ok);
            entries.filter(|entry| entry.path().extension().and_then(|extension| extension.to_str()) == extension).count()
        };
        (has("base", None) > 0 && has("log", Some("seg")) >= 3).then_some(())
    });
    gateway.stop();
    gateway.tollgate(&["doctor"]).ended_with(0).says(&["healthy"]);
    gateway
}

fn relative(gateway: &Gateway, file: &Path) -> String {
    file.strip_prefix(gateway.data_dir()).expect("in it").display().to_string()
}

#[test]
fn a_flipped_byte_in_any_kind_of_file_is_found_and_named() {
    let gateway = stopped();
    let files: Vec<_> = contents(&gateway.data_dir()).into_iter().filter(|(path, _)| !path.ends_with("lock")).collect();
    let kinds = ["meta.json", ".seg", ".idx", "base.json", "rows", "index/manifest.json", ".run", "store.redb"];
    for kind in kinds {
        assert!(files.iter().any(|(path, _)| path.to_string_lossy().ends_with(kind)), "no {kind} in {files:?}");
    }
    let mut advised = std::collections::BTreeSet::new();
    for (file, bytes) in &files {
        if file.ends_with("store.redb") {
            continue;
        }
        let name = relative(&gateway, file);
        flip(file, bytes.len() / 2);
        let ran = gateway.tollgate(&["doctor"]);
        // A damaged sparse index is no damage: nothing is lost, and the next start sees it.
        let code = i32::from(!name.ends_with(".idx"));
        let ran = ran.ended_with(code);
        let said = ran.stdout.lines().find(|line| line.contains(" -> ")).unwrap_or_else(|| panic!("{name}: {}", ran.stdout)).to_owned();
        let directory = name.split('/').next().expect("a name");
        assert!(said.contains(directory), "{name}: {said}");
        advised.insert(said.split(" -> ").last().expect("advice").to_owned());
        fs::write(file, bytes).expect("written");
    }
    assert!(advised.len() >= 4, "each has its own way out: {advised:#?}");
    gateway.tollgate(&["doctor"]).ended_with(0).says(&["healthy"]);
}

#[test]
fn a_flipped_byte_in_the_stores_pages_is_found() {
    let gateway = stopped();
    let store = gateway.file("store.redb");
    let mut bytes = fs::read(&store).expect("read");
    // Wherever this is written, also in pages that are free by now: a page with a row is among them.
    let places: Vec<_> = bytes.windows(6).enumerate().filter(|(_, found)| found == b"key-17").map(|(at, _)| at).collect();
    places.iter().for_each(|at| bytes[*at] ^= 1);
    assert!(!places.is_empty());
    fs::write(&store, bytes).expect("written");
    gateway.tollgate(&["doctor"]).ended_with(1).says(&["damage  store.redb", "damaged\n"]);
    fs::write(&store, "not a store").expect("written");
    gateway.tollgate(&["doctor"]).ended_with(1).says(&["damage  store.redb", "backup"]);
    fs::remove_file(&store).expect("removed");
    gateway.tollgate(&["doctor"]).ended_with(1).says(&["damage  store.redb: it is missing"]);
}

#[test]
fn a_torn_tail_and_leftovers_are_notes_and_no_damage() {
    let mut gateway = Gateway::start();
    gateway.send(&[event("u-1")]).logged(1);
    gateway.kill();
    let segment =
        contents(&gateway.file("log")).into_iter().map(|(path, _)| path).find(|path| path.extension().is_some_and(|e| e == "seg"));
    let segment = segment.expect("a segment");
    let mut bytes = fs::read(&segment).expect("read");
    let half = bytes[64..64 + 60].to_vec();
    bytes.extend_from_slice(&half);
    fs::write(&segment, bytes).expect("written");
    fs::create_dir(gateway.file("rebuild.tmp")).expect("made");
    fs::write(gateway.file("notes.txt"), "mine").expect("written");
    fs::write(gateway.file("index/000000000099.run"), "of nobody").expect("written");
    let said = ["60 bytes of a write that was never acknowledged", "rebuild.tmp", "notes.txt", "000000000099.run", "healthy"];
    gateway.tollgate(&["doctor"]).ended_with(0).says(&said);
    gateway.restart();
    assert!(!gateway.file("rebuild.tmp").exists());
    gateway.stop();
    let ran = gateway.tollgate(&["doctor"]).ended_with(0).says(&["healthy", "notes.txt"]);
    assert_eq!(ran.stdout.matches("note ").count(), 1, "{}", ran.stdout);
}

#[test]
fn parts_that_do_not_fit_each_other_are_found() {
    let gateway = stopped();
    let log = gateway.file("log");
    let segments: Vec<_> =
        contents(&log).into_iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "seg")).collect();
    let (middle, bytes) = &segments[1];
    fs::remove_file(middle).expect("removed");
    gateway.tollgate(&["doctor"]).ended_with(1).says(&["the segment before it ends at", "restore"]);
    fs::write(middle, bytes).expect("written");
    let (last, bytes) = segments.last().expect("a segment");
    fs::remove_file(last).expect("removed");
    gateway.tollgate(&["doctor"]).ended_with(1).says(&["damage  store.redb: the rows stand at position", "but the log ends at"]);
    fs::write(last, bytes).expect("written");
    gateway.tollgate(&["doctor"]).ended_with(0).says(&["healthy"]);
}
