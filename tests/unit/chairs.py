"""What the tests of the domain build on: one product, RED-CHAIR, and short ways to say things about it."""

from datetime import date, timedelta

from allocation.domain.model import Batch, OrderLine, Product

TODAY = date(2031, 3, 1)
TOMORROW = TODAY + timedelta(days=1)
LATER = TODAY + timedelta(days=30)
SKU = "RED-CHAIR"


def product(*batches: Batch) -> Product:
    return Product(SKU, list(batches))


def line(orderid: str, qty: int, sku: str = SKU) -> OrderLine:
    return OrderLine(orderid, sku, qty)


def stocked(**quantities: int) -> Product:
    """A product made by commands alone, its events forgotten: `stocked(b1=10)`; all batches on hand."""
    made = product()
    for ref, qty in quantities.items():
        made.create_batch(ref, qty)
    made.events.clear()
    return made


def placements(product: Product) -> dict[str, str | None]:
    return {x.orderid: x.batchref for x in product.lines.values()}
