//! Promise 10 under load: whoever floods waits behind itself, what is refused is told when to come back, what is acked is
//! durable, and memory stays what it is.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Gateway, MadeKey, Metrics, Setup, event, wait_for, wire};

/// Room for 10 bodies of 40,000 bytes, and for no larger one than twice that.
const CRAMPED: &str = "[ingest]\nbody_bytes_max = 80_000\ninflated_bytes_max = 80_000\nin_flight_bytes_max = 400_000\nroom_wait = '50s'\n\
     [http]\nbody_idle_timeout = '60s'\nbody_timeout = '60s'";

/// A request of a key that holds room until its last byte comes, or waits for it.
fn half_a_request(gateway: &Gateway, key: &MadeKey, bytes: usize) -> wire::Wire {
    let head = format!("POST /ingest HTTP/1.1\r\nHost: tollgate\r\nX-API-KEY: {}\r\nContent-Length: {bytes}\r\n\r\n", key.text);
    let mut wire = gateway.connect();
    wire.write([head.as_bytes(), " ".repeat(bytes / 2).as_bytes()].concat());
    wire
}

fn in_flight(gateway: &Gateway) -> f64 {
    gateway.metrics().total("tollgate_in_flight_bytes", &[("room", "ingest")])
}

fn waiting(gateway: &Gateway) -> f64 {
    gateway.metrics().total("tollgate_room_waiting_requests", &[("room", "ingest")])
}

#[test]
fn a_light_key_gets_through_beside_one_that_floods() {
    let gateway = Setup::with(CRAMPED).start();
    let (flood, light) = (gateway.make_key("default", &["ingest"]), gateway.make_key("default", &["ingest"]));
    let flooding: Vec<_> = (0..60).map(|_| half_a_request(&gateway, &flood, 40_000)).collect();
    wait_for("the flood to wait for itself", || (waiting(&gateway) == 53.0).then_some(()));
    assert_eq!(in_flight(&gateway), 280_000.0, "as many whole bodies as fit into three quarters of the room");

    let client = gateway.with(&light);
    for at in 0..30 {
        client.send(&[event(&format!("u-{at}"))]).logged(1);
    }
    assert_eq!(waiting(&gateway), 53.0, "none of the flood was served in between");
    let metrics = gateway.metrics();
    assert_eq!(metrics.total("tollgate_room_refused_total", &[]), 0.0);
    assert!(metrics.total("tollgate_room_wait_seconds_count", &[("room", "ingest")]) >= 30.0, "the light key joined the line, too");

    // Those that hang up give back what they hold, and their places.
    drop(flooding);
    wait_for("the room to be given back", || (in_flight(&gateway) == 0.0 && waiting(&gateway) == 0.0).then_some(()));
    assert_eq!(gateway.usage("m").count(), 30);
}

#[test]
fn a_flood_of_events_does_not_keep_anybody_from_asking() {
    let gateway = Setup::with(CRAMPED).start();
    gateway.send(&[event("u-1")]).logged(1);
    let keys: Vec<_> = (0..5).map(|_| gateway.make_key("default", &["ingest"])).collect();
    let _flooding: Vec<_> = keys.iter().map(|key| half_a_request(&gateway, key, 80_000)).collect();
    wait_for("all room to be taken", || (in_flight(&gateway) == 400_000.0).then_some(()));
    let mut waiting_for_room = gateway.connect();
    waiting_for_room.write(wire::ingest(&[], event("u-2").json()));
    wait_for("somebody to wait", || (waiting(&gateway) == 1.0).then_some(()));
    assert_eq!(gateway.usage("m").count(), 1, "with the key that waits");
    assert_eq!(gateway.get("/v1/keys").status, 200);
}

/// Highest resident memory that the process has had, in bytes.
fn peak_resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.process_id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
}

#[test]
fn bodies_that_blow_up_in_the_parser_are_refused_and_take_no_more_memory_than_others() {
    let gateway = Gateway::start();
    let nothing_but_commas = format!("[{}1]", "1,".repeat(4_000_000));
    let beyond_f64 = format!("[{}1e400]", "1,".repeat(4_000_000));
    let inside_of_an_event = format!("[{{\"uniqueId\":\"u\",\"x\":[{}1]}}]", "1,".repeat(4_000_000));
    let before = peak_resident(&gateway);
    std::thread::scope(|threads| {
        for body in [&nothing_but_commas, &beyond_f64, &inside_of_an_event] {
            for _ in 0..3 {
                let client = &*gateway;
                threads.spawn(move || {
                    let answer = client.post("/ingest", &[], body).refused(413);
                    assert!(answer.text().contains("the body has more than 1280000 values, the limit"), "{}", answer.text());
                });
            }
        }
    });
    // The budget is 64 MiB. Taken apart, one of these bodies alone is more than 100 MiB.
    let grown = peak_resident(&gateway) - before;
    assert!(grown < 160 << 20, "{} MiB more", grown >> 20);
    // As many values as events can have are no reason to refuse anything.
    let wide = event("u-1").raw("x", &format!("[{}1]", "1,".repeat(20_000)));
    gateway.send(&[wide, event("u-2").raw("text", &format!("\"{}\"", ",".repeat(60_000)))]).logged(2);
}

/// A gateway whose disk takes a while for each sync of the log: it can do as much a second as there is room, whatever the machine
/// is busy with.
fn on_a_slow_disk(settings: &str, sync: Duration) -> Gateway {
    let mut gateway = Setup::with(settings).start();
    gateway.stop();
    let (log, slow) = (gateway.file("log/00000000000000000000.seg"), format!("inject=fdatasync:delay_exit={}", sync.as_micros()));
    let log = log.display().to_string();
    gateway.change_launcher(&["strace", "-D", "-f", "-qqq", "-o", "/dev/null", "-P", &log, "-e", "trace=fdatasync", "-e", &slow]);
    gateway.restart();
    gateway
}

#[test]
fn room_is_held_until_the_events_are_durable_also_when_their_sender_has_hung_up() {
    let gateway = on_a_slow_disk("", Duration::from_secs(1));
    let (mut sent, mut seen) = (0, 0);
    while seen < 3 {
        sent += 1;
        let mut wire = gateway.connect();
        wire.write(wire::ingest(&[], event(&format!("u-{sent}")).json()));
        let is_held = wait_for("the request to be with the log", || {
            let (is_held, is_durable) = held_and_durable(&gateway, sent);
            (is_held || is_durable).then_some(is_held && !is_durable)
        });
        drop(wire);
        wait_for("the event to be durable", || {
            let (is_held, is_durable) = held_and_durable(&gateway, sent);
            assert!(is_held || is_durable, "its bytes are in memory still");
            is_durable.then_some(())
        });
        // A machine that had no time for us for as long as the disk took has shown nothing: once more.
        seen += u32::from(is_held);
        assert!(sent <= 50, "it was seen {seen} times in {sent} that an event was with the log");
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.outcome("unknown") + metrics.outcome("shed"), 0);
    wait_for("all room to be given back", || (in_flight(&gateway) == 0.0).then_some(()));
}

/// Whether room is held, and whether so many events are durable. What is held is looked at first, and given back last.
fn held_and_durable(gateway: &Gateway, events: u64) -> (bool, bool) {
    let metrics = gateway.metrics();
    (metrics.total("tollgate_in_flight_bytes", &[("room", "ingest")]) > 0.0, metrics.outcome("logged") == events)
}

/// Syncs of the log, and the requests that shared them.
#[derive(Debug, Clone, Copy, Default)]
struct Syncs {
    syncs: f64,
    requests: f64,
}

impl Syncs {
    fn of(metrics: &Metrics) -> Self {
        let total = |name: &str| metrics.total(name, &[("log", "events")]);
        Self { syncs: total("tollgate_log_group_appends_count"), requests: total("tollgate_log_group_appends_sum") }
    }

    fn since(self, before: Self) -> Self {
        Self { syncs: self.syncs - before.syncs, requests: self.requests - before.requests }
    }

    fn mean(self) -> f64 {
        self.requests / self.syncs.max(1.0)
    }
}

/// What the log did while requests were refused: told apart by looking again and again.
#[derive(Debug, Default)]
struct UnderPressure {
    done: Syncs,
    last: Option<(Syncs, f64)>,
}

impl UnderPressure {
    fn look(&mut self, gateway: &Gateway) {
        let metrics = gateway.metrics();
        let (syncs, refused) = (Syncs::of(&metrics), metrics.total("tollgate_room_refused_total", &[("room", "ingest")]));
        if let Some((before, refused_before)) = self.last.replace((syncs, refused))
            && refused > refused_before
        {
            let Syncs { syncs, requests } = syncs.since(before);
            self.done = Syncs { syncs: self.done.syncs + syncs, requests: self.done.requests + requests };
        }
    }
}

/// `tollgate bench` with a key, and 24 connections with small requests.
fn bench(gateway: &Gateway, key: &MadeKey, arguments: &[&str]) -> Command {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    bench.args(["bench", "--json", "--url", &format!("http://{}", gateway.address()), "--events-per-request", "5", "--connections", "24"]);
    bench.args(arguments).env("TOLLGATE_KEY", &key.text).stdin(Stdio::null()).stdout(Stdio::piped());
    bench
}

/// Asks what became of each of these ids; returns how many are there.
fn found(gateway: &Gateway, ids: &[&str]) -> usize {
    let missing = ids.chunks(10_000).map(|part| {
        let answer = gateway.post("/v1/reconcile", &[("Prefer", "wait=30")], json!({"uniqueIds": part}).to_string());
        assert_eq!(answer.status, 200, "{}", answer.shown());
        answer.json()["missing"].as_array().expect("an array").len()
    });
    ids.len() - missing.sum::<usize>()
}

#[test]
fn three_times_as_much_as_it_can_do_leaves_it_doing_what_it_can_and_everything_acked_is_durable() {
    let settings = "[ingest]\nbody_bytes_max = 16_384\ninflated_bytes_max = 16_384\nin_flight_bytes_max = 65_536\nroom_wait = '400ms'";
    let mut gateway = on_a_slow_disk(settings, Duration::from_millis(60));
    let ledger = gateway.beside("ledger");
    let flood = gateway.make_key("default", &["ingest"]);
    let light = gateway.with(&gateway.make_key("default", &["ingest"]));
    let before = Syncs::of(&gateway.metrics());
    let ran = bench(&gateway, &flood, &["--events", "1000"]).output().expect("the binary runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let in_peace = Syncs::of(&gateway.metrics()).since(before);

    let pid = gateway.process_id().to_string();
    let overload = ["--overload", "3", "--duration", "8", "--clients", "250", "--ledger", &ledger, "--pid", &pid];
    let mut bench = bench(&gateway, &flood, &overload).spawn().expect("the binary runs");

    // Beside the flood, another key sends one event after the other.
    let is_over = AtomicBool::new(false);
    let (output, (sent, watched)) = std::thread::scope(|threads| {
        let lightly = threads.spawn(|| {
            let (mut sent, mut watched) = (0, UnderPressure::default());
            while !is_over.load(Ordering::Relaxed) {
                watched.look(&gateway);
                // On a machine that is busy with others, 400 ms may be over before anybody was looked after.
                let light_one = [event(&format!("light-{sent}"))];
                wait_for("the light key to be taken", || (light.send(&light_one).status == 200).then_some(()));
                sent += 1;
            }
            (sent, watched)
        });
        let status = bench.wait();
        is_over.store(true, Ordering::Relaxed);
        let mut output = String::new();
        std::io::Read::read_to_string(&mut bench.stdout.take().expect("piped"), &mut output).expect("text");
        assert!(status.expect("it ends").success(), "{output}");
        (output, lightly.join().expect("no panic"))
    });
    let report: Value = serde_json::from_str(&output).expect("JSON");
    let figure = |name: &str| report.pointer(name).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {name}: {report}"));

    // How much the disk takes with it in each of its syncs is what there is to lose: how long one takes, and how often the machine lets
    // anybody run, is not the gateway's to decide.
    let under_pressure = watched.done;
    assert!(under_pressure.syncs >= 5.0, "it was watched: {under_pressure:?}");
    assert!(under_pressure.mean() >= 0.6 * in_peace.mean(), "{under_pressure:?}, in peace {in_peace:?}: {report}");
    let errors = report["errors"].as_object().expect("an object");
    let statuses: Vec<_> = errors.keys().filter(|error| error.starts_with("status")).collect();
    assert_eq!(statuses, ["status 503"], "nothing but told to come back: {report}");
    assert!(figure("/events_refused") + figure("/retries") > 0.0, "it was too much: {report}");
    assert!(figure("/refused_ms_max") < 10_000.0, "{report}");
    let (first, last) = (figure("/resident/quarters/0"), figure("/resident/quarters/3"));
    assert!(last < first * 1.2 + 16e6, "memory does not grow: {report}");
    assert!(sent >= 5, "the light key sent {sent} events");

    let acked = std::fs::read_to_string(&ledger).expect("a ledger");
    let mut acked: Vec<&str> = acked.lines().collect();
    let light_ids: Vec<_> = (0..sent).map(|at| format!("light-{at}")).collect();
    acked.extend(light_ids.iter().map(String::as_str));
    assert!(acked.len() as f64 >= figure("/events_acked"));
    let metrics = gateway.settled_metrics();
    assert!(metrics.outcome("logged") >= acked.len() as u64);
    gateway.kill();
    gateway.change_launcher(&[]);
    gateway.restart();
    assert_eq!(found(&gateway, &acked), acked.len(), "of those acked");
}

/// The rank of each thread of a process, with its name: 0 as a rule, more for those that others go before.
fn ranks(gateway: &Gateway) -> Vec<(String, i32)> {
    let threads = std::fs::read_dir(format!("/proc/{}/task", gateway.process_id())).expect("it runs");
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
    let rank = |stat: String| {
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        // The 19th field of all; the name is the second.
        Some((name.to_owned(), rest.split_whitespace().nth(16)?.parse().ok()?))
    };
    stats.filter_map(rank).collect()
}

#[test]
fn who_takes_events_in_stands_back_behind_those_who_fold_them() {
    let gateway = Gateway::start();
    gateway.send(&[event("u-1")]).logged(1);
    assert_eq!(gateway.usage("m").count(), 1, "a query runs in a thread that the runtime makes when it needs one");
    let ranks = ranks(&gateway);
    let of_main = ranks.iter().find(|(name, _)| name == "tollgate").expect("the first thread").1;
    for (name, rank) in &ranks {
        assert_eq!(*rank, of_main + if name == "http" { 5 } else { 0 }, "{name}: {ranks:?}");
    }
    for stage in ["append-events", "materializer", "commit", "index-write", "index-merge"] {
        assert!(ranks.iter().any(|(name, _)| name == stage), "{stage}: {ranks:?}");
    }
}
