"""What Stigg's published Python client does with usage and events, at both of its addresses, on both logs and stores; and what it does when it is
told to wait."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from stigg import BadRequestError, DefaultHttpxClient, InternalServerError, NotFoundError, PermissionDeniedError, Stigg

from amberflo import Sdk, event
from conftest import Tenant
from harness import DAY, DAY_0

# The client calls its own `usage.report` deprecated. It is in the contract.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")

METER = "seats"
DAY_1 = datetime.fromtimestamp(DAY_0, UTC)


@pytest.fixture(params=["", "/stigg"], ids=["root", "prefix"])
def new_client(request: pytest.FixtureRequest, tenant: Tenant) -> Iterator[Callable[[str], Stigg]]:
    made: list[Stigg] = []

    def make(key: str) -> Stigg:
        made.append(Stigg(api_key=key, base_url=tenant.server.url + request.param, _strict_response_validation=True))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def stigg(new_client: Callable[[str], Stigg], tenant: Tenant) -> Stigg:
    return new_client(tenant.key)


def usage(key: str, value: int, **more: Any) -> dict[str, Any]:
    return {"customer_id": "acme-7", "feature_id": METER, "value": value, "idempotency_key": key, "created_at": DAY_1, **more}


def history(stigg: Stigg, **more: Any) -> dict[tuple[str, ...], list[tuple[int, float]]]:
    """By the values of the tags: day and sum of each point."""
    found = stigg.v1.usage.history(METER, customer_id="acme-7", start_date=DAY_1, **more).data
    assert found.markers == []
    series = {}
    for one in found.series:
        assert not any(point.is_reset_point for point in one.points)
        series[tuple(tag.value for tag in one.tags)] = [((point.timestamp - DAY_1).days, point.value) for point in one.points]
    return series


def test_usage_is_reported_with_its_totals(stigg: Stigg, sdk: Sdk) -> None:
    at = DAY_1 + timedelta(hours=5, milliseconds=123)
    usages = [usage("u-1", 5, created_at=at, resource_id="r-1", update_behavior="DELTA"), usage("u-2", 7), usage("u-3", -2, customer_id="b")]
    first, second, other = stigg.v1.usage.report(usages=usages).data  # type: ignore[arg-type]
    assert (first.id, first.customer_id, first.feature_id, first.value) == ("u-1", "acme-7", METER, 5)
    assert (first.timestamp, first.resource_id, first.usage_period_end) == (at, "r-1", None)
    assert abs(first.created_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert [first.current_usage, second.current_usage, other.current_usage] == [5, 12, -2]
    again = stigg.v1.usage.report(usages=usages).data  # type: ignore[arg-type]
    assert again == [first, second, other], "a retry"
    assert [one.current_usage for one in stigg.v1.usage.report(usages=[usage("u-4", 1)]).data] == [13]  # type: ignore[list-item]
    bare = {"customer_id": "acme-7", "feature_id": METER, "value": 10, "dimensions": {"beta": True, "level": 3, "region": "eu"}}
    totals = [stigg.v1.usage.report(usages=[bare]).data[0] for _ in range(3)]  # type: ignore[list-item]
    assert [one.current_usage for one in totals] == [23, 33, 43] and len({one.id for one in totals}) == 3
    sdk.ingest.send(event(100, meter=METER))
    assert stigg.v1.usage.report(usages=[usage("u-5", 0)]).data[0].current_usage == 143  # type: ignore[list-item]


def test_of_a_bad_report_nothing_counts(stigg: Stigg, new_client: Callable[[str], Stigg], tenant: Tenant) -> None:
    good = usage("good", 1)
    for bad, said in (
        ({"value": 1.5}, "usages[1].value must be a whole number"),
        ({"update_behavior": "SET"}, "usages[1].updateBehavior must not be SET"),
        ({"customer_id": ""}, "usages[1].customerId must not be empty"),
    ):
        with pytest.raises(BadRequestError) as refused:
            stigg.v1.usage.report(usages=[good, usage("bad", 1, **bad) if "value" not in bad else {**usage("bad", 1), **bad}])  # type: ignore[list-item]
        assert said in str(refused.value)
    for usages in ([], [good] * 101):
        with pytest.raises(BadRequestError) as refused:
            stigg.v1.usage.report(usages=usages)  # type: ignore[arg-type]
        assert "it must be 1 to 100" in str(refused.value)
    for scopes in (["ingest"], ["read"]):
        made = tenant.server.request("POST", "/v1/keys", {"scopes": scopes}, {"X-API-KEY": tenant.key})
        with pytest.raises(PermissionDeniedError):
            new_client(made.json()["key"]).v1.usage.report(usages=[good])  # type: ignore[list-item]
    assert stigg.v1.usage.report(usages=[good]).data[0].current_usage == 1  # type: ignore[list-item]


def test_a_history_has_the_days_with_usage(stigg: Stigg) -> None:
    with pytest.raises(NotFoundError) as missing:
        history(stigg)
    assert missing.value.body["code"] == "CUSTOMER_NOT_FOUND"  # type: ignore[index]
    stigg.v1.customers.provision(id="acme-7")
    assert history(stigg) == {}
    events = [
        {"customer_id": "acme-7", "event_name": METER, "idempotency_key": f"e-{n}", "timestamp": DAY_1 + timedelta(days=day), **more}
        for n, (day, more) in enumerate(
            [
                (0, {"dimensions": {"value": 2.5, "region": "eu"}}),
                (0, {"dimensions": {"region": "us", "beta": False}, "resource_id": "r-1"}),
                (2, {}),
            ]
        )
    ]
    for _ in range(2):
        stigg.v1.events.report(events=events)  # type: ignore[arg-type]
    assert history(stigg) == {(): [(0, 3.5), (2, 1)]}
    assert history(stigg, end_date=DAY_1 + timedelta(days=2)) == {(): [(0, 3.5)]}
    assert history(stigg, resource_id="r-1") == {(): [(0, 1)]}
    assert history(stigg, group_by="region") == {("eu",): [(0, 2.5)], ("us",): [(0, 1)], ("",): [(2, 1)]}
    with pytest.raises(BadRequestError) as bad:
        history(stigg, end_date=DAY_1)
    assert "endDate must be after startDate" in str(bad.value)


def test_events_and_usage_of_all_dialects_are_one_history(stigg: Stigg, sdk: Sdk) -> None:
    sdk.ingest.send(event(1, meter=METER, at=DAY_0 + DAY))
    stigg.v1.events.report(
        events=[{"customer_id": "acme-7", "event_name": METER, "idempotency_key": "e", "timestamp": DAY_1, "dimensions": {"value": 10}}]
    )
    assert stigg.v1.usage.report(usages=[usage("u", 100)]).data[0].current_usage == 111  # type: ignore[list-item]
    stigg.v1.customers.provision(id="acme-7")
    assert history(stigg) == {(): [(0, 110), (1, 1)]}


class Relay:
    """Stands between the client and the server, and loses or refuses some answers as a network or a busy server does."""

    def __init__(self, url: str) -> None:
        self.refusals: list[Callable[[httpx.Response], tuple[int, dict[str, str], bytes]]] = []
        self.seen: list[tuple[str, int]] = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"] or 0))
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                answer = httpx.post(url + self.path, content=body, headers=headers, trust_env=False)
                status, more, text = answer.status_code, dict(answer.headers), answer.content
                if relay.refusals:
                    status, more, text = relay.refusals.pop(0)(answer)
                relay.seen.append((self.headers["x-stainless-retry-count"], status))
                self.send_response(status)
                for name, value in more.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def relay(tenant: Tenant) -> Iterator[Relay]:
    relay = Relay(tenant.server.url)
    yield relay
    relay.server.shutdown()
    relay.server.server_close()


def test_a_report_whose_answer_was_lost_is_sent_again_and_counts_once(tenant: Tenant, relay: Relay) -> None:
    """As our 503 is: with `Retry-After`, and with `x-should-retry: false` where it would count again."""
    body = json.dumps({"message": "later", "code": "UNAVAILABLE", "error": {"code": "UNAVAILABLE", "message": "later"}}).encode()

    def late(**headers: str) -> Callable[[httpx.Response], tuple[int, dict[str, str], bytes]]:
        return lambda answer: (503, {"content-type": "application/json", "retry-after": "0", **headers}, body)

    with Stigg(api_key=tenant.key, base_url=relay.url, http_client=DefaultHttpxClient()) as stigg:
        relay.refusals = [late(), late()]
        [made] = stigg.v1.usage.report(usages=[usage("u-1", 5)]).data  # type: ignore[list-item]
        assert (made.current_usage, relay.seen) == (5, [("0", 503), ("1", 503), ("2", 201)])
        relay.seen, relay.refusals = [], [late(**{"x-should-retry": "false"})]
        with pytest.raises(InternalServerError) as refused:
            stigg.v1.usage.report(usages=[{"customer_id": "acme-7", "feature_id": METER, "value": 1}])
        assert (refused.value.status_code, relay.seen) == (503, [("0", 503)])
        assert stigg.v1.usage.report(usages=[usage("u-2", 0)]).data[0].current_usage == 6  # type: ignore[list-item]


def test_who_reports_too_much_is_told_when_to_come_again(tenant: Tenant, new_client: Callable[[str], Stigg]) -> None:
    limit = {"scopes": ["ingest", "read"], "rateLimit": {"requestsPerSecond": 1}}
    made = tenant.server.request("POST", "/v1/keys", limit, {"X-API-KEY": tenant.key})
    hasty = new_client(made.json()["key"])
    totals = [hasty.v1.usage.report(usages=[usage(f"u-{n}", 1)]).data[0].current_usage for n in range(3)]  # type: ignore[list-item]
    assert totals == [1, 2, 3]
