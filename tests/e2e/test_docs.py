"""What the documents say is so: commands run and print what is shown, links lead somewhere, what is named exists.

A block of commands is marked in a comment above it: `runs`, or `not run:` and why. A block of text or JSON behind it
shows what it prints; `...` stands for anything, and white space does not count.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import pytest

from allocation.config import PREFIX, Settings
from allocation.entrypoints.cli import main as cli
from allocation.entrypoints.demo.story import tell_what_next
from allocation.entrypoints.flask_app import all_routes
from tests.e2e import curl
from tests.e2e.service import Service
from tests.servers import kafka, postgres, redis

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md"), *ROOT.glob("examples/**/*.md")]
)
SOURCES = ROOT / "src"
MAKEFILE = (ROOT / "Makefile").read_text()
CURL = "curl" if shutil.which("curl") else "stand-in"

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

_FENCED = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)


# --- commands -----------------------------------------------------------------------------------------------------


@dataclass
class Step:
    """A block of commands on a line of the README, and what it is shown to print."""

    line: int
    commands: str
    shown: str = ""


def steps(page: Path = README) -> Iterator[Step]:
    """The blocks that run. Raises `AssertionError` for one that does not say whether it does."""
    readme, step = page.read_text(), None
    for block in _FENCED.finditer(readme):
        mark, language = block["mark"] or "", block["language"]
        line = readme.count("\n", 0, block.start("text"))
        if language == "sh":
            assert mark == "runs" or mark.startswith("not run: "), f"README.md:{line} does not say whether it runs"
            if step:
                yield step
            step = Step(line, block["text"]) if mark == "runs" else None
        else:
            assert language in ("json", "text"), f"README.md:{line} is of a language that nobody checks"
            assert step, f"README.md:{line} shows what nothing that runs has printed"
            assert not step.shown, f"README.md:{line} is the second output of the same commands"
            step.shown = block["text"]
    if step:
        yield step


def run(steps: list[Step], folder: Path) -> list[tuple[int, str]]:
    """Run the steps in one shell, as a reader would; the exit code of each, and what it printed."""
    programs = folder / "programs"
    programs.mkdir()
    path = [str(programs), "/usr/local/bin", "/usr/bin", "/bin"]
    wanted = {"allocation": "-m allocation.entrypoints.cli"}
    if CURL == "stand-in":
        wanted["curl"] = curl.__file__
    else:
        path.append(str(Path(shutil.which("curl") or "").parent))
    for name, command in wanted.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        program.chmod(0o755)
    # What `make` would do first, setting up an environment, is done: these tests run in it.
    script = ["exec 2>&1", 'make() { allocation "$1"; }']
    script += [f"{step.commands}\nprintf '\\f%d\\f' $?" for step in steps]
    ran = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env={"PATH": ":".join(path), "HOME": str(folder), "LC_ALL": "C.UTF-8", "PYTHONPATH": str(SOURCES)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    pieces = ran.stdout.split("\f")
    assert len(pieces) == 2 * len(steps) + 1, ran.stdout[-2000:] + ran.stderr
    return [(int(code), printed) for printed, code in zip(pieces[::2], pieces[1::2], strict=False)]


_DAY = re.compile(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\s+\d{1,2}\s+[A-Z][a-z]{2}\b")
_SPEED = re.compile(r"^[\d,]+ rows a second, in [\d.,]+ s\.$", re.MULTILINE)  # told by slow machines only


def agree(shown: str, printed: str) -> bool:
    """Whether this was printed; the demo's days are those of whoever watches."""
    parts, whole = map(squeezed, shown.split("...")), squeezed(_SPEED.sub("", printed))
    return re.fullmatch(".*?".join(map(re.escape, parts)), whole, re.DOTALL) is not None


def squeezed(text: str) -> str:
    return "".join(_DAY.sub("<day>", text).split())


def expect_as_shown(steps: list[Step], outcomes: list[tuple[int, str]]) -> None:
    for step, (code, printed) in zip(steps, outcomes, strict=True):
        where = f"README.md:{step.line}\n{step.commands}"
        assert agree(step.shown, printed), f"{where}--- shown\n{step.shown}--- printed\n{printed}"
        assert code == 0 or step.shown, f"{where}ended with {code}"


@pytest.mark.slow
def test_the_commands_of_the_readme_print_what_it_shows(tmp_path: Path) -> None:
    with Service(f"sqlite:///{tmp_path}/allocation.db") as service:
        chosen = [step for step in steps() if "make " not in step.commands]
        for step in chosen:
            step.commands = step.commands.replace("127.0.0.1:5005", f"127.0.0.1:{service.port}")
        outcomes = run(chosen, tmp_path)
    assert len(chosen) > 10
    expect_as_shown(chosen, outcomes)


@pytest.mark.slow
def test_the_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    [demo] = [step for step in steps() if "make " in step.commands]
    assert demo.commands == "make demo\n"
    assert "@$(BIN)/allocation demo $(ARGS)" in recipe("demo")
    expect_as_shown([demo], run([demo], tmp_path))


def test_serving_is_what_make_serve_does_on_the_port_that_the_readme_names() -> None:
    assert "exec $(BIN)/allocation serve $(ARGS)" in recipe("serve")
    port = Settings.model_fields["port"].default
    assert f"url=http://127.0.0.1:{port}\n" in README.read_text()
    assert f"listens on port {port}" in README.read_text()


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("1 taken in", "1  taken in\n", True),
        ("1 taken in", "2 taken in", False),
        ("1 taken in", "1 taken in, 1 refused", False),
        ('{"id": "...", "qty": 2}\n201', '{"id":"x","qty":2}\n201\n', True),
        ('{"id": "...", "qty": 2}\n201', '{"id":"x","qty":3}\n201\n', False),
        ("...\nto be told.\n...", "before\nto be told.\nafter", True),
        ("...\nto be told\n...", "before\nafter", False),
        ("on Sun 6 Dec", "on Wed 25 Nov", True),
        ("", "a surprise", False),
    ],
)
def test_only_what_is_left_open_may_differ(shown: str, printed: str, same: bool) -> None:
    assert agree(shown, printed) is same


def names_in(commands: str) -> set[str]:
    """References, orders and skus."""
    return set(re.findall(r"\b(?:[A-Za-z]+-\d+|[A-Z]{3,}-[A-Z]{3,})\b", commands))


def test_walkthroughs_that_share_a_database_name_other_things(capsys: pytest.CaptureFixture[str]) -> None:
    """Who followed one in this folder follows the next on what is in allocation.db by then."""
    tell_what_next()
    storefront = ROOT / "examples" / "storefront" / "README.md"
    named = [names_in("".join(step.commands for step in steps(page))) for page in (README, storefront)]
    named.append(names_in(capsys.readouterr().out))
    assert all(named)
    assert [one & other for one, other in combinations(named, 2)] == [set()] * 3


def test_what_the_readme_writes_is_left_out_of_the_repository() -> None:
    written = {name for step in steps() for name in re.findall(r">(\S+\.csv)", step.commands)}
    assert written >= {"batches.csv", "orders.csv"}
    assert {f"/{name}" for name in written} <= set((ROOT / ".gitignore").read_text().split())


# --- links and names ----------------------------------------------------------------------------------------------


def prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text())


def inline_code(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


def code(page: Path) -> list[str]:
    """What is written as code: within a line, and as commands."""
    return [*inline_code(page), *(x["text"] for x in _FENCED.finditer(page.read_text()) if x["language"] == "sh")]


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def recipe(target: str) -> str:
    found = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    assert found, f"there is no make {target}"
    return found[1]


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]+`", "", prose(page))):
        path, _, anchor = link.partition("#")
        if re.match(r"https?:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not (target.exists() and target.is_relative_to(ROOT)) or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@every_page
def test_every_command_that_is_named_exists(page: Path) -> None:
    named = [word for text in code(page) for word in re.findall(r"\bmake ([a-z-]+)", text)]
    assert [word for word in named if not re.search(rf"^{word}:", MAKEFILE, re.MULTILINE)] == []
    asked = re.compile(r"^(?:\S+=\S+ )*(?:\.venv/bin/)?allocation ([a-z][a-z-]*)", re.MULTILINE)
    assert {word for text in code(page) for word in asked.findall(text)} - cli.commands.keys() == set()


@every_page
def test_every_setting_that_is_named_exists(page: Path) -> None:
    named = set(re.findall(rf"\b{PREFIX}[A-Z_]*[A-Z]\b", page.read_text()))
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {
        postgres.VARIABLE,
        redis.VARIABLE,
        kafka.VARIABLE,
    }
    assert named - known == set()


@every_page
def test_every_route_that_is_named_exists(page: Path) -> None:
    named = {x for text in code(page) for x in re.findall(r"^(GET|POST|PATCH|PUT|DELETE) (/[^\s?]+)", text)}
    assert named - {(route.method, route.path) for route in all_routes()} == set()


@every_page
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = {x for x in inline_code(page) if re.fullmatch(r"\.?\w[\w./-]*(?:/|\.(?:py|md|toml|yml|lock))", x)}
    homes = [ROOT, ROOT / "src/allocation", ROOT / "src/allocation/adapters/sql", page.parent]
    assert [x for x in named if not any((home / x).exists() for home in homes)] == []


@every_page
def test_every_test_that_is_named_exists(page: Path) -> None:
    named = {x for x in inline_code(page) if re.fullmatch(r"test_\w+", x)}
    written = "\n".join(file.read_text() for file in ROOT.glob("tests/*/*.py"))
    assert {x for x in named if not re.search(rf"def {x}\(", written)} == set()


def test_every_decision_is_in_the_index_by_number_and_title() -> None:
    folder = ROOT / "docs" / "decisions"
    rows = re.findall(r"^\| (\d+) \| \[(.+)\]\((\S+)\) \|$", (folder / "README.md").read_text(), re.MULTILINE)
    written = []
    for file in sorted(folder.glob("[0-9]*.md")):
        title = re.match(r"# (\d+)\. (.+)\n", file.read_text())
        assert title, f"{file.name} does not begin with its number and title"
        assert int(file.name[:4]) == int(title[1])
        written.append((title[1], title[2], file.name))
    assert rows == written
