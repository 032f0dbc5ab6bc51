"""URLs from settings. They hold passwords, so messages about them never repeat any of their text."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import SplitResult, urlsplit

from allocation.service_layer.errors import SetupError

ESCAPED = "in a password write %2F for /, %3F for ?, %23 for # and %40 for @"


def parts_of(url: str, schemes: Collection[str], like: str, path: str = ".*") -> SplitResult:
    """The parts of a URL of one of these schemes, with a host, a port that is a number if it has any, and a path that
    matches; `like` describes in words what it has to look like. Raises `ValueError` with these words.

    It is read by the same parser that the connecting clients use: where two parsers differ, one of them may repeat a
    password.
    """
    try:
        parts = urlsplit(url)
        is_meant = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_meant = False
    if not is_meant or re.search(r"\s", url) or not re.fullmatch(path, parts.path) or _is_cut(parts):
        raise ValueError(f"write {like}; {ESCAPED}") from None
    return parts


def broker_parts(url: str, like: str, path: str = ".*") -> SplitResult:
    """As above, of a broker's URL, whose scheme is known already. Raises `SetupError`."""
    scheme = url.partition(":")[0]
    try:
        return parts_of(url, {scheme}, like, path)
    except ValueError as wrong:
        raise SetupError(f"{scheme}: {wrong}") from None


def _is_cut(parts: SplitResult) -> bool:
    """Whether the host ended within a password, at a character that was not escaped."""
    return bool(parts.fragment) or "@" in f"{parts.path}?{parts.query}"
