"""The past of the grocer's real year, on the database that has just taken it in: the log folded, the hottest product as
of any moment, a what-if with a thousand lines that wait, and the whole verified."""

from collections import Counter
from dataclasses import dataclass, field

from allocation.bootstrap import Application
from allocation.domain.commands import ChangeBatchQuantity, Command, CreateBatch
from allocation.service_layer.history.as_of import product_at
from allocation.service_layer.history.ports import Cut
from benchmarks import seeding, time_machine, verifying
from benchmarks.databases import Database
from benchmarks.measure import Table

LINES_TO_WAIT = 1_000


@dataclass(slots=True)
class Past:
    """The rows of each table, as they are made."""

    size: time_machine.Size = field(default_factory=lambda: time_machine.Size(rounds=3))
    folds: time_machine.Rows = field(default_factory=list)
    moments: time_machine.Rows = field(default_factory=list)
    imagined: time_machine.Rows = field(default_factory=list)
    verified: time_machine.Rows = field(default_factory=list)

    def measure(self, database: Database) -> None:
        """Adds a row or two to each. Raises `RuntimeError` if log and tables do not agree."""
        database.analyze()
        self.verified.append(verifying.measured(database, database.kind, None, self.size.rounds))
        with seeding.application(database) as app:
            sku = hottest(app)
            mishaps = without_stock(app, sku)
            self.folds += time_machine.folding(database.kind, app, self.size)
            self.moments += time_machine.looking_back(database.kind, app, sku, self.size)
            self.imagined += time_machine.imagining(database.kind, app, sku, mishaps, self.size)

    def tables(self) -> list[Table]:
        """Four tables, of what was measured."""
        made = [
            time_machine.fold_table(self.folds, self.size),
            time_machine.moment_table(self.moments, self.size),
            time_machine.what_if_table(self.imagined, self.size),
            verifying.table(self.verified, self.size.rounds, "One process each time, on the whole year."),
        ]
        return [_of_the_year(table) for table in made]


def _of_the_year(table: Table) -> Table:
    return Table(f"real-{table.name}", f"The real year: {table.title}", table.header, table.rows, table.notes)


def hottest(app: Application) -> str:
    """The sku with the most events."""
    found: Counter[str] = Counter()
    [head] = app.history.now().heads
    for event, version, _ in app.history.facts_by_product("", Cut((head,))):
        found[event.sku] = version
    return found.most_common(1)[0][0]


def without_stock(app: Application, sku: str) -> list[Command]:
    """Batches of the product are lost, the largest first, until so many lines are without; then some comes again."""
    product = product_at(app.history, sku, app.history.now())
    assert product is not None
    lines = Counter(line.batchref for line in product.lines.values())
    commands: list[Command] = []
    waiting = lines.pop(None, 0)
    for ref, count in lines.most_common():
        commands.append(ChangeBatchQuantity(str(ref), 0))
        waiting += count
        if waiting >= LINES_TO_WAIT:
            break
    return [*commands, CreateBatch("new", sku, LINES_TO_WAIT // 2, None)]
