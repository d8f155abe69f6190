//! As many connections as there may be, and more than there are descriptors for.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use super::frames::pause;
use super::{cpu_ticks, memory_kib};
use crate::harness::{Gateway, Setup, event, wait_for, wire};

/// The limit of connections, as it is by default.
const CONNECTIONS_MAX: usize = 10_000;
/// Memory that an idle connection may take, in KiB: that of a first head, buffers of hyper, its task and its timer.
const IDLE_KIB_MAX: u64 = 40;

/// How many connections this process can have open, beside what other tests have. On both sides of each one is a descriptor.
fn connections_to_be_had() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current < maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the maximum, anybody may");
    }
    let limit = usize::try_from(maximum.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    CONNECTIONS_MAX.min(limit.saturating_sub(2_000))
}

fn seconds(requests: usize, wire: &mut wire::Wire, name: &str) -> f64 {
    let mut taken: Vec<_> = (0..requests)
        .map(|at| {
            let started = Instant::now();
            wire.write(wire::ingest(&[], event(&format!("{name} {at}")).json()));
            wire.answer().logged(1);
            started.elapsed().as_secs_f64()
        })
        .collect();
    taken.sort_by(f64::total_cmp);
    taken[requests / 2]
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_one_more_is_closed() {
    let connections = connections_to_be_had();
    assert!(connections >= 1_000, "`ulimit -Hn` leaves room for {connections} connections only");
    let limits = format!("connections_max = {connections}\nheader_timeout = '60s'");
    let gateway = Setup::with(&format!("[http]\n{limits}")).ops_listener().start();
    let mut working = gateway.connect();
    let alone = seconds(200, &mut working, "alone");
    let (before, _) = memory_kib(gateway.pid());
    let mut idle = Vec::new();
    while idle.len() + 1 < connections {
        // Half of them have been of use once.
        let mut wire = gateway.connect();
        if idle.len() % 2 == 0 {
            wire.write(REQUEST);
            wire.answer();
        }
        idle.push(wire);
    }
    wait_for("all of them to be open", || (open(&gateway) >= connections as f64).then_some(()));
    let (after, _) = memory_kib(gateway.pid());
    let each = (after.saturating_sub(before)) as f64 / connections as f64;
    let beside = seconds(200, &mut working, "beside");
    println!(
        "{connections} idle connections: {each:.1} KiB each; median of a request {:.2} ms alone, {:.2} ms beside them",
        alone * 1e3,
        beside * 1e3
    );
    assert!(each <= IDLE_KIB_MAX as f64, "{each} KiB each");
    // Far more than what load on the machine makes of it, far less than what work for each connection would.
    assert!(beside <= alone * 20.0, "{beside} s instead of {alone} s");
    for _ in 0..3 {
        let mut one_too_many = gateway.connect();
        one_too_many.write(REQUEST);
        one_too_many.expect_end();
    }
    drop(idle);
    wait_for("all of them to be gone", || (open(&gateway) <= 2.0).then_some(()));
}

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: tollgate\r\n\r\n";

fn open(gateway: &Gateway) -> f64 {
    gateway.metrics().total("tollgate_http_connections", &[])
}

#[test]
fn idle_connections_are_let_go_while_others_work() {
    let gateway = Setup::with("[http]\nidle_timeout = '1s'\nheader_timeout = '1s'").ops_listener().start();
    let mut idle: Vec<_> = (0..1_000).map(|_| gateway.connect()).collect();
    for wire in idle.iter_mut().step_by(2) {
        wire.write(REQUEST);
    }
    let mut working = gateway.connect();
    wait_for("all of them to be let go", || {
        seconds(1, &mut working, "meanwhile");
        (open(&gateway) <= 2.0).then_some(())
    });
    for (at, wire) in idle.iter_mut().enumerate() {
        let answered = wire.next_answer().map(|answer| answer.status);
        // Health has its own address here, so it is a stranger's request.
        assert_eq!(answered, (at % 2 == 0).then_some(401));
        wire.expect_end();
    }
}

fn set_open_files(gateway: &Gateway, limit: Option<u64>) -> Option<u64> {
    let pid = Pid::from_raw(gateway.pid() as i32).expect("a process");
    let maximum = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).expect("it runs");
    let maximum = maximum.lines().find(|line| line.starts_with("Max open files")).expect("a line of it");
    let maximum = maximum.split_whitespace().nth(4).expect("a column").parse().ok();
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: limit, maximum }).expect("it is ours").current
}

#[test]
fn without_descriptors_nobody_is_accepted_nothing_spins_and_it_recovers() {
    let gateway = Setup::default().ops_listener().start();
    let mut working = gateway.connect();
    seconds(1, &mut working, "before");
    // Files that are opened when they are needed first are open then: what is missing is for connections.
    gateway.settled_metrics();
    let open_files = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).expect("it runs").count() as u64;
    let usual = set_open_files(&gateway, Some(open_files));
    let mut waiting: Vec<_> = (0..50).map(|at| (at, gateway.connect())).collect();
    for (at, wire) in &mut waiting {
        wire.write(wire::ingest(&[], event(&format!("waited {at}")).json()));
    }
    wait_for("the failure to be noticed", || gateway.stderr().contains("no connection can be accepted").then_some(()));
    let (ticks, started) = (cpu_ticks(gateway.pid()), Instant::now());
    // Who is in is served all the while.
    while started.elapsed() < Duration::from_secs(1) {
        pause(Duration::from_millis(200));
        seconds(1, &mut working, &format!("{:?}", started.elapsed()));
    }
    let busy = (cpu_ticks(gateway.pid()) - ticks) as f64 / 100.0 / started.elapsed().as_secs_f64();
    println!("without descriptors: {:.0} % of a core", busy * 100.0);
    assert!(busy < 0.5, "{busy} of a core");
    assert_eq!(gateway.stderr().matches("no connection can be accepted").count(), 1, "said once");

    set_open_files(&gateway, usual);
    for (_, wire) in &mut waiting {
        wire.answer().logged(1);
    }
    assert!(gateway.stderr().contains("connections are accepted again"));
}

#[test]
fn a_limit_of_open_files_that_is_too_low_is_said_and_kept_away_from_the_data() {
    let mut gateway = Gateway::start();
    gateway.stop();
    gateway.change_launcher(&["sh", "-c", "ulimit -n 200; exec \"$0\" \"$@\""]);
    gateway.restart();
    assert!(gateway.stderr().contains("fewer connections than set are taken"), "{}", gateway.stderr());
    gateway.send(&[event("u-1")]).logged(1);
    // More than there are descriptors: some get in, the others are told at once, and events go on.
    let crowd: Vec<_> = (0..300).map(|_| TcpStream::connect(gateway.address()).expect("it listens")).collect();
    gateway.send(&[event("u-2")]).logged(1);
    assert!(!gateway.stderr().contains("no connection can be accepted"), "{}", gateway.stderr());
    drop(crowd);
    gateway.send(&[event("u-3")]).logged(1);
    assert_eq!(gateway.usage("m").count(), 3);
}
