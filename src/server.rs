//! Connections: accepts them, speaks HTTP/1.1 and HTTP/2 (with or without TLS), sends each request on its way, and ends in good order.

mod drain;
mod patience;
pub mod sockets;
pub mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::server::conn::{http1, http2};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tower_service::Service as _;

use crate::accounts::{Caller, Denied, KeyRing};
use crate::api::{Peer, ingest_wants_post, normalise, reconcile};
use crate::config::HttpConfig;
use crate::dialect::amberflo::AmberfloError;
use crate::gateway::body::{self, BodyError, BodyLimits};
use crate::gateway::budget::{Budget, Room};
use crate::gateway::recent::RecentIds;
use crate::gateway::{Gateway, presented_key};
use crate::materializer::Materializer;
use crate::telemetry;
use drain::{Drain, Leave};
use patience::{Patience, PatientStream, Requests};
use tls::Tls;

/// Requests that are not ingest: their bodies are small.
const API_BODY_BYTES_MAX: usize = 1 << 20;
/// Streams that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 200;

/// What requests are handed to.
pub struct Service {
    /// `POST /ingest`.
    pub gateway: Arc<Gateway>,
    /// Everything else behind a key.
    pub router: Router,
    /// Who is who.
    pub keys: Arc<KeyRing>,
    /// Room for bodies, the same as the gateway's.
    pub budget: Budget,
    /// Health and metrics.
    pub ops: Ops,
    /// Whether health and metrics are served here too, or only on a listener of their own.
    pub serves_ops: bool,
    /// Times of bodies.
    pub http: HttpConfig,
}

/// `/healthz`, `/readyz`, `/metrics`.
#[derive(Clone)]
pub struct Ops {
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Knows how many bytes are in flight.
    pub budget: Budget,
    /// Knows how many ids are remembered.
    pub recent: RecentIds,
    /// Knows whether recovery is done.
    pub materializer: Materializer,
    /// Set when the process was told to stop.
    pub draining: Arc<AtomicBool>,
}

type Answer = Response<Body>;

impl Ops {
    /// The answer to an operator's path; `None` for any other path.
    fn answer(&self, path: &str) -> Option<Answer> {
        match path {
            "/healthz" => Some(plain(StatusCode::OK, "ok\n")),
            "/readyz" => Some(self.ready()),
            "/metrics" => {
                self.budget.report();
                self.recent.report();
                metrics_process::Collector::default().collect();
                Some(plain(StatusCode::OK, self.metrics.render()))
            }
            _ => None,
        }
    }

    fn ready(&self) -> Answer {
        if self.draining.load(Ordering::Acquire) {
            plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
        } else if self.materializer.is_ready() {
            plain(StatusCode::OK, "ready\n")
        } else {
            let folded = self.materializer.folded();
            plain(StatusCode::SERVICE_UNAVAILABLE, format!("recovering: folding the log from position {folded}\n"))
        }
    }
}

fn plain(status: StatusCode, body: impl Into<Body>) -> Answer {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

impl Service {
    /// Once the process was told to stop, the answer says that it is the connection's last: HTTP/2 has other words for it.
    async fn answer(&self, request: Request<Incoming>, is_http2: bool) -> Answer {
        let mut answer = self.handle(request).await;
        if !is_http2 && self.ops.draining.load(Ordering::Acquire) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    async fn handle(&self, request: Request<Incoming>) -> Answer {
        let started = Instant::now();
        let path = normalise(request.uri().path(), "/amberflo");
        let (head, mut body) = request.into_parts();
        if path == "/ingest" {
            let mut response = match head.method {
                Method::POST => self.gateway.ingest(&head, &mut body).await.map(Body::new),
                _ => ingest_wants_post(),
            };
            telemetry::observe_ingest(response.status().as_u16(), started.elapsed());
            body::finish(&head, &mut body, &mut response).await;
            return response;
        }
        if let Some(answer) = self.serves_ops.then(|| self.ops.answer(&path)).flatten() {
            return answer;
        }
        let caller = match presented_key(&head.headers) {
            Some(key) => self.keys.find(key).await,
            None => Err(Denied::Unknown),
        };
        let prepared = match &caller {
            Ok(caller) => self.prepare(caller, &head, &mut body, &path).await,
            Err(denied) => Err(AmberfloError::denied(*denied)),
        };
        let mut response = match prepared {
            // The router's own error is `Infallible`.
            Ok((request, _room)) => self.router.clone().call(request).await.unwrap_or_else(|never| match never {}),
            Err(error) => {
                telemetry::observe_request("none", error.status.as_u16(), started.elapsed());
                let mut response = axum::response::IntoResponse::into_response(error);
                body::finish(&head, &mut body, &mut response).await;
                response
            }
        };
        if let Ok(caller) = caller {
            caller.describe_limits(response.headers_mut());
        }
        response
    }

    /// Checks the key's allowance, reads the body, and puts the normalised path in. The room is held until the request is answered.
    async fn prepare(
        &self,
        caller: &Caller,
        head: &Parts,
        body: &mut Incoming,
        path: &str,
    ) -> Result<(Request<Body>, Room), AmberfloError> {
        caller.take_request().map_err(|exceeded| AmberfloError::too_many_requests(&exceeded))?;
        let wire_max = if path == reconcile::PATH { reconcile::BODY_BYTES_MAX } else { API_BODY_BYTES_MAX };
        let limits = BodyLimits { wire_max, inflated_max: 4 * wire_max, idle: self.http.body_idle_timeout, total: self.http.body_timeout };
        let (bytes, room) = body::read(&head.headers, body, limits, &self.budget).await.map_err(|error| body_refusal(&error))?;
        // Revoked or disabled while the body came.
        caller.check().map_err(AmberfloError::denied)?;
        let path_and_query = match head.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let mut head = head.clone();
        head.uri = path_and_query.parse::<Uri>().map_err(|_| AmberfloError::bad_request("the path is not valid"))?;
        head.headers.remove(hyper::header::CONTENT_ENCODING);
        head.extensions.insert(caller.clone());
        Ok((Request::from_parts(head, Body::from(bytes)), room))
    }
}

/// The one place where a body's error becomes an answer, outside of ingest.
fn body_refusal(error: &BodyError) -> AmberfloError {
    let (status, code) = match error {
        BodyError::TooLarge { .. } | BodyError::InflatedTooLarge { .. } | BodyError::RatioTooLarge => {
            (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE")
        }
        BodyError::UnknownCoding(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UNSUPPORTED_MEDIA_TYPE"),
        BodyError::Damaged(_) => (StatusCode::BAD_REQUEST, "BAD_REQUEST"),
        BodyError::TooSlow | BodyError::Cut => (StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT"),
        BodyError::NoRoom(_) => return AmberfloError::unavailable(error.to_string(), 1),
    };
    AmberfloError::new(status, code, error.to_string())
}

/// How connections are kept.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// Open at a time; more are closed at once.
    pub connections_max: usize,
    /// For the head of a request, for the first byte of a connection, and for a TLS handshake.
    pub header_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// For the next request, once the process was told to stop; at most half of the time for everything.
    pub drain_idle: Duration,
    /// For everything that is under way then.
    pub drain_timeout: Duration,
}

/// Accepts connections until `stop` completes. Then every connection gets one more answer, or a while to ask for it; those that
/// come in that while are served, too. All of it ends after the drain time-out.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    service: Arc<Service>,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()>,
) {
    // Whoever comes last in that while has as long again.
    let idle = limits.drain_idle.min(limits.drain_timeout / 2);
    let (drain, leave) = Drain::new(idle);
    let door = Arc::new(Door::new(service, tls, &limits, leave));
    let mut conversations = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            accepted = accept(&listener) => door.clone().open(accepted, &mut conversations),
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
            accepted = accept(&listener) => door.clone().open(accepted, &mut latecomers),
            Some(_) = latecomers.join_next() => {}
            () = &mut overdue => break,
        }
    }
    drop(listener);
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

/// Speaks HTTP on accepted connections.
struct Door {
    service: Arc<Service>,
    tls: Option<Tls>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
    patience: Patience,
    places: Arc<Semaphore>,
    places_max: usize,
    leave: Leave,
}

impl Door {
    fn new(service: Arc<Service>, tls: Option<Tls>, limits: &ConnectionLimits, leave: Leave) -> Self {
        let mut http1 = http1::Builder::new();
        // Patience is kept by the stream.
        http1.timer(TokioTimer::new()).header_read_timeout(None).pipeline_flush(true);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2.timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX).keep_alive_interval(Duration::from_secs(30));
        let patience = Patience { head: limits.header_timeout, idle: limits.idle_timeout };
        let (places, places_max) = (Arc::new(Semaphore::new(limits.connections_max)), limits.connections_max);
        Self { service, tls, http1, http2, patience, places, places_max, leave }
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
    async fn speak_plainly(&self, stream: TcpStream, peer: SocketAddr, mut leave: Leave) -> Result<(), String> {
        let begin = tokio::select! {
            biased;
            begin = tokio::time::timeout(self.patience.head, begins_http2(&stream)) => begin,
            () = leave.is_overdue() => return Err("it had said nothing when the process stopped".into()),
        };
        match begin {
            Ok(Ok(is_http2)) => self.converse(stream, peer, is_http2, leave).await,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it said nothing, or too little".into()),
        }
    }

    /// The version that was agreed on in the handshake.
    async fn speak_tls(&self, stream: TcpStream, peer: SocketAddr, tls: &Tls, leave: Leave) -> Result<(), String> {
        match tokio::time::timeout(self.patience.head, tls.acceptor().accept(stream)).await {
            Ok(Ok(stream)) => {
                let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.converse(stream, peer, is_http2, leave).await
            }
            Ok(Err(error)) => Err(format!("the TLS handshake failed: {error}")),
            Err(_) => Err("the TLS handshake took too long".into()),
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        peer: SocketAddr,
        is_http2: bool,
        mut leave: Leave,
    ) -> Result<(), String> {
        let requests = Arc::new(Requests::default());
        let stream = TokioIo::new(PatientStream::new(stream, self.patience, requests.clone(), is_http2));
        let (service, begun) = (self.service.clone(), requests.clone());
        let answer = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let (service, open) = (service.clone(), begun.begin());
            request.extensions_mut().insert(Peer(peer));
            async move {
                let _open = open;
                Ok::<_, Infallible>(service.answer(request, is_http2).await)
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

/// Whether the connection begins with the preface of HTTP/2; looks without reading.
async fn begins_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut begin = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut begin).await?;
        if seen == PREFACE.len() || seen == 0 || begin[..seen] != PREFACE[..seen] {
            return Ok(seen == PREFACE.len() && begin == PREFACE);
        }
        // A part of the preface is there, and stays readable: ask again in a moment.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The next connection. A failure to accept (no file descriptors) is waited out: it heals itself.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Answers are small and must not wait for more to come.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%peer, %error, "TCP_NODELAY was refused");
                }
                return (stream, peer);
            }
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves health and metrics on a listener of their own, for as long as it is polled.
pub async fn serve_ops(listener: TcpListener, ops: Ops) {
    let builder = auto::Builder::new(TokioExecutor::new());
    loop {
        let (stream, _) = accept(&listener).await;
        let (ops, builder) = (ops.clone(), builder.clone());
        tokio::spawn(async move {
            let answer = hyper::service::service_fn(move |request: Request<Incoming>| {
                let answer =
                    ops.answer(request.uri().path()).unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "try /healthz, /readyz or /metrics\n"));
                let answering: Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>> = Box::pin(std::future::ready(Ok(answer)));
                answering
            });
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), answer).await {
                tracing::debug!(error = %error, "an operator's connection ended");
            }
        });
    }
}
