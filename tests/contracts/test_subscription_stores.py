"""What every keeper of cursors, leases and lanes must do: memory, SQLite and PostgreSQL alike."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Barrier

import pytest

from allocation.adapters.clock import TimeOrderedIds
from allocation.adapters.memory import MemoryStore, MemoryUnitOfWork
from allocation.adapters.memory_subscriptions import MemoryDeadLetters, MemorySubscriptionStore
from allocation.adapters.sql.engine import make_engine
from allocation.adapters.sql.migrate import migrate
from allocation.adapters.sql.subscriptions import SqlDeadLetters, SqlSubscriptionStore
from allocation.adapters.sql.unit_of_work import Database, SqlUnitOfWork
from allocation.domain.commands import Allocate, CreateBatch
from allocation.service_layer.envelope import LogPosition, partition_of
from allocation.service_layer.errors import LeaseLost
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.ports import DeadLetters
from allocation.service_layer.subscriptions import Lane, Lease, Settlement, SubscriptionStore
from tests.fakes import CountingIds, SetClock

PARTITIONS = 2


@dataclass(frozen=True)
class Kept:
    store: SubscriptionStore
    dead_letters: DeadLetters
    bus: MessageBus
    clock: SetClock

    def take(self, owner: str = "worker-1", name: str = "mail") -> Lease:
        lease = self.store.lease(name, 0, owner, 15)
        assert lease is not None
        return lease


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def kept(request: pytest.FixtureRequest) -> Iterator[Kept]:
    """A store with the subscription `mail`, from the beginning of an empty log."""
    clock, ids = SetClock(), TimeOrderedIds()
    if request.param == "memory":
        memory = MemoryStore(ids, clock, PARTITIONS)
        bus = MessageBus(lambda: MemoryUnitOfWork(memory), COMMAND_HANDLERS, ids, clock, PARTITIONS)
        made = Kept(MemorySubscriptionStore(memory), MemoryDeadLetters(clock), bus, clock)
        made.store.join("mail", from_the_beginning=True)
        yield made
        return
    engine = make_engine(request.getfixturevalue(f"empty_{request.param}_url"))
    migrate(engine, PARTITIONS)
    database = Database.of(engine, ids, clock, PARTITIONS)
    bus = MessageBus(lambda: SqlUnitOfWork(database), COMMAND_HANDLERS, ids, clock, PARTITIONS)
    made = Kept(SqlSubscriptionStore(engine, clock), SqlDeadLetters(engine, CountingIds(), clock), bus, clock)
    made.store.join("mail", from_the_beginning=True)
    yield made
    engine.dispose()


def lane(key: str, next_seq: int = 1, subscription: str = "mail", reason: str = "no such address") -> Lane:
    return Lane(subscription, key, 0, next_seq, 1, None, reason)


def test_one_owner_at_a_time_and_each_taking_raises_the_epoch(kept: Kept) -> None:
    first = kept.take("worker-1")
    assert kept.store.lease("mail", 0, "worker-2", 15) is None
    again = kept.take("worker-1")
    assert again.epoch == first.epoch + 1, "it may be another process of that name"
    kept.clock.step(16)
    second = kept.take("worker-2")
    assert second.epoch == again.epoch + 1
    for earlier in (first, again):
        with pytest.raises(LeaseLost):
            kept.store.settle(earlier, Settlement(7, lanes={"S": lane("S")}), 15)
    assert kept.take("worker-2").seq == 0
    assert kept.store.lanes() == []


def test_a_lease_given_back_may_be_taken_at_once(kept: Kept) -> None:
    kept.store.release(kept.take("worker-1"))
    assert kept.take("worker-2").owner == "worker-2"


def test_partitions_are_leased_apart(kept: Kept) -> None:
    kept.take("worker-1")
    other = kept.store.lease("mail", 1, "worker-2", 15)
    assert other is not None
    assert other.owner == "worker-2"


def test_settling_moves_the_cursor_and_prolongs_the_lease(kept: Kept) -> None:
    lease = kept.take()
    kept.clock.step(10)
    settled = kept.store.settle(lease, Settlement(5), 15)
    assert (settled.seq, settled.until) == (5, kept.clock.now() + timedelta(seconds=15))
    assert kept.take().seq == 5


def test_lanes_open_move_and_close(kept: Kept) -> None:
    lease = kept.take()
    due = replace(lane("B"), due_at=kept.clock.now())
    lease = kept.store.settle(lease, Settlement(3, lanes={"A": lane("A"), "B": due}), 15)
    assert kept.store.lanes("mail", 0) == [lane("A"), due]
    assert kept.store.lanes("mail", 1) == []
    assert kept.store.lanes("other") == []
    kept.store.settle(lease, Settlement(3, lanes={"A": lane("A", next_seq=9)}, closed={"B"}), 15)
    assert kept.store.lanes() == [lane("A", next_seq=9)]


def test_a_lane_is_kept_whatever_the_destination_said(kept: Kept) -> None:
    kept.store.settle(kept.take(), Settlement(3, lanes={"A": lane("A", reason="550 \0 ü")}), 15)
    assert kept.store.lanes()[0].reason.startswith("550 ")


def test_a_lane_is_set_due_or_told_to_discard(kept: Kept) -> None:
    kept.store.settle(kept.take(), Settlement(3, lanes={"A": lane("A")}), 15)
    assert not kept.store.set_due("mail", "unknown")
    assert kept.store.set_due("mail", "A")
    assert kept.store.lanes() == [replace(lane("A"), attempts=0, due_at=kept.clock.now())]
    assert not kept.store.set_due("mail", "A", ("anna", "sold out"), seq=2)
    assert kept.store.set_due("mail", "A", ("anna", "sold out"), seq=1)
    assert kept.store.lanes()[0].discard == ("anna", "sold out")


def test_who_goes_back_may_discard_the_same_event_again(kept: Kept) -> None:
    lease = kept.take()
    for why in ("sold out", "still sold out"):
        lease = kept.store.settle(lease, Settlement(3, discarded=[(lane("A"), 1, "anna", why)]), 15)
    assert lease.seq == 3


def test_the_time_of_the_next_event_is_told(kept: Kept) -> None:
    sku = next(f"S{n}" for n in range(9) if partition_of(f"S{n}", PARTITIONS) == 0)
    written = []
    for n in range(3):
        written.append(kept.clock.now())
        kept.bus.handle(CreateBatch(f"b{n}", sku, 1))
        kept.clock.step(60)
    assert [kept.store.time_behind(0, seq) for seq in range(4)] == [*written, None]
    assert kept.store.time_behind(1, 0) is None


def test_a_discard_said_while_the_owner_works_is_not_lost(kept: Kept) -> None:
    lease = kept.take()
    lease = kept.store.settle(lease, Settlement(3, lanes={"A": lane("A")}), 15)
    seen = kept.store.lanes()[0]
    kept.store.set_due("mail", "A", discard=("anna", "sold out"))
    kept.store.settle(lease, Settlement(3, seen={"A": seen}, lanes={"A": replace(seen, attempts=2)}), 15)
    [left] = kept.store.lanes()
    assert left.discard == ("anna", "sold out")
    assert left.due_at is not None
    moved = Settlement(5, seen={"A": seen}, lanes={"A": replace(seen, next_seq=4)})
    kept.store.settle(lease, moved, 15)
    assert kept.store.lanes()[0].discard is None, "it was said of an event that has been delivered since"


def test_the_log_is_read_by_place_and_by_key(kept: Kept) -> None:
    skus = [f"SKU-{n}" for n in range(6)]
    for sku in skus:
        kept.bus.handle(CreateBatch(f"batch-of-{sku}", sku, 10))
        kept.bus.handle(Allocate("o1", sku, 1))
        kept.bus.handle(Allocate("o2", sku, 1))
    logs = [kept.store.read(partition, 0, 100) for partition in range(PARTITIONS)]
    assert [e.position.seq for log in logs for e in log] == [n for log in logs for n in range(1, len(log) + 1)]
    assert {e.key for log in logs for e in log} == set(skus)
    assert kept.store.read(0, 2, 2) == logs[0][2:4]
    key = logs[0][0].key
    of_key = [e for e in logs[0] if e.key == key]
    assert kept.store.read_key(lane(key, next_seq=of_key[1].position.seq), of_key[2].position.seq, 10) == of_key[1:]
    assert kept.store.read_key(lane(key, next_seq=1), of_key[1].position.seq, 10) == of_key[:2]


def test_a_later_subscription_starts_at_the_head_and_keeps_its_place(kept: Kept) -> None:
    kept.bus.handle(CreateBatch("b1", "SKU-0", 10))
    head = len(kept.store.read(0, 0, 100))
    kept.store.join("late", from_the_beginning=False)
    kept.bus.handle(Allocate("o1", "SKU-0", 1))
    kept.store.join("late", from_the_beginning=True)
    assert kept.take(name="late").seq == head


def test_workers_that_start_at_the_same_moment_all_join(kept: Kept) -> None:
    with ThreadPoolExecutor(8) as workers:
        for n in range(10):
            at_once = Barrier(8)

            def join(name: str = f"new-{n}", at_once: Barrier = at_once) -> None:
                at_once.wait()
                kept.store.join(name, from_the_beginning=False)

            for joined in [workers.submit(join) for _ in range(8)]:
                joined.result()
    assert len(kept.store.cursors()) == (1 + 10) * PARTITIONS


def test_dead_letters_are_kept_whatever_they_hold(kept: Kept) -> None:
    assert kept.dead_letters.count() == 0
    kept.dead_letters.keep("redis x", b"\x00\xff{", "not JSON")
    kept.dead_letters.keep("redis y", "ü".encode(), "unknown")
    assert [(d.source, d.body, d.reason) for d in kept.dead_letters.newest()] == [
        ("redis y", "ü", "unknown"),
        ("redis x", "\\x00\\xff{", "not JSON"),
    ]
    assert [kept.dead_letters.count(), len(kept.dead_letters.newest(1))] == [2, 1]
    assert {letter.time for letter in kept.dead_letters.newest()} == {kept.clock.now()}


def test_dead_letters_are_read_page_by_page_the_newest_first(kept: Kept) -> None:
    for number in range(12):
        kept.dead_letters.keep("redis x", str(number).encode(), "not JSON")
    read, page = [], kept.dead_letters.newest(5)
    while page:
        read.append([letter.body for letter in page])
        kept.dead_letters.remove(page[-1].id)  # a page goes on behind one that is gone by now
        page = kept.dead_letters.newest(5, behind=page[-1].id)
    assert read == [["11", "10", "9", "8", "7"], ["6", "5", "4", "3", "2"], ["1", "0"]]


def test_a_dead_letter_is_found_by_its_id_and_removed_once(kept: Kept) -> None:
    for body in (b"1", b"2", b"3"):
        kept.dead_letters.keep("redis x", body, "not JSON")
    newest, middle, oldest = kept.dead_letters.newest()
    assert kept.dead_letters.letter(middle.id) == middle
    assert kept.dead_letters.remove(middle.id)
    assert not kept.dead_letters.remove(middle.id)
    assert kept.dead_letters.letter(middle.id) is None
    kept.dead_letters.keep("redis x", b"4", "not JSON")
    assert [letter.body for letter in kept.dead_letters.newest()] == ["4", newest.body, oldest.body]
    assert len({letter.id for letter in kept.dead_letters.newest()}) == 3


def test_workers_count_each_other_until_they_leave_or_fall_silent(kept: Kept) -> None:
    assert kept.store.live("worker-1", 15) == 1
    assert kept.store.live("worker-2", 15) == 2
    kept.clock.step(10)
    assert kept.store.live("worker-1", 15) == 2
    kept.clock.step(6)
    assert kept.store.live("worker-1", 15) == 1, "worker-2 has been silent for too long"
    assert kept.store.live("worker-2", 15) == 2
    kept.store.leave("worker-2")
    assert kept.store.live("worker-1", 15) == 1


def test_a_patient_worker_takes_only_what_nobody_has_had_for_a_while(kept: Kept) -> None:
    kept.store.release(kept.take("worker-1"))
    assert kept.store.lease("mail", 0, "worker-2", 15, patience_seconds=15) is None
    assert kept.store.lease("mail", 0, "worker-1", 15, patience_seconds=15) is None, "it was given back"
    kept.clock.step(15)
    assert kept.store.lease("mail", 0, "worker-2", 15, patience_seconds=15) is not None


def test_a_subscription_goes_back_and_its_owner_moves_the_cursor_no_more(kept: Kept) -> None:
    lease = kept.store.settle(kept.take(), Settlement(9, lanes={"A": lane("A", next_seq=7)}), 15)
    assert kept.store.rewind("mail", [LogPosition(0, 20), LogPosition(1, 0)]) == 0
    assert kept.store.rewind("mail", [LogPosition(0, 4)]) == 1
    with pytest.raises(LeaseLost):
        kept.store.settle(lease, Settlement(10), 15)
    assert kept.take().seq == 4
    assert [x.next_seq for x in kept.store.lanes()] == [5], "else its key would be passed over from 5 to 6"


def test_what_was_said_of_an_event_is_not_said_of_the_one_that_its_key_goes_back_to(kept: Kept) -> None:
    """Neither that it is to be skipped, nor that it was refused so often, nor why: its place is another."""
    kept.store.settle(kept.take(), Settlement(9, lanes={"A": lane("A", next_seq=7), "B": lane("B", next_seq=3)}), 15)
    for key in ("A", "B"):
        assert kept.store.set_due("mail", key, discard=("anna", "sold out"))
    kept.clock.step(5)
    assert kept.store.rewind("mail", [LogPosition(0, 4)]) == 1
    back, before = kept.store.lanes()
    assert back == Lane("mail", "A", 0, 5, attempts=0, due_at=kept.clock.now(), reason="")
    assert before.discard == ("anna", "sold out"), "it stands where it stood"


def test_a_parked_key_that_goes_back_is_tried(kept: Kept) -> None:
    kept.store.settle(kept.take(), Settlement(9, lanes={"A": lane("A", next_seq=7)}), 15)
    kept.store.rewind("mail", [])
    assert kept.store.lanes() == [Lane("mail", "A", 0, 1, attempts=0, due_at=kept.clock.now(), reason="")]


def test_cursors_tell_how_far_each_has_come(kept: Kept) -> None:
    kept.bus.handle(CreateBatch("b1", "SKU-0", 10))
    heads = [len(kept.store.read(partition, 0, 10)) for partition in range(PARTITIONS)]
    lease = kept.take()
    cursors = kept.store.cursors()
    assert [(c.subscription, c.partition, c.seq, c.head) for c in cursors] == [
        ("mail", 0, 0, heads[0]),
        ("mail", 1, 0, heads[1]),
    ]
    assert (cursors[0].owner, cursors[0].leased_until, cursors[1].owner) == ("worker-1", lease.until, "")
    assert sum(c.lag_events for c in cursors) == 1


def test_a_page_that_was_read_before_has_what_came_since(kept: Kept) -> None:
    kept.bus.handle(CreateBatch("b1", "RED-CHAIR", 10))
    partition = partition_of("RED-CHAIR", PARTITIONS)
    read: list[list[int]] = []
    for orderid in ("o1", "o2", "o3"):
        read.append([e.version for e in kept.store.read(partition, 0, 3)])
        kept.bus.handle(Allocate(orderid, "RED-CHAIR", 1))
    read += [[e.version for e in kept.store.read(partition, after, 3)] for after in (0, 0, 3, 1)]
    assert read == [[1], [1, 2], [1, 2, 3], [1, 2, 3], [1, 2, 3], [4], [2, 3, 4]]
