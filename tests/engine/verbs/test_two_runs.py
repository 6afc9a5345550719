"""Two runs on one index: the second ends at once, and what the first does is whole."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.verbs.embed import EmbedReport
from faceembed.errors import IndexBusyError
from tests.engine.index.test_lock import HOLD
from tests.engine.verbs.albums import album, paths_of, run

pytestmark = pytest.mark.usefixtures("counted")


@pytest.mark.parametrize("fresh", [False, True])
def test_a_second_run_while_one_works(tmp_path: Path, fresh: bool) -> None:
    index, nas, other = tmp_path / "p.faiss", album(tmp_path / "nas", 60), album(tmp_path / "other", 5, first=100)
    started, go_on = threading.Event(), threading.Event()
    reports: list[EmbedReport] = []

    def wait(at: Any) -> None:
        started.set()
        assert go_on.wait(60)

    first = threading.Thread(target=lambda: reports.append(run(nas, index, progress=wait)))
    first.start()
    try:
        assert started.wait(60)
        with pytest.raises(IndexBusyError, match=f"being written by process {os.getpid()} on "):
            run(other, index, fresh=fresh)
    finally:
        go_on.set()
        first.join()
    assert reports[0].faces == len(paths_of(index)) == 60
    assert run(other, index).faces == 65


def test_a_run_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    index, nas = tmp_path / "p.faiss", album(tmp_path / "nas", 3)
    with subprocess.Popen([sys.executable, "-c", HOLD, str(index)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(IndexBusyError, match=f"process {process.pid} on "):
            run(nas, index)
        process.kill()
    assert run(nas, index).faces == 3
