"""What other programs are told: every event as it stands in the log, and stock levels."""

from __future__ import annotations

from allocation.service_layer.broker import Message
from allocation.service_layer.envelope import EventEnvelope
from allocation.service_layer.read_models import StockLevel

TYPE_PREFIX = "allocation."


def fact_of(logged: EventEnvelope) -> Message:
    """An event, with what a consumer needs to drop duplicates, to see that it missed one, and to find the cause."""
    return Message(
        logged.id,
        TYPE_PREFIX + type(logged.event).__name__,
        logged.key,
        logged.time,
        logged.event,
        logged.version,
        _extensions(logged) | {"schemaversion": logged.schema_version},
    )


def level_message(level: StockLevel, logged: EventEnvelope) -> Message:
    """A stock level, told because of an event; its id is the same for the same version of the product."""
    data = {"sku": level.sku, "version": level.version, "available": level.available}
    extensions = _extensions(logged) | {"schemaversion": 1}
    return Message(
        f"stock-level:{level.sku}:{level.version}",
        f"{TYPE_PREFIX}StockLevel",
        level.sku,
        logged.time,
        data,
        level.version,
        extensions,
    )


def _extensions(logged: EventEnvelope) -> dict[str, str | int]:
    """Attributes beyond those of CloudEvents 1.0; `sequence` is the documented extension of that name."""
    found: dict[str, str | int | None] = {
        "partition": logged.position.partition,
        "sequence": f"{logged.position.seq:020d}",
        "correlationid": logged.correlation_id,
        "causationid": logged.causation_id,
        "traceparent": logged.traceparent,
    }
    return {name: value for name, value in found.items() if value is not None}
