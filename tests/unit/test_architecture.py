"""Who may import whom: the contracts of pyproject.toml hold, and they bite."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the sources and of their contracts, to plant violations in."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (tmp_path / "tests").mkdir()
    for file in ("pyproject.toml", "tests/__init__.py", "tests/architecture.py"):
        shutil.copy(ROOT / file, tmp_path / file)
    return tmp_path


def lint_imports(project: Path) -> subprocess.CompletedProcess[str]:
    command = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run(
        [sys.executable, "-c", command, "--no-cache", "--no-logo"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def plant(project: Path, module: str, line: str) -> None:
    file = project / "src" / "allocation" / module
    file.write_text(f"{file.read_text()}\n{line}\n")


def test_every_contract_is_kept(copy: Path) -> None:
    run = lint_imports(copy)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "4 kept, 0 broken" in run.stdout


@pytest.mark.parametrize(
    ("module", "line", "complaint"),
    [
        (
            "domain/model.py",
            "import allocation.adapters",
            "allocation.domain is not allowed to import allocation.adapters",
        ),
        ("domain/model.py", "def late():\n    import sqlalchemy", "allocation.domain.model may not import sqlalchemy"),
        ("domain/model.py", "import tenacity", "allocation.domain.model may not import tenacity"),
        ("service_layer/__init__.py", "from flask import request", "allocation.service_layer may not import flask"),
        ("replica/facts.py", "import redis", "allocation.replica.facts may not import redis"),
        (
            "replica/facts.py",
            "import allocation.domain",
            "allocation.replica is not allowed to import allocation.domain",
        ),
        ("service_layer/__init__.py", "import allocation.config", "allocation.service_layer is not allowed to import"),
    ],
)
def test_a_planted_violation_is_seen(copy: Path, module: str, line: str, complaint: str) -> None:
    plant(copy, module, line)
    run = lint_imports(copy)
    assert run.returncode == 1, run.stdout + run.stderr
    assert complaint in " ".join(run.stdout.split())


def test_a_module_that_stands_in_no_layer_is_seen(copy: Path) -> None:
    (copy / "src" / "allocation" / "helpers.py").touch()
    run = lint_imports(copy)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "helpers" in run.stdout


def test_what_a_layer_may_import_is_not_complained_about(copy: Path) -> None:
    plant(copy, "service_layer/__init__.py", "import tenacity\nimport allocation.domain")
    assert lint_imports(copy).returncode == 0
