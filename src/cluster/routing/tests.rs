//! Nodes in one process, over real connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::response::Redirect;
use axum::routing::any;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::clock::UnixMillis;
use crate::cluster::handover::Lending;
use crate::cluster::internal;
use crate::event::IdentityMode;
use crate::log::disk::RealDisk;
use crate::log::memory::{MemoryLog, MemoryPartition};
use crate::log::record::Account;
use crate::materializer::{Materializer, Running};
use crate::store::embedded::EmbeddedStore;
use crate::verdicts::tests::{Sent, materialize};

const PARTITIONS: u32 = 2;
const WAIT: Duration = Duration::from_secs(20);
/// For what does not get an answer.
const SHORT: Duration = Duration::from_millis(400);

/// What all nodes have in common.
struct World {
    dir: TempDir,
    store: Arc<dyn Store>,
    logs: Vec<Arc<MemoryLog>>,
    folds: AtomicUsize,
}

/// A node: what it sees of the log, what it owns, and where it is reached.
struct Node {
    name: &'static str,
    seen: Vec<Arc<MemoryPartition>>,
    owned: Arc<Mutex<HashMap<u32, (Materializer, Running)>>>,
    /// How often it was looked whether it owns a partition.
    looked: Arc<AtomicUsize>,
    routed: Arc<Routed>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl<F: Fn(u32) -> Option<Materializer> + Send + Sync + 'static> OwnedHere for F {
    fn get(&self, partition: u32) -> Option<Materializer> {
        self(partition)
    }
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Arc::new(EmbeddedStore::open(&dir.path().join("store.redb")).expect("opens"));
        Self { dir, store, logs: (0..PARTITIONS).map(MemoryLog::new).collect(), folds: AtomicUsize::new(0) }
    }

    fn secret(&self) -> NodeSecret {
        NodeSecret::open(&*self.store).expect("made or read")
    }

    async fn node(&self, name: &'static str) -> Node {
        let seen: Vec<_> = self.logs.iter().map(MemoryLog::seen).collect();
        let log = || seen.iter().map(|partition| partition.clone() as Arc<dyn Partition>).collect::<Vec<_>>();
        let owned: Arc<Mutex<HashMap<u32, (Materializer, Running)>>> = Arc::default();
        let looked = Arc::<AtomicUsize>::default();
        let (here, looks) = (owned.clone(), looked.clone());
        let here: Arc<dyn OwnedHere> = Arc::new(move |partition| {
            looks.fetch_add(1, Ordering::SeqCst);
            here.lock().expect("no panic").get(&partition).map(|(materializer, _)| materializer.clone())
        });
        let routed = Arc::new(Routed::new(log(), here.clone(), self.store.clone(), self.secret()));
        let lending = Lending::new(Arc::new(RealDisk), self.dir.path().join("none"), PARTITIONS);
        let (address, server) = serve(internal::router(log(), here, self.secret(), lending)).await;
        Node { name, seen, owned, looked, routed, address, server }
    }

    /// Lets a node fold a partition from the begin, without telling anybody.
    fn fold(&self, node: &Node, partition: u32) {
        let dir = self.dir.path().join(self.folds.fetch_add(1, Ordering::SeqCst).to_string());
        let folds = materialize(node.seen[partition as usize].clone(), dir, PARTITIONS);
        node.owned.lock().expect("no panic").insert(partition, folds);
    }

    fn say(&self, partition: u32, node: &str, address: impl std::fmt::Display) {
        let address = NodeAddress { node: node.into(), url: format!("http://{address}") };
        OwnerAddress::take(&address, &*self.store, partition).expect("written");
    }

    fn give(&self, node: &Node, partition: u32) {
        self.fold(node, partition);
        self.say(partition, node.name, node.address);
    }

    /// Appends an event of a number to the partition that it belongs to.
    fn send(&self, number: u64, value: i64) -> (u32, Position) {
        let sent = sent(number, value);
        let partition = sent.partition(PARTITIONS);
        (partition, self.logs[partition as usize].append(UnixMillis(1_000), sent.record(UnixMillis(1_000))))
    }
}

impl Node {
    fn stop_folding(&self, partition: u32) {
        let (materializer, running) = self.owned.lock().expect("no panic").remove(&partition).expect("it folds it");
        drop(materializer);
        running.stop().expect("stops");
    }

    /// Where an event stands first, as this node gives it out.
    async fn first(&self, number: u64) -> Result<Option<Position>, ViewError> {
        self.first_within(number, WAIT).await
    }

    async fn first_within(&self, number: u64, wait: Duration) -> Result<Option<Position>, ViewError> {
        let sent = sent(number, 0);
        let firsts = self.routed.firsts(sent.partition(PARTITIONS), vec![Lookup::any(sent.identity())], wait).await?;
        assert_eq!(firsts.len(), 1);
        Ok(firsts[0].map(|first| first.position))
    }

    async fn conflicts(&self, partition: u32) -> Vec<(Position, Position)> {
        let found = self.routed.conflicts(partition, 1, Position(u64::MAX), 3, WAIT).await.expect("an answer");
        found.iter().map(|conflict| (conflict.position, conflict.first)).collect()
    }

    fn end(self) {
        self.server.abort();
        let owned: Vec<u32> = self.owned.lock().expect("no panic").keys().copied().collect();
        owned.into_iter().for_each(|partition| self.stop_folding(partition));
    }
}

fn sent(number: u64, value: i64) -> Sent {
    let account = Account { number: 1, identity: IdentityMode::UniqueId };
    Sent { account, id: format!("u-{number}"), value, dimension: 0, is_filtered: false }
}

/// Numbers of events of a partition.
fn numbers_in(partition: u32) -> impl Iterator<Item = u64> {
    (0..).filter(move |number| sent(*number, 0).partition(PARTITIONS) == partition)
}

fn number_in(partition: u32) -> u64 {
    numbers_in(partition).next().expect("there are many")
}

pub(in crate::cluster) async fn serve(router: Router) -> (SocketAddr, JoinHandle<()>) {
    listen(move |stream| {
        let router = router.clone();
        async move {
            let service = TowerToHyperService::new(router);
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        }
    })
    .await
}

/// Listens on a free port, for as long as the task runs: its connections end with it.
pub(in crate::cluster) async fn listen<F: Future<Output = ()> + Send + 'static>(
    answer: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let server = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(answer(stream));
        }
    });
    (address, server)
}

fn failed(result: Result<Option<Position>, ViewError>) -> String {
    match result {
        Err(ViewError::Failed(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn whichever_node_is_asked_the_owner_answers_with_all_that_was_durable() {
    let world = World::new();
    let (a, b) = (world.node("a").await, world.node("b").await);
    world.give(&a, 0);
    world.give(&b, 1);
    for number in 0..40 {
        // Neither has been told that there is more.
        let (partition, position) = world.send(number, 1);
        let second = world.send(number, 2).1;
        for node in [&a, &b] {
            assert_eq!(node.first(number).await.expect("an answer"), Some(position), "{} of {}", number, node.name);
            assert_eq!(node.conflicts(partition).await[0], (second, position));
        }
    }
    for node in [&a, &b] {
        assert_eq!(node.first(1_000).await.expect("an answer"), None);
        let all: Vec<Lookup> = numbers_in(1).take(10).map(|number| Lookup::any(sent(number, 0).identity())).collect();
        let found = node.routed.firsts(1, all, WAIT).await.expect("answers");
        let positions: Vec<_> = found.iter().map(|first| first.expect("was sent").position).collect();
        assert!(positions.is_sorted() && positions.len() == 10, "in the order of the questions: {positions:?}");
    }
    a.end();
    b.end();
}

#[tokio::test]
async fn an_owner_that_moves_is_found() {
    let world = World::new();
    let (a, b, c) = (world.node("a").await, world.node("b").await, world.node("c").await);
    let number = number_in(1);
    let position = world.send(number, 1).1;
    world.give(&b, 1);
    assert_eq!(a.first(number).await.expect("an answer"), Some(position));
    // It lives, and says that it is not the owner any more.
    b.stop_folding(1);
    world.give(&c, 1);
    assert_eq!(a.first(number).await.expect("an answer"), Some(position));
    // It is gone.
    c.stop_folding(1);
    let Node { server, .. } = c;
    server.abort();
    drop(server.await);
    world.give(&b, 1);
    assert_eq!(a.first(number).await.expect("an answer"), Some(position));
    // Whoever asks is the owner now.
    b.stop_folding(1);
    world.fold(&a, 1);
    assert_eq!(a.first(number).await.expect("an answer"), Some(position));
    a.end();
    b.end();
}

#[tokio::test]
async fn without_an_owner_there_is_no_verdict_until_there_is_one() {
    let world = World::new();
    let (a, b) = (world.node("a").await, world.node("b").await);
    let number = number_in(0);
    let position = world.send(number, 1).1;
    drop(failed(a.first_within(number, SHORT).await));
    // It has said so and has not begun.
    world.say(0, b.name, b.address);
    drop(failed(a.first_within(number, SHORT).await));
    let asked = b.looked.load(Ordering::SeqCst);
    let begin = async {
        while b.looked.load(Ordering::SeqCst) == asked {
            tokio::task::yield_now().await;
        }
        world.fold(&b, 0);
    };
    let (found, ()) = tokio::join!(a.first(number), begin);
    assert_eq!(found.expect("an answer"), Some(position));
    a.end();
    b.end();
}

/// What a node that is none may say.
async fn nonsense(what: &'static str) -> (SocketAddr, JoinHandle<()>) {
    let ok = |body: &'static str| Router::new().fallback(any(move || async move { body }));
    match what {
        "hangs" => listen(|stream| async move { drop((tokio::time::sleep(WAIT).await, stream)) }).await,
        "hangs up" => listen(|stream| async move { drop(stream) }).await,
        "endless" => {
            listen(|mut stream| async move {
                drop(stream.read(&mut [0; 1_024]).await);
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await);
                let piece = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
                while stream.write_all(&piece).await.is_ok() {}
            })
            .await
        }
        "no HTTP" => listen(|mut stream| async move { drop(stream.write_all(b"SSH-2.0-x\r\n").await) }).await,
        "redirects" => serve(Router::new().fallback(any(|| async { Redirect::temporary("/elsewhere") }))).await,
        "empty" => serve(ok("")).await,
        "too few" => serve(ok(r#"{"partition": 0, "firsts": []}"#)).await,
        "of another partition" => serve(ok(r#"{"partition": 1, "firsts": [null]}"#)).await,
        "no hash" => serve(ok(r#"{"partition": 0, "firsts": [{"position": 0, "logTime": 1, "content": "xyz"}]}"#)).await,
        other => panic!("{other}"),
    }
}

const NONSENSE: [&str; 9] = ["hangs", "hangs up", "endless", "no HTTP", "redirects", "empty", "too few", "of another partition", "no hash"];

#[tokio::test]
async fn a_node_that_hangs_or_answers_nonsense_or_too_much_gives_no_verdict_and_keeps_nobody_from_the_owner() {
    let world = World::new();
    let b = world.node("b").await;
    let number = number_in(0);
    let position = world.send(number, 1).1;
    world.fold(&b, 0);
    for what in NONSENSE {
        // One that has not found the owner yet.
        let a = world.node("a").await;
        let (address, server) = nonsense(what).await;
        world.say(0, "x", address);
        let began = Instant::now();
        drop(failed(a.first_within(number, SHORT).await));
        assert!(began.elapsed() < WAIT / 2, "{what}: {:?}", began.elapsed());
        // The owner says where it is while the other one is still being asked.
        let (found, ()) = tokio::join!(a.first_within(number, 5 * SHORT), async { world.say(0, b.name, b.address) });
        assert_eq!(found.expect("an answer"), Some(position), "{what}");
        server.abort();
        a.end();
    }
    b.end();
}

#[tokio::test]
async fn an_owner_that_is_behind_says_so_in_time() {
    let world = World::new();
    let (a, b) = (world.node("a").await, world.node("b").await);
    world.give(&b, 0);
    let number = number_in(0);
    world.send(number, 1);
    assert!(a.first(number).await.expect("an answer").is_some());
    world.logs[0].promise_more();
    for node in [&a, &b] {
        assert!(matches!(node.first_within(number, SHORT).await, Err(ViewError::Behind)), "{}", node.name);
    }
    a.server.abort();
    b.server.abort();
    // What was promised never comes, so the fold does not end in good order.
}

async fn ask(address: SocketAddr, path: &str, authorization: Option<&HeaderValue>, body: Vec<u8>) -> StatusCode {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let mut request = Request::post(format!("http://{address}{path}")).body(Full::new(Bytes::from(body))).expect("a request");
    if let Some(authorization) = authorization {
        request.headers_mut().insert(AUTHORIZATION, authorization.clone());
    }
    client.request(request).await.expect("an answer").status()
}

#[tokio::test]
async fn only_nodes_get_answers_and_only_to_questions() {
    let world = World::new();
    let a = world.node("a").await;
    world.give(&a, 0);
    let secret = world.secret().authorization();
    let firsts = "/internal/v1/partitions/0/firsts?waitMs=1000";
    let good = || Question::Firsts(vec![Lookup::any(sent(1, 0).identity())]).to_json();
    assert_eq!(ask(a.address, firsts, Some(&secret), good()).await, 200);
    let strangers = [None, Some("Bearer "), Some("Bearer 00"), Some("Basic eDp4")].map(|value| value.map(HeaderValue::from_static));
    for stranger in strangers {
        assert_eq!(ask(a.address, firsts, stranger.as_ref(), good()).await, 401, "{stranger:?}");
        assert_eq!(ask(a.address, "/internal/v1/elsewhere", stranger.as_ref(), Vec::new()).await, 401, "{stranger:?}");
    }
    for (path, body, status) in [
        ("/internal/v1/elsewhere", good(), 404),
        ("/internal/v1/partitions/x/firsts?waitMs=1", good(), 404),
        ("/internal/v1/partitions/0/firsts", good(), 400),
        ("/internal/v1/partitions/0/firsts?waitMs=-1", good(), 400),
        (firsts, b"{}".to_vec(), 400),
        (firsts, Vec::new(), 400),
        (firsts, vec![b' '; BODY_BYTES_MAX + 1], 413),
        ("/internal/v1/partitions/0/conflicts?waitMs=1", good(), 400),
        ("/internal/v1/partitions/1/firsts?waitMs=1", good(), 421),
        ("/internal/v1/partitions/4294967295/firsts?waitMs=1", good(), 421),
    ] {
        assert_eq!(ask(a.address, path, Some(&secret), body).await, status, "{path}");
    }
    a.end();
}
