//! Promise 3, proved by `tollgate verify`, and mended by `tollgate rebuild`.
//!
//! The embedded pair's: the tests change its store through the library.

use std::fs;

use serde_json::json;
use tollgate::event::Amount;
use tollgate::store::embedded::EmbeddedStore;
use tollgate::store::{Commit, Conflict, Item, Row, Store};

use crate::harness::{DAY_0_MS, Event, Gateway, NO_RECENT_IDS, Random, Setup, contents, event, wait_for};

/// Events of several customers and hours, with copies and conflicts, in several requests; ended by a kill, so that some of it is not
/// in the rows.
fn killed() -> Gateway {
    let mut gateway = Setup::with(&format!("{NO_RECENT_IDS}[log]\ndimension_sets_max = 3")).start();
    let events: Vec<Event> = (0..300).map(at).collect();
    for batch in events.chunks(20) {
        gateway.send(batch).logged(batch.len());
    }
    gateway.send(&[at(3), at(4).value("77"), at(5).value("78")]).logged(3);
    gateway.stop_and_restart();
    let more: Vec<Event> = (300..400).map(at).collect();
    gateway.send(&more).logged(100);
    gateway.kill();
    gateway
}

fn at(at: i64) -> Event {
    event(&format!("u-{at}"))
        .customer(&format!("customer-{}", at % 7))
        .value(format!("{at}.25"))
        .at(DAY_0_MS + at * 600_000)
        .dimension("region", &format!("region-{}", at % 5))
}

fn store(gateway: &Gateway) -> EmbeddedStore {
    EmbeddedStore::open(&gateway.file("store.redb")).expect("opens")
}

/// The first row that is stored.
fn first_row(store: &EmbeddedStore) -> (Vec<u8>, Row) {
    let mut first = None;
    let mut visit = |item: Item<'_>| {
        if let (Item::Row(key, row), None) = (item, &first) {
            first = Some((key.to_vec(), row.clone()));
        }
        Ok(())
    };
    store.snapshot().and_then(|snapshot| snapshot.visit(&mut visit)).expect("visits");
    first.expect("there are rows")
}

/// Commits something that no fold would, at the position that is stored.
fn meddle(gateway: &Gateway, rows: Vec<(Vec<u8>, Row)>, conflicts: Vec<Conflict>) {
    let store = store(gateway);
    let progress = store.snapshot().and_then(|snapshot| snapshot.progress(0)).expect("progress");
    store
        .commit(&Commit { partition: 0, expected: progress, reached: progress, rows: rows.into_iter().collect(), conflicts })
        .expect("commits");
}

/// Writes the store anew, with what `keep` lets through.
fn rewrite(gateway: &Gateway, keep: impl Fn(&Item<'_>) -> bool) {
    let store = store(gateway);
    let old = store.snapshot().expect("a snapshot");
    let path = gateway.file("store.new");
    let new = EmbeddedStore::open(&path).expect("opens");
    let progress = old.progress(0).expect("progress");
    new.fill(&[(0, progress)], &mut |visit| old.visit(&mut |item| if keep(&item) { visit(item) } else { Ok(()) })).expect("fills");
    drop((old, store, new));
    fs::rename(path, gateway.file("store.redb")).expect("renamed");
}

#[test]
fn after_a_kill_the_stored_rows_are_those_of_the_log_and_verify_changes_nothing() {
    let mut gateway = killed();
    let all_but_the_lock = || contents(&gateway.data_dir()).into_iter().filter(|(path, _)| !path.ends_with("lock")).collect::<Vec<_>>();
    let before = all_but_the_lock();
    let ran = gateway.tollgate(&["verify"]).ended_with(0).says(&["equal"]);
    assert_eq!(ran.standing("stored"), ran.standing("replayed"));
    assert!(ran.standing("stored").starts_with("position 303 "), "what was committed when it stopped: {}", ran.stdout);
    assert!(all_but_the_lock() == before, "not a byte is another");
    gateway.restart();
    gateway.stop();
    assert!(gateway.tollgate(&["verify"]).ended_with(0).standing("stored").starts_with("position 403 "));
}

#[test]
fn a_running_gateway_cannot_be_verified_and_says_what_can() {
    let gateway = Gateway::start();
    gateway.tollgate(&["verify"]).refused(2, &["in use by another tollgate", "stop the gateway, or verify a restored backup"]);
    gateway.tollgate(&["doctor"]).refused(2, &["in use by another tollgate"]);
    gateway.tollgate(&["rebuild"]).refused(1, &["in use by another tollgate"]);
}

#[test]
fn what_is_no_data_directory_is_not_made_one() {
    let gateway = killed();
    let nowhere = gateway.beside("nowhere");
    let verify = |command: &str| {
        let mut command = gateway.tollgate_command(&[command]);
        command.env("TOLLGATE_DATA_DIR", &nowhere);
        let arguments: Vec<_> = command.get_args().take(1).map(ToOwned::to_owned).collect();
        let mut bare = std::process::Command::new(command.get_program());
        bare.args(arguments).env("TOLLGATE_DATA_DIR", &nowhere);
        crate::harness::Ran::from(bare.output().expect("runs"))
    };
    verify("verify").refused(2, &["is no data directory"]);
    verify("doctor").refused(2, &["is no data directory"]);
    verify("rebuild").refused(1, &["is no data directory"]);
    assert!(!fs::exists(&nowhere).expect("looked"));
}

#[test]
fn a_row_that_was_changed_is_found_and_named() {
    let gateway = killed();
    let (key, mut row) = first_row(&store(&gateway));
    row.count += 1;
    row.max = Amount::from_int(123_456);
    meddle(&gateway, vec![(key, row)], Vec::new());
    let ran = gateway.tollgate(&["verify"]).ended_with(1);
    assert_ne!(ran.standing("stored"), ran.standing("replayed"));
    ran.says(&[
        "different: 1\n",
        "account 1  meter m  customer customer-",
        "  hour 2026-01-0",
        "region=region-",
        "max 123456",
        "tollgate rebuild",
    ]);
}

/// The overflow rows that are stored, without what they know of the values that they lost.
fn overflow_rows(gateway: &Gateway) -> Vec<(Vec<u8>, Row)> {
    let mut found = Vec::new();
    let mut visit = |item: Item<'_>| {
        if let Item::Row(key, row) = item
            && row.sketches.is_some()
        {
            found.push((key.to_vec(), Row { sketches: None, ..row.clone() }));
        }
        Ok(())
    };
    store(gateway).snapshot().and_then(|snapshot| snapshot.visit(&mut visit)).expect("visits");
    found
}

#[test]
fn overflow_rows_of_an_older_version_are_equal_but_for_their_sketches_and_a_rebuild_adds_these() {
    let gateway = killed();
    let rows = overflow_rows(&gateway);
    assert!(!rows.is_empty());
    let before = gateway.tollgate(&["verify"]).ended_with(0).standing("stored");
    let (count, changed) = (rows.len(), Row { count: 99, ..rows[0].1.clone() });
    let key = rows[0].0.clone();
    meddle(&gateway, rows, Vec::new());
    let ran = gateway.tollgate(&["verify"]).ended_with(0).says(&[&format!("{count} overflow rows are from before"), "equal"]);
    assert_ne!(ran.standing("stored"), before);
    meddle(&gateway, vec![(key, changed)], Vec::new());
    gateway.tollgate(&["verify"]).ended_with(1).says(&["different: 1\n", "count 99"]);
    gateway.tollgate(&["rebuild"]).ended_with(0);
    let ran = gateway.tollgate(&["verify"]).ended_with(0);
    assert!(!ran.stdout.contains("overflow rows"), "{}", ran.stdout);
    assert!(overflow_rows(&gateway).len() >= count, "all have sketches again");
}

#[test]
fn a_row_that_is_missing_or_should_not_be_there_is_found() {
    let gateway = killed();
    let (key, row) = first_row(&store(&gateway));
    rewrite(&gateway, |item| !matches!(item, Item::Row(found, _) if *found == key.as_slice()));
    gateway.tollgate(&["verify"]).ended_with(1).says(&["different: 1\n", "stored    none\n", "replayed  count"]);
    let mut other = key.clone();
    other[3] = 9;
    meddle(&gateway, vec![(key, row.clone()), (other, row)], Vec::new());
    gateway.tollgate(&["verify"]).ended_with(1).says(&["different: 1\n", "account 9", "replayed  none\n"]);
}

#[test]
fn a_conflict_that_is_missing_or_should_not_be_there_is_found() {
    let gateway = killed();
    let position = |item: &Item<'_>| match item {
        Item::Conflict(conflict) => Some(conflict.position.0),
        Item::Row(..) | Item::Document(..) => None,
    };
    rewrite(&gateway, |item| position(item) != Some(301));
    gateway.tollgate(&["verify"]).ended_with(1).says(&["different: 1\n", "conflict at position 301 with 4\n  stored    none"]);
    let [there, not_there] = [(301, 4), (7, 2)].map(|(position, first)| Conflict {
        account: 1,
        partition: 0,
        position: tollgate::log::Position(position),
        first: tollgate::log::Position(first),
    });
    meddle(&gateway, Vec::new(), vec![there, not_there]);
    gateway.tollgate(&["verify"]).ended_with(1).says(&["different: 1\n", "conflict at position 7 with 2\n  stored    yes"]);
}

#[test]
fn of_many_differences_the_first_twenty_are_shown() {
    let gateway = killed();
    rewrite(&gateway, |item| !matches!(item, Item::Row(..)));
    let ran = gateway.tollgate(&["verify"]).ended_with(1);
    assert_eq!(ran.stdout.matches("  stored    none").count(), 20, "{}", ran.stdout);
    let different: usize = ran.stdout.lines().find_map(|line| line.strip_prefix("different: ")?.parse().ok()).expect("a number");
    ran.says(&[&format!("and {} more", different - 20)]);
}

#[test]
fn a_log_that_lost_what_was_counted_cannot_be_verified() {
    let gateway = killed();
    for (path, _) in contents(&gateway.file("log")).into_iter().skip(1) {
        if path.extension().is_some_and(|extension| extension != "json") {
            fs::remove_file(path).expect("removed");
        }
    }
    gateway.tollgate(&["verify"]).refused(2, &["the log has lost what was folded", "restore"]);
}

#[test]
fn rebuild_makes_equal_rows_again_and_keeps_accounts_and_customers() {
    let mut gateway = killed();
    gateway.restart();
    assert_eq!(gateway.post("/customers", &[], json!({"customerId": "acme", "customerName": "Acme"}).to_string()).status, 200);
    let (sum, count) = (gateway.usage("m").sum(), gateway.usage("m").count());
    gateway.stop();
    let before = gateway.tollgate(&["verify"]).ended_with(0).standing("stored");
    // From rows that are as they should be, from rows that are not, and without an index.
    for damage in 0..3 {
        match damage {
            0 => {}
            1 => rewrite(&gateway, |item| !matches!(item, Item::Row(..))),
            _ => fs::remove_dir_all(gateway.file("index")).expect("removed"),
        }
        let ran = gateway.tollgate(&["rebuild"]).ended_with(0);
        assert_eq!(ran.standing("after"), before);
        assert_eq!(ran.standing("before") == before, damage != 1, "{}", ran.stdout);
        assert_eq!(gateway.tollgate(&["verify"]).ended_with(0).standing("stored"), before);
        gateway.tollgate(&["doctor"]).ended_with(0).says(&["healthy"]);
    }
    gateway.restart();
    assert_eq!((gateway.usage("m").sum(), gateway.usage("m").count()), (sum.clone(), count));
    assert_eq!(gateway.get("/customers/acme").json()["customerName"], "Acme");
    let all: Vec<Event> = (0..400).map(at).collect();
    gateway.send(&all).logged(400);
    assert_eq!((gateway.usage("m").sum(), gateway.usage("m").count()), (sum, count), "what was known is known again");
}

#[test]
fn a_store_that_cannot_be_opened_is_not_thrown_away_by_a_rebuild() {
    let gateway = killed();
    fs::write(gateway.file("store.redb"), "not a store").expect("written");
    gateway.tollgate(&["rebuild"]).refused(1, &["store.redb", "restore it from a backup", "move it away"]);
    fs::remove_file(gateway.file("store.redb")).expect("removed");
    gateway.tollgate(&["rebuild"]).ended_with(0).says(&["there was no store", "position 403"]);
    gateway.tollgate(&["verify"]).ended_with(0);
}

#[test]
fn a_rebuild_that_is_killed_anywhere_leaves_rows_of_the_log() {
    let mut random = Random::seeded();
    let mut gateway = killed();
    for _ in 0..10 {
        let mut child = gateway.tollgate_command(&["rebuild"]).stdout(std::process::Stdio::null()).spawn().expect("runs");
        // At some moment of its work, or soon after.
        let mut looks = random.below(60);
        wait_for("the moment", || {
            looks = looks.saturating_sub(1);
            (looks == 0).then_some(())
        });
        child.kill().expect("killed");
        child.wait().expect("ended");
        // What was derived may be gone; the rows are those of the log, and a start is possible.
        gateway.tollgate(&["verify"]).ended_with(0).says(&["equal"]);
    }
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 400);
}
