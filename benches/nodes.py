"""Processes that the programs here start on 127.0.0.1, and what they used: a broker, a PostgreSQL, nodes of Tollgate."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEY = "key-of-the-bench"
TICKS = os.sysconf("SC_CLK_TCK")
PATIENCE_S = 600


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def cpu_s(pid):
    """User and system time of a process with its children that still run, in seconds."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(stat.parent.name) == pid or int(fields[1]) == pid:
            # A server process that ended is in its parent's share of its children.
            total += int(fields[11]) + int(fields[12])
            total += (int(fields[13]) + int(fields[14])) if int(stat.parent.name) == pid else 0
    return total / TICKS


def settled_cpu_s(pid):
    """The same, once what follows the last answer is done: idle for half a second, waited for up to 5 minutes."""
    until = time.monotonic() + 300
    time.sleep(1.5)
    before = cpu_s(pid)
    while time.monotonic() < until:
        time.sleep(0.5)
        now = cpu_s(pid)
        if now - before <= 0.01:
            return now
        before = now
    return before


def resident_mib(pid):
    """At most since its start."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0


def listens(port):
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def wait_for(what, look):
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    sys.exit(f"waited in vain: {what}")


class Kafka:
    def __init__(self, directory):
        self.directory, self.port = Path(directory), free_port()
        environment = os.environ | {"TOLLGATE_TEST_KAFKA_JAVA": "-Xmx2g -Xms2g"}
        self.process = subprocess.Popen(
            [ROOT / "tests/tools/kafka", "start", directory, str(self.port), str(free_port())],
            env=environment, stdout=subprocess.DEVNULL, stderr=open(self.directory / "log", "w"))
        wait_for("the broker", lambda: listens(self.port))

    @property
    def pid(self):
        return self.process.pid

    def topic_bytes(self, topic):
        files = (self.directory / "data").glob(f"{topic}-*/*.log")
        return sum(file.stat().st_size for file in files)

    def end(self):
        self.process.kill()
        self.process.wait()


class Postgres:
    def __init__(self):
        # shared_buffers is what a machine for it would be given at least.
        self.process = subprocess.Popen([ROOT / "tests/tools/postgres", "-c", "shared_buffers=1GB", "-c", "max_wal_size=4GB"],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        _, self.directory, port = self.process.stdout.readline().split()
        self.port = int(port)

    @property
    def pid(self):
        return int((Path(self.directory) / "data/postmaster.pid").read_text().split()[0])

    def sql(self, query, database="postgres"):
        done = subprocess.run(["psql", "-h", self.directory, "-p", str(self.port), "-U", "tollgate", "-d", database, "-Atc", query],
                              check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def end(self):
        self.process.stdin.close()
        self.process.wait()


@contextlib.contextmanager
def cluster(scratch):
    """A broker and a PostgreSQL."""
    directory = Path(scratch) / "kafka"
    directory.mkdir()
    kafka, postgres = Kafka(str(directory)), Postgres()
    try:
        yield kafka, postgres
    finally:
        postgres.end()
        kafka.end()
        shutil.rmtree(directory)


def of_cluster(number, kafka, postgres, database, lines=""):
    """Settings and environment of nodes with topics and a database of their own."""
    settings = f"[kafka]\nevents_topic = 'events-{number}'\ndead_letters_topic = 'letters-{number}'\n{lines}\n"
    environment = {
        "TOLLGATE_KAFKA_BROKERS": f"127.0.0.1:{kafka.port}", "TOLLGATE_KAFKA_REPLICATION": "1",
        "TOLLGATE_DATABASE_URL": f"postgres://tollgate@127.0.0.1:{postgres.port}/{database}?sslmode=disable",
    }
    return settings, environment


class Node:
    """A node of Tollgate, and the HTTP ports that it has. `roles` None: everything in one process, on the embedded log."""

    def __init__(self, binary, directory, name, roles=None, settings="", environment=None):
        self.binary, self.directory, self.name, self.roles = binary, Path(directory) / name, name, roles
        self.environment = {"TOLLGATE_ADMIN_KEY": KEY} | (environment or {})
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "tollgate.toml").write_text(settings)
        self.start()

    def start(self):
        """Starts it, also once more; gives the seconds until it was ready."""
        began = time.monotonic()
        self.port, self.ops = free_port(), free_port()
        role = ["--roles", self.roles, "--node", self.name] if self.roles else []
        self.process = subprocess.Popen(
            [self.binary, "serve", "--config", self.directory / "tollgate.toml", "--data-dir", self.directory / "data", *role,
             "--listen", f"127.0.0.1:{self.port}", "--ops-listen", f"127.0.0.1:{self.ops}"],
            env=os.environ | self.environment, stdout=open(self.directory / "out", "a"), stderr=open(self.directory / "err", "a"))
        wait_for(f"{self.name} ready, see {self.directory}/err", self.is_ready)
        return time.monotonic() - began

    @property
    def pid(self):
        return self.process.pid

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def is_ready(self):
        if self.process.poll() is not None:
            sys.exit((self.directory / "err").read_text())
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.ops}/readyz", timeout=5).status == 200
        except OSError:
            return False

    def metric(self, name):
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.ops}/metrics", timeout=10).read().decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((name + " ", name + "{")))

    def settled_cpu_s(self):
        """CPU so far, once all that is in the log is folded and committed. A commit may pause for three times what the last one took."""
        until = time.monotonic() + PATIENCE_S
        while self.metric("tollgate_materializer_lag_records") or self.metric("tollgate_store_uncommitted_records"):
            if time.monotonic() > until:
                sys.exit("waited in vain: rows of all that is in the log")
            time.sleep(0.5)
        return settled_cpu_s(self.process.pid)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=120)


def load(binary, url, *arguments):
    """The report of `tollgate bench` with these arguments."""
    done = subprocess.run([binary, "bench", "--url", url, "--key", KEY, "--json", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr or done.stdout)
    return json.loads(done.stdout)
