//! Promise 1, over the years: a log that any released version has written opens for good, with the same answers.

use std::path::{Path, PathBuf};

use crate::harness::Gateway;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A gateway that is stopped, with nothing but this log in its data directory.
fn with_log(name: &str) -> Gateway {
    let mut gateway = Gateway::start();
    gateway.stop();
    std::fs::remove_dir_all(gateway.data_dir()).expect("removed");
    let to = gateway.data_dir().join("log");
    std::fs::create_dir_all(&to).expect("made");
    for entry in std::fs::read_dir(fixture(name)).expect("a list") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
    gateway
}

#[test]
fn a_log_of_the_first_format_opens_with_the_same_events_verdicts_and_sums() {
    let mut gateway = with_log("log-v1");
    gateway.restart();
    let counted: Vec<_> = ["calls", "in", "out", "bytes", "größe"]
        .map(|meter| (meter, gateway.usage(meter).count(), gateway.usage(meter).sum(), gateway.usage(meter).max()))
        .to_vec();
    insta::assert_debug_snapshot!(counted);
    // 72 h have passed since: only conflicts are listed for good. Each event is still found by its id.
    insta::assert_snapshot!(gateway.get("/v1/events?verdict=conflict").text());
    for id in ["plain", "several", "digits", "tiny", "late", "tail-2-4"] {
        insta::assert_snapshot!(format!("event_{id}"), gateway.get(&format!("/v1/events/{id}")).text());
    }
    insta::assert_snapshot!("event_unicode", gateway.get("/v1/events/%C3%BCn%C3%AFcode%20%22quoted%22%20%E9%9B%AA").text());
    // And goes on: the copies are known.
    gateway.send(&[crate::harness::event("plain")]).logged(1);
    assert_eq!(gateway.settled_metrics().verdict("conflict"), 2);
}

#[test]
fn a_damaged_log_of_the_first_format_is_refused_with_file_and_offset() {
    let mut gateway = with_log("log-v1-broken");
    gateway.start_in_vain().because(&["00000000000000000000.seg", "damaged at byte"]);
}
