"""In CI a test that could not run is a failure: green means that everything ran."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_pytest(folder: Path, test: str, ci: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(test)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.across_processes",
        "-p",
        "tests.no_silent_skips",
        "-c",
        os.devnull,
        "--rootdir",
        str(folder),
    ]
    environment = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [*command, *options, str(folder)], capture_output=True, text=True, env=environment, check=False
    )


SKIPS = {
    "by the test": "import pytest\ndef test_it(): pytest.skip('no PostgreSQL here')",
    "by a mark": "import pytest\n@pytest.mark.skip(reason='no PostgreSQL here')\ndef test_it(): pass",
    "by a fixture": (
        "import pytest\n@pytest.fixture\ndef server(): pytest.skip('no PostgreSQL here')\ndef test_it(server): pass"
    ),
    "by the module": ("import pytest\npytest.skip('no PostgreSQL here', allow_module_level=True)\ndef test_it(): pass"),
}


@pytest.mark.parametrize("options", [(), ("-p", "xdist", "-n", "2")], ids=["one process", "two processes"])
@pytest.mark.parametrize("test", SKIPS.values(), ids=SKIPS.keys())
def test_a_skipped_test_fails_in_ci_and_tells_what_was_missing(
    tmp_path: Path, test: str, options: tuple[str, ...]
) -> None:
    run = run_pytest(tmp_path, f"{test}\ndef test_other(): pass", "true", *options)
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    assert "skipped, which CI counts as failed" in run.stdout
    assert "test_it.py" in run.stdout.split("CI counts as failed")[1]
    assert "no PostgreSQL here" in run.stdout.split("CI counts as failed")[1]


def test_at_home_a_test_may_be_skipped(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, f"{SKIPS['by the test']}\ndef test_other(): pass", ci="")
    assert run.returncode == 0


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, "import pytest\n@pytest.mark.xfail\ndef test_it(): assert False", ci="true")
    assert run.returncode == 0
