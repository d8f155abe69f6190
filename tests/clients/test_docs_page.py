"""The page at /docs, in a real browser: it shows what is described, tries it, and asks nobody else for anything."""

from __future__ import annotations

from browser import browser, watched
from harness import Server


def test_the_page_shows_what_is_described_and_tries_it_without_a_network(server: Server) -> None:
    with browser() as process, watched(process, 1300, 1500) as seen:
        page = seen.page
        page.goto(f"{server.url}/docs")
        summaries = page.locator(".opblock-summary")
        summaries.first.wait_for()
        described = server.request("GET", "/openapi.json").json()["paths"]
        assert summaries.count() == sum(len(path) for path in described.values())

        page.get_by_role("button", name="Authorize").click()
        page.locator(".auth-container input[type=text], .auth-container input[type=password]").first.fill(server.admin_key or "")
        page.locator(".auth-container .authorize").first.click()
        page.locator(".btn-done").first.click()

        operation = page.locator("#operations-Customers-createCustomer")
        operation.locator(".opblock-summary-control").click()
        operation.locator("button.execute").click()
        operation.locator(".live-responses-table .response-col_status", has_text="200").wait_for()
        # Pictures inside of the page have no host.
        assert seen.hosts - {""} == {f"127.0.0.1:{server.port}"}
    # What stands in the example is what was made.
    assert server.request("GET", "/customers/acme-7").json()["customerName"] == "Acme Seven"


def test_the_page_allows_nothing_from_elsewhere(server: Server) -> None:
    answer = server.request("GET", "/docs", headers={"X-API-KEY": ""})
    policy = dict(rule.strip().split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
