"""Fixtures: a Tollgate to talk to, and the seed of everything random."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from metering.ingest import create_ingest_client
from metering.ingest.producer import ThreadedProducer
from metering.session import ApiSession, IngestSession

from amberflo import Sdk
from backends import backends
from harness import Server

# Tests talk to this machine only, whatever proxy it has for the world.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"

SEED = int(os.environ.get("TOLLGATE_TEST_SEED") or random.SystemRandom().randrange(1 << 32))


def pytest_report_header() -> str:
    return f"TOLLGATE_TEST_SEED={SEED}"


@pytest.fixture
def seed() -> int:
    return SEED


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers that are not started yet, each with a data directory of its own unless it is given one."""
    made: list[Server] = []

    def make(data_dir: Path | None = None, admin_key: str | None = secrets.token_hex(16)) -> Server:
        made.append(Server(data_dir or tmp_path / f"data-{len(made)}", admin_key))
        return made[-1]

    yield make
    for server in made:
        if server.process is not None:
            server.kill()
        print(server.output())


@pytest.fixture
def server(new_server: Callable[..., Server]) -> Iterator[Server]:
    """A running, empty Tollgate. One that still runs after the test must stop in good order."""
    server = new_server().start()
    yield server
    if server.process is not None:
        server.stop()


@dataclass(frozen=True)
class Tenant:
    """An account with nothing in it, and where it is."""

    server: Server
    # May do everything in the account.
    key: str


@pytest.fixture(scope="session", params=["embedded", "cluster"])
def node(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A node that all tests share: with everything of its own, or on a Kafka and a PostgreSQL."""
    directory = tmp_path_factory.mktemp("node")
    with contextlib.ExitStack() as stack:
        server = Server(directory / "data", secrets.token_hex(16))
        if request.param == "cluster":
            server.variables = stack.enter_context(backends(directory)).variables()
        stack.callback(lambda: server.process is None or server.kill())
        yield server.start()
        server.stop()


@pytest.fixture
def tenant(node: Server) -> Iterator[Tenant]:
    """An account for this test alone."""
    if node.process is None:
        node.start()
    account = "tenant-" + secrets.token_hex(8)
    assert node.request("POST", "/v1/accounts", {"name": account}).status == 201
    made = node.request("POST", f"/v1/keys?account={account}", {"name": "all", "scopes": ["admin"]})
    yield Tenant(node, made.json()["key"])
    print(node.output())


@pytest.fixture
def sdk(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Sdk:
    """Amberflo's SDK with the account's key, told nothing but where Tollgate is."""
    monkeypatch.setattr(ApiSession, "root_url", tenant.server.url)
    monkeypatch.setattr(IngestSession, "root_url", tenant.server.url)
    return Sdk(tenant.key)


@pytest.fixture
def producer(sdk: Sdk) -> Iterator[Callable[..., ThreadedProducer]]:
    """Makes threaded producers. A batch that one of them had to throw away fails the test."""
    made: list[ThreadedProducer] = []
    lost: list[Exception] = []

    def make(**options: Any) -> ThreadedProducer:
        made.append(
            create_ingest_client(
                api_key=sdk.key, send_interval_in_secs=0.05, on_error=lambda error, _: lost.append(error), **options
            )
        )
        return made[-1]

    yield make
    for client in made:
        client.shutdown()
    assert not lost
