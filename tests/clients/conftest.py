"""Fixtures: a Tollgate to talk to, and the seed of everything random."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
