"""What OpenMeter's published clients (Python and node) and the CloudEvents client (node) do, unmodified but for the URL and the key, at both of
the addresses, on both logs and stores.

Their meters are of events whose type is the meter's name and whose number is the member `value`, unless a test is about something else.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from corehttp.exceptions import ClientAuthenticationError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from openmeter import Client
from openmeter.models import Event, MeterCreate, MeterQueryRequest, MeterUpdate

from conftest import Tenant
from harness import ROOT

NODE = ROOT / "tests/clients/node"
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC)
TOKENS: dict[str, Any] = {
    "slug": "tokens",
    "aggregation": "SUM",
    "eventType": "tokens",
    "valueProperty": "$.value",
    "groupBy": {"model": "$.model"},
}


@pytest.fixture(params=["", "/openmeter"], ids=["root", "prefix"])
def url(request: pytest.FixtureRequest, tenant: Tenant) -> str:
    return tenant.server.url + request.param


@pytest.fixture
def openmeter(url: str, tenant: Tenant) -> Iterator[Client]:
    # One that is refused is not sent again: nothing here is refused for long.
    with Client(endpoint=url, token=tenant.key, retry_total=0) as client:
        yield client


def node(script: str, **said: Any) -> Any:
    """What a script of node's writes."""
    ran = subprocess.run(
        [Path(sys.executable).with_name("node"), NODE / script], input=json.dumps(said), capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


Call = Callable[..., Any]


@pytest.fixture
def js(url: str, tenant: Tenant) -> Call:
    """Calls of the node client: what comes back, one for each."""

    def call(*calls: tuple[str, str, list[Any]], key: str = tenant.key) -> Any:
        return node("openmeter.mjs", url=url, key=key, calls=calls)

    return call


def event(id: str, subject: str, time: datetime, data: dict[str, Any], type: str = "tokens") -> Event:
    return Event(id=id, source="svc-a", specversion="1.0", type=type, subject=subject, time=time, data=data)


def some(type: str = "tokens") -> list[Event]:
    """Two subjects on two days of January, and one event of February."""
    return [
        event("e-1", "acme", JANUARY + timedelta(minutes=30), {"value": 1.5, "model": "m-1"}, type),
        event("e-2", "acme", JANUARY + timedelta(hours=1), {"value": 3, "model": "m-2"}, type),
        event("e-3", "zeta", JANUARY + timedelta(days=1), {"value": 0.5, "model": "m-1"}, type),
        event("e-4", "zeta", FEBRUARY, {"value": 5}, type),
    ]


def problem(error: HttpResponseError) -> dict[str, Any]:
    assert error.response is not None
    assert error.response.headers["Content-Type"] == "application/problem+json"
    return json.loads(error.response.text())


def test_the_python_client_makes_reads_changes_and_deletes_meters(openmeter: Client) -> None:
    assert list(openmeter.meters.list()) == []
    sent = MeterCreate(
        slug="tokens",
        aggregation="SUM",
        event_type="tokens",
        value_property="$.value",
        group_by={"model": "$.model"},
        name="Tokens",
        description="of prompts",
        event_from=JANUARY,
        metadata={"team": "ml"},
    )
    made = openmeter.meters.create(sent)
    assert (made.slug, made.aggregation, made.event_type, made.value_property) == ("tokens", "SUM", "tokens", "$.value")
    assert (made.group_by, made.name, made.description, made.event_from) == ({"model": "$.model"}, "Tokens", "of prompts", JANUARY)
    assert dict(made.metadata) == {"team": "ml"} and len(made.id) == 26
    assert made.created_at == made.updated_at and abs(datetime.now(UTC) - made.created_at) < timedelta(minutes=5)
    for name in ["tokens", made.id]:
        assert openmeter.meters.get(name).as_dict() == made.as_dict()
    with pytest.raises(ResourceExistsError) as refused:
        openmeter.meters.create(sent)
    assert problem(refused.value)["detail"] == "a meter with this slug is defined"
    changed = openmeter.meters.update(made.id, MeterUpdate(name="All tokens", group_by={"model": "$.model", "kind": "$.kind"}))
    assert (changed.name, changed.group_by, changed.description) == ("All tokens", {"model": "$.model", "kind": "$.kind"}, None)
    assert [meter.as_dict() for meter in openmeter.meters.list()] == [changed.as_dict()]
    assert list(openmeter.meters.list(page=2, page_size=1)) == []
    assert openmeter.meters.delete("tokens") is None
    for call in [openmeter.meters.get, openmeter.meters.delete, openmeter.meters.query_json, openmeter.meters.list_subjects]:
        with pytest.raises(ResourceNotFoundError) as unknown:
            call("tokens")
        assert problem(unknown.value) | {"instance": ""} == {
            "type": "about:blank",
            "title": "Not Found",
            "status": 404,
            "detail": "no meter has this id or slug",
            "instance": "",
        }
    with pytest.raises(HttpResponseError) as bad:
        openmeter.meters.create(MeterCreate(slug="a", aggregation="SUM", event_type="e", value_property="$..x"))
    assert problem(bad.value)["detail"].startswith("valueProperty may name several values")


def test_the_python_client_sends_and_asks_with_every_parameter(openmeter: Client) -> None:
    openmeter.meters.create(MeterCreate(TOKENS))
    events = some()
    assert openmeter.events.ingest_event(events[0]) is None
    assert openmeter.events.ingest_events(events) is None, "the first one was sent before"
    meters = openmeter.meters

    def rows(**parameters: Any) -> list[tuple[Any, ...]]:
        found = meters.query_json("tokens", **parameters).data
        return [(row.value, row.window_start, row.window_end, row.subject, row.group_by) for row in found]

    whole = {"from_parameter": JANUARY, "to": FEBRUARY}
    day = timedelta(days=1)
    assert rows(**whole) == [(5, JANUARY, FEBRUARY, None, {})]
    assert rows(**whole, window_size="DAY") == [
        (4.5, JANUARY, JANUARY + day, None, {}),
        (0.5, JANUARY + day, JANUARY + 2 * day, None, {}),
    ]
    assert [row[0] for row in rows(**whole, window_size="HOUR", subject=["acme"])] == [1.5, 3]
    berlin = rows(**whole, window_size="DAY", window_time_zone="Europe/Berlin")
    assert berlin[0][1] == JANUARY - timedelta(hours=1)
    assert rows(**whole, group_by=["subject", "model"], filter_group_by={"model": "m-1"}) == [
        (1.5, JANUARY, FEBRUARY, "acme", {"model": "m-1"}),
        (0.5, JANUARY, FEBRUARY, "zeta", {"model": "m-1"}),
    ]
    [row] = meters.query_json("tokens", **whole, filter_customer_id=["zeta", "nobody"], client_id="c-1").data
    assert (row.value, row.customer_id, row.subject) == (0.5, "zeta", None)
    assert rows(window_size="MONTH", to=datetime(2026, 3, 1, tzinfo=UTC)) == [
        (5, JANUARY, FEBRUARY, None, {}),
        (5, FEBRUARY, datetime(2026, 3, 1, tzinfo=UTC), None, {}),
    ]
    body = MeterQueryRequest(from_property=JANUARY, to=FEBRUARY, window_size="MONTH", subject=["acme"], group_by=["model"])
    posted = meters.query("tokens", body)
    assert [(row.value, row.subject, row.group_by) for row in posted.data] == [(3, "acme", {"model": "m-2"}), (1.5, "acme", {"model": "m-1"})]
    table = list(csv.DictReader(io.StringIO(meters.query_csv("tokens", **whole, group_by=["model"], window_size="DAY"))))
    assert [(line["window_start"], line["model"], line["value"]) for line in table] == [
        ("2026-01-01T00:00:00Z", "m-2", "3"),
        ("2026-01-01T00:00:00Z", "m-1", "1.5"),
        ("2026-01-02T00:00:00Z", "m-1", "0.5"),
    ]
    assert meters.query_csv_post("tokens").splitlines()[0] == "window_start,window_end,subject,value"
    assert list(meters.list_subjects("tokens")) == ["acme", "zeta"]
    assert list(meters.list_subjects("tokens", from_parameter=FEBRUARY)) == ["zeta"]
    for parameters, name in [({"window_size": "MINUTE"}, "windowSize"), ({"window_time_zone": "Mars"}, "windowTimeZone")]:
        with pytest.raises(HttpResponseError) as bad:
            meters.query_json("tokens", **parameters)
        assert (bad.value.status_code, problem(bad.value)["detail"].split()[0]) == (400, name)
    with pytest.raises(HttpResponseError) as advanced:
        meters.query_json("tokens", advanced_meter_group_by_filters={"model": {"$eq": "m-1"}})
    assert problem(advanced.value)["detail"].startswith("advancedMeterGroupByFilters")


@pytest.mark.parametrize(
    ("word", "expected"), [("SUM", 10), ("COUNT", 4), ("AVG", 2.5), ("MIN", 0.5), ("MAX", 5), ("LATEST", 5)]
)
def test_every_aggregation(openmeter: Client, word: str, expected: float) -> None:
    openmeter.meters.create(MeterCreate({**TOKENS, "aggregation": word}))
    openmeter.events.ingest_events(some())
    [row] = openmeter.meters.query_json("tokens", to=datetime(2026, 3, 1, tzinfo=UTC)).data
    assert (row.value, row.window_start) == (expected, JANUARY)


def test_the_python_client_lists_events(openmeter: Client) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    for number, subject in enumerate(["acme", "zeta", "acme-2"]):
        openmeter.events.ingest_event(event(f"n-{number}", subject, now - timedelta(minutes=number), {"value": number, "model": "m"}))
    openmeter.events.ingest_events(some())
    listed = list(openmeter.events.list())
    assert [one.event.id for one in listed] == ["n-2", "n-1", "n-0"]
    one = listed[1]
    assert (one.event.source, one.event.type, one.event.subject, one.event.time) == ("svc-a", "tokens", "zeta", now - timedelta(minutes=1))
    assert (one.event.data, one.customer_id, one.validation_error) == ({"value": 1, "model": "m"}, "zeta", None)
    assert one.ingested_at == one.stored_at and one.ingested_at >= now

    def ids(**parameters: Any) -> list[str]:
        return [one.event.id for one in openmeter.events.list(**parameters)]

    assert ids(limit=1) == ["n-2"]
    assert ids(subject="acme") == ["n-2", "n-0"]
    assert ids(id="-1") == ["n-1"]
    assert ids(customer_id=["acme"]) == ["n-0"]
    assert ids(from_parameter=now - timedelta(minutes=1)) == ["n-1", "n-0"]
    # Of one request, in several partitions: none of them is newer.
    assert sorted(ids(from_parameter=JANUARY, to=FEBRUARY)) == ["e-1", "e-2", "e-3", "e-4"]
    assert ids(ingested_at_from=now + timedelta(hours=1)) == []
    assert ids(ingested_at_from=now - timedelta(minutes=1), ingested_at_to=now + timedelta(hours=1), limit=100) == ["n-2", "n-1", "n-0"]


def test_what_a_meter_cannot_read_is_listed_with_the_reason(openmeter: Client) -> None:
    for slug, word, path in [("tokens", "SUM", "$.usage.tokens"), ("users", "UNIQUE_COUNT", "$.user"), ("prompts", "COUNT", None)]:
        openmeter.meters.create(MeterCreate(slug=slug, aggregation=word, event_type="prompt", value_property=path))
    now = datetime.now(UTC)
    good, bad = {"usage": {"tokens": "12.5"}, "user": "u-1"}, {"usage": {"tokens": None}, "user": "u-2"}
    openmeter.events.ingest_events([event("good", "acme", now, good, "prompt"), event("bad", "acme", now, bad, "prompt")])
    for slug, expected in [("tokens", 12.5), ("users", 2), ("prompts", 2)]:
        [row] = openmeter.meters.query_json(slug, from_parameter=now - timedelta(hours=1)).data
        assert row.value == expected, slug
    listed = {one.event.id: one for one in openmeter.events.list()}
    assert listed["bad"].validation_error == "meter tokens: its valueProperty is null"
    assert (listed["good"].validation_error, listed["good"].event.type) == (None, "prompt")
    assert listed["good"].event.data == {"usage": {"tokens": 12.5}, "user": "u-1"}


def test_what_the_python_client_may_not(url: str, openmeter: Client) -> None:
    with Client(endpoint=url, token="nobody's", retry_total=0) as stranger:
        with pytest.raises(ClientAuthenticationError) as unknown:
            list(stranger.meters.list())
        assert problem(unknown.value)["title"] == "Unauthorized"
    bad = event("", "acme", JANUARY, {"value": 1})
    with pytest.raises(HttpResponseError) as refused:
        openmeter.events.ingest_event(bad)
    assert (refused.value.status_code, problem(refused.value)["status"]) == (400, 400)


def test_the_node_client_does_all_it_can_with_meters(js: Call) -> None:
    update = {"name": "All", "groupBy": TOKENS["groupBy"]}
    made, listed, found, again, changed = js(
        ("meters", "create", [TOKENS]),
        ("meters", "list", []),
        ("meters", "get", ["tokens"]),
        ("meters", "create", [TOKENS]),
        ("meters", "update", ["tokens", update]),
    )
    made = made["ok"]
    assert {name: made[name] for name in TOKENS} == TOKENS
    assert (listed["ok"], found["ok"]) == ([made], made)
    conflict = again["error"]
    assert (conflict["status"], conflict["title"], conflict["type"]) == (409, "Conflict", "about:blank")
    assert conflict["detail"] == "a meter with this slug is defined" and conflict["message"].endswith(conflict["detail"])
    assert changed["ok"]["name"] == "All" and changed["ok"]["id"] == made["id"]
    deleted, unknown, bad = js(
        ("meters", "delete", [made["id"]]),
        ("meters", "get", [made["id"]]),
        ("meters", "create", [{**TOKENS, "slug": "A"}]),
    )
    # What it makes of an answer without content.
    assert deleted["ok"] in (None, "", {})
    assert (unknown["error"]["status"], unknown["error"]["title"]) == (404, "Not Found")
    assert bad["error"]["detail"].startswith("slug must be")
    [refused] = js(("meters", "list", []), key="nobody's")
    assert (refused["error"]["status"], refused["error"]["title"]) == (401, "Unauthorized")


def test_the_node_client_sends_asks_and_lists(js: Call) -> None:
    dated = [{**one.as_dict(), "time": "date:" + one.as_dict()["time"]} for one in some()]
    whole = {"from": "date:2026-01-01T00:00:00Z", "to": "date:2026-02-01T00:00:00Z"}
    deep = {**whole, "windowSize": "DAY", "windowTimeZone": "UTC", "groupBy": ["model", "subject"], "filterGroupBy": {"model": "m-1"}}
    made, one, batch, total, filtered, by_subject, by_customer, posted, minute = js(
        ("meters", "create", [TOKENS]),
        ("events", "ingest", [dated[0]]),
        ("events", "ingest", [dated]),
        ("meters", "query", ["tokens", whole]),
        ("meters", "query", ["tokens", deep]),
        ("meters", "query", ["tokens", {**whole, "subject": ["acme", "nobody"]}]),
        ("meters", "query", ["tokens", {**whole, "filterCustomerId": ["zeta"]}]),
        ("meters", "queryPost", ["tokens", {**whole, "filterGroupBy": {"model": ["m-1", "m-2"]}, "subject": ["acme"]}]),
        ("meters", "query", ["tokens", {**whole, "windowSize": "MINUTE"}]),
    )
    assert "ok" in made and "ok" in one and "ok" in batch

    def values(result: Any) -> list[tuple[Any, ...]]:
        return [(row["value"], row["subject"], row["groupBy"]) for row in result["ok"]["data"]]

    assert (total["ok"]["from"], total["ok"]["to"]) == ("2026-01-01T00:00:00.000Z", "2026-02-01T00:00:00.000Z")
    assert values(total) == [(5, None, {})]
    assert values(filtered) == [(1.5, "acme", {"model": "m-1"}), (0.5, "zeta", {"model": "m-1"})]
    assert filtered["ok"]["data"][1]["windowStart"] == "2026-01-02T00:00:00.000Z"
    assert values(by_subject) == [(4.5, "acme", {})]
    assert by_customer["ok"]["data"][0]["customerId"] == "zeta"
    assert values(posted) == [(4.5, "acme", {})]
    assert minute["error"]["detail"].startswith("windowSize must be HOUR, DAY or MONTH")
    # What it fills in itself: id, source, time.
    bare, listed, limited = js(
        ("events", "ingest", [{"type": "tokens", "subject": "bare", "data": {"value": 1}}]),
        ("events", "list", [{"subject": "bare"}]),
        ("events", "list", [{"from": "date:2026-01-01T00:00:00Z", "limit": 2}]),
    )
    assert "ok" in bare
    [shown] = listed["ok"]
    assert (shown["event"]["source"], shown["event"]["data"], shown["customerId"]) == ("@openmeter/sdk", {"value": 1}, "bare")
    assert [one["event"]["source"] for one in limited["ok"]] == ["@openmeter/sdk", "svc-a"]


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_the_cloudevents_client_sends_in_its_modes(url: str, tenant: Tenant, openmeter: Client, mode: str) -> None:
    openmeter.meters.create(MeterCreate(TOKENS))
    sent = [{**one.as_dict(), "datacontenttype": "application/json"} for one in some()]
    sent[0]["ext1"] = "50% off"
    for _ in range(2):
        answers = node("cloudevents.mjs", url=url + "/api/v1/events", key=tenant.key, mode=mode, events=sent)
        assert [answer["body"] for answer in answers] == [""] * 4
    [row] = openmeter.meters.query_json("tokens", to=datetime(2026, 3, 1, tzinfo=UTC)).data
    assert row.value == 10, "each counts once"
    listed = list(openmeter.events.list(from_parameter=JANUARY, id="e-1"))
    assert [one.event.data for one in listed] == [{"value": 1.5, "model": "m-1", "ext1": "50% off"}]
    [refused] = node("cloudevents.mjs", url=url + "/api/v1/events", key="nobody's", mode=mode, events=sent[:1])
    assert refused["headers"]["content-type"] == "application/problem+json"
