"""`deploy/`, as far as it can be tried without an engine for containers: each file is read by the tool that it is for,
and what files say of each other, of the binary and of the repository is so."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import harness
from harness import BINARY, DEPLOY, HELM, ROOT, Server

CHART = DEPLOY / "helm/tollgate"

SECRETS = {"TOLLGATE_ADMIN_KEY": "a1", "POSTGRES_PASSWORD": "b2", "GRAFANA_PASSWORD": "c3"}


def tool(*command: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a tool, output and errors together."""
    return subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | (env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )


def passes(*command: str | Path) -> str:
    result = tool(*command)
    assert result.returncode == 0, result.stdout
    return result.stdout


@pytest.fixture(scope="module")
def cargo_toml() -> dict[str, Any]:
    return tomllib.loads((ROOT / "Cargo.toml").read_text())


@pytest.fixture(scope="module")
def known_settings() -> set[str]:
    """Variables and flags that `tollgate serve` takes."""
    text = harness.run("serve", "--help").stdout
    return set(re.findall(r"\[env: (\w+)", text)) | set(re.findall(r"--[\w-]+", text))


# --- Prometheus -----------------------------------------------------------------------------------------------------


def test_prometheus_takes_its_configuration_and_the_rules() -> None:
    output = passes("promtool", "check", "config", "--lint=all", "--lint-fatal", DEPLOY / "prometheus/prometheus.yml")
    assert "FAILED" not in output, output


def test_each_alert_fires_when_it_should_and_only_then() -> None:
    passes("promtool", "test", "rules", DEPLOY / "prometheus/alerts.test.yml")


def alerts() -> list[dict[str, Any]]:
    text = (DEPLOY / "prometheus/alerts.yml").read_text()
    return [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]


def test_each_alert_is_seen_to_fire_in_the_tests_of_the_rules() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus/alerts.test.yml").read_text())["tests"]
    asked = [question for test in tests for question in test["promql_expr_test"] if question["exp_samples"]]
    seen = {re.search(r'alertname="(\w+)"', question["expr"])[1] for question in asked}
    assert {alert["alert"] for alert in alerts()} - seen == set()


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_each_alert_says_what_is_wrong_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert set(alert["annotations"]) == {"summary", "description", "action"}
    assert all(len(text) > 20 for text in alert["annotations"].values()), alert


# --- Compose --------------------------------------------------------------------------------------------------------


def test_compose_is_taken_with_its_secrets() -> None:
    result = tool("docker-compose", "--file", DEPLOY / "compose.yaml", "config", env=SECRETS)
    assert result.returncode == 0, result.stdout
    assert "a1" in result.stdout and "postgres://tollgate:b2@postgres:5432/tollgate" in result.stdout


@pytest.mark.parametrize("missing", SECRETS)
def test_compose_is_refused_without_a_secret_and_says_which(missing: str) -> None:
    result = tool("docker-compose", "--file", DEPLOY / "compose.yaml", "config", env=SECRETS | {missing: ""})
    assert result.returncode != 0
    assert missing in result.stdout and "env.example" in result.stdout, result.stdout


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


def test_compose_runs_exact_versions(services: dict[str, Any], cargo_toml: dict[str, Any]) -> None:
    tags = {service["image"].rpartition(":")[::2] for service in services.values()}
    assert all(re.fullmatch(r"v?\d+\.\d+(\.\d+)?", tag) for _, tag in tags), tags
    assert ("tollgate", cargo_toml["package"]["version"]) in tags


def test_what_compose_mounts_is_there(services: dict[str, Any]) -> None:
    for service in services.values():
        for volume in service.get("volumes", []):
            source, target = volume.split(":")[:2]
            assert not source.startswith(".") or (DEPLOY / source).exists(), volume
            if target == "/etc/prometheus":
                assert (DEPLOY / source / "prometheus.yml").is_file()


def test_prometheus_scrapes_all_nodes_of_compose(services: dict[str, Any], dockerfile: list[tuple[str, str]]) -> None:
    [variables] = [rest for word, rest in dockerfile if word == "ENV"]
    port = re.search(r"TOLLGATE_OPS_LISTEN=0\.0\.0\.0:(\d+)", variables)[1]
    nodes = {f"{name}:{port}" for name, service in services.items() if service["image"].startswith("tollgate:")}
    assert len(nodes) == 2
    [job] = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    [targets] = job["static_configs"]
    assert set(targets["targets"]) == nodes


def test_grafana_finds_dashboard_and_data_source_where_compose_puts_them(services: dict[str, Any]) -> None:
    volumes = [volume.split(":") for volume in services["grafana"]["volumes"]]
    mounted = {target: source for source, target, *_ in volumes}
    provisioning = DEPLOY / mounted["/etc/grafana/provisioning"]
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    [provider] = yaml.safe_load((provisioning / "dashboards/tollgate.yaml").read_text())["providers"]
    dashboard = DEPLOY / mounted[provider["options"]["path"]] / "tollgate.json"
    home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/{dashboard.name}"
    variables = {variable["name"]: variable for variable in json.loads(dashboard.read_text())["templating"]["list"]}
    assert variables["datasource"]["current"]["value"] == source["uid"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in services


# --- The dashboard --------------------------------------------------------------------------------------------------


def test_the_panels_of_the_dashboard_have_a_place_and_a_number_of_their_own() -> None:
    panels = json.loads((DEPLOY / "grafana/dashboards/tollgate.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 30
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert at["x"] + at["w"] <= 24 and taken.isdisjoint(cells), panel["title"]
        taken |= cells


# --- The image ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dockerfile() -> list[tuple[str, str]]:
    """Its instructions, each as its word and the rest."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]


@pytest.fixture
def build_context(tmp_path: Path) -> Path:
    """The files of the repository that `.dockerignore` leaves. It has only `*` and exceptions that are paths."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*" and all(re.fullmatch(r"![\w.]+", rule) for rule in rules[1:]), rules
    for rule in rules[1:]:
        source = ROOT / rule[1:]
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / rule[1:])
    return tmp_path


def test_the_image_is_built_from_all_that_cargo_needs(build_context: Path) -> None:
    metadata = json.loads(passes("cargo", "metadata", "--locked", "--no-deps", "--format-version=1"))
    # Cargo wants to see everything that Cargo.toml names, built or not, and all packages of the workspace. What it finds by itself may
    # be missing: tests.
    targets = [target for package in metadata["packages"] for target in package["targets"] if target["kind"] != ["test"]]
    paths = [package["manifest_path"] for package in metadata["packages"]] + [target["src_path"] for target in targets]
    needed = [Path(path).relative_to(ROOT) for path in paths]
    assert {Path("src/lib.rs"), Path("src/main.rs"), Path("benches/append.rs"), Path("benches/guard/Cargo.toml")} <= set(needed)
    assert [path for path in (*needed, Path("Cargo.lock")) if not (build_context / path).is_file()] == []
    # What the code takes in from files has to come along, too.
    for file in (build_context / "src").rglob("*.rs"):
        for path in re.findall(r'include_(?:str|bytes)!\("([^"]+)"\)', file.read_text()):
            assert (file.parent / path).resolve().is_file(), (file, path)


def test_the_image_is_built_with_the_version_of_rust_that_the_crate_names(
    dockerfile: list[tuple[str, str]], cargo_toml: dict[str, Any]
) -> None:
    build, run = [rest for word, rest in dockerfile if word == "FROM"]
    assert build.startswith(f"rust:{cargo_toml['package']['rust-version']}.")
    # One Debian: what the binary is linked with has to be there.
    assert "trixie" in build and "debian13" in run
    [feature] = [rest.removeprefix("FEATURES=") for word, rest in dockerfile if word == "ARG"]
    assert feature in cargo_toml["features"]
    [command] = [rest for word, rest in dockerfile if word == "RUN" and "cargo build" in rest]
    assert "cargo build --release --locked" in command


def test_the_image_runs_as_nobody_in_particular_and_owns_its_data(dockerfile: list[tuple[str, str]]) -> None:
    [user] = [rest for word, rest in dockerfile if word == "USER"]
    assert user == "65532:65532"
    [data] = [rest for word, rest in dockerfile if word == "VOLUME"]
    copies = [rest.split() for word, rest in dockerfile if word == "COPY"]
    assert any(f"--chown={user}" in copy and copy[-1] == data for copy in copies)


def test_image_compose_and_chart_set_what_the_binary_knows(
    dockerfile: list[tuple[str, str]], known_settings: set[str], services: dict[str, Any]
) -> None:
    chart = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    named = {name for word, rest in dockerfile if word == "ENV" for name in re.findall(r"TOLLGATE_\w+", rest)}
    assert len(named) == 4
    named |= set(re.findall(r"TOLLGATE_\w+", chart)) | set(re.findall(r'"(--[\w-]+)"', chart))
    for service in services.values():
        named |= {name for name in service.get("environment", {}) if name.startswith("TOLLGATE_")}
        if service["image"].startswith("tollgate:"):
            named |= {word for word in service["command"] if word.startswith("--")}
    assert named - known_settings == set()
    assert {"--roles", "TOLLGATE_DATABASE_URL", "TOLLGATE_KAFKA_BROKERS"} <= named


@pytest.fixture
def node_with_ops(new_server: Callable[..., Server]) -> Server:
    """A node that serves health and metrics on an address of their own, as it does in a container."""
    server = new_server()
    server.variables["TOLLGATE_OPS_LISTEN"] = server.ops_listen = f"127.0.0.1:{harness.free_port()}"
    return server.start()


def test_the_health_checks_of_image_and_compose_tell_whether_a_node_lives(
    node_with_ops: Server, dockerfile: list[tuple[str, str]], services: dict[str, Any]
) -> None:
    [check] = [rest for word, rest in dockerfile if word == "HEALTHCHECK"]
    of_image = json.loads(check[check.index("[") :])
    of_compose = services["tollgate-1"]["healthcheck"]["test"][1:]

    def ask(command: list[str]) -> subprocess.CompletedProcess[str]:
        assert command[0] == "/usr/local/bin/tollgate"
        return tool(BINARY, *command[1:], env={"TOLLGATE_OPS_LISTEN": node_with_ops.ops_listen})

    for command, said in ((of_image, "ok\n"), (of_compose, "ready\n")):
        result = ask(command)
        assert (result.returncode, result.stdout) == (0, said)
    node_with_ops.stop()
    for command in (of_image, of_compose):
        result = ask(command)
        assert result.returncode == 1 and "no answer" in result.stdout, result


# --- The chart ------------------------------------------------------------------------------------------------------

VALUES = {"default": [], "production": ["--values", str(CHART / "values-production.yaml")]}


def helm_template(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [HELM, "template", "release", CHART, "--kube-version", "1.30.0", *arguments]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def render(*arguments: str) -> list[dict[str, Any]]:
    result = helm_template(*arguments)
    assert result.returncode == 0, result.stderr
    return [document for document in yaml.safe_load_all(result.stdout) if document]


@pytest.mark.parametrize("values", VALUES)
def test_helm_finds_nothing_to_say_against_the_chart(values: str) -> None:
    passes(HELM, "lint", "--strict", "--kube-version", "1.30.0", CHART, *VALUES[values])


@pytest.fixture(scope="module", params=VALUES)
def objects(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return render(*VALUES[request.param])


def of_kind(objects: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [document for document in objects if document["kind"] in kinds]


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The pods' labels and specifications."""
    for document in of_kind(objects, "Deployment", "StatefulSet"):
        template = document["spec"]["template"]
        yield template["metadata"]["labels"], template["spec"]


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def test_the_chart_has_gateways_and_materializers(objects: list[dict[str, Any]]) -> None:
    roles = {spec["containers"][0]["args"][-1]: labels["app.kubernetes.io/component"] for labels, spec in pods(objects)}
    assert roles == {"gateway,api": "gateway", "materializer": "materializer"}
    [gateway] = of_kind(objects, "Deployment")
    [materializer] = of_kind(objects, "StatefulSet")
    [scaler] = of_kind(objects, "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == gateway["metadata"]["name"]
    assert "replicas" not in gateway["spec"], "each upgrade would undo what the autoscaler did"
    [claim] = materializer["spec"]["volumeClaimTemplates"]
    [container] = materializer["spec"]["template"]["spec"]["containers"]
    assert claim["metadata"]["name"] in {mount["name"] for mount in container["volumeMounts"]}
    names = {service["metadata"]["name"] for service in of_kind(objects, "Service")}
    assert materializer["spec"]["serviceName"] in names


def test_every_selector_of_the_chart_finds_its_pods(objects: list[dict[str, Any]]) -> None:
    labels = [labels for labels, _ in pods(objects)]
    ports = {port["name"] for _, spec in pods(objects) for port in spec["containers"][0]["ports"]}
    for document in of_kind(objects, "Deployment", "StatefulSet", "PodDisruptionBudget"):
        selector = document["spec"]["selector"]["matchLabels"]
        assert sum(selects(selector, of_pod) for of_pod in labels) == 1, document["metadata"]["name"]
    for service in of_kind(objects, "Service"):
        assert any(selects(service["spec"]["selector"], of_pod) for of_pod in labels), service["metadata"]["name"]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for monitor in of_kind(objects, "ServiceMonitor"):
        selector = monitor["spec"]["selector"]["matchLabels"]
        [service] = [one for one in of_kind(objects, "Service") if selects(selector, one["metadata"]["labels"])]
        asked = {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]}
        assert asked <= {port["name"] for port in service["spec"]["ports"]}
    services = {service["metadata"]["name"]: service for service in of_kind(objects, "Service")}
    for ingress in of_kind(objects, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                backend = path["backend"]["service"]
                numbers = {port["port"] for port in services[backend["name"]]["spec"]["ports"]}
                assert backend["port"]["number"] in numbers


def test_pods_have_no_rights_that_they_do_not_need(objects: list[dict[str, Any]]) -> None:
    for _, spec in pods(objects):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = spec["containers"]
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"] and "cpu" in container["resources"]["requests"]
        writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert writable == {"/var/lib/tollgate"}


def test_secrets_come_by_reference(objects: list[dict[str, Any]]) -> None:
    assert not of_kind(objects, "Secret")
    for _, spec in pods(objects):
        variables = {variable["name"]: variable for variable in spec["containers"][0]["env"]}
        for name in ("TOLLGATE_DATABASE_URL", "TOLLGATE_ADMIN_KEY"):
            assert "value" not in variables[name] and variables[name]["valueFrom"]["secretKeyRef"]["name"]


def test_probes_ask_what_a_node_answers(objects: list[dict[str, Any]], node_with_ops: Server) -> None:
    for _, spec in pods(objects):
        [container] = spec["containers"]
        asked = {probe: container[f"{probe}Probe"]["httpGet"] for probe in ("startup", "liveness", "readiness")}
        assert {get["port"] for get in asked.values()} == {"ops"}
        assert (asked["liveness"]["path"], asked["readiness"]["path"]) == ("/healthz", "/readyz")
        for get in asked.values():
            assert node_with_ops.ops("GET", get["path"]).status == 200
        # What is under way is answered within 10 s (http.drain_timeout), after the pause before SIGTERM.
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        assert spec["terminationGracePeriodSeconds"] >= pause + 30


def test_pods_start_again_when_settings_of_the_chart_change() -> None:
    def checksums(*arguments: str) -> set[str]:
        templates = [one["spec"]["template"] for one in of_kind(render(*arguments), "Deployment", "StatefulSet")]
        return {template["metadata"]["annotations"]["checksum/settings"] for template in templates}

    [before], [after] = checksums(), checksums("--set-string", "settings=[logging]")
    assert before != after


def test_materializers_can_be_upgraded_before_gateways() -> None:
    objects = render("--set", "image.tag=2.0.0", "--set", "gateway.imageTag=1.0.0")
    images = {labels["app.kubernetes.io/component"]: spec["containers"][0]["image"] for labels, spec in pods(objects)}
    assert images == {"gateway": "tollgate:1.0.0", "materializer": "tollgate:2.0.0"}


def test_tls_of_the_chart_reaches_the_node() -> None:
    objects = render("--set", "tls.secretName=cert", "--set", "tls.clientCaKey=ca.crt")
    for _, spec in pods(objects):
        [container] = spec["containers"]
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert {"name": "tls", "secret": {"secretName": "cert"}} in spec["volumes"]
        for name, file in (("CERT", "tls.crt"), ("KEY", "tls.key"), ("CLIENT_CA", "ca.crt")):
            assert variables[f"TOLLGATE_TLS_{name}"] == f"{mounts['tls']}/{file}"


def test_the_rules_and_the_dashboard_of_the_chart_are_those_of_deploy() -> None:
    objects = render(*VALUES["production"])
    [rule] = of_kind(objects, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())
    [dashboard] = [one for one in of_kind(objects, "ConfigMap") if one["metadata"]["name"].endswith("-dashboard")]
    assert json.loads(dashboard["data"]["tollgate.json"]) == json.loads(
        (DEPLOY / "grafana/dashboards/tollgate.json").read_text()
    )


def test_the_version_of_the_chart_is_that_of_the_crate(cargo_toml: dict[str, Any]) -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == cargo_toml["package"]["version"]


@pytest.mark.parametrize(
    "wrong",
    [
        "gateway.replicas=0",
        "gateway.autoscaling.cpuPercent=150",
        "gateway.replica=3",
        "materializer.persistence.size=lots",
        "kafka.brokers=kafka",
        "kafka.replication=two",
        "database.urlSecret.name=",
        "database.url=postgres://u:p@h/d",
        "service.type=Something",
        "serviceMonitor.interval=often",
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(wrong: str) -> None:
    result = helm_template("--set", wrong)
    assert result.returncode != 0, f"{wrong} was taken"
    path, key = wrong.split("=")[0].rsplit(".", 1)
    assert f"/{path.replace('.', '/')}" in result.stderr and key in result.stderr, result.stderr


# --- Settings and systemd -------------------------------------------------------------------------------------------


def test_a_node_starts_with_the_settings_for_production(new_server: Callable[..., Server], tmp_path: Path) -> None:
    text = (DEPLOY / "tollgate.toml").read_text()
    # Its port may be somebody else's here.
    settings, removed = re.subn(r"^ops_listen = .*$", "", text, flags=re.MULTILINE)
    assert removed == 1
    file = tmp_path / "tollgate.toml"
    file.write_text(settings)
    server = new_server()
    server.variables["TOLLGATE_CONFIG"] = str(file)
    server.start().stop()
    assert 'format":' in server.stderr or server.stderr.startswith("{"), "log lines are JSON"


def test_the_settings_of_chart_and_cluster_are_the_same() -> None:
    cluster = tomllib.loads((DEPLOY / "tollgate-cluster.toml").read_text())
    # These come by variables in the chart.
    for name in ("listen", "ops_listen", "data_dir"):
        del cluster[name]
    for name in ("brokers", "replication"):
        del cluster["kafka"][name]
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert tomllib.loads(values["settings"]) == cluster
    embedded = tomllib.loads((DEPLOY / "tollgate.toml").read_text())
    assert embedded["ingest"] == cluster["ingest"] and embedded["log"] == cluster["log"]


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units, for a binary that is there."""
    for name in ("tollgate.service", "tollgate.socket"):
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/usr/local/bin/tollgate", str(BINARY)))
    return [tmp_path / "tollgate.service", tmp_path / "tollgate.socket"]


def test_systemd_finds_nothing_to_say_against_the_units(units: list[Path]) -> None:
    assert passes("systemd-analyze", "verify", *units) == ""


def test_the_service_is_shut_in_well(units: list[Path]) -> None:
    # 0 is shut in, 100 is open; what systemd calls OK ends at 49.
    passes("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", units[0])
