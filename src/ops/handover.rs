//! Listening sockets go from a running process to the one that takes its place, over the [`control`](super::control) socket:
//!
//! ```text
//! → "take_over"
//! ← {"sockets":["main","ops"]}     with the sockets themselves beside (SCM_RIGHTS)
//! → "taken"
//! ```
//!
//! Only then the old process begins to stop: a new one that fails before has harmed nothing. A socket that both have never stops
//! listening, so clients that connect while neither accepts wait in the kernel's queue.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::Notify;

use super::control::{PATIENCE, Reply, Request, SocketName, connect, line};
use crate::server::sockets::{Listeners, Sockets};

/// Sockets that go at a time.
const SOCKETS_MAX: usize = 4;
/// Longest answer.
const REPLY_BYTES_MAX: usize = 4 << 10;

/// Sockets with their names; `None` when nothing is handed over any more.
type Offered = Option<Arc<Vec<(SocketName, OwnedFd)>>>;

/// The listening sockets of this process, for the one that will take its place.
#[derive(Debug)]
pub struct Handover {
    sockets: Mutex<Offered>,
    taken: Notify,
}

impl Handover {
    /// Of these sockets.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn of(listeners: &Listeners) -> io::Result<Self> {
        let copy = |name, listener: &TcpListener| Ok((name, listener.as_fd().try_clone_to_owned()?));
        let main = std::iter::once(copy(SocketName::Main, &listeners.main));
        let ops = listeners.ops.as_ref().map(|ops| copy(SocketName::Ops, ops));
        let sockets = main.chain(ops).collect::<io::Result<Vec<_>>>()?;
        Ok(Self { sockets: Mutex::new(Some(Arc::new(sockets))), taken: Notify::new() })
    }

    /// Completes when another process has them.
    pub async fn taken(&self) {
        self.taken.notified().await;
    }

    /// From here on nobody gets them any more.
    pub fn close(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Offered> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends them; `false` if there is nothing to send any more.
    pub(super) async fn send(&self, stream: &UnixStream) -> io::Result<bool> {
        let Some(sockets) = self.lock().clone() else { return Ok(false) };
        let (names, sockets): (Vec<_>, Vec<_>) = sockets.iter().map(|(name, socket)| (*name, socket.as_fd())).unzip();
        let line = line(&Reply::Sockets(names))?;
        let sending = stream.async_io(Interest::WRITABLE, || send_with(stream, &line, &sockets));
        let sent = tokio::time::timeout(PATIENCE, sending).await??;
        if sent == line.len() { Ok(true) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// They were received.
    pub(super) fn are_taken(&self) {
        self.taken.notify_one();
    }
}

fn send_with(stream: &UnixStream, bytes: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    if !beside.push(SendAncillaryMessage::ScmRights(sockets)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut beside, SendFlags::NOSIGNAL)?)
}

/// What a running process offers.
#[derive(Debug)]
pub struct Offer {
    /// Its sockets.
    pub sockets: Sockets,
    stream: BlockingStream,
}

impl Offer {
    /// Tells the other process that it can stop.
    ///
    /// # Errors
    /// It cannot be reached any more.
    pub fn take(mut self) -> io::Result<()> {
        self.stream.write_all(&line(&Request::Taken)?)
    }
}

/// Why there is no offer.
#[derive(Debug, thiserror::Error)]
pub enum NoOffer {
    /// No process answers in that data directory.
    #[error("no process answers")]
    Nobody,
    /// It does not hand over its sockets.
    #[error("{0}")]
    Refused(String),
    /// It cannot be spoken to.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Asks the process that uses a data directory for its listening sockets. Blocks for some seconds at most.
///
/// # Errors
/// [`NoOffer`]: the other process goes on as before.
pub fn ask_for_sockets(data_dir: &Path) -> Result<Offer, NoOffer> {
    let mut stream = match connect(data_dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Err(NoOffer::Nobody),
        connected => connected?,
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(&line(&Request::TakeOver)?)?;
    let (said, received) = receive(&stream)?;
    let Some(said) = said.strip_suffix(b"\n") else { return Err(NoOffer::Refused("it ended before it had answered".into())) };
    let names = match serde_json::from_slice(said) {
        Ok(Reply::Sockets(names)) => names,
        Ok(Reply::Error(what)) => return Err(NoOffer::Refused(what)),
        Ok(Reply::Progress { .. } | Reply::Done(_)) | Err(_) => return Err(NoOffer::Refused("it said something else".into())),
    };
    let mut sockets = Sockets::default();
    for (name, socket) in names.into_iter().zip(received) {
        let place = match name {
            SocketName::Main => &mut sockets.main,
            SocketName::Ops => &mut sockets.ops,
        };
        *place = Some(net::TcpListener::from(socket));
    }
    Ok(Offer { sockets, stream })
}

/// What was sent in one piece, and the sockets beside it.
fn receive(stream: &BlockingStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut said = vec![0; REPLY_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut said)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    said.truncate(received.bytes);
    let mut sockets = Vec::new();
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    Ok((said, sockets))
}
