"""Tollgate as the tests see it: a process with an address, an output and a data directory, and what it answers."""

from __future__ import annotations

import decimal
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
HELM = ROOT / "tests/.tools/go/bin/helm"
BINARY = Path(os.environ.get("TOLLGATE_BIN", ROOT / "target/release/tollgate")).absolute()

START_DEADLINE_S = 30.0
STOP_DEADLINE_S = 30.0

# 2026-01-01T00:00:00Z, a Thursday. The events of the tests lie in the days after it.
DAY_0 = 1_767_225_600
HOUR = 3_600
DAY = 86_400

# The tests' own sums are exact, too, or raise.
decimal.getcontext().prec = 60
decimal.getcontext().traps[decimal.Inexact] = True

# Passes standard input on as the first of the sockets that systemd passes.
_LIKE_SYSTEMD = 'exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=tollgate.socket exec "$@"'

_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")


def exact(text: str) -> Any:
    """JSON with its numbers as they were written: no float comes near them."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def wait_for(what: str, condition: Callable[[], Any], deadline_s: float = START_DEADLINE_S) -> Any:
    """Asks until the answer is true and returns it."""
    end = time.monotonic() + deadline_s
    while not (answer := condition()):
        assert time.monotonic() < end, f"waited {deadline_s} s in vain for {what}"
        time.sleep(0.01)
    return answer


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def _read_lines(pipe: TextIO, lines: list[str]) -> None:
    for line in pipe:
        lines.append(line)


def environment(admin_key: str | None) -> dict[str, str]:
    """This process's environment for a Tollgate whose only setting from there is the key."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
    if admin_key is not None:
        env["TOLLGATE_ADMIN_KEY"] = admin_key
    return env


def run(*arguments: str, admin_key: str | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `tollgate` with arguments with which it ends by itself."""
    return subprocess.run(
        [BINARY, *arguments],
        env=environment(admin_key),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=START_DEADLINE_S,
    )


@dataclass(frozen=True)
class Answer:
    """What came back for one request."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    def json(self) -> Any:
        return exact(self.text)


class Server:
    """One `tollgate serve` after another on one data directory; at most one at a time."""

    def __init__(self, data_dir: Path, admin_key: str | None, listen: str = "127.0.0.1:0") -> None:
        self.data_dir = data_dir
        self.admin_key = admin_key
        self.listen = listen
        # Where health and metrics are served, if not there.
        self.ops_listen: str | None = None
        self.port = 0
        self.variables: dict[str, str] = {}
        # Beside those that every process has.
        self.flags: list[str | Path] = []
        # Passed to each process as systemd does it, in place of `listen`.
        self.socket: socket.socket | None = None
        self.process: subprocess.Popen[str] | None = None
        self._readers: list[threading.Thread] = []
        self._stdout: list[str] = []
        self._stderr: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def stdout(self) -> str:
        """What the newest process has said so far."""
        return "".join(self._stdout)

    @property
    def stderr(self) -> str:
        return "".join(self._stderr)

    def start(self) -> Server:
        """Starts a process and returns when it is ready."""
        self.spawn()
        return self.wait_until_ready()

    def wait_until_ready(self) -> Server:
        wait_for("the address on stdout", self.has_announced)
        wait_for("/readyz", self.is_ready)
        return self

    def take_over(self) -> None:
        """Starts a process that takes the place of the one that runs. Returns when that one has ended, in good order, and the new
        one is ready."""
        old = (self.process, self._readers, self._stderr)
        self.process = None
        self.spawn("--take-over")
        new = (self.process, self._readers, self._stderr)
        self.process, self._readers, self._stderr = old
        self.expect_exit()
        self.process, self._readers, self._stderr = new
        self.wait_until_ready()

    def spawn(self, *flags: str) -> None:
        """Starts a process and returns at once."""
        assert self.process is None, "a process is running already"
        assert BINARY.is_file(), f"{BINARY} is missing: cargo build --release, or set TOLLGATE_BIN"
        launcher = [] if self.socket is None else ["sh", "-c", _LIKE_SYSTEMD, "sh"]
        self.process = subprocess.Popen(
            [*launcher, BINARY, "serve", "--listen", self.listen, "--data-dir", self.data_dir, *self.flags, *flags],
            env=environment(self.admin_key) | self.variables,
            stdin=subprocess.DEVNULL if self.socket is None else self.socket,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._stdout, self._stderr = [], []
        self._readers = [
            threading.Thread(target=_read_lines, args=(pipe, lines), daemon=True)
            for pipe, lines in ((self.process.stdout, self._stdout), (self.process.stderr, self._stderr))
        ]
        for reader in self._readers:
            reader.start()

    def keep_port(self) -> None:
        """The processes to come listen where this one does."""
        self.listen = f"127.0.0.1:{self.port}"

    def has_announced(self) -> bool:
        """Whether the newest process has said where it listens."""
        self._still_runs()
        if found := _ADDRESS.search(self.stdout):
            self.port = int(found[1])
        return found is not None

    def is_ready(self) -> bool:
        self._still_runs()
        try:
            return self.ops("GET", "/readyz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _still_runs(self) -> None:
        assert self.process is not None, "no process is running"
        code = self.process.poll()
        assert code is None, f"tollgate ended by itself with {code}\n{self.output()}"

    def request(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """One request with the admin key on a connection of its own. A body that is not bytes goes out as JSON."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self._request(f"127.0.0.1:{self.port}", method, path, body, headers)

    def ops(self, method: str, path: str) -> Answer:
        """One request for health or metrics, wherever they are served."""
        return self._request(self.ops_listen or f"127.0.0.1:{self.port}", method, path, None, None)

    def _request(self, address: str, method: str, path: str, body: Any, headers: dict[str, str] | None) -> Answer:
        connection = http.client.HTTPConnection(address, timeout=30)
        try:
            connection.request(method, path, body, {"X-API-KEY": self.admin_key or "", **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read().decode())
        finally:
            connection.close()

    def usage(
        self, meter: str, aggregation: str, days: int, group_by: str = "customerId"
    ) -> dict[tuple[str, int], Decimal]:
        """Usage by POST /usage in form A, of the days from `DAY_0` on: (group, bucket start) to value."""
        query = {
            "meterApiName": meter,
            "aggregation": aggregation,
            "timeGroupingInterval": "DAY",
            "startTimeInSeconds": DAY_0,
            "endTimeInSeconds": DAY_0 + days * DAY,
            "groupBy": [group_by],
        }

        def complete() -> Answer | None:
            """An answer with everything acked in it. One that had to give up waiting for the rows says that it did."""
            answer = self.request("POST", "/usage", query)
            assert answer.status == 200, answer
            return None if answer.headers["Tollgate-Complete"] == "false" else answer

        answer = wait_for("a complete answer", complete)
        found: dict[tuple[str, int], Decimal] = {}
        for group in answer.json()["clientMeters"][meter]:
            for record in group["records"]:
                [(start, value)] = record.items()
                key = (group["groupInfo"][group_by], int(start))
                assert key not in found, f"{key} stands twice in {answer.text}"
                found[key] = value
        return found

    def kill(self) -> None:
        """kill -9"""
        assert self.process is not None
        self.process.kill()
        self.collect()

    def stop(self) -> None:
        """Asks the process to stop, as an operator does, and expects that it does so in good order."""
        assert self.process is not None
        self._still_runs()
        self.process.send_signal(signal.SIGTERM)
        self.expect_exit()

    def expect_exit(self) -> None:
        """Waits until a process that was asked to stop has done so in good order."""
        code = self.collect()
        assert code == 0, f"tollgate ended with {code} after SIGTERM\n{self.output()}"

    def collect(self) -> int:
        """Waits for the end of the process and returns its exit code."""
        assert self.process is not None
        process, self.process = self.process, None
        try:
            code = process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"tollgate did not stop in {STOP_DEADLINE_S} s\n{self.output()}") from None
        finally:
            for reader in self._readers:
                reader.join()
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        return code

    def output(self) -> str:
        """The end of what the newest process has said, for a failed test."""
        tail = "".join(self._stderr[-50:])
        return f"--- stdout\n{self.stdout}--- stderr, its last lines\n{tail}"
