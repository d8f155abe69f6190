//! The operators' commands, run on a gateway's data directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::Gateway;

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

impl Ran {
    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn ended_with(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "it said: {}\nand: {}", self.stdout, self.stderr);
        self
    }

    /// Checks that it could not be done, for a reason that names these things.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, words: &[&str]) {
        let ran = self.ended_with(code);
        for word in words {
            assert!(ran.stderr.contains(word), "`{word}` is not in: {}", ran.stderr);
        }
        assert_eq!(ran.stdout, "", "a refusal is no result");
    }

    /// Checks that all of it is in the result.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stdout.contains(word), "`{word}` is not in: {}", self.stdout);
        }
        self
    }

    /// The text from `partition 0` on in the line that begins with a word: position, rows and digest.
    #[track_caller]
    pub(crate) fn standing(&self, line: &str) -> String {
        let found = self.stdout.lines().find_map(|found| found.strip_prefix(line)?.trim_start().strip_prefix("partition 0"));
        found.unwrap_or_else(|| panic!("no line {line}: {}", self.stdout)).trim().to_owned()
    }
}

impl Gateway {
    /// Runs `tollgate <arguments> --data-dir <of this gateway>`.
    pub(crate) fn tollgate(&self, arguments: &[&str]) -> Ran {
        self.tollgate_command(arguments).output().expect("the binary runs").into()
    }

    /// Runs `tollgate verify` on the log and the rows that this node shares with others.
    pub(crate) fn verify_cluster(&self) -> Ran {
        let shared = self.setup.shared.as_ref().expect("a node of a cluster");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.arg("verify").arg("--config").arg(self.dir.path().join("tollgate.toml")).arg("--scratch").arg(self.dir.path());
        without_settings(&mut command);
        command.envs(shared.environment()).stdin(Stdio::null()).output().expect("the binary runs").into()
    }

    /// The same, on a disk that fails past this size of a file.
    pub(crate) fn tollgate_on_a_full_disk(&self, file_bytes_max: u64, arguments: &[&str]) -> Ran {
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", file_bytes_max / 512);
        let whole = self.tollgate_command(arguments);
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).arg(whole.get_program()).args(whole.get_args());
        without_settings(&mut shell);
        shell.output().expect("a shell").into()
    }

    /// A command that is not started yet.
    pub(crate) fn tollgate_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
        command.args(arguments).arg("--data-dir").arg(self.data_dir()).stdin(Stdio::null());
        without_settings(&mut command);
        command
    }

    /// A place beside the data directory, as a path and as an argument.
    pub(crate) fn beside(&self, name: &str) -> String {
        self.data_dir().with_file_name(name).display().to_string()
    }

    /// A file of the data directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.data_dir().join(name)
    }
}

fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TOLLGATE_")) {
        command.env_remove(name);
    }
}

/// Every file below a directory with its bytes, by its path.
pub(crate) fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else if path.is_file() {
            let bytes = fs::read(&path).expect("read");
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

/// Turns over the bits of one byte.
pub(crate) fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("read");
    bytes[at] ^= 0xff;
    fs::write(file, bytes).expect("written");
}
