"""A pytest plugin: where CI is set, a skipped test fails the run, and the end says which and why."""

import os
from collections.abc import Generator

import pytest

from tests.notes import note, noted

_SKIPPED = "skipped"


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false", "no")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if report.skipped:
        _note_skip(collector.config, collector.nodeid, report.longrepr)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):  # an expected failure is no skip
        _note_skip(item.config, item.nodeid, report.longrepr)
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    passed = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    if in_ci() and passed and noted(session.config, _SKIPPED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = sorted(set(noted(config, _SKIPPED)))  # each process that shares the tests collects all of them
    if skipped and in_ci():
        terminalreporter.section("skipped, which CI counts as failed", red=True)
        for line in skipped:
            terminalreporter.write_line(line)


def _note_skip(config: pytest.Config, nodeid: str, longrepr: object) -> None:
    reason = longrepr[2] if isinstance(longrepr, tuple) else str(longrepr)
    note(config, _SKIPPED, f"{nodeid}: {reason}")
