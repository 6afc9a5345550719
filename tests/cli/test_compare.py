"""`faceembed compare`: a table, a page, and exit code 1 where an encoder failed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def pairs(samples: Path, tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    rows = [("small.jpg", "cropped.jpg", 1), ("small.jpg", "dark_mirrored.jpg", 0)]
    lines = (f"{samples / a},{samples / b},{label}" for a, b, label in rows)
    path.write_text("\n".join(["path_a,path_b,label", *lines]))
    return path


def test_a_table_a_page_and_what_failed(run: Callable[..., Any], pairs: Path, tmp_path: Path) -> None:
    html = tmp_path / "encoders.html"
    words = ("compare", "dlib-resnet", "nobody", "--pairs", pairs, "--workers", "1", "-q")
    result = run(*words, "--html", html, "--save", tmp_path / "kept", code=1)
    assert "dlib-resnet" in result.stdout and "faces/s" in result.stdout
    assert any(line.startswith("nobody: ") for line in result.stdout.splitlines())
    assert result.stderr == "Error: 1 of 2 encoders failed; their rows say why\n"
    assert "dlib-resnet" in html.read_text()


def test_json(run_json: Callable[..., Any], pairs: Path) -> None:
    document = run_json("compare", "dlib-resnet", "--pairs", pairs, "--workers", "1", "-q")
    (row,) = document["encoders"]
    assert (row["encoder"], row["dimension"], row["reason"]) == ("dlib-resnet", 128, None)
    assert row["bytes"] > 10e6 and row["faces_per_second"] > 0 and 0 <= row["eer"] <= 1
    assert (document["pairs"], document["positives"], document["negatives"], document["failed"]) == (2, 1, 1, 0)


def test_wrong_usage(run: Callable[..., Any], pairs: Path) -> None:
    assert "Missing option '--pairs'" in run("compare", "dlib-resnet", code=2).stderr
    assert "Missing argument" in run("compare", "--pairs", pairs, code=2).stderr
