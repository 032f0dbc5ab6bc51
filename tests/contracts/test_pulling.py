"""Pull on every kind of store: nothing is lost, nothing overtakes its key, nobody holds what another has in hand."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from random import Random
from threading import Lock
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.domain.events import Allocated
from allocation.service_layer import pull_locks, pulling
from allocation.service_layer.definitions import NamedRule
from allocation.service_layer.envelope import LogPosition, partition_of
from allocation.service_layer.errors import UnknownSubscription
from allocation.service_layer.pull_locks import Asked
from allocation.service_layer.pulling import MOST_RULE_SECONDS, Chime
from allocation.service_layer.subscriptions import Settlement, Turn
from tests.contracts.pulls import PARTITIONS, WANTED, Pulled, PullModel, pulled
from tests.thoroughness import examples

KINDS = ["memory", "sqlite", "postgres"]
NAMES = count(1)

keys = st.integers(0, 2)
steps = st.one_of(
    st.tuples(st.just("commit"), keys, st.integers(1, 9)),
    st.tuples(st.just("commit"), keys, st.integers(5, 9)),
    st.tuples(st.just("receive"), st.integers(1, 4), st.integers(1, 3), st.none() | keys, st.integers(5, 60)),
    st.tuples(st.just("say"), st.sampled_from(["acknowledge", "acknowledge", "release", "reject", "renew"]),
              st.integers(0, 20), st.integers(0, 30)),
    st.tuples(st.just("step"), st.integers(1, 40)),
    st.tuples(st.sampled_from(["retry", "discard"]), keys),
)  # fmt: skip


@pytest.fixture(params=KINDS)
def shop(request: pytest.FixtureRequest) -> Iterator[Pulled]:
    with pulled(request.param, request.getfixturevalue) as made:
        yield made


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_pullers_do_each_wanted_event_is_done_once_in_order(kind: str, request: pytest.FixtureRequest) -> None:
    with pulled(kind, request.getfixturevalue) as shop:

        @examples(100 if kind == "memory" else 10)
        @given(st.lists(steps, max_size=60), st.sampled_from([2, 3, 200]), st.sampled_from([0.0, 0.0, 0.0, 0.04, 2.0]))
        def check(done: list[tuple[object, ...]], page: int, rule_seconds: float) -> None:
            shop.rule_seconds = rule_seconds
            number = next(NAMES)
            skus = [f"SKU-{number}-{n}" for n in range(3)]
            with patch.object(pull_locks, "PAGE", page):
                model = PullModel(shop, f"all-{number}", skus)
                for what, *with_these in done:
                    perform(model, skus, str(what), with_these)
                model.drain()
            shop.subscribers.remove(model.name)

        check()


def perform(model: PullModel, skus: list[str], what: str, given: list[object]) -> None:
    if what in ("commit", "retry", "discard"):
        given[0] = skus[given[0]]  # type: ignore[index]  # these three begin with the number of a key
    elif what == "receive" and given[2] is not None:
        given[2] = skus[given[2]]  # type: ignore[index]  # here the third is one
    getattr(model, what)(*given)


def test_many_who_pull_at_once_share_the_work_and_never_a_key(shop: Pulled) -> None:
    skus = [f"SKU-{n}" for n in range(6)]
    shop.stock(*skus)
    shop.define("all", WANTED)
    for n in range(60):
        shop.order(skus[n % 6], 5 + n % 5)
    in_hand: set[str] = set()
    done: dict[str, list[str]] = {sku: [] for sku in skus}
    lock = Lock()

    def pull(seed: int) -> None:
        chance, idle = Random(seed), 0
        while sum(map(len, done.values())) < 60 and idle < 300:
            got = shop.pulling.receive("all", Asked(most=chance.randint(1, 4), per_key=chance.randint(1, 3))).held
            idle = 0 if got else idle + 1
            for one in got:
                with lock:
                    assert one.key not in in_hand
                    in_hand.add(one.key)
                does = chance.random() < 0.8 or one.delivery_count > 5
                with lock:
                    in_hand.discard(one.key)
                    if does:
                        done[one.key] += [message.id for message in one.messages]
                said = shop.pulling.acknowledge if does else shop.pulling.release
                assert [outcome.is_lost for outcome in said("all", [one.token])] == [False]

    with ThreadPoolExecutor(4) as pullers:
        for ran in [pullers.submit(pull, seed) for seed in range(4)]:
            ran.result(timeout=60)
    assert done == {sku: [e.id for e in shop.log_of(sku) if isinstance(e.event, Allocated)] for sku in skus}


def test_a_subscription_that_goes_back_takes_the_locks_along(shop: Pulled) -> None:
    shop.stock("RED-CHAIR")
    shop.define("all", WANTED, from_the_beginning=True)
    shop.order("RED-CHAIR", 5)
    shop.order("RED-CHAIR", 6)
    [first] = shop.pulling.receive("all", Asked()).held
    shop.pulling.acknowledge("all", [first.token])
    [second] = shop.pulling.receive("all", Asked()).held
    assert shop.store.rewind("all", [LogPosition(n, 0) for n in range(PARTITIONS)]) == 1
    assert shop.pulling.acknowledge("all", [second.token])[0].is_lost
    [again] = shop.pulling.receive("all", Asked()).held
    assert [m.id for m in again.messages] == [m.id for m in first.messages]


def test_a_key_that_was_pulled_ahead_of_the_cursor_goes_back_though_that_stays(shop: Pulled) -> None:
    shop.stock("RED-CHAIR", "SMALL-TABLE")
    shop.define("all", WANTED)
    shop.order("SMALL-TABLE", 5)
    for qty in (5, 6, 7):
        shop.order("RED-CHAIR", qty)
        [one] = shop.pulling.receive("all", Asked(key="RED-CHAIR")).held
        shop.pulling.acknowledge("all", [one.token])
    first, *others = [e for e in shop.log_of("RED-CHAIR") if isinstance(e.event, Allocated)]
    behind_all = [LogPosition(n, 1000) for n in range(PARTITIONS)]
    behind_all[first.position.partition] = first.position
    assert shop.store.rewind("all", behind_all) == 1
    [again] = shop.pulling.receive("all", Asked(per_key=5, key="RED-CHAIR")).held
    assert [m.id for m in again.messages] == [e.id for e in others]


def test_who_has_no_time_to_search_on_is_told_that_there_may_be_more(shop: Pulled) -> None:
    wanted_behind_others(shop)
    with patch.object(pull_locks, "PAGE", 2), patch.object(pulling, "LONGEST_SEARCH_SECONDS", 0.0):
        received = shop.pulling.receive("all", Asked())
        assert (received.held, received.has_seen_all) == ([], False)
        while not received.held:
            received = shop.pulling.receive("all", Asked())
        nothing = shop.pulling.receive("all", Asked())
    assert (nothing.held, nothing.has_seen_all) == ([], True), "the rest is in hand"


def test_who_waits_searches_on_at_once(shop: Pulled) -> None:
    """The timer stands still as long as nobody waits for the chime, which does not ring here."""
    wanted_behind_others(shop)
    with (
        patch.object(pull_locks, "PAGE", 2),
        patch.object(pulling, "LONGEST_SEARCH_SECONDS", 0.0),
        patch.object(Chime, "wait", side_effect=AssertionError("there was more to look at")),
    ):
        assert [one.key for one in shop.pulling.receive("all", Asked(wait_seconds=20)).held] == ["RED-CHAIR"]


@pytest.mark.parametrize("is_anew", [False, True])
def test_who_waits_gets_what_the_rules_want_now(shop: Pulled, monkeypatch: pytest.MonkeyPatch, is_anew: bool) -> None:
    shop.define("all", NamedRule("nothing", "1=0"))

    def meanwhile(*_: object) -> None:
        if is_anew:
            shop.subscribers.remove("all")
        shop.define("all")
        shop.stock("CHAIR")
        shop.timer.now += 20

    monkeypatch.setattr(Chime, "wait", meanwhile)
    [held] = shop.pulling.receive("all", Asked(wait_seconds=20)).held
    assert held.key == "CHAIR"


def test_who_got_as_much_as_wanted_is_told_that_there_may_be_more(shop: Pulled) -> None:
    shop.define("all", from_the_beginning=True)
    shop.stock(*[f"SKU-{n}" for n in range(4)])
    first = shop.pulling.receive("all", Asked(most=2))
    assert (len(first.held), first.has_seen_all) == (2, False), "from the cursor on"
    shop.pulling.release("all", [one.token for one in first.held])
    others = shop.pulling.receive("all", Asked(most=4))
    assert len(others.held) == 4
    assert shop.pulling.receive("all", Asked(most=4)).has_seen_all
    shop.pulling.release("all", [one.token for one in others.held])
    some = shop.pulling.receive("all", Asked(most=3))
    assert (len(some.held), some.has_seen_all) == (3, False), "the fourth was given back, too"
    last = shop.pulling.receive("all", Asked(most=3))
    assert (len(last.held), last.has_seen_all) == (1, True)


@pytest.mark.parametrize("key", [None, "RED-CHAIR"])
def test_rules_that_take_long_hold_nobody_up_and_lose_nothing(shop: Pulled, key: str | None) -> None:
    shop.stock("RED-CHAIR", "LAMP")
    shop.define("all", NamedRule("large", "qty >= 5"))
    shop.order("RED-CHAIR", 5)
    [first] = shop.pulling.receive("all", Asked(key=key)).held
    for qty in [1] * 40 + [6, 1, 7]:
        shop.order("RED-CHAIR", qty)
    shop.pulling.acknowledge("all", [first.token])
    shop.rule_seconds = 0.04
    turns = timed(shop)
    got = [receive_at_last(shop, Asked(key=key)) for _ in range(2)]
    assert got == [[6], [7]]
    assert len(turns) >= 40 * 0.04 / MOST_RULE_SECONDS
    assert max(turns) <= MOST_RULE_SECONDS + 0.04
    assert sum(shop.timer.pauses) >= sum(turns) / 2, "between them, others had their turn"


def test_a_key_whose_next_event_lies_behind_a_page_of_others_keeps_its_lane(shop: Pulled) -> None:
    chair, beside = two_of_one_partition()
    shop.stock(chair, beside)
    shop.define("all", WANTED, from_the_beginning=True)
    shop.order(chair, 5)
    for _ in range(6):
        shop.order(beside, 1)
    shop.order(chair, 6)
    [first] = shop.pulling.receive("all", Asked()).held
    with patch.object(pull_locks, "PAGE", 2):
        shop.pulling.acknowledge("all", [first.token])
    assert receive_at_last(shop, Asked()) == [6]


def test_a_lane_ahead_of_the_cursor_does_not_hold_it_up(shop: Pulled) -> None:
    """What it has that nobody wants is looked at once, not at the beginning of every turn."""
    chair, beside = two_of_one_partition()
    shop.stock(chair, beside)
    shop.define("all", NamedRule("large", "qty >= 5"))
    shop.order(beside, 6)
    shop.order(chair, 5)
    [ahead] = shop.pulling.receive("all", Asked(key=chair)).held
    shop.order(chair, 1)
    shop.pulling.acknowledge("all", [ahead.token])
    shop.rule_seconds = 2.0
    assert receive_at_last(shop, Asked()) == [6]


def wanted_behind_others(shop: Pulled) -> None:
    """One event that `all` wants, behind eight that it does not."""
    shop.stock("RED-CHAIR")
    shop.define("all", WANTED, from_the_beginning=True)
    for qty in [1] * 8 + [5]:
        shop.order("RED-CHAIR", qty)


def two_of_one_partition() -> tuple[str, str]:
    chair, place = "RED-CHAIR", partition_of("RED-CHAIR", PARTITIONS)
    return chair, next(sku for sku in (f"SKU-{n}" for n in count()) if partition_of(sku, PARTITIONS) == place)


def timed(shop: Pulled) -> list[float]:
    """How long each turn takes from now on."""
    seconds: list[float] = []
    turn = shop.store.turn

    @contextmanager
    def watched(name: str, partition: int) -> Iterator[Turn]:
        begun = shop.timer.now
        with turn(name, partition) as found:
            yield found
        seconds.append(shop.timer.now - begun)

    shop.store.turn = watched  # type: ignore[method-assign]  # this one is watched
    return seconds


def receive_at_last(shop: Pulled, asked: Asked) -> list[int]:
    """The quantities that come first, acknowledged; after some receives that find nothing yet."""
    for _ in range(30):
        if held := shop.pulling.receive("all", asked).held:
            assert not any(outcome.is_lost for outcome in shop.pulling.acknowledge("all", [h.token for h in held]))
            return [message.data.qty for one in held for message in one.messages]
    return []


def test_whoever_fails_within_a_turn_changes_nothing(shop: Pulled) -> None:
    shop.stock("RED-CHAIR")
    shop.define("all", from_the_beginning=True)
    partition = partition_of("RED-CHAIR", PARTITIONS)

    def fail() -> None:
        with shop.store.turn("all", partition) as turn:
            turn.settlement = Settlement(1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert shop.lag("all") == 1


def test_nobody_pulls_from_what_is_not_there(shop: Pulled) -> None:
    with pytest.raises(UnknownSubscription):
        shop.pulling.receive("all", Asked())
    with pytest.raises(UnknownSubscription), shop.store.turn("all", 0):
        pass
