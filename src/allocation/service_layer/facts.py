"""What other programs get: every event as it stands in the log, and stock levels."""

from __future__ import annotations

from allocation.service_layer.broker import Message
from allocation.service_layer.envelope import EventEnvelope
from allocation.service_layer.read_models import StockLevel

TYPE_PREFIX = "allocation."


def fact_of(logged: EventEnvelope) -> Message:
    """An event, with what a consumer needs to drop duplicates, to notice that it missed one, and to find the cause."""
    return Message(
        logged.id,
        TYPE_PREFIX + type(logged.event).__name__,
        logged.key,
        logged.time,
        logged.event,
        logged.version,
        _extensions(logged, logged.schema_version, logged.version),
    )


def level_message(level: StockLevel, logged: EventEnvelope) -> Message:
    """A stock level, sent because of an event; its id is the same for the same version of the product."""
    data = {"sku": level.sku, "version": level.version, "available": level.available}
    return Message(
        f"stock-level:{level.sku}:{level.version}",
        f"{TYPE_PREFIX}StockLevel",
        level.sku,
        logged.time,
        data,
        level.version,
        _extensions(logged, 1, level.version),
    )


def _extensions(logged: EventEnvelope, schema_version: int, version: int) -> dict[str, str | int]:
    """Attributes beyond those of CloudEvents 1.0; `sequence` is the documented extension of that name."""
    found: dict[str, str | int] = {
        "schemaversion": schema_version,
        "partition": logged.position.partition,
        "sequence": f"{logged.position.seq:020d}",
        "productversion": version,
        "correlationid": logged.correlation_id,
    }
    if logged.causation_id is not None:
        found["causationid"] = logged.causation_id
    if logged.traceparent is not None:
        found["traceparent"] = logged.traceparent
    return found
