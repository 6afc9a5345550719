"""`faceembed bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

WORDS = ["--photos", "16", "--rounds", "1", "--batch-size", "4"]


def test_json(run_json: Any, small: Path) -> None:
    document = run_json("bench", small, *WORDS)
    assert document["photos"] == document["faces"] == 16
    assert document["files"] == 2
    assert list(document["stages"]) == ["read", "decode", "detect", "align", "encode"]
    assert document["slowest"] == min(document["stages"], key=document["stages"].get)
    slowest = document["stages"][document["slowest"]]
    assert document["ratio_to_slowest"] == pytest.approx(document["end_to_end"] / slowest, rel=0.02)
    assert document["ratio_to_bound"] == pytest.approx(document["end_to_end"] / document["sharing_bound"], rel=0.02)


def test_table(run: Any) -> None:
    text = run("bench", "--sample", *WORDS, "-q").stdout
    names = [line.split("  ")[0] for line in text.splitlines()]
    assert names[:8] == ["stage", "read", "decode", "detect", "align", "encode", "all, sharing cores", "end to end"]


@pytest.mark.parametrize("words", [[], ["photos", "--sample"], ["--sample", "--rounds", "0"]])
def test_wrong_usage(run: Any, words: list[str]) -> None:
    run("bench", *words, code=2)


def test_nothing_to_measure(run: Any, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    assert "no face" in run("bench", tmp_path, *WORDS, code=1).stderr
    (tmp_path / "text.jpg").unlink()
    assert "no photos" in run("bench", tmp_path, *WORDS, code=1).stderr
