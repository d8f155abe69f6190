"""What Amberflo's published Python SDK does with events, usage and customers, on both logs and stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import metering
import pytest
import requests
from metering.customer import create_customer_payload
from metering.exceptions import ApiError
from metering.ingest.producer import ThreadedProducer
from metering.llms import meter_llm
from metering.usage import (
    AggregationType,
    Take,
    TimeGroupingInterval,
    TimeRange,
    create_all_usage_query,
    create_usage_query,
)

from amberflo import METER, Sdk, event, midnight, usage_query
from conftest import Tenant
from harness import DAY, DAY_0, HOUR, exact

# --- Ingest ---------------------------------------------------------------------------------------------------------


def test_the_simple_client_is_told_how_many_records_were_taken(sdk: Sdk) -> None:
    assert sdk.ingest.send(event(1)) == "1 records were ingested"
    assert sdk.answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert sdk.ingest.send([event(1), event(2), event(3)]) == "3 records were ingested"
    assert sdk.ingest.send([]) == "0 records were ingested"
    assert sdk.total(AggregationType.COUNT) == 4
    assert sdk.total(AggregationType.SUM) == 7


def test_a_tenth_ten_times_is_one(sdk: Sdk) -> None:
    sdk.ingest.send([event(0.1) for _ in range(9)])
    sdk.ingest.send(event(0.1))
    assert str(sdk.total(AggregationType.SUM)) == "1"


def test_numbers_are_what_python_wrote(sdk: Sdk) -> None:
    values = [1e-07, 1e16, -0.5, 12345678901234567890, 1234567.891]
    assert [json.dumps(value) for value in values[:2]] == ["1e-07", "1e+16"], "exponents are among them"
    sdk.ingest.send([event(value) for value in values])
    assert sdk.total(AggregationType.SUM) == sum(Decimal(json.dumps(value)) for value in values)


def test_digits_past_the_twelfth_place_are_rounded_once(sdk: Sdk) -> None:
    assert json.dumps(0.1 + 0.2) == "0.30000000000000004"
    sdk.ingest.send(event(0.1 + 0.2))
    assert str(sdk.total(AggregationType.SUM)) == "0.3"


def test_replays_count_once(sdk: Sdk, tenant: Tenant) -> None:
    batch = [event(n, unique_id=f"event-{n}") for n in range(1, 101)]
    for _ in range(3):
        assert sdk.ingest.send(batch) == "100 records were ingested"
    assert sdk.ingest.send([*batch[:10], *batch[:10]]) == "20 records were ingested"
    assert sdk.ingest.send(batch[0]) == "1 records were ingested"
    assert Sdk(sdk.key).ingest.send(batch) == "100 records were ingested", "on another connection"

    tenant.server.keep_port()
    tenant.server.stop()
    tenant.server.start()
    assert Sdk(sdk.key).ingest.send(batch) == "100 records were ingested", "by another process"
    assert sdk.total(AggregationType.COUNT) == 100
    assert sdk.total(AggregationType.SUM) == 5050


def test_the_same_unique_id_with_other_content_changes_nothing(sdk: Sdk) -> None:
    sdk.ingest.send(event(5, unique_id="event-1"))
    assert sdk.ingest.send(event(6, unique_id="event-1")) == "1 records were ingested"
    assert sdk.total(AggregationType.SUM) == 5
    assert sdk.total(AggregationType.COUNT) == 1


def test_the_threaded_producer_delivers_every_event_once(sdk: Sdk, producer: Callable[..., ThreadedProducer]) -> None:
    client = producer(threads=4)
    for n in range(3_000):
        record = event(n / 10, at=DAY_0 + n, customer=f"customer-{n % 7}", unique_id=f"event-{n}")
        assert client.send(record)
        if n % 10 == 0:
            assert client.send(record)
    client.flush()

    assert sdk.total(AggregationType.COUNT) == 3_000
    assert sdk.total(AggregationType.SUM) == Decimal(2_999 * 3_000 // 2) / 10
    groups = sdk.exact_usage(usage_query(group_by=["customerId"]))["clientMeters"]
    assert {group["group"]["groupInfo"]["customerId"]: group["groupValue"] for group in groups} == {
        f"customer-{rest}": sum(Decimal(n) for n in range(rest, 3_000, 7)) / 10 for rest in range(7)
    }


def test_the_threaded_producer_gets_through_a_kill_by_itself(
    sdk: Sdk, tenant: Tenant, producer: Callable[..., ThreadedProducer]
) -> None:
    tenant.server.keep_port()
    client = producer(batch_size=10)
    for n in range(2_000):
        assert client.send(event(1, unique_id=f"event-{n}"))
        if n == 1_000:
            tenant.server.kill()
            tenant.server.start()
    client.flush()
    assert sdk.total(AggregationType.COUNT) == 2_000


def custom(n: int, **more: Any) -> dict[str, Any]:
    """An event of a shape of its own, which the contract's table maps."""
    return {"customer": f"customer-{n % 7}", "type": METER, "usage": n / 10, "created": DAY_0 + n, "tags": ["x"], **more}


def test_custom_events_are_mapped_and_known_by_what_they_say(sdk: Sdk) -> None:
    assert sdk.ingest.send_custom(custom(1)) == "1 records were ingested"
    assert sdk.ingest.send_custom([custom(n, region="eu-1") for n in range(10)]) == "10 records were ingested"
    # Without an id of their own: a retry is the same record, one with anything else in it is another.
    assert sdk.ingest.send_custom([custom(n, region="eu-1") for n in range(10)]) == "10 records were ingested"
    assert sdk.total(AggregationType.COUNT) == 11
    assert sdk.total(AggregationType.SUM) == Decimal("4.6")
    assert sdk.total(AggregationType.SUM, usage_filter={"region": ["eu-1"], "customerId": ["customer-3"]}) == Decimal("0.3")


def test_the_threaded_producer_delivers_custom_events_once_and_through_a_kill(
    sdk: Sdk, tenant: Tenant, producer: Callable[..., ThreadedProducer]
) -> None:
    tenant.server.keep_port()
    client = producer(batch_size=50)
    for n in range(1_000):
        assert client.send_custom(custom(n))
        if n == 500:
            tenant.server.kill()
            tenant.server.start()
    client.flush()
    assert sdk.total(AggregationType.COUNT) == 1_000
    assert sdk.total(AggregationType.SUM) == Decimal(999 * 1_000 // 2) / 10


def test_a_custom_event_that_names_nobody_is_refused(sdk: Sdk) -> None:
    with pytest.raises(ApiError) as refused:
        sdk.ingest.send_custom({"usage": 1})
    assert refused.value.status_code == 400
    assert json.loads(refused.value.text)["details"] == "customerId is missing"


# --- Meter definitions and filtering rules --------------------------------------------------------------------------


def test_a_meter_is_defined_and_its_type_decides(metered: Sdk) -> None:
    # The SDK has no call for these; this is how its other calls send theirs.
    session = metered.usage.client
    assert session.get("/meter-definition") == []
    definition = {"meterApiName": METER, "displayName": "Tokens", "type": "MAX_IN_PERIOD", "dimensions": ["region"]}
    made = session.post("/meter-definition", definition)
    assert made == {**definition, "label": METER, "meterTimeInMillis": made["meterTimeInMillis"]}
    assert session.get("/meter-definition/" + METER) == made
    query = usage_query()
    del query["aggregation"]
    [group] = metered.exact_usage(query)["clientMeters"]
    assert group["groupValue"] == 40
    changed = session.put("/meter-definition", {**made, "type": "UNIQUE_CUSTOMERS_COUNT"})
    assert changed == {**made, "type": "UNIQUE_CUSTOMERS_COUNT"}
    [group] = metered.exact_usage(query)["clientMeters"]
    assert group["groupValue"] == 2
    assert metered.total(AggregationType.COUNT) == 2
    assert session.delete("/meter-definition/" + METER) == changed
    assert metered.total(AggregationType.COUNT) == 4
    for call in (session.get, session.delete):
        with pytest.raises(ApiError) as refused:
            call("/meter-definition/" + METER)
        assert refused.value.status_code == 404


def test_what_a_rule_drops_is_acknowledged_and_counts_nowhere(sdk: Sdk) -> None:
    session = sdk.usage.client
    rule = {"meterApiName": METER, "dimensionName": "region", "dimensionValues": ["test"], "action": "EXCLUDE"}
    made = session.post("/meter-event-filtering-rules", rule)
    assert made == {**rule, "ruleId": made["ruleId"]}
    assert session.get("/meter-event-filtering-rules", {"meterApiName": METER}) == [made]
    dropped = event(5, dimensions={"region": "test"}, unique_id="dropped")
    assert sdk.ingest.send([event(1, dimensions={"region": "eu-1"}), dropped]) == "2 records were ingested"
    assert sdk.total(AggregationType.SUM) == 1
    session.post("/meter-event-filtering-rules", {**made, "dimensionValues": []})
    assert sdk.ingest.send(dropped) == "1 records were ingested"
    assert sdk.total(AggregationType.SUM) == 1, "what was dropped stays dropped"


def test_the_module_level_functions_meter(sdk: Sdk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "app_key", sdk.key)
    monkeypatch.setattr(metering, "default_client", None)
    assert metering.meter(METER, 2.5, DAY_0 * 1000, "acme-7", dimensions={"region": "eu-1"})
    metering.shutdown()
    assert sdk.total(AggregationType.SUM, usage_filter={"region": ["eu-1"]}) == Decimal("2.5")


def test_what_a_language_model_used_is_metered(sdk: Sdk, producer: Callable[..., ThreadedProducer]) -> None:
    client = producer()

    @meter_llm(metering_client=client)
    def ask(**_: Any) -> SimpleNamespace:
        used = SimpleNamespace(input_tokens=12, output_tokens=345)
        return SimpleNamespace(type="message", model="m-1", usage=used)

    today = int(datetime.now(UTC).timestamp()) // DAY * DAY
    ask(customer_id="acme-7", aflo_dimensions={"team": "blue"})
    client.flush()
    group = {"model": "m-1", "object": "message", "provider": "anthropic", "team": "blue"}
    for meter, used in (("input_tokens", 12), ("output_tokens", 345)):
        [found] = sdk.exact_usage(usage_query(meter=meter, start=today, group_by=list(group)))["clientMeters"]
        assert (found["group"]["groupInfo"], found["groupValue"]) == (group, used)


def test_text_in_any_script_comes_back(sdk: Sdk) -> None:
    customer = "Ärger & Söhne / 東京 + \U0001f680?"
    sdk.ingest.send(event(1, customer=customer, dimensions={"región": 'a "quoted" \\ value'}))
    [group] = sdk.usage.get(usage_query(group_by=["customerId", "región"]))["clientMeters"]
    assert group["group"]["groupInfo"] == {"customerId": customer, "región": 'a "quoted" \\ value'}
    assert sdk.total(AggregationType.COUNT, usage_filter={"customerId": [customer]}) == 1


def test_one_bad_event_does_not_cost_its_neighbours(sdk: Sdk) -> None:
    bad = event(1)
    del bad["meterTimeInMillis"]
    assert sdk.ingest.send([event(1), bad, event(2)]) == "2 records were ingested"
    assert sdk.answer.headers["Tollgate-Rejected"] == "1"
    assert sdk.total(AggregationType.SUM) == 3


def test_bad_events_alone_are_refused(sdk: Sdk) -> None:
    bad = event(1)
    bad["meterValue"] = "1"
    for payload in (bad, [bad, bad]):
        with pytest.raises(ApiError) as refused:
            sdk.ingest.send(payload)
        assert refused.value.status_code == 400
        assert "meterValue" in json.loads(refused.value.text)["details"]


def test_not_a_number_is_refused(sdk: Sdk) -> None:
    # The SDK lets it pass and writes `NaN`, which is not JSON.
    with pytest.raises(ApiError) as refused:
        sdk.ingest.send([event(float("nan"))])
    assert refused.value.status_code == 400


def test_a_wrong_key_is_told_so(sdk: Sdk) -> None:
    stranger = Sdk("not-a-key")
    for call in (
        lambda: stranger.ingest.send(event(1)),
        stranger.customers.list,
        lambda: stranger.usage.get(usage_query()),
    ):
        with pytest.raises(ApiError) as refused:
            call()
        assert refused.value.status_code == 401
        assert json.loads(refused.value.text)["code"] == "UNAUTHORIZED"
    assert sdk.customers.list() == []


# --- Usage ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def metered(sdk: Sdk) -> Sdk:
    """Three days of usage: acme-7 uses 10 and 5 on the first and 2.5 on the third, zeta-1 uses 40 on the second."""
    sdk.ingest.send(
        [
            event(10, at=DAY_0 + HOUR, dimensions={"region": "eu-1", "tier": "gold"}),
            event(5, at=DAY_0 + 5 * HOUR, dimensions={"region": "us-1"}),
            event(2.5, at=DAY_0 + 2 * DAY, dimensions={"region": "eu-1"}),
            event(40, at=DAY_0 + 2 * DAY - 1, customer="zeta-1"),
            event(7, meter="calls"),
        ]
    )
    sdk.exact_usage([usage_query(), usage_query(meter="calls")])
    return sdk


def buckets(group: dict[str, Any]) -> list[tuple[int, Decimal, Decimal]]:
    return [
        (value["secondsSinceEpochUtc"], value["value"], value["percentageFromPrevious"]) for value in group["values"]
    ]


def test_a_report_has_every_bucket_and_the_query(metered: Sdk) -> None:
    query = usage_query(days=4, group_by=["customerId"])
    report = metered.exact_usage(query)
    assert report["metadata"] == query
    days = [DAY_0 + n * DAY for n in range(4)]
    assert report["secondsSinceEpochIntervals"] == days
    zeta, acme = report["clientMeters"]
    assert zeta["group"] == {"groupInfo": {"customerId": "zeta-1"}}
    assert zeta["groupValue"] == 40
    assert buckets(zeta) == [(days[0], 0, 0), (days[1], 40, 0), (days[2], 0, -100), (days[3], 0, 0)]
    assert acme["group"] == {"groupInfo": {"customerId": "acme-7"}}
    assert acme["groupValue"] == Decimal("17.5")
    assert buckets(acme) == [(days[0], 15, 0), (days[1], 0, -100), (days[2], Decimal("2.5"), 0), (days[3], 0, -100)]


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        (AggregationType.SUM, "57.5"),
        (AggregationType.COUNT, "4"),
        (AggregationType.MIN, "2.5"),
        (AggregationType.MAX, "40"),
    ],
)
def test_each_aggregation(metered: Sdk, aggregation: AggregationType, expected: str) -> None:
    assert str(metered.total(aggregation)) == expected


@pytest.mark.parametrize(
    ("interval", "starts"),
    [
        (TimeGroupingInterval.HOUR, [DAY_0 + n * HOUR for n in range(72)]),
        (TimeGroupingInterval.DAY, [DAY_0 + n * DAY for n in range(3)]),
        (TimeGroupingInterval.WEEK, [midnight(2025, 12, 29)]),
        (TimeGroupingInterval.MONTH, [midnight(2026, 1, 1)]),
    ],
)
def test_each_interval_starts_its_buckets_where_the_calendar_does(
    metered: Sdk, interval: TimeGroupingInterval, starts: list[int]
) -> None:
    report = metered.exact_usage(usage_query(interval=interval))
    assert report["secondsSinceEpochIntervals"] == starts
    [group] = report["clientMeters"]
    assert group["group"] == {"groupInfo": {}}
    assert [value["secondsSinceEpochUtc"] for value in group["values"]] == starts
    assert sum(value["value"] for value in group["values"]) == Decimal("57.5")


def test_the_end_of_the_range_is_not_in_it(metered: Sdk) -> None:
    assert metered.total(AggregationType.COUNT, days=2) == 3
    assert metered.total(AggregationType.SUM, start=DAY_0 + HOUR, days=1) == 15


def test_a_range_without_an_end_ends_now(sdk: Sdk) -> None:
    def today() -> int:
        return int(datetime.now(UTC).timestamp()) // DAY * DAY

    before = today()
    sdk.ingest.send(event(1, at=before - 2 * DAY))
    query = create_usage_query(AggregationType.SUM, METER, TimeGroupingInterval.DAY, TimeRange(before - 3 * DAY))
    report = sdk.exact_usage(query)
    after = today()
    assert report["secondsSinceEpochIntervals"][0] == before - 3 * DAY
    assert report["secondsSinceEpochIntervals"][-1] in (before, after)
    [group] = report["clientMeters"]
    assert group["groupValue"] == 1


def test_filters_and_groups(metered: Sdk) -> None:
    def groups(**query: Any) -> list[tuple[dict[str, str], Decimal]]:
        report = metered.exact_usage(usage_query(**query))
        return [(group["group"]["groupInfo"], group["groupValue"]) for group in report["clientMeters"]]

    assert groups(group_by=["region"]) == [
        ({"region": ""}, 40),
        ({"region": "eu-1"}, Decimal("12.5")),
        ({"region": "us-1"}, 5),
    ]
    assert groups(usage_filter={"region": ["eu-1", "us-1"]}) == [({}, Decimal("17.5"))]
    assert groups(usage_filter={"region": ["eu-1"], "tier": ["gold"]}) == [({}, 10)]
    assert groups(usage_filter={"customerId": ["zeta-1"]}, group_by=["customerId"]) == [({"customerId": "zeta-1"}, 40)]
    assert groups(group_by=["customerId"], take=Take(1)) == [({"customerId": "zeta-1"}, 40)]
    assert groups(group_by=["customerId"], take=Take(1, is_ascending=True)) == [
        ({"customerId": "acme-7"}, Decimal("17.5"))
    ]


def test_a_meter_without_events_is_no_error(metered: Sdk) -> None:
    report = metered.exact_usage(usage_query(meter="nobody-knows-me"))
    assert report["clientMeters"] == []
    assert report["secondsSinceEpochIntervals"] == [DAY_0 + n * DAY for n in range(3)]


def test_a_batch_of_queries_is_answered_in_its_order(metered: Sdk) -> None:
    queries = [usage_query(meter="calls"), usage_query(AggregationType.COUNT), usage_query(meter="nobody-knows-me")]
    reports = metered.exact_usage(queries)
    assert [report["metadata"] for report in reports] == queries
    assert [[group["groupValue"] for group in report["clientMeters"]] for report in reports] == [[7], [4], []]


def test_all_meters_in_one_request(metered: Sdk) -> None:
    def reports(**options: Any) -> dict[str, dict[str, Decimal]]:
        time_range = TimeRange(DAY_0, DAY_0 + 3 * DAY)
        metered.usage.get_all(create_all_usage_query(TimeGroupingInterval.DAY, time_range, **options))
        return {
            report["metadata"]["meterApiName"]: {
                group["group"]["groupInfo"].get("customerId", ""): group["groupValue"]
                for group in report["clientMeters"]
            }
            for report in exact(metered.answer.text)
            if report["clientMeters"]
        }

    assert reports() == {METER: {"": Decimal("57.5")}, "calls": {"": 7}}
    assert reports(group_by_customer_id=True) == {
        METER: {"acme-7": Decimal("17.5"), "zeta-1": 40},
        "calls": {"acme-7": 7},
    }
    assert reports(filter_by_customer_id="zeta-1") == {METER: {"": 40}}
    assert reports(filter_by_customer_id="nobody") == {}


@pytest.mark.parametrize("in_batch", [False, True])
def test_sparse_reports_leave_the_gaps_out(metered: Sdk, in_batch: bool) -> None:
    # The SDK has no call for these two paths; this is how its other calls send theirs.
    query = usage_query(group_by=["customerId"])
    if in_batch:
        metered.usage.client.post("/usage/sparse/batch", [query])
        [report] = exact(metered.answer.text)
    else:
        metered.usage.client.post("/usage/sparse", query)
        report = exact(metered.answer.text)
    series = {
        group["group"]["groupInfo"]["customerId"]: [
            (value["secondsSinceEpochUtc"], value["value"]) for value in group["values"]
        ]
        for group in report["clientMeters"]
    }
    assert series == {
        "acme-7": [(DAY_0, 15), (DAY_0 + 2 * DAY, Decimal("2.5"))],
        "zeta-1": [(DAY_0 + DAY, 40)],
    }


def test_a_query_that_makes_no_sense_is_refused(sdk: Sdk) -> None:
    no_meter = usage_query()
    del no_meter["meterApiName"]
    for query in (
        no_meter,
        create_usage_query(AggregationType.SUM, METER, TimeGroupingInterval.DAY, TimeRange(DAY_0, DAY_0)),
    ):
        with pytest.raises(ApiError) as refused:
            sdk.usage.get(query)
        assert refused.value.status_code == 400


# --- Customers ------------------------------------------------------------------------------------------------------


def test_a_customer_goes_there_and_back(sdk: Sdk) -> None:
    assert sdk.customers.list() == []
    assert sdk.customers.get("acme-7") == {}

    payload = create_customer_payload("acme-7", "Acme Seven", "billing@acme.example", True, {"tier": "gold"})
    created = sdk.customers.add(payload)
    assert created == {
        **payload,
        "id": "acme-7",
        "test": False,
        "lifecycleStage": "ACTIVE",
        "createTime": created["createTime"],
        "updateTime": created["createTime"],
    }
    assert isinstance(created["createTime"], int)
    assert abs(created["createTime"] / 1000 - datetime.now(UTC).timestamp()) < 60
    assert sdk.customers.get("acme-7") == created
    assert sdk.customers.list() == [created]

    with pytest.raises(ApiError) as refused:
        sdk.customers.add(payload)
    assert refused.value.status_code == 400
    assert json.loads(refused.value.text)["code"] == "DUPLICATE"


def test_an_update_replaces(sdk: Sdk) -> None:
    created = sdk.customers.add(
        create_customer_payload("acme-7", "Acme", "billing@acme.example", True, {"tier": "gold"})
    )
    updated = sdk.customers.update(create_customer_payload("acme-7", "Acme Seven", enabled=False))
    assert updated["customerName"] == "Acme Seven"
    assert updated["enabled"] is False
    assert updated["createTime"] == created["createTime"]
    assert updated["updateTime"] >= created["updateTime"]
    assert isinstance(updated["deactivateTimeStamp"], int)
    assert not {"customerEmail", "traits"} & updated.keys()
    assert sdk.customers.get("acme-7") == updated

    with pytest.raises(ApiError) as refused:
        sdk.customers.update(create_customer_payload("nobody", "Nobody"))
    assert refused.value.status_code == 400
    assert json.loads(refused.value.text)["code"] == "NOT_FOUND"


def test_add_or_update_finds_out_which(sdk: Sdk) -> None:
    first = sdk.customers.add_or_update(create_customer_payload("acme-7", "Acme"))
    second = sdk.customers.add_or_update(create_customer_payload("acme-7", "Acme Seven"))
    assert (first["customerName"], second["customerName"]) == ("Acme", "Acme Seven")
    assert first["createTime"] == second["createTime"]
    assert len(sdk.customers.list()) == 1


def test_customers_are_listed_in_the_order_of_their_making(sdk: Sdk, tenant: Tenant) -> None:
    for name in ("a", "b", "c"):
        sdk.customers.add(create_customer_payload(name, name.upper()))
    listed = sdk.customers.list()
    assert [customer["customerId"] for customer in listed] == ["a", "b", "c"]

    tenant.server.keep_port()
    tenant.server.kill()
    tenant.server.start()
    assert Sdk(sdk.key).customers.list() == listed, "an answered change outlives kill -9"


def test_a_customer_with_any_id_is_found_by_it(sdk: Sdk) -> None:
    for name in ("a b+c", "a/b", "100%25", "x=1&y=2", "Ärger 東京", "stage"):
        created = sdk.customers.add(create_customer_payload(name, "Any"))
        assert sdk.customers.get(name) == created
        assert sdk.customers.client.get("/customers/" + requests.utils.quote(name, safe="")) == created


def test_a_deleted_customer_is_gone_and_its_usage_stays(metered: Sdk) -> None:
    # The SDK has no call for these; this is how its other calls send theirs.
    session = metered.customers.client
    metered.customers.add(create_customer_payload("acme-7", "Acme"))
    metered.customers.add(create_customer_payload("zeta-1", "Zeta"))
    deleted = session.delete("/customers/acme-7")
    assert deleted["customerId"] == "acme-7"
    assert isinstance(deleted["deleteTime"], int)

    assert metered.customers.get("acme-7") == {}
    assert [customer["customerId"] for customer in metered.customers.list()] == ["zeta-1"]
    for call in (session.get, session.delete):
        with pytest.raises(ApiError) as refused:
            call("/customers/acme-7")
        assert refused.value.status_code == 404
        assert json.loads(refused.value.text)["code"] == "NOT_FOUND"
    assert metered.total(AggregationType.SUM, usage_filter={"customerId": ["acme-7"]}) == Decimal("17.5")

    again = metered.customers.add(create_customer_payload("acme-7", "Acme again"))
    assert "deleteTime" not in again


def test_a_stripe_customer_needs_a_configured_stripe(sdk: Sdk) -> None:
    with pytest.raises(ApiError) as refused:
        sdk.customers.add(create_customer_payload("acme-7", "Acme"), create_in_stripe=True)
    assert refused.value.status_code == 400
    assert json.loads(refused.value.text)["code"] == "PAYMENT_PROVIDER_NOT_CONFIGURED"
    assert sdk.customers.get("acme-7") == {}
