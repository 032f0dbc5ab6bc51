"""What the clients of a load do: order, cancel, take in stock, change it, repeat themselves, follow the feed.

Every shopper says with each request which answers are right for it, and repeats what got no answer, or a 503, as it
was: under its Idempotency-Key where it had one.
"""

import random
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from itertools import count, tee
from typing import Any

from tests.e2e.crowd import Entry, Request, Shopping

SIZES = range(1, 9)
BOUGHT = range(5, 60)
PAGE = 500


@dataclass
class Shop:
    """What the shoppers of one load share. `is_closing` tells them to finish; `keyed` is the share of requests that
    carry a key."""

    skus: list[str]
    is_closing: Callable[[], bool]
    keyed: float = 0.5
    batches: list[tuple[str, str]] = field(default_factory=list)
    feed: list[Any] = field(default_factory=list)
    customers_left: int = 0


def crowd_of(shop: Shop, customers: int, seed: int) -> list[Shopping]:
    """Customers in couples who share a shopping list, and one who follows the event feed."""
    shop.customers_left = customers
    lists = [shopping_list(shop, n, random.Random(f"{seed}-list-{n}")) for n in range((customers + 1) // 2)]
    couples = [copy for each in lists for copy in tee(each)]
    everybody = [Customer(shop, f"c{n}", couples[n], random.Random(f"{seed}-{n}")).shop() for n in range(customers)]
    return [*everybody, follower(shop)]


def stock_up(shop: Shop, skus: list[str], per_sku: int, quantity: int) -> Shopping:
    """The first batches, so that there is something to buy."""
    for sku in skus:
        for n in range(per_sku):
            ref = f"first-{n}-{sku}"
            body = {"ref": ref, "sku": sku, "qty": quantity, "eta": _eta(random.Random(f"{ref}"))}
            yield from insist(Request("POST", "/v1/batches", body, f"key-{ref}", (201,)))
            shop.batches.append((ref, sku))


def shopping_list(shop: Shop, number: int, rng: random.Random) -> Iterator[Request]:
    """Order lines that two customers want at the same time: with one key for both, or with none."""
    for n in count():
        orderid, sku = f"couple-{number}-{n}", rng.choice(shop.skus)
        body = {"orderid": orderid, "sku": sku, "qty": rng.choice(SIZES), "if_short": "wait"}
        if rng.random() < shop.keyed:
            yield Request("POST", "/v1/allocations", body, f"key-{orderid}", (201, 202))
        else:
            yield Request("POST", "/v1/allocations", body, None, (200, 201, 202))


def follower(shop: Shop) -> Shopping:
    """Reads the event feed to its end, over and over, until all customers have left and nothing is new."""
    after = ""
    while True:
        was_quiet = shop.customers_left == 0
        entry = yield from insist(Request("GET", f"/v1/events?limit={PAGE}{after}"))
        shop.feed += entry.body["events"]
        after = f"&after={entry.body['next']}"
        if was_quiet and not entry.body["events"]:
            return


def insist(request: Request) -> Generator[Request, Entry, Entry]:
    """The same again until it is answered with more than "try again". Without a key it may be answered as done."""
    again = request if request.key is not None else request.expecting(*_ANSWERS_IF_DONE.get(request.method, ()))
    entry = yield request
    while not entry.is_done:
        entry = yield again
    return entry


_ANSWERS_IF_DONE = {"POST": (200,), "DELETE": (404,)}


class Customer:
    """One client, busy with lines and batches of its own, and with those of the list it shares."""

    def __init__(self, shop: Shop, name: str, shared: Iterator[Request], rng: random.Random) -> None:
        self._shop, self._name, self._shared, self._rng = shop, name, shared, rng
        self._numbers = count()
        self._placed: list[tuple[str, str]] = []

    def shop(self) -> Shopping:
        doings = [self._order, self._order_with_partner, self._cancel, self._buy, self._recount, self._delay]
        while not self._shop.is_closing():
            (doing,) = self._rng.choices(doings, weights=[40, 20, 16, 6, 12, 6])
            yield from doing()
        self._shop.customers_left -= 1

    def _order(self) -> Shopping:
        """A new line; now and then the same again, under its key or as a new request, or with another quantity."""
        orderid, rng = f"{self._name}-{next(self._numbers)}", self._rng
        sku = rng.choice(self._shop.skus)
        body: dict[str, Any] = {"orderid": orderid, "sku": sku, "qty": rng.choice(SIZES)}
        path = "/v1/allocations"
        answers: tuple[int, ...] = (201, 409)
        if rng.random() < 0.15:
            path, answers = "/allocate", (202,)
        elif rng.random() < 0.5:
            body["if_short"], answers = "wait", (201, 202)
        request = Request("POST", path, body, self._key(), answers)
        entry = yield from insist(request)
        if entry.status == 409:
            return
        self._placed.append((orderid, sku))
        if rng.random() < 0.2:
            yield from insist(
                request if request.key else replace(request, expected=(202 if path == "/allocate" else 200,))
            )
        if rng.random() < 0.1:
            yield from insist(Request("POST", path, body | {"qty": body["qty"] + 1}, None, (409,)))

    def _order_with_partner(self) -> Shopping:
        yield from insist(next(self._shared))

    def _cancel(self) -> Shopping:
        """A line of its own, which then is gone; now and then it asks for it once more, or puts it back."""
        if not self._placed:
            return
        orderid, sku = self._placed.pop(self._rng.randrange(len(self._placed)))
        path = f"/v1/allocations/{orderid}/{sku}"
        if self._rng.random() < 0.3:
            yield from insist(Request("GET", path))
        yield from insist(Request("DELETE", path, None, self._key(), (204,)))
        if self._rng.random() < 0.2:
            yield from insist(Request("DELETE", path, None, None, (404,)))
        if self._rng.random() < 0.2:
            yield from insist(Request("GET", path, expected=(404,)))
        if self._rng.random() < 0.2:
            body = {"orderid": orderid, "sku": sku, "qty": self._rng.choice(SIZES), "if_short": "wait"}
            yield from insist(Request("POST", "/v1/allocations", body, self._key(), (201, 202)))
            self._placed.append((orderid, sku))

    def _buy(self) -> Shopping:
        """A new batch; now and then the same again, or another one under its reference."""
        ref, sku = f"batch-{self._name}-{next(self._numbers)}", self._rng.choice(self._shop.skus)
        path = self._rng.choice(["/v1/batches", "/add_batch"])
        body: dict[str, Any] = {"ref": ref, "sku": sku, "qty": self._rng.choice(BOUGHT), "eta": _eta(self._rng)}
        yield from insist(Request("POST", path, body, self._key(), (201,)))
        self._shop.batches.append((ref, sku))
        if self._rng.random() < 0.3:
            yield from insist(Request("POST", path, body, None, (200,)))
        if self._rng.random() < 0.3:
            yield from insist(Request("POST", path, body | {"qty": body["qty"] + 1}, None, (409,)))

    def _recount(self) -> Shopping:
        """Some batch, of whoever, turns out to hold more or less; sometimes only if nobody changed it meanwhile."""
        ref, _ = self._rng.choice(self._shop.batches)
        path, body = f"/v1/batches/{ref}", {"qty": self._rng.choice([0, *BOUGHT])}
        if self._rng.random() < 0.2:
            body["eta"] = _eta(self._rng)
        if self._rng.random() < 0.3:
            seen = yield from insist(Request("GET", path))
            condition = (("If-Match", seen.headers.get("etag", "*")),)
            yield from insist(Request("PATCH", path, body, self._key(), (200, 412), condition))
        else:
            yield from insist(Request("PATCH", path, body, self._key(), (200,)))

    def _delay(self) -> Shopping:
        ref, _ = self._rng.choice(self._shop.batches)
        yield from insist(Request("PATCH", f"/v1/batches/{ref}", {"eta": _eta(self._rng)}, self._key(), (200,)))

    def _key(self) -> str | None:
        """A fresh key for some requests, none for the others."""
        return f"key-{self._name}-{next(self._numbers)}" if self._rng.random() < self._shop.keyed else None


def _eta(rng: random.Random) -> str | None:
    return rng.choice([None, f"2031-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"])
