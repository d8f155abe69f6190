//! What is written down, anywhere, has no key in it.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::frames::{DATA, END_HEADERS, END_STREAM, Frames, HEADERS, SETTINGS, fields, frame};
use crate::harness::{ADMIN_KEY, Gateway, Setup, batch, event, wire};

/// All files below a directory.
fn files(below: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(below).expect("a directory").map(|entry| entry.expect("an entry"));
    entries.flat_map(|entry| if entry.file_type().expect("a type").is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}

/// Everything that a key can be sent with, over HTTP/1.1, each on a connection of its own; what was answered.
fn try_everywhere(gateway: &Gateway, key: &str) -> Vec<u8> {
    let mut answers = Vec::new();
    let body = batch(&[event("u-1"), event("bad").at(0)]);
    let paths = [
        "POST /ingest",
        "POST /usage",
        "POST /usage/batch",
        "GET /usage/all",
        "GET /customers",
        "POST /customers",
        "GET /v1/events",
        "GET /v1/events/u-1",
        "GET /v1/dead-letters",
        "POST /v1/reconcile",
        "GET /v1/keys",
        "POST /v1/keys",
        "GET /v1/accounts",
        "POST /v1/accounts",
        "GET /v1/audit",
        "DELETE /v1/keys/no-such-key",
        "GET /no/such/path",
        "BREW /ingest",
        "TRACE /ingest",
        "CONNECT tollgate:80",
        "GET /healthz",
        "GET /metrics",
    ];
    let framings = [
        format!("Content-Length: {}\r\n\r\n{body}", body.len()),
        "Content-Length: 2\r\n\r\n{}".into(),
        "Content-Length: x\r\n\r\n".into(),
        "Transfer-Encoding: xchunked\r\n\r\n".into(),
        "Transfer-Encoding: chunked\r\n\r\n-1\r\n".into(),
        "Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}".into(),
        "X: a\0b\r\n\r\n".into(),
    ];
    for header in [format!("X-API-KEY: {key}"), format!("Authorization: Bearer {key}"), format!("X-API-KEY: {key}\r\nX-API-KEY: {key}x")] {
        for path in paths {
            for framing in &framings {
                let mut wire = gateway.connect();
                wire.write(format!("{path} HTTP/1.1\r\nHost: tollgate\r\nConnection: close\r\n{header}\r\n{framing}"));
                drop(wire.stream().shutdown(std::net::Shutdown::Write));
                answers.extend(wire.rest());
            }
        }
    }
    answers
}

/// The same over HTTP/2: as a literal, in a table, and where it does not belong.
fn try_over_http2(gateway: &Gateway, key: &str) -> Vec<u8> {
    let mut frames = Frames::to(gateway.address(), &frame(SETTINGS, 0, 0, &[]));
    let begin = [(":method", "POST"), (":scheme", "http"), (":authority", "tollgate"), (":path", "/ingest")];
    let block = |more: &[(&str, &str)]| fields(&[&begin, more].concat());
    let bearer = format!("Bearer {key}");
    let heads = [
        block(&[("x-api-key", key)]),
        [block(&[]), super::frames::literal(0x40, "x-api-key", key)].concat(),
        block(&[("authorization", &bearer)]),
        block(&[("x-api-key", key), ("connection", "close")]),
        block(&[("x-api-key", key), ("x-api-key", "wrong")]),
        block(&[("x-api-key", key), ("content-length", "7")]),
    ];
    for (at, head) in heads.iter().enumerate() {
        let stream = at as u32 * 2 + 1;
        frames.write(frame(HEADERS, END_HEADERS, stream, head));
        frames.write(frame(DATA, END_STREAM, stream, event("u-1").json().as_bytes()));
    }
    // Its head is never at its end.
    frames.write(frame(HEADERS, 0, 101, &heads[0]));
    frames.write(frame(SETTINGS, 0, 0, &[0; 5]));
    frames.wait_for_end().data.into_iter().flat_map(|(_, data)| data).collect()
}

#[test]
fn no_key_is_ever_written_down() {
    for format in ["text", "json"] {
        let mut gateway = Setup::with(&format!("[logging]\nfilter = 'trace'\nformat = '{format}'")).variable("RUST_LOG", "trace").start();
        gateway.make_account("other");
        let made = [gateway.make_key("default", &["ingest", "read"]), gateway.make_key("other", &["admin"])];
        let revoked = gateway.make_key("default", &["admin"]);
        gateway.revoke(&revoked);
        let nearly = format!("{}x", made[0].text);
        let keys = [ADMIN_KEY, &made[0].text, &made[1].text, &revoked.text, &nearly, "a-key-that-nobody-has"];
        let mut seen = Vec::new();
        for key in keys {
            seen.extend(try_everywhere(&gateway, key));
            seen.extend(try_over_http2(&gateway, key));
        }
        gateway.with(&made[0]).send(&[event("u-2")]).logged(1);
        for path in
            ["/metrics", "/v1/keys", "/v1/keys?account=other", "/v1/accounts", "/v1/audit?limit=1000", "/v1/dead-letters", "/v1/events"]
        {
            seen.extend(gateway.get(path).text().as_bytes());
        }
        seen.extend(gateway.post("/v1/keys", &[], json!({"scopes": ["no-such-scope"]}).to_string()).text().as_bytes());
        gateway.stop();
        let stderr = gateway.stderr().into_bytes();
        assert!(stderr.len() > 100_000, "it was told to say everything");
        let mut places = vec![("an answer".to_owned(), seen), ("the log lines".to_owned(), stderr)];
        places.extend(files(&gateway.data_dir()).into_iter().map(|file| (file.display().to_string(), fs::read(&file).expect("readable"))));
        println!("{format}: {} places of {} bytes", places.len(), places.iter().map(|(_, bytes)| bytes.len()).sum::<usize>());
        for key in &keys[..5] {
            for (place, bytes) in &places {
                let found = memchr::memmem::find(bytes, key.as_bytes());
                let around =
                    found.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(200)..(at + 60).min(bytes.len())]).into_owned());
                assert_eq!(around, None, "{place}");
                assert!(memchr::memmem::find(bytes, secret(key)).is_none(), "the secret of a key is in {place}");
            }
        }
        // Ids are what one finds instead.
        assert!(memchr::memmem::find(&places[0].1, made[0].id.as_bytes()).is_some());
    }
    // And it can be found where it is.
    assert!(memchr::memmem::find(&wire::ingest(&[], "{}"), ADMIN_KEY.as_bytes()).is_some());
}

/// What is only in the key, not in its id.
fn secret(key: &str) -> &[u8] {
    key.rsplit_once('_').map_or(key, |(_, secret)| secret).as_bytes()
}
