//! Promise 8 where the log has what is no event: it stops nothing and does not vanish. It is a dead letter with its position and its
//! bytes before the rows pass it, and counts nowhere.

use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tollgate::log::disk::RealDisk;
use tollgate::log::embedded::{EmbeddedLog, LogIdentity, Settings};
use tollgate::log::kafka::wire::VERSION;
use tollgate::log::{Append, Appender, Block, meta};

use crate::harness::kafka::broker;
use crate::harness::{self, Client, DEADLINE, Event, Gateway, Pair, Setup, Shared, event, wait_for};
use crate::kafka_log::{KafkaLog, settings};
use crate::logs::RECEIVED;

/// What somebody else may write to a topic.
#[derive(Default)]
struct Foreign<'h> {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    header: Option<&'h str>,
}

/// The topic of a node, and where its partitions end.
fn topic(shared: &Shared, partitions: u32) -> KafkaLog {
    KafkaLog { settings: settings(&broker().address()), topic: shared.events.clone(), partitions }
}

/// Writes with a plain producer; returns where it stands.
fn write(log: &KafkaLog, partition: u32, foreign: &[Foreign<'_>]) -> u64 {
    let position = log.end(partition).0;
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &log.settings.brokers).create().expect("a producer");
    for Foreign { key, value, header } in foreign {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&log.topic).partition(partition as i32).timestamp(RECEIVED.0);
        (record.key, record.payload) = (key.as_deref(), value.as_deref());
        record.headers = header.map(|value| OwnedHeaders::new().insert(Header { key: "tollgate-record", value: Some(value) }));
        producer.send(record).map_err(|(error, _)| error).expect("queued");
        producer.poll(std::time::Duration::ZERO);
    }
    producer.flush(DEADLINE).expect("written");
    position
}

/// The letters that belong to nobody, newest first, as an operator sees them.
#[track_caller]
fn unowned(operator: &Client) -> Vec<Value> {
    let (mut letters, mut before) = (Vec::new(), String::new());
    loop {
        let answer = operator.get(&format!("/v1/dead-letters?unowned=true&code=undecodable&limit=1000{before}"));
        assert_eq!(answer.status, 200, "{}", answer.shown());
        let page = answer.json();
        letters.extend(page["deadLetters"].as_array().expect("an array").iter().cloned());
        let Some(next) = page["next"].as_u64() else { return letters };
        before = format!("&before={next}");
    }
}

fn records_of(letters: &[Value]) -> Vec<(u64, u64)> {
    let mut records: Vec<_> = letters
        .iter()
        .map(|letter| (letter["record"]["partition"].as_u64().expect("a number"), letter["record"]["position"].as_u64().expect("a number")))
        .collect();
    records.sort_unstable();
    records
}

fn batch(name: &str, count: usize) -> Vec<Event> {
    (0..count).map(|at| event(&format!("{name}-{at}"))).collect()
}

#[test]
fn whatever_others_write_to_the_topic_is_a_dead_letter_and_its_neighbours_count() {
    let shared = Shared::new();
    let (mut node, other) = (Setup::default().node_of(&shared).start(), Setup::default().node_of(&shared).start());
    let log = topic(&shared, 4);
    node.send(&batch("before", 40)).logged(40);
    let plain = br#"{"uniqueId":"u","customerId":"c","meterTimeInMillis":1767225600000,"meterApiName":"m","meterValue":1,"dimensions":{}}"#;
    let text = |text: &str| Some(text.as_bytes().to_vec());
    let right_header = "1 00000000000000000000000000000000 0000000000000000 0";
    let foreign = [
        (Foreign { value: Some(vec![0xff, 0x00, 0xfe]), ..Foreign::default() }, "no header"),
        (Foreign::default(), "no value"),
        (Foreign { key: text("1/u"), value: text(""), header: Some(right_header) }, "no value"),
        (Foreign { key: text("1/u"), value: text("{\"uniqueId\":"), header: Some(right_header) }, "the value is not one"),
        (Foreign { key: text("1/u"), value: Some(plain.to_vec()), header: None }, "no header"),
        (Foreign { key: text("1/u"), value: Some(plain.to_vec()), header: Some("1 x") }, "the header tollgate-record is not one"),
        (Foreign { key: None, value: Some(plain.to_vec()), header: Some(right_header) }, "no key"),
        (Foreign { key: text("7/other"), value: Some(plain.to_vec()), header: Some(right_header) }, "the value is not one"),
        (Foreign { value: Some(vec![b'x'; 900_000]), ..Foreign::default() }, "no header"),
    ];
    let mut expected = Vec::new();
    for (at, (foreign, reason)) in foreign.iter().enumerate() {
        let partition = at as u32 % 4;
        let position = write(&log, partition, std::slice::from_ref(foreign));
        expected.push((u64::from(partition), position, foreign.value.clone().unwrap_or_default(), *reason));
    }
    node.send(&batch("behind", 40)).logged(40);

    // What a complete answer shows, the rows have: what they have passed was kept before.
    assert_eq!(node.usage("m").count(), 80);
    let letters = unowned(&other);
    assert_eq!(letters.len(), expected.len(), "{letters:?}");
    for (partition, position, bytes, reason) in &expected {
        let record = json!({"partition": partition, "position": position});
        let letter = letters.iter().find(|letter| letter["record"] == record).unwrap_or_else(|| panic!("{record}: {letters:?}"));
        assert!(letter["reason"].as_str().is_some_and(|text| text.contains(reason)), "{reason}: {letter}");
        let kept = &bytes[..bytes.len().min(64 << 10)];
        assert_eq!((&letter["code"], letter["isCut"].as_bool()), (&json!("undecodable"), Some(kept.len() < bytes.len())));
        match std::str::from_utf8(kept) {
            Ok(text) => assert_eq!((letter["raw"].as_str(), &letter["rawEncoding"]), (Some(text), &json!("utf-8"))),
            Err(_) => assert_eq!((&letter["raw"], &letter["rawEncoding"]), (&json!("/wD+"), &json!("base64"))),
        }
    }
    expect_only_operators_see_it(&node, letters[0]["position"].as_u64().expect("a number"));
    node.verify_cluster().ended_with(0).says(&["equal"]);
    expect_books_balance(&[&node, &other], 80, expected.len() as u64, &log);

    // Nothing of it changes by a node that comes back, nor by one that folds everything again.
    node.kill_and_restart();
    assert_eq!(node.usage("m").count(), 80);
    assert_eq!(unowned(&node), letters);
}

/// Every record of the topic has a verdict, and every undecodable one a letter.
#[track_caller]
fn expect_books_balance(nodes: &[&Gateway], counted: u64, undecodable: u64, log: &KafkaLog) {
    let records: u64 = (0..log.partitions).map(|partition| log.end(partition).0).sum();
    let verdicts = |verdict: &str| nodes.iter().map(|node| node.metrics().verdict(verdict)).sum::<u64>();
    assert_eq!((verdicts("counted"), verdicts("undecodable")), (counted, undecodable));
    assert_eq!(records, counted + undecodable, "logged up to a position are those with a verdict");
    for node in nodes {
        let label = [("change", "written"), ("reason", "undecodable")];
        wait_for("the letters to be counted", || {
            (node.metrics().count("tollgate_dead_letters_total", &label) == undecodable).then_some(())
        });
        assert_eq!(node.metrics().count("tollgate_dead_letters", &[("reason", "undecodable")]), undecodable);
    }
}

/// Of a letter that belongs to nobody.
#[track_caller]
fn expect_only_operators_see_it(node: &Client, position: u64) {
    let one = format!("/v1/dead-letters/{position}");
    let bootstrap = node;
    assert_eq!(bootstrap.dead_letters(), [Value::Null; 0], "they are not the operator's own account's");
    bootstrap.get(&one).refused(404);
    assert_eq!(bootstrap.get(&format!("{one}?unowned=true")).json()["position"], position);
    bootstrap.post(&format!("{one}/replay"), &[], "").refused(404);
    bootstrap.post("/v1/dead-letters/replay?unowned=true", &[], "").refused(400);
    bootstrap.get("/v1/dead-letters?unowned=perhaps").refused(400);
    for scopes in [&["admin"][..], &["read", "ingest"]] {
        let key = bootstrap.with(&bootstrap.make_key("default", scopes));
        for query in ["/v1/dead-letters?unowned=true", &format!("{one}?unowned=true")] {
            key.get(query).refused(403);
            key.delete(query).refused(403);
        }
        key.get(&one).refused(404);
    }
    let operator = bootstrap.with(&bootstrap.make_key("default", &["operator"]));
    assert_eq!(operator.get("/v1/dead-letters?unowned=true&limit=1").json()["deadLetters"][0]["code"], "undecodable");
    operator.get("/v1/dead-letters").refused(403);
}

#[test]
fn a_record_that_cannot_be_decoded_in_a_log_of_ones_own_is_a_dead_letter_too() {
    let mut gateway = harness::start(Pair::Embedded, Setup::default());
    gateway.send(&batch("before", 3)).logged(3);
    gateway.stop();
    append_garbage(&gateway);
    gateway.restart();
    gateway.send(&batch("behind", 2)).logged(2);
    assert_eq!(gateway.usage("m").count(), 5);
    let expect = |gateway: &Gateway| {
        // What a query sees need not be committed yet.
        let letters = wait_for("the letters", || Some(unowned(gateway)).filter(|letters| !letters.is_empty()));
        let shown: Vec<_> = letters.iter().map(|letter| (&letter["record"], letter["raw"].as_str(), &letter["reason"])).collect();
        let reason = json!("the bytes are no record");
        let (third, fourth) = (json!({"partition": 0, "position": 3}), json!({"partition": 0, "position": 4}));
        assert_eq!(shown, [(&fourth, Some(""), &reason), (&third, Some("no event"), &reason)]);
        letters
    };
    let letters = expect(&gateway);
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.verdict("undecodable"), metrics.verdict("counted")), (2, 2), "of this process");
    gateway.stop();
    gateway.tollgate(&["verify"]).ended_with(0).says(&["equal"]);
    gateway.tollgate(&["rebuild"]).ended_with(0);
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 5);
    assert_eq!(expect(&gateway), letters, "neither verify nor rebuild wrote another one");
}

/// Two records that are none, in one block.
fn append_garbage(gateway: &Gateway) {
    let dir = gateway.file("log");
    let made = meta::read(&RealDisk, &dir).expect("reads").expect("there");
    let settings = Settings { segment_bytes: 1 << 20, retention_age_ms: None, retention_bytes: None, disk_reserve_bytes: 0 };
    let identity = LogIdentity { log_id: made.log_id, name: "events" };
    let (_, mut appender, _) = EmbeddedLog::open(Arc::new(RealDisk), &dir, identity, settings).expect("opens");
    let mut block = Block::new(RECEIVED, 0);
    for bytes in [b"no event".as_slice(), b""] {
        block.push(|to| {
            to.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            to.extend_from_slice(bytes);
        });
    }
    for answer in appender.append_and_wait(vec![Append::unattended(block.seal())]) {
        answer.result.expect("durable");
    }
    appender.close().expect("closes");
}

#[test]
fn a_death_between_a_letter_and_the_commit_that_passes_its_record_leaves_it_listed_once() {
    let shared = Shared::of_one_partition();
    let mut node = Setup::default().node_of(&shared).variable("TOLLGATE_KILL_AT", "undecodable-kept:1").start();
    node.send(&[event("u-1")]).logged(1);
    let log = topic(&shared, 1);
    let position = write(&log, 0, &[Foreign { value: Some(b"no event".to_vec()), ..Foreign::default() }]);
    assert_eq!(node.wait_for_end().code, None, "it was killed");
    node.change_variable("TOLLGATE_KILL_AT", None);
    node.restart();
    node.send(&[event("u-2")]).logged(1);
    assert_eq!(node.usage("m").count(), 2);
    let letters = unowned(&node);
    assert_eq!(records_of(&letters), [(0, position)]);
    let dead_letters = KafkaLog { topic: shared.dead_letters.clone(), ..log };
    assert_eq!(dead_letters.end(0).0, 2, "it was written twice, each time before the commit");
    assert_eq!(letters[0]["position"], 0, "the first one is listed");
    node.verify_cluster().ended_with(0).says(&["equal"]);
}

#[test]
fn while_the_dead_letters_cannot_be_written_the_rows_do_not_pass_the_record() {
    let shared = Shared::of_one_partition();
    let node = Setup::default().node_of(&shared).start();
    node.send(&[event("u-1")]).logged(1);
    assert_eq!(node.usage("m").count(), 1);
    set_largest_message(&shared.dead_letters, "10");
    let log = topic(&shared, 1);
    let position = write(&log, 0, &[Foreign { value: Some(b"no event".to_vec()), ..Foreign::default() }]);
    node.send(&[event("u-2")]).logged(1);
    wait_for("it to be tried again", || node.stderr().contains("records that cannot be decoded cannot be kept").then_some(()));
    let behind = node.usage("m").wait_s(1).ask("COUNT");
    assert_eq!((behind.is_complete(), behind.total()), (false, "1".into()), "what stands behind it waits with it");
    assert!(behind.position() <= position);
    wait_for("it to show in the metrics", || {
        (node.metrics().total("tollgate_store_uncommitted_records", &[("partition", "0")]) == 2.0).then_some(())
    });
    set_largest_message(&shared.dead_letters, "1048588");
    assert_eq!(node.usage("m").count(), 2);
    assert_eq!(records_of(&unowned(&node)), [(0, position)]);
}

/// Changes how large a message of a topic may be.
fn set_largest_message(topic: &str, bytes: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", broker().address()).create().expect("a client");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("max.message.bytes", bytes);
    let options = AdminOptions::new().operation_timeout(Some(DEADLINE)).request_timeout(Some(DEADLINE));
    runtime.block_on(admin.alter_configs([&change], &options)).expect("asked")[0].as_ref().expect("changed");
}

#[test]
fn a_flood_of_what_is_no_event_is_folded_and_kept_in_bounded_parts() {
    const FLOOD: usize = 20_000;
    let shared = Shared::of_one_partition();
    let node = Setup::default().node_of(&shared).start();
    let log = topic(&shared, 1);
    let flood: Vec<_> = (0..FLOOD).map(|at| Foreign { value: Some(format!("{at:0200}").into_bytes()), ..Foreign::default() }).collect();
    node.send(&[event("u-1")]).logged(1);
    assert_eq!(node.usage("m").count(), 1);
    let before = node.memory_peak_bytes();
    write(&log, 0, &flood);
    node.send(&[event("u-2")]).logged(1);
    assert_eq!(node.usage("m").count(), 2);
    expect_books_balance(&[&node], 2, FLOOD as u64, &log);
    let grown = node.memory_peak_bytes() - before;
    assert!(grown < 160 << 20, "{} MiB more", grown >> 20);
    let letters = unowned(&node);
    assert_eq!(records_of(&letters), (1..=FLOOD as u64).map(|position| (0, position)).collect::<Vec<_>>());
}

#[test]
fn a_record_of_a_newer_version_is_no_dead_letter_and_stops_its_partition_alone() {
    let shared = Shared::new();
    let node = Setup::default().node_of(&shared).start();
    let log = topic(&shared, 4);
    let header = format!("{} whatever comes", VERSION + 1);
    write(&log, 2, &[Foreign { value: Some(b"{}".to_vec()), header: Some(&header), ..Foreign::default() }]);
    wait_for("the partition to stop", || (node.metrics().count("tollgate_owner_restarts_total", &[("partition", "2")]) > 1).then_some(()));
    assert!(node.stderr().contains(&format!("this binary knows up to {VERSION}")), "{}", node.stderr());
    node.send(&batch("u", 40)).logged(40);
    // The others go on: what is missing is what went to that one.
    let ends: Vec<u64> = (0..4).map(|partition| log.end(partition).0).collect();
    let reached = ends[0] + ends[1] + ends[3];
    wait_for("the others to be folded", || {
        let usage = node.usage("m").wait_s(1).ask("COUNT");
        (!usage.is_complete() && usage.total() == reached.to_string()).then_some(())
    });
    assert_eq!(unowned(&node), [Value::Null; 0]);
}
