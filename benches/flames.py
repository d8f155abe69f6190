#!/usr/bin/env python3
"""Flame graphs of a node under load: where its CPU time goes.

    cargo build --release --workspace
    cargo install inferno --no-default-features --features cli  # and perf (Debian: linux-perf), as root or with perf_event_paranoid 1
    tests/tools/kafka install
    python3 benches/flames.py target/release/tollgate OUT [--seconds 10]

Writes OUT/embedded-s.svg, embedded-b.svg, kafka-s.svg and kafka-b.svg: everything in one process, and a gateway on Kafka, with one event a request on 64
connections and 1,000 on 8. At the bottom are the threads. Frames that only call the next one are left out where they are the runtime's or the
standard library's, and of the kernel there is the call and where it spent its time; so what one sees is ours, hyper's, librdkafka's and redb's.
"""

import argparse
import itertools
import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from nodes import Node, cluster, load, of_cluster

# What leads to code and does nothing itself.
LEADS = re.compile(
    r"^<?(&mut )?((std|core|alloc|tokio|futures_util|futures_core|tracing|crossbeam_channel)::|__rust|_start|__libc_start|start_thread|clone3|clone|main$|"
    r"entry_SYSCALL|do_syscall_64|x64_sys_call|\[unknown)")
KERNEL = "[kernel"


def shortened(symbol):
    """A function's name without what its types are made of."""
    symbol = re.sub(r"\+0x[0-9a-f]+$|::h[0-9a-f]{16}$", "", symbol).replace("->", "to").replace(";", ":")
    while True:
        shorter = re.sub(r"(?<=\w)(::)?<[^<>]*>", "", symbol)
        if shorter == symbol:
            return symbol.strip() or "?"
        symbol = shorter


def folded(script):
    """Stacks, outermost frame first, with their number of samples."""
    stacks, thread, frames = Counter(), None, []
    for line in itertools.chain(script, ["\n"]):
        if not line.strip():
            if thread:
                stacks[";".join([thread, *told(frames)])] += 1
            thread, frames = None, []
        elif not line[0].isspace():
            thread = line.split()[0]
        else:
            _, _, rest = line.strip().partition(" ")
            symbol, _, place = rest.rpartition(" (")
            frames.append((shortened(symbol), place.startswith(KERNEL)))
    return stacks


def told(frames):
    """The frames that say something, outermost first; `frames` begin with the innermost."""
    ours = [name for name, is_kernel in frames if not is_kernel]
    kernel = [name for name, is_kernel in frames if is_kernel and not LEADS.match(name)]
    leaf = ours[:1] if not kernel else []
    tale = leaf + [name for name in ours[len(leaf):] if not LEADS.match(name)]
    calls = [*dict.fromkeys([kernel[0], kernel[-1]])] if kernel else []
    return [*tale[::-1], *calls[::-1]]


def drawn(stacks, title, path):
    lines = "".join(f"{stack} {count}\n" for stack, count in stacks.items())
    command = ["inferno-flamegraph", "--title", title, "--minwidth", "0.3", "--colors", "rust", "--countname", "samples"]
    done = subprocess.run(command, input=lines, check=True, capture_output=True, text=True)
    path.write_text(done.stdout)


def captured(binary, node, shape, seconds, scratch):
    """Stacks of a node under a closed loop, once it is warm."""
    load(binary, node.url, "--shape", shape, "--duration", 3)
    data = Path(scratch) / "perf.data"
    record = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", "499", "--call-graph", "dwarf,8192", "-p", str(node.pid), "-o", data],
                              stderr=subprocess.DEVNULL)
    load(binary, node.url, "--shape", shape, "--duration", seconds)
    record.send_signal(signal.SIGINT)
    record.wait()
    with subprocess.Popen(["perf", "script", "--no-inline", "-F", "comm,ip,sym,dso", "-i", data], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          errors="replace") as script:
        return folded(script.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("binary", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=int, default=10)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)

    def draw(node, log, scratch):
        for shape, said in [("s", "one event a request"), ("b", "1,000 events a request")]:
            stacks = captured(given.binary, node, shape, given.seconds, scratch)
            if not stacks:
                sys.exit("perf saw nothing: is it allowed to?")
            drawn(stacks, f"{log}, {said}", given.out / f"{log.split()[-1].lower()}-{shape}.svg")
        node.end()

    with tempfile.TemporaryDirectory() as scratch:
        draw(Node(given.binary, scratch, "all"), "Everything in one process, embedded", scratch)
        with cluster(scratch) as (kafka, postgres):
            settings, environment = of_cluster(1, kafka, postgres, "postgres")
            draw(Node(given.binary, scratch, "gateway", "gateway", settings, environment), "A gateway on Kafka", scratch)


if __name__ == "__main__":
    main()
