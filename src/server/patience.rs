//! How long a connection may keep the server waiting: for the head of a request, and for taking what it was answered.
//!
//! hyper's own limit for heads also ends connections that are idle between two requests, which a client that keeps a pool
//! notices as a request that failed; and it sets a timer anew for each request. For answers it has no limit at all. This stream
//! tells the phases apart and looks at the clock with one coarse timer, so a limit is kept to within half of that of a head.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes that a client of HTTP/2 may send while it has no request open: a flood of frames that ask for nothing (SETTINGS, PING,
/// PRIORITY and others) ends here. 200 heads at once, the most, have 3 KiB each, beside what the windows let in of their bodies.
const UNASKED_BYTES_MAX: usize = 1 << 20;
/// A client that takes less than this between two looks does not take anything: one byte now and then is no progress.
const PROGRESS_BYTES: usize = 4 << 10;

/// How long each phase may last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From the first byte of a head to its last, and from the begin of a connection to its first byte.
    pub(super) head: Duration,
    /// Between two requests.
    pub(super) idle: Duration,
    /// Between two pieces of what is answered.
    pub(super) answer: Duration,
}

/// Counts the requests of a connection that are being answered, and those that were.
#[derive(Debug, Default)]
pub(super) struct Requests {
    open: AtomicU32,
    begun: AtomicU32,
    /// A part of a head has come.
    has_head: AtomicBool,
    /// When each large answer that is not taken yet has last moved.
    slow: Mutex<BTreeMap<u64, Instant>>,
    slow_next: AtomicU64,
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

    fn slow(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether some answer has not moved for so long.
    fn has_stuck_answer(&self, limit: Duration) -> bool {
        self.slow().values().any(|moved| moved.elapsed() >= limit)
    }
}

/// A request that is being answered.
pub(super) struct OpenRequest(Arc<Requests>);

impl OpenRequest {
    /// From now on its answer is on its way.
    pub(super) fn take_answer(self) -> SlowAnswer {
        let id = self.0.slow_next.fetch_add(1, Ordering::Relaxed);
        self.0.slow().insert(id, Instant::now());
        SlowAnswer { id, request: self }
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A large answer that is being taken.
pub(super) struct SlowAnswer {
    id: u64,
    request: OpenRequest,
}

impl SlowAnswer {
    /// A piece of it is wanted.
    pub(super) fn moves(&self) {
        self.request.0.slow().insert(self.id, Instant::now());
    }
}

impl Drop for SlowAnswer {
    fn drop(&mut self) {
        self.request.0.slow().remove(&self.id);
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

/// Bytes wait to be written.
#[derive(Debug)]
struct Stuck {
    since: Instant,
    taken: usize,
}

/// A stream that ends with an error when its other side takes too long.
pub(super) struct PatientStream<S> {
    stream: S,
    /// Read before, and to be read again.
    begin: Bytes,
    patience: Patience,
    requests: Arc<Requests>,
    /// HTTP/2 has frames between requests, so bytes do not begin a head.
    has_frames: bool,
    phase: Phase,
    since: Instant,
    begun: u32,
    /// Bytes of frames since there was a request.
    unasked: usize,
    stuck: Option<Stuck>,
    timer: Pin<Box<Sleep>>,
}

impl<S> PatientStream<S> {
    /// `begin`: what was read of the stream already.
    pub(super) fn new(stream: S, begin: Bytes, patience: Patience, requests: Arc<Requests>, has_frames: bool) -> Self {
        let since = Instant::now();
        let timer = Box::pin(sleep_until(since + patience.head / 2));
        let phase = Phase::Begin;
        Self { stream, begin, patience, requests, has_frames, phase, since, begun: 0, unasked: 0, stuck: None, timer }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
        self.unasked = 0;
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

    /// Follows what has come.
    fn has_read(&mut self, bytes: usize) -> io::Result<()> {
        let waits = matches!(self.phase, Phase::Begin | Phase::Idle);
        if bytes > 0 && waits && !self.has_frames {
            self.enter(Phase::Head);
        } else if waits && self.has_frames {
            self.unasked += bytes;
            if self.unasked > UNASKED_BYTES_MAX {
                return Err(io::Error::other("too many frames without a request"));
            }
        }
        Ok(())
    }

    /// Follows what became of a write; `None`: nothing was taken.
    fn has_written(&mut self, taken: Option<usize>, is_all: bool) {
        match (&mut self.stuck, taken) {
            (stuck, Some(_)) if is_all => *stuck = None,
            (Some(stuck), Some(taken)) => {
                stuck.taken += taken;
                if stuck.taken >= PROGRESS_BYTES {
                    *stuck = Stuck { since: Instant::now(), taken: 0 };
                }
            }
            (stuck @ None, None) => *stuck = Some(Stuck { since: Instant::now(), taken: 0 }),
            (Some(_), None) | (None, Some(_)) => {}
        }
    }

    fn limit(&self) -> Option<Duration> {
        match self.phase {
            Phase::Begin | Phase::Head => Some(self.patience.head),
            Phase::Idle => Some(self.patience.idle),
            Phase::Answering => None,
        }
    }

    fn is_at_its_end(&self) -> bool {
        let answer = self.patience.answer;
        self.limit().is_some_and(|limit| self.since.elapsed() >= limit)
            || self.stuck.as_ref().is_some_and(|stuck| stuck.since.elapsed() >= answer)
            || self.requests.has_stuck_answer(answer)
    }

    /// An error when patience is at its end.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.is_at_its_end() {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            let next = Instant::now() + self.patience.head.min(self.patience.answer) / 2;
            self.timer.as_mut().reset(next);
        }
        Poll::Pending
    }

    /// Passes on what became of a write that had so many bytes, and does not wait for ever.
    fn written(&mut self, wrote: Poll<io::Result<usize>>, of: usize, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match wrote {
            Poll::Ready(Ok(taken)) => {
                self.has_written(Some(taken), taken >= of);
                Poll::Ready(Ok(taken))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                // Whoever waits for an answer to be taken owes no head any more.
                self.follow();
                self.has_written(None, false);
                self.poll_patience(cx).map(Err)
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PatientStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.follow();
        if !self.begin.is_empty() {
            let bytes = self.begin.len().min(buffer.remaining());
            buffer.put_slice(&self.begin.split_to(bytes));
            return Poll::Ready(self.has_read(bytes));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(self.has_read(buffer.filled().len() - before)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_patience(cx).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PatientStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(wrote, bytes.len(), cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx).map_ok(|()| 0);
        self.written(flushed, 0, cx).map_ok(|_| ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx).map_ok(|()| 0);
        self.written(shut, 0, cx).map_ok(|_| ())
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, pieces: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.written(wrote, pieces.iter().map(|piece| piece.len()).sum(), cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const PATIENCE: Patience = Patience { head: Duration::from_secs(4), idle: Duration::from_secs(60), answer: Duration::from_secs(20) };

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
        let mut stream = PatientStream::new(server, Bytes::new(), PATIENCE, requests.clone(), false);
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
        let mut stream = PatientStream::new(server, Bytes::new(), PATIENCE, Arc::default(), false);
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
        let mut stream = PatientStream::new(server, Bytes::new(), PATIENCE, Arc::default(), true);
        assert!((4..=6).contains(&seconds_until_it_ends(&mut stream).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_not_waited_for_and_one_that_drips_neither() {
        for bytes_a_second in [0, 7] {
            let (mut client, server) = duplex(100);
            let requests = Arc::new(Requests::default());
            let mut stream = PatientStream::new(server, Bytes::new(), PATIENCE, requests.clone(), false);
            let _request = requests.begin();
            let started = Instant::now();
            let dripping = async {
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    client.read_exact(&mut vec![0; bytes_a_second]).await.expect("is read");
                }
            };
            let writing = stream.write_all(&[0; 64 << 10]);
            let written = tokio::select! { () = dripping => unreachable!(), written = writing => written };
            assert_eq!(written.expect_err("patience ends").kind(), io::ErrorKind::TimedOut);
            assert!((20..=22).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_time_but_takes_is_waited_for() {
        let (mut client, server) = duplex(100);
        let requests = Arc::new(Requests::default());
        let mut stream = PatientStream::new(server, Bytes::new(), PATIENCE, requests.clone(), false);
        let _request = requests.begin();
        let reading = async {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_secs(15)).await;
                client.read_exact(&mut [0; 8 << 10]).await.expect("is read");
            }
            client
        };
        let (written, _client) = tokio::join!(stream.write_all(&[0; 64 << 10]), reading);
        written.expect("it took all");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_move_ends_the_connection() {
        let (_client, server) = duplex(100);
        let requests = Arc::new(Requests::default());
        let mut stream = PatientStream::new(server, Bytes::new(), PATIENCE, requests.clone(), true);
        let (answer, other) = (requests.begin().take_answer(), requests.begin().take_answer());
        assert!(tokio::time::timeout(Duration::from_secs(15), stream.read_u8()).await.is_err());
        answer.moves();
        drop(other);
        assert!((20..=22).contains(&seconds_until_it_ends(&mut stream).await));
    }

    #[tokio::test]
    async fn frames_that_ask_for_nothing_end_the_connection() {
        let (mut client, server) = duplex(1 << 20);
        let requests = Arc::new(Requests::default());
        let mut stream = PatientStream::new(server, Bytes::new(), PATIENCE, requests.clone(), true);
        let mut sink = vec![0; UNASKED_BYTES_MAX];
        for _ in 0..3 {
            client.write_all(&sink.clone()).await.expect("is written");
            stream.read_exact(&mut sink).await.expect("is read");
            drop(requests.begin());
        }
        client.write_all(&sink).await.expect("is written");
        stream.read_exact(&mut sink).await.expect("is read");
        client.write_all(b"1").await.expect("is written");
        assert_eq!(stream.read_u8().await.expect_err("one too many").kind(), io::ErrorKind::Other);
    }
}
