"""The past from a snapshot that left out the lines on batches: those that come off a batch behind it have their age."""

import pytest

from allocation.bootstrap import Application, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, Command, CreateBatch, Deallocate
from allocation.domain.errors import CorruptLog
from allocation.domain.events import Allocated, BatchCreated
from allocation.service_layer import handlers
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.history import as_of
from allocation.service_layer.history.snapshots import Replay
from allocation.service_layer.read_models import ReadModels
from allocation.service_layer.subscriptions import Settlement
from allocation.views import PastViews
from tests.ledger import Ledger

CHAIR = "RED-CHAIR"
BEGINNING = [CreateBatch("b1", CHAIR, 9), *(Allocate(f"o{n}", CHAIR, 3) for n in (1, 2, 3))]
ALL_GIVE_WAY = ChangeBatchQuantity("b1", 0)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Application:
    """Three lines on a batch; a snapshot, that knows none of them, is kept of the fourth version and of no other."""
    monkeypatch.setattr(handlers, "EVERY", 4)
    app = bootstrap(Settings(database_url="memory:"))
    for command in BEGINNING:
        app.bus.handle(command)
    page, read_models = app.subscriptions.read(0, 0, 9), ReadModels()
    handlers.keep_snapshots(page, app.history, read_models)
    app.subscriptions.join("keep_snapshots", from_the_beginning=True)
    lease = app.subscriptions.lease("keep_snapshots", 0, "test", 60)
    assert lease is not None
    app.subscriptions.settle(lease, Settlement(4, read_models=read_models), 60)
    return app


def waiting(app: Application, seq: int) -> list[str]:
    """Who waited then, the oldest first; as the ledger has it, too."""
    product, ledger = PastViews(app.history, LogPosition(0, seq)).product(CHAIR), Ledger()
    for logged in app.subscriptions.read(0, 0, seq):
        ledger.step(logged)
    assert product is not None
    assert product == ledger.product(CHAIR)
    return [line.orderid for line in product.waiting]


def live(app: Application, *commands: Command) -> int:
    """Answers the place of the log that this led to."""
    for command in commands:
        app.bus.handle(command)
    return app.history.now().heads[0]


def folds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The products that are folded from their first event."""
    folded: list[str] = []
    original = as_of._product_until

    def noted(history: object, sku: str, until: int) -> object:
        folded.append(sku)
        return original(history, sku, until)  # type: ignore[arg-type]  # handed on as it came

    monkeypatch.setattr(as_of, "_product_until", noted)
    return folded


def test_lines_that_come_off_a_batch_wait_in_the_order_of_their_age(
    shop: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = folds(monkeypatch)
    then = live(shop, Allocate("w", CHAIR, 50), ALL_GIVE_WAY)
    assert waiting(shop, then) == ["o1", "o2", "o3", "w"]
    assert folded == [], "the present knows how old they are"


def test_a_line_that_is_cancelled_by_now_has_its_age_from_the_log(
    shop: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = live(shop, Allocate("w", CHAIR, 50), ALL_GIVE_WAY)
    live(shop, Deallocate("o2", CHAIR))
    folded = folds(monkeypatch)
    assert waiting(shop, then) == ["o1", "o2", "o3", "w"]
    assert folded == [CHAIR]


def test_a_line_that_came_again_is_not_taken_for_the_one_before(
    shop: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    then = live(shop, Allocate("w", CHAIR, 50), ALL_GIVE_WAY)
    live(shop, Deallocate("o1", CHAIR), Allocate("o1", CHAIR, 3))
    folded = folds(monkeypatch)
    assert waiting(shop, then) == ["o1", "o2", "o3", "w"]
    assert folded == [CHAIR]


def test_a_line_that_left_its_batch_and_is_on_another_needs_no_age(
    shop: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = folds(monkeypatch)
    then = live(shop, CreateBatch("b2", CHAIR, 9), ALL_GIVE_WAY, Deallocate("o3", CHAIR))
    assert waiting(shop, then) == []
    assert folded == []


def test_a_gap_in_the_log_is_not_passed_over() -> None:
    replay = Replay(CHAIR)
    with pytest.raises(CorruptLog, match="no event for version 2"):
        replay.take([(BatchCreated("b1", CHAIR, 9), 1, 1), (Allocated("o1", CHAIR, 3, "b1"), 3, 3)])
