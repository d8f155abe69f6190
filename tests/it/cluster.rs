//! Many nodes: the same promises, whichever node is asked and whichever is killed. Log on a real Kafka, rows in a real PostgreSQL.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::json;

use crate::harness::kafka::Broker;
use crate::harness::{Client, DEADLINE, Event, Gateway, Setup, Shared, event, wait_for};
use crate::postgres::Cluster;

/// Nodes that share log and rows.
pub(crate) fn nodes(shared: &Arc<Shared>, count: usize) -> Vec<Gateway> {
    (0..count).map(|_| Setup::default().node_of(shared).start()).collect()
}

/// Partitions that a node owns.
pub(crate) fn owned(node: &Gateway) -> f64 {
    node.metrics().total("tollgate_owned_partitions", &[])
}

/// Waits until the partitions are shared among these nodes.
#[track_caller]
pub(crate) fn wait_until_shared(nodes: &[&Gateway]) {
    wait_for("each node to have its partitions", || {
        let each: Vec<f64> = nodes.iter().map(|node| owned(node)).collect();
        (each.iter().sum::<f64>() == 4.0 && each.iter().all(|owned| *owned >= 1.0)).then_some(())
    });
}

/// Lets those who send stop also when a test fails: a scope waits for its threads.
pub(crate) struct Stops<'s>(pub(crate) &'s AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A client that sends batches to some nodes in turn, now and then the same one again elsewhere, until it is told to stop. It sends what was not
/// answered again, for as long as it takes, and returns the ids that were acked.
pub(crate) fn send_until(stop: &AtomicBool, clients: &[Client], name: &str) -> BTreeSet<String> {
    let mut acked = BTreeSet::new();
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        let ids: Vec<String> = (0..20).map(|at| format!("{name}-{round}-{at}")).collect();
        let events: Vec<Event> = ids.iter().map(|id| event(id)).collect();
        // Until it is acked: what was sent and not acked may count.
        let (mut at, started) = (round, Instant::now());
        while !clients[at % clients.len()].try_send(&events).is_ok_and(|answer| answer.status == 200) {
            assert!(started.elapsed() < 6 * DEADLINE, "nobody takes {name}-{round}");
            at += 1;
        }
        if round % 3 == 0 {
            // As a producer does whose answer was lost.
            drop(clients[(at + 1) % clients.len()].try_send(&events));
        }
        acked.extend(ids);
        round += 1;
    }
    acked
}

/// Rounds of a group that never rests: somebody comes, and goes again. So long from each to the next, or as long as the group needs.
const ROUNDS: u32 = 4;
const PACE: Duration = Duration::from_secs(2);

/// Has partitions taken from nodes, and given back: a member of their group that folds nothing comes, gets some, and goes. So whatever it owns
/// is folded by nobody meanwhile, and by somebody else afterwards.
fn take_part_for_a_while(broker: &Broker, shared: &Shared) {
    let began = Instant::now();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.address()).set("group.id", format!("tollgate.{}", shared.events));
    config.set("partition.assignment.strategy", "cooperative-sticky").set("session.timeout.ms", "6000").set("enable.auto.commit", "false");
    let member: BaseConsumer = config.create().expect("a consumer");
    member.subscribe(&[&shared.events]).expect("subscribed");
    let owns = || member.assignment().is_ok_and(|owned| owned.count() > 0);
    let mut has_owned = false;
    while !has_owned || began.elapsed() < PACE {
        assert!(began.elapsed() < DEADLINE, "the group gives it nothing");
        // What it reads is nobody's business.
        drop(member.poll(Duration::from_millis(50)));
        has_owned |= owns();
    }
    // It says that it goes.
    drop(member);
}

/// Partitions that came to these nodes or went from them, as they count.
fn moved(nodes: &[Gateway]) -> f64 {
    nodes.iter().map(|node| node.metrics().total("tollgate_partitions_moved_total", &[])).sum()
}

/// What a node counts, once it says that this is everything.
#[track_caller]
pub(crate) fn counted(node: &Client) -> usize {
    wait_for("a complete answer", || {
        // Partitions may be on their way to another node.
        let answer = node.usage("m").wait_s(20).ask_somehow("COUNT");
        (answer.status == 200 && answer.header("tollgate-complete") == Some("true")).then(|| node.usage("m").count())
    })
}

#[test]
fn what_one_node_acked_any_node_shows_at_once() {
    let shared = Shared::new();
    let nodes = nodes(&shared, 2);
    for round in 1..=20 {
        let (writer, reader) = (&nodes[round % 2], &nodes[(round + 1) % 2]);
        let (id, again) = (format!("u-{round}"), format!("u-{}", round / 2));
        writer.send(&[event(&id), event(&again)]).logged(2);
        assert_eq!(reader.usage("m").count(), round + 1, "and u-0, which is in the first");
    }
}

#[test]
fn a_key_made_on_one_node_works_on_every_node_and_what_is_set_up_is_everywhere() {
    let shared = Shared::new();
    let nodes = nodes(&shared, 2);
    let key = nodes[0].make_key("default", &["ingest", "read"]);
    nodes[1].with(&key).send(&[event("u-1")]).logged(1);
    let customer = json!({"customerId": "acme", "customerName": "Acme"}).to_string();
    nodes[1].post("/customers", &[], &customer).refused(200);
    assert_eq!(nodes[0].get("/customers?customerId=acme").json()["customerName"], "Acme");
}

#[test]
fn every_node_tells_the_verdict_of_every_event() {
    let shared = Shared::new();
    let nodes = nodes(&shared, 2);
    wait_until_shared(&[&nodes[0], &nodes[1]]);
    let ids: Vec<String> = (0..20).map(|at| format!("u-{at}")).collect();
    nodes[0].send(&ids.iter().map(|id| event(id)).collect::<Vec<_>>()).logged(20);
    nodes[1].send(&[event("u-3").value(7)]).logged(1);
    let mut partitions = BTreeSet::new();
    for node in &nodes {
        for id in &ids {
            let fate = node.get(&format!("/v1/events/{id}")).json();
            assert_eq!((&fate["verdict"], &fate["uniqueId"]), (&json!("counted"), &json!(id)));
            assert_eq!(fate["conflicts"].as_array().expect("an array").len(), usize::from(id == "u-3"));
            partitions.insert(fate["partition"].as_u64().expect("a number"));
        }
        node.get("/v1/events/nobody").refused(404);
        let listed = node.get("/v1/events?limit=100").json();
        assert_eq!(listed["events"].as_array().expect("an array").len(), 21);
        let body = json!({"uniqueIds": ["u-0", "u-19", "nobody"]}).to_string();
        let reconciled = node.post("/v1/reconcile", &[], body).json();
        assert_eq!(reconciled["missing"], json!(["nobody"]), "{reconciled}");
    }
    assert!(partitions.len() > 1, "some are this node's and some the other's: {partitions:?}");
}

#[test]
fn nodes_that_are_killed_and_frozen_under_load_lose_nothing_and_count_nothing_twice() {
    let shared = Shared::new();
    let mut nodes = nodes(&shared, 2);
    let stop = AtomicBool::new(false);
    let acked: BTreeSet<String> = std::thread::scope(|threads| {
        // The third is never hurt, so that there is always somebody to send to.
        let third = Setup::default().node_of(&shared).start();
        let senders: Vec<_> = (0..2)
            .map(|sender| {
                let (stop, clients) = (&stop, vec![Client::clone(&third), Client::clone(&nodes[sender])]);
                threads.spawn(move || send_until(stop, &clients, &format!("s{sender}")))
            })
            .collect();
        let stops = Stops(&stop);
        wait_until_shared(&[&nodes[0], &nodes[1], &third]);
        nodes[0].kill_and_restart();
        // Past the session time-out: others take its partitions, and it comes back as a zombie.
        nodes[1].signal("STOP");
        let owned_by_others = || owned(&third) + owned(&nodes[0]);
        wait_for("the others to have everything", || (owned_by_others() == 4.0).then_some(()));
        nodes[1].signal("CONT");
        wait_until_shared(&[&nodes[0], &nodes[1], &third]);
        drop(stops);
        let acked = senders.into_iter().flat_map(|sender| sender.join().expect("no panic")).collect();
        nodes.push(third);
        acked
    });
    assert!(acked.len() > 100, "there was a load");
    for node in &nodes {
        assert_eq!(counted(node), acked.len());
    }
    // Of four partitions, while the nodes run.
    let verified = nodes[0].verify_cluster().ended_with(0).says(&["equal", "partition 3"]);
    assert_eq!(verified.stdout.lines().filter(|line| line.starts_with("replayed")).count(), 4, "{}", verified.stdout);
}

#[test]
fn broker_and_database_that_are_killed_and_nodes_that_come_and_go_under_load_lose_nothing_and_count_nothing_twice() {
    let (cluster, broker) = (Cluster::start(&[]), Broker::start(&[]));
    let shared = Shared::on(&broker, &cluster);
    let nodes = nodes(&shared, 2);
    wait_until_shared(&[&nodes[0], &nodes[1]]);
    let says = |what: &str| nodes.iter().all(|node| node.get("/readyz").text().contains(what)).then_some(());
    let stop = AtomicBool::new(false);
    let acked: BTreeSet<String> = std::thread::scope(|threads| {
        let senders: Vec<_> = (0..2)
            .map(|sender| {
                let (stop, clients) = (&stop, nodes.iter().map(|node| Client::clone(node)).collect::<Vec<_>>());
                threads.spawn(move || send_until(stop, &clients, &format!("s{sender}")))
            })
            .collect();
        let stops = Stops(&stop);
        cluster.crash();
        wait_for("nodes to miss the database", || says("PostgreSQL does not answer"));
        cluster.start_again();
        wait_for("the database to be back", || says("ready"));
        broker.kill();
        wait_for("nodes to miss Kafka", || says("Kafka does not answer"));
        broker.start_again();
        wait_for("Kafka to be back", || says("ready"));
        let moves_before = moved(&nodes);
        for _ in 0..ROUNDS {
            take_part_for_a_while(&broker, &shared);
            let gone = Instant::now();
            wait_until_shared(&[&nodes[0], &nodes[1]]);
            std::thread::sleep(PACE.saturating_sub(gone.elapsed()));
        }
        // And real ones, that come under names of their own and are killed as soon as they are ready.
        for _ in 0..2 {
            drop(Setup::default().node_of(&shared).start());
        }
        wait_until_shared(&[&nodes[0], &nodes[1]]);
        let moves = moved(&nodes) - moves_before;
        assert!(moves >= 2.0 * f64::from(ROUNDS), "in each round some partitions went away and came back, all in all {moves}");
        drop(stops);
        senders.into_iter().flat_map(|sender| sender.join().expect("no panic")).collect()
    });
    assert!(acked.len() > 100, "there was a load");
    for node in &nodes {
        assert_eq!(counted(node), acked.len());
    }
    nodes[1].verify_cluster().ended_with(0).says(&["equal"]);
}

#[test]
fn a_row_of_a_cluster_that_was_changed_is_found_and_named() {
    let shared = Shared::new();
    let node = Setup::default().node_of(&shared).start();
    node.send(&[event("u-1")]).logged(1);
    assert_eq!(counted(&node), 1);
    node.verify_cluster().ended_with(0).says(&["equal"]);
    Cluster::shared().psql(
        &shared.database,
        "UPDATE tollgate.rows SET count = count + 1, sum = sum + 1 WHERE key = (SELECT key FROM tollgate.rows ORDER BY key LIMIT 1)",
    );
    node.verify_cluster().ended_with(1).says(&["different: 1", "customer c", "stored    count 2", "replayed  count 1"]);
}

#[test]
fn while_postgres_is_down_events_are_taken_and_usage_says_that_it_cannot_be_told() {
    let (cluster, broker) = (Cluster::start(&[]), crate::harness::kafka::broker());
    let shared = Shared::on(broker, &cluster);
    let node = Setup::default().node_of(&shared).start();
    node.send(&[event("u-1")]).logged(1);
    assert_eq!(counted(&node), 1);
    cluster.crash();
    node.send(&[event("u-2"), event("u-1")]).logged(2);
    let refusal = node.usage("m").ask_somehow("COUNT");
    assert_eq!((refusal.status, refusal.header("retry-after").is_some()), (503, true), "{}", refusal.shown());
    let missing = wait_for("/readyz to say so", || {
        let answer = node.get("/readyz");
        answer.text().contains("api: PostgreSQL does not answer").then(|| answer.text().to_owned())
    });
    assert!(!missing.contains("gateway:"), "{missing}");
    // One that starts now says what it waits for.
    let late = Setup::default().node_of(&shared).start_unready();
    wait_for("/readyz of the other", || {
        let answer = late.get("/readyz");
        (answer.status == 503 && answer.text().contains("PostgreSQL")).then_some(())
    });
    cluster.start_again();
    wait_for("both to be ready", || [&node, &late].iter().all(|node| node.get("/readyz").status == 200).then_some(()));
    assert_eq!(counted(&node), 2);
}

#[test]
fn while_kafka_is_down_events_are_refused_in_time_and_it_goes_on_by_itself() {
    let (cluster, broker) = (Cluster::shared(), Broker::start(&[]));
    let shared = Shared::on(&broker, cluster);
    let node = Setup::default().node_of(&shared).start();
    node.send(&[event("u-1")]).logged(1);
    broker.kill();
    let refusal = node.send(&[event("u-2")]);
    assert_eq!((refusal.status, refusal.header("retry-after").is_some()), (503, true), "{}", refusal.shown());
    wait_for("/readyz to say so", || node.get("/readyz").text().contains("gateway: Kafka does not answer").then_some(()));
    broker.start_again();
    let started = Instant::now();
    while node.send(&[event("u-2")]).status != 200 {
        assert!(started.elapsed() < DEADLINE, "it goes on");
    }
    assert_eq!(counted(&node), 2);
}
