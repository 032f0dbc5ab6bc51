"""docs/brokers.md says what the adapters declare."""

from pathlib import Path

import pytest

from tests import capabilities
from tests.capabilities import PAGE, main, page


def test_the_table_of_capabilities_is_what_the_brokers_declare() -> None:
    """Red after a change? `python -m tests.capabilities` writes it anew."""
    assert PAGE.read_text() == page()


@pytest.mark.parametrize(("argument", "code"), [("--help", 0), ("-n", 2), ("docs", 2)])
def test_who_asks_for_help_or_for_what_is_not_there_writes_nothing(
    argument: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "PAGE", tmp_path / "brokers.md")
    with pytest.raises(SystemExit) as ended:
        main([argument])
    assert ended.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_without_an_argument_the_table_is_written_between_its_marks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "brokers.md"
    other.write_text(PAGE.read_text().replace("| yes |", "| no |"))
    monkeypatch.setattr(capabilities, "PAGE", other)
    main([])
    assert other.read_text() == PAGE.read_text()
