//! Asks another node for an index.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::wire::Head;
use crate::cluster::NodeAddress;
use crate::cluster::internal::PREFIX;
use crate::cluster::secret::NodeSecret;
use crate::materializer::first_positions::copy::{Offer, Wanted};
use crate::telemetry::handover::NotFetched;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// How long nothing may come, once something has.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(5);

/// Other nodes. Connections are not kept: each has one large answer.
pub(super) struct Peers {
    client: Client<HttpConnector, Empty<Bytes>>,
    secret: NodeSecret,
}

/// Why there is no index, and what to tell the operator.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) reason: NotFetched,
    pub(super) what: String,
}

impl Failed {
    pub(super) fn new(reason: NotFetched, what: impl ToString) -> Self {
        Self { reason, what: what.to_string() }
    }
}

/// An index that begins to come.
pub(super) struct Offered {
    pub(super) offer: Offer,
    /// What has come of it already.
    begun: Bytes,
    body: Incoming,
}

impl Peers {
    pub(super) fn new(secret: NodeSecret) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_MAX));
        connector.set_nodelay(true);
        Self { client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector), secret }
    }

    /// What a node offers; `None`: it has none.
    pub(super) async fn ask(&self, node: &NodeAddress, partition: u32, wanted: &Wanted) -> Result<Option<Offered>, Failed> {
        let request = Request::builder()
            .method(Method::GET)
            .uri(format!("{}{PREFIX}partitions/{partition}/index", node.url))
            .header(AUTHORIZATION, self.secret.authorization())
            .body(Empty::new())
            .map_err(|error| Failed::new(NotFetched::Unreachable, format!("its address cannot be asked: {error}")))?;
        let answer = self.client.request(request).await.map_err(|error| Failed::new(NotFetched::Unreachable, error))?;
        let (head, body) = answer.into_parts();
        match head.status {
            StatusCode::OK => Offered::begin(body, partition, wanted).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(Failed::new(NotFetched::Refused, format!("it answers with {status}"))),
        }
    }
}

impl Offered {
    /// Reads the head.
    async fn begin(mut body: Incoming, partition: u32, wanted: &Wanted) -> Result<Self, Failed> {
        let damaged = |what: String| Failed::new(NotFetched::Damaged, what);
        let mut come = BytesMut::new();
        let (head, used) = loop {
            match Head::read(&come).map_err(|nonsense| damaged(nonsense.to_string()))? {
                Some(read) => break read,
                None => come.extend_from_slice(&next(&mut body).await?.ok_or_else(|| damaged("it ends within its head".into()))?),
            }
        };
        if head.partition != partition {
            return Err(damaged(format!("it is that of partition {}", head.partition)));
        }
        let offer = Offer::read(head.manifest.as_bytes(), head.sizes, wanted).map_err(|error| damaged(error.to_string()))?;
        let begun = come.freeze().split_off(used);
        Ok(Self { offer, begun, body })
    }

    /// What has come next; `None`: that was all.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failed> {
        if !self.begun.is_empty() {
            return Ok(Some(std::mem::take(&mut self.begun)));
        }
        next(&mut self.body).await
    }
}

/// The next bytes; `None`: that was all.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Failed> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(Failed::new(NotFetched::Cut, error)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) if data.is_empty() => {}
                Ok(data) => return Ok(Some(data)),
                // Trailers say nothing here.
                Err(_) => {}
            },
        }
    }
}
