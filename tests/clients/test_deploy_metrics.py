"""A real Prometheus scrapes a real node: whatever rules and dashboard ask for is there."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import harness
from harness import DAY_0, DEPLOY, Server, wait_for

GOOD, BAD = 25, 3

# What is no name of a metric in PromQL, as far as it stands here.
_WORDS = set(
    "absent and bool by changes count histogram_quantile ignoring increase job max max_over_time min min_over_time on or "
    "predict_linear rate sum time unless vector without".split()
)
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^}]*\})?")


def selectors(expression: str) -> set[str]:
    """The metrics that an expression asks for, each with its labels."""
    without_lists = re.sub(r"\b(?:by|on|without|ignoring)\s*\([^)]*\)", "", expression)
    without_times = re.sub(r"\[[^\]]*\]", "", without_lists)
    return {name + (labels or "") for name, labels in _SELECTOR.findall(without_times) if name not in _WORDS}


def name_of(selector: str) -> str:
    return selector.partition("{")[0]


# Names of a group of rules and of a row of the dashboard: what only nodes of a cluster count. test_deploy_cluster.py is about it.
CLUSTER_GROUP, CLUSTER_ROW = "tollgate-cluster", "Cluster"


def rules(of_cluster: bool = False) -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if (group["name"] == CLUSTER_GROUP) == of_cluster]


def dashboard() -> dict[str, Any]:
    return json.loads((DEPLOY / "grafana/dashboards/tollgate.json").read_text())


def panel_expressions(of_cluster: bool = False) -> dict[str, str]:
    """Every expression of the dashboard with its variables filled in, by panel."""
    row, found = "", {}
    for panel in dashboard()["panels"]:
        row = panel["title"] if panel["type"] == "row" else row
        if (row == CLUSTER_ROW) == of_cluster:
            targets = panel.get("targets", [])
            found |= {f"{panel['title']} {target['refId']}": filled(target["expr"]) for target in targets}
    return found


def named(of_cluster: bool = False) -> set[str]:
    """The metrics that rules and dashboard name."""
    expressions = [rule["expr"] for rule in rules(of_cluster)] + list(panel_expressions(of_cluster).values())
    return {name_of(selector) for expression in expressions for selector in selectors(expression)} - {"up"}


def filled(expression: str) -> str:
    for variable, value in (("$job", "tollgate"), ("$instance", ".*"), ("$__rate_interval", "10s")):
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    return expression


def test_selectors_are_found_in_expressions() -> None:
    found = selectors('sum by (le) (rate(a_total{x="y"}[5m])) / on (job, le) b > 3 and c == 0')
    assert found == {'a_total{x="y"}', "b", "c"}


@dataclass
class Prometheus:
    """A running Prometheus with the configuration of `deploy/`."""

    port: int

    def get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as response:
            answer = json.load(response)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        return self.get("/api/v1/query", query=expression)["result"]

    def value(self, expression: str) -> float | None:
        """The only value of an expression, if it has one."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def alerts(self) -> dict[str, str]:
        """Alerts that fire or are about to, with their state."""
        return {alert["labels"]["alertname"]: alert["state"] for alert in self.get("/api/v1/alerts")["alerts"]}

    def is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return self.value('up{job="tollgate"}') == 1
        return False


@contextlib.contextmanager
def prometheus(directory: Path, target: str) -> Iterator[Prometheus]:
    """Runs Prometheus with the configuration of `deploy/`, but for the target, and for times that nobody waits for."""
    directory.mkdir()
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s", "scrape_timeout": "1s"}
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    config["rule_files"] = [str(DEPLOY / "prometheus" / file) for file in config["rule_files"]]
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = harness.free_port()
    with (directory / "output").open("w") as output:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            running = Prometheus(port)
            wait_for("Prometheus to have scraped the node", running.is_up)
            yield running
        finally:
            process.terminate()
            process.wait(30)
            print((directory / "output").read_text()[-2000:])


def event(number: int, **changes: Any) -> dict[str, Any]:
    of_all = {"customerId": "c", "meterApiName": "m", "meterValue": 1, "meterTimeInMillis": DAY_0 * 1000}
    return of_all | {"uniqueId": f"u-{number}"} | changes


def test_whatever_an_alert_asks_for_is_there_before_anything_happened(server: Server, tmp_path: Path) -> None:
    """An increase from nothing is none: what is counted has to begin at zero."""
    with prometheus(tmp_path / "prometheus", f"127.0.0.1:{server.port}") as running:
        asked = {selector for rule in rules() for selector in selectors(rule["expr"])}
        assert len(asked) > 20
        for selector in asked:
            wait_for(selector, lambda selector=selector: running.query(selector))


def test_a_real_prometheus_scrapes_a_real_node_and_answers(server: Server, tmp_path: Path) -> None:
    with prometheus(tmp_path / "prometheus", f"127.0.0.1:{server.port}") as running:
        assert server.request("POST", "/ingest", [event(number) for number in range(GOOD)]).status == 200
        bad = [event(100 + number, meterValue="three") for number in range(BAD)]
        assert server.request("POST", "/ingest", [*bad, event(0), event(1, meterValue=2)]).status == 200
        assert sum(server.usage("m", "SUM", days=1).values()) == GOOD

        outcomes = 'sum by (outcome) (tollgate_events_total{outcome="%s"})'
        wait_for("the events that are logged", lambda: running.value(outcomes % "logged") == GOOD + 1)
        assert running.value(outcomes % "rejected") == BAD
        assert running.value(outcomes % "known") == 1
        wait_for("the conflict", lambda: running.value('sum(tollgate_verdicts_total{verdict="conflict"})') == 1)
        assert running.value("tollgate_ready") == 1

        expressions = panel_expressions()
        assert len(expressions) > 50
        for panel, expression in expressions.items():
            wait_for(f"a value for {panel}: {expression}", lambda expression=expression: running.query(expression))
        for annotation in dashboard()["annotations"]["list"]:
            running.query(filled(annotation["expr"]))

        # With bad events in it the books say so; but nobody is woken by a node that is well.
        seen = {rule["name"]: rule for group in running.get("/api/v1/rules")["groups"] for rule in group["rules"]}
        assert set(seen) == {rule["alert"] for rule in rules() + rules(of_cluster=True)}
        wait_for("every rule to be evaluated", lambda: evaluated(running))
        assert "firing" not in running.alerts().values(), running.alerts()
        assert not {name for name in running.alerts() if "Certificate" in name}, "without TLS there is no end of one"

        server.kill()
        wait_for("the alert of a node that is gone", lambda: running.alerts().get("TollgateDown") == "pending")


def evaluated(running: Prometheus) -> bool:
    """Whether every rule was evaluated, none with an error."""
    of_all = [rule for group in running.get("/api/v1/rules")["groups"] for rule in group["rules"]]
    assert "err" not in {rule["health"] for rule in of_all}, of_all
    return {rule["health"] for rule in of_all} == {"ok"}


def test_every_metric_that_rules_and_dashboard_name_is_in_a_scrape_from_the_start_on(server: Server) -> None:
    assert len(named()) > 30
    # Dead letters are counted once they were looked through.
    wait_for("the dead letters", lambda: "tollgate_dead_letters{" in metrics(server))
    assert named() - scraped(server) == set()


def test_the_dashboard_shows_every_metric_of_tollgate(server: Server) -> None:
    assert unseen(server) == set()


def scraped(server: Server) -> set[str]:
    """The metrics that a node has now."""
    lines = [line for line in metrics(server).splitlines() if line and not line.startswith("#")]
    return {name_of(line.split()[0]) for line in lines}


def unseen(server: Server) -> set[str]:
    """The metrics of a node that no panel shows."""
    types = re.findall(r"^# TYPE (tollgate_\w+) (\w+)$", metrics(server), re.MULTILINE)
    expressions = (panel_expressions() | panel_expressions(of_cluster=True)).values()
    shown = {name_of(selector) for expression in expressions for selector in selectors(expression)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} | shown
    return {name for name, _ in types} - families


def test_metrics_are_named_as_prometheus_wants_them(server: Server) -> None:
    check_names(server)


def check_names(server: Server) -> None:
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics(server), capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 0, result.stdout + result.stderr


def metrics(server: Server) -> str:
    answer = server.ops("GET", "/metrics")
    assert answer.status == 200
    return answer.text
