"""The customers' page in a real browser: what it shows is what was sent, and nothing of what was sent runs."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from browser import browser, watched
from harness import DAY, Server

HOSTILE = "<script>alert('name')</script>"
# Where a person wants to look at what was seen.
PICTURES = os.environ.get("TOLLGATE_TEST_PICTURES")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as process:
        yield process


def picture(page: Any, name: str) -> None:
    if PICTURES:
        page.screenshot(path=str(Path(PICTURES) / f"portal-{name}.png"), full_page=True)


def link(server: Server, customer: str, **more: Any) -> str:
    answer = server.request("POST", "/session", {"customerId": customer, **more})
    assert answer.status == 200, answer
    return answer.json()["url"]


def today() -> int:
    return int(time.time()) // DAY * DAY


def send(server: Server, customer: str, meter: str, values: list[float], **dimensions: str) -> None:
    """The last of the values is today's, the one before it yesterday's."""
    events = [
        {
            "uniqueId": f"{customer} {meter} {ago}",
            "customerId": customer,
            "meterApiName": meter,
            "meterValue": value,
            "meterTimeInMillis": (today() - ago * DAY) * 1_000 + 1,
            "dimensions": dimensions,
        }
        for ago, value in enumerate(reversed(values))
    ]
    answer = server.request("POST", "/ingest", events)
    assert answer.text == f"{len(values)} records were ingested", answer


def sell(server: Server, customer: str, plan: str, name: str) -> None:
    prices = [
        {"meter": "api-calls", "model": "graduated", "included": 1000,
         "tiers": [{"upTo": 10000, "unitPrice": 0.01}, {"unitPrice": 0.005}]},
        {"meter": "storage-gib", "aggregation": "max", "model": "perUnit", "unitPrice": 0.12},
    ]
    fees = [{"id": "base", "name": "Base fee", "amount": 49, "due": "advance"}]
    for path, body in (
        ("/v1/plans", {"id": plan, "name": name, "currency": "USD", "fees": fees, "prices": prices}),
        ("/payments/pricing/amberflo/customer-pricing",
         {"customerId": customer, "productPlanId": plan, "startTimeInSeconds": today() - 100 * DAY}),
        ("/payments/pricing/amberflo/customer-prepaid",
         {"id": "order-2026", "customerId": customer, "startTimeInSeconds": today() - 40 * DAY, "prepaidPrice": 250}),
        ("/payments-pricing-amberflo-customer-prepaid", {"customerId": customer, "amount": 100, "currency": "EUR"}),
    ):
        answer = server.request("POST", path, body)
        assert answer.status == 200, answer


def heights(page: Any, meter: str) -> list[int]:
    article = page.locator("article", has=page.get_by_role("heading", name=meter, exact=True))
    return [int(rect.get_attribute("height")) for rect in article.locator("rect").all()]


def test_bars_are_as_tall_as_what_was_sent_and_every_day_is_in_the_table(server: Server, chromium: Browser) -> None:
    send(server, "acme", "api-calls", [100, 0, 2000, 500.5])
    with watched(chromium) as seen:
        began = time.monotonic()
        seen.page.goto(link(server, "acme", returnUrl="https://shop.test/back"))
        print(f"opened in {1000 * (time.monotonic() - began):.0f} ms, {len(seen.page.content())} bytes")
        assert "tgp_" not in seen.page.url, "the address that stays has no token"
        drawn = heights(seen.page, "api-calls")
        assert len(drawn) == 30 and drawn[:26] == [0] * 26
        # 100 and 500.5 of 2000, in thousandths.
        assert drawn[26:] == [50, 0, 1000, 250]
        plot = seen.page.get_by_role("img")
        assert "2,000 on " in plot.get_attribute("aria-label")
        box = plot.bounding_box()
        tallest = seen.page.locator("rect").nth(28).bounding_box()
        assert abs(tallest["height"] - box["height"]) <= 1, "the style sheet stretches it over the plot"
        seen.page.get_by_text("Every day in numbers").click()
        rows = seen.page.locator("article tbody tr").all_inner_texts()
        assert [row.split("\t")[1].strip() for row in rows[-4:]] == ["100", "0", "2,000", "500.5"]
        day = datetime.datetime.fromtimestamp(today(), datetime.timezone.utc)
        assert seen.page.locator("article tbody tr time").last.get_attribute("datetime") == day.strftime("%Y-%m-%d")
        seen.page.get_by_role("link", name="7 days").click()
        expect(seen.page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")
        assert heights(seen.page, "api-calls") == [0, 0, 0, 50, 0, 1000, 250]
        expect(seen.page.get_by_role("link", name="Back")).to_have_attribute("href", "https://shop.test/back")
        assert seen.hosts == {f"127.0.0.1:{server.port}"}


def test_invoices_are_listed_and_explained(server: Server, chromium: Browser) -> None:
    send(server, "acme", "api-calls", [4000.5] * 40)
    send(server, "acme", "storage-gib", [10 + day % 7 for day in range(40)])
    sell(server, "acme", "pro", "Pro")
    with watched(chromium) as seen:
        seen.page.goto(link(server, "acme"))
        first = seen.page.locator("table.invoices tbody tr").first
        assert "Open" in first.inner_text() and "USD" in first.inner_text()
        first.get_by_role("link").click()
        text = seen.page.locator("main").inner_text()
        for shown in ("Base fee", "49.00 USD", "Sum of api-calls: ", "at 0.01 USD each (up to 10,000)", "Total"):
            assert shown in text, text
        seen.page.get_by_role("link", name="Usage and billing").click()
        expect(seen.page.get_by_role("heading", name="Usage", exact=True)).to_be_visible()
        # The order was drawn by the month that it began in.
        explained = []
        for row in range(seen.page.locator("table.invoices a").count()):
            seen.page.locator("table.invoices a").nth(row).click()
            explained.append(seen.page.locator("main").inner_text())
            seen.page.go_back()
        assert any("Paid from prepaid order order-2026" in text and "\u2212250.00 USD" in text for text in explained), explained
        assert seen.hosts == {f"127.0.0.1:{server.port}"}


def test_nothing_that_was_sent_runs(server: Server, chromium: Browser) -> None:
    evil = f"{HOSTILE}<img src=x onerror=alert(1)>\"'"
    made = {"customerId": evil, "customerName": f"\"><svg onload=alert(2)>{HOSTILE}"}
    assert server.request("POST", "/customers", made).status == 200
    meter = {"meterApiName": HOSTILE, "displayName": f"</h3>{HOSTILE}", "type": "SUM_OF_ALL_USAGE"}
    assert server.request("POST", "/meter-definition", meter).status == 200
    send(server, evil, HOSTILE, [1, 2], **{HOSTILE: HOSTILE})
    price = {"meter": HOSTILE, "model": "perUnit", "unitPrice": 1, "dimension": HOSTILE,
             "rates": [{"value": HOSTILE, "unitPrice": 1}]}
    plan = {"id": "evil", "name": f"{HOSTILE}", "currency": "USD", "prices": [price]}
    answer = server.request("POST", "/v1/plans", plan)
    if answer.status != 200:
        plan["prices"] = [{"meter": HOSTILE, "model": "perUnit", "unitPrice": 1}]
        assert server.request("POST", "/v1/plans", plan).status == 200, answer
    assigned = {"customerId": evil, "productPlanId": "evil", "startTimeInSeconds": today() - DAY}
    assert server.request("POST", "/payments/pricing/amberflo/customer-pricing", assigned).status == 200
    with watched(chromium) as seen:
        seen.page.goto(link(server, evil))
        expect(seen.page.get_by_role("heading", level=1)).to_have_text(made["customerName"])
        expect(seen.page.get_by_role("heading", level=3)).to_have_text(f"</h3>{HOSTILE}")
        assert seen.page.locator("script, img").count() == 0
        seen.page.locator("table.invoices a").first.click()
        assert HOSTILE in seen.page.locator("main").inner_text()
        assert seen.page.locator("script, img").count() == 0
        assert seen.hosts == {f"127.0.0.1:{server.port}"}


def test_it_fits_a_phone_and_a_dark_room(server: Server, chromium: Browser) -> None:
    made = {"customerId": "acme-7", "customerName": "Acme Söhne & Co"}
    assert server.request("POST", "/customers", made).status == 200
    names = {"api-calls": "API calls", "storage-gib": "Storage, GiB", "build-minutes": "Build minutes", "seats": "Seats"}
    for meter, name in names.items():
        kind = "MAX_IN_PERIOD" if meter in ("storage-gib", "seats") else "SUM_OF_ALL_USAGE"
        definition = {"meterApiName": meter, "displayName": name, "type": kind}
        assert server.request("POST", "/meter-definition", definition).status == 200
    send(server, "acme-7", "api-calls", [3000 + 1700 * ((day * 7) % 11) + (day % 3) * 0.25 for day in range(95)])
    send(server, "acme-7", "storage-gib", [120 + day * 1.5 for day in range(95)])
    send(server, "acme-7", "build-minutes", [0 if day % 7 in (5, 6) else 240 + (day * 13) % 90 for day in range(95)])
    send(server, "acme-7", "refunds", [5 - (day * 3) % 11 for day in range(20)])
    sell(server, "acme-7", "pro", "Pro")
    url = link(server, "acme-7", returnUrl="https://shop.test/")
    for name, size, dark in (("desktop", (1280, 900), False), ("phone", (390, 844), False), ("dark", (1280, 900), True), ("phone-dark", (390, 844), True)):
        with watched(chromium, *size, dark=dark) as seen:
            seen.page.goto(url)
            wide = seen.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= size[0], f"{name}: it scrolls sideways, {wide} px"
            light = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (light == "rgb(15, 21, 27)") == dark, light
            picture(seen.page, name)
            seen.page.locator("table.invoices a").nth(1).click()
            wide = seen.page.evaluate("document.documentElement.scrollWidth")
            assert wide <= size[0], f"{name}: the invoice scrolls sideways, {wide} px"
            picture(seen.page, f"{name}-invoice")


def test_a_link_that_has_ended_says_so(server: Server, chromium: Browser) -> None:
    with watched(chromium) as seen:
        seen.page.goto(link(server, "acme"))
        address = seen.page.url
        expect(seen.page.get_by_text("Nothing was used in these days.")).to_be_visible()
    context = chromium.new_context()
    page = context.new_page()
    answer = page.goto(address)
    assert answer is not None and answer.status == 401, "the address alone opens nothing"
    expect(page.get_by_role("heading", level=1)).to_have_text("This page needs a link")
    picture(page, "ended")
    context.close()
