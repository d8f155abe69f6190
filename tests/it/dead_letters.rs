//! Dead letters: what was not taken is kept byte for byte, and can be found, brought again and deleted; whatever is brought again
//! counts once.

use serde_json::{Value, json};
use tollgate::clock::Clock;

use crate::harness::{Answer, Client, DAY_0_MS, Event, Gateway, Setup, event, event_without_id, wait_for, wide_event};

/// The letters that a filter holds for, of all pages.
#[track_caller]
fn found(gateway: &Client, query: &str) -> Vec<Value> {
    let (mut letters, mut before) = (Vec::new(), String::new());
    loop {
        let answer = gateway.get(&format!("/v1/dead-letters?{query}{before}"));
        assert_eq!(answer.status, 200, "{}", answer.shown());
        let page = answer.json();
        letters.extend(page["deadLetters"].as_array().expect("an array").iter().cloned());
        let Some(next) = page["next"].as_u64() else { return letters };
        before = format!("&before={next}");
    }
}

fn positions(letters: &[Value]) -> Vec<u64> {
    letters.iter().map(|letter| letter["position"].as_u64().expect("a position")).collect()
}

#[track_caller]
fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer.json()
}

fn replay(gateway: &Client, position: u64, body: &str) -> Value {
    ok(gateway.post(&format!("/v1/dead-letters/{position}/replay"), &[], body))
}

/// Sends bad events beside a good one without an id of its own.
#[track_caller]
fn lose(gateway: &Client, bad: &[Event]) {
    let mut events = bad.to_vec();
    events.push(event_without_id().meter("neighbour"));
    gateway.send(&events).logged(1).rejected(bad.len());
}

#[test]
fn the_bytes_come_back_exactly_as_text_or_in_base64() {
    let mut gateway = Gateway::start();
    let odd = "{ \"uniqueId\" : \"ünï\\u00e9\\ud83d\\ude00\",\t\"meterValue\":1.500e+00 , \"x\":\"\\u0000\\/\"}";
    gateway.post("/ingest", &[], format!("[{odd} , {}]", event("good").json())).logged(1).rejected(1);
    // Cut at 64 KiB, in the middle of a character.
    let begin = r#"{"uniqueId":"long","customerId":"c","x":""#;
    let padding = if begin.len().is_multiple_of(2) { "y" } else { "" };
    let long = format!("{begin}{padding}{}\"}}", "é".repeat(40_000));
    gateway.post("/ingest", &[], format!("[{long},{}]", event("good-2").json())).logged(1).rejected(1);
    let expect = |gateway: &Gateway| {
        let letters = found(gateway, "");
        assert_eq!(
            (letters[1]["raw"].as_str(), &letters[1]["rawEncoding"], &letters[1]["isCut"]),
            (Some(odd), &json!("utf-8"), &json!(false))
        );
        assert_eq!((&letters[0]["rawEncoding"], &letters[0]["isCut"]), (&json!("base64"), &json!(true)));
        assert_eq!(from_base64(letters[0]["raw"].as_str().expect("text")), long.as_bytes()[..64 << 10]);
        assert_eq!(ok(gateway.get("/v1/dead-letters/0")), letters[1]);
        assert_eq!(ok(gateway.get("/v1/events/long"))["rawEncoding"], "base64", "its id is read although it is cut");
    };
    expect(&gateway);
    gateway.kill_and_restart();
    expect(&gateway);
}

fn from_base64(text: &str) -> Vec<u8> {
    let digit = |digit: u8| match digit {
        b'A'..=b'Z' => u32::from(digit - b'A'),
        b'a'..=b'z' => u32::from(digit - b'a') + 26,
        b'0'..=b'9' => u32::from(digit - b'0') + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("no digit: {other}"),
    };
    let digits: Vec<u32> = text.trim_end_matches('=').bytes().map(digit).collect();
    let bytes = digits.chunks(4).flat_map(|four| {
        let bits = four.iter().fold(0, |bits, digit| bits << 6 | digit) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    });
    bytes.collect()
}

#[test]
fn letters_are_found_by_what_they_say_and_page_by_page() {
    let gateway = Gateway::start();
    for step in 0..5 {
        let bad: Vec<_> = (0..300)
            .map(|at| {
                let bad = event(&format!("u-{step}-{at}")).customer(&format!("c-{}", at % 3)).meter(&format!("m-{}", at % 5));
                if at % 2 == 0 { bad.at(0) } else { bad.value("\"1\"") }
            })
            .collect();
        lose(&gateway, &bad);
    }
    let all = positions(&found(&gateway, "limit=999"));
    assert_eq!(all, (0..1_500).rev().collect::<Vec<_>>());
    assert_eq!(found(&gateway, "code=wrong_type&limit=100").len(), 750);
    assert_eq!(found(&gateway, "customerId=c-1").len(), 500);
    assert_eq!(found(&gateway, "meterApiName=m-4&customerId=c-0&code=wrong_value").len(), 50);
    assert_eq!(positions(&found(&gateway, "uniqueId=u-3-7")), [907]);
    assert_eq!(found(&gateway, "reason=above%200").len(), 750, "a part of the text is enough");
    let received = |position: u64| ok(gateway.get(&format!("/v1/dead-letters/{position}")))["received"].as_str().expect("text").to_owned();
    let (first, last) = (received(0), received(1_499));
    assert_eq!(found(&gateway, &format!("to={first}")).len(), 0);
    assert_eq!(found(&gateway, &format!("from={first}")).len(), 1_500);
    let newest = found(&gateway, &format!("from={last}"));
    assert!(newest.len() >= 300 && newest.len() < 1_500 || first == last, "{first} to {last}: {}", newest.len());
    assert_eq!(ok(gateway.get("/v1/dead-letters?limit=1&before=700"))["next"], 699);
}

#[test]
fn a_corrected_event_counts_once_and_the_letter_says_where() {
    let mut gateway = Gateway::start();
    lose(&gateway, &[event("u-1").value("\"5\""), event("u-2").at(0)]);
    assert_eq!(replay(&gateway, 0, "")["verdict"], "rejected", "as it was sent it is as bad as it was");
    let good = event("u-1").value("5").json();
    let answer = replay(&gateway, 0, &good);
    assert_eq!(answer, json!({"deadLetter": 0, "verdict": "logged", "uniqueId": "u-1", "partition": 0, "position": 1}));
    let again = replay(&gateway, 0, &event("other").json());
    assert_eq!(again, json!({"deadLetter": 0, "verdict": "known", "uniqueId": "u-1", "partition": 0, "position": 1}));
    let expect = |gateway: &Gateway| {
        assert_eq!((gateway.usage("m").sum(), gateway.usage("m").count()), ("5".into(), 1));
        let letter = ok(gateway.get("/v1/dead-letters/0"));
        let last = &letter["lastReplay"];
        assert_eq!((&letter["state"], &letter["code"]), (&json!("replayed"), &json!("wrong_type")));
        assert_eq!((&last["verdict"], &last["uniqueId"], &last["position"]), (&json!("logged"), &json!("u-1"), &json!(1)));
        let event = ok(gateway.get("/v1/events/u-1"));
        assert_eq!((&event["verdict"], &event["position"]), (&json!("counted"), &json!(1)));
        assert_eq!(ok(gateway.get("/v1/events/u-2"))["verdict"], "rejected");
        let rejected = ok(gateway.get("/v1/events?verdict=rejected"));
        let ids: Vec<_> = rejected["events"].as_array().expect("an array").iter().map(|event| event["deadLetter"].clone()).collect();
        assert_eq!(ids, [json!(1)], "what counts is not rejected");
        assert_eq!(positions(&found(gateway, "state=replayed")), [0]);
    };
    expect(&gateway);
    gateway.kill_and_restart();
    expect(&gateway);
    assert_eq!(replay(&gateway, 0, &good), again);
    // Replayed under another id, the old one still says what became of it.
    let other = replay(&gateway, 1, &event("u-2b").json());
    assert_eq!(ok(gateway.get("/v1/events/u-2"))["lastReplay"]["uniqueId"], other["uniqueId"]);
    assert_eq!(ok(gateway.get("/v1/events/u-2b"))["verdict"], "counted");
}

#[test]
fn a_letter_that_still_fails_stays_and_says_why_now() {
    let mut gateway = Gateway::start();
    lose(&gateway, &[event("u-1").value("\"5\"")]);
    let answer = replay(&gateway, 0, &event("u-1").without("customerId").json());
    let now = json!({"deadLetter": 0, "verdict": "rejected", "code": "missing_field", "field": "customerId", "reason": "is missing"});
    assert_eq!(answer, now);
    let expect = |gateway: &Gateway| {
        let letter = ok(gateway.get("/v1/dead-letters/0"));
        assert_eq!(
            (&letter["state"], &letter["code"], &letter["lastReplay"]["code"]),
            (&json!("refused"), &json!("wrong_type"), &json!("missing_field"))
        );
        let event = ok(gateway.get("/v1/events/u-1"));
        assert_eq!((&event["verdict"], &event["field"]), (&json!("rejected"), &json!("customerId")));
        assert_eq!(gateway.usage("m").count(), 0);
        assert_eq!(found(gateway, "").len(), 1, "a replay that fails leaves no second letter");
    };
    expect(&gateway);
    gateway.kill_and_restart();
    expect(&gateway);
}

/// Events that are too old until the limit is lifted, one of three without an id.
fn old_events(count: usize) -> Vec<Event> {
    let old = |at: usize| if at.is_multiple_of(3) { event_without_id() } else { event(&format!("u-{at}")) };
    (0..count).map(|at| old(at).at(DAY_0_MS).value(at)).collect()
}

const STRICT_AGE: &str = "[ingest]\nmax_event_age = '1h'";

/// A gateway with this many letters that are fine by now.
fn with_letters(count: usize) -> Gateway {
    let mut gateway = Setup::with(STRICT_AGE).start();
    let mut events = old_events(count);
    events.push(event_without_id().meter("neighbour").at(Clock::start().now().0));
    gateway.send(&events).logged(1).rejected(count);
    gateway.stop();
    gateway.change_settings("");
    gateway.restart();
    gateway
}

#[test]
fn a_replay_by_filter_says_how_many_and_where_to_go_on_and_counts_each_once() {
    let mut gateway = with_letters(250);
    let (mut replayed, mut path) = (0, "/v1/dead-letters/replay?code=too_old&limit=100".to_owned());
    let mut pages = Vec::new();
    loop {
        let page = ok(gateway.post(&path, &[], ""));
        let letters = page["deadLetters"].as_array().expect("an array").clone();
        assert!(letters.iter().all(|letter| letter["verdict"] == "logged" && letter["position"].is_u64()), "{page}");
        replayed += page["replayed"].as_u64().expect("a number");
        pages.push(letters.len());
        let Some(next) = page["next"].as_u64() else { break };
        path = format!("/v1/dead-letters/replay?code=too_old&limit=100&before={next}");
    }
    assert_eq!((replayed, pages), (250, vec![100, 100, 50]));
    let usage = |gateway: &Gateway| (gateway.usage("m").count(), gateway.usage("m").sum());
    let expected = (250, (0..250).sum::<usize>().to_string());
    assert_eq!(usage(&gateway), expected);
    gateway.kill_and_restart();
    let again = ok(gateway.post("/v1/dead-letters/replay?limit=1000", &[], ""));
    assert_eq!((&again["replayed"], &again["deadLetters"], &again["next"]), (&json!(0), &json!([]), &Value::Null));
    for position in [0, 1, 2, 249] {
        assert_eq!(replay(&gateway, position, "")["verdict"], "known");
    }
    assert_eq!(usage(&gateway), expected);
    // Each event has its own verdict: those without an id by the one that they got.
    let made = ok(gateway.get("/v1/dead-letters/0"))["lastReplay"]["uniqueId"].as_str().expect("an id").to_owned();
    assert_eq!(ok(gateway.get(&format!("/v1/events/{made}")))["verdict"], "counted");
}

#[test]
fn a_kill_in_the_middle_of_replays_counts_nothing_twice_and_loses_nothing() {
    let mut gateway = with_letters(200);
    for round in 0..4 {
        let client = Client::clone(&gateway);
        std::thread::scope(|threads| {
            let replaying = threads.spawn(move || {
                // Until the process is gone.
                for position in 0..200 {
                    if client.try_post(&format!("/v1/dead-letters/{position}/replay"), &[], b"").is_err() {
                        return;
                    }
                }
            });
            let enough = 20 * (round + 1);
            wait_for("some replays", || {
                let done = gateway.metrics().count("tollgate_events_total", &[("outcome", "logged")]);
                (done >= enough || replaying.is_finished()).then_some(())
            });
            gateway.kill();
        });
        gateway.restart();
    }
    let rest = ok(gateway.post("/v1/dead-letters/replay?limit=1000", &[], ""));
    assert_eq!((&rest["rejected"], &rest["next"]), (&json!(0), &Value::Null));
    assert_eq!((gateway.usage("m").count(), gateway.usage("m").sum()), (200, (0..200).sum::<usize>().to_string()));
    assert_eq!(found(&gateway, "state=replayed").len(), 200);
}

#[test]
fn a_death_between_an_event_and_its_mark_brings_a_copy_and_counts_once() {
    // The first one has no id of its own.
    let mut gateway = with_letters(2);
    for position in [0, 1] {
        gateway.stop();
        // The event is appended first, the mark when it is durable.
        gateway.change_variable("TOLLGATE_KILL_AT", Some("append:2"));
        gateway.restart();
        let answer = gateway.try_post(&format!("/v1/dead-letters/{position}/replay"), &[], b"");
        assert!(answer.is_err(), "it died before it answered");
        assert_eq!(gateway.wait_for_end().code, None);
        gateway.change_variable("TOLLGATE_KILL_AT", None);
        gateway.restart();
        assert_eq!(ok(gateway.get(&format!("/v1/dead-letters/{position}")))["state"], "open");
        assert_eq!(gateway.usage("m").count(), position + 1, "the event is in the log already");
        assert_eq!(replay(&gateway, position as u64, "")["verdict"], "logged");
        assert_eq!(gateway.settled_metrics().verdict("duplicate"), 1);
        assert_eq!(gateway.usage("m").count(), position + 1);
    }
}

#[test]
fn what_is_only_half_kept_is_not_brought_again_by_itself() {
    let gateway = Gateway::start();
    lose(&gateway, &[event("u-1").padded_to(70_000)]);
    let answer = replay(&gateway, 0, "");
    assert_eq!((&answer["verdict"], &answer["code"]), (&json!("rejected"), &json!("too_large")));
    assert!(answer["reason"].as_str().is_some_and(|reason| reason.contains("65536")), "{answer}");
    assert_eq!(replay(&gateway, 0, &event("u-1").json())["verdict"], "logged");
}

#[test]
fn what_is_deleted_is_gone_for_everybody_and_for_good() {
    let mut gateway = Gateway::start();
    let bad: Vec<_> = (0..30).map(|at| event(&format!("u-{at}")).customer(&format!("c-{}", at % 2)).at(0)).collect();
    lose(&gateway, &bad);
    assert_eq!(ok(gateway.delete("/v1/dead-letters/29")), json!({"deleted": 1}));
    gateway.delete("/v1/dead-letters/29").refused(404);
    gateway.delete("/v1/dead-letters").refused(400);
    assert_eq!(ok(gateway.delete("/v1/dead-letters?customerId=c-0&limit=10")), json!({"deleted": 10, "next": 10}));
    assert_eq!(ok(gateway.delete("/v1/dead-letters?customerId=c-0&limit=10&before=10")), json!({"deleted": 5, "next": null}));
    let expect = |gateway: &Gateway| {
        assert_eq!(positions(&found(gateway, "")), (0..28).rev().filter(|at| at % 2 == 1).collect::<Vec<_>>());
        gateway.get("/v1/dead-letters/0").refused(404);
        gateway.post("/v1/dead-letters/0/replay", &[], "").refused(404);
        gateway.get("/v1/events/u-0").refused(404);
        assert_eq!(ok(gateway.get("/v1/events?verdict=rejected"))["events"].as_array().map(Vec::len), Some(14));
    };
    expect(&gateway);
    gateway.kill_and_restart();
    expect(&gateway);
    // A backup has the marks with the letters.
    let to = gateway.beside("backup");
    gateway.tollgate(&["backup", "--to", &to]).ended_with(0);
    gateway.kill();
    std::fs::remove_dir_all(gateway.data_dir()).expect("removed");
    gateway.tollgate(&["restore", "--from", &to]).ended_with(0);
    gateway.restart();
    expect(&gateway);
}

#[test]
fn the_metrics_say_what_is_kept_and_what_became_of_the_rest() {
    let mut gateway = Gateway::start();
    lose(&gateway, &[event("u-1").at(0), event("u-2").at(0), event("u-3").value("\"1\"")]);
    replay(&gateway, 0, &event("u-1").json());
    replay(&gateway, 2, &event("u-3").without("customerId").json());
    ok(gateway.delete("/v1/dead-letters/1"));
    let kept = |gateway: &Gateway, reason: &str| gateway.metrics().count("tollgate_dead_letters", &[("reason", reason)]);
    wait_for("the ledger", || (kept(&gateway, "wrong_value") == 1).then_some(()));
    let metrics = gateway.metrics();
    let changed = |change, reason| metrics.count("tollgate_dead_letters_total", &[("change", change), ("reason", reason)]);
    assert_eq!((changed("written", "wrong_value"), changed("written", "wrong_type")), (2, 1));
    assert_eq!((changed("replayed", "wrong_value"), changed("refused", "wrong_type"), changed("deleted", "wrong_value")), (1, 1, 1));
    assert_eq!(kept(&gateway, "wrong_type"), 1);
    let bytes = metrics.total("tollgate_dead_letters_bytes", &[]);
    assert!((200.0..2_000.0).contains(&bytes), "{bytes}");
    gateway.kill_and_restart();
    wait_for("the ledger of the next process", || (kept(&gateway, "wrong_value") == 1 && kept(&gateway, "wrong_type") == 1).then_some(()));
    let metrics = gateway.metrics();
    assert_eq!(metrics.total("tollgate_dead_letters_bytes", &[]), bytes);
    assert_eq!(metrics.total("tollgate_dead_letters_total", &[]), 0.0, "another process counted those");
}

#[test]
fn letters_that_retention_takes_are_counted() {
    let gateway = Setup::with("[log]\nsegment_bytes = 1_048_576\ndead_letter_bytes = 2_097_152").start();
    for round in 0..20 {
        lose(&gateway, &vec![wide_event(&format!("bad-{round}")).at(0); 5]);
    }
    let written = 100;
    let sums = || {
        let metrics = gateway.metrics();
        let expired = metrics.count("tollgate_dead_letters_total", &[("change", "expired")]);
        (expired, metrics.count("tollgate_dead_letters", &[]))
    };
    let (expired, kept) = wait_for("the ledger", || Some(sums()).filter(|(expired, kept)| expired + kept == written));
    assert!(expired > 30, "{expired} of {written}");
    assert_eq!(found(&gateway, "").len() as u64, kept);
    gateway.get("/v1/dead-letters/0").refused(404);
    gateway.post("/v1/dead-letters/0/replay", &[], "").refused(404);
}

#[test]
fn letters_that_are_too_old_go_with_their_segment() {
    let mut gateway = Gateway::start();
    lose(&gateway, &[event("u-1").at(0)]);
    gateway.stop();
    gateway.change_settings("[log]\nsegment_bytes = 1_048_576\ndead_letter_age = '1ms'");
    gateway.restart();
    // Each start begins a segment; the one before goes when the next one is begun.
    let mut round = 0;
    wait_for("retention", || {
        lose(&gateway, &vec![wide_event(&format!("bad-{round}")).at(0); 10]);
        round += 1;
        (gateway.get("/v1/dead-letters/0").status == 404).then_some(())
    });
    assert!(round < 10, "one segment holds about 17 of these");
}
