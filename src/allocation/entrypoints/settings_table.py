"""The settings explained: what each means, what it is now, and where that comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from allocation.config import PREFIX, Settings

MASK = "***"

# Up to the last @: a password may hold one that nobody escaped.
_PASSWORD_IN_URL = re.compile(r"(://[^:/?#]*:).*@")
_PASSWORD_IN_QUERY = re.compile(r"([?&][^=&]*(?:password|passwd|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)
_KEY_IN_CONNECTION_STRING = re.compile(r"(SharedAccess(?:Key|Signature)=)[^;]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as people may see it: secrets are masked, in the default too."""

    name: str
    value: str
    meaning: str
    default: str
    source: Literal["environment", "default"]


def explain(environment: Mapping[str, str]) -> Iterator[Setting]:
    """Every setting as this environment sets it, right or wrong."""
    given = {name.lower(): value for name, value in environment.items() if value}
    for field, info in Settings.model_fields.items():
        name = f"{PREFIX}{field}".upper()
        extra = info.json_schema_extra
        secret = isinstance(extra, Mapping) and bool(extra.get("secret"))
        value = given.get(name.lower())
        default = _text(info.get_default(call_default_factory=False))
        yield Setting(
            name,
            masked(default if value is None else value, secret),
            info.description or "",
            masked(default, secret),
            "default" if value is None else "environment",
        )


def masked(value: str, secret: bool) -> str:
    """A secret without its secret: an URL loses its password, a connection string its key, anything else is hidden
    whole."""
    if not secret or not value:
        return value
    if _KEY_IN_CONNECTION_STRING.search(value):
        return _KEY_IN_CONNECTION_STRING.sub(rf"\1{MASK}", value)
    if "://" in value:
        return _PASSWORD_IN_QUERY.sub(rf"\1{MASK}", _PASSWORD_IN_URL.sub(rf"\1{MASK}@", value))
    return value if re.fullmatch(r"[a-z]+:", value) else MASK


def _text(default: Any) -> str:
    return "" if default is None else str(default)
