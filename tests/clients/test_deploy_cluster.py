"""A node with the settings of `deploy/tollgate-cluster.toml` as they are, on a real Kafka and a real PostgreSQL: it takes an event and
shows it, and whatever rules and dashboard ask of a cluster is there."""

from __future__ import annotations

import json
import secrets
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness
from backends import backends
from harness import DAY, DEPLOY, Server, exact, wait_for
from test_deploy_metrics import (
    check_names,
    evaluated,
    metrics,
    name_of,
    named,
    panel_expressions,
    prometheus,
    rules,
    scraped,
    selectors,
    unseen,
)

SETTINGS = DEPLOY / "tollgate-cluster.toml"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Addresses alone are others, and there is one broker."""
    directory = tmp_path_factory.mktemp("cluster")
    with backends(directory) as found:
        server = Server(directory / "data", secrets.token_hex(16))
        server.flags = ["--config", SETTINGS]
        server.ops_listen = f"127.0.0.1:{harness.free_port()}"
        server.variables = found.variables() | {"TOLLGATE_OPS_LISTEN": server.ops_listen}
        try:
            yield server.start()
            server.stop()
        finally:
            if server.process is not None:
                server.kill()
            print(server.output())


def total(server: Server, name: str) -> float:
    lines = [line.rsplit(" ", 1) for line in metrics(server).splitlines() if line and not line.startswith("#")]
    return sum(float(value) for series, value in lines if name_of(series) == name)


def test_a_node_with_the_settings_for_a_cluster_takes_an_event_and_shows_it(node: Server) -> None:
    now = int(time.time())
    day = now - now % DAY
    of_all = {"customerId": "acme", "meterApiName": "m", "meterValue": 2.5}
    event = of_all | {"uniqueId": "u-1", "meterTimeInMillis": now * 1_000}
    # What the file sets: too old an event is refused, its neighbour is taken.
    old = of_all | {"uniqueId": "old", "meterTimeInMillis": (now - 36 * DAY) * 1_000}
    answer = node.request("POST", "/ingest", [event, old])
    assert (answer.status, answer.headers["Tollgate-Rejected"]) == (200, "1"), answer
    query = {
        "meterApiName": "m",
        "aggregation": "SUM",
        "timeGroupingInterval": "DAY",
        "startTimeInSeconds": day,
        "endTimeInSeconds": day + DAY,
        "groupBy": ["customerId"],
    }
    answer = node.request("POST", "/usage", query, {"Prefer": "wait=30"})
    assert answer.headers["Tollgate-Complete"] == "true", answer
    [group] = answer.json()["clientMeters"]["m"]
    assert group == {"groupInfo": {"customerId": "acme"}, "records": [{str(day): exact("2.5")}]}
    settings = tomllib.loads(SETTINGS.read_text())
    assert total(node, "tollgate_owned_partitions") == settings["kafka"]["partitions"]
    # Lines for programs, as the file wants them.
    assert all(json.loads(line) for line in node.stderr.splitlines())


def test_every_metric_that_is_named_for_a_cluster_is_in_a_scrape_of_a_node(node: Server) -> None:
    assert len(named(of_cluster=True)) > 15
    assert named(of_cluster=True) - scraped(node) == set()


def test_the_dashboard_shows_every_metric_of_a_node_of_a_cluster(node: Server) -> None:
    assert unseen(node) == set()


def test_metrics_of_a_cluster_are_named_as_prometheus_wants_them(node: Server) -> None:
    check_names(node)


def test_a_real_prometheus_answers_whatever_is_asked_of_a_cluster_and_nobody_is_woken(
    node: Server, tmp_path: Path
) -> None:
    with prometheus(tmp_path / "prometheus", node.ops_listen) as running:
        asked = {selector for rule in rules(of_cluster=True) for selector in selectors(rule["expr"])}
        assert len(asked) > 8
        for selector in asked:
            wait_for(selector, lambda selector=selector: running.query(selector))
        expressions = panel_expressions(of_cluster=True)
        assert len(expressions) > 15
        for panel, expression in expressions.items():
            wait_for(f"a value for {panel}: {expression}", lambda expression=expression: running.query(expression))
        wait_for("every rule to be evaluated", lambda: evaluated(running))
        # Well behind the interval of the statistics: brokers are connected, none of their answers is missing.
        wait_for("Kafka's figures", lambda: running.value('tollgate_kafka_connected_brokers{client="events"}') == 1)
        assert "firing" not in running.alerts().values(), running.alerts()
