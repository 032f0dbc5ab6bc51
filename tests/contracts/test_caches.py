"""What every cache must do: the one in memory and the one in Redis alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from allocation.adapters.cache import MemoryCache
from allocation.adapters.redis_cache import RedisCache, connect
from allocation.service_layer.cache import Cache, Entry
from allocation.service_layer.envelope import LogPosition
from tests.fakes import CountingIds, SetTimer

MakeCache = Callable[..., Cache]
BOTH = [0, 1]


@pytest.fixture(params=["memory", "redis"])
def make_cache(request: pytest.FixtureRequest) -> MakeCache:
    """Builds caches; those in Redis share what is in it. `keeper_seconds` and `most_marks` may be said."""
    if request.param == "memory":
        return lambda **limits: MemoryCache(SetTimer(), **limits)
    url = request.getfixturevalue("redis_url")
    return lambda **limits: RedisCache(connect(url), "test", CountingIds(), SetTimer(), **limits)


@pytest.fixture
def cache(make_cache: MakeCache) -> Cache:
    """A cache of two partitions that has come to 0-10 and 1-20."""
    made = make_cache()
    for position in (LogPosition(0, 10), LogPosition(1, 20)):
        made.confirm(position)
    return made


def entry(data: bytes, *as_of: int, rests_on: str = "order:o1") -> Entry:
    return Entry(data, dict(enumerate(as_of)), {n: [rests_on] for n in range(len(as_of))}, {})


def fill(cache: Cache, key: str, read: Entry) -> bool:
    """Look, find nothing that counts, and fill with what was read."""
    return cache.fill(key, replace(read, lives=cache.look(key, read.as_of.keys()).lives))


def kept(cache: Cache, key: str = "order:o1") -> bytes | None:
    return cache.look(key, BOTH).data


def test_what_was_filled_is_found_with_the_place_of_the_cache(cache: Cache) -> None:
    assert cache.look("order:o1", BOTH).data is None
    assert fill(cache, "order:o1", entry(b'{"\x00\xff', 10, 20))
    found = cache.look("order:o1", BOTH)
    assert (found.data, found.places) == (b'{"\x00\xff', {0: 10, 1: 20})
    assert cache.places([1]) == {1: 20}
    assert kept(cache, "order:o2") is None


def test_a_thing_that_is_touched_ends_the_answers_that_rest_on_it(cache: Cache) -> None:
    fill(cache, "order:o1", entry(b"one", 10, 20))
    fill(cache, "order:o2", entry(b"two", 10, 20, rests_on="order:o2"))
    fill(cache, "order:o3", Entry(b"three", {0: 10, 1: 20}, {0: ["order:o3"], 1: ["order:o3", "batch:b1"]}, {}))
    cache.mark(0, 10, 12, {"order:o1": 11})
    assert [kept(cache, f"order:o{n}") for n in (1, 2, 3)] == [None, b"two", b"three"]
    cache.mark(1, 20, 21, {"batch:b1": 21})
    assert [kept(cache, f"order:o{n}") for n in (1, 2, 3)] == [None, b"two", None]
    assert cache.places(BOTH) == {0: 12, 1: 21}


def test_a_fill_that_was_read_before_a_mark_is_refused(cache: Cache) -> None:
    cache.mark(0, 10, 18, {"order:o1": 18})
    assert not fill(cache, "order:o1", entry(b"read at 17", 17, 20))
    assert kept(cache) is None
    assert fill(cache, "order:o1", entry(b"read at 18", 18, 20))
    assert kept(cache) == b"read at 18"


def test_a_fill_that_was_read_before_another_one_is_refused(cache: Cache) -> None:
    assert fill(cache, "order:o1", entry(b"read at 18", 18, 25))
    assert not fill(cache, "order:o1", entry(b"read at 17", 17, 25))
    assert not fill(cache, "order:o1", entry(b"read at 19, they say", 19, 24))
    assert kept(cache) == b"read at 18"
    assert fill(cache, "order:o1", entry(b"read at 19", 19, 25))


def test_an_answer_ahead_of_the_cache_outlives_marks_that_it_knows(cache: Cache) -> None:
    fill(cache, "order:o1", entry(b"read at 15", 15, 20))
    cache.mark(0, 10, 15, {"order:o1": 15})
    assert kept(cache) == b"read at 15"
    cache.mark(0, 15, 16, {"order:o1": 16})
    assert kept(cache) is None


def test_an_answer_rests_on_its_own_partitions_only(cache: Cache) -> None:
    fill(cache, "product:S", Entry(b"s", {1: 20}, {1: ["product:S"]}, {}))
    cache.mark(0, 10, 30, {"product:S": 30})
    assert cache.look("product:S", [1]).data == b"s"
    assert cache.look("product:S", [1]).places == {1: 20}


def test_a_mark_that_comes_late_or_twice_does_no_harm(cache: Cache) -> None:
    cache.mark(0, 10, 18, {"order:o1": 18})
    cache.mark(0, 10, 12, {"order:o1": 11, "order:o2": 12})
    assert cache.places([0]) == {0: 18}
    assert not fill(cache, "order:o1", entry(b"read at 17", 17, 20))
    fill(cache, "order:o2", entry(b"read at 12", 12, 20, rests_on="order:o2"))
    cache.mark(0, 10, 12, {"order:o1": 11, "order:o2": 12})
    assert kept(cache, "order:o2") == b"read at 12"


def test_a_cache_that_is_behind_its_keeper_begins_anew(cache: Cache) -> None:
    fill(cache, "order:o1", entry(b"o1", 10, 20))
    cache.mark(0, 12, 14, {"order:o2": 13})
    assert kept(cache) is None, "nobody knows what happened at 11 and 12"
    assert cache.places(BOTH) == {0: 14, 1: 20}
    assert not fill(cache, "order:o1", entry(b"read at 13", 13, 20))
    assert fill(cache, "order:o1", entry(b"read at 14", 14, 20))


@pytest.mark.parametrize("head", [9, 11])
def test_a_cache_that_is_elsewhere_than_the_log_begins_anew(cache: Cache, head: int) -> None:
    fill(cache, "order:o1", entry(b"o1", 12, 20))
    cache.confirm(LogPosition(0, 10))
    assert kept(cache) == b"o1"
    cache.confirm(LogPosition(0, head))
    assert kept(cache) is None, "it may be that of another log"
    assert cache.places([0]) == {0: head}


def test_a_cache_that_forgot_everything_gives_nothing_until_its_keeper_speaks(cache: Cache) -> None:
    fill(cache, "order:o1", entry(b"o1", 10, 20))
    cache.forget([0])
    assert (cache.look("order:o1", BOTH).data, cache.look("order:o1", BOTH).places) == (None, {1: 20})
    assert not fill(cache, "order:o1", entry(b"o1", 30, 30))
    cache.mark(0, 10, 11, {})
    assert kept(cache) is None
    assert fill(cache, "order:o1", entry(b"o1", 11, 20))


@pytest.mark.parametrize("place", [10, 11])
def test_what_was_looked_for_before_the_cache_forgot_everything_is_refused(cache: Cache, place: int) -> None:
    """The tables that it was read from may have been repaired since, without an event."""
    before = cache.look("order:o1", BOTH)
    cache.forget([0])
    assert not cache.fill("order:o1", replace(entry(b"read before", 10, 20), lives=before.lives))
    between = cache.look("order:o1", BOTH)
    cache.confirm(LogPosition(0, place))
    for lives in (before.lives, between.lives, {}):
        assert not cache.fill("order:o1", replace(entry(b"read before", place, 20), lives=lives))
    assert kept(cache) is None
    assert fill(cache, "order:o1", entry(b"read after", place, 20))
    assert kept(cache) == b"read after"


def test_a_cache_forgets_its_place_if_its_keeper_falls_silent(make_cache: MakeCache) -> None:
    cache = make_cache(keeper_seconds=0.0)
    cache.confirm(LogPosition(0, 10))
    assert any(not cache.places([0]) for _ in range(1000)), "within a millisecond or so: Redis tells time by itself"
    assert not fill(cache, "order:o1", entry(b"o1", 10))


def test_with_the_oldest_marks_go_the_answers_from_before(make_cache: MakeCache) -> None:
    cache = make_cache(most_marks=10)
    cache.confirm(LogPosition(0, 0))
    fill(cache, "order:o1", entry(b"o1", 0))
    fill(cache, "order:o2", entry(b"o2", 90, rests_on="order:o2"))
    for n in range(1, 101):
        cache.mark(0, n - 1, n, {f"order:other-{n}": n})
        assert not fill(cache, f"order:other-{n}", entry(b"", n - 1, rests_on=f"order:other-{n}"))
    assert not fill(cache, "order:other-3", entry(b"", 2, rests_on="order:other-3")), "its mark is gone"
    assert cache.look("order:o1", [0]).data is None
    assert cache.places([0]) == {0: 100}
    assert fill(cache, "order:other-100", entry(b"new", 100, rests_on="order:other-100"))
    cache.mark(0, 100, 101, {})
    assert cache.look("order:other-100", [0]).data == b"new"


def test_many_things_are_marked_at_once(cache: Cache) -> None:
    touched = {f"order:o{n}": n for n in range(11, 5011)}
    cache.mark(0, 10, 5010, touched)
    assert not fill(cache, "order:o4000", entry(b"", 3999, 20, rests_on="order:o4000"))
    assert fill(cache, "order:o4000", entry(b"", 4000, 20, rests_on="order:o4000"))
