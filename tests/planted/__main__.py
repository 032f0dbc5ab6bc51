"""`python -m tests.planted [WORD ...]`: plant each bug in a copy of the source, and demand that its test goes red."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from tests.planted import Plant, registers
from tests.servers.postgres import VARIABLE, postgres

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 180
console = Console(highlight=False, soft_wrap=True)


def planted(plant: Plant, source: Path) -> str | None:
    """Change the copy at `source`. Answers what does not fit, if anything."""
    for edit in plant.edits:
        file = source / "allocation" / edit.file
        text = file.read_text()
        if (count := text.count(edit.old)) != 1:
            return f"{edit.file} holds the text to change {count} times: {edit.old.strip().splitlines()[0]}"
        file.write_text(text.replace(edit.old, edit.new))
    return None


def run(tests: Sequence[str], source: Path, database: str) -> tuple[int, str]:
    """Run tests against the package at `source`: exit code and output of pytest."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(source),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ALLOCATION_TEST_AS_FOUND": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(source.parent / "hypothesis"),
        "COLUMNS": "240",
        VARIABLE: database,
    }
    pytest = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", f"pythonpath=. {source}"]
    command = [*pytest, "--tb=short", *(f"tests/{test}" for test in tests)]
    try:
        ran = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return -1, f"no end within {PATIENCE_SECONDS} seconds"
    return ran.returncode, ran.stdout + ran.stderr


def try_one(plant: Plant, sound: Path, database: str) -> tuple[bool, str]:
    """Whether the test went red, and the line that says so (or what happened instead)."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        source = Path(shutil.copytree(sound, Path(folder) / "src"))
        if misfit := planted(plant, source):
            return False, misfit
        code, output = run([plant.test], source, database)
    red = [line for line in output.splitlines() if line.startswith("FAILED ")]
    if code == 1 and red:
        return True, red[0].replace("FAILED tests/", "")
    last = output.strip().splitlines()[-15:]
    return False, "SURVIVED: the test stayed green" if code == 0 else "\n".join([f"pytest ended with {code}", *last])


def chosen_by(arguments: Sequence[str] | None) -> list[Plant]:
    """The plants that the words of the command line name; all, if there are none. Ends the program with 2 for a word
    that names nothing: without tests to run pytest would run every one there is."""
    known = registers()
    parser = argparse.ArgumentParser(
        prog="python -m tests.planted",
        description="Plants each bug in a copy of the source, and demands that its test goes red.",
        epilog=f"Registers: {', '.join(known)}.",
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="a register, or a part of a bug's or a test's name")
    words = parser.parse_args(arguments).words
    plants = [(name, x) for name, register in known.items() for x in register]
    found = {w: [x for name, x in plants if w == name or w in x.name or w in x.test] for w in words}
    if unknown := [w for w in words if not found[w]]:
        parser.error(f"nothing is named {', '.join(unknown)}; the registers are {', '.join(known)}")
    return [x for _, x in plants if not words or any(x in named for named in found.values())]


def main(arguments: Sequence[str] | None = None) -> int:
    chosen = chosen_by(arguments)
    with postgres() as server, tempfile.TemporaryDirectory(prefix="planted-") as folder:
        # One copy for the whole run: somebody may go on working in the checkout.
        forgotten = shutil.ignore_patterns("__pycache__", "*.egg-info")
        sound = Path(shutil.copytree(ROOT / "src", Path(folder) / "src", ignore=forgotten))
        tests = sorted({plant.test for plant in chosen})
        code, output = run(tests, sound, server.url)
        if code != 0:
            console.print(output, markup=False)
            console.print("These tests have to be green before anything is planted.")
            return 2
        console.print(f"{len(tests)} tests are green. Planting {len(chosen)} bugs:")
        failures = 0
        with ThreadPoolExecutor(max(2, (os.cpu_count() or 2) // 2)) as threads:
            tried = threads.map(lambda plant: try_one(plant, sound, server.url), chosen)
            for plant, (red, line) in zip(chosen, tried, strict=True):
                failures += not red
                console.print(f"{'red' if red else 'NOT RED'}  {plant.name}\n     {line}", markup=False)
    console.print(f"{len(chosen) - failures} of {len(chosen)} planted bugs were seen.")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
