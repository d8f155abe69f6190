//! What an index has when a partition is taken, and what is left when it is let go.

use super::*;
use crate::clock::UnixMillis;
use crate::log::memory::MemoryLog;
use crate::store::memory::MemoryStore;
use crate::verdicts::tests::Sent as Event;

const WAIT: Duration = Duration::from_secs(60);
const LOG_ID: [u8; 16] = [5; 16];

const DAY_MS: i64 = 86_400_000;

/// A log whose reads bring nothing now and then, its rows, and the disk of a node.
struct Place {
    dir: tempfile::TempDir,
    log: Arc<MemoryLog>,
    store: Arc<MemoryStore>,
    horizon_ms: Option<i64>,
}

fn event(number: u64) -> Event {
    let account = record::Account { number: 1, identity: IdentityMode::UniqueId };
    Event { account, id: format!("u-{number}"), value: 1, dimension: 0, is_filtered: false }
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            log: MemoryLog::new(0),
            store: Arc::new(MemoryStore::default()),
            horizon_ms: None,
        }
    }

    fn append(&self, numbers: std::ops::Range<u64>) -> Vec<Position> {
        numbers.map(|number| self.append_at(number, 1_000)).collect()
    }

    fn append_at(&self, number: u64, received: i64) -> Position {
        self.log.append(UnixMillis(received), event(number).record(UnixMillis(received)))
    }

    fn index_dir(&self) -> PathBuf {
        self.dir.path().join("index")
    }

    fn parts(&self) -> Parts {
        let fold = FoldSettings { dedup_horizon_ms: self.horizon_ms, dimension_sets_max: 10, partitions: 1 };
        Parts {
            log: self.log.seen(),
            meta: LogMeta { log_id: LOG_ID, hash_key: crate::verdicts::tests::KEY, fold },
            store: self.store.clone(),
            disk: Arc::new(RealDisk),
            index_dir: self.index_dir(),
            clock: Clock::start(),
            commit_interval: COMMIT_INTERVAL,
            bases: None,
            undecodable: None,
        }
    }

    fn start(&self) -> (Materializer, Running) {
        Materializer::start(self.parts()).expect("starts")
    }

    fn covered(&self) -> Position {
        let disk = Arc::new(RealDisk);
        let index = FirstPositions::open(disk, &self.index_dir(), LOG_ID, None, UnixMillis(i64::MAX)).expect("opens");
        index.covered()
    }

    fn committed(&self) -> Position {
        self.store.snapshot().and_then(|snapshot| snapshot.progress(0)).expect("progress").next
    }

    /// Folds what there is, and lets go.
    async fn fold(&self) {
        let (materializer, running) = self.start();
        materializer.firsts(Vec::new(), WAIT).await.expect("everything is folded");
        running.let_go().expect("lets go");
    }

    /// Where events stand first, when everything is folded.
    async fn firsts(&self, numbers: std::ops::Range<u64>) -> Vec<Option<Position>> {
        let (materializer, running) = self.start();
        let lookups = numbers.map(|number| Lookup::any(event(number).identity())).collect();
        let found = materializer.firsts(lookups, WAIT).await.expect("an answer");
        running.let_go().expect("lets go");
        found.into_iter().map(|first| first.map(|first| first.position)).collect()
    }
}

#[tokio::test]
async fn an_index_that_is_made_again_from_a_log_that_hesitates_has_everything() {
    let place = Place::new();
    let originals = place.append(0..60);
    place.fold().await;
    std::fs::remove_dir_all(place.index_dir()).expect("removed");
    // Copies of all of them, the last first.
    (0..60).rev().for_each(|number| drop(place.append(number..number + 1)));
    assert_eq!(place.firsts(0..60).await, originals.into_iter().map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_lets_go_leaves_an_index_that_needs_nothing_of_the_log() {
    let place = Place::new();
    place.append(0..61);
    place.fold().await;
    assert_eq!((place.covered(), place.committed()), (place.log.seen().end(), place.log.seen().end()));
}

#[tokio::test]
async fn who_lets_go_while_the_index_is_made_again_leaves_one_that_claims_no_more_than_it_has() {
    let place = Place::new();
    let originals = place.append(0..60);
    place.fold().await;
    for _ in 0..20 {
        std::fs::remove_dir_all(place.index_dir()).expect("removed");
        let (_, running) = place.start();
        // At some moment of it.
        std::thread::yield_now();
        running.let_go().expect("lets go");
    }
    (0..60).rev().for_each(|number| drop(place.append(number..number + 1)));
    assert_eq!(place.firsts(0..60).await, originals.into_iter().map(Some).collect::<Vec<_>>());
}

/// Remembers what it was asked and told.
#[derive(Clone, Default)]
struct Notes {
    wants: bool,
    asked: Arc<std::sync::Mutex<Vec<IndexStanding>>>,
    told: Arc<std::sync::Mutex<Vec<CaughtUp>>>,
}

impl Taking for Notes {
    fn is_index_wanted(&self, standing: &IndexStanding) -> bool {
        self.asked.lock().expect("no panic").push(*standing);
        self.wants
    }

    fn find_index(&mut self, _: &IndexPlace<'_>, _: &IndexStanding) -> Result<bool, Error> {
        Err(Error::Stopped)
    }

    fn caught_up(&mut self, caught_up: CaughtUp) {
        self.told.lock().expect("no panic").push(caught_up);
    }
}

#[tokio::test]
async fn whoever_takes_a_partition_hears_how_far_its_index_goes() {
    let place = Place::new();
    place.append(0..60);
    place.fold().await;
    let end = place.log.seen().end();
    std::fs::remove_dir_all(place.index_dir()).expect("removed");
    let unwanted = Notes { wants: true, ..Notes::default() };
    assert!(matches!(Materializer::take(place.parts(), unwanted.clone()), Err(Error::Stopped)));
    let standing = unwanted.asked.lock().expect("no panic")[0];
    assert_eq!((standing.covered, standing.committed.next, standing.behind()), (Position(0), end, end.0));
    assert!(standing.can_be_read());
    let notes = Notes::default();
    let (materializer, running) = Materializer::take(place.parts(), notes.clone()).expect("starts");
    materializer.firsts(Vec::new(), WAIT).await.expect("an answer");
    running.let_go().expect("lets go");
    let told = notes.told.lock().expect("no panic").clone();
    assert_eq!(told.iter().map(|told| (told.from, told.to)).collect::<Vec<_>>(), [(Position(0), end)]);
}

/// Events a day apart, of which retention has taken the first ten, and a node that has no index.
async fn trimmed(horizon_days: Option<i64>) -> (Place, Vec<Position>) {
    let place = Place { horizon_ms: horizon_days.map(|days| days * DAY_MS), ..Place::new() };
    let positions: Vec<Position> = (0..30).map(|day| place.append_at(day, (1_000 + day as i64) * DAY_MS)).collect();
    place.fold().await;
    std::fs::remove_dir_all(place.index_dir()).expect("removed");
    place.log.drop_before(positions[10]);
    (place, positions)
}

#[tokio::test]
async fn an_index_begins_where_the_log_does_if_all_that_retention_took_had_expired() {
    let (place, positions) = trimmed(Some(5)).await;
    // The last of the horizon is known still, the one before has expired.
    let copies: Vec<Position> = [26, 24].map(|day| place.append_at(day, 1_029 * DAY_MS + DAY_MS / 2)).to_vec();
    let (materializer, running) = place.start();
    let lookups = [26, 24].map(|day| Lookup { log_time: UnixMillis(1_029 * DAY_MS + DAY_MS / 2), ..Lookup::any(event(day).identity()) });
    let found = materializer.firsts(lookups.to_vec(), WAIT).await.expect("an answer");
    assert_eq!(found.iter().map(|first| first.map(|first| first.position)).collect::<Vec<_>>(), [Some(positions[26]), Some(copies[1])]);
    running.let_go().expect("lets go");
}

#[tokio::test]
async fn an_index_that_needs_what_retention_took_is_not_begun_without_it() {
    // The newest that is looked at is of day 13 at least; with a day for clocks, 15 days are as good as all.
    for horizon_days in [None, Some(1_000), Some(29), Some(19)] {
        let (place, positions) = trimmed(horizon_days).await;
        match Materializer::start(place.parts()) {
            Err(Error::NoIndex { index, log }) => assert_eq!((index, log), (Position(0), positions[10])),
            Err(other) => panic!("{horizon_days:?}: {other}"),
            Ok(_) => panic!("{horizon_days:?}: copies of what went would count"),
        }
    }
}
