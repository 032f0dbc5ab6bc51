"""The connection breaks, at the worst moment: nothing doubled, nobody told wrongly."""

from collections.abc import Iterator

import pytest

from allocation.adapters.sql.appending import Appending
from allocation.adapters.sql.dialects import Step
from allocation.adapters.sql.unit_of_work import SqlUnitOfWork
from allocation.bootstrap import Application
from allocation.domain.commands import Allocate, CreateBatch
from allocation.service_layer.answers import Answer, Promise
from allocation.service_layer.errors import ConnectionLost, OutcomeUnknown, Unavailable
from tests.integration.conftest import Start
from tests.servers.proxy import PostgresProxy

CHAIR = "RED-CHAIR"


@pytest.fixture
def shop(start: Start, postgres_proxy: PostgresProxy) -> Application:
    """An application behind the proxy, with ten chairs on hand."""
    application = start(postgres_proxy.url)
    application.bus.handle(CreateBatch("b1", CHAIR, 10))
    return application


def allocate(shop: Application, orderid: str, message_id: str | None = None) -> Answer:
    return shop.bus.ask(shop.bus.envelope(Allocate(orderid, CHAIR, 2), message_id))


def allocated_events(shop: Application) -> list[str]:
    feed = shop.views.events((), 1000).events
    assert [e.version for e in feed] == list(range(1, len(feed) + 1))
    assert [e.position.seq for e in feed] == list(range(1, len(feed) + 1))
    return [e.event.orderid for e in feed if type(e.event).__name__ == "Allocated"]


def free(shop: Application) -> int:
    product = shop.views.product(CHAIR)
    assert product is not None
    return product.available_now


def test_a_commit_whose_reply_was_lost_is_looked_up_and_answered_as_done(
    shop: Application, postgres_proxy: PostgresProxy
) -> None:
    postgres_proxy.lose_reply_of_next_commit()
    answer = allocate(shop, "o1")
    assert answer.unwrap() == Promise("o1", CHAIR, 2, "allocated", "b1", None)
    assert answer.changed
    assert allocated_events(shop) == ["o1"]
    assert answer.position == shop.views.events((), 1000).events[-1].position
    assert free(shop) == 8


def test_a_commit_that_never_arrived_is_done_again(shop: Application, postgres_proxy: PostgresProxy) -> None:
    postgres_proxy.lose_next_commit()
    assert allocate(shop, "o1").changed
    assert allocated_events(shop) == ["o1"]
    assert free(shop) == 8


def test_a_connection_lost_while_it_writes_needs_no_asking(shop: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are made while others are under way: what is lost before COMMIT was asked for has not been committed."""
    original, losses, asked = Appending.steps, iter([ConnectionLost("cut")]), []

    def losing(self: Appending) -> Iterator[Step]:
        if (loss := next(losses, None)) is not None:
            raise loss
        return original(self)

    monkeypatch.setattr(Appending, "steps", losing)
    monkeypatch.setattr(SqlUnitOfWork, "_heads_if_committed", lambda *about: asked.append(about))
    assert allocate(shop, "o1").changed
    assert asked == []
    assert allocated_events(shop) == ["o1"]
    assert free(shop) == 8


def test_a_refusal_under_an_id_survives_a_lost_reply(shop: Application, postgres_proxy: PostgresProxy) -> None:
    postgres_proxy.lose_reply_of_next_commit()
    twice = [shop.bus.ask(shop.bus.envelope(Allocate("o1", "NO-SUCH-SKU", 1), "key-1")) for _ in range(2)]
    assert [str(answer.error) for answer in twice] == ["Invalid sku NO-SUCH-SKU"] * 2
    assert twice[1].repeated


def test_a_connection_lost_before_the_commit_is_replaced_unnoticed(
    shop: Application, postgres_proxy: PostgresProxy
) -> None:
    postgres_proxy.cut_all()
    assert allocate(shop, "o1").changed
    assert allocated_events(shop) == ["o1"]


def test_a_database_that_is_gone_is_told_as_unavailable_and_welcome_back(
    shop: Application, postgres_proxy: PostgresProxy
) -> None:
    postgres_proxy.refuse()
    with pytest.raises(Unavailable):
        allocate(shop, "o1")
    with pytest.raises(Unavailable):
        shop.views.order("o1")
    postgres_proxy.accept()
    assert allocate(shop, "o1").changed
    assert allocated_events(shop) == ["o1"]


def test_when_the_database_stays_away_after_the_commit_the_caller_hears_that_nobody_knows(
    start: Start, postgres_proxy: PostgresProxy
) -> None:
    shop = start(postgres_proxy.url, commit_patience_seconds=0.2)
    shop.bus.handle(CreateBatch("b1", CHAIR, 10))
    postgres_proxy.lose_reply_of_next_commit()
    postgres_proxy.refuse_new()
    with pytest.raises(OutcomeUnknown):
        allocate(shop, "o1", "key-1")
    postgres_proxy.accept()
    again = allocate(shop, "o1", "key-1")
    assert again.repeated
    assert again.unwrap() == Promise("o1", CHAIR, 2, "allocated", "b1", None)
    assert allocated_events(shop) == ["o1"]
