"""Workers share out the leases, and leave none to nobody."""

from collections.abc import Callable

from allocation.adapters.memory import MemoryStore
from allocation.adapters.memory_subscriptions import MemorySubscriptionStore
from allocation.service_layer.subscriptions import Backoff, Lease, Subscription
from allocation.service_layer.worker import Worker
from tests.fakes import CountingIds, SetClock

LEASE_SECONDS = 15.0
PARTITIONS = 4


class Room:
    """Workers on one store; `turn` lets each look after its leases once, as its threads would."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.store = MemorySubscriptionStore(MemoryStore(CountingIds(), self.clock, PARTITIONS))
        self.workers: dict[str, Worker] = {}
        self.held: dict[str, dict[tuple[str, int], Lease | None]] = {}

    def enter(self, owner: str, *names: str) -> None:
        subscriptions = [Subscription(name, frozenset(), lambda events, _: [None] * len(events)) for name in names]
        for name in names:
            self.store.join(name, from_the_beginning=True)
        backoff = Backoff(lambda: 0.0)
        self.workers[owner] = Worker(
            subscriptions, self.store, self.clock, backoff, owner, PARTITIONS, lease_seconds=LEASE_SECONDS
        )
        self.held[owner] = {(name, partition): None for name in names for partition in range(PARTITIONS)}

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            for owner, worker in self.workers.items():
                for (name, partition), lease in list(self.held[owner].items()):
                    subscription = Subscription(name, frozenset(), lambda events, _: [None] * len(events))
                    self.held[owner][name, partition] = worker.lease(subscription, partition, lease)

    def pass_time(self, seconds: float, step_seconds: float = 1.0) -> None:
        for _ in range(int(seconds / step_seconds)):
            self.clock.step(step_seconds)
            self.turn()

    def count(self, owner: str) -> int:
        return sum(lease is not None for lease in self.held[owner].values())


def room(*enter: Callable[[Room], None]) -> Room:
    made = Room()
    for each in enter:
        each(made)
    return made


def test_one_worker_has_all_and_gives_half_to_the_next() -> None:
    shop = room(lambda r: r.enter("a", "mail", "redis"))
    shop.turn()
    assert shop.count("a") == 2 * PARTITIONS
    shop.enter("b", "mail", "redis")
    shop.pass_time(20)
    assert (shop.count("a"), shop.count("b")) == (PARTITIONS, PARTITIONS)


def test_what_a_dead_worker_had_goes_to_those_who_live() -> None:
    shop = room(lambda r: r.enter("a", "mail"), lambda r: r.enter("b", "mail"))
    shop.pass_time(20)
    assert (shop.count("a"), shop.count("b")) == (2, 2)
    del shop.workers["a"]
    shop.pass_time(3 * LEASE_SECONDS)
    assert shop.count("b") == PARTITIONS


def test_a_subscription_that_the_others_do_not_know_is_served_beyond_the_fair_share() -> None:
    shop = room(lambda r: r.enter("a", "mail"), lambda r: r.enter("b", "mail", "redis"))
    shop.pass_time(4 * LEASE_SECONDS)
    served = {place for owner in ("a", "b") for place, lease in shop.held[owner].items() if lease is not None}
    assert served == {(name, partition) for name in ("mail", "redis") for partition in range(PARTITIONS)}
