"""Messages are values: the type checker refuses to change one."""

from pathlib import Path

import pytest
from mypy import api

import allocation
from allocation.domain.events import Allocated

SOURCE = Path(allocation.__file__).parents[1]
CHANGES = """\
from allocation.domain.commands import Allocate
from allocation.domain.events import Allocated
from allocation.service_layer.answers import Promise

def change(event: Allocated, command: Allocate, promise: Promise) -> None:
    event.qty = 2
    command.qty = 2
    promise.batchref = None
"""


def test_the_type_checker_refuses_to_change_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPYPATH", str(SOURCE))
    told, failed, status = api.run(["--config-file=", "--strict", "--cache-dir", str(tmp_path), "-c", CHANGES])
    assert status == 1, failed
    changes = [str(n) for n, line in enumerate(CHANGES.splitlines(), 1) if " = " in line]
    assert [line.split(":")[1] for line in told.splitlines() if "read-only" in line] == changes, told


def test_values_are_equal_by_what_they_say_and_can_stand_in_sets() -> None:
    one, same, other = Allocated("o", "s", 1, "b"), Allocated("o", "s", 1, "b"), Allocated("o", "s", 2, "b")
    assert one == same != other
    assert len({one, same, other}) == 2
    with pytest.raises(AttributeError):
        one.note = "a field that it does not have"  # type: ignore[attr-defined]  # the point
