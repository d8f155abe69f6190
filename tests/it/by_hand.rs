//! What people see who look into Kafka and PostgreSQL themselves, with the commands and queries of `deploy/README.md`.

use std::process::Command;

use serde_json::{Value, json};

use crate::harness::kafka::broker;
use crate::harness::{DAY_0_MS, DAY_S, Setup, Shared, event};
use crate::postgres::Cluster;

/// The blocks of a language in the section about looking by hand.
fn blocks(language: &str) -> Vec<String> {
    let readme = include_str!("../../deploy/README.md");
    let (_, rest) = readme.split_once("\n## Looking into Kafka and PostgreSQL\n").expect("the section is there");
    let section = rest.split("\n## ").next().expect("its text");
    let begin = format!("```{language}\n");
    section.split(&begin).skip(1).map(|block| block.split("```").next().expect("its text").to_owned()).collect()
}

/// The commands, each as it stands there but for the names of broker and topics, and what they print.
fn kcat(shared: &Shared) -> Vec<String> {
    let blocks = blocks("sh").concat();
    let commands: Vec<_> = blocks.lines().filter(|line| !line.starts_with('#')).collect();
    let run = |command: &str| {
        assert!(command.starts_with("kcat "), "{command}");
        let command = command.replace("kafka-1:9092", &broker().address());
        let command = command.replace("tollgate.events", &shared.events).replace("tollgate.dead-letters", &shared.dead_letters);
        let ran = Command::new("sh").args(["-c", &command]).output().expect("a shell");
        assert!(ran.status.success(), "{command}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8(ran.stdout).expect("text")
    };
    commands.into_iter().map(run).collect()
}

fn queries() -> Vec<String> {
    let blocks = blocks("sql").concat();
    let queries = blocks.split(';').map(|query| query.trim().to_owned());
    queries.filter(|query| !query.is_empty()).collect()
}

#[test]
fn kcat_reads_the_topic_and_shows_the_plain_json_that_was_sent() {
    let shared = Shared::of_one_partition();
    let node = Setup::default().node_of(&shared).start();
    let sent = event("u-1").value("2.5").dimension("region", "eu");
    node.send(std::slice::from_ref(&sent)).logged(1);
    node.send(&[event("ü \"2\"").values(&[("in", "3"), ("out", "-0.1")]), event("bad").value("\"x\"")]).logged(1).rejected(1);
    assert_eq!(node.usage("m").count(), 1);

    let [all, with_headers, one, letters] = kcat(&shared).try_into().expect("four commands");
    let values: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let sent: Value = serde_json::from_str(&sent.json()).expect("JSON");
    let several = json!({
        "uniqueId": "ü \"2\"", "customerId": "c", "meterTimeInMillis": DAY_0_MS, "values": {"in": 3, "out": -0.1}, "dimensions": {},
    });
    assert_eq!(values, [sent.clone(), several]);

    let lines: Vec<&str> = with_headers.lines().collect();
    let (place, rest) = lines[0].split_once(" 1/u-1 tollgate-record=1 ").unwrap_or_else(|| panic!("{with_headers}"));
    assert_eq!(place, "0 0");
    let [identity, content, flags, value] = rest.splitn(4, ' ').collect::<Vec<_>>().try_into().expect("two hashes, flags, the value");
    assert_eq!((identity.len(), content.len(), flags), (32, 16, "0"));
    assert_eq!(serde_json::from_str::<Value>(value).expect("JSON"), sent);
    assert!(lines[1].starts_with("0 1 1/ü \"2\" tollgate-record=1 "), "{with_headers}");
    assert_eq!(one.lines().next(), all.lines().next());

    let letter: Value = serde_json::from_str(letters.lines().next().expect("a letter")).expect("JSON");
    assert_eq!(letter["letter"]["refusal"]["code"], "wrong_type");
    assert!(letter["event"].as_str().is_some_and(|event| event.contains("\"bad\"")), "{letter}");
}

#[test]
fn psql_shows_the_day_rows_and_where_they_are() {
    let shared = Shared::new();
    let node = Setup::default().node_of(&shared).start();
    let on_day = |id: &str, day: i64| event(id).customer("acme").at(DAY_0_MS + day * DAY_S * 1_000).value("0.1");
    let mut events: Vec<_> = (0..10).map(|at| on_day(&format!("u-{at}"), 0).dimension("region", "eu")).collect();
    events.push(on_day("later", 1).dimension("region", "us").value("1000000000000.000000000001"));
    node.send(&events).logged(11);
    node.send(&events[..3]);
    assert_eq!(node.usage("m").count(), 11);

    let [days, regions, progress, owners] = queries().try_into().expect("four queries");
    let ask = |query: &str| Cluster::shared().psql(&shared.database, query);
    assert_eq!(ask(&days), "2026-01-01|acme|m|1.0|10\n2026-01-02|acme|m|1000000000000.000000000001|1", "each counted once, exactly");
    assert_eq!(ask(&regions), "eu|1.0\nus|1000000000000.000000000001");
    let next: u64 = ask(&progress).lines().map(|line| line.split('|').nth(1).expect("a column").parse::<u64>().expect("a number")).sum();
    assert!((11..=14).contains(&next), "with copies that the door did not know: {next}");
    let owners = ask(&owners);
    assert_eq!(owners.lines().map(|line| line.split('|').next()).collect::<Vec<_>>(), ["0", "1", "2", "3"].map(Some));
    assert!(owners.lines().all(|line| line.contains(&node.address().to_string())), "{owners}");
}
