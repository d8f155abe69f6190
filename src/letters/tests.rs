//! Letters, marks and replays over real logs in a directory.

use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;
use crate::accounts::{Caller, Scope, ring_of};
use crate::definitions::Definitions;
use crate::event::{HashKey, TimeWindow};
use crate::gateway::body::BodyLimits;
use crate::gateway::budget::Budget;
use crate::gateway::form::Sent;
use crate::gateway::letters::{NOBODY, UNDECODABLE, block_of};
use crate::gateway::recent::{self, RecentIds};
use crate::gateway::{self, Gateway};
use crate::log::Appender;
use crate::log::disk::RealDisk;
use crate::log::embedded::{EmbeddedAppender, EmbeddedLog, LogIdentity, Settings};
use crate::log::record::Why;
use crate::materializer::{KeepUndecodable, UndecodableRecord};
use crate::rules::Rules;
use crate::store::memory::MemoryStore;
use crate::telemetry::RoomKind;

const KEEP_ALL: Settings = Settings { segment_bytes: 1 << 20, retention_age_ms: None, retention_bytes: None, disk_reserve_bytes: 0 };

/// Letters and the gateway that takes what is replayed.
pub(crate) struct World {
    dir: TempDir,
    pub(crate) letters: Arc<Letters>,
    pub(crate) gateway: Arc<Gateway>,
    ledger: Arc<Ledger>,
    pub(crate) events: Arc<EmbeddedLog>,
    threads: Vec<JoinHandle<EmbeddedAppender>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::open(tempfile::tempdir().expect("a directory"), KEEP_ALL)
    }

    fn open(dir: TempDir, settings: Settings) -> Self {
        let open = |name: &'static str, settings| {
            let identity = LogIdentity { log_id: [4; 16], name };
            let (log, appender, _) = EmbeddedLog::open(Arc::new(RealDisk), &dir.path().join(name), identity, settings).expect("opens");
            log.keep_from(Position(u64::MAX));
            let (batcher, thread) = Batcher::start(name, appender, &Handle::current(), 256, Arc::new(())).expect("a thread");
            (log, batcher, thread)
        };
        let (events, to_events, events_thread) = open("events", KEEP_ALL);
        let (log, to_letters, letters_thread) = open("dead_letters", settings);
        let clock = Clock::start();
        let body = BodyLimits { wire_max: 1 << 20, inflated_max: 1 << 20, idle: Duration::from_secs(1), total: Duration::from_secs(1) };
        let gateway = Gateway {
            settings: gateway::Settings { body, events_max: 100, event_bytes_max: 64 << 10, window: TimeWindow::default() },
            keys: ring_of(&Arc::default(), &[("1", 1, Scope::Ingest), ("2", 2, Scope::Ingest)]),
            budget: Budget::new(RoomKind::Ingest, 1 << 20, Duration::from_secs(1)),
            rules: Arc::new(Rules::open(Arc::new(MemoryStore::default())).expect("no rules")),
            definitions: Arc::new(Definitions::open(Arc::new(MemoryStore::default())).expect("none")),
            recent: RecentIds::new(recent::Settings { bytes_max: 0, age_max: Duration::ZERO, step_back_ms_max: None }),
            events: to_events,
            dead_letters: to_letters.clone(),
            hash_key: HashKey::from_bytes([2; 16]),
            clock: clock.clone(),
            large_parses: Arc::new(tokio::sync::Semaphore::new(1)),
        };
        let ledger = Arc::new(Ledger::new(log));
        let letters = Arc::new(Letters::new(ledger.clone(), to_letters, clock));
        Self { dir, letters, gateway: Arc::new(gateway), ledger, events, threads: vec![events_thread, letters_thread] }
    }

    /// Ends all of it and begins again on the same directory.
    pub(crate) fn reopen(self, settings: Settings) -> Self {
        let Self { dir, letters, gateway, threads, .. } = self;
        drop((letters, gateway));
        for thread in threads {
            thread.join().expect("no panic").close().expect("closes");
        }
        Self::open(dir, settings)
    }

    /// Whoever may replay letters of account 1 or 2.
    fn caller(&self, account: u32) -> Caller {
        self.gateway.keys.caller(account.to_string().as_bytes()).expect("a key of this test")
    }

    /// Writes letters of one account and one block.
    pub(crate) async fn write(&self, account: u32, raws: &[&str]) -> Position {
        let letter = |(index, raw): (u32, &&str)| DeadLetter {
            account,
            index,
            refusal: Refusal { code: "wrong_type".into(), field: "meterValue".into(), reason: format!("must be {index}") },
            is_cut: false,
            sent: Sent::default(),
            record: None,
            raw: raw.as_bytes().to_vec(),
        };
        let block = block_of((0..).zip(raws).map(letter).collect(), self.letters.clock.now());
        self.letters
            .batcher
            .append(block.seal(), None)
            .await
            .expect("durable")
            .iter()
            .next()
            .and_then(|place| place.position)
            .expect("some")
    }

    async fn all(&self, filter: Filter) -> Vec<u64> {
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let page = self.letters.list(1, Filter { before: next, ..filter.clone() }).await.expect("reads");
            found.extend(page.letters.iter().map(|letter| letter.position.0));
            match page.next {
                Some(position) => next = Some(position),
                None => return found,
            }
        }
    }

    async fn replay(&self, position: u64, corrected: Option<&str>) -> Replay {
        let corrected = corrected.map(|text| bytes::Bytes::copy_from_slice(text.as_bytes()));
        let replayed = self.letters.replay(&self.gateway, &self.caller(1), Position(position), corrected).await;
        replayed.expect("answers").expect("there is a letter")
    }
}

pub(crate) fn good(unique_id: &str) -> String {
    format!(r#"{{"uniqueId":"{unique_id}","customerId":"c","meterApiName":"m","meterValue":1,"meterTimeInMillis":1767225600000}}"#)
}

const ANY: usize = 1_000;

fn of(unique_id: &str) -> Filter {
    Filter { unique_id: Some(unique_id.into()), limit: ANY, ..Filter::default() }
}

#[tokio::test]
async fn pages_of_any_size_have_every_letter_of_the_account_once_and_no_other() {
    let world = World::new();
    let mut expected = Vec::new();
    for round in 0..17_u64 {
        let raws: Vec<String> = (0..=round % 4).map(|at| format!(r#"{{"uniqueId":"u-{round}-{at}","customerId":"c-{at}"}}"#)).collect();
        let raws: Vec<&str> = raws.iter().map(String::as_str).collect();
        let (mine, first) = (round % 3 != 0, world.write(if round % 3 == 0 { 2 } else { 1 }, &raws).await);
        expected.extend((first.0..).take(raws.len()).filter(|_| mine));
    }
    expected.reverse();
    for limit in [1, 2, 3, 7, ANY] {
        assert_eq!(world.all(Filter { limit, ..Filter::default() }).await, expected, "limit {limit}");
        assert_eq!(world.all(Filter { limit, ..of("u-4-0") }).await.len(), 1);
        assert_eq!(world.all(Filter { limit, ..of("u-3-0") }).await, [0; 0], "another account's");
    }
    let filter = Filter { customer: Some("c-3".into()), limit: 1, ..Filter::default() };
    assert_eq!(world.all(filter).await.len(), 2, "of rounds 3, 7, 11 and 15, two are the other account's");
}

#[tokio::test]
async fn what_was_done_with_a_letter_survives_a_restart() {
    let world = World::new();
    world.write(1, &["{}", &good("u-1"), &good("u-2"), "7"]).await;
    assert!(world.letters.delete(1, Position(0)).await.expect("deletes"));
    let first = world.replay(1, None).await;
    assert_eq!(first.became, Became::Replayed { unique_id: "u-1".into(), partition: 0, position: Some(0) });
    let refused = world.replay(3, None).await;
    assert!(matches!(&refused.became, Became::Refused(refusal) if refusal.code == "not_an_object"), "{refused:?}");
    let before = world.letters.list(1, Filter { limit: ANY, ..Filter::default() }).await.expect("reads").letters;
    assert_eq!(before.iter().map(|letter| letter.position.0).collect::<Vec<_>>(), [3, 2, 1]);

    let world = world.reopen(KEEP_ALL);
    let after = world.letters.list(1, Filter { limit: ANY, ..Filter::default() }).await.expect("reads").letters;
    assert_eq!(after, before);
    assert_eq!(world.letters.get(1, Position(0)).await.expect("reads"), None);
    assert!(!world.letters.delete(1, Position(0)).await.expect("reads"), "it is gone");
    let again = world.replay(1, Some(&good("other"))).await;
    assert_eq!((again.was_done, again.became), (true, first.became));
    assert_eq!(world.events.end(), Position(1), "nothing was brought again");
}

#[tokio::test]
async fn states_are_filtered_and_a_replay_by_filter_leaves_out_what_is_done() {
    let world = World::new();
    world.write(1, &["{}", &good("u-1"), &good("u-2"), &good("u-3")]).await;
    world.replay(1, None).await;
    let filter = |states: &[State], limit| Filter { states: states.to_vec(), limit, ..Filter::default() };
    let page = world.letters.replay_all(&world.gateway, &world.caller(1), filter(&[], 2)).await.expect("replays");
    assert_eq!(page.replays.iter().map(|replay| replay.letter.0).collect::<Vec<_>>(), [3, 2]);
    let rest = Filter { before: page.next, ..filter(&[], ANY) };
    let page = world.letters.replay_all(&world.gateway, &world.caller(1), rest).await.expect("replays");
    assert_eq!(page.replays.iter().map(|replay| replay.letter.0).collect::<Vec<_>>(), [0], "1 is in the log already");
    assert_eq!(page.next, None);
    assert_eq!(world.all(filter(&[State::Replayed], ANY)).await, [3, 2, 1]);
    assert_eq!(world.all(filter(&[State::Refused], ANY)).await, [0]);
    assert_eq!(world.all(filter(&[State::Open], ANY)).await, [0; 0]);
    let none = world.letters.replay_all(&world.gateway, &world.caller(1), filter(&[State::Replayed], ANY)).await.expect("replays");
    assert!(none.replays.is_empty());
    assert_eq!(world.events.end(), Position(3));
}

#[tokio::test]
async fn an_event_without_an_id_gets_the_same_one_each_time_and_each_letter_another() {
    let world = World::new();
    let without = good("x").replace(r#""uniqueId":"x","#, "");
    world.write(1, &[&without, &without]).await;
    let id = |became: &Became| match became {
        Became::Replayed { unique_id, .. } => unique_id.clone(),
        other => panic!("{other:?}"),
    };
    let first = id(&world.replay(0, None).await.became);
    let other = id(&world.replay(1, None).await.became);
    assert_ne!(first, other);
    // As after a kill between the event and its mark.
    let letter = world.letters.get(1, Position(0)).await.expect("reads").expect("a letter");
    let made = world.gateway.made_id(1, letter.position, letter.received);
    let again = world.gateway.replay(without.as_bytes(), &Sent::default(), &world.caller(1), made).await.expect("durable");
    assert!(matches!(again, gateway::Replayed::Logged { unique_id, .. } if unique_id == first));
}

#[tokio::test]
async fn a_letter_that_is_refused_for_the_same_reason_again_is_not_marked_again() {
    let world = World::new();
    world.write(1, &["7"]).await;
    world.replay(0, None).await;
    let end = world.ledger.log().end();
    for _ in 0..3 {
        world.replay(0, None).await;
    }
    assert_eq!(world.ledger.log().end(), end);
    let missing = world.replay(0, Some("{}")).await;
    assert!(matches!(&missing.became, Became::Refused(refusal) if refusal.code == "missing_field"), "{missing:?}");
    let letter = world.letters.get(1, Position(0)).await.expect("reads").expect("a letter");
    assert_eq!((letter.refusal().code.as_str(), letter.letter.refusal.code.as_str()), ("missing_field", "wrong_type"));
}

#[tokio::test]
async fn of_the_same_letter_replayed_at_once_one_brings_its_event() {
    let world = Arc::new(World::new());
    world.write(1, &["{}"]).await;
    let tasks: Vec<_> = (0..8)
        .map(|at| {
            let world = world.clone();
            tokio::spawn(async move { world.replay(0, Some(&good(&format!("u-{at}")))).await })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += usize::from(!task.await.expect("no panic").was_done);
    }
    assert_eq!((done, world.events.end()), (1, Position(1)));
}

#[tokio::test]
async fn marks_go_with_their_letters() {
    let small = Settings { segment_bytes: 2_000, retention_bytes: Some(6_000), ..KEEP_ALL };
    let world = World::open(tempfile::tempdir().expect("a directory"), small);
    let mut deleted = 0;
    for _ in 0..60 {
        let at = world.write(1, &[&good("u"), "{}"]).await;
        assert!(world.letters.delete(1, at).await.expect("deletes"));
        deleted += 1;
        let (marks, tallied) = world.ledger.sizes();
        let kept = world.ledger.log().end().0 - world.ledger.log().start().0;
        assert!(marks <= kept && tallied <= kept, "{marks} marks and {tallied} letters of {kept} records");
    }
    let start = world.ledger.log().start();
    assert!(start > Position(0), "retention took some of {deleted}");
    assert_eq!(world.letters.get(1, Position(0)).await.expect("reads"), None);
    // Each round wrote two letters and a mark; one of the letters was deleted.
    world.letters.list(1, Filter { limit: ANY, ..Filter::default() }).await.expect("reads");
    let (marks, tallied) = world.ledger.sizes();
    let found = world.all(Filter { limit: ANY, ..Filter::default() }).await;
    assert_eq!(found.len() as u64, tallied);
    assert!(found.iter().all(|position| *position >= start.0) && marks > 0);
    let reopened = world.reopen(small);
    assert_eq!(reopened.all(Filter { limit: ANY, ..Filter::default() }).await, found);
    assert_eq!(reopened.ledger.sizes(), (marks, tallied), "what a new process reads is what the old one knew");
}

/// Undecodable records at these positions of partition 2.
fn undecodable(positions: std::ops::Range<u64>) -> Vec<UndecodableRecord> {
    let record =
        |position| UndecodableRecord { position: Position(position), why: Why::Value, bytes: vec![0xff, position as u8], is_cut: false };
    positions.map(record).collect()
}

/// Keeps records as the fold does that found them, which began anew.
async fn keep(world: &World, positions: std::ops::Range<u64>) {
    let keeper = UndecodableLetters::new(world.letters.batcher.clone(), Handle::current(), Clock::start());
    tokio::task::spawn_blocking(move || {
        for _ in 0..2 {
            keeper.keep(2, &undecodable(positions.clone())).expect("durable");
        }
        keeper.close();
        assert!(keeper.keep(2, &undecodable(90..91)).is_err(), "it is closed");
    })
    .await
    .expect("no panic");
}

#[tokio::test]
async fn a_record_that_cannot_be_decoded_is_one_letter_that_belongs_to_nobody() {
    let all = || Filter { code: Some(UNDECODABLE.into()), limit: ANY, ..Filter::default() };
    let world = World::new();
    world.write(1, &["{}"]).await;
    keep(&world, 5..8).await;
    assert_eq!(world.ledger.log().end(), Position(4), "one process writes each once");
    // As after a kill before the commit, and by an owner that was overtaken.
    keep(&world, 7..9).await;
    keep(&world, 5..6).await;
    assert_eq!(world.ledger.log().end(), Position(7));
    let expect = async |world: &World| {
        let found = world.letters.list(NOBODY, all()).await.expect("reads").letters;
        let shown = |letter: &Letter| (letter.position.0, letter.letter.record.expect("a record").position, letter.letter.raw.clone());
        let expected = [(5, 8), (3, 7), (2, 6), (1, 5)].map(|(at, position)| (at, position, vec![0xff, position as u8]));
        assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected);
        assert_eq!(found[0].letter.refusal.reason, Why::Value.reason());
        assert_eq!(world.letters.get(NOBODY, Position(4)).await.expect("reads"), None, "it is the letter at 3 once more");
        assert_eq!(world.all(Filter { limit: ANY, ..Filter::default() }).await, [0], "what an account sees");
        assert_eq!(world.letters.get(1, Position(1)).await.expect("reads"), None);
        assert_eq!(world.ledger.sizes().1, 5, "repeated ones are not counted");
    };
    expect(&world).await;
    let world = world.reopen(KEEP_ALL);
    expect(&world).await;
    assert!(world.letters.delete(NOBODY, Position(3)).await.expect("deletes"));
    let left = world.letters.list(NOBODY, all()).await.expect("reads").letters;
    assert_eq!(left.iter().map(|letter| letter.position.0).collect::<Vec<_>>(), [5, 2, 1], "nor is its repetition there");
}
