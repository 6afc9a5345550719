"""`faceembed compare`: a table, a page, and exit code 1 where an encoder failed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faceembed.engine.models import registry
from faceembed.engine.models.registry import info


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


def test_all_encoders_on_two_lists(
    run: Callable[..., Any], pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--all`: what is not on this machine is a row that says how to get it, and no failure."""
    known = [info("dlib-resnet"), info("arcface-r50"), info("yunet")]
    monkeypatch.setattr(registry, "list_models", lambda: known)
    other = tmp_path / "other.csv"
    other.write_text(pairs.read_text())
    words = ("compare", "--all", "--pairs", pairs, "--pairs", other, "--workers", "1", "-q")
    result = run(*words, "--html", tmp_path / "page.html")
    first, *_ = result.stdout.splitlines()
    assert first.split()[:5] == ["encoder", "EER", "pairs", "EER", "other"]
    assert (
        "arcface-r50: model arcface-r50 is not on this machine; run: faceembed models pull arcface-r50" in result.stdout
    )
    assert result.stdout.count("2 pairs (1 same)") == 2 and "yunet" not in result.stdout
    assert "models pull arcface-r50" in (tmp_path / "page.html").read_text()
    assert "2 of 3 encoders failed" in run(*words, "arcface-r50", "nobody", code=1).stderr, "those were asked for"


def test_neither_encoders_nor_all(run: Callable[..., Any], pairs: Path) -> None:
    assert "Missing argument 'MODELS...': give encoders, or --all" in run("compare", "--pairs", pairs, code=2).stderr


def test_a_search(run: Callable[..., Any], samples: Path, tmp_path: Path) -> None:
    for name, source in (
        ("g/Eileen/1.png", "astronaut.png"),
        ("p/Eileen/2.jpg", "darker.jpg"),
        ("p/x/3.jpg", "mirrored.jpg"),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes((samples / source).read_bytes())
    words = ("compare", "dlib-resnet", "arcface-r50", "--pairs", tmp_path / "p", "--gallery", tmp_path / "g", "-q")
    result = run(*words, "--html", tmp_path / "r.html", code=1)
    assert result.stdout.splitlines()[1].split()[:3] == ["dlib-resnet", "100.00", "%"]
    assert "faceembed models pull arcface-r50" in result.stdout
    assert result.stderr == "Error: 1 of 2 encoders failed; their rows say why\n"
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "DET of the search" in page and "models pull arcface-r50" in page
    assert "--gallery compares one search" in run(*words, "--skip-failures", code=2).stderr
