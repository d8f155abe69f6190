//! Promises 2 and 5 under a wall clock that steps: `libfaketime` moves the real binary's, and leaves the monotonic one alone.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use tollgate::clock::Clock;

use crate::harness::{Gateway, Setup, event, wait_for};

/// The library that moves a process's clock, as the dynamic linker finds it.
fn library() -> String {
    let shown = Command::new("faketime").args(["-f", "+0", "sh", "-c", "echo $LD_PRELOAD"]).output().expect("faketime is installed");
    String::from_utf8(shown.stdout).expect("a path").trim().to_owned()
}

/// A gateway whose clock a file sets.
struct Clocked {
    gateway: Gateway,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Clocked {
    fn start(settings: &str, offset: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("offset");
        std::fs::write(&file, offset).expect("written");
        let setup = Setup::with(settings)
            .variable("LD_PRELOAD", &library())
            .variable("FAKETIME_TIMESTAMP_FILE", &file.display().to_string())
            .variable("FAKETIME_NO_CACHE", "1")
            .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        Self { gateway: setup.start(), file, _dir: dir }
    }

    /// Steps the clock to so far from the right time, at a moment when nobody reads it: `libfaketime` parses its file without
    /// a lock, and of two threads that read the time at once one reads the right one now and then (1 in 1,000 here).
    fn step(&self, offset: &str) {
        self.gateway.settled_metrics();
        self.step_at_any_moment(offset);
    }

    /// Steps the clock whole: no process sees half of the file.
    fn step_at_any_moment(&self, offset: &str) {
        let next = self.file.with_extension("next");
        std::fs::write(&next, offset).expect("written");
        std::fs::rename(next, &self.file).expect("in place");
    }
}

const HORIZON: &str = "[log]\ndedup_horizon = '2h'\n[ingest]\nmax_event_future = '1d'";

#[test]
fn while_the_clock_has_jumped_ahead_events_are_refused_and_nothing_expires() {
    let clocked = Clocked::start(HORIZON, "+0");
    let gateway = &clocked.gateway;
    gateway.send(&[event("u-1")]).logged(1);
    clocked.step("+3h");
    let refused = gateway.send(&[event("u-1"), event("u-2")]).refused(503);
    assert!(refused.text().contains("clock"), "{}", refused.shown());
    assert_eq!(gateway.usage("m").count(), 1);
    clocked.step("+0");
    // The log time did not move: u-1 is still known.
    gateway.send(&[event("u-1"), event("u-2")]).logged(2);
    assert_eq!(gateway.usage("m").count(), 2);
    assert_eq!(gateway.settled_metrics().copies(), 1);
}

#[test]
fn an_id_is_free_again_exactly_behind_the_horizon() {
    let clocked = Clocked::start("[log]\ndedup_horizon = '30m'", "+0");
    let gateway = &clocked.gateway;
    // A minute more than what the steps leave: the time that the test itself takes does not matter.
    for (offset, counted) in [("+0", 1), ("+29m", 1), ("+31m", 2), ("+32m", 2), ("+59m", 2), ("+0", 2)] {
        clocked.step(offset);
        gateway.send(&[event("u-1")]).logged(1);
        assert_eq!(gateway.usage("m").count(), counted, "at {offset}");
    }
}

#[test]
fn while_the_clock_is_behind_events_are_taken_and_each_counts_once() {
    let mut clocked = Clocked::start(HORIZON, "+0");
    clocked.gateway.send(&[event("u-1")]).logged(1);
    for (at, offset) in ["-3h", "+0", "-90m", "-30d", "+30m", "+0"].into_iter().enumerate() {
        clocked.step(offset);
        clocked.gateway.send(&[event("u-1"), event(&format!("new-{at}")), event(&format!("new-{at}"))]).logged(3);
        assert_eq!(clocked.gateway.usage("m").count(), 2 + at, "at {offset}");
        if at == 3 {
            clocked.gateway.settled_metrics();
            // The clock that the process sees is the one that was set: the present is a month away.
            clocked.gateway.send(&[event("now").at(Clock::start().now().0)]).refused(400);
        }
    }
    clocked.gateway.kill_and_restart();
    clocked.gateway.send(&[event("u-1"), event("new-5")]).logged(2);
    assert_eq!(clocked.gateway.usage("m").count(), 7);
}

#[test]
fn a_process_that_started_with_a_slow_clock_goes_on_after_a_restart_with_the_right_one() {
    let mut clocked = Clocked::start(HORIZON, "-3h");
    clocked.gateway.send(&[event("u-1")]).logged(1);
    clocked.step("+0");
    // From where this process stands, the right time is three hours ahead.
    clocked.gateway.send(&[event("u-2")]).refused(503);
    clocked.gateway.stop_and_restart();
    clocked.gateway.send(&[event("u-2")]).logged(1);
    assert_eq!(clocked.gateway.usage("m").count(), 2);
    // By the log's time, u-1 is three hours old: its id is free again, as the rule says.
    clocked.gateway.send(&[event("u-1"), event("u-2")]).logged(2);
    assert_eq!(clocked.gateway.usage("m").count(), 3);
}

#[test]
fn events_that_come_while_the_clock_steps_are_neither_lost_nor_doubled() {
    let clocked = Clocked::start(HORIZON, "+0");
    let gateway = &clocked.gateway;
    // From here on the log's time is right; before, a first event might have come while the clock was days behind.
    gateway.send(&[event("u-0")]).logged(1);
    let refused = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        let sender = threads.spawn(|| {
            for at in 0..300 {
                let events = [event(&format!("u-{at}")), event(&format!("u-{}", at / 2))];
                wait_for("an answer", || match gateway.send(&events).status {
                    200 => Some(()),
                    _ => {
                        refused.fetch_add(1, Ordering::Relaxed);
                        None
                    }
                });
            }
        });
        let mut offsets = ["+3h", "+0", "-3h", "-1h", "+2h", "-2d", "+0"].into_iter().cycle();
        while !sender.is_finished() {
            clocked.step_at_any_moment(offsets.next().expect("endless"));
            gateway.get("/healthz");
        }
        clocked.step_at_any_moment("+0");
    });
    assert!(refused.into_inner() > 0, "some came while it was too far ahead");
    assert_eq!(gateway.usage("m").count(), 300);
    gateway.send(&[event("u-0"), event("u-299")]).logged(2);
    assert_eq!(gateway.usage("m").count(), 300);
}
