//! Promise 1 where the operating system says no: system calls of the real binary fail on purpose (`strace -e inject`).

use crate::harness::{Gateway, Setup, event, wide_event};

/// The first segment of a log that had nothing in it.
fn first_segment(gateway: &Gateway) -> String {
    gateway.data_dir().join("log/00000000000000000000.seg").display().to_string()
}

/// From the next start on, system calls on `path` fail like this (`strace`'s syntax).
fn inject(gateway: &mut Gateway, path: &str, fault: &str) {
    let fault = format!("inject={fault}");
    let calls = fault["inject=".len()..].split(':').next().expect("names of system calls").to_owned();
    // -D: the process stays our child, strace is its grandchild.
    gateway.change_launcher(&["strace", "-D", "-f", "-qqq", "-o", "/dev/null", "-P", path, "-e", &format!("trace={calls}"), "-e", &fault]);
}

/// A gateway that has started once, so that its data directory is there, and stopped.
fn stopped() -> Gateway {
    let mut gateway = Gateway::start();
    gateway.stop();
    gateway
}

/// Sends events one by one until one is refused; returns how many were taken.
fn send_until_refused(gateway: &Gateway, name: &str) -> usize {
    for at in 0..1_000 {
        let answer = gateway.send(&[event(&format!("{name}-{at}"))]);
        if answer.status != 200 {
            answer.refused(503);
            return at;
        }
    }
    panic!("a system call was to fail");
}

/// After a failure the log takes nothing more; after a restart everything acked is there, and what is sent again counts once.
fn expect_closed_until_a_restart(gateway: &mut Gateway, name: &str, acked: usize) {
    for _ in 0..3 {
        gateway.send(&[event("later")]).refused(503);
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.total("tollgate_log_closed", &[("log", "events")]), 1.0);
    assert_eq!((metrics.outcome("logged") + metrics.outcome("known"), metrics.outcome("unknown")), (acked as u64, 4));
    assert_eq!(gateway.usage("m").count(), acked, "what was acked is still answered");
    gateway.kill();
    gateway.change_launcher(&[]);
    gateway.restart();
    let found = gateway.usage("m").count();
    assert!((acked..=acked + 1).contains(&found), "{found} are there, {acked} were acked, the outcome of one is unknown");
    for at in 0..=acked {
        gateway.send(&[event(&format!("{name}-{at}"))]).logged(1);
    }
    assert_eq!(gateway.usage("m").count(), acked + 1);
}

#[test]
fn a_failed_sync_of_the_log_is_unknown_and_the_last_append_of_the_process() {
    let mut gateway = stopped();
    let segment = first_segment(&gateway);
    // The first one is for the head of the segment.
    inject(&mut gateway, &segment, "fdatasync:error=EIO:when=5");
    gateway.restart();
    assert_eq!(send_until_refused(&gateway, "u"), 3);
    expect_closed_until_a_restart(&mut gateway, "u", 3);
}

#[test]
fn a_failed_write_of_the_log_is_unknown_and_the_last_append_of_the_process() {
    let mut gateway = stopped();
    let segment = first_segment(&gateway);
    inject(&mut gateway, &segment, "pwrite64:error=EIO:when=4");
    gateway.restart();
    assert_eq!(send_until_refused(&gateway, "u"), 2);
    expect_closed_until_a_restart(&mut gateway, "u", 2);
}

#[test]
fn a_failed_sync_of_the_directory_acks_nobody() {
    let mut gateway = stopped();
    let dir = gateway.data_dir().join("log").display().to_string();
    inject(&mut gateway, &dir, "fsync:error=EIO:when=1");
    gateway.restart();
    assert_eq!(send_until_refused(&gateway, "u"), 0, "nobody knows whether the segment would still be there");
    expect_closed_until_a_restart(&mut gateway, "u", 0);
}

#[test]
fn interrupted_writes_are_taken_up_again() {
    let mut gateway = stopped();
    let segment = first_segment(&gateway);
    inject(&mut gateway, &segment, "pwrite64:error=EINTR:when=2+2");
    gateway.restart();
    for at in 0..20 {
        gateway.send(&[event(&format!("u-{at}"))]).logged(1);
    }
    gateway.kill();
    gateway.change_launcher(&[]);
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 20);
}

#[test]
fn writes_that_find_the_disk_full_are_refused_and_the_log_goes_on_by_itself() {
    let mut gateway = stopped();
    let segment = first_segment(&gateway);
    inject(&mut gateway, &segment, "pwrite64:error=ENOSPC:when=3..5");
    gateway.restart();
    gateway.send(&[event("u-0")]).logged(1);
    for _ in 0..3 {
        let refused = gateway.send(&[event("u-1")]).refused(503);
        assert!(refused.text().contains("the disk is full, nothing was stored"), "{}", refused.shown());
    }
    gateway.send(&[event("u-1")]).logged(1);
    assert_eq!(gateway.usage("m").count(), 2);
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.outcome("shed"), metrics.outcome("unknown"), metrics.copies()), (3, 0, 0));
    gateway.kill();
    gateway.change_launcher(&[]);
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 2);
}

#[test]
fn a_write_that_the_disk_only_pretends_is_noticed_by_whoever_reads_it() {
    let mut gateway = stopped();
    let segment = first_segment(&gateway);
    // All of a small write, and nothing of it: what a disk does that lies.
    inject(&mut gateway, &segment, "pwrite64:retval=48:when=3");
    gateway.restart();
    gateway.try_send(&[event("u-0")]).expect("an answer").logged(1);
    // The reader may be faster than the answer.
    drop(gateway.try_send(&[event("u-1")]));
    let ended = gateway.wait_for_end();
    ended.because(&[&segment, "damaged at byte", "the materializer ended unasked"]);
    gateway.change_launcher(&[]);
    gateway.start_in_vain().because(&[&segment, "damaged at byte"]);
}

#[test]
fn rows_that_cannot_be_written_stop_the_process_and_lose_nothing() {
    // Behind the writes and syncs of a start.
    for fault in ["pwrite64:error=EIO:when=200+", "fdatasync:error=EIO:when=20+"] {
        let mut gateway = stopped();
        let store = gateway.data_dir().join("store.redb").display().to_string();
        inject(&mut gateway, &store, fault);
        gateway.change_variable("TOLLGATE_COMMIT_INTERVAL_MS", Some("5"));
        gateway.restart();
        let mut acked = Vec::new();
        // A process that ends hangs up.
        while let Ok(answer) = gateway.try_send(&[event(&format!("u-{}", acked.len()))]) {
            if answer.status != 200 {
                answer.refused(503);
                break;
            }
            acked.push(event(&format!("u-{}", acked.len())));
            assert!(acked.len() < 10_000, "the rows were to fail");
        }
        gateway.wait_for_end().because(&["the materializer ended unasked", "the store failed"]);
        gateway.change_launcher(&[]);
        gateway.restart();
        let found = gateway.usage("m").count();
        assert!((acked.len()..=acked.len() + 1).contains(&found), "{fault}: {found} are there, {} were acked", acked.len());
    }
}

#[test]
fn a_segment_that_cannot_be_closed_or_begun_acks_nobody_and_loses_nothing() {
    let mut gateway = Setup::with("[log]\nsegment_bytes = 1_048_576").start();
    gateway.stop();
    let dir = gateway.data_dir().join("log").display().to_string();
    // The directory is synced when the first segment is made, when it is closed, when the second one is made.
    for (when, name) in [(2, "a"), (2, "b"), (3, "c")] {
        inject(&mut gateway, &dir, &format!("fsync:error=EIO:when={when}"));
        gateway.restart();
        let before = gateway.usage("m").count();
        let mut acked = 0;
        loop {
            let answer = gateway.send(&[wide_event(&format!("{name}-{acked}"))]);
            if answer.status != 200 {
                answer.refused(503);
                break;
            }
            acked += 1;
            assert!(acked < 100, "a sync was to fail");
        }
        assert!(acked >= 17, "the first segment was full: {acked}");
        gateway.kill();
        gateway.change_launcher(&[]);
        gateway.restart();
        assert_eq!(gateway.usage("m").count(), before + acked, "nothing was written to a segment that may not be there");
        gateway.stop();
    }
}
