"""Restarts that no client notices: none is refused, no request fails, and what was acknowledged is what counts."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from metering.ingest import IngestApiClient, create_ingest_client, create_ingest_payload
from metering.session import IngestSession

from harness import DAY_0, Server
from load import expect_usage, load_on

# 50 are the full form, which takes longer than a test may: `tests/run clients -k restart -o faulthandler_timeout=3600`.
ROUNDS = int(os.environ.get("TOLLGATE_TEST_RESTARTS", "4"))
SDK_METER = "tokens"


class SdkClient(threading.Thread):
    """Amberflo's SDK, one event a request, each once: an error is one too many. Notes the longest that it had to wait."""

    def __init__(self, key: str, name: str, pause_s: float) -> None:
        super().__init__(name=name, daemon=True)
        self.client = IngestApiClient(key)
        self.pause_s = pause_s
        self.stopping = threading.Event()
        self.sent = 0
        self.longest_s = 0.0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                began = time.monotonic()
                answer = self.client.send(sdk_event(f"{self.name}-{self.sent}"))
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                assert answer == "1 records were ingested"
                self.sent += 1
                self.stopping.wait(self.pause_s)
        except BaseException as failure:  # is raised again by whoever joins this thread
            self.failure = failure

    def end(self) -> None:
        self.stopping.set()
        self.join(60)
        assert not self.is_alive(), "the SDK still waits for an answer"
        if self.failure is not None:
            raise self.failure


def sdk_event(unique_id: str) -> dict[str, Any]:
    return create_ingest_payload(SDK_METER, 1, DAY_0 * 1000, "acme-7", unique_id=unique_id)


def take_over(server: Server) -> None:
    server.take_over()


def systemd_restarts(server: Server) -> None:
    server.stop()
    server.start()


@pytest.mark.parametrize("restart", [take_over, systemd_restarts])
def test_restarts_under_load_fail_no_request(
    new_server: Callable[..., Server],
    restart: Callable[[Server], None],
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = new_server()
    if restart is systemd_restarts:
        server.socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
    server.start()
    server.keep_port()
    monkeypatch.setattr(IngestSession, "root_url", server.url)
    assert server.admin_key is not None
    rng = random.Random(seed)
    lost: list[Exception] = []
    producer = create_ingest_client(
        api_key=server.admin_key, send_interval_in_secs=0.05, on_error=lambda error, _: lost.append(error)
    )
    clients = [SdkClient(server.admin_key, f"sdk-{n}", pause_s) for n, pause_s in enumerate((0, 0, 0.3))]
    produced = 0
    longest_restart_s = 0.0
    try:
        with load_on(server, seed) as load:
            for client in clients:
                client.start()
            for _ in range(ROUNDS):
                load.ledger.wait_for_batches(load.ledger.acked_batches + rng.randint(1, 40))
                for _ in range(100):
                    assert producer.send(sdk_event(f"produced-{produced}"))
                    produced += 1
                began = time.monotonic()
                restart(server)
                longest_restart_s = max(longest_restart_s, time.monotonic() - began)
                load.check()
            load.finish()
        for client in clients:
            client.end()
        producer.flush()
    finally:
        for client in clients:
            client.stopping.set()
        producer.shutdown()

    sent = sum(client.sent for client in clients)
    with capsys.disabled():
        print(
            f"\nseed {seed}: {ROUNDS} restarts ({restart.__name__}), the longest in {longest_restart_s:.2f} s; acked"
            f" {load.ledger.acked_batches} batches with {len(load.ledger.events)} different events and {sent} requests of the"
            f" SDK, which waited {max(client.longest_s for client in clients):.2f} s at most; {load.unknown_outcomes} failed"
        )
    assert load.unknown_outcomes == 0
    assert not lost
    expect_usage(server, load.ledger)
    counted = server.usage(SDK_METER, "COUNT", 1)
    assert counted == {("acme-7", DAY_0): sent + produced}
    server.stop()
