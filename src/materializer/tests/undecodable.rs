//! Records that cannot be decoded are kept before the rows pass them, and never by a replay.

use std::sync::Mutex;

use super::*;
use crate::log::memory::MemoryLog;
use crate::log::record::{Undecodable, Why};
use crate::materializer::replay::replay;
use crate::materializer::{KeepUndecodable, UndecodableRecord};
use crate::store::memory::MemoryStore;

const DEADLINE: Duration = Duration::from_secs(60);
/// No attempts are counted.
const AT_ONCE: usize = usize::MAX;

/// Keeps as often as it may, and looks where the rows stand then.
struct Keeper {
    store: Arc<MemoryStore>,
    /// Attempts that fail before one succeeds.
    failures: Mutex<usize>,
    attempts: AtomicU64,
    kept: Mutex<Vec<Vec<UndecodableRecord>>>,
}

impl Keeper {
    fn failing(store: &Arc<MemoryStore>, failures: usize) -> Arc<Self> {
        Arc::new(Self { store: store.clone(), failures: Mutex::new(failures), attempts: AtomicU64::new(0), kept: Mutex::default() })
    }

    fn kept(&self) -> Vec<u64> {
        self.kept.lock().expect("no panic").iter().flatten().map(|record| record.position.0).collect()
    }
}

impl KeepUndecodable for Keeper {
    fn keep(&self, partition: u32, records: &[UndecodableRecord]) -> Result<(), log::Error> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        let rows = self.store.snapshot().expect("a snapshot").progress(partition).expect("known").next;
        assert!(records.iter().all(|record| record.position >= rows), "the rows stand at {rows}, and have not passed {records:?}");
        let mut failures = self.failures.lock().expect("no panic");
        if *failures > 0 {
            *failures -= 1;
            return Err(log::Error::Unavailable("not now".into()));
        }
        self.kept.lock().expect("no panic").push(records.to_vec());
        Ok(())
    }
}

/// Good records at even turns, others at odd ones; gives back where the others are.
fn mixed(log: &MemoryLog, turns: u8) -> Vec<u64> {
    let received = crate::clock::UnixMillis(1_000);
    let mut others = Vec::new();
    for turn in 0..turns {
        if turn % 2 == 0 {
            let mut block = Block::new(received, 0);
            Sent { id: turn, customer: 1, hour: 1, value: 1, dimension: 1, filtered: false }.push(&mut block);
            log.append(received, block.payload().to_vec());
        } else {
            let mut record = Vec::new();
            Undecodable::write(Why::NoHeader, &[turn], &mut record);
            others.push(log.append(received, record).0);
        }
    }
    others
}

fn parts(dir: &std::path::Path, log: &Arc<MemoryLog>, store: &Arc<MemoryStore>, keeper: Option<Arc<Keeper>>) -> Parts {
    Parts {
        log: log.seen(),
        meta: META,
        store: store.clone(),
        disk: Arc::new(RealDisk),
        index_dir: dir.join("index"),
        clock: Clock::start(),
        commit_interval: Duration::ZERO,
        bases: None,
        undecodable: keeper.map(|keeper| keeper as Arc<dyn KeepUndecodable>),
    }
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < DEADLINE, "{what}");
        std::thread::yield_now();
    }
}

fn rows_stand_at(store: &MemoryStore) -> Position {
    store.snapshot().expect("a snapshot").progress(0).expect("known").next
}

#[test]
fn what_cannot_be_decoded_is_kept_before_the_rows_pass_it_however_much_it_is() {
    let (dir, log, store) = (tempfile::tempdir().expect("a directory"), MemoryLog::new(0), Arc::new(MemoryStore::default()));
    let keeper = Keeper::failing(&store, 3);
    let others = mixed(&log, 60);
    let (materializer, running) = Materializer::start(parts(dir.path(), &log, &store, Some(keeper.clone()))).expect("starts");
    wait_until("all of it is kept", || keeper.kept().len() >= others.len());
    running.stop().expect("everything is folded and committed");
    assert_eq!(keeper.kept(), others, "each once, in order");
    assert!(keeper.attempts.load(Ordering::SeqCst) > 3, "it was tried again");
    assert_eq!(rows_stand_at(&store), materializer.folded());
    let most = keeper.kept.lock().expect("no panic").iter().map(Vec::len).max();
    // Four, and what the read at hand still had.
    assert!(most.is_some_and(|most| most <= 8), "{most:?} between two commits");
    let first = keeper.kept.lock().expect("no panic")[0][0].clone();
    assert_eq!((first.why, first.bytes, first.is_cut), (Why::NoHeader, vec![1], false));
}

#[test]
fn while_nothing_can_be_kept_the_rows_wait_and_a_stop_says_why() {
    let (dir, log, store) = (tempfile::tempdir().expect("a directory"), MemoryLog::new(0), Arc::new(MemoryStore::default()));
    let keeper = Keeper::failing(&store, AT_ONCE);
    let others = mixed(&log, 60);
    let (materializer, running) = Materializer::start(parts(dir.path(), &log, &store, Some(keeper.clone()))).expect("starts");
    wait_until("it is tried again and again", || keeper.attempts.load(Ordering::SeqCst) > 5);
    assert!(rows_stand_at(&store).0 <= others[0], "the rows wait");
    assert!(materializer.folded().0 < others[others.len() - 1], "and so does the fold, once it holds enough");
    let ended = running.stop();
    assert!(matches!(ended, Err(Error::Undecodable(log::Error::Unavailable(_)))), "{ended:?}");
    assert!(rows_stand_at(&store).0 <= others[0]);

    // The next one goes on from there.
    *keeper.failures.lock().expect("no panic") = 0;
    let (_, running) = Materializer::start(parts(dir.path(), &log, &store, Some(keeper.clone()))).expect("starts");
    running.stop().expect("everything is folded and committed");
    assert_eq!(keeper.kept(), others);
}

#[test]
fn a_replay_keeps_nothing_and_makes_the_same_rows() {
    let (dir, log) = (tempfile::tempdir().expect("a directory"), MemoryLog::new(0));
    let stores = [(); 2].map(|()| Arc::new(MemoryStore::default()));
    mixed(&log, 60);
    let keeper = Keeper::failing(&stores[0], 0);
    let (materializer, running) =
        Materializer::start(parts(&dir.path().join("a"), &log, &stores[0], Some(keeper.clone()))).expect("starts");
    running.stop().expect("stops");
    let kept = keeper.kept();
    let progress = replay(parts(&dir.path().join("b"), &log, &stores[1], None), materializer.folded(), &mut |_| Ok(())).expect("replays");
    assert_eq!(progress.next, materializer.folded());
    assert_eq!(keeper.kept(), kept);
    let rows = |store: &MemoryStore| {
        let mut rows = Vec::new();
        let mut visit = |item: store::Item<'_>| {
            rows.push(format!("{item:?}"));
            Ok(())
        };
        store.snapshot().expect("a snapshot").visit(&mut visit).expect("visits");
        rows
    };
    assert_eq!(rows(&stores[0]), rows(&stores[1]));
    assert!(!rows(&stores[0]).is_empty());
}
