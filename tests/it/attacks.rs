//! The protocol under attack: requests that can be read in two ways, clients that are slow on purpose, floods of frames and headers,
//! and keys that must not be seen. Memory and service of the others are looked at through all of it.

mod frames;
mod http2;
mod idle;
mod keys;
mod logs;
mod slow;
mod smuggling;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Gateway, event, wait_for, wire};

/// Kibibytes of memory that a process has now, and the most that it had since [`forget_peak`].
fn memory_kib(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line of it");
        value.trim().trim_end_matches(" kB").parse().expect("kibibytes")
    };
    (line("VmRSS:"), line("VmHWM:"))
}

fn forget_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("it is ours");
}

/// CPU time of a process so far, in hundredths of a second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, rest) = stat.rsplit_once(") ").expect("behind the name");
    let fields: Vec<_> = rest.split(' ').collect();
    fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum()
}

/// Runs an attack while somebody else sends events on a connection of its own, each of which must be taken. What the process has
/// in memory must at no time have grown by more than this. Says what it was.
#[track_caller]
fn while_others_are_served<T>(gateway: &Gateway, attack: &str, grows_mib_max: u64, run: impl FnOnce() -> T + Send) -> T
where
    T: Send,
{
    let pid = gateway.pid();
    let mut others = gateway.connect();
    let mut send = |at: usize| {
        others.write(wire::ingest(&[], event(&format!("{attack} {at}")).json()));
        others.answer().logged(1);
    };
    send(0);
    forget_peak(pid);
    let (before, _) = memory_kib(pid);
    let cpu_before = cpu_ticks(pid);
    let is_over = AtomicBool::new(false);
    let (result, sent) = std::thread::scope(|threads| {
        let attacking = threads.spawn(|| {
            let result = run();
            is_over.store(true, Ordering::Release);
            result
        });
        let mut sent = 0;
        while !is_over.load(Ordering::Acquire) && !attacking.is_finished() || sent < 20 {
            sent += 1;
            send(sent);
        }
        (attacking.join(), sent)
    });
    let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let (after, peak) = memory_kib(pid);
    let cpu_ms = (cpu_ticks(pid) - cpu_before) * 10;
    println!(
        "{attack}: peak {:.1} MiB over {:.1} MiB before, {:.1} MiB after, {cpu_ms} ms of CPU; others sent {sent} requests meanwhile",
        (peak.saturating_sub(before)) as f64 / 1024.0,
        before as f64 / 1024.0,
        after as f64 / 1024.0
    );
    assert!(peak.saturating_sub(before) <= grows_mib_max * 1024, "{attack}: grew from {before} to {peak} KiB");
    result
}

/// Waits until no more connections than these are open, that of whoever asks among them.
#[track_caller]
fn wait_until_connections_are_gone(gateway: &Gateway, but: f64) {
    wait_for("connections to be let go", || {
        let open = gateway.metrics().total("tollgate_http_connections", &[]);
        (open <= but).then_some(())
    });
}
