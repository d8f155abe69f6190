//! Clients that take their time: with heads, with bodies, with answers; that hang up in the middle, or on one side only.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use super::frames::pause;
use super::{wait_until_connections_are_gone, while_others_are_served};
use crate::harness::wire::{self, Wire};
use crate::harness::{Gateway, Setup, event, wait_for, wide_event};
use crate::protocol::tls::Certificate;

/// Hangs up with a reset.
fn reset(wire: Wire) {
    socket2::SockRef::from(wire.stream()).set_linger(Some(Duration::ZERO)).expect("a socket");
}

#[test]
fn heads_and_bodies_that_drip_in_on_many_connections_are_cut_off_and_nobody_else_notices() {
    let gateway = Setup::with("[http]\nheader_timeout = '500ms'\nbody_idle_timeout = '500ms'\nbody_timeout = '1s'").start();
    let heads: [&[u8]; 4] = [b"", b"PRI * HTTP/2.0\r\n\r\n", b"POST /ingest HTTP/1.1\r\n", &wire::head(&[("Content-Length", "100000")])];
    while_others_are_served(&gateway, "slowloris", 64, || {
        let mut wires: Vec<_> = heads.iter().cycle().take(400).map(|head| (gateway.connect(), *head)).collect();
        for (wire, head) in &mut wires {
            wire.write(head);
        }
        // Each drips until it is told to stop.
        for drop in 0.. {
            wires.retain_mut(|(wire, head)| {
                let drip: &[u8] = if head.ends_with(b"\r\n") && head.starts_with(b"POST") && drop % 6 == 0 { b"X: y\r\n" } else { b"" };
                wire.stream().write_all(drip).is_ok() && !has_ended(wire)
            });
            if wires.is_empty() {
                break;
            }
            pause(Duration::from_millis(20));
        }
    });
    wait_until_connections_are_gone(&gateway, 3.0);
}

/// Whether the server has said something or gone, without waiting for it.
fn has_ended(wire: &Wire) -> bool {
    wire.stream().set_nonblocking(true).expect("a socket");
    let found = wire.stream().peek(&mut [0]);
    wire.stream().set_nonblocking(false).expect("a socket");
    !found.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn answers_that_nobody_reads_are_not_kept_and_their_connections_are_let_go() {
    let gateway = Setup::with("[http]\nanswer_idle_timeout = '1s'").start();
    let bad: Vec<_> = (0..8).map(|at| wide_event(&format!("bad-{at}")).at(0)).collect();
    gateway.send(&[bad.as_slice(), &[event("u-1")]].concat()).logged(1).rejected(8);
    let large = format!("GET /v1/dead-letters HTTP/1.1\r\nHost: x\r\nX-API-KEY: {}\r\n\r\n", crate::harness::ADMIN_KEY);
    // Answers of less than what is accounted for.
    (0..9).for_each(|_| drop(gateway.make_key("default", &["read"])));
    assert!((1_000..4_000).contains(&gateway.get("/v1/keys").text().len()), "{}", gateway.get("/v1/keys").shown());
    let small = large.replace("dead-letters", "keys");
    while_others_are_served(&gateway, "slow readers", 192, || {
        // 20 x 20 answers of half a megabyte, and 4 with small ones without end.
        let mut wires: Vec<_> = (0..24).map(|_| gateway.connect()).collect();
        for (at, wire) in wires.iter_mut().enumerate() {
            let requests = if at < 20 { large.repeat(20) } else { small.repeat(1_000) };
            wire.stream().set_nonblocking(true).expect("a socket");
            // The less the kernel keeps for us, the sooner the server waits.
            socket2::SockRef::from(wire.stream()).set_recv_buffer_size(4 << 10).expect("a socket");
            // As much as there is room for.
            drop(wire.stream().write_all(requests.as_bytes()));
        }
        let mut stuffed: Vec<_> = wires.iter().skip(20).collect();
        while !stuffed.is_empty() {
            stuffed.retain(|wire| match wire.stream().write(small.repeat(1_000).as_bytes()) {
                Ok(_) => true,
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            });
            pause(Duration::from_millis(5));
        }
        wait_until_connections_are_gone(&gateway, 3.0);
    });
}

#[test]
fn a_client_that_has_said_all_and_closes_its_side_is_answered() {
    let gateway = Gateway::start();
    for round in 0..20 {
        let mut wire = gateway.connect();
        wire.write(wire::ingest(&[], event(&format!("u-{round}")).json()));
        wire.stream().shutdown(Shutdown::Write).expect("open");
        wire.answer().logged(1);
        wire.expect_end();
    }
    // A query waits for rows, which takes longer.
    let question = r#"{"meterApiName":"m","aggregation":"COUNT","timeGroupingInterval":"DAY","startTimeInSeconds":0,"endTimeInSeconds":1}"#;
    let query = String::from_utf8(wire::ingest(&[], question)).expect("text").replace("POST /ingest", "POST /usage");
    let mut wire = gateway.connect();
    wire.write(query);
    wire.stream().shutdown(Shutdown::Write).expect("open");
    assert_eq!(wire.answer().status, 200);
    wire.expect_end();
    assert_eq!(gateway.usage("m").count(), 20);
}

#[test]
fn an_answer_does_not_wait_for_the_rest_of_the_next_request() {
    let gateway = Gateway::start();
    let mut wire = gateway.connect();
    let next = wire::ingest(&[], event("u-2").json());
    for cut in [1, 30, next.len() - 1] {
        wire.write([wire::ingest(&[], event("u-1").json()).as_slice(), &next[..cut]].concat());
        wire.answer().logged(1);
        wire.write(&next[cut..]);
        wire.answer().logged(1);
    }
}

#[test]
fn handshakes_that_drip_in_are_cut_off_and_nobody_else_notices() {
    let certificate = Certificate::make();
    let gateway = Setup::with("[http]\nheader_timeout = '500ms'").tls(&certificate.cert, &certificate.key).start();
    // A hello of 512 bytes, of which the rest would come some time.
    let hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let mut wires: Vec<_> = (0..50).map(|_| gateway.connect()).collect();
    for byte in hello.into_iter().chain(std::iter::repeat(0)) {
        wires.retain_mut(|wire| wire.stream().write_all(&[byte]).is_ok() && !has_ended(wire));
        if wires.is_empty() {
            break;
        }
        pause(Duration::from_millis(10));
    }
    wait_until_connections_are_gone(&gateway, 1.0);
}

#[test]
fn half_a_request_is_none_however_its_client_leaves() {
    let gateway = Gateway::start();
    let body = event("half").json();
    let length = wire::ingest(&[], &body);
    let chunked = [wire::head(&[("Transfer-Encoding", "chunked")]), wire::chunked(&body, 20)].concat();
    for (request, cuts) in [(&length, [10, 100, length.len() - 1]), (&chunked, [chunked.len() - 7, chunked.len() - 5, chunked.len() - 1])] {
        for cut in cuts {
            let mut shut = gateway.connect();
            shut.write(&request[..cut]);
            shut.stream().shutdown(Shutdown::Write).expect("open");
            if let Some(answer) = shut.next_answer() {
                answer.refused(400);
            }
            shut.expect_end();
            let mut gone = gateway.connect();
            gone.write(&request[..cut]);
            drop(gone);
            let mut broken = gateway.connect();
            broken.write(&request[..cut]);
            reset(broken);
        }
    }
    wait_until_connections_are_gone(&gateway, 1.0);
    assert_eq!(gateway.metrics().outcome("logged"), 0);
}

#[test]
fn clients_that_hang_up_before_the_answer_leave_nothing_open() {
    let gateway = Gateway::start();
    for round in 0..50 {
        let mut gone = gateway.connect();
        gone.write(wire::ingest(&[], event(&format!("gone-{round}")).json()));
        if round % 2 == 0 {
            reset(gone);
        }
    }
    // Connections are let in one after the other: once this one is served, nobody of the gone waits at the door any more.
    let mut last = gateway.connect();
    last.write(wire::ingest(&[], event("last").json()));
    last.answer().logged(1);
    drop(last);
    wait_until_connections_are_gone(&gateway, 1.0);
    // What is under way to the disk goes on without whoever sent it.
    wait_for("what was in flight to be given back", || (gateway.metrics().total("tollgate_in_flight_bytes", &[]) == 0.0).then_some(()));
    let metrics = gateway.settled_metrics();
    assert_eq!(metrics.outcome("logged"), metrics.verdict("counted"), "whatever was taken is in the books");
}

/// A flood of headers, and the statuses that it may be refused with.
fn header_floods() -> [(&'static str, String); 5] {
    let begin = "POST /ingest HTTP/1.1\r\nHost: tollgate\r\nContent-Length: 0\r\n";
    [
        ("10,000 headers", format!("{begin}{}\r\n", (0..10_000).map(|at| format!("X-{at}: 1\r\n")).collect::<String>())),
        ("101 headers", format!("{begin}{}\r\n", (0..99).map(|at| format!("X-{at}: 1\r\n")).collect::<String>())),
        ("a header of 1 MiB", format!("{begin}X: {}\r\n\r\n", "x".repeat(1 << 20))),
        ("a name of 1 MiB", format!("{begin}{}: x\r\n\r\n", "x".repeat(1 << 20))),
        (
            "1 MiB of headers",
            format!("{begin}{}\r\n", (0..64).map(|at| format!("X-{at}: {}\r\n", "x".repeat(16 << 10))).collect::<String>()),
        ),
    ]
}

#[test]
fn floods_of_headers_are_refused_and_take_no_memory() {
    let gateway = Gateway::start();
    for (name, flood) in header_floods() {
        while_others_are_served(&gateway, name, 64, || {
            for _ in 0..20 {
                let mut wire = gateway.connect();
                wire.write(&flood);
                if let Some(answer) = wire.next_answer() {
                    assert!([431, 400].contains(&answer.status), "{name}: {}", answer.shown());
                }
                wire.expect_end();
            }
        });
    }
    // Heads that are not at their end wait in memory, as long as they are allowed to be.
    while_others_are_served(&gateway, "500 heads of 30 KiB", 64, || {
        let begin = format!("POST /ingest HTTP/1.1\r\nHost: tollgate\r\nX: {}", "x".repeat(30 << 10));
        let mut wires: Vec<_> = (0..500).map(|_| gateway.connect()).collect();
        wires.iter_mut().for_each(|wire| wire.write(&begin));
        wires.iter_mut().for_each(|wire| wire.write("\r\n\r\n"));
        wires.iter_mut().for_each(|wire| drop(wire.answer().refused(401)));
    });
}
