"""`allocation verify` and `allocation rebuild`: whether the tables are what the log folds to, and making them so."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click
import msgspec

from allocation.entrypoints import opened
from allocation.entrypoints.console import JsonList, as_json, progress, reason_of
from allocation.entrypoints.garbage import rare_collection
from allocation.service_layer.errors import Unavailable

if TYPE_CHECKING:  # imported when a command runs, as in `cli`
    from allocation.bootstrap import Application
    from allocation.service_layer.comparing import Difference
    from allocation.service_layer.verify import Place, Step

_TITLES = {
    "log": "positions",
    "products": "folded events",
    "commands": "commands",
    "strays": "order lines",
    "ids": "event ids",
}

go_on = click.option(
    "--from", "place", default="", metavar="PLACE", help="Continue from this place, which the last run printed."
)


@click.command(short_help="Check that the tables agree with the log.")
@go_on
@as_json
def verify(place: str, as_json: bool) -> None:
    """Fold the whole log and compare: products, batches, order lines, positions, commands, event ids.

    Changes nothing, and blocks nobody. Exit code 1 if anything differs; each difference is listed with its place.

    \b
    Example:
      allocation verify
    """
    _walk("verify", place, as_json)


@click.command(short_help="Repair the tables where they differ from the log.")
@go_on
@as_json
def rebuild(place: str, as_json: bool) -> None:
    """Verify, and repair the rows that differ, one product at a time, while the service keeps running. What a cache in
    Redis holds is read again; a service with a cache in its own memory has to be restarted.

    The log and the command log are never rewritten. If the log itself has lost something, the products of that
    partition are left as they are. Exit code 1 if anything differs that was not repaired.

    \b
    Example:
      allocation rebuild
    """
    _walk("rebuild", place, as_json)


def _walk(command: str, place: str, as_json: bool) -> None:
    from allocation.service_layer.verify import ForgedPlace, Place, Walk

    try:
        begin = Place.parse(place) if place else Place()
    except ForgedPlace:
        raise click.BadParameter("this is not a place that a run printed.", param_hint="--from") from None
    with opened.application() as application:
        if begin.partition >= application.settings.log_partitions:
            raise click.BadParameter("this is not a place that a run over this log printed.", param_hint="--from")
        walk = Walk(application.books, application.settings.log_partitions, repair=command == "rebuild")
        report = _Report(command, as_json, _size(application))
        failure: Exception | None = None
        with progress() as advanced, rare_collection():
            try:
                for step in walk.run(begin):
                    done = report.take(step)
                    advanced(_TITLES[step.part], done, report.size.get(step.part), done)
            except KeyboardInterrupt:
                report.stopped = "interrupted"
            except Unavailable as away:
                report.stopped = str(away)
            except Exception as defect:  # noqa: BLE001  # raised again, once all findings are reported
                report.stopped, failure = reason_of(defect), defect
        if command == "rebuild":
            try:
                application.forget_cache()
            except Unavailable as away:
                report.stopped = report.stopped or f"the cache still holds its old contents: {away}"
        report.end(begin, failure)


def _size(application: Application) -> dict[str, int]:
    """How much there is to look at, as far as that can be found out cheaply."""
    events = sum(application.books.heads().values())
    return {"log": events, "products": events}


@dataclass(slots=True)
class _Report:
    """The findings of a walk, reported while it goes on."""

    command: str
    as_json: bool
    size: dict[str, int]
    done: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_TITLES, 0))
    products: int = 0
    differences: int = 0
    unrepaired: int = 0
    goes_on: Place | None = None
    stopped: str | None = None
    began: float = field(default_factory=time.monotonic)
    _list: JsonList | None = None

    def __post_init__(self) -> None:
        if self.as_json:
            self._list = JsonList("differences")

    def take(self, step: Step) -> int:
        """Returns how much of the step's part is done."""
        self.done[step.part] += step.looked_at
        self.products += step.products
        self.goes_on = step.goes_on
        for difference in step.differences:
            self._tell(difference)
        return self.done[step.part]

    def _tell(self, difference: Difference) -> None:
        self.differences += 1
        self.unrepaired += not difference.repaired
        if self._list is not None:
            self._list.add(msgspec.to_builtins(difference))
        else:
            click.echo(f"{difference}{' (repaired)' if difference.repaired else ''}")

    def end(self, begin: Place, failure: Exception | None = None) -> None:
        """Print the end of the report. Raises `failure`, if there is one, or `click` exceptions that set the exit code
        to 1 if all is not well."""
        seconds = time.monotonic() - self.began
        how = None
        if self.stopped is not None:
            place = self.goes_on or begin
            how = f"allocation {self.command} --from {shlex.quote(str(place))}"
        if self._list is not None:
            self._list.end(
                {
                    "equal": self.stopped is None and self.unrepaired == 0,
                    "unrepaired": self.unrepaired,
                    "products": self.products,
                    "events": self.done["products"],
                    "commands": self.done["commands"],
                    "seconds": round(seconds, 3),
                    "stopped": self.stopped,
                    "how_to_go_on": how,
                }
            )
        else:
            click.echo(self._sentence(seconds))
        if failure is not None:
            raise failure
        if how is not None:
            raise click.ClickException(f"Stopped: {self.stopped}. To continue: {how}")
        if self.unrepaired:
            raise click.exceptions.Exit(1)

    def _sentence(self, seconds: float) -> str:
        looked = f"{self.products:,} products, {self.done['products']:,} events, {self.done['commands']:,} commands"
        if not self.differences:
            verdict = f"log and tables agree{'' if self.stopped is None else ', as far as they were compared'}"
        elif self.command == "verify":
            verdict = f"{self.differences:,} differences"
        else:
            verdict = f"{self.differences:,} differences, {self.differences - self.unrepaired:,} repaired"
        return f"{looked} in {seconds:.1f} seconds: {verdict}."
