"""Load with a memory: clients that send batches until they are acked, and the ledger of all that was acked."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from harness import DAY, DAY_0, Server

METER = "kilowatt-hours"
CUSTOMERS = [f"customer-{n}" for n in range(40)]
DAYS = 3

_BATCH_EVENTS = (50, 200)
# Of the batches and of the events in a new batch: how many are not new.
_REPEATED_BATCHES = 0.15
_REPEATED_EVENTS = 0.05
# How many acked batches a client has at hand to send again, old ones among them.
_REMEMBERED_BATCHES = 64


@dataclass(frozen=True, slots=True)
class Event:
    unique_id: str
    customer: str
    millis: int
    value: Decimal

    def json(self) -> str:
        # By hand: json.dumps knows numbers as floats only.
        return (
            f'{{"uniqueId":"{self.unique_id}","meterApiName":"{METER}","customerId":"{self.customer}",'
            f'"meterValue":{self.value:f},"meterTimeInMillis":{self.millis}}}'
        )

    @property
    def day(self) -> int:
        return self.millis // 1000 // DAY * DAY


class Batch:
    """Some events and the body that carries them."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        self.body = f"[{','.join(event.json() for event in events)}]".encode()


class Ledger:
    """Every event that a server acked, once. Shared by the clients."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}
        self.acked_batches = 0
        self.progress = threading.Condition()

    def acked(self, batch: Batch) -> None:
        with self.progress:
            for event in batch.events:
                self.events[event.unique_id] = event
            self.acked_batches += 1
            self.progress.notify_all()

    def wait_for_batches(self, count: int, deadline_s: float = 30.0) -> None:
        """Waits until `count` batches have been acked since the ledger was opened."""
        with self.progress:
            enough = self.progress.wait_for(lambda: self.acked_batches >= count, deadline_s)
        assert enough, f"{self.acked_batches} batches acked in {deadline_s} s, not {count}"

    def by_customer_and_day(self) -> tuple[dict[tuple[str, int], Decimal], dict[tuple[str, int], Decimal]]:
        """What usage by COUNT and by SUM has to be."""
        counts: dict[tuple[str, int], Decimal] = {}
        sums: dict[tuple[str, int], Decimal] = {}
        for event in self.events.values():
            key = (event.customer, event.day)
            counts[key] = counts.get(key, Decimal(0)) + 1
            sums[key] = sums.get(key, Decimal(0)) + event.value
        return counts, sums


def expect_usage(server: Server, ledger: Ledger) -> None:
    """Every acked event is there, once, and nothing else is."""
    for aggregation, expected in zip(("COUNT", "SUM"), ledger.by_customer_and_day(), strict=True):
        found = server.usage(METER, aggregation, DAYS)
        wrong = {
            key: f"{found.get(key)}, not {expected.get(key)}"
            for key in expected.keys() | found.keys()
            if found.get(key) != expected.get(key)
        }
        assert not wrong, f"{aggregation} by customer and day"


class Client(threading.Thread):
    """Sends one batch after another over a connection that it keeps. An error or a 503 says nothing about what became
    of the batch, so it sends the same again."""

    def __init__(self, server: Server, ledger: Ledger, name: str, rng: random.Random) -> None:
        super().__init__(name=name, daemon=True)
        self.ledger = ledger
        self.rng = rng
        self.stopping = threading.Event()
        self.giving_up = threading.Event()
        self.undelivered: list[Batch] = []
        self.unknown_outcomes = 0
        self.failure: BaseException | None = None
        self._key = server.admin_key or ""
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        self._sent_events = 0
        self._acked: list[Batch] = []
        self._acked_batches = 0

    def run(self) -> None:
        try:
            while not self.stopping.is_set():
                self.deliver(self._next_batch())
        except BaseException as failure:  # is raised again by whoever joins this thread
            self.failure = failure
        finally:
            self._connection.close()

    def deliver(self, batch: Batch) -> None:
        """Sends a batch until it is acked, or until the client is told to give up."""
        while not self._is_acked(batch):
            self.unknown_outcomes += 1
            if self.giving_up.is_set():
                self.undelivered.append(batch)
                return
            self.giving_up.wait(0.01)
        self.ledger.acked(batch)
        self._remember(batch)

    def _is_acked(self, batch: Batch) -> bool:
        headers = {"X-API-KEY": self._key, "Content-Type": "application/json"}
        try:
            self._connection.request("POST", "/ingest", batch.body, headers)
            response = self._connection.getresponse()
            status, text = response.status, response.read().decode()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return False
        if status == 503:
            assert response.headers["Retry-After"], "a 503 without Retry-After"
            return False
        assert (status, text) == (200, f"{len(batch.events)} records were ingested")
        return True

    def _next_batch(self) -> Batch:
        if self._acked and self.rng.random() < _REPEATED_BATCHES:
            return self.rng.choice(self._acked)
        events: list[Event] = []
        for _ in range(self.rng.randint(*_BATCH_EVENTS)):
            if self._acked and self.rng.random() < _REPEATED_EVENTS:
                events.append(self.rng.choice(self.rng.choice(self._acked).events))
            elif events and self.rng.random() < _REPEATED_EVENTS:
                events.append(self.rng.choice(events))
            else:
                events.append(self._new_event())
        return Batch(events)

    def _new_event(self) -> Event:
        self._sent_events += 1
        places = self.rng.randint(0, 12)
        return Event(
            unique_id=f"{self.name}-{self._sent_events}",
            customer=self.rng.choice(CUSTOMERS),
            millis=DAY_0 * 1000 + self.rng.randrange(DAYS * DAY * 1000),
            value=Decimal(self.rng.randint(-(10**6), 10**9)).scaleb(-places),
        )

    def _remember(self, batch: Batch) -> None:
        """Keeps a fair sample of all batches that were acked."""
        self._acked_batches += 1
        if len(self._acked) < _REMEMBERED_BATCHES:
            self._acked.append(batch)
        elif (place := self.rng.randrange(self._acked_batches)) < _REMEMBERED_BATCHES:
            self._acked[place] = batch


class Load:
    """Several clients at work on one server, or on those that follow it on its port."""

    def __init__(self, server: Server, seed: int, clients: int = 4) -> None:
        self.ledger = Ledger()
        self.clients = [
            Client(server, self.ledger, f"{seed:x}-{n}", random.Random(f"{seed} {n}")) for n in range(clients)
        ]

    @property
    def unknown_outcomes(self) -> int:
        return sum(client.unknown_outcomes for client in self.clients)

    def check(self) -> None:
        """Raises what went wrong in a client."""
        for client in self.clients:
            if client.failure is not None:
                raise client.failure

    def finish(self) -> None:
        """Lets every client deliver the batch that it has in hand, and ends."""
        for client in self.clients:
            client.stopping.set()
        self._join()

    def give_up(self) -> list[Batch]:
        """Ends, and returns the batches of which nobody knows what became of them."""
        for client in self.clients:
            client.stopping.set()
            client.giving_up.set()
        self._join()
        return [batch for client in self.clients for batch in client.undelivered]

    def _join(self) -> None:
        for client in self.clients:
            if client.ident is not None:
                client.join(60)
                assert not client.is_alive(), f"client {client.name} could not deliver its batch in 60 s"
        self.check()


@contextmanager
def load_on(server: Server, seed: int) -> Iterator[Load]:
    """Load for the time of a `with` block; a block that fails leaves no client behind."""
    load = Load(server, seed)
    for client in load.clients:
        client.start()
    try:
        yield load
    except BaseException:
        for client in load.clients:
            client.stopping.set()
            client.giving_up.set()
        raise
