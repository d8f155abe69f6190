"""The seed workflow, run by a published Arazzo runner: onboard a customer, meter usage, read it back."""

from __future__ import annotations

import json
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from arazzo_runner import ArazzoRunner
from arazzo_runner.models import WorkflowExecutionResult, WorkflowExecutionStatus

from harness import DAY, DAY_0, HOUR, ROOT, Server, exact

CONTRACT = ROOT / "tests/fixtures/contract"
WORKFLOW = "onboard-customer-and-meter-usage"
# Where the workflow refers to the descriptions, relative to itself.
DESCRIPTIONS = {
    "amberflo-billing.openapi.yaml": "openapi/amberflo-billing-openapi.yaml",
    "amberflo-metering.openapi.yaml": "openapi/amberflo-metering-openapi.yaml",
}
# The server that both descriptions name.
VENDOR = "- url: https://app.amberflo.io\n"

OPTIONAL_INPUTS: dict[str, dict[str, str | None]] = {
    "given": {"customerEmail": "billing@acme.example", "uniqueId": "event-1"},
    "absent": {},
    "null": {"customerEmail": None, "uniqueId": None},
}


class RecordingSession(requests.Session):
    """Keeps what the runner sent and what it got, as it was on the wire."""

    def __init__(self) -> None:
        super().__init__()
        self.exchanges: list[requests.Response] = []

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        response = super().send(request, **kwargs)
        self.exchanges.append(response)
        return response

    def repeat(self, exchange: requests.Response) -> requests.Response:
        """Sends a request again, byte for byte."""
        return self.send(exchange.request)


class Workflow:
    """The workflow with its descriptions pointing at a server; every run has a session of its own."""

    def __init__(self, directory: Path, server: Server) -> None:
        self.server = server
        self.session = RecordingSession()
        self.document = directory / "arazzo" / f"{WORKFLOW}.arazzo.yml"
        self.document.parent.mkdir()
        shutil.copy(CONTRACT / self.document.name, self.document)
        for source, name in DESCRIPTIONS.items():
            description = (CONTRACT / source).read_text()
            assert description.count(VENDOR) == 1
            target = directory / name
            target.parent.mkdir(exist_ok=True)
            target.write_text(description.replace(VENDOR, f"- url: {server.url}\n"))

    def run(self, **inputs: Any) -> WorkflowExecutionResult:
        self.session = RecordingSession()
        runner = ArazzoRunner.from_arazzo_path(str(self.document), http_client=self.session)
        return runner.execute_workflow(
            WORKFLOW,
            {
                "apiKey": self.server.admin_key,
                "customerId": "acme-7",
                "customerName": "Acme Seven",
                "meterApiName": "api-calls",
                "meterValue": 3,
                "meterTimeInMillis": (DAY_0 + 6 * HOUR) * 1000,
                "startTimeInSeconds": DAY_0,
                "endTimeInSeconds": DAY_0 + DAY,
                **inputs,
            },
        )


@pytest.fixture
def workflow(tmp_path: Path, server: Server) -> Workflow:
    return Workflow(tmp_path, server)


def client_meters(value: Any) -> dict[str, Any]:
    """The last step's output for `value`."""
    return {"api-calls": [{"groupInfo": {"customerId": "acme-7"}, "records": [{str(DAY_0): value}]}]}


def sent(exchange: requests.Response) -> Any:
    """The request's body."""
    body = exchange.request.body
    assert isinstance(body, bytes)
    return json.loads(body)


@pytest.mark.parametrize("meter_value", [3, 12.5, 0.1, -4, 1234567.000001])
@pytest.mark.parametrize("optional", OPTIONAL_INPUTS)
def test_the_workflow_ends_with_the_value_just_ingested(workflow: Workflow, optional: str, meter_value: float) -> None:
    result = workflow.run(meterValue=meter_value, **OPTIONAL_INPUTS[optional])

    assert result.status is WorkflowExecutionStatus.WORKFLOW_COMPLETE, result
    assert result.outputs == {"customerId": "acme-7", "clientMeters": client_meters(meter_value)}
    assert result.step_outputs is not None
    assert result.step_outputs["ingestEvent"]["ingestResult"] == "1 records were ingested"

    created, ingested, queried = workflow.session.exchanges
    assert [step.status_code for step in (created, ingested, queried)] == [200, 200, 200]
    # To the digit: the runner itself reads numbers as floats.
    assert exact(queried.text)["clientMeters"] == client_meters(Decimal(json.dumps(meter_value)))


@pytest.mark.parametrize("optional", ["absent", "null"])
def test_the_runner_sends_null_for_an_optional_input_that_was_not_given(workflow: Workflow, optional: str) -> None:
    workflow.run(**OPTIONAL_INPUTS[optional])
    created, ingested, _ = workflow.session.exchanges
    assert sent(created)["customerEmail"] is None
    assert sent(ingested)["uniqueId"] is None
    assert "customerEmail" not in created.json(), "absent in the request, absent in the answer"


def test_a_second_run_with_the_same_customer_ends_at_step_1(workflow: Workflow) -> None:
    assert workflow.run().status is WorkflowExecutionStatus.WORKFLOW_COMPLETE

    again = workflow.run()
    assert again.status is WorkflowExecutionStatus.ERROR
    [created] = workflow.session.exchanges
    assert created.status_code == 400
    assert created.json()["code"] == "DUPLICATE"


def test_step_2_repeated_with_its_unique_id_leaves_the_sum(workflow: Workflow) -> None:
    workflow.run(uniqueId="event-1")
    _, ingested, queried = workflow.session.exchanges
    repeated = workflow.session.repeat(ingested)
    assert (repeated.status_code, repeated.text) == (200, "1 records were ingested")
    assert exact(workflow.session.repeat(queried).text)["clientMeters"] == client_meters(3)


def test_step_2_repeated_without_a_unique_id_is_another_event(workflow: Workflow) -> None:
    workflow.run()
    _, ingested, queried = workflow.session.exchanges
    workflow.session.repeat(ingested)
    assert exact(workflow.session.repeat(queried).text)["clientMeters"] == client_meters(6)


def test_a_wrong_key_ends_the_workflow_at_step_1(workflow: Workflow) -> None:
    assert workflow.run(apiKey="not-a-key").status is WorkflowExecutionStatus.ERROR
    [created] = workflow.session.exchanges
    assert created.status_code == 401
    assert created.json()["code"] == "UNAUTHORIZED"


def test_the_acked_event_outlives_kill_9(workflow: Workflow) -> None:
    workflow.server.keep_port()
    workflow.run(uniqueId="event-1")
    _, ingested, queried = workflow.session.exchanges
    workflow.server.kill()
    workflow.server.start()
    assert exact(workflow.session.repeat(queried).text)["clientMeters"] == client_meters(3)
    assert workflow.session.repeat(ingested).status_code == 200
    assert exact(workflow.session.repeat(queried).text)["clientMeters"] == client_meters(3)
