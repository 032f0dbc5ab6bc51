"""What an action does to its copy: SET and REMOVE, on user properties and on those system properties that may change.

If the old value is a double, an integer that is set becomes a double: this is the only implicit conversion that C#
makes between our kinds. Otherwise the new value keeps its own kind.
"""

from __future__ import annotations

from collections.abc import Callable

from allocation.service_layer.rules.values import Properties, Read, RuleFailed, kind_of

Statement = Callable[[Properties], None]


def set_user(name: str, read: Read) -> Statement:
    """SET name = expression. With NULL, the property exists, and is NULL."""
    key = name.lower()

    def run(properties: Properties) -> None:
        value = read(properties)
        if type(value) is int and type(properties.user.get(key)) is float:
            value = float(value)
        properties.set(name, value)

    return run


def set_system(name: str, read: Read) -> Statement:
    """SET sys.name = expression. All system properties that may be set are texts."""

    def run(properties: Properties) -> None:
        value = read(properties)
        if value is not None and not isinstance(value, str):
            raise RuleFailed(f"sys.{name} needs a text, but {value!r} is {kind_of(value)}")
        properties.system[name] = value

    return run


def remove_user(name: str) -> Statement:
    """REMOVE name. The property need not exist."""
    return lambda properties: properties.remove(name)


def remove_system(name: str) -> Statement:
    """REMOVE sys.name: afterwards it is NULL."""

    def run(properties: Properties) -> None:
        properties.system[name] = None

    return run
