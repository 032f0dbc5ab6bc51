"""One small function for each command, and one for each reaction.

A command's handler gets an open unit of work and never commits it: the bus does that. A reaction gets the event as the
log holds it (`logged`), or a page of them in order (`page`), after the commit, at least once. One that records in
`read_models` is a projection: its effect happens once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any, get_args

from allocation.domain import commands, events
from allocation.domain.errors import BatchExists, InvalidSku, UnknownBatch, UnknownOrderLine
from allocation.domain.events import Event
from allocation.domain.model import OrderLine, Product
from allocation.service_layer.answers import BatchState, Promise, promise_of, state_of
from allocation.service_layer.broker import FACTS, STOCK_LEVEL, Publisher
from allocation.service_layer.cache import Cache, touched_by, unbroken
from allocation.service_layer.envelope import EventEnvelope, LogPosition, message_of
from allocation.service_layer.facts import fact_of, level_message
from allocation.service_layer.history.as_of import snapshot_at
from allocation.service_layer.history.ports import History
from allocation.service_layer.history.snapshots import EVERY
from allocation.service_layer.ports import Channel, Notifications
from allocation.service_layer.read_models import ReadModels, Stock, movements_of
from allocation.service_layer.unit_of_work import UnitOfWork


def create_batch(cmd: commands.CreateBatch, uow: UnitOfWork) -> BatchState:
    commands.require_ids(cmd.ref, cmd.sku)
    if uow.products.sku_of(cmd.ref) not in (None, cmd.sku):
        raise BatchExists(cmd.ref)
    known = uow.products.get(cmd.sku)
    product = known or Product(cmd.sku)
    batch = product.create_batch(cmd.ref, cmd.qty, cmd.eta)
    if known is None:  # only now: after a refusal, the rest of the group must not find a product without stock
        uow.products.add(product)
    return state_of(product, batch)


def change_batch_quantity(cmd: commands.ChangeBatchQuantity, uow: UnitOfWork) -> BatchState:
    product = _product_of(cmd.ref, cmd.if_version, uow)
    product.change_batch_quantity(cmd.ref, cmd.qty)
    return _batch_state(product, cmd.ref)


def change_batch_eta(cmd: commands.ChangeBatchEta, uow: UnitOfWork) -> BatchState:
    product = _product_of(cmd.ref, cmd.if_version, uow)
    product.change_batch_eta(cmd.ref, cmd.eta)
    return _batch_state(product, cmd.ref)


def change_batch(cmd: commands.ChangeBatch, uow: UnitOfWork) -> BatchState:
    product = _product_of(cmd.ref, cmd.if_version, uow)
    product.change_batch(cmd.ref, cmd.qty, cmd.eta)
    return _batch_state(product, cmd.ref)


def allocate(cmd: commands.Allocate, uow: UnitOfWork) -> Promise:
    commands.require_ids(cmd.orderid, cmd.sku)
    product = uow.products.get(cmd.sku)
    if product is None:
        raise InvalidSku(cmd.sku)
    line = OrderLine(cmd.orderid, cmd.sku, cmd.qty)
    product.allocate(line, wait=cmd.if_short == commands.IfShort.WAIT)
    return promise_of(product, cmd.orderid)


def deallocate(cmd: commands.Deallocate, uow: UnitOfWork) -> None:
    commands.require_ids(cmd.orderid, cmd.sku)
    product = uow.products.get(cmd.sku)
    if product is None:
        raise UnknownOrderLine(cmd.orderid, cmd.sku)
    product.deallocate(cmd.orderid)


def _product_of(ref: str, if_version: int | None, uow: UnitOfWork) -> Product:
    commands.require_ids(ref)
    product = uow.products.get_by_batchref(ref)
    if product is None:
        raise UnknownBatch(ref)
    if if_version is not None:
        product.require_version(if_version)
    return product


def _batch_state(product: Product, ref: str) -> BatchState:
    batch = product.batches.get(ref)
    if batch is None:
        raise UnknownBatch(ref)
    return state_of(product, batch)


COMMAND_HANDLERS: dict[type, Callable[..., Any]] = {
    commands.CreateBatch: create_batch,
    commands.ChangeBatchQuantity: change_batch_quantity,
    commands.ChangeBatchEta: change_batch_eta,
    commands.ChangeBatch: change_batch,
    commands.Allocate: allocate,
    commands.Deallocate: deallocate,
}


def publish_allocated_event(logged: EventEnvelope, channel: Channel) -> None:
    """Tell other programs which batch an order line was promised from."""
    channel.publish("line_allocated", message_of(logged))


def send_out_of_stock_notification(logged: EventEnvelope, notifications: Notifications, stock_mail: str) -> None:
    """Tell the buyers that somebody waits for this product."""
    notifications.send(
        stock_mail,
        f"Out of stock: {logged.key}",
        f"An order line is waiting for {logged.key}: no batch has enough left.\n\n"
        f"This happened at {logged.time:%Y-%m-%d %H:%M:%S} UTC, as version {logged.version} of this product.\n"
        f"To see who waits: allocation stock {logged.key}\n",
        message_id=logged.id,
    )


def publish_facts(page: Sequence[EventEnvelope], publisher: Publisher) -> Sequence[Exception | None]:
    """Tell other programs everything that happens, unfiltered: event notification."""
    return publisher.publish(FACTS, [fact_of(logged) for logged in page])


def publish_stock_levels(
    page: Sequence[EventEnvelope], stock: Stock, publisher: Publisher
) -> Sequence[Exception | None]:
    """Tell other programs what is free of each sku that changed: event-carried state transfer, only the latest
    level."""
    last = {logged.key: logged for logged in page}
    messages = [
        level_message(level, last[level.sku])
        for level in stock.levels({key: logged.position for key, logged in last.items()})
    ]
    told = {m.key: outcome for m, outcome in zip(messages, publisher.publish(STOCK_LEVEL, messages), strict=True)}
    return [told.get(logged.key) for logged in page]


def project_stock_levels(page: Sequence[EventEnvelope], stock: Stock, read_models: ReadModels) -> None:
    """Keep `GET /v1/stock` current: what is free of each sku, in the order in which it last changed."""
    for level in stock.levels({logged.key: logged.position for logged in page}):
        read_models.put_stock_level(level)


def count_movements(page: Sequence[EventEnvelope], read_models: ReadModels) -> None:
    """Count what moved on each day: an event must not be counted twice, so this needs the cursor's transaction."""
    for logged in page:
        moved = movements_of(logged.event)
        if moved is not None:
            read_models.add_movements(logged.key, logged.time.astimezone(UTC).date(), moved)


def keep_cache(page: Sequence[EventEnvelope], cache: Cache) -> None:
    """Tell the cache what was touched, and how far that goes: both in one call."""
    for events_in_turn in unbroken(page):
        touched = {thing: e.position.seq for e in events_in_turn for thing in touched_by(e.event)}
        first, last = events_in_turn[0].position, events_in_turn[-1].position
        cache.mark(first.partition, first.seq - 1, last.seq, touched)


def confirm_cache(position: LogPosition, cache: Cache) -> None:
    """Tell an idle cache where the head of the log is, so that it notices if it has lost something."""
    cache.confirm(position)


def keep_snapshots(page: Sequence[EventEnvelope], history: History, read_models: ReadModels) -> None:
    """Every thousand versions of a product, keep how it stood: later questions about its past start from there."""
    for logged in page:
        if logged.version % EVERY == 0:
            read_models.keep_snapshot(snapshot_at(history, logged.key, logged.position))


OF_EVERY_EVENT: list[Callable[..., Any]] = [
    project_stock_levels,
    count_movements,
    keep_snapshots,
    publish_facts,
    publish_stock_levels,
    keep_cache,
]

OF_ONE_EVENT: dict[type[Event], list[Callable[..., Any]]] = {
    events.Allocated: [publish_allocated_event],
    events.OutOfStock: [send_out_of_stock_notification],
}

EVENT_HANDLERS: dict[type[Event], list[Callable[..., Any]]] = {
    event: [*OF_ONE_EVENT.get(event, []), *OF_EVERY_EVENT] for event in get_args(Event)
}
"""Each handler is one subscription with the handler's name (see `subscriptions`)."""

WHEN_IDLE: dict[Callable[..., Any], Callable[..., Any]] = {keep_cache: confirm_cache}
"""For some handlers: what their subscription does whenever it is at the head of the log."""
