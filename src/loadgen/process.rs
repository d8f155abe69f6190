//! What a process has used, from Linux's `/proc`.

use std::fs;
use std::io;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Ticks a second in `/proc/PID/stat`. `sysconf(_SC_CLK_TCK)` has been 100 on every architecture of Linux that
/// Rust runs on for as long as there is Rust; asking would take `unsafe`.
const TICKS_PER_SECOND: u64 = 100;

/// Whose figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Process {
    /// This one.
    Own,
    /// The one with this id.
    Other(u32),
}

/// Memory that a process has in RAM, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// Now.
    pub(super) resident_bytes: u64,
    /// At most since it started.
    pub(super) peak_bytes: u64,
}

impl Process {
    /// User and system time of all its threads, the ended ones too, to 10 ms.
    ///
    /// # Errors
    /// The process is gone, or this is not Linux.
    pub(super) fn cpu_time(self) -> io::Result<Duration> {
        let stat = fs::read_to_string(self.path("stat"))?;
        parse_cpu_time(&stat).ok_or_else(|| unexpected("stat"))
    }

    /// Its resident memory.
    ///
    /// # Errors
    /// The process is gone or has no memory left (a zombie), or this is not Linux.
    pub(super) fn memory(self) -> io::Result<Memory> {
        let status = fs::read_to_string(self.path("status"))?;
        parse_memory(&status).ok_or_else(|| unexpected("status"))
    }

    fn path(self, file: &str) -> String {
        match self {
            Self::Own => format!("/proc/self/{file}"),
            Self::Other(pid) => format!("/proc/{pid}/{file}"),
        }
    }
}

/// A thread that looks at a process's memory all the time.
#[derive(Debug)]
pub(super) struct MemoryWatch {
    stop: mpsc::SyncSender<()>,
    thread: JoinHandle<Vec<u64>>,
}

/// How often.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

impl MemoryWatch {
    /// Begins at `from`.
    ///
    /// # Errors
    /// No thread.
    pub(super) fn start(process: Process, from: Instant) -> io::Result<Self> {
        let (stop, stopped) = mpsc::sync_channel(1);
        let watch = move || {
            std::thread::sleep(from.saturating_duration_since(Instant::now()));
            let mut resident = Vec::new();
            while stopped.recv_timeout(WATCH_INTERVAL) == Err(mpsc::RecvTimeoutError::Timeout) {
                resident.extend(process.memory().map(|memory| memory.resident_bytes));
            }
            resident
        };
        let thread = std::thread::Builder::new().name("bench-memory".into()).spawn(watch)?;
        Ok(Self { stop, thread })
    }

    /// What was seen: resident bytes, in the order of time.
    pub(super) fn stop(self) -> Vec<u64> {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

fn unexpected(file: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc/PID/{file} lacks what was looked for"))
}

/// `pid (name) state ppid …`: utime and stime are the 14th and 15th field. The name may hold blanks and parentheses.
fn parse_cpu_time(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(user.checked_add(system)?.checked_mul(1_000 / TICKS_PER_SECOND)?))
}

fn parse_memory(status: &str) -> Option<Memory> {
    let bytes = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
    };
    Some(Memory { resident_bytes: bytes("VmRSS")?, peak_bytes: bytes("VmHWM")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_a_name_with_blanks_and_parentheses() {
        let stat = "4711 (a) b (c)) S 1 4711 4711 0 -1 4194560 100 0 0 0 123 45 9 9 20 0 3 0 555 1 2 3";
        assert_eq!(parse_cpu_time(stat), Some(Duration::from_millis(1_680)));
        assert_eq!(parse_cpu_time("4711 (cut"), None);
        assert_eq!(parse_cpu_time("4711 (cut) S 1"), None);
    }

    #[test]
    fn memory_is_read_in_bytes_and_a_zombie_has_none() {
        let status = "Name:\tx\nVmPeak:\t  9 kB\nVmHWM:\t  2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(parse_memory(status), Some(Memory { resident_bytes: 1 << 20, peak_bytes: 2 << 20 }));
        assert_eq!(parse_memory("Name:\tx\nState:\tZ (zombie)\n"), None);
    }
}
