//! Every form that events can be sent in: JSON, NDJSON, CSV, custom events, in every coding. The same events give the same records, and
//! what is wrong with one of them costs its neighbours nothing.

use std::collections::BTreeMap;
use std::io::Write;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, DAY_0_MS, Event, Gateway, NO_RECENT_IDS, Setup, batch, event, event_without_id};

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");
const CSV: (&str, &str) = ("content-type", "text/csv");
const STRICT: (&str, &str) = ("prefer", "handling=strict");
const RECEIPT: (&str, &str) = ("accept", "application/vnd.tollgate.receipt+json");
const COLUMNS: &str = "uniqueId,customerId,meterApiName,meterValue,meterTimeInMillis,region,note";

fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.shown());
    answer.json()
}

fn lines(events: &[Event]) -> String {
    events.iter().map(|event| event.json() + "\n").collect()
}

/// Values of every kind of digits, and dimensions that need quotes in every form.
const SAMPLES: [(&str, &str, &str); 6] = [
    ("1", "eu-1", "plain"),
    ("-0.000000000001", "a,b", "x"),
    ("99999999999999999999.999999999999", "say \"hi\"", "é雪"),
    ("1.5e3", "two\nlines", "\t"),
    ("0.1234567890125", "  spaces  ", "="),
    ("12345678901234567890", "it's", "C:\\path"),
];

/// The samples in a form; the ids are the same in all.
fn body(form: &str) -> (String, Vec<(&'static str, &'static str)>, String) {
    let at = |index: usize| DAY_0_MS + index as i64 * 1_000;
    let contract = |(index, (value, region, note)): (usize, &(&str, &str, &str))| {
        event(&format!("u-{index}")).value(value).at(at(index)).dimension("region", region).dimension("note", note)
    };
    let custom = |(index, (value, region, note)): (usize, &(&str, &str, &str))| {
        let quoted = |text: &str| Value::from(text).to_string();
        format!(
            r#"{{"id":"u-{index}","customer":"c","type":"m","amount":{value},"ts":{},"region":{},"note":{},"nested":{{"a":[1]}},"none":null}}"#,
            at(index),
            quoted(region),
            quoted(note)
        )
    };
    let cell = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let row = |(index, (value, region, note)): (usize, &(&str, &str, &str))| {
        format!("u-{index},c,m,{value},{},{},{}\r\n", at(index), cell(region), cell(note))
    };
    let all = || SAMPLES.iter().enumerate();
    let events: Vec<Event> = all().map(contract).collect();
    let custom_rows = "eventId,customer_id,event,usage,timestamp,region,note\r\n".to_owned() + &all().map(row).collect::<String>();
    match form {
        "array" => ("/ingest".into(), vec![], batch(&events)),
        "lines under JSON" => ("/ingest/".into(), vec![], lines(&events)),
        "NDJSON" => ("/amberflo/ingest".into(), vec![NDJSON], lines(&events).replace('\n', "\r\n\n")),
        "CSV" => ("/ingest".into(), vec![CSV], format!("{COLUMNS}\r\n") + &all().map(row).collect::<String>()),
        "AUTO" => ("/ingest?schemaDetection=AUTO".into(), vec![], format!("[{}]", all().map(custom).collect::<Vec<_>>().join(","))),
        "AUTO NDJSON" => ("/ingest?schemaDetection=auto".into(), vec![NDJSON], all().map(custom).collect::<Vec<_>>().join("\n")),
        "AUTO CSV" => ("/amberflo/ingest/?ingestSchemaId=any".into(), vec![CSV], custom_rows),
        other => panic!("no form is called {other}"),
    }
}

const FORMS: [&str; 7] = ["array", "lines under JSON", "NDJSON", "CSV", "AUTO", "AUTO NDJSON", "AUTO CSV"];

fn send(client: &Client, form: &str) -> Answer {
    let (path, headers, body) = body(form);
    client.post(&path, &headers, body)
}

/// What each event says, and the usage of it.
fn seen(client: &Client) -> (Vec<Value>, String, BTreeMap<String, String>) {
    let event = |index: usize| ok(client.get(&format!("/v1/events/u-{index}")))["event"].clone();
    let usage = client.usage("m").by("region").by("note").wait_s(30).ask("SUM");
    ((0..SAMPLES.len()).map(event).collect(), client.usage("m").sum(), usage.groups())
}

#[test]
fn the_same_events_in_every_form_are_the_same_records() {
    let gateway = Setup::with(NO_RECENT_IDS).start();
    let mut expected = None;
    for form in FORMS {
        let account = form.to_lowercase().replace(' ', "-");
        gateway.make_account(&account);
        let client = gateway.with(&gateway.make_key(&account, &["admin"]));
        send(&client, form).logged(SAMPLES.len()).rejected(0);
        let seen = seen(&client);
        assert_eq!(expected.get_or_insert_with(|| seen.clone()), &seen, "{form}");
        // And each form's are the copies of the others': identity and content are the same.
        FORMS.iter().for_each(|form| drop(send(&client, form).logged(SAMPLES.len())));
        assert_eq!(client.usage("m").count(), SAMPLES.len(), "{form}");
    }
    let metrics = gateway.settled_metrics();
    assert_eq!(metrics.verdict("duplicate"), (FORMS.len() * FORMS.len() * SAMPLES.len()) as u64);
    assert_eq!(metrics.verdict("conflict"), 0);
    let (events, sum, _) = expected.expect("some");
    assert_eq!(sum, "112345678901234569391.12345678901");
    insta::assert_json_snapshot!(events);
}

#[test]
fn what_is_known_is_answered_at_the_door_in_any_form() {
    let gateway = Gateway::start();
    send(&gateway, "array").logged(6);
    for form in FORMS {
        send(&gateway, form).logged(6);
    }
    let metrics = gateway.settled_metrics();
    assert_eq!((metrics.outcome("logged"), metrics.outcome("known")), (6, 42));
}

fn compressed(coding: &str, text: &str) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text.as_bytes()).expect("memory");
            encoder.finish().expect("memory")
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text.as_bytes()).expect("memory");
            encoder.finish().expect("memory")
        }
        "zstd" => zstd::encode_all(text.as_bytes(), 1).expect("memory"),
        _ => text.as_bytes().to_vec(),
    }
}

#[test]
fn every_form_comes_in_every_coding_and_within_its_limits() {
    let gateway = Setup::with("[ingest]\nbody_bytes_max = 1_048_576\ninflated_bytes_max = 1_048_576\n").start();
    for coding in ["identity", "gzip", "deflate", "zstd"] {
        for form in FORMS {
            let (path, mut headers, text) = body(form);
            headers.push(("content-encoding", coding));
            gateway.post(&path, &headers, compressed(coding, &text)).logged(SAMPLES.len());
        }
        if coding == "identity" {
            continue;
        }
        for header in [NDJSON, CSV] {
            // A bomb of blank lines, and a body that inflates to too much without being one.
            let bomb = compressed(coding, &"\n".repeat(1 << 20));
            gateway.post("/ingest", &[header, ("content-encoding", coding)], bomb).refused(413);
            let noise: String = (0_u32..300_000).map(|at| format!("{:x}\n", at.wrapping_mul(2_654_435_761) >> 12)).collect();
            gateway.post("/ingest", &[header, ("content-encoding", coding)], compressed(coding, &noise)).refused(413);
            let whole = compressed(coding, &lines(&[event("cut")]));
            gateway.post("/ingest", &[header, ("content-encoding", coding)], &whole[..whole.len() - 3]).refused(400);
        }
    }
    assert_eq!(gateway.usage("m").count(), SAMPLES.len());
}

/// One good event, one bad one, one good one; what the letter has; where the mistake is.
fn with_a_bad_one(form: &str) -> (&'static str, Vec<(&'static str, &'static str)>, String, String, &'static str) {
    let good = |id: &str| format!("{id},c,m,1,{DAY_0_MS}");
    let custom = |id: &str| format!(r#"{{"id":"{id}","customer":"c","type":"m","ts":{DAY_0_MS}}}"#);
    let header = "uniqueId,customerId,meterApiName,meterValue,meterTimeInMillis";
    let (first, last) = (event("a").json(), event("c").json());
    match form {
        "array" => {
            let bad = event("b").value("\"7\"").json();
            ("/ingest", vec![], format!("[{first}, {bad} ,{last}]"), bad, "[1].meterValue must be a number")
        }
        "NDJSON, a wrong type" => {
            let bad = event("b").value("\"7\"").json();
            ("/ingest", vec![NDJSON], format!("{first}\n {bad} \r\n{last}"), bad, "[1].meterValue must be a number")
        }
        "NDJSON, a broken line" => {
            let bad = r#"{"uniqueId":"b","customerId":"c","meterApiName":"m""#;
            (
                "/ingest",
                vec![NDJSON],
                format!("{first}\n{bad}\n{last}\n"),
                bad.into(),
                "[1] is not valid JSON: EOF while parsing an object at line 1 column 51",
            )
        }
        "lines under JSON" => {
            let bad = "not JSON at all";
            ("/ingest", vec![], format!("{first}\n{bad}\n{last}\n"), bad.into(), "[1] is not valid JSON: expected ident at line 1 column 2")
        }
        "CSV, a wrong type" => {
            let bad = format!("b,\"c\",m,\"seven, or so\",{DAY_0_MS}");
            let body = format!("{header}\r\n{}\r\n{bad}\r\n{}\r\n", good("a"), good("c"));
            ("/ingest", vec![CSV], body, bad, "[1].meterValue is not a number")
        }
        "CSV, a field too few" => {
            let bad = "b,c,m,7".to_owned();
            ("/ingest", vec![CSV], format!("{header}\n{}\n{bad}\n{}", good("a"), good("c")), bad, "[1] has 4 fields, the header has 5")
        }
        "CSV, a broken quote" => {
            let bad = format!("\"b\"x,c,m,1,{DAY_0_MS}");
            ("/ingest", vec![CSV], format!("{header}\n{}\n{bad}\n{}", good("a"), good("c")), bad, "[1] has text behind a closing quote")
        }
        "AUTO" => {
            let bad = r#"{"id":"b", "amount": 7, "type":"m"}"#;
            let body = format!("[{},{bad},{}]", custom("a"), custom("c"));
            ("/ingest?schemaDetection=AUTO", vec![], body, bad.into(), "[1].customerId is missing")
        }
        "AUTO CSV" => {
            let bad = format!("b,c,m,seven,{DAY_0_MS}");
            let body = format!("id,customer,type,value,ts\n{}\n{bad}\n{}", good("a"), good("c"));
            ("/ingest?schemaDetection=AUTO", vec![CSV], body, bad, "[1].value must be a number")
        }
        other => panic!("no form is called {other}"),
    }
}

const BAD_FORMS: [&str; 9] = [
    "array",
    "NDJSON, a wrong type",
    "NDJSON, a broken line",
    "lines under JSON",
    "CSV, a wrong type",
    "CSV, a field too few",
    "CSV, a broken quote",
    "AUTO",
    "AUTO CSV",
];

#[test]
fn one_bad_event_costs_its_neighbours_nothing_in_any_form() {
    let mut gateway = Gateway::start();
    for (round, form) in BAD_FORMS.into_iter().enumerate() {
        let (path, headers, body, raw, details) = with_a_bad_one(form);
        let account = format!("account-{round}");
        gateway.make_account(&account);
        let client = gateway.with(&gateway.make_key(&account, &["admin"]));
        // All or nothing, if that is asked for: nothing.
        let strict = [headers.clone(), vec![STRICT]].concat();
        client.post(path, &strict, &body).refused(400).details(details);
        assert_eq!((client.usage("m").count(), client.dead_letters().len()), (0, 0), "{form}");
        // Otherwise the neighbours, and a receipt that says which is which.
        let receipt = ok(client.post(path, &[headers.clone(), vec![RECEIPT]].concat(), &body));
        let verdicts: Vec<_> = receipt["events"].as_array().expect("an array").iter().map(|event| event["verdict"].clone()).collect();
        assert_eq!(verdicts, ["logged", "rejected", "logged"], "{form}");
        client.post(path, &headers, &body).logged(2).rejected(1);
        assert_eq!(client.usage("m").count(), 2, "{form}");
        let letters = client.dead_letters();
        assert_eq!((letters.len(), &letters[0]["raw"], &letters[0]["index"]), (2, &json!(raw), &json!(1)), "{form}");
        let (field, reason) = (letters[0]["field"].as_str().expect("a text"), letters[0]["reason"].as_str().expect("a text"));
        let dot = if field.is_empty() { "" } else { "." };
        assert_eq!(format!("[1]{dot}{field} {reason}"), details, "{form}");
        // Brought again as it was sent, it is what it was; corrected, it is taken.
        let position = letters[0]["position"].as_u64().expect("a number");
        let path = format!("/v1/dead-letters/{position}/replay");
        let again = ok(client.post(&path, &[], ""));
        assert_eq!((&again["verdict"], &again["reason"]), (&json!("rejected"), &json!(reason)), "{form}");
        assert_eq!(ok(client.post(&path, &[], event("b").json()))["verdict"], "logged", "{form}");
        assert_eq!(client.usage("m").count(), 3, "{form}");
        let all = ok(client.post("/v1/dead-letters/replay?limit=10", &[], ""));
        assert_eq!((&all["replayed"], &all["rejected"]), (&json!(0), &json!(1)), "{form}: one bad letter keeps nobody from the others");
    }
    // The letters outlive the process, with their forms.
    let before = gateway.with(&gateway.make_key("account-6", &["read"])).dead_letters();
    assert_eq!(
        (&before[0]["form"], &before[0]["header"]),
        (&json!("csv"), &json!("uniqueId,customerId,meterApiName,meterValue,meterTimeInMillis"))
    );
    gateway.kill_and_restart();
    assert_eq!(gateway.with(&gateway.make_key("account-6", &["read"])).dead_letters(), before);
}

/// Events that are too old until the limit is lifted.
#[test]
fn a_letter_is_brought_again_in_its_form_and_counts_once() {
    let mut gateway = Setup::with("[ingest]\nmax_event_age = '1h'").start();
    let now = tollgate_now_ms();
    let bodies = [
        ("/ingest", vec![NDJSON], format!("{}\n{}\n", event("l-old").at(DAY_0_MS).json(), event("l-new").meter("n").at(now).json())),
        ("/ingest", vec![CSV], format!("{COLUMNS}\nr-old,c,m,1,{DAY_0_MS},\"a,\"\"b\"\"\",\nr-new,c,n,1,{now},,\n")),
        (
            "/ingest?schemaDetection=AUTO",
            vec![],
            format!(r#"[{{"customer":"c","type":"m","ts":{DAY_0_MS}, "n":[1]}},{{"customer":"c","type":"n","ts":{now}}}]"#),
        ),
        ("/ingest?schemaDetection=AUTO", vec![CSV], format!("customer,type,ts,k\nc,m,{DAY_0_MS},v\nc,n,{now},v\n")),
    ];
    for (path, headers, body) in &bodies {
        gateway.post(path, headers, body).logged(1).rejected(1);
    }
    gateway.stop();
    gateway.change_settings("");
    gateway.restart();
    let found = |filter: &str| ok(gateway.get(&format!("/v1/dead-letters?{filter}")))["deadLetters"].as_array().expect("an array").len();
    assert_eq!((found("customerId=c"), found("meterApiName=m"), found("uniqueId=r-old"), found("uniqueId=nobody")), (4, 4, 1, 0));
    let replayed = ok(gateway.post("/v1/dead-letters/replay?limit=10", &[], ""));
    assert_eq!((&replayed["replayed"], &replayed["rejected"]), (&json!(4), &json!(0)), "{replayed}");
    assert_eq!(gateway.usage("m").count(), 4);
    assert_eq!(gateway.usage("m").only("region", "a,\"b\"").count(), 1);
    // What was lost is sent again by its producer, and is a copy of what the letter brought.
    for (path, headers, body) in &bodies {
        gateway.post(path, headers, body).logged(2);
    }
    let now_s = now / 1_000;
    assert_eq!((gateway.usage("m").count(), gateway.usage("n").between(now_s - 3_600, now_s + 3_600).count()), (4, 4));
}

fn tollgate_now_ms() -> i64 {
    tollgate::clock::Clock::start().now().0
}

#[test]
fn limits_are_the_same_in_every_form() {
    let gateway = Setup::with("[ingest]\nevents_max = 3\nevent_bytes_max = 200\n").start();
    let events: Vec<_> = (0..4).map(|at| event(&format!("u-{at}"))).collect();
    let rows = |count: usize| {
        "uniqueId,customerId,meterApiName,meterValue,meterTimeInMillis\n".to_owned() + &format!("u,c,m,1,{DAY_0_MS}\n").repeat(count)
    };
    for (header, body) in [(NDJSON, lines(&events)), (CSV, rows(4)), (("x-nothing", "lines under JSON"), lines(&events))] {
        let refused = gateway.post("/ingest", &[header], body).refused(413);
        assert_eq!(refused.json()["message"], "the body has 4 events, the limit is 3");
    }
    let long = event("long").padded_to(201);
    gateway.post("/ingest", &[NDJSON], lines(&[event("n"), long])).logged(1).rejected(1);
    let row = format!("{}r,c,m,1,{DAY_0_MS}\nlong,\"{}\",m,1,{DAY_0_MS}\n", rows(0), "x".repeat(200));
    gateway.post("/ingest", &[CSV], row).logged(1).rejected(1);
    let deep = |levels: usize| event("d").raw("unknown", &format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    gateway.post("/ingest", &[NDJSON], lines(&[deep(14)])).logged(1).rejected(0);
    gateway.post("/ingest", &[NDJSON], lines(&[deep(14), deep(15)])).logged(1).rejected(1);
    assert_eq!(gateway.dead_letters()[0]["code"], "too_deep");
    let dense = "a,b\n".to_owned() + &",\n".repeat(200_000);
    gateway.post("/ingest", &[CSV], dense).refused(413);
}

#[test]
fn what_cannot_be_told_apart_is_refused_whole_and_named() {
    let gateway = Gateway::start();
    let refused = |headers: &[(&str, &str)], path: &str, body: &str| {
        let answer = gateway.post(path, headers, body).refused(400);
        answer.json()["message"].as_str().expect("a text").to_owned()
    };
    let open = format!("{COLUMNS}\nu,c,m,1,{DAY_0_MS},\"open,\nv,c,m,1,{DAY_0_MS},,\n");
    assert_eq!(
        refused(&[CSV], "/ingest", &open),
        "the body is not valid CSV: the quotes of record [0] do not match, so that nobody knows where it ends"
    );
    assert_eq!(refused(&[CSV], "/ingest", ""), "the body is not valid CSV: it has no header row");
    assert!(refused(&[CSV], "/ingest", "customerId,values\nc,1\n").contains("the column `values`"));
    assert!(refused(&[CSV], "/ingest", "a,b,a\n").contains("`a` is given twice"));
    assert!(refused(&[], "/ingest", "{\"a\":1} {\"b\":2}").contains("not valid JSON"));
    assert!(refused(&[], "/ingest", "[\n{},\n{}\n").contains("not valid JSON"));
    assert_eq!(refused(&[], "/ingest?schemaDetection=NONE", "[]"), "schemaDetection must be AUTO");
    assert_eq!(refused(&[], "/ingest?ingestSchemaId=", "[]"), "ingestSchemaId must not be empty");
    gateway.post("/ingest", &[("content-type", "text/csv; charset=utf-16")], "a\n").refused(415);
    // Nothing that is good: the first mistake, nothing stored.
    gateway.post("/ingest", &[NDJSON], "{}\n7\n").refused(400).details("[0].meterApiName is missing");
    gateway.post("/ingest", &[CSV], format!("{COLUMNS}\n,c,m,x,{DAY_0_MS},,\n")).refused(400).details("[0].meterValue is not a number");
    gateway.post("/ingest?schemaDetection=AUTO", &[], "{\"a\":1}").refused(400).details("customerId is missing");
    // None at all is none.
    gateway.post("/ingest", &[NDJSON], "\n\n").logged(0);
    gateway.post("/ingest", &[CSV], format!("{COLUMNS}\n")).logged(0);
    assert_eq!(gateway.dead_letters().len(), 0);
}

#[test]
fn a_long_header_does_not_multiply_into_letters() {
    let gateway = Gateway::start();
    let columns: Vec<_> = (0..60).map(|at| format!("dimension-{at:0>100}")).collect();
    let header = format!("uniqueId,customerId,meterApiName,meterValue,meterTimeInMillis,{}", columns.join(","));
    let good = format!("u,c,m,1,{DAY_0_MS}{}", ",".repeat(60));
    let bad = "x\n".repeat(400);
    let answer = gateway.post("/ingest", &[CSV], format!("{header}\n{good}\n{bad}")).refused(400);
    answer.details("[1] has 1 fields, the header has 65");
    assert_eq!((gateway.usage("m").count(), gateway.dead_letters().len()), (0, 0));
    gateway.post("/ingest", &[CSV], format!("{header}\n{good}\n{}", "x\n".repeat(20))).logged(1).rejected(20);
}

#[test]
fn custom_events_without_an_id_are_known_by_what_they_say() {
    let gateway = Setup::with(NO_RECENT_IDS).start();
    let path = "/ingest?schemaDetection=AUTO";
    let one = format!(r#"{{"customer": "c", "type": "m", "usage": 2.5, "ts": {DAY_0_MS}, "nested": {{"a": 1}}}}"#);
    let other = one.replace("\"a\": 1", "\"a\": 2");
    gateway.post(path, &[], &one).logged(1);
    // Again, spaced otherwise, in another form: the same. With another nested part: another event.
    gateway.post(path, &[], format!("[{}]", one.replace(": ", ":"))).logged(1);
    gateway.post(path, &[NDJSON], format!("{one}\n{other}\n{other}")).logged(3);
    assert_eq!((gateway.usage("m").count(), gateway.usage("m").sum()), (2, "5".into()));
    let verdicts = ok(gateway.get("/v1/events?customerId=c"));
    let counted: Vec<_> = verdicts["events"].as_array().expect("an array").iter().filter(|event| event["verdict"] == "counted").collect();
    assert_eq!(counted.len(), 2);
    assert_eq!(counted[0]["event"]["uniqueId"].as_str().map(str::len), Some(32));
    assert_eq!(gateway.settled_metrics().verdict("duplicate"), 3);
    // Events of the contract are not: nothing says that two of them are one.
    gateway.post("/ingest", &[NDJSON], lines(&[event_without_id().meter("n"), event_without_id().meter("n")])).logged(2);
    assert_eq!(gateway.usage("n").count(), 2);
    // Without a time, the receipt is the time.
    gateway.post(path, &[], r#"{"subject":"s","meter":"timeless"}"#).logged(1);
    gateway.post(path, &[], r#"{"subject":"s","meter":"timeless"}"#).logged(1);
    let now = tollgate_now_ms() / 1_000;
    assert_eq!(gateway.usage("timeless").between(now - 7_200, now + 7_200).count(), 1);
}
