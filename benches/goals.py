#!/usr/bin/env python3
"""The goals of Tollgate's speed, measured: each beside what it is compared with, in the same run.

    cargo build --release --workspace
    tests/tools/kafka install                                   # for the parts with Kafka
    python3 benches/goals.py target/release/tollgate PART... [--runs 3] [--scale 1.0] [--directory DIR]

Parts: cost (embedded; beside nginx and a bare hyper), kafka (the gateway; beside librdkafka alone and a bare hyper), materializer (into
PostgreSQL), sustained (5 minutes), ack (latency at a light rate, beside the disk's own sync), freshness, freshness-kafka, ids (cost, memory,
queries and recovery at up to 100 M ids). A line of JSON for each run and part. S is one event a request on 64 connections, B 1,000 on 8. CPU is user
and system time of the measured process until it is idle again; load comes from `tollgate bench` on the same cores, so rates are what was left over.
`stolen_percent` is the CPU that the host took from this machine meanwhile: past some hundredths, a run says more of the host than of Tollgate.
Everything is on 127.0.0.1, takes up to 40 GB below DIR, and is removed at the end. nginx must be there (Debian: nginx).
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from nodes import KEY, ROOT, Node, cluster, cpu_s, free_port, listens, load, of_cluster, resident_mib, settled_cpu_s, wait_for

FLOOR = ROOT / "target/release/tollgate-floor"
S, B = ["--shape", "s"], ["--shape", "b"]
NGINX = """
worker_processes 2; pid {directory}/nginx.pid; error_log stderr crit; daemon off;
events {{ worker_connections 1024; }}
http {{
    access_log off; client_max_body_size 16m; keepalive_requests 1000000000; client_body_temp_path {directory}/body;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 "{{}}"; }} }}
}}
"""


class Floor:
    """A server that does next to nothing: a bare hyper, or nginx."""

    def __init__(self, what, scratch):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        if what == "nginx":
            directory = Path(tempfile.mkdtemp(dir=scratch))
            directory.chmod(0o777)
            (directory / "nginx.conf").write_text(NGINX.format(directory=directory, port=port))
            command = ["nginx", "-e", "stderr", "-p", directory, "-c", directory / "nginx.conf"]
        else:
            command = [FLOOR, "hyper", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr)
        wait_for(what, lambda: listens(port))

    @property
    def pid(self):
        return self.process.pid

    def settled_cpu_s(self):
        return settled_cpu_s(self.pid)

    def end(self):
        self.process.terminate()
        self.process.wait()


def cost(binary, server, events, *arguments):
    """CPU-s a million events, and the generator's report. Connections and memory are warm."""
    load(binary, server.url, *arguments, "--events", max(events // 20, 1_000))
    before = server.settled_cpu_s()
    report = load(binary, server.url, *arguments, "--events", events)
    return round((server.settled_cpu_s() - before) / events * 1e6, 3), report


class Goals:
    def __init__(self, binary, scratch, scale):
        self.binary, self.scratch, self.scale, self.number = binary, Path(scratch), scale, 0

    def events(self, count):
        return max(int(count * self.scale), 10_000)

    def node(self, *arguments):
        self.number += 1
        return Node(self.binary, self.scratch, f"node-{self.number}", *arguments)

    def remove(self, node):
        node.end()
        subprocess.run(["rm", "-r", node.directory], check=True)

    def on(self, server, events, *arguments):
        try:
            return cost(self.binary, server, self.events(events), *arguments)
        finally:
            server.end()

    # --- In one process -------------------------------------------------------------------------------------------

    def cost(self):
        answer = {}
        for name, of, events in [("b", B, 5_000_000), ("s", S, 300_000)]:
            node = self.node()
            answer[name], report = cost(self.binary, node, self.events(events), *of)
            answer |= {f"{name}_events_per_s": report["events_per_second"], f"{name}_latency_ms": report["latency_ms"]}
            self.remove(node)
        for what in ("nginx", "hyper"):
            answer[f"{what}_s"], _ = self.on(Floor(what, self.scratch), 300_000, *S)
            answer[f"{what}_b"], _ = self.on(Floor(what, self.scratch), 2_000_000, *B)
            answer[f"s_by_{what}"] = round(answer["s"] / answer[f"{what}_s"], 2)
        return answer

    def sustained(self):
        node = self.node()
        seconds = int(300 * self.scale) or 10
        report = load(self.binary, node.url, *B, "--duration", seconds, "--pid", node.pid)
        answer = {"events_per_s": report["events_per_second"], "events": report["events_acked"], "latency_ms": report["latency_ms"],
                  "lag_s": node.metric("tollgate_materializer_lag_seconds"), "cpu_us": report["server"]["cpu_seconds_per_million_events"],
                  "peak_mib": round(resident_mib(node.pid))}
        self.remove(node)
        return answer

    def ack(self):
        node = self.node()
        before = sync_ms(self.scratch)
        report = load(self.binary, node.url, *S, "--rate", 2_000, "--duration", 20)
        after = sync_ms(self.scratch)
        self.remove(node)
        return {"latency_ms": report["latency_ms"], "sync_p50_ms": [before, after]}

    def freshness(self):
        node = self.node()
        answer = fresh(self.binary, node)
        self.remove(node)
        return answer

    # --- On Kafka and PostgreSQL --------------------------------------------------------------------------------------

    def cluster(self, measure):
        self.number += 1
        with cluster(self.scratch) as (kafka, postgres):
            settings, environment = of_cluster(self.number, kafka, postgres, "postgres")
            return measure(kafka, postgres, lambda roles: self.node(roles, settings, environment))

    def kafka(self):
        def measure(kafka, _, node):
            answer, gateway = {}, node("gateway")
            for name, of, events in [("b", B, 4_000_000), ("s", S, 300_000)]:
                answer[name], report = cost(self.binary, gateway, self.events(events), *of)
                answer |= {f"{name}_events_per_s": report["events_per_second"], f"{name}_latency_ms": report["latency_ms"]}
            gateway.end()
            command = [FLOOR, "producer", f"127.0.0.1:{kafka.port}", str(self.events(4_000_000))]
            answer["producer_b"] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            answer["hyper_s"], _ = self.on(Floor("hyper", self.scratch), 300_000, *S)
            return answer | {"b_by_producer": round(answer["b"] / answer["producer_b"], 2), "s_by_hyper": round(answer["s"] / answer["hyper_s"], 2)}
        return self.cluster(measure)

    def materializer(self):
        def measure(kafka, postgres, node):
            events, gateway = self.events(10_000_000), node("gateway")
            load(self.binary, gateway.url, *B, "--events", events, "--customers", 100_000, "--dimension-sets", 4, "--meters", 1)
            gateway.end()
            before = cpu_s(postgres.pid)
            materializer = node("materializer")
            wait_for("the rows", lambda: materializer.metric("tollgate_verdicts_total") >= events)
            wait_for("the commits", lambda: int(postgres.sql("SELECT coalesce(sum(next), 0) FROM tollgate.progress") or 0) >= events)
            answer = {"cpu_us": round(cpu_s(materializer.pid) / events * 1e6, 3), "postgres_us": round((cpu_s(postgres.pid) - before) / events * 1e6, 3),
                      "rows_written": materializer.metric("tollgate_store_commit_rows_total"), "rows": int(postgres.sql("SELECT count(*) FROM tollgate.rows")),
                      "peak_mib": round(resident_mib(materializer.pid))}
            materializer.end()
            return answer
        return self.cluster(measure)

    def freshness_kafka(self):
        def measure(_kafka, _postgres, node):
            all_in_one = node("gateway,materializer,api")
            answer = fresh(self.binary, all_in_one)
            all_in_one.end()
            return answer
        return self.cluster(measure)

    # --- Many ids -------------------------------------------------------------------------------------------------------

    def ids(self):
        """One gateway that grows: 10,000 customers with 4 meters and 4 sets of dimensions each, a tenth of the events up to a week late: wide. Then
        what an event costs with so many ids, of that load and of plain B, whose rows are the same at all sizes."""
        node, answer, known = self.node(), {}, 0
        wide = [*B, "--customers", 10_000, "--late", 10]

        def window(of, events):
            # Rows lag behind a load that is not paced: what follows, be it a load or a question, shall not pay for that.
            before = node.settled_cpu_s()
            load(self.binary, node.url, *of, "--events", events)
            return round((node.settled_cpu_s() - before) / events * 1e6, 3)

        def grow(millions, measured=0):
            nonlocal known
            target, measured = self.events(millions * 1e6), self.events(measured * 1e6) if measured else 0
            if target - 2 * measured > known:
                load(self.binary, node.url, *wide, "--events", target - 2 * measured - known)
            if measured:
                answer[f"wide_us_at_{millions}m"] = window(wide, measured)
                answer[f"cpu_us_at_{millions}m"] = window(B, measured)
                answer[f"peak_mib_at_{millions}m"] = round(resident_mib(node.pid))
            else:
                node.settled_cpu_s()
            known = target

        grow(1, 0.5)
        grow(10, 2)
        grow(50)
        answer["log_gb"] = round(sum(path.stat().st_size for path in (node.directory / "data/log").iterdir()) / 1e9, 1)
        node.kill()
        answer["recovery_s"] = round(node.start(), 2)
        grow(100, 4)
        answer["query_idle_ms"] = asked(node, month, 2_000)
        for name, paced in [("loaded", ["--rate", 100_000]), ("saturated", [])]:
            under = threading.Thread(target=lambda paced=paced: load(self.binary, node.url, *wide, *paced, "--duration", 20))
            under.start()
            time.sleep(2)
            answer[f"query_{name}_ms"] = asked(node, month, 600, {"Prefer": "wait=0"})
            under.join()
        node.settled_cpu_s()
        answer["groups_ms"] = asked(node, groups, 20)
        answer["groups_today_ms"] = asked(node, groups_today, 20)
        answer["groups"] = len(ask(connection(node), groups(0), {})["clientMeters"]["api-calls-0"])
        self.remove(node)
        return answer


# --- Questions ------------------------------------------------------------------------------------------------------------

def connection(node):
    return http.client.HTTPConnection("127.0.0.1", node.port, timeout=60)


def ask(over, question, headers):
    over.request("POST", "/usage", json.dumps(question), {"X-API-KEY": KEY, "Content-Type": "application/json"} | headers)
    answer = over.getresponse()
    body = answer.read()
    if answer.status != 200:
        sys.exit(f"{answer.status}: {body.decode()}")
    return json.loads(body)


def question(**fields):
    now = int(time.time())
    return {"meterApiName": "api-calls-0", "aggregation": "SUM", "timeGroupingInterval": "DAY", "startTimeInSeconds": now - 30 * 86_400,
            "endTimeInSeconds": now + 60} | fields


def month(number):
    """One customer's month by day."""
    return question(groupBy=["customerId"], filter={"customerId": [f"customer-{number * 7_919 % 10_000:05}"]})


def groups(_):
    """All customers' month, a group each."""
    return question(groupBy=["customerId"])


def groups_today(_):
    """The same of the last day."""
    return question(groupBy=["customerId"], startTimeInSeconds=int(time.time()) // 86_400 * 86_400)


def quantiles(values):
    values = sorted(values)
    return {"p50": round(statistics.median(values), 3), "p99": round(values[int(len(values) * 0.99)], 3), "max": round(values[-1], 3)}


def asked(node, what, times, headers=None):
    over, took = connection(node), []
    for number in range(times):
        began = time.perf_counter()
        ask(over, what(number), headers or {})
        took.append((time.perf_counter() - began) * 1e3)
    return quantiles(took)


def fresh(binary, node, times=300):
    """ms from an event's answer until a query that waits for nothing shows it, with 2,000 others a second coming in."""
    under = threading.Thread(target=lambda: load(binary, node.url, *S, "--rate", 2_000, "--duration", 600, "--events", 2_000 * 60))
    under.start()
    time.sleep(2)
    over, took = connection(node), []
    mine = question(groupBy=["customerId"], filter={"customerId": ["fresh"]}, meterApiName="fresh")
    for number in range(times):
        event = {"uniqueId": f"fresh-{time.time_ns()}", "customerId": "fresh", "meterApiName": "fresh", "meterValue": 1, "meterTimeInMillis": int(time.time() * 1e3)}
        over.request("POST", "/ingest", json.dumps(event), {"X-API-KEY": KEY, "Content-Type": "application/json"})
        over.getresponse().read()
        acked = time.perf_counter()
        while seen(ask(over, mine, {"Prefer": "wait=0"})) <= number:
            time.sleep(0.001)
        took.append((time.perf_counter() - acked) * 1e3)
    under.join()
    return quantiles(took)


def seen(answer):
    """The sum of all days."""
    return sum(value for group in answer["clientMeters"].get("fresh", []) for record in group["records"] for value in record.values())


def sync_ms(directory):
    """The median of what the disk takes for a write of 4 KiB and its sync."""
    took = []
    with open(directory / "sync", "wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, 4_096 * 1_000)
        os.fsync(file.fileno())
        for _ in range(1_000):
            began = time.perf_counter()
            file.write(b"x" * 4_096)
            os.fdatasync(file.fileno())
            took.append((time.perf_counter() - began) * 1e3)
    return round(statistics.median(took), 3)


def stolen(since=(0, 0)):
    """Ticks that the host took from this machine's CPUs, and all there were."""
    with open("/proc/stat") as file:
        ticks = [int(field) for field in file.readline().split()[1:9]]
    return ticks[7] - since[0], sum(ticks) - since[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("parts", nargs="+", choices=["cost", "kafka", "materializer", "sustained", "ack", "freshness", "freshness-kafka", "ids"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of all numbers of events; below 1 only to try this program")
    parser.add_argument("--directory", default=None)
    arguments = parser.parse_args()
    for run in range(1, arguments.runs + 1):
        for part in arguments.parts:
            with tempfile.TemporaryDirectory(prefix="tollgate-goals.", dir=arguments.directory) as scratch:
                measure = getattr(Goals(arguments.binary.resolve(), scratch, arguments.scale), part.replace("-", "_"))
                before = stolen()
                answer = {"part": part, "run": run} | measure()
                taken, ticks = stolen(before)
                print(json.dumps(answer | {"stolen_percent": round(100 * taken / ticks, 1)}), flush=True)


if __name__ == "__main__":
    main()
