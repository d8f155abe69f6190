"""What Stigg's published Python client does with customers and subscriptions, at both of its addresses, on both logs and stores.

The client is unmodified but for the URL and the key. It checks every answer against its own types (`_strict_response_validation`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import jsonschema
import pytest
from metering.customer import create_customer_payload
from metering.customer_product_plan import create_customer_product_plan_payload
from stigg import (
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DefaultHttpxClient,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    Stigg,
)

from amberflo import Sdk, event
from conftest import Tenant
from harness import DAY_0, ROOT

SCHEMA = json.loads((ROOT / "tests/fixtures/contract/stigg-customer.schema.json").read_text())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


@dataclass
class Wire:
    """What went over the wire, as it was there."""

    requests: list[httpx.Request] = field(default_factory=list)
    responses: list[httpx.Response] = field(default_factory=list)

    def hear(self, response: httpx.Response) -> None:
        response.read()
        self.requests.append(response.request)
        self.responses.append(response)

    @property
    def answer(self) -> Any:
        """The newest one."""
        return self.responses[-1].json()

    def data(self) -> Any:
        return self.answer["data"]


@pytest.fixture
def wire() -> Wire:
    return Wire()


NewClient = Callable[..., Stigg]


@pytest.fixture(params=["", "/stigg"], ids=["root", "prefix"])
def new_client(request: pytest.FixtureRequest, tenant: Tenant, wire: Wire) -> Iterator[NewClient]:
    made: list[Stigg] = []

    def make(key: str = tenant.key, **options: Any) -> Stigg:
        http_client = DefaultHttpxClient(event_hooks={"response": [wire.hear]})
        url = tenant.server.url + request.param
        made.append(
            Stigg(api_key=key, base_url=url, http_client=http_client, _strict_response_validation=True, **options)
        )
        return made[-1]

    yield make
    for client in made:
        client.close()
    for response in wire.responses:
        check_seed(response)


@pytest.fixture
def stigg(new_client: NewClient) -> Stigg:
    return new_client()


def check_seed(response: httpx.Response) -> None:
    """Every customer that was served is as the seed has it. Only one without a name is not: its `null` is a rule of the contract."""
    path = response.request.url.path.removeprefix("/stigg")
    if response.is_error or "/customers" not in path or path.endswith("/import"):
        return
    data = response.json()["data"]
    for customer in data if isinstance(data, list) else [data]:
        if customer["name"] is None:
            customer = {name: value for name, value in customer.items() if name != "name"}
        VALIDATOR.validate(customer)


FULL: dict[str, Any] = {
    "id": "acme-7",
    "name": "Acme Seven",
    "email": "ap@acme.test",
    "billing_currency": "eur",
    "billing_id": "cus_1",
    "coupon_id": "",
    "language": "fr",
    "timezone": "Europe/Paris",
    "metadata": {"tier": "gold"},
    "default_payment_method": {
        "type": "CARD",
        "billing_id": None,
        "card_expiry_month": 12,
        "card_expiry_year": 2031,
        "card_last4_digits": "4242",
    },
    "integrations": [{"id": "i-1", "vendor_identifier": "STRIPE", "synced_entity_id": "cus_1"}],
    "passthrough": {
        "stripe": {
            "billing_address": {
                "line1": "1 Road",
                "line2": "b",
                "city": "Town",
                "state": "S",
                "postal_code": "1",
                "country": "XX",
            },
            "shipping_address": {"city": "Elsewhere"},
            "customer_name": "Acme Inc",
            "invoice_custom_fields": {"po": "7"},
            "metadata": {"k": "v"},
            "payment_method_id": "pm_1",
            "tax_ids": [{"type": "eu_vat", "value": "X1"}],
        },
        "zuora": {"currency": "usd", "metadata": {"z": "1"}, "billing_address": {"city": "Z"}},
    },
}


def has(shown: Any, sent: Any) -> None:
    """What was sent is shown; the client's objects have the names of its arguments."""
    if isinstance(sent, dict) and not isinstance(shown, dict):
        for name, value in sent.items():
            has(getattr(shown, name), value)
    elif isinstance(sent, list):
        assert len(shown) == len(sent)
        for one, other in zip(shown, sent, strict=True):
            has(one, other)
    else:
        assert shown == sent


def ids(page: Any) -> list[str]:
    return [one.id for one in page]


def test_a_customer_goes_through_its_life(stigg: Stigg, wire: Wire) -> None:
    made = stigg.v1.customers.provision(**FULL).data
    assert wire.responses[-1].status_code == 201
    has(made, FULL)
    assert made.archived_at is None
    assert wire.data()["archivedAt"] is None and wire.data()["subscriptions"] == []
    assert made.created_at == made.updated_at
    assert stigg.v1.customers.retrieve("acme-7").data == made

    changed = stigg.v1.customers.update("acme-7", email=None, metadata={"tier": "iron"}, language="de").data
    has(changed, {**{k: v for k, v in FULL.items() if k not in ("email", "metadata", "language")}, "language": "de"})
    assert changed.email is None and changed.metadata == {"tier": "iron"}
    assert changed.created_at == made.created_at and changed.updated_at >= made.updated_at

    archived = stigg.v1.customers.archive("acme-7").data
    assert archived.archived_at is not None
    assert wire.requests[-1].headers["content-type"] == "application/json" and not wire.requests[-1].content
    assert stigg.v1.customers.archive("acme-7").data == archived, "a retry"
    assert stigg.v1.customers.retrieve("acme-7").data == archived
    assert ids(stigg.v1.customers.list()) == []
    with pytest.raises(ConflictError):
        stigg.v1.customers.provision(id="acme-7")
    back = stigg.v1.customers.unarchive("acme-7").data
    assert back.archived_at is None and back.metadata == {"tier": "iron"}
    assert stigg.v1.customers.unarchive("acme-7").data == back, "a retry"
    assert ids(stigg.v1.customers.list()) == ["acme-7"]


@pytest.mark.parametrize("customer", ["a/b", "a b+c", "ü%2F", "import", "?#&="])
def test_an_id_may_have_any_characters(stigg: Stigg, customer: str) -> None:
    stigg.v1.customers.provision(id=customer, name="odd")
    assert stigg.v1.customers.retrieve(customer).data.id == customer
    assert stigg.v1.customers.update(customer, name="odder").data.name == "odder"
    assert stigg.v1.customers.archive(customer).data.id == customer


def test_a_bare_customer_has_no_name(stigg: Stigg, wire: Wire) -> None:
    assert stigg.v1.customers.provision(id="bare").data.name is None
    assert wire.data()["name"] is None and wire.data()["metadata"] == {}


def test_a_conflict_is_not_tried_again(stigg: Stigg, wire: Wire) -> None:
    stigg.v1.customers.provision(id="acme-7")
    with pytest.raises(ConflictError) as refused:
        stigg.v1.customers.provision(id="acme-7", name="Other")
    assert len(wire.requests) == 2, "made, and refused once"
    assert wire.responses[-1].headers["x-should-retry"] == "false"
    body = refused.value.body
    assert isinstance(body, dict)
    assert body["code"] == body["error"]["code"] == "DUPLICATED_ENTITY_NOT_ALLOWED"
    assert body["message"] == body["error"]["message"] and "acme-7" in body["message"]
    assert stigg.v1.customers.retrieve("acme-7").data.name is None


def test_who_is_told_to_wait_tries_again(tenant: Tenant, new_client: NewClient, wire: Wire) -> None:
    made = tenant.server.request(
        "POST", "/v1/keys", {"scopes": ["admin"], "rateLimit": {"requestsPerSecond": 1}}, {"X-API-KEY": tenant.key}
    )
    assert made.status == 201, made
    hasty = new_client(made.json()["key"])
    for n in range(3):
        hasty.v1.customers.provision(id=f"c-{n}")
    counts = [request.headers["x-stainless-retry-count"] for request in wire.requests]
    assert "1" in counts, counts
    refused = next(response for response in wire.responses if response.is_error)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert refused.json()["code"] == "RATE_LIMITED"
    with pytest.raises(RateLimitError):
        for _ in range(3):
            hasty.with_options(max_retries=0).v1.customers.list()


def test_an_error_says_what_is_wrong(stigg: Stigg, new_client: NewClient) -> None:
    def code(error: pytest.ExceptionInfo[Any]) -> tuple[str, str]:
        return error.value.body["code"], error.value.body["message"]

    with pytest.raises(NotFoundError) as missing:
        stigg.v1.customers.retrieve("nobody")
    assert code(missing) == ("CUSTOMER_NOT_FOUND", "customer nobody not found")
    for call in (stigg.v1.customers.archive, stigg.v1.customers.unarchive, stigg.v1.customers.payment_method.detach):
        with pytest.raises(NotFoundError) as missing:
            call("nobody")
        assert code(missing)[0] == "CUSTOMER_NOT_FOUND"
    with pytest.raises(NotFoundError) as missing:
        stigg.v1.customers.update("nobody", name="A")
    assert code(missing)[0] == "CUSTOMER_NOT_FOUND"
    with pytest.raises(NotFoundError) as missing:
        stigg.v1.subscriptions.retrieve("nothing")
    assert code(missing) == ("SUBSCRIPTION_NOT_FOUND", "subscription nothing not found")
    with pytest.raises(NotFoundError) as missing:
        stigg.v1.customers.retrieve_entitlements("nobody")
    assert code(missing)[0] == "NOT_FOUND"
    with pytest.raises(BadRequestError) as bad:
        stigg.v1.customers.provision(id="a", extra_body={"metadata": {"k": 1}})
    assert code(bad) == ("VALIDATION_ERROR", "metadata.k must be a string")
    for limit in (0, -1, 101):
        with pytest.raises(BadRequestError) as bad:
            stigg.v1.customers.list(limit=limit)
        assert code(bad) == ("VALIDATION_ERROR", "limit must be a whole number between 1 and 100")
    with pytest.raises(BadRequestError) as bad:
        stigg.v1.customers.list(after="nonsense")
    assert code(bad)[1].startswith("after must be a cursor")
    with pytest.raises(AuthenticationError) as unknown:
        new_client("tg_0000000000000000_unknown").v1.customers.list()
    assert code(unknown)[0] == "UNAUTHENTICATED"


def test_a_key_that_reads_changes_nothing(tenant: Tenant, new_client: NewClient) -> None:
    made = tenant.server.request("POST", "/v1/keys", {"scopes": ["read"]}, {"X-API-KEY": tenant.key})
    reader = new_client(made.json()["key"])
    assert ids(reader.v1.customers.list()) == []
    for call in (
        lambda: reader.v1.customers.provision(id="a"),
        lambda: reader.v1.customers.archive("a"),
        lambda: reader.v1.subscriptions.provision(customer_id="a", plan_id="p"),
    ):
        with pytest.raises(PermissionDeniedError):
            call()


def test_a_list_is_paged_forth_and_back(stigg: Stigg, wire: Wire) -> None:
    for n in range(7):
        stigg.v1.customers.provision(id=f"c-{n}", name="even" if n % 2 == 0 else "odd", email=f"{n}@acme.test")
    everybody = [f"c-{n}" for n in range(7)]
    before = len(wire.requests)
    assert ids(stigg.v1.customers.list(limit=3)) == everybody
    assert len(wire.requests) - before == 3
    assert wire.answer["pagination"]["next"] is None and wire.answer["pagination"]["prev"]
    last = wire.answer["pagination"]["prev"]
    assert ids(stigg.v1.customers.list(limit=2, before=last)) == ["c-4", "c-5", "c-2", "c-3", "c-0", "c-1"]
    assert wire.answer["pagination"]["prev"] is None
    assert ids(stigg.v1.customers.list(limit=1, name="odd")) == ["c-1", "c-3", "c-5"], "a filter holds on every page"
    assert ids(stigg.v1.customers.list(email="4@acme.test")) == ["c-4"]
    assert ids(stigg.v1.customers.list(name="ODD")) == []


def test_pages_are_exact_while_customers_come_and_go(stigg: Stigg) -> None:
    for n in range(12):
        stigg.v1.customers.provision(id=f"c-{n:02}")
    seen = []
    for n, customer in enumerate(stigg.v1.customers.list(limit=2)):
        seen.append(customer.id)
        if n == 1:
            # Behind, on, and before what was read.
            stigg.v1.customers.archive("c-00")
            stigg.v1.customers.archive("c-01")
            stigg.v1.customers.archive("c-07")
            stigg.v1.customers.provision(id="c-99")
    assert seen == [f"c-{n:02}" for n in range(12) if n != 7] + ["c-99"]


def test_customers_are_filtered_by_when_they_were_made(stigg: Stigg) -> None:
    first = stigg.v1.customers.provision(id="a").data.created_at
    stigg.v1.customers.provision(id="b")
    assert "a" in ids(stigg.v1.customers.list(created_at={"gte": first}))
    assert "a" not in ids(stigg.v1.customers.list(created_at={"gt": first}))
    assert "a" in ids(stigg.v1.customers.list(created_at={"lte": first, "gt": first - timedelta(seconds=1)}))
    assert ids(stigg.v1.customers.list(created_at={"lt": first})) == []
    with pytest.raises(BadRequestError) as bad:
        stigg.v1.customers.list(created_at={"gte": "yesterday"})
    assert "createdAt[gte]" in str(bad.value)


def test_customers_are_imported(stigg: Stigg) -> None:
    stigg.v1.customers.provision(id="old", name="Old", language="fr")
    entry = {"email": None, "metadata": {"k": "v"}, "billing_id": "b", "payment_method_id": "pm", "salesforce_id": "sf"}
    customers = [{"id": "old", "name": "New name", **entry}, {"id": "new", "name": "New", **entry}]
    imported = stigg.v1.customers.import_(customers=customers, integration_id="i-1")  # type: ignore[arg-type]
    assert imported.data.new_customers == ["new"]
    for customer in customers:
        shown = stigg.v1.customers.retrieve(customer["id"]).data  # type: ignore[arg-type]
        assert (shown.name, shown.metadata, shown.billing_id) == (customer["name"], {"k": "v"}, "b")
    assert stigg.v1.customers.retrieve("old").data.language == "fr"
    again = stigg.v1.customers.import_(customers=customers)  # type: ignore[arg-type]
    assert again.data.new_customers == []
    with pytest.raises(BadRequestError) as bad:
        stigg.v1.customers.import_(customers=[{"id": "a", "name": "A", "email": None}, {"id": "a", "name": "A", "email": None}])
    assert "customers[1].id comes twice" in str(bad.value)
    assert ids(stigg.v1.customers.list()) == ["old", "new"], "nothing of a bad import is made"


def test_a_way_to_pay_is_attached_and_detached(stigg: Stigg) -> None:
    stigg.v1.customers.provision(id="acme-7")
    attached = stigg.v1.customers.payment_method.attach(
        "acme-7", integration_id="i-1", payment_method_id="pm_1", vendor_identifier="STRIPE", billing_currency="usd"
    ).data
    assert attached.default_payment_method is not None
    assert attached.default_payment_method.billing_id == "pm_1" and attached.billing_currency == "usd"
    assert stigg.v1.customers.payment_method.detach("acme-7").data.default_payment_method is None


def test_a_subscription_goes_through_its_life(stigg: Stigg, wire: Wire) -> None:
    stigg.v1.customers.provision(id="acme-7", name="Acme")
    made = stigg.v1.subscriptions.provision(
        id="sub-1",
        customer_id="acme-7",
        plan_id="plan-pro",
        billing_period="MONTHLY",
        metadata={"k": "v"},
        resource_id="site-1",
        addons=[{"id": "a", "quantity": 2}],
    ).data
    assert wire.responses[-1].status_code == 201
    assert (made.id, made.status, made.entitlements) == ("sub-1", "SUCCESS", [])
    subscription = made.subscription
    assert subscription is not None
    assert (subscription.status, subscription.pricing_type, subscription.payment_collection) == (
        "ACTIVE",
        "FREE",
        "NOT_REQUIRED",
    )
    assert (subscription.metadata, subscription.resource_id, subscription.billing_id) == ({"k": "v"}, "site-1", None)
    assert subscription.addons is not None and subscription.addons[0].quantity == 2
    found = stigg.v1.subscriptions.retrieve("sub-1").data
    assert found.to_dict() == subscription.to_dict()
    assert stigg.v1.customers.retrieve("acme-7").data.to_dict()["subscriptions"] == [
        {"id": "sub-1", "status": "ACTIVE", "plan": {"id": "plan-pro", "name": "plan-pro"}}
    ]
    with pytest.raises(ConflictError):
        stigg.v1.subscriptions.provision(id="sub-1", customer_id="acme-7", plan_id="plan-pro")
    changed = stigg.v1.subscriptions.update("sub-1", metadata={"a": "b"}, salesforce_id="sf").data
    assert changed.metadata == {"a": "b"} and changed.resource_id == "site-1"

    later = stigg.v1.subscriptions.cancel("sub-1", cancellation_time="END_OF_BILLING_PERIOD").data
    assert later.status == "ACTIVE" and later.cancellation_date is not None
    assert later.cancellation_date > datetime.now(UTC) and later.cancellation_date.day == 1
    kept = stigg.v1.subscriptions.update("sub-1", cancellation_date=None).data
    assert kept.cancellation_date is None
    date = datetime.now(UTC).replace(microsecond=0) + timedelta(days=400)
    dated = stigg.v1.subscriptions.cancel("sub-1", cancellation_time="SPECIFIC_DATE", end_date=date).data
    assert (dated.status, dated.cancellation_date) == ("ACTIVE", date)
    ended = stigg.v1.subscriptions.cancel("sub-1", cancellation_time="IMMEDIATE").data
    assert (ended.status, ended.cancel_reason) == ("CANCELED", "Immediate")
    assert stigg.v1.subscriptions.cancel("sub-1").data == ended, "a retry"
    stigg.v1.customers.retrieve("acme-7")
    assert wire.data()["subscriptions"] == []


def test_a_subscription_begins_now_later_or_as_a_trial(stigg: Stigg, wire: Wire) -> None:
    now = datetime.now(UTC)
    for customer, more, status, short in (
        ("a", {}, "ACTIVE", "ACTIVE"),
        ("b", {"start_date": now + timedelta(days=3)}, "NOT_STARTED", "PAUSED"),
        ("c", {"trial_override_configuration": {"is_trial": True, "trial_end_date": now + timedelta(days=3)}}, "IN_TRIAL", "TRIAL"),
    ):
        stigg.v1.customers.provision(id=customer)
        made = stigg.v1.subscriptions.provision(customer_id=customer, plan_id="p", **more).data  # type: ignore[arg-type]
        assert made.subscription is not None and made.subscription.status == status
        stigg.v1.customers.retrieve(customer)
        assert [one["status"] for one in wire.data()["subscriptions"]] == [short]
        assert stigg.v1.subscriptions.retrieve(made.id).data.customer_id == customer
    with pytest.raises(NotFoundError) as missing:
        stigg.v1.subscriptions.provision(customer_id="nobody", plan_id="p")
    assert missing.value.body["code"] == "CUSTOMER_NOT_FOUND"  # type: ignore[index]


def test_subscriptions_are_listed_and_filtered(stigg: Stigg) -> None:
    for customer in ("a", "b"):
        stigg.v1.customers.provision(id=customer)
        for n in range(3):
            stigg.v1.subscriptions.provision(
                id=f"{customer}-{n}", customer_id=customer, plan_id=f"plan-{n}", resource_id=f"site-{n}"
            )
    everything = ["a-0", "a-1", "a-2", "b-0", "b-1", "b-2"]
    assert sorted(ids(stigg.v1.subscriptions.list(limit=4))) == everything
    assert ids(stigg.v1.subscriptions.list(customer_id="a", limit=1)) == everything[:3]
    assert ids(stigg.v1.subscriptions.list(plan_id="plan-1")) == ["a-1", "b-1"]
    assert ids(stigg.v1.subscriptions.list(resource_id="site-2")) == ["a-2", "b-2"]
    # A customer has one plan at a time: the next one is an upgrade, or a downgrade.
    assert ids(stigg.v1.subscriptions.list(status=["ACTIVE", "IN_TRIAL"])) == ["a-2", "b-2"]
    canceled = list(stigg.v1.subscriptions.list(status=["CANCELED"]))
    assert {one.cancel_reason for one in canceled} == {"UPGRADE_OR_DOWNGRADE"} and len(canceled) == 4
    assert ids(stigg.v1.subscriptions.list(pricing_type=["FREE", "PAID"], limit=100)) == ids(stigg.v1.subscriptions.list())
    assert ids(stigg.v1.subscriptions.list(pricing_type=["PAID"])) == []
    first = stigg.v1.subscriptions.retrieve("a-0").data.created_at
    assert "a-0" not in ids(stigg.v1.subscriptions.list(created_at={"gt": first}))
    assert len(ids(stigg.v1.subscriptions.list(created_at={"gte": first}))) == 6
    with pytest.raises(BadRequestError):
        stigg.v1.subscriptions.list(status=["SOME"])  # type: ignore[list-item]


def test_an_archived_customer_s_subscriptions_are_canceled_for_good(stigg: Stigg, wire: Wire) -> None:
    stigg.v1.customers.provision(id="acme-7")
    stigg.v1.subscriptions.provision(id="sub-1", customer_id="acme-7", plan_id="p")
    stigg.v1.customers.archive("acme-7")
    assert wire.data()["subscriptions"] == []
    for _ in range(2):
        ended = stigg.v1.subscriptions.retrieve("sub-1").data
        assert (ended.status, ended.cancel_reason) == ("CANCELED", "CustomerArchived")
        stigg.v1.customers.unarchive("acme-7")
    stigg.v1.subscriptions.provision(id="sub-2", customer_id="acme-7", plan_id="p")
    assert [one.status for one in stigg.v1.subscriptions.list(customer_id="acme-7")] == ["CANCELED", "ACTIVE"]


def test_amberflo_and_stigg_see_the_same_customer(stigg: Stigg, sdk: Sdk, wire: Wire) -> None:
    stigg.v1.customers.provision(**FULL)
    [seen] = sdk.customers.list()
    assert (seen["customerId"], seen["customerName"], seen["traits"]) == ("acme-7", "Acme Seven", {"tier": "gold"})
    assert seen["address"]["city"] == "Town"
    sdk.customers.update(create_customer_payload("acme-7", "Amber", traits={"tier": "tin"}))
    shown = stigg.v1.customers.retrieve("acme-7").data
    assert (shown.name, shown.metadata, shown.email) == ("Amber", {"tier": "tin"}, None)
    assert (shown.language, shown.billing_currency) == ("fr", "eur")
    assert shown.passthrough is not None and shown.passthrough.stripe is not None
    assert shown.passthrough.stripe.tax_ids is not None and shown.passthrough.stripe.tax_ids[0].value == "X1"

    sdk.customers.add(create_customer_payload("acme-8", "Eight"))
    assert ids(stigg.v1.customers.list()) == ["acme-7", "acme-8"]
    # One row, whoever made it.
    sdk.plans.add_or_update(create_customer_product_plan_payload("acme-8", "plan-a", start_time_in_seconds=DAY_0))
    [assigned] = list(stigg.v1.subscriptions.list(customer_id="acme-8"))
    assert (assigned.plan_id, assigned.status, assigned.start_date) == ("plan-a", "ACTIVE", datetime.fromtimestamp(DAY_0, UTC))
    assert stigg.v1.subscriptions.retrieve(assigned.id).data.plan_id == "plan-a"
    stigg.v1.subscriptions.provision(id="sub-1", customer_id="acme-8", plan_id="plan-b")
    assert [plan["productPlanId"] for plan in sdk.plans.list("acme-8")] == ["plan-a", "plan-b"]

    stigg.v1.customers.archive("acme-8")
    assert [customer["customerId"] for customer in sdk.customers.list()] == ["acme-7"]
    stigg.v1.customers.unarchive("acme-8")
    assert [customer["customerId"] for customer in sdk.customers.list()] == ["acme-7", "acme-8"]
    sdk.ingest.send(event(5, customer="acme-8"))
    assert wire.responses
