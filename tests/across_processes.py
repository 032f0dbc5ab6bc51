"""A pytest plugin: where several processes share the tests (pytest-xdist), the first one tells what all have noted."""

from typing import Any

import pytest

from tests.notes import all_notes, note

_SENT_AS = "allocation_notes"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    sent = getattr(session.config, "workeroutput", None)  # only a process that another one began has it
    if sent is not None:
        sent[_SENT_AS] = dict(all_notes(session.config))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    for heading, kept in getattr(node, "workeroutput", {}).get(_SENT_AS, {}).items():  # one that crashed sent nothing
        for what in kept:
            note(node.config, heading, what)
