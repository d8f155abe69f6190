"""What Amberflo's published Python SDK does with plans, prepaid orders, invoices and the portal, on both logs and stores."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import requests
from metering.customer import create_customer_payload
from metering.customer_portal_session import create_customer_portal_session_payload
from metering.customer_prepaid_order import (
    BillingPeriod,
    BillingPeriodUnit,
    create_customer_prepaid_order_payload,
)
from metering.customer_product_invoice import (
    create_all_invoices_query,
    create_invoice_query,
    create_latest_invoice_query,
)
from metering.customer_product_plan import create_customer_product_plan_payload
from metering.exceptions import ApiError

from amberflo import METER, Sdk, event, midnight
from conftest import Tenant
from harness import DAY_0, exact

PLAN = {
    "id": "pro",
    "name": "Pro",
    "currency": "USD",
    "fees": [{"id": "base", "amount": 10, "due": "advance"}],
    "prices": [{"meter": METER, "model": "perUnit", "unitPrice": 0.1}],
}


@pytest.fixture
def priced(sdk: Sdk, tenant: Tenant) -> Sdk:
    """A customer that used 120 of what costs 0.10 in January 2026, on a plan with a fee of 10."""
    made = tenant.server.request("POST", "/v1/plans", PLAN, {"X-API-KEY": tenant.key})
    assert made.status == 200, made
    sdk.customers.add(create_customer_payload("acme-7", "Acme Seven"))
    sdk.plans.add_or_update(
        create_customer_product_plan_payload("acme-7", "pro", start_time_in_seconds=DAY_0)
    )
    sdk.ingest.send(event(120, at=DAY_0 + 3_600))
    return sdk


def invoices(sdk: Sdk) -> list[dict[str, Any]]:
    sdk.invoices.get_all(create_all_invoices_query("acme-7"))
    return exact(sdk.answer.text)


def test_a_plan_is_assigned_and_its_history_kept(sdk: Sdk) -> None:
    assert sdk.plans.get("acme-7") is None
    assert sdk.plans.list("acme-7") == []
    later = midnight(2026, 3, 1)
    first = create_customer_product_plan_payload("acme-7", "basic", start_time_in_seconds=DAY_0)
    second = create_customer_product_plan_payload(
        "acme-7", "pro", start_time_in_seconds=later, end_time_in_seconds=later + 86_400
    )
    assert sdk.plans.add_or_update(first) == first
    assert sdk.plans.add_or_update(second) == second
    assert sdk.plans.get("acme-7") == second
    assert sdk.plans.list("acme-7") == [first, second]


def test_a_prepaid_order_is_made_once(sdk: Sdk) -> None:
    assert sdk.orders.list_active("acme-7") == []
    now = int(datetime.now(UTC).timestamp())
    order = create_customer_prepaid_order_payload(
        "order-1", "acme-7", now, 99.5, external_payment=True, recurrence_frequency=BillingPeriod(1, BillingPeriodUnit.MONTH)
    )
    made = sdk.orders.add(order)
    assert made["id"] == "order-1"
    assert made["recurrenceFrequency"] == {"interval": "month", "intervalsCount": 1}
    assert made["paymentStatus"] == "pending"
    assert exact(sdk.answer.text)["prepaidPrice"] == Decimal("99.5")
    assert sdk.orders.add(order) == made, "a retry"
    assert sdk.orders.list_active("acme-7") == [made]
    once = sdk.orders.add(create_customer_prepaid_order_payload("order-2", "acme-7", now, 1))
    assert once["recurrenceFrequency"] is None
    assert once["paymentStatus"] == "not_needed"
    assert [order["id"] for order in sdk.orders.list_active("acme-7")] == ["order-1", "order-2"]
    with pytest.raises(ApiError) as refused:
        sdk.orders.add({**order, "prepaidPrice": 100})
    assert refused.value.status_code == 400


def test_what_was_used_is_on_the_invoice_of_its_month(priced: Sdk) -> None:
    priced.orders.add(create_customer_prepaid_order_payload("order-1", "acme-7", DAY_0, 15))
    january, *later = invoices(priced)
    assert later, "one for each month since"
    bill = january["totalBill"]
    assert (bill["itemPrice"], bill["fixPrice"], bill["prepaid"], bill["totalPrice"]) == (12, 10, 15, 7)
    assert january["invoicePriceStatus"] == "price_locked"
    assert january["invoiceKey"]["productPlanId"] == "pro"
    assert all(invoice["totalBill"]["totalPrice"] == 10 for invoice in later)

    priced.invoices.get(create_invoice_query("acme-7", "pro", date(2026, 1, 1)))
    assert exact(priced.answer.text) == january
    latest = priced.invoices.get(create_latest_invoice_query("acme-7"))
    assert latest["invoicePriceStatus"] == "open"
    assert latest["invoiceUri"] == later[-1]["invoiceUri"]


def test_what_is_closed_stays_and_what_comes_late_is_on_the_open_one(priced: Sdk) -> None:
    january = invoices(priced)[0]
    priced.ingest.send(event(30, at=DAY_0 + 7_200))
    closed, *_, latest = invoices(priced)
    assert closed == january
    assert latest["totalBill"]["totalPrice"] == 13


def test_nobody_has_an_invoice_without_a_plan(sdk: Sdk) -> None:
    sdk.ingest.send(event(120))
    assert invoices(sdk) == []
    assert sdk.invoices.get(create_latest_invoice_query("acme-7")) is None
    assert sdk.invoices.get(create_invoice_query("acme-7", "pro", date(2026, 1, 1))) is None


def test_a_portal_session_opens_the_customer_s_page(priced: Sdk) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    session = priced.portal.get(
        create_customer_portal_session_payload(
            "acme-7", int(until.timestamp() * 1_000), return_url="https://acme.example/account"
        )
    )
    assert session.keys() == {"url", "sessionToken"}
    page = requests.get(session["url"], timeout=30)
    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert "Acme Seven" in page.text
    with pytest.raises(ApiError) as refused:
        priced.portal.client.post("/session", {})
    assert refused.value.status_code == 400
    assert "customerId" in json.loads(refused.value.text)["details"]
    stranger = requests.get(priced.portal.client.root_url + "/customers", headers={"X-API-KEY": session["sessionToken"]}, timeout=30)
    assert stranger.status_code == 401
