use std::sync::Mutex;

use super::*;
use crate::clock::{UnixMicros, UnixMillis};
use crate::event::Amount;
use crate::log::Position;
use crate::store::embedded::EmbeddedStore;
use crate::store::intercepted::{Commits, Intercepted};
use crate::store::{DimensionSet, Error as StoreError, Grain, Row, RowKey};

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    /// It is durable, and nobody hears of it.
    AnswerLost,
    /// Nothing happened, or not yet.
    Failed,
    /// The one before it, which had been on its way all the time, comes first.
    Overtaken,
}

/// Answers as it is told, and then as it should.
struct Unreliable {
    fates: Mutex<Vec<Fate>>,
    attempts: Mutex<u32>,
}

impl Commits for Unreliable {
    fn commit(&self, store: &EmbeddedStore, commit: &Commit) -> Result<(), StoreError> {
        *self.attempts.lock().expect("no panic") += 1;
        match self.fates.lock().expect("no panic").pop().unwrap_or(Fate::Done) {
            Fate::Done => store.commit(commit),
            Fate::AnswerLost => {
                store.commit(commit)?;
                Err(StoreError::Failed("the answer is lost".into()))
            }
            Fate::Failed => Err(StoreError::Failed("nothing happened".into())),
            Fate::Overtaken => {
                store.commit(commit)?;
                store.commit(commit)
            }
        }
    }
}

fn unreliable(fates: &[Fate]) -> (tempfile::TempDir, Intercepted<Unreliable>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(&dir.path().join("store.redb")).expect("opens");
    let fates = Mutex::new(fates.iter().rev().copied().collect());
    (dir, Intercepted { store, commits: Unreliable { fates, attempts: Mutex::new(0) } })
}

fn attempts(store: &Intercepted<Unreliable>) -> u32 {
    *store.commits.attempts.lock().expect("no panic")
}

fn key() -> Vec<u8> {
    let mut key = Vec::new();
    let dimensions = DimensionSet(&[0]);
    RowKey { account: 1, meter: "m", grain: Grain::Day, bucket: 9, customer: "c", partition: 0, dimensions }.write(&mut key);
    key
}

fn commit(store: &dyn Store, value: i64) -> Commit {
    let expected = store.snapshot().and_then(|snapshot| snapshot.progress(0)).expect("progress");
    let reached = Progress { next: Position(expected.next.0 + 10), log_time: UnixMillis(7) };
    let row = Row::first(Amount::from_int(value), UnixMicros(5), "u-1");
    Commit { partition: 0, expected, reached, rows: [(key(), row)].into_iter().collect(), conflicts: Vec::new() }
}

fn stored(store: &dyn Store) -> (Position, Option<Amount>) {
    let snapshot = store.snapshot().expect("a snapshot");
    let row = snapshot.row(&key()).expect("read");
    (snapshot.progress(0).expect("progress").next, row.map(|row| row.max))
}

#[test]
fn a_commit_whose_answer_is_lost_is_found_to_have_happened_and_not_made_again() {
    for fates in [&[Fate::AnswerLost][..], &[Fate::Failed, Fate::AnswerLost], &[Fate::Failed, Fate::Failed]] {
        let (_dir, store) = unreliable(fates);
        let commit = commit(&store, 3);
        let reached = commit_once(&store, &commit).expect("it happened");
        assert_eq!((reached, stored(&store)), (commit.reached, (Position(10), Some(Amount::from_int(3)))), "{fates:?}");
        let expected = fates.iter().take_while(|fate| **fate == Fate::Failed).count() + 1;
        assert_eq!(attempts(&store), expected as u32, "{fates:?}");
    }
}

#[test]
fn a_commit_that_lands_behind_the_look_for_it_is_its_owner_s_own() {
    let (_dir, store) = unreliable(&[Fate::Failed, Fate::Overtaken]);
    let tried_again = commit(&store, 3);
    assert_eq!(commit_once(&store, &tried_again).expect("it happened"), tried_again.reached);
    assert_eq!(stored(&store), (Position(10), Some(Amount::from_int(3))));
    let (_dir, store) = unreliable(&[Fate::Overtaken]);
    let never_tried = commit(&store, 3);
    assert!(matches!(commit_once(&store, &never_tried), Err(Error::Store(StoreError::Fenced { .. }))));
}

#[test]
fn a_commit_that_never_succeeds_ends_with_an_error_and_changes_nothing() {
    let (_dir, store) = unreliable(&[Fate::Failed; 9]);
    let failed = commit_once(&store, &commit(&store, 3));
    assert!(matches!(failed, Err(Error::Store(StoreError::Failed(_)))));
    assert_eq!((stored(&store), attempts(&store)), ((Position(0), None), COMMIT_ATTEMPTS));
}

#[test]
fn an_owner_that_somebody_else_overtook_changes_nothing() {
    let (_dir, store) = unreliable(&[]);
    let late = commit(&store, 4);
    commit_once(&store, &commit(&store, 3)).expect("commits");
    let fenced = commit_once(&store, &late);
    assert!(matches!(fenced, Err(Error::Store(StoreError::Fenced { found: Position(10), .. }))));
    assert_eq!((stored(&store), attempts(&store)), ((Position(10), Some(Amount::from_int(3))), 2));
}
