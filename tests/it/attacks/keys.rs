//! Keys that are nearly right, too many, or of strange bytes.

use super::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, SETTINGS, fields, frame};
use crate::harness::{ADMIN_KEY, Gateway, event, wait_for, wire};

/// A `POST /ingest` with these headers and no other key.
fn ingest(headers: &[u8], body: &str) -> Vec<u8> {
    let begin = format!("POST /ingest HTTP/1.1\r\nHost: tollgate\r\nContent-Length: {}\r\n", body.len());
    [begin.as_bytes(), headers, b"\r\n", body.as_bytes()].concat()
}

#[test]
fn a_request_with_two_keys_has_none_and_who_has_one_is_judged_by_it() {
    let gateway = Gateway::start();
    let other = gateway.make_key("default", &["ingest"]).text;
    let (key, other) = (ADMIN_KEY, other.as_str());
    let cases = [
        (format!("X-API-KEY: {key}\r\nX-API-KEY: {other}\r\n"), 401),
        (format!("X-API-KEY: {key}\r\nx-api-key: wrong\r\n"), 401),
        (format!("X-API-KEY: wrong\r\nX-API-KEY: {key}\r\n"), 401),
        (format!("X-API-KEY: {key}\r\nX-API-KEY:\r\n"), 401),
        (format!("X-API-KEY: {key}, {other}\r\n"), 401),
        (format!("X-API-KEY: {key}\r\nX-API-KEY: {key}\r\n"), 200),
        (format!("Authorization: Bearer {key}\r\nAuthorization: Bearer {other}\r\n"), 401),
        (format!("Authorization: Bearer {key}\r\nAuthorization: Basic {other}\r\n"), 401),
        // Documented: X-API-KEY decides, whatever Authorization is about.
        (format!("X-API-KEY: {key}\r\nAuthorization: Bearer wrong\r\n"), 200),
        (format!("Authorization: Bearer wrong\r\nX-API-KEY: {key}\r\n"), 200),
        (format!("X-API-KEY: wrong\r\nAuthorization: Bearer {key}\r\n"), 401),
        (format!("X-API-KEY:\r\nAuthorization: Bearer {key}\r\n"), 401),
        (format!("X-API-KEY: {key}\r\nAuthorization: Basic eDp5\r\n"), 200),
    ];
    for (headers, status) in cases {
        let mut wire = gateway.connect();
        wire.write(ingest(headers.as_bytes(), &event(&headers).json()));
        assert_eq!(wire.answer().status, status, "{headers}");
    }
    assert_eq!(gateway.usage("m").count(), 4);
}

#[test]
fn a_key_is_its_bytes_and_nothing_more_or_less() {
    let gateway = Gateway::start();
    let key = gateway.make_key("default", &["ingest"]);
    let text = key.text.as_bytes();
    let with = |behind: &[u8]| [text, behind].concat();
    let wrong: Vec<Vec<u8>> = vec![
        with(b"x"),
        with(b"\xc3\xa9"),
        with(b"\xff"),
        with(b" x"),
        with(b"%00"),
        with(b","),
        with(&b"x".repeat(20_000)),
        text[..text.len() - 1].to_vec(),
        text[1..].to_vec(),
        [b"\xef\xbb\xbf", text].concat(),
        [b"\"", text, b"\""].concat(),
        [text, text].concat(),
        key.id.clone().into_bytes(),
        "schlüssel".as_bytes().to_vec(),
        b"\xff\xfe\x80".to_vec(),
    ];
    for wrong in wrong {
        for name in ["X-API-KEY: ", "Authorization: Bearer "] {
            let mut wire = gateway.connect();
            wire.write(ingest(&[name.as_bytes(), &wrong, b"\r\n"].concat(), &event("u-1").json()));
            let refused = wire.answer().refused(401);
            assert!(!refused.text().contains(&key.text), "{}", refused.shown());
        }
    }
    // What no header may have in it ends the connection.
    for behind in [&b"\0"[..], b"\rx", b"\x7f"] {
        let mut wire = gateway.connect();
        wire.write(ingest(&[b"X-API-KEY: ", text, behind, b"\r\n"].concat(), &event("u-1").json()));
        wire.answer().refused(400);
        wire.expect_end();
    }
    // White space around a value is not part of it.
    let mut wire = gateway.connect();
    wire.write(ingest(&[b"X-API-KEY: \t ", text, b" \t\r\n"].concat(), &event("u-1").json()));
    wire.answer().logged(1);
}

#[test]
fn a_key_that_is_revoked_while_its_streams_are_open_is_out_on_all_of_them() {
    let gateway = Gateway::start();
    let key = gateway.make_key("default", &["ingest"]);
    let head = fields(&[(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/ingest"), ("x-api-key", &key.text)]);
    let mut frames = Frames::to(gateway.address(), &frame(SETTINGS, 0, 0, &[]));
    let body = event("u-1").json();
    let (begin, rest) = body.as_bytes().split_at(20);
    for stream in [1, 3, 5] {
        frames.write([frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, 0, stream, begin)].concat());
    }
    wait_for("the bodies to be read", || (gateway.metrics().total("tollgate_in_flight_bytes", &[]) > 0.0).then_some(()));
    gateway.revoke(&key);
    for stream in [1, 3, 5] {
        frames.write(frame(DATA, END_STREAM, stream, rest));
    }
    frames.write([frame(HEADERS, END_HEADERS, 7, &head), frame(DATA, END_STREAM, 7, body.as_bytes())].concat());
    let heard = frames.end_after(&[1, 3, 5, 7]);
    assert_eq!(heard.answered.len(), 4, "{heard:?}");
    assert!(heard.data.iter().all(|(_, data)| !data.starts_with(b"1 records")), "{heard:?}");
    assert_eq!(gateway.usage("m").count(), 0);
    let mut kept = gateway.connect();
    kept.write(wire::ingest(&[], &body));
    kept.answer().logged(1);
}
