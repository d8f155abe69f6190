"""The binary as an operator meets it: start, stop, what it prints, what it refuses."""

from __future__ import annotations

import http.client
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from decimal import Decimal

import pytest

import harness
from harness import Server, exact, wait_for
from load import Client, expect_usage, load_on


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"]], ids=" ".join)
def test_help_is_not_an_error(arguments: list[str]) -> None:
    result = harness.run(*arguments)
    assert result.returncode == 0, result
    assert "serve" in result.stdout, result


def test_port_0_prints_the_port_that_it_got(server: Server) -> None:
    assert server.port != 0
    assert server.is_ready()


def test_a_data_directory_has_one_process(server: Server) -> None:
    second = harness.run(
        "serve", "--listen", "127.0.0.1:0", "--data-dir", str(server.data_dir), admin_key=server.admin_key
    )
    assert second.returncode != 0, second
    assert str(server.data_dir) in second.stderr, second
    assert server.is_ready(), "the first process has to go on"


def test_a_key_from_the_environment_is_never_printed(server: Server) -> None:
    server.stop()
    assert server.admin_key is not None
    assert server.admin_key not in server.stdout + server.stderr


def curl_lines(output: str) -> list[str]:
    """The commands that start with `curl`, also those that go on over several lines."""
    joined = re.sub(r"\\\n\s*", "", output)
    return re.findall(r"^\s*(?:\$ )?(curl .*)$", joined, re.MULTILINE)


def bash(command: str) -> str:
    """What a newcomer sees who pastes the command into a shell."""
    result = subprocess.run(
        ["bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30
    )
    assert result.returncode == 0, (command, result)
    return result.stdout.strip()


def usage_value(text: str) -> Decimal:
    """The only value in an answer to a usage query, in the one form or the other."""
    meters = exact(text)["clientMeters"]
    if isinstance(meters, list):
        [group] = meters
        return group["groupValue"]
    [groups] = meters.values()
    [group] = groups
    [record] = group["records"]
    [value] = record.values()
    return value


def test_the_first_start_shows_a_key_and_two_commands_that_work(new_server: Callable[..., Server]) -> None:
    server = new_server(admin_key=None).start()
    wait_for("two curl lines", lambda: len(curl_lines(server.stdout)) >= 2)
    ingest, query = curl_lines(server.stdout)
    [key] = {value.split(":", 1)[1].strip() for value in shlex.split(ingest) if value.lower().startswith("x-api-key:")}
    assert key in query

    assert bash(ingest) == "1 records were ingested"
    sent = re.search(r'"meterValue":\s*([-0-9.]+)', ingest)
    assert sent is not None, ingest
    assert usage_value(bash(query)) == Decimal(sent[1])

    server.stop()
    assert key not in server.stderr, "a log has no keys"

    server.keep_port()
    server.start()
    assert usage_value(bash(query)) == Decimal(sent[1]), "the key holds, and so does the event"
    server.stop()
    assert key not in server.stdout + server.stderr
    assert not curl_lines(server.stdout)


def test_sigterm_under_load_drains_and_keeps_all_that_was_acked(server: Server, seed: int) -> None:
    server.keep_port()
    with load_on(server, seed) as load:
        load.ledger.wait_for_batches(50)
        server.stop()
        unknown = load.give_up()

    server.start()
    finisher = Client(server, load.ledger, "finisher", load.clients[0].rng)
    for batch in unknown:
        finisher.deliver(batch)
    expect_usage(server, load.ledger)


def test_sigterm_lets_a_request_in_flight_end(server: Server) -> None:
    body = b'{"uniqueId":"late","meterApiName":"m","customerId":"c","meterValue":7,"meterTimeInMillis":%d}' % (
        harness.DAY_0 * 1000
    )
    head = (
        "POST /ingest HTTP/1.1\r\nHost: tollgate\r\n"
        f"X-API-KEY: {server.admin_key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode())
        # "100 Continue" says that the server waits for the body, so this request is in flight.
        assert connection.recv(1024) == b"HTTP/1.1 100 Continue\r\n\r\n"

        assert server.process is not None
        server.process.terminate()
        wait_for("the end of readiness", lambda: not is_served(server))
        connection.sendall(body)
        response = http.client.HTTPResponse(connection)
        response.begin()
        assert (response.status, response.read()) == (200, b"1 records were ingested")
    server.expect_exit()

    server.start()
    assert server.usage("m", "SUM", days=1) == {("c", harness.DAY_0): Decimal(7)}


def is_served(server: Server) -> bool:
    """Whether a new client would be served: a readiness of 503 and a closed listener both say no."""
    try:
        return server.request("GET", "/readyz").status == 200
    except (OSError, http.client.HTTPException):
        return False
