"""Amberflo's published Python SDK, unchanged but for its root URLs: its clients for one key, and what the tests send and ask by it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import requests
from metering.customer import CustomerApiClient
from metering.customer_portal_session import CustomerPortalSessionApiClient
from metering.customer_prepaid_order import CustomerPrepaidOrderApiClient
from metering.customer_product_invoice import CustomerProductInvoiceApiClient
from metering.customer_product_plan import CustomerProductPlanApiClient
from metering.ingest import IngestApiClient, create_ingest_payload
from metering.usage import AggregationType, TimeGroupingInterval, TimeRange, UsageApiClient, create_usage_query

from harness import DAY, DAY_0, exact, wait_for

METER = "tokens"


def midnight(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


def event(
    value: float, *, at: int = DAY_0, meter: str = METER, customer: str = "acme-7", **more: Any
) -> dict[str, Any]:
    """A meter record as the SDK makes it, at a time in seconds."""
    return create_ingest_payload(meter, value, at * 1000, customer, **more)


class Sdk:
    """The SDK's clients for one key. Keeps the newest answer as it was on the wire, because the SDK reads numbers as
    floats and gives no headers."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.ingest = IngestApiClient(key)
        self.usage = UsageApiClient(key)
        self.customers = CustomerApiClient(key)
        self.plans = CustomerProductPlanApiClient(key)
        self.orders = CustomerPrepaidOrderApiClient(key)
        self.invoices = CustomerProductInvoiceApiClient(key)
        self.portal = CustomerPortalSessionApiClient(key)
        self.answer = requests.Response()
        clients = (self.ingest, self.usage, self.customers, self.plans, self.orders, self.invoices, self.portal)
        for client in clients:
            client.client.session.hooks["response"].append(self._keep)

    def _keep(self, response: requests.Response, **_: Any) -> None:
        self.answer = response

    def exact_usage(self, query: dict[str, Any] | list[dict[str, Any]]) -> Any:
        """The report on everything that was acknowledged, with every digit."""

        def is_complete() -> bool:
            self.usage.get(query)
            return self.answer.headers["Tollgate-Complete"] == "true"

        wait_for("a complete answer", is_complete)
        return exact(self.answer.text)

    def total(self, aggregation: AggregationType, **query: Any) -> Decimal:
        """One number for a meter over the whole range."""
        [group] = self.exact_usage(usage_query(aggregation, **query))["clientMeters"]
        return group["groupValue"]


def usage_query(
    aggregation: AggregationType = AggregationType.SUM,
    *,
    meter: str = METER,
    interval: TimeGroupingInterval = TimeGroupingInterval.DAY,
    start: int = DAY_0,
    days: int = 3,
    **more: Any,
) -> dict[str, Any]:
    return create_usage_query(aggregation, meter, interval, TimeRange(start, start + days * DAY), **more)
