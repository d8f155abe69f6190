//! The wire: HTTP/1.1 and HTTP/2, in the clear and over TLS, with every framing and coding that the contract has; and what
//! becomes of those who speak it badly.

mod http2;
pub(crate) mod tls;

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use crate::harness::{ADMIN_KEY, Client, Gateway, Setup, batch, event, wire};

fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes.as_ref()).expect("in memory");
    encoder.finish().expect("in memory")
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let gateway = Gateway::start();
    let mut wire = gateway.connect();
    let one = wire::ingest(&[], batch(&[event("u-1")]));
    let two = wire::ingest(&[], batch(&[event("u-2"), event("u-3")]));
    let bad = wire::ingest(&[], "{");
    wire.write([one.as_slice(), &two, &bad, &two, &one].concat());
    wire.answer().logged(1);
    wire.answer().logged(2);
    wire.answer().refused(400);
    wire.answer().logged(2);
    wire.answer().logged(1);
    assert_eq!(gateway.usage("m").count(), 3);
}

#[test]
fn a_connection_is_kept_and_closed_as_its_client_wants_it() {
    let gateway = Gateway::start();
    let mut kept = gateway.connect();
    for round in 0..3 {
        kept.write(wire::ingest(&[], event(&format!("u-{round}")).json()));
        kept.answer().logged(1);
    }
    kept.write(wire::ingest(&[("Connection", "close")], event("u-3").json()));
    kept.answer().logged(1);
    kept.expect_end();

    let mut old = gateway.connect();
    let request = String::from_utf8(wire::ingest(&[], event("u-4").json())).expect("text");
    old.write(request.replace("HTTP/1.1", "HTTP/1.0"));
    old.answer().logged(1);
    old.expect_end();
    assert_eq!(gateway.usage("m").count(), 5);
}

#[test]
fn a_body_may_come_in_chunks_of_any_size() {
    let gateway = Gateway::start();
    let mut wire = gateway.connect();
    let body = batch(&[event("u-1"), event("u-2")]);
    for chunk_bytes in [1, 7, 64, body.len()] {
        wire.write([wire::head(&[("Transfer-Encoding", "chunked")]), wire::chunked(&body, chunk_bytes)].concat());
        wire.answer().logged(2);
    }
    let with_trailer = wire::chunked(&body, 50);
    let with_trailer = [&with_trailer[..with_trailer.len() - 2], b"Checksum: 7\r\n\r\n"].concat();
    wire.write([wire::head(&[("Transfer-Encoding", "chunked"), ("Trailer", "Checksum")]), with_trailer].concat());
    wire.answer().logged(2);
    assert_eq!(gateway.usage("m").count(), 2);
}

#[test]
fn a_body_without_a_length_has_the_same_limit() {
    let gateway = Setup::with("[ingest]\nbody_bytes_max = 1000").start();
    let mut wire = gateway.connect();
    wire.write([wire::head(&[("Transfer-Encoding", "chunked")]), wire::chunked(event("u-1").padded_to(1_000).json(), 300)].concat());
    wire.answer().logged(1);
    wire.write([wire::head(&[("Transfer-Encoding", "chunked")]), wire::chunked(event("u-2").padded_to(1_001).json(), 300)].concat());
    wire.answer().refused(413);
    assert_eq!(gateway.usage("m").count(), 1);
}

#[test]
fn a_head_and_a_body_may_come_byte_by_byte() {
    let gateway = Gateway::start();
    let mut wire = gateway.connect();
    for byte in wire::ingest(&[], event("u-1").json()) {
        wire.write([byte]);
    }
    wire.answer().logged(1);
}

#[test]
fn a_client_that_asks_whether_to_continue_is_told() {
    let gateway = Gateway::start();
    let mut wire = gateway.connect();
    let body = event("u-1").json();
    wire.write(wire::head(&[("Expect", "100-continue"), ("Content-Length", &body.len().to_string())]));
    assert_eq!(wire.answer().status, 100);
    wire.write(body);
    wire.answer().logged(1);

    // What is refused by its head is refused before its body.
    let head = |headers: &[(&str, &str)]| wire::head(&[headers, &[("Expect", "100-continue")]].concat());
    let keyless = String::from_utf8(head(&[("Content-Length", "100")])).expect("text").replace(ADMIN_KEY, "unknown");
    for (head, status) in [
        (head(&[("Content-Length", "100"), ("Content-Encoding", "br")]), 415),
        (head(&[("Content-Length", "9000000")]), 413),
        (keyless.into_bytes(), 401),
    ] {
        let mut wire = gateway.connect();
        wire.write(head);
        wire.answer().refused(status);
    }
}

#[test]
fn an_answer_that_comes_before_the_body_says_whether_the_connection_goes_on() {
    let gateway = Gateway::start();
    let body = event("u-1").json();
    let length = body.len().to_string();
    let next = wire::ingest(&[], &body);
    let stranger = String::from_utf8(wire::head(&[("Content-Length", &length)])).expect("text").replace(ADMIN_KEY, "unknown");
    for (head, status) in [
        (wire::head(&[("Content-Length", &length), ("Content-Encoding", "br")]), 415),
        (stranger.clone().into_bytes(), 401),
        (stranger.replace("/ingest", "/usage").into_bytes(), 401),
        (stranger.replace("POST /ingest", "PUT /ingest").into_bytes(), 405),
    ] {
        let mut wire = gateway.connect();
        wire.write(head);
        // A client whose head and body are two packets: the answer may come between them, or wait for the body.
        let early = if wire.has_something_to_read() { Some(wire.answer().refused(status)) } else { None };
        wire.write(&body);
        let answer = early.unwrap_or_else(|| wire.answer().refused(status));
        if answer.header("connection") != Some("close") {
            wire.write(&next);
            let answer = wire.next_answer().unwrap_or_else(|| panic!("the {status} did not say that it was the last answer"));
            answer.logged(1);
        }
    }
}

#[test]
fn a_body_in_every_coding_of_the_contract_is_taken() {
    let gateway = Gateway::start();
    let body = batch(&[event("u-1"), event("u-2")]);
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(body.as_bytes()).expect("in memory");
    let mut bare = DeflateEncoder::new(Vec::new(), Compression::fast());
    bare.write_all(body.as_bytes()).expect("in memory");
    let bare = bare.finish().expect("in memory");
    let zstd = zstd::encode_all(body.as_bytes(), 3).expect("in memory");
    let members = [gzip(&body[..50]), gzip(&body[50..])].concat();
    let coded: [(&str, &[u8]); 9] = [
        ("gzip", &gzip(&body)),
        ("x-gzip", &gzip(&body)),
        ("GZIP", &members),
        ("deflate", &zlib.finish().expect("in memory")),
        ("deflate", &bare),
        ("zstd", &zstd),
        ("Zstd", &zstd),
        ("identity", body.as_bytes()),
        ("", body.as_bytes()),
    ];
    for (coding, bytes) in coded {
        gateway.post("/ingest", &[("content-encoding", coding)], bytes).logged(2);
        let mut wire = gateway.connect();
        wire.write([wire::head(&[("Transfer-Encoding", "chunked"), ("Content-Encoding", coding)]), wire::chunked(bytes, 11)].concat());
        wire.answer().logged(2);
    }
    assert_eq!(gateway.usage("m").count(), 2);
    // Other requests, too.
    let question = r#"{"meterApiName":"m","aggregation":"COUNT","timeGroupingInterval":"DAY","startTimeInSeconds":0,"endTimeInSeconds":1}"#;
    assert_eq!(gateway.post("/usage", &[("content-encoding", "gzip")], gzip(question)).status, 200);
}

#[test]
fn a_body_in_another_coding_is_refused() {
    let gateway = Gateway::start();
    for coding in ["br", "compress", "gzip, gzip", "gzip;q=1", "x-unknown"] {
        gateway.post("/ingest", &[("content-encoding", coding)], gzip("[]")).refused(415);
    }
    gateway.post("/ingest", &[("content-encoding", "gzip"), ("content-encoding", "zstd")], gzip("[]")).refused(415);
    gateway.post("/usage", &[("content-encoding", "br")], "{}").refused(415);
}

#[test]
fn a_damaged_body_is_refused_and_nothing_of_it_is_stored() {
    let gateway = Gateway::start();
    let events: Vec<_> = (0..50).map(|at| event(&format!("u-{at}"))).collect();
    let plain = batch(&events);
    let whole = gzip(&plain);
    let mut flipped = whole.clone();
    let last = flipped.len() - 1;
    flipped[last - 8] ^= 0xff;
    let zstd = zstd::encode_all(plain.as_bytes(), 3).expect("in memory");
    let damaged: [(&str, &[u8]); 8] = [
        ("gzip", &whole[..last]),
        ("gzip", &whole[..whole.len() / 2]),
        ("gzip", &flipped),
        ("gzip", plain.as_bytes()),
        ("gzip", &[]),
        ("zstd", &zstd[..zstd.len() - 1]),
        ("zstd", &whole),
        ("deflate", &whole),
    ];
    for (coding, bytes) in damaged {
        gateway.post("/ingest", &[("content-encoding", coding)], bytes).refused(400);
    }
    assert_eq!(gateway.usage("m").count(), 0);
}

#[test]
fn a_body_that_inflates_too_far_is_refused() {
    let gateway = Setup::with("[ingest]\nbody_bytes_max = 100_000\ninflated_bytes_max = 200_000").start();
    let padded = |bytes: usize| format!("{}{}", event("u-1").json(), " ".repeat(bytes - event("u-1").json().len()));
    // Small enough that its ratio does not matter.
    gateway.post("/ingest", &[("content-encoding", "gzip")], gzip(padded(60_000))).logged(1);
    insta::assert_snapshot!(
        "the_ratio",
        gateway.post("/ingest", &[("content-encoding", "gzip")], gzip(padded(150_000))).refused(413).shown()
    );
    // Digits: less than half of their size, far from a hundredth of it.
    let digits: String = (0..45_000).map(|at: u64| format!("{:05}", at.wrapping_mul(2_654_435_761) % 100_000)).collect();
    let long = event("u-2").raw("padding", &format!("\"{digits}\"")).json();
    assert!(gzip(&long).len() < 150_000 && long.len() > 200_000);
    let coded = zstd::encode_all(long.as_bytes(), 19).expect("in memory");
    for (coding, bytes) in [("gzip", gzip(&long)), ("zstd", coded)] {
        gateway.post("/ingest", &[("content-encoding", coding)], bytes).refused(413);
    }
    assert_eq!(gateway.usage("m").count(), 1);
}

#[test]
fn the_same_path_in_every_spelling_is_the_same_endpoint() {
    let gateway = Gateway::start();
    for path in
        ["/ingest", "/ingest/", "//ingest", "/ingest?x=1", "/ingest/?", "/amberflo/ingest", "/amberflo/ingest/", "/amberflo//ingest"]
    {
        gateway.post(path, &[], event("u-1").json()).logged(1);
    }
    for path in ["/ingest/x", "/Ingest", "/amberfloingest", "/octane/ingest"] {
        gateway.post(path, &[], event("u-1").json()).refused(404);
    }
    let refused = gateway.get("/ingest").refused(405);
    assert_eq!(refused.header("allow"), Some("POST"));
}

#[test]
fn a_key_comes_in_either_header_and_nobody_gets_in_without_one() {
    let gateway = Gateway::start();
    let nobody = Client::with_key(&gateway, None);
    let body = event("u-1").json();
    let key = ADMIN_KEY;
    for authorization in [format!("Bearer {key}"), format!("bearer {key}"), format!("Bearer  {key} ")] {
        nobody.post("/ingest", &[("authorization", &authorization)], &body).logged(1);
    }
    for authorization in [
        key.to_owned(),
        format!("Basic {key}"),
        "Bearer".into(),
        "Bearer ".into(),
        format!("Bearer {key}x"),
        format!("Bearer {}", &key[1..]),
    ] {
        nobody.post("/ingest", &[("authorization", &authorization)], &body).refused(401);
    }
    nobody.post("/ingest", &[("x-api-key", "")], &body).refused(401);
    for path in ["/usage", "/usage/batch", "/customers", "/v1/dead-letters", "/no/such/path"] {
        nobody.post(path, &[], "{}").refused(401);
        nobody.get(path).refused(401);
    }
}

#[test]
fn health_and_metrics_need_no_key() {
    let gateway = Gateway::start();
    let nobody = Client::with_key(&gateway, None);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(nobody.get(path).status, 200, "{path}");
    }
    assert_eq!((nobody.get("/healthz").text(), nobody.get("/readyz").text()), ("ok\n", "ready\n"));
    assert!(nobody.get("/metrics").text().contains("# TYPE tollgate_http_connections gauge"));
}

#[test]
fn health_and_metrics_on_an_address_of_their_own_are_served_only_there() {
    let gateway = Setup::default().ops_listener().start();
    let nobody = Client::with_key(&gateway, None);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(nobody.get(path).status, 200, "{path}");
        nobody.get_from_main(path).refused(401);
        gateway.get_from_main(path).refused(404);
    }
    gateway.send(&[event("u-1")]).logged(1);
    assert_eq!(gateway.settled_metrics().verdict("counted"), 1);
}

#[test]
fn where_health_and_metrics_have_an_address_of_their_own_nothing_else_is_served_there() {
    let gateway = Setup::default().ops_listener().start();
    for request in ["POST /ingest", "POST /usage", "GET /usage/all", "GET /customers", "GET /v1/dead-letters", "GET /v1/events", "GET /"] {
        let ingest = String::from_utf8(wire::ingest(&[], event("u-1").json())).expect("text");
        let mut wire = wire::Wire::to(gateway.ops_address());
        wire.write(ingest.replace("POST /ingest", request));
        wire.answer().refused(404);
    }
    assert_eq!(gateway.settled_metrics().outcome("logged"), 0);
}

#[test]
fn a_flood_of_headers_is_refused() {
    let gateway = Gateway::start();
    for flood in [
        (0..1_000).map(|at| format!("X-{at}: 1\r\n")).collect::<String>(),
        format!("X-Long: {}\r\n", "x".repeat(1 << 20)),
        (0..90).map(|at| format!("X-{at}: {}\r\n", "x".repeat(16 << 10))).collect(),
    ] {
        let mut wire = gateway.connect();
        wire.write(format!("POST /ingest HTTP/1.1\r\nHost: tollgate\r\nContent-Length: 0\r\n{flood}\r\n"));
        if let Some(answer) = wire.next_answer() {
            answer.refused(431);
        }
        wire.expect_end();
    }
    gateway.send(&[event("u-1")]).logged(1);
}

/// What two readers of a request could take for two different requests.
fn smuggled() -> Vec<String> {
    let hidden = "GET /healthz HTTP/1.1\r\nHost: hidden\r\n\r\n";
    let key = ADMIN_KEY;
    let start = format!("POST /ingest HTTP/1.1\r\nHost: tollgate\r\nX-API-KEY: {key}\r\n");
    let framings = [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 5 + hidden.len()),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {}\r\n\r\n0\r\n\r\n", 5 + hidden.len()),
        format!("Content-Length: 0\r\nContent-Length: {}\r\n\r\n", hidden.len()),
        format!("Content-Length: {}\r\nContent-Length: 0\r\n\r\n", hidden.len()),
        format!("Content-Length: 0, {}\r\n\r\n", hidden.len()),
        "Content-Length: +0\r\n\r\n".into(),
        "Content-Length: -1\r\n\r\n".into(),
        "Content-Length: 0x0\r\n\r\n".into(),
        "Content-Length : 0\r\n\r\n".into(),
        "Content-Length: 18446744073709551616\r\n\r\n".into(),
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n".into(),
        "Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n".into(),
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n".into(),
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n".into(),
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n".into(),
        "Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n".into(),
        "Transfer-Encoding: chunked\r\n\r\n1\r\n[]\r\n0\r\n\r\n".into(),
        "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n[]\r\n0\r\n\r\n".into(),
        "X: 1\r\n Content-Length: 0\r\n\r\n".into(),
    ];
    framings.iter().map(|framing| format!("{start}{framing}{hidden}")).collect()
}

#[test]
fn a_request_that_can_be_read_in_two_ways_ends_the_connection() {
    let gateway = Gateway::start();
    for request in smuggled() {
        let mut wire = gateway.connect();
        wire.write(&request);
        if let Some(answer) = wire.next_answer() {
            assert_eq!(answer.status, 400, "{request}\n{}", answer.shown());
        }
        // Above all, nobody answers what is hidden in it.
        wire.expect_end();
    }
    gateway.send(&[event("u-1")]).logged(1);
}

/// Expects that a connection that begins like this, and does not go on, is closed by the server.
#[track_caller]
fn expect_to_be_closed(begin: &str) {
    let gateway = Setup::with("[http]\nheader_timeout = '300ms'").start();
    let mut wire = gateway.connect().patient_for(Duration::from_secs(10));
    wire.write(begin);
    if let Some(answer) = wire.next_answer() {
        answer.refused(408);
    }
    wire.expect_end();
    gateway.send(&[event("u-1")]).logged(1);
}

#[test]
fn a_head_that_does_not_come_in_time_ends_the_connection() {
    for begin in ["PO", "POST /ingest HTTP/1.1\r\n", "POST /ingest HTTP/1.1\r\nHost: tollgate\r\nX-API-KEY:"] {
        expect_to_be_closed(begin);
    }
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    expect_to_be_closed("");
}

#[test]
fn a_connection_that_only_begins_like_http2_is_closed() {
    expect_to_be_closed("PRI * HTTP/2.0\r\n");
}

#[test]
fn a_head_that_drips_in_ends_the_connection() {
    let gateway = Setup::with("[http]\nheader_timeout = '300ms'").start();
    let mut wire = gateway.connect();
    wire.write("POST /ingest HTTP/1.1\r\n");
    for at in 0..3_000 {
        if wire.has_something_to_read() {
            break;
        }
        wire.write(format!("X-{at}: 1\r\n"));
    }
    if let Some(answer) = wire.next_answer() {
        answer.refused(408);
    }
    wire.expect_end();
}

#[test]
fn a_body_that_does_not_come_in_time_is_refused() {
    let gateway = Setup::with("[http]\nbody_idle_timeout = '300ms'\nbody_timeout = '1s'").start();
    let body = event("u-1").json();
    let head = wire::head(&[("Content-Length", &body.len().to_string())]);
    let mut stalled = gateway.connect();
    stalled.write([&head, &body.as_bytes()[..50]].concat());
    insta::assert_snapshot!(stalled.answer().refused(408).shown());
    stalled.expect_end();

    // Never idle for long, but slow all the same.
    let mut dripping = gateway.connect();
    dripping.write(wire::head(&[("Content-Length", "100000")]));
    for _ in 0..3_000 {
        if dripping.has_something_to_read() {
            break;
        }
        dripping.write(" ");
    }
    dripping.answer().refused(408);
    dripping.expect_end();
    assert_eq!(gateway.usage("m").count(), 0);
}

#[test]
fn what_is_no_http_ends_the_connection() {
    let gateway = Gateway::start();
    let tls_hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    for noise in
        [b"\0\0\0\0\r\n\r\n".as_slice(), b"HELO tollgate\r\n\r\n", &tls_hello, b"GET / HTTP/9.9\r\n\r\n", b"POST  HTTP/1.1\r\n\r\n"]
    {
        let mut wire = gateway.connect();
        wire.write(noise);
        if let Some(answer) = wire.next_answer() {
            answer.refused(400);
        }
        wire.expect_end();
    }
    gateway.send(&[event("u-1")]).logged(1);
}
