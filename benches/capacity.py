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
import tempfile
import time
from pathlib import Path

from nodes import Node, cluster, cpu_s, load, of_cluster, resident_mib, wait_for


def shape_of(shape):
    """What `tollgate bench` is told: s, b, or a number of events a request."""
    return ["--shape", shape] if shape in ("s", "b") else ["--events-per-request", shape, "--connections", 64]


def measured(binary, kafka, postgres, scratch, number, setting, shape, events, customers):
    topic, database = f"events-{number}", f"bench_{number}"
    postgres.sql(f"CREATE DATABASE {database}")
    lines = "\n".join(setting.split(",")) if setting else ""
    settings, environment = of_cluster(number, kafka, postgres, database, lines)
    gateway = Node(binary, scratch, f"gateway-{number}", "gateway", settings, environment)
    # Warm: connections, leaders, code of the JVM.
    of = [*shape_of(shape), "--customers", customers]
    load(binary, gateway.url, *of, "--events", max(events // 10, 1_000))
    before = [cpu_s(pid) for pid in (gateway.pid, kafka.pid)]
    bytes_before = kafka.topic_bytes(topic)
    report = load(binary, gateway.url, *of, "--events", events)
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
        with cluster(scratch) as (kafka, postgres):
            number = 0
            for setting in arguments.set or [""]:
                for shape in arguments.shapes.split(","):
                    number += 1
                    events = arguments.events if shape != "s" else arguments.events // 10
                    made = measured(arguments.binary, kafka, postgres, scratch, number, setting, shape, events, arguments.customers)
                    if not arguments.no_fold:
                        folded(arguments.binary, kafka, postgres, scratch, number, made, events)


if __name__ == "__main__":
    main()
