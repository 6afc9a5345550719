"""One writer of an index at a time: the second ends at once and names the first; a killed one holds nothing."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from faceembed.engine.index.lock import writing
from faceembed.errors import IndexBusyError

HOLD = """
import sys, time
from pathlib import Path
from faceembed.engine.index.lock import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def hold(index: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(index)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_second_ends_at_once_and_names_the_first(tmp_path: Path) -> None:
    index = tmp_path / "p.faiss"
    with hold(index) as process:
        line = rf"p\.faiss is being written by process {process.pid} on {socket.gethostname()} \(since .*\); wait"
        with pytest.raises(IndexBusyError, match=line), writing(index):
            pytest.fail("two writers")
        with writing(tmp_path / "other.faiss"):  # another index is another matter
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with writing(index):  # the lock died with its process, though its note is still there
        pass


def test_it_may_wait(tmp_path: Path) -> None:
    index, entered = tmp_path / "p.faiss", threading.Event()
    with hold(index) as process:
        threading.Timer(0.3, process.kill).start()
        with writing(index, wait_seconds=30):
            entered.set()
    assert entered.is_set()


@pytest.mark.parametrize("ending", [".lock", ".writer"])
def test_a_folder_that_may_not_be_written_is_said_of_the_index(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refuse(path: str | os.PathLike[str], *args: int, **named: int) -> int:
        if ending in os.fspath(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return real(path, *args, **named)

    index = tmp_path / "p.faiss"
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError) as caught, writing(index):
        pytest.fail("a writer without its lock")
    assert caught.value.filename == str(index)
    monkeypatch.undo()
    with writing(index):  # and nothing is held
        pass


def test_two_threads_of_one_process(tmp_path: Path) -> None:
    index = tmp_path / "p.faiss"
    with writing(index), pytest.raises(IndexBusyError, match=f"process {os.getpid()} "), writing(index):
        pytest.fail("two writers")
    with writing(index):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".p.faiss.lock"]


@pytest.mark.parametrize("note", ["", "{", '{"pid": "x"}', "[1]"])
def test_a_note_that_says_nothing(tmp_path: Path, note: str) -> None:
    index = tmp_path / "p.faiss"
    with writing(index):
        (tmp_path / ".p.faiss.writer").write_text(note)
        with pytest.raises(IndexBusyError, match="written by another process; wait"), writing(index):
            pytest.fail("two writers")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a place where nobody can write, root included")
def test_where_nothing_can_be_written_nobody_is_blamed() -> None:
    with pytest.raises(OSError) as caught, writing(Path("/proc/staff.gallery")):
        pass
    assert not isinstance(caught.value, IndexBusyError) and caught.value.filename == "/proc/staff.gallery"
