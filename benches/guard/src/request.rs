//! Whole requests, from the bytes on a connection to the bytes of the answer, as the binary takes them; only the socket is missing.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tollgate::batch::Batcher;
use tollgate::clock::Clock;
use tollgate::definitions::Definitions;
use tollgate::event::{HashKey, TimeWindow};
use tollgate::gateway::body::BodyLimits;
use tollgate::gateway::budget::Budget;
use tollgate::gateway::door::Door;
use tollgate::gateway::{Gateway, Settings};
use tollgate::log::disk::RealDisk;
use tollgate::rules::Rules;
use tollgate::store::Store;
use tollgate::store::embedded::EmbeddedStore;
use tollgate::telemetry::RoomKind;

use crate::keys::{self, Keys};
use crate::{log, recent};

/// How every answer ends.
const ANSWER_END: &[u8] = b"records were ingested";
const MINUTE: Duration = Duration::from_secs(60);

/// A connection to a gateway.
pub(crate) struct Connection {
    runtime: Runtime,
    ours: DuplexStream,
    key: String,
    answer: Vec<u8>,
}

impl Connection {
    /// To a gateway whose log is in `dir`.
    pub(crate) fn open(dir: &Path) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let keys = keys::keys(dir);
        let key = keys.plain.clone();
        let gateway = Arc::new(gateway(dir, keys, &runtime));
        let (ours, its) = tokio::io::duplex(1 << 20);
        let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
            let gateway = gateway.clone();
            async move {
                let (head, mut body) = request.into_parts();
                Ok::<_, Infallible>(gateway.ingest(Door::Amberflo, &head, &mut body).await)
            }
        });
        runtime.spawn(http1::Builder::new().serve_connection(TokioIo::new(its), service));
        Self { runtime, ours, key, answer: Vec::with_capacity(1 << 10) }
    }

    /// A request with this body.
    pub(crate) fn request(&self, body: &[u8]) -> Vec<u8> {
        let head = format!(
            "POST /ingest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-api-key: {}\r\ncontent-length: {}\r\n\r\n",
            self.key,
            body.len()
        );
        [head.as_bytes(), body].concat()
    }

    /// Sends a request and waits until its events are durable.
    pub(crate) fn send(&mut self, request: &[u8]) {
        let Self { runtime, ours, answer, .. } = self;
        answer.clear();
        runtime.block_on(async {
            ours.write_all(request).await.expect("is taken");
            while !answer.ends_with(ANSWER_END) {
                assert_ne!(ours.read_buf(answer).await.expect("an answer"), 0, "{}", String::from_utf8_lossy(answer));
            }
        });
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(answer));
    }
}

fn gateway(dir: &Path, keys: Keys, runtime: &Runtime) -> Gateway {
    let batcher = |name: &'static str| {
        let (_, appender) = log::open(RealDisk, &dir.join(name));
        Batcher::start(name, appender, runtime.handle(), 64, Arc::new(())).expect("a thread").0
    };
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&dir.join("definitions.redb")).expect("opens"));
    let body = BodyLimits { wire_max: 8 << 20, inflated_max: 32 << 20, idle: MINUTE, total: MINUTE };
    Gateway {
        settings: Settings { body, events_max: 10_000, event_bytes_max: 64 << 10, window: TimeWindow::default() },
        keys: keys.ring,
        budget: Budget::new(RoomKind::Ingest, 64 << 20, MINUTE),
        rules: Arc::new(Rules::open(store.clone()).expect("no rules")),
        definitions: Arc::new(Definitions::open(store).expect("none")),
        recent: recent::filled(0),
        events: batcher("events"),
        dead_letters: batcher("dead_letters"),
        hash_key: HashKey::from_bytes([7; 16]),
        clock: Clock::start(),
        large_parses: Arc::new(Semaphore::new(1)),
    }
}
