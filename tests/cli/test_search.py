"""`faceembed search`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo without a face."""
    import cv2
    import numpy as np

    path = tmp_path_factory.mktemp("blank") / "blank.png"
    cv2.imwrite(str(path), np.full((80, 80, 3), 255, np.uint8))
    return path


def test_hits_and_reasons(run_json: Any, built: Path, small: Path, blank: Path) -> None:
    found, without = run_json("search", built, small / "small.jpg", blank, "-k", "1")
    assert set(found) == {"query", "hits"}
    assert found["query"] == str(small / "small.jpg")
    (hit,) = found["hits"]
    assert set(hit) == {"path", "face", "similarity"}
    assert hit["path"] == found["query"]
    assert hit["similarity"] == pytest.approx(1, abs=2e-3)
    assert without["hits"] == []
    assert "no face" in without["reason"]


def test_text_has_a_line_a_hit(run: Any, built: Path, small: Path) -> None:
    lines = run("search", built, small / "small.jpg", "-q").stdout.splitlines()
    assert lines[0] == str(small / "small.jpg")
    assert len(lines) == 3
    assert lines[1].split() == ["1.0000", str(small / "small.jpg")]


def test_no_query_can_be_searched(run: Any, built: Path, blank: Path) -> None:
    result = run("search", built, blank, "--json", code=1)
    assert '"reason"' in result.stdout
    assert "none of the 1 query photos" in result.stderr


def test_bad_input(run: Any, built: Path, small: Path, tmp_path: Path) -> None:
    assert "no index at" in run("search", tmp_path / "nix.faiss", small, code=1).stderr
    assert "No such file" in run("search", built, tmp_path / "nix.jpg", code=1).stderr
    assert "no query photos" in run("search", built, tmp_path, code=1).stderr
    assert "-k" in run("search", built, small, "-k", "0", code=2).stderr
