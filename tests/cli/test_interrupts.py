"""Ctrl-C, pressed once, twice and more often: one line, no traceback, exit code 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

# A command that works in threads, as ours do, and takes a while to clean up.
SLOW = """
import atexit, concurrent.futures, pathlib, signal, sys, time
atexit.register(lambda: pathlib.Path("last").write_text(str(signal.getsignal(signal.SIGINT))))  # runs last: it was first
import click
from faceembed.cli.group import Group, Program, AFTER_INTERRUPT

@click.group(cls=Program)
def main(): pass

def work(seconds):
    time.sleep(seconds)
    pathlib.Path("finished").touch()

@main.command()
@click.argument("seconds", type=float)
@click.pass_context
def run(ctx, seconds):
    ctx.meta[AFTER_INTERRUPT] = "What was finished is kept."
    pool = concurrent.futures.ThreadPoolExecutor(2)
    try:
        future = pool.submit(work, seconds)
        pathlib.Path("started").touch()
        future.result()
    finally:
        pool.shutdown(wait=True)
        pathlib.Path("cleaned").touch()

@main.group(cls=Group)
def inner(): pass

inner.add_command(run)
main(prog_name="slow")
"""


def begin(tmp_path: Path, seconds: float, *groups: str) -> subprocess.Popen[str]:
    (tmp_path / "slow.py").write_text(SLOW)
    command = [sys.executable, "slow.py", *groups, "run", str(seconds)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while not (tmp_path / "started").exists():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)
    return process


@pytest.mark.parametrize(
    ("gaps", "groups"), [([], []), ([0.0], ["inner"]), ([0.05], []), ([0.3], ["inner"]), ([0.9], [])]
)
def test_once_and_twice_end_it_in_good_order(gaps: list[float], groups: list[str], tmp_path: Path) -> None:
    """The second falls into the wait for the threads, or into Python's own end; in groups of groups it is said once."""
    process = begin(tmp_path, 1.0, *groups)
    process.send_signal(signal.SIGINT)
    for gap in gaps:
        time.sleep(gap)
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "\nInterrupted. What was finished is kept.\n")
    assert (tmp_path / "finished").exists() and (tmp_path / "cleaned").exists()
    assert (tmp_path / "last").read_text() == str(signal.SIG_IGN), "one that comes later still is not the end's cause"


def test_a_third_ends_it_at_once(tmp_path: Path) -> None:
    process = begin(tmp_path, 600.0)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err
    assert not (tmp_path / "finished").exists()


def test_embed_twice_interrupted_goes_on_from_there(start: Any, run_json: Any, small: Path, tmp_path: Path) -> None:
    folder, index = tmp_path / "photos", tmp_path / "a.faiss"
    folder.mkdir()
    for number in range(120):
        os.link(small / "small.jpg", folder / f"{number:03}.jpg")
    shard = "import faceembed.engine.verbs.embed as embed; embed.SHARD = 32"
    process = start("embed", folder, "-o", index, code=shard)
    end = time.monotonic() + 60
    while not list(tmp_path.glob("a.faiss.partial/*.parquet")):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.count("Interrupted.") == 1 and "Traceback" not in err and "Exception ignored" not in err, err
    assert not list(tmp_path.rglob(".*.tmp"))
    document = run_json("embed", folder, "-o", index)
    assert document["skipped"] >= 32 and document["faces"] == 120


# Presses Ctrl-C where a module is looked for; with ERROR it becomes another error there, as in the import of a pybind11 extension.
AT_IMPORT = """
import importlib.abc, os, signal, sys

class Press(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000): pass
            except KeyboardInterrupt as error:
                os.kill(os.getpid(), signal.SIGINT)
                if {error}:
                    raise ImportError("initialization failed") from error
                raise

sys.meta_path.insert(0, Press())
from faceembed.cli.start import main
sys.argv[1:] = ["verify", "--sample"]
main()
"""


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("faceembed.cli.main", False),
        ("faceembed.cli.serve", False),
        ("faceembed.engine.verbs.verify", False),
        ("openvino", False),
        ("openvino", True),
        ("numpy", True),
    ],
)
def test_pressed_while_modules_are_imported(name: str, error: bool) -> None:
    """Twice, before the command itself is there or in a library's import: as at any other time."""
    code = AT_IMPORT.format(name=name, error=error)
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (130, ""), done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("Interrupted.") and "Traceback" not in done.stderr


def test_next_to_nothing_is_imported_before_it_is_handled() -> None:
    """Until then Ctrl-C is a traceback of Python's: what is slow (the package's version took two thirds of it) comes afterwards."""
    code = "import sys; before = set(sys.modules); import {}; print(*sorted(set(sys.modules) - before))"
    words = [sys.executable, "-c", code.format("faceembed.cli.start")]
    imported = set(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split())
    assert {name for name in imported if name.partition(".")[0] == "faceembed"} == {
        "faceembed", "faceembed.errors", "faceembed.telemetry", "faceembed.cli", "faceembed.cli.start", "faceembed.cli.interrupts",
    }  # fmt: skip
    slow = {"importlib.metadata", "email", "zipfile", "typing", "click", "numpy", "dataclasses", "inspect"}
    assert not imported & slow
    assert len(imported) < 40
