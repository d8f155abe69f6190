//! A restart costs no client anything: listening sockets go from process to process, connections that come meanwhile wait, and
//! those that are kept get a last answer that says so.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Client, Gateway, Setup, event, wait_for, wire};

/// Tells clients to end, also when the test fails.
struct EndOf<'o>(&'o AtomicBool);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends events of its own one after another over kept connections until it is told to stop, each once. Returns how many.
fn send_each_once(gateway_address: std::net::SocketAddr, name: &str, over: &AtomicBool) -> usize {
    let mut wire = wire::Wire::to(gateway_address);
    let mut sent = 0;
    while !over.load(Ordering::Relaxed) {
        wire.write(wire::ingest(&[], event(&format!("{name}-{sent}")).json()));
        let answer = wire.next_answer().unwrap_or_else(|| panic!("{name}: no answer to request {sent}")).logged(1);
        sent += 1;
        if answer.header("connection") == Some("close") {
            wire.expect_end();
            wire = wire::Wire::to(gateway_address);
        }
    }
    sent
}

#[test]
fn processes_take_the_place_of_each_other_under_load_and_every_request_is_answered() {
    let mut gateway = Setup::default().ops_listener().start();
    let address = gateway.address();
    let over = AtomicBool::new(false);
    let sent: usize = std::thread::scope(|threads| {
        let over = &over;
        let end = EndOf(over);
        let clients: Vec<_> = (0..6).map(|at| threads.spawn(move || send_each_once(address, &format!("c{at}"), over))).collect();
        for round in 1..=5 {
            let already = gateway.metrics().outcome("logged");
            wait_for("some load", || (gateway.metrics().outcome("logged") > already + 20).then_some(()));
            gateway.take_over();
            assert_eq!(gateway.address(), address, "round {round}");
        }
        drop(end);
        clients.into_iter().map(|client| client.join().expect("every request is answered")).sum()
    });
    assert_eq!(gateway.usage("m").count(), sent);
}

#[test]
fn a_kept_connection_gets_a_last_answer_that_says_so() {
    let mut gateway = Setup::with("[http]\ndrain_idle = '20s'\ndrain_timeout = '25s'").ops_listener().start();
    let client = Client::clone(&gateway);
    let mut kept = gateway.connect();
    kept.write(wire::ingest(&[], event("u-1").json()));
    assert_eq!(kept.answer().logged(1).header("connection"), None);
    let address = gateway.address();
    std::thread::scope(|threads| {
        threads.spawn(|| gateway.stop());
        wait_for("the end of readiness", || (client.get("/readyz").status == 503).then_some(()));
        // Whoever comes now is served, too, as long as there is something to wait for.
        let mut late = wire::Wire::to(address);
        late.write(wire::ingest(&[], event("u-2").json()));
        assert_eq!(late.answer().logged(1).header("connection"), Some("close"));
        late.expect_end();
        kept.write(wire::ingest(&[], event("u-3").json()));
        assert_eq!(kept.answer().logged(1).header("connection"), Some("close"));
        kept.expect_end();
    });
    gateway.restart();
    assert_eq!(gateway.usage("m").count(), 3);
}

#[test]
fn who_says_nothing_is_waited_for_no_longer_than_set() {
    let mut gateway = Setup::with("[http]\ndrain_idle = '100ms'").start();
    let (mut kept, mut silent) = (gateway.connect(), gateway.connect());
    kept.write(wire::ingest(&[], event("u-1").json()));
    kept.answer().logged(1);
    gateway.stop();
    assert!(!gateway.stderr().contains("not finished in time"), "{}", gateway.stderr());
    kept.expect_end();
    silent.expect_end();
}

#[test]
fn a_head_that_has_begun_to_come_is_waited_for() {
    let mut gateway = Setup::with("[http]\ndrain_idle = '10ms'").ops_listener().start();
    let client = Client::clone(&gateway);
    let mut kept = gateway.connect();
    kept.write(wire::ingest(&[], event("u-1").json()));
    kept.answer().logged(1);
    let request = wire::ingest(&[], event("u-2").json());
    let (begin, rest) = request.split_at(30);
    kept.write(begin);
    // The process has read it once it has answered somebody who came later, on the same machine.
    gateway.send(&[event("u-3")]).logged(1);
    std::thread::scope(|threads| {
        threads.spawn(|| gateway.stop());
        wait_for("the end of readiness", || (client.get("/readyz").status == 503).then_some(()));
        assert!(!kept.has_something_to_read());
        kept.write(rest);
        assert_eq!(kept.answer().logged(1).header("connection"), Some("close"));
    });
}

#[test]
fn without_a_process_to_take_over_from_a_start_is_a_start() {
    let mut gateway = Setup::default().flags(&["--take-over"]).start();
    gateway.send(&[event("u-1")]).logged(1);
    gateway.kill_and_restart();
    assert_eq!(gateway.usage("m").count(), 1);
}

#[test]
fn a_process_that_cannot_start_takes_nothing_over() {
    let mut gateway = Gateway::start();
    for name in ["TOLLGATE_TLS_CERT", "TOLLGATE_TLS_KEY"] {
        gateway.change_variable(name, Some("/there/is/none.pem"));
    }
    gateway.start_another_with(&["--take-over"]).because(&["/there/is/none.pem", "cannot be read"]);
    gateway.send(&[event("u-1")]).logged(1);
    assert!(!gateway.stderr().contains("stopping"), "{}", gateway.stderr());
}

#[test]
fn a_data_directory_in_use_is_waited_for_when_that_is_asked_for_and_no_longer() {
    let mut gateway = Gateway::start();
    let refused = gateway.start_another_with(&["--wait-for-data-dir", "200ms"]);
    refused.because(&["in use by another tollgate"]);
    gateway.send(&[event("u-1")]).logged(1);

    gateway.add_flags(&["--wait-for-data-dir", "30s"]);
    gateway.start_beside_and_stop();
    assert_eq!(gateway.usage("m").count(), 1);
}

#[test]
fn sockets_that_systemd_passes_listen_while_no_process_does() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    let mut gateway = Setup::default().socket(socket).start();
    assert_eq!(gateway.address(), address, "whatever `listen` says");
    gateway.send(&[event("u-1")]).logged(1);
    gateway.stop();
    let mut waiting = wire::Wire::to(address);
    waiting.write(wire::ingest(&[], event("u-2").json()));
    gateway.restart();
    waiting.answer().logged(1);
    drop(waiting);
    gateway.stop_and_restart();
    assert_eq!(gateway.usage("m").count(), 2);
}
