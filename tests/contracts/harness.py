"""What the contract needs of a store, and short ways to use it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from allocation.adapters.clock import TimeOrderedIds
from allocation.domain.commands import Command
from allocation.service_layer.answers import Answer
from allocation.service_layer.envelope import CommandEnvelope, EventEnvelope
from allocation.service_layer.handlers import COMMAND_HANDLERS
from allocation.service_layer.messagebus import MessageBus
from allocation.service_layer.unit_of_work import Handled, UnitOfWork
from allocation.views import Views
from tests.fakes import SetClock


@dataclass(frozen=True)
class Opened:
    """A store as one process sees it: the ports, and a bus that uses them."""

    unit_of_work: Callable[[], UnitOfWork]
    views: Views
    clock: SetClock
    bus: MessageBus

    def handle(self, command: Command) -> Any:
        return self.bus.handle(command)

    def ask(self, command: Command, message_id: str | None = None, **context: Any) -> Answer:
        return self.bus.ask(self.bus.envelope(command, message_id, **context))

    def group(self, *commands: Command) -> list[Answer]:
        return self.bus.handle_many([self.bus.envelope(command) for command in commands])

    def log(self, sku: str | None = None) -> list[EventEnvelope]:
        """Everything, read a page at a time."""
        found: list[EventEnvelope] = []
        page = self.views.events([], 200, sku)
        while page.events:
            found += page.events
            page = self.views.events(page.next, 200, sku)
        return found


def decide(uow: UnitOfWork, envelope: CommandEnvelope) -> Handled:
    """Handle a command as the bus does, inside a unit of work that the test holds."""
    result = COMMAND_HANDLERS[type(envelope.command)](envelope.command, uow)
    events = uow.collect_new_events()
    return Handled(envelope, result, events=events, changed=bool(events))


def transact(opened: Opened, honest: Sequence[CommandEnvelope], forged: Sequence[Handled] = ()) -> None:
    """One transaction past the bus: the honest commands are decided, the forged ones only written."""
    with opened.unit_of_work() as uow:
        uow.begin([*honest, *(done.envelope for done in forged)])
        uow.commit([*(decide(uow, envelope) for envelope in honest), *forged])


class Store(ABC):
    """One place where things are kept. `open` may be called again, as another process would, and sees the same."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions

    def open(self, batches_a_page: int = 16, lines_a_page: int = 100, lock_timeout_seconds: float = 30.0) -> Opened:
        """The pages matter to stores that read page by page."""
        clock = SetClock()
        unit_of_work, views = self.ports(clock, (batches_a_page, lines_a_page), lock_timeout_seconds)
        bus = MessageBus(unit_of_work, COMMAND_HANDLERS, TimeOrderedIds(), clock, partitions=self.partitions)
        return Opened(unit_of_work, views, clock, bus)

    @abstractmethod
    def ports(
        self, clock: SetClock, pages: tuple[int, int], lock_timeout_seconds: float
    ) -> tuple[Callable[[], UnitOfWork], Views]: ...


MakeStore = Callable[[int], Store]


class SharedStore:
    """One store for all examples of a property test, which keep apart by their names: stores take time to make."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._opened: dict[tuple[int, ...], Opened] = {}

    def open(self, *pages: int) -> Opened:
        if pages not in self._opened:
            self._opened[pages] = self._store.open(*pages)
        return self._opened[pages]
