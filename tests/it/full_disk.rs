//! Promises 1 and 10 on a disk that gets full for real: a small file system of the test's own (tmpfs in a mount namespace).

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Answer, Client, Event, Gateway, Setup, event, wait_for};

/// A mount namespace in which the data directory of a gateway is a small file system. Gone with its value.
struct SmallDisk {
    holder: Child,
    /// The data directory, as seen from here.
    path: PathBuf,
}

impl SmallDisk {
    /// Puts one of so many MiB below the gateway's data directory; the process has to be stopped.
    fn below(gateway: &mut Gateway, mib: usize) -> Self {
        let dir = gateway.data_dir();
        fs::remove_dir_all(&dir).expect("removed");
        fs::create_dir(&dir).expect("made");
        let is_root = rustix::process::geteuid().is_root();
        let script = format!("mount -t tmpfs -o size={mib}m tmpfs \"$0\" && echo mounted && exec cat");
        let mut holder = Command::new("unshare");
        holder.arg(if is_root { "-m" } else { "-Urm" }).args(["sh", "-c", &script]).arg(&dir);
        let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        let mut said = String::new();
        BufReader::new(holder.stdout.as_mut().expect("piped")).read_line(&mut said).expect("it speaks");
        assert_eq!(said, "mounted\n");
        let target = holder.id().to_string();
        let mut enter = vec!["nsenter", "-t", &target, "-m"];
        if !is_root {
            enter.extend(["-U", "--preserve-credentials"]);
        }
        gateway.change_launcher(&enter);
        let path = PathBuf::from(format!("/proc/{target}/root{}", dir.display()));
        Self { holder, path }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    fn free_bytes(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.path).expect("a file system");
        found.f_bavail * found.f_frsize
    }

    /// Fills it until only so many bytes are free.
    fn fill_up_to(&self, free_bytes: u64) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).expect("opened");
        while self.free_bytes() > free_bytes {
            let bytes = (self.free_bytes() - free_bytes).min(64 << 10) as usize;
            // Others write too: this may be the write that finds no room.
            if ballast.write_all(&vec![1; bytes]).is_err() {
                return;
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("removed");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// A gateway on a small disk, with a reserve of 2 MiB of 24, that commits often.
fn on_a_small_disk() -> (SmallDisk, Gateway) {
    let mut gateway = Setup::with("[log]\ndisk_reserve_bytes = 2_097_152\nsegment_bytes = 1_048_576").start();
    gateway.stop();
    gateway.change_variable("TOLLGATE_COMMIT_INTERVAL_MS", Some("200"));
    let disk = SmallDisk::below(&mut gateway, 24);
    gateway.restart();
    (disk, gateway)
}

/// Events that take room in log and rows: each has a row of its own.
fn batch(name: &str, at: usize) -> Vec<Event> {
    (0..20).map(|index| event(&format!("{name}-{at}-{index}")).customer(&format!("{name}-{at}-{index}")).value("0.1")).collect()
}

fn is_full(answer: &Answer) -> bool {
    answer.status == 503 && answer.text().contains("the disk is full, nothing was stored")
}

/// Sends batches until one is refused because the disk is full; returns how many were taken.
fn send_until_full(gateway: &Gateway, name: &str) -> usize {
    for at in 0..5_000 {
        let answer = gateway.send(&batch(name, at));
        if is_full(&answer) {
            return at;
        }
        answer.logged(20);
    }
    panic!("the disk was to get full");
}

/// Fills the disk to the last page, as somebody else would, while something that was acked is not committed yet. Returns how
/// many batches were acked, with those before.
fn fill_before_a_commit(disk: &SmallDisk, gateway: &Gateway, mut acked: usize) -> usize {
    wait_for("a commit that finds no room", || {
        // Right behind a commit the next one is not due for a while: that long there is to fill the disk.
        gateway.send(&batch("u", acked)).logged(20);
        wait_for("a commit", || (gateway.settled_metrics().total("tollgate_store_uncommitted_records", &[]) == 0.0).then_some(()));
        gateway.send(&batch("u", acked + 1)).logged(20);
        acked += 2;
        disk.fill_up_to(0);
        // Several times as long as it takes until the next commit is due.
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(1) {
            if waits_for_room(gateway) {
                return Some(());
            }
        }
        // It was faster than we were.
        disk.make_room();
        None
    });
    acked
}

fn waits_for_room(gateway: &Gateway) -> bool {
    gateway.metrics().total("tollgate_store_waits_for_room", &[]) == 1.0
}

#[test]
fn a_disk_that_gets_full_under_load_refuses_and_goes_on_by_itself() {
    const SENDERS: usize = 4;
    let (disk, mut gateway) = on_a_small_disk();
    disk.fill_up_to(5 << 20);
    let (refused, is_enough) = (AtomicUsize::new(0), AtomicBool::new(false));
    let acked: usize = std::thread::scope(|threads| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let (client, refused, is_enough) = (Client::clone(&gateway), &refused, &is_enough);
                threads.spawn(move || {
                    let mut acked = 0;
                    while !is_enough.load(Ordering::Relaxed) {
                        let events = batch(&format!("s{sender}"), acked);
                        // What was refused is sent again until it is taken.
                        wait_for("room", || {
                            let answer = client.send(&events);
                            if is_full(&answer) {
                                refused.fetch_add(1, Ordering::Relaxed);
                                return None;
                            }
                            Some(answer.logged(20))
                        });
                        acked += 1;
                    }
                    acked
                })
            })
            .collect();
        wait_for("refusals", || (refused.load(Ordering::Relaxed) >= 20).then_some(()));
        assert_eq!((gateway.get("/healthz").status, gateway.get("/readyz").status), (200, 200), "it is full, not ill");
        disk.make_room();
        let after = refused.load(Ordering::Relaxed);
        wait_for("everybody to be taken", || {
            is_enough.store(true, Ordering::Relaxed);
            senders.iter().all(|sender| sender.is_finished()).then_some(())
        });
        println!("{after} requests were refused while the disk was full");
        senders.into_iter().map(|sender| sender.join().expect("no panic")).sum()
    });
    let count = acked * 20;
    assert_eq!(gateway.usage("m").count(), count);
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.outcome("unknown"), metrics.copies()), (0, 0), "nothing of what was refused was stored");
    gateway.kill_and_restart();
    assert_eq!(gateway.usage("m").count(), count);
    gateway.stop_and_restart();
    assert_eq!(gateway.usage("m").count(), count);
}

#[test]
fn rows_without_room_wait_and_queries_see_what_is_folded() {
    let (disk, mut gateway) = on_a_small_disk();
    let mut acked = fill_before_a_commit(&disk, &gateway, 0);
    // What it knew to have room for a moment ago, the log may still take into the page that it has.
    wait_for("a refusal", || {
        let answer = gateway.send(&batch("u", acked));
        if is_full(&answer) {
            return Some(());
        }
        answer.logged(20);
        acked += 1;
        None
    });
    wait_for("what is folded to be seen, though it cannot be committed", || {
        (gateway.usage("m").wait_s(0).ask("COUNT").total() == (acked * 20).to_string()).then_some(())
    });
    assert!(gateway.stderr().contains("rows and index wait for room"), "{}", gateway.stderr());
    // What a person sets up is refused, not kept waiting.
    assert_eq!(gateway.post("/customers", &[], r#"{"customerId":"c","customerName":"c"}"#).status, 503);
    disk.make_room();
    wait_for("the commit", || (!waits_for_room(&gateway)).then_some(()));
    gateway.send(&batch("u", acked)).logged(20);
    acked += 1;
    assert_eq!(gateway.usage("m").count(), acked * 20);
    gateway.stop_and_restart();
    assert_eq!(gateway.usage("m").count(), acked * 20);
}

#[test]
fn a_stop_while_rows_wait_for_room_ends_in_time_says_why_and_loses_nothing() {
    let (disk, mut gateway) = on_a_small_disk();
    let mut acked = 0;
    // Whatever lets go of a page on the way may let the commit through that waits for just one. Then there is nothing left to wait for,
    // the stop is like any other, and shows nothing.
    let ended = wait_for("a stop while rows wait", || {
        acked = fill_before_a_commit(&disk, &gateway, acked);
        let ended = gateway.stop_somehow();
        if ended.code == Some(0) {
            disk.make_room();
            gateway.restart();
            return None;
        }
        Some(ended)
    });
    ended.because(&["there is no room for the rows", "nothing is lost"]);
    disk.make_room();
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), acked * 20);
    gateway.send(&batch("u", 0)).logged(20);
    assert_eq!(gateway.usage("m").count(), acked * 20, "and what was acked is known");
}

#[test]
fn a_start_on_a_full_disk_says_so_and_starts_when_there_is_room() {
    let (disk, mut gateway) = on_a_small_disk();
    let acked = {
        disk.fill_up_to(4 << 20);
        send_until_full(&gateway, "u")
    };
    gateway.kill();
    disk.fill_up_to(0);
    // A tail that was not closed has to be copied before anybody reads it.
    gateway.start_in_vain().because(&["No space left on device"]);
    disk.make_room();
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), acked * 20);
}
