//! Partitions go from node to node with their dedup indexes, and every copy is a copy still. Log on a real Kafka, rows in a real PostgreSQL.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::cluster::{Stops, counted, owned, send_until, wait_until_shared};
use crate::harness::{Client, Event, Gateway, Setup, Shared, event, flip, wait_for};

/// Ids that were sent before anything moves.
const OLD: usize = 1_000;

/// A node that asks others even for little.
fn asking(shared: &Arc<Shared>) -> Setup {
    Setup::default().variable("TOLLGATE_HANDOVER_RECORDS", "1").node_of(shared)
}

fn old_ids() -> Vec<Event> {
    (0..OLD).map(|at| event(&format!("old-{at}"))).collect()
}

/// Sends all old ids, which all are copies, to a node that has never heard of them.
#[track_caller]
fn send_copies(node: &Client) {
    for some in old_ids().chunks(200) {
        node.send(some).logged(200);
    }
}

/// How many partitions a node has taken in this way.
fn taken(node: &Client, how: &str) -> u64 {
    node.metrics().count("tollgate_handover_seconds_count", &[("how", how)])
}

fn not_fetched(node: &Client, reason: &str) -> u64 {
    node.metrics().count("tollgate_handover_failures_total", &[("reason", reason)])
}

fn fetched_files(node: &Client) -> u64 {
    node.metrics().count("tollgate_handover_fetched_files_total", &[])
}

/// Waits until a node has everything.
#[track_caller]
fn wait_until_it_has_all(node: &Gateway) {
    wait_for("a node to have everything", || (owned(node) == 4.0 && node.get("/readyz").status == 200).then_some(()));
}

/// A node with all old ids folded, and the ledger of them.
fn first_node(setup: Setup) -> Gateway {
    let node = setup.start();
    send_copies(&node);
    assert_eq!(counted(&node), OLD);
    node
}

#[test]
fn a_node_that_joins_gets_the_indexes_of_its_partitions_and_knows_every_copy() {
    let shared = Shared::new();
    let a = first_node(asking(&shared));
    let b = asking(&shared).start();
    wait_until_shared(&[&a, &b]);
    wait_for("indexes to be fetched", || (taken(&b, "fetched") as f64 == owned(&b)).then_some(()));
    assert!(fetched_files(&b) > 0 && taken(&b, "read") == 0);
    assert!(b.metrics().count("tollgate_handover_fetched_bytes_total", &[]) > 0);
    assert!(a.metrics().count("tollgate_handover_given_bytes_total", &[]) > 0);
    send_copies(&b);
    assert_eq!((counted(&a), counted(&b)), (OLD, OLD));
    let duplicates = || a.metrics().verdict("duplicate") + b.metrics().verdict("duplicate");
    wait_for("every copy to be one", || (duplicates() == OLD as u64).then_some(()));
    a.verify_cluster().ended_with(0).says(&["equal"]);
}

/// Files of runs in a node's directory.
fn runs(node: &Gateway) -> Vec<PathBuf> {
    let dirs = std::fs::read_dir(node.file("index")).expect("a directory").map(|dir| dir.expect("an entry").path());
    let files = dirs.flat_map(|dir| std::fs::read_dir(dir).expect("a directory")).map(|file| file.expect("an entry").path());
    files.filter(|path| path.extension().is_some_and(|name| name == "run")).collect()
}

#[test]
fn an_index_that_is_damaged_where_it_comes_from_is_read_from_the_log_and_nothing_counts_twice() {
    let shared = Shared::new();
    // Small tables: there are runs before anything moves.
    let mut a = first_node(asking(&shared).variable("TOLLGATE_INDEX_TABLE_ENTRIES", "20"));
    wait_for("runs in every partition", || (runs(&a).len() >= 4).then_some(()));
    // Merges are through, or they would read what is damaged.
    let settled = wait_for("nothing to be merged", || {
        let before = runs(&a);
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        (runs(&a) == before).then_some(before)
    });
    settled.iter().for_each(|run| flip(run, 0));
    let b = asking(&shared).start();
    wait_until_shared(&[&a, &b]);
    wait_for("the damage to be noticed", || (not_fetched(&b, "damaged") as f64 >= owned(&b)).then_some(()));
    wait_for("partitions to be read", || (taken(&b, "read") as f64 == owned(&b)).then_some(()));
    assert_eq!((taken(&b, "fetched"), fetched_files(&b)), (0, 0));
    // Who has damaged files cannot answer for its own partitions; nor can it be asked any more.
    a.kill();
    wait_until_it_has_all(&b);
    send_copies(&b);
    assert_eq!(counted(&b), OLD);
    b.verify_cluster().ended_with(0).says(&["equal"]);
}

#[test]
fn a_node_that_is_killed_while_it_takes_an_index_over_starts_again_and_knows_every_copy() {
    let shared = Shared::new();
    let a = first_node(asking(&shared));
    for point in ["handover-fetched:1", "handover-installed:1"] {
        let mut b = asking(&shared).variable("TOLLGATE_KILL_AT", point).start_unready();
        assert_eq!(b.wait_for_end().code, None, "it was killed");
        b.change_variable("TOLLGATE_KILL_AT", None);
        b.restart();
        wait_until_shared(&[&a, &b]);
        send_copies(&b);
        assert_eq!((counted(&a), counted(&b)), (OLD, OLD));
        b.stop();
        wait_until_it_has_all(&a);
    }
    a.verify_cluster().ended_with(0).says(&["equal"]);
}

#[test]
fn owners_that_are_stopped_killed_and_frozen_under_load_hand_over_what_they_have_and_nothing_counts_twice() {
    let shared = Shared::new();
    let (mut a, mut b) = (first_node(asking(&shared)), asking(&shared).start());
    let c = asking(&shared).start();
    let stop = AtomicBool::new(false);
    let acked: BTreeSet<String> = std::thread::scope(|threads| {
        let senders: Vec<_> = (0..2)
            .map(|sender| {
                // The third is never hurt, so that there is always somebody to send to.
                let (stop, clients) = (&stop, vec![Client::clone(&c), Client::clone(if sender == 0 { &a } else { &b })]);
                threads.spawn(move || send_until(stop, &clients, &format!("s{sender}")))
            })
            .collect();
        let stops = Stops(&stop);
        wait_until_shared(&[&a, &b, &c]);
        // Past the session time-out of the first, who comes back as one that folds nothing: it gives what it has.
        a.stop();
        a.add_flags(&["--roles", "gateway,api"]);
        a.restart();
        wait_until_shared(&[&b, &c]);
        b.signal("STOP");
        wait_for("the third to have everything", || (owned(&c) == 4.0).then_some(()));
        b.signal("CONT");
        wait_until_shared(&[&b, &c]);
        b.kill();
        wait_for("the third to have everything again", || (owned(&c) == 4.0).then_some(()));
        b.restart();
        wait_until_shared(&[&b, &c]);
        drop(stops);
        senders.into_iter().flat_map(|sender| sender.join().expect("no panic")).collect()
    });
    assert!(acked.len() > 100, "there was a load");
    assert!(fetched_files(&c) > 0, "what could be fetched was");
    send_copies(&c);
    for node in [&a, &b, &c] {
        assert_eq!(counted(node), OLD + acked.len());
    }
    a.verify_cluster().ended_with(0).says(&["equal"]);
}
