#!/usr/bin/env python3
"""What a cluster costs: CPU of gateway, materializer, broker and PostgreSQL an event, and bytes an event in each.

    cargo build --release
    tests/tools/kafka install
    python3 benches/capacity.py target/release/tollgate [--events N] [--shapes b,s,100] [--customers N] [--set NAME=VALUE,...]...

Starts a broker (Java's usual settings, 2 GiB) and a PostgreSQL of its own, then for each `--set` (settings of [kafka], as
`linger="5ms"`; none: the defaults) and shape: a node with the role gateway takes the events; when it has ended, nodes with the role
materializer fold them, so that neither disturbs the other's figure. CPU is user and system time of the processes; load comes from
`tollgate bench` on the same cores, so rates are what was left over. Everything is on 127.0.0.1 and removed at the end.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
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


def resident_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0


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
        wait_for("the broker", self.answers)

    def answers(self):
        with socket.socket() as connection:
            return connection.connect_ex(("127.0.0.1", self.port)) == 0

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


class Node:
    """A node with a role, and the HTTP ports that it has."""

    def __init__(self, binary, directory, name, roles, settings, environment):
        self.directory = Path(directory) / name
        self.directory.mkdir(parents=True, exist_ok=True)
        config = self.directory / "tollgate.toml"
        config.write_text(settings)
        self.port, self.ops = free_port(), free_port()
        self.process = subprocess.Popen(
            [binary, "serve", "--config", config, "--data-dir", self.directory / "data", "--roles", roles, "--node", name,
             "--listen", f"127.0.0.1:{self.port}", "--ops-listen", f"127.0.0.1:{self.ops}"],
            env=os.environ | environment, stdout=open(self.directory / "out", "w"), stderr=open(self.directory / "err", "w"))
        wait_for(f"{name} ready, see {self.directory}/err", self.is_ready)

    @property
    def pid(self):
        return self.process.pid

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

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=120)


def load(binary, node, shape, events, customers):
    sizes = {"s": ["--shape", "s"], "b": ["--shape", "b"]}
    of = sizes.get(shape) or ["--events-per-request", shape, "--connections", "64"]
    done = subprocess.run([binary, "bench", "--url", f"http://127.0.0.1:{node.port}", "--key", KEY, "--events", str(events),
                           "--customers", str(customers), "--json", *of],
                          capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr or done.stdout)
    return json.loads(done.stdout)


def measured(binary, kafka, postgres, scratch, number, setting, shape, events, customers):
    topic, database = f"events-{number}", f"bench_{number}"
    postgres.sql(f"CREATE DATABASE {database}")
    lines = "\n".join(setting.split(",")) if setting else ""
    settings = f"[kafka]\nevents_topic = '{topic}'\ndead_letters_topic = 'letters-{number}'\n{lines}\n"
    environment = {
        "TOLLGATE_ADMIN_KEY": KEY, "TOLLGATE_KAFKA_BROKERS": f"127.0.0.1:{kafka.port}", "TOLLGATE_KAFKA_REPLICATION": "1",
        "TOLLGATE_DATABASE_URL": f"postgres://tollgate@127.0.0.1:{postgres.port}/{database}?sslmode=disable",
    }
    gateway = Node(binary, scratch, f"gateway-{number}", "gateway", settings, environment)
    # Warm: connections, leaders, code of the JVM.
    load(binary, gateway, shape, max(events // 10, 1_000), customers)
    before = [cpu_s(pid) for pid in (gateway.pid, kafka.pid)]
    bytes_before = kafka.topic_bytes(topic)
    report = load(binary, gateway, shape, events, customers)
    gateway_s, broker_s = (cpu_s(pid) - was for pid, was in zip((gateway.pid, kafka.pid), before))
    print(json.dumps({
        "setting": setting, "shape": shape, "events": events, "events_per_s": round(report["events_per_second"]),
        "latency": report["latency_ms"],
        "gateway_us": round(gateway_s / events * 1e6, 3), "broker_us": round(broker_s / events * 1e6, 3),
        "kafka_bytes": round((kafka.topic_bytes(topic) - bytes_before) / events, 1), "gateway_mib": round(resident_mib(gateway.pid)),
    }), flush=True)
    gateway.end()
    return topic, database, settings, environment


def folded(binary, kafka, postgres, scratch, number, made, events):
    topic, database, settings, environment = made
    before = [cpu_s(pid) for pid in (kafka.pid, postgres.pid)]
    began = time.monotonic()
    node = Node(binary, scratch, f"materializer-{number}", "materializer", settings, environment)
    total = events + max(events // 10, 1_000)
    wait_for("the rows", lambda: node.metric("tollgate_verdicts_total") >= total)
    took = time.monotonic() - began
    # Until the last rows are committed.
    wait_for("the commits", lambda: int(postgres.sql("SELECT coalesce(sum(next), 0) FROM tollgate.progress", database) or 0) >= total)
    broker_s, postgres_s = (cpu_s(pid) - was for pid, was in zip((kafka.pid, postgres.pid), before))
    rows = node.metric("tollgate_store_commit_rows_total")
    index = sum(file.stat().st_size for file in (node.directory / "data").rglob("*") if file.is_file())
    print(json.dumps({
        "folded": total, "s": round(took, 2), "materializer_us": round(cpu_s(node.pid) / total * 1e6, 3),
        "broker_us": round(broker_s / total * 1e6, 3), "postgres_us": round(postgres_s / total * 1e6, 3), "rows_written": rows,
        "postgres_bytes": int(postgres.sql(f"SELECT pg_database_size('{database}')")),
        "rows": postgres.sql("SELECT count(*), pg_total_relation_size('tollgate.rows') FROM tollgate.rows", database),
        "index_disk_bytes": index, "index_mib": round(node.metric("tollgate_index_memory_bytes") / 2**20), "rss_mib": round(resident_mib(node.pid)),
    }), flush=True)
    node.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--shapes", default="b")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--customers", type=int, default=1_000, help="each has 4 meters and 4 sets of dimensions")
    parser.add_argument("--no-fold", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tollgate-capacity.") as scratch:
        (Path(scratch) / "kafka").mkdir()
        kafka, postgres = Kafka(f"{scratch}/kafka"), Postgres()
        try:
            number = 0
            for setting in arguments.set or [""]:
                for shape in arguments.shapes.split(","):
                    number += 1
                    events = arguments.events if shape != "s" else arguments.events // 10
                    made = measured(arguments.binary, kafka, postgres, scratch, number, setting, shape, events, arguments.customers)
                    if not arguments.no_fold:
                        folded(arguments.binary, kafka, postgres, scratch, number, made, events)
        finally:
            postgres.end()
            kafka.end()


if __name__ == "__main__":
    main()
