//! A real Kafka: one node of a cluster of one, on free ports, with a directory of its own (`tests/tools/kafka`).
//!
//! [`broker`] is shared by all tests of the process, each with topics of its own; a test that kills or stops one starts its own. A node
//! ends with the process, also when that is killed.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

/// How long a node may take to answer; a machine may have other things to do.
const START: Duration = Duration::from_secs(240);

/// One node.
pub(crate) struct Broker {
    dir: PathBuf,
    port: u16,
    controller_port: u16,
    settings: Vec<String>,
    process: Mutex<Option<Child>>,
}

/// The node that all tests share.
pub(crate) fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(|| Broker::start(&[]))
}

/// A name that no other topic of this process has.
pub(crate) fn topic(what: &str) -> String {
    static MADE: AtomicU32 = AtomicU32::new(0);
    format!("{what}-{}", MADE.fetch_add(1, Ordering::Relaxed))
}

impl Broker {
    /// Starts a node with these further settings, `name=value`, and waits until it answers.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let (port, controller_port) = (free_port(), free_port());
        let broker = Self {
            dir: directory(),
            port,
            controller_port,
            settings: settings.iter().map(|&setting| setting.to_owned()).collect(),
            process: Mutex::new(None),
        };
        broker.start_again();
        broker
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts it in its directory, on its ports, after it was killed.
    pub(crate) fn start_again(&self) {
        std::fs::create_dir_all(&self.dir).expect("a directory");
        let mut command = Command::new(tool());
        let log = std::fs::File::options().create(true).append(true).open(self.log()).expect("a file");
        command.arg("start").arg(&self.dir).args([self.port, self.controller_port].map(|port| port.to_string()));
        command.args(&self.settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = spawn(command);
        *self.process.lock().expect("no panic") = Some(child);
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&self) {
        let deadline = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.process.lock().expect("no panic").as_mut().and_then(|child| child.try_wait().expect("a child"));
            let log = || std::fs::read_to_string(self.log()).unwrap_or_default();
            assert!(ended.is_none(), "Kafka ended; `tests/tools/kafka install` gets it:\n{}", log());
            assert!(Instant::now() < deadline, "Kafka does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> PathBuf {
        self.dir.join("kafka.log")
    }

    /// kill -9.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.process.lock().expect("no panic").take() {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
    }

    /// SIGSTOP: it holds its connections and says nothing.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.process.lock().expect("no panic").as_ref().expect("it runs").id();
        let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {id}")]).status().expect("kill runs");
        assert!(sent.success(), "the process is there");
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        // Whatever is left of it, the next process removes.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// A directory for a node of this process. Those of processes that are no more are removed: a node that all tests share is dropped by nobody.
fn directory() -> PathBuf {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kafka");
    std::fs::create_dir_all(&all).expect("a directory");
    for found in std::fs::read_dir(&all).expect("a list").flatten() {
        let name = found.file_name().to_string_lossy().into_owned();
        let is_used = name.split('-').next().is_some_and(|id| Path::new("/proc").join(id).exists());
        if !is_used {
            drop(std::fs::remove_dir_all(found.path()));
        }
    }
    all.join(format!("{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed)))
}

fn tool() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/kafka")
}

/// A port that stays this node's while it is down: none of those that the system gives to whoever asks for any.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run at the same time begin at different places.
    let begin = std::process::id() % 1_000 * 10;
    let ports = || 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
    let mut free = (0..12_000).map(|_| ports() as u16).filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().expect("a free port")
}

/// A process to start, and who waits for it.
type Start = (Command, mpsc::SyncSender<Child>);

/// Starts a process from a thread that lives as long as this process: the node ends with the thread that started it.
fn spawn(command: Command) -> Child {
    static STARTER: OnceLock<Mutex<mpsc::SyncSender<Start>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, commands) = mpsc::sync_channel::<Start>(8);
        std::thread::spawn(move || {
            for (mut command, started) in commands {
                started.send(command.spawn().expect("tests/tools/kafka runs")).expect("somebody waits");
            }
        });
        Mutex::new(sender)
    });
    let (started, child) = mpsc::sync_channel(1);
    starter.lock().expect("no panic").send((command, started)).expect("the thread lives");
    child.recv().expect("it was started")
}
