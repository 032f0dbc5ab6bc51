"""`allocation demo`: a real run, and what is left of it."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

DEMO = [sys.executable, "-u", "-m", "allocation.entrypoints.cli", "demo"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Temporary files of the demo go to a folder that can be looked into."""
    (tmp_path / "tmp").mkdir()
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TMPDIR": str(tmp_path / "tmp"),
        "ALLOCATION_DATABASE_URL": "postgresql://nobody:no@127.0.0.1:1/none",
    }


def assert_nothing_is_left(folder: Path) -> None:
    assert list((folder / "tmp").iterdir()) == []
    ours = [
        p
        for p in psutil.process_iter(["pid", "environ"])
        if (p.info["environ"] or {}).get("TMPDIR") == str(folder / "tmp")
    ]
    assert [p for p in ours if p.pid != os.getpid()] == []


def test_the_demo_tells_its_story_and_leaves_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(DEMO, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    story = done.stdout
    assert "\x1b" not in story, "no colours when this is no terminal"
    assert max(map(len, story.splitlines())) <= 80
    told = " ".join(story.split())
    assert (
        "settees-02 on hand 3 of 3 order-03 (1), order-09 (1), order-15 (1) waiting order-20 (1), order-33 (1)" in told
    )
    assert "order-07: 200, still 2 RED-CHAIR from chairs-07. Nothing is allocated twice." in told
    assert "order-37: 409, Out of stock. It needs 4 SMALL-TABLE; 2 on hand and 1 " in told
    assert "order-20, which waited, gets 1 ADORABLE-SETTEE from settees-02." in told
    assert re.search(r"order-16 and order-24 keep their RETRO-LAMPSHADE, now due .* instead of ", told)
    assert "order-23, 4 RED-CHAIR: now from chairs-08" in told
    assert "order-30, 2 RED-CHAIR: waits for the next batch." in told
    assert "events, without a gap. Replayed from the first, they give the same 48 lines that the orders have" in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tmp"]
    assert_nothing_is_left(tmp_path)


def test_the_commands_it_ends_with_work(tmp_path: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(DEMO, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    commands = done.stdout.partition("Three things to try")[2].partition("\n")[2]
    program = re.search(r"^ +(\S+) stock RETRO-LAMPSHADE$", commands, re.MULTILINE)
    assert program is not None
    script = commands.partition(f"{program[1]} serve ")[0]
    del environment["ALLOCATION_DATABASE_URL"]
    tried = subprocess.run(
        ["bash", "-ec", script], check=False, cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert tried.returncode == 0, tried.stderr
    assert "stdin: 1 row: 1 imported" in tried.stdout
    assert "RETRO-LAMPSHADE, version 1: 20 available now" in tried.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["Starting the service", "orders with"])
def test_interrupted_it_leaves_nothing_either(
    moment: str, number: int, tmp_path: Path, environment: dict[str, str]
) -> None:
    with subprocess.Popen(DEMO, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as telling:
        assert telling.stdout is not None
        # A pipe that holds less than the rest of the story: it cannot end before it is interrupted.
        fcntl.fcntl(telling.stdout, fcntl.F_SETPIPE_SZ, 1)
        told = b""
        while moment.encode() not in told:
            told += os.read(telling.stdout.fileno(), 100)
        telling.send_signal(number)
        telling.stdout.read()
        assert telling.wait(30) != 0
    assert_nothing_is_left(tmp_path)


def test_a_service_that_does_not_start_is_told_with_its_last_words(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "granian.py").write_text("raise ImportError('granian is broken today')")
    environment["PYTHONPATH"] = str(tmp_path)
    done = subprocess.run(DEMO, check=False, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The service did not start. Its last output:\n")
    assert "granian is broken today" in done.stderr
    assert_nothing_is_left(tmp_path)
