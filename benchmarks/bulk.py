"""Allocation in bulk beside the floor: groups of 1,000 through the bus, and through the hand-written program.

Real orders on PostgreSQL also as the import takes them in there: in several transactions at once, 1,000 lines each.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, product

from allocation.bootstrap import Application
from allocation.domain.commands import Allocate
from allocation.entrypoints.garbage import rare_collection
from allocation.service_layer.envelope import CommandEnvelope
from allocation.service_layer.fork_join import ForkJoin, Send
from benchmarks import orders, seeding
from benchmarks.databases import Database, Databases, Kind
from benchmarks.measure import Table, median, spread_of, take_turns
from benchmarks.orders import Line

GROUP = 1_000
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Size:
    rounds: int = 6
    lines: int = 8_000
    """Of each round; the first round is a warm-up and does not count."""


def workloads(total: int) -> dict[str, Callable[[], list[Line]]]:
    return {
        "real orders": lambda: list(orders.real(total)),
        "spread over 1,000 skus": lambda: list(islice(orders.spread("order"), total)),
        "one hot sku": lambda: list(islice(orders.hot("order"), total)),
    }


def tables(databases: Databases, kinds: tuple[Kind, ...], size: Size) -> list[Table]:
    """Runs everything; answers one table. Raises `RuntimeError` if service and floor decide differently."""
    rows: list[list[str | float | int | None]] = []
    for kind in kinds:
        for name, make in workloads((size.rounds + 1) * size.lines).items():
            at_once = AT_ONCE if (kind, name) == ("postgres", "real orders") else 1
            rates = _side_by_side(databases, kind, make(), size, f"bulk, {kind}, {name}", at_once)
            by_hand = {beside: rates.pop(f"floor{beside}") for beside in seeding.floor_of(kind).BESIDE}
            for (how, by_bus), (beside, of_floor) in product(rates.items(), by_hand.items()):
                service, floor = median(by_bus), median(of_floor)
                what = f"{kind}, {name}{how.removeprefix('service')}{beside}"
                rows.append([what, service, spread_of(by_bus), floor, spread_of(of_floor), service / floor])
    header = ["bulk, lines/s", "service", "lowest to highest", "floor", "lowest to highest", "of floor"]
    notes = [
        f"Groups of {GROUP:,} through `bus.handle_many`, made and collected as the import does; "
        f"{size.rounds} rounds of {size.lines:,} lines each, alternating; "
        "medians. Two batches for each sku hold all lines except those that fit into neither. The floor is the "
        "hand-written program of benchmarks/floor.py, with the same reads and rows; all placed every line alike.",
        f"{AT_ONCE} at once: larger groups, divided by products into transactions of about {GROUP:,} lines, of which "
        f"{AT_ONCE} run at a time, as in an import on PostgreSQL; the floor works one group at a time.",
        "The floor is the fastest variant (`--only variants`); the other one set the aim: by executemany on "
        "SQLite, by functions in FROM on PostgreSQL.",
        "Aims: 0.75 of the floor on PostgreSQL, 0.65 on SQLite; 20,000 lines/s of real orders on PostgreSQL.",
    ]
    return [Table("bulk", "Allocations in bulk", header, rows, notes)]


def _side_by_side(
    databases: Databases, kind: Kind, lines: list[Line], size: Size, part: str, at_once: int
) -> dict[str, list[float]]:
    """Of the service and of each floor; of the service once more if there are to be several transactions at once."""
    placed: dict[str, list[str | None]] = defaultdict(list)
    with ExitStack() as stack:

        def service(name: str, at_once: int) -> Callable[[int], float]:
            app = stack.enter_context(seeding.application(stocked(stack, databases, kind, lines)))
            send = ForkJoin(app.bus.handle_many, at_once, GROUP)
            allocate = partial(by_service, app, send=send)
            return partial(one_round, allocate, lines, size.lines, placed[name], group=send.best_group)

        subjects = {"service": service("service", 1)}
        if at_once > 1:
            name = f"service, {at_once} at once"
            subjects[name] = service(name, at_once)
        for beside, variant in seeding.floor_of(kind).BESIDE.items():
            floor = stack.enter_context(seeding.floor(stocked(stack, databases, kind, lines), variant))
            name = f"floor{beside}"
            subjects[name] = partial(one_round, floor.allocate, lines, size.lines, placed[name])
        with rare_collection():
            samples = take_turns(subjects, size.rounds + 1, part)
    if any(found != placed["service"] for found in placed.values()):
        raise RuntimeError(f"{part}: service and floor did not place the lines alike")
    return {name: rates[1:] for name, rates in samples.items()}


def stocked(stack: ExitStack, databases: Databases, kind: Kind, lines: list[Line]) -> Database:
    database = stack.enter_context(databases.fresh(kind))
    with seeding.application(database) as app:
        seeding.create_batches(app, orders.batches_for(lines, orders.LATER))
    database.analyze()
    return database


def one_round(
    allocate: Callable[[list[Line]], list[str | None]],
    lines: list[Line],
    size: int,
    placed: list[str | None],
    number: int,
    group: int = GROUP,
) -> float:
    begin, end = number * size, (number + 1) * size
    groups = [lines[at : min(at + group, end)] for at in range(begin, end, group)]
    started = time.perf_counter()
    answers = [allocate(of_group) for of_group in groups]
    seconds = time.perf_counter() - started
    placed += chain.from_iterable(answers)
    return size / seconds


def by_service(app: Application, lines: list[Line], send: Send | None = None) -> list[str | None]:
    """Allocate a group, in one transaction unless `send` does otherwise; answers which batch each line got."""
    now, correlation_id = app.clock.now(), app.ids.new()
    envelopes = [
        CommandEnvelope(Allocate(*line), message_id, now, correlation_id, "import")
        for line, message_id in zip(lines, app.ids.several(len(lines)), strict=True)
    ]
    answers = (send or app.bus.handle_many)(envelopes)
    return [answer.unwrap().batchref for answer in answers]  # type: ignore[union-attr]  # an Allocate's result is a promise
