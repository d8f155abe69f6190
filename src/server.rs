//! Connections: accepts them, speaks HTTP/1.1 and HTTP/2 (with or without TLS), sends each request on its way, and ends in good order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use crate::accounts::KeyRing;
use crate::api::{ingest_wants_post, normalise};
use crate::config::HttpConfig;
use crate::dialect::amberflo::AmberfloError;
use crate::gateway::body::{self, BodyError, BodyLimits};
use crate::gateway::budget::Budget;
use crate::gateway::{Gateway, presented_key};
use crate::materializer::Materializer;
use crate::telemetry;

/// Requests that are not ingest: their bodies are small.
const API_BODY_BYTES_MAX: usize = 1 << 20;
/// Streams that one HTTP/2 connection may have open.
const STREAMS_MAX: u32 = 200;

/// What requests are handed to.
pub struct Service {
    /// `POST /ingest`.
    pub gateway: Gateway,
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
    async fn handle(&self, request: Request<Incoming>) -> Answer {
        let started = Instant::now();
        let path = normalise(request.uri().path(), "/amberflo");
        if path == "/ingest" {
            let response =
                if request.method() == Method::POST { self.gateway.ingest(request).await.map(Body::new) } else { ingest_wants_post() };
            telemetry::observe_ingest(response.status().as_u16(), started.elapsed());
            return response;
        }
        if let Some(answer) = self.serves_ops.then(|| self.ops.answer(&path)).flatten() {
            return answer;
        }
        match self.prepare(request, &path).await {
            // The router's own error is `Infallible`.
            Ok(request) => self.router.clone().call(request).await.unwrap_or_else(|never| match never {}),
            Err(error) => {
                telemetry::observe_request("none", error.status.as_u16(), started.elapsed());
                axum::response::IntoResponse::into_response(error)
            }
        }
    }

    /// Checks the key, reads the body, and puts the normalised path in.
    async fn prepare(&self, request: Request<Incoming>, path: &str) -> Result<Request<Body>, AmberfloError> {
        let (mut head, body) = request.into_parts();
        let caller = presented_key(&head.headers).and_then(|key| self.keys.caller(key)).ok_or_else(AmberfloError::unauthorized)?;
        let limits = BodyLimits {
            wire_max: API_BODY_BYTES_MAX,
            inflated_max: 4 * API_BODY_BYTES_MAX,
            idle: self.http.body_idle_timeout,
            total: self.http.body_timeout,
        };
        let (bytes, room) = body::read(&head.headers, body, limits, &self.budget).await.map_err(|error| body_refusal(&error))?;
        let path_and_query = match head.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        head.uri = path_and_query.parse::<Uri>().map_err(|_| AmberfloError::bad_request("the path is not valid"))?;
        head.headers.remove(hyper::header::CONTENT_ENCODING);
        head.extensions.insert(caller);
        // Held for as long as the request is.
        head.extensions.insert(Arc::new(room));
        Ok(Request::from_parts(head, Body::from(bytes)))
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
    /// For the head of a request, and for a TLS handshake.
    pub header_timeout: Duration,
}

/// Accepts connections until `stop` completes, then lets those under way finish for at most `drain`.
pub async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    service: Arc<Service>,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()>,
    drain: Duration,
) {
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let graceful = GracefulShutdown::new();
    let mut conversations = JoinSet::new();
    let builder = http_builder(&limits);
    tokio::pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = accept(&listener) => accepted,
            Some(_) = conversations.join_next() => continue,
            () = &mut stop => break,
        };
        let Ok(place) = connections.clone().try_acquire_owned() else {
            tracing::debug!(%peer, limit = limits.connections_max, "a connection was closed: too many are open");
            continue;
        };
        let (service, tls, builder) = (service.clone(), tls.clone(), builder.clone());
        let watcher = graceful.watcher();
        let handshake_timeout = limits.header_timeout;
        conversations.spawn(async move {
            let _place = place;
            telemetry::add_connections(1.0);
            match tls {
                None => converse(stream, service, &builder, watcher).await,
                Some(tls) => match tokio::time::timeout(handshake_timeout, tls.accept(stream)).await {
                    Ok(Ok(stream)) => converse(stream, service, &builder, watcher).await,
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "a TLS handshake failed"),
                    Err(_) => tracing::debug!(%peer, "a TLS handshake took too long"),
                },
            }
            telemetry::add_connections(-1.0);
        });
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = drain.as_secs(), "some requests were not finished in time");
    }
    // Whoever is left holds a handle to the log, which is closed next.
    conversations.shutdown().await;
}

fn http_builder(limits: &ConnectionLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).pipeline_flush(true);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS_MAX).keep_alive_interval(Duration::from_secs(30));
    builder
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

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    service: Arc<Service>,
    builder: &auto::Builder<TokioExecutor>,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let answer = hyper::service::service_fn(move |request| {
        let service = service.clone();
        async move { Ok::<_, Infallible>(service.handle(request).await) }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), answer).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(error = %error, "a connection ended");
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
