"""`faceembed verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from faceembed.install import pip_install


def test_sample_is_one_person(run_json: Any) -> None:
    document = run_json("verify", "--sample")
    assert set(document) == {
        *("photos", "similarity", "threshold", "same", "encoder", "threshold_source"),
        *("identity", "real", "altered", "remark", "faces", "chosen", "similarities"),
        *("fmr", "fmr_side", "strangers", "probability"),
    }
    assert document["identity"] >= document["similarity"] - 1e-6 and min(document["real"]) > 0.5
    assert 0 < document["fmr"] < 0.01 and document["fmr_side"] in ("about", "below")
    assert "strangers" in document["strangers"] and 0.9 < document["probability"] < 1
    assert document["altered"] == [False, False]
    assert document["faces"] == [1, 1] and document["remark"] is document["chosen"] is None
    assert document["same"] is True
    assert document["threshold"] <= document["similarity"] <= 1.001
    assert [Path(photo).name for photo in document["photos"]] == ["astronaut.png", "dark_mirrored.jpg"]


def test_different_people_are_no_failure(run: Any, small: Path) -> None:
    text = run("verify", small / "small.jpg", small / "cropped.jpg", "--threshold", "1", "-q").stdout
    assert text.startswith("different people: similarity 0.9")


def test_bad_input(run: Any, small: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    result = run("verify", small / "small.jpg", tmp_path / "text.jpg", code=1)
    assert result.stderr.splitlines()[-1].startswith(f"Error: {tmp_path / 'text.jpg'}: ")
    assert "nix.jpg" in run("verify", small / "small.jpg", tmp_path / "nix.jpg", code=1).stderr


@pytest.mark.parametrize("words", [["a.jpg"], ["a.jpg", "b.jpg", "c.jpg"], ["a.jpg", "b.jpg", "--sample"], []])
def test_wrong_usage(run: Any, words: list[str]) -> None:
    assert "two photos" in run("verify", *words, code=2).stderr


@pytest.mark.parametrize(
    "words",
    [
        ["verify", "a.jpg", "b.jpg", "--threshold"],
        ["search", "i.faiss", "a.jpg", "--threshold"],
        ["verify", "a.jpg", "b.jpg", "--fmr"],
    ],
)
def test_what_is_no_number_is_no_threshold(run: Any, words: list[str]) -> None:
    """It is below nothing and above nothing: every verdict would be wrong."""
    assert "is not a number" in run(*words, "nan", code=2).stderr


def test_threshold_out_of_range(run: Any) -> None:
    assert "--threshold" in run("verify", "--sample", "--threshold", "2", code=2).stderr


def test_without_scikit_image(run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "skimage" else real(name, *rest)
    )
    monkeypatch.setenv("FACEEMBED_HOME", str(tmp_path))
    assert pip_install("sample") in run("verify", "--sample", code=1).stderr
