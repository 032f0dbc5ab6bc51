"""The register of planted bugs stays usable: each still fits the source, and names a test that is there."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.planted import __main__ as program
from tests.planted import registers

TESTS = Path(__file__).parents[1]
SOURCE = TESTS.parent / "src" / "allocation"
PLANTS = [plant for register in registers().values() for plant in register]


def test_every_planted_bug_fits_the_source() -> None:
    """Red after a change of the source? Say in tests/planted how the same bug would look now."""
    misfits = [
        f"{plant.name}: {edit.file} does not hold exactly once: {edit.old}"
        for plant in PLANTS
        for edit in plant.edits
        if (SOURCE / edit.file).read_text().count(edit.old) != 1 or edit.new == edit.old
    ]
    assert misfits == []


def test_every_planted_bug_can_be_run() -> None:
    """One that Python refuses is seen by no test."""
    for plant in PLANTS:
        for edit in plant.edits:
            if edit.file.endswith(".py"):
                try:
                    compile((SOURCE / edit.file).read_text().replace(edit.old, edit.new), edit.file, "exec")
                except SyntaxError as refused:
                    pytest.fail(f"{plant.name}: {refused}")


def test_every_planted_bug_names_a_test_that_is_there() -> None:
    for plant in PLANTS:
        file, *_, name = plant.test.split("::")
        assert (TESTS / file).exists(), plant.name
        beside = "".join(path.read_text() for path in (TESTS / file).parent.glob("*.py"))
        assert name == "runTest" or f"def {name}(" in beside, plant.name


def test_no_bug_is_planted_twice() -> None:
    assert len({plant.name for plant in PLANTS}) == len(PLANTS)


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["no-such-word"], 2, "no-such-word"),
        (["domain", "no-such-word"], 2, "no-such-word"),
        (["--help"], 0, "WORD"),
    ],
)
def test_a_word_that_chooses_nothing_runs_nothing_and_the_registers_are_told(
    words: Sequence[str], code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(tests: Sequence[str], _source: Path, _database: str) -> tuple[int, str]:
        pytest.fail(f"ran {tests}")

    monkeypatch.setattr(program, "run", run)
    with pytest.raises(SystemExit) as ended:
        program.main(words)
    captured = capsys.readouterr()
    assert ended.value.code == code
    assert told in captured.out + captured.err
    assert "domain, faults, history" in " ".join((captured.out + captured.err).split())
