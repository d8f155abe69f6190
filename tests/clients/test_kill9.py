"""Promises 1 and 2 under the hardest stop there is: acked is durable, and whatever is sent again counts once."""

from __future__ import annotations

import random
import time

import pytest

from harness import Server
from load import Load, expect_usage, load_on

ROUNDS = 20


def wait_for_the_moment(load: Load, rng: random.Random) -> None:
    """Returns at a random moment of this round's work, in every round after some acks: half of the moments are drawn by
    progress (right after an ack, also a very early one), half by time (for what the server does of its own accord)."""
    acked_before = load.ledger.acked_batches
    if rng.random() < 0.5:
        load.ledger.wait_for_batches(acked_before + rng.randint(1, 120))
        time.sleep(rng.uniform(0, 0.005))
    else:
        time.sleep(rng.uniform(0.1, 2.0))
        load.ledger.wait_for_batches(acked_before + 1)
    load.check()


def test_twenty_kills_under_load_lose_nothing_and_count_nothing_twice(
    server: Server, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(seed)
    server.keep_port()
    acked_by_round: list[int] = []
    kills_at_start = 0

    with load_on(server, seed) as load:
        for _ in range(ROUNDS):
            before = load.ledger.acked_batches
            wait_for_the_moment(load, rng)
            server.kill()
            acked_by_round.append(load.ledger.acked_batches - before)

            if rng.random() < 0.25:  # and once more, while it recovers
                server.spawn()
                time.sleep(rng.uniform(0, 0.05))
                server.kill()
                kills_at_start += 1
            server.start()
        load.finish()

    ledger = load.ledger
    with capsys.disabled():
        print(
            f"\nseed {seed}: {ROUNDS} kills under load, {kills_at_start} more during a start; acked"
            f" {ledger.acked_batches} batches with {len(ledger.events)} different events;"
            f" {load.unknown_outcomes} outcomes unknown; acked batches by round {acked_by_round}"
        )
    assert all(acked_by_round)
    expect_usage(server, ledger)

    server.stop()
    server.start()
    expect_usage(server, ledger)
