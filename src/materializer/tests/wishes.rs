//! What somebody waits for is committed at once, however rarely the owner commits by itself.

use std::sync::atomic::AtomicU32;

use super::*;
use crate::store::intercepted::{Commits, Intercepted};

/// Nobody in a test waits for that long.
const NEVER: Duration = Duration::from_secs(86_400);
const DEADLINE: Duration = Duration::from_secs(60);

/// Each commit waits for leave.
struct Gate {
    /// A commit says where it leads to, and waits for an answer.
    begun: Sender<Position>,
    leave: Receiver<()>,
    under_way: AtomicU32,
}

impl Commits for Gate {
    fn commit(&self, store: &EmbeddedStore, commit: &Commit) -> Result<(), store::Error> {
        assert_eq!(self.under_way.fetch_add(1, Ordering::SeqCst), 0, "one commit at a time");
        self.begun.send(commit.reached.next).expect("the test listens");
        self.leave.recv().expect("the test gives leave");
        let committed = store.commit(commit);
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        committed
    }
}

/// An owner that never commits by itself.
struct Quiet {
    dir: tempfile::TempDir,
    appender: EmbeddedAppender,
    store: Arc<Intercepted<Gate>>,
    materializer: Materializer,
    running: Running,
    /// Where the commit leads to that has begun.
    begun: Receiver<Position>,
    leave: Sender<()>,
    sent: u8,
}

fn quiet() -> Quiet {
    let dir = tempfile::tempdir().expect("a directory");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let identity = LogIdentity { log_id: META.log_id, name: "events" };
    let settings = Settings { segment_bytes: 1 << 20, retention_age_ms: None, retention_bytes: None, disk_reserve_bytes: 0 };
    let (log, appender, _) = EmbeddedLog::open(disk.clone(), &dir.path().join("log"), identity, settings).expect("opens");
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).expect("opens");
    let ((to_test, begun), (leave, to_store)) = (bounded(8), bounded(8));
    let commits = Gate { begun: to_test, leave: to_store, under_way: AtomicU32::new(0) };
    let store = Arc::new(Intercepted { store, commits });
    let index_dir = dir.path().join("index");
    let parts = Parts {
        log,
        meta: META,
        store: store.clone(),
        disk,
        index_dir,
        clock: Clock::start(),
        commit_interval: NEVER,
        bases: None,
        undecodable: None,
    };
    let (materializer, running) = Materializer::start(parts).expect("starts");
    Quiet { dir, appender, store, materializer, running, begun, leave, sent: 0 }
}

impl Quiet {
    /// Appends one more record, and waits until it is folded.
    fn append(&mut self) {
        let mut block = Block::new(crate::clock::UnixMillis(1_000), 0);
        Sent { id: self.sent, customer: 1, hour: 1, value: 1, dimension: 1, filtered: false }.push(&mut block);
        self.sent += 1;
        let answers = self.appender.append_and_wait(vec![Append::unattended(block.seal())]);
        answers.into_iter().for_each(|answer| drop(answer.result.expect("is durable")));
        let began = Instant::now();
        while self.materializer.folded() < Position(u64::from(self.sent)) {
            assert!(began.elapsed() < DEADLINE, "it is folded");
            std::thread::yield_now();
        }
    }

    /// The commit that begins next leads to here.
    fn begins(&self, reached: u64) {
        assert_eq!(self.begun.recv_timeout(DEADLINE), Ok(Position(reached)));
    }

    fn committed(&self) -> u64 {
        self.store.snapshot().and_then(|snapshot| snapshot.progress(0)).expect("progress").next.0
    }

    fn stop(self) {
        // Whatever the last commit needs.
        (0..4).for_each(|_| self.leave.send(()).expect("it listens"));
        self.running.stop().expect("stops");
        drop(self.dir);
    }
}

#[test]
fn what_is_wished_is_committed_at_once_with_all_that_is_folded() {
    let mut owner = quiet();
    (0..3).for_each(|_| owner.append());
    assert_eq!(owner.committed(), 0);
    owner.materializer.commit_from(Position(2));
    owner.begins(3);
    owner.stop();
}

#[test]
fn a_wish_for_what_is_committed_or_on_its_way_changes_nothing() {
    let mut owner = quiet();
    (0..2).for_each(|_| owner.append());
    owner.materializer.commit_from(Position(2));
    owner.begins(2);
    owner.materializer.commit_from(Position(1));
    owner.leave.send(()).expect("it listens");
    owner.append();
    owner.materializer.commit_from(Position(2));
    owner.materializer.commit_from(Position(3));
    owner.begins(3);
    owner.stop();
}

#[test]
fn a_wish_during_a_commit_is_met_by_another_one_as_soon_as_that_has_ended() {
    let mut owner = quiet();
    owner.append();
    owner.materializer.commit_from(Position(1));
    owner.begins(1);
    (0..2).for_each(|_| owner.append());
    owner.materializer.commit_from(Position(2));
    assert!(owner.begun.is_empty(), "never two at a time");
    owner.leave.send(()).expect("it listens");
    owner.begins(3);
    owner.stop();
}

#[test]
fn a_wish_for_what_has_not_come_yet_waits_for_it() {
    let mut owner = quiet();
    owner.append();
    owner.materializer.commit_from(Position(3));
    owner.append();
    assert!(owner.begun.is_empty());
    owner.append();
    owner.begins(3);
    owner.stop();
}

#[test]
fn wishes_that_come_one_behind_the_other_do_not_put_off_the_first() {
    let mut owner = quiet();
    owner.materializer.commit_from(Position(3));
    // When the second is folded, what was wished before the first has been taken up.
    (0..2).for_each(|_| owner.append());
    owner.materializer.commit_from(Position(5));
    owner.materializer.commit_from(Position(6));
    owner.append();
    owner.begins(3);
    owner.leave.send(()).expect("it listens");
    // They are met together.
    (0..3).for_each(|_| owner.append());
    owner.begins(6);
    owner.stop();
}
