"""The memory image answers as the database does, is kept current, and goes on when the database is gone."""

import gc
import random
import threading
from collections.abc import Iterator
from datetime import date

import pytest

from allocation.adapters.memory_image import Follower, MemoryImage
from allocation.bootstrap import Application, bootstrap, memory_image
from allocation.config import Settings
from allocation.domain.commands import (
    Allocate,
    ChangeBatchEta,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
    IfShort,
)
from allocation.service_layer.envelope import EventEnvelope
from allocation.service_layer.errors import Unavailable, UnknownPosition
from allocation.service_layer.history.ports import Cut
from allocation.service_layer.history.what_if import products_named
from allocation.views import StateViews
from tests.integration.conftest import Start

SKUS = [f"CHAIR-{n}" for n in range(5)]
ORDERS = [f"order-{n}" for n in range(30)]


def some(seed: int, count: int = 120) -> Iterator[Command]:
    """A few days of a shop: stock comes, comes late and comes short; orders come, wait and go."""
    dice = random.Random(seed)
    for n in range(count):
        sku = dice.choice(SKUS)
        ref = f"{sku}-{dice.randrange(4)}"
        eta = dice.choice([None, date(2031, 5, 1), date(2031, 6, 1)])
        yield dice.choice(
            [
                CreateBatch(f"{sku}-{n % 4}", sku, dice.randint(1, 20), eta),
                Allocate(dice.choice(ORDERS), sku, dice.randint(1, 6)),
                Allocate(dice.choice(ORDERS), sku, dice.randint(1, 6)),
                Deallocate(dice.choice(ORDERS), sku),
                ChangeBatchQuantity(ref, dice.randint(0, 20)),
                ChangeBatchEta(ref, eta),
            ]
        )


def live(application: Application, seed: int) -> None:
    application.bus.handle_many([application.bus.envelope(command) for command in some(seed)])


def everything(views: StateViews) -> list[object]:
    return [
        [views.product(sku) for sku in SKUS],
        [views.order(orderid) for orderid in ORDERS],
        [views.line(orderid, sku) for orderid in ORDERS for sku in SKUS],
        [views.batch(f"{sku}-{n}") for sku in SKUS for n in range(5)],
    ]


def test_the_image_answers_as_the_database_and_is_kept_current(application: Application) -> None:
    live(application, 1)
    image = memory_image(application)
    assert everything(image.views) == everything(application.views)
    assert image.cut == application.history.now()
    for seed in (2, 3):
        live(application, seed)
        before = sum(image.cut.heads)
        assert image.catch_up() == sum(application.history.now().heads) - before > 0
        assert everything(image.views) == everything(application.views)
    assert image.catch_up() == 0


def test_an_image_of_several_partitions_and_of_an_empty_log(start: Start, empty_database_url: str) -> None:
    application = start(empty_database_url, log_partitions=3)
    image = memory_image(application)
    assert image.cut == Cut((0, 0, 0))
    assert image.views.product(SKUS[0]) is None
    live(application, 4)
    image.catch_up()
    assert everything(image.views) == everything(application.views) == everything(memory_image(application).views)


def test_without_its_database_it_goes_on_answering_questions_and_what_ifs(application: Application) -> None:
    live(application, 5)
    image, commands = memory_image(application), list(some(6, 20))
    expected = application.what_if.of(products_named(application.history, commands, image.cut), commands)
    was = everything(application.views)
    application.close()
    gone: list[object] = []

    class Gone:
        def __getattr__(self, name: str) -> object:
            gone.append(name)
            raise Unavailable("the database is gone")

    image._history = Gone()  # type: ignore[assignment]  # a database that cannot be reached
    for _ in range(2):
        assert everything(image.views) == was
        told = application.what_if.of(image.products_named(commands), commands)
        assert told.changes == expected.changes
        assert [str(a.error) for _, a in told.answers] == [str(a.error) for _, a in expected.answers]
        with pytest.raises(Unavailable):
            image.catch_up()
    assert gone == ["now", "now"]


def test_a_what_if_leaves_the_image_as_it_was(application: Application) -> None:
    live(application, 7)
    image = memory_image(application)
    was = everything(image.views)
    told = application.what_if.of(image.products_named(list(some(8))), list(some(8)))
    assert told.changes
    assert everything(image.views) == was == everything(application.views)


def test_a_follower_keeps_it_current_and_outlives_a_database_that_is_away(application: Application) -> None:
    image, caught_up, away = memory_image(application), threading.Event(), threading.Event()
    really = image.catch_up

    def catch_up() -> int:
        if not away.is_set():
            away.set()
            raise Unavailable("away for a moment")
        found = really()
        if found:
            caught_up.set()
        return found

    image.catch_up = catch_up  # type: ignore[method-assign]  # to see when it has read
    follower = Follower(image)
    follower.start()
    assert away.wait(10)
    live(application, 9)
    follower.wake()
    assert caught_up.wait(10)
    follower.stop()
    image.catch_up = really  # type: ignore[method-assign]  # as it was
    image.catch_up()
    assert everything(image.views) == everything(application.views)


def test_a_log_that_was_restored_is_not_followed(application: Application, caplog: pytest.LogCaptureFixture) -> None:
    """The image holds what is gone; the places behind it are given anew, to other events."""
    live(application, 9)
    image = memory_image(application)
    was, cut = everything(image.views), image.cut
    application.close()
    shorter = bootstrap(Settings(database_url="memory:"))
    shorter.bus.handle(CreateBatch("b", SKUS[0], 5))
    image._history = shorter.history
    with pytest.raises(UnknownPosition):
        image.catch_up()
    assert (everything(image.views), image.cut) == (was, cut)
    follower = Follower(image)
    follower.start()
    follower.join(10)
    assert "must be loaded again: The log has no position 0-" in caplog.text


def test_readers_see_all_of_a_commit_or_nothing(application: Application) -> None:
    """While events are taken in, nobody reads: a batch that came short is never seen before those who give way."""
    application.bus.handle(CreateBatch("b", SKUS[0], 20))
    application.bus.handle_many([application.bus.envelope(Allocate(f"o{n}", SKUS[0], 1)) for n in range(20)])
    image = memory_image(application)
    application.bus.handle(ChangeBatchQuantity("b", 1))
    versions: list[int] = []
    fold = image._fold

    def seen_from_elsewhere(facts: list[tuple[object, int, int]]) -> None:
        reader = threading.Thread(target=lambda: versions.append(image.views.product(SKUS[0]).version))  # type: ignore[union-attr]  # it is there
        reader.start()
        for fact in facts:
            fold([fact])  # type: ignore[list-item]  # a fact
        assert versions == [], "it waits"
        readers.append(reader)

    readers: list[threading.Thread] = []
    image._fold = seen_from_elsewhere  # type: ignore[method-assign,assignment]  # to look in the middle of it
    image.catch_up()
    readers[0].join(10)
    assert versions == [21 + 19 + 1 + 19]


def test_the_collector_is_as_it_was_after_loading(application: Application) -> None:
    assert gc.isenabled()
    memory_image(application)
    assert gc.isenabled()
    gc.disable()
    try:
        memory_image(application)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_is_imagined_begins_where_the_image_stands(application: Application) -> None:
    application.bus.handle(CreateBatch("b", SKUS[0], 5))
    application.bus.handle(Allocate("o1", SKUS[0], 5))
    image = memory_image(application)
    command = Allocate("o2", SKUS[0], 1, IfShort.WAIT)
    [changed] = application.what_if.of(image.products_named([command]), [command]).changes
    assert (changed.kind, changed.orderid) == ("new, and waits", "o2")
    assert isinstance(image, MemoryImage)
    assert not any(isinstance(x, EventEnvelope) for x in image._store.log[0]), "it keeps no log"
