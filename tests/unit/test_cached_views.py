"""Orders and products out of a cache: never older than was said, and the database's own answers in the end."""

from __future__ import annotations

from dataclasses import make_dataclass
from datetime import date

import pytest

from allocation.adapters.cache import MemoryCache
from allocation.adapters.cached_views import CacheCounters, form_of, order_key, product_key
from allocation.domain.commands import (
    Allocate,
    ChangeBatchEta,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
    IfShort,
)
from allocation.service_layer.answers import Promise
from allocation.service_layer.cache import Entry
from allocation.service_layer.envelope import LogPosition, partition_of
from allocation.service_layer.handlers import keep_cache
from allocation.views import ProductView
from tests.caches import CachedShop, MemoryTurnBack
from tests.fakes import SetTimer

CHAIR, TABLE = "RED-CHAIR", "SMALL-TABLE"
SPRING, SUMMER = date(2031, 3, 21), date(2031, 6, 21)


@pytest.fixture
def shop() -> CachedShop:
    """An order of chairs and a table, cached; the keeper has come to the head of the log."""
    made = CachedShop(MemoryCache(SetTimer()), partitions=4)
    made.do(CreateBatch("b1", CHAIR, 10), CreateBatch("b2", CHAIR, 10, SPRING), CreateBatch("t1", TABLE, 10))
    made.do(Allocate("o1", CHAIR, 6), Allocate("o1", TABLE, 1), Allocate("o2", CHAIR, 6))
    made.keep()
    warm(made)
    return made


def warm(shop: CachedShop) -> None:
    for orderid in ("o1", "o2"):
        shop.views.order(orderid)
    for sku in (CHAIR, TABLE):
        shop.views.product(sku)


def expect_what_the_database_says(shop: CachedShop) -> None:
    for orderid in ("o1", "o2", "o3"):
        assert shop.views.order(orderid) == shop.database.order(orderid)
        for sku in (CHAIR, TABLE):
            assert shop.views.line(orderid, sku) == shop.database.line(orderid, sku)
    for sku in (CHAIR, TABLE, "NEVER-SEEN"):
        assert shop.views.product(sku) == shop.database.product(sku)


def hits(shop: CachedShop, *orderids: str) -> int:
    before = shop.views.counters.hits
    for orderid in orderids:
        shop.views.order(orderid)
    return shop.views.counters.hits - before


def test_what_is_cached_is_not_asked_of_the_database_again(shop: CachedShop) -> None:
    expected = shop.database.order("o1"), shop.database.product(CHAIR)
    counters = shop.views.counters
    counters.hits = counters.misses = 0
    assert (shop.views.order("o1"), shop.views.product(CHAIR)) == expected
    assert shop.views.line("o1", TABLE) == expected[0][1]
    assert counters == CacheCounters(hits=3)


@pytest.mark.parametrize(
    "command",
    [
        Allocate("o3", CHAIR, 1),
        Allocate("o1", "LAMP", 1, IfShort.WAIT),
        Deallocate("o1", CHAIR),
        Deallocate("o1", TABLE),
        CreateBatch("b3", CHAIR, 10),
        ChangeBatchQuantity("b1", 5),
        ChangeBatchQuantity("b1", 0),
        ChangeBatchEta("b1", SUMMER),
        ChangeBatchEta("b2", None),
        Allocate("o3", CHAIR, 500, IfShort.WAIT),
    ],
    ids=str,
)
def test_after_any_change_the_answers_are_those_of_the_database(shop: CachedShop, command: Command) -> None:
    shop.do(CreateBatch("l1", "LAMP", 1))
    shop.do(command)
    shop.keep()
    expect_what_the_database_says(shop)
    expect_what_the_database_says(shop)


def test_a_change_ends_only_the_answers_that_it_changes(shop: CachedShop) -> None:
    shop.do(Deallocate("o1", TABLE))
    shop.keep()
    assert (hits(shop, "o1"), hits(shop, "o2")) == (0, 1)


def test_another_day_for_a_batch_ends_only_the_orders_on_it(shop: CachedShop) -> None:
    assert {line.batchref for line in shop.database.order("o2")} == {"b2"}
    shop.do(ChangeBatchEta("b2", SUMMER))
    shop.keep()
    assert (hits(shop, "o1"), hits(shop, "o2")) == (1, 0)
    assert shop.views.order("o2")[0].eta == SUMMER


def test_a_reader_that_read_before_a_change_and_fills_after_it_is_refused(shop: CachedShop) -> None:
    shop.do(Deallocate("o2", CHAIR), Allocate("o2", CHAIR, 1))
    shop.keep()

    def a_change_and_its_keeper() -> None:
        shop.do(Deallocate("o2", CHAIR))
        shop.keep()

    shop.database.meanwhile = a_change_and_its_keeper
    late = shop.views.order("o2")
    assert [line.qty for line in late] == [1], "it read before the change"
    assert shop.views.counters.refused_fills == 1
    assert shop.views.order("o2") == [], "and what it read is not kept"


def test_a_reader_that_knows_more_than_the_keeper_fills_for_good(shop: CachedShop) -> None:
    shop.do(Allocate("o3", CHAIR, 1))
    assert shop.views.order("o3")[0].qty == 1
    assert hits(shop, "o3") == 1
    shop.keep()
    assert hits(shop, "o3") == 1, "it was read after the change that the keeper hears of now"


def test_orders_and_products_that_are_not_there_are_not_kept(shop: CachedShop) -> None:
    assert shop.views.order("o9") == []
    assert shop.views.product("NEVER-SEEN") is None
    assert shop.views.counters.refused_fills == 0
    assert shop.cache.look(order_key("o9"), range(4)).data is None
    assert shop.cache.look(order_key("o1"), range(4)).data is not None


def test_a_product_with_other_limits_is_the_databases(shop: CachedShop) -> None:
    before = shop.views.counters.misses
    shop.do(*(Allocate(f"w{n}", CHAIR, 100 + n, IfShort.WAIT) for n in range(3)))
    product = shop.views.product(CHAIR, waiting_limit=2)
    assert product is not None
    assert len(product.waiting) == 2
    assert shop.views.counters.misses == before


def test_everything_else_is_asked_of_the_database(shop: CachedShop) -> None:
    assert shop.views.batch("b1") == shop.database.batch("b1")
    assert shop.views.events([], 3) == shop.database.events([], 3)
    assert shop.views.stock([], 3) == shop.database.stock([], 3)
    assert shop.views.movements(CHAIR) == shop.database.movements(CHAIR)
    shop.views.ready()


# How far it has come


def test_a_position_is_reached_when_the_keeper_has_come_there(shop: CachedShop) -> None:
    position = shop.do(Allocate("o3", CHAIR, 1))
    assert position is not None
    assert not shop.views.reached(position)
    assert shop.views.log_reached(position)
    shop.keep()
    assert shop.views.reached(position)
    assert shop.views.order("o3")[0].qty == 1


def test_the_keeper_moves_the_cache_page_by_page(shop: CachedShop) -> None:
    paged = CachedShop(MemoryCache(SetTimer()), page=2)
    paged.keep()
    paged.do(CreateBatch("b1", CHAIR, 10), *(Allocate(f"o{n}", CHAIR, 1) for n in range(4)))
    places = []
    while paged.keep_a_page():
        places.append(paged.cache.places([0])[0])
    assert places == [2, 4, 5]


def test_at_no_moment_is_the_place_of_the_cache_ahead_of_what_it_gives(shop: CachedShop) -> None:
    position = shop.do(Deallocate("o2", CHAIR))
    assert position is not None
    seen = []
    shop.cache.told_something = lambda: seen.append((shop.views.reached(position), shop.views.order("o2")))
    shop.keep()
    assert [lines for reached, lines in seen if reached][:1] == [[]]


# A cache that is lost, away, or was turned back


def test_a_cache_that_has_lost_everything_is_gone_past_until_its_keeper_speaks(shop: CachedShop) -> None:
    position = shop.do(Deallocate("o2", CHAIR))
    assert position is not None
    shop.cache.forget(range(4))
    assert shop.views.reached(position), "the database has come there"
    assert shop.views.order("o2") == []
    assert shop.views.counters.bypassed == 1
    shop.keep()
    assert (hits(shop, "o1"), hits(shop, "o1")) == (0, 1)
    expect_what_the_database_says(shop)


def test_a_reader_that_read_before_a_rebuild_fills_nothing_after_it(shop: CachedShop) -> None:
    shop.cache.forget(range(4))
    shop.keep()

    def a_rebuild_and_the_keeper() -> None:
        shop.cache.forget(range(4))
        shop.keep()

    shop.database.meanwhile = a_rebuild_and_the_keeper
    shop.views.order("o2")
    assert shop.views.counters.refused_fills == 1
    assert (hits(shop, "o2"), hits(shop, "o2")) == (0, 1)


@pytest.mark.parametrize("data", [b"{", b'[{"orderid": "o1", "renamed": 1}]', b"[" * 5_000])
def test_an_answer_that_cannot_be_read_is_a_miss(shop: CachedShop, data: bytes) -> None:
    for key, question in ((order_key("o1"), range(4)), (product_key(CHAIR), [partition_of(CHAIR, 4)])):
        lives = shop.cache.look(key, question).lives
        heads = {partition: shop.database.with_heads(lambda _: 0)[1][partition] for partition in question}
        assert shop.cache.fill(key, Entry(data, heads, {}, lives))
    counters = shop.views.counters
    counters.hits = counters.misses = 0
    expected = shop.database.order("o1"), shop.database.product(CHAIR)
    assert (shop.views.order("o1"), shop.views.product(CHAIR)) == expected
    assert counters == CacheCounters(misses=2)
    assert (shop.views.order("o1"), shop.views.product(CHAIR)) == expected
    assert counters == CacheCounters(hits=2, misses=2)


def test_programs_whose_answers_have_another_form_keep_them_apart() -> None:
    """Else one might take the answers of the other for something else, and each would undo what the other keeps."""
    today = make_dataclass("Answer", [("batchref", str), ("qty", int)])
    tomorrow = make_dataclass("Answer", [("batchref", str), ("quantity", int)])
    assert form_of(today) == form_of(make_dataclass("Answer", [("batchref", str), ("qty", int)]))
    assert form_of(today) != form_of(tomorrow)
    assert order_key("o1") == f"{form_of(list[Promise])}:order:o1"
    assert product_key("S") == f"{form_of(ProductView)}:product:S"


def test_a_cache_that_is_away_is_gone_past(shop: CachedShop) -> None:
    position = shop.do(Deallocate("o2", CHAIR))
    assert position is not None
    shop.cache.is_away = True
    assert shop.views.reached(position)
    expect_what_the_database_says(shop)
    assert shop.views.counters.bypassed > 0
    shop.keep()
    shop.cache.is_away = False
    assert shop.views.order("o2") == [], "it came back as it was, and this reader knows better"
    shop.clock.step(2)
    shop.keep()
    expect_what_the_database_says(shop)
    assert hits(shop, "o1") == 1, "nothing was lost"


def test_a_cache_that_goes_away_while_it_is_filled_harms_no_answer(shop: CachedShop) -> None:
    def go_away() -> None:
        shop.cache.is_away = True

    shop.do(Deallocate("o2", CHAIR), Allocate("o2", CHAIR, 1))
    shop.keep()
    shop.database.meanwhile = go_away
    assert shop.views.order("o2")[0].qty == 1
    assert shop.views.counters.refused_fills == 1


def test_a_cache_turned_back_in_time_is_noticed_though_nothing_happens() -> None:
    turned = MemoryTurnBack()
    shop = CachedShop(turned.cache)
    shop.keep()
    shop.do(CreateBatch("b1", CHAIR, 10), Allocate("o1", CHAIR, 1))
    shop.keep()
    shop.views.order("o1")
    saved = turned.save()
    shop.do(Deallocate("o1", CHAIR))
    shop.keep()
    turned.put_back(saved)
    assert shop.views.order("o1") != [], "nobody has said anything yet"
    assert not shop.another_process().reached(LogPosition(0, 4))
    assert not shop.keep_a_page(), "there is nothing to deliver"
    assert shop.views.order("o1") == []
    assert shop.views.reached(LogPosition(0, 4))


def test_who_was_told_that_a_position_is_reached_never_reads_what_was_before() -> None:
    turned = MemoryTurnBack()
    shop = CachedShop(turned.cache)
    shop.keep()
    shop.do(CreateBatch("b1", CHAIR, 10), Allocate("o1", CHAIR, 1))
    shop.keep()
    shop.views.order("o1")
    saved = turned.save()
    position = shop.do(Deallocate("o1", CHAIR))
    assert position is not None
    shop.keep()
    assert shop.views.reached(position)
    turned.put_back(saved)
    assert shop.views.order("o1") == []
    assert shop.views.reached(position)


def test_without_its_keeper_a_cache_is_believed_for_a_while_and_no_longer() -> None:
    timer = SetTimer()
    shop = CachedShop(MemoryCache(timer, keeper_seconds=30))
    shop.keep()
    shop.do(CreateBatch("b1", CHAIR, 10), Allocate("o1", CHAIR, 1))
    shop.keep()
    shop.views.order("o1")
    position = shop.do(Deallocate("o1", CHAIR))
    assert position is not None
    timer.now += 29
    assert shop.views.order("o1") != []
    assert not shop.views.reached(position)
    timer.now += 2
    assert shop.views.order("o1") == []
    assert shop.views.reached(position)


def test_a_worker_that_lost_its_lease_and_does_not_know_undoes_nothing(shop: CachedShop) -> None:
    shop.cache.told.clear()
    shop.do(Deallocate("o2", CHAIR))
    shop.keep()
    late = list(shop.cache.told)
    position = shop.do(Allocate("o2", CHAIR, 2))
    assert position is not None
    shop.keep()
    warm(shop)
    for told in late:
        told()
        assert shop.another_process().order("o2") == shop.database.order("o2")
    shop.keep()
    expect_what_the_database_says(shop)


def test_an_event_that_the_keeper_skipped_makes_the_cache_begin_anew(shop: CachedShop) -> None:
    """One that waits in a lane, say: the keeper hands on what comes before and behind it."""
    shop.do(*(Allocate(f"o{n}", CHAIR, 1) for n in range(3, 6)))
    [partition] = [n for n, log in enumerate(shop.store.log) if log and log[0].event.sku == CHAIR]
    first, _, last = shop.store.log[partition][-3:]
    keep_cache([first, last], shop.cache)
    assert shop.cache.places([partition]) == {partition: last.position.seq}
    assert hits(shop, "o1", "o2") == 0
    expect_what_the_database_says(shop)
