"""docs/brokers.md says what the adapters declare."""

from tests.capabilities import PAGE, page


def test_the_table_of_capabilities_is_what_the_brokers_declare() -> None:
    """Red after a change? `python -m tests.capabilities` writes it anew."""
    assert PAGE.read_text() == page()
