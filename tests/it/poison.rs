//! Bodies that are made to hurt. Each is answered with its status and what is wrong, costs its neighbours nothing, and leaves a gateway
//! that goes on, with books that balance and memory that is bounded.
//!
//! What stands at a limit or just beyond is in `one_bad_event`, damaged and foreign codings are in `protocol`.

use std::io::Write;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use crate::harness::{Answer, Client, Gateway, batch, event, event_without_id};

/// Memory that a process may take, whatever it was sent: 64 MiB of bodies in flight, and what it takes to read them.
const MEMORY_MAX: usize = 512 << 20;
const MILLION: usize = 1_000_000;

fn good(id: &str) -> String {
    event(id).json()
}

fn with_value(digits: &str) -> String {
    event("bad").value(digits).json()
}

/// An event in which these bytes stand for the customer's name.
fn with_bytes(bytes: &[u8]) -> Vec<u8> {
    let event = event("bad").customer("HERE").json();
    let at = event.find("HERE").expect("it has one");
    [&event.as_bytes()[..at], bytes, &event.as_bytes()[at + 4..]].concat()
}

fn in_array(events: &[Vec<u8>]) -> Vec<u8> {
    [b"[".as_slice(), &events.join(&b','), b"]"].concat()
}

/// What is no JSON at all: nothing can be told from the rest.
fn no_json() -> Vec<(&'static str, Vec<u8>)> {
    let deep = |open: &str| [b"[".as_slice(), open.repeat(MILLION).as_bytes()].concat();
    let mut all: Vec<(&'static str, Vec<u8>)> = vec![
        ("a byte order mark", [b"\xef\xbb\xbf".as_slice(), good("u").as_bytes()].concat()),
        ("UTF-16", good("u").encode_utf16().flat_map(u16::to_le_bytes).collect()),
        ("invalid UTF-8 at the top", b"[\xff]".to_vec()),
        ("invalid UTF-8 behind the end", [good("u").as_bytes(), b"\xff"].concat()),
        ("invalid UTF-8 in a key", good("u").replacen("customerId", "HERE", 1).into_bytes()),
        ("UTF-8 that is cut", with_bytes(b"\xe2\x82")),
        ("UTF-8 that is too long", with_bytes(b"\xc0\x80")),
        ("a surrogate in UTF-8", with_bytes(b"\xed\xa0\x80")),
        ("more than Unicode has", with_bytes(b"\xf4\x90\x80\x80")),
        ("a NUL in a text", with_bytes(b"a\0b")),
        ("a NUL between events", [good("u").as_bytes(), b"\0"].concat()),
        ("nothing but NULs", vec![0; 1_000]),
        ("a line break in a text", with_bytes(b"a\nb")),
        ("a million arrays that are not closed", deep("[")),
        ("a million objects that are not closed", deep("{\"a\":")),
        ("a million closings", "]".repeat(MILLION).into_bytes()),
        ("a text that does not end", [b"[\"".as_slice(), &vec![b'x'; MILLION]].concat()),
        ("nothing but backslashes", [b"[\"".as_slice(), &vec![b'\\'; MILLION]].concat()),
        ("an escape that is none", with_bytes(b"\\x41")),
        ("an escape that is cut", with_bytes(b"\\u00")),
        ("white space that is none", [b"\xa0".as_slice(), good("u").as_bytes()].concat()),
        ("one event behind another", [good("u"), good("v")].concat().into_bytes()),
        ("lines of events with a comma between", [good("u"), good("v")].join(",\n").into_bytes()),
        ("a comment", format!("[{} /* x */]", good("u")).into_bytes()),
    ];
    if let Some((_, body)) = all.iter_mut().find(|(name, _)| *name == "invalid UTF-8 in a key") {
        let at = memchr::memmem::find(body, b"HERE").expect("it has one");
        body.splice(at..at + 4, *b"customer\xff");
    }
    for digits in ["NaN", "Infinity", "-Infinity", "nan", "0x10", "1_000", "+1", ".5", "1.", "1e", "--1", "00", "1,5", "１", "1f", "∞"] {
        all.push(("a number that is none", format!("[{}]", with_value(digits)).into_bytes()));
    }
    all
}

/// Events that are JSON and no events: what is said to be wrong with each.
fn bad_events() -> Vec<(String, &'static str)> {
    let digits = "9".repeat(10_000);
    let deep = |open: &str, close: &str, levels: usize| {
        event("bad").raw("unknown", &format!("{}1{}", open.repeat(levels), close.repeat(levels))).json()
    };
    let broken = "has a string with a broken escape";
    let large = "has more bytes than may be";
    let out_of_range = ".meterValue is out of range: the absolute value must be below 10^20";
    let mut all = vec![
        (with_value(&digits), out_of_range),
        (with_value(&format!("-{digits}.{digits}")), out_of_range),
        (with_value(&format!("1e{digits}")), out_of_range),
        (with_value(&format!("0.{digits}e{}", 30)), out_of_range),
        (with_value("1e400"), out_of_range),
        (
            event("bad").raw("meterTimeInMillis", &digits).json(),
            ".meterTimeInMillis is out of range: the absolute value must be below 10^20",
        ),
        (
            event("bad").raw("meterTimeInMillis", "1e-400").json(),
            ".meterTimeInMillis is 0 ms, it must be above 0 and not after the year 9999",
        ),
        (event("bad").raw("meterTimeInMillis", "-0").json(), ".meterTimeInMillis is 0 ms, it must be above 0 and not after the year 9999"),
        (
            event("bad").raw("meterTimeInMillis", "99999999999999999").json(),
            ".meterTimeInMillis is 9223372036854775 ms or more, it must be above 0 and not after the year 9999",
        ),
        (event("bad").customer("a\0b").json(), ".customerId contains U+0000"),
        (event("bad").meter("\0").json(), ".meterApiName contains U+0000"),
        (event("bad").dimension("a\0", "b").json(), ".dimensions.a\\u{0} contains U+0000"),
        (deep("[", "]", 30_000), " nests deeper than 16 levels"),
        (deep("{\"a\":", "}", 9_000), " nests deeper than 16 levels"),
        (deep("[{\"a\":", "}]", 20), " nests deeper than 16 levels"),
        (deep("[", "]", MILLION), large),
        (deep("{\"a\":", "}", MILLION), large),
        (format!("{}{}", "[".repeat(MILLION), "]".repeat(MILLION)), large),
        (event("bad").raw("unknown", &format!("\"{}\"", "x".repeat(7 * MILLION))).json(), large),
        (event("bad").raw(&"k".repeat(MILLION), "1").json(), large),
        (event("bad").raw("unknown", &format!("[{}0]", "0,".repeat(MILLION))).json(), large),
    ];
    for escape in ["\\ud800", "\\udc00", "\\ud800\\ud800", "\\ud800x", "\\ud800\\u0041", "\\udfff\\ud800"] {
        let text = format!("\"{escape}\"");
        all.push((event(escape).json().replace("\\\\", "\\"), broken));
        all.push((event("bad").raw("customerId", &text).json(), broken));
        all.push((event("bad").raw("dimensions", &format!("{{\"k\":{text}}}")).json(), broken));
        all.push((event("bad").raw("dimensions", &format!("{{{text}:\"v\"}}")).json(), broken));
        all.push((event("bad").raw("unknown", &format!("[{{\"a\":[{text}]}}]")).json(), broken));
        all.push((event("bad").json().replacen("{", &format!("{{{text}:1,"), 1), broken));
    }
    all
}

/// What looks bad and is not.
fn odd_events() -> Vec<String> {
    let many = |member: &str, times: usize| event_without_id().json().replacen('{', &format!("{{{}", member.repeat(times)), 1);
    vec![
        event_without_id().value("-0").json(),
        event_without_id().value("-0.0e-0").json(),
        event_without_id().value(format!("0.{}", "0".repeat(10_000))).json(),
        event_without_id().value(format!("0e{}", "9".repeat(10_000))).json(),
        event_without_id().value(format!("0.{}1", "0".repeat(10_000))).json(),
        event_without_id().value(format!("1{}e-10000", "0".repeat(10_000))).value("0").json(),
        event_without_id().customer("\u{10ffff}\u{feff}\u{202e}\u{7f}").json(),
        event_without_id().raw("customerId", "\"\\ud83d\\ude00\\u0001\"").json(),
        event_without_id().raw("unknown", "1e400").json(),
        event_without_id().raw("unknown", "[[[[[[[[[[[[[[]]]]]]]]]]]]]]").json(),
        many("\"again\":1,", 5_000),
        many("\"\":null,", 5_000),
    ]
}

/// Refused, with what is wrong where programs and people look for it.
#[track_caller]
fn refused(name: &str, answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{name}: {}", answer.shown());
    let said = answer.json();
    let text = said["details"].as_str().or(said["message"].as_str()).expect("a text");
    assert!(text.contains(words) && said["code"].is_string(), "{name}: `{words}` is not in {}", answer.shown());
}

/// It goes on: a good event is taken, and counts.
#[track_caller]
fn goes_on(gateway: &Gateway, counted: &mut usize) {
    gateway.send(&[event_without_id()]).logged(1);
    *counted += 1;
}

/// Every event that was told from the rest has an outcome, and what was logged counts.
#[track_caller]
fn balances(gateway: &Gateway, counted: usize, rejected: usize) {
    let metrics = gateway.settled_metrics();
    assert_eq!(metrics.count("tollgate_events_total", &[]), (counted + rejected) as u64, "every event has an outcome");
    assert_eq!((metrics.outcome("logged"), metrics.outcome("rejected")), (counted as u64, rejected as u64));
    assert_eq!(metrics.count("tollgate_events_rejected_total", &[]), rejected as u64, "every rejection has a reason");
    assert_eq!(metrics.verdict("counted"), counted as u64);
    assert_eq!(metrics.total("tollgate_in_flight_bytes", &[]), 0.0, "all room was given back");
    assert_eq!(gateway.usage("m").count(), counted);
    let memory = gateway.memory_peak_bytes();
    println!("most memory: {} MiB", memory >> 20);
    assert!(memory < MEMORY_MAX, "it took {memory} bytes of memory");
}

#[test]
fn what_is_no_json_is_refused_whole_and_nothing_of_it_is_received() {
    let gateway = Gateway::start();
    let mut counted = 0;
    for (name, body) in no_json() {
        refused(name, &gateway.post("/ingest", &[], &body), 400, "the body is not valid JSON: ");
        goes_on(&gateway, &mut counted);
    }
    balances(&gateway, counted, 0);
}

#[test]
fn a_poisonous_event_is_refused_by_its_field_and_costs_its_neighbours_nothing() {
    let gateway = Gateway::start();
    let (mut counted, mut rejected) = (0, 0);
    for (bad, words) in bad_events() {
        let words =
            if words.starts_with("has more bytes") { format!("[0] has {} bytes, the limit is 65536", bad.len()) } else { words.into() };
        let shown = &bad[..bad.len().min(200)];
        refused(shown, &gateway.post("/ingest", &[], format!("[{bad}]")), 400, &words);
        let neighbours = in_array(&[event_without_id().json(), bad.clone(), event_without_id().json()].map(String::into_bytes));
        gateway.post("/ingest", &[], neighbours).logged(2).rejected(1);
        counted += 2;
        rejected += 2;
    }
    // The letters can be read, looked through and brought again, whatever is in them.
    let letters = gateway.dead_letters();
    assert_eq!(letters.len(), bad_events().len());
    assert_eq!(gateway.get("/v1/dead-letters?meterApiName=m&customerId=none").json()["deadLetters"].as_array().map(Vec::len), Some(0));
    balances(&gateway, counted, rejected);
    let replayed = gateway.post("/v1/dead-letters/replay?limit=1000", &[], "").json();
    assert_eq!(replayed["replayed"], 0, "{replayed}");
}

#[test]
fn what_looks_like_poison_and_is_an_event_is_taken() {
    let gateway = Gateway::start();
    let mut counted = 0;
    for odd in odd_events() {
        gateway.post("/ingest", &[], &odd).logged(1).rejected(0);
        counted += 1;
    }
    balances(&gateway, counted, 0);
}

fn coded(coding: &str, plain: &[u8]) -> Vec<u8> {
    let written = match coding {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(plain).and_then(|()| encoder.finish())
        }
        "deflate" => {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(plain).and_then(|()| encoder.finish())
        }
        "bare" => {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(plain).and_then(|()| encoder.finish())
        }
        _ => zstd::encode_all(plain, 1),
    };
    written.expect("in memory")
}

/// A zstd frame of 17 bytes whose window is as large as the format allows: raw, with the text `[]`.
fn wide_window(window_log: u8) -> Vec<u8> {
    let header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (window_log - 10) << 3];
    // The last block, not compressed, of two bytes.
    [header.as_slice(), &[0x11, 0x00, 0x00], b"[]"].concat()
}

#[test]
fn poison_in_a_coding_is_refused_within_the_limits() {
    let gateway = Gateway::start();
    let mut counted = 0;
    let plain = batch(&[event("u-1"), event("u-2")]);
    let wires = ["gzip", "deflate", "bare", "zstd"].map(|coding| (coding, coded(coding, plain.as_bytes())));
    let post = |coding: &str, wire: &[u8]| gateway.post("/ingest", &[("content-encoding", coding)], wire);
    for (coding, wire) in &wires {
        let name = coding.replace("bare", "deflate");
        let damaged = format!("the body is not valid {name}");
        for cut in [1, wire.len() / 3, wire.len() - 1] {
            refused("cut", &post(&name, &wire[..cut]), 400, &damaged);
        }
        for garbage in [b"\0".as_slice(), b"x", &[0; 512], b"[]", &wire[..wire.len() - 1], &[0xff; 100]] {
            refused("with something behind it", &post(&name, &[wire, garbage].concat()), 400, &damaged);
        }
        for other in ["gzip", "deflate", "zstd"].into_iter().filter(|other| *other != name) {
            refused("named otherwise", &post(other, wire), 400, "the body is not valid");
        }
        refused("not named", &gateway.post("/ingest", &[], wire), 400, "the body is not valid JSON");
        // Twice coded and once named: what comes out is no JSON.
        refused("nested", &post(&name, &coded(coding, wire)), 400, "the body is not valid JSON");
        goes_on(&gateway, &mut counted);
    }
    for window_log in [24, 27, 31, 41] {
        refused("a wide window", &post("zstd", &wide_window(window_log)), 400, "the body is not valid zstd with a window of at most 8 MiB");
    }
    post("zstd", &wide_window(23)).logged(0);
    // Members of nothing, and one of something.
    let members = [coded("gzip", b"").repeat(5_000), coded("gzip", batch(&[event_without_id()]).as_bytes())].concat();
    post("gzip", &members).logged(1);
    balances(&gateway, counted + 1, 0);
}

#[test]
fn bombs_are_refused_at_their_limits_and_cost_no_more_memory_than_that() {
    let gateway = Gateway::start();
    let mut counted = 0;
    let bombs: Vec<_> = ["gzip", "deflate", "zstd"]
        .into_iter()
        .flat_map(|coding| {
            let spaces = coded(coding, &vec![b' '; 4 << 20]);
            assert!(spaces.len() * 500 < 4 << 20, "{coding} makes {} bytes of it", spaces.len());
            let arrays = coded(coding, "[".repeat(2 << 20).as_bytes());
            [(coding, spaces), (coding, arrays)]
        })
        .collect();
    for (coding, bomb) in &bombs {
        let answer = gateway.post("/ingest", &[("content-encoding", *coding)], bomb);
        refused(coding, &answer, 413, "the body inflates to more than 100 times its size on the wire, the limit");
        refused(coding, &gateway.post("/usage", &[("content-encoding", *coding)], bomb), 413, "100 times");
        goes_on(&gateway, &mut counted);
    }
    std::thread::scope(|threads| {
        for (coding, bomb) in &bombs {
            let client = Client::clone(&gateway);
            threads.spawn(move || (0..20).for_each(|_| drop(client.post("/ingest", &[("content-encoding", *coding)], bomb).refused(413))));
        }
    });
    goes_on(&gateway, &mut counted);
    balances(&gateway, counted, 0);
}

#[test]
fn no_route_that_reads_a_body_breaks_on_poison() {
    let gateway = Gateway::start();
    gateway.send(&[event("u"), event("bad").value("\"1\"")]).logged(1).rejected(1);
    let routes =
        ["/usage", "/usage/batch", "/usage/sparse", "/customers", "/v1/reconcile", "/v1/keys", "/v1/accounts", "/v1/dead-letters/0/replay"];
    let bodies = no_json().into_iter().map(|(_, body)| body);
    let bodies: Vec<_> =
        bodies.chain(bad_events().into_iter().map(|(event, _)| event.into_bytes())).filter(|body| body.len() < 64 << 10).collect();
    for route in routes {
        for body in &bodies {
            let answer = gateway.post(route, &[], body);
            let is_verdict = route.ends_with("/replay") && answer.status == 200 && answer.json()["verdict"] == "rejected";
            assert!(
                [400, 413].contains(&answer.status) || is_verdict,
                "{route} {}: {}",
                String::from_utf8_lossy(&body[..body.len().min(200)]),
                answer.shown()
            );
            assert!(answer.json()["message"].is_string() || is_verdict, "{}", answer.shown());
        }
    }
    assert_eq!(gateway.usage("m").count(), 1);
    assert!(gateway.memory_peak_bytes() < MEMORY_MAX);
}

#[test]
fn a_question_of_many_customers_and_hours_is_refused_before_it_is_begun() {
    let gateway = Gateway::start();
    let customers: Vec<_> = (0..10_000).map(|at| format!("\"{at:x}\"")).collect();
    let ask = |interval: &str, hours: i64, customers: &[String]| {
        let (start, end) = (1_400_000_400, 1_400_000_400 + hours * 3_600);
        let range = format!(r#""startTimeInSeconds":{start},"endTimeInSeconds":{end}"#);
        let filter = customers.join(",");
        format!(r#"{{"meterApiName":"m","aggregation":"SUM","timeGroupingInterval":"{interval}",{range},"customerFilter":[{filter}]}}"#)
    };
    let words = "filter asks for more than 5000000 hours or days of customers, the limit";
    let large = ask("HOUR", 99_000, &customers);
    refused("one", &gateway.post("/usage", &[], &large), 400, words);
    refused("days", &gateway.post("/usage", &[], ask("DAY", 99_000, &customers)), 400, words);
    let some = ask("HOUR", 99_000, &customers[..40]);
    refused("together", &gateway.post("/usage/batch", &[], format!("[{some},{some}]")), 400, words);
    assert_eq!(gateway.post("/usage", &[], ask("DAY", 99, &customers)).status, 200);
    assert_eq!(gateway.post("/usage", &[], ask("HOUR", 9_000, &customers[..1])).status, 200);
}
