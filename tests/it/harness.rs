//! Tollgate as the tests see it: a process with an address and a data directory, and what it answers.
//!
//! A test says `let gateway = Gateway::start()` and speaks of events, usage and verdicts from there on. The process is the
//! real binary, killed when the [`Gateway`] goes. Everything that depends on which log and which store are tested is behind
//! [`start`].

mod answer;
pub(crate) mod api;
mod command;
mod decimal;
mod event;
pub(crate) mod kafka;
mod keys;
mod metrics;
pub(crate) mod provider;
mod random;
mod shared;
mod usage;
pub(crate) mod wire;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use tempfile::TempDir;

pub(crate) use answer::Answer;
pub(crate) use command::{Ran, contents, flip};
pub(crate) use decimal::Decimal;
pub(crate) use event::{Event, batch, event, event_without_id, wide_event};
pub(crate) use keys::MadeKey;
pub(crate) use metrics::Metrics;
pub(crate) use random::Random;
pub(crate) use shared::Shared;
pub(crate) use usage::Question;

/// How long anything may take before a test gives up. Far beyond what it takes on a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
/// The key that every process is started with.
pub(crate) const ADMIN_KEY: &str = "key-of-the-tests";
/// 2026-01-01T00:00:00Z. Events lie in the days after it unless a test says otherwise.
pub(crate) const DAY_0_S: i64 = 1_767_225_600;
/// The same in milliseconds.
pub(crate) const DAY_0_MS: i64 = DAY_0_S * 1_000;
/// Settings: every copy goes to the log.
pub(crate) const NO_RECENT_IDS: &str = "[recent_ids]\nbytes_max = 0\n";
pub(crate) const HOUR_S: i64 = 3_600;
pub(crate) const DAY_S: i64 = 86_400;

/// Asks until there is something, and returns it: the one place where a test waits.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Passes standard input on as the first of the sockets that systemd passes.
const LIKE_SYSTEMD: &str = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=tollgate.socket exec \"$@\"";

/// The log and the store that are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pair {
    /// Both in the data directory.
    Embedded,
    /// A topic of a real Kafka, a database of a real PostgreSQL.
    Cluster,
}

impl Pair {
    /// The pair that this run of the suite is about: `TOLLGATE_TEST_PAIR`, `embedded` or `cluster`.
    pub(crate) fn of_this_run() -> Self {
        match std::env::var("TOLLGATE_TEST_PAIR").as_deref() {
            Err(_) | Ok("embedded") => Self::Embedded,
            Ok("cluster") => Self::Cluster,
            Ok(other) => panic!("TOLLGATE_TEST_PAIR is {other}, and not embedded or cluster"),
        }
    }
}

/// How a process is started. The default: with the defaults.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    settings: String,
    arguments: Vec<String>,
    has_ops_listener: bool,
    is_tls: bool,
    file_bytes_max: Option<u64>,
    environment: Vec<(String, String)>,
    /// What starts the process in its place: a program and its arguments.
    launcher: Vec<String>,
    /// Passed to the process as systemd does it.
    socket: Option<Arc<TcpListener>>,
    /// What it has in common with other nodes.
    shared: Option<Arc<Shared>>,
}

impl Setup {
    /// Settings as they stand in the TOML file.
    pub(crate) fn with(settings: &str) -> Self {
        Self { settings: settings.into(), ..Self::default() }
    }

    /// Health and metrics on an address of their own.
    pub(crate) fn ops_listener(mut self) -> Self {
        self.has_ops_listener = true;
        self
    }

    /// TLS on the main address. The harness asks for health and metrics in the clear, so they move to their own address.
    pub(crate) fn tls(mut self, cert: &Path, key: &Path) -> Self {
        self.is_tls = true;
        for (flag, path) in [("--tls-cert", cert), ("--tls-key", key)] {
            self.arguments.extend([flag.to_owned(), path.display().to_string()]);
        }
        self.ops_listener()
    }

    /// Lets writes past this size of a file fail: a disk that begins to fail while the process runs.
    pub(crate) fn file_bytes_max(mut self, bytes: u64) -> Self {
        self.file_bytes_max = Some(bytes);
        self
    }

    /// A flag of `tollgate serve`, or several.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// A listening socket that is passed to each process, as systemd does it.
    pub(crate) fn socket(mut self, socket: TcpListener) -> Self {
        self.socket = Some(Arc::new(socket));
        self
    }

    /// A node beside others: log and rows are these.
    pub(crate) fn node_of(mut self, shared: &Arc<Shared>) -> Self {
        self.shared = Some(shared.clone());
        self
    }

    /// A variable of its environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts it on a fresh data directory, on the pair of this run, unless it is a node beside others.
    pub(crate) fn start(self) -> Gateway {
        let pair = if self.shared.is_some() { Pair::Cluster } else { Pair::of_this_run() };
        start(pair, self)
    }
}

impl Setup {
    /// Starts a process that need not get ready, and returns when it can be asked for its health, on an address of its own.
    pub(crate) fn start_unready(mut self) -> Gateway {
        self.has_ops_listener = true;
        let client = Client::of(SocketAddr::from(([127, 0, 0, 1], 0)), None);
        let dir = tempfile::tempdir().expect("a directory");
        let mut gateway = Gateway { setup: self, dir, starts: 0, process: None, address: None, client };
        gateway.spawn();
        let ops = wait_for("the operator's address", || ops_address(&gateway.stderr()));
        gateway.client = Client::of(ops, Some(ops));
        gateway
    }
}

/// Starts a gateway with everything that it needs, on a fresh data directory. Returns when it is ready.
pub(crate) fn start(pair: Pair, mut setup: Setup) -> Gateway {
    let dir = tempfile::tempdir().expect("a directory");
    if pair == Pair::Cluster && setup.shared.is_none() {
        setup.shared = Some(Shared::of_one_partition());
    }
    let client = Client::of(SocketAddr::from(([127, 0, 0, 1], 0)), None);
    let mut gateway = Gateway { setup, dir, starts: 0, process: None, address: None, client };
    gateway.restart();
    gateway
}

/// One `tollgate serve` after another on one data directory; at most one at a time.
pub(crate) struct Gateway {
    setup: Setup,
    dir: TempDir,
    starts: usize,
    process: Option<Process>,
    address: Option<SocketAddr>,
    client: Client,
}

/// A process; gone with its value, whatever became of the test.
struct Process(Child);

impl Process {
    fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it has ended.
    #[track_caller]
    fn end(&mut self) -> Option<i32> {
        wait_for("the process to end", || self.0.try_wait().expect("a child")).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[track_caller]
fn signal(process: &Process, name: &str) {
    let signal = format!("kill -{name} {}", process.id());
    assert!(Command::new("sh").args(["-c", &signal]).status().expect("a shell").success(), "the process is there");
}

/// A process that ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// What it said.
    pub(crate) stderr: String,
}

impl Ended {
    /// Checks that it was refused to start, or stopped, for a reason that names these things.
    #[track_caller]
    pub(crate) fn because(self, words: &[&str]) -> String {
        assert_eq!(self.code, Some(1), "the exit code of a process that cannot go on; it said: {}", self.stderr);
        // What comes after the log lines, which are dated.
        let reason = self.stderr.find("tollgate: ").map(|at| &self.stderr[at..]).unwrap_or_else(|| panic!("no reason: {}", self.stderr));
        for word in words {
            assert!(reason.contains(word), "`{word}` is not in: {reason}");
        }
        reason.to_owned()
    }
}

impl Gateway {
    /// A gateway with the default settings.
    pub(crate) fn start() -> Self {
        Setup::default().start()
    }

    /// Starts a process on the data directory and returns when it is ready.
    pub(crate) fn restart(&mut self) {
        if let Err(ended) = self.try_restart() {
            panic!("it ended with {:?} before it was ready; the process said: {}", ended.code, ended.stderr);
        }
    }

    /// As [`Gateway::restart`], where the process may end before it is ready.
    pub(crate) fn try_restart(&mut self) -> Result<(), Ended> {
        let announced = self.spawn();
        self.wait_until_ready(&announced)
    }

    /// Starts a process that takes the place of the one that runs. Returns when that one has ended, in good order, and the new one
    /// is ready.
    #[track_caller]
    pub(crate) fn take_over(&mut self) {
        self.hang_up();
        if !self.setup.arguments.iter().any(|known| known == "--take-over") {
            self.setup.arguments.push("--take-over".into());
        }
        let (mut old, old_stderr) = (self.process.take().expect("a process runs"), self.stderr_path());
        let announced = self.spawn();
        let code = old.end();
        let said = std::fs::read_to_string(old_stderr).expect("text");
        assert_eq!(code, Some(0), "the one before said: {said}");
        if let Err(ended) = self.wait_until_ready(&announced) {
            panic!("it ended with {:?} before it was ready; the process said: {}", ended.code, ended.stderr);
        }
    }

    fn wait_until_ready(&mut self, announced: &Receiver<SocketAddr>) -> Result<(), Ended> {
        let Ok(address) = announced.recv_timeout(DEADLINE) else { return Err(self.wait_for_end()) };
        let ops = self.setup.has_ops_listener.then(|| wait_for("the operator's address", || ops_address(&self.stderr())));
        self.address = Some(address);
        self.client = Client::of(address, ops);
        let process = self.process.as_mut().expect("it was just started");
        let is_ready = wait_for("/readyz", || {
            let has_ended = process.0.try_wait().expect("a child").is_some();
            let is_ready = self.client.try_get("/readyz").is_ok_and(|answer| answer.status == 200);
            (has_ended || is_ready).then_some(is_ready)
        });
        if is_ready { Ok(()) } else { Err(self.wait_for_end()) }
    }

    /// Starts a process and kills it at some moment of its start, or soon after.
    pub(crate) fn start_and_kill(&mut self, random: &mut Random) {
        self.spawn();
        let mut looks = random.below(50);
        wait_for("the moment", || {
            looks = looks.saturating_sub(1);
            (looks == 0).then_some(())
        });
        self.kill();
    }

    /// Starts a process that is expected to end by itself, and waits until it has.
    pub(crate) fn start_in_vain(&mut self) -> Ended {
        self.start_and_wait_for_end()
    }

    /// Other settings from the next start on.
    pub(crate) fn change_settings(&mut self, settings: &str) {
        self.setup.settings = settings.into();
    }

    /// Further flags from the next start on.
    pub(crate) fn add_flags(&mut self, flags: &[&str]) {
        self.setup.arguments.extend(flags.iter().map(|&flag| flag.to_owned()));
    }

    /// Starts a process that waits for the data directory, stops the one that has it, and returns when the new one is ready.
    #[track_caller]
    pub(crate) fn start_beside_and_stop(&mut self) {
        self.hang_up();
        let mut old = self.process.take().expect("a process runs");
        let announced = self.spawn();
        assert!(announced.recv_timeout(Duration::from_millis(300)).is_err(), "it waits");
        signal(&old, "TERM");
        assert_eq!(old.end(), Some(0), "in good order");
        if let Err(ended) = self.wait_until_ready(&announced) {
            panic!("it ended with {:?} before it was ready; the process said: {}", ended.code, ended.stderr);
        }
    }

    /// A variable of the environment from the next start on; `None`: none of this name.
    pub(crate) fn change_variable(&mut self, name: &str, value: Option<&str>) {
        self.setup.environment.retain(|(known, _)| known != name);
        self.setup.environment.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    /// From the next start on, this program with these arguments starts the process, and must become it.
    pub(crate) fn change_launcher(&mut self, launcher: &[&str]) {
        self.setup.launcher = launcher.iter().map(|&word| word.to_owned()).collect();
    }

    /// From the next start on, writes do not fail any more.
    pub(crate) fn mend_disk(&mut self) {
        self.setup.file_bytes_max = None;
    }

    /// SIGKILL. Returns when the process is gone.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().expect("a process runs");
        process.0.kill().expect("killed");
        process.end();
    }

    /// SIGTERM. Returns when the process has ended, in good order.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let ended = self.stop_somehow();
        assert_eq!(ended.code, Some(0), "it said: {}", ended.stderr);
    }

    /// SIGTERM. Returns when the process has ended, in whatever order.
    #[track_caller]
    pub(crate) fn stop_somehow(&mut self) -> Ended {
        self.hang_up();
        self.signal("TERM");
        self.wait_for_end()
    }

    /// Sends a signal to the process.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        signal(self.process.as_ref().expect("a process runs"), name);
    }

    /// Closes the connections that are kept, for which a process that stops would wait for a while.
    fn hang_up(&mut self) {
        self.client.agent = agent();
    }

    /// Waits until the process has ended by itself, or was killed: without a code then.
    #[track_caller]
    pub(crate) fn wait_for_end(&mut self) -> Ended {
        let code = self.process.take().expect("a process runs").end();
        Ended { code, stderr: self.stderr() }
    }

    /// Starts a process that ends before it is ready, or a moment after, and waits until it has.
    #[track_caller]
    pub(crate) fn start_and_wait_for_end(&mut self) -> Ended {
        self.spawn();
        self.wait_for_end()
    }

    /// Stops in good order, then starts on the same data.
    pub(crate) fn stop_and_restart(&mut self) {
        self.stop();
        self.restart();
    }

    /// Kills, then starts on the same data.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Runs a second process on the same data directory and waits until it has ended.
    pub(crate) fn start_another(&self) -> Ended {
        self.start_another_with(&[])
    }

    /// The same, with flags.
    pub(crate) fn start_another_with(&self, flags: &[&str]) -> Ended {
        let stderr = self.dir.path().join("stderr-of-another");
        let to = File::create(&stderr).expect("created");
        let code = Process(self.command().args(flags).stdout(Stdio::null()).stderr(to).spawn().expect("the binary runs")).end();
        Ended { code, stderr: std::fs::read_to_string(stderr).expect("text") }
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("a process runs").id()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.expect("it was started")
    }

    /// Where health and metrics are served, if that is an address of their own.
    pub(crate) fn ops_address(&self) -> SocketAddr {
        ops_address(&self.stderr()).expect("an address of their own")
    }

    /// Speaks bytes to it.
    pub(crate) fn connect(&self) -> wire::Wire {
        wire::Wire::to(self.address())
    }

    /// The most memory that the process has had so far.
    pub(crate) fn memory_peak_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it is there");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<usize>().ok());
        kib.expect("its peak") << 10
    }

    /// Where log and rows are.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// What the newest process has logged so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.stderr_path()).unwrap_or_default()).into_owned()
    }

    /// Id of the process that runs.
    #[track_caller]
    pub(crate) fn process_id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    fn stderr_path(&self) -> PathBuf {
        self.dir.path().join(format!("stderr-{}", self.starts))
    }

    fn spawn(&mut self) -> Receiver<SocketAddr> {
        assert!(self.process.is_none(), "a process runs already");
        self.starts += 1;
        let settings = self.setup.shared.iter().fold(self.setup.settings.clone(), |settings, shared| settings + &shared.settings());
        std::fs::write(self.dir.path().join("tollgate.toml"), settings).expect("written");
        let stderr = File::create(self.stderr_path()).expect("created");
        let mut process = self.command().stdout(Stdio::piped()).stderr(stderr).spawn().expect("the binary runs");
        let announced = read_announcement(process.stdout.take().expect("piped"));
        self.process = Some(Process(process));
        announced
    }

    fn command(&self) -> Command {
        let binary = env!("CARGO_BIN_EXE_tollgate");
        let mut command = match (self.setup.launcher.split_first(), self.setup.file_bytes_max) {
            (Some((program, arguments)), _) => {
                let mut launched = Command::new(program);
                launched.args(arguments).arg(binary);
                launched
            }
            (None, None) if self.setup.socket.is_some() => {
                let mut shell = Command::new("sh");
                shell.args(["-c", LIKE_SYSTEMD, "sh", binary]);
                shell
            }
            (None, None) => Command::new(binary),
            (None, Some(bytes)) => {
                // Ignored signals stay ignored behind `exec`, so that writes fail instead of ending the process.
                let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
                let mut shell = Command::new("sh");
                shell.args(["-c", &script, binary]);
                shell
            }
        };
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TOLLGATE_")) {
            command.env_remove(name);
        }
        let socket = self.setup.socket.as_ref().map(|socket| OwnedFd::from(socket.try_clone().expect("a file descriptor")));
        if let Some(shared) = &self.setup.shared {
            let node = self.dir.path().file_name().expect("a name").to_string_lossy().into_owned();
            command.envs(shared.environment()).env("TOLLGATE_NODE", node);
        }
        command.env("TOLLGATE_ADMIN_KEY", ADMIN_KEY).stdin(socket.map_or_else(Stdio::null, Stdio::from));
        command.envs(self.setup.environment.iter().map(|(name, value)| (name, value)));
        command.args(["serve", "--listen", "127.0.0.1:0", "--config"]).arg(self.dir.path().join("tollgate.toml"));
        command.arg("--data-dir").arg(self.data_dir());
        if self.setup.has_ops_listener {
            command.args(["--ops-listen", "127.0.0.1:0"]);
        }
        command.args(&self.setup.arguments);
        command
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Before its directory goes.
        drop(self.process.take());
        if std::thread::panicking() {
            let stderr = self.stderr();
            let lines: Vec<_> = stderr.lines().collect();
            println!("the process said last:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

/// A gateway is spoken to like its client.
impl Deref for Gateway {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Reads standard output to its end, so that the process never waits for us; hands over the address.
fn read_announcement(stdout: ChildStdout) -> Receiver<SocketAddr> {
    let (found, announced) = bounded(1);
    std::thread::spawn(move || {
        let mut found = Some(found);
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let address = line.split_once(" listens on ").and_then(|(_, url)| url.split_once("://")?.1.parse().ok());
            if let (Some(address), Some(found)) = (address, found.take_if(|_| address.is_some())) {
                // Nobody waits for it any more if the test is over.
                let _over = found.send(address);
            }
        }
    });
    announced
}

fn ops_address(stderr: &str) -> Option<SocketAddr> {
    let (_, rest) = stderr.split_once("served on an address of their own address=")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Speaks HTTP/1.1 to one process. Clones share their connections.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
    ops_url: String,
    key: Option<String>,
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .proxy(None)
        .timeout_global(Some(DEADLINE))
        .max_idle_connections(64)
        .max_idle_connections_per_host(64)
        .build();
    config.into()
}

impl Client {
    fn of(address: SocketAddr, ops: Option<SocketAddr>) -> Self {
        let url = format!("http://{address}");
        Self { agent: agent(), ops_url: ops.map_or_else(|| url.clone(), |ops| format!("http://{ops}")), url, key: Some(ADMIN_KEY.into()) }
    }

    /// The same with another key, or none.
    pub(crate) fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self.clone() }
    }

    /// Sends events in one request.
    #[track_caller]
    pub(crate) fn send(&self, events: &[Event]) -> Answer {
        self.post("/ingest", &[], batch(events))
    }

    /// The same, where the process may be gone: `Err` if there was no answer.
    pub(crate) fn try_send(&self, events: &[Event]) -> Result<Answer, ureq::Error> {
        self.try_post("/ingest", &[], batch(events).as_bytes())
    }

    /// Sends events with headers.
    #[track_caller]
    pub(crate) fn send_with(&self, headers: &[(&str, &str)], events: &[Event]) -> Answer {
        self.post("/ingest", headers, batch(events))
    }

    /// Posts bytes.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        self.try_post(path, headers, body.as_ref()).expect("an answer")
    }

    /// Posts bytes; `Err` if there was no answer.
    pub(crate) fn try_post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::post(format!("{}{path}", self.url));
        if headers.iter().all(|(name, _)| *name != "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.run(request, body)
    }

    /// Sends a request of any method, to the main address.
    #[track_caller]
    pub(crate) fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.call_with(&[], method, path, body)
    }

    /// The same, with headers.
    #[track_caller]
    pub(crate) fn call_with(&self, headers: &[(&str, &str)], method: &str, path: &str, body: &str) -> Answer {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        request = request.header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answered = if body.is_empty() { self.run(request, ()) } else { self.run(request, body.as_bytes()) };
        answered.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Gets a path. Health and metrics are asked for where they are served.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.try_get(path).expect("an answer")
    }

    /// Gets a path of the main address with headers.
    #[track_caller]
    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = ureq::http::Request::get(format!("{}{path}", self.url));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        self.run(request, ()).expect("an answer")
    }

    fn try_get(&self, path: &str) -> Result<Answer, ureq::Error> {
        let url = if ["/healthz", "/readyz", "/metrics"].contains(&path) { &self.ops_url } else { &self.url };
        self.run(ureq::http::Request::get(format!("{url}{path}")), ())
    }

    /// Gets a path of the main address, whatever the path is.
    #[track_caller]
    pub(crate) fn get_from_main(&self, path: &str) -> Answer {
        self.run(ureq::http::Request::get(format!("{}{path}", self.url)), ()).expect("an answer")
    }

    fn run(&self, mut request: ureq::http::request::Builder, body: impl ureq::AsSendBody) -> Result<Answer, ureq::Error> {
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key);
        }
        let (head, mut body) = self.agent.run(request.body(body)?)?.into_parts();
        let body = body.with_config().limit(64 << 20).read_to_vec()?;
        Ok(Answer::new(head.status.as_u16(), head.headers, body))
    }

    /// Asks for a meter's usage.
    pub(crate) fn usage(&self, meter: &str) -> Question<'_> {
        Question::new(self, meter)
    }

    /// The counters as they stand now.
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::parse(self.get("/metrics").text())
    }

    /// The counters after everything that was acked before has its verdict.
    #[track_caller]
    pub(crate) fn settled_metrics(&self) -> Metrics {
        assert!(self.usage("of no interest").wait_s(30).ask("COUNT").is_complete(), "30 s are enough to fold what a test sends");
        self.metrics()
    }

    /// The dead letters, newest first.
    #[track_caller]
    pub(crate) fn dead_letters(&self) -> Vec<serde_json::Value> {
        let answer = self.get("/v1/dead-letters?limit=1000");
        assert_eq!(answer.status, 200, "{}", answer.shown());
        answer.json()["deadLetters"].as_array().expect("an array").clone()
    }

    /// Deletes what is at a path.
    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.run(ureq::http::Request::delete(format!("{}{path}", self.url)), ()).expect("an answer")
    }
}
