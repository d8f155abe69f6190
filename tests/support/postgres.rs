//! A real PostgreSQL for tests and benches (`tests/tools/postgres` starts it): one cluster a process, a database a test; or a cluster of a
//! test's own, for faults. Included by whoever needs it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// A running server; gone with its value, or with the process.
pub(crate) struct Cluster {
    directory: PathBuf,
    port: u16,
    tool: Mutex<Tool>,
    databases: AtomicU32,
}

struct Tool {
    child: Child,
    /// While it is open, the server runs.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Cluster {
    /// The one of this process. It syncs nothing: of what it keeps, nothing has to survive a loss of power.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["fsync=off", "full_page_writes=off"]))
    }

    /// One with the server's own settings, and these.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/postgres");
        let mut command = Command::new(tool);
        for setting in settings {
            command.args(["-c", setting]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash is there");
        let commands = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut ready = String::new();
        answers.read_line(&mut ready).expect("it says something");
        let words: Vec<&str> = ready.split_whitespace().collect();
        let ["ready", directory, port] = words[..] else { panic!("PostgreSQL does not start: {ready:?}") };
        let (directory, port) = (directory.into(), port.parse().expect("a port"));
        Self { directory, port, tool: Mutex::new(Tool { child, commands, answers }), databases: AtomicU32::new(0) }
    }

    fn tell(&self, command: &str) {
        let mut tool = self.tool.lock().expect("no panic");
        writeln!(tool.commands.as_mut().expect("open"), "{command}").expect("it listens");
        let mut answer = String::new();
        tool.answers.read_line(&mut answer).expect("it answers");
        assert_eq!(answer, "done\n", "to {command}");
    }

    /// Ends it as a crash does: what is under way is cut, what was not synced may be lost to a loss of power, not to this.
    pub(crate) fn crash(&self) {
        self.tell("stop immediate");
    }

    /// Starts it again; it recovers by itself.
    pub(crate) fn start_again(&self) {
        self.tell("start");
    }

    /// Lets all of its processes stand still; connections stay open and nobody answers.
    pub(crate) fn freeze(&self) {
        self.tell("signal STOP");
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) {
        self.tell("signal CONT");
    }

    /// The certificate that it shows.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.join("server.crt")
    }

    /// Makes a new, empty database and returns its URL.
    pub(crate) fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name} TEMPLATE template0 STRATEGY file_copy"));
        self.url(&name)
    }

    /// The URL of a database.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://tollgate@127.0.0.1:{}/{database}", self.port)
    }

    /// What psql prints of an answer: a line a row, columns divided by `|`. `database`: a name or a URL.
    pub(crate) fn psql(&self, database: &str, sql: &str) -> String {
        let url = if database.contains("://") { database.to_owned() } else { self.url(database) };
        let ran = Command::new("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &url, "-c", sql]).output().expect("psql is there");
        assert!(ran.status.success(), "{sql}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&ran.stdout).trim_end().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok(tool) = self.tool.get_mut() {
            tool.commands = None;
            drop(tool.child.wait());
        }
    }
}
