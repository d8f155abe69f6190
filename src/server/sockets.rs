//! Listening sockets: bound anew, or handed over by systemd or by the process that ran before this one.
//!
//! A socket that is handed over never stops listening: who connects while no process accepts waits in the kernel's queue.

use std::io;
use std::net::{self, SocketAddr};

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be accepted, among them those that come while the log is recovered.
const BACKLOG: u32 = 4_096;
/// What the socket for health and metrics is called among those of systemd (`FileDescriptorName=`).
const OPS: &str = "ops";

/// Sockets that listen already.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Where producers and clients connect.
    pub main: Option<net::TcpListener>,
    /// Where health and metrics are served.
    pub ops: Option<net::TcpListener>,
}

/// Where connections are accepted.
#[derive(Debug)]
pub struct Listeners {
    /// From producers and clients.
    pub main: TcpListener,
    /// From those who ask for health and metrics, if not there.
    pub ops: Option<TcpListener>,
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; --listen takes another address or port: {error}")]
pub struct ListenError {
    /// The address.
    address: SocketAddr,
    /// What the operating system says.
    error: io::Error,
}

impl Sockets {
    /// Those that systemd passed to this process (`LISTEN_FDS`, `LISTEN_PID`): the one with the name `ops` in `LISTEN_FDNAMES` is for
    /// health and metrics, the other one for everybody. Changes the environment, so it comes before the first thread.
    ///
    /// # Errors
    /// Something else was passed than a TCP socket, or more than one of a kind.
    pub fn passed_by_systemd() -> io::Result<Self> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut sockets = Self::default();
        for at in 0..passed.len() {
            let is_ops = names.next() == Some(OPS);
            let Some(socket) = passed.take_tcp_listener(at)? else { continue };
            let place = if is_ops { &mut sockets.ops } else { &mut sockets.main };
            if place.replace(socket).is_some() {
                let what = "at most two sockets can be used, one of them with FileDescriptorName=ops";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
            }
        }
        Ok(sockets)
    }

    /// Only those that listen where the settings say.
    #[must_use]
    pub fn only_at(self, main: SocketAddr, ops: Option<SocketAddr>) -> Self {
        let main = self.main.filter(|socket| listens_at(socket, main));
        Self { main, ops: self.ops.filter(|socket| ops.is_some_and(|ops| listens_at(socket, ops))) }
    }

    /// Takes these into use, and binds what is missing. Needs a runtime.
    ///
    /// # Errors
    /// [`ListenError`].
    pub fn listen(self, main: SocketAddr, ops: Option<SocketAddr>) -> Result<Listeners, ListenError> {
        let ops = match (self.ops, ops) {
            (Some(socket), _) => Some(adopt(socket)?),
            (None, Some(address)) => Some(bind(address)?),
            (None, None) => None,
        };
        Ok(Listeners { main: self.main.map_or_else(|| bind(main), adopt)?, ops })
    }
}

fn listens_at(socket: &net::TcpListener, address: SocketAddr) -> bool {
    socket.local_addr().is_ok_and(|local| local.ip() == address.ip() && (address.port() == 0 || address.port() == local.port()))
}

fn adopt(socket: net::TcpListener) -> Result<TcpListener, ListenError> {
    let address = socket.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
    let adopted = socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket));
    adopted.map_err(|error| ListenError { address, error })
}

fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let bind = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the last process's connections to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|error| ListenError { address, error })
}
