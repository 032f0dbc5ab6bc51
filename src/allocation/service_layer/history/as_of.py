"""How things stood at any cut through the log: a product, an order line, the whole shop."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from allocation.domain.errors import CorruptLog
from allocation.domain.model import Product
from allocation.service_layer.answers import Promise, promise_of
from allocation.service_layer.envelope import LogPosition
from allocation.service_layer.history.ports import Cut, History
from allocation.service_layer.history.snapshots import Replay, Snapshot, snapshot_of


def product_at(history: History, sku: str, cut: Cut) -> Product | None:
    """The complete product, folded from its first event; None: it had no batch yet."""
    return _product_until(history, sku, cut.of(sku))


def _product_until(history: History, sku: str, until: int) -> Product | None:
    replay = Replay(sku)
    replay.take(history.facts_of(sku, 0, until))
    return replay.product if replay.product.version_number else None


def stock_at(history: History, sku: str, cut: Cut) -> Product | None:
    """The product's batches and waiting lines; lines on batches may be missing. A long past costs no more than a short
    one."""
    return _stock_until(history, sku, cut.of(sku))


def snapshot_at(history: History, sku: str, position: LogPosition) -> Snapshot:
    """The product as its event at `position` left it. Raises `CorruptLog` if it had none."""
    product = _stock_until(history, sku, position.seq)
    if product is None:
        raise CorruptLog(f"{sku} has no event up to {position}")
    return snapshot_of(product, position)


def _stock_until(history: History, sku: str, until: int) -> Product | None:
    snapshot = history.snapshot(sku, until)
    if snapshot is None:
        return _product_until(history, sku, until)
    replay = Replay(sku, snapshot)
    replay.take(history.facts_of(sku, snapshot.version, until))
    if unknown := replay.of_unknown_age():
        ages = history.since(sku, [line.orderid for line in unknown])
        for line in unknown:
            since = ages.get(line.orderid)
            if since is None or not replay.is_of_age(since):
                return _product_until(history, sku, until)  # it has been cancelled since: only the log has its age
            line.since = since
    return replay.product


def line_at(history: History, orderid: str, sku: str, cut: Cut) -> Promise | None:
    """Where an order line stood; None: the order had no line of this sku."""
    product = product_at(history, sku, cut)
    return promise_of(product, orderid) if product is not None and orderid in product.lines else None


def order_at(history: History, orderid: str, cut: Cut) -> list[Promise]:
    """Where the lines of an order stood, by sku; empty: there was no such order."""
    lines = [line_at(history, orderid, sku, cut) for sku in history.skus_of_order(orderid)]
    return [line for line in lines if line is not None]


def shop_at(history: History, cut: Cut, after: str = "") -> Iterator[Product]:
    """Every product after a sku that had a batch then: complete, in order of skus, one at a time in memory."""
    for sku, facts in groupby(history.facts_by_product(after, cut), key=lambda fact: fact[0].sku):
        replay = Replay(sku)
        replay.take(facts)
        yield replay.product
