"""The oracle of the real year is only worth something if it is right: it and the domain decide alike."""

import re
from datetime import date
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from allocation.domain.commands import (
    Allocate,
    ChangeBatchEta,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Deallocate,
)
from allocation.domain.model import OrderLine, Product
from benchmarks import oracle as oracle_module
from benchmarks.oracle import Oracle

SKUS = ("RED-CHAIR", "SMALL-TABLE")
REFS = tuple(f"batch-{n}" for n in range(4))
ORDERS = tuple(f"order-{n}" for n in range(6))

etas = st.sampled_from([None, date(2030, 1, 1), date(2030, 1, 2), date(2030, 2, 1)])
commands = st.lists(
    st.one_of(
        st.builds(CreateBatch, st.sampled_from(REFS), st.sampled_from(SKUS), st.integers(6, 20), etas),
        st.builds(Allocate, st.sampled_from(ORDERS), st.sampled_from(SKUS), st.integers(1, 9)),
        st.builds(Allocate, st.sampled_from(ORDERS), st.sampled_from(SKUS), st.integers(1, 9)),
        st.builds(Deallocate, st.sampled_from(ORDERS), st.sampled_from(SKUS)),
        st.builds(ChangeBatchQuantity, st.sampled_from(REFS), st.integers(0, 20)),
        st.builds(ChangeBatchEta, st.sampled_from(REFS), etas),
    ),
    min_size=15,
    max_size=60,
)


@given(commands)
@settings(max_examples=150, deadline=None)
def test_the_oracle_places_every_line_as_the_domain_does(script: list[Command]) -> None:
    products = {sku: Product(sku) for sku in SKUS}
    oracle = Oracle()
    owners: dict[str, str] = {}
    for command in script:
        obey(command, products, oracle, owners)
        for sku, product in products.items():
            by_age = sorted(product.lines.values(), key=lambda line: line.since)
            assert [(x.orderid, x.qty, x.batchref) for x in by_age] == [
                (orderid, qty, ref) for orderid, (qty, ref) in oracle.lines[sku].items()
            ]
            assert {b.reference: b.allocated_quantity for b in product.batches} == {
                ref: taken for ref, (_, _, taken) in oracle.batches[sku].items()
            }


def obey(command: Command, products: dict[str, Product], oracle: Oracle, owners: dict[str, str]) -> None:
    """Have both do it, unless the domain would refuse: the real year has no refusals."""
    match command:
        case CreateBatch(ref, sku, qty, eta) if ref not in owners:
            owners[ref] = sku
            products[sku].create_batch(ref, qty, eta)
            oracle.create_batch(ref, sku, qty, eta.isoformat() if eta else None)
        case Allocate(orderid, sku, qty) if known_with_quantity(products[sku], orderid) in (None, qty):
            products[sku].allocate(OrderLine(orderid, sku, qty))
            oracle.allocate(orderid, sku, qty)
        case Deallocate(orderid, sku) if orderid in products[sku].lines:
            products[sku].deallocate(orderid)
            oracle.deallocate(orderid, sku)
        case ChangeBatchQuantity(ref, qty) if ref in owners:
            products[owners[ref]].change_batch_quantity(ref, qty)
            oracle.change_quantity(ref, qty)
        case ChangeBatchEta(ref, eta) if ref in owners:
            products[owners[ref]].change_batch_eta(ref, eta)
            oracle.change_eta(ref, eta.isoformat() if eta else None)


def known_with_quantity(product: Product, orderid: str) -> int | None:
    line = product.lines.get(orderid)
    return line.qty if line else None


def test_the_oracle_is_at_most_sixty_lines_and_shares_no_code_with_the_service() -> None:
    text = Path(oracle_module.__file__).read_text()
    assert len(text.splitlines()) <= 60
    assert re.findall(r"^ *(?:import|from) .*", text, re.MULTILINE) == ["from collections import defaultdict"]
