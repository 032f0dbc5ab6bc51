"""How fast a compiled filter is worked out, beside a hand-written function that says the same, NULL and all."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from allocation.bootstrap import rule_parser
from allocation.domain.events import Allocated
from allocation.service_layer.envelope import EventEnvelope, LogPosition
from allocation.service_layer.facts import fact_of
from allocation.service_layer.rules.of_messages import properties_of
from allocation.service_layer.rules.rule import Rule, apply_rules
from allocation.service_layer.rules.values import Properties, Truth
from benchmarks.measure import Table, median, spread_of, take_turns

FILTER = (
    "type = 'Allocated' AND sku LIKE 'RED-%' AND qty >= 10 "
    "AND batchref IN ('batch-1', 'batch-2') AND (region <> 'south' OR version > 0)"
)
ACTION = "SET size = 'large'; SET qty = qty * 2; REMOVE batchref"
AIM_PER_SECOND = 100_000

EVENT = EventEnvelope(
    Allocated("order-1", "RED-CHAIR", 12, "batch-2"),
    "019f3c2b5d0a7c3e8f1b2a4d6c8e0f12",
    datetime(2031, 4, 1, 9, 30, tzinfo=UTC),
    LogPosition(0, 2),
    2,
    "019f3c2b5d0971d2a3b4c5d6e7f80912",
    None,
)


@dataclass(frozen=True, slots=True)
class Size:
    rounds: int = 5
    evaluations: int = 200_000


def tables(size: Size) -> list[Table]:
    """Runs everything; answers one table."""
    parser, less, few = rule_parser(), size.evaluations // 10, size.evaluations // 200
    filter, properties = parser.filter(FILTER), properties_of(fact_of(EVENT))
    rules = [Rule("plain", filter), Rule("large", filter, parser.action(ACTION))]
    if filter(properties) is not by_hand(properties):
        raise RuntimeError("rules: the filter and the hand-written function differ")
    per_second: dict[str, Callable[[int], float]] = {
        "filter": lambda _: _rate(size.evaluations, lambda: filter(properties)),
        "the same by hand": lambda _: _rate(size.evaluations, lambda: by_hand(properties)),
        "event to properties": lambda _: _rate(less, lambda: properties_of(fact_of(EVENT))),
        "two rules, one with an action": lambda _: _rate(
            size.evaluations // 10, lambda: apply_rules(rules, properties)
        ),
        "filter, from its text": lambda _: _rate(few, lambda: parser.filter(FILTER)),
    }
    samples = take_turns(per_second, size.rounds, "rules")
    hand = median(samples["the same by hand"])
    rows: list[list[str | float | int | None]] = [
        [name, median(rates), spread_of(rates), median(rates) / hand if name == "filter" else None]
        for name, rates in samples.items()
    ]
    header = ["rules, one thread", "per second", "lowest to highest", "of by hand"]
    notes = [
        f"The filter: `{FILTER}`, on an event that has no region; every term is evaluated. {size.evaluations:,} times "
        f"a round, slower ones fewer times; {size.rounds} rounds, alternating; medians.",
        f"Aim: {AIM_PER_SECOND:,} filters a second.",
    ]
    return [Table("rules", "Rules", header, rows, notes)]


def by_hand(properties: Properties) -> Truth:
    """`FILTER` as somebody would write it who needs no other."""
    user = properties.user
    name, sku, qty, ref = (user.get(x) for x in ("type", "sku", "qty", "batchref"))
    region, version = user.get("region"), user.get("version")
    terms: tuple[Truth, ...] = (
        name == "Allocated" if isinstance(name, str) else None,
        sku.startswith("RED-") if isinstance(sku, str) else None,
        qty >= 10 if isinstance(qty, int) else None,
        ref in ("batch-1", "batch-2") if isinstance(ref, str) else None,
        True
        if (isinstance(region, str) and region != "south") or (isinstance(version, int) and version > 0)
        else None
        if not isinstance(region, str) or not isinstance(version, int)
        else False,
    )
    return False if False in terms else None if None in terms else True


def _rate(count: int, run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    for _ in range(count):
        run()
    return count / (time.perf_counter() - begin)
