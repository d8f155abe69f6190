//! Promise 8, at the door: one bad event never costs its good neighbours. They are logged, it goes to the dead letters; and
//! whoever is refused is told which event, which field, and what is wrong with it.

use serde_json::Value;

use crate::harness::{Answer, Client, DAY_0_MS, Event, Gateway, batch, event, event_without_id};

const STRICT: (&str, &str) = ("prefer", "handling=strict");
const RECEIPT: (&str, &str) = ("accept", "application/vnd.tollgate.receipt+json");

/// What is wrong with which field, each once, in the order of the fields.
fn bad_events() -> Vec<String> {
    let long = "x".repeat(256);
    let wide = |entries: usize| (0..entries).fold(event("bad"), |event, key| event.dimension(&format!("key-{key}"), "v"));
    let meters: Vec<_> = (0..65).map(|at| format!("\"m-{at}\":1")).collect();
    let events = [
        event(""),
        event(&long),
        event(&"é".repeat(128)),
        event("nul\0"),
        event("bad").raw("uniqueId", "7"),
        event("bad").repeated("uniqueId", "\"again\""),
        event("bad").without("customerId"),
        event("bad").raw("customerId", "null"),
        event("bad").customer(""),
        event("bad").customer(&long),
        event("bad").raw("customerId", "[\"c\"]"),
        event("bad").repeated("customerId", "\"d\""),
        event("bad").raw("customerId", "\"\\ud800\""),
        event("bad").without("meterApiName"),
        event("bad").meter(""),
        event("bad").meter(&long),
        event("bad").without("meterValue"),
        event("bad").value("\"1\""),
        event("bad").value("true"),
        event("bad").value("1e20"),
        event("bad").value("-100000000000000000000"),
        event("bad").value("99999999999999999999.9999999999999"),
        event("bad").value("1e400"),
        event("bad").repeated("meterValue", "2"),
        event("bad").without("meterTimeInMillis"),
        event("bad").at(0),
        event("bad").at(-1),
        event("bad").at(253_402_300_800_000),
        event("bad").raw("meterTimeInMillis", "1.5"),
        event("bad").raw("meterTimeInMillis", "\"2026-01-01\""),
        event("bad").raw("dimensions", "[]"),
        event("bad").raw("dimensions", "{\"size\": 7}"),
        event("bad").raw("dimensions", "{\"a\": \"1\", \"a\": \"1\"}"),
        wide(65),
        event("bad").dimension(&"k".repeat(129), "v"),
        event("bad").dimension("k", &"v".repeat(1_025)),
        event("bad").dimension("k", "nul\0"),
        event("bad").values(&[]),
        event("bad").values(&[("m", "\"1\"")]),
        event("bad").values(&[("m", "1"), ("m", "2")]),
        event("bad").raw("values", "{\"m\": 1}"),
        event("bad").values(&[]).raw("values", &format!("{{{}}}", meters.join(","))),
        event("bad").raw("unknown", &nested(15)),
        event("bad").padded_to(65_537),
    ];
    let others = ["null", "7", "\"text\"", "[]", "[{}]", "{}"];
    events.iter().map(Event::json).chain(others.map(str::to_owned)).collect()
}

/// An array of arrays, so many levels deep.
fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// Events that stand at a limit without going beyond it.
fn events_at_their_limits() -> Vec<Event> {
    let long = "x".repeat(255);
    let wide = (0..64).fold(event("wide"), |event, key| event.dimension(&format!("key-{key}"), ""));
    let meters: Vec<_> = (0..64).map(|at| format!("\"m-{at}\":1")).collect();
    vec![
        event(&long),
        event("customer").customer(&long),
        event("meter").meter(&long),
        event("value").value("99999999999999999999.999999999999"),
        event("minus").value("-99999999999999999999.999999999999"),
        event("first").at(1),
        event("last").at(253_402_300_799_999),
        wide,
        event("key").dimension(&"k".repeat(128), &"v".repeat(1_024)),
        event("empty").raw("dimensions", "{\"\": \"\"}"),
        event("meters").values(&[]).raw("values", &format!("{{{}}}", meters.join(","))),
        // The array of the request is the first level, the event the second.
        event("deep").raw("unknown", &nested(14)),
        event("large").padded_to(65_536),
    ]
}

/// A receipt with one line for each event with this verdict, so that it can be read, and one for the rest.
fn readable(receipt: &Value, verdicts: &[&str]) -> String {
    let events = receipt["events"].as_array().expect("an array").iter();
    let wanted = events.filter(|event| event["verdict"].as_str().is_some_and(|verdict| verdicts.contains(&verdict)));
    let mut totals = receipt.clone();
    totals.as_object_mut().expect("an object").remove("events");
    let lines = wanted.map(|event| {
        let mut event = event.clone();
        if event["uniqueId"].as_str().is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            event["uniqueId"] = "[made]".into();
        }
        event.to_string()
    });
    lines.chain([totals.to_string()]).collect::<Vec<_>>().join("\n")
}

#[test]
fn good_neighbours_are_taken_and_the_bad_one_goes_to_the_dead_letters() {
    let gateway = Gateway::start();
    let bad = event("bad").without("customerId");
    gateway.send(&[event("u-1"), bad.clone(), event("u-2")]).logged(2).rejected(1);
    assert_eq!(gateway.usage("m").count(), 2);
    let letters = gateway.dead_letters();
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0]["index"].as_u64(), letters[0]["raw"].as_str()), (Some(1), Some(bad.json().as_str())));
    let mut letter = letters[0].clone();
    letter["received"] = "[time]".into();
    insta::assert_snapshot!(serde_json::to_string_pretty(&letter).expect("JSON"));

    gateway.send(&[event("u-3")]).logged(1).rejected(0);
    assert_eq!(gateway.dead_letters().len(), 1);
}

#[test]
fn every_mistake_is_named_with_its_index_and_field() {
    let gateway = Gateway::start();
    let bad = bad_events();
    let mixed = bad.iter().cloned().flat_map(|bad| [bad, event_without_id().json()]);
    let body = format!("[{}]", mixed.collect::<Vec<_>>().join(","));
    let answer = gateway.post("/ingest", &[RECEIPT], &body).rejected(bad.len());
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(RECEIPT.1)));
    let receipt = answer.json();
    let rejected = receipt["events"].as_array().expect("an array").iter().step_by(2);
    assert!(rejected.clone().all(|event| event["verdict"] == "rejected"), "{}", answer.shown());
    assert_eq!(gateway.usage("m").count(), bad.len(), "as many good ones as bad ones");
    insta::assert_snapshot!(readable(&receipt, &["rejected"]));

    // The dead letters have what was sent, the newest first.
    let letters = gateway.dead_letters();
    assert_eq!(letters.len(), bad.len());
    for (letter, sent) in letters.iter().rev().zip(&bad) {
        let kept = &sent[..sent.len().min(64 << 10)];
        assert_eq!((letter["raw"].as_str(), letter["isCut"].as_bool()), (Some(kept), Some(kept.len() < sent.len())));
    }
    // And each mistake by itself is refused in the words of the receipt.
    for (sent, named) in bad.iter().zip(rejected) {
        let (field, reason) = (named["field"].as_str().expect("a text"), named["reason"].as_str().expect("a text"));
        let place = if field.is_empty() { "[0]".to_owned() } else { format!("[0].{field}") };
        gateway.post("/ingest", &[], format!("[{sent}]")).refused(400).details(&format!("{place} {reason}"));
    }
    assert_eq!(gateway.dead_letters().len(), bad.len(), "who is refused has the event, nobody else needs to keep it");
}

#[test]
fn what_stands_at_a_limit_is_taken() {
    let gateway = Gateway::start();
    let events = events_at_their_limits();
    gateway.send(&events).logged(events.len()).rejected(0);
    for (at, event) in events.iter().enumerate() {
        gateway.send(std::slice::from_ref(event)).logged(1);
        assert_eq!(gateway.settled_metrics().copies(), at as u64 + 1);
    }
}

#[test]
fn a_dead_letter_has_the_bytes_that_were_sent() {
    let gateway = Gateway::start();
    let odd = [
        r#"{ "uniqueId" : "tab\tquote\"slash\/back\\u00e9\u00e9", "meterValue":1.500e+00 , "customerId":7}"#,
        "{\"uniqueId\":\"ünï\u{1f600}\",\r\n\t\"meterApiName\": \"m\"\n}",
        r#"{"a":"\ud83d\ude00","b":[1,{"c":"]},{"}],"c":{},"d":[]}"#,
        r#""just, a ] text""#,
        "-0.0e-0",
        "[ 1, [ ] ]",
    ];
    let body = format!(" [ {} ,\n{}\t,{} , {},{} ,{},{} ] ", odd[0], odd[1], odd[2], event("good").json(), odd[3], odd[4], odd[5]);
    gateway.post("/ingest", &[], body).logged(1).rejected(odd.len());
    let letters = gateway.dead_letters();
    let raw: Vec<_> = letters.iter().rev().map(|letter| letter["raw"].as_str().expect("a text")).collect();
    assert_eq!(raw, odd);
}

#[test]
fn dead_letters_outlive_a_kill() {
    let mut gateway = Gateway::start();
    gateway.send(&[event("u-1"), event("bad-1").value("\"1\"")]).logged(1).rejected(1);
    let before = gateway.dead_letters();
    gateway.kill_and_restart();
    assert_eq!(gateway.dead_letters(), before);
    gateway.send(&[event("u-2"), event("bad-2").value("\"1\"")]).logged(1).rejected(1);
    assert_eq!(gateway.dead_letters()[1..], before);
}

#[test]
fn with_strict_handling_one_bad_event_refuses_all_and_nothing_is_stored() {
    let gateway = Gateway::start();
    let events = [event("u-1"), event("u-2").at(0), event("u-3")];
    for prefer in ["handling=strict", "wait=1, Handling=Strict", "respond-async,handling=strict"] {
        gateway.send_with(&[("prefer", prefer)], &events).refused(400);
    }
    insta::assert_snapshot!(gateway.send_with(&[STRICT], &events).shown());
    assert_eq!((gateway.usage("m").count(), gateway.dead_letters().len()), (0, 0));
    gateway.send_with(&[STRICT], &[event("u-1"), event("u-3")]).logged(2);
    gateway.send_with(&[("prefer", "handling=lenient")], &events).logged(2).rejected(1);
    assert_eq!((gateway.usage("m").count(), gateway.dead_letters().len()), (2, 1));
}

#[test]
fn a_request_without_a_good_event_is_refused_and_leaves_no_dead_letter() {
    let gateway = Gateway::start();
    let bad = event("u-1").value("\"1\"");
    let refused = [
        gateway.post("/ingest", &[], bad.json()),
        gateway.send(std::slice::from_ref(&bad)),
        gateway.send(&[bad.clone(), event("u-2").without("customerId")]),
    ];
    insta::assert_snapshot!(all_shown(&refused));
    assert_eq!((gateway.usage("m").count(), gateway.dead_letters().len()), (0, 0));
}

#[test]
fn a_receipt_names_the_verdict_of_each_event() {
    let gateway = Gateway::start();
    gateway.send(&[event("u-0")]).logged(1);
    let events = [event("u-1"), event("bad").customer(""), event_without_id(), event("u-1"), event("quote\"d")];
    let answer = gateway.send_with(&[RECEIPT], &events);
    insta::assert_snapshot!(format!("{}\n\n{}", answer.status, readable(&answer.json(), &["logged", "known", "rejected"])));
    let single = gateway.post("/ingest", &[RECEIPT], event("u-2").json());
    insta::assert_snapshot!("the_receipt_of_one_event", single.shown());
}

#[test]
fn an_empty_array_is_fine() {
    let gateway = Gateway::start();
    gateway.send(&[]).logged(0).rejected(0);
    gateway.post("/ingest", &[STRICT], " [ ] ").logged(0);
    insta::assert_snapshot!(gateway.post("/ingest", &[RECEIPT], "[]").shown());
}

#[test]
fn a_body_that_cannot_be_parsed_is_refused_and_nothing_is_stored() {
    let gateway = Gateway::start();
    let good = event("u-1").json();
    let bodies = [
        String::new(),
        "   ".into(),
        "7".into(),
        "\"text\"".into(),
        "null".into(),
        "{".into(),
        format!("[{good}"),
        format!("[{good},]"),
        format!("[{good}]]"),
        format!("{good},{good}"),
        format!("[{good}] {{"),
        format!("[{}]", good.replace("\"c\"", "'c'")),
        format!("[{}]", good.replace(":1,", ":01,")),
    ];
    let refused = bodies.map(|body| gateway.post("/ingest", &[], body).refused(400));
    gateway.post("/ingest", &[], good.replace("\"c\"", "\"\u{1}\"")).refused(400);
    gateway.post("/ingest", &[], [&good.as_bytes()[..16], &[0xff], &good.as_bytes()[16..]].concat()).refused(400);
    gateway.post("/ingest", &[], nested(1_000)).refused(400);
    gateway.post("/ingest", &[], "[".repeat(100_000)).refused(400);
    assert_eq!(gateway.usage("m").count(), 0);
    insta::assert_snapshot!(all_shown(&refused));
}

#[test]
fn a_request_has_at_most_10_000_events() {
    let gateway = Gateway::start();
    let one_too_many = format!("[{}{{}}]", "{},".repeat(10_000));
    insta::assert_snapshot!(gateway.post("/ingest", &[], one_too_many).refused(413).shown());
    let events: Vec<_> = (0..10_000).map(|at| event(&format!("u-{at}"))).collect();
    gateway.send(&events).logged(10_000);
    assert_eq!(gateway.usage("m").count(), 10_000);
}

#[test]
fn a_body_has_at_most_8_mib() {
    let gateway = Gateway::start();
    let spaces = " ".repeat((8 << 20) - event("u-1").json().len());
    gateway.post("/ingest", &[], event("u-1").json() + &spaces).logged(1);
    let refused = gateway.post("/ingest", &[], event("u-2").json() + &spaces + " ").refused(413);
    insta::assert_snapshot!(refused.shown());
    assert_eq!(gateway.usage("m").count(), 1);
}

#[test]
fn answers_to_strangers_and_strange_requests_have_the_same_form() {
    let gateway = Gateway::start();
    let nobody = Client::with_key(&gateway, None);
    let stranger = Client::with_key(&gateway, Some("unknown"));
    let body = batch(&[event("u-1")]);
    let refused = [
        nobody.post("/ingest", &[], &body).refused(401),
        stranger.post("/ingest", &[], &body).refused(401),
        stranger.get("/v1/dead-letters").refused(401),
        gateway.get("/ingest").refused(405),
        gateway.get("/no/such/path").refused(404),
        gateway.post("/v1/dead-letters", &[], "").refused(405),
        gateway.post("/ingest", &[("content-encoding", "br")], &body).refused(415),
        gateway.post("/ingest", &[("content-encoding", "gzip")], &body).refused(400),
        gateway.get("/v1/dead-letters?limit=0").refused(400),
    ];
    insta::assert_snapshot!(all_shown(&refused));
    assert_eq!(gateway.usage("m").count(), 0);
}

#[test]
fn the_time_of_a_bad_event_is_no_excuse_for_the_others() {
    let gateway = Gateway::start();
    let times = ["1e400", "-1", "0", "1e15", "9007199254740993.5", "\"now\"", "{}"];
    let bad = times.map(|time| event("bad").raw("meterTimeInMillis", time));
    for bad in bad {
        gateway.send(&[bad, event_without_id().at(DAY_0_MS)]).logged(1).rejected(1);
    }
    assert_eq!(gateway.usage("m").count(), times.len());
}

fn all_shown(answers: &[Answer]) -> String {
    answers.iter().map(Answer::shown).collect::<Vec<_>>().join("\n\n---\n")
}
