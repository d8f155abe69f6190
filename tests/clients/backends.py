"""A real Kafka and a real PostgreSQL for nodes of a cluster: gone with the tests."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import ROOT, free_port, wait_for

_START_DEADLINE_S = 240.0


@dataclass(frozen=True)
class Backends:
    """Where they are."""

    brokers: str
    database: str

    def variables(self) -> dict[str, str]:
        """What a node has to be told of them, of one broker."""
        return {
            "TOLLGATE_KAFKA_BROKERS": self.brokers,
            "TOLLGATE_KAFKA_REPLICATION": "1",
            "TOLLGATE_DATABASE_URL": self.database,
        }


@contextlib.contextmanager
def backends(directory: Path) -> Iterator[Backends]:
    """Starts both, new and empty."""
    with kafka(directory) as brokers, postgres() as database:
        yield Backends(brokers, database)


@contextlib.contextmanager
def kafka(directory: Path) -> Iterator[str]:
    ports = [free_port(), free_port()]
    log = directory / "kafka.log"
    with log.open("w") as output:
        command = [ROOT / "tests/tools/kafka", "start", directory / "kafka", *map(str, ports)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:

        def answers() -> bool:
            assert process.poll() is None, f"Kafka ended; `tests/tools/kafka install` gets it:\n{log.read_text()}"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", ports[0]), timeout=1):
                return True
            return False

        wait_for("Kafka to answer", answers, _START_DEADLINE_S)
        yield f"127.0.0.1:{ports[0]}"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    process = subprocess.Popen(
        [ROOT / "tests/tools/postgres"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        words = process.stdout.readline().split()
        assert words[:1] == ["ready"], "PostgreSQL does not start"
        yield f"postgres://tollgate@127.0.0.1:{words[2]}/postgres"
    finally:
        # It runs for as long as this is open.
        process.stdin.close()
        process.wait()
        process.stdout.close()
