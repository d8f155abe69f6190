//! The door: accepts connections, finds out which HTTP they speak, and sees them to their end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::answer::{self, AnswerBody, AnswerRoom};
use super::drain::{Drain, Leave};
use super::patience::{Patience, PatientStream, Requests};
use super::tls::Tls;
use super::{Answer, Front, Ops};
use crate::telemetry;

/// Streams that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 200;
/// Streams that a client has reset before anybody looked at them; with more at a time the connection ends (rapid reset,
/// CVE-2023-44487). Who gives up on requests, gives up on some that are being answered, which do not count.
const RESET_UNSEEN_MAX: usize = 20;
/// Streams of one connection that the server had to reset as the client broke the protocol in them; with more the connection ends
/// (CVE-2025-8671: each one is a request that is begun at no cost for the client). Streams past [`STREAMS_MAX`] count among them, and an
/// honest client may open some hundreds before it hears of that limit.
const BROKEN_STREAMS_MAX: usize = 1_000;
/// Bytes of the head of a request, as it comes in HTTP/1.1 and inflated in HTTP/2. Heads are in memory before anybody can be asked for
/// room: connections times this is what they can take. No client of ours comes near a tenth of it.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Bytes of bodies that an HTTP/2 client may send before somebody reads them, a stream and in all: bodies are given room when they
/// are read, so this, times the connections, comes on top. A request of 1,000 events fits.
const WINDOW_BYTES: u32 = 256 << 10;
/// Bytes of one HTTP/2 stream that wait to be sent. What waits beyond is accounted for where answers are, see [`answer`].
const SEND_BYTES_MAX: usize = 64 << 10;
/// A client of HTTP/2 that says nothing for so long is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// And has so long to say yes.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long nothing is accepted after a failure to.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections to the operator's address: a few scrapers and probes.
const OPERATORS_MAX: usize = 256;

/// How connections are kept.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Open at a time; more are closed at once.
    pub connections_max: usize,
    /// For the head of a request, for the first byte of a connection, and for a TLS handshake.
    pub header_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// Between two pieces of an answer that the client takes.
    pub answer_idle_timeout: Duration,
    /// For the next request, once the process was told to stop; at most half of the time for everything.
    pub drain_idle: Duration,
    /// For everything that is under way then.
    pub drain_timeout: Duration,
}

/// Accepts connections until `stop` completes. Then every connection gets one more answer, or a while to ask for it; those that
/// come in that while are served, too. All of it ends after the drain time-out.
pub async fn serve(listener: TcpListener, tls: Option<Tls>, front: Arc<Front>, limits: ConnectionLimits, stop: impl Future<Output = ()>) {
    // Whoever comes last in that while has as long again.
    let idle = limits.drain_idle.min(limits.drain_timeout / 2);
    let (drain, leave) = Drain::new(idle);
    let door = Arc::new(Door::new(Desk::Everybody(front), tls, &limits, leave));
    let (mut entrance, mut conversations) = (Entrance::new(listener), JoinSet::new());
    tokio::pin!(stop);
    loop {
        tokio::select! {
            accepted = entrance.accept() => door.clone().open(accepted, &mut conversations),
            Some(_) = conversations.join_next() => {}
            () = &mut stop => break,
        }
    }
    drain.begin();
    let end = Instant::now() + limits.drain_timeout;
    // Whoever is told that its connection ends makes a new one: it need not wait for the next process yet.
    let mut latecomers = JoinSet::new();
    let overdue = tokio::time::sleep(idle);
    tokio::pin!(overdue);
    loop {
        tokio::select! {
            ended = conversations.join_next() => if ended.is_none() { break },
            accepted = entrance.accept() => door.clone().open(accepted, &mut latecomers),
            Some(_) = latecomers.join_next() => {}
            () = &mut overdue => break,
        }
    }
    drop(entrance);
    let finish = async {
        while conversations.join_next().await.is_some() {}
        while latecomers.join_next().await.is_some() {}
    };
    if tokio::time::timeout_at(end.into(), finish).await.is_err() {
        tracing::warn!(seconds = limits.drain_timeout.as_secs(), "some requests were not finished in time");
    }
    // Whoever is left holds a handle to the log, which is closed next.
    conversations.shutdown().await;
    latecomers.shutdown().await;
}

/// What a client of HTTP/2 says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Who answers at a door.
#[derive(Clone)]
enum Desk {
    Everybody(Arc<Front>),
    /// Nothing but health and metrics.
    Operators(Ops),
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr, is_http2: bool) -> Answer {
        match self {
            Self::Everybody(front) => front.answer(request, peer, is_http2).await,
            Self::Operators(ops) => ops.answer_operator(request, is_http2).await,
        }
    }
}

/// Speaks HTTP on accepted connections.
struct Door {
    desk: Desk,
    tls: Option<Tls>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    patience: Patience,
    answer_room: AnswerRoom,
    places: Arc<Semaphore>,
    places_max: usize,
    leave: Leave,
}

impl Door {
    fn new(desk: Desk, tls: Option<Tls>, limits: &ConnectionLimits, leave: Leave) -> Self {
        let mut http1 = http1::Builder::new();
        // Patience is kept by the stream. A client may say that it has said all, and still wait for its answer. Answers are not kept back
        // for those to requests behind them (`pipeline_flush`): what refuses a malformed head would never be sent then. Head and body of an
        // answer are copied into one buffer: a receipt is shorter than what gathering two costs the kernel (0.9 of 22 µs a request).
        http1.timer(TokioTimer::new()).header_read_timeout(None).half_close(true).max_buf_size(HEAD_BYTES_MAX).writev(false);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new()).keep_alive_interval(PING_INTERVAL).keep_alive_timeout(PING_TIMEOUT);
        http2.max_concurrent_streams(STREAMS_MAX).max_header_list_size(HEAD_BYTES_MAX as u32);
        http2.max_pending_accept_reset_streams(RESET_UNSEEN_MAX).max_local_error_reset_streams(BROKEN_STREAMS_MAX);
        http2.initial_stream_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES).max_send_buf_size(SEND_BYTES_MAX);
        let patience = Patience { head: limits.header_timeout, idle: limits.idle_timeout, answer: limits.answer_idle_timeout };
        let (places, places_max) = (Arc::new(Semaphore::new(limits.connections_max)), limits.connections_max);
        Self { desk, tls, http1, http2, patience, answer_room: AnswerRoom::default(), places, places_max, leave }
    }

    /// Begins to speak with one connection.
    fn open(self: Arc<Self>, (stream, peer): (TcpStream, SocketAddr), conversations: &mut JoinSet<()>) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            tracing::debug!(%peer, limit = self.places_max, "a connection was closed: too many are open");
            return;
        };
        conversations.spawn(async move {
            let _place = place;
            telemetry::add_connections(1.0);
            let leave = self.leave.beginning_now();
            let ended = match &self.tls {
                None => self.speak_plainly(stream, peer, leave).await,
                Some(tls) => self.speak_tls(stream, peer, tls, leave).await,
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, error, "a connection ended");
            }
            telemetry::add_connections(-1.0);
        });
    }

    /// HTTP/2 for a client that begins with its preface, else HTTP/1.1.
    async fn speak_plainly(&self, mut stream: TcpStream, peer: SocketAddr, mut leave: Leave) -> Result<(), String> {
        let begin = tokio::select! {
            biased;
            begin = tokio::time::timeout(self.patience.head, read_begin(&mut stream)) => begin,
            () = leave.is_overdue() => return Err("it had said nothing when the process stopped".into()),
        };
        match begin {
            Ok(Ok(begin)) => {
                let is_http2 = begin == PREFACE;
                self.converse(stream, begin, peer, is_http2, leave).await
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it said nothing, or too little".into()),
        }
    }

    /// The version that was agreed on in the handshake.
    async fn speak_tls(&self, stream: TcpStream, peer: SocketAddr, tls: &Tls, leave: Leave) -> Result<(), String> {
        match tokio::time::timeout(self.patience.head, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.converse(stream, Bytes::new(), peer, is_http2, leave).await
            }
            Ok(Err(error)) => Err(format!("the TLS handshake failed: {error}")),
            Err(_) => Err("the TLS handshake took too long".into()),
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        begin: Bytes,
        peer: SocketAddr,
        is_http2: bool,
        mut leave: Leave,
    ) -> Result<(), String> {
        let requests = Arc::new(Requests::default());
        let stream = TokioIo::new(PatientStream::new(stream, begin, self.patience, requests.clone(), is_http2));
        let (desk, room, begun) = (self.desk.clone(), self.answer_room.clone(), requests.clone());
        let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
            let (desk, room, open) = (desk.clone(), room.clone(), begun.begin());
            async move {
                let answer = desk.answer(request, peer, is_http2).await;
                Ok::<hyper::Response<AnswerBody>, Infallible>(answer::bounded(answer, &room, open))
            }
        });
        let ended = if is_http2 {
            let mut connection = pin!(self.http2.serve_connection(stream, answer));
            tokio::select! {
                biased;
                ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
                // GOAWAY: what the client has sent before it heard of it is answered.
                _ = leave.begun() => connection.as_mut().graceful_shutdown(),
            }
            tokio::select! {
                biased;
                ended = connection => ended,
                () = leave.is_overdue_and_idle(&requests) => Ok(()),
            }
        } else {
            let mut connection = pin!(self.http1.serve_connection(stream, answer));
            tokio::select! {
                biased;
                ended = connection.as_mut() => return ended.map_err(|error| error.to_string()),
                () = leave.is_overdue_and_idle(&requests) => {}
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        };
        ended.map_err(|error| error.to_string())
    }
}

/// Reads what it takes to know whether a connection begins with the preface of HTTP/2; that is what it returns then.
async fn read_begin(stream: &mut TcpStream) -> std::io::Result<Bytes> {
    let mut begin = BytesMut::with_capacity(PREFACE.len());
    while begin.len() < PREFACE.len() && PREFACE.starts_with(&begin) {
        // Not past the preface: the rest is read where it is waited for patiently.
        let missing = (PREFACE.len() - begin.len()) as u64;
        if (&mut *stream).take(missing).read_buf(&mut begin).await? == 0 {
            break;
        }
    }
    Ok(begin.freeze())
}

/// Accepts connections. A failure to (no file descriptors) is waited out: it heals itself, and who connects meanwhile waits in
/// the kernel's queue.
struct Entrance {
    listener: TcpListener,
    failures: u64,
    closed_until: tokio::time::Instant,
}

impl Entrance {
    fn new(listener: TcpListener) -> Self {
        Self { listener, failures: 0, closed_until: tokio::time::Instant::now() }
    }

    /// The next connection. May be dropped at any time: what is waited for is kept here, so a wait that is broken off is taken up again.
    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if self.failures > 0 {
                tokio::time::sleep_until(self.closed_until).await;
            }
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    if self.failures > 0 {
                        tracing::warn!(failures = self.failures, "connections are accepted again");
                        self.failures = 0;
                    }
                    // Answers are small and must not wait for more to come.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "TCP_NODELAY was refused");
                    }
                    return (stream, peer);
                }
                Err(error) => {
                    if self.failures == 0 {
                        tracing::warn!(%error, "no connection can be accepted");
                    }
                    self.failures += 1;
                    self.closed_until = tokio::time::Instant::now() + ACCEPT_PAUSE;
                }
            }
        }
    }
}

/// Serves health and metrics on a listener of their own, for as long as it is polled.
pub async fn serve_ops(listener: TcpListener, ops: Ops, limits: ConnectionLimits) {
    let limits = ConnectionLimits { connections_max: OPERATORS_MAX, ..limits };
    // It goes with the process: nobody loses an event with it.
    let (_drain, leave) = Drain::new(limits.drain_idle);
    let door = Arc::new(Door::new(Desk::Operators(ops), None, &limits, leave));
    let (mut entrance, mut conversations) = (Entrance::new(listener), JoinSet::new());
    loop {
        tokio::select! {
            accepted = entrance.accept() => door.clone().open(accepted, &mut conversations),
            Some(_) = conversations.join_next() => {}
        }
    }
}
