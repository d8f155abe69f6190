//! HTTP/2: floods, resets, windows that never open, heads that inflate, frames that are none.

use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frames, GOAWAY, HEADERS, Heard, PADDED, PING, PRIORITY,
    PROTOCOL_ERROR, PUSH_PROMISE, REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE, fields, frame, get, head, ingest, literal, post,
    setting,
};
use super::{wait_until_connections_are_gone, while_others_are_served};
use crate::harness::{Gateway, Setup, event, wait_for, wide_event};

const CANCEL: [u8; 4] = [0, 0, 0, 8];
const ONE: [u8; 4] = [0, 0, 0, 1];
const INITIAL_WINDOW_SIZE: u16 = 4;
/// What a process may grow by under an attack that stores nothing: some buffers of one connection, and what an allocator keeps.
const SOME_MIB: u64 = 48;

/// A frame that breaks the protocol in a stream.
type Break = fn(u32) -> Vec<u8>;

fn greeted(gateway: &Gateway) -> Frames {
    Frames::to(gateway.address(), &frame(SETTINGS, 0, 0, &[]))
}

#[track_caller]
fn expect_calm_demanded(heard: &Heard) {
    assert!(heard.has_ended);
    assert_eq!(heard.goaway, Some(ENHANCE_YOUR_CALM), "{heard:?}");
}

#[test]
fn streams_that_are_reset_as_fast_as_they_are_opened_end_the_connection() {
    let gateway = Gateway::start();
    let heard = while_others_are_served(&gateway, "rapid reset", SOME_MIB, || {
        let mut frames = greeted(&gateway);
        for round in 0..200 {
            let streams = (0..100).map(|at| (round * 100 + at) * 2 + 1);
            let opened_and_reset = streams.flat_map(|stream| [get(stream, "/v1/events"), frame(RST_STREAM, 0, stream, &CANCEL)]);
            if !frames.write(opened_and_reset.collect::<Vec<_>>().concat()) {
                break;
            }
        }
        frames.wait_for_end()
    });
    expect_calm_demanded(&heard);
}

#[test]
fn streams_that_the_server_has_to_reset_end_the_connection() {
    let gateway = Gateway::start();
    // Each of these breaks the protocol in one stream, whose request has begun.
    let breaks: [(&str, Break); 3] = [
        ("made you reset: window", |stream| frame(WINDOW_UPDATE, 0, stream, &[0; 4])),
        ("made you reset: overflow", |stream| frame(WINDOW_UPDATE, 0, stream, &[0x7f, 0xff, 0xff, 0xff])),
        ("made you reset: length", |stream| frame(DATA, END_STREAM, stream, b"")),
    ];
    for (name, broken) in breaks {
        let heard = while_others_are_served(&gateway, name, SOME_MIB, || {
            let mut frames = greeted(&gateway);
            for round in 0..50 {
                let streams = (0..100).map(|at| (round * 100 + at) * 2 + 1);
                let head = head("POST", "/ingest", &[("content-length", "10")]);
                let begun = streams.flat_map(|stream| [frame(HEADERS, END_HEADERS, stream, &head), broken(stream)]);
                if !frames.write(begun.collect::<Vec<_>>().concat()) {
                    break;
                }
            }
            frames.wait_for_end()
        });
        // Some of these are errors of the connection for h2.
        assert!(heard.has_ended && heard.goaway.is_some_and(|code| code != 0), "{name}: {heard:?}");
    }
    assert_eq!(gateway.metrics().outcome("rejected"), 0);
}

#[test]
fn a_head_that_never_ends_ends_the_connection() {
    let gateway = Gateway::start();
    for (name, piece) in [("continuation flood", fields(&[("x", &"y".repeat(1_000))])), ("empty continuation flood", Vec::new())] {
        let heard = while_others_are_served(&gateway, name, SOME_MIB, || {
            let mut frames = greeted(&gateway);
            frames.write(frame(HEADERS, END_STREAM, 1, &head("GET", "/v1/events", &[])));
            frames.flood(100_000, frame(CONTINUATION, 0, 1, &piece));
            frames.wait_for_end()
        });
        assert!(heard.has_ended && heard.goaway.is_some() && heard.answered.is_empty(), "{name}: {heard:?}");
    }
}

#[test]
fn frames_that_ask_for_nothing_do_not_go_on_for_ever() {
    let gateway = Gateway::start();
    let floods = [
        ("settings flood", setting(INITIAL_WINDOW_SIZE, 65_535)),
        ("empty settings flood", frame(SETTINGS, 0, 0, &[])),
        ("ping flood", frame(PING, 0, 0, &[7; 8])),
        ("pong flood", frame(PING, ACK, 0, &[7; 8])),
        ("priority flood", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        ("window flood", frame(WINDOW_UPDATE, 0, 0, &ONE)),
        ("unknown flood", frame(0xee, 0, 0, &[0; 100])),
        ("empty data flood", frame(DATA, 0, 1, &[])),
        ("padding flood", frame(DATA, PADDED, 1, &[100; 101])),
    ];
    for (name, dropped) in floods {
        let (written, heard) = while_others_are_served(&gateway, name, SOME_MIB, || {
            let mut frames = greeted(&gateway);
            if name.contains("data") || name.contains("padding") {
                frames.write(post(1));
            } else {
                frames.write(ingest(1, &event("flood").json()));
            }
            (frames.flood(2_000_000, &dropped), frames.wait_for_end())
        });
        println!("{name}: ended within {written} frames, {:?}", heard.goaway);
        assert!(heard.has_ended && written < 2_000_000, "{name}: {heard:?}");
    }
    wait_until_connections_are_gone(&gateway, 3.0);
}

#[test]
fn a_head_that_inflates_is_refused() {
    let gateway = Gateway::start();
    let heard = while_others_are_served(&gateway, "HPACK bomb", SOME_MIB, || {
        let mut frames = greeted(&gateway);
        // An entry of almost the whole table, then a reference to it in each byte.
        let entry = literal(0x40, "x", &"y".repeat(4_000));
        for round in 0..100 {
            let mut block = head("GET", "/v1/events", &[]);
            if round == 0 {
                block.extend(&entry);
            }
            block.extend([0xbe; 12_000]);
            if !frames.write(frame(HEADERS, END_STREAM | END_HEADERS, round * 2 + 1, &block)) {
                break;
            }
        }
        frames.wait_for_end()
    });
    assert!(heard.has_ended && heard.goaway == Some(ENHANCE_YOUR_CALM), "{heard:?}");
    // Large, but not by far too large: refused, and the connection goes on.
    let mut frames = greeted(&gateway);
    let large = head("GET", "/v1/events", &(0..5).map(|_| ("x", "")).collect::<Vec<_>>());
    let padding = fields(&[("x", &"y".repeat(12_000))]);
    frames.write(frame(HEADERS, END_STREAM, 1, &large));
    for _ in 0..2 {
        frames.write(frame(CONTINUATION, 0, 1, &padding));
    }
    frames.write(frame(CONTINUATION, END_HEADERS, 1, &padding));
    frames.write(get(3, "/healthz"));
    let heard = frames.end_after(&[1, 3]);
    assert_eq!((heard.answered.as_slice(), heard.goaway), ([1, 3].as_slice(), None), "{heard:?}");
    assert!(heard.data.iter().all(|(stream, _)| *stream == 3), "stream 1 has a status and nothing else");
}

#[test]
fn streams_past_the_limit_are_refused_and_those_that_never_end_are_given_up() {
    let gateway = Setup::with("[http]\nbody_idle_timeout = '1s'").start();
    let heard = while_others_are_served(&gateway, "endless streams", SOME_MIB, || {
        let mut frames = greeted(&gateway);
        for at in 0..300 {
            frames.write(post(at * 2 + 1));
        }
        // The last one is refused, too.
        frames.write(ingest(601, &event("refused").json()));
        wait_for("the streams to be given up", || {
            let requests = gateway.metrics().total("tollgate_http_requests_total", &[("status", "408")]);
            (requests >= 200.0).then_some(())
        });
        frames.write(ingest(603, &event("later").json()));
        frames.end_after(&[603])
    });
    let refused = heard.reset.iter().filter(|(_, code)| *code == REFUSED_STREAM).count();
    assert_eq!(refused, 101, "{:?}", heard.reset);
    assert!(heard.answered.contains(&603) && !heard.answered.contains(&601), "{:?}", heard.answered);
}

#[test]
fn a_window_that_never_opens_holds_no_more_than_the_room_for_answers_and_not_for_long() {
    let gateway = Setup::with("[http]\nanswer_idle_timeout = '2s'").start();
    let bad: Vec<_> = (0..15).map(|at| wide_event(&format!("bad-{at}")).at(0)).collect();
    gateway.send(&[bad.as_slice(), &[event("u-1")]].concat()).logged(1).rejected(15);
    let bytes = gateway.get("/v1/dead-letters").text().len();
    assert!(bytes > 600_000, "{bytes}");
    // 400 of these are twice the room.
    let heard = while_others_are_served(&gateway, "closed windows", 128 + 160, || {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                let mut frames = Frames::to(gateway.address(), &setting(INITIAL_WINDOW_SIZE, 0));
                frames.write((0..200).flat_map(|at| get(at * 2 + 1, "/v1/dead-letters")).collect::<Vec<_>>());
                frames
            })
            .collect();
        clients.into_iter().map(Frames::wait_for_end).collect::<Vec<_>>()
    });
    for heard in &heard {
        assert!(heard.has_ended && heard.data.iter().all(|(_, data)| data.is_empty()), "{:?}", heard.goaway);
        assert_eq!(heard.asked, 0, "it ended long before anybody asks whether the client is there");
    }
    wait_until_connections_are_gone(&gateway, 3.0);
    assert_eq!(gateway.get("/v1/dead-letters").text().len(), bytes, "there is room again");
    wait_for("all room to be given back", || (gateway.metrics().total("tollgate_answer_bytes", &[]) == 0.0).then_some(()));
}

#[test]
fn frames_that_break_the_protocol_end_the_connection_or_their_stream() {
    let gateway = Gateway::start();
    let connection_errors = [
        ("a head on stream 0", frame(HEADERS, END_STREAM | END_HEADERS, 0, &head("GET", "/healthz", &[]))),
        ("a head on an even stream", get(2, "/healthz")),
        ("data on a stream that is not open", frame(DATA, END_STREAM, 1, b"x")),
        ("data on stream 0", frame(DATA, 0, 0, b"x")),
        ("a reset of a stream that is not open", frame(RST_STREAM, 0, 1, &CANCEL)),
        ("a reset of stream 0", frame(RST_STREAM, 0, 0, &CANCEL)),
        ("settings of 5 bytes", frame(SETTINGS, 0, 0, &[0; 5])),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        ("acknowledged settings with settings", frame(SETTINGS, ACK, 0, &[0, 4, 0, 0, 0, 0])),
        ("an initial window of 2^31", setting(INITIAL_WINDOW_SIZE, 1 << 31)),
        ("a frame size of 1", setting(5, 1)),
        ("a push that is neither on nor off", setting(2, 2)),
        ("a ping of 7 bytes", frame(PING, 0, 0, &[0; 7])),
        ("a ping on a stream", frame(PING, 0, 1, &[0; 8])),
        ("a window that grows by 0", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a window past 2^31", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff])),
        ("a frame past the size", frame(DATA, 0, 1, &vec![0; 20_000])),
        ("a push", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2])),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &[])),
        ("another frame inside a head", [frame(HEADERS, 0, 1, &[]), frame(PING, 0, 0, &[0; 8])].concat()),
        ("more padding than frame", frame(HEADERS, END_HEADERS | PADDED, 1, &[200, 0, 0])),
        ("a goaway on a stream", frame(GOAWAY, 0, 1, &[0; 8])),
        ("a field that is in no table", frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff, 0xff, 0xff, 0x7f])),
        ("HTTP/1.1", b"GET /healthz HTTP/1.1\r\nHost: tollgate\r\n\r\n".to_vec()),
    ];
    for (name, bytes) in connection_errors {
        let mut frames = greeted(&gateway);
        frames.write(&bytes);
        let heard = frames.wait_for_end();
        assert!(heard.has_ended && heard.answered.is_empty(), "{name}: {heard:?}");
        assert!(heard.goaway.is_some_and(|code| code != 0), "{name}: {heard:?}");
    }
    let pseudo = |fields_of: &[(&str, &str)]| frame(HEADERS, END_STREAM | END_HEADERS, 1, &fields(fields_of));
    let with = |name: &str, value: &str| frame(HEADERS, END_STREAM | END_HEADERS, 1, &head("GET", "/healthz", &[(name, value)]));
    let stream_errors = [
        ("a name in capitals", with("X-Y", "z")),
        ("a connection header", with("connection", "close")),
        ("a transfer coding", with("transfer-encoding", "chunked")),
        ("a pseudo header behind others", with(":path", "/metrics")),
        ("a pseudo header that there is not", with(":status", "200")),
        ("no path", pseudo(&[(":method", "GET"), (":scheme", "http"), (":authority", "tollgate")])),
        ("an empty path", pseudo(&[(":method", "GET"), (":scheme", "http"), (":authority", "tollgate"), (":path", "")])),
        ("no method", pseudo(&[(":scheme", "http"), (":path", "/healthz")])),
        ("two methods", pseudo(&[(":method", "GET"), (":method", "GET"), (":scheme", "http"), (":path", "/healthz")])),
        ("a line feed in a value", with("x", "y\nz")),
    ];
    for (name, bytes) in stream_errors {
        let mut frames = greeted(&gateway);
        frames.write(&bytes);
        frames.write(get(3, "/healthz"));
        let heard = frames.end_after(&[1, 3]);
        let is_refused = heard.answered == [3] && heard.reset == [(1, PROTOCOL_ERROR)];
        // h2 takes some of it for an error of the connection, as it may (RFC 9113, 5.4.2).
        let has_ended = heard.answered.is_empty() && heard.goaway == Some(PROTOCOL_ERROR);
        assert!(is_refused || has_ended, "{name}: {heard:?}");
    }
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_is_not_taken() {
    let gateway = Gateway::start();
    let body = event("u-1").json();
    for (length, stream) in [(0, 1), (body.len() - 1, 3), (body.len() + 1, 5)] {
        let mut frames = greeted(&gateway);
        let head = head("POST", "/ingest", &[("content-length", &length.to_string())]);
        frames.write([frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, END_STREAM, stream, body.as_bytes())].concat());
        frames.write(ingest(stream + 2, &event("good").json()));
        let heard = frames.end_after(&[stream, stream + 2]);
        assert!(heard.reset.contains(&(stream, PROTOCOL_ERROR)), "{length}: {heard:?}");
        assert!(heard.answered.contains(&(stream + 2)), "{length}: {heard:?}");
    }
    assert_eq!(gateway.usage("m").count(), 1);
}

#[test]
fn what_is_a_head_of_http1_is_none_of_http2() {
    let gateway = Gateway::start();
    let mut frames = greeted(&gateway);
    frames.write(frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[(":method", "CONNECT"), (":authority", "tollgate:80")])));
    frames.write(frame(HEADERS, END_HEADERS | END_STREAM, 3, &head("TRACE", "/healthz", &[])));
    frames.write(frame(HEADERS, END_HEADERS | END_STREAM, 5, &head("GET", "*", &[])));
    frames.write(ingest(7, &event("u-1").json()));
    let heard = frames.end_after(&[1, 3, 5, 7]);
    assert!(heard.answered.contains(&7), "{heard:?}");
    let ok = heard.data.iter().filter(|(_, data)| data.starts_with(b"1 records")).count();
    assert_eq!(ok, 1, "{heard:?}");
}
