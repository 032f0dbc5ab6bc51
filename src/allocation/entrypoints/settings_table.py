"""The settings explained: what each means, what it is now, and where that comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from allocation.config import PREFIX, SECRET_IN_URL, Settings, is_of_kubernetes

MASK = "***"

_URL = re.compile(r"[a-z][a-z0-9+.-]*:(//|\Z|\s)")

# Up to the last @: a password may contain one that was not escaped.
_PASSWORD_IN_URL = re.compile(r"(://[^:/?#]*:).*@")
# Without an @, what is in the place of a port but is no number was meant as a password.
_PASSWORD_AS_PORT = re.compile(r"(://[^:/?#@\[]*:)(?!\d*(?:[,/?#\s]|\Z)|\*{3}@).*")
_PASSWORD_IN_QUERY = re.compile(r"([?&][^=&]*(?:password|passwd|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as people may see it: secrets are masked, in the default too."""

    name: str
    value: str
    meaning: str
    default: str
    source: Literal["environment", "default"]


def explain(environment: Mapping[str, str]) -> Iterator[Setting]:
    """Every setting as this environment sets it, valid or not."""
    given = {n.lower(): value for n, value in environment.items() if value and not is_of_kubernetes(n, value)}
    for field, info in Settings.model_fields.items():
        name = f"{PREFIX}{field}".upper()
        extra = info.json_schema_extra
        hidden = extra if isinstance(extra, Mapping) else {}
        value = given.get(name.lower())
        default = _text(info.get_default(call_default_factory=False))
        yield Setting(
            name,
            masked(default if value is None else value, hidden),
            info.description or "",
            masked(default, hidden),
            "default" if value is None else "environment",
        )


def masked(value: str, hidden: Mapping[str, object]) -> str:
    """A value as people may see it. With `config.SECRET` as `hidden` it is masked entirely; with `SECRET_IN_URL` the
    password of a URL is masked, and anything that is no URL is masked entirely; otherwise nothing is masked."""
    if not value or "secret" not in hidden:
        return value
    if hidden != SECRET_IN_URL or not _URL.match(value):
        return MASK
    without_password = _PASSWORD_AS_PORT.sub(rf"\1{MASK}", _PASSWORD_IN_URL.sub(rf"\1{MASK}@", value))
    return _PASSWORD_IN_QUERY.sub(rf"\1{MASK}", without_password)


def _text(default: Any) -> str:
    return "" if default is None else str(default)
