"""What is built is what was written: a wheel holds every file below src/allocation."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEFT_BY_A_RUN = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.db", "*.db-*")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build in, with one file more: a data file two folders down, where packages forget them."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "src", project / "src", ignore=LEFT_BY_A_RUN)
    for file in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / file, project / file)
    migration = project / "src/allocation/adapters/sql/migrations/versions/planted.py"
    migration.parent.mkdir(parents=True, exist_ok=True)
    migration.touch()
    return project


def test_the_wheel_holds_every_file_of_the_package(project: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([*pip, "wheel", *options, str(project)], check=True)
    [wheel] = tmp_path.glob("allocation-*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("allocation/")}
    files = (file for file in (project / "src/allocation").rglob("*") if file.is_file())
    written = {str(file.relative_to(project / "src")) for file in files}
    assert written
    assert written - packed == set()
