"""What an order, a sku or a batch may be called."""

import pytest

from allocation.domain.commands import require_ids
from allocation.domain.errors import InvalidReference

# Ids


@pytest.mark.parametrize("good", ["a", "!", "~", ".", "0", "A'B\"C", "';DROP-TABLE", "x" * 255])
def test_printable_ascii_is_an_id(good: str) -> None:
    require_ids(good)


@pytest.mark.parametrize(
    "bad", ["", " ", "a b", "a/b", "a\n", "\x00", "\x7f", "é", "\u200b", "\u202e", "\ud800", "x" * 256], ids=ascii
)
def test_anything_else_is_no_id(bad: str) -> None:
    with pytest.raises(InvalidReference):
        require_ids("fine", bad)
