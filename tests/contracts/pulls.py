"""A shop that is pulled from, on each kind of store; and what a puller may see of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from allocation.adapters.clock import TimeOrderedIds
from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork
from allocation.adapters.memory_definitions import MemoryDefinitions
from allocation.adapters.memory_subscriptions import MemorySubscriptionStore
from allocation.adapters.rule_parser import LarkRuleParser
from allocation.adapters.sql.definitions import SqlDefinitions
from allocation.adapters.sql.engine import make_engine
from allocation.adapters.sql.migrate import migrate
from allocation.adapters.sql.subscriptions import SqlSubscriptionStore
from allocation.adapters.sql.unit_of_work import Database, SqlUnitOfWork
from allocation.domain.commands import Allocate, CreateBatch
from allocation.domain.events import Allocated
from allocation.service_layer.definitions import Definition, Definitions, NamedRule, RuleBook, Subscribers
from allocation.service_layer.envelope import EventEnvelope, partition_of
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.pull_locks import MOST_DELIVERIES, Asked, Held
from allocation.service_layer.pulling import Outcome, Pulling
from allocation.service_layer.rules.rule import Filter
from allocation.service_layer.rules.values import Properties, Truth
from allocation.service_layer.subscriptions import SubscriptionStore
from tests.fakes import SetClock, SetTimer

PARTITIONS = 2
WANTED = NamedRule("large", "type = 'Allocated' AND qty >= 5")


@dataclass
class Pulled:
    """A store, and those who pull from it. Its clock stands still."""

    definitions: Definitions
    store: SubscriptionStore
    bus: MessageBus
    clock: SetClock
    subscribers: Subscribers = field(init=False)
    pulling: Pulling = field(init=False)
    orders: int = 0
    timer: SetTimer = field(default_factory=SetTimer)
    rule_seconds: float = 0.0
    """How long a rule's text takes for each event."""

    def __post_init__(self) -> None:
        rules, ids = RuleBook(_Slow(self)), TimeOrderedIds()
        self.subscribers = Subscribers(self.definitions, rules, {"mail"}, lambda count: b"x" * count)
        self.pulling = Pulling(self.definitions, self.store, rules, self.clock, ids, self.timer, PARTITIONS)

    def define(self, name: str, *rules: NamedRule, from_the_beginning: bool = False) -> None:
        self.subscribers.define(Definition(name, "pull", rules or (NamedRule(),)), from_the_beginning)

    def stock(self, *skus: str) -> None:
        for sku in skus:
            self.bus.handle(CreateBatch(f"batch-of-{sku}", sku, 1_000_000))

    def order(self, sku: str, qty: int) -> None:
        self.orders += 1
        self.bus.handle(Allocate(f"o{self.orders}", sku, qty))

    def log_of(self, sku: str) -> list[EventEnvelope]:
        partition = partition_of(sku, PARTITIONS)
        return [logged for logged in self.store.read(partition, 0, 100_000) if logged.key == sku]

    def lag(self, name: str) -> int:
        return sum(c.lag_events for c in self.store.cursors() if c.subscription == name)


class _Slow(LarkRuleParser):
    """Makes filters that take as long as the shop says."""

    def __init__(self, shop: Pulled) -> None:
        super().__init__(TimeOrderedIds())
        self._shop = shop

    def filter(self, text: str) -> Filter:
        made = super().filter(text)

        def test(properties: Properties) -> Truth:
            self._shop.timer.now += self._shop.rule_seconds
            return made.test(properties)

        return Filter(text, test, made.terms)


@contextmanager
def pulled(kind: str, url_of: Callable[[str], str]) -> Iterator[Pulled]:
    """Empty, on memory, sqlite or postgres."""
    clock, ids = SetClock(), TimeOrderedIds()
    if kind == "memory":
        memory = MemoryStore(ids, clock, PARTITIONS)
        bus = MessageBus(lambda: MemoryUnitOfWork(memory), COMMAND_HANDLERS, ids, clock, PARTITIONS)
        subscriptions = MemorySubscriptionStore(memory)
        yield Pulled(MemoryDefinitions(subscriptions), subscriptions, bus, clock)
        return
    engine = make_engine(url_of(f"empty_{kind}_url"))
    migrate(engine, PARTITIONS)
    database = Database.of(engine, ids, clock, PARTITIONS)
    bus = MessageBus(lambda: SqlUnitOfWork(database), COMMAND_HANDLERS, ids, clock, PARTITIONS)
    yield Pulled(SqlDefinitions(engine, clock), SqlSubscriptionStore(engine, clock), bus, clock)
    engine.dispose()


@dataclass
class _Key:
    """What is so of a sku: how many of its wanted events are done with, and who has the next ones until when."""

    done: int = 0
    failures: int = 0
    is_parked: bool = False
    due: datetime | None = None
    held: Held | None = None
    until: datetime | None = None
    count: int = 0

    def is_held(self, now: datetime) -> bool:
        return self.held is not None and self.until is not None and self.until > now

    def fail(self, due: datetime, parks: bool = False) -> None:
        self.failures += 1
        self.is_parked = parks or self.failures >= MOST_DELIVERIES
        self.due, self.held = due, None


class PullModel:
    """What pullers may see, worked out from the log alone; every step is compared with it."""

    def __init__(self, shop: Pulled, name: str, skus: list[str]) -> None:
        self.shop, self.name = shop, name
        self.keys = {sku: _Key() for sku in skus}
        self.tokens: list[tuple[str, str]] = []
        shop.stock(*skus)
        shop.define(name, WANTED)

    def commit(self, sku: str, qty: int) -> None:
        self.shop.order(sku, qty)

    def step(self, seconds: int) -> None:
        self.shop.clock.step(seconds)

    def receive(self, most: int, per_key: int, key: str | None, lock_seconds: int) -> list[Held]:
        held = self.shop.pulling.receive(self.name, Asked(most, per_key, lock_seconds, key)).held
        assert sum(len(one.messages) for one in held) <= most
        for one in held:
            assert key in (None, one.key)
            self._took(one, per_key, lock_seconds)
        return held

    def _took(self, one: Held, per_key: int, lock_seconds: int) -> None:
        now, known = self.shop.clock.now(), self.keys[one.key]
        assert not known.is_held(now), f"{one.key} is in two hands"
        assert not known.is_parked, f"{one.key} is parked"
        assert known.due is None or known.due <= now, f"{one.key} is not due"
        if known.held is not None:
            known.fail(now)
        next_ones = self.wanted(one.key)[known.done : known.done + len(one.messages)]
        assert [m.id for m in one.messages] == [e.id for e in next_ones]
        assert 1 <= len(one.messages) <= (1 if known.failures else per_key)
        assert one.delivery_count == known.failures + 1 <= MOST_DELIVERIES
        known.held, known.count = one, len(one.messages)
        known.until = now + timedelta(seconds=lock_seconds)
        assert one.locked_until == known.until
        self.tokens.append((one.token, one.key))

    def say(self, what: str, number: int, seconds: int) -> None:
        """Acknowledge, release, reject or renew one of the tokens there ever were."""
        if not self.tokens:
            return
        token, key = self.tokens[number % len(self.tokens)]
        now, known = self.shop.clock.now(), self.keys[key]
        is_good = known.is_held(now) and known.held is not None and known.held.token == token
        [outcome] = self._said(what, token, seconds)
        assert outcome.is_lost is not is_good, f"{what} of {key}"
        if not is_good:
            return
        if what == "acknowledge":
            self.keys[key] = _Key(known.done + known.count)
        elif what == "renew":
            known.until = now + timedelta(seconds=seconds)
        else:
            known.fail(now + timedelta(seconds=seconds if what == "release" else 0), parks=what == "reject")

    def _said(self, what: str, token: str, seconds: int) -> list[Outcome]:
        pulling = self.shop.pulling
        if what == "acknowledge":
            return pulling.acknowledge(self.name, [token])
        if what == "release":
            return pulling.release(self.name, [token], seconds)
        if what == "reject":
            return pulling.reject(self.name, [token], "no")
        return pulling.renew(self.name, [token], seconds)

    def retry(self, sku: str) -> None:
        lane = next((x for x in self.shop.store.lanes(self.name) if x.key == sku), None)
        if lane is not None and lane.discard is None and self.shop.store.set_due(self.name, sku):
            known = self.keys[sku]
            known.failures, known.is_parked, known.due = 0, False, self.shop.clock.now()

    def discard(self, sku: str) -> None:
        """Of a lane that nobody has, or had, in hand: its next event, wanted or not."""
        lane = next((x for x in self.shop.store.lanes(self.name) if x.key == sku and x.lock_token is None), None)
        skipped = next((e for e in self.shop.log_of(sku) if lane and e.position.seq >= lane.next_seq), None)
        if skipped is None or (lane and lane.discard):
            return
        self.shop.store.set_due(self.name, sku, ("anna", "sold out"))
        known = self.keys[sku]
        pending = self.wanted(sku)[known.done :]
        is_next = bool(pending) and pending[0].id == skipped.id
        self.keys[sku] = _Key(known.done + is_next, due=self.shop.clock.now())

    def drain(self) -> None:
        """Whatever happened: everything that is wanted and not done comes, once, in order."""
        for _ in range(400):
            self.step(400)
            for sku in self.keys:
                self.retry(sku)
            held = self.receive(100, 1, None, 60)
            if not held and not self.shop.store.lanes(self.name) and not self.shop.lag(self.name):
                break
            for one in held:
                self.say("acknowledge", self.tokens.index((one.token, one.key)), 0)
        assert {sku: known.done for sku, known in self.keys.items()} == {s: len(self.wanted(s)) for s in self.keys}
        assert self.shop.store.lanes(self.name) == []
        assert self.shop.lag(self.name) == 0

    def wanted(self, sku: str) -> list[EventEnvelope]:
        return [e for e in self.shop.log_of(sku) if isinstance(e.event, Allocated) and e.event.qty >= 5]
