"""What Octane's published Python client does with customers, mappings, subscriptions, meters, measurements and usage, unchanged but for its address and key, on
both logs and stores. What it is served of customers is held against the seed schema."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import octane
import pytest
from octane.error import APIError, AuthenticationError, InvalidRequestError, PermissionError

from conftest import Tenant
from harness import ROOT

SCHEMA = json.loads((ROOT / "tests/fixtures/contract/octane-customer.schema.json").read_text())

METER = {
    "event_name": "call",
    "meter_type": "COUNTER",
    "data_type": "INT",
    "aggregation": "MAX",
    "is_incremental": True,
    "reporting_method": "DELTA",
}


@pytest.fixture(params=["", "/octane"], ids=["root", "prefix"])
def account(request: pytest.FixtureRequest, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> Tenant:
    """The account that the client speaks to, at either of its two base URLs."""
    monkeypatch.setattr(octane, "api_base", tenant.server.url + request.param)
    monkeypatch.setattr(octane, "api_key", tenant.key)
    return tenant


def plain(value: Any) -> Any:
    """What the client made of an answer, as it was in JSON."""
    return json.loads(json.dumps(value))


def customer(value: Any) -> Any:
    """The same of a customer, which fits the seed schema."""
    found = plain(value)
    jsonschema.Draft7Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(found)
    # The checker has none of its own for times.
    assert datetime.fromisoformat(found["created_at"]).tzinfo == UTC
    return found


def amberflo(account: Tenant, method: str, path: str, body: Any = None) -> Any:
    """A request in the words of the other dialect."""
    answer = account.server.request(method, path, body, {"X-API-KEY": account.key})
    assert answer.status == 200, answer
    return answer.json()


def refused(code: str, param: str | None, call: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        call()
    assert (caught.value.code, caught.value.param) == (code, param), caught.value
    return caught.value


FULL = {
    "name": "acme-7",
    "display_name": "Acme Seven",
    "contact_info": {
        "address_line_1": "1 Main St",
        "address_line_2": "Suite 5",
        "city": "Oslo",
        "state": "OS",
        "country": "NO",
        "zipcode": "0150",
        "url": "https://acme.test",
        "logo_url": "https://acme.test/logo.png",
        "email": "ap@acme.test",
        "secondary_emails": ["b@acme.test", "a@acme.test"],
        "phone": "+47 1",
        "legal_name": "Acme Inc",
        "vat_id": "NO1",
    },
    # As the client writes times: without an offset.
    "created_at": "2026-01-01T00:00:00.123456",
    "measurement_mappings": [{"label": "user_id", "value_regex": "u-7"}],
    "tags": ["beta", "alpha"],
    "customer_metadata": [{"property": "tier", "value": "gold"}],
    "vendor_id": 12345678901234567890123,
}
SHOWN = {
    **{name: value for name, value in FULL.items() if name != "customer_metadata"},
    "created_at": "2026-01-01T00:00:00.123456Z",
    "tags": [{"tag": "beta"}, {"tag": "alpha"}],
}


def test_a_customer_is_made_listed_read_and_removed(account: Tenant) -> None:
    assert octane.Customer.list() == []
    made = octane.Customer.create(**FULL)
    assert customer(made) == SHOWN
    assert customer(octane.Customer.retrieve("acme-7")) == SHOWN
    bare = octane.Customer.create(name="bare")
    assert set(customer(bare)) == {"name", "created_at", "measurement_mappings", "tags"}
    assert [customer(one) for one in octane.Customer.list()] == [SHOWN, plain(bare)]
    error = refused("already_exists", "name", lambda: octane.Customer.create(name="bare"))
    assert error.http_status == 400
    # By its name, and as what was read.
    assert plain(octane.Customer.delete("bare")) == {}
    found = octane.Customer.retrieve("acme-7")
    assert found.delete() == {}
    assert octane.Customer.list() == []
    error = refused("not_found", "name", lambda: octane.Customer.retrieve("acme-7"))
    assert (error.http_status, error.user_message) == (404, "customer not found")
    again = customer(octane.Customer.create(name="acme-7"))
    assert set(again) == set(plain(bare)), "a new record"


def test_a_customer_is_modified_and_saved_as_a_merge(account: Tenant) -> None:
    octane.Customer.create(**FULL)
    expected = {**SHOWN, "display_name": "New", "contact_info": {**SHOWN["contact_info"], "city": "Bergen"}}
    modified = octane.Customer.modify("acme-7", display_name="New", contact_info={"city": "Bergen"})
    assert customer(modified) == expected

    # The client sends what was changed of what it has read.
    found = octane.Customer.retrieve("acme-7")
    found.contact_info.phone = "+47 2"
    found.tags = ["x"]
    found.save()
    expected["contact_info"] = {**expected["contact_info"], "phone": "+47 2"}
    expected["tags"] = [{"tag": "x"}]
    assert customer(found) == expected == customer(octane.Customer.retrieve("acme-7"))

    # What it sends for None, and for members that a new object has not: empty texts.
    found.display_name = None
    found.vendor_id = None
    found.contact_info.vat_id = None
    found.measurement_mappings = None
    found.save()
    for name in ("display_name", "vendor_id"):
        del expected[name]
    del expected["contact_info"]["vat_id"]
    expected["measurement_mappings"] = []
    assert customer(found) == expected
    found.contact_info = {"email": "new@acme.test"}
    found.save()
    assert customer(found) == {**expected, "contact_info": {"email": "new@acme.test"}}
    found.contact_info = None
    found.tags = None
    found.save()
    shown = customer(octane.Customer.retrieve("acme-7"))
    assert (shown["tags"], "contact_info" in shown) == ([], False)
    # What it has read of tags and mappings it can send back.
    found.tags = [{"tag": "y", "colour": "red"}]
    found.measurement_mappings = [{"label": "host", "value_regex": "a.*", "note": 1}]
    found.save()
    shown = customer(octane.Customer.retrieve("acme-7"))
    assert (shown["tags"], shown["measurement_mappings"]) == (plain(found.tags), plain(found.measurement_mappings))
    refused("not_found", "name", lambda: octane.Customer.modify("nobody", display_name="x"))


@pytest.mark.parametrize("name", ["a b", "a/b", "a+b", "ü & 7%", "a b/c+d"])
def test_a_name_may_have_whatever_the_client_encodes(account: Tenant, name: str) -> None:
    made = octane.Customer.create(name=name, display_name="x")
    assert octane.Customer.retrieve(name) == made
    assert octane.Customer.modify(name, display_name="y").display_name == "y"
    octane.Customer.create_mapping(name, label="a b/c", value_regex="x")
    assert plain(octane.Customer.list_mappings(name)) == [{"label": "a b/c", "value_regex": "x"}]
    assert octane.Customer.delete_mapping(name, "a b/c") == {}
    assert octane.Customer.create_subscription(name, price_plan_name="pro").customer_name == name
    octane.Meter.create(name=name, **METER)
    assert octane.Meter.retrieve(name).name == name
    assert octane.Meter.delete(name) == octane.Customer.delete(name) == {}
    assert octane.Customer.list() == octane.Meter.list() == []


def test_mappings_are_made_listed_and_deleted(account: Tenant) -> None:
    octane.Customer.create(name="acme-7")
    sent = [{"label": "user_id", "value_regex": "u-[0-9]+"}, {"label": "user_id", "value_regex": "v"}, {"label": "host"}]
    for mapping in sent:
        assert plain(octane.Customer.create_mapping("acme-7", **mapping)) == mapping
    assert plain(octane.Customer.list_mappings("acme-7")) == sent
    assert customer(octane.Customer.retrieve("acme-7"))["measurement_mappings"] == sent
    assert plain(octane.Customer.delete_mapping("acme-7", "user_id")) == {}
    assert plain(octane.Customer.list_mappings("acme-7")) == sent[2:]
    refused("not_found", "label", lambda: octane.Customer.delete_mapping("acme-7", "user_id"))
    refused("not_found", "name", lambda: octane.Customer.list_mappings("nobody"))
    refused("invalid", "value_regex", lambda: octane.Customer.create_mapping("acme-7", label="l", value_regex="("))


def test_what_is_refused_is_an_exception_that_names_the_field(account: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    refused("invalid", "name", lambda: octane.Customer.create(display_name="x"))
    refused("invalid", "contact_info.email", lambda: octane.Customer.create(name="a", contact_info={"email": 7}))
    refused("invalid", "tags[1]", lambda: octane.Customer.create(name="a", tags=["x", 7]))
    refused("invalid", "created_at", lambda: octane.Customer.create(name="a", created_at="yesterday"))
    refused("not_found", None, lambda: octane.PricePlan.list())
    with pytest.raises(APIError) as wrong_method:
        octane.Customer._static_request("put", "/customers/")
    assert wrong_method.value.http_status == 405
    assert octane.Customer.list() == []
    reader = account.server.request("POST", "/v1/keys", {"name": "r", "scopes": ["read"]}, {"X-API-KEY": account.key})
    monkeypatch.setattr(octane, "api_key", reader.json()["key"])
    assert octane.Customer.list() == []
    with pytest.raises(PermissionError):
        octane.Customer.create(name="a")
    monkeypatch.setattr(octane, "api_key", "tg_0000000000000000_unknown")
    with pytest.raises(AuthenticationError) as caught:
        octane.Customer.list()
    assert caught.value.http_status == 401


def test_a_subscription_is_one_row_for_all_dialects(account: Tenant) -> None:
    octane.Customer.create(name="acme-7", price_plan_name="free")
    assigned = amberflo(account, "GET", "/payments/pricing/amberflo/customer-pricing?customerId=acme-7")
    assert assigned["productPlanId"] == "free"
    made = octane.Customer.create_subscription(
        "acme-7", price_plan_name="pro", effective_at="2026-01-01T00:00:00.123456", align_to_calendar=True
    )
    shown = plain(made)
    assert (shown["customer_name"], shown["price_plan_name"]) == ("acme-7", "pro")
    assert (shown["effective_at"], shown["discounts"]) == ("2026-01-01T00:00:00.123456Z", [])
    assert shown["align_to_calendar"] and shown["uuid"] and shown["price_plan_uuid"]
    # In another dialect's words, as the client has no call for it.
    listed = amberflo(account, "GET", "/payments/pricing/amberflo/customer-pricing/list?customerId=acme-7")
    assert [one["productPlanId"] for one in listed] == ["pro", "free"]
    headers = {"X-API-KEY": account.key}
    rows = account.server.request("GET", "/octane/customers/acme-7/subscriptions", None, headers).json()
    assert [row["price_plan_name"] for row in rows] == ["pro", "free"]
    # The client has a path for it, and no method.
    path = f"/customers/acme-7/subscriptions/{shown['uuid']}"
    with pytest.raises(InvalidRequestError) as caught:
        octane.Customer._static_request("post", path, price_plan_name="team")
    assert caught.value.http_status == 404, "it ended where the other one began"
    replaced = octane.Customer._static_request(
        "post", f"/customers/acme-7/subscriptions/{rows[1]['uuid']}", price_plan_name="team"
    )
    assert replaced.price_plan_name == "team"
    refused("invalid", "price_plan_name", lambda: octane.Customer.create_subscription("acme-7"))
    refused("not_found", "name", lambda: octane.Customer.create_subscription("nobody", price_plan_name="pro"))


def test_a_meter_is_defined_changed_listed_and_deleted(account: Tenant) -> None:
    assert octane.Meter.list() == []
    more = {"display_name": "Calls", "unit_name": "call", "expected_labels": ["region"], "primary_labels": ["region"]}
    made = octane.Meter.create(name="calls", **METER, **more)
    expected = {"name": "calls", **METER, **more}
    assert plain(made) == expected == plain(octane.Meter.retrieve("calls"))
    assert plain(octane.Meter.list()) == [expected]
    defined = amberflo(account, "GET", "/meter-definition/calls")
    assert (defined["type"], defined["dimensions"]) == ("MAX_IN_PERIOD", ["region"])
    assert octane.Meter.modify("calls", description="of the API").description == "of the API"
    made = octane.Meter.retrieve("calls")
    made.display_name = "API calls"
    made.save()
    assert plain(made) == {**expected, "display_name": "API calls", "description": "of the API"}
    refused("already_exists", "name", lambda: octane.Meter.create(name="calls", **METER))
    refused("invalid", "aggregation", lambda: octane.Meter.create(name="x", **{**METER, "aggregation": "MEDIAN"}))
    archived = octane.Meter._static_request("post", "/meters/calls/archive")
    assert archived.is_archived and octane.Meter.list() == []
    assert made.delete() == {}
    refused("not_found", "name", lambda: octane.Meter.retrieve("calls"))


DAY_0 = datetime(2026, 1, 1, tzinfo=UTC)
JANUARY = {"start_time": "2026-01-01T00:00:00", "end_time": "2026-02-01T00:00:00Z"}


def test_measurements_are_echoed_and_counted_once(account: Tenant) -> None:
    sent = {
        "meter_name": "tokens",
        "customer_name": "acme-7",
        "value": 2.5,
        "time": "2026-01-01T12:00:00.123456",
        "labels": {"region": "eu"},
        "id": "m-1",
    }
    made = octane.Measurement.create(**sent)
    assert plain(made) == sent
    # The same once more, with a key and without.
    assert plain(octane.Measurement.create(idempotency_key="k-1", **sent)) == sent
    # The client fills in the time, without an offset, and the gateway the id.
    before = datetime.now(UTC) - timedelta(seconds=1)
    made = octane.Measurement.create(meter_name="tokens", customer_name="acme-7", value=1)
    assert made.id and before <= datetime.fromisoformat(made.time).replace(tzinfo=UTC) <= datetime.now(UTC)
    several = [{**sent, "id": f"m-{number}"} for number in range(3)] + [
        {"event_name": "calls", "customer_name": "acme-7", "value": 1}
    ]
    echoed = octane.Measurement.create_multi(measurements=several)
    assert plain(echoed[:3]) == several[:3]
    assert echoed[3].id and echoed[3].event_name == "calls"
    assert octane.Measurement.create_multi(measurements=[]) == []
    octane.Customer.create(name="acme-7")
    assert octane.Customer.usage("acme-7", meter_name="tokens", **JANUARY).usage == 7.5
    refused("invalid", "meter_name", lambda: octane.Measurement.create(customer_name="acme-7", value=1))
    refused("invalid", "value", lambda: octane.Measurement.create(**{**sent, "value": "1"}))
    refused("invalid", "reset_total", lambda: octane.Measurement.create(reset_total=True, **sent))
    bad = [{**sent, "id": "m-9"}, {**sent, "value": None}]
    refused("invalid", "[1].value", lambda: octane.Measurement.create_multi(measurements=bad))
    assert octane.Customer.usage("acme-7", meter_name="tokens", **JANUARY).usage == 7.5, "nothing of it"


def test_usage_is_what_the_meter_says(account: Tenant) -> None:
    found = octane.Customer.create(name="acme 7/b")
    meters = {"sum": "SUM", "most": "MAX", "least": "MIN", "events": "COUNT", "average": "AVG", "last": "LATEST", "users": "UNIQUE_COUNT"}
    for name, word in meters.items():
        more = {**METER, "aggregation": word, "event_name": name, "primary_labels": ["user"]}
        octane.Meter.create(name=name, **more)
        octane.Measurement.create_multi(
            measurements=[
                {
                    "meter_name": name,
                    "customer_name": "acme 7/b",
                    "value": value,
                    "time": (DAY_0 + timedelta(hours=hours, microseconds=1)).isoformat(),
                    "labels": {"user": user},
                }
                for value, hours, user in [(0.1, 0, "a"), (0.2, 1, "b"), (7, 24, "a"), (-3, 31 * 24, "c")]
            ]
        )
    used = {name: octane.Customer.usage("acme 7/b", meter_name=name, **JANUARY).usage for name in meters}
    assert used == {"sum": 7.3, "most": 7, "least": 0.1, "events": 3, "average": 2.433333333333, "last": 7, "users": 2}
    # Times as the client writes those of its user's datetimes: seconds since 1970.
    first_day = {"start_time": DAY_0, "end_time": DAY_0 + timedelta(days=1)}
    assert octane.Customer.usage("acme 7/b", meter_name="sum", **first_day).usage == 0.3
    # As a call of what was read, which has the usage in place of itself then.
    assert found.usage(meter_name="most", **JANUARY)["usage"] == 7
    # Without a range: the month that is running; of a gauge the latest there is.
    octane.Meter.create(name="seats", **{**METER, "meter_type": "GAUGE", "event_name": "seats"})
    for value, time in [(5, "2026-01-02T00:00:00"), (4, "2026-01-03T00:00:00"), (9, "2026-01-01T00:00:00")]:
        octane.Measurement.create(meter_name="seats", customer_name="acme 7/b", value=value, time=time)
    assert octane.Customer.usage("acme 7/b", meter_name="seats").usage == 4
    assert octane.Customer.usage("acme 7/b", meter_name="sum").usage == 0
    octane.Measurement.create(meter_name="sum", customer_name="acme 7/b", value=1.5)
    assert octane.Customer.usage("acme 7/b", meter_name="sum").usage == 1.5
    assert octane.Customer.usage("acme 7/b", meter_name="nobody knows it").usage == 0
    refused("not_found", "name", lambda: octane.Customer.usage("nobody", meter_name="sum"))
    refused("invalid", "meter_name", lambda: octane.Customer.usage("acme 7/b"))
    refused("invalid", "start_time", lambda: octane.Customer.usage("acme 7/b", meter_name="sum", start_time="yesterday"))
    octane.Meter.create(name="weighted", **{**METER, "aggregation": "TIME_WEIGHTED_SUM"})
    refused("invalid", "meter_name", lambda: octane.Customer.usage("acme 7/b", meter_name="weighted"))


def test_usage_by_time_is_asked_as_octane_s_other_client_would(account: Tenant) -> None:
    """That one is no longer to be had: it sends times with a Z and milliseconds, and its key as a bearer."""
    octane.Customer.create(name="acme-7")
    octane.Measurement.create(meter_name="tokens", customer_name="acme-7", value=2.5, time="2026-01-01T12:00:00", labels={"region": "eu"})
    asked = {
        "meter_name": "tokens",
        "start_time": "2026-01-01T00:00:00.000Z",
        "time_bucket": "hour",
        "aggregate": "SUM",
        "label_filters": [{"key": "region", "value": "eu"}],
        "label_group_by_keys": ["region"],
    }
    answer = account.server.request("POST", "/octane/customers/acme-7/usage_by_time", asked, {"X-API-KEY": account.key})
    assert answer.status == 200, answer
    shown = answer.json()
    assert shown["usage_by_time"] == [{"time": "2026-01-01T12:00:00.000000Z", "usage": 2.5, "labels": {"region": "eu"}}]
    assert (shown["total_usage"], shown["meter_name"], shown["meter_display_name"]) == (2.5, "tokens", "tokens")
    # The client's own way to a path that it has no method for.
    assert plain(octane.Customer._static_request("post", "/customers/acme-7/usage_by_time", **asked))["total_usage"] == 2.5


def test_what_is_outside_of_what_is_covered_is_not_found(account: Tenant) -> None:
    octane.Customer.create(name="acme-7")
    refused("not_found", None, lambda: octane.Customer.revenue("acme-7"))
    refused("not_found", None, lambda: octane.Customer.create_payment_gateway_credential("acme-7", account_id="x"))


def test_one_customer_in_two_dialects(account: Tenant) -> None:
    amberflo(account, "POST", "/customers", {"customerId": "acme-7", "customerName": "Acme", "traits": {"tier": "gold"}})
    found = octane.Customer.retrieve("acme-7")
    assert customer(found)["display_name"] == "Acme"
    found.contact_info = {"city": "Oslo", "email": "ap@acme.test"}
    found.tags = ["beta"]
    found.save()
    shown = amberflo(account, "GET", "/customers/acme-7")
    assert (shown["customerEmail"], shown["traits"], "address" in shown) == ("ap@acme.test", {"tier": "gold"}, False)
    amberflo(account, "PUT", "/customers", {"customerId": "acme-7", "customerName": "Acme", "customerEmail": "x@acme.test"})
    shown = customer(octane.Customer.retrieve("acme-7"))
    assert shown["contact_info"] == {"city": "Oslo", "email": "x@acme.test"}
    assert shown["tags"] == [{"tag": "beta"}]
    assert octane.Customer.delete("acme-7") == {}
    assert account.server.request("GET", "/customers/acme-7", None, {"X-API-KEY": account.key}).status == 404
