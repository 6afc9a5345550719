"""The memory benchmark's arithmetic, and a run of it with a stand-in for `faceembed embed`."""

from __future__ import annotations

import json
from pathlib import Path

import memory
import pytest


def test_growth_is_the_slope_between_fewest_and_most() -> None:
    runs = [{"photos": n, "peak_pss_bytes": 1000 + 3 * n} for n in (500, 100, 300)]
    assert memory.growth(runs) == {"bytes_per_photo": 3.0, "ratio": 2500 / 1300}
    assert memory.growth(runs[:1]) is None


def test_run_with_a_stand_in(photos: Path, stub: str, capsys: pytest.CaptureFixture[str]) -> None:
    memory.main(["--counts", "2,3", "--cores", "1000", "--embed-command", stub])
    document = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert [run["photos"] for run in document["runs"]] == [2, 3]
    assert document["within_limit"] and document["growth"]["ratio"] > 0
