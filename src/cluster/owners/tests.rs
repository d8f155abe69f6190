//! Partitions that go from node to node, with their indexes: nodes in one process, over real connections.

use std::path::Path;

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::clock::UnixMillis;
use crate::cluster::handover::{Costs, Lending};
use crate::cluster::routing::tests::serve;
use crate::cluster::{NodeSecret, OwnerAddress, internal};
use crate::event::IdentityMode;
use crate::log::disk::RealDisk;
use crate::log::memory::MemoryLog;
use crate::log::meta::FoldSettings;
use crate::log::record::Account;
use crate::materializer::{Lookup, Shares};
use crate::store::memory::MemoryStore;
use crate::store::{Grain, Row, RowKey, RowSelection};
use crate::verdicts::tests::{KEY, Sent};

const WAIT: Duration = Duration::from_secs(60);
/// Whatever is offered is faster than reading.
const COSTS: Costs = Costs { read_a_record: 1_000_000, fetch_a_byte: 1, records_min: 1 };

/// What all nodes have in common: a log of one partition, and the database.
struct World {
    dir: TempDir,
    runtime: Runtime,
    log: Arc<MemoryLog>,
    store: Arc<MemoryStore>,
}

struct Node {
    owned: Owned,
    dir: PathBuf,
}

fn sent(number: u64) -> Sent {
    let account = Account { number: 1, identity: IdentityMode::UniqueId };
    Sent { account, id: format!("u-{number}"), value: 1, dimension: 0, is_filtered: false }
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let (dir, store) = (tempfile::tempdir().expect("a directory"), Arc::new(MemoryStore::of_many()));
        Self { dir, runtime, log: MemoryLog::new(0), store }
    }

    fn append(&self, numbers: impl Iterator<Item = u64>) -> Vec<Position> {
        numbers.map(|number| self.log.append(UnixMillis(1_000), sent(number).record(UnixMillis(1_000)))).collect()
    }

    fn node(&self, name: &str) -> Node {
        self.node_that_keeps(name, KEPT)
    }

    fn node_that_keeps(&self, name: &str, kept: Duration) -> Node {
        let dir = self.dir.path().join(name);
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        disk.create_dir(&dir).expect("made");
        let secret = NodeSecret::open(&*self.store).expect("made or read");
        let handover = Handover::new(secret.clone(), self.runtime.handle().clone(), Shares::default(), COSTS);
        let fold = FoldSettings { dedup_horizon_ms: None, dimension_sets_max: 10, partitions: 1 };
        let lending = Lending::new(disk.clone(), dir.clone(), 1);
        // Nobody is asked for verdicts here.
        let router = internal::router(Vec::new(), Arc::new(NotHere), secret, lending);
        let (address, _) = self.runtime.block_on(serve(router));
        let owned = Owned::new(Parts {
            log: vec![self.log.seen()],
            meta: LogMeta { log_id: [5; 16], hash_key: KEY, fold },
            store: self.store.clone(),
            disk,
            index_dir: dir.clone(),
            clock: Clock::start(),
            address: NodeAddress { node: name.into(), url: format!("http://{address}") },
            undecodable: Arc::new(()),
            handover,
            kept,
            check: Box::new(|_| Ok(())),
        });
        Node { owned, dir }
    }

    fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(began.elapsed() < WAIT, "waited in vain for {what}");
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Where events stand first, as a node that folds the partition says it.
    fn firsts(&self, node: &Node, numbers: std::ops::Range<u64>) -> Vec<Option<Position>> {
        let lookups: Vec<Lookup> = numbers.map(|number| Lookup::any(sent(number).identity())).collect();
        let found = self.wait_for("an answer", || {
            let fold = node.owned.get(0)?;
            node.owned.shared.parts.log[0].newest_end().expect("an end");
            self.runtime.block_on(fold.firsts(lookups.clone(), WAIT)).ok()
        });
        found.into_iter().map(|first| first.map(|first| first.position)).collect()
    }

    /// Events of the day rows.
    fn counted(&self) -> u64 {
        let selection = RowSelection { account: 1, meter: "m".into(), grain: Grain::Day, from: 0, to: u32::MAX, customers: None };
        let mut counted = 0;
        let mut visit = |_: RowKey<'_>, row: &Row| {
            counted += row.count;
            Ok(())
        };
        self.store.snapshot().and_then(|snapshot| snapshot.scan(&selection, &mut visit)).expect("scans");
        counted
    }

    fn committed(&self) -> Position {
        self.store.snapshot().and_then(|snapshot| snapshot.progress(0)).expect("progress").next
    }
}

struct NotHere;

impl crate::cluster::OwnedHere for NotHere {
    fn get(&self, _: u32) -> Option<Materializer> {
        None
    }
}

fn files(dir: &Path) -> usize {
    std::fs::read_dir(dir.join("0")).map_or(0, Iterator::count)
}

fn positions(of: &[Position]) -> Vec<Option<Position>> {
    of.iter().copied().map(Some).collect()
}

/// The begin of the log goes, so that an index can only be had from who has it.
fn only_the_index_has_it(world: &World) {
    world.log.drop_before(world.committed());
}

#[test]
fn a_partition_that_moves_takes_its_index_along_and_comes_back_with_it() {
    let world = World::new();
    let (a, b, c) = (world.node("a"), world.node("b"), world.node("c"));
    a.owned.take(&[0]);
    let originals = world.append(0..60);
    assert_eq!(world.firsts(&a, 0..60), positions(&originals));
    a.owned.let_go(&[0], WAIT);
    only_the_index_has_it(&world);
    world.append((0..60).rev());
    b.owned.take(&[0]);
    assert_eq!(world.firsts(&b, 0..60), positions(&originals));
    let more = world.append(60..90);
    assert_eq!(world.firsts(&b, 60..90), positions(&more));
    b.owned.let_go(&[0], WAIT);
    only_the_index_has_it(&world);
    world.append((60..90).rev());
    // One that is gone is passed over, and who had it before is asked: it is behind what the log has, so only b's will do.
    c.owned.take(&[0]);
    assert_eq!(world.firsts(&c, 0..90), positions(&[originals.clone(), more.clone()].concat()));
    c.owned.let_go(&[0], WAIT);
    only_the_index_has_it(&world);
    a.owned.take(&[0]);
    assert_eq!(world.firsts(&a, 0..90), positions(&[originals, more].concat()));
    let known = OwnerAddress::read(&*world.store, 0).expect("read").expect("is there");
    assert_eq!(known.before.iter().map(|node| node.node.as_str()).collect::<Vec<_>>(), ["c", "b"]);
    [a, b, c].iter().for_each(|node| node.owned.end(WAIT));
}

#[test]
fn a_zombie_gives_its_index_and_each_event_counts_once() {
    let world = World::new();
    let (a, b) = (world.node("a"), world.node("b"));
    a.owned.take(&[0]);
    let originals = world.append(0..60);
    assert_eq!(world.firsts(&a, 0..60), positions(&originals));
    // It has not heard that it lost the partition, and folds on.
    b.owned.take(&[0]);
    world.append((0..60).rev());
    assert_eq!(world.firsts(&b, 0..60), positions(&originals));
    assert_eq!(world.firsts(&a, 0..60), positions(&originals));
    a.owned.end(WAIT);
    assert_eq!(world.firsts(&b, 0..60), positions(&originals));
    b.owned.end(WAIT);
    assert_eq!((world.committed(), world.counted()), (world.log.seen().end(), 60));
}

#[test]
fn a_damaged_index_is_not_taken_over_and_the_log_is_read() {
    let world = World::new();
    let (a, b) = (world.node("a"), world.node("b"));
    a.owned.take(&[0]);
    let originals = world.append(0..60);
    assert_eq!(world.firsts(&a, 0..60), positions(&originals));
    a.owned.let_go(&[0], WAIT);
    let runs = std::fs::read_dir(a.dir.join("0")).expect("a directory").map(|entry| entry.expect("an entry").path());
    for run in runs.filter(|path| path.extension().is_some_and(|name| name == "run")) {
        let mut bytes = std::fs::read(&run).expect("read");
        bytes[1] ^= 1;
        std::fs::write(&run, bytes).expect("written");
    }
    world.append((0..60).rev());
    b.owned.take(&[0]);
    assert_eq!(world.firsts(&b, 0..60), positions(&originals));
    [a, b].iter().for_each(|node| node.owned.end(WAIT));
}

#[test]
fn a_partition_that_is_lost_while_its_index_is_fetched_is_let_go_at_once() {
    let world = World::new();
    let (a, b) = (world.node("a"), world.node("b"));
    a.owned.take(&[0]);
    let originals = world.append(0..60);
    assert_eq!(world.firsts(&a, 0..60), positions(&originals));
    a.owned.let_go(&[0], WAIT);
    // Somebody who accepts connections and says nothing had it last.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    silent.set_nonblocking(true).expect("is set");
    let address = format!("http://{}", silent.local_addr().expect("an address"));
    OwnerAddress::take(&NodeAddress { node: "silent".into(), url: address }, &*world.store, 0).expect("written");
    for _ in 0..3 {
        b.owned.take(&[0]);
        let asked = world.wait_for("it to be asked", || silent.accept().ok());
        b.owned.let_go(&[0], WAIT);
        assert!(b.owned.get(0).is_none());
        drop(asked);
    }
    // Then it is taken all the same.
    b.owned.take(&[0]);
    assert_eq!(world.firsts(&b, 0..60), positions(&originals));
    [a, b].iter().for_each(|node| node.owned.end(WAIT));
}

#[test]
fn files_of_partitions_that_are_others_are_removed_some_day_and_ones_own_are_not() {
    let world = World::new();
    let soon = Duration::from_millis(1);
    let a = world.node_that_keeps("a", soon);
    a.owned.take(&[0]);
    world.append(0..60);
    world.firsts(&a, 0..60);
    a.owned.let_go(&[0], WAIT);
    world.wait_for("the files to go", || (files(&a.dir) == 0).then_some(()));
    let b = world.node("b");
    b.owned.take(&[0]);
    let before = world.firsts(&b, 0..60);
    b.owned.end(WAIT);
    a.owned.take(&[0]);
    assert_eq!(world.firsts(&a, 0..60), before, "it comes back all the same");
    a.owned.end(WAIT);
    std::fs::write(a.dir.join("0/000000000099.run"), b"?").expect("written");
    let again = world.node_that_keeps("a", soon);
    world.wait_for("what an earlier process left to go", || (files(&again.dir) == 0).then_some(()));
    again.owned.end(WAIT);
}
