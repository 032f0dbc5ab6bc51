"""What a run keeps to tell at its end."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

_NOTES = pytest.StashKey[dict[str, list[Any]]]()


def note(config: pytest.Config, heading: str, what: Any) -> None:
    """Keep something for the end: text, numbers, and lists of them."""
    config.stash.setdefault(_NOTES, {}).setdefault(heading, []).append(what)


def noted(config: pytest.Config, heading: str) -> Sequence[Any]:
    """What was kept under the heading by now."""
    return all_notes(config).get(heading, [])


def all_notes(config: pytest.Config) -> Mapping[str, Sequence[Any]]:
    """By heading."""
    return config.stash.get(_NOTES, {})
