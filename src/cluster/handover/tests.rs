//! Indexes that go over real connections, and whatever comes in their place.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::response::Redirect;
use axum::routing;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use super::taking::TakingOver;
use super::wire::{HEAD_BYTES_MAX, Head};
use super::*;
use crate::clock::UnixMillis;
use crate::cluster::routing::tests::{listen, serve};
use crate::cluster::{NodeAddress, OwnedHere, internal};
use crate::event::{ContentHash, IdentityHash};
use crate::log::disk::{Disk, DiskFile, RealDisk};
use crate::log::memory::MemoryLog;
use crate::log::{Partition, Position};
use crate::materializer::first_positions::copy::{Outgoing, Wanted};
use crate::materializer::first_positions::{Asked, FirstPositions, Standing};
use crate::materializer::{Error, IndexPlace, IndexStanding, Materializer, Shares, Taking};
use crate::store::Progress;
use crate::store::memory::MemoryStore;
use crate::telemetry::handover::NotFetched;

const LOG_ID: [u8; 16] = [7; 16];
const PARTITION: u32 = 1;
const PARTITIONS: u32 = 2;
/// A record takes as long as a megabyte: whatever is offered is faster.
const COSTS: Costs = Costs { read_a_record: 1_000_000, fetch_a_byte: 1, records_min: 1 };
const ENTRIES: u64 = 500;

struct World {
    dir: TempDir,
    runtime: Runtime,
    secret: NodeSecret,
    log: Arc<MemoryLog>,
}

fn asked(number: u64, position: u64) -> Asked {
    let identity = IdentityHash(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_9e37_79b9_7f4a_7c15));
    Asked { identity, content: ContentHash(number), position: Position(position), log_time: UnixMillis(5) }
}

/// Whoever gives an index need not own its partition.
struct Nothing;

impl OwnedHere for Nothing {
    fn get(&self, _: u32) -> Option<Materializer> {
        None
    }
}

impl World {
    fn new() -> Self {
        let log = MemoryLog::new(PARTITION);
        // It ends behind whatever an index covers here.
        log.promise_more();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let secret = NodeSecret::open(&MemoryStore::default()).expect("made");
        Self { dir: tempfile::tempdir().expect("a directory"), runtime, secret, log }
    }

    /// Of a node's indexes.
    fn dir(&self, node: &str) -> PathBuf {
        self.dir.path().join(node)
    }

    fn index_dir(&self, node: &str) -> PathBuf {
        self.dir(node).join(PARTITION.to_string())
    }

    fn open(&self, node: &str) -> FirstPositions {
        FirstPositions::open(Arc::new(RealDisk), &self.index_dir(node), LOG_ID, None, UnixMillis(i64::MAX)).expect("opens")
    }

    /// Makes an index of so many entries.
    fn make(&self, node: &str, entries: u64) -> FirstPositions {
        let mut index = self.open(node);
        for end in (50..=entries).step_by(50) {
            let some: Vec<Asked> = (end - 50..end).map(|number| asked(number, number)).collect();
            index.stand_all(&some, &mut Vec::new()).expect("answers");
            index.freeze_at(Position(end), UnixMillis(5)).expect("freezes");
            index.wait().expect("is written");
        }
        index
    }

    fn has(&self, node: &str, entries: u64) {
        let mut index = self.open(node);
        assert_eq!((index.covered(), index.entries()), (Position(entries), entries), "{node}");
        let mut standings = Vec::new();
        let copies: Vec<Asked> = (0..entries).map(|number| asked(number, 10_000 + number)).collect();
        index.stand_all(&copies, &mut standings).expect("answers");
        let right = (0..entries).map(|number| Standing::Copy { of: Position(number), content: ContentHash(number) });
        assert_eq!(standings, right.collect::<Vec<_>>());
    }

    /// A node that gives what lies in its directory.
    fn lender(&self, node: &str) -> NodeAddress {
        self.lender_with(node, self.secret.clone())
    }

    fn lender_with(&self, node: &str, secret: NodeSecret) -> NodeAddress {
        let lending = Lending::new(Arc::new(RealDisk), self.dir(node), PARTITIONS);
        self.serve(node, internal::router(Vec::new(), Arc::new(Nothing), secret, lending))
    }

    fn serve(&self, node: &str, router: Router) -> NodeAddress {
        let (address, _) = self.runtime.block_on(serve(router));
        NodeAddress { node: node.into(), url: format!("http://{address}") }
    }

    /// A node that answers with these bytes, whatever it is asked, and then closes the connection, or not.
    fn liar(&self, bytes: Vec<u8>, closes: bool) -> NodeAddress {
        let answer = Arc::new([b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", &bytes[..]].concat());
        let listening = listen(move |mut stream| {
            let answer = answer.clone();
            async move {
                let mut asked = [0; 1_024];
                let _asked = stream.read(&mut asked).await;
                let _taken = stream.write_all(&answer).await;
                if !closes {
                    std::future::pending::<()>().await;
                }
            }
        });
        let (address, _) = self.runtime.block_on(listening);
        NodeAddress { node: "liar".into(), url: format!("http://{address}") }
    }

    fn taking(&self, before: &[NodeAddress], costs: Costs, is_wanted: Arc<AtomicBool>) -> TakingOver {
        let handover = Handover::new(self.secret.clone(), self.runtime.handle().clone(), Shares::default(), costs);
        handover.taking(self.log.seen(), before.to_vec(), Now { began: Instant::now(), is_wanted })
    }

    /// Whether a node that has `covered` and needs `needed` fetches an index from one of these.
    fn fetches(&self, node: &str, standing: &IndexStanding, before: &[NodeAddress]) -> bool {
        self.fetches_on(&RealDisk, node, standing, before, COSTS)
    }

    fn fetches_on(&self, disk: &dyn Disk, node: &str, standing: &IndexStanding, before: &[NodeAddress], costs: Costs) -> bool {
        let mut taking = self.taking(before, costs, Arc::new(AtomicBool::new(true)));
        let dir = self.index_dir(node);
        RealDisk.create_dir(&dir).expect("made");
        let place = IndexPlace { disk, dir: &dir, log_id: LOG_ID, horizon_ms: None };
        taking.is_index_wanted(standing) && taking.find_index(&place, standing).expect("it is wanted")
    }

    /// What a node's answer is good for.
    fn reason(&self, node: &NodeAddress) -> Option<NotFetched> {
        let wanted = Wanted { log_id: LOG_ID, horizon_ms: None, committed: UnixMillis(i64::MAX) };
        let peers = Peers::new(self.secret.clone());
        match self.runtime.block_on(peers.ask(node, PARTITION, &wanted)) {
            Ok(_) => None,
            Err(failed) => Some(failed.reason),
        }
    }

    /// What a node sends that has the index of another.
    fn honest(&self, node: &str) -> (Head, Vec<u8>) {
        let outgoing = Outgoing::open(&RealDisk, &self.index_dir(node)).expect("opens").expect("is there");
        let sizes: Vec<u64> = outgoing.sizes().collect();
        let mut runs = Vec::new();
        for (run, size) in sizes.iter().enumerate() {
            let mut bytes = vec![0; *size as usize];
            outgoing.read_at(run, 0, &mut bytes).expect("reads");
            runs.append(&mut bytes);
        }
        let manifest = String::from_utf8(outgoing.manifest().to_vec()).expect("text");
        (Head { partition: PARTITION, manifest, sizes }, runs)
    }
}

fn standing(covered: u64, needed: u64) -> IndexStanding {
    let committed = Progress { next: Position(needed), log_time: UnixMillis(i64::MAX) };
    IndexStanding { covered: Position(covered), committed, start: Position(0) }
}

/// The address of nobody.
fn nobody() -> NodeAddress {
    NodeAddress { node: "nobody".into(), url: "http://127.0.0.1:1".into() }
}

#[test]
fn whoever_takes_a_partition_has_the_index_of_who_had_it() {
    let world = World::new();
    drop(world.make("old", ENTRIES));
    let old = world.lender("old");
    assert!(world.fetches("new", &standing(0, ENTRIES), std::slice::from_ref(&old)));
    world.has("new", ENTRIES);
    // And in the place of what it had itself.
    drop(world.make("behind", 100));
    assert!(world.fetches("behind", &standing(100, ENTRIES), &[nobody(), old.clone()]));
    world.has("behind", ENTRIES);
    // It may be ahead of the rows, and behind them.
    assert!(world.fetches("ahead", &standing(0, 300), std::slice::from_ref(&old)));
    world.has("ahead", ENTRIES);
    assert!(world.fetches("short", &standing(0, 900), &[old]));
    world.has("short", ENTRIES);
}

#[test]
fn an_index_that_is_in_use_is_given_as_it_is() {
    let world = World::new();
    let mut index = world.make("old", ENTRIES);
    let old = world.lender("old");
    // A zombie goes on, and merges what is being given.
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut next = ENTRIES;
            while !stop.load(Ordering::Relaxed) && next < 900 {
                index.stand_all(&[asked(next, next)], &mut Vec::new()).expect("answers");
                next += 1;
                index.maintain(Position(next), UnixMillis(5), UnixMillis(5)).expect("maintains");
                std::thread::yield_now();
            }
        });
        for round in 0..10 {
            let node = format!("new-{round}");
            assert!(world.fetches(&node, &standing(0, ENTRIES), std::slice::from_ref(&old)));
            let covered = world.open(&node).covered().0;
            assert!(covered >= ENTRIES);
            world.has(&node, covered);
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn nobody_is_asked_for_what_is_read_sooner() {
    let world = World::new();
    drop(world.make("old", ENTRIES));
    let old = [world.lender("old")];
    let is_wanted = |standing: IndexStanding, before: &[NodeAddress]| {
        let costs = Costs { records_min: 200, ..COSTS };
        world.taking(before, costs, Arc::new(AtomicBool::new(true))).is_index_wanted(&standing)
    };
    assert!(is_wanted(standing(0, 200), &old) && !is_wanted(standing(1, 200), &old) && !is_wanted(standing(0, 200), &[]));
    assert!(is_wanted(IndexStanding { start: Position(1), ..standing(0, 1) }, &old), "there is nothing to be read");
    assert!(!is_wanted(standing(500, 200), &old));
    // And what is offered is not taken if reading is faster.
    let dear = Costs { read_a_record: 10, fetch_a_byte: 1_000, records_min: 1 };
    assert!(!world.fetches_on(&RealDisk, "new", &standing(0, ENTRIES), &old, dear));
    assert!(!world.fetches("new", &standing(ENTRIES, 900), &old), "it has no more than is there");
    // Unless there is nothing to be read.
    let gone = IndexStanding { start: Position(ENTRIES), ..standing(0, ENTRIES) };
    assert!(world.fetches_on(&RealDisk, "new", &gone, &old, dear));
    world.has("new", ENTRIES);
    let further = IndexStanding { start: Position(ENTRIES + 1), ..standing(0, 900) };
    assert!(!world.fetches("newer", &further, &old), "it does not reach what there is");
}

#[test]
fn of_several_the_best_is_taken_and_of_the_others_the_next_best() {
    let world = World::new();
    for (node, entries) in [("a", 100), ("b", 500), ("c", 300)] {
        drop(world.make(node, entries));
    }
    let [a, b, c] = ["a", "b", "c"].map(|node| world.lender(node));
    let all = [a, b, nobody(), c];
    assert!(world.fetches("new", &standing(0, ENTRIES), &all));
    world.has("new", 500);
    let files = std::fs::read_dir(world.index_dir("b")).expect("a directory").map(|entry| entry.expect("an entry").path());
    let run = files.filter(|path| path.extension().is_some_and(|name| name == "run")).min().expect("a run");
    let mut bytes = std::fs::read(&run).expect("read");
    bytes[70] ^= 4;
    std::fs::write(&run, bytes).expect("written");
    assert!(world.fetches("newer", &standing(0, ENTRIES), &all));
    world.has("newer", 300);
}

#[test]
fn without_the_secret_and_by_paths_that_are_tricks_nothing_is_given() {
    let world = World::new();
    drop(world.make("old", ENTRIES));
    let old = world.lender("old");
    assert_eq!(world.reason(&old), None);
    let stranger = world.lender_with("old", NodeSecret::open(&MemoryStore::default()).expect("another one"));
    assert_eq!(world.reason(&stranger), Some(NotFetched::Refused));
    assert!(!world.fetches("new", &standing(0, ENTRIES), &[stranger]));
    assert_eq!(RealDisk.list(&world.index_dir("new")).expect("lists"), Vec::<String>::new());
    let status = |path: &str, with_secret: bool| {
        world.runtime.block_on(async {
            let mut stream = tokio::net::TcpStream::connect(&old.url[7..]).await.expect("connects");
            let authorization = if with_secret { world.secret.authorization() } else { "Bearer ".parse().expect("a value") };
            let authorization = authorization.to_str().expect("text");
            let request = format!("GET {path} HTTP/1.1\r\nhost: h\r\nauthorization: {authorization}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("is sent");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("an answer");
            String::from_utf8_lossy(&answer[9..12]).into_owned()
        })
    };
    assert_eq!(
        (status("/internal/v1/partitions/1/index", true), status("/internal/v1/partitions/1/index", false)),
        ("200".into(), "401".into())
    );
    for path in ["0", "2", "4294967295", "4294967296", "-1", "..", "1%2f..%2f1", "%2e%2e%2f1", "../1", "1/../1", "01x", ""] {
        assert_eq!(status(&format!("/internal/v1/partitions/{path}/index"), true), "404", "{path}");
    }
}

#[test]
fn an_answer_that_is_none_is_told_by_its_reason_and_the_log_is_read() {
    let world = World::new();
    drop(world.make("old", ENTRIES));
    let (head, runs) = world.honest("old");
    let bytes = |head: &Head| [&head.to_bytes(), &runs[..]].concat();
    let good = bytes(&head);
    let mut flipped = good.clone();
    flipped[100] ^= 1;
    let long = [b"TGIDX001".as_slice(), &(HEAD_BYTES_MAX as u32 + 1).to_le_bytes(), &[b' '; 10_000]].concat();
    let other = Head { partition: 0, ..head.clone() };
    let nameless = Head { manifest: "{}".into(), ..head.clone() };
    let more = Head { sizes: [&head.sizes[..], &[1_000]].concat(), ..head.clone() };
    let huge = Head { sizes: vec![u64::MAX; head.sizes.len()], ..head.clone() };
    let damaged =
        [b"<html>".to_vec(), vec![], good[..20].to_vec(), flipped, long, bytes(&other), bytes(&nameless), bytes(&more), bytes(&huge)];
    for (at, answer) in damaged.into_iter().enumerate() {
        let liar = world.liar(answer, true);
        assert_eq!(world.reason(&liar), Some(NotFetched::Damaged), "{at}");
        assert!(!world.fetches("new", &standing(0, ENTRIES), &[liar]), "{at}");
    }
    assert_eq!(world.reason(&nobody()), Some(NotFetched::Unreachable));
    assert_eq!(world.reason(&NodeAddress { url: "nonsense".into(), ..nobody() }), Some(NotFetched::Unreachable));
    let redirects = world.serve("redirects", Router::new().fallback(routing::any(|| async { Redirect::temporary("/elsewhere") })));
    assert_eq!(world.reason(&redirects), Some(NotFetched::Refused));
    // One that tells a good head and then something else.
    let cuts = [head.to_bytes().len(), good.len() / 2, good.len() - 1].map(|cut| good[..cut].to_vec());
    for (at, answer) in cuts.into_iter().chain([[&good[..], b"more"].concat()]).enumerate() {
        let liar = world.liar(answer, true);
        assert_eq!(world.reason(&liar), None, "{at}");
        assert!(!world.fetches("new", &standing(0, ENTRIES), &[liar]), "{at}");
    }
    assert_eq!(RealDisk.list(&world.index_dir("new")).expect("lists"), Vec::<String>::new(), "nothing is left of all that");
    assert!(world.fetches("new", &standing(0, ENTRIES), &[world.liar(good, true)]), "the same bytes are good from whoever sends them");
    world.has("new", ENTRIES);
}

#[test]
fn an_index_that_is_ahead_of_the_log_is_not_taken_over() {
    let world = World::new();
    drop(world.make("old", 1_050));
    assert_eq!(world.log.seen().end(), Position(1_000));
    assert!(!world.fetches("new", &standing(0, ENTRIES), &[world.lender("old")]));
}

#[test]
fn a_node_that_says_nothing_is_not_waited_for() {
    let world = World::new();
    drop(world.make("old", ENTRIES));
    let (head, runs) = world.honest("old");
    let half = [&head.to_bytes(), &runs[..runs.len() / 2]].concat();
    for silent in [world.liar(Vec::new(), false), world.liar(half, false)] {
        assert!(!world.fetches("new", &standing(0, ENTRIES), &[silent]));
        assert_eq!(RealDisk.list(&world.index_dir("new")).expect("lists"), Vec::<String>::new());
    }
}

#[test]
fn a_partition_that_is_not_wanted_any_more_is_not_fetched_to_its_end() {
    let world = World::new();
    drop(world.make("old", ENTRIES));
    let (head, runs) = world.honest("old");
    let half = [&head.to_bytes(), &runs[..runs.len() / 2]].concat();
    for silent in [world.liar(Vec::new(), false), world.liar(half, false)] {
        let is_wanted = Arc::new(AtomicBool::new(true));
        let mut taking = world.taking(&[silent], Costs { read_a_record: u64::MAX / 1_000, ..COSTS }, is_wanted.clone());
        let dir = world.index_dir("new");
        let place = IndexPlace { disk: &RealDisk, dir: &dir, log_id: LOG_ID, horizon_ms: None };
        RealDisk.create_dir(&dir).expect("made");
        std::thread::scope(|threads| {
            threads.spawn(|| is_wanted.store(false, Ordering::Release));
            assert!(matches!(taking.find_index(&place, &standing(0, ENTRIES)), Err(Error::Stopped)));
        });
        assert_eq!(RealDisk.list(&dir).expect("lists"), Vec::<String>::new());
    }
}

/// A disk without room.
struct Full(u64);

impl Disk for Full {
    fn create(&self, path: &std::path::Path) -> std::io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FullFile(RealDisk.create(path)?)))
    }
    fn open(&self, path: &std::path::Path) -> std::io::Result<Box<dyn DiskFile>> {
        RealDisk.open(path)
    }
    fn open_writable(&self, path: &std::path::Path) -> std::io::Result<Box<dyn DiskFile>> {
        RealDisk.open_writable(path)
    }
    fn list(&self, dir: &std::path::Path) -> std::io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &std::path::Path) -> std::io::Result<()> {
        RealDisk.remove(path)
    }
    fn create_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        RealDisk.create_dir(path)
    }
    fn sync_dir(&self, path: &std::path::Path) -> std::io::Result<()> {
        RealDisk.sync_dir(path)
    }
    fn free_bytes(&self, _: &std::path::Path) -> std::io::Result<u64> {
        Ok(self.0)
    }
}

struct FullFile(Box<dyn DiskFile>);

impl DiskFile for FullFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        if offset + bytes.len() as u64 > 2_000 { Err(std::io::ErrorKind::StorageFull.into()) } else { self.0.write_at(offset, bytes) }
    }
    fn sync(&self) -> std::io::Result<()> {
        self.0.sync()
    }
    fn truncate(&self, bytes: u64) -> std::io::Result<()> {
        self.0.truncate(bytes)
    }
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
}

#[test]
fn a_disk_without_room_takes_nothing_over_and_keeps_nothing_of_it() {
    let world = World::new();
    drop(world.make("old", ENTRIES));
    drop(world.make("new", 50));
    let old = [world.lender("old")];
    let before = RealDisk.list(&world.index_dir("new")).expect("lists");
    // It says so beforehand, or turns out to be full.
    for disk in [Full(64 << 20), Full(u64::MAX)] {
        assert!(!world.fetches_on(&disk, "new", &standing(50, ENTRIES), &old, COSTS));
        assert_eq!(RealDisk.list(&world.index_dir("new")).expect("lists"), before);
    }
    world.has("new", 50);
}

#[test]
fn two_that_take_partitions_at_the_same_time_both_get_them() {
    let world = World::new();
    drop(world.make("old", ENTRIES));
    let old = [world.lender("old")];
    std::thread::scope(|threads| {
        for node in ["a", "b", "c"] {
            threads.spawn(|| assert!(world.fetches(node, &standing(0, ENTRIES), &old)));
        }
    });
    ["a", "b", "c"].iter().for_each(|node| world.has(node, ENTRIES));
}

proptest! {
    #[test]
    fn a_head_comes_over_as_it_was_however_it_is_cut(
        partition in any::<u32>(), manifest in "\\PC{0,40}", sizes in proptest::collection::vec(any::<u64>(), 0..5), more in any::<Vec<u8>>(),
    ) {
        let head = Head { partition, manifest, sizes };
        let bytes = head.to_bytes();
        for cut in 0..bytes.len() {
            prop_assert_eq!(Head::read(&bytes[..cut]), Ok(None));
        }
        let all = [&bytes[..], &more].concat();
        prop_assert_eq!(Head::read(&all), Ok(Some((head, bytes.len()))));
    }

    #[test]
    fn any_bytes_are_a_head_or_nonsense(bytes in any::<Vec<u8>>(), flipped in any::<prop::sample::Index>(), bit in 0_u8..8) {
        drop(Head::read(&bytes));
        let head = Head { partition: 3, manifest: "{}".into(), sizes: vec![7] };
        let mut changed = head.to_bytes();
        let at = flipped.index(changed.len());
        changed[at] ^= 1 << bit;
        prop_assert!(!matches!(Head::read(&changed), Ok(Some(_))));
    }
}
