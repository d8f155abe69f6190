//! How long a connection may keep the server waiting for the head of a request.
//!
//! hyper's own limit for heads also ends connections that are idle between two requests, which a client that keeps a pool
//! notices as a request that failed; and it sets a timer anew for each request. This stream tells the phases apart and looks
//! at the clock with one coarse timer, so a limit is kept to within half of it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// How long each phase may last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the first byte of a head to its last, and from the begin of a connection to its first byte.
    pub(super) head: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
}

/// Counts the requests of a connection that are being answered, and those that were.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: AtomicU32,
    begun: AtomicU32,
    /// A part of a head has come.
    has_head: AtomicBool,
}

impl Requests {
    /// Counts a request from here until the value is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> OpenRequest {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        OpenRequest(self.clone())
    }

    /// Whether none is answered and none has begun to come.
    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0 && !self.has_head.load(Ordering::Relaxed)
    }
}

/// A request that is being answered.
pub(super) struct OpenRequest(Arc<Requests>);

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the other side owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The first byte of the first head.
    Begin,
    /// The rest of a head.
    Head,
    /// Nothing: a request is being answered.
    Answering,
    /// Nothing yet.
    Idle,
}

/// A stream that ends with an error when its other side takes too long.
pub(super) struct PatientStream<S> {
    stream: S,
    patience: Patience,
    requests: Arc<Requests>,
    /// HTTP/2 has frames between requests, so bytes do not begin a head.
    has_frames: bool,
    phase: Phase,
    since: Instant,
    begun: u32,
    timer: Pin<Box<Sleep>>,
}

impl<S> PatientStream<S> {
    pub(super) fn new(stream: S, patience: Patience, requests: Arc<Requests>, has_frames: bool) -> Self {
        let since = Instant::now();
        let timer = Box::pin(sleep_until(since + patience.head / 2));
        Self { stream, patience, requests, has_frames, phase: Phase::Begin, since, begun: 0, timer }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
        self.requests.has_head.store(phase == Phase::Head, Ordering::Relaxed);
    }

    /// Follows what happened to requests since the last look.
    fn follow(&mut self) {
        let begun = self.requests.begun.load(Ordering::Relaxed);
        if self.requests.open.load(Ordering::Relaxed) > 0 {
            if self.phase != Phase::Answering {
                self.enter(Phase::Answering);
            }
        } else if begun != self.begun || self.phase == Phase::Answering {
            self.enter(Phase::Idle);
        }
        self.begun = begun;
    }

    fn limit(&self) -> Option<Duration> {
        match self.phase {
            Phase::Begin | Phase::Head => Some(self.patience.head),
            Phase::Idle => Some(self.patience.idle),
            Phase::Answering => None,
        }
    }

    /// Ready when patience is at its end.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.limit().is_some_and(|limit| self.since.elapsed() >= limit) {
                return Poll::Ready(());
            }
            let next = Instant::now() + self.patience.head / 2;
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.follow();
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            let waits = matches!(self.phase, Phase::Begin | Phase::Idle);
            if buffer.filled().len() > before && waits && !self.has_frames {
                self.enter(Phase::Head);
            }
            return read;
        }
        match self.poll_patience(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const PATIENCE: Patience = Patience { head: Duration::from_secs(4), idle: Duration::from_secs(60) };

    /// Seconds until a read fails, rounded down.
    async fn seconds_until_it_ends(stream: &mut PatientStream<tokio::io::DuplexStream>) -> u64 {
        let started = Instant::now();
        let error = stream.read_u8().await.expect_err("patience ends");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        started.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_less_time_than_the_pause_between_requests() {
        let (mut client, server) = duplex(100);
        let requests = Arc::new(Requests::default());
        let mut stream = PatientStream::new(server, PATIENCE, requests.clone(), false);
        client.write_all(b"G").await.expect("is written");
        stream.read_u8().await.expect("is read");
        let request = requests.begin();
        // While a request is answered, there is no limit here.
        assert!(tokio::time::timeout(Duration::from_secs(500), stream.read_u8()).await.is_err());
        drop(request);
        assert!((60..=62).contains(&seconds_until_it_ends(&mut stream).await));
        client.write_all(b"G").await.expect("is written");
        stream.read_u8().await.expect("is read");
        assert!((4..=6).contains(&seconds_until_it_ends(&mut stream).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_drips_in_has_no_more_time_than_one_that_stops() {
        let (mut client, server) = duplex(100);
        let mut stream = PatientStream::new(server, PATIENCE, Arc::default(), false);
        let started = Instant::now();
        let dripping = async {
            while client.write_all(b"G").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let reading = async { while stream.read_u8().await.is_ok() {} };
        tokio::select! { () = dripping => {}, () = reading => {} }
        assert!((4..=6).contains(&started.elapsed().as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_has_the_time_of_a_head() {
        let (_client, server) = duplex(100);
        let mut stream = PatientStream::new(server, PATIENCE, Arc::default(), true);
        assert!((4..=6).contains(&seconds_until_it_ends(&mut stream).await));
    }
}
