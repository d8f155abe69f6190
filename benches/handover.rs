//! Seconds from when a node is told that a partition is its to the first verdict that it may give there, for an index of so many ids: with the
//! log read from its begin, resumed from its own disk, fetched from the node that had the partition before.
//!
//! `KAFKA=host:port cargo bench --bench handover -- [thousands of ids]...` (1,000 without). The nodes are parts of this process, over real
//! connections; rows are in a file, which says nothing of PostgreSQL: a take-over asks it a handful of things. Wall time: a machine with
//! other work to do gives upper bounds. What [`Costs`] has as its defaults is measured here.

mod workload;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tollgate::clock::{Clock, UnixMillis};
use tollgate::cluster::handover::{Costs, Handover, Lending};
use tollgate::cluster::owners::{KEPT, Owned, Parts};
use tollgate::cluster::{NodeAddress, NodeSecret, OwnedHere, internal};
use tollgate::event::HashKey;
use tollgate::log::disk::{Disk, RealDisk};
use tollgate::log::kafka::wire::Form;
use tollgate::log::kafka::{KafkaAppender, Settings, partitions, topics};
use tollgate::log::meta::{FoldSettings, LogMeta};
use tollgate::log::{Append, Appender, Block, Partition, record};
use tollgate::materializer::{Materializer, Shares};
use tollgate::store::embedded::EmbeddedStore;
use tollgate::store::{Commit, Progress, Store};
use workload::Workload;

const THOUSAND: u64 = 1_000;
/// Requests that are under way at a time.
const IN_FLIGHT: u64 = 64;
const LET_GO: Duration = Duration::from_secs(600);

fn main() {
    // `cargo test` asks benches for nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let Ok(brokers) = std::env::var("KAFKA") else {
        println!("KAFKA=host:port says where the topic is to be; tests/tools/kafka starts a broker");
        return;
    };
    let given: Vec<u64> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let runtime = Runtime::new().expect("a runtime");
    for thousands in if given.is_empty() { vec![1_000] } else { given } {
        measure(&brokers, thousands * THOUSAND, runtime.handle());
    }
}

/// Whoever gives an index need not own its partition.
struct Nothing;

impl OwnedHere for Nothing {
    fn get(&self, _: u32) -> Option<Materializer> {
        None
    }
}

struct Node<'w> {
    owned: Owned,
    log: Arc<dyn Partition>,
    dir: &'w Path,
}

fn measure(brokers: &str, ids: u64, runtime: &Handle) {
    let (settings, topic) = (settings(brokers), format!("handover-{}-{ids}", std::process::id()));
    let wanted = topics::Wanted { name: topic, partitions: 1, replication: 1, retention_ms: None, form: Form::Events };
    topics::open(&settings, &wanted).expect("a topic");
    fill(&settings, &wanted.name, ids);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let store = Arc::new(EmbeddedStore::open(&dir.path().join("store.redb")).expect("opens"));
    let found = topics::open(&settings, &wanted).expect("found");
    // As if everything were in the rows.
    let reached = Progress { next: found.watermarks[0].end, log_time: UnixMillis(Clock::start().now().0) };
    let expected = store.snapshot().and_then(|snapshot| snapshot.progress(0)).expect("progress");
    store.commit(&Commit { expected, reached, ..Commit::default() }).expect("committed");
    let log = || partitions(&settings, &found, Form::Events).expect("opens").remove(0);
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let a = node(log(), &store, &a, runtime);
    let read = a.take();
    let let_go = a.let_go();
    let resumed = a.take();
    a.let_go();
    let b = node(log(), &store, &b, runtime);
    let fetched = b.take();
    let bytes = disk_bytes(&a.dir.join("0"));
    assert_eq!(disk_bytes(&b.dir.join("0")), bytes, "it is the same index");
    println!(
        "{ids:>10} ids: read {:.2} s ({} ns an id), resumed {:.3} s, fetched {:.3} s ({} MB, {:.2} ns a byte); let go {:.3} s",
        read.as_secs_f64(),
        read.as_nanos() as u64 / ids,
        resumed.as_secs_f64(),
        fetched.as_secs_f64(),
        bytes / 1_000_000,
        fetched.as_nanos() as f64 / bytes as f64,
        let_go.as_secs_f64(),
    );
    a.owned.end(LET_GO);
    b.owned.end(LET_GO);
}

/// Of a broker that may have other things to do.
fn settings(brokers: &str) -> Settings {
    let minutes = Duration::from_secs(300);
    Settings { brokers: brokers.into(), patience: minutes, timeout: minutes, ..Settings::default() }
}

/// Appends events, each with an id of its own.
fn fill(settings: &Settings, topic: &str, ids: u64) {
    let mut appender = KafkaAppender::start(settings, topic, Form::Events, 1).expect("starts");
    let (mut workload, mut left) = (Workload::new(1_000), ids);
    while left > 0 {
        let now = UnixMillis(Clock::start().now().0);
        let some = left.min(IN_FLIGHT * THOUSAND);
        let requests = (0..some.div_ceil(THOUSAND)).map(|request| THOUSAND.min(some - request * THOUSAND));
        let blocks = requests.map(|events| stamped(&workload.block(events), now));
        let answers = appender.append_and_wait(blocks.map(Append::unattended).collect());
        assert!(answers.iter().all(|answer| answer.result.is_ok()));
        left -= some;
    }
    appender.close().expect("closes");
}

/// The same records, received now: a topic refuses what is far from its clock.
fn stamped(block: &Block, now: UnixMillis) -> Block {
    let mut stamped = Block::new(now, block.payload().len());
    record::parts(block.payload()).for_each(|record| stamped.push(|to| to.extend_from_slice(record)));
    stamped.seal()
}

fn node<'w>(log: Arc<dyn Partition>, store: &Arc<EmbeddedStore>, dir: &'w Path, runtime: &Handle) -> Node<'w> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    disk.create_dir(dir).expect("made");
    let secret = NodeSecret::open(&**store).expect("made or read");
    let lending = Lending::new(disk.clone(), dir.to_owned(), 1);
    let url = serve(internal::router(Vec::new(), Arc::new(Nothing), secret.clone(), lending), runtime);
    let fold = FoldSettings { dedup_horizon_ms: None, dimension_sets_max: 10_000, partitions: 1 };
    let owned = Owned::new(Parts {
        log: vec![log.clone()],
        meta: LogMeta { log_id: [3; 16], hash_key: HashKey::from_bytes([7; 16]), fold },
        store: store.clone(),
        disk,
        index_dir: dir.to_owned(),
        clock: Clock::start(),
        address: NodeAddress { node: dir.display().to_string(), url },
        undecodable: Arc::new(()),
        handover: Handover::new(secret, runtime.clone(), Shares::default(), Costs { records_min: 1, ..Costs::default() }),
        kept: KEPT,
        check: Box::new(|_| Ok(())),
    });
    Node { owned, log, dir }
}

fn serve(router: Router, runtime: &Handle) -> String {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(router.clone());
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

impl Node<'_> {
    /// How long it takes until the first verdict could be given.
    fn take(&self) -> Duration {
        let began = Instant::now();
        self.owned.take(&[0]);
        while !self.owned.get(0).is_some_and(|fold| fold.is_ready()) {
            std::thread::sleep(Duration::from_micros(200));
        }
        assert_eq!(self.owned.get(0).map(|fold| fold.folded()), Some(self.log.end()));
        began.elapsed()
    }

    fn let_go(&self) -> Duration {
        let began = Instant::now();
        self.owned.let_go(&[0], LET_GO);
        began.elapsed()
    }
}

fn disk_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).expect("lists").map(|file| file.expect("a file"));
    let runs = files.filter(|file| file.path().extension().is_some_and(|name| name == "run"));
    runs.map(|run| run.metadata().map_or(0, |data| data.len())).sum()
}
