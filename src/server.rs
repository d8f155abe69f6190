//! Connections: accepts them, speaks HTTP/1.1 and HTTP/2 (with or without TLS), sends each request on its way, and ends in good order.

mod answer;
pub mod descriptors;
mod door;
mod drain;
mod head;
mod openapi;
mod patience;
pub mod sockets;
pub mod tls;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Uri};
use metrics_exporter_prometheus::PrometheusHandle;
use tower_service::Service as _;

use crate::accounts::{Caller, Denied, KeyRing};
use crate::api::{Peer, method_not_allowed_error, needs_no_key, not_here, reconcile};
use crate::config::HttpConfig;
use crate::dialect::ApiError;
use crate::dialect::routing::{self, Dialect, Routed, is_in};
use crate::dialect::speak;
use crate::gateway::body::{self, BodyLimits};
use crate::gateway::budget::{Budget, Room};
use crate::gateway::door::Door;
use crate::gateway::recent::RecentIds;
use crate::gateway::{Gateway, presented_key};
use crate::log::disk::room::Room as DiskRoom;
use crate::portal::web::{self, SentPath};
use crate::telemetry;

pub use door::{ConnectionLimits, serve, serve_ops};
pub use openapi::described;

/// Requests that are not ingest: their bodies are small.
const API_BODY_BYTES_MAX: usize = 1 << 20;

/// What requests are handed to.
pub struct Service {
    /// `POST /ingest`; `None`: not this node's role.
    pub gateway: Option<Arc<Gateway>>,
    /// Everything else behind a key; `None`: not this node's role.
    pub router: Option<Router>,
    /// The pages below [`web::PREFIX`], which need no key; `None`: not this node's role.
    pub portal: Option<Router>,
    /// Who is who.
    pub keys: Arc<KeyRing>,
    /// Room for their requests.
    pub budget: Budget,
    /// Times of bodies.
    pub http: HttpConfig,
}

/// Where every request comes to: a node may be asked before it has what it takes to answer.
pub struct Front {
    /// Health and metrics.
    pub ops: Ops,
    /// Whether health and metrics are served here too, or only on a listener of their own.
    pub serves_ops: bool,
    /// Everything else, once it is there.
    pub service: OnceLock<Service>,
}

/// Whether a node can do its work.
pub trait Readiness: Send + Sync + 'static {
    /// What is missing, a line for each thing, for an operator; empty: nothing.
    fn missing(&self) -> Vec<String>;
}

/// `/healthz`, `/readyz`, `/metrics`.
#[derive(Clone)]
pub struct Ops {
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// Know how many bytes are in flight.
    pub budgets: [Budget; 2],
    /// Knows how many ids are remembered.
    pub recent: RecentIds,
    /// Knows how much the disk has left.
    pub disk: Arc<DiskRoom>,
    /// Knows whether the node can do its work.
    pub readiness: Arc<dyn Readiness>,
    /// Set when the process was told to stop.
    pub draining: Arc<AtomicBool>,
    /// Answers other nodes.
    pub internal: Internal,
}

/// What other nodes ask.
#[derive(Clone)]
pub struct Internal {
    /// With what the paths of their questions begin.
    pub prefix: &'static str,
    /// Answers them, once there is what it takes; never, where there are no other nodes.
    pub router: Arc<OnceLock<Router>>,
}

type Answer = Response<Body>;

impl Ops {
    /// The answer to an operator's path; `None` for any other path.
    fn answer(&self, method: &Method, path: &str) -> Option<Answer> {
        match path {
            openapi::HEALTH | openapi::READINESS | openapi::METRICS if ![Method::GET, Method::HEAD].contains(method) => {
                Some(wants("GET,HEAD"))
            }
            openapi::HEALTH => Some(plain(StatusCode::OK, "ok\n")),
            openapi::READINESS => Some(self.ready()),
            openapi::METRICS => {
                self.budgets.iter().for_each(Budget::report);
                self.recent.report();
                self.disk.report();
                telemetry::set_ready(self.ready().status() == StatusCode::OK);
                metrics_process::Collector::default().collect();
                Some(plain(StatusCode::OK, self.metrics.render()))
            }
            _ => None,
        }
    }

    /// The answer on the operator's own address.
    async fn answer_operator(&self, request: Request<Incoming>, is_http2: bool) -> Answer {
        let (mut head, mut body) = request.into_parts();
        let mut answer = match head::check(&mut head) {
            Err(refusal) => return refusal.answer(is_http2),
            Ok(()) if self.internal.is_asked(head.uri.path()) => return self.internal.answer(head, body).await,
            Ok(()) => self
                .answer(&head.method, head.uri.path())
                .unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "try /healthz, /readyz or /metrics\n")),
        };
        body::finish(&head, &mut body, &mut answer).await;
        answer
    }

    fn ready(&self) -> Answer {
        if self.draining.load(Ordering::Acquire) {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        }
        let missing = self.readiness.missing();
        if missing.is_empty() {
            plain(StatusCode::OK, "ready\n")
        } else {
            plain(StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n")
        }
    }
}

impl Internal {
    fn is_asked(&self, path: &str) -> bool {
        path.starts_with(self.prefix)
    }

    /// The answer to another node.
    async fn answer(&self, head: Parts, body: Incoming) -> Answer {
        match self.router.get() {
            // The router's own error is `Infallible`.
            Some(router) => router.clone().call(Request::from_parts(head, Body::new(body))).await.unwrap_or_else(|never| match never {}),
            None => plain(StatusCode::NOT_FOUND, "no other node is answered here\n"),
        }
    }
}

/// 405: the methods that a path knows.
fn wants(methods: &'static str) -> Answer {
    let mut response = method_not_allowed_error().into_response().map(Body::new);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn plain(status: StatusCode, body: impl Into<Body>) -> Answer {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

impl Front {
    /// Once the process was told to stop, the answer says that it is the connection's last: HTTP/2 has other words for it.
    async fn answer(&self, request: Request<Incoming>, peer: SocketAddr, is_http2: bool) -> Answer {
        let (mut head, body) = request.into_parts();
        // No path has it, and nobody asks so twice.
        let is_trace = head.method == Method::TRACE;
        let mut answer = match head::check(&mut head) {
            Ok(()) => self.handle(head, body, peer).await,
            Err(refusal) => refusal.answer(is_http2),
        };
        if !is_http2 && (is_trace || self.ops.draining.load(Ordering::Acquire)) {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    async fn handle(&self, head: Parts, mut body: Incoming, peer: SocketAddr) -> Answer {
        let started = Instant::now();
        let routed = routing::route(&head.method, head.uri.path(), &head.headers);
        let door = Door::at(&routed).filter(|door| door.takes(&head.method));
        if let (Some(door), Some(Service { gateway: Some(gateway), .. })) = (door, self.service.get()) {
            let mut response = match head.method {
                // Boxed, so that what waits around it is moved into its place without it.
                Method::POST => Box::pin(gateway.ingest(door, &head, &mut body)).await,
                // Its events can be listed at the same path.
                _ if door == Door::CloudEvents => speak(door.dialect(), wants("GET,HEAD,POST")),
                _ => speak(door.dialect(), wants("POST")),
            };
            match door {
                Door::Amberflo => telemetry::observe_ingest(response.status().as_u16(), started.elapsed()),
                _ => telemetry::observe_request(door.route(), response.status().as_u16(), started.elapsed()),
            }
            body::finish(&head, &mut body, &mut response).await;
            return response;
        }
        // Boxed, so that the way of events, which nearly all requests go, does not carry what this one needs.
        Box::pin(self.handle_others(head, body, peer, (routed, door.is_none()), started)).await
    }

    /// Everything but events. `routed`: where to, and whether no door of events is there.
    async fn handle_others(
        &self,
        mut head: Parts,
        mut body: Incoming,
        peer: SocketAddr,
        (routed, is_no_door): (Routed, bool),
        started: Instant,
    ) -> Answer {
        head.extensions.insert(Peer(peer));
        let (dialect, path) = routed.target();
        if self.serves_ops && self.ops.internal.is_asked(&path) {
            return self.ops.internal.answer(head, body).await;
        }
        if let Some(mut answer) = self.serves_ops.then(|| self.ops.answer(&head.method, &path)).flatten() {
            body::finish(&head, &mut body, &mut answer).await;
            return answer;
        }
        let refusal = match self.service.get() {
            Some(Service { portal: Some(portal), .. }) if is_in(&path, web::PREFIX) => {
                return ask_openly(portal, head, body, &path).await;
            }
            Some(service) => match &service.router {
                Some(router) if is_no_door => return service.ask(router, head, body, dialect, &path, started).await,
                _ => not_here(),
            },
            None => ApiError::unavailable("this node is starting; send the same request again", 1),
        };
        telemetry::observe_request("none", refusal.status.as_u16(), started.elapsed());
        let mut response = speak(dialect, IntoResponse::into_response(refusal));
        body::finish(&head, &mut body, &mut response).await;
        response
    }
}

impl Service {
    /// Everything but events.
    async fn ask(&self, router: &Router, head: Parts, mut body: Incoming, dialect: Dialect, path: &str, started: Instant) -> Answer {
        if needs_no_key(path) {
            return ask_openly(router, head, body, path).await;
        }
        let caller = match presented_key(&head.headers) {
            Some(key) => self.keys.find(key).await,
            None => Err(Denied::Unknown),
        };
        let prepared = match &caller {
            Ok(caller) => self.prepare(caller, &head, &mut body, path).await,
            Err(denied) => Err(ApiError::denied(*denied)),
        };
        let mut response = match prepared {
            // The router's own error is `Infallible`.
            Ok((request, _room)) => router.clone().call(request).await.unwrap_or_else(|never| match never {}),
            Err(error) => {
                telemetry::observe_request("none", error.status.as_u16(), started.elapsed());
                let mut response = speak(dialect, IntoResponse::into_response(error));
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
    async fn prepare(&self, caller: &Caller, head: &Parts, body: &mut Incoming, path: &str) -> Result<(Request<Body>, Room), ApiError> {
        caller.take_request().map_err(|exceeded| ApiError::too_many_requests(&exceeded))?;
        let wire_max = if path == reconcile::PATH { reconcile::BODY_BYTES_MAX } else { API_BODY_BYTES_MAX };
        let limits = BodyLimits { wire_max, inflated_max: 4 * wire_max, idle: self.http.body_idle_timeout, total: self.http.body_timeout };
        let (bytes, room) =
            body::read(&head.headers, body, limits, &self.budget, caller.api_share()).await.map_err(|error| body::refusal(&error))?;
        // Revoked or disabled while the body came.
        caller.check().map_err(ApiError::denied)?;
        let mut head = head.clone();
        // Over HTTP/2 the target alone has it.
        if let (None, Some(authority)) = (head.headers.get(HOST), head.uri.authority())
            && let Ok(host) = HeaderValue::try_from(authority.as_str())
        {
            head.headers.insert(HOST, host);
        }
        head.uri = normalised(&head.uri, path)?;
        head.headers.remove(hyper::header::CONTENT_ENCODING);
        head.extensions.insert(caller.clone());
        Ok((Request::from_parts(head, Body::from(bytes)), room))
    }
}

/// What is for everybody: nobody is asked for a key, and a body is not read.
async fn ask_openly(router: &Router, mut head: Parts, mut body: Incoming, path: &str) -> Answer {
    let mut response = match normalised(&head.uri, path) {
        Ok(uri) => {
            let sent = SentPath(head.uri.path().to_owned());
            head.uri = uri;
            let mut request = Request::from_parts(head.clone(), Body::empty());
            request.extensions_mut().insert(sent);
            // The router's own error is `Infallible`.
            router.clone().call(request).await.unwrap_or_else(|never| match never {})
        }
        Err(error) => IntoResponse::into_response(error),
    };
    body::finish(&head, &mut body, &mut response).await;
    response
}

/// The target of a request with its path normalised.
fn normalised(uri: &Uri, path: &str) -> Result<Uri, ApiError> {
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    path_and_query.parse().map_err(|_| ApiError::bad_request("the path is not valid"))
}
