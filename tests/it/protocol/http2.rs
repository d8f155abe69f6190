//! HTTP/2 in the clear, with prior knowledge, and what both kinds of HTTP/2 clients share.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::harness::{ADMIN_KEY, Answer, Gateway, Setup, batch, event};

/// A client's end of an HTTP/2 connection.
pub(super) struct Http2(SendRequest<Full<Bytes>>);

impl Http2 {
    /// Greets the server.
    pub(super) async fn on<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Self {
        let (requests, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self(requests)
    }

    async fn to(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect(address).await.expect("it listens")).await
    }

    /// `POST /ingest`.
    pub(super) async fn ingest(&self, body: impl Into<Bytes>) -> Answer {
        self.ingest_as(ADMIN_KEY, body).await
    }

    /// The same with another key.
    async fn ingest_as(&self, key: &str, body: impl Into<Bytes>) -> Answer {
        let request = Request::post("http://tollgate/ingest").header("x-api-key", key).header("content-type", "application/json");
        let request = request.body(Full::new(body.into())).expect("a request");
        let (head, body) = self.0.clone().send_request(request).await.expect("an answer").into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Answer::new(head.status.as_u16(), head.headers, body.into())
    }
}

/// Runs the client's side.
pub(super) fn block_on<T>(client: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(crate::harness::DEADLINE, client).await.expect("in time") })
}

#[test]
fn http2_is_spoken_to_those_who_begin_with_it() {
    let gateway = Gateway::start();
    block_on(async {
        let client = Http2::to(gateway.address()).await;
        client.ingest(event("u-1").json()).await.logged(1);
        client.ingest(batch(&[event("u-2"), event("bad").at(0)])).await.logged(1).rejected(1);
        client.ingest("{").await.refused(400);
    });
    assert_eq!(gateway.usage("m").count(), 2);
}

#[test]
fn many_streams_of_one_connection_are_served_side_by_side() {
    let gateway = Gateway::start();
    block_on(async {
        let client = std::sync::Arc::new(Http2::to(gateway.address()).await);
        let mut answers = tokio::task::JoinSet::new();
        for at in 0..500 {
            let client = client.clone();
            answers.spawn(async move { drop(client.ingest(event(&format!("u-{at}")).json()).await.logged(1)) });
        }
        answers.join_all().await;
    });
    assert_eq!(gateway.usage("m").count(), 500);
}

#[test]
fn a_body_over_http2_has_the_same_limits() {
    let gateway = Setup::with("[ingest]\nbody_bytes_max = 200_000").start();
    block_on(async {
        let client = Http2::to(gateway.address()).await;
        let padded = |bytes: usize| format!("{}{}", event("u-1").json(), " ".repeat(bytes - event("u-1").json().len()));
        client.ingest(padded(200_000)).await.logged(1);
        client.ingest(padded(200_001)).await.refused(413);
        client.ingest(event("u-2").json()).await.logged(1);
    });
    assert_eq!(gateway.usage("m").count(), 2);
}

#[test]
fn a_revoked_key_is_out_on_a_connection_that_is_open() {
    let gateway = Gateway::start();
    let key = gateway.make_key("default", &["ingest"]);
    block_on(async {
        let client = Http2::to(gateway.address()).await;
        client.ingest_as(&key.text, event("u-1").json()).await.logged(1);
        gateway.revoke(&key);
        client.ingest_as(&key.text, event("u-2").json()).await.refused(401);
        client.ingest(event("u-3").json()).await.logged(1);
    });
    assert_eq!(gateway.usage("m").count(), 2);
}

#[test]
fn an_open_connection_does_not_put_off_a_stop() {
    let mut gateway = Gateway::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let client = runtime.block_on(async {
        let client = Http2::to(gateway.address()).await;
        client.ingest(event("u-1").json()).await.logged(1);
        client
    });
    let mut idle = gateway.connect();
    idle.write(crate::harness::wire::ingest(&[], event("u-2").json()));
    idle.answer().logged(1);
    gateway.stop();
    assert!(!gateway.stderr().contains("not finished in time"), "{}", gateway.stderr());
    drop(client);
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 2);
}
