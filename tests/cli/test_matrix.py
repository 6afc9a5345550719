"""`faceembed matrix`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def photos(small: Path, tmp_path: Path) -> Path:
    """Two photos with a face and one file that is no picture."""
    folder = tmp_path / "photos"
    shutil.copytree(small, folder)
    (folder / "text.jpg").write_text("no picture")
    return folder


def test_json_page_and_picture(run_json: Any, photos: Path, tmp_path: Path) -> None:
    page, picture = tmp_path / "m.html", tmp_path / "m.png"
    document = run_json("matrix", photos, "--html", page, "--png", picture)
    assert set(document) == {
        *("paths", "similarity", "failures", "encoder", "identity", "real", "altered", "faces", "threshold")
    }
    assert document["altered"] == [False, False, None] and document["faces"] == [1, 1, 0]
    names = [Path(path).name for path in document["paths"]]
    assert names == ["cropped.jpg", "small.jpg", "text.jpg"]
    table = document["similarity"]
    assert [row[2] for row in table] == table[2] == [None, None, None]
    assert table[0][0] == pytest.approx(1, abs=1e-3)
    assert table[0][1] == table[1][0] > 0.9
    assert list(document["failures"]) == [str(photos / "text.jpg")]
    assert page.read_text().startswith("<!doctype html>") or "<html" in page.read_text()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_text_table(run: Any, photos: Path) -> None:
    head, first, second, third = run("matrix", photos, "-q").stdout.splitlines()
    assert head.split() == ["1", "2", "3"]
    assert first.split()[:3] == ["1", "cropped.jpg", "1.000"]
    assert second.split()[-1] == "-"
    assert third.split()[:2] == ["3", "text.jpg"]


def test_bad_input(run: Any, photos: Path, tmp_path: Path) -> None:
    assert "at least two photos" in run("matrix", photos / "small.jpg", code=1).stderr
    result = run("matrix", photos, "--html", tmp_path / "nix/m.html", code=1)
    assert result.stderr.splitlines()[-1] == (
        f"Error: {tmp_path / 'nix/m.html'}: No such file or directory; does its folder exist?"
    )
    assert "give a file" in run("matrix", photos, "--png", tmp_path, code=1).stderr
