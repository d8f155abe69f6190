"""The description at /openapi.json holds what it says, whoever sends what; and the page at /docs shows it without a network."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from harness import DAY_0, ROOT, Server

CLIENTS = ROOT / "tests/clients"
# Tests of the whole description are given so long, in s; TOLLGATE_TEST_OPENAPI_SECONDS says otherwise.
SECONDS = int(os.environ.get("TOLLGATE_TEST_OPENAPI_SECONDS", "60"))


@pytest.fixture
def description(server: Server) -> dict[str, Any]:
    # Without a key.
    answer = server.request("GET", "/openapi.json", headers={"X-API-KEY": ""})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    return json.loads(answer.text)


def test_the_description_is_valid_openapi_3_1(description: dict[str, Any]) -> None:
    assert description["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(description).validate()


def examples(description: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """What it is of, its schema, and the example."""
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            bodies = {"request": operation.get("requestBody", {}), **operation["responses"]}
            for name, body in bodies.items():
                for content_type, content in body.get("content", {}).items():
                    if "example" in content:
                        yield f"{method} {path} {name} {content_type}", content["schema"], content["example"]


def test_every_example_is_one_of_what_it_stands_for(description: dict[str, Any]) -> None:
    close_objects(description["components"]["schemas"])
    found = list(examples(description))
    assert len(found) > 50
    for what, schema, example in found:
        validator = OAS31Validator({**schema, "components": description["components"]})
        assert not [error.message for error in validator.iter_errors(example)], what


class Populated:
    """An account with something of everything, so that what is asked for is there."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.post("/customers", {"customerId": "acme", "customerName": "Acme", "traits": {"tier": "gold"}})
        self.post("/meter-definition", {"meterApiName": "calls", "displayName": "Calls", "type": "SUM_OF_ALL_USAGE"})
        self.post("/v1/plans", self.plan())
        self.post("/payments/pricing/amberflo/customer-pricing", {"customerId": "acme", "productPlanId": "pro"})
        order = {"id": "o", "customerId": "acme", "prepaidPrice": 100, "startTimeInSeconds": DAY_0}
        self.post("/payments/pricing/amberflo/customer-prepaid", order)
        self.post("/stigg/api/v1/subscriptions", {"id": "sub-1", "customerId": "acme", "planId": "pro"}, 201)
        self.post("/v1/accounts", {"name": "other"}, 201)
        key = self.post("/v1/keys", {"name": "producer", "scopes": ["ingest"]}, 201)
        good = {"uniqueId": "u-1", "customerId": "acme", "meterApiName": "calls", "meterValue": 3, "meterTimeInMillis": DAY_0 * 1000}
        self.post("/ingest", [good, {**good, "meterValue": 4}, {**good, "uniqueId": "u-2", "meterValue": "x"}], text=True)
        self.post("/octane/customers/acme/mappings", {"label": "host"})
        measured = {"meter_name": "calls", "customer_name": "acme", "value": 1, "time": "2026-01-01T00:00:00"}
        self.post("/octane/measurements", measured)
        [*_, subscription] = self.get("/octane/customers/acme/subscriptions")
        [letter] = self.get("/v1/dead-letters")["deadLetters"]
        [invoice] = self.get("/payments-billing-customer-product-invoice?customerId=acme")
        self.ids = {
            "customerId": "acme",
            "CustomerId": "acme",
            "meterApiName": "calls",
            "meterIdOrSlug": "calls",
            "planId": "pro",
            "subscriptionId": "sub-1",
            "productPlanId": "pro",
            "Id": "o",
            "name": "other",
            "keyId": key["id"],
            "uniqueId": "u-1",
            "position": str(letter["position"]),
            "invoiceId": invoice["invoiceId"],
            "asset": "start.js",
        }
        # Below these paths, the first that fits, parameters of these names are of something else.
        self.ids_below = {
            "/octane/meters": {"name": "calls"},
            "/octane": {"name": "acme", "label": "host", "uuid": subscription["uuid"], "meter_name": "calls"},
        }

    @staticmethod
    def plan() -> dict[str, Any]:
        tiers = [{"upTo": 10, "unitPrice": 0.1}, {"unitPrice": 0.05, "flatPrice": 1}]
        return {
            "id": "pro",
            "currency": "USD",
            "minimum": 5,
            "fees": [{"id": "base", "amount": 10, "due": "advance"}],
            "prices": [{"meter": "calls", "model": "graduated", "included": 1, "tiers": tiers}],
        }

    def get(self, path: str) -> Any:
        answer = self.server.request("GET", path)
        assert answer.status == 200, answer
        return json.loads(answer.text)

    def post(self, path: str, body: Any, status: int = 200, text: bool = False) -> Any:
        answer = self.server.request("POST", path, body)
        assert answer.status == status, answer
        return answer.text if text else json.loads(answer.text)


def close_objects(schema: Any) -> None:
    """From now on an object has no fields but those that are described."""
    if isinstance(schema, list):
        for part in schema:
            close_objects(part)
    elif isinstance(schema, dict):
        if "properties" in schema and "maxProperties" not in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            close_objects(part)


def in_requests(description: dict[str, Any]) -> set[str]:
    """The names of the schemas that bodies of requests have."""
    names: set[str] = set()

    def collect(part: Any) -> None:
        if isinstance(part, list):
            for one in part:
                collect(one)
        elif isinstance(part, dict):
            name = str(part.get("$ref", "")).rpartition("/")[2]
            if name in description["components"]["schemas"] and name not in names:
                names.add(name)
                collect(description["components"]["schemas"][name])
            for one in part.values():
                collect(one)

    for path in description["paths"].values():
        for operation in path.values():
            collect(operation.get("requestBody"))
    return names


def sharpen(description: dict[str, Any], populated: Populated) -> None:
    """Makes the description say more: what answers have no field for must not be in them, and what is there has these ids. What clients
    read stays open for fields to come."""
    asked = in_requests(description)
    for name, schema in description["components"]["schemas"].items():
        if name not in asked:
            close_objects(schema)
    # Nobody makes another operator: the last one's key, with which all of this is asked, cannot be revoked.
    description["components"]["schemas"]["NewKey"]["properties"]["scopes"]["items"]["enum"].remove("operator")
    # Where both keys come, nobody looks at this one.
    del description["components"]["securitySchemes"]["bearer"]
    for name, path in description["paths"].items():
        below = [ids for prefix, ids in populated.ids_below.items() if name.startswith(prefix)]
        ids = populated.ids | (below[0] if below else {})
        for operation in path.values():
            operation["security"] = [need for need in operation["security"] if "bearer" not in need]
            close_objects(operation["responses"])
            for parameter in operation["parameters"]:
                if parameter.get("name") in ids:
                    parameter["example"] = ids[parameter["name"]]


def test_schemathesis_finds_no_answer_that_is_not_described(
    server: Server, description: dict[str, Any], seed: int, tmp_path: Path
) -> None:
    sharpen(description, Populated(server))
    described = tmp_path / "openapi.json"
    described.write_text(json.dumps(description))
    command = [
        sys.executable, "-m", "schemathesis.cli", f"--config-file={CLIENTS / 'schemathesis.toml'}", "run", described,
        f"--url={server.url}", f"--header=X-API-KEY: {server.admin_key}", f"--max-time={SECONDS}", f"--seed={seed}",
        "--continue-on-failure", "--generation-database=none", "--no-color", "--warnings=off",
    ]  # fmt: skip
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "openapi_hooks", "PYTHONPATH": str(CLIENTS), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=2 * SECONDS + 240)
    print(ran.stdout[-50_000:], ran.stderr[-2_000:])
    assert ran.returncode == 0
    assert "errored" not in ran.stdout
    # It is the same process, which has everything, and panics are not answers.
    assert "panicked" not in server.stderr
    assert server.request("GET", "/customers?customerId=acme").status == 200
    answered = set(re.findall(r'_requests_total\{route="(/[^"]+)",status="20[01]"\} [1-9]', server.ops("GET", "/metrics").text))
    # Refusals alone would show little.
    assert len(answered) > 0.8 * len(description["paths"]), sorted(answered)
