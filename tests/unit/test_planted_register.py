"""The register of planted bugs stays usable: each still fits the source, and names a test that is there."""

from pathlib import Path

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


def test_every_planted_bug_names_a_test_that_is_there() -> None:
    for plant in PLANTS:
        file, *_, name = plant.test.split("::")
        assert (TESTS / file).exists(), plant.name
        beside = "".join(path.read_text() for path in (TESTS / file).parent.glob("*.py"))
        assert name == "runTest" or f"def {name}(" in beside, plant.name


def test_no_bug_is_planted_twice() -> None:
    assert len({plant.name for plant in PLANTS}) == len(PLANTS)
