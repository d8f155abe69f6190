//! A backup, taken at any time, makes the same gateway again: promises 1 to 4 survive the loss of the machine.
//!
//! The embedded pair's.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use crate::harness::{Client, Event, Gateway, Setup, contents, event, flip, wait_for};

const BATCH: usize = 20;

fn batch(at: usize) -> Vec<Event> {
    (at * BATCH..(at + 1) * BATCH).map(|id| event(&format!("u-{id}")).customer(&format!("c-{}", id % 5)).value(id)).collect()
}

fn wipe(gateway: &Gateway) {
    fs::remove_dir_all(gateway.data_dir()).expect("removed");
}

#[test]
fn a_backup_under_load_has_everything_acked_before_it_began_and_restores_to_the_same_digest() {
    let mut gateway = Setup::with("[log]\nsegment_bytes = 1_048_576").start();
    assert_eq!(gateway.post("/customers", &[], json!({"customerId": "acme", "customerName": "Acme"}).to_string()).status, 200);
    let to = gateway.beside("backup");
    let (acked, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (acked_before, ran) = std::thread::scope(|threads| {
        let client = Client::clone(&gateway);
        let (acked, is_over) = (&acked, &is_over);
        threads.spawn(move || {
            while !is_over.load(Ordering::Acquire) {
                client.send(&batch(acked.load(Ordering::Acquire))).logged(BATCH);
                acked.fetch_add(1, Ordering::AcqRel);
            }
        });
        wait_for("some load", || (acked.load(Ordering::Acquire) > 20).then_some(()));
        let acked_before = acked.load(Ordering::Acquire);
        let ran = gateway.tollgate(&["backup", "--to", &to]);
        is_over.store(true, Ordering::Release);
        (acked_before, ran.ended_with(0))
    });
    let acked = acked.into_inner();
    gateway.kill();
    wipe(&gateway);

    let restored = gateway.tollgate(&["restore", "--from", &to]).ended_with(0);
    assert_eq!(restored.standing(""), ran.standing(""));
    let verified = gateway.tollgate(&["verify"]).ended_with(0).says(&["equal"]);
    assert_eq!(verified.standing("stored"), ran.standing(""), "rows, position and digest of the backup");
    gateway.tollgate(&["doctor"]).ended_with(0).says(&["healthy"]);

    gateway.restart();
    let count = gateway.usage("m").count();
    assert!((acked_before * BATCH..=(acked + 1) * BATCH).contains(&count), "{acked_before} batches were acked, {count} events are there");
    assert_eq!(gateway.get("/customers/acme").json()["customerName"], "Acme");
    for at in 0..acked {
        gateway.send(&batch(at)).logged(BATCH);
    }
    assert_eq!(gateway.usage("m").count(), acked * BATCH, "what is sent again counts nothing twice");
    gateway.stop();
    gateway.tollgate(&["verify"]).ended_with(0).says(&["equal"]);
}

#[test]
fn a_backup_of_a_killed_gateway_has_all_that_was_acked() {
    let mut gateway = Gateway::start();
    for at in 0..5 {
        gateway.send(&batch(at)).logged(BATCH);
    }
    gateway.send(&[event("bad").without("customerId"), event("good")]).logged(1);
    gateway.kill();
    let to = gateway.beside("backup");
    gateway.tollgate(&["backup", "--to", &to]).ended_with(0).says(&["log up to 101"]);
    wipe(&gateway);
    gateway.tollgate(&["restore", "--from", &to]).ended_with(0);
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 5 * BATCH + 1);
    assert_eq!(gateway.dead_letters().len(), 1);
}

#[test]
fn a_backup_goes_where_nothing_is_and_not_into_the_data_directory() {
    let mut gateway = Gateway::start();
    gateway.send(&batch(0)).logged(BATCH);
    let (full, inside) = (gateway.beside("full"), gateway.file("backup").display().to_string());
    fs::create_dir(&full).expect("made");
    fs::write(Path::new(&full).join("something"), "precious").expect("written");
    for is_running in [true, false] {
        if !is_running {
            gateway.stop();
        }
        gateway.tollgate(&["backup", "--to", &full]).refused(1, &["not empty"]);
        gateway.tollgate(&["backup", "--to", &inside]).refused(1, &["inside of the data directory"]);
        gateway.tollgate(&["backup", "--to", &gateway.beside("no/such/place")]).refused(1, &["No such file"]);
    }
    assert_eq!(fs::read(Path::new(&full).join("something")).expect("read"), b"precious");
    assert!(!gateway.file("backup").exists());
    gateway.tollgate(&["restore", "--from", &full]).refused(1, &["not empty"]);
}

#[test]
fn a_full_disk_leaves_no_half_backup() {
    let mut gateway = Gateway::start();
    let large: Vec<_> = (0..20).map(|at| crate::harness::wide_event(&format!("u-{at}"))).collect();
    gateway.send(&large).logged(20);
    gateway.stop();
    let to = gateway.beside("backup");
    let before = entries(gateway.data_dir().parent().expect("a parent"));
    gateway.tollgate_on_a_full_disk(64 << 10, &["backup", "--to", &to]).refused(1, &["File too large"]);
    assert_eq!(entries(gateway.data_dir().parent().expect("a parent")), before);
    gateway.tollgate(&["backup", "--to", &to]).ended_with(0);
    gateway.tollgate(&["verify"]).ended_with(0);
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_backup_with_any_damaged_file_is_not_restored() {
    let mut gateway = Gateway::start();
    gateway.send(&batch(0)).logged(BATCH);
    gateway.send(&[event("bad").without("customerId"), event("good")]).logged(1);
    gateway.stop();
    let to = gateway.beside("backup");
    gateway.tollgate(&["backup", "--to", &to]).ended_with(0);
    wipe(&gateway);
    let files = contents(Path::new(&to));
    assert!(files.len() >= 5, "{files:?}");
    for (file, bytes) in files {
        flip(&file, bytes.len() / 2);
        let name = file.display().to_string();
        gateway.tollgate(&["restore", "--from", &to]).refused(1, &[&name, "damaged"]);
        assert!(!gateway.data_dir().exists(), "all or nothing: {name}");
        fs::write(&file, &bytes[..bytes.len() - 1]).expect("written");
        gateway.tollgate(&["restore", "--from", &to]).refused(1, &[&name, "damaged"]);
        fs::write(&file, bytes).expect("written");
    }
    gateway.tollgate(&["restore", "--from", &gateway.beside("nothing")]).refused(1, &["is no backup"]);
    gateway.tollgate(&["restore", "--from", &to]).ended_with(0);
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), BATCH + 1);
}

/// What the control socket answers to some bytes.
fn answer(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(gateway.file("control.sock")).expect("connects");
    // It may have heard enough before the end.
    let _closed = stream.write_all(bytes);
    let _closed = stream.shutdown(std::net::Shutdown::Write);
    let mut line = String::new();
    BufReader::new(stream.take(1 << 20)).read_line(&mut line).expect("a line");
    line
}

#[test]
fn the_control_socket_is_the_operators_own_and_refuses_nonsense() {
    let mut gateway = Gateway::start();
    gateway.send(&batch(0)).logged(BATCH);
    let socket = gateway.file("control.sock");
    assert_eq!(fs::metadata(&socket).expect("is there").permissions().mode() & 0o777, 0o600);
    let relative = br#"{"backup":{"to":"somewhere"}}"#;
    let nonsense: [&[u8]; 7] =
        [b"", b"\n", b"GET / HTTP/1.1\r\n\r\n", b"{}\n", br#"{"backup":{"to":1}}"#, b"{\"reboot\":{}}\n", &[b'x'; 40_000]];
    for bytes in nonsense {
        assert!(answer(&gateway, bytes).starts_with(r#"{"error":"#), "{:?}", String::from_utf8_lossy(bytes));
    }
    assert!(answer(&gateway, &[relative.as_slice(), b"\n"].concat()).contains("no absolute path"));
    // Many who say nothing keep nobody out for good.
    let silent: Vec<_> = (0..3).map(|_| UnixStream::connect(&socket).expect("connects")).collect();
    gateway.tollgate(&["backup", "--to", &gateway.beside("one")]).ended_with(0);
    drop(silent);
    gateway.kill();
    assert!(socket.exists(), "what a kill leaves");
    gateway.restart();
    gateway.tollgate(&["backup", "--to", &gateway.beside("two")]).ended_with(0);
    gateway.stop();
    assert!(!socket.exists());
}
