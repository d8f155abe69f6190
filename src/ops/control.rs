//! The control socket of a running gateway: a Unix socket in the data directory, mode 0600, so that it is for the gateway's own user
//! (and root) on this machine and nobody else.
//!
//! One line of JSON in, lines of JSON out, the last of which is `done` or `error`:
//!
//! ```text
//! {"backup":{"to":"/absolute/path"}}
//! {"progress":{"what":"bytes","done":1048576,"of":9437184}}
//! {"done":{…backup.json…}}
//! {"error":"…"}
//! ```
//!
//! How a process takes the place of another is told in [`handover`](super::handover).
//!
//! Whoever hangs up does not want it any more: an unfinished backup is removed.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::{Semaphore, mpsc};

use super::backup::{Content, Source};
use super::handover::Handover;
use super::{Error, Step, Watch, io_at};
use crate::clock::Clock;
use crate::data_dir;

/// Longest request: a path has at most 4 KiB.
const REQUEST_BYTES_MAX: u64 = 16 << 10;
/// Time for a request, and for the other side to take an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time.
const CONNECTIONS_MAX: usize = 4;
/// Backups at a time.
const BACKUPS_MAX: usize = 1;
/// Pause between two lines of progress.
const PROGRESS_PAUSE: Duration = Duration::from_millis(200);
/// What the operating system takes for a path of a socket, with some room.
const SOCKET_PATH_BYTES_MAX: usize = 100;
const BACKLOG: u32 = 16;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Request {
    Backup { to: PathBuf },
    TakeOver,
    Taken,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Progress { what: String, done: u64, of: u64 },
    Done(Content),
    Sockets(Vec<SocketName>),
    Error(String),
}

/// What a listening socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SocketName {
    Main,
    Ops,
}

/// The path of the socket, in a form that is short enough, with what it holds on to.
fn short_path(dir: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let path = dir.join(data_dir::CONTROL);
    if path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok((path, None));
    }
    let dir = File::open(dir)?;
    Ok((Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(data_dir::CONTROL), Some(dir)))
}

/// The socket of this process; goes with it.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A stale one is removed by the next start.
        drop(fs::remove_file(&self.0));
    }
}

impl Control {
    /// Makes the socket in a data directory whose lock this process has: one that is there is a dead process's.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn bind(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(data_dir::CONTROL);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let (short, _dir) = short_path(data_dir)?;
        let socket = UnixSocket::new_stream()?;
        socket.bind(short)?;
        // Nobody can connect before it listens, so nobody gets in before the mode is right.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { listener: socket.listen(BACKLOG)?, path: SocketFile(path) })
    }

    /// Answers until the task is dropped. Backups end when `stopping` is set. Without a `source` there is nothing here to be copied.
    pub async fn serve(self, source: Option<Source>, handover: Arc<Handover>, clock: Clock, stopping: Arc<AtomicBool>) {
        let Self { listener, path: _path } = self;
        let shared = Arc::new(Shared { source, handover, clock, stopping, backups: Semaphore::new(BACKUPS_MAX) });
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = connections.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        shared.answer(stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the control socket could not be taken");
                    tokio::time::sleep(PROGRESS_PAUSE).await;
                }
            }
        }
    }
}

struct Shared {
    source: Option<Source>,
    handover: Arc<Handover>,
    clock: Clock,
    stopping: Arc<AtomicBool>,
    backups: Semaphore,
}

impl Shared {
    async fn answer(&self, mut stream: UnixStream) {
        let reply = match tokio::time::timeout(PATIENCE, read_request(&mut stream)).await {
            Ok(Ok(Request::Backup { to })) => self.backup(&mut stream, to).await,
            Ok(Ok(Request::TakeOver)) => match self.hand_over(&mut stream).await {
                Ok(()) => return,
                Err(what) => Reply::Error(what),
            },
            Ok(Ok(Request::Taken)) => Reply::Error("nothing was handed over".into()),
            Ok(Err(what)) => Reply::Error(what),
            Err(_) => Reply::Error("no request came in time".into()),
        };
        if let Reply::Error(what) = &reply {
            tracing::warn!(%what, "a request on the control socket failed");
        }
        // Whoever asked may have hung up.
        drop(send(&mut stream, &reply).await);
    }

    /// Sends the listening sockets, and begins to stop when the other side has them.
    async fn hand_over(&self, stream: &mut UnixStream) -> Result<(), String> {
        match self.handover.send(stream).await {
            Ok(true) => {}
            Ok(false) => return Err("it is stopping already".into()),
            Err(error) => return Err(format!("the sockets could not be sent: {error}")),
        }
        match tokio::time::timeout(PATIENCE, read_request(stream)).await {
            Ok(Ok(Request::Taken)) => {
                self.handover.are_taken();
                Ok(())
            }
            _ => Err("the sockets were sent but not taken: this process goes on".into()),
        }
    }

    async fn backup(&self, stream: &mut UnixStream, to: PathBuf) -> Reply {
        if !to.is_absolute() {
            return Reply::Error(format!("{} is no absolute path", to.display()));
        }
        let Some(source) = self.source.clone() else {
            let what = "events are in Kafka, everything else is in PostgreSQL: back up the database (pg_dump), and keep the topic for as long as the backup is old";
            return Reply::Error(what.into());
        };
        let Ok(_permit) = self.backups.try_acquire() else { return Reply::Error("a backup is being made already".into()) };
        tracing::info!(to = %to.display(), "a backup is begun");
        let (progress, mut steps) = mpsc::channel(1);
        let (time, stopping) = (self.clock.now(), self.stopping.clone());
        let made = tokio::task::spawn_blocking(move || {
            let mut last = Instant::now();
            source.write(&to, time, &mut |step| {
                if progress.is_closed() || stopping.load(Ordering::Acquire) {
                    return Err(Error::Stopped);
                }
                if last.elapsed() >= PROGRESS_PAUSE && progress.try_send(step).is_ok() {
                    last = Instant::now();
                }
                Ok(())
            })
        });
        let mut rest = [0; 1];
        loop {
            tokio::select! {
                step = steps.recv() => {
                    let Some(Step { what, done, of }) = step else { break };
                    if send(stream, &Reply::Progress { what: what.into(), done, of }).await.is_err() {
                        break;
                    }
                }
                // Nothing more is due from there: anything, or the end, means that nobody waits.
                _ = stream.read(&mut rest) => break,
            }
        }
        drop(steps);
        match made.await {
            Ok(Ok(content)) => {
                tracing::info!(position = content.position, log_end = content.log_end, "a backup is made");
                Reply::Done(content)
            }
            Ok(Err(error)) => Reply::Error(error.to_string()),
            Err(_) => Reply::Error("the backup panicked".into()),
        }
    }
}

async fn read_request(stream: &mut UnixStream) -> Result<Request, String> {
    let mut line = Vec::new();
    let mut reader = tokio::io::BufReader::new(stream).take(REQUEST_BYTES_MAX);
    reader.read_until(b'\n', &mut line).await.map_err(|error| error.to_string())?;
    if line.pop() != Some(b'\n') {
        return Err(format!("a request is one line of at most {REQUEST_BYTES_MAX} bytes"));
    }
    serde_json::from_slice(&line).map_err(|error| format!("the request makes no sense: {error}"))
}

async fn send(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    tokio::time::timeout(PATIENCE, stream.write_all(&line(reply)?)).await?
}

/// What is said, as a line.
pub(super) fn line(said: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    Ok(line)
}

/// Connects to the process that uses a data directory.
pub(super) fn connect(data_dir: &Path) -> io::Result<BlockingStream> {
    let (path, _dir) = short_path(data_dir)?;
    BlockingStream::connect(path)
}

/// Asks the gateway that uses a data directory for a backup.
///
/// # Errors
/// [`Error::Refused`] with what the gateway said, [`Error::Io`] if it cannot be reached.
pub fn ask_for_backup(data_dir: &Path, to: &Path, watch: &mut Watch<'_>) -> Result<Content, Error> {
    let socket = data_dir.join(data_dir::CONTROL);
    let mut stream = connect(data_dir).map_err(io_at(&socket))?;
    let request = line(&Request::Backup { to: std::path::absolute(to).map_err(io_at(to))? }).map_err(io_at(to))?;
    stream.write_all(&request).map_err(io_at(&socket))?;
    for line in BufReader::new(stream).lines() {
        let line = line.map_err(io_at(&socket))?;
        let reply = serde_json::from_str(&line).map_err(|error| Error::Refused(format!("the gateway said something else: {error}")))?;
        match reply {
            Reply::Progress { what, done, of } => {
                let what = if what == "rows" { "rows" } else { "bytes" };
                watch(Step { what, done, of })?;
            }
            Reply::Done(content) => return Ok(content),
            Reply::Error(what) => return Err(Error::Refused(what)),
            Reply::Sockets(_) => return Err(Error::Refused("the gateway said something else".into())),
        }
    }
    Err(Error::Refused("the gateway ended before the backup was made".into()))
}
