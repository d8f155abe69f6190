"""Customers are made at Stripe as its own description of its API has it: `stripe-mock` checks every request against that."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest

from harness import ROOT, Server, free_port, wait_for

STRIPE_MOCK = ROOT / "tests/.tools/go/bin/stripe-mock"

CUSTOMER = {
    "customerId": "acme/7 & co",
    "customerName": "Acme Söhne & Co",
    "customerEmail": "ap@acme.test",
    "description": "buys a lot",
    "address": {"line1": "1 Main St", "city": "Rome", "country": "IT", "state": "RM", "postalCode": "00100"},
    "traits": {"tier": "gold"},
}


@pytest.fixture(scope="module")
def stripe() -> Iterator[str]:
    """The address of Stripe's own mock."""
    assert STRIPE_MOCK.is_file(), f"{STRIPE_MOCK} is missing: tests/run clients installs it"
    port = free_port()
    process = subprocess.Popen(
        [STRIPE_MOCK, "-http-addr", f"127.0.0.1:{port}", "-strict-version-check=false"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def answers() -> bool:
        assert process.poll() is None, process.stderr and process.stderr.read()
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/customers/cus_1")
            request.add_header("Authorization", "Bearer sk_test_123")
            return urllib.request.urlopen(request, timeout=5).status == 200
        except OSError:
            return False

    try:
        wait_for("stripe-mock", answers)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@pytest.fixture
def with_stripe(new_server: Callable[..., Server], stripe: str) -> Iterator[Callable[[str], Server]]:
    def start(key: str) -> Server:
        server = new_server()
        server.variables = {"TOLLGATE_STRIPE_API_KEY": key, "TOLLGATE_STRIPE_API_BASE": stripe}
        return server.start()

    yield start


@pytest.mark.parametrize("flag", ["true", "True", "if_payment_provider"])
def test_a_customer_is_made_at_stripe_and_has_its_id(with_stripe: Callable[[str], Server], flag: str) -> None:
    server = with_stripe("sk_test_123")
    answer = server.request("POST", f"/customers?autoCreateCustomerInStripe={flag}", CUSTOMER)
    assert answer.status == 200, answer
    assert answer.json()["traits"]["stripeId"].startswith("cus_"), answer
    assert answer.json()["traits"]["tier"] == "gold"
    assert server.request("GET", "/customers/acme%2F7%20&%20co").json() == answer.json()


def test_the_mock_refuses_what_stripe_s_description_does_not_have(stripe: str) -> None:
    """Otherwise the tests above would show nothing."""
    request = urllib.request.Request(f"{stripe}/v1/customers", data=b"name=Acme&customerId=acme")
    request.add_header("Authorization", "Bearer sk_test_123")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    assert refused.value.code == 400


def test_a_key_that_stripe_does_not_take_makes_nothing_and_is_shown_to_nobody(
    with_stripe: Callable[[str], Server],
) -> None:
    server = with_stripe("rk_nobody_knows")
    answer = server.request("POST", "/customers?autoCreateCustomerInStripe=true", CUSTOMER)
    assert answer.status == 503 and answer.json()["code"] == "UNAVAILABLE", answer
    assert answer.headers["Retry-After"]
    assert server.request("GET", "/customers").json() == []
    assert "rk_nobody_knows" not in answer.text + server.output() + server.ops("GET", "/metrics").text
